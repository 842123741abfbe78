//! Many phrases at once.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError, MatchKind};

use crate::bytes::Presence;

use super::grams::{Grams, Needed};
use super::screen::{Screen, any};

/// Up to so many bytes of phrases are worth a table of all transitions, which is fast and large.
const DENSE_MAX: usize = 2048;

/// `@pm`, `@pmFromFile`: phrases, with letters of ASCII of either case.
///
/// Takes some 150 bytes for each byte of the phrases while these are 2 KiB or less together, and some 10 bytes for each
/// byte of longer lists.
#[derive(Debug, Clone)]
pub struct Phrases {
    automaton: AhoCorasick,
    screen: Screen,
    needed: Needed,
}

impl Phrases {
    /// The phrases of `@pm`: words with white space between. `|41 42|` are bytes in hexadecimal digits, and `\` stands
    /// before a colon, a semicolon, a quote or itself; a text in which either is used otherwise is taken as it stands.
    ///
    /// # Errors
    /// When there are more than an automaton can hold.
    pub fn from_argument(text: &str) -> Result<Self, BuildError> {
        let trimmed = text.trim_start_matches([' ', '\t']);
        let unquoted = trimmed.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(trimmed);
        let bytes = unescaped(unquoted.as_bytes()).unwrap_or_else(|| text.as_bytes().to_vec());
        Self::new(
            bytes.split(|byte| matches!(byte, b'\t'..=b'\r' | b' ')).filter(|phrase| !phrase.is_empty()),
        )
    }

    /// The phrases of the file that `@pmFromFile` names: a line each, as it stands there. Lines of white space, with
    /// `#` and whatever comes behind it or without, are none.
    ///
    /// # Errors
    /// When there are more than an automaton can hold.
    pub fn from_file(text: &[u8]) -> Result<Self, BuildError> {
        let lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        Self::new(lines.filter(|line| !matches!(line.trim_ascii_start(), [] | [b'#', ..])))
    }

    fn new<'a>(phrases: impl Iterator<Item = &'a [u8]>) -> Result<Self, BuildError> {
        let phrases: Vec<&[u8]> = phrases.collect();
        let is_small = phrases.iter().map(|phrase| phrase.len()).sum::<usize>() <= DENSE_MAX;
        let kind = if is_small { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(kind))
            .build(&phrases)?;
        let required: Vec<Vec<Presence>> = phrases.iter().map(|phrase| required(phrase)).collect();
        // Without a phrase nothing matches, and `min_len` says so.
        let min_len = phrases.iter().map(|phrase| phrase.len()).min().unwrap_or(usize::MAX);
        let needed = Needed::one_of(&phrases);
        Ok(Self { automaton, screen: Screen::new(min_len, any(&required)), needed })
    }

    /// What a value must have for one of the phrases to be in it.
    #[must_use]
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Whether a value of this length in bytes, with these bytes in it, can have one of the phrases. `false` is sure.
    #[must_use]
    pub fn may_match(&self, presence: &Presence, len: usize) -> bool {
        self.screen.may_match(presence, len)
    }

    /// Whether a value with these threes of bytes can have one of the phrases. `false` is sure.
    #[must_use]
    pub(crate) fn may_have(&self, grams: &Grams) -> bool {
        self.needed.may_be_in(grams)
    }

    /// Where the phrase is that ends first, the longest if several end there.
    ///
    /// libmodsecurity never finds phrases with bytes above 127, and says a longer text than the phrase where one is the
    /// end of the beginning of another; here neither is so.
    #[must_use]
    pub fn find(&self, value: &[u8]) -> Option<Range<usize>> {
        self.automaton.find(value).map(|found| found.range())
    }

    /// Memory of the tables, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.automaton.memory_usage()
    }
}

/// The set of each byte of a phrase, in both cases.
fn required(phrase: &[u8]) -> Vec<Presence> {
    let both = |byte: &u8| Presence::all_of(&[byte.to_ascii_lowercase(), byte.to_ascii_uppercase()]);
    let mut sets: Vec<Presence> = Vec::new();
    for set in phrase.iter().map(both) {
        if !sets.contains(&set) {
            sets.push(set);
        }
    }
    sets
}

