//! The way of a request through the cache: from the store, from somebody else's request, or from the app.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use klar_base::ServiceName;
use klar_base::signal::{CacheOutcome, DecidedBy};
use tokio::time::timeout;

use super::Cache;
use super::choose::{self, Choice, Situation};
use super::dates;
use super::directives::Control;
use super::fill::{FillBody, Keep};
use super::flight::{Flight, Landing, Lead, Shown, Turn};
use super::invalidate::invalidate;
use super::key::{Key, Selector};
use super::policy::{self, Asked, Decision, Facts, Times};
use super::status::{Forwarded, Status};
use super::store::{Name, Stored, Ticket, Written, compact};
use crate::answer::{Answer, Coming, Source};
use crate::fields::Fields;
use crate::files::Range;
use crate::forward::{Failure, Road, STICKY, forward};
use crate::front::Visitor;
use crate::headers::{self, REQUEST_ID};
use crate::http1::body::VisitorBody;
use crate::story::Story;
use crate::table::{RouteTable, SiteTable};

/// So often somebody waits for others before asking alone.
const ROUNDS: u32 = 8;
/// Names by which an answer can be taken out; more are not remembered.
const TAGS_MAX: usize = 64;
/// A longer one is not either, in bytes.
const TAG_MAX: usize = 128;

/// Answers a request to a service, from the cache or from an instance.
///
/// # Errors
/// When there is no answer, neither from the app nor one that may stand in for it.
pub async fn answer(
    road: &Road,
    route: &RouteTable,
    service: &ServiceName,
    request: Request<VisitorBody>,
    host: &str,
    story: &mut Story,
) -> Result<Answer, Failure> {
    let cache = &road.shared.cache;
    let (said_host, said_target) =
        (request.headers().get(header::HOST).cloned(), request.uri().path_and_query().cloned());
    let authority = said_host.as_ref().and_then(|host| host.to_str().ok());
    let target = said_target.as_ref().map_or("/", |target| target.as_str());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let asked = choose::part(cache, route, road.upgrade, &request);
    let (Ok(asked), Some(authority)) = (asked, authority) else {
        let is_safe = reads || matches!(*request.method(), Method::OPTIONS | Method::TRACE);
        let (mut parts, body) = request.into_parts();
        let visitors_side = parts.extensions.remove().filter(|_| road.upgrade);
        let mut answer = forward(road, route, service, &parts, Some(body), visitors_side, story).await?;
        if !is_safe && let Some(authority) = authority {
            Box::pin(invalidate(cache, road, authority, host, target, &answer)).await;
        }
        if reads && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            story.record.cache = Some(CacheOutcome::Bypass);
            if route.cache.enabled {
                Status::forwarded(Forwarded::Bypass).tell(answer.headers_mut());
            }
        }
        return Ok(answer);
    };
    let errand = Errand {
        road,
        route,
        service,
        key: key(road, authority, target),
        host,
        parts: request.into_parts().0,
        asked,
    };
    errand.run(story).await
}

/// What the cache has to do with a request on its straight way.
#[derive(Debug)]
pub enum Glance {
    /// It gives this.
    Give(Arc<Stored>, Status),
    /// Nothing but to say so, and to look at the answer. `None`: not even that.
    Ask(Option<Asked>),
}

/// Says what the cache has to do with a request without a body, if that is one of the simple things.
pub fn glance(
    cache: &Cache,
    site: &SiteTable,
    route: &RouteTable,
    (method, headers): (&Method, &impl Fields),
    (https, authority, target): (bool, &str, &str),
    now: Instant,
) -> Option<Glance> {
    let Ok(asked) = choose::part_of(cache, route, false, (method, headers), || false) else {
        return Some(Glance::Ask(None));
    };
    let key = Key::of(scheme(https), &site.app, site.epoch, authority, target);
    let (found, others) = cache.store.find(&key, headers);
    if found.is_none() && (others.is_some() || cache.place(&key, &site.app, headers).is_some()) {
        return None;
    }
    let selector = others.as_deref().map(|stored| &stored.selector);
    let flight = || flight_key(&key, &asked, selector, headers);
    let facts = found.as_deref().map(|found| &found.facts);
    let situation = Situation { asked: &asked, found: facts, others: false, waited_since: None, now };
    let choice = situation.choose(|| cache.flights.is_failing(&flight(), now));
    match (choice, found) {
        (Choice::Give(status), Some(stored)) if !asked.partial && !asked.head => {
            Some(Glance::Give(stored, status))
        }
        (Choice::Ask { why: Forwarded::Miss, .. }, None) => {
            // As in `Errand::run`: these do not lead.
            let is_alone = asked.head || asked.partial || cache.flights.is_alone(&flight(), now);
            is_alone.then_some(Glance::Ask(Some(asked)))
        }
        _ => None,
    }
}

