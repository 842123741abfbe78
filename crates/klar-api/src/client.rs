//! Asking: one connection for each question, errors that tell "not running" from "not allowed".

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::TokioIo;
use klar_base::look::{Counts, Explained, Wanted};
use klar_base::shadow::Tried;
use klar_base::upstreams::Purge;
use klar_base::{AppKey, Hint, ServiceName};
use klar_run::control::{
    DeployRequest, LogQuery, ReplayRequest, ReplayedRequest, TryRequest, UpgradeRequest,
};
use klar_run::layout::Layout;
use klar_run::report::{Event, Failure, Finding, HostStatus, LogLine, Receipt, Upgrade};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::query;
use crate::route::Media;
use crate::server::{Down, Purged, Restart, Scale, TakeOver, Uploaded};

/// Why a question has no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no core.
    #[error("klar is not running (nothing answers at {socket})", socket = .socket.display())]
    NotRunning {
        /// Where one would answer.
        socket: PathBuf,
    },
    /// There is a core, and it is somebody else's.
    #[error("{what}")]
    NotPermitted {
        /// Who may not do what.
        what: String,
    },
    /// The core understood, and said no.
    #[error("{}", .failure.what)]
    Refused {
        /// The status it said it with.
        status: StatusCode,
        /// Why.
        failure: Box<Failure>,
    },
    /// The operation went ahead, and did not work.
    #[error("{}", .0.what)]
    Failed(Box<Failure>),
    /// The connection broke.
    #[error("the connection to klar broke while {during}: {source}")]
    Broken {
        /// What was going on.
        during: String,
        /// What happened to it.
        source: io::Error,
    },
    /// What was to be sent could not be read.
    #[error("{0}")]
    Source(io::Error),
}

impl Hint for ClientError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotRunning { .. } => Some("run `klar up` in the folder of an app".into()),
            Self::NotPermitted { .. } => Some("ask as the user who started klar, or as root (`sudo klar ...`)".into()),
            Self::Refused { failure, .. } | Self::Failed(failure) => failure.hint.clone(),
            Self::Broken { .. } => {
                Some("run `klar status`: an operation that had begun goes on, and a core that died is started again".into())
            }
            Self::Source(_) => None,
        }
    }
}

impl ClientError {
    /// The same in the words of a [`Failure`], with all that is known.
    pub fn into_failure(self) -> Failure {
        let hint = self.hint();
        match self {
            Self::Refused { failure, .. } | Self::Failed(failure) => *failure,
            other => Failure { hint, ..Failure::new(other.to_string()) },
        }
    }
}

/// The archive on its way: pieces in order, or why it cannot be read any further.
pub type Archive = mpsc::Receiver<io::Result<Bytes>>;

/// Asks the core of one host.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    /// Where telemetry answers.
    see: PathBuf,
}

impl Client {
    /// For the core whose state lies in `layout`.
    pub fn new(layout: &Layout) -> Self {
        Self { socket: layout.control_socket(), see: layout.see_socket() }
    }

    /// Everything at a glance.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all that follow.
    pub async fn status(&self) -> Result<HostStatus, ClientError> {
        self.get_json("/v1/status", "asking for the status").await
    }

    /// What the host can and cannot do.
    pub async fn doctor(&self) -> Result<Vec<Finding>, ClientError> {
        self.get_json("/v1/doctor", "asking for findings").await
    }

    /// The certificate of the local authority, in PEM.
    pub async fn authority(&self) -> Result<String, ClientError> {
        self.get_text("/v1/authority", "asking for the certificate").await
    }

    /// The settings in force of an app, as the core keeps them.
    pub async fn config(&self, key: &AppKey) -> Result<String, ClientError> {
        self.get_text(&format!("/v1/apps/{key}/config"), "asking for the settings").await
    }

    /// Asks telemetry, in the API of Prometheus: `what` is for instance `query`. Gives the data of the answer.
    pub async fn metrics(
        &self,
        what: &str,
        params: &[(&str, &str)],
    ) -> Result<serde_json::Value, ClientError> {
        let mut said = self.ask_see(&format!("/api/v1/{what}?{}", query::form(params))).await?;
        Ok(said["data"].take())
    }

    /// A page or a picture of telemetry, such as `/dashboards/`: its status, and what it says.
    pub async fn page(&self, target: &str) -> Result<(StatusCode, Bytes), ClientError> {
        const DURING: &str = "asking telemetry for a page";
        let request = request(Method::GET, target, None, empty());
        let (status, answer) =
            self.exchange(&self.see, request, DURING).await.map(|said| (said.0, said.1))?;
        Ok((status, answer.bytes(DURING).await?))
    }

