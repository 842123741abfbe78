//! A request on its way to an instance, and to another one when that is safe.
//!
//! There is one deadline for all attempts, and at most [`ATTEMPTS`] of them. What never reached an instance may
//! always be sent again. What may have reached it is sent again only when the method says that twice is as good as
//! once (RFC 9110 section 9.2.2), or when the app has promised it: a `POST` or `PATCH` with an `Idempotency-Key` on a
//! route that is declared idempotent. The next attempt goes at once to another instance; when there is none, to the
//! same one after a pause that doubles.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use hyper::upgrade::OnUpgrade;
use klar_base::ServiceName;
use klar_base::signal::DecidedBy;
use klar_base::upstreams::AppProtocol;
use tokio::time::{Instant, timeout_at};

use crate::answer::{Answer, AppBody, Source};
use crate::asking::{Asking, Told};
use crate::client;
use crate::compress::compress;
use crate::firewall::{self, Inspection, Look};
use crate::guard::{Clock, Heads};
use crate::headers;
use crate::http1::body::VisitorBody;
use crate::lane::{Handed, Started};
use crate::page::Reason;
use crate::pool::{self, Connection, FromApp, Pool};
use crate::story::Story;
use crate::table::{RouteTable, ServiceTable, Shared, SiteTable, Table};
use crate::tunnel;
use crate::upstream::{self, Lease, UpstreamState, Wish};

/// A request is sent so often at most.
pub const ATTEMPTS: u32 = 3;
/// Bodies up to this size, in bytes, are held in memory: that of a request to send it again, that of an answer to
/// be sure of it before the visitor sees its first byte.
pub const HELD_MAX: usize = 64 * 1024;
/// The beginning of a text that comes without a length is waited for no longer.
const SOON: Duration = Duration::from_millis(500);
/// An instance on this host accepts in microseconds or not at all.
const CONNECT: Duration = Duration::from_secs(1);
/// The first pause before the same instance is tried again; it doubles.
const PAUSE: Duration = Duration::from_millis(100);
/// The cookie that remembers the instance of a sticky service.
pub const STICKY: &str = "__klar_instance";

/// What forwarding needs to know of where it runs.
#[derive(Debug, Clone)]
pub struct Road {
    pub shared: Arc<Shared>,
    pub pool: Rc<Pool>,
    /// Where the request was sent to.
    pub site: Arc<SiteTable>,
    /// The visitor speaks HTTPS, wherever TLS ended.
    pub https: bool,
    /// It asks for another protocol.
    pub upgrade: bool,
    /// See [`Visit::codec`](crate::handle::Visit::codec).
    pub codec: bool,
    /// Of a visitor whose connection carries other requests beside this one (HTTP/2).
    pub shared_connection: Option<Heads>,
}

/// Why there is no answer from the app.
#[derive(Debug)]
pub struct Failure {
    pub reason: Reason,
    pub decided_by: DecidedBy,
    /// For the record.
    pub error: String,
}

impl Failure {
    fn failed(status: StatusCode, detail: &'static str, error: impl Into<String>) -> Self {
        Self { reason: Reason::new(status, detail), decided_by: DecidedBy::Failed, error: error.into() }
    }

    /// The edge says no.
    pub fn refused(status: StatusCode, detail: &'static str) -> Self {
        Self { reason: Reason::new(status, detail), decided_by: DecidedBy::Refused, error: detail.into() }
    }
}

