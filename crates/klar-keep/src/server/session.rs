//! One connection to a server, for threads that wait for its answers.
//!
//! **Invariant:** every question has a deadline; a server that stands still holds up nobody for longer.

use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::Door;

/// How long connecting, and most questions, may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A connection. Dropped, it ends; what it has begun (a backup, a transaction) ends with it.
pub struct Session {
    runtime: Runtime,
    client: Client,
    door: String,
}

/// The server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// It does not let us in.
    #[error("connecting to PostgreSQL at {door}: {why}")]
    Connect {
        /// Where.
        door: String,
        /// As it says it.
        why: String,
    },
    /// It says no.
    #[error("PostgreSQL at {door}: {why}")]
    Said {
        /// Where.
        door: String,
        /// As it says it.
        why: String,
        /// Its code, such as 55P03; empty where the connection broke.
        code: String,
    },
    /// It does not answer.
    #[error("PostgreSQL at {door} did not answer within {} s", patience.as_secs_f32())]
    Silent {
        /// Where.
        door: String,
        /// How long was waited.
        patience: Duration,
    },
    /// An answer that is none to what was asked.
    #[error("PostgreSQL at {door} gave no {what}")]
    Answer {
        /// Where.
        door: String,
        /// What was expected.
        what: &'static str,
    },
    /// No runtime.
    #[error("the system: {0}")]
    System(std::io::Error),
}

impl SessionError {
    /// Whether the server said no with this code.
    #[must_use]
    pub fn is_code(&self, expected: &str) -> bool {
        matches!(self, Self::Said { code, .. } if code == expected)
    }
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// [`SessionError::Connect`], [`SessionError::Silent`].
    pub fn open(door: &Door) -> Result<Self, SessionError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SessionError::System)?;
        let name = format!("{}:{}", door.host, door.port);
        let mut config = tokio_postgres::Config::new();
        config
            .host(&door.host)
            .port(door.port)
            .user(&door.user)
            .dbname(&door.database)
            .application_name("klar keep")
            // What is written as text must be the same everywhere it is compared. Nothing waits for what the keeper itself
            // has yet to send.
            .options(
                "-c client_min_messages=warning -c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres \
                 -c extra_float_digits=3 -c bytea_output=hex -c search_path=pg_catalog \
                 -c synchronous_commit=local",
            )
            .connect_timeout(PATIENCE);
        if let Some(password) = &door.password {
            config.password(password.expose());
        }
        let connected =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, config.connect(NoTls)).await });
        let (client, connection) = connected
            .map_err(|_| SessionError::Silent { door: name.clone(), patience: PATIENCE })?
            .map_err(|error| SessionError::Connect { door: name.clone(), why: said(&error) })?;
        // Runs whenever something is asked, on the thread that asks.
        runtime.spawn(connection);
        Ok(Self { runtime, client, door: name })
    }

    /// Asks, and gives the rows of all statements, as text.
    ///
    /// # Errors
    /// As the server says it, or that it does not answer in time.
    pub fn rows(&self, sql: &str, patience: Duration) -> Result<Vec<SimpleQueryRow>, SessionError> {
        let asked = self.client.simple_query(sql);
        let answer = self.runtime.block_on(async { tokio::time::timeout(patience, asked).await });
        let messages = answer
            .map_err(|_| SessionError::Silent { door: self.door.clone(), patience })?
            .map_err(|error| SessionError::Said {
                door: self.door.clone(),
                why: said(&error),
                code: error.code().map(|code| code.code().to_owned()).unwrap_or_default(),
            })?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Asks within [`PATIENCE`] and gives the first row.
    ///
    /// # Errors
    /// As [`Session::rows`], and where there is none.
    pub fn row(&self, sql: &str, what: &'static str) -> Result<SimpleQueryRow, SessionError> {
        let rows = self.rows(sql, PATIENCE)?;
        rows.into_iter().next().ok_or_else(|| self.answer(what))
    }

    /// Does something that gives nothing.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub fn run(&self, sql: &str) -> Result<(), SessionError> {
        self.rows(sql, PATIENCE).map(drop)
    }

    /// A column of a row, read as something.
    ///
    /// # Errors
    /// [`SessionError::Answer`].
    pub fn column<T: std::str::FromStr>(
        &self,
        row: &SimpleQueryRow,
        at: usize,
        what: &'static str,
    ) -> Result<T, SessionError> {
        row.get(at).and_then(|text| text.parse().ok()).ok_or_else(|| self.answer(what))
    }

    /// A column that has microseconds since 1970.
    ///
    /// # Errors
    /// [`SessionError::Answer`].
    pub fn time(&self, row: &SimpleQueryRow, at: usize) -> Result<Timestamp, SessionError> {
        let microseconds: i64 = self.column(row, at, "time")?;
        Timestamp::from_microsecond(microseconds).map_err(|_| self.answer("time"))
    }

    /// An answer is not what it has to be.
    #[must_use]
    pub fn answer(&self, what: &'static str) -> SessionError {
        SessionError::Answer { door: self.door.clone(), what }
    }
}

fn said(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return said.message().to_owned();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Text as an SQL literal.
#[must_use]
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A name as an SQL identifier.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes() {
        assert_eq!(literal("a'b"), "'a''b'");
        assert_eq!(literal(r"a\'b"), r" E'a\\''b'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    }
}
