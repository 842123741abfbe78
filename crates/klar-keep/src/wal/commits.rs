//! When transactions ended, as the log says it: whether the server's clock was put back between two of them.
//!
//! A server that replays up to a time stops before the first transaction that ended later. Where its clock was ahead for a
//! while, and was put back, acknowledged commits with earlier times lie behind that place, and would be missing without a
//! word. So the log is read before it is replayed.
//!
//! Source: PostgreSQL 15, `xlogrecord.h`, `xact.h` (`xl_xact_commit` and `xl_xact_abort` begin with the time),
//! `xlog_internal.h`, and `recoveryStopsBefore` in `xlogrecovery.c`.

use std::fs;
use std::io;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::lsn::{Lsn, Segment, SegmentSize, Timeline};
use crate::wal::WalError;
use crate::wal::page::PAGE;

/// The clock was put back: a time came twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Back {
    /// Where the last transaction lies that ended before that: its commit, or that it was given up.
    pub at: Lsn,
    /// The latest time that was reached before it.
    pub before: Timestamp,
    /// The time of a commit after it.
    pub after: Timestamp,
}

/// Transactions take their time a little before their place in the log: so much is no clock that was put back.
pub const SLACK: SignedDuration = SignedDuration::from_secs(1);
/// 2000-01-01, from which PostgreSQL counts, in microseconds.
const EPOCH: i64 = 946_684_800_000_000;
/// A record's head, in bytes.
const RECORD: usize = 24;
/// What a transaction's end says first is within so many bytes of its record.
const HEAD: usize = 64;
/// `RM_XACT_ID`.
const TRANSACTIONS: u8 = 1;
/// `XLP_FIRST_IS_CONTRECORD`, `XLP_FIRST_IS_OVERWRITE_CONTRECORD`.
const CONTINUED: u16 = 1;
const OVERWRITTEN: u16 = 8;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Where that lies.
    pub at: Lsn,
    /// By the server's clock.
    pub time: Timestamp,
    /// Or it was given up.
    pub is_commit: bool,
}

/// Whether a server that replays what lies in `folder` from `from` on, a place where a record begins, would stop at `time`
/// although commits of an earlier time follow.
///
/// # Errors
/// A file cannot be read.
pub fn twice(
    folder: &Path,
    lineage: &[Timeline],
    size: SegmentSize,
    from: Lsn,
    time: Timestamp,
) -> Result<Option<Back>, WalError> {
    let (mut stop, mut found) = (None::<Back>, None);
    ends(folder, lineage, size, from, &mut |end| {
        let is_later = end.time > time;
        match &mut stop {
            None if is_later => stop = Some(Back { at: end.at, before: end.time, after: end.time }),
            Some(back) if is_later => (back.at, back.before) = (end.at, back.before.max(end.time)),
            Some(back) if end.is_commit && back.before.duration_since(end.time) > SLACK => {
                found = Some(Back { after: end.time, ..*back });
            }
            _ => {}
        }
        found.is_none()
    })?;
    Ok(found)
}

/// Tells how each transaction ended whose end lies in `folder` behind `from`, a place where a record begins, until `tell`
/// wants to hear no more or the log ends.
///
/// # Errors
/// A file cannot be read.
pub fn ends(
    folder: &Path,
    lineage: &[Timeline],
    size: SegmentSize,
    from: Lsn,
    tell: &mut dyn FnMut(End) -> bool,
) -> Result<(), WalError> {
    let mut walk = Walk { at: from, left: 0, head: Vec::new(), is_skipped: false };
    let mut number = from.segment(1, size).number;
    while let Some(bytes) = segment(folder, lineage, size, number)? {
        let start = Segment { timeline: 1, number }.start(size);
        for (page, bytes) in (0..).zip(bytes.chunks(PAGE as usize)) {
            let place = start + page * PAGE;
            if place + PAGE > from && !walk.page(bytes, place, from, size, tell) {
                return Ok(());
            }
        }
        number += 1;
    }
    Ok(())
}

