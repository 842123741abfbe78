//! What the names of pieces and batches come to: from where to where the log is there without a gap.
//!
//! Pure functions of names. What is in the objects is compared when it is laid out ([`super::lay`]).

use std::collections::BTreeMap;

use klar_repo::Repository;

use crate::lsn::{Lsn, SegmentSize, Timeline};
use crate::wal::batch::BatchName;
use crate::wal::piece::{self, Named, Piece};
use crate::wal::tide::Tide;
use crate::wal::turned::Turned;
use crate::wal::{BATCHES, PIECES, WalError};

/// The log from one place to another, without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch {
    /// The first byte that is there.
    pub from: Lsn,
    /// The first one that is not.
    pub to: Lsn,
}

/// What there is of one timeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfTimeline {
    /// Sorted.
    pub pieces: Vec<Piece>,
    /// Sorted.
    pub batches: Vec<BatchName>,
    /// Those it came from, the oldest first, with the place where each one ended. Empty for timeline 1.
    pub ancestors: Vec<(Timeline, Lsn)>,
    /// How far it was shipped, as it was last said.
    pub tide: Option<Tide>,
    /// Where the server's clock was put back.
    pub turned: Vec<Turned>,
}

/// All of a cluster's log in a repository, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// How long its segments are.
    pub size: SegmentSize,
    /// What there is of each timeline.
    pub timelines: BTreeMap<Timeline, OfTimeline>,
    /// Objects with names that mean nothing.
    pub strange: Vec<String>,
}

impl Log {
    /// Reads names and histories, none of the log itself.
    ///
    /// # Errors
    /// Where the repository cannot be listed as a whole; a history or a tide that is damaged.
    pub fn read(repository: &Repository, size: SegmentSize) -> Result<Self, WalError> {
        let storage = repository.storage();
        // Batches last: a piece goes only after its batch is there, so none is missed in between.
        let pieces = storage.list_extra(PIECES)?;
        let batches = storage.list_extra(BATCHES)?;
        let names = pieces.into_iter().chain(batches).map(|(name, _)| name);
        let mut log = Self::of(names, size);
        for (timeline, there) in &mut log.timelines {
            if *timeline > 1 {
                there.ancestors = ancestors(&piece::read_history(repository, *timeline)?, *timeline)?;
            }
        }
        for tide in Tide::all(repository)? {
            log.timelines.entry(tide.timeline).or_default().tide = Some(tide);
        }
        for turned in Turned::all(repository)? {
            log.timelines.entry(turned.timeline).or_default().turned.push(turned);
        }
        Ok(log)
    }

    /// What names of objects come to; histories and tides are not in them.
    #[must_use]
    pub fn of(names: impl IntoIterator<Item = String>, size: SegmentSize) -> Self {
        let mut log = Self { size, ..Self::default() };
        for name in names {
            if let Some(batch) = BatchName::parse(&name) {
                log.timelines.entry(batch.timeline).or_default().batches.push(batch);
                continue;
            }
            match piece::parse(&name, size) {
                Ok(Named::Piece(piece)) => {
                    log.timelines.entry(piece.segment.timeline).or_default().pieces.push(piece);
                }
                Ok(Named::History(timeline)) => {
                    log.timelines.entry(timeline).or_default();
                }
                Err(_) => log.strange.push(name),
            }
        }
        for there in log.timelines.values_mut() {
            there.pieces.sort_unstable();
            there.batches.sort_unstable();
        }
        log
    }

    /// The stretches of a timeline, in order; between any two of them there is a gap.
    #[must_use]
    pub fn stretches(&self, timeline: Timeline) -> Vec<Stretch> {
        let Some(there) = self.timelines.get(&timeline) else { return Vec::new() };
        let of_pieces = there.pieces.iter().map(|piece| (piece.start(self.size), piece.end(self.size)));
        let of_batches = there.batches.iter().map(|batch| {
            let size = self.size.bytes();
            (Lsn(batch.first.saturating_mul(size)), Lsn(batch.last.saturating_add(1).saturating_mul(size)))
        });
        let mut all: Vec<(Lsn, Lsn)> = of_pieces.chain(of_batches).collect();
        all.sort_unstable();
        let mut stretches: Vec<Stretch> = Vec::new();
        for (from, to) in all {
            match stretches.last_mut() {
                Some(last) if from <= last.to => last.to = last.to.max(to),
                _ => stretches.push(Stretch { from, to }),
            }
        }
        stretches
    }

    /// Where the newest stretch of a timeline ends.
    #[must_use]
    pub fn end(&self, timeline: Timeline) -> Option<Lsn> {
        self.stretches(timeline).last().map(|stretch| stretch.to)
    }

