//! JSON (RFC 8259) as names and values, without a tree.
//!
//! `{"a":{"list":[1,{"b":null}]}}` gives `json.a.list.array_0` = `1` and `json.a.list.array_1.b` = nothing, and a body
//! that is a single value gives `json`. Numbers stand as they were written, `null` is empty, empty objects and arrays
//! give nothing, and an empty name is `empty-key`.
//!
//! Two names are deeper than they look: nothing escapes a dot in a name, so that `{"a.b":1}` and `{"a":{"b":1}}` share
//! one. Rules and exclusions know no other names.

use memchr::memchr2;

use super::{Limit, Limits, Outcome, Stop};
use crate::bytes::Pairs;
use crate::transform::decimal;

/// What is wrong with a body that should be JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The body ends before the value does.
    #[error("JSON: ends too early")]
    End,
    /// Something else has to stand here.
    #[error("JSON: unexpected character")]
    Unexpected,
    /// Neither `true`, `false` nor `null`, or a number that is written in a way that JSON does not know.
    #[error("JSON: invalid literal or number")]
    Literal,
    /// A backslash in a string with something behind it that JSON does not know.
    #[error("JSON: invalid escape in a string")]
    Escape,
    /// A control character in a string.
    #[error("JSON: control character in a string")]
    Control,
    /// Something follows the value.
    #[error("JSON: data after the value")]
    Trailing,
}

/// An array or an object that is open.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// How long the path is up to what it holds: with the dot, or with `.array_`.
    path_end: usize,
    /// The elements so far; `None`: an object.
    elements: Option<usize>,
}

/// Reads bodies; keeps its buffers.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    path: Vec<u8>,
    levels: Vec<Level>,
    text: Vec<u8>,
}

impl Reader {
    /// Puts all values of a body into `pairs`. An empty body is none, and complete.
    ///
    /// Bytes in strings that are no UTF-8 are passed on as they are.
    pub fn read(&mut self, body: &[u8], limits: &Limits, pairs: &mut Pairs) -> Outcome<Fault> {
        if body.is_empty() {
            return Outcome::Complete;
        }
        self.path.clear();
        self.path.extend_from_slice(b"json");
        self.levels.clear();
        Reading { reader: self, input: Input { body, at: 0 }, limits, pairs }.value_and_end().into()
    }
}

struct Reading<'a> {
    reader: &'a mut Reader,
    input: Input<'a>,
    limits: &'a Limits,
    pairs: &'a mut Pairs,
}

type Read<T> = Result<T, Stop<Fault>>;

impl Reading<'_> {
    fn value_and_end(&mut self) -> Read<()> {
        loop {
            let is_open = self.value_begin()?;
            if !is_open && !self.value_end()? {
                break;
            }
        }
        match self.input.next_token() {
            None => Ok(()),
            Some(_) => Err(self.input.fault(Fault::Trailing)),
        }
    }

    /// Reads a single value, or the beginning of an array or an object up to its first value. Says whether a value has
    /// to follow.
    fn value_begin(&mut self) -> Read<bool> {
        match self.input.next_token() {
            Some(b'{') => {
                self.open(None)?;
                if self.input.take_token(b'}') {
                    self.close();
                    return Ok(false);
                }
                self.name()?;
                Ok(true)
            }
            Some(b'[') => {
                self.open(Some(0))?;
                if self.input.take_token(b']') {
                    self.close();
                    return Ok(false);
                }
                Ok(true)
            }
            Some(b'"') => {
                self.reader.text.clear();
                let read = self.input.string(&mut self.reader.text);
                // What is half read is looked at, too.
                let pushed = self.push_with(|reader| &reader.text);
                read.and(pushed)?;
                Ok(false)
            }
            Some(b'-' | b'0'..=b'9') => {
                let begin = self.input.at;
                self.input.number()?;
                self.push_span(begin)
            }
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => {
                self.input.literal(b"null")?;
                self.push_with(|_| b"")?;
                Ok(false)
            }
            _ => Err(self.input.unexpected()),
        }
    }

    /// Goes on behind a value: to the next one (`true`), or out of all arrays and objects that end here.
    fn value_end(&mut self) -> Read<bool> {
        while let Some(level) = self.reader.levels.last().copied() {
            self.reader.path.truncate(level.path_end);
            match (self.input.next_token(), level.elements) {
                (Some(b','), None) => {
                    self.input.at += 1;
                    self.name()?;
                    return Ok(true);
                }
                (Some(b','), Some(count)) => {
                    self.input.at += 1;
                    if let Some(level) = self.reader.levels.last_mut() {
                        level.elements = Some(count + 1);
                    }
                    return Ok(true);
                }
                (Some(b'}'), None) | (Some(b']'), Some(_)) => {
                    self.input.at += 1;
                    self.close();
                }
                _ => return Err(self.input.unexpected()),
            }
        }
        Ok(false)
    }

    /// Goes into an array or an object.
    fn open(&mut self, elements: Option<usize>) -> Read<()> {
        if self.reader.levels.len() >= self.limits.depth {
            return Err(Limit::Depth.into());
        }
        self.input.at += 1;
        self.element();
        self.reader.path.extend_from_slice(if elements.is_some() { b".array_" } else { b"." });
        self.reader.levels.push(Level { path_end: self.reader.path.len(), elements });
        Ok(())
    }

    fn close(&mut self) {
        self.reader.levels.pop();
    }

    /// Puts the number of an element into the path, where it is one.
    fn element(&mut self) {
        if let Some(Level { elements: Some(count), .. }) = self.reader.levels.last() {
            decimal(*count, &mut self.reader.path);
        }
    }

    /// Reads a name and its colon.
    fn name(&mut self) -> Read<()> {
        if self.input.next_token() != Some(b'"') {
            return Err(self.input.unexpected());
        }
        let begin = self.reader.path.len();
        let read = self.input.string(&mut self.reader.path);
        if read.is_err() {
            // A name that is half read is looked at as one without a value.
            self.push_with(|_| b"")?;
        }
        read?;
        if self.reader.path.len() == begin {
            self.reader.path.extend_from_slice(b"empty-key");
        }
        if self.input.take_token(b':') { Ok(()) } else { Err(self.input.unexpected()) }
    }

    fn literal(&mut self, literal: &[u8]) -> Read<bool> {
        let begin = self.input.at;
        self.input.literal(literal)?;
        self.push_span(begin)
    }

    /// A value that stands in the body as it is.
    fn push_span(&mut self, begin: usize) -> Read<bool> {
        let end = self.input.at;
        let body = self.input.body;
        self.push_with(|_| body.get(begin..end).unwrap_or_default())?;
        Ok(false)
    }

    fn push_with<'r>(&'r mut self, value: impl FnOnce(&'r Reader) -> &'r [u8]) -> Read<()> {
        self.element();
        let reader = &*self.reader;
        self.limits.push(self.pairs, &reader.path, value(reader))?;
        Ok(())
    }
}

