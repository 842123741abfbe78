//! What rules do to variables: `setvar`, `expirevar`, `initcol`.

use super::names;
use super::text::text;
use super::words::{Span, Trouble, shown};
use super::{Action, Change, Collection, Piece, SetVar, Text};

/// Collections that outlast a request.
const LASTING: [Collection; 5] =
    [Collection::Global, Collection::Ip, Collection::Resource, Collection::Session, Collection::User];

/// Reads `tx.score=+5`, `tx.score=-5`, `tx.name=text`, `tx.flag` (which is 1 then), `!tx.name`.
pub(super) fn set(span: Span<'_>) -> Result<SetVar, Trouble> {
    let span = span.trim();
    if let Some(variable) = span.strip('!') {
        if end_of_name(variable.text) < variable.text.len() {
            return Err(span.trouble("what is unset has no value"));
        }
        let (collection, name) = variable_of(variable)?;
        return Ok(SetVar { collection, name, change: Change::Unset });
    }
    let end = end_of_name(span.text);
    let (collection, name) = variable_of(span.part(0, end))?;
    let Some(value) = span.behind(end).strip('=') else {
        let one = Text(vec![Piece::Plain("1".to_owned())]);
        return Ok(SetVar { collection, name, change: Change::To(one) });
    };
    let change = if let Some(value) = value.strip('+') {
        Change::Add(text(value)?)
    } else if let Some(value) = value.strip('-') {
        Change::Subtract(text(value)?)
    } else {
        Change::To(text(value)?)
    };
    Ok(SetVar { collection, name, change })
}

/// Reads `ip.blocked=600`.
pub(super) fn expire(span: Span<'_>) -> Result<Action, Trouble> {
    let end = end_of_name(span.text);
    let (collection, name) = variable_of(span.part(0, end).trim())?;
    if !LASTING.contains(&collection) {
        return Err(span.trouble(format!("nothing in {} outlasts a request", collection.name())));
    }
    match span.behind(end).strip('=').map(Span::trim).filter(|seconds| !seconds.text.is_empty()) {
        Some(seconds) => Ok(Action::ExpireVar(collection, name, text(seconds)?)),
        None => Err(span.trouble(format!("{} says no number of seconds", shown(span.text)))),
    }
}

/// Reads `ip=%{remote_addr}`.
pub(super) fn init(span: Span<'_>) -> Result<Action, Trouble> {
    let Some((name, key)) = span.split_once('=') else {
        return Err(span.trouble(format!("{} is not `collection=key`", shown(span.text))));
    };
    match names::collection(name.trim().text) {
        Some((collection, _)) if LASTING.contains(&collection) => Ok(Action::InitCol(collection, text(key)?)),
        _ => Err(name.trouble(format!("{} is no collection that outlasts a request", shown(name.text)))),
    }
}

/// Reads `tx.name`, where the name may hold variables of its own.
fn variable_of(span: Span<'_>) -> Result<(Collection, Text), Trouble> {
    let span = span.trim();
    let end = span.text.find(['.', ':']).unwrap_or(span.text.len());
    let (name, member) = (span.part(0, end), span.behind((end + 1).min(span.text.len())));
    match names::collection(name.text) {
        Some((collection, _)) if collection == Collection::Tx || LASTING.contains(&collection) => {
            if member.text.is_empty() {
                return Err(span.trouble(format!("{} names no variable", shown(span.text))));
            }
            Ok((collection, text(member)?))
        }
        _ => Err(name.trouble(format!("{} is no collection that rules write to", shown(name.text)))),
    }
}

/// Where the name of a variable ends: at the first `=` that is not within `%{...}`.
fn end_of_name(text: &str) -> usize {
    let mut within = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'=' if !within => return at,
            b'{' if at > 0 && text.as_bytes().get(at - 1) == Some(&b'%') => within = true,
            b'}' => within = false,
            _ => {}
        }
    }
    text.len()
}
