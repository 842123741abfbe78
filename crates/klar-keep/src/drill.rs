//! A drill: a point is restored into a scratch server, compared with what was written down when it was taken, and timed.
//!
//! It goes on after something was found: whoever reads the proof wants to know all that is wrong. It never touches the
//! server that is kept, and leaves nothing behind.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use klar_base::Hint;

use crate::point::{Outcome, Point, PointId, Proof, Step, StepKind};
use crate::restore::{self, Kept, RestoringError};
use crate::scratch::{Scratch, Then, Until};
use crate::server::programs::{ended, last_lines};
use crate::server::{Programs, Session};
use crate::witness;

/// No step may take longer.
const STEP: Duration = Duration::from_secs(4 * 3600);
/// So much of a difference is told.
const TOLD_MAX: usize = 5;

/// A question of the app's own, which has to be answered with `t` in the restored copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// In which database.
    pub database: String,
    /// One statement that gives one boolean.
    pub sql: String,
}

/// How a drill is made.
pub struct Drill<'a> {
    /// What to restore from.
    pub kept: &'a Kept<'a>,
    /// PostgreSQL's programs.
    pub programs: &'a Programs,
    /// An empty folder, or one that is not there: it is removed afterwards.
    pub folder: &'a Path,
    /// The app's own questions.
    pub assertions: &'a [Assertion],
    /// Whether it was opened with the key that lies in a drawer.
    pub escrow: bool,
    /// From where, where that is not the first place.
    pub place: Option<String>,
}

impl Drill<'_> {
    /// Restores a point, the newest where none is named, up to the end of its log.
    ///
    /// # Errors
    /// Only where there is nothing to restore: all else is in the proof.
    pub fn run(&self, point: Option<&PointId>) -> Result<Proof, RestoringError> {
        let point = match point {
            Some(id) => self.kept.points.points.get(id).ok_or_else(|| RestoringError::Unknown(id.clone()))?,
            None => self.kept.points.points.values().next_back().ok_or(RestoringError::Nothing)?,
        };
        let mut proof = Proof {
            format: 1,
            point: point.id.clone(),
            begun: Timestamp::now(),
            steps: Vec::new(),
            covered: self.kept.covered(),
            rto_ms: None,
            rpo_ms: None,
            escrow: self.escrow,
            place: self.place.clone(),
        };
        proof.rpo_ms = proof.covered.map(|covered| {
            u64::try_from(proof.begun.duration_since(covered).as_millis()).unwrap_or_default()
        });
        let _ = self.all(point, &mut proof);
        let removed = fs::remove_dir_all(self.folder);
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(RestoringError::File { path: self.folder.to_owned(), source: error });
        }
        Ok(proof)
    }

    /// `None`: it ended early, and the last step says why.
    fn all(&self, point: &Point, proof: &mut Proof) -> Option<()> {
        let folder = |name: &str| self.folder.join(name);
        let (data, log, home) = (folder("data"), folder("log"), folder("home"));
        let mut timed = Duration::ZERO;
        let plan = step(proof, StepKind::Log, || {
            let plan = self.kept.plan(Until::End, Some(&point.id)).map_err(|error| told(&error))?;
            fs::create_dir_all(self.folder).map_err(|error| error.to_string())?;
            restore::enough_space(self.folder, plan.bytes).map_err(|error| told(&error))?;
            let laid = self.kept.lay(&plan, &log).map_err(|error| told(&error))?;
            Ok((format!("{} segments from {} to {}", laid.segments, point.start, plan.to), plan))
        })?;
        timed += last(proof);
        step(proof, StepKind::Files, || {
            let restored = self.kept.files(point, &data).map_err(|error| told(&error))?;
            restore::own(self.programs, self.folder).map_err(|error| told(&error))?;
            Ok((format!("{} files, {} bytes", restored.files, restored.bytes), ()))
        })?;
        timed += last(proof);
        // Most of the log is replayed up to there: that counts, comparing does not.
        let mut replaying = Duration::ZERO;
        if let Some(witness) = &point.witness {
            let at_witness = restore::Plan { until: Until::Name(witness.name.clone()), ..plan.clone() };
            step(proof, StepKind::Tables, || {
                let begun = Instant::now();
                let started =
                    restore::start(&at_witness, self.programs, &data, &log, &home, Then::Pause, false);
                let server = started.map_err(|error| told(&error))?;
                replaying += begun.elapsed();
                let evidence = compared(&server, witness);
                // At once: in good order it takes a second, for which what stands still sleeps, and saves nothing. The
                // next start replays from where this one did.
                drop(server);
                Ok((evidence?, ()))
            });
        } else {
            skip(proof, StepKind::Tables, "writers did not let go of the tables when the point was taken");
        }
        let server = step(proof, StepKind::Replay, || {
            let started = restore::start(&plan, self.programs, &data, &log, &home, Then::Promote, false);
            let server = started.map_err(|error| told(&error))?;
            let session = Session::open(server.door()).map_err(|error| error.to_string())?;
            // Whether it can be written to is seen by writing.
            session
                .run(
                    "create temporary table klar_drill (n int); drop table klar_drill; select txid_current()",
                )
                .map_err(|error| error.to_string())?;
            Ok((format!("replayed to {} and can be written to", plan.to), server))
        })?;
        timed += replaying + last(proof);
        proof.rto_ms = Some(timed.as_millis().try_into().unwrap_or(u64::MAX));
        step(proof, StepKind::Structure, || self.structure(&server).map(|evidence| (evidence, ())));
        self.assert(&server, proof);
        step(proof, StepKind::Checksums, || {
            server.stop(Duration::from_secs(300)).map_err(|error| told(&error))?;
            self.checksums(point, &data).map(|evidence| (evidence, ()))
        });
        Some(())
    }

    fn structure(&self, server: &Scratch) -> Result<String, String> {
        let mut command = self.programs.command("pg_amcheck");
        command.envs(server.door().environment());
        command.args(["--all", "--install-missing", "--heapallindexed", "--no-strict-names"]);
        let done = ended(&mut command, STEP).map_err(|error| error.to_string())?;
        match done.status.success() {
            true => Ok("pg_amcheck found nothing in any table or index".to_owned()),
            false => Err(format!("pg_amcheck: {}", last_lines(&(done.output + &done.errors)))),
        }
    }

    fn assert(&self, server: &Scratch, proof: &mut Proof) {
        if self.assertions.is_empty() {
            return;
        }
        step(proof, StepKind::Assertions, || {
            for Assertion { database, sql } in self.assertions {
                let said = |error: crate::server::SessionError| format!("`{sql}`: {error}");
                let session = Session::open(&server.door().to(database)).map_err(said)?;
                // As whoever wrote it has tried it, at a prompt.
                session
                    .run("set search_path = \"$user\", public; set default_transaction_read_only = on")
                    .map_err(said)?;
                let rows = session.rows(sql, STEP).map_err(said)?;
                let answer = rows.first().and_then(|row| row.get(0));
                if answer != Some("t") {
                    return Err(format!("`{sql}` gave {}, expected t", answer.unwrap_or("nothing")));
                }
            }
            Ok((format!("{} of them hold", self.assertions.len()), ()))
        });
    }

    fn checksums(&self, point: &Point, data: &Path) -> Result<String, String> {
        if !point.checksums {
            return Err(
                "the cluster has no checksums: `pg_checksums --enable` makes them, while it is stopped"
                    .into(),
            );
        }
        let mut command = self.programs.server("pg_checksums", "KILL");
        command.arg("--check").arg("-D").arg(data);
        let done = ended(&mut command, STEP).map_err(|error| error.to_string())?;
        match done.status.success() {
            true => Ok("every page has the checksum that it was written with".to_owned()),
            false => Err(format!("pg_checksums: {}", last_lines(&(done.output + &done.errors)))),
        }
    }
}

