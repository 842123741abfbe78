//! What RFC 9111 and RFC 5861 say about a request and an answer, as pure functions: may it be kept, for how long is
//! it fresh, may it be used for this request, and what does a 304 change.
//!
//! Safe for apps that never thought of a cache between them and their visitors:
//!
//! - Only a lifetime that the app states counts (`s-maxage`, `max-age`, `Expires`, `CDN-Cache-Control`). Guessing
//!   one (section 4.2.2) is allowed and never done. A route may give a lifetime to what has none: `cache = "30s"`.
//! - An answer with `Set-Cookie` is never kept: its cookie is somebody's.
//! - What was asked for with `Authorization` is kept, and given to such requests, only as section 3.5 allows:
//!   `public`, `s-maxage` or `must-revalidate`.
//! - With a `Cookie` the RFC would keep everything. But an app that says `max-age=60` for its own visitors' browsers
//!   and writes a name from a session into the page would show it to everybody. So with cookies in play, the app
//!   has to speak of shared caches: `public`, `s-maxage` or `CDN-Cache-Control`.
//! - A failure (500 and above) is kept for [`FAILURE_MAX`] at most, whatever it says: error pages often carry the
//!   lifetime of the page that failed.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use klar_base::upstreams::CacheRules;

use super::dates;
use super::directives::{Control, Demand, delta, items};
use crate::fields::{self, Fields};

/// How long a failure with a lifetime of its own is kept.
pub const FAILURE_MAX: Duration = Duration::from_secs(10);
/// How stale an answer may be that is given because the app cannot be reached, where nothing forbids it and nothing
/// says how long (RFC 9111 section 4.2.4).
pub const GRACE: Duration = Duration::from_secs(3600);

/// What a request is to a cache.
#[derive(Debug, Clone)]
pub struct Asked {
    pub head: bool,
    /// It has `Authorization`.
    pub authorization: bool,
    /// It has cookies of the app's.
    pub cookie: bool,
    /// It is for a part, or only if something changed.
    pub partial: bool,
    pub demand: Demand,
}

/// Headers by which some frameworks make another request of a request than its first line says, and conditions that the
/// app has to judge.
static NOT_FOR_CACHES: [HeaderName; 7] = [
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

static CONDITIONS: [HeaderName; 6] = [
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];

impl Asked {
    /// What this request is to a cache. `own`: the name of a cookie that is the edge's.
    ///
    /// # Errors
    /// Why the cache has no part in it, in words that follow "because".
    pub fn judge(method: &Method, headers: &impl Fields, own: &str) -> Result<Self, &'static str> {
        let is_judged = |name: &HeaderName| *name == header::IF_MATCH || *name == header::IF_UNMODIFIED_SINCE;
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err("only answers to GET and HEAD are kept");
        }
        if let Some(name) = headers.first_of(&NOT_FOR_CACHES) {
            return Err(if is_judged(name) {
                "the app has to judge its condition (if-match, if-unmodified-since)"
            } else {
                "a header may make another request of it (such as x-http-method-override)"
            });
        }
        let demand = Demand::of(headers);
        let pairs = headers.all(&header::COOKIE).flat_map(|line| line.split(|byte| *byte == b';'));
        let cookie = pairs.map(<[u8]>::trim_ascii).any(|pair| {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
            !pair.is_empty() && name != own.as_bytes()
        });
        if demand.no_store {
            return Err("the request says `cache-control: no-store`");
        }
        Ok(Self {
            head: *method == Method::HEAD,
            authorization: headers.has(&header::AUTHORIZATION),
            cookie,
            partial: headers.first_of(&CONDITIONS).is_some(),
            demand,
        })
    }

    /// Whether it says who asks.
    pub fn is_somebodys(&self) -> bool {
        self.authorization || self.cookie
    }
}

/// Takes out of a request what would make the answer a part, or none.
pub fn unconditional(headers: &mut HeaderMap) {
    CONDITIONS.iter().for_each(|name| drop(headers.remove(name)));
}

