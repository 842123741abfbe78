//! Answering over HTTP: who may ask, what is asked, and how much of it.
//!
//! There are two doors. A Unix socket, at which the kernel says who asks: its owner and root may everything. And TCP on the
//! loopback, for programs that know nothing else (Grafana, promtool, exporters in apps): there each request shows a key,
//! as a bearer token or as the password of basic authentication. The key of the host reads and writes everything, the
//! token of an app only writes, as that app. Doors at which nobody is answered are in `doors.rs`.

mod boards;
mod bulk;
mod doors;
mod find;
mod intake;
mod loki;
mod otlp;
mod params;
mod prometheus;
mod unpack;
mod write;

pub(crate) use doors::Doors;
pub(crate) use write::Known;

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use klar_base::AppKey;
use tokio::sync::Semaphore;

use crate::Shared;
use params::Params;

/// Connections at once, over both doors.
const CONNECTIONS_MAX: usize = 256;
/// How long a head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest body that writes something, in bytes, as it comes.
const WRITE_MAX: usize = 16 << 20;
/// The largest body that asks something, in bytes.
const ASK_MAX: usize = 1 << 20;
/// Questions that are worked on at once; others wait.
const AT_ONCE: usize = 2;
/// Bodies that are taken in at once; others wait.
const WRITES_AT_ONCE: usize = 4;

pub(crate) type Answer = Response<Full<Bytes>>;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// Somebody who may everything.
    Owner,
    /// A process of an app.
    App(AppKey),
    /// Nobody knows.
    Stranger,
}

/// What the answers come from.
struct Server {
    shared: Arc<Shared>,
    questions: Semaphore,
    writes: Semaphore,
    connections: Arc<Semaphore>,
    allowed: Vec<u32>,
}

/// Serves for as long as it is polled. `allowed` are the users who may ask at the Unix socket; `opened` says which other
/// doors there are.
///
/// # Errors
/// When the sockets cannot be used.
pub(crate) async fn run(
    shared: Arc<Shared>,
    unix: Option<UnixListener>,
    tcp: Vec<TcpListener>,
    allowed: Vec<u32>,
    opened: tokio::sync::mpsc::UnboundedReceiver<Doors>,
) -> io::Result<()> {
    let server = Arc::new(Server {
        shared,
        questions: Semaphore::new(AT_ONCE),
        writes: Semaphore::new(WRITES_AT_ONCE),
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        allowed,
    });
    let mut doors = tokio::task::JoinSet::new();
    doors.spawn(doors::keep(server.shared.clone(), opened));
    for listener in tcp {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        doors.spawn(over_tcp(server.clone(), listener));
    }
    if let Some(listener) = unix {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        doors.spawn(over_unix(server.clone(), listener));
    }
    // None of them ends.
    while doors.join_next().await.is_some() {}
    Ok(())
}

async fn over_tcp(server: Arc<Server>, listener: tokio::net::TcpListener) {
    loop {
        let Ok(permit) = server.connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = server.clone();
                // A slower answer is the worst that can come of an error here.
                let _ = stream.set_nodelay(true);
                tokio::spawn(async move {
                    if speaks_http2(&stream).await {
                        server.connection2(stream).await;
                    } else {
                        server.connection(stream, None).await;
                    }
                    drop(permit);
                });
            }
            Err(error) => refused(&error).await,
        }
    }
}

async fn over_unix(server: Arc<Server>, listener: tokio::net::UnixListener) {
    loop {
        let Ok(permit) = server.connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = server.clone();
                let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
                let is_owner = uid.is_some_and(|uid| server.allowed.contains(&uid));
                tokio::spawn(async move {
                    server.connection(stream, Some(if is_owner { Who::Owner } else { Who::Stranger })).await;
                    drop(permit);
                });
            }
            Err(error) => refused(&error).await,
        }
    }
}

