//! The second place: it gets each object a few seconds after the first one, and once a week it is restored from there
//! alone.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use klar_base::keep::{SecondPlace, SecondStatus, Told};
use klar_repo::{Compared, Extras, Gone, Kind, Mirror, MirrorError, Object, Repository, Storage};
use serde::{Deserialize, Serialize};

use super::ahead::Ahead;
use super::{ESCROW, Inner, KeepError, Keeper, Settings};
use crate::elsewhere;
use crate::point::{POINTS, PROOFS, Points};
use crate::ship::Shipped;
use crate::wal::{BATCHES, PIECES, TIDES};

/// How often it is brought up to date.
const TURN: Duration = Duration::from_secs(3);
/// After a turn that failed.
const AGAIN: Duration = Duration::from_secs(20);
/// What is gone here goes there after so long.
const DELAY: SignedDuration = SignedDuration::from_hours(7 * 24);
const MEMORY: &str = "offsite.json";
/// What is written there to see whether it can be removed.
const PROBES: &str = "klar/probes/";
/// How often it is restored from there.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is beside restic's objects: what says that others can be used comes last.
pub(super) const EXTRAS: Extras =
    Extras { prefixes: &[PIECES, BATCHES, TIDES, PROOFS, POINTS], newest: TIDES };

/// What is known of it.
#[derive(Default)]
pub(super) struct Second {
    /// Which place that is said of.
    place: Option<SecondPlace>,
    pub covered: Option<Timestamp>,
    /// Why it would be lost with this machine's disk.
    together: Option<String>,
    /// What it had of the log after the last turn.
    shipped: Option<Shipped>,
}

/// What is remembered of it: `offsite.json`.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
struct Memory {
    /// It had the repository.
    place: String,
    gone: Gone,
}

/// A place that was looked at.
struct Open {
    place: SecondPlace,
    mirror: Mirror,
}

impl Inner {
    pub(super) fn second(&self) {
        let mut open: Option<Open> = None;
        while !self.is_over() {
            let turned = match self.wishes().second {
                None => {
                    open = None;
                    self.shared().second = Second::default();
                    Ok(())
                }
                Some(place) => self.second_turn(place, &mut open),
            };
            if turned.is_err() {
                open = None;
            }
            self.note("second", &turned);
            self.rest_for(if turned.is_ok() { TURN } else { AGAIN });
        }
    }

    fn second_turn(&self, place: SecondPlace, open: &mut Option<Open>) -> Result<(), KeepError> {
        if open.as_ref().is_none_or(|open| open.place != place) {
            let mirror = self.sender().mirror(&place)?;
            *open = Some(Open { place: place.clone(), mirror });
            let together = elsewhere::together(&place.place, &self.settings.home);
            self.shared().second = Second { place: Some(place), together, ..Second::default() };
        }
        let Some(Open { mirror, place }) = open else { return Ok(()) };
        let streaming = self.shared().streaming.clone();
        let shipped = streaming.map(|streaming| streaming.progress.now());
        // What nobody has proven here may be what that place is needed for.
        let may_remove = self.shared().known.proven.is_some();
        if self.sender().turn(mirror, place, may_remove)? {
            let mut shared = self.shared();
            shared.second.covered = shipped.and_then(|shipped| shipped.covered);
            shared.second.shipped = shipped;
            drop(shared);
            if let Some(shipped) = shipped {
                self.tidy_ahead(mirror.storage(), shipped)?;
            }
        }
        Ok(())
    }

    pub(super) fn sender(&self) -> Sender<'_> {
        let Settings { home, second_name, .. } = &self.settings;
        Sender { repository: &self.repository, home, name: second_name }
    }

    fn second_place(&self) -> Result<SecondPlace, KeepError> {
        self.wishes().second.ok_or_else(|| KeepError::Lack {
            what: "there is no second place".into(),
            hint: "`offsite` in [backup] of klar.toml names one".into(),
        })
    }

    /// The second place as a repository of its own.
    pub(super) fn second_repository(&self, escrow: Option<&str>) -> Result<(String, Repository), KeepError> {
        let place = self.second_place()?;
        let storage = self.sender().storage(&place)?;
        let own;
        let password = match escrow {
            Some(password) => password,
            None => {
                own = self.password()?;
                &own
            }
        };
        Ok((place.place, Repository::open(storage, password)?))
    }

    pub(super) fn second_status(&self) -> Option<SecondStatus> {
        let wishes = self.wishes();
        let place = wishes.second?.place;
        let shared = self.shared();
        let ms = |time: Option<Timestamp>| time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
        let is_this = shared.second.place.as_ref().is_some_and(|of| of.place == place);
        // All before the stream is in the repository there, and all that was acknowledged since is in the stream.
        let is_whole = |ahead: &Ahead| {
            let shipped = shared.second.shipped.filter(|_| is_this && shared.known.points > 0);
            shipped.is_some_and(|shipped| shipped.timeline == ahead.timeline && shipped.lsn >= ahead.since)
        };
        let synchronous = wishes.synchronous.then(|| shared.ahead.as_ref().is_some_and(is_whole));
        Some(SecondStatus {
            covered_unix_ms: ms(shared.second.covered.filter(|_| is_this)),
            proven_unix_ms: ms(shared
                .known
                .second_proven
                .clone()
                .filter(|(of, _)| *of == place)
                .map(|(_, at)| at)),
            synchronous,
            together: shared.second.together.clone().filter(|_| is_this),
            place,
        })
    }

    /// Whether it has the newest point, and was not restored from for a week.
    pub(super) fn second_is_due(&self) -> bool {
        let Some(SecondStatus { covered_unix_ms, proven_unix_ms, .. }) = self.second_status() else {
            return false;
        };
        let ms = |time: Timestamp| u64::try_from(time.as_millisecond()).unwrap_or_default();
        let now = Timestamp::now();
        let newest = self.shared().known.newest(now).map(ms);
        let has_newest = newest.is_some() && covered_unix_ms > newest;
        // Also where that was by a clock that was ahead.
        let since = ms(now).abs_diff(proven_unix_ms.unwrap_or_default());
        has_newest && u128::from(since) > WEEK.as_millis()
    }
}

