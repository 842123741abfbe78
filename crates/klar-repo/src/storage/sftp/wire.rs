//! Packets of SFTP version 3, as far as a storage needs them.
//!
//! Source: draft-ietf-secsh-filexfer-02, sections 3 to 7, and OpenSSH's PROTOCOL, section 4, for its extensions.

/// A packet without its length: OpenSSH sends and takes up to 256 KiB, and what is around the data is little.
pub(super) const PACKET_MAX: usize = (256 << 10) + 1024;
/// So many bytes are read or written by one request: what every server takes (section 3).
pub(super) const PIECE: usize = 32 << 10;
/// The version that is spoken, and the one that every server knows.
pub(super) const VERSION: u32 = 3;
/// Handles are no longer (section 6.3).
const HANDLE_MAX: usize = 256;
/// What a server says of an error is told up to here.
const SAID_MAX: usize = 300;

/// Kinds of packets (section 3).
pub(super) mod kind {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const FSTAT: u8 = 8;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RENAME: u8 = 18;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
}

/// How a file is opened (section 6.3).
pub(super) mod open {
    pub const READ: u32 = 0x01;
    pub const WRITE: u32 = 0x02;
    pub const CREATE: u32 = 0x08;
    pub const EXCLUSIVE: u32 = 0x20;
}

/// Extensions of OpenSSH's.
pub(super) const FSYNC: &str = "fsync@openssh.com";
pub(super) const HARDLINK: &str = "hardlink@openssh.com";

/// What attributes have (section 5).
const HAS_SIZE: u32 = 0x1;
const HAS_OWNER: u32 = 0x2;
pub(super) const HAS_MODE: u32 = 0x4;
const HAS_TIMES: u32 = 0x8;
const HAS_EXTENDED: u32 = 0x8000_0000;

/// A part of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field<'a> {
    Number(u32),
    Long(u64),
    Text(&'a [u8]),
}

/// A request, without the number that its answer is known by.
#[derive(Debug, Clone)]
pub(super) struct Request<'a> {
    pub kind: u8,
    pub fields: Vec<Field<'a>>,
}

impl<'a> Request<'a> {
    pub fn new(kind: u8, fields: impl Into<Vec<Field<'a>>>) -> Self {
        Self { kind, fields: fields.into() }
    }

    /// One about what has a path.
    pub fn path(kind: u8, path: &'a str) -> Self {
        Self::new(kind, [Field::Text(path.as_bytes())])
    }

    /// One about what was opened.
    pub fn handle(kind: u8, handle: &'a [u8]) -> Self {
        Self::new(kind, [Field::Text(handle)])
    }

    pub fn open(path: &'a str, flags: u32) -> Self {
        let mode = if flags & open::CREATE == 0 { [Field::Number(0)].to_vec() } else { only_ours(0o600) };
        let fields = [Field::Text(path.as_bytes()), Field::Number(flags)];
        Self::new(kind::OPEN, [&fields[..], &mode].concat())
    }

    pub fn make(path: &'a str) -> Self {
        Self::new(kind::MKDIR, [vec![Field::Text(path.as_bytes())], only_ours(0o700)].concat())
    }

    pub fn read(handle: &'a [u8], offset: u64, length: usize) -> Self {
        let length = Field::Number(u32::try_from(length).unwrap_or(u32::MAX));
        Self::new(kind::READ, [Field::Text(handle), Field::Long(offset), length])
    }

    pub fn write(handle: &'a [u8], offset: u64, bytes: &'a [u8]) -> Self {
        Self::new(kind::WRITE, [Field::Text(handle), Field::Long(offset), Field::Text(bytes)])
    }

    pub fn fsync(handle: &'a [u8]) -> Self {
        Self::new(kind::EXTENDED, [Field::Text(FSYNC.as_bytes()), Field::Text(handle)])
    }

    /// Gives a file a second name; where there is something of that name it is refused.
    pub fn link(from: &'a str, to: &'a str) -> Self {
        let fields = [HARDLINK, from, to].map(|text| Field::Text(text.as_bytes()));
        Self::new(kind::EXTENDED, fields)
    }

    /// Gives a file another name; where there is something of that name it is refused (section 6.5).
    pub fn rename(from: &'a str, to: &'a str) -> Self {
        Self::new(kind::RENAME, [from, to].map(|text| Field::Text(text.as_bytes())))
    }

