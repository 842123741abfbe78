//! The straight way of a request through the edge: a `GET` or `HEAD` over HTTP/1.1 that the cache answers with what it
//! has, or that an instance answers with something short that needs no work.
//!
//! Most requests are of this kind, and for them a map of headers, a future on the heap and a body in pieces cost more
//! than all that is decided. So the head of the request stays what it is, lines in the bytes that came; so does that of
//! the answer; and what goes out is written straight from them.
//!
//! **Invariant:** nothing is decided here. What decides is asked, the same as on the general way ([`Visit::answer_to`]):
//! `decide` for the route, `cache::glance` and `cache::passes`, `compress::is_worth_it`, `headers`, `asking`, `upstream`.
//! **Invariant:** whatever is not as it mostly is goes the general way. Before anything was sent, it goes there as if
//! nothing had happened. Afterwards it takes along what it has begun ([`Handed`]), and the first attempt there
//! (`forward.rs`) goes on with it; so there is one place that judges failures and tries again.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use http::header;
use http::{Method, Request, StatusCode};
use httparse::Header;
use klar_base::signal::{CacheOutcome, DecidedBy};
use klar_base::upstreams::{AppProtocol, WafMode};

use crate::asking::{self, Told};
use crate::cache::{self, Glance, Times};
use crate::client::head::{self as answers, Framing, Parsed};
use crate::client::{Begun, Link};
use crate::compress::{self, Coding};
use crate::fields::{self, Fields, Lines};
use crate::firewall::{self, Inspection};
use crate::forward::{HELD_MAX, STICKY};
use crate::front::Visitor;
use crate::handle::{Decided, Saying, Visit, host_in};
use crate::headers::{self, Address};
use crate::http1::alarm::Alarm;
use crate::http1::outbound::{COPY_MAX, Outbound};
use crate::http1::request::Asked;
use crate::http1::response::{self, End, Ending};
use crate::http1::{Said, Waiting, Way};
use crate::pool;
use crate::records::Record;
use crate::scratch;
use crate::story::{self, RequestId};
use crate::table::{Destination, RouteTable, Shared, SiteTable};
use crate::upstream::{self, Lease, Wish};

/// A request that was sent to an instance, and waits for the answer.
#[derive(Debug)]
pub struct Underway {
    facts: Facts,
    /// What the rules of the firewall make of it, if they want to see the answer.
    inspection: Option<Inspection>,
    /// When it was sent.
    sent: Instant,
    lease: Lease,
    /// `None`: it went back.
    link: Option<Link>,
    /// Why nothing more comes over it.
    broken: Option<io::Error>,
    /// Of the request, what was not sent.
    unsent: Vec<u8>,
    /// Of the answer, what has come, and when; it has so many bytes at least.
    came: Vec<u8>,
    since: Instant,
    need: usize,
    /// Nobody has listened yet, and who sent it is woken when there is something to hear.
    is_fresh: bool,
}

/// What is known of a request.
#[derive(Debug)]
struct Facts {
    site: Arc<SiteTable>,
    route: usize,
    visitor: Visitor,
    begun: Instant,
    time_unix_ms: u64,
    id: RequestId,
    is_head: bool,
    /// `None`: the cache has no part in it.
    cached: Option<cache::Asked>,
    host: Host,
    // Where these stand in the head.
    path: Range<usize>,
    agent: Option<Range<usize>>,
    codings: Option<Range<usize>>,
}

/// The host that was asked for, without its port and in small letters.
#[derive(Debug)]
enum Host {
    There(Range<usize>),
    Made(String),
}

/// What an answer was, for the record.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    status: u16,
    bytes_out: u64,
    decided_by: DecidedBy,
    cache: Option<CacheOutcome>,
    aborted: bool,
}

/// What was done with what an instance has said.
enum Heard {
    Answered {
        outcome: Outcome,
        keep_alive: bool,
        lasts: bool,
    },
    /// This many bytes have to come.
    More(usize),
    General,
}

