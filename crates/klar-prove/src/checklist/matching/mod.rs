//! Which row of the catalogue an item asks for.
//!
//! Three steps, all of them data in `matching/*.toml` and none of them chance: words become concepts
//! ([`lexicon`]), concepts are weighed against what each row is about ([`score`]), and a row is named only where
//! it explains most of the item and clearly more than any other does. **A wrong tick is worse than none**, so
//! what is denied ("no TLS needed"), struck out, or about something else besides is declined, with the closest
//! three rows named for the person who reads it.

mod lexicon;
mod score;

use std::fmt;
use std::sync::LazyLock;

pub(crate) use self::lexicon::Lexicons;
use self::score::Rows;
use super::Item;
use crate::catalogue::Catalogue;
use crate::words::Lang;

/// What was found for an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// It asks for these rows, all of them.
    Rows(Vec<String>),
    /// klar does not know, and these are the closest.
    Declined {
        /// Three rows, the closest first.
        closest: [String; 3],
    },
}

/// A match and what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// What was found.
    pub found: Match,
    /// The item's words and the concepts they were read as; a concept is a word of `matching/rows.toml`.
    pub because: Vec<(String, String)>,
    /// Why it was declined, in a few words for whoever looks into it; empty where it was not.
    pub reason: String,
    /// The rows that fit best and their points, the best first.
    pub points: Vec<(String, i64)>,
    /// Words that are in no file.
    pub unknown: Vec<String>,
}

/// For people who ask why: one line for each thing.
impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because: Vec<_> =
            self.because.iter().map(|(words, concept)| format!("{words} = {concept}")).collect();
        let points: Vec<_> = self.points.iter().map(|(row, points)| format!("{row} {points}")).collect();
        match &self.found {
            Match::Rows(rows) => writeln!(f, "  found: {}", rows.join(", "))?,
            Match::Declined { closest } => {
                writeln!(f, "  declined ({}), closest: {}", self.reason, closest.join(", "))?
            }
        }
        writeln!(f, "  words: {}; not known: {}", because.join(", "), self.unknown.join(" "))?;
        write!(f, "  points: {}", points.join(", "))
    }
}

/// Matches items to the rows of a catalogue.
pub struct Matcher {
    lexicons: &'static Lexicons,
    rows: Rows,
    catalogue: &'static Catalogue,
}

static BUILT_IN: LazyLock<Matcher> = LazyLock::new(|| Matcher {
    lexicons: Lexicons::built_in(),
    rows: Rows::built_in(),
    catalogue: Catalogue::built_in(),
});

impl Matcher {
    /// The one for the catalogue that is part of the program.
    #[must_use]
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// What an item asks for.
    #[must_use]
    pub fn find(&self, item: &Item, lang: Lang) -> Match {
        self.explain(item, lang).found
    }

    /// What an item asks for, and which words said so.
    #[must_use]
    pub fn explain(&self, item: &Item, lang: Lang) -> Explained {
        let own = self.lexicons.read(&item.text, lang);
        let around: Vec<_> =
            item.headings.iter().chain(&item.above).map(|text| self.lexicons.read(text, lang)).collect();
        let judged = self.rows.judge(&own, &around);
        let because = own.hits.iter().map(|hit| (hit.words.clone(), hit.concept.clone())).collect();
        let found = |found, reason| Explained {
            found,
            because,
            reason,
            points: judged.points.iter().take(5).cloned().collect(),
            unknown: own.unknown.clone(),
        };
        // A person who names a row has decided; whether the words agree is not asked.
        if !item.ids.is_empty() {
            if let Some(unknown) = item.ids.iter().find(|id| self.catalogue.get(id).is_none()) {
                let reason = format!("`{unknown}` is not a row of the catalogue");
                return found(self.declined(&judged.ranked), reason);
            }
            let mut rows = item.ids.clone();
            rows.sort();
            rows.dedup();
            return found(Match::Rows(rows), String::new());
        }
        match &judged.rows {
            Ok(rows) => found(Match::Rows(rows.clone()), String::new()),
            Err(reason) => found(self.declined(&judged.ranked), reason.clone()),
        }
    }

    /// The three closest; where the words say nothing at all, the rows that most lists start with.
    fn declined(&self, ranked: &[String]) -> Match {
        let mut rows = ranked.iter().chain(&self.rows.usual).filter(|id| self.catalogue.get(id).is_some());
        let mut closest = [const { String::new() }; 3];
        for place in 0..3 {
            let next = rows.find(|id| !closest.contains(id)).cloned();
            closest[place] = next.unwrap_or_default();
        }
        Match::Declined { closest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_found_and_every_concept_is_spoken_in_each_language() {
        let matcher = Matcher::built_in();
        let mut problems = matcher.rows.problems(matcher.lexicons);
        for row in Catalogue::built_in().rows() {
            if !matcher.rows.has(&row.id) {
                problems.push(format!("{}: nothing leads to it", row.id));
            }
        }
        for id in matcher.rows.ids() {
            if Catalogue::built_in().get(id).is_none() {
                problems.push(format!("{id}: is not a row"));
            }
        }
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}
