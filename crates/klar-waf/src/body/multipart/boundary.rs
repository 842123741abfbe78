//! The boundary in the header `Content-Type`.

use memchr::{memchr, memmem};

use super::Flags;
use crate::transform::is_space;

/// A header that is longer is refused.
const LENGTH_MAX: usize = 1024;
const TYPE: &[u8] = b"multipart/form-data";
const PARAMETER: &[u8] = b"boundary";

/// What is wrong with the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BoundaryFault {
    /// Longer than 1,024 bytes.
    #[error("invalid boundary (length)")]
    Length,
    /// Not `multipart/form-data`.
    #[error("invalid MIME type")]
    Type,
    /// Several parameters `boundary`.
    #[error("multiple boundary parameters")]
    Several,
    /// None.
    #[error("boundary not found")]
    Missing,
    /// None in small letters.
    #[error("invalid boundary (case sensitivity)")]
    Case,
    /// Something stands between the type and the parameter, or its `=` is missing.
    #[error("invalid boundary (malformed)")]
    Malformed,
    /// Something stands between the parameter's name and its `=`.
    #[error("invalid boundary (parameter name)")]
    Name,
    /// A quote on one side alone.
    #[error("invalid boundary (quote)")]
    Quote,
    /// The boundary has a parameter `boundary` in it.
    #[error("invalid boundary (content)")]
    Content,
    /// A character that no boundary has (RFC 2046, 5.1.1).
    #[error("invalid boundary (characters)")]
    Characters,
    /// Nothing.
    #[error("invalid boundary (empty)")]
    Empty,
}

/// A boundary with its two dashes.
pub(super) struct Boundary {
    bytes: [u8; LENGTH_MAX + 2],
    length: usize,
}

impl Boundary {
    fn new(name: &[u8]) -> Self {
        let mut bytes = [b'-'; LENGTH_MAX + 2];
        for (to, from) in bytes.iter_mut().skip(2).zip(name) {
            *to = *from;
        }
        Self { bytes, length: 2 + name.len().min(LENGTH_MAX) }
    }

    /// As it begins a line.
    pub(super) fn with_dashes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// As it stands in the header.
    pub(super) fn name(&self) -> &[u8] {
        self.bytes.get(2..self.length).unwrap_or_default()
    }
}

/// Reads the header.
pub(super) fn find(header: &[u8], flags: &mut Flags) -> Result<Boundary, BoundaryFault> {
    use BoundaryFault as Fault;
    if header.len() > LENGTH_MAX {
        return Err(Fault::Length);
    }
    let (kind, parameters) = header.split_at_checked(TYPE.len()).ok_or(Fault::Type)?;
    if !kind.eq_ignore_ascii_case(TYPE) {
        return Err(Fault::Type);
    }
    let count = parameters_in(header);
    if count > 1 {
        return Err(Fault::Several);
    }
    let Some(at) = memmem::find(parameters, PARAMETER) else {
        return Err(if count > 0 { Fault::Case } else { Fault::Missing });
    };
    let (between, rest) = parameters.split_at(at);
    let mut seen = between.iter().filter(|byte| !is_space(**byte));
    match (seen.next(), seen.next()) {
        (None, _) => flags.missing_semicolon = true,
        (Some(b';'), None) => {}
        _ => return Err(Fault::Malformed),
    }
    let rest = rest.get(PARAMETER.len()..).unwrap_or_default();
    let equals = memchr(b'=', rest).ok_or(Fault::Malformed)?;
    let (before, value) = rest.split_at(equals);
    if !before.iter().all(|byte| is_space(*byte)) {
        return Err(Fault::Name);
    }
    let value = value.get(1..).unwrap_or_default();
    flags.boundary_whitespace |= !before.is_empty() || value.first().is_some_and(|byte| is_space(*byte));
    let name = match value {
        [b'"', name @ .., b'"'] => {
            flags.boundary_quoted = true;
            name
        }
        [b'"', ..] | [_, .., b'"'] => return Err(Fault::Quote),
        name => name,
    };
    if parameters_in(name) > 0 {
        return Err(Fault::Content);
    }
    // Some programs put another parameter behind the boundary.
    let name = match (is_valid(name), memchr(b';', name)) {
        (false, Some(end)) => name.get(..end).unwrap_or_default(),
        _ => name,
    };
    match name {
        [] => Err(Fault::Empty),
        name if !is_valid(name) => Err(Fault::Characters),
        name => Ok(Boundary::new(name)),
    }
}

/// How many times the parameter stands in it, whatever the case of its letters.
fn parameters_in(text: &[u8]) -> usize {
    let last_equals = memchr::memrchr(b'=', text).unwrap_or(0);
    text.windows(PARAMETER.len())
        .take(last_equals.saturating_sub(PARAMETER.len() - 1))
        .filter(|window| window.eq_ignore_ascii_case(PARAMETER))
        .count()
}

/// Whether these are characters of a boundary (RFC 2046, 5.1.1): a space is one, but not the last.
fn is_valid(name: &[u8]) -> bool {
    let is_one = |byte: &u8| byte.is_ascii_alphanumeric() || b" '()+_,-./:=?".contains(byte);
    name.iter().all(is_one) && name.last() != Some(&b' ')
}