/// The body, and how far it is read.
struct Input<'a> {
    body: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn rest(&self) -> &[u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn fault(&self, fault: Fault) -> Stop<Fault> {
        Stop::Fault(fault, self.at)
    }

    fn unexpected(&self) -> Stop<Fault> {
        self.fault(if self.at < self.body.len() { Fault::Unexpected } else { Fault::End })
    }

    /// The next byte that is no white space; it is not taken.
    fn next_token(&mut self) -> Option<u8> {
        let white =
            self.rest().iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.at += white;
        self.peek()
    }

    fn take_token(&mut self, token: u8) -> bool {
        let is_next = self.next_token() == Some(token);
        self.at += usize::from(is_next);
        is_next
    }

    fn literal(&mut self, literal: &[u8]) -> Read<()> {
        let rest = self.rest();
        if rest.starts_with(literal) {
            self.at += literal.len();
            Ok(())
        } else if literal.starts_with(rest) {
            self.at = self.body.len();
            Err(self.fault(Fault::End))
        } else {
            Err(self.fault(Fault::Literal))
        }
    }

    /// Passes over digits; at least one has to be there.
    fn digits(&mut self) -> Read<()> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        match count {
            0 if self.at == self.body.len() => Err(self.fault(Fault::End)),
            0 => Err(self.fault(Fault::Literal)),
            _ => Ok(()),
        }
    }

    fn number(&mut self) -> Read<()> {
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
            if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return Err(self.fault(Fault::Literal));
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    /// Decodes a string, of which the opening quote comes next, into `out`; what stands before a mistake is there.
    fn string(&mut self, out: &mut Vec<u8>) -> Read<()> {
        self.at += 1;
        loop {
            let rest = self.body.get(self.at..).unwrap_or_default();
            // Long texts are passed over at the speed of memory; what is in them is looked at behind that.
            let run = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            let run = rest.get(..run).unwrap_or_default();
            let plain = run.iter().position(|byte| *byte < 0x20);
            out.extend_from_slice(run.get(..plain.unwrap_or(run.len())).unwrap_or_default());
            self.at += plain.unwrap_or(run.len());
            if plain.is_some() {
                return Err(self.fault(Fault::Control));
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => self.escape(out)?,
                None => return Err(self.fault(Fault::End)),
            }
        }
    }

    /// Decodes one escape, of which the backslash comes next.
    fn escape(&mut self, out: &mut Vec<u8>) -> Read<()> {
        let letter = match self.body.get(self.at + 1) {
            None => {
                self.at = self.body.len();
                return Err(self.fault(Fault::End));
            }
            Some(b'u') => return self.unicode_escape(out),
            Some(letter) => *letter,
        };
        out.push(match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            _ => return Err(self.fault(Fault::Escape)),
        });
        self.at += 2;
        Ok(())
    }

    /// The number of `\u` and four digits at `at`.
    fn code(&self, at: usize) -> Option<u32> {
        let [b'\\', b'u', digits @ ..] = self.body.get(at..at + 6)? else { return None };
        digits.iter().try_fold(0, |code, digit| Some((code << 4) | char::from(*digit).to_digit(16)?))
    }

    fn unicode_escape(&mut self, out: &mut Vec<u8>) -> Read<()> {
        let Some(code) = self.code(self.at) else {
            let digits = self.rest().iter().skip(2).take_while(|byte| byte.is_ascii_hexdigit()).count();
            if self.at + 2 + digits == self.body.len() {
                self.at = self.body.len();
                return Err(self.fault(Fault::End));
            }
            return Err(self.fault(Fault::Escape));
        };
        self.at += 6;
        let code = match code {
            0xd800..=0xdbff => match self.code(self.at) {
                Some(low @ 0xdc00..=0xdfff) => {
                    self.at += 6;
                    0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00)
                }
                _ => code,
            },
            _ => code,
        };
        match char::from_u32(code) {
            Some(character) => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            // Half of a pair, which RFC 8259 lets pass (section 8.2): the three bytes it would have.
            None => out.extend([
                0xe0 | (code >> 12) as u8,
                0x80 | ((code >> 6) & 0x3f) as u8,
                0x80 | (code & 0x3f) as u8,
            ]),
        }
        Ok(())
    }
}
