//! What operators say of a value that depends on nothing but the value.

use super::caches::Caches;
use crate::bytes::Presence;
use crate::operator::{self, Grams};
use crate::program::{Operator, Program, Template, Verify};

/// Whether an answer depends on the value alone.
pub(crate) fn is_pure(program: &Program, operator: Operator) -> bool {
    operator.argument().is_none_or(|template| {
        matches!(program.templates.get(template as usize), Some(Template::Constant(_)))
    })
}

/// What an operator says of a value with these bytes; of one that is not pure, `false`.
pub(crate) fn answers(
    program: &Program,
    caches: Option<&Caches>,
    operator: Operator,
    value: &[u8],
    presence: &Presence,
) -> bool {
    let argument = match operator.argument().and_then(|template| program.templates.get(template as usize)) {
        Some(Template::Constant(cell)) => program.constant(*cell),
        Some(Template::Mixed(_)) => return false,
        None => &[],
    };
    let expression = |at: u32| {
        let shared = program.expressions.get(at as usize)?;
        Some(caches.map_or(shared, |caches| caches.of(at, shared)))
    };
    match operator {
        Operator::Unconditional => true,
        Operator::Never | Operator::Pattern(..) => false,
        Operator::Expression(at) => expression(at).is_some_and(|expression| expression.is_match(value)),
        Operator::Phrases(at) => {
            program.phrases.get(at as usize).is_some_and(|phrases| phrases.find(value).is_some())
        }
        Operator::Sqli => crate::sqli::detect(value).is_some(),
        Operator::Xss => crate::xss::detect(value),
        Operator::Command => operator::detect_command(value),
        Operator::InnerAddress => operator::detect_inner_address(value),
        Operator::ByteRange(at) => {
            program.ranges.get(at as usize).is_some_and(|range| range.matches(presence))
        }
        Operator::UrlEncoding => operator::url_encoding(value) != operator::UrlEncoding::Valid,
        Operator::Utf8 => operator::utf8(value) != operator::Utf8::Valid,
        Operator::Address(at) => {
            program.addresses.get(at as usize).is_some_and(|addresses| addresses.contains_text(value))
        }
        Operator::Verify(at, verify) => {
            let check = match verify {
                Verify::Cc => operator::verify_cc,
                Verify::Cpf => operator::verify_cpf,
                Verify::Ssn => operator::verify_ssn,
                Verify::Svnr => operator::verify_svnr,
            };
            let Some(expression) = expression(at) else { return false };
            let mut rest = value;
            while let Some(found) = expression.find(rest) {
                if rest.get(found.clone()).is_some_and(check) {
                    return true;
                }
                rest = rest.get(found.end.max(1)..).unwrap_or_default();
            }
            false
        }
        Operator::Compare(..)
        | Operator::BeginsWith(_)
        | Operator::EndsWith(_)
        | Operator::Contains(_)
        | Operator::ContainsWord(_)
        | Operator::StrEq(_)
        | Operator::Within(_) => compares_with(operator, value, argument),
    }
}

/// What an operator says that compares a value with a text; of any other, `false`.
pub(crate) fn compares_with(operator: Operator, value: &[u8], text: &[u8]) -> bool {
    match operator {
        Operator::Compare(comparison, _) => comparison.holds(value, text),
        Operator::BeginsWith(_) => operator::begins_with(value, text),
        Operator::EndsWith(_) => operator::ends_with(value, text),
        Operator::Contains(_) => operator::contains(value, text),
        Operator::ContainsWord(_) => operator::contains_word(value, text),
        Operator::StrEq(_) => operator::str_eq(value, text),
        Operator::Within(_) => operator::within(value, text),
        _ => false,
    }
}

/// Whether an operator can hold for a value that has these threes of bytes. `true` when in doubt.
pub(crate) fn may_have(program: &Program, operator: Operator, grams: &Grams) -> bool {
    match operator {
        Operator::Expression(at) => {
            program.expressions.get(at as usize).is_none_or(|one| one.may_have(grams))
        }
        Operator::Phrases(at) => program.phrases.get(at as usize).is_none_or(|one| one.may_have(grams)),
        _ => true,
    }
}

/// Whether an operator can hold for any value whose bytes are all in `presence`. `true` when in doubt.
pub(crate) fn may_hold(program: &Program, operator: Operator, presence: &Presence, longest: u32) -> bool {
    if program.asks_in_full() {
        return true;
    }
    match operator {
        Operator::Expression(at) => {
            program.expressions.get(at as usize).is_none_or(|one| one.may_match(presence, longest as usize))
        }
        Operator::Phrases(at) => {
            program.phrases.get(at as usize).is_none_or(|one| one.may_match(presence, longest as usize))
        }
        Operator::Command => presence.meets(&operator::COMMAND_GAPS),
        Operator::InnerAddress => presence.meets(&operator::ADDRESS_SIGNS),
        _ => true,
    }
}