/// What is said of an answer that went by the cache on its straight way; `None`: it does not go by. `asked`: as
/// [`glance`] gave it.
pub fn passes(
    cache: &Cache,
    route: &RouteTable,
    asked: Option<&Asked>,
    (status, headers): (StatusCode, &impl Fields),
    length: u64,
    times: Times,
) -> Option<Status> {
    let Some(asked) = asked else { return Some(Status::forwarded(Forwarded::Bypass)) };
    let mut cookies = headers.all(&header::SET_COOKIE);
    if cookies.any(|cookie| cookie.starts_with(STICKY.as_bytes())) {
        return None;
    }
    let judged = verdict(cache, asked, route, (status, headers), Some(length), true, times);
    judged.err().map(|reason| Status { detail: Some(reason), ..Status::forwarded(Forwarded::Miss) })
}

/// Whether an answer may be kept. `length`: of its body, where it is known. `is_delimited`: its end is told from a
/// connection that broke.
///
/// # Errors
/// Why not.
fn verdict(
    cache: &Cache,
    asked: &Asked,
    route: &RouteTable,
    (status, headers): (StatusCode, &impl Fields),
    length: Option<u64>,
    is_delimited: bool,
    times: Times,
) -> Result<Facts, &'static str> {
    match length {
        _ if asked.head => Err("head"),
        _ if !is_delimited => Err("open-end"),
        Some(length) if length > cache.store.object_max() as u64 => Err("too-large"),
        _ => policy::judge(asked, status, headers, times, &route.cache),
    }
}

fn key(road: &Road, authority: &str, target: &str) -> Key {
    Key::of(scheme(road.https), &road.site.app, road.site.epoch, authority, target)
}

/// As it stands in keys.
pub fn scheme(https: bool) -> &'static str {
    if https { "https" } else { "http" }
}

/// One request that the cache has a part in.
struct Errand<'a> {
    road: &'a Road,
    route: &'a RouteTable,
    service: &'a ServiceName,
    parts: Parts,
    asked: Asked,
    key: Key,
    host: &'a str,
}