/// With what is in hexadecimal digits or behind backslashes as it is meant; `None` where it is not meant so.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut is_hex, mut high, mut is_escaped) = (false, None, false);
    for byte in text {
        match byte {
            b'|' => is_hex = !is_hex,
            b'\\' if !is_escaped => is_escaped = true,
            b' ' if is_hex && high.is_none() => {}
            _ if is_hex => {
                let digit = u8::try_from(char::from(*byte).to_digit(16)?).ok()?;
                match high.take() {
                    None => high = Some(digit),
                    Some(high) => bytes.push(high << 4 | digit),
                }
            }
            b':' | b';' | b'\\' | b'"' => {
                bytes.push(*byte);
                is_escaped = false;
            }
            _ if is_escaped => return None,
            _ => bytes.push(*byte),
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn found<'a>(phrases: &Phrases, value: &'a str) -> Option<&'a str> {
        phrases.find(value.as_bytes()).map(|range| &value[range])
    }

    #[test]
    fn arguments() {
        for (argument, value, expected) in [
            ("sqlmap nikto", "I am NIKTO", Some("NIKTO")),
            ("sqlmap nikto", "nikt o", None),
            (" \"a b\"", "xb", Some("b")),
            ("|41 42|c", "xABCx", Some("ABC")),
            ("|4142|", "ab", Some("ab")),
            (r"a\;b", "a;b", Some("a;b")),
            (r"a\nb", r"A\Nb", Some(r"A\Nb")),
            ("|4g|", "|4G|", Some("|4G|")),
            ("abcd bc", "xabcd", Some("bc")),
            ("bcd abcd", "xabcd", Some("abcd")),
            ("é", "É é", Some("é")),
            ("", "anything", None),
        ] {
            let phrases = Phrases::from_argument(argument).unwrap();
            assert_eq!(found(&phrases, value), expected, "{argument} {value}");
            let presence = Presence::of(value.as_bytes());
            assert!(expected.is_none() || phrases.may_match(&presence, value.len()), "{argument} {value}");
        }
    }

    #[test]
    fn files() {
        let phrases =
            Phrases::from_file(b"# comment\n\n  # another\n.htaccess\r\n#not\nwp-config. php\n   \n")
                .unwrap();
        assert_eq!(found(&phrases, "/.HTaccess"), Some(".HTaccess"));
        assert_eq!(found(&phrases, "wp-config. php"), Some("wp-config. php"));
        for value in ["#not", "not", "   ", "comment", "wp-config"] {
            assert_eq!(found(&phrases, value), None, "{value}");
        }
        assert!(!phrases.may_match(&Presence::of(b"htaccess"), 8), "both have a dot");
        assert!(Phrases::from_file(b"").unwrap().find(b"").is_none());
    }

    #[test]
    fn memory_is_as_it_is_said() {
        let phrase = |number: u32| format!("phrase-{number:x}{:x}", number.wrapping_mul(0x9e37_79b1));
        for (count, each) in [(100_u32, 300), (500, 20)] {
            let text = (0..count).map(phrase).collect::<Vec<_>>().join("\n");
            let memory = Phrases::from_file(text.as_bytes()).unwrap().memory();
            println!("{count} phrases of {} bytes: {memory} bytes", text.len());
            assert!(memory <= text.len() * each, "{memory} bytes for {}", text.len());
        }
    }

    proptest! {
        #[test]
        fn the_screen_never_says_no_to_a_match(words in proptest::collection::vec("[a-f<=]{1,4}", 1..5), value in "[A-Fa-f<= ]{0,12}") {
            let phrases = Phrases::from_argument(&words.join(" ")).unwrap();
            let lower = value.to_ascii_lowercase();
            let is_there = words.iter().any(|word| lower.contains(word));
            prop_assert_eq!(phrases.find(value.as_bytes()).is_some(), is_there);
            if is_there {
                prop_assert!(phrases.may_match(&Presence::of(value.as_bytes()), value.len()));
            }
        }
    }
}