    /// All metrics as they are now, as OpenMetrics.
    pub async fn exposition(&self) -> Result<String, ClientError> {
        const DURING: &str = "asking telemetry for its metrics";
        let mut request = request(Method::GET, "/metrics", None, empty());
        let accepts = header::HeaderValue::from_static("application/openmetrics-text; version=1.0.0");
        request.headers_mut().insert(header::ACCEPT, accepts);
        let (_, answer) = self.exchange(&self.see, request, DURING).await?;
        let bytes = answer.bytes(DURING).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn ask_see(&self, target: &str) -> Result<serde_json::Value, ClientError> {
        const DURING: &str = "asking telemetry";
        let request = request(Method::GET, target, None, empty());
        let answer = self.exchange(&self.see, request, DURING).await?;
        let status = answer.0;
        let said: serde_json::Value =
            serde_json::from_slice(&answer.1.bytes(DURING).await?).map_err(|error| broken(DURING, error))?;
        if status.is_success() {
            return Ok(said);
        }
        let what = said["error"].as_str().unwrap_or("telemetry has no answer").to_owned();
        Err(ClientError::Refused { status, failure: Box::new(Failure::new(what)) })
    }

    /// Looks for rows that telemetry keeps: `what` is `requests`, `logs` or `trace`.
    pub async fn find(&self, what: &str, params: &[(&str, &str)]) -> Result<serde_json::Value, ClientError> {
        self.ask_see(&format!("/klar/v1/{what}?{}", query::form(params))).await
    }

    /// Sends an archive; gives the name that a deploy request needs.
    pub async fn upload(&self, archive: Archive) -> Result<String, ClientError> {
        let during = "sending the app's files";
        let body = Outgoing(archive).boxed_unsync();
        let request = request(Method::POST, "/v1/uploads", Some("application/x-tar"), body);
        let answer = self.send(request, during).await?;
        let uploaded: Uploaded = answer.json(during).await?;
        Ok(uploaded.upload)
    }

    /// Puts a release in place. `tell` hears each event, the last one included.
    pub async fn deploy(
        &self,
        key: &AppKey,
        wanted: &DeployRequest,
        tell: impl FnMut(&Event),
    ) -> Result<Receipt, ClientError> {
        self.operate(&format!("/v1/apps/{key}/deploy"), Some(wanted), "deploying", tell).await
    }

    /// Goes back to the release before.
    pub async fn rollback(&self, key: &AppKey, tell: impl FnMut(&Event)) -> Result<Receipt, ClientError> {
        self.operate(&format!("/v1/apps/{key}/rollback"), None::<&()>, "rolling back", tell).await
    }

    /// Replaces the instances of an app or of one service.
    pub async fn restart(
        &self,
        key: &AppKey,
        service: Option<ServiceName>,
        tell: impl FnMut(&Event),
    ) -> Result<Receipt, ClientError> {
        let wanted = Restart { service };
        self.operate(&format!("/v1/apps/{key}/restart"), Some(&wanted), "restarting", tell).await
    }

    /// Sets the number of instances.
    pub async fn scale(
        &self,
        key: &AppKey,
        service: ServiceName,
        instances: u32,
        tell: impl FnMut(&Event),
    ) -> Result<Receipt, ClientError> {
        let wanted = Scale { service, instances };
        self.operate(&format!("/v1/apps/{key}/scale"), Some(&wanted), "scaling", tell).await
    }

    /// Puts a restored copy in the place of a database.
    pub async fn take_over(
        &self,
        key: &AppKey,
        store: ServiceName,
        copy: String,
        tell: impl FnMut(&Event),
    ) -> Result<Receipt, ClientError> {
        let wanted = TakeOver { store, copy };
        self.operate(&format!("/v1/apps/{key}/take-over"), Some(&wanted), "restoring", tell).await
    }

    /// Renews the certificates of an app's names now.
    pub async fn renew(&self, key: &AppKey, tell: impl FnMut(&Event)) -> Result<Receipt, ClientError> {
        self.operate(&format!("/v1/apps/{key}/renew"), None::<&()>, "renewing certificates", tell).await
    }

    /// Stops an app; `purge` also removes all that it left.
    pub async fn down(
        &self,
        key: &AppKey,
        purge: bool,
        tell: impl FnMut(&Event),
    ) -> Result<Receipt, ClientError> {
        self.operate(&format!("/v1/apps/{key}/down"), Some(&Down { purge }), "stopping", tell).await
    }

    /// Has the cache of the edge forget answers of an app.
    pub async fn purge(&self, key: &AppKey, what: &Purge) -> Result<Purged, ClientError> {
        self.post_json(&format!("/v1/apps/{key}/purge"), what, "clearing the cache").await
    }

    /// What the firewall says of a request that it stopped.
    pub async fn replay(&self, key: &AppKey, wanted: &ReplayRequest) -> Result<ReplayedRequest, ClientError> {
        self.post_json(&format!("/v1/apps/{key}/waf/replay"), wanted, "judging a request again").await
    }

    /// What other rules of the firewall would do with requests that were let through.
    pub async fn try_rules(&self, key: &AppKey, wanted: &TryRequest) -> Result<Tried, ClientError> {
        self.post_json(&format!("/v1/apps/{key}/waf/try"), wanted, "trying rules").await
    }

    /// All counters of the edge.
    pub async fn edge_counts(&self) -> Result<Counts, ClientError> {
        self.get_json("/v1/edge", "asking the edge").await
    }

    /// What the edge would do with a request.
    pub async fn edge_explain(&self, wanted: &Wanted) -> Result<Explained, ClientError> {
        self.post_json("/v1/edge/explain", wanted, "asking the edge").await
    }

    /// Has the core make room for the program that lies ready in the state folder.
    pub async fn upgrade(&self, wanted: &UpgradeRequest) -> Result<Upgrade, ClientError> {
        self.post_json("/v1/upgrade", wanted, "asking for the upgrade").await
    }

    /// Stops every app, the edge and the core.
    pub async fn stop(&self, tell: impl FnMut(&Event)) -> Result<Receipt, ClientError> {
        self.operate("/v1/stop", None::<&()>, "stopping", tell).await
    }

    /// Output of an app, line by line, until there is no more or `tell` says `false`.
    pub async fn logs(
        &self,
        key: &AppKey,
        wanted: &LogQuery,
        mut tell: impl FnMut(LogLine) -> bool,
    ) -> Result<(), ClientError> {
        let during = "reading logs";
        let path = format!("/v1/apps/{key}/logs?{}", query::of_logs(wanted));
        let answer = self.send(request(Method::GET, &path, None, empty()), during).await?;
        let mut lines = answer.lines(during);
        while let Some(line) = lines.next().await? {
            if !tell(line) {
                break;
            }
        }
        Ok(())
    }

    async fn operate<T: Serialize>(
        &self,
        path: &str,
        wanted: Option<&T>,
        during: &str,
        mut tell: impl FnMut(&Event),
    ) -> Result<Receipt, ClientError> {
        let text = wanted.map(serde_json::to_vec).transpose();
        let text = text.map_err(|error| ClientError::Source(error.into()))?.unwrap_or_default();
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
        let answer = self.send(request(Method::POST, path, Some(Media::Json.name()), body), during).await?;
        let mut events = answer.lines(during);
        while let Some(event) = events.next::<Event>().await? {
            tell(&event);
            match event {
                Event::Done(receipt) => return Ok(*receipt),
                Event::Failed(failure) => return Err(ClientError::Failed(Box::new(failure))),
                _ => {}
            }
        }
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without saying how it went");
        Err(ClientError::Broken { during: during.into(), source })
    }

    async fn get_json<T: DeserializeOwned>(&self, path: &str, during: &str) -> Result<T, ClientError> {
        self.send(request(Method::GET, path, None, empty()), during).await?.json(during).await
    }

    /// Sends a value and takes one.
    async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        value: &impl Serialize,
        during: &str,
    ) -> Result<T, ClientError> {
        let text = serde_json::to_vec(value).map_err(|error| ClientError::Source(error.into()))?;
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
        let request = request(Method::POST, path, Some(Media::Json.name()), body);
        self.send(request, during).await?.json(during).await
    }

