//! Decides at start what settings decide: which rules never match, which always do, and what variables are by then.
//!
//! Rules are followed once in their order, phase by phase, with what is known of each variable at each of them whatever
//! the request is. What a level of paranoia skips is found to be out of reach; what a set of rules sets up for every
//! request is set up once; and a text such as `%{tx.allowed_methods}` becomes the text itself.
//!
//! **Invariant:** nothing is known of a variable at a rule that is not so in every request that comes to the rule. A
//! request begins with phase 1; the engine sees to that.

use std::rc::Rc;

use super::Compiler;
use crate::engine::{Kept, integer};
use crate::program::{
    Change, Control, Disruptive, Key, Link, NONE, Name, Operator, Piece, Program, SetVar, Template,
};
use crate::seclang::{Allow, Collection};

/// What is known of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fact {
    Unset,
    Number(i64),
    Text(Rc<[u8]>),
    Unknown,
}

impl Fact {
    fn number(&self) -> Option<i64> {
        match self {
            Self::Unset => Some(0),
            Self::Number(value) => Some(*value),
            Self::Text(text) => Some(integer(text)),
            Self::Unknown => None,
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Unset => {}
            Self::Number(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Self::Text(text) => out.extend_from_slice(text),
            Self::Unknown => return None,
        }
        Some(())
    }
}

/// What is known of all variables; `None` where no request comes.
type State = Option<Vec<Fact>>;

fn join(state: &mut State, other: &[Fact]) {
    match state {
        None => *state = Some(other.to_vec()),
        Some(facts) => {
            for (fact, other) in facts.iter_mut().zip(other) {
                if fact != other {
                    *fact = Fact::Unknown;
                }
            }
        }
    }
}

/// What comes of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// In no request; `is_quiet` if its first link says so already.
    Never {
        is_quiet: bool,
    },
    Maybe,
    Always,
}

/// What came of a program.
pub(super) struct Folded {
    /// Rules that need not run.
    pub is_dead: Vec<bool>,
    /// What variables are when a request begins.
    pub initial: Vec<Kept>,
}

/// The first rules of phase 1, as long as they do the same in each request: what they set is set beforehand.
struct Prefix {
    /// Whether all rules so far have been passed in each request.
    is_open: bool,
    /// Variables that rules that stay have to do with.
    touched: Vec<bool>,
    facts: Vec<Fact>,
}

