//! The header `Content-Disposition` of a part.

use super::Flags;
use crate::bytes::Pairs;

/// What is wrong with the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DispositionFault {
    /// Not `form-data`.
    #[error("not form-data")]
    Type,
    /// Something else than `;` between parameters.
    #[error("semicolon expected")]
    Semicolon,
    /// It ends where a parameter should begin, or go on.
    #[error("incomplete parameter")]
    Incomplete,
    /// No `=` behind a name.
    #[error("equals sign expected")]
    Equals,
    /// A quote that is left open.
    #[error("missing closing quote")]
    Quote,
    /// A parameter that is neither `name` nor `filename` nor `filename*`.
    #[error("unknown parameter")]
    Unknown,
    /// A parameter that stands twice.
    #[error("duplicate parameter")]
    Duplicate,
    /// A `filename*` that is not written as RFC 8187 wants it.
    #[error("invalid extended file name")]
    Extended,
    /// A `filename*` without a `filename`.
    #[error("extended file name alone")]
    ExtendedAlone,
    /// A file name that simple programs do not find.
    #[error("hidden file name")]
    Hidden,
}

/// The parameters that count; keeps its buffers.
#[derive(Debug, Clone, Default)]
pub(super) struct Disposition {
    /// Each `name`, in their order.
    pub(super) names: Pairs,
    /// Each `filename`.
    pub(super) file_names: Pairs,
    has_extended: bool,
    value: Vec<u8>,
}

impl Disposition {
    pub(super) fn clear(&mut self) {
        self.names.clear();
        self.file_names.clear();
        self.has_extended = false;
    }

    /// The name of the part; empty where it has none.
    pub(super) fn name(&self) -> &[u8] {
        self.names.get(0).map_or(b"", |(_, name)| name)
    }

    /// The name of the file; empty where it is none.
    pub(super) fn file_name(&self) -> &[u8] {
        self.file_names.get(0).map_or(b"", |(_, name)| name)
    }

    /// Reads the value of the header. What was read before a fault stays.
    pub(super) fn read(&mut self, header: &[u8], flags: &mut Flags) -> Result<(), DispositionFault> {
        use DispositionFault as Fault;
        self.clear();
        let mut input = Input(header.strip_prefix(b"form-data").ok_or(Fault::Type)?);
        input.blanks();
        if input.0.is_empty() {
            return Ok(());
        }
        input.take(b';').ok_or(Fault::Semicolon)?;
        while !input.0.is_empty() {
            self.parameter(&mut input, flags)?;
            input.blanks();
            if !input.0.is_empty() && input.take(b';').is_none() {
                // A quote in the middle, as in `name="a"b"`.
                flags.invalid_quoting |= matches!(input.before(header), Some(b'"' | b'\''));
                return Err(Fault::Semicolon);
            }
        }
        if self.has_extended && self.file_name().is_empty() {
            return Err(Fault::ExtendedAlone);
        }
        let is_found = memchr::memmem::find(header, b"filename=").is_some();
        if !self.file_name().is_empty() && !is_found { Err(Fault::Hidden) } else { Ok(()) }
    }

    fn parameter(&mut self, input: &mut Input<'_>, flags: &mut Flags) -> Result<(), DispositionFault> {
        use DispositionFault as Fault;
        input.blanks();
        let name = input.while_in(|byte| !matches!(byte, b'=' | b'\t' | b' '));
        input.blanks();
        if input.0.is_empty() {
            return Err(Fault::Incomplete);
        }
        input.take(b'=').ok_or(Fault::Equals)?;
        input.blanks();
        if input.0.is_empty() {
            return Err(Fault::Incomplete);
        }
        self.value.clear();
        if name == b"filename*" {
            input.extended()?;
            if std::mem::replace(&mut self.has_extended, true) {
                return Err(Fault::Duplicate);
            }
            return Ok(());
        }
        let is_double = match input.0.first().copied() {
            Some(quote @ (b'"' | b'\'')) => {
                flags.invalid_quoting |= quote == b'\'';
                input.quoted(quote, &mut self.value)?;
                quote == b'"'
            }
            _ => {
                self.value.extend_from_slice(input.while_in(is_token));
                false
            }
        };
        let all = match name {
            b"name" => &mut self.names,
            b"filename" => &mut self.file_names,
            _ => return Err(Fault::Unknown),
        };
        flags.invalid_quoting |= !is_double && self.value.contains(&b'\'');
        let is_first = all.get(0).is_none_or(|(_, first)| first.is_empty());
        if is_first {
            // An empty one does not count, and the next one is the first.
            all.clear();
        }
        all.push(b"", &self.value);
        if is_first { Ok(()) } else { Err(Fault::Duplicate) }
    }
}

/// The rest of the header.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn while_in(&mut self, is_in: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !is_in(*byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn blanks(&mut self) {
        self.while_in(|byte| matches!(byte, b'\t' | b' '));
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[wanted])?;
        Some(())
    }

    /// The byte before the rest.
    fn before(&self, header: &[u8]) -> Option<u8> {
        header.len().checked_sub(self.0.len() + 1).and_then(|at| header.get(at)).copied()
    }

    /// A value in quotes, of which the first comes next. A backslash counts only before a quote of this kind or before
    /// another: browsers have sent paths of Windows as they are.
    fn quoted(&mut self, quote: u8, value: &mut Vec<u8>) -> Result<(), DispositionFault> {
        let mut rest = self.0.get(1..).unwrap_or_default();
        loop {
            rest = match *rest {
                [] | [b'\\'] => return Err(DispositionFault::Quote),
                [b'\\', escaped, ref after @ ..] if escaped == quote || escaped == b'\\' => {
                    value.push(escaped);
                    after
                }
                [byte, ref after @ ..] => {
                    if byte == quote {
                        self.0 = after;
                        return Ok(());
                    }
                    value.push(byte);
                    after
                }
            };
        }
    }

    /// `UTF-8'en'na%20me` (RFC 8187).
    fn extended(&mut self) -> Result<(), DispositionFault> {
        let fault = DispositionFault::Extended;
        let charset = self.while_in(|byte| byte.is_ascii_alphanumeric() || b"!#$%&+-^_`{}~".contains(&byte));
        if charset.is_empty() {
            return Err(fault);
        }
        self.take(b'\'').ok_or(fault)?;
        self.while_in(|byte| byte != b'\'');
        self.take(b'\'').ok_or(fault)?;
        loop {
            match *self.0 {
                [] | [b';', ..] => return Ok(()),
                [b'%', high, low, ref after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    self.0 = after;
                }
                [byte, ref after @ ..] if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`~".contains(&byte) => {
                    self.0 = after;
                }
                _ => return Err(fault),
            }
        }
    }
}

/// A character of a token (RFC 2045).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte)
}