/// Whether a connection begins as those of HTTP/2 do (`PRI * HTTP/2.0`); nothing is taken from it.
async fn speaks_http2(stream: &tokio::net::TcpStream) -> bool {
    let look = async {
        let mut first = [0; 3];
        loop {
            match stream.peek(&mut first).await {
                Ok(3..) => return first == *b"PRI",
                // What is there stays there, so there is nothing to be woken by.
                Ok(1..) => tokio::time::sleep(Duration::from_millis(10)).await,
                Ok(0) | Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(HEAD_TIMEOUT, look).await.unwrap_or(false)
}

async fn refused(error: &io::Error) {
    eprintln!("klar see: taking a connection: {error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

impl Server {
    async fn connection(
        self: Arc<Self>,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
        who: Option<Who>,
    ) {
        let service = service_fn(|request: Request<Incoming>| {
            let server = self.clone();
            let who = who.clone().unwrap_or_else(|| server.shared.who(&request));
            async move { Ok::<_, Infallible>(server.answer(who, request).await) }
        });
        // An error here means that the other side went away or spoke no HTTP; there is nobody to tell.
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    /// HTTP/2 from its first byte on, as gRPC speaks it.
    async fn connection2(self: Arc<Self>, stream: tokio::net::TcpStream) {
        /// What may be on its way of a body, for each of the streams; together as much as of the connection, so that those
        /// who wait for their turn hold up nobody.
        const WINDOW: u32 = 64 << 10;
        const STREAMS: u32 = 16;
        let is_known = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let service = service_fn(|request: Request<Incoming>| {
            let (server, is_known) = (self.clone(), is_known.clone());
            async move {
                let who = server.shared.who(&request);
                if who != Who::Stranger {
                    is_known.store(true, std::sync::atomic::Ordering::Relaxed);
                }
                let is_call = otlp::grpc::is(request.headers());
                let mut answer = server.answer(who, request).await;
                if is_call {
                    answer = otlp::grpc::translated(answer).await;
                }
                let trailers = answer.extensions_mut().remove::<otlp::grpc::Trailers>();
                let trailers = std::future::ready(trailers.map(|trailers| Ok(trailers.0)));
                Ok::<_, Infallible>(answer.map(|body| body.with_trailers(trailers)))
            }
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * STREAMS)
            .max_header_list_size(16 << 10)
            .keep_alive_interval(BODY_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        // An error means, as above, that there is nobody to tell.
        if tokio::time::timeout(HEAD_TIMEOUT, connection.as_mut()).await.is_ok() {
            return;
        }
        if is_known.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = connection.await;
        } else {
            // Whoever has shown no key by now does not stay.
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(HEAD_TIMEOUT, connection).await;
        }
    }

    async fn answer(&self, who: Who, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        if matches!(&*path, "/-/healthy" | "/-/ready" | "/ready" | "/loki/ready") {
            return text(StatusCode::OK, "klar see is well.\n");
        }
        if who == Who::Stranger {
            let mut answer = text(
                StatusCode::UNAUTHORIZED,
                "a key is wanted: `klar metrics --address` prints an address with it\n",
            );
            let challenge = header::HeaderValue::from_static("Basic realm=\"klar\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            return answer;
        }
        let intake = intake::Protocol::of(&path);
        let write = write_route(&path);
        let writes = intake.is_some() || write.is_some();
        if !writes && who != Who::Owner {
            return text(StatusCode::FORBIDDEN, "this token may only write; the key of the host may read\n");
        }
        let (head, body) = request.into_parts();
        let (limit, semaphore) = if writes { (WRITE_MAX, &self.writes) } else { (ASK_MAX, &self.questions) };
        // Only while the process ends is there none.
        let Ok(_permit) = semaphore.acquire().await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "klar see is about to end\n");
        };
        let body = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => {
                return text(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("a body has at most {limit} bytes here\n"),
                );
            }
            Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n"),
        };
        if let Some(protocol) = intake {
            let shared = self.shared.clone();
            return on_thread(move || protocol.take_in(&shared, &who, &head, &body)).await;
        }
        if let Some(take_in) = write {
            if head.method != Method::POST {
                return text(StatusCode::METHOD_NOT_ALLOWED, "POST is wanted here\n");
            }
            let shared = self.shared.clone();
            return on_thread(move || take_in(&shared, &who, &head, &body)).await;
        }
        if !matches!(head.method, Method::GET | Method::POST | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET or POST is wanted here\n");
        }
        let params = match Params::read(&head, &body) {
            Ok(params) => params,
            Err(why) => return text(StatusCode::BAD_REQUEST, format!("{why}\n")),
        };
        let accepts = head.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let accepts_openmetrics = accepts.is_some_and(|accepts| accepts.contains("openmetrics-text"));
        // Grafana says so when it can tell labels of a stream from those of a line.
        let apart = unpack::header(&head, "x-loki-response-encoding-flags").contains("categorize-labels");
        let gone = Gone::default();
        let (shared, is_gone) = (self.shared.clone(), gone.0.clone());
        on_thread(move || match &*path {
            "/metrics" if accepts_openmetrics => typed(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                shared.sheet().openmetrics(),
            ),
            "/metrics" => {
                typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", shared.sheet().text())
            }
            _ if let Some(what) = path.strip_prefix("/dashboards/") => boards::answer(&shared, what, &params),
            _ => match (path.strip_prefix("/klar/v1/"), path.strip_prefix("/loki/")) {
                (Some(what), _) => find::answer(&shared, what, &params),
                (_, Some(what)) => loki::answer(&shared, what, &params, apart),
                _ => prometheus::answer(&shared, &path, &params, &is_gone),
            },
        })
        .await
    }
}

/// Takes in what a body says, for whoever sent it.
type TakeIn = fn(&Shared, &Who, &Parts, &[u8]) -> Answer;

/// What takes in bodies at a path, if they are written there; all other paths are questions.
fn write_route(path: &str) -> Option<TakeIn> {
    Some(match path {
        "/api/v1/write" => write::remote_write,
        "/v1/traces" | "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => otlp::traces,
        "/v1/logs" | "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => otlp::logs,
        "/v1/metrics" | "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => otlp::metrics,
        _ => return None,
    })
}

/// Tells work that goes on elsewhere that nobody waits for it any more.
#[derive(Default)]
struct Gone(Arc<std::sync::atomic::AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

async fn on_thread(work: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))
}

fn text(status: StatusCode, text: impl Into<String>) -> Answer {
    typed(status, "text/plain; charset=utf-8", text.into())
}

fn typed(status: StatusCode, media: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media));
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    answer
}

impl Shared {
    /// Who shows this request's key.
    fn who<B>(&self, request: &Request<B>) -> Who {
        let said = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = said.and_then(|said| {
            let (scheme, rest) = said.split_once(' ')?;
            match scheme.to_ascii_lowercase().as_str() {
                "bearer" => Some(rest.trim().to_owned()),
                "basic" => {
                    let plain = String::from_utf8(base64(rest.trim())?).ok()?;
                    Some(plain.split_once(':')?.1.to_owned())
                }
                // As Elasticsearch's clients show a key, with its name before the colon.
                "apikey" => {
                    let plain = String::from_utf8(base64(rest.trim())?).ok()?;
                    Some(plain.split_once(':').map_or(&*plain, |(_, key)| key).to_owned())
                }
                _ => None,
            }
        });
        key.map_or(Who::Stranger, |key| self.whose_key(&key))
    }

    fn whose_key(&self, shown: &str) -> Who {
        // Each byte is looked at, whatever came before it: how long it takes says nothing of the key.
        let same = |key: &str| {
            key.len() == shown.len()
                && !key.is_empty()
                && key.bytes().zip(shown.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
        };
        let state = self.state();
        let world = state.world();
        if world.key.as_ref().is_some_and(|key| same(key.expose())) {
            return Who::Owner;
        }
        let app = world.apps.iter().find(|app| same(app.token.expose()));
        app.map_or(Who::Stranger, |app| Who::App(app.key.clone()))
    }
}

/// RFC 4648 section 4, with padding or without.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        for (text, plain) in [
            ("", Some("")),
            ("Zg==", Some("f")),
            ("Zm8", Some("fo")),
            ("Zm9vOmJhcg==", Some("foo:bar")),
            ("Z-", None),
        ] {
            assert_eq!(
                base64(text).map(|bytes| String::from_utf8(bytes).unwrap()).as_deref(),
                plain,
                "{text}"
            );
        }
    }
}
