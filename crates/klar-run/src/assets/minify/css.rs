//! Style sheets (CSS Syntax Module Level 3): comments go, white space becomes one space or none.
//!
//! White space goes only where it cannot part two tokens that would mean something else together: beside braces,
//! semicolons and commas, and after the colon of a declaration. Values of custom properties are for scripts to read, and
//! stay as they are.

use super::Minified;

/// What ends a piece of a style sheet.
type Ends = Option<u8>;

pub fn minify(text: &str) -> Minified {
    shrink(text).map_or(Minified::Broken("its braces, quotes or comments do not match"), Minified::Smaller)
}

fn shrink(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut depth) = (text, 0_usize);
    let mut is_custom = false;
    while !rest.is_empty() {
        let (mut at, mut end) = piece(rest, b"{};")?;
        let piece_is_custom = begins_custom(&rest[..at]);
        if piece_is_custom {
            // Braces may be a part of its value.
            (at, end) = piece(rest, b"};")?;
        }
        let inner = &rest[..at];
        let begun = out.len();
        if piece_is_custom {
            squeeze_comments_before(inner, &mut out)?;
        } else {
            squeeze(inner, depth > 0 && end != Some(b'{'), &mut out)?;
        }
        match end {
            Some(b'{') => {
                depth += 1;
                out.push('{');
            }
            Some(b'}') => {
                depth = depth.checked_sub(1)?;
                if out.len() == begun && !is_custom && out.ends_with(';') {
                    out.pop();
                }
                out.push('}');
            }
            // One that ends nothing is nothing.
            Some(_) if !out.ends_with(['{', ';']) || piece_is_custom => out.push(';'),
            Some(_) | None => {}
        }
        is_custom = piece_is_custom;
        rest = &rest[(at + usize::from(end.is_some())).min(rest.len())..];
    }
    (depth == 0).then_some(out)
}

/// Whether a piece declares a custom property.
fn begins_custom(piece: &str) -> bool {
    let mut rest = piece.trim_start();
    while let Some(behind) = rest.strip_prefix("/*") {
        let Some((_, after)) = behind.split_once("*/") else { return false };
        rest = after.trim_start();
    }
    rest.starts_with("--") && rest.contains(':')
}

/// Where a piece ends that goes up to one of `ends`, outside of quotes, comments, parentheses and inner braces.
fn piece(text: &str, ends: &[u8]) -> Option<(usize, Ends)> {
    let bytes = text.as_bytes();
    let mut open = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if open.is_empty() && ends.contains(&byte) {
            return Some((at, Some(byte)));
        }
        match byte {
            b'(' => open.push(b')'),
            b'[' => open.push(b']'),
            b'{' => open.push(b'}'),
            b')' | b']' | b'}' if open.pop() != Some(byte) => return None,
            _ => {}
        }
        at = token_end(text, at)?;
    }
    open.is_empty().then_some((bytes.len(), None))
}

/// The end of what begins at `at`: of a text in quotes, a comment, an escape, an address without quotes, or one sign.
fn token_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    match bytes[at] {
        quote @ (b'"' | b'\'') => {
            let mut end = at + 1;
            while *bytes.get(end)? != quote {
                match bytes[end] {
                    b'\n' => return None,
                    b'\\' => end += 2,
                    _ => end += 1,
                }
            }
            Some(end + 1)
        }
        b'/' if bytes.get(at + 1) == Some(&b'*') => text[at + 2..].find("*/").map(|found| at + 2 + found + 2),
        b'\\' => {
            let hex = bytes[at + 1..].iter().take(6).take_while(|byte| byte.is_ascii_hexdigit()).count();
            if hex > 0 {
                // One white space after it is a part of it (section 4.3.7).
                let white = bytes.get(at + 1 + hex).is_some_and(u8::is_ascii_whitespace);
                return Some(at + 1 + hex + usize::from(white));
            }
            let char = text[at + 1..].chars().next()?;
            Some(at + 1 + char.len_utf8())
        }
        b'u' | b'U' if is_plain_url(text, at) => {
            // Its closing parenthesis is counted by who counts them; up to there nothing has a meaning.
            let mut end = at + 4;
            while *bytes.get(end)? != b')' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            Some(end + 1)
        }
        byte if byte < 0x80 => Some(at + 1),
        _ => text[at..].chars().next().map(|char| at + char.len_utf8()),
    }
}

/// Whether `url(` begins here, and what is in it has no quotes.
fn is_plain_url(text: &str, at: usize) -> bool {
    let named =
        text.as_bytes()[..at].last().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    let rest = &text.as_bytes()[at..];
    !named
        && rest.len() >= 4
        && rest[..4].eq_ignore_ascii_case(b"url(")
        && !rest[4..].trim_ascii_start().starts_with(b"\"")
        && !rest[4..].trim_ascii_start().starts_with(b"'")
}

/// The declaration of a custom property, as it is, without the comments before it.
fn squeeze_comments_before(piece: &str, out: &mut String) -> Option<()> {
    let mut rest = piece.trim_start();
    while let Some(behind) = rest.strip_prefix("/*") {
        rest = behind.split_once("*/")?.1.trim_start();
    }
    out.push_str(rest);
    Some(())
}

/// What comes before a `{`, or a declaration.
fn squeeze(piece: &str, is_declaration: bool, out: &mut String) -> Option<()> {
    let bytes = piece.as_bytes();
    let begun = out.len();
    let (mut at, mut space, mut comment, mut colon) = (0, false, false, false);
    while at < bytes.len() {
        if bytes[at].is_ascii_whitespace() {
            space = true;
            at += 1;
            continue;
        }
        let end = token_end(piece, at)?.min(piece.len());
        let token = &piece[at..end];
        if token.starts_with("/*") && !token.starts_with("/*!") {
            comment = true;
            at = end;
            continue;
        }
        let before = if out.len() == begun { None } else { out.as_bytes().last().copied() };
        let joins = before.is_none_or(|byte| byte == b',') || token.starts_with(',');
        let after_colon = is_declaration && colon && before == Some(b':') && out.len() > begun;
        if space && !joins && !after_colon {
            out.push(' ');
        } else if comment && !joins && !space && !after_colon {
            // It parted two tokens that would be one.
            out.push_str("/**/");
        }
        out.push_str(token);
        colon = is_declaration && token == ":" && !piece[..at].contains(':');
        (space, comment) = (false, false);
        at = end;
    }
    Some(())
}
