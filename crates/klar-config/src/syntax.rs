//! Says what the TOML parser found in words for somebody who has never read the TOML specification.

use std::ops::Range;

use crate::fault::Fault;
use crate::source;
use crate::suggest::quote;
use crate::tree::{SyntaxError, Table};

/// Turns the parser's complaints into ones that can be acted on, leaving out those that follow from another.
pub(crate) fn explain_all(errors: &[SyntaxError], text: &str, tree: &Table) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    let mut lines = Vec::new();
    // Up to which place everything is the consequence of one mistake.
    let mut confused_until = 0;
    for error in errors {
        let at = shown_span(error, text).start;
        let line = line_range(text, at);
        if at < confused_until || lines.contains(&line.start) {
            continue;
        }
        lines.push(line.start);
        let (fault, reach) = explain(error, text, tree);
        confused_until = match reach {
            Reach::Line => 0,
            Reach::Table => text[at..].find("\n[").map_or(text.len(), |end| at + end),
            Reach::Rest => text.len(),
        };
        faults.push(fault);
    }
    faults
}

/// How far a mistake confuses the parser.
enum Reach {
    Line,
    Table,
    Rest,
}

fn explain(error: &SyntaxError, text: &str, tree: &Table) -> (Fault, Reach) {
    let span = shown_span(error, text);
    let line = &text[line_range(text, span.start)];
    let before = text[line_range(text, span.start).start..span.start].trim_end();
    let head = error.message.split(", expected").next().unwrap_or_default();
    // An unclosed list swallows the lines below it, and the parser complains about those.
    let new_line = before.is_empty() && (line.starts_with('[') || line.contains('='));
    let mut reach = Reach::Line;
    let (message, label, hint) = match head {
        "duplicate key" => return duplicate(span, text, tree),
        m if m.contains("recursion") || m.contains("recurse") => {
            reach = Reach::Rest;
            (
                "the file is nested too deeply",
                "here it gets too deep",
                "klar.toml needs no more than five levels",
            )
        }
        _ if before.ends_with('=') && text[span.clone()].trim().is_empty()
            || span.is_empty() && before.ends_with('=') =>
        {
            ("a value is missing", "nothing after the `=`", "write a value, or remove the line")
        }
        _ if before.ends_with('=') && error.span.is_empty() => {
            ("a value is missing", "nothing after the `=`", "write a value, or remove the line")
        }
        "string values must be quoted" if text[span.clone()].trim() == "=" => {
            ("a value is missing", "nothing after this", "write a value, or remove the line")
        }
        "string values must be quoted" | "missing opening quote" => {
            ("text must be in quotes", "not in quotes", "put `\"` before and after it")
        }
        "keys cannot be multi-line basic strings" | "keys cannot be multi-line literal strings" => {
            ("a key cannot be a text over several lines", "here", "write the key without quotes")
        }
        m if m.contains("basic string") || m.contains("literal string") => {
            let several = line.contains("\"\"\"") || line.contains("'''");
            reach = if several { Reach::Rest } else { Reach::Line };
            ("a text does not end", "no closing quote", "put the same quote at its end that it begins with")
        }
        "unclosed table" | "unclosed array table" => {
            ("the name of a table does not end", "the `]` is missing", "write it as `[services.web]`")
        }
        "missing comma between array elements" | "unclosed array"
            if new_line || head.starts_with("unclosed") =>
        {
            reach = Reach::Rest;
            ("a list does not end", "the `]` of a list above is missing", "close the list: `[\"a\", \"b\"]`")
        }
        "missing comma between array elements" => (
            "a comma is missing in a list",
            "no comma before this",
            "separate items by commas: `[\"a\", \"b\"]`",
        ),
        "unclosed inline table" => {
            reach = Reach::Rest;
            ("a table in braces does not end", "the `}` is missing", "close it: `{ min = 2, max = 10 }`")
        }
        "missing comma between key-value pairs" => (
            "a comma is missing in a table in braces",
            "no comma before this",
            "separate keys by commas: `{ min = 2, max = 10 }`",
        ),
        "key with no value" | "missing assignment between key-value pairs" | "unexpected key or value"
            if before.ends_with(':') || line[before.len()..].trim_start().starts_with(':') =>
        {
            reach = Reach::Rest;
            (
                "this is not TOML",
                "`:` where `=` should be",
                "klar.toml is TOML, not YAML: `[app]`, and below it `name = \"shop\"`",
            )
        }
        "key with no value" | "missing assignment between key-value pairs" => {
            ("an `=` is missing", "between key and value", "write it as `key = value`")
        }
        "extra `=`" | "extra assignment between key-value pairs" => (
            "there is an `=` too many",
            "this one",
            "write it as `key = value`; text with an `=` goes in quotes",
        ),
        "missing escaped value" => (
            "a backslash in a text begins an escape",
            "no escape that TOML knows",
            "write `\\\\` for a backslash, or put the text in single quotes: `'C:\\dir'`",
        ),
        "invalid unquoted key" | "unquoted keys cannot be empty" => (
            "this cannot be a key",
            "a key is A-Z, a-z, 0-9, `_` and `-`",
            "put it in quotes, as in `\"/api/*\" = \"api\"`",
        ),
        "unexpected leading zero" => {
            ("a number cannot begin with 0", "here", "remove the zero, or put it in quotes")
        }
        "carriage return must be followed by newline" | "invalid comment character" => {
            ("there is a control character", "here", "remove it")
        }
        m if m.starts_with("cannot extend value") => {
            ("a key that has a value is used as a table", "has a value already", "remove one of the two")
        }
        other => {
            let fault = Fault::new(format!("this is not TOML: {other}")).at(span, "here");
            return (
                fault.hint("a line is `[table]`, `key = value` or `# comment`; text is in quotes"),
                reach,
            );
        }
    };
    (Fault::new(message).at(span, label).hint(hint), reach)
}

