//! Answering: who may ask, what was asked, and what the core says to it.

use std::cell::Cell;
use std::convert::Infallible;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use klar_base::look::Wanted;
use klar_base::upstreams::Purge;
use klar_base::{AppKey, ServiceName};
use klar_run::control::{Control, DeployRequest, Events, ReplayRequest, TryRequest, UpgradeRequest};
use klar_run::report::Failure;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::body::{self, Answer};
use crate::route::{self, Action, Found, Media};
use crate::{openapi, query, upload};

/// Who may ask, and how much.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The users who may ask, by number. Anybody else gets 403.
    pub allowed: Vec<u32>,
    /// The largest archive, in bytes.
    pub upload_bytes: u64,
    /// The largest JSON body, in bytes.
    pub json_bytes: usize,
}

impl Settings {
    /// Archives up to 4 GiB and JSON up to 4 MiB, for the users in `allowed`.
    pub fn new(allowed: impl IntoIterator<Item = u32>) -> Self {
        Self { allowed: allowed.into_iter().collect(), upload_bytes: 4 << 30, json_bytes: 4 << 20 }
    }
}

/// `POST .../restart`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Only this service.
    #[serde(default)]
    pub service: Option<ServiceName>,
}

/// `POST .../scale`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Which service.
    pub service: ServiceName,
    /// How many instances it should have.
    pub instances: u32,
}

/// `POST .../take-over`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeOver {
    /// Which database.
    pub store: ServiceName,
    /// The name of the copy, as what keeps the database has given it.
    pub copy: String,
}

/// `POST .../down`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Down {
    /// Also remove its releases, logs, folders and databases.
    #[serde(default)]
    pub purge: bool,
}

/// The answer to `POST .../purge`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// How many answers the cache had of what it was to forget.
    pub dropped: u64,
}

/// The answer to an upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Uploaded {
    /// What a deploy request names it by.
    pub upload: String,
}

/// The most connections at once, and how many of them may be a stranger's.
const CONNECTIONS_MAX: usize = 256;
const STRANGERS_MAX: usize = 8;
/// A rule set that is tried comes with the request.
const RULES_MAX: usize = 40 << 20;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the API for as long as it is polled, within a `LocalSet`.
///
/// Users other than the one of this process can reach the socket only if `settings` allow any, and what they send
/// is read only if they are among them.
pub async fn serve<C: Control + 'static>(control: Rc<C>, listener: UnixListener, settings: Settings) {
    open_to_others(&listener, &settings);
    let settings = Rc::new(settings);
    let strangers = Rc::new(Cell::new(0));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("klar core: taking a control connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let peer = stream.peer_cred().map(|peer| peer.uid()).ok();
        if peer.is_some_and(|uid| settings.allowed.contains(&uid)) {
            connections.spawn_local(known(control.clone(), stream, settings.clone()));
        } else if strangers.get() < STRANGERS_MAX {
            strangers.set(strangers.get() + 1);
            let strangers = strangers.clone();
            connections.spawn_local(async move {
                stranger(stream, peer).await;
                strangers.set(strangers.get() - 1);
            });
        }
    }
}

/// Where somebody else than root and the owner of the socket may ask, the socket lets everybody in, and the door is
/// here.
fn open_to_others(listener: &UnixListener, settings: &Settings) {
    let address = listener.local_addr().ok();
    let Some(path) = address.as_ref().and_then(|address| address.as_pathname()) else { return };
    let owner = std::fs::metadata(path).map(|socket| socket.uid()).unwrap_or_default();
    if settings.allowed.iter().all(|uid| [0, owner].contains(uid)) {
        return;
    }
    if let Err(error) = std::fs::set_permissions(path, Permissions::from_mode(0o666)) {
        eprintln!("klar core: opening {} to others: {error}", path.display());
    }
}

