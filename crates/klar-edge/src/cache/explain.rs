//! What the cache would do with a request that nobody makes, by the same rules and from the same store.

use std::time::{Instant, SystemTime};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, StatusCode};
use hyper::body::Body;
use klar_base::look::{CacheView, Refusal, StoredView, WouldKeep};
use klar_base::signal::CacheOutcome;
use klar_base::upstreams::CacheRules;

use super::Cache;
use super::choose::{self, Choice, Situation};
use super::key::Key;
use super::policy::{self, Asked, Times};
use super::status::{Forwarded, Status};
use super::store::Stored;
use super::visit::{can_validate, flight_key, scheme};
use crate::table::{RouteTable, SiteTable};

/// What an app might say of its answer: nothing, a lifetime for whoever asks, a lifetime for all.
const ANSWERS: [&str; 3] = ["", "max-age=60", "public, max-age=60"];

/// See the [module](self). `upgrade`: the request asks for a WebSocket. `https`: it is of a visitor who speaks HTTPS.
/// `authority`: the host as the visitor writes it.
pub fn view<B: Body>(
    cache: &Cache,
    site: &SiteTable,
    route: &RouteTable,
    (upgrade, https): (bool, bool),
    request: &Request<B>,
    authority: &str,
) -> CacheView {
    let asked = match choose::part(cache, route, upgrade, request) {
        Ok(asked) => asked,
        Err(why) => return bypass(why),
    };
    let now = Instant::now();
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let scheme = scheme(https);
    let key = Key::of(scheme, &site.app, site.epoch, authority, target);
    let (found, selector, count) = cache.store.look(&key, request.headers());
    let flight = flight_key(&key, &asked, selector.as_ref(), request.headers());
    let (in_flight, reason) = cache.flights.look(&flight);
    let situation = Situation {
        asked: &asked,
        found: found.as_deref().map(|found| &found.facts),
        others: selector.is_some(),
        waited_since: None,
        now,
    };
    let choice = situation.choose(|| cache.flights.is_failing(&flight, now));
    let (status, what) = match choice {
        Choice::Give(status) => (status, "gives what is kept"),
        Choice::Refresh(status) if status.detail == Some("app-away") => {
            (status, "gives what is kept, though stale, because the app could not be reached just now")
        }
        Choice::Refresh(status) => (status, "gives what is kept, though stale, and asks for a newer one"),
        Choice::Refuse => {
            (Status::default(), "answers 504: the request wants it from the cache only, and it is not there")
        }
        Choice::Ask { why, .. }
            if found.is_none() && cache.is_on_disk(&key, &site.app, request.headers()) =>
        {
            (
                Status::forwarded(why),
                "has an answer on disk, which it reads and judges before it asks the app",
            )
        }
        Choice::Ask { why, .. } => (Status::forwarded(why), asks(why)),
    };
    CacheView {
        bypass: None,
        key: key_parts(site, scheme, authority, target),
        now: status.to_string(),
        what: what.into(),
        outcome: status.outcome(),
        stored: found.as_deref().map(|stored| stored_view(stored, &asked, now)),
        others: (count - usize::from(found.is_some())) as u64,
        in_flight,
        last_refusal: reason.filter(|_| found.is_none()).map(refusal),
        would_keep: ANSWERS.iter().map(|control| would_keep(&asked, control, &route.cache)).collect(),
    }
}

fn bypass(why: &str) -> CacheView {
    CacheView {
        bypass: Some(why.into()),
        key: Vec::new(),
        now: Status::forwarded(Forwarded::Bypass).to_string(),
        what: "has no part in it".into(),
        outcome: CacheOutcome::Bypass,
        stored: None,
        others: 0,
        in_flight: false,
        last_refusal: None,
        would_keep: Vec::new(),
    }
}

/// What [`Key::of`] is made of.
fn key_parts(site: &SiteTable, scheme: &str, authority: &str, target: &str) -> Vec<(String, String)> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let parts = [
        ("app", Some(site.app.to_string())),
        ("epoch", Some(site.epoch.to_string())),
        ("method", Some("GET".into())),
        ("scheme", Some(scheme.into())),
        ("host", Some(authority.to_ascii_lowercase())),
        ("path", Some(path.into())),
        ("query", query.map(String::from)),
    ];
    parts.into_iter().filter_map(|(name, value)| Some((name.into(), value?))).collect()
}

fn asks(why: Forwarded) -> &'static str {
    match why {
        Forwarded::Bypass => "has no part in it",
        Forwarded::Miss => "has nothing, and asks the app",
        Forwarded::VaryMiss => "has answers for other requests only, and asks the app",
        Forwarded::Stale => "asks the app whether what is kept is still good",
        Forwarded::Request => {
            "asks the app: the request wants a newer answer, or what is kept is not for requests with cookies or authorization"
        }
    }
}

