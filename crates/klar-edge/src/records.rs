//! Finished requests, on their way to the core.
//!
//! A record is written in the words of its message by the worker that answered the request, from what that has at hand:
//! the core's [`AccessRecord`](klar_base::signal::AccessRecord) is a dozen strings, and to make them for each request
//! and to take them apart on another thread would cost more than the whole of them says. Each worker has a lane of its
//! own; the thread that talks to the core empties the lanes.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use klar_base::lines::{self, Lines};
use klar_base::signal::{CacheOutcome, DecidedBy, ImageOutcome, WafFinding};
use klar_base::upstreams::FromEdge;

use crate::counters::{LANES, lane};
use crate::headers::Address;

/// Text that waits in a lane, in bytes; records beyond it are dropped and counted.
const LANE_MAX: usize = 8 << 20;
/// What a record takes beside what visitors write into it, in bytes.
const USUAL: usize = 640;
/// Room that a lane keeps while it is empty, in bytes.
const KEPT: usize = 256 << 10;

/// The fields of an [`AccessRecord`](klar_base::signal::AccessRecord), borrowed.
#[derive(Debug)]
pub struct Record<'a> {
    pub time_unix_ms: u64,
    pub request_id: &'a str,
    pub app: Option<&'a str>,
    pub client: IpAddr,
    pub protocol: &'a str,
    pub tls: bool,
    pub method: &'a str,
    pub host: &'a str,
    pub path: &'a str,
    pub route: Option<&'a str>,
    pub status: u16,
    pub decided_by: DecidedBy,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration_us: u64,
    pub upstream: Option<&'a str>,
    pub attempts: u32,
    pub error: Option<&'a str>,
    pub aborted: bool,
    pub user_agent: Option<&'a str>,
    pub cache: Option<CacheOutcome>,
    pub image: Option<ImageOutcome>,
    pub waf: Option<&'a WafFinding>,
}

