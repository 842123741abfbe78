//! Points: what can be restored from, and what is known of whether it can.
//!
//! ```text
//! klar/points/20261123T020000Z-9f3a.json                    a base, and from where to where its log has to be: signed
//! klar/proofs/20261123T020000Z-9f3a.20261123T021500.123456Z.json   one restore of it, and what was found: signed
//! ```
//!
//! A point is written when base and log are in the repository. It is *proven* when it was restored and compared; until
//! then it is a candidate, and nobody is told that there is a backup.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use klar_repo::{Id, Object, Repository, StorageError};
use klar_store::{KeyId, SigningKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::Base;
use crate::lsn::{Lsn, SegmentSize, Timeline};
use crate::server::Facts;
use crate::signed::{self, SignedError};

/// Where points are.
pub const POINTS: &str = "klar/points/";
/// Where proofs are.
pub const PROOFS: &str = "klar/proofs/";

/// Names a point: when it was begun (to the second), and four digits of its snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PointId(String);

/// Not the name of a point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no point: expected a name such as 20261123T020000Z-9f3a; `klar backup list` shows all")]
pub struct NotAPoint(String);

/// A base with its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// 1.
    pub format: u32,
    /// Names it.
    pub id: PointId,
    /// The cluster.
    pub system: u64,
    /// PostgreSQL's, as a number: 150018 for 15.18.
    pub version: u32,
    /// What it was taken on.
    pub timeline: Timeline,
    /// How long segments are.
    pub segment_size: SegmentSize,
    /// Replay begins here.
    pub start: Lsn,
    /// It is of use from here on.
    pub stop: Lsn,
    /// When it was begun, by the server's clock.
    pub begun: Timestamp,
    /// The earliest time that can be restored with it, by the server's clock.
    pub stopped: Timestamp,
    /// The files.
    pub snapshot: Id,
    /// A digest over all of them.
    pub tree: Id,
    /// How many.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that the repository grew by.
    pub added: u64,
    /// Whether pages have checksums.
    pub checksums: bool,
    /// What a server needs at least to replay: names of settings and numbers.
    pub needs: Vec<(String, String)>,
    /// What was in the tables at one place of the log; `None`: writers did not let go of them.
    pub witness: Option<Witness>,
}

/// What every point has, whatever it is of.
pub trait AnyPoint: Serialize + DeserializeOwned {
    /// 1.
    fn format(&self) -> u32;
    /// Names it.
    fn id(&self) -> &PointId;
    /// The earliest time that can be restored with it.
    fn stopped(&self) -> Timestamp;
    /// The files.
    fn snapshot(&self) -> Id;
    /// A digest over all of them.
    fn tree(&self) -> Id;
    /// Bytes of them, and bytes that the repository grew by.
    fn sizes(&self) -> (u64, u64);

    /// Signs it and writes it.
    ///
    /// # Errors
    /// The storage.
    fn publish(&self, repository: &Repository, key: &SigningKey) -> Result<(), SignedError> {
        signed::write(repository, &name(self.id()), self, key)
    }

    /// Reads one.
    ///
    /// # Errors
    /// One that is not there, or that none of `trusted` has signed.
    fn read(repository: &Repository, id: &PointId, trusted: &[KeyId]) -> Result<Self, SignedError> {
        let point: Self = signed::read(repository, &name(id), trusted)?;
        match point.id() == id && point.format() == 1 {
            true => Ok(point),
            false => Err(SignedError::Content { name: name(id), why: format!("it is {}", point.id()) }),
        }
    }
}

impl AnyPoint for Point {
    fn format(&self) -> u32 {
        self.format
    }

    fn id(&self) -> &PointId {
        &self.id
    }

    fn stopped(&self) -> Timestamp {
        self.stopped
    }

    fn snapshot(&self) -> Id {
        self.snapshot
    }

    fn tree(&self) -> Id {
        self.tree
    }

    fn sizes(&self) -> (u64, u64) {
        (self.bytes, self.added)
    }
}

/// What was in all tables at one place of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// The name of the restore point.
    pub name: String,
    /// Where it is.
    pub lsn: Lsn,
    /// When, by the server's clock.
    pub time: Timestamp,
    /// All of them, in order.
    pub tables: Vec<TableCount>,
}

/// What was in one table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableCount {
    /// Its database.
    pub database: String,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// How much of it was read, in percent of its pages: 100 is all.
    pub share: u8,
    /// Rows that were read.
    pub rows: u64,
    /// Sum of the hashes of their texts, which does not depend on their order.
    pub digest: String,
}

