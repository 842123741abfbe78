//! `multipart/form-data` (RFC 7578, RFC 2046): fields, files, and all the ways in which a body is not what it should be.
//!
//! Programs read a bad multipart body in different ways, and an attack lives in the difference. So there are two things
//! beside the contents: [`Flags`] say what is unusual, as the `MULTIPART_...` variables of the rules do, and the outcome
//! says what is wrong. Flags are those of libmodsecurity 3 line by line.
//!
//! Stricter than it: a header that stands twice, an empty boundary and a quote that is left open are faults, and reading
//! goes on behind headers without an end. Where it loses line ends within a field, they are kept; and the parts that were
//! read of a body that is not complete are there.
//!
//! 1. [`boundary`] reads the header `Content-Type`.
//! 2. [`Reader::read`] takes the body line by line.
//! 3. `disposition` reads the header `Content-Disposition` of a part.

mod boundary;
mod disposition;

use std::ops::Range;

use memchr::{memchr, memmem};

use self::boundary::Boundary;
use self::disposition::Disposition;
use super::{Limit, Limits, Outcome, Stop};
use crate::bytes::Pairs;
use crate::transform::{is_space, trimmed_left};

/// The longest line of a header, with its end, and the longest value of a folded one.
const HEADER_MAX: usize = 4096;
/// Headers of one part. Browsers send two or three.
const HEADERS_MAX: usize = 32;

/// What is wrong with a body that should be multipart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The header `Content-Type` has no boundary that can be used.
    #[error("Multipart: {0} in Content-Type")]
    ContentType(BoundaryFault),
    /// The body has no line with the boundary.
    #[error("Multipart: no boundaries found in payload")]
    NoBoundary,
    /// The last boundary is missing.
    #[error("Multipart: final boundary missing")]
    End,
    /// Something follows a boundary in its line.
    #[error("Multipart: invalid boundary")]
    Boundary,
    /// A boundary with white space before it.
    #[error("Multipart: invalid boundary (whitespace)")]
    BoundaryWhitespace,
    /// A boundary with its quotes from the header.
    #[error("Multipart: invalid boundary (quotes)")]
    BoundaryQuoted,
    /// A boundary among headers.
    #[error("Multipart: boundary in part headers")]
    BoundaryInHeaders,
    /// A zero byte in a header.
    #[error("Multipart: zero byte in part headers")]
    Zero,
    /// A header's line is longer than 4,096 bytes, or a folded value is.
    #[error("Multipart: part header too long")]
    HeaderLong,
    /// A part has more than 32 headers.
    #[error("Multipart: too many headers in a part")]
    HeaderCount,
    /// A line goes on with the one before it, and there is none.
    #[error("Multipart: invalid part header (folding error)")]
    HeaderFolding,
    /// A header without a colon.
    #[error("Multipart: invalid part header (colon missing)")]
    HeaderColon,
    /// A header without a name.
    #[error("Multipart: invalid part header (header name missing)")]
    HeaderName,
    /// A header whose name has characters that names have not.
    #[error("Multipart: invalid part header (contains invalid character)")]
    HeaderCharacter,
    /// A header that stands twice.
    #[error("Multipart: duplicate part header")]
    HeaderDuplicate,
    /// A part without `Content-Disposition`.
    #[error("Multipart: part missing Content-Disposition header")]
    NoDisposition,
    /// `Content-Disposition` cannot be read.
    #[error("Multipart: invalid Content-Disposition header ({0})")]
    Disposition(DispositionFault),
    /// A part without a name.
    #[error("Multipart: Content-Disposition header missing name field")]
    NoName,
}

pub use self::boundary::BoundaryFault;
pub use self::disposition::DispositionFault;