/// What is known of an answer that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    lifetime: Duration,
    /// Its age when it came (RFC 9111 section 4.2.3).
    initial_age: Duration,
    received: Instant,
    no_cache: bool,
    /// `must-revalidate` or `proxy-revalidate`: never stale.
    strict: bool,
    /// `s-maxage` means the same, unless staleness is granted in so many words (section 5.2.2.10).
    shared_lifetime: bool,
    while_revalidate: Duration,
    if_error: Option<Duration>,
    for_cookies: bool,
    for_authorization: bool,
}

/// When an answer was asked for, and when it came.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub sent: Instant,
    pub received: Instant,
    /// The moment of `received` as the world counts it.
    pub date: SystemTime,
}

/// What may be done with a stored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Give it.
    Fresh,
    /// Give it, though it is stale: the visitor said so.
    Stale,
    /// Give it, and ask for a newer one meanwhile.
    Refresh,
    /// Ask whether it is still good.
    Validate,
    /// It is not for who asks.
    Unfit,
}

/// Says whether an answer to a `GET` may be kept, and for how long it is fresh.
///
/// # Errors
/// Why not, in a few words for `Cache-Status`.
pub fn judge(
    asked: &Asked,
    status: StatusCode,
    headers: &impl Fields,
    times: Times,
    rules: &CacheRules,
) -> Result<Facts, &'static str> {
    let control = Control::of(headers);
    let number = status.as_u16();
    if number < 200 || number == 206 || number == 304 {
        return Err("status");
    }
    if headers.has(&header::SET_COOKIE) {
        return Err("set-cookie");
    }
    if control.private {
        return Err("private");
    }
    if control.must_understand && !is_understood(status) {
        return Err("not-understood");
    }
    if control.no_store && !control.must_understand {
        return Err("no-store");
    }
    let is_stream = headers
        .first(&header::CONTENT_TYPE)
        .and_then(|kind| kind.get(..b"text/event-stream".len()))
        .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"));
    if is_stream {
        return Err("stream");
    }
    let for_cookies = control.public || control.s_maxage.is_some() || control.targeted;
    let for_authorization = control.public || control.s_maxage.is_some() || control.must_revalidate;
    if asked.authorization && !for_authorization {
        return Err("authorization");
    }
    if asked.cookie && !for_cookies {
        return Err("cookie");
    }
    // Most answers state no lifetime, and then nobody has to read their date.
    let sent_at = || date_of(headers, header::DATE, times.date);
    let stated = control.s_maxage.or(control.max_age).or_else(|| {
        let expires = headers.first(&header::EXPIRES).filter(|_| !control.targeted)?;
        // What is no date is in the past (section 5.3).
        let expires = fields::text(expires).and_then(|text| dates::read(text, times.date));
        let from = sent_at().unwrap_or(times.date);
        Some(expires.and_then(|expires| expires.duration_since(from).ok()).unwrap_or_default())
    });
    let validator = headers.has(&header::ETAG) || headers.has(&header::LAST_MODIFIED);
    let given = rules.lifetime.filter(|_| !asked.is_somebodys() && !control.no_cache && is_cacheable(status));
    let mut lifetime = match stated.or(given) {
        Some(lifetime) => lifetime,
        None if control.no_cache && validator => Duration::ZERO,
        None => return Err("no-lifetime"),
    };
    if status.is_server_error() {
        lifetime = lifetime.min(FAILURE_MAX);
    }
    let while_revalidate =
        control.stale_while_revalidate.or(rules.stale_while_revalidate).unwrap_or_default();
    let is_useless = lifetime.is_zero() || control.no_cache;
    if is_useless && !validator && while_revalidate.is_zero() && control.stale_if_error.is_none() {
        return Err("no-lifetime");
    }
    let apparent = sent_at().and_then(|sent| times.date.duration_since(sent).ok()).unwrap_or_default();
    let said = headers
        .text(&header::AGE)
        .and_then(|age| delta(age.split(',').next().unwrap_or_default().trim()))
        .unwrap_or_default();
    let delay = times.received.saturating_duration_since(times.sent);
    Ok(Facts {
        lifetime,
        // A date has whole seconds: less than one is no age.
        initial_age: Duration::from_secs(apparent.as_secs()).max(said + delay),
        received: times.received,
        no_cache: control.no_cache,
        strict: control.must_revalidate || control.proxy_revalidate,
        shared_lifetime: control.s_maxage.is_some(),
        while_revalidate,
        if_error: control.stale_if_error,
        for_cookies,
        for_authorization,
    })
}

