//! Concepts to rows, from `matching/rows.toml`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;

#[cfg(test)]
use super::lexicon::Lexicons;
use super::lexicon::Reading;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    limits: Limits,
    /// Concepts that many rows are about, and that alone decide nothing.
    weak: Vec<String>,
    /// Weak ones that tell much where a row leaves them unexplained: a crash, an exercise.
    telling: Vec<String>,
    /// Concepts that no row is about: an item that has one is about something else.
    outside: Vec<String>,
    /// Concepts that it is good to deny: "no secrets in the code".
    bad: Vec<String>,
    /// Concepts that a heading may lend to the items below it.
    lends: Vec<String>,
    /// What to name where nothing is close.
    usual: Vec<String>,
    rows: BTreeMap<String, About>,
}

/// What a row is about.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    /// Patterns: the concepts of one are needed, all of them; `a|b` is either.
    is: Vec<String>,
    /// Concepts that may stand beside.
    #[serde(default)]
    may: Vec<String>,
    /// Concepts that rule it out.
    #[serde(default)]
    not: Vec<String>,
}

/// All numbers in thousandths of a concept's weight, so that sums are exact and the same everywhere.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    weak: i64,
    outside: i64,
    /// How much of the weight a concept has that only headings say.
    heading: i64,
    /// How much headings that fit add.
    fits: i64,
    /// How much of the weight of a concept that may stand beside counts for the row.
    beside: i64,
    /// How much of the weight of an unexplained concept counts against.
    unexplained: i64,
    /// What an unknown word weighs.
    unknown: i64,
    /// The least score that names a row.
    least: i64,
    /// The least part of the item that a row has to explain, in thousandths.
    explained: i64,
    /// How far ahead of all others a row has to be.
    margin: i64,
}

struct Pattern {
    row: usize,
    needs: Vec<Vec<String>>,
}

pub(crate) struct Rows {
    limits: Limits,
    weak: BTreeSet<String>,
    telling: BTreeSet<String>,
    outside: BTreeSet<String>,
    bad: BTreeSet<String>,
    lends: BTreeSet<String>,
    pub usual: Vec<String>,
    ids: Vec<String>,
    may: Vec<BTreeSet<String>>,
    not: Vec<BTreeSet<String>>,
    patterns: Vec<Pattern>,
}

/// Why an item was not matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// It says that it will not be done.
    Dropped,
    /// It says that something is not so.
    Denied,
    /// It has a concept that no row is about.
    Outside(String),
    /// No row explains enough of it, or several do.
    Unsure(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped => f.write_str("it says that it will not be done"),
            Self::Denied => f.write_str("it says that something is not so"),
            Self::Outside(concept) => write!(f, "it is about something else: {concept}"),
            Self::Unsure(why) => f.write_str(why),
        }
    }
}

/// What came out.
pub(crate) struct Judged {
    /// The rows, or why there are none.
    pub rows: Result<Vec<String>, Why>,
    /// All that have anything to do with it, the closest first.
    pub ranked: Vec<String>,
    /// The rows with a pattern that fits, and their points.
    pub points: Vec<(String, i64)>,
}

/// A row weighed against an item.
struct Weighed {
    row: usize,
    score: i64,
    /// What part of the item it explains, in thousandths.
    part: i64,
    explains: BTreeSet<String>,
    needed: BTreeSet<String>,
}

impl Rows {
    pub(crate) fn built_in() -> Self {
        // The file is part of the program, and every test reads it: this cannot fail where klar was built.
        let file: Written = toml::from_str(include_str!("../../../matching/rows.toml"))
            .unwrap_or_else(|why| unreachable!("matching: {why}"));
        let mut all = Self {
            limits: file.limits,
            weak: file.weak.into_iter().collect(),
            telling: file.telling.into_iter().collect(),
            outside: file.outside.into_iter().collect(),
            bad: file.bad.into_iter().collect(),
            lends: file.lends.into_iter().collect(),
            usual: file.usual,
            ids: Vec::new(),
            may: Vec::new(),
            not: Vec::new(),
            patterns: Vec::new(),
        };
        for (row, (id, about)) in file.rows.into_iter().enumerate() {
            all.ids.push(id);
            all.may.push(about.may.into_iter().collect());
            all.not.push(about.not.into_iter().collect());
            for pattern in about.is {
                let needs =
                    pattern.split(' ').map(|need| need.split('|').map(str::to_owned).collect()).collect();
                all.patterns.push(Pattern { row, needs });
            }
        }
        all
    }

    fn weight(&self, concept: &str) -> i64 {
        if self.outside.contains(concept) {
            self.limits.outside
        } else if self.weak.contains(concept) {
            self.limits.weak
        } else {
            1000
        }
    }

