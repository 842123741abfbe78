//! Visitors that speak HTTP/2: one that says frames as they are, right or wrong, and one with manners.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::{Edge, HOST, PATIENCE, Visitor, client_config, is_end};

pub const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Also `ACK`.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const SETTINGS_TIMEOUT: u32 = 4;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame as it is written.
pub fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(content.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(content);
    bytes
}

/// Fields as they are, without any table and without Huffman (RFC 7541 section 6.2.2).
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let mut length = text.len();
            if length < 127 {
                block.push(length as u8);
            } else {
                block.push(127);
                length -= 127;
                while length >= 128 {
                    block.push((length % 128 + 128) as u8);
                    length /= 128;
                }
                block.push(length as u8);
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

/// The fields of a request that has all it needs, with more of them.
pub fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let start = [(":method", method), (":scheme", "https"), (":authority", HOST), (":path", path)];
    fields(&[&start, more].concat())
}

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub content: Vec<u8>,
}

impl Frame {
    /// The error that a `RST_STREAM` or a `GOAWAY` names.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.content[at..at + 4].try_into().unwrap())
    }
}

/// A visitor that writes frames itself.
pub struct Raw(pub Visitor);

impl Raw {
    /// Without a word yet.
    pub fn silent(edge: &Edge) -> Self {
        Self(Visitor::offering(edge.https, HOST, &["h2"]))
    }

    /// Has said its preface and these settings.
    pub fn with_settings(edge: &Edge, settings: &[u8]) -> Self {
        let mut raw = Self::silent(edge);
        raw.0.send(PREFACE);
        raw.0.send(frame(SETTINGS, 0, 0, settings));
        raw
    }

    pub fn new(edge: &Edge) -> Self {
        Self::with_settings(edge, &[])
    }

    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, content: &[u8]) {
        self.0.send(frame(kind, flags, stream, content));
    }

    /// Sends this so many times, or until the edge hangs up.
    pub fn flood(&mut self, bytes: &[u8], times: usize) {
        let many = bytes.repeat(64);
        for _ in 0..times.div_ceil(64) {
            if self.0.try_send(&many).is_err() {
                return;
            }
        }
    }

    pub fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.0.stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut content = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.stream.read_exact(&mut content)?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream), content })
    }

    /// The next frame that the edge does not send to everybody.
    pub fn next(&mut self) -> io::Result<Frame> {
        loop {
            let frame = self.read()?;
            if !matches!(frame.kind, SETTINGS | WINDOW_UPDATE | PING) {
                return Ok(frame);
            }
        }
    }

    /// What is said last before the connection ends: the code of the last `GOAWAY`, if there is one.
    pub fn last_word(&mut self) -> Option<u32> {
        let mut code = None;
        loop {
            match self.next() {
                Ok(frame) if frame.kind == GOAWAY => code = Some(frame.code()),
                Ok(_) => {}
                Err(error) => {
                    assert!(is_end(&error), "the connection did not end: {error}");
                    return code;
                }
            }
        }
    }

    /// Waits for the end of a stream: `None` when it ended as it should, otherwise the code of its reset.
    pub fn end_of(&mut self, stream: u32) -> Option<u32> {
        loop {
            let frame = self.next().unwrap();
            assert_ne!(frame.kind, GOAWAY, "{frame:?}");
            if frame.stream == stream {
                match frame.kind {
                    RST_STREAM => return Some(frame.code()),
                    DATA | HEADERS if frame.flags & END_STREAM != 0 => return None,
                    _ => {}
                }
            }
        }
    }
}

/// What a polite visitor got.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Got {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub type SendBody = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

pub fn full(body: impl Into<Bytes>) -> SendBody {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A visitor with the HTTP library's own client.
pub struct Client {
    pub runtime: tokio::runtime::Runtime,
    pub send: SendRequest<SendBody>,
}

#[derive(Clone)]
struct Spawn;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

impl Client {
    pub fn new(edge: &Edge) -> Self {
        Self::connect(edge.https)
    }

    fn connect(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let send = runtime.block_on(Self::sender(address));
        Self { runtime, send }
    }

    /// A connection.
    pub async fn sender(address: SocketAddr) -> SendRequest<SendBody> {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(client_config(&["h2", "http/1.1"])));
        let stream = connector.connect(ServerName::try_from(HOST).unwrap(), tcp).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "HTTP/2 is what the edge prefers");
        let handshake = hyper::client::conn::http2::Builder::new(Spawn).handshake(TokioIo::new(stream));
        let (send, driver) = handshake.await.unwrap();
        tokio::spawn(async move { drop(driver.await) });
        send
    }

    /// For a path of [`HOST`].
    pub fn request(method: &str, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("https://{HOST}{path}"))
    }

    pub fn get(&mut self, path: &str) -> Got {
        let request = Self::request("GET", path).body(full("")).unwrap();
        self.ask(request).unwrap()
    }

    pub fn ask(&mut self, request: Request<SendBody>) -> hyper::Result<Got> {
        let sent = self.send.send_request(request);
        self.wait(async { read(sent.await?).await })
    }

    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("in time") })
    }
}

/// All of an answer.
pub async fn read(response: Response<Incoming>) -> hyper::Result<Got> {
    let (parts, body) = response.into_parts();
    let whole = body.collect().await?;
    let trailers = whole.trailers().cloned();
    Ok(Got { status: parts.status.as_u16(), headers: parts.headers, body: whole.to_bytes(), trailers })
}

/// An instance that speaks HTTP/2 without TLS.
pub struct H2cApp {
    pub address: SocketAddr,
    /// Connections that carried requests.
    used: Arc<AtomicUsize>,
}

impl H2cApp {
    pub fn connections(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }
}

/// It answers with what `answer` makes of each request.
pub fn h2c_app<F>(answer: F) -> H2cApp
where
    F: Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Response<SendBody>> + Send>>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let used = Arc::<AtomicUsize>::default();
    let count = used.clone();
    // It ends with the test program.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, count, is_used) = (answer.clone(), count.clone(), AtomicBool::new(false));
                let service = hyper::service::service_fn(move |request| {
                    if !is_used.swap(true, Ordering::SeqCst) {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    let answer = answer(request);
                    async move { Ok::<_, std::convert::Infallible>(answer.await) }
                });
                let connection = hyper::server::conn::http2::Builder::new(Spawn)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
    });
    H2cApp { address, used }
}