/// Gets the answer for a request from an instance of `service`. A request without a body may come from the edge itself.
/// `visitors_side`: of a connection that is to change its protocol.
///
/// # Errors
/// What to say instead.
pub async fn forward(
    road: &Road,
    route: &RouteTable,
    service: &ServiceName,
    parts: &Parts,
    incoming: Option<VisitorBody>,
    mut visitors_side: Option<OnUpgrade>,
    story: &mut Story,
) -> Result<Answer, Failure> {
    // An attempt may have begun already.
    let mut started = parts.extensions.get::<Handed>().and_then(Handed::take);
    let begun = started.as_ref().map_or_else(Instant::now, |started| started.sent.into());
    let deadline = begun + route.timeout;
    let repeatable = !road.upgrade && is_repeatable(parts, route.idempotent);
    let mut fault = None;
    // The room is held for as long as the body is.
    let (mut body, _room) = match incoming.filter(|incoming| !incoming.is_end_stream()) {
        None => (Outgoing::Whole(Bytes::new()), None),
        Some(incoming) => {
            // Calls of gRPC may be silent for as long as both sides like.
            let is_call = headers::is_grpc(&parts.headers)
                && road.site.services.get(service).is_some_and(|service| service.speaks(AppProtocol::H2c));
            // The guard of HTTP/1.1 has this clock itself.
            let stall = (road.shared_connection.is_some() && !is_call)
                .then(|| Stall { time: road.site.limits.stall_timeout, clock: Clock::default() });
            let read = story.read.get_or_insert_default().clone();
            let fault = &*fault.insert(Arc::new(AtomicU8::new(0)));
            let body = Metered { incoming, left: route.body_bytes, read, fault: fault.clone(), stall };
            let looked_at = story.inspection.as_ref().and_then(Inspection::awaits);
            let is_long = body.size_hint().upper().is_none_or(|upper| upper > HELD_MAX as u64);
            let needs_room = is_long && looked_at == Some(Look::Whole);
            let room = if needs_room { firewall::Room::take() } else { None };
            if needs_room && room.is_none() {
                let detail = "too many long bodies are being inspected";
                return Err(Failure::refused(StatusCode::SERVICE_UNAVAILABLE, detail));
            }
            match Box::pin(timeout_at(deadline, hold(body, repeatable, looked_at))).await {
                Ok(Ok(body)) => (body, room),
                Ok(Err(())) => return Err(visitors_fault(fault).unwrap_or_else(late_body)),
                Err(_) => return Err(late_body()),
            }
        }
    };
    if let Some(inspection) = &mut story.inspection
        && let Some(look) = inspection.awaits()
    {
        inspect(inspection, look, &body, headers::media_type(&parts.headers))?;
    }
    let tag = headers::cookie(&parts.headers, STICKY).map(str::to_owned);
    let (client, request_id) = (story.record.client, story.record.request_id);
    let told = Told { client, https: road.https, request_id: request_id.as_str(), upgrade: road.upgrade };
    let asking = Asking::new(parts, told);

    let mut wish = Wish { tried: Vec::new(), tag: tag.clone() };
    let find = |table: &Table| table.service(&road.site.app, service);
    let end = |service: &ServiceTable| deadline.min(begun + service.hold);
    let mut pause = PAUSE;
    loop {
        let (mut lease, begun) = match started.take() {
            Some(Started { lease, begun, .. }) => (lease, Some(begun)),
            None => (upstream::acquire(&road.shared, find, &wish, end).await.ok_or_else(nobody)?, None),
        };
        if wish.tried.contains(&lease.serial) {
            drop(lease);
            tokio::time::sleep(pause / 2 + pause.mul_f64(fastrand::f64() / 2.0)).await;
            pause *= 2;
            lease = upstream::acquire(&road.shared, find, &wish, end).await.ok_or_else(nobody)?;
        }
        story.record.attempts += 1;
        story.record.upstream = Some(Arc::clone(&lease));
        let upstream = Arc::clone(&lease);
        let attempt = async {
            let response = match begun {
                Some(begun) => Box::pin(go_on(begun, &parts.method)).await?,
                None => send(road, &asking, &mut body, &upstream, repeatable).await?,
            };
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                let (head, app) = response.into_parts();
                return match (visitors_side.take(), app.into_switched()) {
                    (Some(visitor), Some(app)) => {
                        let answering = road.shared_connection.as_ref().map(Heads::answering);
                        Ok(tunnel::open(visitor, head, app, lease, answering))
                    }
                    _ => Err(Miss::Sent("the app changed protocols unasked".into())),
                };
            }
            settle(road, response, lease, repeatable && parts.method != Method::HEAD).await
        };
        let inspection = &mut story.inspection;
        let attempt = async {
            let answer = attempt.await?;
            match inspection {
                Some(inspection) => {
                    let judged = inspection.app_answer(&parts.method, answer).await;
                    judged.map_err(|error| Miss::Sent(describe(&error)))
                }
                None => Ok(Ok(answer)),
            }
        };
        let mut alarm = road.pool.alarm();
        let outcome = alarm.before(deadline.into(), attempt).await;
        road.pool.keep_alarm(alarm);
        let miss = match outcome {
            Some(Ok(Err(leak))) => {
                upstream.note_well(&road.shared);
                return Err(leak);
            }
            Some(Ok(Ok(mut answer))) => {
                upstream.note_well(&road.shared);
                if answer.status().is_server_error() {
                    upstream.count_failure();
                }
                let is_sticky = road.site.services.get(service).is_some_and(|service| service.sticky);
                if is_sticky && tag.as_ref() != Some(&upstream.tag) {
                    stick(&mut answer, &upstream, road.https);
                }
                return Ok(compress(answer, &parts.method, &parts.headers));
            }
            Some(Err(miss)) => miss,
            None => Miss::Late,
        };
        upstream.count_failure();
        if let Some(failure) = fault.as_deref().and_then(visitors_fault) {
            return Err(failure);
        }
        upstream.note_miss(matches!(miss, Miss::Unsent { gone: true, .. }), &road.shared);
        wish.tried.push(upstream.serial);
        let may_again = match &miss {
            Miss::Unsent { .. } => true,
            Miss::Sent(_) => repeatable,
            Miss::Late => false,
        };
        if !may_again || !body.is_whole() || story.record.attempts >= ATTEMPTS {
            return Err(miss.into_failure(&upstream.id, body.is_whole(), route.timeout));
        }
    }
}

