//! Connections to instances, kept by each worker for itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::forward::ToApp;
use crate::table::Table;
use crate::upstream::UpstreamState;

/// An open connection to an instance.
pub type Connection = SendRequest<ToApp>;

/// How long a connection may have idled to be used for a request that can be repeated.
pub const IDLE: Duration = Duration::from_secs(4);
/// The same for one that cannot: servers close idle connections, Node's after 5 s, and the shorter it idled the
/// less likely it is that it is being closed right now.
pub const IDLE_UNREPEATABLE: Duration = Duration::from_millis(500);
/// Idle connections that are kept to one instance.
const KEEP: usize = 64;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Pool(RefCell<HashMap<u64, Vec<Idle>>>);

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// An idle connection that was used within `idle`, the one used last first.
    pub fn take(&self, upstream: &UpstreamState, idle: Duration) -> Option<Connection> {
        let mut all = self.0.borrow_mut();
        let kept = all.get_mut(&upstream.serial)?;
        while let Some(last) = kept.pop() {
            if last.since.elapsed() > idle {
                // Those below idle for longer still.
                if idle >= IDLE {
                    kept.clear();
                } else {
                    kept.push(last);
                }
                return None;
            }
            if last.connection.is_ready() {
                return Some(last.connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub fn put(&self, upstream: &UpstreamState, connection: Connection) {
        if connection.is_closed() || upstream.weight() == 0 {
            return;
        }
        let mut all = self.0.borrow_mut();
        let kept = all.entry(upstream.serial).or_default();
        if kept.len() < KEEP {
            kept.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes what is too old, and what leads to instances that get no more requests: an app that shuts down
    /// gracefully waits for its connections.
    pub fn tidy(&self, table: &Table) {
        let live: Vec<u64> = table
            .services()
            .flat_map(|(_, service)| &service.upstreams)
            .filter(|upstream| upstream.weight() > 0)
            .map(|upstream| upstream.serial)
            .collect();
        self.0.borrow_mut().retain(|serial, kept| {
            kept.retain(|idle| idle.since.elapsed() < IDLE && !idle.connection.is_closed());
            live.contains(serial) && !kept.is_empty()
        });
    }
}

/// Connects to an instance.
///
/// # Errors
/// As the kernel says it.
pub async fn connect(upstream: &UpstreamState) -> io::Result<(Connection, impl Future<Output = ()> + use<>)> {
    let stream = TcpStream::connect(upstream.address).await?;
    stream.set_nodelay(true)?;
    let (connection, driver) =
        http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    Ok((connection, async move {
        // How it ends is told to who waits for the answer.
        let _ = driver.with_upgrades().await;
    }))
}
