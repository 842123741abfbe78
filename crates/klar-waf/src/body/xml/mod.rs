//! XML 1.0 as the two things that rules ask for: all text, and all attributes.
//!
//! `/*` is the text of the root element with everything in it, without comments and instructions; `//@*` is each
//! attribute but those that declare namespaces. These are the names of the pairs, so that `XML:/*` is found by its key.
//!
//! No document type is loaded and no entity is put in but the five that XML has and characters by number, so that a
//! body never gives more than it has bytes. Who declares entities hides text from whoever does not put them in: that is
//! a fault, and the declared texts are given as further values of `/*`. Bytes are passed on as they are: an encoding in
//! which ASCII is not itself is a fault.
//!
//! What is checked: tags match, attributes are quoted and stand once, there is one root with nothing around it, no
//! control characters, no undeclared entities, valid UTF-8. What is not: namespaces, the characters of names beyond
//! ASCII, and what a document type says.

mod markup;

use memchr::{memchr, memchr2, memmem};

use self::markup::{Input, entity};
use super::{Limit, Limits, Outcome, Stop};
use crate::bytes::Pairs;

/// The key of the text.
pub const TEXT: &[u8] = b"/*";
/// The key of attributes.
pub const ATTRIBUTES: &[u8] = b"//@*";
/// Attributes of one element. Each is compared with those before it.
const ATTRIBUTES_MAX: usize = 256;

/// What is wrong with a body that should be XML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The body ends before its root does, or has none.
    #[error("XML: ends too early")]
    End,
    /// Something else has to stand here.
    #[error("XML: unexpected character")]
    Unexpected,
    /// Text outside of the root.
    #[error("XML: text outside of the root element")]
    Outside,
    /// A second root.
    #[error("XML: several root elements")]
    SecondRoot,
    /// An end tag that is not that of the element that is open.
    #[error("XML: end tag does not match")]
    EndTag,
    /// An attribute that stands twice.
    #[error("XML: duplicate attribute")]
    DuplicateAttribute,
    /// An element with more than 256 attributes.
    #[error("XML: too many attributes in an element")]
    AttributeCount,
    /// `<` in an attribute, `]]>` in text, or `--` in a comment.
    #[error("XML: markup where it cannot stand")]
    Markup,
    /// A control character.
    #[error("XML: control character")]
    Control,
    /// A number that is no character.
    #[error("XML: invalid character reference")]
    CharacterReference,
    /// An entity that is none of the five.
    #[error("XML: unknown entity")]
    Entity,
    /// A document type that declares entities.
    #[error("XML: entities are declared")]
    EntityDeclaration,
    /// A document type that stands elsewhere than before the root, or twice.
    #[error("XML: misplaced document type")]
    DocumentType,
    /// Bytes that are no UTF-8, where no other encoding is declared.
    #[error("XML: invalid UTF-8")]
    Utf8,
    /// An encoding that cannot be looked through.
    #[error("XML: unsupported encoding")]
    Encoding,
}

type Read<T> = Result<T, Stop<Fault>>;

/// Reads bodies; keeps its buffers.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    text: Vec<u8>,
    value: Vec<u8>,
    /// Where the names of open elements are in the body.
    open: Vec<(usize, usize)>,
    /// Where the names of the attributes of one element are in the body.
    names: Vec<(usize, usize)>,
}

impl Reader {
    /// Puts the text and the attributes of a body into `pairs`, the text last.
    pub fn read(&mut self, body: &[u8], limits: &Limits, pairs: &mut Pairs) -> Outcome<Fault> {
        self.text.clear();
        self.open.clear();
        let mut reading = Reading {
            reader: self,
            input: Input { body, at: 0 },
            limits,
            pairs,
            has_root: false,
            has_type: false,
            first: None,
        };
        let read = reading.document();
        let (has_root, first) = (reading.has_root, reading.first);
        let kept = if has_root { limits.push(pairs, TEXT, &self.text).map_err(Stop::from) } else { Ok(()) };
        match (read.and(kept).into(), first) {
            (Outcome::Limited(limit), _) => Outcome::Limited(limit),
            (_, Some((fault, at))) => Outcome::Malformed { fault, at },
            (outcome, None) => outcome,
        }
    }
}

