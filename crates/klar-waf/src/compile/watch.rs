//! Finds the rules that sleep until a value wakes them, and what has to be asked of each value for that.

use std::collections::HashMap;

use super::place;
use super::relay::relay;
use crate::engine::answers::{answers, is_pure};
use crate::engine::has_one;
use crate::operator::{Expression, Phrases};
use crate::program::{
    COLLECTIONS, Class, GROUPS, Key, Kind, Link, NONE, Operator, Pick, Program, Question, Selection, Watch,
};
use crate::seclang::Collection;

/// What wakes a rule, or one link of it: its bit, what it looks at, and what it asks.
struct Sleeper {
    bit: u32,
    selection: u32,
    chain: u32,
    operator: Operator,
    negated: bool,
    relay: u32,
}

/// A chain, an operator, whether its answer is turned, a relay, and whom it wakes.
type Asked = (u32, Operator, bool, u32, u32);

/// Of a whole program. `is_dead` says of a rule that it does nothing in any request.
pub(super) fn watch(program: &Program, is_dead: &[bool]) -> Watch {
    let mut watch = Watch::default();
    let mut sleepers = Vec::new();
    let mut extras: Vec<u32> = Vec::new();
    for (phase, rules) in program.phases.iter().enumerate() {
        let base = place(watch.always.len());
        watch.bases[phase] = base;
        watch.always.resize(watch.always.len() + rules.len().div_ceil(64), 0);
        for (at, rule) in rules.iter().enumerate() {
            if is_dead.get(*rule as usize).copied().unwrap_or(false) {
                continue;
            }
            let bit = base * 64 + place(at);
            let links = program.rules[*rule as usize].links.clone();
            let links = program.links.get(links.start as usize..links.end as usize).unwrap_or_default();
            let mut woken_by = 0;
            for link in links {
                // The first that can be asked has the bit of the rule, others have bits of their own.
                let own = if woken_by == 0 { bit } else { NONE - place(extras.len()) };
                if let Some(mut several) = sleepers_of(program, link, own, phase) {
                    if woken_by == 0
                        && links.len() == 2
                        && let Some(relay) = relay(program, *rule, bit)
                    {
                        several.iter_mut().for_each(|one| one.relay = place(watch.relays.len()));
                        watch.relays.push(relay);
                    }
                    if woken_by > 0 {
                        extras.push(bit);
                    }
                    sleepers.extend(several);
                    woken_by += 1;
                }
                // What a link does is done even where one behind it does not hold.
                if link.capture || !link.sets.is_empty() || !link.controls.is_empty() {
                    break;
                }
            }
            if woken_by == 0 {
                watch.always[bit as usize / 64] |= 1 << (bit % 64);
            }
        }
    }
    watch.bases[5] = place(watch.always.len());
    // Bits of links behind the first lie behind those of all rules.
    let behind = watch.bases[5] * 64;
    watch.always.resize(watch.always.len() + extras.len().div_ceil(64), 0);
    for one in &mut sleepers {
        if one.bit > NONE / 2 {
            one.bit = behind + (NONE - one.bit);
        }
    }
    watch.also = extras.iter().enumerate().map(|(at, bit)| (*bit, behind + place(at))).collect();
    watch.also.sort_unstable();
    let mut classes = HashMap::new();
    // A class without questions is the first.
    watch.classes.push(Class::default());
    classes.insert(Vec::new(), 0);
    for group in 0..COLLECTIONS + GROUPS.len() {
        let kind = kind(program, &sleepers, &collections(group), &mut classes, &mut watch);
        if kind.others != 0 || !kind.named.is_empty() {
            watch.groups |= 1 << group;
        }
        watch.kinds.push(kind);
    }
    watch
}

/// The collections of a group, by their places.
fn collections(group: usize) -> Vec<usize> {
    match group.checked_sub(COLLECTIONS).and_then(|at| GROUPS.get(at)) {
        Some(several) => several.iter().map(|one| *one as usize).collect(),
        None => vec![group],
    }
}

/// Collections that have a value in each request, and in each that has come to phase 2.
const ALWAYS_THERE: [Collection; 12] = [
    Collection::ArgsCombinedSize,
    Collection::PathInfo,
    Collection::QueryString,
    Collection::RemoteAddr,
    Collection::RequestFilename,
    Collection::RequestLine,
    Collection::RequestMethod,
    Collection::RequestProtocol,
    Collection::RequestUri,
    Collection::RequestUriRaw,
    Collection::UniqueId,
    Collection::UrlencodedError,
];
const THERE_WITH_BODY: [Collection; 3] =
    [Collection::InboundDataError, Collection::ReqbodyError, Collection::ReqbodyProcessorError];

fn may_be_absent(collection: Collection, phase: usize) -> bool {
    has_one(collection)
        && !ALWAYS_THERE.contains(&collection)
        && !(phase == 1 && THERE_WITH_BODY.contains(&collection))
}

