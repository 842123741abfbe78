//! Words that mean about the same, in all three languages: `matching/synonyms.txt`.
//!
//! One line is one meaning, ` | ` stands between the languages for whoever reads the file. They are wider than the
//! concepts of [`lexicon`](super::lexicon), and many are of every day: what a list calls a thing is often in no
//! example, and a word beside it in this file is. So an example in one language is one in the others too.

use std::collections::{HashMap, HashSet};

use super::lexicon::Lexicons;
use crate::checklist::text::tokens;

const FILE: &str = include_str!("../../../matching/synonyms.txt");

/// The shortest word that a compound is made of, in bytes; shorter ones are in too many words.
const LEAST: usize = 4;

pub(crate) struct Synonyms {
    /// By their stems: the first words of the lines that a word is on.
    lines: HashMap<String, Vec<&'static str>>,
    /// Words and stems that compounds are made of.
    parts: HashSet<String>,
}

impl Synonyms {
    pub(crate) fn built_in(lexicons: &Lexicons) -> Self {
        let mut all = Self { lines: HashMap::new(), parts: HashSet::new() };
        for line in FILE.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(' ').next().unwrap_or_default();
            for word in tokens(line) {
                let stem = lexicons.stem(&word);
                if word.len() >= LEAST && word.chars().all(char::is_alphabetic) {
                    all.parts.extend([word, stem.clone()]);
                }
                let lines = all.lines.entry(stem).or_default();
                if lines.last() != Some(&name) {
                    lines.push(name);
                }
            }
        }
        all
    }

    /// The lines that a word is on; of a compound (`molnkostnad`), those of its parts.
    pub(crate) fn of(&self, lexicons: &Lexicons, word: &str) -> Vec<&'static str> {
        let lines = |word: &str| self.lines.get(&lexicons.stem(word)).into_iter().flatten().copied();
        let whole: Vec<_> = lines(word).collect();
        if !whole.is_empty() {
            return whole;
        }
        let mut found: Vec<_> = self.apart(lexicons, word).into_iter().flat_map(lines).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The two words that a compound is made of; where only one is known, that one.
    fn apart<'a>(&self, lexicons: &Lexicons, word: &'a str) -> Vec<&'a str> {
        if word.len() < 7 || !word.chars().all(char::is_alphabetic) {
            return Vec::new();
        }
        let is_part = |part: &str| {
            part.len() >= LEAST && (self.parts.contains(part) || self.parts.contains(&lexicons.stem(part)))
        };
        // `s` and `e` hold compounds together: `driftsvakt`.
        let head = |head: &'a str| {
            [Some(head), head.strip_suffix(['s', 'e'])].into_iter().flatten().find(|head| is_part(head))
        };
        let mut cuts: Vec<_> = word.char_indices().map(|(at, _)| word.split_at(at)).collect();
        // The longest first word is tried first: `sikkerhets-kopi`, not `sikker-hetskopi`.
        cuts.reverse();
        for (first, second) in &cuts {
            if let (Some(first), true) = (head(first), is_part(second)) {
                return vec![first, second];
            }
        }
        let tail = cuts
            .iter()
            .rev()
            .map(|cut| cut.1)
            .find(|tail| tail.len() > LEAST && tail.len() < word.len() - 2 && is_part(tail));
        let first =
            || cuts.iter().map(|cut| cut.0).find(|first| first.len() > LEAST && self.parts.contains(*first));
        tail.or_else(first).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_and_its_compounds_mean_the_same_in_each_language() {
        let lexicons = Lexicons::built_in();
        let synonyms = Synonyms::built_in(lexicons);
        let of = |word: &str| synonyms.of(lexicons, word);
        assert_eq!(of("thief"), of("tyven"));
        assert!(!of("tjuv").is_empty() && of("tjuv") == of("thief"));
        assert!(of("molnkostnad").contains(&"cloud") && of("molnkostnad").contains(&"cost"));
        assert!(of("zebra").is_empty());
    }

    #[test]
    fn every_line_has_its_own_name_and_all_three_languages() {
        let mut names = HashSet::new();
        for line in FILE.lines().filter(|line| !line.starts_with('#')) {
            assert!(names.insert(line.split(' ').next().unwrap_or_default()), "twice: {line}");
            assert_eq!(line.split(" | ").count(), 3, "{line}");
        }
    }
}