async fn known<C: Control + 'static>(control: Rc<C>, stream: UnixStream, settings: Rc<Settings>) {
    let service = service_fn(move |request| {
        let (control, settings) = (control.clone(), settings.clone());
        async move { Ok::<_, Infallible>(answer(control, &settings, request).await) }
    });
    // An error here means that the other side went away or spoke no HTTP; there is nobody to tell.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn stranger(stream: UnixStream, uid: Option<u32>) {
    let who = uid.map_or_else(|| "an unknown user".into(), |uid| format!("user {uid}"));
    eprintln!("klar core: refused a control connection of {who}");
    let service = service_fn(move |_| {
        let refusal = Failure::new(format!("{who} may not talk to this klar"))
            .hint("ask as the user who started klar, or as root");
        let mut answer = body::failure(StatusCode::FORBIDDEN, &refusal);
        answer.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        async move { Ok::<_, Infallible>(answer) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// What a request gets instead of what it wanted.
type Refusal = (StatusCode, Failure);

fn refusal(status: StatusCode, what: impl Into<String>) -> Refusal {
    (status, Failure::new(what))
}

async fn answer<C: Control + 'static>(
    control: Rc<C>,
    settings: &Settings,
    request: Request<Incoming>,
) -> Answer {
    let path = request.uri().path();
    let answered = match route::find(request.method(), path) {
        Found::Route(route, None) => for_host(control, settings, route.action, request).await,
        Found::Route(route, Some(key)) => for_app(control, settings, route.action, key, request).await,
        Found::BadKey(error) => Err(refusal(StatusCode::BAD_REQUEST, error.to_string())),
        Found::Nothing => Err(no_route(path)),
        Found::OtherMethod(route) => {
            let what = format!("{path} does not take {}, only {}", request.method(), route.method);
            let mut answer = body::failure(StatusCode::METHOD_NOT_ALLOWED, &Failure::new(what));
            let allowed = header::HeaderValue::from_str(route.method.as_str());
            answer.headers_mut().extend(allowed.map(|method| (header::ALLOW, method)));
            Ok(answer)
        }
    };
    answered.unwrap_or_else(|(status, failure)| body::failure(status, &failure))
}

/// The routes that name no app.
async fn for_host<C: Control + 'static>(
    control: Rc<C>,
    settings: &Settings,
    action: Action,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    Ok(match action {
        Action::Status => body::json(StatusCode::OK, &control.status().await),
        Action::Doctor => body::json(StatusCode::OK, &control.doctor().await),
        Action::EdgeCounts => {
            let counts = control.edge_counts().await;
            body::json(StatusCode::OK, &counts.map_err(|failure| (StatusCode::CONFLICT, failure))?)
        }
        Action::EdgeExplain => {
            let wanted: Wanted = read_json(request, settings.json_bytes).await?;
            let explained = control.edge_explain(wanted).await;
            body::json(StatusCode::OK, &explained.map_err(|failure| (StatusCode::CONFLICT, failure))?)
        }
        Action::OpenApi => body::json(StatusCode::OK, &openapi::document()),
        Action::Authority => {
            let pem = control.authority().await;
            let pem = pem.map_err(|failure| (StatusCode::INTERNAL_SERVER_ERROR, failure))?;
            body::full(StatusCode::OK, Media::Pem.name(), pem)
        }
        Action::Upload => {
            let id = upload::receive(control.uploads(), request.into_body(), settings.upload_bytes).await?;
            body::json(StatusCode::CREATED, &Uploaded { upload: id })
        }
        Action::Upgrade => {
            let wanted: UpgradeRequest = read_json(request, settings.json_bytes).await?;
            let begun = control.upgrade(wanted).await;
            body::json(StatusCode::OK, &begun.map_err(|failure| (StatusCode::CONFLICT, failure))?)
        }
        Action::Stop => operate(async move { control.stop().await }).await?,
        _ => return Err(no_route(request.uri().path())),
    })
}

/// The routes that name an app.
async fn for_app<C: Control + 'static>(
    control: Rc<C>,
    settings: &Settings,
    action: Action,
    key: AppKey,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let limit = settings.json_bytes;
    match action {
        Action::Deploy => {
            let wanted: DeployRequest = read_json(request, limit).await?;
            if !upload::is_id(&wanted.upload) || !control.uploads().join(&wanted.upload).is_file() {
                return Err(refusal(
                    StatusCode::NOT_FOUND,
                    format!("there is no upload `{}`", wanted.upload),
                ));
            }
            operate(async move { control.deploy(key, wanted).await }).await
        }
        Action::Rollback => operate(async move { control.rollback(key).await }).await,
        Action::Restart => {
            let wanted: Restart = read_json_or_default(request, limit).await?;
            operate(async move { control.restart(key, wanted.service).await }).await
        }
        Action::Scale => {
            let wanted: Scale = read_json(request, limit).await?;
            operate(async move { control.scale(key, wanted.service, wanted.instances).await }).await
        }
        Action::TakeOver => {
            let wanted: TakeOver = read_json(request, limit).await?;
            operate(async move { control.take_over(key, wanted.store, wanted.copy).await }).await
        }
        Action::Renew => operate(async move { control.renew(key).await }).await,
        Action::Down => {
            let wanted: Down = read_json_or_default(request, limit).await?;
            operate(async move { control.down(key, wanted.purge).await }).await
        }
        Action::Purge => {
            let wanted: Purge = read_json(request, limit).await?;
            let dropped = control.purge(key, wanted).await;
            let dropped = dropped.map_err(|failure| (StatusCode::CONFLICT, failure))?;
            Ok(body::json(StatusCode::OK, &Purged { dropped }))
        }
        Action::Replay => {
            let wanted: ReplayRequest = read_json(request, limit).await?;
            let replayed = control.replay(key, wanted).await;
            Ok(body::json(StatusCode::OK, &replayed.map_err(|failure| (StatusCode::CONFLICT, failure))?))
        }
        Action::Try => {
            let wanted: TryRequest = read_json(request, limit.max(RULES_MAX)).await?;
            let tried = control.try_rules(key, wanted).await;
            Ok(body::json(StatusCode::OK, &tried.map_err(|failure| (StatusCode::CONFLICT, failure))?))
        }
        Action::Logs => {
            let wanted = query::logs(request.uri().query().unwrap_or_default());
            let wanted = wanted.map_err(|what| refusal(StatusCode::BAD_REQUEST, what))?;
            let lines = control.logs(key, wanted).await;
            lines.map(body::lines).map_err(|failure| (StatusCode::NOT_FOUND, failure))
        }
        Action::Config => {
            let path = control.loaded(key).await.map_err(|failure| (StatusCode::NOT_FOUND, failure))?;
            let text = std::fs::read(&path).map_err(|error| {
                let what = format!("{} could not be read: {error}", path.display());
                refusal(StatusCode::INTERNAL_SERVER_ERROR, what)
            })?;
            Ok(body::full(StatusCode::OK, Media::Text.name(), text))
        }
        _ => Err(no_route(request.uri().path())),
    }
}