impl Record<'_> {
    /// Writes it as JSON. By hand: a serializer looks at each byte of each name for what has to be escaped.
    fn write(&self, out: &mut Vec<u8>) {
        number(out, "{\"time_unix_ms\":", self.time_unix_ms);
        plain(out, ",\"request_id\":", self.request_id);
        name(out, ",\"app\":", self.app);
        plain(out, ",\"client\":", Address::of(self.client).as_str());
        plain(out, ",\"protocol\":", self.protocol);
        truth(out, ",\"tls\":", self.tls);
        string(out, ",\"method\":", Some(self.method));
        string(out, ",\"host\":", Some(self.host));
        string(out, ",\"path\":", Some(self.path));
        string(out, ",\"route\":", self.route);
        number(out, ",\"status\":", self.status.into());
        out.extend_from_slice(b",\"decided_by\":");
        out.extend_from_slice(match self.decided_by {
            DecidedBy::App => b"\"app\"",
            DecidedBy::Edge => b"\"edge\"",
            DecidedBy::Refused => b"\"refused\"",
            DecidedBy::Failed => b"\"failed\"",
        });
        number(out, ",\"bytes_in\":", self.bytes_in);
        number(out, ",\"bytes_out\":", self.bytes_out);
        number(out, ",\"duration_us\":", self.duration_us);
        name(out, ",\"upstream\":", self.upstream);
        number(out, ",\"attempts\":", self.attempts.into());
        string(out, ",\"error\":", self.error);
        truth(out, ",\"aborted\":", self.aborted);
        string(out, ",\"user_agent\":", self.user_agent);
        if let Some(outcome) = self.cache {
            let outcome = match outcome {
                CacheOutcome::Hit => "hit",
                CacheOutcome::Miss => "miss",
                CacheOutcome::Stale => "stale",
                CacheOutcome::Revalidated => "revalidated",
                CacheOutcome::Bypass => "bypass",
                CacheOutcome::Refresh => "refresh",
            };
            plain(out, ",\"cache\":", outcome);
        }
        if let Some(outcome) = self.image {
            let outcome = match outcome {
                ImageOutcome::Kept => "kept",
                ImageOutcome::Made => "made",
                ImageOutcome::Later => "later",
                ImageOutcome::Original => "original",
            };
            plain(out, ",\"image\":", outcome);
        }
        if let Some(finding) = self.waf {
            out.extend_from_slice(b",\"waf\":");
            // Writing to memory does not fail.
            let _ = serde_json::to_writer(&mut *out, finding);
        }
        out.push(b'}');
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn truth(out: &mut Vec<u8>, name: &str, value: bool) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Of an app or an instance, which is made of small letters, digits, dots and dashes.
fn name(out: &mut Vec<u8>, key: &str, value: Option<&str>) {
    match value {
        Some(value) => plain(out, key, value),
        None => string(out, key, None),
    }
}

/// Of the edge's own words, in which nothing has to be escaped.
fn plain(out: &mut Vec<u8>, name: &str, value: &str) {
    for piece in [name.as_bytes(), b"\"", value.as_bytes(), b"\""] {
        out.extend_from_slice(piece);
    }
}

fn string(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    out.extend_from_slice(name.as_bytes());
    let Some(value) = value else { return out.extend_from_slice(b"null") };
    // Without a branch for each byte. RFC 8259 section 7.
    let has_special =
        value.bytes().fold(false, |found, byte| found | (byte < 0x20) | (byte == b'"') | (byte == b'\\'));
    if has_special {
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(out, value);
    } else {
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }
}

/// A message as a core of an older klar reads it: as [`FromEdge::Records`] where it is [`lines`].
pub fn for_older(message: Vec<u8>) -> Vec<u8> {
    match Lines::read(message) {
        Ok(lines) => {
            let read = |(_, json)| serde_json::from_slice(json).ok();
            let records = lines.iter().filter_map(read).collect();
            // It was read from JSON, and can be written as such.
            serde_json::to_vec(&FromEdge::Records { records, dropped: lines.dropped }).unwrap_or_default()
        }
        Err(message) => message,
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Records {
    lanes: [Mutex<Vec<u8>>; LANES],
    dropped: AtomicU64,
}

impl Records {
    /// Adds a record, and says whether it is the first one that waits in its lane.
    pub fn add(&self, record: &Record<'_>) -> bool {
        let mut text = lock(&self.lanes[lane()]);
        let before = text.len();
        if before >= LANE_MAX {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        // At once, and not piece by piece.
        text.reserve(USUAL + record.path.len() + record.user_agent.map_or(0, str::len));
        text.extend_from_slice(record.app.unwrap_or_default().as_bytes());
        text.push(b' ');
        record.write(&mut text);
        text.push(b'\n');
        before == 0
    }

    /// What waits, as messages to the core ([`lines`]): what each worker has answered, the oldest first.
    pub fn take(&self) -> Vec<Vec<u8>> {
        self.lanes.iter().filter_map(|lane| self.message(lane)).collect()
    }

    fn message(&self, lane: &Mutex<Vec<u8>>) -> Option<Vec<u8>> {
        let mut text = lock(lane);
        if text.is_empty() {
            return None;
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        let message = [&lines::head(dropped)[..], &text].concat();
        text.clear();
        text.shrink_to(KEPT);
        Some(message)
    }
}

fn lock(text: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use klar_base::signal::{AccessRecord, WafMatch, WafVerdict};

    use super::*;

    const FINDING: WafFinding =
        WafFinding { verdict: WafVerdict::Blocked, score: Some(5), matches: Vec::new() };
    const FULL: Record<'_> = Record {
        time_unix_ms: 1,
        request_id: "0123",
        app: Some("shop.prod"),
        client: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        protocol: "h2",
        tls: true,
        method: "GET",
        host: "shop.example",
        path: "/a\"\\\u{1}å",
        route: Some("/*"),
        status: 502,
        decided_by: DecidedBy::Failed,
        bytes_in: 2,
        bytes_out: 3,
        duration_us: 4,
        upstream: Some("shop.prod.web.7"),
        attempts: 5,
        error: Some("broke off"),
        aborted: true,
        user_agent: Some("curl"),
        cache: Some(CacheOutcome::Miss),
        image: Some(ImageOutcome::Made),
        waf: Some(&FINDING),
    };

    /// What the core reads out of everything that was added.
    fn read(records: &Records) -> Vec<AccessRecord> {
        let messages = records.take().into_iter().map(|message| Lines::read(message).unwrap());
        let read = |lines: Lines| -> Vec<AccessRecord> {
            lines.iter().map(|(_, json)| serde_json::from_slice(json).unwrap()).collect()
        };
        messages.flat_map(read).collect()
    }

    /// Neither has a field that the other has not, and both call each by the same name.
    #[test]
    fn the_core_reads_what_was_written() {
        let records = Records::default();
        assert!(records.add(&FULL) && !records.add(&FULL));
        let bare = Record {
            app: None,
            route: None,
            upstream: None,
            error: None,
            user_agent: None,
            cache: None,
            image: None,
            waf: None,
            ..FULL
        };
        records.add(&bare);
        let read = read(&records);
        assert_eq!(read.len(), 3);
        for (written, read) in [&FULL, &FULL, &bare].into_iter().zip(&read) {
            assert_eq!(json(written), serde_json::to_value(read).unwrap());
        }
        assert!(records.take().is_empty(), "nothing is given twice");
        // And so does one that knows no lines.
        for record in [&FULL, &FULL, &bare] {
            records.add(record);
        }
        let messages = records.take();
        let apps = Lines::read(messages.concat()).unwrap();
        assert_eq!(apps.iter().map(|(app, _)| app).collect::<Vec<_>>(), ["shop.prod", "shop.prod", ""]);
        let older = for_older(messages.concat());
        let FromEdge::Records { records: older, dropped: 0 } = serde_json::from_slice(&older).unwrap() else {
            panic!("no records")
        };
        assert_eq!(older, read);
        assert_eq!(for_older(b"{\"a\":1}".to_vec()), b"{\"a\":1}");
    }

    fn json(record: &Record<'_>) -> serde_json::Value {
        let mut text = Vec::new();
        record.write(&mut text);
        serde_json::from_slice(&text).unwrap()
    }

    /// What `klar-base` calls each, and what visitors may put into a string.
    #[test]
    fn words_and_strings() {
        for decided_by in [DecidedBy::App, DecidedBy::Edge, DecidedBy::Refused, DecidedBy::Failed] {
            let written = json(&Record { decided_by, ..FULL });
            assert_eq!(written["decided_by"], serde_json::to_value(decided_by).unwrap());
        }
        use CacheOutcome::{Bypass, Hit, Miss, Refresh, Revalidated, Stale};
        for outcome in [Hit, Miss, Stale, Revalidated, Bypass, Refresh] {
            let written = json(&Record { cache: Some(outcome), ..FULL });
            assert_eq!(written["cache"], serde_json::to_value(outcome).unwrap());
        }
        use ImageOutcome::{Kept, Later, Made, Original};
        for outcome in [Kept, Made, Later, Original] {
            let written = json(&Record { image: Some(outcome), ..FULL });
            assert_eq!(written["image"], serde_json::to_value(outcome).unwrap());
        }
        let (message, place) = ("\"SQL\"".to_owned(), "ARGS:a\"b".to_owned());
        let finding = WafFinding { matches: vec![WafMatch { rule: 942_100, message, place }], ..FINDING };
        assert_eq!(
            json(&Record { waf: Some(&finding), ..FULL })["waf"],
            serde_json::to_value(&finding).unwrap()
        );
        for byte in 0..=0x7f_u8 {
            let path = format!("/å{}", char::from(byte));
            assert_eq!(json(&Record { path: &path, ..FULL })["path"], path);
        }
    }

    #[test]
    fn a_lane_that_nobody_empties_is_bounded() {
        let records = Records::default();
        let path = "x".repeat(60_000);
        for _ in 0..200 {
            records.add(&Record { path: &path, ..FULL });
        }
        let text = records.take().concat();
        assert!(text.len() < LANE_MAX + 2 * path.len(), "{} bytes", text.len());
        let lines = Lines::read(text).unwrap();
        assert_eq!(lines.iter().count() as u64 + lines.dropped, 200);
        assert!(lines.dropped > 0);
    }

    #[test]
    fn workers_do_not_share_lanes() {
        let records = Records::default();
        std::thread::scope(|scope| {
            for number in 0..3 {
                let records = &records;
                scope.spawn(move || {
                    crate::counters::this_is_worker(number);
                    for _ in 0..100 {
                        records.add(&FULL);
                    }
                });
            }
        });
        assert_eq!(records.take().len(), 3);
    }
}