/// Whether twice is as good as once.
pub fn is_repeatable(parts: &Parts, promised: bool) -> bool {
    match parts.method {
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE => true,
        Method::POST | Method::PATCH => promised && parts.headers.contains_key(headers::IDEMPOTENCY_KEY),
        _ => false,
    }
}

/// Why an attempt came to nothing.
#[derive(Debug)]
enum Miss {
    /// The instance never saw the request. `gone`: nobody listens there.
    Unsent { gone: bool, error: String },
    /// It may have seen it.
    Sent(String),
    /// The time is up.
    Late,
}

impl Miss {
    fn into_failure(self, id: &klar_base::InstanceId, whole: bool, timeout: Duration) -> Failure {
        match self {
            Self::Unsent { error, .. } => Failure::failed(
                StatusCode::SERVICE_UNAVAILABLE,
                "no instance of the app could be reached",
                format!("{id} could not be reached: {error}"),
            ),
            Self::Sent(error) => Failure::failed(
                StatusCode::BAD_GATEWAY,
                "the app broke off, and the request is not one that can safely be repeated",
                format!("{id} broke off: {error}"),
            ),
            Self::Late if !whole => late_body(),
            Self::Late => Failure::failed(
                StatusCode::GATEWAY_TIMEOUT,
                "the app did not answer in time",
                format!("{id} did not answer within {timeout:?}"),
            ),
        }
    }
}

fn nobody() -> Failure {
    Failure::failed(
        StatusCode::SERVICE_UNAVAILABLE,
        "no instance of the app is ready",
        "no instance is ready",
    )
}

fn late_body() -> Failure {
    Failure::refused(StatusCode::REQUEST_TIMEOUT, "the body of the request did not come in time")
}

/// What the visitor did wrong with the body, as [`Metered`] noted it.
fn visitors_fault(fault: &AtomicU8) -> Option<Failure> {
    match fault.load(Ordering::Relaxed) {
        0 => None,
        TOO_LARGE => Some(Failure::refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body of the request is larger than this route takes",
        )),
        STALLED => Some(late_body()),
        _ => Some(Failure::refused(
            StatusCode::BAD_REQUEST,
            "the body of the request broke off or is malformed",
        )),
    }
}

/// Sends the request over an idle connection or a new one, and waits for the head of the answer.
async fn send(
    road: &Road,
    asking: &Asking<'_>,
    body: &mut Outgoing,
    upstream: &UpstreamState,
    repeatable: bool,
) -> Result<Response<FromApp>, Miss> {
    let idle = if repeatable { pool::IDLE } else { pool::IDLE_UNREPEATABLE };
    loop {
        let (connection, fresh) = match road.pool.take(upstream, idle) {
            Some(connection) => (connection, false),
            None => {
                let connection = Box::pin(connect(upstream)).await?;
                road.pool.share(upstream, &connection);
                (connection, true)
            }
        };
        match connection.exchange(asking, body.take()).await {
            Ok(response) => return Ok(response),
            Err(client::Miss::Sent(error)) => return Err(Miss::Sent(describe(&error))),
            Err(client::Miss::Unsent(error, unsent)) => {
                body.put_back(unsent);
                if fresh {
                    return Err(Miss::Unsent { gone: false, error: describe(&error) });
                }
                // The instance had closed a connection that idled; the next one is another story.
            }
        }
    }
}

