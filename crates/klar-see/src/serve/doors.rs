//! Doors at which nobody answers: syslog, in datagrams and over TCP, and StatsD. The core opens them on the loopback when
//! somebody's `klar.toml` asks for them, and hands the sockets over.
//!
//! There is no key at these doors: what comes in is of the app whose `klar.toml` asked for the port, and of nobody where
//! several did.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use klar_base::AppKey;
use klar_base::see::{Door, Speaks};
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
#[derive(Debug)]
pub(crate) struct Doors(Vec<(Option<AppKey>, Sockets)>);

#[derive(Debug)]
enum Sockets {
    Syslog(TcpListener, UdpSocket),
    Statsd(UdpSocket),
}

impl Doors {
    /// Of descriptors as the core sends them. None if some are missing.
    pub(crate) fn of(doors: Vec<Door>, descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut descriptors = descriptors.into_iter();
        let sockets = doors.into_iter().map(|door| {
            let sockets = match door.speaks {
                Speaks::Syslog => Sockets::Syslog(descriptors.next()?.into(), descriptors.next()?.into()),
                Speaks::Statsd => Sockets::Statsd(descriptors.next()?.into()),
            };
            Some((door.whose, sockets))
        });
        sockets.collect::<Option<_>>().map(Self)
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
    for (whose, sockets) in doors.0 {
        let shared = shared.clone();
        match sockets {
            Sockets::Syslog(tcp, udp) => {
                tcp.set_nonblocking(true)?;
                let tcp = tokio::net::TcpListener::from_std(tcp)?;
                tasks.spawn(syslog_over_tcp(shared.clone(), whose.clone(), tcp));
                tasks.spawn(datagrams(from_std(udp)?, move |datagram| {
                    message(&shared, whose.as_ref(), datagram);
                }));
            }
            Sockets::Statsd(udp) => {
                tasks.spawn(datagrams(from_std(udp)?, move |datagram| {
                    let with_token = |token: &str| match shared.whose_key(token) {
                        Who::App(key) => Some(key),
                        _ => None,
                    };
                    lock(&shared.statsd).take(datagram, whose.as_ref(), with_token);
                }));
            }
        }
    }
    Ok(())
}

fn from_std(socket: UdpSocket) -> io::Result<tokio::net::UdpSocket> {
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket)
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
fn message(shared: &Shared, whose: Option<&AppKey>, message: &[u8]) {
    let now = jiff::Timestamp::from_millisecond(now_ms()).unwrap_or_default();
    let draft = syslog::read(message, now, &TimeZone::system());
    if !draft.body.is_empty() {
        draft.finish(whose, now.as_microsecond(), |line| shared.rows.line(&line));
    }
}

async fn syslog_over_tcp(shared: Arc<Shared>, whose: Option<AppKey>, listener: tokio::net::TcpListener) {
    let speakers = Arc::new(Semaphore::new(SPEAKERS_MAX));
    // They end with their door.
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = speakers.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((mut stream, _)) => {
                let (shared, whose) = (shared.clone(), whose.clone());
                connections.spawn(async move {
                    let (mut frames, mut buffer) = (Frames::default(), vec![0; 16 << 10]);
                    // An error is an end too.
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        frames.take(buffer.get(..length).unwrap_or_default(), |one| {
                            message(&shared, whose.as_ref(), one);
                        });
                        tokio::task::yield_now().await;
                    }
                    frames.end(|one| message(&shared, whose.as_ref(), one));
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
