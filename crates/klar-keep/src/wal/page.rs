//! What the pages of the log say of themselves: where they belong, to which timeline, and in the first page of each
//! segment to which cluster. So bytes can be told from bytes of another place before they are stored, and again before
//! they are replayed, without reading a single record.
//!
//! Source: PostgreSQL 15, `src/include/access/xlog_internal.h`, `XLogPageHeaderData` and `XLogLongPageHeaderData`.

use crate::lsn::{Lsn, SegmentSize, Timeline};
use crate::wal::WalError;

/// How long a page of the log is. Other sizes take a server that was compiled so, and are refused.
pub const PAGE: u64 = 8192;
/// Bytes of a page's head, in the first page of a segment and in all others.
const LONG: usize = 40;
const SHORT: usize = 24;
const LONG_FLAG: u16 = 2;

/// Whose log it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The cluster's number, as `pg_control_system()` says it.
    pub system: u64,
    /// The timeline that the file belongs to, and those it came from, each with the place where it ended.
    pub timeline: Timeline,
    /// Those before it: a segment in which a timeline begins has pages of the one before.
    pub ancestors: Vec<Timeline>,
    /// How long segments are.
    pub size: SegmentSize,
}

/// Looks at all pages that begin in `bytes`, which lie at `from`. A head that is cut at the end is looked at when the
/// rest of it comes, since whoever continues gives bytes from the beginning of that page on.
///
/// # Errors
/// The first page that belongs somewhere else.
pub fn verify(bytes: &[u8], from: Lsn, expected: &Expected, name: &str) -> Result<(), WalError> {
    let first = from.0.next_multiple_of(PAGE) - from.0;
    let mut at = usize::try_from(first).unwrap_or(usize::MAX);
    let mut empty = None;
    while let Some(page) = bytes.get(at..).filter(|page| page.len() >= SHORT) {
        let page = &page[..page.len().min(PAGE as usize)];
        let place = from + at as u64;
        at += PAGE as usize;
        // What a switch of segments leaves behind, up to the end of the segment, and nowhere else.
        if place.offset(expected.size) == 0 {
            empty = None;
        }
        if page.iter().all(|byte| *byte == 0) {
            empty = empty.or(Some(place));
            continue;
        }
        if let Some(place) = empty {
            return Err(WalError::Misplaced { name: name.to_owned(), place, found: Lsn(0) });
        }
        verify_page(page, place, expected, name)?;
    }
    Ok(())
}

fn verify_page(page: &[u8], place: Lsn, expected: &Expected, name: &str) -> Result<(), WalError> {
    let [magic, info] = [0, 2].map(|at| u16::from_le_bytes([page[at], page[at + 1]]));
    let timeline = u32_at(page, 4);
    let address = Lsn(u64_at(page, 8));
    if magic == 0 || address != place {
        return Err(WalError::Misplaced { name: name.to_owned(), place, found: address });
    }
    if timeline != expected.timeline && !expected.ancestors.contains(&timeline) {
        return Err(WalError::Timeline {
            name: name.to_owned(),
            place,
            expected: expected.timeline,
            found: timeline,
        });
    }
    if place.offset(expected.size) != 0 || page.len() < LONG {
        return Ok(());
    }
    let (system, size, page_size) = (u64_at(page, 24), u32_at(page, 32), u32_at(page, 36));
    if info & LONG_FLAG == 0 || u64::from(size) != expected.size.bytes() || u64::from(page_size) != PAGE {
        let found = format!("segments of {size} bytes in pages of {page_size}");
        return Err(WalError::Size { name: name.to_owned(), expected: expected.size.bytes(), found });
    }
    match system == expected.system {
        true => Ok(()),
        false => Err(WalError::System { name: name.to_owned(), expected: expected.system, found: system }),
    }
}

/// Takes away whole pages of zeros at the end: what a switch of segments leaves behind, or what was not written yet.
/// `bytes` begin with a page.
pub fn cut_empty(bytes: &mut Vec<u8>) {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(used.next_multiple_of(PAGE as usize).min(bytes.len()));
}

