//! Which code of scripts has run, as V8's precise coverage tells it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::world::browser::{Page, Trouble};

/// Scripts and pieces of them that are looked at: more are not told apart from none.
const MOST_SCRIPTS: usize = 1000;
const MOST_PIECES: usize = 200_000;

/// Pieces of a script, from where to where: they are in order, and none meets another.
type Pieces = Vec<(u64, u64)>;

/// What has run, by the address of the script. Lengths are those of the source as it is delivered and unpacked, in
/// UTF-16 units: what is written in ASCII has as many bytes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Ran(BTreeMap<String, Pieces>);

/// Begins to count, in this page and whatever is opened in it next.
pub(super) async fn count(page: &Page<'_>) -> Result<(), Trouble> {
    page.call("Profiler.enable", json!({})).await?;
    let all = json!({"callCount": true, "detailed": true});
    page.call("Profiler.startPreciseCoverage", all).await.map(drop)
}

/// What has run since this was asked last.
pub(super) async fn ran(page: &Page<'_>) -> Result<Ran, Trouble> {
    Ok(Ran::read(&page.call("Profiler.takePreciseCoverage", json!({})).await?))
}

impl Ran {
    fn read(told: &Value) -> Self {
        let mut all = Self::default();
        let scripts = told.get("result").and_then(Value::as_array).into_iter().flatten();
        for script in scripts.take(MOST_SCRIPTS) {
            let url = script.get("url").and_then(Value::as_str).unwrap_or_default();
            if url.is_empty() {
                continue;
            }
            let functions = script.get("functions").and_then(Value::as_array).into_iter().flatten();
            let ranges = functions.flat_map(|each| each.get("ranges").and_then(Value::as_array)).flatten();
            let number = |range: &Value, key: &str| range.get(key).and_then(Value::as_u64).unwrap_or(0);
            let ranges = ranges.take(MOST_PIECES).map(|range| {
                (number(range, "startOffset"), number(range, "endOffset"), number(range, "count") > 0)
            });
            all.add(url.to_owned(), innermost(ranges.collect()));
        }
        all
    }

    /// And what has run at another time.
    pub(super) fn and(&mut self, other: Self) {
        for (url, pieces) in other.0 {
            self.add(url, pieces);
        }
    }

    fn add(&mut self, url: String, pieces: Pieces) {
        let there = self.0.entry(url).or_default();
        there.extend(pieces);
        *there = joined(std::mem::take(there));
    }

    /// How much has run here and not there, in scripts whose address fits.
    pub(super) fn beyond(&self, there: &Self, fits: impl Fn(&str) -> bool) -> u64 {
        let none = Pieces::new();
        let scripts = self.0.iter().filter(|(url, _)| fits(url));
        scripts.map(|(url, pieces)| length(pieces) - common(pieces, there.0.get(url).unwrap_or(&none))).sum()
    }
}

/// The pieces that have run. Ranges lie within each other, as functions and blocks do, and of those around a place the
/// innermost says whether it has.
fn innermost(mut ranges: Vec<(u64, u64, bool)>) -> Pieces {
    ranges.retain(|(start, end, _)| start < end);
    ranges.sort_by_key(|(start, end, _)| (*start, std::cmp::Reverse(*end)));
    let mut pieces = Pieces::new();
    let mut open: Vec<(u64, bool)> = Vec::new();
    let mut at = 0;
    let mut until = |to: u64, open: &[(u64, bool)]| {
        if to > at && open.last().is_some_and(|(_, ran)| *ran) {
            pieces.push((at, to));
        }
        at = at.max(to);
    };
    for (start, end, ran) in ranges {
        while let Some((ends, _)) = open.last().copied().filter(|(ends, _)| *ends <= start) {
            until(ends, &open);
            open.pop();
        }
        until(start, &open);
        open.push((end, ran));
    }
    while let Some((ends, _)) = open.last().copied() {
        until(ends, &open);
        open.pop();
    }
    joined(pieces)
}