/// Statuses whose meaning for a cache is known (section 3, `must-understand`).
fn is_understood(status: StatusCode) -> bool {
    is_cacheable(status) || matches!(status.as_u16(), 302 | 303 | 307)
}

/// Statuses that may be kept though the app states no lifetime (RFC 9110 section 15.1), where a route asks for it.
fn is_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

fn date_of(headers: &impl Fields, name: HeaderName, now: SystemTime) -> Option<SystemTime> {
    dates::read(headers.text(&name)?, now)
}

impl Facts {
    /// How old the answer is (section 4.2.3).
    pub fn age(&self, now: Instant) -> Duration {
        self.initial_age + now.saturating_duration_since(self.received)
    }

    /// How long it will be of use to everybody: fresh, or given while a newer one is fetched.
    pub fn usable(&self, now: Instant) -> Duration {
        if self.no_cache {
            return Duration::ZERO;
        }
        (self.lifetime + if self.strict { Duration::ZERO } else { self.while_revalidate })
            .saturating_sub(self.age(now))
    }

    /// How many numbers [`Facts::to_numbers`] gives.
    pub const NUMBERS: usize = 6;

    /// The facts as they are written down: lifetime, first age, moment of arrival since 1970, time of grace while a
    /// newer one is fetched and after a failure (all in milliseconds), flags. And when the answer is of no use any
    /// more, even where the app is away. `None`: the clock of this machine is not set.
    pub fn to_numbers(&self) -> Option<([u64; Self::NUMBERS], u64)> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 1);
        let received =
            SystemTime::now().checked_sub(self.received.elapsed())?.duration_since(UNIX_EPOCH).ok()?;
        let flags =
            [self.no_cache, self.strict, self.shared_lifetime, self.for_cookies, self.for_authorization];
        let flags = flags.iter().fold(0, |flags, flag| flags << 1 | u64::from(*flag));
        let away = self.if_error.unwrap_or(if self.shared_lifetime { Duration::ZERO } else { GRACE });
        let grace = if self.strict { Duration::ZERO } else { away.max(self.while_revalidate) };
        let end = received + self.lifetime.saturating_sub(self.initial_age) + grace;
        let numbers = [
            ms(self.lifetime),
            ms(self.initial_age),
            ms(received),
            ms(self.while_revalidate),
            self.if_error.map_or(u64::MAX, ms),
            flags,
        ];
        Some((numbers, ms(end)))
    }

    /// Reads what was written down, maybe before this process was started. `None`: it lies in the future, so the
    /// clock was changed and nothing is known of its age.
    pub fn from_numbers(numbers: [u64; Self::NUMBERS]) -> Option<Self> {
        let [lifetime, initial_age, received, while_revalidate, if_error, flags] = numbers;
        let since = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_millis(received)).ok()?;
        let flag = |place: u32| flags >> place & 1 == 1;
        Some(Self {
            lifetime: Duration::from_millis(lifetime),
            initial_age: Duration::from_millis(initial_age),
            received: Instant::now().checked_sub(since)?,
            no_cache: flag(4),
            strict: flag(3),
            shared_lifetime: flag(2),
            while_revalidate: Duration::from_millis(while_revalidate),
            if_error: (if_error != u64::MAX).then(|| Duration::from_millis(if_error)),
            for_cookies: flag(1),
            for_authorization: flag(0),
        })
    }

    /// When it came, or was last found to be good.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// How many seconds it is still fresh; less than none when it is stale.
    pub fn left(&self, now: Instant) -> i64 {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        match self.age(now).checked_sub(self.lifetime) {
            Some(stale_for) => -seconds(stale_for).max(1),
            None => seconds(self.lifetime) - seconds(self.age(now)),
        }
    }

    /// Whether it may answer others that asked while it was on its way.
    pub fn is_for_many(&self) -> bool {
        let usable = self.lifetime + if self.strict { Duration::ZERO } else { self.while_revalidate };
        !self.no_cache && usable > self.initial_age
    }

    /// Whether it may be given to who asks at all.
    pub fn is_for(&self, asked: &Asked) -> bool {
        (self.for_cookies || !asked.cookie) && (self.for_authorization || !asked.authorization)
    }

    /// Says what to do with the answer for this request (sections 4.2 and 5.2.1).
    pub fn decide(&self, asked: &Asked, now: Instant) -> Decision {
        if !self.is_for(asked) {
            return Decision::Unfit;
        }
        let (age, demand) = (self.age(now), &asked.demand);
        if self.no_cache || demand.no_cache {
            return Decision::Validate;
        }
        let too_old = demand.max_age.is_some_and(|max_age| age > max_age);
        let fresh_for = self.lifetime.saturating_sub(age);
        if !fresh_for.is_zero() {
            let is_enough = demand.min_fresh.is_none_or(|wanted| fresh_for >= wanted);
            return if is_enough && !too_old { Decision::Fresh } else { Decision::Validate };
        }
        let stale_for = age.saturating_sub(self.lifetime);
        if self.strict || demand.min_fresh.is_some() {
            return Decision::Validate;
        }
        if !self.shared_lifetime && !too_old && demand.max_stale.is_some_and(|most| stale_for <= most) {
            return Decision::Stale;
        }
        if !too_old && stale_for < self.while_revalidate {
            return Decision::Refresh;
        }
        Decision::Validate
    }

    /// Whether it may be given because the app could not be reached, or answered with `status`.
    ///
    /// RFC 9111 section 4.2.4 allows it to a cache that is cut off from the app, unless the answer forbids it;
    /// section 4.3.3 lets a cache take a 5xx for that. An app that answers 500 is there, so that takes
    /// `stale-if-error`; 502, 503 and 504 say that it is not.
    pub fn may_stand_in(&self, asked: &Asked, status: Option<StatusCode>, now: Instant) -> bool {
        self.stand_in(asked, status, now).is_ok()
    }

    /// For how much longer it may; see [`Facts::may_stand_in`].
    ///
    /// # Errors
    /// Why it may not, in words that follow "because".
    pub fn stand_in(
        &self,
        asked: &Asked,
        status: Option<StatusCode>,
        now: Instant,
    ) -> Result<Duration, &'static str> {
        if self.no_cache || self.strict {
            return Err("it must not be given stale (no-cache, must-revalidate or proxy-revalidate)");
        }
        if asked.demand.no_cache {
            return Err("the request says `cache-control: no-cache`");
        }
        if !self.is_for(asked) {
            return Err("it is not for requests with cookies or authorization");
        }
        let most = match (self.if_error, status.map(|status| status.as_u16())) {
            (_, Some(status)) if status < 500 => return Err("the app answers"),
            (Some(most), None | Some(500 | 502 | 503 | 504)) => most,
            (None, None | Some(502..=504)) if self.shared_lifetime => {
                return Err("it says s-maxage and no stale-if-error");
            }
            (None, None | Some(502..=504)) => GRACE,
            _ => return Err("the app answers, be it with an error"),
        };
        let left = (self.lifetime + most).checked_sub(self.age(now));
        left.ok_or("it has been stale for too long")
    }
}