/// Starts an operation in a task of its own: hyper drops the answer of somebody who went away, and an operation
/// that has been asked for must not be dropped with it.
async fn operate(start: impl Future<Output = Events> + 'static) -> Result<Answer, Refusal> {
    let events = tokio::task::spawn_local(start).await;
    events.map(body::lines).map_err(|error| {
        let what = format!("klar made a mistake and dropped the request: {error}");
        refusal(StatusCode::INTERNAL_SERVER_ERROR, what)
    })
}

async fn read_body(request: Request<Incoming>, limit: usize) -> Result<Bytes, Refusal> {
    let read = tokio::time::timeout(HEAD_TIMEOUT, Limited::new(request.into_body(), limit).collect()).await;
    match read {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes")))
        }
        Ok(Err(error)) => Err(refusal(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"))),
        Err(_) => Err(refusal(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

async fn read_json<T: DeserializeOwned>(request: Request<Incoming>, limit: usize) -> Result<T, Refusal> {
    parse(&read_body(request, limit).await?)
}

async fn read_json_or_default<T: DeserializeOwned + Default>(
    request: Request<Incoming>,
    limit: usize,
) -> Result<T, Refusal> {
    let body = read_body(request, limit).await?;
    if body.is_empty() { Ok(T::default()) } else { parse(&body) }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // The position says where; the content, which may hold secrets, is not repeated.
    serde_json::from_slice(body).map_err(|error| {
        let kind = if error.is_data() { "not what this route takes" } else { "not JSON" };
        let place = format!("line {}, column {}", error.line(), error.column());
        let failure = Failure::new(format!("the body is {kind} ({place})"));
        (StatusCode::BAD_REQUEST, failure.hint("see `GET /v1/openapi.json` for what it takes"))
    })
}

fn no_route(path: &str) -> Refusal {
    let routes: Vec<String> = route::ROUTES.iter().map(ToString::to_string).collect();
    let failure = Failure::new(format!("there is nothing at {path}"));
    (StatusCode::NOT_FOUND, failure.hint(format!("the routes are: {}", routes.join(", "))))
}
