//! Trees: the folders of a snapshot, as restic writes them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use crate::Id;

/// What is known of a file besides its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Permissions and the set-user, set-group and sticky bits: 0o7777 at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When the content changed last.
    pub mtime: jiff::Timestamp,
}

impl From<&std::fs::Metadata> for Metadata {
    fn from(of: &std::fs::Metadata) -> Metadata {
        let nanoseconds = i32::try_from(of.mtime_nsec()).unwrap_or_default();
        Metadata {
            mode: of.mode() & 0o7777,
            uid: of.uid(),
            gid: of.gid(),
            mtime: jiff::Timestamp::new(of.mtime(), nanoseconds).unwrap_or_default(),
        }
    }
}

/// Bits of Go's `os.FileMode`, which differ from those of Unix.
const DIR: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const SPECIAL: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

fn to_go(mode: u32, kind: &str) -> u32 {
    let special = SPECIAL.iter().filter(|(unix, _)| mode & unix != 0).fold(0, |all, (_, go)| all | go);
    let kind = match kind {
        "dir" => DIR,
        "symlink" => SYMLINK,
        _ => 0,
    };
    mode & 0o777 | special | kind
}

/// Permissions as Unix has them.
pub(crate) fn to_unix(mode: u32) -> u32 {
    SPECIAL.iter().filter(|(_, go)| mode & go != 0).fold(mode & 0o777, |all, (unix, _)| all | unix)
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Tree {
    #[serde(default, deserialize_with = "null_is_default")]
    pub nodes: Vec<Node>,
}

/// A file, a folder or a link. Fields that others write besides are passed over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Node {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub mode: u32,
    pub mtime: jiff::Timestamp,
    pub atime: jiff::Timestamp,
    pub ctime: jiff::Timestamp,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
    #[serde(default)]
    pub size: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub linktarget: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub content: Vec<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtree: Option<Id>,
}

impl Node {
    pub fn new(name: &str, kind: &str, metadata: &Metadata) -> Node {
        Node {
            name: name.to_owned(),
            kind: kind.to_owned(),
            mode: to_go(metadata.mode, kind),
            mtime: metadata.mtime,
            atime: metadata.mtime,
            ctime: metadata.mtime,
            uid: metadata.uid,
            gid: metadata.gid,
            size: 0,
            linktarget: String::new(),
            content: Vec::new(),
            subtree: None,
        }
    }
}

/// A name as restic writes it: as Go quotes it, without the quotes.
pub(crate) fn quoted(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_bytes().utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' | '\\' => text.extend(['\\', letter]),
                '\0'..='\x1f' | '\x7f' => text += &format!("\\x{:02x}", u32::from(letter)),
                letter => text.push(letter),
            }
        }
        chunk.invalid().iter().for_each(|byte| text += &format!("\\x{byte:02x}"));
    }
    text
}

/// The name that was quoted so, in any of Go's ways; `None`: it is none.
pub(crate) fn unquoted(text: &str) -> Option<OsString> {
    let mut name = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let mut push = |letter: char| name.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        if letter != '\\' {
            push(letter);
            continue;
        }
        match letters.next()? {
            letter @ ('"' | '\\' | '\'') => push(letter),
            'a' => name.push(7),
            'b' => name.push(8),
            't' => name.push(9),
            'n' => name.push(10),
            'v' => name.push(11),
            'f' => name.push(12),
            'r' => name.push(13),
            'x' => name.push(u8::try_from(number(&mut letters, 2, 16)?).ok()?),
            'u' => push(char::from_u32(number(&mut letters, 4, 16)?)?),
            'U' => push(char::from_u32(number(&mut letters, 8, 16)?)?),
            first @ '0'..='7' => {
                name.push(u8::try_from(first.to_digit(8)? * 64 + number(&mut letters, 2, 8)?).ok()?);
            }
            _ => return None,
        }
    }
    Some(OsString::from_vec(name))
}

fn number(letters: &mut std::str::Chars<'_>, digits: usize, radix: u32) -> Option<u32> {
    (0..digits).try_fold(0, |number, _| Some(number * radix + letters.next()?.to_digit(radix)?))
}

/// Go writes an empty list as `null`.
pub(crate) fn null_is_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_go_writes_them() {
        for (name, text) in [
            (&b"report.pdf"[..], "report.pdf"),
            ("blåbær 漢".as_bytes(), "blåbær 漢"),
            (b"a\"b\\c", r#"a\"b\\c"#),
            (b"line\nend\x7f", r"line\x0aend\x7f"),
            (b"latin \xe5", r"latin \xe5"),
        ] {
            assert_eq!(quoted(OsStr::from_bytes(name)), text);
            assert_eq!(unquoted(text).unwrap().as_bytes(), name);
        }
        // Ways that restic has and klar has not.
        assert_eq!(unquoted(r"a\nb\u00e5\U0001f600\101").unwrap().as_bytes(), "a\nbå😀A".as_bytes());
        for text in [r"a\", r"\q", r"\x4", r"\xzz", r"\ud800", r"\u+0e5", r"\777"] {
            assert_eq!(unquoted(text), None, "{text}");
        }
    }
}