/// The same pieces in order, those that meet as one.
fn joined(mut pieces: Pieces) -> Pieces {
    pieces.sort_unstable();
    let mut all = Pieces::new();
    for (start, end) in pieces {
        match all.last_mut() {
            Some((_, last)) if start <= *last => *last = end.max(*last),
            _ => all.push((start, end)),
        }
    }
    all
}

fn length(pieces: &Pieces) -> u64 {
    pieces.iter().map(|(start, end)| end - start).sum()
}

/// The length of what lies in both.
fn common(one: &Pieces, two: &Pieces) -> u64 {
    let (mut one, mut two) = (one.iter().peekable(), two.iter().peekable());
    let mut sum = 0;
    while let (Some(&&(from, to)), Some(&&(start, end))) = (one.peek(), two.peek()) {
        sum += to.min(end).saturating_sub(from.max(start));
        if to < end {
            one.next()
        } else {
            two.next()
        };
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_innermost_range_says_whether_a_place_has_run() {
        for (ranges, expected) in [
            (vec![], vec![]),
            (vec![(0, 100, true)], vec![(0, 100)]),
            (vec![(0, 100, false)], vec![]),
            // A module, a function in it that did not run, and one in that.
            (vec![(0, 100, true), (20, 60, false), (30, 40, false)], vec![(0, 20), (60, 100)]),
            // A block that did not run, a function in it that did, another behind it.
            (
                vec![(0, 100, true), (20, 60, false), (30, 40, true), (60, 70, false)],
                vec![(0, 20), (30, 40), (70, 100)],
            ),
            // The same range twice: the later is within the earlier.
            (vec![(0, 10, true), (0, 10, false)], vec![]),
            (vec![(5, 5, true), (9, 3, true)], vec![]),
        ] {
            assert_eq!(innermost(ranges.clone()), expected, "{ranges:?}");
        }
    }

    #[test]
    fn what_ran_at_one_place_only() {
        let told = |url: &str, ranges: Value| {
            Ran::read(&json!({"result": [{"url": url, "functions": [{"ranges": ranges}]}]}))
        };
        let range = |start: u64, end: u64, count: u64| json!({"startOffset": start, "endOffset": end, "count": count});
        let mut first = told("/a.js", json!([range(0, 1000, 1), range(100, 900, 0)]));
        let place = told("/a.js", json!([range(0, 1000, 1), range(100, 300, 0), range(950, 1000, 0)]));
        let own = |url: &str| url == "/a.js";
        // 300..900 is new; before 100 and from 900 it had run already.
        assert_eq!(place.beyond(&first, own), 600);
        assert_eq!(first.beyond(&place, own), 150 - 100);
        assert_eq!(place.beyond(&first, |_| false), 0);
        assert_eq!(place.beyond(&Ran::default(), own), 750);
        first.and(told("/a.js", json!([range(200, 500, 3)])));
        assert_eq!(place.beyond(&first, own), 400);
        assert_eq!(told("/b.js", json!([range(0, 7, 1)])).beyond(&first, |_| true), 7);
        // Code that belongs to no file, and what is no answer at all.
        assert_eq!(told("", json!([range(0, 7, 1)])), Ran::default());
        assert_eq!(Ran::read(&json!({"result": 3})), Ran::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn sums_are_those_of_a_count_place_by_place(
            one in proptest::collection::vec((0_u64..60, 0_u64..60), 0..12),
            two in proptest::collection::vec((0_u64..60, 0_u64..60), 0..12),
        ) {
            let pieces = |of: &[(u64, u64)]| joined(of.iter().map(|(a, b)| (*a.min(b), *a.max(b))).collect());
            let (one, two) = (pieces(&one), pieces(&two));
            let within = |pieces: &Pieces, at: u64| pieces.iter().any(|(from, to)| (*from..*to).contains(&at));
            let both = (0..60).filter(|at| within(&one, *at) && within(&two, *at)).count() as u64;
            prop_assert_eq!(common(&one, &two), both);
            prop_assert!(both <= length(&one));
        }
    }
}