/// What is unusual in a body; each is the variable of the rules with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// `MULTIPART_BOUNDARY_QUOTED`: in the header.
    pub boundary_quoted: bool,
    /// `MULTIPART_BOUNDARY_WHITESPACE`: in the header, around the `=`.
    pub boundary_whitespace: bool,
    /// `MULTIPART_DATA_BEFORE`: lines before the first boundary.
    pub data_before: bool,
    /// `MULTIPART_DATA_AFTER`: lines behind the last boundary.
    pub data_after: bool,
    /// `MULTIPART_FILE_LIMIT_EXCEEDED`.
    pub file_limit_exceeded: bool,
    /// `MULTIPART_HEADER_FOLDING`: a header over several lines.
    pub header_folding: bool,
    /// `MULTIPART_INVALID_HEADER_FOLDING`: one that goes on behind other white space than spaces and tabs.
    pub invalid_header_folding: bool,
    /// `MULTIPART_INVALID_PART`: no name, or a boundary where the contents should begin.
    pub invalid_part: bool,
    /// `MULTIPART_INVALID_QUOTING`: single quotes, or one in the middle of a value.
    pub invalid_quoting: bool,
    /// `MULTIPART_LF_LINE`: a line that ends without a carriage return.
    pub lf_line: bool,
    /// A line that ends with one; with the one above this is `MULTIPART_CRLF_LF_LINES`.
    pub crlf_line: bool,
    /// `MULTIPART_MISSING_SEMICOLON`, `MULTIPART_SEMICOLON_MISSING`: before the parameter `boundary`.
    pub missing_semicolon: bool,
    /// `MULTIPART_UNMATCHED_BOUNDARY`: 1 where a line looked like a boundary that is another one, 2 where a boundary of
    /// this body came behind that.
    pub unmatched_boundary: u8,
    /// Whether the body is malformed.
    pub error: bool,
}

impl Flags {
    /// `MULTIPART_CRLF_LF_LINES`: lines end in both ways.
    #[must_use]
    pub fn crlf_lf_lines(&self) -> bool {
        self.crlf_line && self.lf_line
    }

    /// `MULTIPART_STRICT_ERROR`: whether anything but the boundaries is unusual.
    #[must_use]
    pub fn strict_error(&self) -> bool {
        self.error
            || self.boundary_quoted
            || self.boundary_whitespace
            || self.data_before
            || self.data_after
            || self.file_limit_exceeded
            || self.header_folding
            || self.invalid_header_folding
            || self.invalid_part
            || self.invalid_quoting
            || self.lf_line
            || self.missing_semicolon
    }
}

/// Reads bodies, and has what the last one held but for its fields; keeps its buffers.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    /// What is unusual.
    pub flags: Flags,
    /// Files: the name of the field (`FILES_NAMES`), and that of the file (`FILES`).
    pub files: Pairs,
    /// The contents of each file, as a span of the body; its length is in `FILES_SIZES`.
    pub contents: Vec<Range<usize>>,
    /// `MULTIPART_PART_HEADERS`: the name of the part, and a line of its headers.
    pub part_headers: Pairs,
    /// `MULTIPART_NAME`: each `name` that a part had, also of parts that are not valid, as name and as value.
    pub names: Pairs,
    /// `MULTIPART_FILENAME`: each `filename`, likewise.
    pub file_names: Pairs,
    part: Part,
}

/// The part that is read.
#[derive(Debug, Clone, Default)]
struct Part {
    /// The lines of its headers, without names.
    lines: Pairs,
    /// Where the names of its headers are in the body.
    headers: Vec<Range<usize>>,
    /// The header that is read, as `Name: value`, folded lines joined.
    line: Vec<u8>,
    /// The value of `Content-Disposition`.
    value: Vec<u8>,
    /// Whether there is a `Content-Disposition`.
    has_disposition: bool,
    /// Whether `line` is it.
    is_disposition: bool,
    disposition: Disposition,
}

impl Part {
    fn clear(&mut self) {
        self.lines.clear();
        self.headers.clear();
        self.line.clear();
        self.value.clear();
        (self.has_disposition, self.is_disposition) = (false, false);
        self.disposition.clear();
    }
}

/// Where in a body a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first boundary.
    Before,
    /// Among the headers of a part.
    Headers,
    /// In the contents of a part, which begin here.
    Contents { begin: usize },
}

/// How the line before ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    None,
    Lf,
    CrLf,
}

impl LineEnd {
    fn of(line: &[u8]) -> Self {
        match line {
            [.., b'\r', b'\n'] => Self::CrLf,
            [.., b'\n'] => Self::Lf,
            _ => Self::None,
        }
    }

    fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Lf => 1,
            Self::CrLf => 2,
        }
    }
}

type Read<T> = Result<T, Stop<Fault>>;

