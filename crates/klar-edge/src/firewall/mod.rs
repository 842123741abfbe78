//! The web application firewall: what the rules of an app ([`klar_waf`]) say of a request and of its answer.
//!
//! A request is judged before the cache is asked and before anything of it reaches the app: its head at once, a body that
//! is read as a form, JSON, XML or parts once all of it is here, up to [`BODY_MAX`], any other by its beginning
//! ([`Look::Beginning`]). An answer is judged where its body is text of a known length up to [`HELD_MAX`], or tells of a
//! failure: what leaks is there.
//!
//! **Invariant:** what is judged is what the app gets. A body with a format that is beyond the limit does not go to the
//! app in blocking mode, unless it is one of parts: of those, what follows the limit is a file.

mod raw;
mod replay;
mod rules;
mod shadow;
mod stopped;
mod trial;

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use http::header;
use http::{HeaderMap, HeaderName, Method, StatusCode, Version};
use klar_base::AppKey;
use klar_base::replay::{Sent, StoppedRequest};
use klar_base::signal::{DecidedBy, WafFinding, WafMatch, WafVerdict};
use klar_base::upstreams::WafMode;
use klar_waf::engine::{Answer, Caches, Head, Matched, Memory, Paused, Transaction};

pub use replay::replay;
pub use rules::{Key, Rules, Seen, key};
pub use shadow::Over;
pub use stopped::{Place, Stopped};
pub use trial::trial;

use shadow::Sample;

use crate::answer::{Answer as Answered, Source};
use crate::fields::Fields;
use crate::forward::{Failure, HELD_MAX};
use crate::page::Reason;

/// Bodies of requests are inspected up to this size, in bytes.
pub const BODY_MAX: usize = 1 << 20;
/// What klar's own probes show: see [`EdgeConfig::check_key`](klar_base::upstreams::EdgeConfig::check_key).
pub const CHECK: HeaderName = HeaderName::from_static("klar-check");
/// So many matches are named in a record.
const MATCHES_MAX: usize = 16;
/// Memories that a thread keeps for requests to come.
const MEMORIES_MAX: usize = 16;
/// What is said of a body that has a format and is longer than [`BODY_MAX`].
pub const TOO_LONG: &str = "the body of the request is longer than what the firewall inspects, 1 MiB";
/// The longest text that a record has of a rule or of a name, in bytes.
const TEXT_MAX: usize = 128;

/// So many bodies that are longer than what is held of any are inspected at once.
const LONG_MAX: usize = 64;
static LONG: AtomicUsize = AtomicUsize::new(0);

/// Room for a long body, for as long as it is held.
#[derive(Debug)]
pub struct Room(());

impl Room {
    /// `None`: there is none.
    pub fn take() -> Option<Self> {
        let taken = LONG.fetch_add(1, Ordering::Relaxed) < LONG_MAX;
        let room = Self(());
        taken.then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        LONG.fetch_sub(1, Ordering::Relaxed);
    }
}

thread_local! {
    // A request takes its memory as it lies: large, and not to be moved.
    #[allow(clippy::vec_box)]
    static MEMORIES: RefCell<Vec<Box<Memory>>> = const { RefCell::new(Vec::new()) };
    static CACHES: RefCell<Vec<(Weak<Rules>, Arc<Caches>)>> = const { RefCell::new(Vec::new()) };
}

/// A request on its way past the rules.
#[derive(Debug)]
pub struct Inspection {
    rules: Arc<Rules>,
    /// `None` only while the rules run.
    paused: Option<Paused>,
    mode: WafMode,
    /// How much of the body is still to be judged.
    awaited: Option<Look>,
    /// The request, if it is to be kept.
    sent: Option<(Place, Box<Sent>)>,
    /// The same, for stricter rules to look at.
    sample: Option<Sample>,
    /// Its body would not have been taken.
    is_too_long: bool,
}

/// How much of the body of a request is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// All of it, up to [`BODY_MAX`]: it has a format, which its end belongs to.
    Whole,
    /// Of a text what is held of it, up to [`HELD_MAX`].
    Beginning,
    /// As [`Beginning`](Self::Beginning), if it looks like a text: its type does not say that it is one.
    IfText,
}

impl Look {
    /// So many bytes of the body are held.
    pub const fn most(self) -> usize {
        match self {
            Self::Whole => BODY_MAX,
            Self::Beginning | Self::IfText => HELD_MAX,
        }
    }
}

/// The request line, and who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub protocol: &'static str,
    pub remote: &'a str,
    pub id: &'a str,
    /// A body comes with it.
    pub has_body: bool,
}