/// What wakes a rule that has this link; `None` if that depends on more than one value. Phases are counted from 0.
fn sleepers_of(program: &Program, link: &Link, bit: u32, phase: usize) -> Option<Vec<Sleeper>> {
    let last = link.view?;
    if !is_pure(program, link.operator) {
        return None;
    }
    let views = if link.each.is_empty() { std::slice::from_ref(&last) } else { link.each.as_slice() };
    let mut sleepers = Vec::new();
    for view in views {
        let view = program.views.get(*view as usize)?;
        let selection = program.selections.get(view.selection as usize)?;
        if selection.changes {
            return None;
        }
        let wakes_nobody = selection.picks.iter().any(|pick| may_be_absent(pick.collection, phase))
            && asks_empty(program, view.chain, link.operator) != link.negated;
        if wakes_nobody {
            // It may match where there is no value at all.
            return None;
        }
        sleepers.push(Sleeper {
            bit,
            selection: view.selection,
            chain: view.chain,
            operator: link.operator,
            negated: link.negated,
            relay: NONE,
        });
    }
    Some(sleepers)
}

/// What an operator says of an empty value through a chain.
fn asks_empty(program: &Program, chain: u32, operator: Operator) -> bool {
    let mut steps = Vec::new();
    let mut at = chain;
    while let Some(step) = program.chains.get(at as usize) {
        let Some(last) = step.last else { break };
        steps.push(last);
        at = step.before;
    }
    let mut value = Vec::new();
    for step in steps.iter().rev() {
        let mut made = Vec::new();
        if step.apply(&value, &mut made) {
            value = made;
        }
    }
    let presence = crate::bytes::Presence::of(&value);
    answers(program, None, operator, &value, &presence)
}

/// The classes of a group of collections.
fn kind(
    program: &Program,
    sleepers: &[Sleeper],
    collections: &[usize],
    classes: &mut HashMap<Vec<Asked>, u32>,
    watch: &mut Watch,
) -> Kind {
    let selections = || {
        let used = sleepers.iter().filter_map(|one| program.selections.get(one.selection as usize));
        used.flat_map(|selection| selection.picks.iter().chain(&selection.excepts))
    };
    let mut names: Vec<Box<[u8]>> = selections()
        .filter(|pick| collections.contains(&(pick.collection as usize)))
        .filter_map(|pick| match &pick.key {
            Key::Name(name) => Some(name.clone()),
            _ => None,
        })
        .collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    names.dedup();
    let mut class = |name: Option<&[u8]>| {
        let mut asked: Vec<Asked> = sleepers
            .iter()
            .filter(|one| {
                let selection = program.selections.get(one.selection as usize);
                selection.is_some_and(|selection| looks_at(selection, collections, name))
            })
            .map(|one| (one.chain, one.operator, one.negated, one.relay, one.bit))
            .collect();
        asked.sort_by_key(|(chain, operator, negated, relay, bit)| {
            (*chain, operator.order(), *negated, *relay, *bit)
        });
        asked.dedup();
        *classes.entry(asked).or_insert_with_key(|asked| {
            let made = questions(program, asked, watch);
            watch.classes.push(made);
            place(watch.classes.len() - 1)
        })
    };
    let others = class(None);
    let named = names.into_iter().map(|name| (class(Some(&name)), name));
    let named = named.filter(|(its, _)| *its != others).map(|(its, name)| (name, its)).collect();
    Kind { others, named }
}

fn questions(program: &Program, asked: &[Asked], watch: &mut Watch) -> Class {
    let mut class = Class::default();
    for one_chain in asked.chunk_by(|one, next| one.0 == next.0) {
        let first = place(watch.questions.len());
        for same in one_chain.chunk_by(|one, next| (one.1, one.2, one.3) == (next.1, next.2, next.3)) {
            let begin = place(watch.wakes.len());
            watch.wakes.extend(same.iter().map(|(.., bit)| *bit));
            let [(_, operator, negated, relay, _), ..] = same else { continue };
            let screen = match *operator {
                Operator::Expression(at) => program.expressions.get(at as usize).map(Expression::screen),
                Operator::Phrases(at) => program.phrases.get(at as usize).map(Phrases::screen),
                _ => None,
            };
            let screen = screen.filter(|_| !negated);
            watch.questions.push(Question {
                operator: *operator,
                negated: *negated,
                min_len: screen.map_or(0, |screen| place(screen.min_len())),
                needs: screen.and_then(|screen| screen.sets().first().copied()),
                wakes: begin..place(watch.wakes.len()),
                relay: *relay,
            });
        }
        let Some((chain, ..)) = one_chain.first() else { continue };
        class.chains.push((*chain, first..place(watch.questions.len())));
    }
    class
}

/// Whether a selection can take a member of one of these collections that has this name, or one that no rule knows.
/// Names that an expression takes or leaves out may be any.
fn looks_at(selection: &Selection, collections: &[usize], name: Option<&[u8]>) -> bool {
    let has_name = |pick: &Pick, any: bool| match &pick.key {
        Key::All => true,
        Key::Name(wanted) => name == Some(wanted),
        Key::Slot(_) | Key::Matching(_) => any,
    };
    selection.picks.iter().any(|pick| {
        let is_out = |except: &Pick| except.collection == pick.collection && has_name(except, false);
        collections.contains(&(pick.collection as usize))
            && has_name(pick, true)
            && !selection.excepts.iter().any(is_out)
    })
}
