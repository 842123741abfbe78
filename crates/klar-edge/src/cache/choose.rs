//! What is to be done with a request, as far as what is kept says: a pure function, so that it can be asked also of a
//! request that nobody makes.

use std::time::Instant;

use http::{Method, Request};
use hyper::body::Body;

use super::Cache;
use super::policy::{Asked, Decision, Facts};
use super::status::{Forwarded, Status};
use crate::fields::Fields;
use crate::forward::STICKY;
use crate::table::RouteTable;

/// What the cache has to do with a request.
///
/// # Errors
/// Why it has no part in it, in words that follow "because".
pub fn part<B: Body>(
    cache: &Cache,
    route: &RouteTable,
    upgrade: bool,
    request: &Request<B>,
) -> Result<Asked, &'static str> {
    let has_body = || !request.body().is_end_stream();
    part_of(cache, route, upgrade, (request.method(), request.headers()), has_body)
}

/// The same of a request with this method and these headers.
///
/// # Errors
/// As [`part`].
pub fn part_of(
    cache: &Cache,
    route: &RouteTable,
    upgrade: bool,
    (method, headers): (&Method, &impl Fields),
    has_body: impl FnOnce() -> bool,
) -> Result<Asked, &'static str> {
    if !route.cache.enabled {
        return Err(if route.clients.is_some() {
            "the route is for visitors with certificates, and what one of them may have is not for others"
        } else {
            "it is switched off on this route"
        });
    }
    if upgrade {
        return Err("the request asks for a WebSocket");
    }
    let asked = Asked::judge(method, headers, STICKY)?;
    if has_body() {
        return Err("the request has a body");
    }
    if cache.room() == 0 {
        return Err("it has no room");
    }
    Ok(asked)
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Give what is kept.
    Give(Status),
    /// Give what is kept, and ask for a newer one meanwhile.
    Refresh(Status),
    /// Refuse: the visitor wants it from the cache only.
    Refuse,
    /// Ask the app. `usable`: what is kept may be asked about, or stand in.
    Ask { why: Forwarded, usable: bool },
}

/// What there is to choose by.
#[derive(Debug)]
pub struct Situation<'a> {
    pub asked: &'a Asked,
    /// What is kept for such a request.
    pub found: Option<&'a Facts>,
    /// Whether something is kept for this address, be it for other requests.
    pub others: bool,
    /// Since when this request exists, if it has waited for another one's answer.
    pub waited_since: Option<Instant>,
    pub now: Instant,
}

impl Situation<'_> {
    /// Says what is to be done. `is_failing`: whether the app could not be reached for this address just now.
    pub fn choose(&self, is_failing: impl FnOnce() -> bool) -> Choice {
        let now = self.now;
        let decision = self.found.map(|facts| facts.decide(self.asked, now));
        let left = self.found.map(|facts| facts.left(now));
        let hit = Status { hit: true, left, collapsed: self.waited_since.is_some(), ..Status::default() };
        if let (Some(facts), Some(decision)) = (self.found, decision) {
            // Asked for while this one was waiting, so it is as new as it can be.
            let is_new = self.waited_since.is_some_and(|since| facts.received() >= since);
            match decision {
                Decision::Fresh | Decision::Stale => return Choice::Give(hit),
                Decision::Refresh => return Choice::Refresh(Status { detail: Some("refresh"), ..hit }),
                Decision::Validate if is_new && facts.is_for_many() => return Choice::Give(hit),
                Decision::Validate if facts.may_stand_in(self.asked, None, now) && is_failing() => {
                    return Choice::Refresh(Status { detail: Some("app-away"), ..hit });
                }
                Decision::Validate | Decision::Unfit => {}
            }
        }
        if self.asked.demand.only_if_cached {
            return Choice::Refuse;
        }
        let why = match decision {
            Some(Decision::Validate) if left.is_some_and(|left| left > 0) => Forwarded::Request,
            Some(Decision::Unfit) => Forwarded::Request,
            Some(_) => Forwarded::Stale,
            None if self.others => Forwarded::VaryMiss,
            None => Forwarded::Miss,
        };
        Choice::Ask { why, usable: decision != Some(Decision::Unfit) }
    }
}
