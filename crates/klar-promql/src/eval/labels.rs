//! `label_replace` and `label_join`.

use klar_tsdb::labels::NAME;
use regex_automata::meta::Regex;
use regex_automata::util::{captures::Captures, syntax};

use super::rows::{Row, merged};
use crate::error::EvalError;

/// The room that an expression may take when it is compiled, in bytes.
const COMPILED_MAX: usize = 1 << 20;

fn set(row: &mut Row, label: &str, value: &str) -> Result<(), EvalError> {
    row.labels = row.labels.with(label, value).map_err(|bad| EvalError::Meaningless(bad.to_string()))?;
    // A name that is given anew says again what the values are.
    row.drop_name &= label != NAME;
    Ok(())
}

fn is_name(label: &str, function: &str) -> Result<(), EvalError> {
    if label.is_empty() {
        return Err(EvalError::Meaningless(format!("a label of `{function}` has no name")));
    }
    Ok(())
}

/// For an expression that takes a whole value.
fn compile(expression: &str) -> Result<Regex, EvalError> {
    let compile = |is_unicode: bool| {
        Regex::builder()
            .syntax(syntax::Config::new().unicode(is_unicode).utf8(false).dot_matches_new_line(true))
            .configure(Regex::config().nfa_size_limit(Some(COMPILED_MAX)).utf8_empty(is_unicode))
            .build(&format!("^(?:{expression})$"))
            .ok()
    };
    // About characters, if it needs no tables of them; else about bytes.
    compile(true).or_else(|| compile(false)).ok_or_else(|| {
        EvalError::Meaningless(format!("`{expression:.200}` in `label_replace` is no regular expression"))
    })
}

/// `label_replace(rows, to, template, from, expression)`
pub(super) fn replace(
    mut rows: Vec<Row>,
    [to, template, from, expression]: [&str; 4],
) -> Result<Vec<Row>, EvalError> {
    is_name(to, "label_replace")?;
    let expression = compile(expression)?;
    let mut captures = expression.create_captures();
    for row in &mut rows {
        let value = row.labels.get(from).unwrap_or_default().to_owned();
        expression.captures(&value, &mut captures);
        if captures.is_match() {
            let text = expanded(template, &value, &captures);
            set(row, to, &text)?;
        }
    }
    merged(rows)
}

/// `label_join(rows, to, between, from, …)`
pub(super) fn join(
    mut rows: Vec<Row>,
    to: &str,
    between: &str,
    from: &[&str],
) -> Result<Vec<Row>, EvalError> {
    for label in [to].iter().chain(from) {
        is_name(label, "label_join")?;
    }
    for row in &mut rows {
        let values: Vec<&str> = from.iter().map(|label| row.labels.get(label).unwrap_or_default()).collect();
        let text = values.join(between);
        set(row, to, &text)?;
    }
    merged(rows)
}

/// A template with what was captured: `$1`, `${1}`, `$name`; `$$` is `$`.
fn expanded(template: &str, value: &str, captures: &Captures) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('$') {
        text.push_str(before);
        if let Some(behind) = behind.strip_prefix('$') {
            text.push('$');
            rest = behind;
            continue;
        }
        let (name, after) = match behind.strip_prefix('{') {
            Some(inner) => inner.split_once('}').unwrap_or_default(),
            None => {
                let end =
                    behind.find(|one: char| !one.is_alphanumeric() && one != '_').unwrap_or(behind.len());
                behind.split_at_checked(end).unwrap_or_default()
            }
        };
        if name.is_empty() {
            // A dollar that names nothing stands for itself.
            text.push('$');
            rest = behind;
            continue;
        }
        let group = match name.parse::<usize>() {
            Ok(number) => captures.get_group(number),
            Err(_) => captures.get_group_by_name(name),
        };
        if let Some(span) = group {
            let bytes = value.as_bytes().get(span.range()).unwrap_or_default();
            text.push_str(&String::from_utf8_lossy(bytes));
        }
        rest = after;
    }
    text.push_str(rest);
    text
}
