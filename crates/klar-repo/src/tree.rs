//! Trees: the folders of a snapshot, as restic writes them.

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

/// Go writes an empty list as `null`.
pub(crate) fn null_is_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}