impl Compiler<'_> {
    /// Follows all rules.
    pub(super) fn fold(&mut self) -> Folded {
        let slots = self.program.slots.len();
        let mut is_dead = vec![false; self.program.rules.len()];
        let mut removers = Removers { seen: Vec::new() };
        let mut prefix =
            Prefix { is_open: true, touched: vec![false; slots], facts: vec![Fact::Unset; slots] };
        let mut entry: State = Some(vec![Fact::Unset; slots]);
        for phase in 0..self.program.phases.len() {
            let exits = self.phase(phase, entry.clone(), &mut removers, &mut prefix, &mut is_dead);
            prefix.is_open = false;
            // A phase begins where the one before ended, or any of those before that.
            match (phase, &exits) {
                (0, _) => entry = exits,
                (_, Some(exits)) => join(&mut entry, exits),
                (_, None) => {}
            }
        }
        let initial = prefix.facts.iter().map(|fact| match fact {
            Fact::Number(value) => Kept::Number(*value),
            Fact::Text(text) => Kept::Cell(self.constant(text)),
            Fact::Unset | Fact::Unknown => Kept::Unset,
        });
        let initial = initial.collect();
        Folded { is_dead, initial }
    }

    /// Follows one phase; gives what is known wherever a request leaves it.
    fn phase(
        &mut self,
        phase: usize,
        entry: State,
        removers: &mut Removers,
        prefix: &mut Prefix,
        is_dead: &mut [bool],
    ) -> State {
        let rules = self.program.phases[phase].clone();
        let mut arriving: Vec<State> = vec![None; rules.len() + 1];
        let mut exits: State = None;
        let mut state = entry;
        // Rules that always lead elsewhere and do nothing else.
        let mut gates = Vec::new();
        for (at, rule) in rules.iter().enumerate() {
            if let Some(facts) = arriving[at].take() {
                join(&mut state, &facts);
            }
            let Some(facts) = &mut state else {
                is_dead[*rule as usize] = true;
                continue;
            };
            let before = facts.clone();
            let then = self.program.rules[*rule as usize].then;
            let led_past = rules.get(at + 1..(then as usize).min(rules.len())).unwrap_or_default();
            let is_uncertain = removers.may_change(&self.program, *rule, led_past);
            let outcome = self.follow(*rule, facts, is_uncertain);
            removers.see(&self.program, *rule);
            let known = &self.program.rules[*rule as usize];
            let links = &self.program.links[known.links.start as usize..known.links.end as usize];
            let does_nothing = |link: &Link| link.controls.is_empty() && !link.capture;
            let says_nothing =
                !known.log && known.disruptive == Disruptive::Pass && links.iter().all(does_nothing);
            let sets_nothing = links.iter().all(|link| link.sets.is_empty());
            let is_absorbed = match outcome {
                Outcome::Never { is_quiet } => is_quiet,
                Outcome::Maybe => false,
                Outcome::Always if known.then != NONE => {
                    if says_nothing && sets_nothing {
                        gates.push((at, known.then as usize));
                    }
                    false
                }
                Outcome::Always => says_nothing && (sets_nothing || prefix.takes(links, facts)),
            };
            is_dead[*rule as usize] = is_absorbed;
            if is_absorbed && outcome == Outcome::Always {
                for slot in slots_set(links) {
                    prefix.facts[slot] = facts[slot].clone();
                }
            }
            if !is_absorbed {
                prefix.passes(&self.program, links, known.disruptive, known.then);
            }
            if matches!(outcome, Outcome::Never { .. }) {
                continue;
            }
            let ends = match known.disruptive {
                Disruptive::Pass => false,
                Disruptive::Allow(Allow::All | Allow::Phase | Allow::Request) => true,
                // Whether it ends the phase is known when the request is there.
                Disruptive::Deny | Disruptive::Drop | Disruptive::Redirect(_) => {
                    join(&mut exits, facts);
                    false
                }
            };
            if links.iter().any(|link| link.controls.iter().any(|one| matches!(one, Control::Mode(_)))) {
                join(&mut exits, facts);
            }
            let after = facts.clone();
            let mut goes_on = outcome == Outcome::Maybe;
            if ends {
                join(&mut exits, &after);
            } else if known.then == NONE {
                goes_on = true;
            } else {
                let target = (known.then as usize).max(at + 1).min(rules.len());
                join(&mut arriving[target], &after);
            }
            if !goes_on {
                state = None;
            } else if outcome == Outcome::Maybe {
                // What its first links do is done even where the last does not hold.
                join(&mut state, &before);
            }
        }
        if let Some(facts) = arriving[rules.len()].take() {
            join(&mut state, &facts);
        }
        if let Some(facts) = state {
            join(&mut exits, &facts);
        }
        // Who leads past rules that are out of reach anyway is not needed; the last first, since one may lie in another.
        for (at, target) in gates.into_iter().rev() {
            let between = rules.get(at + 1..target.min(rules.len())).unwrap_or_default();
            if between.iter().all(|rule| is_dead[*rule as usize]) {
                is_dead[rules[at] as usize] = true;
            }
        }
        exits
    }

    /// Does to the facts what a rule does, and puts what is known into it.
    fn follow(&mut self, rule: u32, facts: &mut [Fact], is_uncertain: bool) -> Outcome {
        let links = self.program.rules[rule as usize].links.clone();
        let mut is_sure = !is_uncertain;
        let mut has_done = false;
        for link in links.start..links.end {
            self.settle(link, facts);
            let link = &self.program.links[link as usize];
            match holds(&self.program, link, facts) {
                Some(false) => return Outcome::Never { is_quiet: !has_done },
                Some(true) if is_sure => {}
                _ => is_sure = false,
            }
            has_done |= link.capture || !link.sets.is_empty() || !link.controls.is_empty();
            if is_sure && !link.capture {
                for set in &link.sets {
                    apply(&self.program, set, facts, true);
                }
            } else {
                weaken(&self.program, link, facts);
            }
        }
        if is_sure { Outcome::Always } else { Outcome::Maybe }
    }

    /// Puts what is known into the texts of a link, whatever the link itself has changed by then for other values.
    fn settle(&mut self, link: u32, facts: &[Fact]) {
        let at = link as usize;
        let mut facts = facts.to_vec();
        weaken(&self.program, &self.program.links[at], &mut facts);
        if let Some(template) = self.program.links[at].operator.argument()
            && let Some(Template::Mixed(pieces)) = self.program.templates.get(template as usize)
            && let Some(text) = expand(pieces, &facts)
        {
            let constant = Template::Constant(self.constant(&text));
            let settled = super::intern(&mut self.templates, &mut self.program.templates, constant);
            match &mut self.program.links[at].operator {
                Operator::Compare(_, template)
                | Operator::BeginsWith(template)
                | Operator::EndsWith(template)
                | Operator::Contains(template)
                | Operator::ContainsWord(template)
                | Operator::StrEq(template)
                | Operator::Within(template) => *template = settled,
                Operator::Pattern(_, captures) => {
                    let captures = *captures;
                    match self.expression(&String::from_utf8_lossy(&text), captures) {
                        Ok(at) => self.program.links[link as usize].operator = Operator::Expression(at),
                        Err(reason) => drop(self.unsettled.insert(link, reason)),
                    }
                }
                _ => {}
            }
        }
        let program = &mut self.program;
        for set in &mut program.links[at].sets {
            let number = |template: u32| match program.templates.get(template as usize)? {
                Template::Mixed(pieces) => match pieces.as_slice() {
                    [Piece::Slot(slot)] => facts.get(*slot as usize)?.number(),
                    pieces => Some(integer(&expand(pieces, &facts)?)),
                },
                Template::Constant(_) => None,
            };
            let settled = match set.change {
                Change::Add(template) => number(template),
                Change::Subtract(template) => number(template).map(i64::saturating_neg),
                _ => None,
            };
            if let Some(by) = settled {
                set.change = Change::AddNumber(by);
            }
        }
    }
}