/// Where to point: never at nothing, never at a line break.
fn shown_span(error: &SyntaxError, text: &str) -> Range<usize> {
    let start = source::floor(text, error.span.start);
    let end = source::floor(text, error.span.end).max(start);
    let at_break = text[start..].chars().next().is_none_or(char::is_whitespace);
    if start == end && at_break {
        let before = text[..start].trim_end();
        let last = before.chars().next_back().map_or(0, char::len_utf8);
        return before.len() - last..before.len();
    }
    start..end
}

fn line_range(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
    let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    start..end
}

fn duplicate(span: Range<usize>, text: &str, tree: &Table) -> (Fault, Reach) {
    let line = line_range(text, span.start);
    let header = text[line.clone()].trim();
    if header.starts_with('[') {
        let fault = Fault::new(format!("the table {} is written twice", quote(header)))
            .at(span, "again here")
            .hint("join the two: all keys of a table stand below one header");
        // The keys below it are twice there only because the table is.
        let first = text[..line.start].find(&format!("{header}\n"));
        let fault = match first {
            Some(first) => fault.and(first..first + header.len(), "first here"),
            None => fault,
        };
        return (fault, Reach::Table);
    }
    let name = text[span.clone()].trim_matches(['"', '\'']).to_owned();
    let fault = Fault::new(format!("{} is written twice", quote(&name)))
        .at(span.clone(), "again here")
        .hint("keep one of the two, or join them");
    let fault = match last_before(tree, &name, span.start) {
        Some(first) => fault.and(first, "first here"),
        None => fault,
    };
    (fault, Reach::Line)
}

/// The last key called `name` in front of `at`.
fn last_before(table: &Table, name: &str, at: usize) -> Option<Range<usize>> {
    let here = table.entries.iter().filter(|entry| entry.key == name && entry.key_span.end <= at);
    let below = table.entries.iter().filter_map(|entry| last_before(entry.node.table()?, name, at));
    here.map(|entry| entry.key_span.clone()).chain(below).max_by_key(|span| span.start)
}