/// Waits for the head of the answer to a request that was sent already.
async fn go_on(begun: client::Begun, method: &Method) -> Result<Response<FromApp>, Miss> {
    match begun.go_on(method).await {
        Ok(response) => Ok(response.map(FromApp::Http1)),
        Err(client::Miss::Sent(error) | client::Miss::Unsent(error, _)) => Err(Miss::Sent(describe(&error))),
    }
}

async fn connect(upstream: &UpstreamState) -> Result<Connection, Miss> {
    match tokio::time::timeout(CONNECT, pool::connect(upstream)).await {
        Ok(Ok((connection, driver))) => {
            if let Some(driver) = driver {
                tokio::task::spawn_local(driver);
            }
            Ok(connection)
        }
        Ok(Err(error)) => Err(Miss::Unsent {
            gone: error.kind() == io::ErrorKind::ConnectionRefused,
            error: error.to_string(),
        }),
        Err(_) => Err(Miss::Unsent { gone: false, error: format!("no connection within {CONNECT:?}") }),
    }
}

/// An error with what is behind it, on one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// Makes an answer of the app's response. A short one to a request that can be repeated is read to its end first.
async fn settle(road: &Road, response: Response<FromApp>, lease: Lease, check: bool) -> Result<Answer, Miss> {
    let (mut parts, incoming) = response.into_parts();
    let length = incoming.length();
    let is_stream = headers::is_event_stream(&parts.headers) || headers::is_grpc(&parts.headers);
    headers::from_app(&mut parts.headers);
    let stall = (!is_stream).then_some(road.site.limits.stall_timeout);
    // What fits into memory is sent without its trailers.
    let check = check && matches!(incoming, FromApp::Http1(_));
    let mut body = AppBody::new(incoming, lease, road.pool.clone(), stall);
    let source = if check && length.is_some_and(|length| length <= HELD_MAX as u64) {
        let whole = body.collect(HELD_MAX).await;
        Source::Full(whole.map_err(|error| Miss::Sent(describe(&error)))?)
    } else {
        Source::App(Box::new(body))
    };
    Ok(Response::from_parts(parts, source))
}

