//! Doors at which nobody answers: syslog, in datagrams and over TCP, and StatsD. The core opens them on the loopback when
//! somebody's `klar.toml` asks for them, and hands the sockets over.
//!
//! There is no key at these doors, so nothing that comes in here is any app's: lines of syslog are the machine's.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::Who;
use crate::syslog::{self, Frames};
use crate::{Shared, lock, now_ms};

/// Programs that speak syslog over TCP at once; others wait.
const SPEAKERS_MAX: usize = 64;
/// The longest datagram that there is, in bytes.
const DATAGRAM_MAX: usize = 64 << 10;

/// Sockets that are served from now on, in place of those before.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    syslog: Option<(TcpListener, UdpSocket)>,
    statsd: Option<UdpSocket>,
}

impl Doors {
    /// Of descriptors as the core sends them: TCP and UDP of syslog, then UDP of StatsD. None if some are missing.
    pub(crate) fn of(syslog: bool, statsd: bool, descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut descriptors = descriptors.into_iter();
        let mut doors = Self::default();
        if syslog {
            doors.syslog = Some((descriptors.next()?.into(), descriptors.next()?.into()));
        }
        if statsd {
            doors.statsd = Some(descriptors.next()?.into());
        }
        Some(doors)
    }
}

/// Serves whatever doors there are, for as long as it is polled.
pub(super) async fn keep(shared: Arc<Shared>, mut doors: mpsc::UnboundedReceiver<Doors>) {
    let mut tasks = JoinSet::new();
    while let Some(next) = doors.recv().await {
        tasks.shutdown().await;
        if let Err(error) = open(&shared, next, &mut tasks) {
            eprintln!("klar see: a door cannot be served: {error}");
        }
    }
    // Nobody opens others any more; these go on.
    while tasks.join_next().await.is_some() {}
}

fn open(shared: &Arc<Shared>, doors: Doors, tasks: &mut JoinSet<()>) -> io::Result<()> {
    if let Some((tcp, udp)) = doors.syslog {
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        tasks.spawn(syslog_over_tcp(shared.clone(), tokio::net::TcpListener::from_std(tcp)?));
        let shared = shared.clone();
        tasks.spawn(datagrams(tokio::net::UdpSocket::from_std(udp)?, move |datagram| {
            message(&shared, datagram);
        }));
    }
    if let Some(udp) = doors.statsd {
        udp.set_nonblocking(true)?;
        let shared = shared.clone();
        tasks.spawn(datagrams(tokio::net::UdpSocket::from_std(udp)?, move |datagram| {
            let whose = |token: &str| match shared.whose_key(token) {
                Who::App(key) => Some(key),
                _ => None,
            };
            lock(&shared.statsd).take(datagram, whose);
        }));
    }
    Ok(())
}

async fn datagrams(socket: tokio::net::UdpSocket, each: impl Fn(&[u8])) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, _)) => each(buffer.get(..length).unwrap_or_default()),
            Err(error) => super::refused(&error).await,
        }
        // Those who ask are served by the same thread.
        tokio::task::yield_now().await;
    }
}

/// A message of syslog becomes a line, which can be found within a second.
fn message(shared: &Shared, message: &[u8]) {
    let now = jiff::Timestamp::from_millisecond(now_ms()).unwrap_or_default();
    let draft = syslog::read(message, now, &TimeZone::system());
    if !draft.body.is_empty() {
        draft.finish(None, now.as_microsecond(), |line| shared.rows.line(&line));
    }
}

async fn syslog_over_tcp(shared: Arc<Shared>, listener: tokio::net::TcpListener) {
    let speakers = Arc::new(Semaphore::new(SPEAKERS_MAX));
    // They end with their door.
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = speakers.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((mut stream, _)) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    let (mut frames, mut buffer) = (Frames::default(), vec![0; 16 << 10]);
                    // An error is an end too.
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        frames.take(buffer.get(..length).unwrap_or_default(), |one| message(&shared, one));
                        tokio::task::yield_now().await;
                    }
                    frames.end(|one| message(&shared, one));
                    drop(permit);
                });
            }
            Err(error) => {
                super::refused(&error).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
