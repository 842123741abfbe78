//! The record of one request, written when it is over, however it ends.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use klar_base::signal::{CacheOutcome, DecidedBy, ImageOutcome};
use klar_base::upstreams::WafMode;

use crate::counters::RouteTotals;
use crate::fields;
use crate::firewall::{Inspection, Over};
use crate::front::Visitor;
use crate::records::Record;
use crate::table::{AppTotals, Shared, SiteTable};
use crate::upstream::UpstreamState;

/// The longest `user-agent` that is kept, in characters.
const AGENT_MAX: usize = 256;

/// Tells what became of a request, when it is dropped.
#[derive(Debug)]
pub struct Story {
    pub record: Draft,
    pub totals: Option<Arc<AppTotals>>,
    pub route: Option<Arc<RouteTotals>>,
    /// Bytes of the body that were read, if it is counted.
    pub read: Option<Arc<AtomicU64>>,
    /// What the rules of the firewall make of it, where they are asked.
    pub inspection: Option<Inspection>,
    begun: Instant,
    shared: Arc<Shared>,
}

/// A record that is being made, of what its request has at hand: a [`Record`] is read off it when it is over.
#[derive(Debug)]
pub struct Draft {
    time_unix_ms: u64,
    pub request_id: RequestId,
    pub site: Option<Arc<SiteTable>>,
    pub client: IpAddr,
    pub protocol: &'static str,
    pub tls: bool,
    pub method: Option<Method>,
    pub host: Arc<str>,
    pub target: Option<PathAndQuery>,
    pub route: Option<Arc<str>>,
    pub status: u16,
    pub decided_by: DecidedBy,
    pub bytes_out: u64,
    pub upstream: Option<Arc<UpstreamState>>,
    pub attempts: u32,
    pub error: Option<String>,
    pub aborted: bool,
    pub user_agent: Option<HeaderValue>,
    pub cache: Option<CacheOutcome>,
    pub image: Option<ImageOutcome>,
}

impl Story {
    /// Of a request whose first byte came at `begun`. Until it is told otherwise the visitor went away.
    pub fn begin(shared: Arc<Shared>, begun: Instant, visitor: Visitor) -> Box<Self> {
        let time_unix_ms = unix_ms(SystemTime::now());
        let record = Draft {
            time_unix_ms,
            request_id: RequestId::new(time_unix_ms),
            site: None,
            client: visitor.address,
            protocol: "http/1.1",
            tls: visitor.https,
            method: None,
            host: Arc::default(),
            target: None,
            route: None,
            status: 0,
            decided_by: DecidedBy::Edge,
            bytes_out: 0,
            upstream: None,
            attempts: 0,
            error: None,
            aborted: true,
            user_agent: None,
            cache: None,
            image: None,
        };
        Box::new(Self { record, totals: None, route: None, read: None, inspection: None, begun, shared })
    }

    /// Takes up where somebody else has begun: the app knows the request by this name.
    pub fn go_on(&mut self, time_unix_ms: u64, request_id: RequestId) {
        (self.record.time_unix_ms, self.record.request_id) = (time_unix_ms, request_id);
    }

    /// It is known now whose request this is.
    pub fn tell_visitor(&mut self, visitor: Visitor) {
        (self.record.client, self.record.tls) = (visitor.address, visitor.https);
    }
}

