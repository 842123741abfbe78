//! A worker: one thread that accepts connections and serves them, sharing nothing on the way of a request.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender as Reply;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;
use klar_base::upstreams::ListenerSpec;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle as Task, LocalSet};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use crate::challenge;
use crate::clients::Shown;
use crate::counters;
use crate::front::{self, Peer};
use crate::guard::{Clocks, Heads};
use crate::handle::Visit;
use crate::health;
use crate::http1;
use crate::http2;
use crate::pool::Pool;
use crate::table::Shared;
use crate::tls;

/// What a worker is told.
#[derive(Debug)]
pub enum Order {
    /// Serve one more socket, and say whether that can be.
    Listen(TcpListener, ListenerSpec, Reply<Result<(), String>>),
    /// Accept nothing more, and end.
    End(End),
}

/// How a worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// When its connections have, or after so long: they are led elsewhere, and none is closed.
    Drain(Duration),
    /// When everything is answered, or after so long.
    Stop(Duration),
}

/// Tells a worker what to do.
pub type Orders = mpsc::UnboundedSender<Order>;

/// How often idle connections are looked through.
const TIDY: Duration = Duration::from_secs(1);
/// A pause after an `accept` that failed for want of descriptors or memory.
const BREATH: Duration = Duration::from_millis(50);

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    orders: Orders,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts the worker with this number; the first also asks instances how they are.
    ///
    /// # Errors
    /// When there is no thread, or no randomness.
    pub fn start(number: usize, shared: Arc<Shared>) -> io::Result<Self> {
        let (orders, taken) = mpsc::unbounded_channel();
        let tls = TlsAcceptor::from(tls::config(shared.clone()).map_err(io::Error::other)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let thread = std::thread::Builder::new().name(format!("edge-{number}")).spawn(move || {
            counters::this_is_worker(number);
            let local = LocalSet::new();
            let (drain, stop) = (watch::Sender::new(false), watch::Sender::new(false));
            let serving = Serving { shared: shared.clone(), pool: Rc::default(), tls, drain, stop };
            if number == 0 {
                local.spawn_local(health::watch(shared));
            }
            local.block_on(&runtime, Rc::new(serving).obey(taken));
        })?;
        Ok(Self { orders, thread })
    }

    /// Where its orders go.
    pub fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Tells it to end. What it is told last counts.
    pub fn end(&self, how: End) {
        // One that has ended already needs no telling.
        let _ = self.orders.send(Order::End(how));
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until it has ended.
    pub fn join(self) {
        // A panic has been reported by the thread itself.
        let _ = self.thread.join();
    }
}

struct Serving {
    shared: Arc<Shared>,
    pool: Rc<Pool>,
    tls: TlsAcceptor,
    /// Set when connections should go elsewhere.
    drain: watch::Sender<bool>,
    /// Set when connections should end as soon as they can. Each connection holds a receiver.
    stop: watch::Sender<bool>,
}

impl Serving {
    async fn obey(self: Rc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut tidy = tokio::time::interval(TIDY);
        let mut accepting = Vec::new();
        let mut end = None;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Listen(listener, spec, reply)) => {
                        let heard = match end {
                            None => self.clone().listen(listener, spec).map(|accept| accepting.push(accept)),
                            Some(_) => Err("this edge is ending".to_owned()),
                        };
                        // Whoever asked may have lost patience.
                        let _ = reply.send(heard);
                    }
                    Some(Order::End(how)) => {
                        // What has been accepted has a task of its own already; the rest stays in the queue.
                        accepting.drain(..).for_each(|accept: Task<()>| accept.abort());
                        self.drain.send_replace(true);
                        end = Some(match how {
                            End::Drain(patience) => (Instant::now() + patience, true),
                            End::Stop(patience) => {
                                self.stop.send_replace(true);
                                (Instant::now() + patience, false)
                            }
                        });
                    }
                    None => return,
                },
                _ = tidy.tick() => self.pool.tidy(&self.shared.table.load()),
                () = self.ended(end) => return,
            }
        }
    }

    /// Waits until no connection is left, nor, with `tunnels`, any WebSocket, or until the time is up.
    async fn ended(&self, end: Option<(Instant, bool)>) {
        let Some((deadline, tunnels)) = end else { return std::future::pending().await };
        let empty = async {
            // Closed means that nobody holds a receiver.
            self.stop.closed().await;
            if tunnels {
                self.shared.tunnels.closed().await;
            }
        };
        // Patience has an end, and this is it.
        let _ = tokio::time::timeout_at(deadline, empty).await;
    }

    fn listen(self: Rc<Self>, listener: TcpListener, spec: ListenerSpec) -> Result<Task<()>, String> {
        let listener = listener
            .set_nonblocking(true)
            .and_then(|()| tokio::net::TcpListener::from_std(listener))
            .map_err(|error| format!("{}: {error}", spec.address))?;
        Ok(tokio::task::spawn_local(self.accept(listener, spec)))
    }

    async fn accept(self: Rc<Self>, listener: tokio::net::TcpListener, spec: ListenerSpec) {
        loop {
            match listener.accept().await {
                Ok((stream, client)) => {
                    self.shared.doors.accepted.fetch_add(1, Ordering::Relaxed);
                    let place = Place::take(&self.shared);
                    if let Some(place) = place {
                        let serving = self.clone();
                        let ListenerSpec { address, tls, .. } = spec;
                        // From here on it is waited for, also while it has only begun to shake hands.
                        let here = self.stop.subscribe();
                        tokio::task::spawn_local(async move {
                            serving.connection(stream, client, address.port(), tls).await;
                            drop((place, here));
                        });
                    }
                }
                Err(error) => {
                    eprintln!("edge: cannot accept at {}: {error}", spec.address);
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    async fn connection(&self, mut stream: TcpStream, from: SocketAddr, port: u16, tls: bool) {
        // Only a connection that is gone already refuses.
        let _ = stream.set_nodelay(true);
        let Some(mut peer) = front::arrive(&self.shared, &mut stream, from, port, tls).await else { return };
        if !tls {
            let clocks = self.shared.table.load().clocks(None);
            return self.serve(stream, clocks, peer).await;
        }
        let patience = self.shared.table.load().clocks(None).head;
        let doors = &self.shared.doors;
        let accepted = tokio::time::timeout(patience, self.shake_hands(stream)).await;
        let counter =
            if matches!(accepted, Ok(Ok(_))) { &doors.handshakes } else { &doors.handshakes_failed };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Ok(Ok(mut stream)) = accepted {
            // The handshake was all that an authority wanted, and nothing else is served to one (RFC 8737, section 3).
            if stream.get_ref().1.alpn_protocol() == Some(challenge::ALPN) {
                // One that is gone already has seen what it wanted.
                let _ = tokio::time::timeout(patience, stream.shutdown()).await;
                return;
            }
            peer.certificate = stream.get_ref().1.peer_certificates().map(Shown::new).map(Rc::new);
            let name = stream.get_ref().1.server_name().map(str::to_ascii_lowercase);
            let clocks = self.shared.table.load().clocks(name.as_deref());
            // Only what was agreed on counts: bytes that look like HTTP/2 are none (RFC 9113 section 3.2).
            if stream.get_ref().1.alpn_protocol() == Some(tls::H2) {
                let _open = doors.http2();
                let visit = self.visit(Heads::default(), peer);
                return Box::pin(http2::serve(stream, clocks, visit, self.drain.subscribe())).await;
            }
            self.serve(stream, clocks, peer).await;
        }
    }

    /// The handshake, which asks for a certificate where the host that is named has a route that wants one.
    async fn shake_hands(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        if !self.shared.table.load().asks_somewhere {
            return self.tls.accept(stream).await;
        }
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let asked = {
            let hello = begun.client_hello();
            let name = hello.server_name().map(str::to_ascii_lowercase);
            name.and_then(|name| self.shared.table.load().asks(&name))
        };
        let config = match asked {
            Some(names) => tls::asking(self.shared.clone(), names).map_err(io::Error::other)?,
            None => self.tls.config().clone(),
        };
        begun.into_stream(config).await
    }

    fn visit(&self, heads: Heads, peer: Peer) -> Visit {
        Visit {
            shared: self.shared.clone(),
            pool: self.pool.clone(),
            heads,
            peer,
            drain: self.drain.subscribe(),
        }
    }

    async fn serve<S>(&self, stream: S, clocks: Clocks, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut stop = self.stop.subscribe();
        let visit = |heads| self.visit(heads, peer.clone());
        let (stream, unread) = if http1::IS_ON {
            match http1::serve(stream, clocks, &visit(Heads::default()), &mut stop).await {
                http1::End::Closed => return,
                http1::End::Unusual { stream, unread } => (stream, unread),
            }
        } else {
            (stream, BytesMut::new())
        };
        // Few connections come here, and the others should not keep room for it.
        Box::pin(http1::fallback::serve(stream, unread, clocks, visit, &mut stop)).await;
    }
}

/// A connection's place among those that may be open.
#[derive(Debug)]
pub struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        let open = shared.connections.fetch_add(1, Ordering::Relaxed);
        let place = Self(shared.clone());
        (open < shared.table.load().connections_max).then_some(place)
    }

    /// Of one that goes on where another one has just ended.
    pub fn keep(shared: &Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        Self(shared.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