    /// Appends it as a packet.
    pub fn put(&self, id: u32, out: &mut Vec<u8>) {
        let length: usize = 5 + self.fields.iter().map(Field::length).sum::<usize>();
        out.reserve(4 + length);
        // Paths and pieces are far shorter than what a number can say.
        out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        out.push(self.kind);
        out.extend(id.to_be_bytes());
        for field in &self.fields {
            match field {
                Field::Number(number) => out.extend(number.to_be_bytes()),
                Field::Long(number) => out.extend(number.to_be_bytes()),
                Field::Text(text) => {
                    out.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
                    out.extend_from_slice(text);
                }
            }
        }
    }
}

impl Field<'_> {
    fn length(&self) -> usize {
        match self {
            Field::Number(_) => 4,
            Field::Long(_) => 8,
            Field::Text(text) => 4 + text.len(),
        }
    }
}

/// Attributes with nothing but who may do what.
fn only_ours(mode: u32) -> Vec<Field<'static>> {
    vec![Field::Number(HAS_MODE), Field::Number(mode)]
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub size: Option<u64>,
    pub mode: Option<u32>,
    /// Seconds since the Unix epoch.
    pub modified: Option<u32>,
}

impl Attributes {
    const TYPE: u32 = 0o170_000;

    pub fn is_folder(&self) -> bool {
        self.mode.is_some_and(|mode| mode & Self::TYPE == 0o040_000)
    }

    pub fn is_file(&self) -> bool {
        self.mode.is_some_and(|mode| mode & Self::TYPE == 0o100_000)
    }
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    pub attributes: Attributes,
}

/// What a server said instead of doing it (section 7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub code: u32,
    pub said: String,
}

impl Refused {
    pub const GONE: u32 = 2;
    pub const DENIED: u32 = 3;
    pub const FAILURE: u32 = 4;
    pub const UNSUPPORTED: u32 = 8;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    /// There is no more to read.
    End,
    Refused(Refused),
    Handle(Vec<u8>),
    Data(Vec<u8>),
    Names(Vec<Entry>),
    Attributes(Attributes),
}

/// What is left of a packet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn long(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }

    fn attributes(&mut self) -> Option<Attributes> {
        let has = self.number()?;
        let size = if has & HAS_SIZE == 0 { None } else { Some(self.long()?) };
        if has & HAS_OWNER != 0 {
            self.take(8)?;
        }
        let mode = if has & HAS_MODE == 0 { None } else { Some(self.number()?) };
        let modified = if has & HAS_TIMES == 0 { None } else { self.take(4).and_then(|_| self.number()) };
        if has & HAS_EXTENDED != 0 {
            for _ in 0..self.number()? {
                self.text()?;
                self.text()?;
            }
        }
        Some(Attributes { size, mode, modified })
    }
}

/// Which request a packet answers, and how; `None`: it is no answer.
pub(super) fn answer(packet: &[u8]) -> Option<(u32, Answer)> {
    let (kind, rest) = packet.split_first()?;
    let mut rest = Rest(rest);
    let id = rest.number()?;
    let answer = match *kind {
        kind::STATUS => match rest.number()? {
            0 => Answer::Done,
            1 => Answer::End,
            // Some servers say nothing but the number.
            code => Answer::Refused(Refused { code, said: plain(rest.text().unwrap_or_default()) }),
        },
        kind::HANDLE => Answer::Handle(rest.text().filter(|handle| handle.len() <= HANDLE_MAX)?.to_vec()),
        kind::DATA => Answer::Data(rest.text()?.to_vec()),
        kind::ATTRS => Answer::Attributes(rest.attributes()?),
        kind::NAME => {
            let mut names = Vec::new();
            for _ in 0..rest.number()? {
                let name = rest.text()?;
                // How `ls -l` would show it.
                rest.text()?;
                let attributes = rest.attributes()?;
                // No name of ours is anything else.
                if let Ok(name) = String::from_utf8(name.to_vec()) {
                    names.push(Entry { name, attributes });
                }
            }
            Answer::Names(names)
        }
        _ => return None,
    };
    Some((id, answer))
}

/// The names of the extensions that a server offers, from its first packet; `None`: it is none.
pub(super) fn extensions(packet: &[u8]) -> Option<(u32, Vec<String>)> {
    let (kind, rest) = packet.split_first().filter(|(kind, _)| **kind == kind::VERSION)?;
    let (_, mut rest) = (kind, Rest(rest));
    let version = rest.number()?;
    let mut names = Vec::new();
    while !rest.0.is_empty() {
        names.push(String::from_utf8_lossy(rest.text()?).into_owned());
        rest.text()?;
    }
    Some((version, names))
}

