//! Asks each value that came what rules ask of it by itself, and wakes the rules that it may concern.
//!
//! **Invariant:** a rule that is not woken would not have matched. One that is woken is run as it stands in the program,
//! and may match or not.

use super::Transaction;
use super::answers::{answers, may_have, may_hold};
use super::caches::Caches;
use super::memory::Memory;
use crate::bytes::Presence;
use crate::operator::{COMMAND_GAPS, LONG};
use crate::program::{Kind, Operator, Program};
use crate::seclang::Collection;
use crate::{sqli, xss};

/// Reading a token of SQL or HTML takes as long as asking so many bytes something, and reading what stands where a
/// command can begin as many more.
const TOKEN: u64 = 16;
const GAP: u64 = 24;

impl Transaction<'_> {
    /// Wakes the rules for all that came since the last phase.
    pub(super) fn sift(&mut self, caches: &Caches) {
        let program = self.program;
        let memory = &mut *self.memory;
        let fresh = std::mem::take(&mut memory.fresh);
        let mut woken = std::mem::take(&mut memory.woken);
        let mut verdicts = caches.verdicts(program.number);
        for one in &fresh {
            let Some(kind) = program.watch.kinds.get(usize::from(one.group)) else { continue };
            let class = class_of(kind, memory.span(one.name));
            if class == 0 {
                continue;
            }
            let key = verdicts.as_ref().and_then(|verdicts| verdicts.key(class, memory.cell(one.cell)));
            if let (Some(verdicts), Some(key)) = (&mut verdicts, key)
                && let Some(known) = verdicts.get(key, memory.cell(one.cell))
            {
                for bit in known {
                    memory.wake(u32::from(*bit));
                }
                continue;
            }
            woken.clear();
            ask(program, caches, memory, class, one.cell, &mut woken);
            for bit in &woken {
                memory.wake(*bit);
            }
            if let (Some(verdicts), Some(key)) = (&mut verdicts, key) {
                verdicts.put(key, memory.cell(one.cell), &woken);
            }
        }
        memory.fresh = fresh;
        memory.fresh.clear();
        memory.woken = woken;
    }
}

/// The class of a member of a group by its name.
fn class_of(kind: &Kind, name: &[u8]) -> u32 {
    if kind.named.is_empty() {
        return kind.others;
    }
    let first = name.first().map(u8::to_ascii_lowercase);
    let known = kind.named.iter().find(|(known, _)| {
        known.len() == name.len() && known.first().copied() == first && known.eq_ignore_ascii_case(name)
    });
    known.map_or(kind.others, |(_, class)| *class)
}

/// Asks all questions of a class.
fn ask(
    program: &Program,
    caches: &Caches,
    memory: &mut Memory,
    class: u32,
    value: u32,
    woken: &mut Vec<u32>,
) {
    let watch = &program.watch;
    let Some(class) = watch.classes.get(class as usize) else { return };
    let mark = memory.mark(value);
    let is_long_value = memory.cell(value).len() >= LONG;
    // Chains that change nothing give the same cell, of which all is known.
    let (mut grams, mut grams_of) = (std::mem::take(&mut memory.grams), None);
    for (chain, questions) in &class.chains {
        if is_long_value && !memory.works(0, 0) {
            break;
        }
        if memory.tidy(mark, value) {
            grams_of = None;
        }
        let cell = memory.through(program, value, *chain);
        let presence = memory.presence(cell);
        let value = memory.cell(cell);
        let is_long = value.len() >= LONG;
        let mut work = 0;
        let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        for question in
            watch.questions.get(questions.start as usize..questions.end as usize).unwrap_or_default()
        {
            // Most stop here, without a look at the tables of their operators.
            if len < question.min_len || question.needs.is_some_and(|needs| !needs.meets(&presence)) {
                continue;
            }
            if !question.negated && !may_hold(program, question.operator, &presence, len) {
                continue;
            }
            if is_long && !question.negated && has_words(question.operator) {
                let grams = grams.get_or_insert_default();
                if grams_of != Some(cell) {
                    work += value.len() as u64;
                    grams.read(value);
                    grams_of = Some(cell);
                }
                if !may_have(program, question.operator, grams) {
                    continue;
                }
            }
            let wakes = watch.wakes.get(question.wakes.start as usize..question.wakes.end as usize);
            let wakes = wakes.unwrap_or_default();
            let begun = caches.clock();
            let answer = if is_long {
                let room = memory.work_max.saturating_sub(memory.work.saturating_add(work));
                let (answer, its) =
                    answers_within(program, caches, question.operator, value, &presence, room);
                work = work.saturating_add(its);
                answer
            } else {
                Some(answers(program, Some(caches), question.operator, value, &presence))
            };
            let Some(answer) = answer else { break };
            if answer != question.negated && relays(program, caches, question.relay, value) {
                woken.extend_from_slice(wakes);
            }
            if begun.is_some() {
                caches.spent(begun, wakes.iter().map(|bit| program.rule_of(*bit)), false);
            }
        }
        if is_long {
            memory.work = memory.work.saturating_add(work);
        }
    }
    memory.grams = grams;
}

/// What an operator says of a long value, and how much work that was; `None` where that is more than there is room for.
fn answers_within(
    program: &Program,
    caches: &Caches,
    operator: Operator,
    value: &[u8],
    presence: &Presence,
    room: u64,
) -> (Option<bool>, u64) {
    let len = value.len() as u64;
    let gaps = match operator {
        Operator::Command => value.iter().filter(|byte| COMMAND_GAPS.has(**byte)).count() as u64,
        _ => 0,
    };
    let known = len.saturating_add(gaps.saturating_mul(GAP));
    if known > room {
        return (None, known);
    }
    let most = u32::try_from((room - known) / TOKEN).unwrap_or(u32::MAX).max(1);
    let mut tokens = most;
    let answer = match operator {
        Operator::Sqli => sqli::detect_within(value, &mut tokens).is_some(),
        Operator::Xss => xss::detect_within(value, &mut tokens),
        operator => answers(program, Some(caches), operator, value, presence),
    };
    let work = known.saturating_add(u64::from(most - tokens).saturating_mul(TOKEN));
    if tokens == 0 { (None, work.max(room.saturating_add(1))) } else { (Some(answer), work) }
}

/// Whether it needs words, of which it can be told whether they may be there.
fn has_words(operator: Operator) -> bool {
    matches!(operator, Operator::Expression(_) | Operator::Phrases(_))
}

/// Whether the rule of a relay can match for a value that its first link holds for, or another rule can see what that
/// one makes of it.
fn relays(program: &Program, caches: &Caches, relay: u32, value: &[u8]) -> bool {
    let Some(relay) = program.watch.relays.get(relay as usize) else { return true };
    let Some(expression) = program.expressions.get(relay.expression as usize) else { return true };
    let Some(found) = caches.of(relay.expression, expression).find(value) else { return true };
    let text = value.get(found).unwrap_or_default();
    let made = |pieces: &[Option<Box<[u8]>>]| {
        let pieces = pieces.iter().map(|piece| piece.as_deref().unwrap_or(text));
        pieces.collect::<Vec<_>>().concat()
    };
    let name = made(&relay.name).to_ascii_lowercase().into_boxed_slice();
    let is_seen =
        |at: &u32| program.expressions.get(*at as usize).is_none_or(|expression| expression.is_match(&name));
    let value = made(&relay.value);
    let answer = answers(program, Some(caches), relay.operator, &value, &Presence::of(&value));
    answer != relay.negated
        || relay.seen_by.iter().any(is_seen)
        || program.slot_of.contains_key(&(Collection::Tx, name))
}