fn compared(server: &Scratch, witness: &crate::point::Witness) -> Result<String, String> {
    let found = witness::again(server.door(), witness).map_err(|error| error.to_string())?;
    let mut differs = Vec::new();
    for was in &witness.tables {
        let is = found
            .iter()
            .find(|one| (&one.database, &one.schema, &one.table) == (&was.database, &was.schema, &was.table));
        let name = format!("{}.{}.{}", was.database, was.schema, was.table);
        match is {
            Some(is) if is == was => {}
            Some(is) if is.rows == was.rows => {
                differs.push(format!("{name}: {} rows, with other content", was.rows))
            }
            Some(is) => differs.push(format!("{name}: {} rows, expected {}", is.rows, was.rows)),
            None => differs.push(format!("{name} is not there")),
        }
    }
    if differs.is_empty() {
        let rows: u64 = witness.tables.iter().map(|table| table.rows).sum();
        return Ok(format!(
            "{} tables with {rows} rows are what they were at {}",
            witness.tables.len(),
            witness.time
        ));
    }
    let more = differs.len().saturating_sub(TOLD_MAX);
    differs.truncate(TOLD_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(differs.join("; ") + &more)
}

/// Does one thing, times it and writes it down; `None`: it was not as it should be.
fn step<T>(
    proof: &mut Proof,
    what: StepKind,
    act: impl FnOnce() -> Result<(String, T), String>,
) -> Option<T> {
    let begun = Instant::now();
    let done = act();
    let ms = begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    let (outcome, evidence, value) = match done {
        Ok((evidence, value)) => (Outcome::Good, evidence, Some(value)),
        Err(evidence) => (Outcome::Bad, evidence, None),
    };
    proof.steps.push(Step { what, outcome, evidence, ms });
    value
}

fn skip(proof: &mut Proof, what: StepKind, why: &str) {
    proof.steps.push(Step { what, outcome: Outcome::Skipped, evidence: why.to_owned(), ms: 0 });
}

fn last(proof: &Proof) -> Duration {
    Duration::from_millis(proof.steps.last().map_or(0, |step| step.ms))
}

fn told(error: &(impl std::error::Error + Hint)) -> String {
    match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}
