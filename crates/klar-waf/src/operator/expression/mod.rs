//! Regular expressions, in linear time.
//!
//! Rules have those of PCRE, which ModSecurity compiles with `DOTALL` and `MULTILINE` and runs on bytes. Here they are
//! translated for an automaton, which reads a value once whatever the pattern. What needs backtracking (look-around,
//! back-references) is refused with a reason, but for look-around of plain words at the ends of a pattern and words that
//! are compared with the first; CRS 4 has none of it.

mod around;
mod compared;
mod pcre;
mod possessive;
mod required;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use std::ops::Range;

use regex_automata::meta::{Config, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Input, PatternID};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, Look};

use crate::bytes::Presence;

use super::Screen;
use super::grams::{Grams, Needed};
use compared::Compared;

/// The whole match and the groups 1 to 9: what `capture` keeps in `TX:0` to `TX:9`.
pub const GROUPS_MAX: usize = 10;
/// An automaton that would take more bytes is refused.
const AUTOMATON_MAX: usize = 16 << 20;
/// Room for what an automaton learns as it runs, in bytes, for each thread that runs it and each of both directions:
/// hostile values can fill it for every expression of a rule set.
const CACHE_MAX: usize = 512 << 10;
/// Groups in groups are refused beyond this depth.
const DEPTH_MAX: u32 = 200;

/// Why an expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has something that an automaton cannot do, or that is not understood.
    #[error("{what} at byte {at} is not supported")]
    Unsupported {
        /// What it has, in words.
        what: &'static str,
        /// Where, in bytes from the beginning of the pattern.
        at: usize,
    },
    /// A possessive quantifier or an atomic group without which the pattern would match more.
    #[error("a possessive quantifier or an atomic group decides what matches, which is not supported")]
    Possessive,
    /// It is no expression.
    #[error("not a regular expression: {0}")]
    Syntax(String),
    /// It is too long, or its automaton is.
    #[error("too large: {0}")]
    TooLarge(String),
}

/// `@rx`: a compiled expression.
///
/// Matches are those of PCRE, but for: the whitespace that a possessive quantifier took before `$`; `\K`, which does
/// not move the beginning of a match; `\Z` and look-around, which take into it what they look at; and, where a value ends
/// with a newline, `^` behind it, which matches if something stands before it in the pattern, and nothing does that can
/// be empty.
#[derive(Debug, Clone)]
pub struct Expression {
    pattern: Hir,
    regex: Regex,
    screen: Screen,
    needed: Needed,
    /// Whether it can match at the end of a value, behind a newline, for which PCRE needs a `^` to be elsewhere.
    can_be_behind: bool,
    compared: Option<Compared>,
}

