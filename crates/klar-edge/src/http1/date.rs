//! The `Date` of answers (RFC 9110 section 6.6.1), written once a second by each thread.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::HeaderValue;

use crate::cache::dates;

thread_local! {
    static NOW: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// The value alone.
pub fn value() -> Option<HeaderValue> {
    HeaderValue::try_from(dates::write(SystemTime::now())).ok()
}

/// Writes the line, with its CR LF.
pub fn extend(out: &mut Vec<u8>) {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    NOW.with_borrow_mut(|(written, line)| {
        if *written != second {
            *written = second;
            *line = format!("date: {}\r\n", dates::write(now));
        }
        out.extend_from_slice(line.as_bytes());
    });
}