impl Facts {
    fn route(&self) -> Option<&RouteTable> {
        self.site.route_at(self.route)
    }

    fn host<'a>(&'a self, head: &'a [u8]) -> &'a str {
        match &self.host {
            Host::There(range) => text_at(head, range),
            Host::Made(host) => host,
        }
    }

    fn method(&self) -> Method {
        if self.is_head { Method::HEAD } else { Method::GET }
    }

    /// Writes the record.
    fn tell(&self, shared: &Shared, head: &[u8], upstream: Option<&str>, outcome: Outcome) {
        let agent =
            self.agent.as_ref().map(|range| story::agent(head.get(range.clone()).unwrap_or_default()));
        let route = self.route();
        let record = Record {
            time_unix_ms: self.time_unix_ms,
            request_id: self.id.as_str(),
            app: Some(&*self.site.name),
            client: self.visitor.address,
            protocol: "http/1.1",
            tls: self.visitor.https,
            method: if self.is_head { "HEAD" } else { "GET" },
            host: self.host(head),
            path: text_at(head, &self.path),
            route: route.map(|route| &*route.pattern),
            status: outcome.status,
            decided_by: outcome.decided_by,
            bytes_in: 0,
            bytes_out: outcome.bytes_out,
            duration_us: u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            upstream,
            attempts: u32::from(upstream.is_some()),
            error: None,
            aborted: outcome.aborted,
            user_agent: agent.as_deref(),
            cache: outcome.cache,
            image: None,
            // What it has found is told on the general way.
            waf: None,
        };
        story::count(shared, &record, route.map(|route| &*route.totals), Some(&self.site.totals));
    }
}

impl Waiting for Underway {
    fn leave(self, head: &[u8]) {
        let outcome =
            Outcome { status: 0, bytes_out: 0, decided_by: DecidedBy::App, cache: None, aborted: true };
        self.facts.tell(self.lease.shared(), head, Some(&self.lease.name), outcome);
    }
}

