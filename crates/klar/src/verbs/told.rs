//! What is known of a target: what its ledger tells, and what its `klar.toml` declares.

use jiff::Timestamp;
use klar_prove::check::Check;
use klar_prove::evidence::{Attestation, Control, Evidence, kind};
use klar_prove::own::Declared;
use klar_prove::report::Report;
use klar_prove::standing::Records;
use klar_run::report::Failure;
use klar_store::{Entry, Ledger};

use crate::context::Trouble;

/// What the ledger tells, read once, and what `klar.toml` declares.
pub(super) struct Told {
    pub evidence: Vec<Evidence>,
    pub controls: Vec<Control>,
    pub attestations: Vec<Attestation>,
    /// What the report is made with.
    pub declared: Declared,
    /// klar's checks and those that are declared.
    pub checks: Vec<Check>,
    /// What was declared before, with the time.
    pub before: Vec<(Timestamp, Declared)>,
    /// Somebody does not want to wait any longer.
    pub interrupted: bool,
}

impl Told {
    pub fn read(ledger: &Ledger, declared: Declared, checks: Vec<Check>) -> Result<Self, Trouble> {
        let entries = ledger.verified().map_err(|why| Trouble::from(Failure::new(why.to_string())))?;
        Ok(Self::of(&entries, declared, checks))
    }

    pub fn of(entries: &[Entry], declared: Declared, checks: Vec<Check>) -> Self {
        let (evidence, controls, attestations, before) = Default::default();
        let mut told =
            Self { evidence, controls, attestations, declared, checks, before, interrupted: false };
        for entry in entries {
            let Some(payload) = &entry.payload else {
                if entry.kind == kind::EVIDENCE {
                    told.evidence.push(Evidence::erased(&entry.subject, entry.at));
                }
                continue;
            };
            let text = payload.get();
            // What an older klar wrote in another form no longer counts as evidence.
            match entry.kind.as_str() {
                kind::EVIDENCE => told.evidence.extend(serde_json::from_str(text).ok()),
                kind::CONTROL => told.controls.extend(serde_json::from_str(text).ok()),
                kind::ATTESTATION => told.attestations.extend(serde_json::from_str(text).ok()),
                kind::DECLARED => {
                    told.before.extend(serde_json::from_str(text).ok().map(|said| (entry.at, said)));
                }
                _ => {}
            }
        }
        told
    }

    /// Writes down what is declared now, where that is something else than before.
    pub fn declare(&self, ledger: &Ledger) -> Result<(), Trouble> {
        let declared = &self.declared;
        let last = self.before.iter().rev().find(|(_, said)| said.target == declared.target);
        let is_news = match last {
            Some((_, said)) => said != declared,
            None => !declared.checks.is_empty() || !declared.waivers.is_empty(),
        };
        if is_news {
            ledger
                .append(Timestamp::now(), [(kind::DECLARED, declared.target.as_str(), declared)])
                .map_err(|why| Trouble::from(Failure::new(why.to_string())))?;
        }
        Ok(())
    }

    pub fn report(&self, target: &str, release: Option<&str>, at: Timestamp) -> Report {
        let records = Records {
            target,
            release,
            at,
            evidence: &self.evidence,
            controls: &self.controls,
            attestations: &self.attestations,
            declared: &self.declared,
        };
        Report::of(&self.declared.catalogue(), &self.checks, &records)
    }
}
