//! Rows, learned from examples of how people write them.
//!
//! The second voice beside the concepts of [`score`](super::score). `matching/phrasings/*.toml` has about ten ways
//! to ask for each row in each language, and some things that are no row's; the catalogue's own titles and proofs
//! are examples too. From all of them a naive Bayes model is counted at first use: how much each word, pair of
//! words, run of letters, concept and pair of concepts speaks for each row. Runs of letters find what compounds and
//! endings hide; concepts, [synonyms](super::synonyms) and product names carry over from one language to the others.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use super::lexicon::{Apart, Lexicons, Reading};
use super::synonyms::Synonyms;
use crate::catalogue::Catalogue;
use crate::checklist::text::tokens;
use crate::words::Lang;

/// What is named where an item is no row's.
pub(crate) const NONE: &str = "-";

/// How much a kind of feature counts.
const WORD: f64 = 1.2;
const PAIR: f64 = 0.3;
const LETTERS: f64 = 0.2;
const CONCEPT: f64 = 1.0;
const CONCEPTS: f64 = 0.25;

/// How much a kind of example counts.
const PHRASING: f64 = 1.0;
const TITLE: f64 = 2.0;
const PROOF: f64 = 0.5;

/// So many proofs of a row: the first say what it is about, the others grow fine.
const PROOFS: usize = 2;

/// What a feature counts that no example of a row has.
const UNSEEN: f64 = 0.02;

const FILES: [(Lang, &str); 3] = [
    (Lang::En, include_str!("../../../matching/phrasings/en.toml")),
    (Lang::Nb, include_str!("../../../matching/phrasings/nb.toml")),
    (Lang::Sv, include_str!("../../../matching/phrasings/sv.toml")),
];

/// A word, a pair of words, a run of letters, a concept or a pair of concepts, as a number.
type Feature = u64;

/// What is the same wherever a word stands.
struct Word {
    stem: Feature,
    letters: Vec<Feature>,
    means: Vec<Feature>,
    /// Says nothing about which row is meant.
    small: bool,
}

/// Words that were seen before, so that each is looked at once.
#[derive(Default)]
struct Seen {
    places: HashMap<String, usize>,
    words: Vec<Word>,
    apart: Apart,
}

/// Where what a feature says stands; it is a hash already.
type Places = HashMap<Feature, usize, BuildHasherDefault<AsItIs>>;

#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |all, byte| all.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, feature: u64) {
        self.0 = feature;
    }
}

/// What a feature says.
#[derive(Default)]
struct Says {
    /// How rare it is, times how much its kind counts.
    weight: f64,
    /// For which rows, and how much.
    rows: Vec<(usize, f64)>,
}

/// What rows the examples make likely.
pub(crate) struct Examples {
    synonyms: Synonyms,
    ids: Vec<String>,
    /// Of each row: what all of its examples amount to.
    amounts: Vec<f64>,
    places: Places,
    says: Vec<Says>,
    /// Of each row: the words that its examples deny.
    denied: Vec<HashSet<Feature>>,
}

/// The rows, the likeliest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Likely {
    /// Rows and how likely they are, in thousandths of a logarithm.
    pub rows: Vec<(String, i64)>,
    /// What part of the text's words an example of the first row has, in thousandths.
    pub known: i64,
    /// Whether what the text denies does not touch the first row: an example of it denies the same, or it is
    /// the first without the parts that deny.
    pub well_denied: bool,
}

impl Likely {
    /// The first row, unless nothing is known.
    pub(crate) fn first(&self) -> Option<&str> {
        self.rows.first().map(|(id, _)| id.as_str())
    }

    /// How far a row is behind the first.
    pub(crate) fn behind(&self, id: &str) -> Option<i64> {
        let points = self.rows.iter().find(|(row, _)| row == id)?.1;
        Some(self.rows.first()?.1 - points)
    }

    /// How far the first row is ahead of the second.
    pub(crate) fn ahead(&self) -> i64 {
        match self.rows[..] {
            [(_, first), (_, second), ..] => first - second,
            _ => 0,
        }
    }
}

impl Examples {
    pub(crate) fn built_in(lexicons: &Lexicons) -> Self {
        let mut examples: Vec<(String, Lang, f64, String)> = Vec::new();
        for (lang, text) in FILES {
            // The files are part of the program, and every test reads them: this cannot fail where klar was built.
            let file: BTreeMap<String, Vec<String>> =
                toml::from_str(text).unwrap_or_else(|why| unreachable!("matching: {why}"));
            for (id, phrasings) in file {
                examples.extend(phrasings.into_iter().map(|text| (id.clone(), lang, PHRASING, text)));
            }
        }
        for row in Catalogue::built_in().rows() {
            let proofs = row.proof.iter().take(PROOFS).map(|proof| (PROOF, &proof.text));
            for (weight, text) in std::iter::once((TITLE, &row.title)).chain(proofs) {
                let texts = Lang::ALL.into_iter().map(|lang| (lang, text.get(lang)));
                examples.extend(texts.map(|(lang, text)| (row.id.clone(), lang, weight, text.to_owned())));
            }
        }
        examples.sort_by(|a, b| a.0.cmp(&b.0));
        Self::learn(lexicons, &examples)
    }

