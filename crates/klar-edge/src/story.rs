//! The record of one request, written when it is over, however it ends.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use klar_base::signal::{AccessRecord, CacheOutcome, DecidedBy};

use crate::counters::RouteTotals;
use crate::front::Visitor;
use crate::table::{AppTotals, Shared};

/// Tells what became of a request, when it is dropped.
#[derive(Debug)]
pub struct Story {
    pub record: AccessRecord,
    pub totals: Option<Arc<AppTotals>>,
    pub route: Option<Arc<RouteTotals>>,
    /// Bytes of the body that were read.
    pub read: Arc<AtomicU64>,
    begun: Instant,
    shared: Arc<Shared>,
}

impl Story {
    /// Of a request whose first byte came at `begun`. Until it is told otherwise the visitor went away.
    pub fn begin(shared: Arc<Shared>, begun: Instant, visitor: Visitor) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_unix_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let record = AccessRecord {
            time_unix_ms,
            request_id: request_id(time_unix_ms),
            protocol: "http/1.1".into(),
            tls: visitor.https,
            aborted: true,
            ..blank(visitor.address)
        };
        Self { record, totals: None, route: None, read: Arc::default(), begun, shared }
    }

    /// It is known now whose request this is.
    pub fn tell_visitor(&mut self, visitor: Visitor) {
        (self.record.client, self.record.tls) = (visitor.address, visitor.https);
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        let mut record = std::mem::replace(&mut self.record, blank(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        record.bytes_in = self.read.load(Ordering::Relaxed);
        record.duration_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let doors = &self.shared.doors;
        let spoken = if record.protocol == "h2" { &doors.http2_requests } else { &doors.http1_requests };
        // What the edge fetches by itself came through no door.
        if record.cache != Some(CacheOutcome::Refresh) {
            spoken.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(route) = &self.route {
            route.count(&record);
        }
        if let Some(totals) = &self.totals {
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
        self.shared.record(record);
    }
}

/// A record that says nothing yet, and takes no memory of its own.
fn blank(client: IpAddr) -> AccessRecord {
    AccessRecord {
        time_unix_ms: 0,
        request_id: String::new(),
        app: None,
        client,
        protocol: String::new(),
        tls: false,
        method: String::new(),
        host: String::new(),
        path: String::new(),
        route: None,
        status: 0,
        decided_by: DecidedBy::Edge,
        bytes_in: 0,
        bytes_out: 0,
        duration_us: 0,
        upstream: None,
        attempts: 0,
        error: None,
        aborted: false,
        user_agent: None,
        cache: None,
    }
}

/// 32 hexadecimal digits: 12 of time, so that they sort, and 20 of chance.
fn request_id(time_unix_ms: u64) -> String {
    let (time, chance) = (u128::from(time_unix_ms & 0xffff_ffff_ffff), fastrand::u128(..) & ((1 << 80) - 1));
    let id = time << 80 | chance;
    let digit = |at: u32| char::from_digit((id >> (4 * (31 - at))) as u32 & 0xf, 16).unwrap_or('0');
    (0..32).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of a later millisecond sort behind, and two of the same one are not alike.
    #[test]
    fn request_ids() {
        let (first, second, later) = (request_id(0x1_9a00), request_id(0x1_9a00), request_id(0x1_9a01));
        assert_eq!((first.len(), &first[..12]), (32, "000000019a00"));
        assert_eq!(&request_id(u64::MAX)[..12], "ffffffffffff");
        assert!(first != second && first < later && second < later, "{first} {second} {later}");
        assert!(
            first.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit)),
            "{first}"
        );
    }
}