/// One restore of a point, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// 1.
    pub format: u32,
    /// Of which point.
    pub point: PointId,
    /// When it was begun.
    pub begun: Timestamp,
    /// What was looked at, in order.
    pub steps: Vec<Step>,
    /// Every commit that was acknowledged until then was in the log that was replayed.
    pub covered: Option<Timestamp>,
    /// From the first byte to a server that can be written to, in milliseconds; `None`: it did not come so far.
    pub rto_ms: Option<u64>,
    /// How much of the newest data was not in the repository, in milliseconds of the server's clock.
    pub rpo_ms: Option<u64>,
    /// Whether it was opened with the key that lies in a drawer.
    pub escrow: bool,
    /// From where, where that was not the first place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Which.
    pub what: StepKind,
    /// What became of it.
    pub outcome: Outcome,
    /// What was found, for people.
    pub evidence: String,
    /// How long it took.
    pub ms: u64,
}

/// What a drill looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// The base's files came back.
    Files,
    /// They are what was read when the point was taken.
    Contents,
    /// Its log came back without a gap.
    Log,
    /// A server replayed it.
    Replay,
    /// All tables are what they were.
    Tables,
    /// Indexes and tables agree (`pg_amcheck`).
    Structure,
    /// The app's own questions.
    Assertions,
    /// Each page is what was written (`pg_checksums`).
    Checksums,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Could not be looked at; the evidence says why.
    Skipped,
}