    async fn get_text(&self, path: &str, during: &str) -> Result<String, ClientError> {
        let bytes = self.send(request(Method::GET, path, None, empty()), during).await?.bytes(during).await?;
        String::from_utf8(bytes.into()).map_err(|error| broken(during, error))
    }

    async fn connect(&self, socket: &Path) -> Result<UnixStream, ClientError> {
        UnixStream::connect(socket).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                ClientError::NotRunning { socket: socket.to_owned() }
            }
            io::ErrorKind::PermissionDenied => ClientError::NotPermitted {
                what: format!("you may not talk to this klar ({})", socket.display()),
            },
            _ => broken("connecting", error),
        })
    }

    /// Sends a request, whatever comes of it.
    async fn exchange(
        &self,
        socket: &Path,
        request: Request<Sent>,
        during: &str,
    ) -> Result<(StatusCode, Answer), ClientError> {
        let stream = self.connect(socket).await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| broken(during, error))?;
        let connection = Connection(tokio::spawn(async move {
            // What goes wrong here is told to whoever waits for the answer.
            let _ = connection.await;
        }));
        let response = sender.send_request(request).await.map_err(|error| not_sent(during, error))?;
        let (head, body) = response.into_parts();
        Ok((head.status, Answer { body, connection }))
    }

    /// Sends a request; an answer that is no success becomes an error.
    async fn send(&self, request: Request<Sent>, during: &str) -> Result<Answer, ClientError> {
        let (status, answer) = self.exchange(&self.socket, request, during).await?;
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.bytes(during).await?;
        let failure: Failure =
            serde_json::from_slice(&text).unwrap_or_else(|_| Failure::new(format!("klar answered {status}")));
        Err(match status {
            StatusCode::FORBIDDEN => ClientError::NotPermitted { what: failure.what },
            status => ClientError::Refused { status, failure: Box::new(failure) },
        })
    }
}

