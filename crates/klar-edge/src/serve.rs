//! A worker: one thread that accepts connections and serves them, sharing nothing on the way of a request.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use klar_base::upstreams::ListenerSpec;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;

use crate::challenge;
use crate::counters;
use crate::framing::HEADERS_MAX;
use crate::guard::{Clocks, Guard, Heads};
use crate::handle::Visit;
use crate::health;
use crate::http2;
use crate::pool::Pool;
use crate::table::Shared;
use crate::tls;

/// What a worker is told.
#[derive(Debug)]
pub enum Order {
    /// Serve one more socket.
    Listen(TcpListener, ListenerSpec),
    /// Accept nothing more, and end when everything is answered, or after so long.
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
            let serving =
                Serving { shared: shared.clone(), pool: Rc::default(), tls, stop: watch::Sender::new(false) };
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

    /// Tells it to end.
    pub fn stop(&self, patience: Duration) {
        // One that has ended already needs no telling.
        let _ = self.orders.send(Order::Stop(patience));
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
    /// Set when connections should end as soon as they can. Each connection holds a receiver.
    stop: watch::Sender<bool>,
}

impl Serving {
    async fn obey(self: Rc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut tidy = tokio::time::interval(TIDY);
        let mut accepting = Vec::new();
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Listen(listener, spec)) => {
                        match listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener)) {
                            Ok(listener) => {
                                let accept = self.clone().accept(listener, spec);
                                accepting.push(tokio::task::spawn_local(accept));
                            }
                            Err(error) => eprintln!("edge: cannot serve {}: {error}", spec.address),
                        }
                    }
                    Some(Order::Stop(patience)) => {
                        accepting.iter().for_each(|accept| accept.abort());
                        self.stop.send_replace(true);
                        // Closed means that nobody holds a receiver: no connection is left.
                        let _ = tokio::time::timeout(patience, self.stop.closed()).await;
                        return;
                    }
                    None => return,
                },
                _ = tidy.tick() => self.pool.tidy(&self.shared.table.load()),
            }
        }
    }

    async fn accept(self: Rc<Self>, listener: tokio::net::TcpListener, spec: ListenerSpec) {
        loop {
            match listener.accept().await {
                Ok((stream, client)) => {
                    self.shared.doors.accepted.fetch_add(1, Ordering::Relaxed);
                    let place = Place::take(&self.shared);
                    if let Some(place) = place {
                        let serving = self.clone();
                        tokio::task::spawn_local(async move {
                            serving.connection(stream, client, spec.tls).await;
                            drop(place);
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

    async fn connection(&self, stream: TcpStream, client: SocketAddr, tls: bool) {
        // Only a connection that is gone already refuses.
        let _ = stream.set_nodelay(true);
        if !tls {
            let clocks = self.shared.table.load().clocks(None);
            return self.serve(stream, clocks, client, false).await;
        }
        let patience = self.shared.table.load().clocks(None).head;
        let doors = &self.shared.doors;
        let accepted = tokio::time::timeout(patience, self.tls.accept(stream)).await;
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
            let name = stream.get_ref().1.server_name().map(str::to_ascii_lowercase);
            let clocks = self.shared.table.load().clocks(name.as_deref());
            // Only what was agreed on counts: bytes that look like HTTP/2 are none (RFC 9113 section 3.2).
            if stream.get_ref().1.alpn_protocol() == Some(tls::H2) {
                let _open = doors.http2();
                let visit = self.visit(Heads::default(), client, true);
                return http2::serve(stream, clocks, visit, self.stop.subscribe()).await;
            }
            self.serve(stream, clocks, client, true).await;
        }
    }

    fn visit(&self, heads: Heads, client: SocketAddr, tls: bool) -> Visit {
        Visit {
            shared: self.shared.clone(),
            pool: self.pool.clone(),
            heads,
            client: client.ip().to_canonical(),
            tls,
        }
    }

    async fn serve<S>(&self, stream: S, clocks: Clocks, client: SocketAddr, tls: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let guard = Guard::new(stream, clocks);
        let visit = Rc::new(self.visit(guard.heads(), client, tls));
        let service = service_fn(move |request| {
            let visit = visit.clone();
            async move { Ok::<_, Infallible>(visit.handle(request).await) }
        });
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(guard), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut stop = self.stop.subscribe();
        // How a connection ends is in the records of its requests.
        tokio::select! {
            _ = connection.as_mut() => {}
            _ = stop.wait_for(|stop| *stop) => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }
}

/// A connection's place among those that may be open.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        let open = shared.connections.fetch_add(1, Ordering::Relaxed);
        let place = Self(shared.clone());
        (open < shared.table.load().connections_max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
