//! One backup, as the repository lists it.

use serde::{Deserialize, Serialize};

use crate::Id;

/// One backup. The fields are restic's; what others wrote besides is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Of the object; not in it.
    #[serde(skip, default = "nameless")]
    pub id: Id,
    /// When the backup was begun.
    pub time: jiff::Timestamp,
    /// The root of its files.
    pub tree: Id,
    /// What was backed up, in words of the writer.
    #[serde(default)]
    pub paths: Vec<String>,
    /// On which machine.
    #[serde(default)]
    pub hostname: String,
    /// By whom.
    #[serde(default)]
    pub username: String,
    /// As restic's `--tag`.
    #[serde(
        default,
        deserialize_with = "crate::tree::null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub tags: Vec<String>,
}

pub(crate) fn nameless() -> Id {
    Id([0; 32])
}