impl Visit {
    /// See [`Service::set_out`](crate::http1::Service::set_out).
    pub fn set_out_straight(
        &self,
        cx: &mut Context<'_>,
        said: &Said<'_, '_, '_>,
        out: &mut Outbound,
    ) -> Option<Way<Underway>> {
        let Said { head, parsed, note, asked } = said;
        let is_head = asked.is_head;
        let method = match parsed.method? {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            _ => return None,
        };
        let target = parsed.path.filter(|target| is_plain(target))?;
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let lines = Lines::new(parsed.headers);
        let authority = lines.text(&header::HOST)?;
        let host = host_of(authority);
        let table = self.shared.table.load();
        let site = table.site(&host)?;
        let visitor = self.peer.visitor_of(&site.front, &lines);
        let saying = Saying { method: &method, path, target, headers: &lines, body: 0 };
        let Ok(Decided::Route(route, None)) = self.decide(site, note.length, &saying, &host, |_| {}) else {
            return None;
        };
        let Destination::Service(service) = &route.target else { return None };
        let service = site.services.get(service)?;
        // What is made of an answer, or depends on more than one line, is nothing that goes straight.
        let is_one = lines.all(&header::ACCEPT_ENCODING).nth(1).is_none();
        if route.images.is_some() || service.sticky || !service.speaks(AppProtocol::Http1) || !is_one {
            return None;
        }
        let time_unix_ms = story::unix_ms(SystemTime::now());
        let id = RequestId::new(time_unix_ms);
        let inspection = match &site.rules {
            Some(rules) if route.waf != WafMode::Off => {
                // What is watched is counted on the general way.
                let is_special = route.waf == WafMode::Detect || Inspection::is_sampled(rules);
                if is_special || lines.has(&firewall::CHECK) {
                    return None;
                }
                let address = Address::of(visitor.address.to_canonical());
                let asking = firewall::Asking {
                    method: method.as_str(),
                    target,
                    protocol: if parsed.version == Some(0) { "HTTP/1.0" } else { "HTTP/1.1" },
                    remote: address.as_str(),
                    id: id.as_str(),
                    has_body: false,
                };
                // What has to be told of is told on the general way, which asks again.
                Some(with_pairs(&lines, |pairs| Inspection::of_nothing_bad(rules, route.waf, asking, pairs))?)
            }
            _ => None,
        };
        let now = Instant::now();
        let from = (visitor.https, authority, target);
        let glance = cache::glance(&self.shared.cache, site, route, (&method, &lines), from, now)?;

        let facts = Facts {
            site: site.clone(),
            route: route.place,
            visitor,
            begun: note.begun,
            time_unix_ms,
            id,
            is_head,
            cached: None,
            path: span(head, path.as_bytes()),
            agent: lines.first(&header::USER_AGENT).map(|agent| span(head, agent)),
            codings: lines.first(&header::ACCEPT_ENCODING).map(|codings| span(head, codings)),
            host: match host {
                Cow::Borrowed(host) => Host::There(span(head, host.as_bytes())),
                Cow::Owned(host) => Host::Made(host),
            },
        };
        let cached = match glance {
            Glance::Give(stored, status) => {
                if !response::may_have_body(stored.status) {
                    return None;
                }
                let (outcome, keep_alive) =
                    self.give(&facts, facts.host(head), (&stored, &status), now, *asked, out);
                facts.tell(&self.shared, head, None, outcome);
                return Some(Way::Answered { keep_alive });
            }
            Glance::Ask(cached) => cached,
        };

        let tag = headers::cookie(&lines, STICKY).map(str::to_owned);
        let upstream = upstream::best(service, &Wish { tried: Vec::new(), tag })?;
        let (link, lease, unsent) = scratch::with_text(|text| {
            let told = Told {
                client: visitor.address,
                https: visitor.https,
                request_id: facts.id.as_str(),
                upgrade: false,
            };
            asking::write(text, &method, target, &lines, &told)?;
            let mut link = self.pool.take_link(upstream, pool::IDLE, cx)?;
            let lease = Lease::take(upstream, &self.shared)?;
            match link.poll_send(cx, text) {
                Poll::Ready(Ok(sent @ 1..)) => {
                    Some((link, lease, text.get(sent..).unwrap_or_default().to_vec()))
                }
                _ => {
                    lease.give_back();
                    None
                }
            }
        })?;
        let facts = Facts { cached, ..facts };
        Some(Way::Waits(Underway {
            facts,
            inspection,
            sent: now,
            lease,
            link: Some(link),
            broken: None,
            unsent,
            came: Vec::new(),
            since: now,
            need: 0,
            is_fresh: true,
        }))
    }

    /// Gives what the cache has.
    fn give(
        &self,
        facts: &Facts,
        host: &str,
        (stored, status): (&cache::Stored, &cache::Status),
        now: Instant,
        asked: Asked,
        out: &mut Outbound,
    ) -> (Outcome, bool) {
        let lines = cache::lines(stored, &facts.site, host, facts.visitor.https);
        let text = out.gathered();
        text.reserve(lines.len() + MORE + if stored.body.len() <= COPY_MAX { stored.body.len() } else { 0 });
        response::begin(text, stored.status, asked);
        text.extend_from_slice(&lines);
        response::line(text, b"age", itoa::Buffer::new().format(stored.facts.age(now).as_secs()).as_bytes());
        tell_status(text, status);
        let length = stored.body.len() as u64;
        let mut end = End::new(stored.status, asked, Some(length));
        if let Some(date) = stored.headers.first(&header::DATE)
            && end.heeds(b"date", date)
        {
            response::line(text, b"date", date);
        }
        // Whatever the app says of it is among the lines.
        let promise = self.end(text, facts, end, false);
        out.push(stored.body.clone());
        let outcome = Outcome {
            status: stored.status.as_u16(),
            bytes_out: length,
            decided_by: DecidedBy::Edge,
            cache: Some(status.outcome()),
            aborted: false,
        };
        (outcome, promise.keep_alive)
    }

