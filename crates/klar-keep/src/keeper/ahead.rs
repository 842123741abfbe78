//! Ahead: where `[backup] synchronous` asks for it, a commit is acknowledged only once it is at the second place, too.
//!
//! The keeper streams the log a second time and appends it there as it comes. What it has acknowledged is what the server
//! lets commits return for. Nothing is written ahead for long: the repository there has it a few seconds later.
//!
//! The server is told by a file beside its data folder, which its settings include: a copy of the folder alone, as any
//! `restic` restores it, waits for nobody.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use klar_base::keep::SecondPlace;

use super::{Inner, KeepError};
use klar_repo::Storage;

use crate::lsn::{Lsn, Timeline};
use crate::server::session::{PATIENCE, literal};
use crate::server::slot::AHEAD;
use crate::server::{Facts, ReadySlot, Replication, Session, SlotError, SlotState};
use crate::ship::Shipped;
use crate::wal::ahead::{self, Writer};

/// After something went wrong. Commits wait meanwhile.
const AGAIN: Duration = Duration::from_secs(1);
/// Where nobody wants it, how often is looked whether somebody does.
const LOOK: Duration = Duration::from_secs(2);
/// An object that is longer, or older, grows no more.
const LONG: u64 = 8 << 20;
const OLD: Duration = Duration::from_secs(15);
/// The file that tells the server whom it waits for, beside its data folder.
pub const SETTINGS: &str = "ahead.conf";

/// A stream that is ahead of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ahead {
    pub timeline: Timeline,
    /// Where it began: when the repository there has all before this, no acknowledged commit can be lost.
    pub since: Lsn,
}

impl Inner {
    pub(super) fn ahead(&self) {
        let mut is_off = false;
        while !self.is_over() {
            let wishes = self.wishes();
            let done = match wishes.second.filter(|_| wishes.synchronous) {
                Some(place) => {
                    is_off = false;
                    self.ahead_of(&place)
                }
                None if is_off => Ok(()),
                None => {
                    let done = self.wait_for_nobody();
                    is_off = done.is_ok();
                    done
                }
            };
            self.shared().ahead = None;
            self.note("ahead", &done);
            self.rest_for(if is_off { LOOK } else { AGAIN });
        }
    }

    /// Streams until something changes or is wrong.
    fn ahead_of(&self, place: &SecondPlace) -> Result<(), KeepError> {
        let waits =
            |error: KeepError| KeepError::Waits { place: place.place.clone(), source: Box::new(error) };
        // What streams the log into the repository has looked whether it is the right server.
        let facts = match &self.shared().streaming {
            Some(streaming) => streaming.facts.clone(),
            None => return Err(KeepError::NotStreaming(None)),
        };
        let session = Session::open(&self.settings.source.door)?;
        let slot = match ReadySlot::ensure(&session, AHEAD) {
            Err(SlotError::Lost { .. }) => ReadySlot::renew(&session, AHEAD)?,
            slot => slot?,
        };
        let storage = self.sender().storage(place).map_err(waits)?;
        // Commits wait from here on, until the stream has come up to them.
        self.wait_for(&session, Some(AHEAD))?;
        let mut stream =
            Replication::start(&self.settings.source.door, AHEAD, AHEAD, slot.since(), facts.timeline)?;
        let mut writer = Writer::new(&self.repository, &*storage, facts.system, facts.timeline);
        let mut begun = Instant::now();
        while !self.is_over() && self.wishes().second.as_ref() == Some(place) && self.wishes().synchronous {
            if let Some(received) = stream.receive(Duration::from_secs(1))? {
                if writer.length() >= LONG || begun.elapsed() >= OLD {
                    writer.turn();
                }
                if writer.length() == 0 {
                    begun = Instant::now();
                }
                writer.write(&received).map_err(|error| waits(error.into()))?;
                stream.acknowledge(received.to())?;
                self.note::<()>("ahead", &Ok(()));
            }
            self.shared().ahead.get_or_insert(Ahead { timeline: facts.timeline, since: slot.since() });
        }
        Ok(())
    }

    /// What the repository there has need not be kept ahead of it.
    pub(super) fn tidy_ahead(&self, there: &dyn Storage, shipped: Shipped) -> Result<(), KeepError> {
        let streaming = self.shared().streaming.as_ref().map(|streaming| streaming.facts.system);
        let (true, Some(system)) = (self.wishes().synchronous, streaming) else { return Ok(()) };
        let done = ahead::tidy(there, system, shipped.timeline, shipped.lsn);
        done.map_err(|error| KeepError::Mirror(error.into()))
    }

    /// Nobody waits any more, and nothing is kept for somebody who does not come.
    fn wait_for_nobody(&self) -> Result<(), KeepError> {
        let session = Session::open(&self.settings.source.door)?;
        self.wait_for(&session, None)?;
        if SlotState::ask(&session, AHEAD)?.is_some() {
            session.run(&format!("select pg_drop_replication_slot({})", literal(AHEAD)))?;
            if let Some(place) = self.wishes().second {
                let storage = self.sender().storage(&place)?;
                ahead::clear(&*storage, Facts::ask(&session)?.system)
                    .map_err(|error| KeepError::Mirror(error.into()))?;
            }
        }
        Ok(())
    }

    /// Tells the server whose word its commits wait for.
    fn wait_for(&self, session: &Session, name: Option<&str>) -> Result<(), KeepError> {
        const SHOW: &str = "show synchronous_standby_names";
        let wanted = name.unwrap_or_default();
        let shown = || -> Result<bool, KeepError> {
            Ok(session.row(SHOW, "whom it waits for")?.get(0).unwrap_or_default() == wanted)
        };
        let path = self.waiting_file()?;
        if shown()? && (name.is_none() || path.exists()) {
            return Ok(());
        }
        let line = literal(&format!("synchronous_standby_names = {}", literal(wanted)));
        session.run(&format!("copy (select {line}) to {}", literal(&path.to_string_lossy())))?;
        // It is the server that writes it, and that does not wait for the disk.
        let failed = |source| KeepError::File { path: path.clone(), source };
        File::open(&path).and_then(|file| file.sync_all()).map_err(failed)?;
        if let Some(folder) = path.parent() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        session.run("select pg_reload_conf()")?;
        let begun = Instant::now();
        while !shown()? {
            if begun.elapsed() >= PATIENCE {
                return Err(KeepError::Lack {
                    what: format!("the server does not read {}", path.display()),
                    hint: "start it again: `klar down`, then `klar up`".into(),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn waiting_file(&self) -> Result<PathBuf, KeepError> {
        let beside = self.settings.source.data.as_ref().and_then(|data| Some(data.parent()?.join(SETTINGS)));
        beside.ok_or_else(|| KeepError::Lack {
            what: "only a database that klar runs can wait for the second place".into(),
            hint: "take `synchronous` out of [backup]".into(),
        })
    }
}