    /// What it weighs that these are left.
    fn unexplained(&self, concepts: &BTreeSet<String>) -> i64 {
        let weight =
            |concept: &String| if self.telling.contains(concept) { 1000 } else { self.weight(concept) };
        concepts.iter().map(weight).sum()
    }

    fn weights<'a>(&self, concepts: impl IntoIterator<Item = &'a String>) -> i64 {
        concepts.into_iter().map(|concept| self.weight(concept)).sum()
    }

    /// Which rows an item asks for, given what was read in it and around it.
    pub(crate) fn judge(&self, own: &Reading, around: &[Reading]) -> Judged {
        let concepts: BTreeSet<String> = own.hits.iter().map(|hit| hit.concept.clone()).collect();
        let lent = around.iter().flat_map(|text| &text.hits).map(|hit| &hit.concept);
        let context: BTreeSet<String> =
            lent.filter(|concept| self.lends.contains(*concept)).cloned().collect();
        let weighed = self.weigh(own, &concepts, &context);
        let ranked = self.ranked(&weighed, &concepts, &context);
        let rows = if own.dropped || around.iter().any(|text| text.dropped) {
            Err(Why::Dropped)
        } else if !is_demand(own) && own.negations.iter().any(|at| !self.is_well_denied(own, *at)) {
            Err(Why::Denied)
        } else if let Some(other) = concepts.iter().find(|concept| self.outside.contains(*concept)) {
            Err(Why::Outside(other.clone()))
        } else {
            self.choose(&weighed, &concepts, own).map_err(Why::Unsure)
        };
        let points = weighed.iter().map(|each| (self.ids[each.row].clone(), each.score)).collect();
        Judged { rows, ranked, points }
    }

    /// "No secrets in the code": what is denied, in the words that follow, is what nobody wants.
    fn is_well_denied(&self, own: &Reading, at: usize) -> bool {
        own.hits.iter().any(|hit| (at..at + 8).contains(&hit.at) && self.bad.contains(&hit.concept))
    }

    /// The best pattern of each row that has one, the best row first.
    fn weigh(&self, text: &Reading, own: &BTreeSet<String>, context: &BTreeSet<String>) -> Vec<Weighed> {
        let unknown = self.limits.unknown * i64::try_from(text.unknown.len()).unwrap_or(i64::MAX / 1_000_000);
        let mut best: BTreeMap<usize, Weighed> = BTreeMap::new();
        for pattern in &self.patterns {
            let row = pattern.row;
            if !self.not[row].is_disjoint(own) {
                continue;
            }
            let mut needed = BTreeSet::new();
            let mut lent = 0;
            let whole = pattern.needs.iter().all(|need| {
                if let Some(concept) = need.iter().find(|concept| own.contains(*concept)) {
                    needed.insert(concept.clone());
                    return true;
                }
                let concept = need.iter().find(|concept| context.contains(*concept));
                lent += concept.map_or(0, |concept| self.weight(concept) * self.limits.heading / 1000);
                concept.is_some()
            });
            // Headings alone decide nothing.
            if !whole || needed.is_empty() {
                continue;
            }
            let mut explains = needed.clone();
            let either = pattern.needs.iter().flatten();
            explains.extend(either.filter(|concept| own.contains(*concept)).cloned());
            explains.extend(self.may[row].intersection(own).cloned());
            let (need, all) = (self.weights(&needed), self.weights(&explains));
            let open = self.unexplained(&left(text, &explains));
            let fits = if self.may[row].is_disjoint(context) { 0 } else { self.limits.fits };
            let score = need + lent + (all - need) * self.limits.beside / 1000 + fits
                - open * self.limits.unexplained / 1000
                - unknown / 4;
            let part = 1000 * (all + lent) / (all + lent + open + unknown).max(1);
            let weighed = Weighed { row, score, part, explains, needed };
            match best.get(&row) {
                Some(other) if (other.score, other.part) >= (weighed.score, weighed.part) => {}
                _ => _ = best.insert(row, weighed),
            }
        }
        let mut weighed: Vec<_> = best.into_values().collect();
        weighed.sort_by_key(|each| (Reverse(each.score), Reverse(each.part), each.row));
        weighed
    }

    fn choose(
        &self,
        weighed: &[Weighed],
        own: &BTreeSet<String>,
        text: &Reading,
    ) -> Result<Vec<String>, String> {
        let Some(best) = weighed.first() else { return Err("no row is about this".to_owned()) };
        let id = |row: usize| self.ids[row].clone();
        let content =
            |concepts: &BTreeSet<String>| concepts.iter().any(|concept| !self.weak.contains(concept));
        let mut explained = best.explains.clone();
        let mut open = left(text, &explained);
        let mut rows = vec![best];
        // Two demands on one line: each further row has to explain what is left, and needs some of that.
        if text.joins {
            while content(&open) {
                let next = weighed.iter().find(|each| {
                    // What another row is named for already does not make a second demand.
                    let mut strong = each.needed.iter().filter(|need| !self.weak.contains(*need)).peekable();
                    strong.peek().is_some()
                        && strong.all(|need| open.contains(need))
                        && rows.iter().all(|other| other.row != each.row)
                });
                let Some(next) = next else { break };
                explained.extend(next.explains.iter().cloned());
                open = left(text, &explained);
                rows.push(next);
            }
        }
        let names = open;
        let open = self.unexplained(&names);
        let known = self.weights(explained.intersection(own));
        let unknown = self.limits.unknown * i64::try_from(text.unknown.len()).unwrap_or(0);
        let part = if rows.len() == 1 { best.part } else { 1000 * known / (known + open + unknown).max(1) };
        // Of several rows none is held against another for what that one explains.
        let least = match rows[..] {
            [only] => only.score,
            _ => self.weights(&best.needed) - (open + unknown / 4) * self.limits.unexplained / 1000,
        };
        if part < self.limits.explained {
            return Err(format!(
                "{} explains {part} of 1000, left: {names:?} {:?}",
                id(best.row),
                text.unknown
            ));
        }
        if least < self.limits.least {
            return Err(format!("{} scores {least}", id(best.row)));
        }
        if let Some(other) = weighed.iter().find(|each| {
            rows.iter().all(|row| row.row != each.row)
                && each.score > best.score - self.limits.margin
                && (rows.len() == 1
                    || !each.needed.is_subset(&rows.iter().flat_map(|r| r.needed.clone()).collect()))
        }) {
            return Err(format!("{} or {}", id(best.row), id(other.row)));
        }
        let mut ids: Vec<String> = rows.into_iter().map(|each| id(each.row)).collect();
        ids.sort();
        Ok(ids)
    }

    /// What fits first, then what shares most with it.
    fn ranked(&self, weighed: &[Weighed], own: &BTreeSet<String>, context: &BTreeSet<String>) -> Vec<String> {
        let mut shared: BTreeMap<usize, i64> = BTreeMap::new();
        for pattern in &self.patterns {
            let count = |concepts: &BTreeSet<String>| -> i64 {
                let needs =
                    pattern.needs.iter().filter(|need| need.iter().any(|each| concepts.contains(each)));
                needs.map(|need| self.weight(&need[0])).sum()
            };
            let value =
                2 * count(own) + count(context) / 2 - 100 * i64::try_from(pattern.needs.len()).unwrap_or(9);
            if value > 0 {
                let old = shared.entry(pattern.row).or_insert(value);
                *old = value.max(*old);
            }
        }
        let mut others: Vec<_> = shared.into_iter().collect();
        others.sort_by_key(|(row, value)| (Reverse(*value), *row));
        let rows = weighed.iter().map(|each| each.row).chain(others.into_iter().map(|(row, _)| row));
        rows.map(|row| self.ids[row].clone()).collect()
    }

    #[cfg(test)]
    pub(crate) fn has(&self, id: &str) -> bool {
        self.ids.iter().any(|each| each == id)
    }

    #[cfg(test)]
    pub(crate) fn ids(&self) -> &[String] {
        &self.ids
    }

    /// What is wrong with the files: concepts that are used and never spoken, or spoken and never used.
    #[cfg(test)]
    pub(crate) fn problems(&self, lexicons: &Lexicons) -> Vec<String> {
        let mut used: BTreeSet<&String> =
            self.patterns.iter().flat_map(|p| p.needs.iter().flatten()).collect();
        used.extend(self.may.iter().flatten().chain(self.not.iter().flatten()));
        used.extend(self.weak.iter().chain(&self.outside).chain(&self.bad));
        let mut problems = Vec::new();
        for concept in &used {
            match lexicons.concepts().get(*concept) {
                None => problems.push(format!("{concept}: no word means it")),
                Some([true, true, true, _] | [_, _, _, true]) => {}
                Some(_) => problems.push(format!("{concept}: a language has no word for it")),
            }
        }
        let spoken = lexicons.concepts().keys().filter(|concept| !used.contains(concept));
        problems.extend(spoken.map(|concept| format!("{concept}: no row asks for it")));
        problems
    }
}

/// Two denials make a demand: nothing goes out without tests.
fn is_demand(own: &Reading) -> bool {
    own.negations.len() == 2 && own.without == 1
}

/// What nothing has explained: where words can be read in several ways, one of them is enough.
fn left(text: &Reading, explains: &BTreeSet<String>) -> BTreeSet<String> {
    let open = |at: usize| !text.hits.iter().any(|hit| hit.at == at && explains.contains(&hit.concept));
    // The first reading stands for all of the words' readings.
    let mut places = BTreeSet::new();
    let hits = text.hits.iter().filter(|hit| open(hit.at) && !explains.contains(&hit.concept));
    hits.filter(|hit| places.insert(hit.at)).map(|hit| hit.concept.clone()).collect()
}
