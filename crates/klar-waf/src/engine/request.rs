//! Puts what came into collections, and runs the rules that may look at it.

use super::memory::{Entry, Memory};
use super::{Answer, Caches, Head, Interruption, Transaction};
use crate::body::{self, Limits, Outcome, urlencoded};
use crate::bytes::Pairs;
use crate::program::{COLLECTIONS, GROUPS, NONE};
use crate::seclang::{BodyProcessor, Collection, Mode};
use crate::transform::url_decode;

/// So many names with values are taken from a body that only looks as if it had some.
const GUESSED_ARGUMENTS_MAX: usize = 500;

/// Room for a body of up to so many bytes is used again.
const KEPT_MAX: usize = 64 * 1024;

/// Which collections a pair goes into: with its value, and with its name.
struct Into {
    values: Group,
    names: Option<Group>,
}

/// Collections that are filled together, and their number among the groups.
struct Group {
    collections: &'static [Collection],
    number: u8,
}

impl Group {
    /// One collection by itself.
    const fn one(collection: &'static [Collection; 1]) -> Self {
        Self { collections: collection, number: collection[0] as u8 }
    }

    const fn several(at: usize) -> Self {
        Self { collections: GROUPS[at], number: (COLLECTIONS + at) as u8 }
    }
}

const QUERY: Into = Into { values: Group::several(0), names: Some(Group::several(1)) };
const FORM: Into = Into { values: Group::several(2), names: Some(Group::several(3)) };
const COOKIES: Into = Into {
    values: Group::one(&[Collection::RequestCookies]),
    names: Some(Group::one(&[Collection::RequestCookiesNames])),
};
const HEADERS: Into = Into {
    values: Group::one(&[Collection::RequestHeaders]),
    names: Some(Group::one(&[Collection::RequestHeadersNames])),
};
const ANSWER: Into = Into {
    values: Group::one(&[Collection::ResponseHeaders]),
    names: Some(Group::one(&[Collection::ResponseHeadersNames])),
};
const FILES: Into =
    Into { values: Group::one(&[Collection::Files]), names: Some(Group::one(&[Collection::FilesNames])) };
const PARTS: Into = Into { values: Group::one(&[Collection::MultipartPartHeaders]), names: None };
const PART_NAMES: Into = Into { values: Group::one(&[Collection::MultipartName]), names: None };
const FILE_NAMES: Into = Into { values: Group::one(&[Collection::MultipartFilename]), names: None };
const XML: Into = Into { values: Group::one(&[Collection::Xml]), names: None };

impl Memory {
    fn pair(&mut self, into: &Into, name: &[u8], value: &[u8]) {
        let name = self.keep(name);
        let cell = self.add(value);
        self.enter(&into.values, Entry { name, cell });
        if let Some(names) = &into.names {
            let cell = self.cell_of(name);
            self.enter(names, Entry { name, cell });
        }
    }

    fn enter(&mut self, group: &Group, entry: Entry) {
        for collection in group.collections {
            self.list_mut(*collection).push(entry);
        }
        self.is_fresh(group.number, entry);
    }

    /// Puts all pairs into collections; gives how many bytes they have.
    fn pairs(&mut self, into: &Into, pairs: &Pairs) -> u64 {
        self.pairs_within(into, pairs, usize::MAX)
    }

    /// Puts pairs into collections, up to so many bytes; gives how many bytes all have.
    fn pairs_within(&mut self, into: &Into, pairs: &Pairs, limit: usize) -> u64 {
        let mut size = 0_usize;
        for (name, value) in pairs.iter() {
            let room = limit.saturating_sub(size);
            size = size.saturating_add(name.len() + value.len());
            if let Some(name) = name.get(..name.len().min(room)).filter(|_| room > 0) {
                let value = value.get(..value.len().min(room - name.len())).unwrap_or_default();
                self.pair(into, name, value);
            }
        }
        size as u64
    }
}