/// How much of a segment was written, where nobody is writing to it: up to the last byte that is not zero, and at least
/// to the end of the head of its page. What follows is zeros as well, in the log as in a segment that was cut here.
pub fn written(segment: &[u8]) -> u64 {
    let end = segment.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    // Records begin at multiples of eight.
    end.next_multiple_of(8).min(segment.len()) as u64
}

fn u32_at(page: &[u8], at: usize) -> u32 {
    page.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(page: &[u8], at: usize) -> u64 {
    page.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SYSTEM: u64 = 7_400_000_000_000_000_001;

    pub(crate) fn expected(timeline: Timeline) -> Expected {
        Expected {
            system: SYSTEM,
            timeline,
            ancestors: Vec::new(),
            size: SegmentSize::try_from(1 << 20).unwrap(),
        }
    }

    /// A segment as a server would write it, with bytes that tell it from others.
    pub(crate) fn segment(timeline: Timeline, number: u64, pages: u64, mark: u8) -> Vec<u8> {
        let size = expected(timeline).size;
        let mut bytes = vec![0; size.bytes() as usize];
        for page in 0..pages {
            let place = number * size.bytes() + page * PAGE;
            let at = (page * PAGE) as usize;
            let body = &mut bytes[at..at + PAGE as usize];
            body.fill(mark);
            body[..2].copy_from_slice(&0xd110_u16.to_le_bytes());
            body[2..4].copy_from_slice(&if page == 0 { LONG_FLAG } else { 0 }.to_le_bytes());
            body[4..8].copy_from_slice(&timeline.to_le_bytes());
            body[8..16].copy_from_slice(&place.to_le_bytes());
            if page == 0 {
                body[24..32].copy_from_slice(&SYSTEM.to_le_bytes());
                body[32..36].copy_from_slice(&(size.bytes() as u32).to_le_bytes());
                body[36..40].copy_from_slice(&(PAGE as u32).to_le_bytes());
            }
        }
        bytes
    }

    #[test]
    fn bytes_of_another_place_are_told() {
        let whole = segment(1, 3, 128, 7);
        let from = Lsn(3 << 20);
        for start in [0, 1, 8191, 8192, 500_000] {
            let of = |expected: &Expected| verify(&whole[start..], from + start as u64, expected, "x");
            assert_eq!(of(&expected(1)).map_err(|error| error.to_string()), Ok(()));
            assert!(matches!(of(&expected(2)), Err(WalError::Timeline { found: 1, .. })));
            let ancestor = Expected { ancestors: vec![1], ..expected(2) };
            assert!(of(&ancestor).is_ok());
            assert!(matches!(
                verify(&whole[start..], from + start as u64 + (1 << 20), &expected(1), "x"),
                Err(WalError::Misplaced { .. })
            ));
        }
        let mut hole = whole.clone();
        hole[16384..24576].fill(0);
        assert!(matches!(verify(&hole, from, &expected(1), "x"), Err(WalError::Misplaced { .. })));
        hole[16384..].fill(0);
        assert!(verify(&hole, from, &expected(1), "x").is_ok());
        cut_empty(&mut hole);
        assert_eq!(hole.len(), 16384);
        let other = Expected { system: 1, ..expected(1) };
        assert!(matches!(verify(&whole, from, &other, "x"), Err(WalError::System { expected: 1, .. })));
        let other = Expected { size: SegmentSize::default(), ..expected(1) };
        assert!(matches!(
            verify(&segment(1, 16, 1, 1), Lsn(16 << 20), &other, "x"),
            Err(WalError::Size { .. })
        ));
    }

    #[test]
    fn what_was_written_ends_at_the_last_byte_that_is_not_zero() {
        for (bytes, expected) in
            [(vec![0; 64], 0), (vec![1; 64], 64), ([vec![1; 9], vec![0; 55]].concat(), 16)]
        {
            assert_eq!(written(&bytes), expected);
        }
    }
}
