//! What was seen, when, of what: the records that a report is made of.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::words::Words;

/// The kinds of ledger entries that this crate writes and reads.
pub mod kind {
    /// A check looked: [`Evidence`](super::Evidence).
    pub const EVIDENCE: &str = "evidence";
    /// A planted fault was looked for: [`Control`](super::Control).
    pub const CONTROL: &str = "control";
    /// A person vouches: [`Attestation`](super::Attestation).
    pub const ATTESTATION: &str = "attestation";
    /// What `klar.toml` says about checks: [`Declared`](crate::own::Declared).
    pub const DECLARED: &str = "declared";
}

/// What a check saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Which check.
    pub check: String,
    /// Its version.
    pub version: u32,
    /// What it looked at: the app and environment (`lisens.prod`), or an address.
    pub target: String,
    /// The release that ran there.
    pub release: Option<String>,
    /// Where: on the target itself, or in a rig.
    pub place: Place,
    /// When it began to look.
    pub began: Timestamp,
    /// When it was done.
    pub ended: Timestamp,
    /// Whether it was let look and came to nothing: it ran out of time, broke down, or the app stood in its way. What it
    /// saw before is then not as good as new.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gave_up: bool,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Evidence {
    /// What is left of an entry whose payload was erased: that this check looked then, at whatever it was.
    #[must_use]
    pub fn erased(check: &str, at: Timestamp) -> Self {
        Self {
            check: check.to_owned(),
            version: 0,
            target: String::new(),
            release: None,
            place: Place::Target,
            began: at,
            ended: at,
            gave_up: false,
            outcome: Outcome::Erased,
        }
    }
}

/// Where a check looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// At the app as it serves.
    Target,
    /// At a copy made for the purpose, of the same release.
    Rig,
}

/// What came of a look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Data for the check's own judgement.
    Seen(Value),
    /// Nothing, and why.
    Unable(Words),
    /// It was taken out of the ledger since.
    Erased,
}

/// That a check found, or did not find, a planted fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Which check.
    pub check: String,
    /// Its version.
    pub version: u32,
    /// The faults that were planted.
    pub planted: Vec<String>,
    /// Those it did not find. None: its pass counts.
    pub missed: Vec<String>,
}

/// What a person says of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// Of which app and environment, or which address: what is signed for one says nothing of another.
    #[serde(default)]
    pub target: String,
    /// Which row.
    pub row: String,
    /// What it is that they sign.
    pub says: Says,
    /// Who.
    pub by: String,
    /// The last day it is good.
    pub until: jiff::civil::Date,
    /// Of the document behind it: its name.
    pub document: Option<String>,
    /// Of the document behind it: SHA-256.
    pub digest: Option<String>,
    /// In their own words.
    pub note: Option<String>,
}

/// What an attestation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Says {
    /// It holds.
    Holds,
    /// It does not apply to this app.
    NotApplicable,
    /// It does not hold, and that is accepted for a while.
    Accepted,
}