struct Reading<'a> {
    reader: &'a mut Reader,
    input: Input<'a>,
    limits: &'a Limits,
    pairs: &'a mut Pairs,
    has_root: bool,
    has_type: bool,
    /// The first fault behind which reading could go on.
    first: Option<(Fault, usize)>,
}

impl Reading<'_> {
    fn document(&mut self) -> Read<()> {
        if self.input.declaration()? {
            let invalid = std::str::from_utf8(self.input.body).err();
            // The body may be the beginning of one, and end within a character.
            let invalid = invalid.filter(|error| error.error_len().is_some());
            self.first = invalid.map(|error| (Fault::Utf8, error.valid_up_to()));
        }
        loop {
            let is_inside = !self.reader.open.is_empty();
            self.text(is_inside)?;
            match self.input.rest() {
                [] if self.has_root && !is_inside => return Ok(()),
                [] => return Err(self.input.fault(Fault::End)),
                [b'&', ..] => self.reference()?,
                [b'<', b'!', b'-', b'-', ..] => self.input.comment()?,
                [b'<', b'!', b'[', ..] => self.character_data(is_inside)?,
                [b'<', b'!', ..] => self.document_type()?,
                [b'<', b'?', ..] => self.input.instruction()?,
                [b'<', b'/', ..] => self.end_tag()?,
                _ => self.start_tag()?,
            }
        }
    }

    /// Text up to the next markup.
    fn text(&mut self, is_inside: bool) -> Read<()> {
        let rest = self.input.rest();
        let end = memchr2(b'<', b'&', rest).unwrap_or(rest.len());
        let run = rest.get(..end).unwrap_or_default();
        if is_inside {
            let (good, fault) = markup::checked(run);
            markup::text(good, &mut self.reader.text);
            self.input.at += good.len();
            fault.map_or(Ok(()), |fault| Err(self.input.fault(fault)))
        } else {
            let white = run.iter().take_while(|byte| markup::is_white(**byte)).count();
            self.input.at += white;
            if white < end || rest.get(end) == Some(&b'&') {
                return Err(self.input.fault(Fault::Outside));
            }
            Ok(())
        }
    }

    /// `&lt;` in text. What is not known stands as it is.
    fn reference(&mut self) -> Read<()> {
        let at = self.input.at;
        let (taken, fault) = entity(self.input.rest(), &mut self.reader.text);
        self.input.at += taken;
        self.keep(fault, at);
        Ok(())
    }

    fn keep(&mut self, fault: Option<Fault>, at: usize) {
        self.first = self.first.or(fault.map(|fault| (fault, at)));
    }

    /// `<![CDATA[...]]>`.
    fn character_data(&mut self, is_inside: bool) -> Read<()> {
        const BEGIN: &[u8] = b"<![CDATA[";
        let rest = self.input.rest();
        let Some(inside) = rest.strip_prefix(BEGIN).filter(|_| is_inside) else {
            let fault = if BEGIN.starts_with(rest) { Fault::End } else { Fault::Unexpected };
            return Err(self.input.fault(fault));
        };
        let end = memmem::find(inside, b"]]>");
        let run = inside.get(..end.unwrap_or(inside.len())).unwrap_or_default();
        let good = markup::until_control(run);
        markup::text(good, &mut self.reader.text);
        self.input.at += BEGIN.len() + good.len();
        match end {
            _ if good.len() < run.len() => Err(self.input.fault(Fault::Control)),
            None => Err(self.input.fault(Fault::End)),
            Some(_) => {
                self.input.at += 3;
                Ok(())
            }
        }
    }

    fn document_type(&mut self) -> Read<()> {
        let at = self.input.at;
        if self.has_root || self.has_type {
            return Err(self.input.fault(Fault::DocumentType));
        }
        self.has_type = true;
        let Self { input, pairs, limits, .. } = self;
        let mut has_entities = false;
        let read = input.document_type(&mut |text| {
            has_entities = true;
            limits.push(pairs, TEXT, text)
        });
        self.keep(has_entities.then_some(Fault::EntityDeclaration), at);
        read
    }

    fn end_tag(&mut self) -> Read<()> {
        let at = self.input.at;
        self.input.at += 2;
        let name = self.input.name()?;
        self.input.white();
        self.input.expect(b'>')?;
        let open = self.reader.open.pop().and_then(|(begin, end)| self.input.body.get(begin..end));
        if open != self.input.body.get(name.0..name.1) || open.is_none() {
            return Err(Stop::Fault(Fault::EndTag, at));
        }
        Ok(())
    }

    fn start_tag(&mut self) -> Read<()> {
        if self.reader.open.is_empty() && self.has_root {
            return Err(self.input.fault(Fault::SecondRoot));
        }
        if self.reader.open.len() >= self.limits.depth {
            return Err(Limit::Depth.into());
        }
        self.input.at += 1;
        let name = self.input.name()?;
        self.has_root = true;
        self.reader.names.clear();
        loop {
            let is_apart = self.input.white();
            match self.input.rest() {
                [b'>', ..] => {
                    self.input.at += 1;
                    self.reader.open.push(name);
                    return Ok(());
                }
                [b'/', b'>', ..] => {
                    self.input.at += 2;
                    return Ok(());
                }
                [] | [b'/'] => return Err(Stop::Fault(Fault::End, self.input.body.len())),
                _ if is_apart => self.attribute()?,
                _ => return Err(self.input.fault(Fault::Unexpected)),
            }
        }
    }

    fn attribute(&mut self) -> Read<()> {
        let at = self.input.at;
        let (begin, end) = self.input.name()?;
        let name = self.input.body.get(begin..end).unwrap_or_default();
        self.input.white();
        self.input.expect(b'=')?;
        self.input.white();
        let quote = match self.input.rest().first() {
            Some(quote @ (b'"' | b'\'')) => *quote,
            Some(_) => return Err(self.input.fault(Fault::Unexpected)),
            None => return Err(self.input.fault(Fault::End)),
        };
        self.input.at += 1;
        self.reader.value.clear();
        let read = self.attribute_value(quote);
        // What is half read is looked at, too.
        if name != b"xmlns" && !name.starts_with(b"xmlns:") {
            self.limits.push(self.pairs, ATTRIBUTES, &self.reader.value)?;
        }
        read?;
        let body = self.input.body;
        if self.reader.names.iter().any(|(begin, end)| body.get(*begin..*end) == Some(name)) {
            return Err(Stop::Fault(Fault::DuplicateAttribute, at));
        }
        if self.reader.names.len() >= ATTRIBUTES_MAX {
            return Err(Stop::Fault(Fault::AttributeCount, at));
        }
        self.reader.names.push((begin, end));
        Ok(())
    }

    /// The value behind its first quote, up to behind its last.
    fn attribute_value(&mut self, quote: u8) -> Read<()> {
        let rest = self.input.rest();
        let end = memchr(quote, rest);
        let value = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let mut done = 0;
        while let Some(left) = value.get(done..).filter(|left| !left.is_empty()) {
            let run = memchr2(b'<', b'&', left).unwrap_or(left.len());
            let run = left.get(..run).unwrap_or_default();
            let good = markup::until_control(run);
            markup::attribute(good, &mut self.reader.value);
            done += good.len();
            if good.len() < run.len() {
                return Err(Stop::Fault(Fault::Control, self.input.at + done));
            }
            let left = left.get(run.len()..).unwrap_or_default();
            match left.first() {
                Some(b'<') => return Err(Stop::Fault(Fault::Markup, self.input.at + done)),
                Some(_) => {
                    let (taken, fault) = entity(left, &mut self.reader.value);
                    self.keep(fault, self.input.at + done);
                    done += taken;
                }
                None => {}
            }
        }
        self.input.at += done;
        if end.is_none() {
            return Err(self.input.fault(Fault::End));
        }
        self.input.at += 1;
        Ok(())
    }
}