    /// Writes what each answer of the edge ends its head with.
    fn end(
        &self,
        text: &mut Vec<u8>,
        facts: &Facts,
        mut end: End,
        tells_of_others: bool,
    ) -> response::Promise {
        response::line(text, headers::REQUEST_ID.as_str().as_bytes(), facts.id.as_str().as_bytes());
        if let Some(http3) = &facts.site.http3
            && !tells_of_others
            && self.may_tell_of_http3(facts.visitor)
        {
            response::line(text, header::ALT_SVC.as_str().as_bytes(), http3.as_bytes());
        }
        end.must_close |= *self.drain.borrow();
        end.write(text)
    }

    /// See [`Service::go_on`](crate::http1::Service::go_on).
    pub fn go_on_straight(
        &self,
        cx: &mut Context<'_>,
        head: &[u8],
        way: &mut Underway,
        asked: Asked,
        alarm: &mut Alarm,
        out: &mut Outbound,
    ) -> Poll<Option<bool>> {
        let Underway { facts, inspection, sent, link, unsent, came, since, need, broken, is_fresh, .. } = way;
        let route = facts.route().filter(|_| unsent.is_empty());
        let (Some(route), Some(app)) = (route, link.as_mut()) else { return Poll::Ready(None) };
        if std::mem::take(is_fresh) {
            let is_late = alarm.poll(cx, *sent + route.timeout).is_ready();
            return if is_late { Poll::Ready(None) } else { Poll::Pending };
        }
        loop {
            let heard = app.poll_hear(cx, |new| {
                if new.is_empty() {
                    return Heard::General;
                }
                // Most answers come whole.
                if came.is_empty() {
                    let heard = self.hear(head, (facts, route, *sent), inspection, new, asked, out);
                    if !matches!(heard, Heard::Answered { .. }) {
                        came.extend_from_slice(new);
                    }
                    return heard;
                }
                came.extend_from_slice(new);
                if came.len() < *need {
                    return Heard::More(*need);
                }
                self.hear(head, (facts, route, *sent), inspection, came, asked, out)
            });
            match heard {
                Poll::Pending => {
                    let deadline = *sent + route.timeout;
                    let stall = *since + facts.site.limits.stall_timeout;
                    let is_stalling = !came.is_empty() && stall < deadline;
                    ready!(alarm.poll(cx, if is_stalling { stall } else { deadline }));
                    // What that means is said on the general way, where the deadline has passed as well.
                    *broken = is_stalling.then(|| io::ErrorKind::TimedOut.into());
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(Heard::More(bytes))) => (*need, *since) = (bytes, Instant::now()),
                Poll::Ready(Ok(Heard::General)) => return Poll::Ready(None),
                Poll::Ready(Ok(Heard::Answered { outcome, keep_alive, lasts })) => {
                    way.lease.note_well(&self.shared);
                    way.facts.tell(&self.shared, head, Some(&way.lease.name), outcome);
                    if let Some(link) = way.link.take().filter(|_| lasts) {
                        self.pool.put(&way.lease, link);
                    }
                    return Poll::Ready(Some(keep_alive));
                }
                Poll::Ready(Err(error)) => {
                    *broken = Some(error);
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// Writes the answer that `bytes` are, if they are all of one that needs no work.
    fn hear(
        &self,
        head: &[u8],
        (facts, route, sent): (&Facts, &RouteTable, Instant),
        inspection: &mut Option<Inspection>,
        bytes: &[u8],
        asked: Asked,
        out: &mut Outbound,
    ) -> Heard {
        let mut room = answers::room();
        let Ok(Some(parsed)) = answers::parse(bytes, &facts.method(), &mut room) else {
            return Heard::General;
        };
        let Parsed { status, lines: all, framing, lasts, length: begins, .. } = parsed;
        let lines = Lines::new(all);
        let Framing::Length(length) = framing else { return Heard::General };
        let is_usual = (200..500).contains(&status.as_u16()) && status != StatusCode::NOT_MODIFIED;
        if !is_usual || length > HELD_MAX as u64 || is_stream(&lines) || all.iter().any(names_others) {
            return Heard::General;
        }
        let Some(body) = bytes.get(begins..) else { return Heard::General };
        let length = length as usize;
        if body.len() < length {
            return Heard::More(begins + length);
        }
        if body.len() > length {
            return Heard::General;
        }

        if let Some(inspection) = inspection
            && !facts.is_head
            && inspection.reads_answer(&lines)
        {
            let is_bad = with_pairs(&lines, |pairs| {
                inspection.answer(status.as_u16(), pairs, body).is_some() || inspection.has_found()
            });
            if is_bad {
                return Heard::General;
            }
        }
        let here = (!facts.is_head).then_some(length as u64);
        let is_worth_it = compress::is_worth_it(status, &lines, here);
        if is_worth_it && let Some(codings) = &facts.codings {
            let value = head.get(codings.clone()).unwrap_or_default();
            let codings = [Header { name: header::ACCEPT_ENCODING.as_str(), value }];
            if Coding::choose(&Lines::new(&codings)).is_some() {
                return Heard::General;
            }
        }
        let times = Times { sent, received: Instant::now(), date: SystemTime::now() };
        let answer = (status, &lines);
        let cached = facts.cached.as_ref();
        let passes = cache::passes(&self.shared.cache, route, cached, answer, length as u64, times);
        let Some(cache_status) = passes else { return Heard::General };

        let text = out.gathered();
        text.reserve(begins + length + MORE);
        response::begin(text, status, asked);
        let mut end = End::new(status, asked, Some(length as u64));
        let mut says_own = false;
        for line in all {
            let from = text.len();
            text.extend_from_slice(line.name.as_bytes());
            let name = &mut text[from..];
            name.make_ascii_lowercase();
            says_own |= headers::is_said_by_us(name);
            let goes =
                headers::is_for_visitor(name) && *name != *b"x-request-id" && end.heeds(name, line.value);
            if goes {
                for piece in [b": ", line.value, b"\r\n"] {
                    text.extend_from_slice(piece);
                }
            } else {
                text.truncate(from);
            }
        }
        if is_worth_it && !compress::varies(&lines) {
            response::line(text, b"vary", b"accept-encoding");
        }
        if cached.is_some() || route.cache.enabled {
            tell_status(text, &cache_status);
        }
        let (host, https) = (facts.host(head), facts.visitor.https);
        if says_own {
            for (name, value) in headers::missing(&lines, facts.site.csp.as_ref(), host, https) {
                response::line(text, name.as_str().as_bytes(), value.as_bytes());
            }
        } else {
            text.extend_from_slice(facts.site.protection(host, https));
        }
        let promise = self.end(text, facts, end, lines.has(&header::ALT_SVC));
        let bytes_out = if promise.ending == Ending::Bodiless { 0 } else { length as u64 };
        if bytes_out > 0 {
            out.push_copy(body);
        }
        let outcome = Outcome {
            status: status.as_u16(),
            bytes_out,
            decided_by: DecidedBy::App,
            cache: Some(cache_status.outcome()),
            aborted: false,
        };
        Heard::Answered { outcome, keep_alive: promise.keep_alive, lasts }
    }

    /// See [`Service::hand_over`](crate::http1::Service::hand_over).
    pub fn hand_over_straight(&self, way: Underway, request: &mut Request<()>) {
        let Underway { facts, sent, lease, link: Some(link), unsent, came, broken, .. } = way else { return };
        let started = Started { sent, lease, begun: Begun { link, unsent, came, broken } };
        let handed = Handed {
            time_unix_ms: facts.time_unix_ms,
            id: facts.id,
            started: Arc::new(Mutex::new(Some(started))),
        };
        request.extensions_mut().insert(handed);
    }
}

/// Gives lines as the firewall takes them.
fn with_pairs<T>(lines: &Lines<'_, '_>, take: impl FnOnce(&[(&[u8], &[u8])]) -> T) -> T {
    const USUAL: usize = 40;
    let mut pairs = [(&b""[..], &b""[..]); USUAL];
    if lines.all.len() > USUAL {
        let pairs: Vec<_> = lines.all.iter().map(|line| (line.name.as_bytes(), line.value)).collect();
        return take(&pairs);
    }
    for (pair, line) in pairs.iter_mut().zip(lines.all) {
        *pair = (line.name.as_bytes(), line.value);
    }
    take(pairs.get(..lines.all.len()).unwrap_or_default())
}

/// Room for what the edge adds to the head of an answer, in bytes.
const MORE: usize = 1024;

/// How far a request has come on its straight way, for the general one: among its extensions.
#[derive(Debug, Clone)]
pub struct Handed {
    pub time_unix_ms: u64,
    pub id: RequestId,
    started: Arc<Mutex<Option<Started>>>,
}

/// A request that an instance has got.
#[derive(Debug)]
pub struct Started {
    pub sent: Instant,
    pub lease: Lease,
    pub begun: Begun,
}

impl Handed {
    /// What was begun, for the one who goes on with it.
    pub fn take(&self) -> Option<Started> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn tell_status(text: &mut Vec<u8>, status: &cache::Status) {
    text.extend_from_slice(cache::STATUS.as_str().as_bytes());
    text.extend_from_slice(b": ");
    status.write(text);
    text.extend_from_slice(b"\r\n");
}

/// Whether an answer comes bit by bit, for as long as it likes.
fn is_stream(lines: &Lines<'_, '_>) -> bool {
    headers::is_event_stream(lines) || headers::is_grpc(lines)
}

/// Whether a line is a `Connection` that says more than how long it lasts: other headers may end with it.
fn names_others(line: &Header<'_>) -> bool {
    line.name.len() == 10 && fields::is(line, &header::CONNECTION) && !answers::ends_here(line)
}

/// A target that is a path without anything that readers of URLs differ on, or refuse.
fn is_plain(target: &str) -> bool {
    target.starts_with('/')
        && target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/?-._~%&=+,;:@!$'()*".contains(&byte))
}

/// See [`host_in`].
fn host_of(authority: &str) -> Cow<'_, str> {
    let is_plain = !authority.bytes().any(|byte| byte.is_ascii_uppercase() || matches!(byte, b'[' | b']'));
    if is_plain { authority.split(':').next().unwrap_or_default().into() } else { host_in(authority).into() }
}

/// Where a part of a head stands in it. Of what is empty it does not matter.
fn span(head: &[u8], part: &[u8]) -> Range<usize> {
    let from = (part.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
    if part.is_empty() { 0..0 } else { from..from.wrapping_add(part.len()) }
}

fn text_at<'a>(head: &'a [u8], range: &Range<usize>) -> &'a str {
    head.get(range.clone()).and_then(|part| std::str::from_utf8(part).ok()).unwrap_or_default()
}

#[cfg(test)]
mod differential;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_that_are_plain_mean_the_same_to_all() {
        for byte in 0..=u8::MAX {
            let target = format!("/a{}b?c={}", char::from(byte), char::from(byte));
            if is_plain(&target) {
                let uri: http::Uri = target.parse().unwrap();
                assert_eq!(uri.path_and_query().unwrap().as_str(), target);
                let path = target.split_once('?').map_or(&*target, |(path, _)| path);
                assert_eq!(uri.path(), path);
            }
        }
        for target in ["*", "", "a", "https://shop.test/", "/a#b", "/a b", "/\u{e6}"] {
            assert!(!is_plain(target), "{target}");
        }
    }

    #[test]
    fn hosts_are_read_as_everywhere() {
        for authority in ["shop.test", "shop.test:8443", "SHOP.test", "[::1]:80", "", ":80", "a:b:c"] {
            assert_eq!(host_of(authority), host_in(authority), "{authority}");
        }
    }
}