impl Transaction<'_> {
    /// Takes the head of the request, and runs phase 1.
    pub fn request(&mut self, caches: &Caches, head: &Head<'_>) -> Option<&Interruption> {
        self.line(head);
        let mut cookies = std::mem::take(&mut self.memory.pairs);
        cookies.clear();
        let limits = self.limits();
        for (name, value) in head.headers {
            self.memory.pair(&HEADERS, name, value);
            if name.eq_ignore_ascii_case(b"cookie") {
                // There are no more cookies than a head has bytes.
                let _ = urlencoded::cookies(value, &limits, &mut cookies);
            } else if name.eq_ignore_ascii_case(b"content-type") {
                self.processor = body::of_type(value).or(self.processor);
            }
        }
        self.memory.pairs(&COOKIES, &cookies);
        self.memory.pairs = cookies;
        if let Some(processor) = self.processor {
            self.memory.set(Collection::ReqbodyProcessor, processor_name(processor));
        }
        self.run(caches, 1);
        self.interruption.as_ref().filter(|interruption| interruption.blocks)
    }

    pub(super) fn line(&mut self, head: &Head<'_>) {
        let memory = &mut *self.memory;
        let mut line = std::mem::take(&mut memory.text);
        line.clear();
        for part in [head.method, b" ", head.target, b" ", head.protocol] {
            line.extend_from_slice(part);
        }
        memory.set(Collection::RequestLine, &line);
        memory.set(Collection::RequestMethod, head.method);
        memory.set(Collection::RequestUriRaw, head.target);
        memory.set(Collection::RequestProtocol, head.protocol);
        memory.set(Collection::RemoteAddr, head.remote);
        memory.set(Collection::UniqueId, head.unique_id);
        let target = head.target.split(|byte| *byte == b'#').next().unwrap_or_default();
        let question = memchr::memchr(b'?', target);
        let path = target.get(..question.unwrap_or(target.len())).unwrap_or_default();
        line.clear();
        url_decode(path, &mut line);
        memory.set(Collection::RequestFilename, &line);
        memory.set(Collection::PathInfo, &line);
        if let Some(at) = line.iter().rposition(|byte| matches!(byte, b'/' | b'\\'))
            && let Some(name) = line.get(at + 1..).filter(|name| !name.is_empty())
        {
            memory.set(Collection::RequestBasename, name);
        }
        if self.program.uses(Collection::ArgsPath) {
            segments(memory, path);
        }
        line.clear();
        url_decode(target, &mut line);
        memory.set(Collection::RequestUri, without_authority(&line));
        memory.text = line;
        let query = question.and_then(|at| target.get(at + 1..)).unwrap_or_default();
        memory.set(Collection::QueryString, query);
        let mut pairs = std::mem::take(&mut self.memory.pairs);
        pairs.clear();
        let form = urlencoded::read(query, self.settings.separator, &self.limits(), &mut pairs);
        let size = self.memory.pairs(&QUERY, &pairs);
        self.memory.pairs = pairs;
        self.memory.set_number(Collection::ArgsCombinedSize, size);
        self.memory.set_number(Collection::UrlencodedError, u64::from(form.is_invalid));
    }

    fn limits(&self) -> Limits {
        Limits {
            arguments: self.settings.arguments,
            depth: self.settings.depth,
            // The names of deeply nested values are long.
            bytes: self.settings.request_body_limit.saturating_mul(2),
            files: self.settings.arguments,
        }
    }

    /// Whether the rules want to see the body of the request. What [`push_body`](Self::push_body) is not given, no rule
    /// sees.
    #[must_use]
    pub fn wants_body(&self) -> bool {
        self.settings.request_body
    }

    /// Takes some of the body. Beyond the limit nothing is kept; says whether all of it was within.
    pub fn push_body(&mut self, bytes: &[u8]) -> bool {
        let so_far = usize::try_from(self.body_len).unwrap_or(usize::MAX);
        self.body_len = self.body_len.saturating_add(bytes.len() as u64);
        let room = self.settings.request_body_limit.saturating_sub(so_far);
        let within = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
        // Of what is no multipart, one byte more than is looked at says that there was more.
        let wanted = match self.processor {
            Some(BodyProcessor::Multipart) => usize::MAX,
            _ => self.settings.request_body_no_files_limit.saturating_add(1),
        };
        let room = wanted.saturating_sub(self.memory.body.len());
        self.memory.body.extend_from_slice(within.get(..room).unwrap_or(within));
        self.has_body_beyond |= within.len() < bytes.len();
        within.len() == bytes.len()
    }

    /// More of the body is to come, and is not given.
    pub fn cut_body(&mut self) {
        self.has_body_beyond = true;
    }

    /// The body has ended: reads it, and runs phase 2. Where neither its type nor a rule says how it is read, it is read as
    /// what it looks like, beside what rules see of its bytes (klar's own: ModSecurity leaves such a body alone).
    pub fn request_body(&mut self, caches: &Caches) -> Option<&Interruption> {
        self.read_body();
        self.run(caches, 2);
        let goes_on = self.mode == Mode::On && !self.is_allowed && !self.is_request_allowed;
        if self.is_exhausted() && self.interruption.is_none() && goes_on {
            // Whatever the rules say, or no longer say: else it would be a way past them.
            self.interruption = Some(Interruption {
                rule: 0,
                place: NONE,
                status: 400,
                closes: false,
                location: None,
                blocks: true,
            });
        }
        self.interruption.as_ref().filter(|interruption| interruption.blocks)
    }

    /// Whether judging the request to its end takes more work than it may.
    pub(super) fn is_exhausted(&self) -> bool {
        self.memory.work > self.settings.request_work_limit
    }

    /// Says so to the rules.
    pub(super) fn say_exhausted(&mut self) {
        let said = format!(
            "Judging the request takes more work than SecRequestWorkLimit allows: {} bytes read",
            self.settings.request_work_limit
        );
        for collection in [Collection::ReqbodyError, Collection::ReqbodyProcessorError] {
            self.memory.set_number(collection, 1);
        }
        for collection in [Collection::ReqbodyErrorMsg, Collection::ReqbodyProcessorErrorMsg] {
            self.memory.set(collection, said.as_bytes());
        }
    }

    fn read_body(&mut self) {
        let memory = &mut *self.memory;
        let body = std::mem::take(&mut memory.body);
        let mut pairs = std::mem::take(&mut memory.pairs);
        pairs.clear();
        let mut limits = self.limits();
        let limit = self.settings.request_body_no_files_limit;
        let memory = &mut *self.memory;
        let mut trouble: Option<String> = None;
        // Only bodies of parts have files.
        let read = match self.processor {
            Some(BodyProcessor::Multipart) => body.as_slice(),
            _ => body.get(..limit).unwrap_or(&body),
        };
        let processor = self.processor.or_else(|| body::guess(read));
        let is_guess = processor != self.processor;
        let (read, whole) = (if is_guess { body::without_mark(read) } else { read }, read.len());
        if is_guess {
            // What is no form may well have many of what looks like fields.
            limits.arguments = limits.arguments.min(GUESSED_ARGUMENTS_MAX);
        }
        let mut is_beyond = whole < body.len();
        // What came before in the query counts.
        let mut size = number(memory, Collection::ArgsCombinedSize);
        match processor {
            Some(BodyProcessor::UrlEncoded) => {
                let form = urlencoded::read(read, self.settings.separator, &limits, &mut pairs);
                size += memory.pairs(&FORM, &pairs);
                if form.is_invalid && !is_guess {
                    memory.set_number(Collection::UrlencodedError, 1);
                }
                trouble = form.limit.filter(|_| !is_guess).map(|limit| limit.to_string());
            }
            Some(BodyProcessor::Json) => {
                let outcome = memory.json.read(read, &limits, &mut pairs);
                trouble = said("JSON", &outcome, is_guess);
                size += memory.pairs(&FORM, &pairs);
            }
            Some(BodyProcessor::Xml) => {
                let outcome = memory.xml.read(read, &limits, &mut pairs);
                trouble = said("XML", &outcome, is_guess);
                memory.pairs(&XML, &pairs);
            }
            Some(BodyProcessor::Multipart) => {
                let content_type = header(memory, b"content-type").to_vec();
                let mut reader = std::mem::take(&mut memory.multipart);
                let outcome = reader.read(&content_type, &body, &limits, &mut pairs);
                trouble = said("Multipart", &outcome, false);
                let is_cut = matches!(outcome, Outcome::Malformed { fault: body::multipart::Fault::End, .. });
                if is_cut && self.has_body_beyond {
                    (trouble, reader.flags.error) = (None, false);
                }
                let fields = memory.pairs_within(&FORM, &pairs, limit);
                is_beyond = fields > limit as u64;
                size += fields;
                parts(memory, &reader);
                if self.program.uses(Collection::FilesTmpContent) {
                    for (contents, (name, _)) in reader.contents.iter().zip(reader.files.iter()) {
                        let contents = body.get(contents.clone()).unwrap_or_default();
                        let name = memory.keep(name);
                        let cell = memory.add(contents);
                        memory.push(Collection::FilesTmpContent, Entry { name, cell });
                    }
                }
                memory.multipart = reader;
            }
            None => {}
        }
        if is_beyond {
            trouble = Some(format!("Request body without files has more than {limit} bytes"));
        }
        memory.set_number(Collection::InboundDataError, u64::from(self.has_body_beyond || is_beyond));
        memory.set_number(Collection::ArgsCombinedSize, size);
        // Of what is no file, what was cut off at the limit cannot be whole; `INBOUND_DATA_ERROR` says that it was.
        let is_multipart = self.processor == Some(BodyProcessor::Multipart);
        let trouble = trouble.filter(|_| is_multipart || !self.has_body_beyond);
        for collection in [Collection::ReqbodyError, Collection::ReqbodyProcessorError] {
            memory.set_number(collection, u64::from(trouble.is_some()));
        }
        if let Some(trouble) = trouble {
            for collection in [Collection::ReqbodyErrorMsg, Collection::ReqbodyProcessorErrorMsg] {
                memory.set(collection, trouble.as_bytes());
            }
        }
        let is_long = body.len() > KEPT_MAX;
        if !is_long {
            memory.pairs = pairs;
        } else {
            drop(pairs);
        }
        if !body.is_empty() {
            // The names of elements and the contents of files are no attack by themselves.
            if self.forces_body
                || !matches!(self.processor, Some(BodyProcessor::Xml | BodyProcessor::Multipart))
            {
                memory.set(Collection::RequestBody, body.get(..limit).unwrap_or(&body));
            }
            memory.set_number(Collection::RequestBodyLength, self.body_len);
        }
        // All of it has its place among the values now.
        if !is_long {
            memory.body = body;
        }
    }

    /// Takes the head of the response, and runs phase 3.
    pub fn response(&mut self, caches: &Caches, answer: &Answer<'_>) -> Option<&Interruption> {
        let memory = &mut *self.memory;
        memory.set_number(Collection::ResponseStatus, u64::from(answer.status));
        memory.set(Collection::ResponseProtocol, answer.protocol);
        for (name, value) in answer.headers {
            memory.pair(&ANSWER, name, value);
            if name.eq_ignore_ascii_case(b"content-type") {
                let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
                memory.set(Collection::ResponseContentType, kind.trim_ascii());
            } else if name.eq_ignore_ascii_case(b"content-length") {
                memory.set(Collection::ResponseContentLength, value);
            }
        }
        memory.body.clear();
        self.run(caches, 3);
        self.interruption.as_ref().filter(|interruption| interruption.blocks)
    }

    /// Whether the rules want to see the body of the response.
    #[must_use]
    pub fn wants_response_body(&self) -> bool {
        self.settings.response_body
    }

    /// Takes some of the response's body. Beyond the limit nothing is kept; says whether all of it was within.
    pub fn push_response_body(&mut self, bytes: &[u8]) -> bool {
        let room = self.settings.response_body_limit.saturating_sub(self.memory.body.len());
        let within = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
        self.memory.body.extend_from_slice(within);
        within.len() == bytes.len()
    }

    /// The response has ended: runs phase 4.
    pub fn response_body(&mut self, caches: &Caches) -> Option<&Interruption> {
        let body = std::mem::take(&mut self.memory.body);
        self.memory.set(Collection::ResponseBody, &body);
        self.memory.body = body;
        self.run(caches, 4);
        self.interruption.as_ref().filter(|interruption| interruption.blocks)
    }

    /// All is over: runs phase 5, which cannot stop anything.
    pub fn log(&mut self, caches: &Caches) {
        self.run(caches, 5);
    }
}

