//! Connections to instances, kept by each worker for itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use klar_base::upstreams::AppProtocol;
use tokio::net::TcpStream;

use crate::asking::Asking;
use crate::cache::key::ByNumber;
use crate::client::{Link, Miss, Reply, Switched};
use crate::forward::ToApp;
use crate::http1::alarm::Alarm;
use crate::table::Table;
use crate::upstream::UpstreamState;

/// An open connection to an instance.
#[derive(Debug)]
pub enum Connection {
    /// For one request at a time.
    Http1(Link),
    /// For as many as the instance takes at once. Copies of it share the connection.
    Http2(http2::SendRequest<ToApp>),
}

impl Connection {
    /// Sends a request, and waits for the head of the answer.
    ///
    /// # Errors
    /// What went wrong, and the body if nothing of the request was sent.
    pub async fn exchange(self, asking: &Asking<'_>, body: ToApp) -> Result<Response<FromApp>, Miss> {
        match self {
            Self::Http1(link) => Ok(link.exchange(asking.in_http1(), body).await?.map(FromApp::Http1)),
            Self::Http2(mut shared) => match shared.try_send_request(asking.in_http2(body)).await {
                Ok(response) => Ok(response.map(|incoming| FromApp::Http2 { incoming, _connection: shared })),
                Err(mut error) => {
                    let unsent = error.take_message();
                    let error = io::Error::other(error.into_error());
                    Err(match unsent {
                        Some(request) => Miss::Unsent(error, request.into_body()),
                        None => Miss::Sent(error),
                    })
                }
            },
        }
    }

    /// Whether another request can be sent.
    fn is_ready(&mut self) -> bool {
        match self {
            Self::Http1(link) => link.is_quiet(),
            Self::Http2(shared) => !shared.is_closed(),
        }
    }
}

/// The body of an answer, with the connection that it comes over.
#[derive(Debug)]
pub enum FromApp {
    Http1(Reply),
    Http2 { incoming: Incoming, _connection: http2::SendRequest<ToApp> },
}

