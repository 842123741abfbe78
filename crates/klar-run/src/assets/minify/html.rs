//! Pages (HTML): comments go, and white space in texts becomes one sign.
//!
//! It becomes one and never none, as one sign of it can show. Where styles show it as written, where a framework takes
//! the page over in the browser and compares it with what it expects, and inside of elements whose content is no markup
//! or shows as written, everything stays.

use super::{Minified, keeps_spaces};

/// What is in them stays as it is.
const RAW: [&str; 10] =
    ["pre", "textarea", "script", "style", "xmp", "plaintext", "listing", "iframe", "noembed", "noframes"];
/// Marks of frameworks that take over a page which a server has drawn.
const TAKEN_OVER: [&str; 10] = [
    "<!--$",
    "<!--[",
    "data-reactroot",
    "__NEXT_DATA__",
    "data-server-rendered",
    "ng-version",
    "astro-island",
    "q:container",
    "data-hk=",
    "data-sveltekit-hydrate",
];
/// Shorter comments are marks that somebody looks for, in bytes with their signs.
const MARK_MAX: usize = 16;

pub fn minify(text: &str, site_keeps_spaces: bool) -> Minified {
    let is_taken_over = TAKEN_OVER.iter().filter(|mark| **mark != "<!--[").any(|mark| text.contains(mark))
        || (text.contains("<!--[") && !text.contains("<!--[if"));
    if site_keeps_spaces || is_taken_over || keeps_spaces(text) {
        return Minified::Same;
    }
    shrink(text).map_or(Minified::Broken("a comment, tag or element in it does not end"), Minified::Smaller)
}

fn shrink(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let start = rest.find('<').unwrap_or(rest.len());
        squeeze(&rest[..start], &mut out);
        rest = &rest[start..];
        if rest.is_empty() {
            break;
        }
        if rest.starts_with("<!--") {
            let end = rest.find("-->")? + 3;
            if is_kept(&rest[..end]) {
                out.push_str(&rest[..end]);
            }
            rest = &rest[end..];
        } else if rest[1..]
            .starts_with(|next: char| next.is_ascii_alphabetic() || matches!(next, '/' | '!' | '?'))
        {
            let end = tag_end(rest)?;
            out.push_str(&rest[..end]);
            let name =
                rest[1..end].split(|char: char| char.is_ascii_whitespace() || matches!(char, '/' | '>'));
            let name = name.take(1).next().unwrap_or_default().to_ascii_lowercase();
            rest = &rest[end..];
            if RAW.contains(&name.as_str()) {
                let close = format!("</{name}");
                let end = rest.char_indices().map(|(at, _)| at).find(|at| {
                    rest.get(*at..at + close.len()).is_some_and(|word| word.eq_ignore_ascii_case(&close))
                })?;
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
        } else {
            out.push('<');
            rest = &rest[1..];
        }
    }
    Some(out)
}

/// Comments for programs: conditions of old browsers, licences, includes, marks.
fn is_kept(comment: &str) -> bool {
    let words = &comment[4..comment.len().saturating_sub(3).max(4)];
    comment.len() <= MARK_MAX
        || words.starts_with(['[', '!', '#', '$', '/', '<', '?'])
        || words.contains("[endif]")
        || words.trim_start().starts_with("ko ")
}

/// Where a tag ends: at a `>` outside of quotes.
fn tag_end(text: &str) -> Option<usize> {
    let (mut quote, mut is_value) = (None, false);
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            // A quote begins a value only after an equals sign.
            (None, b'"' | b'\'') if is_value => quote = Some(byte),
            (Some(known), byte) if known == byte => quote = None,
            _ => {}
        }
        if quote.is_none() && !byte.is_ascii_whitespace() {
            is_value = byte == b'=';
        }
    }
    None
}

/// White space of several signs becomes one: a line end, if there is one in it.
fn squeeze(words: &str, out: &mut String) {
    let mut rest = words;
    while let Some(first) = rest.chars().next() {
        let is_white = |char: char| matches!(char, ' ' | '\t' | '\n' | '\r' | '\x0c');
        let end = rest.find(|char| is_white(char) != is_white(first)).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        if is_white(first) {
            // A comment between two of them has gone.
            let follows = out.ends_with([' ', '\n']);
            let sign = if run.contains('\n') { '\n' } else { ' ' };
            if !follows {
                out.push(sign);
            }
        } else {
            out.push_str(run);
        }
        rest = behind;
    }
}