/// What is wrong with a request or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocked {
    pub status: StatusCode,
}

impl Inspection {
    /// Judges the head of a request.
    pub fn begin(
        rules: &Arc<Rules>,
        mode: WafMode,
        asking: Asking<'_>,
        headers: &[(&[u8], &[u8])],
    ) -> (Self, Option<Blocked>) {
        let memory = MEMORIES.with_borrow_mut(Vec::pop).unwrap_or_default();
        let mut transaction = rules.waf.begin(memory);
        if mode == WafMode::Detect {
            transaction.only_detect();
        }
        let head = Head {
            method: asking.method.as_bytes(),
            target: asking.target.as_bytes(),
            protocol: asking.protocol.as_bytes(),
            headers,
            remote: asking.remote.as_bytes(),
            unique_id: asking.id.as_bytes(),
        };
        let blocked = with_caches(rules, |caches| blocked(transaction.request(caches, &head)));
        let awaited = blocked.is_none().then_some(Look::Whole);
        let rules = rules.clone();
        let mut inspection = Self {
            rules,
            paused: Some(transaction.pause()),
            mode,
            awaited,
            sent: None,
            sample: None,
            is_too_long: false,
        };
        if blocked.is_some() {
            inspection.keep(asking.has_body);
        }
        (inspection, blocked)
    }

    /// Judges a request without a body, of which nothing is to be told if there is an answer here. It is kept where the
    /// rules want to see what the app says.
    pub fn of_nothing_bad(
        rules: &Arc<Rules>,
        mode: WafMode,
        asking: Asking<'_>,
        headers: &[(&[u8], &[u8])],
    ) -> Option<Self> {
        let (mut inspection, blocked) = Self::begin(rules, mode, asking, headers);
        let is_bad = blocked.is_some() || inspection.body(b"", true).is_some() || inspection.has_found();
        (!is_bad).then_some(inspection)
    }

