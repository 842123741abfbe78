//! Drawings (SVG): comments, and white space between tags, where the drawing has no text of its own.

use super::Minified;

/// With one of these, white space may show, or something else than a drawing is in it.
const NOT_PLAIN: [&str; 10] = [
    "<text",
    "<style",
    "<script",
    "<foreignObject",
    "xml:space",
    "<![CDATA[",
    "<!DOCTYPE",
    "<!ENTITY",
    "white-space",
    "<tspan",
];

pub fn minify(text: &str) -> Minified {
    if NOT_PLAIN.iter().any(|word| text.contains(word)) {
        return Minified::Same;
    }
    shrink(text).map_or(Minified::Broken("its tags do not match"), Minified::Smaller)
}

fn shrink(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let (words, behind) = rest.split_at(start);
        if !words.trim().is_empty() {
            out.push_str(words);
        }
        rest = behind;
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.split_once("-->")?.1;
            continue;
        }
        let end = tag_end(rest)?;
        let tag = &rest[..end];
        let name = |from: usize| {
            tag[from..].split(|char: char| char.is_whitespace() || matches!(char, '/' | '>')).next()
        };
        if tag.starts_with("</") {
            if open.pop()? != name(2)? {
                return None;
            }
        } else if !tag.starts_with("<?") && !tag.ends_with("/>") {
            open.push(name(1)?);
        }
        squeeze(tag, &mut out);
        rest = &rest[end..];
    }
    (open.is_empty() && rest.trim().is_empty()).then_some(out)
}

fn tag_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(known), byte) if known == byte => quote = None,
            _ => {}
        }
    }
    None
}

/// One space between attributes, and what is in quotes as it is.
fn squeeze(tag: &str, out: &mut String) {
    let (mut quote, mut space) = (None, false);
    for char in tag.chars() {
        if quote.is_none() && char.is_whitespace() {
            space = true;
            continue;
        }
        if space && !matches!(char, '>' | '/') {
            out.push(' ');
        }
        space = false;
        match quote {
            None if matches!(char, '"' | '\'') => quote = Some(char),
            Some(known) if known == char => quote = None,
            _ => {}
        }
        out.push(char);
    }
}