impl Errand<'_> {
    fn cache(&self) -> &Arc<Cache> {
        &self.road.shared.cache
    }

    fn name(&self) -> Name {
        let target = self.parts.uri.path_and_query().map_or("/", |target| target.as_str());
        Name { app: self.road.site.app.clone(), host: self.host.to_owned(), target: target.to_owned() }
    }

    async fn run(&self, story: &mut Story) -> Result<Answer, Failure> {
        let begun = Instant::now();
        let (mut collapsed, mut alone, mut rounds) = (false, false, 0);
        let mut looked = false;
        loop {
            let (mut found, mut others) = self.cache().store.find(&self.key, &self.parts.headers);
            if found.is_none()
                && !std::mem::replace(&mut looked, true)
                && let Some(place) = self.cache().place(&self.key, &self.road.site.app, &self.parts.headers)
                // What few requests wait for is kept elsewhere than what all of them need: see `Visit`.
                && let Some(brought) = Box::pin(self.cache().bring(&self.key, place)).await
            {
                (found, others) = self.cache().store.find(&self.key, &self.parts.headers);
                if found.is_none() {
                    (found, others) = (Some(brought.clone()), Some(brought));
                }
            }
            let now = Instant::now();
            let flight = || {
                let selector = others.as_deref().map(|stored| &stored.selector);
                flight_key(&self.key, &self.asked, selector, &self.parts.headers)
            };
            let situation = Situation {
                asked: &self.asked,
                found: found.as_deref().map(|found| &found.facts),
                others: others.is_some(),
                waited_since: collapsed.then_some(begun),
                now,
            };
            let choice = situation.choose(|| self.cache().flights.is_failing(&flight(), now));
            let (why, usable) = match (choice, &found) {
                (Choice::Give(status), Some(stored)) => return Ok(self.give(stored, status, story)),
                (Choice::Refresh(status), Some(stored)) => {
                    self.refresh(stored.clone(), flight().into_owned(), story.record.client);
                    return Ok(self.give(stored, status, story));
                }
                (Choice::Refuse, _) => {
                    let detail = "this was asked for from the cache only, and is not there";
                    story.record.cache = Some(CacheOutcome::Miss);
                    return Err(Failure::refused(StatusCode::GATEWAY_TIMEOUT, detail));
                }
                (Choice::Ask { why, usable }, _) => (why, usable),
                // There is nothing to give.
                (Choice::Give(_) | Choice::Refresh(_), None) => (Forwarded::Miss, false),
            };
            let stored = found.filter(|_| usable);
            let flight = flight();
            let can_lead =
                !self.asked.head && (!self.asked.partial || stored.as_deref().is_some_and(can_validate));
            let turn = if alone || !can_lead || rounds >= ROUNDS {
                Turn::Alone
            } else {
                self.cache().flights.join(&flight, now)
            };
            let lead = match turn {
                Turn::Lead(lead) => Some(lead),
                Turn::Alone => None,
                Turn::Wait(mut other) => {
                    rounds += 1;
                    let patience = self.route.timeout.saturating_sub(begun.elapsed());
                    // A part is cut from the whole.
                    match Box::pin(timeout(patience, other.landed(!self.asked.partial))).await {
                        Ok(Landing::Shown) => match self.follow(&other, begun, story) {
                            Some(answer) => return Ok(answer),
                            // What comes does not suit this one.
                            None => alone = true,
                        },
                        Ok(Landing::Stored) => {
                            // Whoever it does not suit does not wait for the next one as well.
                            alone = collapsed && others.is_some();
                            collapsed = true;
                        }
                        Ok(Landing::Abandoned) => {}
                        // If something may stand in, the next round finds it so.
                        Ok(Landing::Failed | Landing::Nothing | Landing::Flying) | Err(_) => alone = true,
                    }
                    continue;
                }
            };
            return self.fetch(stored, lead, why, &flight, story).await;
        }
    }

    /// The answer that is on its way for somebody else, if it suits this request and has not been forgotten since.
    fn follow(&self, flight: &Flight, begun: Instant, story: &mut Story) -> Option<Answer> {
        let Shown { head, ticket, length, body } = flight.shown()?;
        let now = Instant::now();
        if !head.selector.suits(&self.parts.headers) || self.cache().store.ticket(&self.key) != *ticket {
            return None;
        }
        match head.facts.decide(&self.asked, now) {
            Decision::Fresh | Decision::Stale | Decision::Refresh => {}
            // Asked for while this one was waiting, so it is as new as it can be.
            Decision::Validate if head.facts.received() >= begun && head.facts.is_for_many() => {}
            Decision::Validate | Decision::Unfit => return None,
        }
        let body = FillBody::follow(body, *length)?;
        let left = Some(head.facts.left(now));
        let status = Status { hit: true, left, collapsed: true, ..Status::default() };
        story.record.cache = Some(status.outcome());
        story.record.decided_by = DecidedBy::Edge;
        let mut answer = Response::new(Source::Fill(body));
        *answer.status_mut() = head.status;
        *answer.headers_mut() = head.headers.clone();
        let headers = answer.headers_mut();
        headers.insert(header::AGE, HeaderValue::from(head.facts.age(now).as_secs()));
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(*length));
        }
        status.tell(headers);
        Some(answer)
    }

    /// Asks for a newer answer without anybody waiting, unless somebody does already.
    fn refresh(&self, stored: Arc<Stored>, flight: Key, client: IpAddr) {
        let Some(lead) = self.cache().flights.lead(&flight) else { return };
        let mut parts = Request::new(()).into_parts().0;
        parts.method = Method::GET;
        parts.uri = self.parts.uri.clone();
        parts.headers = self.parts.headers.clone();
        policy::unconditional(&mut parts.headers);
        let mut asked = Asked { head: false, partial: false, ..self.asked.clone() };
        asked.demand = Default::default();
        let (road, service) = (self.road.clone(), self.service.clone());
        let (key, host) = (self.key.clone(), self.host.to_owned());
        // It is nobody's request, so it is in the access log, and not among those that an app's totals count.
        let visitor = Visitor { address: client, https: self.road.https };
        let mut story = Story::begin(self.road.shared.clone(), Instant::now(), visitor);
        story.record.site = Some(self.road.site.clone());
        story.record.method = Some(Method::GET);
        story.record.host = self.host.into();
        story.record.target = self.parts.uri.path_and_query().cloned();
        story.record.route = Some(self.route.pattern.clone());
        tokio::task::spawn_local(async move {
            let site = road.site.clone();
            let Some(route) = site.route(parts.uri.path()) else { return };
            let errand = Errand { road: &road, route, service: &service, parts, asked, key, host: &host };
            // Whatever comes of it is in the store, or the stale answer goes on.
            let outcome = errand.fetch(Some(stored), Some(lead), Forwarded::Stale, &flight, &mut story).await;
            story.record.aborted = false;
            story.record.cache = Some(CacheOutcome::Refresh);
            match outcome {
                Ok(answer) => story.record.status = answer.status().as_u16(),
                Err(failure) => {
                    story.record.status = failure.reason.status.as_u16();
                    story.record.decided_by = failure.decided_by;
                    story.record.error = Some(failure.error);
                }
            }
            drop(story);
        });
    }

    /// Asks the app.
    async fn fetch(
        &self,
        mut stored: Option<Arc<Stored>>,
        mut lead: Option<Lead>,
        why: Forwarded,
        flight: &Key,
        story: &mut Story,
    ) -> Result<Answer, Failure> {
        let cache = self.cache();
        loop {
            let ticket = cache.store.ticket(&self.key);
            let validating = stored.clone().filter(|stored| can_validate(stored));
            let conditional = validating.as_deref().map(|stored| self.conditional(stored));
            let parts = conditional.as_ref().unwrap_or(&self.parts);
            let sent = Instant::now();
            story.record.decided_by = DecidedBy::App;
            let outcome = forward(self.road, self.route, self.service, parts, None, None, story).await;
            let times = Times { sent, received: Instant::now(), date: SystemTime::now() };
            let said = outcome.as_ref().ok().map(Response::status);
            // The app is away, or as good as.
            let is_failure = match &outcome {
                Err(failure) => failure.decided_by == DecidedBy::Failed,
                Ok(answer) => answer.status().is_server_error(),
            };
            if is_failure
                && let Some(stored) = &stored
                && stored.facts.may_stand_in(&self.asked, said, times.received)
            {
                if let Err(failure) = outcome {
                    story.record.error = Some(failure.error);
                }
                cache.flights.fail(flight, times.received);
                land(&mut lead, Landing::Failed);
                let left = Some(stored.facts.left(times.received));
                let status = Status { hit: true, left, detail: Some("app-away"), ..Status::default() };
                return Ok(self.give(stored, status, story));
            }
            let mut answer = match outcome {
                Ok(answer) => answer,
                Err(failure) => {
                    land(&mut lead, Landing::Nothing);
                    story.record.cache = Some(CacheOutcome::Miss);
                    return Err(failure);
                }
            };
            let own = take_own_cookies(answer.headers_mut());
            if let Some(known) = validating
                && answer.status() == StatusCode::NOT_MODIFIED
            {
                if !policy::is_same_version(&known.headers, answer.headers()) {
                    // It speaks of another version than the one that is here.
                    cache.remove(&self.key, &self.name());
                    stored = None;
                    continue;
                }
                let mut answer =
                    self.validated(&known, answer.headers(), times, ticket, why, flight, &mut lead, story);
                add_cookies(answer.headers_mut(), own);
                return Ok(answer);
            }
            if self.asked.head {
                self.note_head(stored.as_deref(), &answer, times, ticket);
            }
            let mut answer = self.keep(answer, times, ticket, why, stored.is_some(), flight, lead, story);
            add_cookies(answer.headers_mut(), own);
            return Ok(answer);
        }
    }

    /// The request for something newer than what is kept.
    fn conditional(&self, stored: &Stored) -> Parts {
        let mut parts = Request::new(()).into_parts().0;
        parts.method = self.parts.method.clone();
        parts.uri = self.parts.uri.clone();
        parts.headers = self.parts.headers.clone();
        policy::unconditional(&mut parts.headers);
        for (from, to) in
            [(header::ETAG, header::IF_NONE_MATCH), (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE)]
        {
            if let Some(value) = stored.headers.get(from) {
                parts.headers.insert(to, value.clone());
            }
        }
        parts
    }

    /// What is kept is still good: the visitor gets it with what the app says anew.
    #[expect(clippy::too_many_arguments, reason = "what is known of one exchange, used once")]
    fn validated(
        &self,
        known: &Stored,
        update: &HeaderMap,
        times: Times,
        ticket: Ticket,
        why: Forwarded,
        flight: &Key,
        lead: &mut Option<Lead>,
        story: &mut Story,
    ) -> Answer {
        let mut merged = policy::freshen(&known.headers, &compact(update));
        let judged = policy::judge(&self.asked, known.status, &merged, times, &self.route.cache);
        let cookies: Vec<HeaderValue> = merged.get_all(header::SET_COOKIE).iter().cloned().collect();
        let mut status = Status { app_said: Some(StatusCode::NOT_MODIFIED), ..Status::forwarded(why) };
        let selector = Selector::of(&merged, &self.parts.headers);
        prepare(&mut merged, times.date);
        let (facts, selector, keeps) = match (judged, selector) {
            (Ok(facts), Some(selector)) => (facts, selector, true),
            (Err(reason), _) => {
                status.detail = Some(reason);
                // A cookie for this visitor says nothing of the page.
                if reason != "set-cookie" {
                    self.cache().remove(&self.key, &self.name());
                }
                (known.facts.clone(), Selector::default(), false)
            }
            (Ok(facts), None) => (facts, Selector::default(), false),
        };
        let many = keeps && facts.is_for_many();
        let renewed = Arc::new(Stored {
            status: known.status,
            tags: tags(&merged),
            written: Written::default(),
            headers: merged,
            body: known.body.clone(),
            selector,
            facts,
        });
        if keeps {
            status.stored = self.cache().put(&self.key, &self.name(), ticket, &renewed);
            status.left = Some(renewed.facts.left(times.received));
        }
        if many && status.stored {
            self.cache().flights.unite(flight);
            land(lead, Landing::Stored);
        } else {
            self.cache().flights.part(flight, times.received, status.detail.unwrap_or("revalidates"));
            land(lead, Landing::Nothing);
        }
        let mut answer = self.give(&renewed, status, story);
        story.record.decided_by = DecidedBy::App;
        add_cookies(answer.headers_mut(), cookies);
        answer
    }

    /// A new answer: on its way to the visitor, and into the store if it may be kept.
    #[expect(clippy::too_many_arguments, reason = "what is known of one exchange, used once")]
    fn keep(
        &self,
        answer: Answer,
        times: Times,
        ticket: Ticket,
        why: Forwarded,
        had_one: bool,
        flight: &Key,
        lead: Option<Lead>,
        story: &mut Story,
    ) -> Answer {
        let cache = self.cache();
        let (parts, source) = answer.into_parts();
        let length = match &source {
            Source::Full(bytes) => Some(bytes.len() as u64),
            Source::App(body) => body.length(),
            Source::Compressed(_) | Source::Fill(_) | Source::Kept { .. } | Source::File(_) => None,
        };
        let is_delimited = match &source {
            Source::App(body) => body.is_delimited(),
            Source::Compressed(body) => body.is_delimited(),
            _ => true,
        };
        let answer = (parts.status, &parts.headers);
        let judged = verdict(cache, &self.asked, self.route, answer, length, is_delimited, times);
        let selector = || Selector::of(&parts.headers, &self.parts.headers).ok_or("vary");
        let (facts, selector) = match judged.and_then(|facts| Ok((facts, selector()?))) {
            Ok(kept) => kept,
            Err(reason) => {
                if !self.asked.head && !parts.status.is_server_error() {
                    if had_one
                        && parts.status != StatusCode::PARTIAL_CONTENT
                        && parts.status != StatusCode::NOT_MODIFIED
                    {
                        // What is here has been replaced by something that may not be kept.
                        cache.remove(&self.key, &self.name());
                    }
                    if lead.is_some() {
                        cache.flights.part(flight, times.received, reason);
                    }
                }
                if let Some(lead) = lead {
                    lead.land(Landing::Nothing);
                }
                let status = Status {
                    app_said: (why == Forwarded::Stale).then_some(parts.status),
                    detail: Some(reason),
                    ..Status::forwarded(why)
                };
                let mut answer = Response::from_parts(parts, source);
                story.record.cache = Some(status.outcome());
                status.tell(answer.headers_mut());
                return answer;
            }
        };
        let many = facts.is_for_many();
        let mut lead = lead;
        if many {
            cache.flights.unite(flight);
        } else {
            // Everybody has to ask, so nobody has to wait.
            cache.flights.part(flight, times.received, "revalidates");
            land(&mut lead, Landing::Nothing);
        }
        let mut headers = compact(&parts.headers);
        prepare(&mut headers, times.date);
        let keep = Keep {
            cache: cache.clone(),
            key: self.key.clone(),
            name: self.name(),
            ticket,
            stored: Stored {
                status: parts.status,
                tags: tags(&headers),
                written: Written::default(),
                headers,
                body: Bytes::new(),
                selector,
                facts,
            },
            lead,
        };
        let mut status = Status {
            left: Some(keep.stored.facts.left(times.received)),
            stored: true,
            app_said: (why == Forwarded::Stale).then_some(parts.status),
            ..Status::forwarded(why)
        };
        let source = match source {
            Source::Full(bytes) => {
                status.stored = keep.put(Bytes::copy_from_slice(&bytes));
                Source::Full(bytes)
            }
            Source::App(body) => fill(body, cache, keep, length),
            Source::Compressed(body) => fill(body, cache, keep, length),
            other => other,
        };
        let mut answer = Response::from_parts(parts, source);
        story.record.cache = Some(status.outcome());
        status.tell(answer.headers_mut());
        answer
    }

    /// What the head of an answer says of the whole one that is kept (RFC 9111 section 4.3.5).
    fn note_head(&self, stored: Option<&Stored>, answer: &Answer, times: Times, ticket: Ticket) {
        let Some(stored) = stored.filter(|_| answer.status() == StatusCode::OK) else { return };
        let length = answer.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let same_length = length.is_none_or(|length| length.parse() == Ok(stored.body.len()));
        if stored.status != StatusCode::OK
            || !same_length
            || !policy::is_same_version(&stored.headers, answer.headers())
        {
            self.cache().remove(&self.key, &self.name());
            return;
        }
        let mut merged = policy::freshen(&stored.headers, &compact(answer.headers()));
        let judged = policy::judge(&self.asked, stored.status, &merged, times, &self.route.cache);
        let (Ok(facts), Some(selector)) = (judged, Selector::of(&merged, &self.parts.headers)) else {
            return;
        };
        prepare(&mut merged, times.date);
        let renewed = Stored {
            status: stored.status,
            tags: tags(&merged),
            written: Written::default(),
            headers: merged,
            body: stored.body.clone(),
            selector,
            facts,
        };
        self.cache().put(&self.key, &self.name(), ticket, &Arc::new(renewed));
    }

    /// Makes an answer of what is kept: all of it, a part, or only that it has not changed.
    fn give(&self, stored: &Stored, status: Status, story: &mut Story) -> Answer {
        let (now, request) = (Instant::now(), &self.parts.headers);
        story.record.cache = Some(status.outcome());
        story.record.decided_by = DecidedBy::Edge;
        let mut answer = Response::new(Source::empty());
        *answer.status_mut() = stored.status;
        let is_usual = !self.asked.partial && !self.asked.head && self.road.codec;
        if !is_usual {
            *answer.headers_mut() = stored.headers.clone();
        }
        let headers = answer.headers_mut();
        headers.insert(header::AGE, HeaderValue::from(stored.facts.age(now).as_secs()));
        status.tell(headers);
        if is_usual {
            if let Some(date) = stored.headers.get(header::DATE) {
                headers.insert(header::DATE, date.clone());
            }
            let lines = lines(stored, &self.road.site, self.host, self.road.https);
            *answer.body_mut() = Source::Kept { lines, body: stored.body.clone() };
            return answer;
        }
        if stored.status == StatusCode::OK && policy::has_it(request, &stored.headers, SystemTime::now()) {
            for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE] {
                headers.remove(name);
            }
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            return answer;
        }
        let length = stored.body.len() as u64;
        let range = request.get(header::RANGE).and_then(|range| range.to_str().ok()).filter(|_| {
            !self.asked.head
                && stored.status == StatusCode::OK
                && policy::wants_part(request, &stored.headers)
        });
        let body = match range.map_or(Range::All, |range| Range::read(range, length)) {
            Range::All => stored.body.clone(),
            Range::Part(first, last) => {
                *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
                content_range(answer.headers_mut(), &format!("bytes {first}-{last}/{length}"));
                stored.body.slice(first as usize..=last as usize)
            }
            Range::None => {
                *answer.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                content_range(answer.headers_mut(), &format!("bytes */{length}"));
                Bytes::new()
            }
        };
        if answer.status() != StatusCode::NO_CONTENT {
            answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        *answer.body_mut() = Source::Full(body);
        answer
    }
}