    fn with<T>(&mut self, run: impl FnOnce(&mut Transaction<'_>, &Caches) -> T) -> Option<T> {
        let mut transaction = self.rules.waf.resume(self.paused.take()?);
        let said = with_caches(&self.rules, |caches| run(&mut transaction, caches));
        self.paused = Some(transaction.pause());
        Some(said)
    }

    /// How much the rules see of a body of this type and, where it is known, of this length. What comes in a stream of no
    /// text is not held back for them.
    pub fn look(&mut self, kind: &[u8], length: Option<u64>) -> Option<Look> {
        let (wants, has_format) =
            self.with(|transaction, _| (transaction.wants_body(), transaction.has_format()))?;
        let is_short = length.is_some_and(|length| length <= HELD_MAX as u64);
        let kind = essence(kind);
        // Browsers report what was kept from running, which is what the rules look for.
        let is_report = kind.eq_ignore_ascii_case(b"application/csp-report");
        let look = if has_format {
            Some(Look::Whole)
        } else if starts(kind, b"text/") {
            Some(Look::Beginning)
        } else {
            (is_short || !is_opaque(kind)).then_some(Look::IfText)
        };
        let look = look.filter(|_| wants && !is_report);
        self.awaited = self.awaited.and(look);
        look
    }

    /// It only watches, and would have refused the body for its length.
    pub fn note_too_long(&mut self) {
        self.is_too_long = true;
    }

    /// What it does.
    pub fn mode(&self) -> WafMode {
        self.mode
    }

    /// Whether it stops requests.
    pub fn blocks(&self) -> bool {
        self.mode == WafMode::Block
    }

    /// How much of the body [`body`](Self::body) is still to be told.
    pub fn awaits(&self) -> Option<Look> {
        self.awaited
    }

    /// Judges the body of the request, which is empty where there is none, or its beginning.
    pub fn body(&mut self, body: &[u8], is_whole: bool) -> Option<Blocked> {
        let is_skipped = self.awaited.take() == Some(Look::IfText) && is_nothing_for_rules(body);
        let body = if is_skipped { b"" } else { body };
        let (blocked, is_bad) = self.with(|transaction, caches| {
            transaction.push_body(body);
            if !is_whole {
                transaction.cut_body();
            }
            let blocked = blocked(transaction.request_body(caches));
            (blocked, transaction.interruption().is_some())
        })?;
        if is_bad {
            self.keep(!is_whole);
        } else if Self::is_sampled(&self.rules) {
            self.sample = self.sample(!is_whole);
        }
        blocked
    }

    /// Keeps the request for whoever asks why, if there is room. `is_cut`: more of its body was to come.
    fn keep(&mut self, is_cut: bool) {
        if let Some(place) = self.rules.stopped.as_ref().and_then(Stopped::place) {
            let sent = self.with(|transaction, _| stopped::sent(&transaction.seen(), is_cut));
            self.sent = sent.map(|sent| (place, Box::new(sent)));
        }
    }

    /// It is over: what was kept of the request goes where it can be asked for.
    pub fn hand_over(&mut self, app: &str, request_id: &str) {
        if let (Some((place, sent)), Ok(app)) = (self.sent.take(), app.parse::<AppKey>()) {
            place.keep(StoppedRequest { request_id: request_id.to_owned(), app, sent: *sent });
        }
    }

    /// Whether the rules want to see an answer with these headers.
    pub fn reads_answer(&mut self, headers: &impl Fields) -> bool {
        let is_packed = headers.first(&header::CONTENT_ENCODING).is_some_and(|coding| coding != b"identity");
        let is_text = headers.first(&header::CONTENT_TYPE).is_none_or(is_text);
        is_text
            && !is_packed
            && self.with(|transaction, _| transaction.wants_response_body()).unwrap_or_default()
    }

    /// Judges the answer.
    pub fn answer(&mut self, status: u16, headers: &[(&[u8], &[u8])], body: &[u8]) -> Option<Blocked> {
        self.with(|transaction, caches| {
            let answer = Answer { status, protocol: b"HTTP/1.1", headers };
            let head = blocked(transaction.response(caches, &answer));
            head.or_else(|| {
                transaction.push_response_body(body);
                blocked(transaction.response_body(caches))
            })
        })?
    }

    /// Judges what an app has answered to a request with this method, as far as it is text.
    ///
    /// # Errors
    /// The answer is not for visitors, or the app broke off.
    pub async fn app_answer(
        &mut self,
        method: &Method,
        mut answered: Answered,
    ) -> io::Result<Result<Answered, Failure>> {
        let status = answered.status();
        let may_leak = |length: Option<u64>| match length {
            Some(length) => length <= HELD_MAX as u64,
            None => status.is_client_error() || status.is_server_error(),
        };
        let is_bodiless = method == Method::HEAD || matches!(status.as_u16(), 101 | 204 | 304);
        if is_bodiless || !self.reads_answer(answered.headers()) {
            return Ok(Ok(answered));
        }
        let body = match answered.body_mut() {
            Source::Full(body) => body.clone(),
            Source::App(body) if may_leak(body.length()) => body.first(HELD_MAX).await?,
            _ => return Ok(Ok(answered)),
        };
        let headers = lines(answered.headers());
        Ok(match self.answer(status.as_u16(), &headers, &body) {
            Some(_) => Err(Failure::refused(
                StatusCode::BAD_GATEWAY,
                "the firewall kept back an answer of the app that tells strangers too much",
            )),
            None => Ok(answered),
        })
    }

    /// Whether any rule has something to say that is written down.
    pub fn has_found(&mut self) -> bool {
        self.with(|transaction, _| transaction.matched().next().is_some()).unwrap_or_default()
    }

    /// What the rules have found.
    pub fn finding(&mut self) -> Option<WafFinding> {
        let is_too_long = self.is_too_long;
        self.with(|transaction, caches| {
            transaction.log(caches);
            let mut matches: Vec<WafMatch> = Vec::new();
            for one in transaction.matched() {
                let place = place(&one);
                let is_known = matches.iter().any(|known| known.rule == one.rule && known.place == place);
                if !is_known && matches.len() < MATCHES_MAX {
                    matches.push(WafMatch { rule: one.rule, message: short(one.message), place });
                }
            }
            if is_too_long {
                matches.push(WafMatch {
                    rule: 0,
                    message: TOO_LONG.to_owned(),
                    place: "REQUEST_BODY".to_owned(),
                });
            }
            if matches.is_empty() {
                return None;
            }
            // That the sum is too high says nothing beside what it is the sum of. Rules keep also what they have found in TX.
            let is_sum = |one: &WafMatch| {
                one.place.starts_with("TX:") && one.place.to_ascii_lowercase().contains("score")
            };
            if !matches.iter().all(is_sum) {
                matches.retain(|one| !is_sum(one));
            }
            let verdict = match transaction.interruption() {
                Some(interruption) if interruption.blocks => WafVerdict::Blocked,
                Some(_) => WafVerdict::Detected,
                None if is_too_long => WafVerdict::Detected,
                None => WafVerdict::Noted,
            };
            let score = klar_waf::rules::SCORES.iter().find_map(|name| transaction.variable(name));
            Some(WafFinding { verdict, score, matches })
        })?
    }
}

impl Drop for Inspection {
    fn drop(&mut self) {
        if let Some(paused) = self.paused.take() {
            MEMORIES.with_borrow_mut(|memories| {
                if memories.len() < MEMORIES_MAX {
                    memories.push(paused.end());
                }
            });
        }
    }
}

/// Header lines as rules get them.
pub fn lines(headers: &HeaderMap) -> Vec<(&[u8], &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect()
}

fn blocked(interruption: Option<&klar_waf::engine::Interruption>) -> Option<Blocked> {
    let interruption = interruption?;
    let status = StatusCode::from_u16(interruption.status).ok().filter(|status| status.is_client_error());
    Some(Blocked { status: status.unwrap_or(StatusCode::FORBIDDEN) })
}

impl From<Blocked> for Failure {
    fn from(blocked: Blocked) -> Self {
        let reason = Reason::attack(blocked.status);
        Self { reason, decided_by: DecidedBy::Refused, error: reason.detail.into() }
    }
}

/// A version as a request line names it.
pub fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

/// What this thread keeps for these rules.
fn with_caches<T>(rules: &Arc<Rules>, run: impl FnOnce(&Caches) -> T) -> T {
    let caches = CACHES.with_borrow_mut(|all| {
        let known = all.iter().find(|(of, _)| std::ptr::eq(of.as_ptr(), Arc::as_ptr(rules)));
        if let Some((_, caches)) = known {
            return caches.clone();
        }
        all.retain(|(of, _)| of.strong_count() > 0);
        let caches = Arc::new(rules.waf.caches());
        all.push((Arc::downgrade(rules), caches.clone()));
        caches
    });
    run(&caches)
}

/// Whether a body of this type is no text, if it is what it says.
fn is_opaque(kind: &[u8]) -> bool {
    const FAMILIES: [&[u8]; 5] = [b"image/", b"video/", b"audio/", b"font/", b"application/grpc"];
    const TYPES: [&str; 14] = [
        "cbor",
        "gzip",
        "msgpack",
        "octet-stream",
        "pdf",
        "protobuf",
        "wasm",
        "x-7z-compressed",
        "x-gzip",
        "x-msgpack",
        "x-protobuf",
        "x-tar",
        "zip",
        "zstd",
    ];
    let of_applications = kind.get(b"application/".len()..).filter(|_| starts(kind, b"application/"));
    FAMILIES.iter().any(|family| starts(kind, family))
        || of_applications.is_some_and(|name| {
            starts(name, b"vnd.") || TYPES.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes()))
        })
}