    /// The timeline that was begun last.
    #[must_use]
    pub fn newest_timeline(&self) -> Option<Timeline> {
        self.timelines.keys().next_back().copied()
    }

    /// A timeline and those it came from, each with the place where it ended (`None` for the timeline itself).
    #[must_use]
    pub fn lineage(&self, timeline: Timeline) -> Vec<(Timeline, Option<Lsn>)> {
        let ancestors =
            self.timelines.get(&timeline).map(|there| there.ancestors.as_slice()).unwrap_or_default();
        ancestors.iter().map(|(old, end)| (*old, Some(*end))).chain([(timeline, None)]).collect()
    }

    /// Asserts that the log is there from a place on one timeline to a place on a later one (or the same).
    ///
    /// # Errors
    /// [`WalError::Gap`] for the first byte that is missing; [`WalError::Timeline`] where one does not lead to the other.
    pub fn asserted(&self, begun: Timeline, from: Lsn, timeline: Timeline, to: Lsn) -> Result<(), WalError> {
        let lineage = self.lineage(timeline);
        if !lineage.iter().any(|(one, _)| *one == begun) {
            let name = piece::history_name(timeline);
            return Err(WalError::Timeline { name, place: from, expected: begun, found: timeline });
        }
        let mut at = from;
        for (one, ended) in lineage.into_iter().skip_while(|(one, _)| *one != begun) {
            let until = ended.map_or(to, |ended| ended.min(to));
            if at >= until {
                continue;
            }
            let stretches = self.stretches(one);
            let Some(stretch) = stretches.iter().find(|stretch| stretch.from <= at && at < stretch.to) else {
                let next = stretches.iter().find(|stretch| stretch.from > at).map_or(until, |next| next.from);
                return Err(WalError::Gap { timeline: one, from: at, to: next });
            };
            if stretch.to < until {
                let next =
                    stretches.iter().find(|next| next.from > stretch.to).map_or(until, |next| next.from);
                return Err(WalError::Gap { timeline: one, from: stretch.to, to: next });
            }
            at = until;
        }
        Ok(())
    }

    /// All gaps, and what was shipped once and is gone from the end.
    #[must_use]
    pub fn gaps(&self) -> Vec<WalError> {
        let mut gaps = Vec::new();
        for (timeline, there) in &self.timelines {
            let stretches = self.stretches(*timeline);
            for pair in stretches.windows(2) {
                gaps.push(WalError::Gap { timeline: *timeline, from: pair[0].to, to: pair[1].from });
            }
            let end = stretches.last().map_or(Lsn(0), |last| last.to);
            if let Some(tide) = there.tide.filter(|tide| tide.lsn > end) {
                gaps.push(WalError::Gap { timeline: *timeline, from: end, to: tide.lsn });
            }
        }
        gaps.extend(self.strange.iter().cloned().map(WalError::Name));
        gaps
    }
}