/// When the newest point was restored last from each place but the first, and found good.
pub(crate) fn proven<P>(points: &Points<P>) -> Option<(String, Timestamp)> {
    let all = points.proofs.values().flatten().filter(|proof| proof.is_good());
    let elsewhere = all.filter_map(|proof| Some((proof.place.clone()?, proof.begun)));
    elsewhere.max_by_key(|(_, begun)| *begun)
}

impl Keeper {
    /// Whether there is one.
    pub(crate) fn has_second(&self) -> bool {
        self.inner.wishes().second.is_some()
    }

    /// As [`Sender::compare`], with the place.
    ///
    /// # Errors
    /// There is no second place, or one of both cannot be listed.
    pub(crate) fn compare(&self) -> Result<(String, Compared), KeepError> {
        let place = self.inner.second_place()?;
        Ok((place.place.clone(), self.inner.sender().compare(&place)?))
    }

    /// As [`Sender::look`].
    ///
    /// # Errors
    /// As [`Keeper::compare`]; it cannot be written to.
    pub(crate) fn look_at_second(&self) -> Result<Told, KeepError> {
        self.inner.sender().look(&self.inner.second_place()?)
    }
}

/// Sends a repository to another place.
pub(crate) struct Sender<'a> {
    pub repository: &'a Repository,
    /// The folder that has the repository, and what is remembered of that place.
    pub home: &'a Path,
    /// Where it is within the place.
    pub name: &'a str,
}

impl Sender<'_> {
    pub fn storage(&self, place: &SecondPlace) -> Result<Arc<dyn Storage>, KeepError> {
        elsewhere::storage(place, self.name, &elsewhere::keys(self.home))
    }

    /// Looks at a place; one that had the repository and is empty is left alone: a disk may not be mounted.
    pub fn mirror(&self, place: &SecondPlace) -> Result<Mirror, KeepError> {
        let storage = self.storage(place)?;
        let is_empty = storage.read(&Object::Config).is_err_and(|error| error.is_gone());
        if is_empty && self.memory().place == place.place {
            return Err(KeepError::Lack {
                what: format!("{} is empty, and had the repository", place.place),
                hint: format!(
                    "mount it; if it was emptied on purpose, remove {}",
                    self.home.join(MEMORY).display()
                ),
            });
        }
        Ok(Mirror::open(self.repository, storage, EXTRAS)?)
    }

    /// Adds a password that opens the repository, also at the second place: it is printed for the day when that is all there
    /// is, which may be today.
    pub fn escrow(&self, password: &str, place: Option<&SecondPlace>) -> Result<(), KeepError> {
        let added = self.repository.add_key(password, ESCROW);
        let key = Object::Stored(Kind::Key, added.map_err(|error| KeepError::Open(error.into()))?);
        let Some(place) = place else { return Ok(()) };
        let sent = self.mirror(place).and_then(|mirror| {
            let bytes = self.repository.storage().read(&key).map_err(MirrorError::from)?;
            Ok(mirror.storage().write(&key, &bytes).map_err(MirrorError::from)?)
        });
        sent.map_err(|error| KeepError::Lack {
            what: format!("the key opens the repository here, and not at {}: {error}", place.place),
            hint: "see that the place can be reached, then run `klar backup key` again".into(),
        })
    }

    fn memory(&self) -> Memory {
        let read = fs::read(self.home.join(MEMORY)).ok();
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Brings it up to date; `false`: there was more than could be sent.
    pub fn turn(
        &self,
        mirror: &mut Mirror,
        place: &SecondPlace,
        may_remove: bool,
    ) -> Result<bool, KeepError> {
        let before = self.memory();
        let mut gone = before.gone.clone();
        let turned = mirror.turn(&mut gone, Timestamp::now(), may_remove.then_some(DELAY), &mut |_, _| {});
        let now = Memory { place: place.place.clone(), gone };
        if now != before {
            let path = self.home.join(MEMORY);
            let new = path.with_extension("new");
            let text = serde_json::to_vec(&now).unwrap_or_default();
            let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
            written.map_err(|source| KeepError::File { path, source })?;
        }
        Ok(!turned?.is_late)
    }

    /// Compares what both places have. What was written a moment ago may not be there yet: that is waited for.
    pub fn compare(&self, place: &SecondPlace) -> Result<Compared, KeepError> {
        let mut mirror = self.mirror(place)?;
        let mut compared = mirror.compare()?;
        if !compared.differ.is_empty() {
            std::thread::sleep(TURN * 3);
            let before = std::mem::take(&mut compared.differ);
            compared = mirror.compare()?;
            compared.differ.retain(|path| before.contains(path));
        }
        Ok(compared)
    }

    /// What can be seen of the place.
    pub fn look(&self, place: &SecondPlace) -> Result<Told, KeepError> {
        let Compared { same, bytes, differ } = self.compare(place)?;
        let together = elsewhere::together(&place.place, self.home);
        let probe = Object::Extra(format!("{PROBES}{}", Timestamp::now().as_microsecond()));
        let locked = self.storage(place)?.is_locked(&probe).map_err(MirrorError::from)?;
        Ok(Told::Compared { place: place.place.clone(), same, bytes, differ, together, locked })
    }
}
