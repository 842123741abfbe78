//! A worker: one thread that accepts connections and serves them, sharing nothing on the way of a request.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender as Reply;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;
use klar_base::Secret;
use klar_base::datagrams::DatagramSpec;
use klar_base::upstreams::ListenerSpec;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle as Task;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use crate::arrivals::Arriving;
use crate::challenge;
use crate::counters;
use crate::front::{self, Peer};
use crate::guard::{Clocks, Heads};
use crate::handle::Visit;
use crate::health;
use crate::http1;
use crate::http2;
use crate::http3;
use crate::mutual_tls::Shown;
use crate::pool::Pool;
use crate::table::Shared;
use crate::tls;

/// What a worker is told.
#[derive(Debug)]
pub enum Order {
    /// Serve one more socket, and say whether that can be.
    Listen(TcpListener, ListenerSpec, Reply<Result<(), String>>),
    /// Serve one more socket of HTTP/3, and say whether that can be.
    Datagrams(UdpSocket, DatagramSpec, Arc<Secret<Vec<u8>>>, Reply<Result<(), String>>),
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
        let (begin, begun) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name(format!("edge-{number}")).spawn(move || {
            counters::this_is_worker(number);
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = match builder.enable_io().enable_time().build_local(LocalOptions::default()) {
                Ok(runtime) => runtime,
                // Who has started this waits for it.
                Err(error) => return drop(begin.send(Err(error))),
            };
            drop(begin.send(Ok(())));
            let (drain, stop) = (watch::Sender::new(false), watch::Sender::new(false));
            let serving = Serving { shared: shared.clone(), pool: Rc::default(), tls, drain, stop };
            runtime.block_on(async {
                if number == 0 {
                    tokio::task::spawn_local(health::watch(shared));
                }
                Rc::new(serving).obey(taken).await;
            });
        })?;
        begun.recv().map_err(io::Error::other)??;
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

/// What a worker's connections share.
pub struct Serving {
    pub shared: Arc<Shared>,
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
                    Some(Order::Datagrams(socket, spec, secret, reply)) => {
                        let heard = match end {
                            None => http3::listen(&self, socket, &spec, secret.expose())
                                .map(|accept| accepting.push(accept)),
                            Some(_) => Err("this edge is ending".to_owned()),
                        };
                        // As above.
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
                    // Who makes room is gone a moment later, and until then there is one too many.
                    if let Some(place) = Place::take(&self.shared, || self.shared.arrivals.make_room()) {
                        let arriving = self.shared.arrivals.begin();
                        let serving = self.clone();
                        let ListenerSpec { address, tls, .. } = spec;
                        // From here on it is waited for, also while it has only begun to shake hands.
                        let here = self.stop.subscribe();
                        tokio::task::spawn_local(async move {
                            serving.connection(stream, arriving, client, address.port(), tls).await;
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

    async fn connection(
        &self,
        mut stream: TcpStream,
        mut arriving: Arriving,
        from: SocketAddr,
        port: u16,
        tls: bool,
    ) {
        // Only a connection that is gone already refuses.
        let _ = stream.set_nodelay(true);
        let peer = arriving.unless_sent_away(front::arrive(&self.shared, &mut stream, from, port, tls)).await;
        let Some(mut peer) = peer.flatten() else { return };
        if !tls {
            let clocks = self.shared.table.load().clocks(None);
            if arriving.unless_sent_away(self.first_byte(&stream, clocks.idle)).await == Some(true) {
                drop(arriving);
                // What serves takes room only for those who ask for something.
                Box::pin(self.serve(stream, clocks, peer)).await;
            }
            return;
        }
        let patience = self.shared.table.load().clocks(None).head;
        let doors = &self.shared.doors;
        let handshake = tokio::time::timeout(patience, async {
            if !self.first_byte(&stream, patience).await {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Box::pin(self.shake_hands(stream)).await
        });
        let accepted = arriving.unless_sent_away(handshake).await;
        drop(arriving);
        let counter =
            if matches!(accepted, Some(Ok(Ok(_)))) { &doors.handshakes } else { &doors.handshakes_failed };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(Ok(Ok(mut stream))) = accepted {
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
            Box::pin(self.serve(stream, clocks, peer)).await;
        }
    }

    /// Whether the connection is to be served: something came, or this worker stops, which is for whoever serves it.
    async fn first_byte(&self, stream: &TcpStream, patience: Duration) -> bool {
        let mut stop = self.stop.subscribe();
        let mut byte = [0];
        tokio::select! {
            // Not `readable`, which may be over when nothing has come.
            came = stream.peek(&mut byte) => came.is_ok(),
            // Who sends the word is gone only when everything is.
            _ = stop.wait_for(|stop| *stop) => true,
            () = tokio::time::sleep(patience) => false,
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

    /// Held by a connection for as long as it is waited for.
    pub fn here(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Tells a connection when it should go elsewhere.
    pub fn drains(&self) -> watch::Receiver<bool> {
        self.drain.subscribe()
    }

    /// What the requests of a connection are told of it.
    pub fn visit(&self, heads: Heads, peer: Peer) -> Visit {
        Visit {
            shared: self.shared.clone(),
            pool: self.pool.clone(),
            heads,
            codec: false,
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
            let visit = Visit { codec: true, ..visit(Heads::default()) };
            match http1::serve(stream, clocks, &visit, &mut stop).await {
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
    /// `None`: there are as many as there may be, and nobody can be made to go.
    pub fn take(shared: &Arc<Shared>, make_room: impl FnOnce() -> bool) -> Option<Self> {
        // Counted before anybody goes. Otherwise another worker could count itself in between who goes and who comes,
        // and there would be one too many for good.
        let open = shared.connections.fetch_add(1, Ordering::Relaxed);
        let place = Self(shared.clone());
        (open < shared.table.load().connections_max || make_room()).then_some(place)
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