type Sent = UnsyncBoxBody<Bytes, io::Error>;

fn empty() -> Sent {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn request(method: Method, path: &str, media: Option<&'static str>, body: Sent) -> Request<Sent> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    // A path that is made of names is always a path; the root would be answered with the list of routes.
    *request.uri_mut() = path.parse().unwrap_or_default();
    request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("klar"));
    if let Some(media) = media {
        request.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media));
    }
    request
}

fn broken(during: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
    ClientError::Broken { during: during.into(), source: io::Error::other(error) }
}

/// A request that broke off because its archive could not be read is not the connection's fault.
fn not_sent(during: &str, error: hyper::Error) -> ClientError {
    if error.is_user() {
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
        if let Some(cause) = cause {
            return ClientError::Source(io::Error::new(cause.kind(), cause.to_string()));
        }
    }
    broken(during, error)
}

/// The archive as a body. An error ends the connection, so that the other side sees half an upload and drops it.
struct Outgoing(Archive);

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// Ends with whoever uses it.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Answer {
    body: Incoming,
    #[allow(dead_code)] // held for as long as the body is read
    connection: Connection,
}

impl Answer {
    async fn bytes(self, during: &str) -> Result<Bytes, ClientError> {
        const ANSWER_MAX: usize = 64 << 20;
        let read = Limited::new(self.body, ANSWER_MAX).collect().await;
        read.map(|body| body.to_bytes()).map_err(|error| broken(during, error))
    }

    async fn json<T: DeserializeOwned>(self, during: &str) -> Result<T, ClientError> {
        let bytes = self.bytes(during).await?;
        serde_json::from_slice(&bytes).map_err(|error| not_understood(during, &error))
    }

    fn lines(self, during: &str) -> Lines {
        Lines { answer: self, during: during.into(), waiting: Vec::new(), read: 0 }
    }
}

fn not_understood(during: &str, error: &serde_json::Error) -> ClientError {
    let what = format!("the answer is not what was expected ({error}); is the core an older klar?");
    broken(during, what)
}

/// One JSON object a line.
struct Lines {
    answer: Answer,
    during: String,
    /// What has come; what lies before `read` has been given out.
    waiting: Vec<u8>,
    read: usize,
}

impl Lines {
    async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        const LINE_MAX: usize = 16 << 20;
        let mut searched = self.read;
        loop {
            if let Some(at) = self.waiting[searched..].iter().position(|byte| *byte == b'\n') {
                let line = &self.waiting[self.read..searched + at];
                let value =
                    serde_json::from_slice(line).map_err(|error| not_understood(&self.during, &error))?;
                self.read = searched + at + 1;
                return Ok(Some(value));
            }
            self.waiting.drain(..self.read);
            self.read = 0;
            searched = self.waiting.len();
            if searched > LINE_MAX {
                return Err(broken(&self.during, "a line has no end"));
            }
            match self.answer.body.frame().await {
                None if self.waiting.is_empty() => return Ok(None),
                None => return Err(broken(&self.during, "it broke off in the middle of a line")),
                Some(Err(error)) => return Err(broken(&self.during, error)),
                Some(Ok(frame)) => self.waiting.extend(frame.into_data().unwrap_or_default()),
            }
        }
    }
}
