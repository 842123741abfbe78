//! A connection through PostgreSQL's own `psql`: it reads addresses, certificates and passwords as `pg_dump` does, so that
//! both see the same server in the same way.
//!
//! Each question gives one text for each row, as JSON where it has several parts: no name can look like the end of a row.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::error::DumpError;
use super::url::Address;
use crate::server::ProgramError;
use crate::server::programs::{Programs, tail};

/// Most questions are answered within this.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Rows that wait to be taken.
const WAITING: usize = 1024;
/// How often it is looked whether this process ends.
const LOOK: Duration = Duration::from_millis(200);

/// A connection; dropped, it ends.
pub struct Psql {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
    address: Address,
    asked: u32,
}

/// What makes a connection that nobody answers at end by itself; it has no secret in it.
pub fn connection(database: &str) -> String {
    let quoted = database.replace('\\', "\\\\").replace('\'', "\\'");
    format!(
        "dbname='{quoted}' connect_timeout=10 keepalives_idle=30 keepalives_interval=10 keepalives_count=6"
    )
}

impl Psql {
    /// Connects to a database of the server.
    ///
    /// # Errors
    /// Nobody is there, or it does not let us in.
    pub fn open(programs: &Programs, address: &Address, database: &str) -> Result<Self, DumpError> {
        let start = |source| ProgramError::Start { program: "psql".into(), source };
        let mut command = programs.dying("psql", "KILL");
        command.envs(address.environment().iter().map(|(name, value)| (name, value)));
        command.env("PGAPPNAME", "klar keep");
        command.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "--no-password",
            "-v",
            "ON_ERROR_STOP=1",
            "-v",
            "VERBOSITY=verbose",
        ]);
        command.arg("-d").arg(connection(database)).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(start)?;
        let lacks = || start(std::io::Error::other("it has no pipes"));
        let (input, output) = (child.stdin.take().ok_or_else(lacks)?, child.stdout.take().ok_or_else(lacks)?);
        let said = child.stderr.take().ok_or_else(lacks)?;
        let errors = Some(std::thread::spawn(move || tail(said)));
        let (sends, lines) = sync_channel(WAITING);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if sends.send(line).is_err() {
                    return;
                }
            }
        });
        let mut session = Self { child, input, lines, errors, address: address.clone(), asked: 0 };
        // What is written as text must be the same everywhere it is compared. Nothing is asked of the server when it is
        // connected to, since what stands before a server (PgBouncer) refuses that.
        session.run(
            "set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'; set extra_float_digits = 3;
             set bytea_output = 'hex'; set xmloption = 'content'; set search_path = pg_catalog; set lc_monetary = 'C';
             set row_security = off; set client_encoding = 'UTF8'; set statement_timeout = 0;
             set idle_in_transaction_session_timeout = 0; set client_min_messages = warning",
        )?;
        Ok(session)
    }

    /// Asks, and gives the first column of each row.
    ///
    /// # Errors
    /// As the server says it; that it did not answer in time; [`DumpError::Over`].
    pub fn rows(
        &mut self,
        sql: &str,
        patience: Duration,
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<String>, DumpError> {
        self.asked += 1;
        let end = format!("klar-{}-end-{:016x}", self.asked, fastrand::u64(..));
        let text = format!("{sql};\n\\echo {end}\n");
        if self.input.write_all(text.as_bytes()).and_then(|()| self.input.flush()).is_err() {
            return Err(self.ended());
        }
        let (begun, mut rows) = (Instant::now(), Vec::new());
        loop {
            match self.lines.recv_timeout(LOOK) {
                Ok(line) if line == end => return Ok(rows),
                Ok(line) => rows.push(line),
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
                Err(RecvTimeoutError::Timeout) if is_over() => return Err(DumpError::Over),
                Err(RecvTimeoutError::Timeout) if begun.elapsed() >= patience => {
                    let said = format!("it did not answer within {} s", patience.as_secs());
                    return Err(DumpError::Unreachable { at: self.address.to_string(), said });
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Asks for rows of JSON.
    ///
    /// # Errors
    /// As [`Psql::rows`], and where a row is something else.
    pub fn json<T: DeserializeOwned>(&mut self, sql: &str) -> Result<Vec<T>, DumpError> {
        let rows = self.rows(sql, PATIENCE, &|| false)?;
        rows.iter().map(|row| serde_json::from_str(row).map_err(|_| self.odd(row))).collect()
    }

    /// Asks for one row of JSON.
    ///
    /// # Errors
    /// As [`Psql::json`], and where there is none.
    pub fn one<T: DeserializeOwned>(&mut self, sql: &str) -> Result<T, DumpError> {
        self.json(sql)?.into_iter().next().ok_or_else(|| self.odd(""))
    }

    /// Does something that gives nothing.
    ///
    /// # Errors
    /// As [`Psql::rows`].
    pub fn run(&mut self, sql: &str) -> Result<(), DumpError> {
        self.rows(sql, PATIENCE, &|| false).map(drop)
    }

    fn odd(&self, row: &str) -> DumpError {
        let said: String = format!("`{row}` is not what was asked for").chars().take(200).collect();
        DumpError::Said { at: self.address.to_string(), said }
    }

    /// Why it has ended.
    fn ended(&mut self) -> DumpError {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let said = self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
        DumpError::of("psql", &self.address, &said)
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