impl PointId {
    /// The name of what was begun then and is in this snapshot.
    #[must_use]
    pub fn new(begun: Timestamp, snapshot: Id) -> Self {
        Self(format!("{}-{}", begun.strftime("%Y%m%dT%H%M%SZ"), &snapshot.to_string()[..4]))
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PointId {
    type Err = NotAPoint;

    fn from_str(text: &str) -> Result<Self, NotAPoint> {
        let bytes = text.as_bytes();
        let is_it = bytes.len() == 21
            && bytes.iter().enumerate().all(|(at, byte)| match at {
                8 => *byte == b'T',
                15 => *byte == b'Z',
                16 => *byte == b'-',
                17.. => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
                _ => byte.is_ascii_digit(),
            });
        match is_it {
            true => Ok(Self(text.to_owned())),
            false => Err(NotAPoint(text.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for PointId {
    type Error = NotAPoint;

    fn try_from(text: String) -> Result<Self, NotAPoint> {
        text.parse()
    }
}

impl From<PointId> for String {
    fn from(id: PointId) -> String {
        id.0
    }
}

impl Point {
    /// What a base of a server came to; its log has to be in the repository before it is published.
    #[must_use]
    pub fn new(facts: &Facts, base: &Base, witness: Option<Witness>) -> Self {
        Self {
            format: 1,
            id: base.id(),
            system: facts.system,
            version: facts.version,
            timeline: facts.timeline,
            segment_size: facts.segment_size,
            start: base.start,
            stop: base.stop,
            begun: base.begun,
            stopped: base.stopped,
            snapshot: base.stored.snapshot,
            tree: base.stored.tree,
            files: base.stored.files,
            bytes: base.stored.bytes_read,
            added: base.stored.bytes_added,
            checksums: facts.checksums,
            needs: facts.standby_needs.clone(),
            witness,
        }
    }
}

fn name(id: &PointId) -> String {
    format!("{POINTS}{id}.json")
}

impl Proof {
    /// Whether everything that could be looked at was as it should be, and a server came up.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let is_bad = self.steps.iter().any(|step| step.outcome == Outcome::Bad);
        !is_bad && self.rto_ms.is_some()
    }

    /// The first thing that was not as it should be.
    #[must_use]
    pub fn first_bad(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.outcome == Outcome::Bad)
    }

    /// Why it is not good: what was not as it should be, or where nothing came up, what could not be looked at.
    #[must_use]
    pub fn lack(&self) -> Option<&Step> {
        let mut skipped = self.steps.iter().filter(|step| step.outcome == Outcome::Skipped);
        self.first_bad().or_else(|| skipped.find(|_| self.rto_ms.is_none()))
    }

    /// Signs it and writes it.
    ///
    /// # Errors
    /// The storage.
    pub fn publish(&self, repository: &Repository, key: &SigningKey) -> Result<(), SignedError> {
        // Two of them may be made in a second.
        let name = format!("{PROOFS}{}.{}.json", self.point, self.begun.strftime("%Y%m%dT%H%M%S%.6fZ"));
        signed::write(repository, &name, self, key)
    }
}

/// Who has signed points in a repository that another machine has written.
///
/// # Errors
/// Where it cannot be listed, or one does not open.
pub fn signers(repository: &Repository) -> Result<Vec<KeyId>, SignedError> {
    let mut signers = Vec::new();
    for (object, _) in repository.storage().list_extra(POINTS)? {
        let signer = signed::signer(repository, &object)?;
        if !signers.contains(&signer) {
            signers.push(signer);
        }
    }
    Ok(signers)
}

/// All points and proofs of a repository.
#[derive(Debug)]
pub struct Points<P = Point> {
    /// Points, the oldest first.
    pub points: BTreeMap<PointId, P>,
    /// Proofs of each, the oldest first.
    pub proofs: BTreeMap<PointId, Vec<Proof>>,
    /// What nobody vouches for.
    pub refused: Vec<SignedError>,
}

impl<P: AnyPoint> Points<P> {
    /// Reads all. What cannot be believed is named and counts as not there.
    ///
    /// # Errors
    /// Where the repository cannot be listed.
    pub fn read(repository: &Repository, trusted: &[KeyId]) -> Result<Self, SignedError> {
        let mut all = Self { points: BTreeMap::new(), proofs: BTreeMap::new(), refused: Vec::new() };
        for (object, _) in repository.storage().list_extra(POINTS)? {
            let id = object.strip_prefix(POINTS).and_then(|rest| rest.strip_suffix(".json"));
            let content =
                |why: NotAPoint| SignedError::Content { name: object.clone(), why: why.to_string() };
            match id.unwrap_or_default().parse().map_err(content) {
                Ok(id) => match P::read(repository, &id, trusted) {
                    Ok(point) => drop(all.points.insert(id, point)),
                    Err(error) => all.refused.push(error),
                },
                Err(error) => all.refused.push(error),
            }
        }
        for (object, _) in repository.storage().list_extra(PROOFS)? {
            match signed::read::<Proof>(repository, &object, trusted) {
                Ok(proof) => all.proofs.entry(proof.point.clone()).or_default().push(proof),
                Err(error) => all.refused.push(error),
            }
        }
        for proofs in all.proofs.values_mut() {
            proofs.sort_by_key(|proof| proof.begun);
        }
        Ok(all)
    }

    /// What was found when a point was restored last.
    #[must_use]
    pub fn last_proof(&self, id: &PointId) -> Option<&Proof> {
        self.proofs.get(id)?.last()
    }

    /// Removes a point and its proofs: its snapshot stays until somebody forgets it.
    ///
    /// # Errors
    /// The storage.
    pub fn remove(&mut self, repository: &Repository, id: &PointId) -> Result<(), SignedError> {
        // Proofs first: one that speaks of no point tells that somebody else has removed that.
        let of_it = format!("{PROOFS}{id}.");
        for (object, _) in repository.storage().list_extra(PROOFS)? {
            if object.starts_with(&of_it) {
                repository.storage().remove(&Object::Extra(object))?;
            }
        }
        repository.storage().remove(&Object::Extra(name(id)))?;
        self.points.remove(id);
        self.proofs.remove(id);
        Ok(())
    }

    /// Points that were proven once and are not there, though nobody has removed them in good order.
    ///
    /// # Errors
    /// Where the repository cannot be listed.
    pub fn lost(&self, repository: &Repository) -> Result<Vec<PointId>, StorageError> {
        let (points, proofs) =
            (repository.storage().list_extra(POINTS)?, repository.storage().list_extra(PROOFS)?);
        let is_there =
            |all: &[(String, u64)], start: &str| all.iter().any(|(name, _)| name.starts_with(start));
        let is_lost = |id: &&PointId| {
            is_there(&proofs, &format!("{PROOFS}{id}.")) && !is_there(&points, &format!("{POINTS}{id}."))
        };
        Ok(self.proofs.keys().filter(is_lost).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_points() {
        let id = PointId::new("2026-11-23T02:00:00.5Z".parse().unwrap(), Id::of(b"x"));
        assert_eq!(id.to_string(), "20261123T020000Z-2d71");
        assert_eq!(id.to_string().parse::<PointId>().unwrap(), id);
        for wrong in
            ["", "20261123T020000Z", "20261123T020000Z-2D71", "2026-11-23T02:00:00Z", "../../../../../../a.b"]
        {
            assert!(wrong.parse::<PointId>().is_err(), "{wrong}");
        }
    }
}