/// Remembers with the visitor which instance answered, for a sticky service.
fn stick(answer: &mut Answer, upstream: &UpstreamState, https: bool) {
    // A browser that speaks HTTP throws a secure cookie away.
    let secure = if https { " Secure;" } else { "" };
    let cookie = format!("{STICKY}={}; Path=/; HttpOnly;{secure} SameSite=Lax", upstream.tag);
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

/// Has the firewall judge a body as far as it is here.
fn inspect(inspection: &mut Inspection, look: Look, body: &Outgoing, kind: &[u8]) -> Result<(), Failure> {
    let (first, is_whole) = match body {
        Outgoing::Whole(bytes) => (bytes, true),
        Outgoing::Stream(Some(body)) => (&body.first, false),
        Outgoing::Stream(None) => return Ok(()),
    };
    let is_of_parts = kind.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"));
    if !is_whole && look == Look::Whole && !is_of_parts {
        if inspection.blocks() {
            return Err(Failure::refused(StatusCode::PAYLOAD_TOO_LARGE, firewall::TOO_LONG));
        }
        inspection.note_too_long();
    }
    inspection.body(first, is_whole).map_or(Ok(()), |blocked| Err(blocked.into()))
}

/// Reads what may have to be sent twice, or is inspected, or is so short that an instance should not have to wait for it.
async fn hold(mut body: Metered, repeatable: bool, looked_at: Option<Look>) -> Result<Outgoing, ()> {
    let length = body.incoming.size_hint().exact();
    let is_short = length.is_some_and(|length| length <= HELD_MAX as u64);
    let most = looked_at.map_or(HELD_MAX, Look::most);
    // Of a text that comes bit by bit, what has come soon.
    let is_stream = length.is_none() && !matches!(looked_at, None | Some(Look::Whole)) && !repeatable;
    let soon = tokio::time::Instant::now() + SOON;
    let mut held = BytesMut::new();
    if is_short || repeatable || looked_at.is_some() {
        while held.len() <= most {
            let frame = match is_stream {
                true => tokio::time::timeout_at(soon, body.frame()).await,
                false => Ok(body.frame().await),
            };
            match frame {
                Err(_) => break,
                Ok(None) => return Ok(Outgoing::Whole(held.freeze())),
                Ok(Some(frame)) => {
                    if let Ok(data) = frame.map_err(|_| ())?.into_data() {
                        held.extend_from_slice(&data);
                    }
                }
            }
            if is_stream && looked_at == Some(Look::IfText) && firewall::is_nothing_for_rules(&held) {
                break;
            }
        }
    }
    Ok(Outgoing::Stream(Some(ToApp { first: held.freeze(), rest: Some(body) })))
}

/// The body of a request between attempts.
#[derive(Debug)]
enum Outgoing {
    /// All of it is here, as often as it is wanted.
    Whole(Bytes),
    /// It comes as it is sent, so it can be sent once. `None`: it was.
    Stream(Option<ToApp>),
}

impl Outgoing {
    fn take(&mut self) -> ToApp {
        match self {
            Self::Whole(bytes) => ToApp::whole(bytes.clone()),
            Self::Stream(body) => body.take().unwrap_or_default(),
        }
    }

    /// It was not sent after all.
    fn put_back(&mut self, body: ToApp) {
        if let Self::Stream(slot) = self {
            *slot = Some(body);
        }
    }

    /// Whether it can be sent, from its first byte.
    fn is_whole(&self) -> bool {
        !matches!(self, Self::Stream(None))
    }
}

/// The body of a request as an instance gets it.
#[derive(Debug, Default)]
pub struct ToApp {
    first: Bytes,
    rest: Option<Metered>,
}

impl ToApp {
    /// A body that is here.
    pub fn whole(first: Bytes) -> Self {
        Self { first, rest: None }
    }

    /// All of it, if it is here; otherwise nothing, and itself.
    pub fn into_whole(self) -> (Bytes, Option<Self>) {
        if self.rest.is_none() { (self.first, None) } else { (Bytes::new(), Some(self)) }
    }
}

impl Body for ToApp {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.first)))));
        }
        this.rest.as_mut().map_or(Poll::Ready(None), |rest| Pin::new(rest).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let first = self.first.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + first);
        }
        hint.set_lower(hint.lower() + first);
        hint
    }
}

const TOO_LARGE: u8 = 1;
const STALLED: u8 = 2;
const BROKEN: u8 = 3;

/// The body of a visitor's request, counted and held to its limit.
#[derive(Debug)]
struct Metered {
    incoming: VisitorBody,
    left: u64,
    read: Arc<AtomicU64>,
    /// What the visitor did wrong: the error itself gets lost on its way through the connection to the app.
    fault: Arc<AtomicU8>,
    stall: Option<Stall>,
}

/// How long a body may make no progress while it is waited for.
#[derive(Debug)]
struct Stall {
    time: Duration,
    clock: Clock,
}

impl Body for Metered {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let failed = |this: &Self, fault, error: io::Error| {
            this.fault.store(fault, Ordering::Relaxed);
            Poll::Ready(Some(Err(error)))
        };
        let polled = Pin::new(&mut this.incoming).poll_frame(cx);
        if let Some(stall) = &mut this.stall {
            if polled.is_ready() {
                stall.clock.stop();
            } else {
                ready!(stall.clock.poll(cx, stall.time, None));
                return failed(this, STALLED, io::ErrorKind::TimedOut.into());
            }
        }
        match ready!(polled) {
            None => Poll::Ready(None),
            Some(Ok(frame)) => {
                // Trailers of a request could contradict its head; nobody needs them.
                let Ok(data) = frame.into_data() else { return Poll::Ready(None) };
                let length = data.len() as u64;
                if length > this.left {
                    return failed(this, TOO_LARGE, io::ErrorKind::FileTooLarge.into());
                }
                this.left -= length;
                this.read.fetch_add(length, Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => {
                let late = error.kind() == io::ErrorKind::TimedOut;
                failed(this, if late { STALLED } else { BROKEN }, error)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