impl Prefix {
    /// Whether what these links set can be set beforehand.
    fn takes(&self, links: &[Link], facts: &[Fact]) -> bool {
        let is_free = |set: &SetVar| match set.name {
            Name::Slot(slot) => {
                !self.touched[slot as usize] && facts.get(slot as usize) != Some(&Fact::Unknown)
            }
            Name::Made(..) => false,
        };
        self.is_open && links.iter().flat_map(|link| &link.sets).all(is_free)
    }

    /// A rule stays: what is behind it must not do anything beforehand that it could see.
    fn passes(&mut self, program: &Program, links: &[Link], disruptive: Disruptive, then: u32) {
        let touches = &mut self.touched;
        let mut touch = |slot: u32| touches[slot as usize] = true;
        let mut is_open = disruptive == Disruptive::Pass && then == NONE;
        for link in links {
            let mut texts: Vec<u32> = link.operator.argument().into_iter().chain(link.log_data).collect();
            for set in &link.sets {
                match set.name {
                    Name::Slot(slot) => touch(slot),
                    Name::Made(..) => is_open = false,
                }
                if let Change::To(text) | Change::Add(text) | Change::Subtract(text) = set.change {
                    texts.push(text);
                }
            }
            for text in texts {
                if let Some(Template::Mixed(pieces)) = program.templates.get(text as usize) {
                    for piece in pieces {
                        match piece {
                            Piece::Slot(slot) => touch(*slot),
                            Piece::Plain(_) => {}
                            Piece::Value(collection, _) => is_open &= !super::is_kept(*collection),
                        }
                    }
                }
            }
            let selection = link
                .view
                .and_then(|view| program.views.get(view as usize))
                .and_then(|view| program.selections.get(view.selection as usize));
            for pick in
                selection.iter().flat_map(|selection| selection.picks.iter().chain(&selection.excepts))
            {
                match pick.key {
                    Key::Slot(slot) => touch(slot),
                    _ => is_open &= !super::is_kept(pick.collection),
                }
            }
            let is_harmless = |control: &Control| {
                matches!(control, Control::Processor(_) | Control::ForceBody(_) | Control::RequestBody(_))
            };
            is_open &= !link.capture && link.controls.iter().all(is_harmless);
        }
        self.is_open &= is_open;
    }
}

fn slots_set(links: &[Link]) -> impl Iterator<Item = usize> {
    links.iter().flat_map(|link| &link.sets).filter_map(|set| match set.name {
        Name::Slot(slot) => Some(slot as usize),
        Name::Made(..) => None,
    })
}

/// What can keep rules from being run, or from looking at something, in some requests.
struct Removers {
    /// Links of the rules so far that do so.
    seen: Vec<u32>,
}

impl Removers {
    fn see(&mut self, program: &Program, rule: u32) {
        let removes = |link: &u32| {
            let controls = program.links.get(*link as usize).map_or(&[][..], |link| &link.controls);
            controls.iter().any(|one| matches!(one, Control::RemoveRules(_) | Control::RemoveTarget(..)))
        };
        self.seen.extend(program.rules[rule as usize].links.clone().filter(removes));
    }

