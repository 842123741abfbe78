//! What is asked of a value: `@within GET POST`, `!@rx ^[0-9]+$`.

use super::names;
use super::text::text;
use super::words::{BLANKS, Span, Trouble, shown};
use super::{Operator, OperatorKind, Text};

/// Reads an operator with what stands behind it; without a name it is `@rx`.
pub(super) fn operator(span: Span<'_>) -> Result<Operator, Trouble> {
    let begun = begun(span);
    let (negated, asked) = begun.strip('!').map_or((false, begun), |rest| (true, self::begun(rest)));
    let (kind, argument) = match asked.strip('@') {
        None => (OperatorKind::Rx, asked),
        Some(named) => {
            let end = named.text.find(BLANKS).unwrap_or(named.text.len());
            let name = named.part(0, end).text;
            let Some((kind, takes_argument)) = names::operator(name) else {
                return Err(
                    asked.trouble(format!("the operator {} is not known", shown(&format!("@{name}"))))
                );
            };
            // One blank is between the two; more belong to the argument.
            let argument = named.behind((end + 1).min(named.text.len()));
            if !takes_argument {
                let rest = argument.trim();
                if !rest.text.is_empty() {
                    return Err(rest.trouble(format!("@{name} takes no argument, not {}", shown(rest.text))));
                }
                return Ok(Operator { negated, kind, argument: Text::default() });
            }
            (kind, argument)
        }
    };
    if argument.text.is_empty() {
        return Err(asked.trouble("an operator without an argument"));
    }
    Ok(Operator { negated, kind, argument: text(argument)? })
}

fn begun(span: Span<'_>) -> Span<'_> {
    let begun = span.text.trim_start_matches(BLANKS);
    span.behind(span.text.len() - begun.len())
}