    /// Learns from examples in the order of their rows.
    fn learn(lexicons: &Lexicons, examples: &[(String, Lang, f64, String)]) -> Self {
        let mut ids: Vec<String> = examples.iter().map(|(id, ..)| id.clone()).collect();
        ids.dedup();
        let synonyms = Synonyms::built_in(lexicons);
        let mut seen = Seen::default();
        let mut places = Places::default();
        let mut said: Vec<Says> = Vec::new();
        let mut denied = vec![HashSet::new(); ids.len()];
        let mut read = Vec::with_capacity(examples.len());
        for (id, lang, weight, text) in examples {
            let row = ids.binary_search(id).unwrap_or(0);
            let (features, reading) = seen.features(lexicons, &synonyms, text, *lang);
            denied[row].extend(reading.denied.iter().flatten().map(|stem| of_stem(stem)));
            let features = features.into_iter().map(|(feature, kind)| {
                let place = *places.entry(feature).or_insert(said.len());
                if place == said.len() {
                    said.push(Says { weight: kind, rows: Vec::new() });
                }
                let rows = &mut said[place].rows;
                if rows.last().is_none_or(|last| last.0 != row) {
                    rows.push((row, 0.0));
                }
                place
            });
            read.push((row, *weight, features.collect::<Vec<_>>()));
        }
        for says in &mut said {
            says.weight *= (1.0 + count(ids.len() - 1) / count(says.rows.len())).ln();
        }
        let mut amounts = vec![0.0; ids.len()];
        let mut at = vec![0; said.len()];
        for (row, weight, features) in read {
            let length = length(features.iter().map(|place| said[*place].weight));
            for place in features {
                let says = &mut said[place];
                let amount = weight * says.weight / length;
                amounts[row] += amount;
                if says.rows[at[place]].0 != row {
                    at[place] += 1;
                }
                says.rows[at[place]].1 += amount;
            }
        }
        let unseen = UNSEEN * count(said.len());
        for amount in &mut amounts {
            *amount = (*amount + unseen).ln();
        }
        for (_, amount) in said.iter_mut().flat_map(|says| &mut says.rows) {
            *amount = (*amount / UNSEEN).ln_1p();
        }
        Self { synonyms, ids, amounts, places, says: said, denied }
    }

    /// What a feature says, where an example has it.
    fn says(&self, feature: Feature) -> Option<&Says> {
        self.places.get(&feature).map(|place| &self.says[*place])
    }

    /// Which rows a text is likely to ask for.
    pub(crate) fn judge(&self, lexicons: &Lexicons, text: &str, lang: Lang) -> Likely {
        let (features, reading) = Seen::default().features(lexicons, &self.synonyms, text, lang);
        let says: Vec<&Says> = features.iter().filter_map(|(feature, _)| self.says(*feature)).collect();
        if says.is_empty() {
            return Likely::default();
        }
        let length = length(says.iter().map(|says| says.weight));
        let sum: f64 = says.iter().map(|says| says.weight / length).sum();
        let mut points: Vec<f64> = self.amounts.iter().map(|amount| -amount * sum).collect();
        for says in says {
            for (row, amount) in &says.rows {
                points[*row] += amount * says.weight / length;
            }
        }
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|a, b| points[*b].partial_cmp(&points[*a]).unwrap_or(Ordering::Equal).then(a.cmp(b)));
        let known = self.known(&features, order[0]);
        let rows = order.iter().map(|row| (self.ids[*row].clone(), thousandths(points[*row])));
        let is_denied = |stem: &String| self.denied[order[0]].contains(&of_stem(stem));
        let mut denied = reading.denied.iter().filter(|after| !after.is_empty()).peekable();
        let well_denied = denied.peek().is_some() && denied.all(|after| after.iter().any(is_denied));
        Likely { rows: rows.collect(), known, well_denied }
    }

    /// What part of a text's words an example of a row has. One that no example has is as rare as can be.
    fn known(&self, features: &[(Feature, f64)], row: usize) -> i64 {
        let (mut known, mut all) = (0.0, 0.0);
        for (feature, _) in features.iter().filter(|(_, kind)| *kind == WORD) {
            let says = self.says(*feature);
            let weight = says.map_or_else(|| count(self.ids.len()).ln(), |says| says.weight);
            all += weight;
            if says.is_some_and(|says| says.rows.binary_search_by_key(&row, |each| each.0).is_ok()) {
                known += weight;
            }
        }
        if all > 0.0 { thousandths(known / all) } else { 0 }
    }
}