/// A stranger's text, for a terminal.
pub(super) fn plain(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(SAID_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_the_draft_says() {
        let mut out = Vec::new();
        Request::open("/a", open::WRITE | open::CREATE | open::EXCLUSIVE).put(7, &mut out);
        Request::write(b"h", 1 << 33, b"xyz").put(8, &mut out);
        let open = b"\0\0\0\x17\x03\0\0\0\x07\0\0\0\x02/a\0\0\0\x2a\0\0\0\x04\0\0\x01\x80";
        let write = b"\0\0\0\x19\x06\0\0\0\x08\0\0\0\x01h\0\0\0\x02\0\0\0\0\0\0\0\x03xyz";
        assert_eq!(out, [&open[..], &write[..]].concat());
    }

    #[test]
    fn answers_are_read_and_nothing_else() {
        let refused = |code, said: &str| Answer::Refused(Refused { code, said: said.into() });
        let attributes = Attributes { size: Some(5), mode: Some(0o100_600), modified: Some(9) };
        let entry = Entry { name: "ab".into(), attributes };
        let name = b"\x68\0\0\0\x01\0\0\0\x01\0\0\0\x02ab\0\0\0\x01-\
                     \x80\0\0\x0f\0\0\0\0\0\0\0\x05\0\0\0\x01\0\0\0\x02\0\0\x81\x80\0\0\0\x08\0\0\0\x09\
                     \0\0\0\x01\0\0\0\x01e\0\0\0\x01f";
        for (packet, expected) in [
            (&b"\x65\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0"[..], Some((1, Answer::Done))),
            (b"\x65\0\0\0\x01\0\0\0\x01", Some((1, Answer::End))),
            (b"\x65\0\0\0\x02\0\0\0\x04\0\0\0\x03N\x07o", Some((2, refused(4, "No")))),
            (b"\x65\0\0\0\x02\0\0\0\x04", Some((2, refused(4, "")))),
            (b"\x66\0\0\0\x01\0\0\0\x01h", Some((1, Answer::Handle(b"h".to_vec())))),
            (b"\x66\0\0\0\x01\0\0\0\x02h", None),
            (b"\x67\0\0\0\x01\0\0\0\x02xy", Some((1, Answer::Data(b"xy".to_vec())))),
            (b"\x67\0\0\0\x01\xff\xff\xff\xffxy", None),
            (b"\x69\0\0\0\x01\0\0\0\0", Some((1, Answer::Attributes(Attributes::default())))),
            (name, Some((1, Answer::Names(vec![entry])))),
            (b"\x68\0\0\0\x01\xff\xff\xff\xff", None),
            (b"\x01\0\0\0\x01", None),
            (b"\x65", None),
            (b"", None),
        ] {
            assert_eq!(answer(packet), expected, "{packet:x?}");
        }
        // No beginning of an answer is another one, and none is too much.
        for end in 0..name.len() {
            assert_eq!(answer(&name[..end]), None, "{end}");
        }
    }

    #[test]
    fn extensions_are_named() {
        let first = b"\x02\0\0\0\x03\0\0\0\x11fsync@openssh.com\0\0\0\x011";
        assert_eq!(extensions(first), Some((3, vec![FSYNC.to_owned()])));
        assert_eq!(extensions(b"\x02\0\0\0\x03"), Some((3, vec![])));
        assert_eq!(extensions(b"\x02\0\0\0\x03\0\0\0\x11fsync"), None);
        assert_eq!(extensions(b"\x65\0\0\0\x03"), None);
    }

    /// Whatever comes is an answer or none, and no more is made of it than was in it.
    #[test]
    fn nothing_that_comes_breaks_it() {
        let mut random = fastrand::Rng::with_seed(1);
        let kinds = [kind::VERSION, kind::STATUS, kind::HANDLE, kind::DATA, kind::NAME, kind::ATTRS, 0, 201];
        for _ in 0..200_000 {
            let mut packet = vec![kinds[random.usize(..kinds.len())]];
            // Small numbers are what lengths and counts are.
            packet.extend(
                (0..random.usize(..80))
                    .map(|_| if random.u8(..3) == 0 { random.u8(..) } else { random.u8(..3) }),
            );
            let _ = extensions(&packet);
            match answer(&packet) {
                Some((_, Answer::Names(names))) => assert!(names.len() * 12 <= packet.len()),
                Some((_, Answer::Data(data))) => assert!(data.len() < packet.len()),
                _ => {}
            }
        }
    }
}
