//! The record of one request, written when it is over, however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use klar_base::signal::{AccessRecord, DecidedBy};

use crate::counters::RouteTotals;
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
    /// There is no visitor whose request this is.
    untold: bool,
}

impl Story {
    /// Of a request whose first byte came at `begun`. Until it is told otherwise the visitor went away.
    pub fn begin(shared: Arc<Shared>, begun: Instant, client: std::net::IpAddr, tls: bool) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_unix_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let record = AccessRecord {
            time_unix_ms,
            request_id: request_id(time_unix_ms),
            app: None,
            client,
            protocol: "http/1.1".into(),
            tls,
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
            aborted: true,
            user_agent: None,
            cache: None,
        };
        Self { record, totals: None, route: None, read: Arc::default(), begun, shared, untold: false }
    }

    /// Of a request that the edge makes by itself, on behalf of `client`: nobody hears of it but the app.
    pub fn untold(shared: Arc<Shared>, client: std::net::IpAddr, tls: bool) -> Self {
        let mut story = Self::begin(shared, Instant::now(), client, tls);
        story.untold = true;
        story
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if self.untold {
            return;
        }
        let mut record = self.record.clone();
        record.bytes_in = self.read.load(Ordering::Relaxed);
        record.duration_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let doors = &self.shared.doors;
        let spoken = if record.protocol == "h2" { &doors.http2_requests } else { &doors.http1_requests };
        spoken.fetch_add(1, Ordering::Relaxed);
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

/// 32 hexadecimal digits: 12 of time, so that they sort, and 20 of chance.
fn request_id(time_unix_ms: u64) -> String {
    format!("{:012x}{:04x}{:016x}", time_unix_ms & 0xffff_ffff_ffff, fastrand::u16(..), fastrand::u64(..))
}