impl Seen {
    /// What a text has, each once, and how much its kind counts.
    fn features(
        &mut self,
        lexicons: &Lexicons,
        synonyms: &Synonyms,
        text: &str,
        lang: Lang,
    ) -> (Vec<(Feature, f64)>, Reading) {
        let mut features = Vec::new();
        let mut concepts = Vec::new();
        let mut before = None;
        let words = tokens(text);
        for word in &words {
            let place = self.places.get(word).copied().unwrap_or_else(|| {
                self.words.push(Word::new(lexicons, synonyms, word));
                self.places.insert(word.clone(), self.words.len() - 1);
                self.words.len() - 1
            });
            let word = &self.words[place];
            if word.small {
                continue;
            }
            features.push((word.stem, WORD));
            features.extend(before.map(|before| (pair(before, word.stem), PAIR)));
            features.extend(word.letters.iter().map(|letters| (*letters, LETTERS)));
            concepts.extend_from_slice(&word.means);
            before = Some(word.stem);
        }
        let reading = lexicons.read_on(words, lang, &mut self.apart);
        features.extend(reading.content.iter().map(|stem| (of_stem(stem), WORD)));
        concepts.extend(reading.hits.iter().map(|hit| hash(hash(START, "concept"), &hit.concept)));
        concepts.sort_unstable();
        concepts.dedup();
        for (at, concept) in concepts.iter().enumerate() {
            features.push((*concept, CONCEPT));
            features.extend(concepts[at + 1..].iter().map(|other| (pair(*concept, *other), CONCEPTS)));
        }
        features.sort_by_key(|(feature, _)| *feature);
        features.dedup_by_key(|(feature, _)| *feature);
        (features, reading)
    }
}

impl Word {
    fn new(lexicons: &Lexicons, synonyms: &Synonyms, word: &str) -> Self {
        let small = lexicons.is_small(word) || (word.chars().count() < 2 && word != "%");
        let mut letters = Vec::new();
        let whole: Vec<char> = std::iter::once('^').chain(word.chars()).chain(std::iter::once('$')).collect();
        if whole.len() >= 7 && word.chars().all(char::is_alphabetic) {
            for run in whole.windows(4) {
                letters.push(hash(hash(START, "letters"), &run.iter().collect::<String>()));
            }
        }
        let means = synonyms.of(lexicons, word).iter().map(|line| hash(hash(START, "means"), line)).collect();
        Self { stem: of_stem(&lexicons.stem(word)), letters, means, small }
    }
}

/// FNV-1a, so that features are numbers and the same everywhere.
const START: Feature = 0xcbf2_9ce4_8422_2325;

fn hash(start: Feature, text: &str) -> Feature {
    // What follows is not part of the same word.
    text.bytes()
        .chain([0xff])
        .fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn pair(first: Feature, second: Feature) -> Feature {
    first.rotate_left(23) ^ second.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn of_stem(stem: &str) -> Feature {
    hash(hash(START, "word"), stem)
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}

fn length(weights: impl Iterator<Item = f64>) -> f64 {
    let length = weights.map(|weight| weight * weight).sum::<f64>().sqrt();
    if length > 0.0 { length } else { 1.0 }
}

/// Logarithms of small numbers and parts of a whole: far from what an integer cannot hold.
#[allow(clippy::cast_possible_truncation)]
fn thousandths(number: f64) -> i64 {
    (number * 1000.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_examples_in_every_language_in_order() {
        for (lang, text) in FILES {
            let file: toml::Table = toml::from_str(text).unwrap_or_else(|why| panic!("{lang:?}: {why}"));
            for row in Catalogue::built_in().rows() {
                let examples = file.get(&row.id).and_then(|each| each.as_array()).map_or(0, Vec::len);
                assert!(examples >= 10, "{lang:?} {}: {examples} examples", row.id);
            }
            for id in file.keys().filter(|id| *id != NONE) {
                assert!(Catalogue::built_in().get(id).is_some(), "{lang:?} {id}: is not a row");
            }
            let mut before = "";
            for id in text.lines().filter_map(|line| line.strip_prefix('"')?.split('"').next()) {
                assert!(before < id, "{lang:?}: {before} stands before {id}");
                before = id;
            }
        }
        let bytes: usize = FILES.iter().map(|(_, text)| text.len()).sum();
        assert!(bytes < 1024 * 1024, "{bytes} bytes");
    }

    #[test]
    fn examples_rank_rows_by_what_is_rare() {
        let lexicons = Lexicons::built_in();
        let examples = [
            ("a.a", "the cat sleeps on the mat"),
            ("a.a", "our cat eats fish"),
            ("b.b", "the dog sleeps outside"),
            ("b.b", "our dog eats meat"),
        ];
        let examples = examples.map(|(id, text)| (id.to_owned(), Lang::En, PHRASING, text.to_owned()));
        let examples = Examples::learn(lexicons, &examples);
        let likely = examples.judge(lexicons, "a cat eats", Lang::En);
        assert_eq!(likely.first(), Some("a.a"));
        assert_eq!(likely.behind("b.b"), Some(likely.ahead()));
        assert!(likely.ahead() > 0 && likely.known == 1000, "{likely:?}");
        assert_eq!(examples.judge(lexicons, "zebra", Lang::En).first(), None);
    }
}
