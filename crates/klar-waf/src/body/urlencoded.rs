//! Forms, query strings and cookies: pairs of names and values with something between them.

use memchr::memchr;

use super::{Limit, Limits};
use crate::bytes::Pairs;
use crate::transform::{trimmed_left, trimmed_right, url_decode};

/// What a form or a query string came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Form {
    /// Whether a `%` was not followed by two hexadecimal digits (`URLENCODED_ERROR`); such ones are left as they are.
    pub is_invalid: bool,
    /// What there was too much of. What stands behind it was not looked at.
    pub limit: Option<Limit>,
}

/// Reads a form (`application/x-www-form-urlencoded`) or a query string, decoding names and values.
///
/// `separator` is `&` but where `SecArgumentSeparator` says otherwise. As in libmodsecurity, nothing between two of
/// them is an argument with an empty name, and nothing behind the last is none.
pub fn read(text: &[u8], separator: u8, limits: &Limits, pairs: &mut Pairs) -> Form {
    let mut form = Form { is_invalid: false, limit: None };
    for piece in pieces(text, separator) {
        if let Err(limit) = limits.admit(pairs, piece.len()) {
            form.limit = Some(limit);
            break;
        }
        let (name, value) = split(piece);
        let (mut is_name_valid, mut is_value_valid) = (true, true);
        pairs.push_with(
            |out| is_name_valid = url_decode(name, out),
            |out| is_value_valid = url_decode(value, out),
        );
        form.is_invalid |= !is_name_valid || !is_value_valid;
    }
    form
}

/// Reads the value of a `Cookie` header, as it stands: nothing is decoded, and white space before names is left out, as
/// is what follows the last value. Cookies without a name are no cookies.
///
/// # Errors
/// There are more than `limits` lets pass; those before are in `pairs`.
pub fn cookies(header: &[u8], limits: &Limits, pairs: &mut Pairs) -> Result<(), Limit> {
    // What stands behind the last semicolon is the last cookie, unless it is nothing.
    let header = trimmed_right(header.strip_suffix(b";").unwrap_or(header));
    for piece in pieces(header, b';') {
        let (name, value) = split(piece);
        let name = trimmed_left(name);
        if !name.is_empty() {
            limits.push(pairs, name, value)?;
        }
    }
    Ok(())
}

/// The pieces between separators, without the empty one behind the last.
fn pieces(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr(separator, rest).unwrap_or(rest.len());
        let piece = rest.get(..end)?;
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(piece)
    })
}

/// Name and value around the first `=`; all is name where there is none.
fn split(piece: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b'=', piece).and_then(|at| piece.split_at_checked(at)) {
        Some((name, value)) => (name, value.get(1..).unwrap_or_default()),
        None => (piece, b""),
    }
}