/// The segments of a path, each decoded by itself: an encoded slash divides nothing.
fn segments(memory: &mut Memory, path: &[u8]) {
    for (at, segment) in path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()).enumerate() {
        let mut text = std::mem::take(&mut memory.segment);
        text.clear();
        url_decode(segment, &mut text);
        let mut digits = [0; 20];
        let name = memory.keep(super::memory::decimal(at as u64 + 1, &mut digits));
        let cell = memory.add(&text);
        memory.push(Collection::ArgsPath, Entry { name, cell });
        memory.segment = text;
    }
}

fn parts(memory: &mut Memory, reader: &body::multipart::Reader) {
    memory.pairs(&FILES, &reader.files);
    memory.pairs(&PARTS, &reader.part_headers);
    memory.pairs(&PART_NAMES, &reader.names);
    memory.pairs(&FILE_NAMES, &reader.file_names);
    let mut all = 0;
    for (contents, (name, _)) in reader.contents.iter().zip(reader.files.iter()) {
        let size = contents.len() as u64;
        all += size;
        let mut digits = [0; 20];
        let name = memory.keep(name);
        let cell = memory.add(super::memory::decimal(size, &mut digits));
        memory.push(Collection::FilesSizes, Entry { name, cell });
    }
    memory.set_number(Collection::FilesCombinedSize, all);
    let flags = &reader.flags;
    for (collection, is_set) in [
        (Collection::MultipartBoundaryQuoted, flags.boundary_quoted),
        (Collection::MultipartBoundaryWhitespace, flags.boundary_whitespace),
        (Collection::MultipartCrlfLfLines, flags.crlf_lf_lines()),
        (Collection::MultipartDataAfter, flags.data_after),
        (Collection::MultipartDataBefore, flags.data_before),
        (Collection::MultipartFileLimitExceeded, flags.file_limit_exceeded),
        (Collection::MultipartHeaderFolding, flags.header_folding),
        (Collection::MultipartInvalidHeaderFolding, flags.invalid_header_folding),
        (Collection::MultipartInvalidPart, flags.invalid_part),
        (Collection::MultipartInvalidQuoting, flags.invalid_quoting),
        (Collection::MultipartLfLine, flags.lf_line),
        (Collection::MultipartMissingSemicolon, flags.missing_semicolon),
        (Collection::MultipartSemicolonMissing, flags.missing_semicolon),
        (Collection::MultipartStrictError, flags.strict_error()),
    ] {
        memory.set_number(collection, u64::from(is_set));
    }
    memory.set_number(Collection::MultipartUnmatchedBoundary, u64::from(flags.unmatched_boundary));
}