/// A moment in milliseconds since 1970.
pub fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Drop for Story {
    fn drop(&mut self) {
        let waf = self.inspection.as_mut().and_then(Inspection::finding);
        let draft = &self.record;
        if let (Some(inspection), Some(site)) = (&mut self.inspection, &draft.site) {
            inspection.hand_over(&site.name, draft.request_id.as_str());
            if let Some(route) = self.route.as_ref().filter(|_| inspection.mode() == WafMode::Detect) {
                route.watch(waf.as_ref().map(|finding| finding.verdict), draft.status);
            }
            inspection.shadow(&Over {
                time_unix_ms: draft.time_unix_ms,
                request_id: draft.request_id.as_str(),
                app: &site.app,
                route: draft.route.as_deref(),
                status: draft.status,
            });
        }
        let agent = draft.user_agent.as_ref().map(|said| agent(said.as_bytes()));
        let record = Record {
            time_unix_ms: draft.time_unix_ms,
            request_id: draft.request_id.as_str(),
            app: draft.site.as_ref().map(|site| &*site.name),
            client: draft.client,
            protocol: draft.protocol,
            tls: draft.tls,
            method: draft.method.as_ref().map_or("", Method::as_str),
            host: &draft.host,
            path: draft.target.as_ref().map_or("", PathAndQuery::path),
            route: draft.route.as_deref(),
            status: draft.status,
            decided_by: draft.decided_by,
            bytes_in: self.read.as_ref().map_or(0, |read| read.load(Ordering::Relaxed)),
            bytes_out: draft.bytes_out,
            duration_us: u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            upstream: draft.upstream.as_ref().map(|upstream| &*upstream.name),
            attempts: draft.attempts,
            error: draft.error.as_deref(),
            aborted: draft.aborted,
            user_agent: agent.as_deref(),
            cache: draft.cache,
            image: draft.image,
            waf: waf.as_ref(),
        };
        count(&self.shared, &record, self.route.as_deref(), self.totals.as_deref());
    }
}

/// Counts a request that is over, and hands its record over.
pub fn count(shared: &Shared, record: &Record<'_>, route: Option<&RouteTotals>, totals: Option<&AppTotals>) {
    let doors = &shared.doors;
    let spoken = match record.protocol {
        "h3" => &doors.http3_requests,
        "h2" => &doors.http2_requests,
        _ => &doors.http1_requests,
    };
    // What the edge fetches by itself came through no door.
    if record.cache != Some(CacheOutcome::Refresh) {
        spoken.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(route) = route {
        route.count(record);
    }
    if let Some(totals) = totals {
        totals.requests.fetch_add(1, Ordering::Relaxed);
        let also = match record.decided_by {
            DecidedBy::Failed => Some(&totals.failed),
            DecidedBy::Refused => Some(&totals.refused),
            DecidedBy::App if record.status >= 500 => Some(&totals.app_errors),
            DecidedBy::App if record.attempts > 1 && !record.aborted => Some(&totals.saved_by_retry),
            DecidedBy::App | DecidedBy::Edge => None,
        };
        let aborted = record.aborted.then_some(&totals.aborted);
        for total in also.into_iter().chain(aborted) {
            total.fetch_add(1, Ordering::Relaxed);
        }
    }
    shared.record(record);
}

/// A `user-agent` as it is kept.
pub fn agent(said: &[u8]) -> Cow<'_, str> {
    match fields::text(said) {
        // Visible characters only, one byte each.
        Some(said) if said.len() <= AGENT_MAX && !said.contains('\t') => said.into(),
        _ => {
            let said = String::from_utf8_lossy(said);
            said.chars().take(AGENT_MAX).filter(|char| !char.is_control()).collect()
        }
    }
}

/// 32 hexadecimal digits: 12 of time, so that they sort, and 20 of chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// Of a request that came at this moment.
    pub fn new(time_unix_ms: u64) -> Self {
        let (time, chance) =
            (u128::from(time_unix_ms & 0xffff_ffff_ffff), fastrand::u128(..) & ((1 << 80) - 1));
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip((time << 80 | chance).to_be_bytes()) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 0xf)];
        }
        Self(digits)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of a later millisecond sort behind, and two of the same one are not alike.
    #[test]
    fn request_ids() {
        let [first, second, later] = [0x1_9a00, 0x1_9a00, 0x1_9a01].map(RequestId::new);
        assert_eq!((first.as_str().len(), &first.as_str()[..12]), (32, "000000019a00"));
        assert_eq!(&RequestId::new(u64::MAX).as_str()[..12], "ffffffffffff");
        assert!(first != second && first < later && second < later, "{first:?} {second:?} {later:?}");
        let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
        assert!(first.as_str().bytes().all(is_digit), "{first:?}");
    }

    #[test]
    fn agents() {
        let long = "x".repeat(AGENT_MAX + 1);
        for (said, kept) in [
            ("curl/8", "curl/8"),
            ("", ""),
            ("a\tb", "ab"),
            ("blåbær", "blåbær"),
            (&long, &long[..AGENT_MAX]),
        ] {
            assert_eq!(agent(said.as_bytes()), kept);
        }
    }
}