impl Reader {
    /// Forgets the last body.
    pub fn clear(&mut self) {
        self.flags = Flags::default();
        self.files.clear();
        self.contents.clear();
        self.part_headers.clear();
        self.names.clear();
        self.file_names.clear();
        self.part.clear();
    }

    /// Reads a body that came with this `Content-Type`: its fields into `fields`, the rest into this.
    ///
    /// An empty body is complete. The first fault is given; reading goes on behind those that leave the next boundary
    /// where it is.
    pub fn read(
        &mut self,
        content_type: &[u8],
        body: &[u8],
        limits: &Limits,
        fields: &mut Pairs,
    ) -> Outcome<Fault> {
        self.clear();
        let boundary = match boundary::find(content_type, &mut self.flags) {
            Ok(boundary) => boundary,
            Err(fault) => {
                self.flags.error = true;
                return Outcome::Malformed { fault: Fault::ContentType(fault), at: 0 };
            }
        };
        if body.is_empty() {
            return Outcome::Complete;
        }
        let needle = boundary.with_dashes();
        let mut reading = Reading {
            reader: self,
            body,
            limits,
            fields,
            boundary: &boundary,
            finder: memmem::Finder::new(needle),
            place: Place::Before,
            boundaries: 0,
            first: None,
        };
        let outcome: Outcome<Fault> = reading.lines().and_then(|()| reading.end()).into();
        // What came first counts, unless there was more than is read.
        let outcome = match (outcome, reading.first) {
            (Outcome::Limited(limit), _) => Outcome::Limited(limit),
            (_, Some((fault, at))) => Outcome::Malformed { fault, at },
            (outcome, None) => outcome,
        };
        self.flags.error |= matches!(outcome, Outcome::Malformed { .. });
        outcome
    }
}

struct Reading<'a> {
    reader: &'a mut Reader,
    body: &'a [u8],
    limits: &'a Limits,
    fields: &'a mut Pairs,
    boundary: &'a Boundary,
    /// Finds the boundary with its dashes.
    finder: memmem::Finder<'a>,
    place: Place,
    boundaries: usize,
    /// The first fault that did not end the reading.
    first: Option<(Fault, usize)>,
}

/// What a line is.
enum Line {
    /// A boundary that ends a part.
    Delimiter {
        is_final: bool,
    },
    Other,
}