/// The headers of what is kept but its date, and what the edge adds to all answers of the site.
pub fn lines(stored: &Stored, site: &Arc<SiteTable>, host: &str, https: bool) -> Bytes {
    stored.written.get(site, || {
        let mut all = stored.headers.clone();
        headers::protect(&mut all, site.csp.as_ref(), host, https);
        all.remove(header::DATE);
        headers::lines(&all)
    })
}

fn content_range(headers: &mut HeaderMap, range: &str) {
    if let Ok(range) = HeaderValue::try_from(range) {
        headers.insert(header::CONTENT_RANGE, range);
    }
}

fn land(lead: &mut Option<Lead>, landing: Landing) {
    if let Some(lead) = lead.take() {
        lead.land(landing);
    }
}

/// What tells those apart who do not wait for each other.
pub fn flight_key<'a>(
    key: &'a Key,
    asked: &Asked,
    selector: Option<&Selector>,
    headers: &impl Fields,
) -> Cow<'a, Key> {
    if !asked.is_somebodys() && selector.is_none_or(|selector| selector.parts().is_empty()) {
        return Cow::Borrowed(key);
    }
    let mut more = vec![u8::from(asked.authorization), u8::from(asked.cookie)];
    more.extend(selector.map(|selector| selector.sift(headers)).unwrap_or_default());
    Cow::Owned(key.with(&more))
}

