//! Connections to instances, kept by each worker for itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioIo;
use klar_base::upstreams::AppProtocol;
use tokio::net::TcpStream;

use crate::forward::ToApp;
use crate::table::Table;
use crate::upstream::UpstreamState;

/// An open connection to an instance.
#[derive(Debug)]
pub enum Connection {
    /// For one request at a time.
    Http1(http1::SendRequest<ToApp>),
    /// For as many as the instance takes at once. Copies of it share the connection.
    Http2(http2::SendRequest<ToApp>),
}

impl Connection {
    /// Sends a request, and waits for the head of the answer.
    ///
    /// # Errors
    /// What went wrong, and the request if nothing of it was sent.
    pub async fn try_send_request(
        &mut self,
        request: Request<ToApp>,
    ) -> Result<Response<Incoming>, TrySendError<Request<ToApp>>> {
        match self {
            Self::Http1(connection) => connection.try_send_request(request).await,
            Self::Http2(connection) => connection.try_send_request(request).await,
        }
    }

    fn is_ready(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_ready(),
            Self::Http2(connection) => connection.is_ready(),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_closed(),
            Self::Http2(connection) => connection.is_closed(),
        }
    }
}

/// What a connection over HTTP/2 keeps of answers that visitors have yet to take: of one, and of all.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// The largest head of an answer over HTTP/2, in bytes.
const HEAD_MAX: u32 = 64 << 10;

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
        if let Some(Idle { connection: Connection::Http2(shared), .. }) = kept.last() {
            if !shared.is_closed() {
                return Some(Connection::Http2(shared.clone()));
            }
            kept.clear();
        }
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

    /// Lets the requests that come share a new connection, if it can be shared.
    pub fn share(&self, upstream: &UpstreamState, connection: &Connection) {
        if let Connection::Http2(shared) = connection {
            let shared = Idle { connection: Connection::Http2(shared.clone()), since: Instant::now() };
            self.0.borrow_mut().insert(upstream.serial, vec![shared]);
        }
    }

    /// Keeps a connection for the next request.
    pub fn put(&self, upstream: &UpstreamState, connection: Connection) {
        // One that is shared is kept from its beginning.
        let is_shared = matches!(connection, Connection::Http2(_));
        if is_shared || connection.is_closed() || upstream.weight() == 0 {
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
            kept.retain(|idle| {
                // An instance may end a connection over HTTP/2 at any time without loss (RFC 9113 section 6.8).
                let is_shared = matches!(idle.connection, Connection::Http2(_));
                (is_shared || idle.since.elapsed() < IDLE) && !idle.connection.is_closed()
            });
            live.contains(serial) && !kept.is_empty()
        });
    }
}

/// Connects to an instance.
///
/// # Errors
/// As the kernel says it.
pub async fn connect(upstream: &UpstreamState) -> io::Result<(Connection, Driver)> {
    let stream = TcpStream::connect(upstream.address).await?;
    stream.set_nodelay(true)?;
    let stream = TokioIo::new(stream);
    // How a connection ends is told to who waits for the answer.
    Ok(match upstream.protocol {
        AppProtocol::Http1 => {
            let (connection, driver) =
                http1::Builder::new().handshake(stream).await.map_err(io::Error::other)?;
            (Connection::Http1(connection), Box::pin(async move { drop(driver.with_upgrades().await) }))
        }
        AppProtocol::H2c => {
            let (connection, driver) = http2::Builder::new(Local)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(HEAD_MAX)
                .handshake(stream)
                .await
                .map_err(io::Error::other)?;
            (Connection::Http2(connection), Box::pin(async move { drop(driver.await) }))
        }
    })
}

/// Runs a connection until it ends.
pub type Driver = Pin<Box<dyn Future<Output = ()>>>;

/// Runs what belongs to a connection on the thread of its worker.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
