//! Upgrades of klar itself, as the core sees them: the old core writes down what is about to happen and ends with
//! [`keeper::UPGRADE`]; the new one replaces the edge and writes down what it came to. Between the two the host puts
//! the other program in force, or goes back ([`crate::keeper`]).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use klar_base::AppKey;
use klar_base::signal::Totals;
use klar_store::Ledger;
use serde::{Deserialize, Serialize};

use super::Core;
use super::state::unix_ms;
use crate::control::UpgradeRequest;
use crate::programs::{self, Programs};
use crate::report::{Failure, Receipt, Upgrade, UpgradeState};
use crate::{durable, keeper};

/// The newest upgrade, as it is kept on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub seen: Upgrade,
    /// The file of the program that should run afterwards.
    program: String,
    /// What had been counted before.
    totals: BTreeMap<AppKey, Totals>,
}

impl Core {
    /// Notes what is about to happen, and has this core end soon.
    pub(super) fn begin_upgrade(self: &Rc<Self>, wanted: UpgradeRequest) -> Result<Upgrade, Failure> {
        if self.is_upgrading() || self.leaving.get().is_some() {
            return Err(
                Failure::new("klar is being upgraded already").hint("`klar status` shows how far it is")
            );
        }
        if self.replacing.get() {
            return Err(Failure::new("another edge is just taking over").hint("try again in a few seconds"));
        }
        let busy = self.apps.borrow().iter().find_map(|(key, app)| Some((key.clone(), app.busy.clone()?)));
        if let Some((key, operation)) = busy {
            return Err(Failure::new(format!("{key} is busy: {operation}"))
                .hint("wait for it (`klar status` shows how far it is), then try again"));
        }
        let next = Programs::new(self.layout.root()).next();
        let program = programs::id_of(&next)
            .map_err(|error| Failure::new(format!("there is no program to go on with: {error}")))?;
        let keys: Vec<AppKey> = self.host.borrow().apps.keys().cloned().collect();
        let seen = Upgrade {
            number: unix_ms(),
            from: env!("CARGO_PKG_VERSION").into(),
            to: wanted.version,
            rollback: wanted.rollback,
            state: UpgradeState::Pending,
            why: None,
            receipt: None,
        };
        let totals = keys.into_iter().map(|key| (key.clone(), self.totals(&key))).collect();
        self.keep_upgrade(Record { seen: seen.clone(), program, totals })?;
        let core = self.clone();
        tokio::task::spawn_local(async move {
            // Whoever asked should hear the answer.
            tokio::time::sleep(Duration::from_millis(200)).await;
            core.leave(keeper::UPGRADE);
        });
        Ok(seen)
    }

    fn leave(&self, status: u8) {
        self.leaving.set(Some(status));
        self.changed();
    }

    /// Whether an upgrade is on its way.
    pub(super) fn is_upgrading(&self) -> bool {
        self.upgrade.borrow().as_ref().is_some_and(|record| record.seen.state == UpgradeState::Pending)
    }

    /// Disk first: whoever is started next reads what is true.
    fn keep_upgrade(&self, record: Record) -> Result<(), Failure> {
        durable::write_json(&self.layout.upgrade_file(), &record)
            .map_err(|error| super::deploy::disk_failure("the upgrade could not be noted", &error))?;
        *self.upgrade.borrow_mut() = Some(record);
        Ok(())
    }

    /// After a start: an upgrade to another program than this one has not worked.
    pub(super) fn resume_upgrade(&self) {
        let pending =
            self.upgrade.borrow().clone().filter(|record| record.seen.state == UpgradeState::Pending);
        if let Some(record) = pending
            && record.program != programs::own_id()
        {
            self.end_upgrade(record, Err("its core did not come up".into()));
        }
    }

    /// An edge that did not come up: the previous program goes on, with the edge that serves.
    pub(super) fn upgrade_failed(&self, failure: &Failure) {
        let pending =
            self.upgrade.borrow().clone().filter(|record| record.seen.state == UpgradeState::Pending);
        if let Some(record) = pending {
            self.end_upgrade(record, Err(failure.what.clone()));
            self.leave(keeper::REVERT);
        }
    }

    /// An upgrade is over when the core and the edge run from the new program.
    pub(super) fn settle_upgrade(self: &Rc<Self>) {
        let edge_is_new = {
            let edge = self.edge.borrow();
            edge.is_connected() && !edge.is_outdated() && !self.replacing.get()
        };
        if !self.is_upgrading() || self.settling.get() || self.leaving.get().is_some() {
            return;
        }
        if !edge_is_new && self.needs_edge() {
            return;
        }
        self.settling.set(true);
        let core = self.clone();
        tokio::task::spawn_local(async move {
            let Some(record) = core.upgrade.borrow().clone() else { return };
            let receipt = core.upgrade_receipt(&record).await;
            core.end_upgrade(record, Ok(receipt));
            core.settling.set(false);
            core.changed();
        });
    }

    async fn upgrade_receipt(&self, record: &Record) -> Receipt {
        // Both edges say once a second what they have counted.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let mut sum = Totals::default();
        for (key, before) in &record.totals {
            sum += self.totals(key).since(before);
        }
        let (from, to) = (&record.seen.from, &record.seen.to);
        Receipt {
            operation: if record.seen.rollback { "upgrade rollback" } else { "upgrade" }.into(),
            key: host_key(),
            from: None,
            to: None,
            started_unix_ms: record.seen.number,
            duration_ms: unix_ms().saturating_sub(record.seen.number),
            switch_ms: None,
            requests: sum.requests,
            failed_requests: sum.failed,
            app_errors: sum.app_errors,
            url: String::new(),
            notes: vec![format!("klar {from} made room for klar {to}")],
        }
    }

    fn end_upgrade(&self, mut record: Record, outcome: Result<Receipt, String>) {
        match outcome {
            Ok(receipt) => {
                let kept = Ledger::open(&self.layout.ledger()).and_then(|ledger| {
                    ledger.append(Timestamp::now(), [("receipt", receipt.key.to_string(), &receipt)])
                });
                if let Err(error) = kept {
                    eprintln!("klar core: the receipt could not be kept: {error}");
                }
                record.seen.state = UpgradeState::Done;
                record.seen.receipt = Some(Box::new(receipt));
            }
            Err(why) => {
                eprintln!("klar core: the upgrade to klar {} did not work: {why}", record.seen.to);
                record.seen.state = UpgradeState::Failed;
                record.seen.why = Some(why);
            }
        }
        if let Err(failure) = self.keep_upgrade(record.clone()) {
            eprintln!("klar core: {failure}");
            // Whoever waits for the end hears of it all the same.
            *self.upgrade.borrow_mut() = Some(record);
        }
    }
}

/// What concerns no app alone.
#[allow(clippy::expect_used)] // a constant
pub(super) fn host_key() -> AppKey {
    "klar.host".parse().expect("a name")
}
