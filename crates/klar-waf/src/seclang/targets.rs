//! What a rule looks at: `ARGS|!ARGS:token|&REQUEST_HEADERS:Host|TX:/^score_/`.

use super::text::member;
use super::words::{Span, Trouble, closing, is_escaped, shown};
use super::{Collection, Key, Target};

/// Targets of one rule at most.
const TARGETS_MAX: usize = 1000;
/// What stands between targets.
const MARKS: [char; 2] = ['|', ','];

/// Reads a list.
pub(super) fn targets(list: Span<'_>) -> Result<Vec<Target>, Trouble> {
    let mut found = Vec::new();
    let mut rest = list;
    loop {
        let item = rest.trim();
        let (end, target) = target(item)?;
        found.push(target);
        let behind = item.behind(end).trim();
        match behind.text.chars().next() {
            None => return Ok(found),
            Some('|' | ',') if found.len() < TARGETS_MAX => rest = behind.behind(1),
            Some('|' | ',') => {
                return Err(behind.trouble(format!("more than {TARGETS_MAX} variables in one rule")));
            }
            Some(_) => {
                return Err(behind.trouble(format!("{} stands right behind a variable", shown(behind.text))));
            }
        }
    }
}

/// Reads what is one target to its end.
pub(super) fn one(span: Span<'_>) -> Result<Target, Trouble> {
    let (end, target) = target(span)?;
    let behind = span.behind(end);
    if behind.text.is_empty() {
        return Ok(target);
    }
    Err(behind.trouble(format!("{} stands right behind a variable", shown(behind.text))))
}

/// Reads the target that `item` begins with, and says where it ends.
fn target(item: Span<'_>) -> Result<(usize, Target), Trouble> {
    let (except, bare) = item.strip('!').map_or((false, item), |bare| (true, bare));
    let (count, bare) = bare.strip('&').map_or((false, bare), |bare| (true, bare));
    if count && except {
        return Err(item.trouble("`!` and `&` cannot stand before the same variable"));
    }
    let name = bare.text.find(|c: char| c == ':' || c == '.' || MARKS.contains(&c));
    let begin = bare.at - item.at;
    let name = match name {
        Some(at) if bare.behind(at).text.starts_with([':', '.']) => at,
        end => {
            let end = end.unwrap_or(bare.text.len());
            let (collection, _) = member(bare.part(0, end).trim())?;
            return Ok((begin + end, Target { collection, key: Key::All, count, except }));
        }
    };
    let key = bare.behind(name + 1);
    let (collection, _) = member(bare.part(0, name))?;
    let (end, key) = selector(collection, key)?;
    // Says what is wrong with a member that there cannot be.
    member(bare.part(0, name + 1 + end))?;
    if key == Key::Name(String::new()) {
        return Err(item.trouble("a member without a name"));
    }
    Ok((begin + name + 1 + end, Target { collection, key, count, except }))
}

/// Which members are meant, and where that ends.
fn selector(collection: Collection, span: Span<'_>) -> Result<(usize, Key), Trouble> {
    // The paths of XML begin with the sign of expressions, and are none.
    if collection != Collection::Xml {
        for (open, close) in [("'/", "/'"), ("/", "/")] {
            if span.text.starts_with(open) {
                let inner = span.behind(open.len());
                let Some(end) = expression(inner.text, close) else {
                    return Err(span.trouble(format!("the expression {} never ends", shown(span.text))));
                };
                let key = Key::Matching(inner.part(0, end).text.to_owned());
                return Ok((open.len() + end + close.len(), key));
            }
        }
        if span.text.starts_with('\'') {
            let inner = span.behind(1);
            let Some(end) = closing(inner.text, b'\'') else {
                return Err(span.trouble("the quote ' is never closed"));
            };
            return Ok((end + 2, Key::Name(inner.part(0, end).text.to_owned())));
        }
    }
    let end = span.text.find(MARKS).unwrap_or(span.text.len());
    let name = span.part(0, end).trim();
    Ok((end, Key::Name(name.text.to_owned())))
}

/// Where an expression ends: at the first `close` that nothing, or the next target, is behind.
fn expression(text: &str, close: &str) -> Option<usize> {
    text.match_indices(close).map(|(at, _)| at).find(|at| {
        let behind = text.get(at + close.len()..).unwrap_or_default();
        let is_end = behind.is_empty() || behind.trim_start_matches([' ', '\t']).starts_with(MARKS);
        is_end && !is_escaped(text, *at)
    })
}
