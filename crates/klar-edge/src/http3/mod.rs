//! HTTP/3 with visitors (RFC 9114), over QUIC (RFC 9000).
//!
//! Each worker owns one UDP socket for each address, and the connections that begin there: the kernel gives it their
//! datagrams wherever a visitor wanders, because the name that the edge gives a connection begins with the number of
//! the socket ([`klar_base::datagrams`]). `transport.rs` is what the HTTP library knows of QUIC, `follow.rs` what keeps
//! it from keeping too much, `connection.rs` serves a connection. From [`Visit::answer_to`] on, a request is what it
//! would have been in HTTP/1.1 and 2.
//!
//! Not served here are hosts that ask for certificates of visitors: the handshake of QUIC asks everybody or nobody. They
//! are refused in the handshake, and with 421 where a connection to another host asks for them; a browser comes back
//! over TCP. WebSockets over HTTP/3 (RFC 9220) are not offered either, and nothing is answered before a handshake is
//! done (0-RTT).

mod body;
mod connection;
mod follow;
mod transport;

use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use klar_base::datagrams::{self, DatagramSpec};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, Incoming, VarInt};
use quinn::{IdleTimeout, ServerConfig, TokioRuntime, TransportConfig};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};
use tokio::task::JoinHandle as Task;

pub use self::body::Body;
use crate::front::Peer;
use crate::guard::Heads;
use crate::serve::{Place, Serving};
use crate::tls;

/// Requests that a visitor may have open at once: what RFC 9114 section 6.1 asks for at least.
const REQUESTS: u32 = 100;
/// Streams of control: one of HTTP, two of QPACK, and some to say nothing with.
const CONTROL_STREAMS: u32 = 8;
/// How much of a body may be on its way before the app has read it: of one stream, and of a connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// How much of its answers is kept for a connection until the visitor has confirmed it.
const SEND_WINDOW: u64 = 1 << 20;
/// After so long without a sign of life a connection is forgotten; one with a visitor is asked for a sign before.
const SILENCE: Duration = Duration::from_secs(60);
const SIGN: Duration = Duration::from_secs(20);
/// Handshakes on their way at one worker, from which on a visitor has to show that its address is its own, before
/// anything is kept for it (RFC 9000 section 8.1).
const HANDSHAKES: usize = 64;
/// Beginnings that wait for this worker: more are refused.
const BEGINNINGS: usize = 1024;
/// What is kept of their first datagrams, in bytes, in all.
const BEGINNINGS_BYTES: u64 = 8 << 20;
/// How long what shows that an address is its visitor's own is good for.
const RETRY: Duration = Duration::from_secs(15);

/// Begins to serve a socket.
///
/// # Errors
/// What the kernel or the library refuses.
pub fn listen(
    serving: &Rc<Serving>,
    socket: UdpSocket,
    spec: &DatagramSpec,
    secret: &[u8],
) -> Result<Task<()>, String> {
    let address = spec.address;
    let failed = |error: &dyn std::fmt::Display| format!("{address} (UDP): {error}");
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
    let slot = spec.slot;
    config.cid_generator(move || Box::new(Names { slot }));
    let server = server_config(serving, secret).map_err(|error| failed(&error))?;
    socket.set_nonblocking(true).map_err(|error| failed(&error))?;
    let endpoint = Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime));
    let endpoint = endpoint.map_err(|error| failed(&error))?;
    serving.shared.serves_http3.store(true, Ordering::Relaxed);
    Ok(tokio::task::spawn_local(accept(serving.clone(), endpoint, address.port())))
}

fn server_config(serving: &Serving, secret: &[u8]) -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let tls = tls::for_quic(serving.shared.clone())?;
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"klar: the addresses of visitors");
    config
        .token_key(Arc::new(salt.extract(secret)))
        .retry_token_lifetime(RETRY)
        .max_incoming(BEGINNINGS)
        .incoming_buffer_size_total(BEGINNINGS_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(REQUESTS))
        .max_concurrent_uni_streams(VarInt::from_u32(CONTROL_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(Some(IdleTimeout::try_from(SILENCE)?))
        .keep_alive_interval(Some(SIGN))
        .datagram_receive_buffer_size(None);
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Takes connections until it is aborted; from then on those who begin are for another edge, and hear nothing here.
async fn accept(serving: Rc<Serving>, endpoint: Endpoint, port: u16) {
    let shaking = Rc::new(());
    while let Some(incoming) = endpoint.accept().await {
        let shared = &serving.shared;
        let table = shared.table.load();
        if !table.http3 || table.proxy_protocol(port).is_some() {
            incoming.refuse();
            continue;
        }
        if Rc::strong_count(&shaking) > HANDSHAKES && incoming.may_retry() {
            // One that may retry can be told to.
            let _ = incoming.retry();
            continue;
        }
        shared.doors.accepted.fetch_add(1, Ordering::Relaxed);
        let Some(place) = Place::take(shared, || false) else {
            incoming.refuse();
            continue;
        };
        let (serving, shaking, here) = (serving.clone(), shaking.clone(), serving.here());
        tokio::task::spawn_local(async move {
            let shaken = shake_hands(&serving, incoming).await;
            drop(shaking);
            if let Some(connection) = shaken {
                serve(&serving, connection).await;
            }
            // The word that it is closed leaves in another task.
            tokio::task::yield_now().await;
            drop((place, here));
        });
    }
}

async fn shake_hands(serving: &Serving, incoming: Incoming) -> Option<Connection> {
    let shared = &serving.shared;
    let patience = shared.table.load().clocks(None).head;
    let shaken = tokio::time::timeout(patience, incoming).await;
    let doors = &shared.doors;
    let counter = if matches!(shaken, Ok(Ok(_))) { &doors.handshakes } else { &doors.handshakes_failed };
    counter.fetch_add(1, Ordering::Relaxed);
    shaken.ok()?.ok()
}

async fn serve(serving: &Serving, connection: Connection) {
    let shared = &serving.shared;
    // Whoever has finished a handshake receives what is sent to this address. Where the connection wanders later has
    // not been shown yet when its first request comes from there, so nobody is believed to be elsewhere.
    let neighbour = connection.remote_address().ip().to_canonical();
    let peer = Peer { address: neighbour, neighbour, tls: true, secured: false, certificate: None };
    let name = connection
        .handshake_data()
        .and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok())
        .and_then(|data| data.server_name.map(|name| name.to_ascii_lowercase()));
    let clocks = shared.table.load().clocks(name.as_deref());
    let visit = serving.visit(Heads::default(), peer);
    let _open = shared.doors.http3();
    Box::pin(connection::serve(connection, clocks, visit, serving.drains())).await;
}

/// Names connections so that their datagrams find this worker.
struct Names {
    slot: u16,
}

impl ConnectionIdGenerator for Names {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut chance = [0; 6];
        // Where there is no randomness no handshake can be done either.
        let _ = SystemRandom::new().fill(&mut chance);
        ConnectionId::new(&datagrams::name(self.slot, chance))
    }

    fn cid_len(&self) -> usize {
        datagrams::NAME_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