fn starts(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len()).is_some_and(|its| its.eq_ignore_ascii_case(start))
}

/// Whether the beginning of a body has what no text has, and does not look like a form, JSON or XML either.
pub fn is_nothing_for_rules(body: &[u8]) -> bool {
    const LOOKED_AT: usize = 512;
    let is_strange = |byte: &u8| *byte < b' ' && !b"\t\n\r\x0c".contains(byte);
    body.get(..LOOKED_AT).unwrap_or(body).iter().any(is_strange) && klar_waf::body::guess(body).is_none()
}

/// A media type without its parameters.
fn essence(kind: &[u8]) -> &[u8] {
    kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

fn is_text(kind: &[u8]) -> bool {
    let kind = essence(kind);
    let starts = |start| starts(kind, start);
    let ends = |end: &[u8]| {
        kind.len() >= end.len()
            && kind.get(kind.len() - end.len()..).is_some_and(|its| its.eq_ignore_ascii_case(end))
    };
    let is_stream = starts(b"text/event-stream");
    let is_asset = starts(b"text/css") || starts(b"text/javascript");
    (starts(b"text/") && !is_stream && !is_asset)
        || ends(b"/json")
        || ends(b"+json")
        || ends(b"/xml")
        || ends(b"+xml")
}

/// Where a rule found something: a collection and a name in it.
fn place(one: &Matched<'_>) -> String {
    match (one.collection.name(), one.name) {
        (collection, b"") => collection.to_owned(),
        (collection, name) => format!("{collection}:{}", short(name)),
    }
}

fn short(text: &[u8]) -> String {
    let text = text.get(..TEXT_MAX).unwrap_or(text);
    String::from_utf8_lossy(text).chars().map(|one| if one.is_control() { ' ' } else { one }).collect()
}
