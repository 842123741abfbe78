//! The pieces of XML: names, references, comments, instructions, declarations.

use memchr::{memchr, memmem};

use super::{Fault, Read, Stop};
use crate::bytes::Presence;

/// Characters that XML does not have.
const CONTROL: Presence = Presence::range(0, 0x1f).without(b'\t').without(b'\n').without(b'\r');
const NAME_FIRST: Presence = Presence::range(b'a', b'z')
    .or(&Presence::range(b'A', b'Z'))
    .or(&Presence::all_of(b"_:"))
    .or(&Presence::range(0x80, 0xff));
const NAME: Presence = NAME_FIRST.or(&Presence::range(b'0', b'9')).or(&Presence::all_of(b"-."));

pub(super) fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The run up to its first control character.
pub(super) fn until_control(run: &[u8]) -> &[u8] {
    let end = run.iter().position(|byte| CONTROL.has(*byte)).unwrap_or(run.len());
    run.get(..end).unwrap_or_default()
}

/// The run up to what text cannot hold, and that.
pub(super) fn checked(run: &[u8]) -> (&[u8], Option<Fault>) {
    let good = until_control(run);
    match memmem::find(good, b"]]>") {
        Some(end) => (good.get(..end).unwrap_or_default(), Some(Fault::Markup)),
        None => (good, (good.len() < run.len()).then_some(Fault::Control)),
    }
}

/// Text as it is read: every line end is a line feed (section 2.11).
pub(super) fn text(run: &[u8], out: &mut Vec<u8>) {
    let mut rest = run;
    while let Some((plain, from)) = memchr(b'\r', rest).and_then(|at| rest.split_at_checked(at)) {
        out.extend_from_slice(plain);
        out.push(b'\n');
        rest = match from {
            [_, b'\n', after @ ..] | [_, after @ ..] => after,
            [] => from,
        };
    }
    out.extend_from_slice(rest);
}

/// The value of an attribute as it is read: white space is a space (section 3.3.3).
pub(super) fn attribute(run: &[u8], out: &mut Vec<u8>) {
    let mut before = 0;
    for byte in run {
        match byte {
            // The second byte of a line end.
            b'\n' if before == b'\r' => {}
            b'\t' | b'\n' | b'\r' => out.push(b' '),
            _ => out.push(*byte),
        }
        before = *byte;
    }
}

/// Writes what a reference stands for, of which the `&` comes first; says how long it is, and what is wrong with it.
/// What cannot be read stands as it is.
pub(super) fn entity(rest: &[u8], out: &mut Vec<u8>) -> (usize, Option<Fault>) {
    // The longest that means anything, with zeros before a number to spare.
    const LENGTH_MAX: usize = 64;
    let near = rest.get(..LENGTH_MAX.min(rest.len())).unwrap_or_default();
    let end = memchr(b';', near);
    let inside = end.and_then(|end| rest.get(1..end)).unwrap_or_default();
    let known = match inside {
        b"amp" => Some('&'),
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        [b'#', number @ ..] => character(number),
        _ => None,
    };
    match (known, end) {
        (Some(known), Some(end)) => {
            out.extend_from_slice(known.encode_utf8(&mut [0; 4]).as_bytes());
            (end + 1, None)
        }
        _ => {
            out.push(b'&');
            let is_number = rest.get(1) == Some(&b'#');
            (1, Some(if is_number { Fault::CharacterReference } else { Fault::Entity }))
        }
    }
}

/// The character of a number, where XML has it.
fn character(number: &[u8]) -> Option<char> {
    let (digits, base) = number.strip_prefix(b"x").map_or((number, 10), |digits| (digits, 16));
    if digits.is_empty() {
        return None;
    }
    let code = digits.iter().try_fold(0_u32, |code, digit| {
        code.saturating_mul(base).checked_add(char::from(*digit).to_digit(base)?)
    })?;
    let is_known = match code {
        0..0x20 => matches!(code, 0x9 | 0xa | 0xd),
        _ => !matches!(code, 0xfffe | 0xffff),
    };
    char::from_u32(code).filter(|_| is_known)
}

