//! Which row of the catalogue an item asks for.
//!
//! Two voices, all of them data in `matching/` and none of them chance. The one knows what words mean: words become
//! concepts ([`lexicon`]), and concepts are weighed against what each row is about ([`score`]). The other knows how
//! people write ([`examples`]). A row is named where both agree; or where one is sure and the other has nothing to
//! say, or knows less of the item's words. **A wrong tick is worse than none**, so what is denied ("no TLS needed"),
//! struck out, or about something else besides is declined, with the closest three rows named for the person who
//! reads it.

mod examples;
mod lexicon;
mod score;
mod synonyms;

use std::fmt;
use std::sync::LazyLock;

use self::examples::{Examples, Likely, NONE};
pub(crate) use self::lexicon::Lexicons;
use self::lexicon::Reading;
use self::score::{Judged, Rows, Why};
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
    /// The rows that the examples make likely and how far each is behind, the likeliest first.
    pub likely: Vec<(String, i64)>,
    /// What part of the words the likeliest row's examples have, in thousandths.
    pub known: i64,
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
        writeln!(f, "  points: {}", points.join(", "))?;
        let likely: Vec<_> = self.likely.iter().map(|(row, behind)| format!("{row} -{behind}")).collect();
        write!(f, "  examples: {}; {} of 1000 known", likely.join(", "), self.known)
    }
}

/// Matches items to the rows of a catalogue.
pub struct Matcher {
    lexicons: &'static Lexicons,
    rows: Rows,
    examples: Examples,
    catalogue: &'static Catalogue,
}

static BUILT_IN: LazyLock<Matcher> = LazyLock::new(|| Matcher {
    lexicons: Lexicons::built_in(),
    rows: Rows::built_in(),
    examples: Examples::built_in(Lexicons::built_in()),
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
        let mut likely = self.examples.judge(self.lexicons, &item.text, lang);
        if !own.negations.is_empty() && !likely.well_denied {
            likely.well_denied = self.denies_something_else(&item.text, lang, &own, &likely);
        }
        let ranked = ranked(&judged, &likely);
        let because = own.hits.iter().map(|hit| (hit.words.clone(), hit.concept.clone())).collect();
        let found = |found, reason| Explained {
            found,
            because,
            reason,
            points: judged.points.iter().take(5).cloned().collect(),
            likely: likely
                .rows
                .iter()
                .take(5)
                .map(|(id, _)| (id.clone(), likely.behind(id).unwrap_or(0)))
                .collect(),
            known: likely.known,
            unknown: own.unknown.clone(),
        };
        // A person who names a row has decided; whether the words agree is not asked.
        if !item.ids.is_empty() {
            if let Some(unknown) = item.ids.iter().find(|id| self.catalogue.get(id).is_none()) {
                let reason = format!("`{unknown}` is not a row of the catalogue");
                return found(self.declined(&ranked), reason);
            }
            let mut rows = item.ids.clone();
            rows.sort();
            rows.dedup();
            return found(Match::Rows(rows), String::new());
        }
        match agree(&own, &judged, &likely) {
            Ok(rows) => found(Match::Rows(rows), String::new()),
            Err(reason) => found(self.declined(&ranked), reason),
        }
    }

    /// Whether the first row is asked for in spite of what is denied. "WebP, and not wider than the screen" asks for
    /// it without the words that are denied; "WebP is not what we want" denies it, as it stands before the denial.
    fn denies_something_else(&self, text: &str, lang: Lang, own: &Reading, likely: &Likely) -> bool {
        let asks = |text: &str| {
            let alone = self.examples.judge(self.lexicons, text, lang);
            alone.first() == likely.first() && alone.ahead() >= ahead::SURE
        };
        let parts = text.split([',', ';', ':', '.', '!', '?', '(', ')', '\u{2013}', '\u{2014}']);
        let mut denied = parts.filter_map(|part| self.lexicons.read(part, lang).before);
        asks(&own.rest) && !denied.any(|before| asks(&before))
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

/// How far the likeliest row has to be ahead of the second to be taken, in thousandths of a logarithm. Measured on
/// phrasings that the examples did not have: of what is further ahead than `SURE`, one in fifty is wrong.
mod ahead {
    /// Where the concepts are unsure.
    pub(super) const SURE: i64 = 3000;
    /// Where the concepts name another row, or something that is no row's.
    pub(super) const AGAINST: i64 = 4500;
    /// Where the concepts are unsure, and it is their best row.
    pub(super) const BOTH: i64 = 2500;
    /// Where the concepts name it too, in an item with words that they do not know.
    pub(super) const SAME: i64 = 2000;
    /// What two rows that are both asked for may be apart.
    pub(super) const APART: i64 = 4000;
}

/// With fewer words, a denial is all that an item says: "don't use Redis".
const WORDS_OF_A_DENIAL: usize = 6;

/// The rows on which concepts and examples agree, or that one of them is sure of.
fn agree(own: &Reading, judged: &Judged, likely: &Likely) -> Result<Vec<String>, String> {
    let first = likely.first().filter(|id| *id != NONE);
    match (&judged.rows, first) {
        (Ok(rows), _) if likely.rows.is_empty() => Ok(rows.clone()),
        (Ok(rows), Some(first)) if rows.iter().any(|id| id == first) => {
            // Both could be led astray by the few words that they know.
            if own.unknown.len() > 1 && likely.ahead() < ahead::SAME {
                return Err(format!("{first} or another, with too many words that are not known"));
            }
            let near = |id: &&String| likely.behind(id).is_some_and(|behind| behind <= ahead::APART);
            Ok(rows.iter().filter(near).cloned().collect())
        }
        (Ok(rows), _) if own.unknown.is_empty() => Ok(rows.clone()),
        (Ok(_), Some(first)) if likely.ahead() >= ahead::AGAINST => Ok(vec![first.to_owned()]),
        (Ok(rows), first) => {
            Err(format!("{} by its concepts, {} by examples", rows.join(", "), first.unwrap_or("no row")))
        }
        (Err(why), None) => Err(why.to_string()),
        (Err(why), Some(first)) => {
            let least = match why {
                Why::Dropped => None,
                Why::Denied => (likely.well_denied && own.words >= WORDS_OF_A_DENIAL).then_some(ahead::SURE),
                Why::Unsure(_) if judged.points.first().is_some_and(|(id, _)| id == first) => {
                    Some(ahead::BOTH)
                }
                Why::Unsure(_) => Some(ahead::SURE),
                Why::Outside(_) => Some(ahead::AGAINST),
            };
            match least {
                Some(least) if likely.ahead() >= least => Ok(vec![first.to_owned()]),
                _ => Err(why.to_string()),
            }
        }
    }
}

/// The closest first: what the examples make likely; where they know no word, what the concepts fit.
fn ranked(judged: &Judged, likely: &Likely) -> Vec<String> {
    likely.rows.iter().map(|(id, _)| id).chain(&judged.ranked).filter(|id| *id != NONE).cloned().collect()
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