/// Whether the app can be asked if an answer is still good.
pub fn can_validate(stored: &Stored) -> bool {
    stored.headers.contains_key(header::ETAG) || stored.headers.contains_key(header::LAST_MODIFIED)
}

/// Takes out the cookie that the edge itself has put in for a sticky service: it says nothing of the answer.
fn take_own_cookies(headers: &mut HeaderMap) -> Vec<HeaderValue> {
    if !headers.contains_key(header::SET_COOKIE) {
        return Vec::new();
    }
    let (own, others): (Vec<_>, Vec<_>) = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .cloned()
        .partition(|cookie| cookie.as_bytes().starts_with(STICKY.as_bytes()));
    headers.remove(header::SET_COOKIE);
    add_cookies(headers, others);
    own
}

fn add_cookies(headers: &mut HeaderMap, cookies: Vec<HeaderValue>) {
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// Makes headers those that are kept.
fn prepare(headers: &mut HeaderMap, now: SystemTime) {
    let without = Control::of(headers).without;
    for name in
        [header::AGE, header::CONTENT_LENGTH, header::SET_COOKIE, REQUEST_ID].into_iter().chain(without)
    {
        headers.remove(name);
    }
    if !headers.contains_key(header::DATE)
        && let Ok(date) = HeaderValue::try_from(dates::write(now))
    {
        headers.insert(header::DATE, date);
    }
}

/// The names that an app gives an answer: `Cache-Tag` (between commas) and `Surrogate-Key` (between blanks).
fn tags(headers: &HeaderMap) -> Vec<Box<str>> {
    ["cache-tag", "surrogate-key"]
        .iter()
        .flat_map(|name| headers.get_all(HeaderName::from_static(name)))
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split([',', ' ']))
        .filter(|tag| !tag.is_empty() && tag.len() <= TAG_MAX)
        .take(TAGS_MAX)
        .map(Box::from)
        .collect()
}

fn fill(body: Box<dyn Coming>, cache: &Arc<Cache>, keep: Keep, length: Option<u64>) -> Source {
    FillBody::start(body, cache.clone(), keep, length).map_or_else(Source::empty, Source::Fill)
}