impl FromApp {
    /// The next piece.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self {
            Self::Http1(reply) => reply.poll(cx),
            Self::Http2 { incoming, .. } => Pin::new(incoming).poll_frame(cx).map_err(io::Error::other),
        }
    }

    /// Whether all of it was given.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Http1(reply) => reply.is_over(),
            Self::Http2 { incoming, .. } => incoming.is_end_stream(),
        }
    }

    /// How many bytes are to come, when the app said so.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Http1(reply) => reply.length(),
            Self::Http2 { incoming, .. } => incoming.size_hint().exact(),
        }
    }

    /// Whether its end is told from a connection that broke (RFC 9112 section 8).
    pub fn is_delimited(&self) -> bool {
        match self {
            Self::Http1(reply) => reply.is_delimited(),
            Self::Http2 { .. } => true,
        }
    }

    /// The connection, after the answer has said that it speaks another protocol from now on.
    pub fn into_switched(self) -> Option<Switched> {
        match self {
            Self::Http1(reply) => Some(reply.into_switched()),
            Self::Http2 { .. } => None,
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
/// Idle connections that are kept to one instance, and timers: as many as there are requests at once on a busy day. With
/// fewer, most of those requests would open a connection of their own, which costs more than all else about them.
const KEEP: usize = 512;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<HashMap<u64, Vec<Idle>, ByNumber>>,
    alarms: RefCell<Vec<Alarm>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// A timer, for as long as a request is at an instance. One that was used before costs less than a new one.
    pub fn alarm(&self) -> Alarm {
        self.alarms.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a timer for the next request.
    pub fn keep_alarm(&self, alarm: Alarm) {
        let mut alarms = self.alarms.borrow_mut();
        if alarms.len() < KEEP {
            alarms.push(alarm);
        }
    }

    /// An idle connection that was used within `idle`, the one used last first.
    pub fn take(&self, upstream: &UpstreamState, idle: Duration) -> Option<Connection> {
        self.take_if(upstream, idle, Connection::is_ready)
    }

    /// The same, for who speaks HTTP/1.1 and runs in `cx`: what the app says on it wakes that.
    pub fn take_link(&self, upstream: &UpstreamState, idle: Duration, cx: &mut Context<'_>) -> Option<Link> {
        let is_ready = |connection: &mut Connection| match connection {
            Connection::Http1(link) => link.is_quiet_for(cx),
            Connection::Http2(_) => false,
        };
        match self.take_if(upstream, idle, is_ready)? {
            Connection::Http1(link) => Some(link),
            Connection::Http2(_) => None,
        }
    }

    fn take_if(
        &self,
        upstream: &UpstreamState,
        idle: Duration,
        mut is_ready: impl FnMut(&mut Connection) -> bool,
    ) -> Option<Connection> {
        let mut all = self.idle.borrow_mut();
        let kept = all.get_mut(&upstream.serial)?;
        if let Some(Idle { connection: Connection::Http2(shared), .. }) = kept.last() {
            if !shared.is_closed() {
                return Some(Connection::Http2(shared.clone()));
            }
            kept.clear();
        }
        while let Some(mut last) = kept.pop() {
            if last.since.elapsed() > idle {
                // Those below idle for longer still.
                if idle >= IDLE {
                    kept.clear();
                } else {
                    kept.push(last);
                }
                return None;
            }
            if is_ready(&mut last.connection) {
                return Some(last.connection);
            }
        }
        None
    }

    /// Lets the requests that come share a new connection, if it can be shared.
    pub fn share(&self, upstream: &UpstreamState, connection: &Connection) {
        if let Connection::Http2(shared) = connection {
            let shared = Idle { connection: Connection::Http2(shared.clone()), since: Instant::now() };
            self.idle.borrow_mut().insert(upstream.serial, vec![shared]);
        }
    }

    /// Keeps a connection for the next request.
    pub fn put(&self, upstream: &UpstreamState, link: Link) {
        if upstream.weight() == 0 {
            return;
        }
        let mut all = self.idle.borrow_mut();
        let kept = all.entry(upstream.serial).or_default();
        if kept.len() < KEEP {
            kept.push(Idle { connection: Connection::Http1(link), since: Instant::now() });
        }
    }

    /// Keeps the connection of an answer that has ended, if it can be used again.
    pub fn take_back(self: &Rc<Self>, upstream: &Arc<UpstreamState>, body: FromApp) {
        // One that is shared is kept from its beginning.
        let FromApp::Http1(mut reply) = body else { return };
        if reply.is_sent() {
            if let Some(link) = reply.into_link() {
                self.put(upstream, link);
            }
            return;
        }
        let (pool, upstream) = (self.clone(), upstream.clone());
        tokio::task::spawn_local(async move {
            reply.send_rest().await;
            if let Some(link) = reply.into_link() {
                pool.put(&upstream, link);
            }
        });
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
        self.idle.borrow_mut().retain(|serial, kept| {
            kept.retain_mut(|idle| {
                // An instance may end a connection over HTTP/2 at any time without loss (RFC 9113 section 6.8).
                let is_shared = matches!(idle.connection, Connection::Http2(_));
                (is_shared || idle.since.elapsed() < IDLE) && idle.connection.is_ready()
            });
            live.contains(serial) && !kept.is_empty()
        });
    }
}

/// Connects to an instance. What runs the connection, if it needs that, has to be spawned.
///
/// # Errors
/// As the kernel says it.
pub async fn connect(upstream: &UpstreamState) -> io::Result<(Connection, Option<Driver>)> {
    let stream = TcpStream::connect(upstream.address).await?;
    stream.set_nodelay(true)?;
    // How a connection ends is told to who waits for the answer.
    Ok(match upstream.protocol {
        AppProtocol::Http1 => (Connection::Http1(Link::new(stream)), None),
        AppProtocol::H2c => {
            let (connection, driver) = http2::Builder::new(Local)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(HEAD_MAX)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(io::Error::other)?;
            (Connection::Http2(connection), Some(Box::pin(async move { drop(driver.await) })))
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