/// What is wrong with a body. Where its format is a guess, that only says that it may have been a wrong one.
fn said<F: std::fmt::Display>(format: &str, outcome: &Outcome<F>, is_guess: bool) -> Option<String> {
    match outcome {
        Outcome::Complete => None,
        _ if is_guess => None,
        Outcome::Malformed { fault, at } => Some(format!("{format} parsing error: {fault}, at byte {at}")),
        Outcome::Limited(limit) => Some(format!("{format} parsing error: {limit}")),
    }
}

fn number(memory: &Memory, collection: Collection) -> u64 {
    let value = memory.list(collection).first().map_or(&b""[..], |entry| memory.cell(entry.cell));
    value
        .iter()
        .fold(0, |sum: u64, digit| sum.saturating_mul(10).saturating_add(u64::from(digit.wrapping_sub(b'0'))))
}

fn header<'m>(memory: &'m Memory, name: &[u8]) -> &'m [u8] {
    let mut entries = memory.list(Collection::RequestHeaders).iter();
    entries
        .find(|entry| memory.span(entry.name).eq_ignore_ascii_case(name))
        .map_or(&[], |entry| memory.cell(entry.cell))
}

pub(super) fn processor_name(processor: BodyProcessor) -> &'static [u8] {
    match processor {
        BodyProcessor::UrlEncoded => b"URLENCODED",
        BodyProcessor::Multipart => b"MULTIPART",
        BodyProcessor::Json => b"JSON",
        BodyProcessor::Xml => b"XML",
    }
}

/// The path of an address that names a host as well.
fn without_authority(target: &[u8]) -> &[u8] {
    if target.first() == Some(&b'/') {
        return target;
    }
    let Some(colon) = memchr::memchr(b':', target) else { return target };
    let Some(rest) = target.get(colon + 1..).and_then(|rest| rest.strip_prefix(b"//")) else { return target };
    memchr::memchr(b'/', rest).and_then(|at| rest.get(at..)).unwrap_or(target)
}
