//! Visitors that speak HTTP/3, and what an edge needs to hear them.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use h3::error::StreamError;
use http::{Request, Response};
use klar_base::Secret;
use klar_base::datagrams::{self, DatagramSpec};
use klar_base::upstreams::{Datagrams, ToEdge};
use quinn::crypto::rustls::QuicClientConfig;
use socket2::{Domain, Socket, Type};

use super::{Edge, HOST, PATIENCE, WORKERS, client_config};

pub type Ask = SendRequest<h3_quinn::OpenStreams, Bytes>;

/// The sockets that edges share.
pub struct Row(Vec<(DatagramSpec, OwnedFd)>);

impl Row {
    /// At the address of an edge that has none yet.
    pub fn bind(address: SocketAddr) -> Self {
        let specs = DatagramSpec::row(address, WORKERS as u16);
        let bound = specs.map(|spec| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&address.into()).unwrap();
            (spec, OwnedFd::from(UdpSocket::from(socket)))
        });
        Self(bound.collect())
    }

    /// Gives an edge all of them, to serve a lane.
    pub fn give(&self, edge: &Edge, lane: u16) {
        let sockets: Vec<OwnedFd> = self.0.iter().map(|(_, one)| one.try_clone().unwrap()).collect();
        let specs = self.0.iter().map(|(spec, _)| spec.clone()).collect();
        let secret = Secret::new("5a".repeat(32));
        edge.core().send(&ToEdge::Datagrams(Datagrams { sockets: specs, lane, secret }), &sockets);
    }

    /// What begins from now on goes to this lane.
    pub fn open(&self, lane: u16) {
        datagrams::steer(&self.0[0].1.as_fd(), lane, WORKERS as u16).unwrap();
    }
}

/// Has an edge serve HTTP/3, in the first lane.
pub fn serve(edge: &mut Edge) -> Row {
    let row = Row::bind(edge.https);
    row.open(0);
    row.give(edge, 0);
    edge.site().http3 = true;
    edge.apply();
    row
}

/// A connection of a visitor.
pub struct Connection {
    pub quic: quinn::Connection,
    pub ask: Ask,
    _endpoint: quinn::Endpoint,
    driver: tokio::task::JoinHandle<h3::error::ConnectionError>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        Self::try_open(address, HOST).await.unwrap()
    }

    pub async fn try_open(address: SocketAddr, name: &str) -> Result<Self, quinn::ConnectionError> {
        let (endpoint, quic) = dial(address, name).await?;
        let (mut driver, ask) = h3::client::new(h3_quinn::Connection::new(quic.clone())).await.unwrap();
        let driver = tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
        Ok(Self { quic, ask, _endpoint: endpoint, driver })
    }

    /// The answer to `method path`, with its body.
    pub async fn say(&self, method: &str, path: &str, body: &[u8]) -> (Response<()>, Vec<u8>) {
        self.try_say(request(method, path), body).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> (Response<()>, String) {
        let (head, body) = self.say("GET", path, b"").await;
        (head, String::from_utf8_lossy(&body).into_owned())
    }

    pub async fn try_say(
        &self,
        request: Request<()>,
        body: &[u8],
    ) -> Result<(Response<()>, Vec<u8>), StreamError> {
        let mut stream = self.ask.clone().send_request(request).await?;
        // An edge that has answered wants no more of it.
        if body.is_empty() || stream.send_data(Bytes::copy_from_slice(body)).await.is_ok() {
            let _ = stream.finish().await;
        }
        let head = stream.recv_response().await?;
        let mut all = Vec::new();
        while let Some(mut piece) = stream.recv_data().await? {
            all.extend(piece.copy_to_bytes(piece.remaining()));
        }
        Ok((head, all))
    }

    /// How it ended.
    pub async fn end(self) -> String {
        drop(self.ask);
        format!("{:?}", self.driver.await.unwrap())
    }
}

pub async fn dial(
    address: SocketAddr,
    name: &str,
) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let tls = QuicClientConfig::try_from(client_config(&["h3"])).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let quic = endpoint.connect_with(config, address, name).unwrap().await?;
    Ok((endpoint, quic))
}

pub fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("https://{HOST}{path}")).body(()).unwrap()
}

/// Runs a test that may not hang.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("the test hangs") })
}