impl Reading<'_> {
    /// Reads to the last boundary; then this is over, or to the end of the body, which is a fault.
    fn lines(&mut self) -> Read<()> {
        let mut at = 0;
        let mut before = LineEnd::None;
        while let Some(rest) = self.body.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(end) = memchr(b'\n', rest) else {
                return self.last_line(at, rest, before);
            };
            let line = rest.get(..=end).unwrap_or(rest);
            match self.line_is(at, line, before)? {
                Line::Delimiter { is_final } => {
                    self.delimiter(at, before)?;
                    if is_final {
                        self.reader.flags.data_after = at + line.len() < self.body.len();
                        self.place = Place::Before;
                        return Ok(());
                    }
                    self.place = Place::Headers;
                }
                Line::Other => self.other(at, line)?,
            }
            before = LineEnd::of(line);
            at += line.len();
        }
        self.incomplete()
    }

    /// A line without an end is only good for the last boundary.
    fn last_line(&mut self, at: usize, line: &[u8], before: LineEnd) -> Read<()> {
        let is_final = line.strip_prefix(self.boundary.with_dashes()) == Some(b"--") && self.boundaries > 0;
        if !is_final {
            return self.incomplete();
        }
        self.reader.flags.lf_line |= before == LineEnd::Lf;
        self.reader.flags.invalid_part |= match self.place {
            Place::Contents { begin } => begin == at,
            _ => true,
        };
        if self.place == Place::Headers {
            self.keep(Fault::BoundaryInHeaders, at);
        }
        self.delimiter(at, before)?;
        self.place = Place::Before;
        Ok(())
    }

    /// The body is over and the last boundary did not come: what is there of the last part counts.
    fn incomplete(&mut self) -> Read<()> {
        let fault = if self.boundaries > 0 { Fault::End } else { Fault::NoBoundary };
        let end = self.body.len();
        if self.boundaries > 0 {
            self.finish(end, LineEnd::None)?;
        }
        Err(Stop::Fault(fault, end))
    }

    fn end(&mut self) -> Read<()> {
        if self.reader.flags.file_limit_exceeded { Err(Limit::Files.into()) } else { Ok(()) }
    }

    /// Looks for a boundary in a line, and for what somebody else could take for one.
    fn line_is(&mut self, at: usize, line: &[u8], before: LineEnd) -> Read<Line> {
        let [b'-', b'-', inside @ ..] = line else {
            if self.finder.find(line).is_some() {
                self.reader.flags.unmatched_boundary = 1;
            }
            return Ok(Line::Other);
        };
        if line.len() <= 3 {
            return Ok(Line::Other);
        }
        let Some(rest) = line.strip_prefix(self.boundary.with_dashes()) else {
            self.unmatched(at, inside)?;
            return Ok(Line::Other);
        };
        self.reader.flags.lf_line |= before == LineEnd::Lf;
        if self.boundaries > 0 {
            match self.place {
                Place::Headers => {
                    self.reader.flags.invalid_part = true;
                    self.keep(Fault::BoundaryInHeaders, at);
                }
                // The first line of the contents: some take it for a boundary, some do not.
                Place::Contents { begin } if begin == at => {
                    self.reader.flags.invalid_part = true;
                    return Ok(Line::Other);
                }
                _ => {}
            }
            self.reader.flags.unmatched_boundary = 2;
        }
        let (is_final, rest) = rest.strip_prefix(b"--").map_or((false, rest), |rest| (true, rest));
        match rest {
            b"\r\n" => self.reader.flags.crlf_line = true,
            b"\n" => self.reader.flags.lf_line = true,
            _ => return Err(Stop::Fault(Fault::Boundary, at)),
        }
        Ok(Line::Delimiter { is_final })
    }

    /// A line that begins with two dashes and goes on with something else than the boundary.
    fn unmatched(&mut self, at: usize, inside: &[u8]) -> Read<()> {
        let boundary = self.boundary.name();
        if self.reader.flags.boundary_quoted
            && inside.strip_prefix(b"\"").is_some_and(|inside| inside.starts_with(boundary))
        {
            return Err(Stop::Fault(Fault::BoundaryQuoted, at));
        }
        let trimmed = trimmed_left(inside);
        if trimmed.len() < inside.len() && trimmed.starts_with(boundary) {
            return Err(Stop::Fault(Fault::BoundaryWhitespace, at));
        }
        self.reader.flags.unmatched_boundary = 1;
        Ok(())
    }

    /// Ends the part before a boundary, and begins the next.
    fn delimiter(&mut self, at: usize, before: LineEnd) -> Read<()> {
        if self.boundaries > 0 {
            self.finish(at, before)?;
        }
        self.boundaries += 1;
        self.reader.part.clear();
        Ok(())
    }

    fn other(&mut self, at: usize, line: &[u8]) -> Read<()> {
        match self.place {
            Place::Before => self.reader.flags.data_before = true,
            Place::Contents { .. } => {}
            Place::Headers => match self.header(at, line) {
                Err(Stop::Fault(fault, at)) if fault != Fault::HeaderLong => self.keep(fault, at),
                done => done?,
            },
        }
        Ok(())
    }

    fn keep(&mut self, fault: Fault, at: usize) {
        self.first.get_or_insert((fault, at));
    }

    /// Reads a line of a part's headers.
    fn header(&mut self, at: usize, line: &[u8]) -> Read<()> {
        let fault = |fault| Err(Stop::Fault(fault, at));
        if line.len() > HEADER_MAX {
            return fault(Fault::HeaderLong);
        }
        if memchr(0, line).is_some() {
            return fault(Fault::Zero);
        }
        let flags = &mut self.reader.flags;
        let part = &mut self.reader.part;
        let end = LineEnd::of(line);
        match end {
            LineEnd::CrLf => flags.crlf_line = true,
            _ => flags.lf_line = true,
        }
        let text = line.get(..line.len() - end.len()).unwrap_or_default();
        let Some(first) = text.first() else {
            self.record();
            self.place = Place::Contents { begin: at + line.len() };
            return self.headers_end(at);
        };
        if is_space(*first) {
            flags.header_folding = true;
            // The white space of an empty line goes on over its end.
            let mut white = line.iter().take_while(|byte| is_space(**byte));
            flags.invalid_header_folding |= white.any(|byte| !matches!(byte, b' ' | b'\t'));
            if part.line.is_empty() {
                return fault(Fault::HeaderFolding);
            }
            let more = trimmed_left(text);
            part.line.push(b' ');
            part.line.extend_from_slice(more);
            if part.is_disposition {
                part.value.push(b' ');
                part.value.extend_from_slice(more);
            }
            return if part.line.len() > HEADER_MAX { fault(Fault::HeaderLong) } else { Ok(()) };
        }
        self.record();
        let part = &mut self.reader.part;
        part.line.extend_from_slice(text);
        let Some(colon) = memchr(b':', text) else { return fault(Fault::HeaderColon) };
        let name = text.get(..colon).unwrap_or_default();
        if name.is_empty() {
            return fault(Fault::HeaderName);
        }
        if !name.iter().all(u8::is_ascii_graphic) {
            return fault(Fault::HeaderCharacter);
        }
        let body = self.body;
        let is_same = |known: &Range<usize>| {
            body.get(known.clone()).is_some_and(|known| known.eq_ignore_ascii_case(name))
        };
        if part.headers.iter().any(is_same) {
            return fault(Fault::HeaderDuplicate);
        }
        if part.headers.len() >= HEADERS_MAX {
            return fault(Fault::HeaderCount);
        }
        part.headers.push(at..at + colon);
        part.is_disposition = name.eq_ignore_ascii_case(b"content-disposition");
        if part.is_disposition {
            part.has_disposition = true;
            let value = text.get(colon + 1..).unwrap_or_default();
            let blanks = value.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            part.value.extend_from_slice(value.get(blanks..).unwrap_or_default());
        }
        Ok(())
    }

    /// Writes the header down that was read before.
    fn record(&mut self) {
        let part = &mut self.reader.part;
        if !part.line.is_empty() {
            part.lines.push(b"", &part.line);
            part.line.clear();
        }
        part.is_disposition = false;
    }

    /// Behind the empty line: whose part is it?
    fn headers_end(&mut self, at: usize) -> Read<()> {
        let Reader { part, flags, names, file_names, .. } = &mut *self.reader;
        let fault = |fault| Err(Stop::Fault(fault, at));
        if !part.has_disposition {
            flags.invalid_part = true;
            return fault(Fault::NoDisposition);
        }
        let read = part.disposition.read(&part.value, flags);
        for (seen, all) in [(&part.disposition.names, names), (&part.disposition.file_names, file_names)] {
            for (_, name) in seen.iter() {
                self.limits.push(all, name, name)?;
            }
        }
        let is_named = read.is_ok() && !part.disposition.name().is_empty();
        flags.invalid_part |= !is_named;
        match read {
            Err(why) => fault(Fault::Disposition(why)),
            Ok(()) if part.disposition.name().is_empty() => fault(Fault::NoName),
            Ok(()) => Ok(()),
        }
    }

    /// Ends a part whose contents end at `end`, the line end before it not counted.
    fn finish(&mut self, end: usize, before: LineEnd) -> Read<()> {
        self.record();
        if self.place == Place::Headers {
            // Whose part it would have been; that it is not complete is known.
            if let Err(Stop::Limit(limit)) = self.headers_end(end) {
                return Err(limit.into());
            }
        }
        let Reader { part, flags, files, contents, part_headers, .. } = &mut *self.reader;
        let name = part.disposition.name();
        for (_, line) in part.lines.iter() {
            self.limits.push(part_headers, name, line)?;
        }
        if name.is_empty() {
            flags.invalid_part = true;
            return Ok(());
        }
        let span = match self.place {
            Place::Contents { begin } if begin < end => begin..end.saturating_sub(before.len()).max(begin),
            _ => end..end,
        };
        let file_name = part.disposition.file_name();
        if file_name.is_empty() {
            self.limits.push(self.fields, name, self.body.get(span).unwrap_or_default())?;
        } else if contents.len() >= self.limits.files {
            flags.file_limit_exceeded = true;
        } else {
            self.limits.push(files, name, file_name)?;
            contents.push(span);
        }
        Ok(())
    }
}