/// Reads a history: those a timeline came from, the oldest first, and where each one ended.
/// Source: PostgreSQL 15, `src/backend/access/transam/timeline.c`, `readTimeLineHistory`.
///
/// # Errors
/// A line that says nothing of the kind, or timelines that do not grow.
pub fn ancestors(text: &[u8], timeline: Timeline) -> Result<Vec<(Timeline, Lsn)>, WalError> {
    let name = || piece::history_name(timeline);
    let mut found: Vec<(Timeline, Lsn)> = Vec::new();
    for line in String::from_utf8_lossy(text).lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        let one = words.next().and_then(|word| word.parse::<Timeline>().ok());
        let end = words.next().and_then(|word| word.parse::<Lsn>().ok());
        let (Some(one), Some(end)) = (one, end) else {
            return Err(WalError::Renamed { name: name(), says: format!("no history: `{line:.80}`") });
        };
        let grows = found.last().is_none_or(|(before, ended)| *before < one && *ended <= end);
        if !grows || one >= timeline {
            return Err(WalError::Renamed {
                name: name(),
                says: format!("a history that goes back: `{line:.80}`"),
            });
        }
        found.push((one, end));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of 1 MiB: piece `1:3 0-80000` is of timeline 1, segment 3; batch `1:3-5`.
    fn log(objects: &[&str]) -> Log {
        let size = SegmentSize::try_from(1 << 20).unwrap();
        let names = objects.iter().map(|object| {
            let (timeline, rest) = object.split_once(':').unwrap();
            match rest.split_once(' ') {
                Some((segment, bytes)) => {
                    let (from, to) = bytes.split_once('-').unwrap();
                    let hex = |text: &str| u32::from_str_radix(text, 16).unwrap();
                    let segment = crate::lsn::Segment {
                        timeline: timeline.parse().unwrap(),
                        number: segment.parse().unwrap(),
                    };
                    Piece { segment, from: hex(from), to: hex(to) }.name(size)
                }
                None => {
                    let (first, last) = rest.split_once('-').unwrap();
                    let number = |text: &str| text.parse().unwrap();
                    BatchName {
                        timeline: timeline.parse().unwrap(),
                        first: number(first),
                        last: number(last),
                    }
                    .name()
                }
            }
        });
        Log::of(names, size)
    }

    fn shown(log: &Log, timeline: Timeline) -> String {
        let shown = |stretch: &Stretch| format!("{}-{}", stretch.from, stretch.to);
        log.stretches(timeline).iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn stretches_are_what_lies_side_by_side() {
        for (objects, expected) in [
            (&[][..], ""),
            (&["1:3 0-800"], "0/300000-0/300800"),
            (&["1:3 800-1000", "1:3 0-800"], "0/300000-0/301000"),
            (&["1:3 0-100000", "1:4 0-8"], "0/300000-0/400008"),
            // A piece is missing.
            (&["1:3 0-800", "1:3 1000-1800"], "0/300000-0/300800 0/301000-0/301800"),
            // A segment is cut short.
            (&["1:3 0-fffff", "1:4 0-8"], "0/300000-0/3FFFFF 0/400000-0/400008"),
            // Pieces that a batch has replaced already.
            (&["1:3-5", "1:4 0-100000", "1:6 0-8"], "0/300000-0/600008"),
            // Another timeline fills no gap.
            (&["1:3-3", "2:4-4", "1:5-5"], "0/300000-0/400000 0/500000-0/600000"),
        ] {
            assert_eq!(shown(&log(objects), 1), expected, "{objects:?}");
        }
    }

    fn asserted(log: &Log, begun: Timeline, from: &str, timeline: Timeline, to: &str) -> String {
        match log.asserted(begun, from.parse().unwrap(), timeline, to.parse().unwrap()) {
            Ok(()) => "whole".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_gap_is_named() {
        let log = log(&["1:3 0-800", "1:3 1000-100000", "1:4-9"]);
        for (from, to, expected) in [
            ("0/300000", "0/300800", "whole"),
            ("0/300000", "0/300801", "the log of timeline 1 is missing from 0/300800 to 0/301000"),
            ("0/301000", "0/A00000", "whole"),
            ("0/301000", "0/A00008", "the log of timeline 1 is missing from 0/A00000 to 0/A00008"),
            ("0/200000", "0/300008", "the log of timeline 1 is missing from 0/200000 to 0/300000"),
        ] {
            assert_eq!(asserted(&log, 1, from, 1, to), expected, "{from} {to}");
        }
        assert_eq!(log.gaps().len(), 1);
    }

    #[test]
    fn a_timeline_goes_on_where_the_one_before_ended() {
        let mut log = log(&["1:3-5", "2:5-5", "2:6 0-800", "3:9-9"]);
        let fork: Lsn = "0/580000".parse().unwrap();
        log.timelines.get_mut(&2).unwrap().ancestors = vec![(1, fork)];
        for (begun, from, timeline, to, expected) in [
            (1, "0/300000", 2, "0/600800", "whole"),
            (2, "0/580000", 2, "0/600800", "whole"),
            (1, "0/300000", 2, "0/600801", "the log of timeline 2 is missing from 0/600800 to 0/600801"),
        ] {
            assert_eq!(asserted(&log, begun, from, timeline, to), expected);
        }
        assert!(asserted(&log, 1, "0/300000", 3, "0/900000").contains("timeline 3"));
    }

    #[test]
    fn what_is_gone_from_the_end_is_missed() {
        let mut log = log(&["1:3 0-800"]);
        let tide =
            |lsn: &str| Tide { timeline: 1, lsn: lsn.parse().unwrap(), covered: jiff::Timestamp::UNIX_EPOCH };
        log.timelines.get_mut(&1).unwrap().tide = Some(tide("0/300800"));
        assert_eq!(log.gaps().len(), 0);
        log.timelines.get_mut(&1).unwrap().tide = Some(tide("0/301000"));
        assert_eq!(log.gaps()[0].to_string(), "the log of timeline 1 is missing from 0/300800 to 0/301000");
    }

    #[test]
    fn histories() {
        let text = b"1\t0/5000A8\tno recovery target specified\n\n2\t0/6000A8\tbefore 2026-11-23\n";
        assert_eq!(ancestors(text, 3).unwrap(), [(1, Lsn(0x50_00A8)), (2, Lsn(0x60_00A8))]);
        for wrong in [&b"x"[..], b"1", b"1\tx", b"2\t0/5\n1\t0/6", b"1\t0/6\n2\t0/5", b"3\t0/5"] {
            assert!(ancestors(wrong, 3).is_err());
        }
    }
}
