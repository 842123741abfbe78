//! Words to concepts, from `matching/{nb,sv,en,products}.toml`.
//!
//! A list in Norwegian or Swedish is full of English, and of words put together (`databasebackup`): all languages
//! are looked in, the list's own first, and long words are taken apart into ones that are known.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::checklist::text::tokens;
use crate::words::Lang;

/// A language's file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// Small words that tell the language.
    #[serde(default)]
    markers: Vec<String>,
    /// Letters that tell the language.
    #[serde(default)]
    letters: String,
    /// Words that say nothing about which row is meant.
    #[serde(default)]
    stop: Vec<String>,
    /// Words that turn a meaning round.
    #[serde(default)]
    negation: Vec<String>,
    /// Words that turn it round and, after another denial, back: nothing goes out *without* tests.
    #[serde(default)]
    without: Vec<String>,
    /// Headings under which things stand that will not be done.
    #[serde(default)]
    dropped: Vec<String>,
    /// Words and marks between two demands.
    #[serde(default)]
    and: Vec<String>,
    /// Endings; the longest that leaves enough of a word is taken off.
    #[serde(default)]
    suffixes: Vec<String>,
    /// What holds compounds together.
    #[serde(default)]
    joints: Vec<String>,
    /// A concept and what it is called. `=word` is found in just this form.
    terms: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Meaning {
    Concept(String),
    Stop,
    Negation,
    Without,
    Dropped,
    And,
}

struct Term {
    words: Vec<String>,
    stems: Vec<String>,
    exact: bool,
    lang: Option<Lang>,
    meaning: Meaning,
}

/// How well a term fits: its words, how many of them in just this form, and how near its language is.
type Rank = (usize, usize, usize);

/// How many words a denial may reach, and the most that are left out as denied.
const REACH: usize = 5;
const FURTHEST: usize = 8;

/// Words and the parts that they are made of, for whoever reads many texts.
pub(crate) type Apart = HashMap<String, Vec<String>>;

/// All that is known of words.
pub(crate) struct Lexicons {
    terms: Vec<Term>,
    /// By the stem of the first word.
    starts: HashMap<String, Vec<usize>>,
    /// Words that compounds are made of.
    parts: HashSet<String>,
    /// By their last letter, the longest first.
    suffixes: BTreeMap<char, Vec<String>>,
    joints: Vec<String>,
    markers: BTreeMap<(u8, String), ()>,
    letters: [String; 3],
    concepts: BTreeMap<String, [bool; 4]>,
}

/// A concept that words were read as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hit {
    pub concept: String,
    pub words: String,
    /// Place of the first word.
    pub at: usize,
}

/// A text, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub hits: Vec<Hit>,
    /// Places of words that deny.
    pub negations: Vec<usize>,
    /// How many of them are "without".
    pub without: usize,
    /// Whether it says that what stands here will not be done.
    pub dropped: bool,
    /// Whether it joins things.
    pub joins: bool,
    /// How many words it has.
    pub words: usize,
    /// For each word that denies, the stems of what follows and may be denied.
    pub denied: Vec<Vec<String>>,
    /// What it says before the first word that denies.
    pub before: Option<String>,
    /// What it says without the words that deny and those that they reach.
    pub rest: String,
    /// Words that are in no file.
    pub unknown: Vec<String>,
    /// The stems of these and of the words that concepts were read from, compounds taken apart.
    pub content: Vec<String>,
}

const FILES: [(Option<Lang>, &str); 4] = [
    (Some(Lang::En), include_str!("../../../matching/en.toml")),
    (Some(Lang::Nb), include_str!("../../../matching/nb.toml")),
    (Some(Lang::Sv), include_str!("../../../matching/sv.toml")),
    (None, include_str!("../../../matching/products.toml")),
];