/// What a 304, or the head of an answer, makes of the headers that are kept (section 3.2): all that it says, except
/// for what tells how the body is written that is here: its length and its coding, which the edge may have chosen.
/// Of two tags of the same version the weaker one stays: a strong one promises bytes (RFC 9110 section 8.8.1), and
/// the app knows nothing of those that were packed here.
pub fn freshen(stored: &HeaderMap, update: &HeaderMap) -> HeaderMap {
    let mut merged = stored.clone();
    let is_weak = stored.get(header::ETAG).is_some_and(|tag| tag.as_bytes().starts_with(b"W/"));
    let stays = |name: &HeaderName| {
        *name == header::CONTENT_LENGTH
            || *name == header::CONTENT_ENCODING
            || (*name == header::ETAG && is_weak && is_same_version(stored, update))
    };
    for name in update.keys().filter(|name| !stays(name)) {
        merged.remove(name);
        for value in update.get_all(name) {
            merged.append(name.clone(), value.clone());
        }
    }
    // These are about one answer, and this is another.
    for name in [header::AGE, header::DATE].iter().filter(|name| !update.contains_key(*name)) {
        merged.remove(name);
    }
    merged
}

/// Whether a 304 or the head of an answer may be about the stored one: what both say of its version is the same
/// (section 4.3.4). Tags are compared weakly: what was packed on its way into the store has a weak one where the
/// app's own is strong.
pub fn is_same_version(stored: &HeaderMap, other: &HeaderMap) -> bool {
    fn bare(value: &HeaderValue) -> &[u8] {
        value.as_bytes().strip_prefix(b"W/").unwrap_or(value.as_bytes())
    }
    [header::ETAG, header::LAST_MODIFIED]
        .iter()
        .all(|name| other.get(name).is_none_or(|value| stored.get(name).map(bare) == Some(bare(value))))
}