    /// Whether what a rule does depends on them. Who leads past others does not, where they go whenever it goes: the
    /// request comes to the same place without them.
    fn may_change(&self, program: &Program, rule: u32, led_past: &[u32]) -> bool {
        let rules = &program.rules[rule as usize];
        let links = &program.links[rules.links.start as usize..rules.links.end as usize];
        let is_gate = rules.then != NONE
            && !rules.log
            && rules.disruptive == Disruptive::Pass
            && links.iter().all(|link| link.sets.is_empty() && link.controls.is_empty() && !link.capture);
        let seen = self.seen.iter().filter_map(|link| program.links.get(*link as usize));
        seen.flat_map(|link| &link.controls).any(|control| match control {
            Control::RemoveRules(gone) => {
                gone.contains(&rule) && !(is_gate && led_past.iter().all(|past| gone.contains(past)))
            }
            // Only what is looked at can be left out.
            Control::RemoveTarget(rules, pick) => rules.contains(&rule) && super::is_kept(pick.collection),
            _ => false,
        })
    }
}

/// Whether a link holds, as far as that can be known.
fn holds(program: &Program, link: &Link, facts: &[Fact]) -> Option<bool> {
    if link.view.is_none() {
        return Some(true);
    }
    let (Some((slot, counts)), Operator::Compare(comparison, template)) = (link.slot, link.operator) else {
        return None;
    };
    if !link.each.is_empty() {
        return None;
    }
    let value = match (counts, facts.get(slot as usize)?) {
        (_, Fact::Unknown) => return None,
        (true, fact) => i64::from(*fact != Fact::Unset),
        (false, Fact::Unset) => return Some(false),
        (false, fact) => fact.number()?,
    };
    let Template::Constant(argument) = program.templates.get(template as usize)? else { return None };
    let argument_text = program.constant(*argument);
    let argument = integer(argument_text);
    if comparison.compare(value, argument) == link.negated {
        return Some(false);
    }
    // The text is read, too, and says the same but for a few that are hardly numbers.
    let mut text = Vec::new();
    if counts {
        text.extend_from_slice(value.to_string().as_bytes());
    } else {
        facts.get(slot as usize)?.write(&mut text)?;
    }
    (comparison.holds(&text, argument_text) != link.negated).then_some(true)
}

/// What is known once a link has held, for who knows how many values, or for none.
fn weaken(program: &Program, link: &Link, facts: &mut [Fact]) {
    if link.capture {
        for (fact, (collection, name)) in facts.iter_mut().zip(&program.slots) {
            if *collection == Collection::Tx && matches!(**name, [b'0'..=b'9']) {
                *fact = Fact::Unknown;
            }
        }
    }
    // What one of them sets may be what another one reads, the next time.
    for _ in 0..=link.sets.len() {
        for set in &link.sets {
            apply(program, set, facts, false);
        }
    }
}

/// Does what `setvar` does. Where it is not sure that it is done, and how often, what it changes is not known.
fn apply(program: &Program, set: &SetVar, facts: &mut [Fact], is_sure: bool) {
    let slot = match set.name {
        Name::Slot(slot) => slot as usize,
        Name::Made(made, template) => {
            // Any that begins as the name does.
            let begin = match program.templates.get(template as usize) {
                Some(Template::Mixed(pieces)) => match pieces.first() {
                    Some(Piece::Plain(text)) => text.to_ascii_lowercase(),
                    _ => Vec::new(),
                },
                _ => Vec::new(),
            };
            for (fact, (collection, name)) in facts.iter_mut().zip(&program.slots) {
                if *collection == made && name.starts_with(&begin) {
                    *fact = Fact::Unknown;
                }
            }
            return;
        }
    };
    let text = |template: u32| match program.templates.get(template as usize)? {
        Template::Constant(cell) => Some(program.constant(*cell).to_vec()),
        Template::Mixed(pieces) => expand(pieces, facts),
    };
    let add = |by: Option<i64>| match (facts[slot].number(), by) {
        (Some(value), Some(by)) if is_sure => Fact::Number(value.saturating_add(by)),
        _ => Fact::Unknown,
    };
    let becomes = match set.change {
        Change::Unset => Fact::Unset,
        Change::ToNumber(value) => Fact::Number(value),
        Change::To(template) => text(template).map_or(Fact::Unknown, |text| Fact::Text(text.into())),
        Change::AddNumber(by) => add(Some(by)),
        Change::Add(template) => add(text(template).map(|text| integer(&text))),
        Change::Subtract(template) => add(text(template).map(|text| integer(&text).saturating_neg())),
    };
    if is_sure || facts[slot] == becomes {
        facts[slot] = becomes;
    } else {
        facts[slot] = Fact::Unknown;
    }
}

/// A text with what is known in it; `None` where not all of it is.
fn expand(pieces: &[Piece], facts: &[Fact]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Plain(plain) => text.extend_from_slice(plain),
            Piece::Slot(slot) => facts.get(*slot as usize)?.write(&mut text)?,
            Piece::Value(..) => return None,
        }
    }
    Some(text)
}