static BUILT_IN: LazyLock<Lexicons> = LazyLock::new(|| {
    let read = |text| -> Written {
        // The files are part of the program, and every test reads them: this cannot fail where klar was built.
        toml::from_str(text).unwrap_or_else(|why| unreachable!("matching: {why}"))
    };
    Lexicons::new(FILES.into_iter().map(|(lang, text)| (lang, read(text))).collect())
});

fn slot(lang: Option<Lang>) -> usize {
    lang.map_or(3, |lang| Lang::ALL.iter().position(|each| *each == lang).unwrap_or(3))
}

impl Lexicons {
    pub(crate) fn built_in() -> &'static Self {
        &BUILT_IN
    }

    fn new(files: Vec<(Option<Lang>, Written)>) -> Self {
        let mut all = Self {
            terms: Vec::new(),
            starts: HashMap::new(),
            parts: HashSet::new(),
            suffixes: BTreeMap::new(),
            joints: Vec::new(),
            markers: BTreeMap::new(),
            letters: [const { String::new() }; 3],
            concepts: BTreeMap::new(),
        };
        for (lang, file) in &files {
            for suffix in file.suffixes.iter().flat_map(|each| tokens(each)) {
                let last = suffix.chars().last().unwrap_or_default();
                all.suffixes.entry(last).or_default().push(suffix);
            }
            all.joints.extend(file.joints.iter().cloned());
            if let Some(letters) = all.letters.get_mut(slot(*lang)) {
                letters.clone_from(&file.letters);
            }
            for word in file.markers.iter().flat_map(|each| tokens(each)) {
                all.markers.insert((u8::try_from(slot(*lang)).unwrap_or(3), word), ());
            }
        }
        for suffixes in all.suffixes.values_mut() {
            suffixes.sort_by_key(|suffix| (std::cmp::Reverse(suffix.len()), suffix.clone()));
            suffixes.dedup();
        }
        for (lang, file) in files {
            for (concept, terms) in &file.terms {
                all.concepts.entry(concept.clone()).or_default()[slot(lang)] = true;
                for term in terms {
                    all.add(term, lang, &Meaning::Concept(concept.clone()));
                }
            }
            for (terms, meaning) in [
                (&file.stop, Meaning::Stop),
                (&file.negation, Meaning::Negation),
                (&file.without, Meaning::Without),
                (&file.dropped, Meaning::Dropped),
                (&file.and, Meaning::And),
            ] {
                for term in terms {
                    all.add(term, lang, &meaning);
                }
            }
        }
        all
    }

    fn add(&mut self, term: &str, lang: Option<Lang>, meaning: &Meaning) {
        let words = tokens(term);
        let exact =
            term.starts_with('=') || matches!(meaning, Meaning::Negation | Meaning::Without | Meaning::And);
        let stems: Vec<String> = words.iter().map(|word| self.stem(word)).collect();
        let Some(first) = stems.first() else { return };
        self.starts.entry(first.clone()).or_default().push(self.terms.len());
        // Small words are in too many others to be looked for inside of them.
        if !exact && matches!(meaning, Meaning::Concept(_)) {
            for word in words
                .iter()
                .chain(&stems)
                .filter(|word| word.len() >= 4 || (words.len() == 1 && word.len() == 3))
            {
                if word.chars().all(char::is_alphabetic) {
                    self.parts.insert(word.clone());
                }
            }
        }
        self.terms.push(Term { words, stems, exact, lang, meaning: meaning.clone() });
    }

    /// A word without its endings.
    pub(crate) fn stem(&self, word: &str) -> String {
        if word.len() < 5 || !word.chars().all(char::is_alphabetic) {
            return word.to_owned();
        }
        // A lone consonant is often part of the word: alert.
        let least = |suffix: &str| if matches!(suffix, "t" | "n" | "r" | "d") { 5 } else { 4 };
        let mut stem = word;
        // Two endings at most: `budget-en`, and `budg-et` itself; more would take compounds apart in the wrong place.
        for _ in 0..2 {
            let fits = |s: &&String| stem.ends_with(s.as_str()) && stem.len() - s.len() >= least(s);
            let suffixes = stem.chars().last().and_then(|last| self.suffixes.get(&last));
            let ending = suffixes.and_then(|suffixes| suffixes.iter().find(fits));
            stem = &stem[..stem.len() - ending.map_or(0, String::len)];
        }
        stem.to_owned()
    }

    pub(crate) fn letters(&self, lang: Lang) -> &str {
        &self.letters[slot(Some(lang)).min(2)]
    }

    pub(crate) fn is_marker(&self, lang: Lang, word: &str) -> bool {
        let slot = u8::try_from(slot(Some(lang))).unwrap_or(3);
        self.markers.contains_key(&(slot, word.to_owned()))
    }

    /// The concepts there are, and for which of the four files.
    #[cfg(test)]
    pub(crate) fn concepts(&self) -> &BTreeMap<String, [bool; 4]> {
        &self.concepts
    }

    /// Reads a text.
    pub(crate) fn read(&self, text: &str, lang: Lang) -> Reading {
        let mut reading = self.read_on(tokens(text), lang, &mut Apart::new());
        reading.joins |= text.contains(['+', '&', ',', '/', ';']);
        reading
    }

    /// Reads the words of one of many texts.
    pub(crate) fn read_on(&self, mut words: Vec<String>, lang: Lang, taken_apart: &mut Apart) -> Reading {
        let mut stems: Vec<String> = words.iter().map(|word| self.stem(word)).collect();
        let mut reading = Reading { words: words.len(), ..Reading::default() };
        let mut at = 0;
        while at < words.len() {
            let found = self.longest(&words[at..], &stems[at..], lang);
            if found.is_none() {
                let parts =
                    taken_apart.entry(words[at].clone()).or_insert_with_key(|word| self.apart(word.clone()));
                if parts.len() > 1 {
                    stems.splice(at..=at, parts.iter().map(|part| self.stem(part)));
                    words.splice(at..=at, parts.iter().cloned());
                    continue;
                }
            }
            let Some((length, terms)) = found else {
                if words[at].chars().any(char::is_alphabetic) && words[at].len() > 1 {
                    reading.unknown.push(words[at].clone());
                }
                if words[at].len() > 2 {
                    reading.content.push(stems[at].clone());
                }
                at += 1;
                continue;
            };
            if terms.iter().any(|term| matches!(term.meaning, Meaning::Concept(_))) {
                let long = (at..at + length).filter(|at| words[*at].len() > 2);
                reading.content.extend(long.map(|at| stems[at].clone()));
            }
            for term in terms {
                match &term.meaning {
                    Meaning::Concept(concept) => reading.hits.push(Hit {
                        concept: concept.clone(),
                        words: words[at..at + length].join(" "),
                        at,
                    }),
                    Meaning::Negation => {
                        reading.before.get_or_insert_with(|| words[..at].join(" "));
                        reading.negations.push(at);
                    }
                    Meaning::Without => {
                        reading.negations.push(at);
                        reading.without += 1;
                    }
                    Meaning::Dropped => reading.dropped = true,
                    Meaning::And => reading.joins = true,
                    Meaning::Stop => {}
                }
            }
            at += length;
        }
        for place in &reading.negations {
            let after =
                (place + 1..words.len().min(place + 1 + REACH)).filter(|at| !self.is_small(&words[*at]));
            reading.denied.push(after.map(|at| stems[at].clone()).collect());
        }
        let reached =
            |at: usize| reading.negations.iter().any(|place| (*place..=place + FURTHEST).contains(&at));
        let rest: Vec<&str> =
            words.iter().enumerate().filter(|(at, _)| !reached(*at)).map(|(_, word)| word.as_str()).collect();
        reading.rest = rest.join(" ");
        reading
    }

    /// The longest term at the start of these words, and what it means; a form that is listed goes before one that
    /// merely has the same stem, and the list's own language before others.
    fn longest(&self, words: &[String], stems: &[String], lang: Lang) -> Option<(usize, Vec<&Term>)> {
        let mut best: Option<(Rank, usize, Vec<&Term>)> = None;
        for index in self.starts.get(&stems[0]).into_iter().flatten() {
            let term = &self.terms[*index];
            let Some(taken) = self.taken(term, words, stems) else { continue };
            let same = term.words.iter().zip(words).filter(|(a, b)| a == b).count();
            let near = match term.lang {
                Some(own) if own == lang => 2,
                None | Some(Lang::En) => 1,
                Some(_) => 0,
            };
            let rank = (term.words.len(), same, near);
            match &mut best {
                Some((top, ..)) if *top > rank => {}
                Some((top, _, terms)) if *top == rank => terms.push(term),
                _ => best = Some((rank, taken, vec![term])),
            }
        }
        best.map(|(_, taken, terms)| (taken, terms))
    }

    /// How many words a term takes, where it starts here; one small word may stand between two of its own.
    fn taken(&self, term: &Term, words: &[String], stems: &[String]) -> Option<usize> {
        let mut at = 0;
        for (n, (word, stem)) in term.words.iter().zip(&term.stems).enumerate() {
            let here = |at: usize| {
                (!term.exact && stems.get(at).is_some_and(|s| s == stem))
                    || words.get(at).is_some_and(|w| w == word)
            };
            if here(at) {
                at += 1;
            } else if n > 0 && here(at + 1) && self.is_small(&words[at]) {
                at += 2;
            } else {
                return None;
            }
        }
        Some(at)
    }

    pub(crate) fn is_small(&self, word: &str) -> bool {
        self.starts.get(&self.stem(word)).into_iter().flatten().any(|index| {
            let term = &self.terms[*index];
            term.meaning == Meaning::Stop && term.words.len() == 1 && term.words[0] == word
        })
    }

    /// A word, or the known words that it is made of.
    fn apart(&self, word: String) -> Vec<String> {
        if word.len() < 7 || !word.chars().all(char::is_alphabetic) {
            return vec![word];
        }
        if let Some(parts) = self.pieces(&word, 0) {
            return parts;
        }
        // One part that is not known: `kundedatabase`, `databasevert`.
        for (at, _) in word.char_indices().skip(3) {
            let (head, tail) = word.split_at(at);
            if tail.len() >= 5 && (self.parts.contains(tail) || self.parts.contains(&self.stem(tail))) {
                return vec![head.to_owned(), tail.to_owned()];
            }
        }
        for (at, _) in word.char_indices().rev() {
            let (head, tail) = word.split_at(at);
            if head.len() >= 6 && tail.len() >= 3 && self.parts.contains(head) {
                return vec![head.to_owned(), tail.to_owned()];
            }
        }
        vec![word]
    }

    fn pieces(&self, word: &str, depth: usize) -> Option<Vec<String>> {
        let is_part = |piece: &str| self.parts.contains(piece) || self.parts.contains(&self.stem(piece));
        if depth > 0 && word.len() >= 3 && is_part(word) {
            return Some(vec![word.to_owned()]);
        }
        if depth == 3 {
            return None;
        }
        for (at, _) in word.char_indices().rev() {
            let (head, tail) = word.split_at(at);
            if head.len() < 3 || tail.len() < 3 || !self.parts.contains(head) {
                continue;
            }
            for joint in self.joints.iter().map(String::as_str).chain([""]) {
                let rest = tail.strip_prefix(joint).filter(|rest| rest.len() >= 3);
                if let Some(rest) = rest.and_then(|rest| self.pieces(rest, depth + 1)) {
                    return Some(std::iter::once(head.to_owned()).chain(rest).collect());
                }
            }
        }
        None
    }
}