/// Whether who asks has the answer already (RFC 9110 section 13.2.2).
pub fn has_it(request: &HeaderMap, answer: &HeaderMap, now: SystemTime) -> bool {
    if request.contains_key(header::IF_NONE_MATCH) {
        let tag = answer.get(header::ETAG).map(HeaderValue::as_bytes);
        return request.get_all(header::IF_NONE_MATCH).iter().any(|line| {
            let line = line.as_bytes();
            line.trim_ascii() == b"*" || tag.is_some_and(|tag| names_tag(line, tag))
        });
    }
    let date = |headers: &HeaderMap, name| date_of(headers, name, now);
    let Some(since) = date(request, header::IF_MODIFIED_SINCE) else { return false };
    // Without a date of its own it was new when it was sent (RFC 9111 section 4.3.2).
    let modified = date(answer, header::LAST_MODIFIED).or_else(|| date(answer, header::DATE));
    modified.is_some_and(|modified| modified <= since)
}

/// Whether a list of tags has this one in it, weak or not.
fn names_tag(list: &[u8], tag: &[u8]) -> bool {
    let bare = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    let tag = bare(tag);
    if list.is_ascii() {
        let list = String::from_utf8_lossy(list);
        return items(&list).unwrap_or_default().iter().any(|item| bare(item.as_bytes()) == tag);
    }
    list.split(|byte| *byte == b',').any(|item| bare(item.trim_ascii()) == tag)
}

/// Whether the condition of a request for a part holds (RFC 9110 section 13.1.5).
pub fn wants_part(request: &HeaderMap, answer: &HeaderMap) -> bool {
    let Some(condition) = request.get(header::IF_RANGE).map(HeaderValue::as_bytes) else { return true };
    let is_strong_tag = condition.starts_with(b"\"");
    let name = if is_strong_tag { header::ETAG } else { header::LAST_MODIFIED };
    answer.get(name).is_some_and(|value| value.as_bytes() == condition)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests;