/// The file that a server would read: of the newest timeline that has one.
fn segment(
    folder: &Path,
    lineage: &[Timeline],
    size: SegmentSize,
    number: u64,
) -> Result<Option<Vec<u8>>, WalError> {
    for timeline in lineage.iter().rev() {
        let path = folder.join(Segment { timeline: *timeline, number }.name(size));
        match fs::read(&path) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(WalError::File { path, source }),
        }
    }
    Ok(None)
}

/// From record to record, across pages.
struct Walk {
    /// Where the record began that is being read.
    at: Lsn,
    /// Bytes of it that are still to come.
    left: usize,
    /// Its first ones.
    head: Vec<u8>,
    /// It began before the walk did.
    is_skipped: bool,
}

impl Walk {
    /// Reads the records of one page that begin at `from` or later; `false`: nobody wants to hear more, or the log ends here.
    fn page(
        &mut self,
        page: &[u8],
        place: Lsn,
        from: Lsn,
        size: SegmentSize,
        tell: &mut dyn FnMut(End) -> bool,
    ) -> bool {
        let header = if place.offset(size) == 0 { 40 } else { 24 };
        let (Some(magic), Some(info), Some(rest)) = (u16_at(page, 0), u16_at(page, 2), u32_at(page, 16))
        else {
            return false;
        };
        if magic == 0 {
            // What a switch of segments leaves.
            (self.left, self.head) = (0, Vec::new());
            return true;
        }
        let mut pos = header;
        if from > place + header as u64 {
            pos = (from - place) as usize;
            self.left = 0;
        } else if info & CONTINUED == 0 || info & OVERWRITTEN != 0 {
            // A server that was killed wrote on over half a record.
            self.left = 0;
        } else if self.left == 0 {
            (self.left, self.is_skipped) = (rest as usize, true);
        }
        loop {
            if self.left > 0 {
                let some = &page[pos.min(page.len())..];
                let some = &some[..some.len().min(self.left)];
                let wanted = HEAD.saturating_sub(self.head.len()).min(some.len());
                self.head.extend_from_slice(&some[..wanted]);
                self.left -= some.len();
                pos += some.len();
                if self.left > 0 {
                    return true;
                }
                let is_wanted = !std::mem::take(&mut self.is_skipped);
                if is_wanted
                    && let Some((time, is_commit)) = end(&self.head)
                    && !tell(End { at: self.at, time, is_commit })
                {
                    return false;
                }
            }
            self.head.clear();
            pos = pos.next_multiple_of(8);
            let Some(length) = u32_at(page, pos) else { return true };
            match length as usize {
                // Nothing more in this page.
                0 => return true,
                length if length < RECORD => return false,
                length => (self.at, self.left) = (place + pos as u64, length),
            }
        }
    }
}

/// When a transaction ended, where that is what a record says, and whether it was committed.
fn end(record: &[u8]) -> Option<(Timestamp, bool)> {
    let (info, manager) = (*record.get(16)?, *record.get(17)?);
    // XLOG_XACT_COMMIT, _COMMIT_PREPARED, _ABORT, _ABORT_PREPARED.
    let is_commit = match (manager, info & 0x70) {
        (TRANSACTIONS, 0x00 | 0x30) => true,
        (TRANSACTIONS, 0x20 | 0x40) => false,
        _ => return None,
    };
    let mut at = RECORD;
    loop {
        at += match record.get(at)? {
            // XLR_BLOCK_ID_TOPLEVEL_XID, _ORIGIN, and how long what follows is: in four bytes or in one.
            252 => 5,
            253 => 3,
            254 => {
                at += 5;
                break;
            }
            255 => {
                at += 2;
                break;
            }
            _ => return None,
        };
    }
    let micros = record.get(at..at + 8)?.try_into().ok().map(i64::from_le_bytes)?;
    Some((Timestamp::from_microsecond(micros.checked_add(EPOCH)?).ok()?, is_commit))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}