fn stored_view(stored: &Stored, asked: &Asked, now: Instant) -> StoredView {
    let stands_in = stored.facts.stand_in(asked, None, now);
    StoredView {
        status: stored.status.as_u16(),
        age_s: stored.facts.age(now).as_secs(),
        left_s: stored.facts.left(now),
        bytes: stored.body.len() as u64,
        vary: stored.selector.names().map(ToString::to_string).collect(),
        tags: stored.tags.iter().map(|tag| tag.to_string()).collect(),
        can_validate: can_validate(stored),
        stands_in_s: stands_in.ok().map(|left| left.as_secs()),
        stands_in_not: stands_in.err().map(String::from),
    }
}

/// Judges an answer of 200 with this `Cache-Control`, as if it came now.
fn would_keep(asked: &Asked, control: &'static str, rules: &CacheRules) -> WouldKeep {
    let mut headers = HeaderMap::new();
    if !control.is_empty() {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(control));
    }
    let now = Instant::now();
    let times = Times { sent: now, received: now, date: SystemTime::now() };
    let judged =
        if asked.head { Err("head") } else { policy::judge(asked, StatusCode::OK, &headers, times, rules) };
    WouldKeep {
        answer: if control.is_empty() { String::new() } else { format!("cache-control: {control}") },
        fresh_s: judged.as_ref().ok().map(|facts| facts.left(now)),
        refusal: judged.err().map(refusal),
    }
}

fn refusal(word: &'static str) -> Refusal {
    let why = match word {
        "status" => "its status is not one that is kept",
        "set-cookie" => "it sets a cookie, which is somebody's",
        "private" => "it says `private`",
        "not-understood" => "it says `must-understand`, and its status is not understood",
        "no-store" => "it says `no-store`, or its `cache-control` cannot be read",
        "stream" => "it is a stream of events",
        "authorization" => {
            "the request has authorization, and the answer says none of public, s-maxage, must-revalidate"
        }
        "cookie" => {
            "the request has cookies, and the answer says none of public, s-maxage, cdn-cache-control"
        }
        "no-lifetime" => "it states no lifetime (s-maxage, max-age, expires, cdn-cache-control)",
        "head" => "only whole answers are kept, and this one has no body",
        "open-end" => "its end cannot be told from a connection that broke",
        "too-large" => "it is larger than what is kept",
        "vary" => "its `vary` says that it is for nobody else",
        "revalidates" => "it is kept, and the app is asked each time whether it is still good",
        other => other,
    };
    Refusal { word: word.into(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, Method};
    use std::time::Duration;

    use crate::forward::STICKY;

    /// What the request and the route make of an answer without a word, with `max-age`, and with `public` too.
    #[test]
    fn what_an_answer_has_to_say() {
        type Lines = &'static [(&'static str, &'static str)];
        let rows: [(Method, Lines, Option<u64>, [&str; 3]); 6] = [
            (Method::GET, &[], None, ["no-lifetime", "60", "60"]),
            (Method::GET, &[], Some(30), ["30", "60", "60"]),
            (Method::GET, &[("cookie", "a=1")], Some(30), ["cookie", "cookie", "60"]),
            (Method::GET, &[("cookie", "__klar_instance=1")], Some(30), ["30", "60", "60"]),
            (Method::GET, &[("authorization", "x")], None, ["authorization", "authorization", "60"]),
            (Method::HEAD, &[], None, ["head", "head", "head"]),
        ];
        for (method, lines, lifetime, wanted) in rows {
            let headers: HeaderMap = lines
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            let asked = Asked::judge(&method, &headers, STICKY).unwrap();
            let rules = CacheRules { lifetime: lifetime.map(Duration::from_secs), ..CacheRules::default() };
            let found = ANSWERS.map(|control| {
                let kept = would_keep(&asked, control, &rules);
                match (kept.fresh_s, kept.refusal) {
                    (Some(seconds), None) => seconds.to_string(),
                    (None, Some(refusal)) => refusal.word,
                    other => panic!("{other:?}"),
                }
            });
            assert_eq!(found, wanted, "{method} {lines:?} {lifetime:?}");
        }
    }

    /// Each word of `Cache-Status` has its own sentence.
    #[test]
    fn words_have_sentences() {
        let words = [
            "status",
            "set-cookie",
            "private",
            "not-understood",
            "no-store",
            "stream",
            "authorization",
            "cookie",
            "no-lifetime",
            "head",
            "open-end",
            "too-large",
            "vary",
            "revalidates",
        ];
        for word in words {
            let why = refusal(word).why;
            assert!(why != word && why.contains(' '), "{word}: {why}");
        }
    }
}