impl Expression {
    /// Compiles a pattern. With `captures`, [`groups`](Self::groups) finds more than the whole match.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn new(pattern: &[u8], captures: bool) -> Result<Self, Refusal> {
        let (compared, rewritten) = Compared::read(pattern).unzip();
        let captures = captures || compared.is_some();
        let parsed = parse(&pcre::translate(rewritten.as_deref().unwrap_or(pattern))?)?;
        let pattern = possessive::settle(&parsed)?;
        let config = Config::new()
            .utf8_empty(false)
            .nfa_size_limit(Some(AUTOMATON_MAX))
            .hybrid_cache_capacity(CACHE_MAX)
            .which_captures(if captures { WhichCaptures::All } else { WhichCaptures::Implicit });
        let regex = Regex::builder()
            .configure(config)
            .build_from_hir(&pattern)
            .map_err(|error| Refusal::TooLarge(error.to_string()))?;
        if compared.as_ref().is_some_and(|compared| regex.captures_len() != compared.groups()) {
            let what = "a back-reference beside other groups";
            return Err(Refusal::Unsupported { what, at: 0 });
        }
        let properties = pattern.properties();
        let can_be_behind =
            properties.minimum_len() == Some(0) && properties.look_set().contains(Look::StartLF);
        Ok(Self {
            screen: required::screen(&pattern),
            needed: Needed::of(&pattern),
            can_be_behind,
            compared,
            pattern,
            regex,
        })
    }

    /// Its syntax tree, to make one automaton of several. Bytes, no Unicode.
    #[must_use]
    pub fn hir(&self) -> &Hir {
        &self.pattern
    }

    /// What a value must have to match.
    #[must_use]
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Whether a value of this length in bytes, with these bytes in it, can match. `false` is sure.
    #[must_use]
    pub fn may_match(&self, presence: &Presence, len: usize) -> bool {
        self.screen.may_match(presence, len)
    }

    /// Whether a value with these threes of bytes can match. `false` is sure.
    #[must_use]
    pub(crate) fn may_have(&self, grams: &Grams) -> bool {
        self.needed.may_be_in(grams)
    }

    /// How many groups it has, the whole match included; 1 if it was compiled without captures.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.regex.group_info().group_len(PatternID::ZERO)
    }

    /// Whether it matches somewhere in a value.
    #[must_use]
    pub fn is_match(&self, value: &[u8]) -> bool {
        let is_plain = !self.can_be_behind && self.compared.is_none();
        if is_plain { self.regex.is_match(value) } else { self.find(value).is_some() }
    }

    /// Where it matches first.
    #[must_use]
    pub fn find(&self, value: &[u8]) -> Option<Range<usize>> {
        let found = match &self.compared {
            None => self.regex.find(value)?.range(),
            Some(_) => {
                let mut groups = Default::default();
                self.groups(value, &mut groups).then_some(())?;
                return groups.first().cloned().flatten();
            }
        };
        (!self.is_behind(value, &found)).then_some(found)
    }

    /// Where it matches first, and where its groups do. Says whether it matches; `groups` is overwritten if so.
    pub fn groups(&self, value: &[u8], groups: &mut [Option<Range<usize>>; GROUPS_MAX]) -> bool {
        let mut from = 0;
        let found = loop {
            let Some(found) = self.search(value, from) else { return false };
            match (&self.compared, &found) {
                (Some(compared), [_, Some(word), ..]) if !compared.holds(value, &found) => from = word.end,
                _ => break found,
            }
        };
        if found[0].as_ref().is_some_and(|whole| self.is_behind(value, whole)) {
            return false;
        }
        *groups = found;
        true
    }

    /// The groups of the first match from a place on.
    fn search(&self, value: &[u8], from: usize) -> Option<[Option<Range<usize>>; GROUPS_MAX]> {
        let mut slots: [Option<NonMaxUsize>; GROUPS_MAX * 2] = [None; GROUPS_MAX * 2];
        // More slots than it has groups make it look behind the end of its table.
        let count = slots.len().min(self.regex.group_info().slot_len());
        let own = slots.get_mut(..count).unwrap_or_default();
        self.regex.search_slots(&Input::new(value).range(from..), own)?;
        let mut found: [Option<Range<usize>>; GROUPS_MAX] = Default::default();
        for (group, ends) in found.iter_mut().zip(slots.chunks_exact(2)) {
            if let [Some(begin), Some(end)] = ends {
                *group = Some(begin.get()..end.get());
            }
        }
        Some(found)
    }

    /// `^` of PCRE does not match behind a newline that ends the value, and there are no bytes to match there.
    fn is_behind(&self, value: &[u8], found: &Range<usize>) -> bool {
        self.can_be_behind && found.start == value.len() && value.last() == Some(&b'\n')
    }

    /// Memory of the automaton, in bytes, without what its threads learn.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.regex.memory_usage()
    }
}

/// Reads a pattern that was translated.
fn parse(text: &str) -> Result<Hir, Refusal> {
    let mut parser = ParserBuilder::new();
    parser.unicode(false).utf8(false).dot_matches_new_line(true).multi_line(true).nest_limit(DEPTH_MAX);
    parser.build().parse(text).map_err(|error| Refusal::Syntax(reason(&error)))
}

/// One line of an error that has several.
fn reason(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        other => other.to_string(),
    }
}
