//! `SecRule` and `SecAction`: one link each, and how links become rules.

use std::sync::Arc;

use super::actions::{Actions, actions, id, items};
use super::lines::Line;
use super::operators::operator;
use super::settings::arity;
use super::targets::targets;
use super::words::{Span, Trouble, arguments};
use super::{Action, Link, Operator, OperatorKind, Place, Refused, Rule, Target, Text};

/// Links of one chain at most.
const LINKS_MAX: usize = 100;

/// What could be read of a `SecRule` or a `SecAction`.
pub(super) struct Read {
    /// Where it stands.
    place: Place,
    link: Result<Link, Trouble>,
    /// Its number, which can be known though something else of it cannot be read.
    id: Option<u32>,
    chained: bool,
    /// Not even its actions could be told apart: number and chain are guesses.
    is_guess: bool,
}

/// A rule whose links are being gathered.
pub(super) struct Chain {
    id: Option<u32>,
    phase: Option<u8>,
    links: Vec<Link>,
    refused: Option<Refused>,
    is_guess: bool,
    /// Where its last link stands.
    end: Place,
}

/// Reads one link.
pub(super) fn read(name: Span<'_>, rest: Span<'_>, place: Place) -> Read {
    let words = match arguments(rest) {
        Ok(words) => words,
        Err(trouble) => return guess(rest, place, trouble),
    };
    let (looked, list) = match (name.is("SecAction"), words.as_slice()) {
        (true, [list]) => (None, Some(*list)),
        (false, [targets, operator]) => (Some((*targets, *operator)), None),
        (false, [targets, operator, list]) => (Some((*targets, *operator)), Some(*list)),
        _ => return guess(rest, place, arity(name, &words)),
    };
    let items = match list.map_or(Ok(Vec::new()), items) {
        Ok(items) => items,
        Err(trouble) => return guess(rest, place, trouble),
    };
    let own_id = items.iter().find(|item| item.name.is("id")).and_then(|item| item.value);
    Read {
        place: place.clone(),
        id: own_id.and_then(|value| id(value).ok()),
        chained: items.iter().any(|item| item.name.is("chain")),
        is_guess: false,
        link: actions(&items).and_then(|Actions { list, .. }| {
            let (targets, operator) = looked.map_or(Ok(always()), |looked| look(looked.0, looked.1))?;
            Ok(Link { place, targets, operator, actions: list })
        }),
    }
}

fn look(list: Span<'_>, asked: Span<'_>) -> Result<(Vec<Target>, Operator), Trouble> {
    Ok((targets(list)?, operator(asked)?))
}

/// What `SecAction` asks.
fn always() -> (Vec<Target>, Operator) {
    let kind = OperatorKind::UnconditionalMatch;
    (Vec::new(), Operator { negated: false, kind, argument: Text::default() })
}

/// What can be guessed of a rule that is beyond reading: its number, and whether the next one belongs to it.
fn guess(rest: Span<'_>, place: Place, trouble: Trouble) -> Read {
    let mut read = Read { place, link: Err(trouble), id: None, chained: false, is_guess: true };
    for word in rest.text.split([',', '"', ' ', '\t']) {
        read.chained |= word.eq_ignore_ascii_case("chain");
        if let Some((name, value)) = word.split_once(':')
            && name.eq_ignore_ascii_case("id")
        {
            read.id = read.id.or_else(|| id(Span::whole(value.trim_matches('\''))).ok());
        }
    }
    read
}

impl Chain {
    /// A rule that begins with what was read, and whether it is over with it.
    pub fn begin(read: Read, line: &Line, file: &Arc<str>) -> (Self, bool) {
        let end = read.place.clone();
        let (id, is_guess) = (read.id, read.is_guess);
        let mut chain = Self { id, phase: None, links: Vec::new(), refused: None, is_guess, end };
        let is_over = chain.push(read, line, file);
        if id.is_none() {
            chain.refuse(chain.end.clone(), "a rule needs an `id`".to_owned());
        }
        (chain, is_over)
    }

    /// Whether the rule that was read is the next link, as far as can be said.
    pub fn goes_on_with(&self, read: &Read) -> bool {
        !(self.is_guess && read.id.is_some())
    }

    /// Adds a link, and says whether it is the last one.
    pub fn push(&mut self, read: Read, line: &Line, file: &Arc<str>) -> bool {
        self.is_guess = read.is_guess;
        match read.link {
            Err(trouble) => {
                let place = Place { file: file.clone(), line: line.number(trouble.at) };
                self.refuse(place, trouble.reason);
            }
            Ok(_) if self.links.len() >= LINKS_MAX => {
                self.refuse(read.place.clone(), format!("more than {LINKS_MAX} links in one chain"));
            }
            Ok(link) => {
                if let Some(reason) = self.objection(&link) {
                    self.refuse(read.place.clone(), reason);
                }
                self.links.push(link);
            }
        }
        self.end = read.place;
        !read.chained
    }

    /// What only the first link can say.
    fn objection(&mut self, link: &Link) -> Option<String> {
        let phase = link.actions.iter().find_map(|action| match action {
            Action::Phase(phase) => Some(*phase),
            _ => None,
        });
        if self.links.is_empty() {
            self.phase = phase;
            return None;
        }
        if link.actions.iter().any(|action| matches!(action, Action::Disruptive(_))) {
            return Some("what ends a request can only stand in the first link of a chain".to_owned());
        }
        let own = self.phase.unwrap_or(Rule::PHASE);
        phase
            .filter(|phase| *phase != own)
            .map(|phase| format!("phase {phase} within a chain of phase {own}"))
    }

    /// Only what was found first is said.
    fn refuse(&mut self, place: Place, reason: String) {
        if self.refused.is_none() {
            self.refused = Some(Refused { place, id: self.id, reason });
        }
    }

    /// The rule, or why there is none.
    pub fn finish(self) -> Result<Rule, Refused> {
        match self.refused {
            None => Ok(Rule { links: self.links }),
            Some(refused) => Err(refused),
        }
    }

    /// What becomes of a chain that something else than its next link is behind.
    pub fn break_off(mut self, by: &str) -> Refused {
        self.refuse(self.end.clone(), format!("{by} where the next link of the chain should be"));
        self.refused.unwrap_or(Refused { place: self.end, id: self.id, reason: String::new() })
    }
}
