//! Finds rules whose first link only hands something on to the second, so that they can sleep.

use crate::engine::answers::is_pure;
use crate::program::{
    Change, Disruptive, Key, Link, Name, Operator, Piece, Program, Relay, RelayText, Template,
};
use crate::seclang::Collection;

/// The relay that a rule is, if it is one.
pub(super) fn relay(program: &Program, rule: u32, bit: u32) -> Option<Relay> {
    let links = links(program, rule);
    let [first, second] = links else { return None };
    let Operator::Expression(expression) = first.operator else { return None };
    let known = program.expressions.get(expression as usize)?;
    let [set] = first.sets.as_slice() else { return None };
    let (Name::Made(Collection::Tx, name), Change::To(value)) = (set.name, set.change) else { return None };
    let whole = *program.slot_of.get(&(Collection::Tx, (*b"0").into()))?;
    let is_relay = first.capture
        && !first.negated
        && first.each.is_empty()
        && first.controls.is_empty()
        // What it leaves in `TX:0` is all that it captures, and nobody looks at that later.
        && known.group_count() == 1
        && captures_are_own(program, whole)
        && !second.capture
        && second.each.is_empty()
        && is_pure(program, second.operator);
    if !is_relay {
        return None;
    }
    let (name, value) = (pieces(program, name, whole)?, pieces(program, value, whole)?);
    // Variables that are named with other beginnings are others.
    let Some(Some(begin)) = name.first() else { return None };
    let overlaps = |template: u32| match program.templates.get(template as usize) {
        Some(Template::Mixed(pieces)) => match pieces.first() {
            Some(Piece::Plain(other)) => {
                let other = other.to_ascii_lowercase();
                let begin = begin.to_ascii_lowercase();
                other.starts_with(&begin) || begin.starts_with(&other)
            }
            _ => true,
        },
        _ => true,
    };
    let makers = program.links.iter().flat_map(|link| &link.sets).filter_map(|set| match set.name {
        Name::Made(Collection::Tx, template) => Some(template),
        _ => None,
    });
    if makers.filter(|template| overlaps(*template)).count() != 1 {
        return None;
    }
    // The second link looks at these variables, through nothing, and at none that has a slot.
    let view = program.views.get(second.view? as usize)?;
    let selection = program.selections.get(view.selection as usize)?;
    let ([pick], []) = (selection.picks.as_slice(), selection.excepts.as_slice()) else { return None };
    let Key::Matching(chosen) = pick.key else { return None };
    let has_slots = program.members.get(chosen as usize)?.as_ref()?.iter().any(|slot| {
        program.slots.get(*slot as usize).is_none_or(|(collection, _)| *collection == Collection::Tx)
    });
    if view.chain != 0 || pick.count || pick.collection != Collection::Tx || has_slots {
        return None;
    }
    let mut seen_by = Vec::new();
    for (at, selection) in program.selections.iter().enumerate() {
        for other in selection.picks.iter().chain(&selection.excepts) {
            match other.key {
                Key::All if other.collection == Collection::Tx => return None,
                Key::Matching(matching)
                    if other.collection == Collection::Tx && at != view.selection as usize =>
                {
                    seen_by.push(matching);
                }
                _ => {}
            }
        }
    }
    // Only this rule may look at them in this way.
    let lookers = program.links.iter().filter(|link| {
        let view = link.view.and_then(|at| program.views.get(at as usize));
        view.is_some_and(|other| other.selection == view_selection(program, second))
    });
    (lookers.count() == 1).then(|| Relay {
        expression,
        name,
        value,
        operator: second.operator,
        negated: second.negated,
        seen_by: seen_by.into(),
        bit,
    })
}

fn view_selection(program: &Program, link: &Link) -> u32 {
    let view = link.view.and_then(|at| program.views.get(at as usize));
    view.map_or(crate::program::NONE, |view| view.selection)
}

fn links(program: &Program, rule: u32) -> &[Link] {
    let range = program.rules.get(rule as usize).map_or(0..0, |rule| rule.links.clone());
    program.links.get(range.start as usize..range.end as usize).unwrap_or_default()
}

/// A text of nothing but plain pieces and one variable, which is `None`.
fn pieces(program: &Program, template: u32, slot: u32) -> Option<RelayText> {
    let Template::Mixed(pieces) = program.templates.get(template as usize)? else { return None };
    let pieces = pieces.iter().map(|piece| match piece {
        Piece::Plain(text) => Some(Some(text.clone())),
        Piece::Slot(known) if *known == slot => Some(None),
        _ => None,
    });
    pieces.collect()
}

/// Whether whoever looks at what was captured has captured it: no rule sees what another one left in this variable.
/// Only what a rule says (`logdata`) may hold it: that is whatever was captured last by a rule that was run.
fn captures_are_own(program: &Program, whole: u32) -> bool {
    let reads = |template: u32| match program.templates.get(template as usize) {
        Some(Template::Mixed(pieces)) => pieces.contains(&Piece::Slot(whole)),
        _ => false,
    };
    let looks = |link: &Link| {
        let selection = link
            .view
            .and_then(|view| program.views.get(view as usize))
            .and_then(|view| program.selections.get(view.selection as usize));
        selection.is_some_and(|selection| {
            selection.picks.iter().chain(&selection.excepts).any(|pick| match pick.key {
                Key::Slot(slot) => slot == whole,
                Key::All => pick.collection == Collection::Tx,
                Key::Matching(at) => {
                    pick.collection == Collection::Tx
                        && program.expressions.get(at as usize).is_none_or(|one| one.is_match(b"0"))
                }
                Key::Name(_) => false,
            })
        })
    };
    (0..program.rules.len()).all(|rule| {
        let mut is_captured = false;
        let is_own = links(program, rule as u32).iter().all(|link| {
            let before = is_captured;
            is_captured |= link.capture
                && !link.negated
                && matches!(link.operator, Operator::Expression(_) | Operator::Phrases(_) | Operator::Sqli);
            let asks = looks(link) || link.operator.argument().is_some_and(reads);
            let does = link.sets.iter().any(|set| {
                let name = matches!(set.name, Name::Made(_, name) if reads(name));
                let text = match set.change {
                    Change::To(text) | Change::Add(text) | Change::Subtract(text) => reads(text),
                    _ => false,
                };
                name || text || matches!(set.name, Name::Slot(slot) if slot == whole)
            });
            (before || !asks) && (is_captured || !does)
        });
        let redirects = matches!(
            program.rules.get(rule).map(|rule| rule.disruptive),
            Some(Disruptive::Redirect(to)) if reads(to)
        );
        is_own && (is_captured || !redirects)
    })
}
