//! Says what the TOML parser found in words for somebody who has never read the TOML specification.

use crate::fault::Fault;
use crate::source;
use crate::suggest::quote;
use crate::tree::{SyntaxError, Table};

/// Turns a parser's complaint into one that can be acted on.
pub(crate) fn explain(error: &SyntaxError, text: &str, tree: &Table) -> Fault {
    let span = shown_span(error, text);
    let line = line_of(text, span.start);
    let (message, label, hint): (&str, &str, &str) = match error.message.as_str() {
        "duplicate key" => return duplicate(error, text, tree),
        m if m.contains("recursion") || m.contains("recurse") => (
            "the file is nested too deeply",
            "here it gets too deep",
            "klar.toml needs no more than five levels",
        ),
        "string values must be quoted" => {
            ("text must be in quotes", "not in quotes", "put `\"` before and after it")
        }
        m if m.contains("basic string") || m.contains("literal string") => {
            if m.contains("keys cannot be multi-line") {
                ("a key cannot be a text over several lines", "here", "write the key without quotes")
            } else {
                (
                    "a text does not end",
                    "this quote is not closed on its line",
                    "put `\"` at the end of the text",
                )
            }
        }
        m if m.contains("unclosed table") || m.contains("unclosed array table") => {
            ("a table name does not end", "the `]` is missing", "write it as `[services.web]`")
        }
        "unclosed array" => ("a list does not end", "the `]` is missing", "close the list: `[\"a\", \"b\"]`"),
        "unclosed inline table" => {
            ("a table does not end", "the `}` is missing", "close the table: `{ min = 2, max = 10 }`")
        }
        "missing value" | "missing value for key" => {
            ("a value is missing", "nothing after the `=`", "write a value, or remove the line")
        }
        "key with no value" | "missing assignment between key-value pairs" | "unexpected key or value"
            if line.contains(": ") =>
        {
            (
                "a key is followed by `:`",
                "not `key = value`",
                "klar.toml is TOML, not YAML: write `=` in place of `:`",
            )
        }
        "key with no value" => ("a key has no value", "no `=` after this", "write it as `key = value`"),
        "missing comma between array elements" => (
            "a comma is missing in a list",
            "a comma before this",
            "separate items by commas: `[\"a\", \"b\"]`",
        ),
        "missing comma between key-value pairs" => (
            "a comma is missing in a table",
            "a comma before this",
            "separate keys by commas: `{ min = 2, max = 10 }`",
        ),
        "extra `=`" | "extra assignment between key-value pairs" => {
            ("there is an `=` too many", "this one", "write it as `key = value`")
        }
        "missing escaped value" => (
            "a backslash in a text means something else",
            "this `\\` begins an escape",
            "write `\\\\` for a backslash, or use single quotes: `'C:\\dir'`",
        ),
        "invalid unquoted key" | "unquoted keys cannot be empty" => {
            ("this cannot be a key", "not allowed in a key", "put it in quotes, as in `\"/api/*\" = \"api\"`")
        }
        "unexpected leading zero" => {
            ("a number cannot begin with 0", "here", "remove the zero, or put it in quotes")
        }
        m if m.starts_with("cannot extend value") => {
            ("a key is used as a table, but it has a value already", "not a table", "remove one of the two")
        }
        other => {
            return Fault::new(format!("this is not TOML: {other}"))
                .at(span, "here")
                .hint("a line is `[table]`, `key = value` or `# comment`; text is in quotes");
        }
    };
    Fault::new(message).at(span, label).hint(hint)
}

/// Where to point: never at nothing, never at a line break.
fn shown_span(error: &SyntaxError, text: &str) -> std::ops::Range<usize> {
    let start = source::floor(text, error.span.start);
    let end = source::floor(text, error.span.end).max(start);
    let at_break = text[start..].chars().next().is_none_or(|c| c.is_whitespace());
    if start == end && at_break {
        let before = text[..start].trim_end();
        let last = before.chars().next_back().map_or(0, char::len_utf8);
        return before.len() - last..before.len();
    }
    start..end
}

fn line_of(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
    let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    &text[start..end]
}

fn duplicate(error: &SyntaxError, text: &str, tree: &Table) -> Fault {
    let span = shown_span(error, text);
    let name = text[span.clone()].trim_matches(['"', '\'']).to_owned();
    let fault = Fault::new(format!("{} is written twice", quote(&name)))
        .at(span.clone(), "again here")
        .hint("keep one of the two, or join them");
    match last_before(tree, &name, span.start) {
        Some(first) => fault.and(first, "first here"),
        None => fault,
    }
}

/// The last key called `name` in front of `at`.
fn last_before(table: &Table, name: &str, at: usize) -> Option<std::ops::Range<usize>> {
    let here = table.entries.iter().filter(|entry| entry.key == name && entry.key_span.end <= at);
    let below = table.entries.iter().filter_map(|entry| last_before(entry.node.table()?, name, at));
    here.map(|entry| entry.key_span.clone()).chain(below).max_by_key(|span| span.start)
}