/// The body, and how far it is read.
pub(super) struct Input<'a> {
    pub(super) body: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    pub(super) fn fault(&self, fault: Fault) -> Stop<Fault> {
        Stop::Fault(fault, self.at)
    }

    /// Passes over white space, and says whether there is any.
    pub(super) fn white(&mut self) -> bool {
        let count = self.rest().iter().take_while(|byte| is_white(**byte)).count();
        self.at += count;
        count > 0
    }

    pub(super) fn expect(&mut self, wanted: u8) -> Read<()> {
        match self.rest().first() {
            Some(byte) if *byte == wanted => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(self.fault(Fault::Unexpected)),
            None => Err(self.fault(Fault::End)),
        }
    }

    /// Passes over a name, and says where it is.
    pub(super) fn name(&mut self) -> Read<(usize, usize)> {
        let begin = self.at;
        match self.rest().first() {
            Some(first) if NAME_FIRST.has(*first) => {}
            Some(_) => return Err(self.fault(Fault::Unexpected)),
            None => return Err(self.fault(Fault::End)),
        }
        self.at += self.rest().iter().take_while(|byte| NAME.has(**byte)).count();
        Ok((begin, self.at))
    }

    /// Passes over everything up to behind `end`, of which `skipped` bytes cannot be part.
    fn until(&mut self, skipped: usize, end: &[u8]) -> Read<&'a [u8]> {
        let inside = self.rest().get(skipped..).unwrap_or_default();
        let Some(length) = memmem::find(inside, end) else {
            return Err(Stop::Fault(Fault::End, self.body.len()));
        };
        let inside = inside.get(..length).unwrap_or_default();
        let good = until_control(inside);
        if good.len() < length {
            return Err(Stop::Fault(Fault::Control, self.at + skipped + good.len()));
        }
        self.at += skipped + length + end.len();
        Ok(inside)
    }

    /// `<!-- -->`.
    pub(super) fn comment(&mut self) -> Read<()> {
        let at = self.at;
        let inside = self.until(4, b"-->")?;
        // A dash before the end makes three of them.
        if memmem::find(inside, b"--").is_some() || inside.last() == Some(&b'-') {
            return Err(Stop::Fault(Fault::Markup, at));
        }
        Ok(())
    }

    /// `<?name ...?>`.
    pub(super) fn instruction(&mut self) -> Read<()> {
        let at = self.at;
        self.at += 2;
        let (begin, end) = self.name()?;
        let name = self.body.get(begin..end).unwrap_or_default();
        let inside = self.until(0, b"?>")?;
        let is_apart = inside.first().is_none_or(|byte| is_white(*byte));
        if name.eq_ignore_ascii_case(b"xml") || !is_apart {
            return Err(Stop::Fault(Fault::Unexpected, at));
        }
        Ok(())
    }

    /// What may stand at the very beginning: a byte order mark, and `<?xml ...?>`, of which only the encoding is read.
    /// Says whether it has to be UTF-8.
    pub(super) fn declaration(&mut self) -> Read<bool> {
        self.at = match self.body {
            // UTF-16 and UTF-32, with and without their marks.
            [0xfe, 0xff, ..] | [0xff, 0xfe, ..] | [0, ..] | [b'<', 0, ..] => {
                return Err(self.fault(Fault::Encoding));
            }
            [0xef, 0xbb, 0xbf, ..] => 3,
            _ => 0,
        };
        let Some([white, ..]) = self.rest().strip_prefix(b"<?xml") else { return Ok(true) };
        if !is_white(*white) {
            return Ok(true);
        }
        let at = self.at;
        let inside = self.until(5, b"?>")?;
        match encoding(inside) {
            None => Ok(true),
            Some(encoding) if is_utf8(encoding) => Ok(true),
            Some(encoding) if is_transparent(encoding) => Ok(false),
            Some(_) => Err(Stop::Fault(Fault::Encoding, at)),
        }
    }

    /// `<!DOCTYPE ...>`, with everything in it. The text of each entity that is declared goes to `entity`.
    pub(super) fn document_type(
        &mut self,
        entity: &mut dyn FnMut(&[u8]) -> Result<(), super::Limit>,
    ) -> Read<()> {
        const BEGIN: &[u8] = b"<!DOCTYPE";
        if !self.rest().starts_with(BEGIN) {
            let is_end = BEGIN.starts_with(self.rest());
            return Err(self.fault(if is_end { Fault::End } else { Fault::Unexpected }));
        }
        self.at += BEGIN.len();
        let (mut is_subset, mut is_entity) = (false, false);
        loop {
            let rest = self.rest();
            match rest {
                [] => return Err(self.fault(Fault::End)),
                [quote @ (b'"' | b'\''), ..] => {
                    let text = self.until(1, std::slice::from_ref(quote))?;
                    if is_entity {
                        entity(text)?;
                    }
                }
                [b'[', ..] => {
                    is_subset = true;
                    self.at += 1;
                }
                [b']', ..] => {
                    is_subset = false;
                    self.at += 1;
                }
                [b'<', b'!', b'-', b'-', ..] if is_subset => self.comment()?,
                [b'<', b'?', ..] if is_subset => self.instruction()?,
                [b'<', ..] if is_subset => {
                    is_entity = rest.starts_with(b"<!ENTITY");
                    if is_entity {
                        // Also one without a text of its own.
                        entity(b"")?;
                    }
                    self.at += 1;
                }
                [b'<', ..] => return Err(self.fault(Fault::Unexpected)),
                [b'>', ..] => {
                    self.at += 1;
                    if !is_subset {
                        return Ok(());
                    }
                    is_entity = false;
                }
                [byte, ..] if CONTROL.has(*byte) => return Err(self.fault(Fault::Control)),
                _ => self.at += 1,
            }
        }
    }
}

/// The encoding that a declaration names.
fn encoding(declaration: &[u8]) -> Option<&[u8]> {
    let at = memmem::find(declaration, b"encoding")?;
    let rest = declaration.get(at..)?;
    let begin = rest.iter().position(|byte| matches!(byte, b'"' | b'\''))?;
    let value = rest.get(begin + 1..)?;
    value.get(..memchr(*rest.get(begin)?, value)?)
}

fn is_utf8(encoding: &[u8]) -> bool {
    [&b"utf-8"[..], b"utf8", b"us-ascii", b"ascii"].iter().any(|name| encoding.eq_ignore_ascii_case(name))
}

/// Whether ASCII is itself in an encoding that is not UTF-8.
fn is_transparent(encoding: &[u8]) -> bool {
    [&b"iso-8859-"[..], b"windows-125"]
        .iter()
        .any(|with| encoding.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with)))
}
