//! A PostgreSQL to look at: read only, with limits on everything, and one connection for each check.

use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};

use crate::check::Unable;
use crate::words;
use crate::words::Words;

const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(8);
/// Nothing that a check asks for has more rows.
const MOST_ROWS: usize = 5_000;
/// First of all: nothing is written, nothing waits long, nobody else waits for it.
const CAREFUL: &str = "SET default_transaction_read_only = on; SET statement_timeout = '5s'; \
     SET lock_timeout = '1s'; SET idle_in_transaction_session_timeout = '30s'";

/// A connection that reads only.
pub struct Database {
    client: Client,
    /// Whether the server is on this machine, so that nothing said to it leaves it.
    pub is_local: bool,
}

/// A row of text: what is NULL, or missing, is empty.
pub struct Row(SimpleQueryRow);

impl Database {
    /// Connects to a `postgres://` address.
    ///
    /// # Errors
    /// Why there is no connection; the address, which has a password in it, is not in the reason.
    pub async fn connect(url: &str) -> Result<Self, Unable> {
        let mut config: Config = url.parse().map_err(|_| {
            Unable(words!(
                "the database's address is not one: postgres://USER:PASSWORD@HOST:PORT/NAME",
                "databasens adresse er ingen adresse: postgres://BRUKER:PASSORD@VERT:PORT/NAVN",
                "databasens adress är ingen adress: postgres://ANVÄNDARE:LÖSENORD@VÄRD:PORT/NAMN"
            ))
        })?;
        config.connect_timeout(CONNECT).application_name("klar check");
        let is_local = config.get_hosts().iter().all(|host| match host {
            tokio_postgres::config::Host::Unix(_) => true,
            tokio_postgres::config::Host::Tcp(name) => {
                name == "localhost"
                    || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
            }
        });
        let connected = tokio::time::timeout(ANSWER, config.connect(NoTls)).await;
        let (client, connection) =
            connected.map_err(|_| late())?.map_err(|why| refused(&with_cause(&why)))?;
        tokio::task::spawn_local(async move {
            let _ = connection.await; // its end is seen by whoever asks on it
        });
        let database = Self { client, is_local };
        database.run(CAREFUL).await?;
        Ok(database)
    }

    /// Asks, and gives the rows as text.
    ///
    /// # Errors
    /// What the server says against it.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Row>, Unable> {
        let answer = tokio::time::timeout(ANSWER, self.client.simple_query(sql)).await;
        let messages = answer.map_err(|_| late())?.map_err(|why| refused(&with_cause(&why)))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(Row(row)),
            _ => None,
        });
        Ok(rows.take(MOST_ROWS).collect())
    }

    /// Asks for one row.
    ///
    /// # Errors
    /// What the server says against it, or that there is none.
    pub async fn row(&self, sql: &str) -> Result<Row, Unable> {
        self.rows(sql).await?.into_iter().next().ok_or_else(|| refused("no answer"))
    }

    /// How many parameters a statement has. The server takes exactly one statement here, and does not run it.
    ///
    /// # Errors
    /// What the server says against it: that it is two statements, for instance.
    pub async fn parameters(&self, sql: &str) -> Result<usize, Unable> {
        let answer = tokio::time::timeout(ANSWER, self.client.prepare(sql)).await;
        let statement = answer.map_err(|_| late())?.map_err(|why| refused(&with_cause(&why)))?;
        Ok(statement.params().len())
    }

    /// How many rows a query gives, counted up to `most + 1`, after `first` has run in the same transaction. Nothing of
    /// that transaction stays; with an empty `first` it reads only.
    ///
    /// # Errors
    /// What the server says against it.
    pub async fn count(&self, sql: &str, first: &str, most: usize) -> Result<usize, Unable> {
        let counted = async {
            self.run(if first.is_empty() { "BEGIN READ ONLY" } else { "BEGIN READ WRITE" }).await?;
            if !first.is_empty() {
                self.run(first).await?;
            }
            // One statement: what is not one is refused when it is prepared.
            let cursor = format!("DECLARE klar_check NO SCROLL CURSOR FOR {sql}");
            let answer = tokio::time::timeout(ANSWER, self.client.execute(&cursor, &[])).await;
            answer.map_err(|_| late())?.map_err(|why| refused(&with_cause(&why)))?;
            let fetch = format!("MOVE FORWARD {} FROM klar_check", most.saturating_add(1));
            let answer = tokio::time::timeout(ANSWER, self.client.execute(&fetch, &[])).await;
            let moved = answer.map_err(|_| late())?.map_err(|why| refused(&with_cause(&why)))?;
            Ok(usize::try_from(moved).unwrap_or(usize::MAX))
        };
        let counted = counted.await;
        self.run("ROLLBACK").await?;
        counted
    }

    /// Makes an index beside those who read and write. One that could not be finished is taken away again.
    ///
    /// # Errors
    /// What the server says against it.
    pub async fn make_index(&self, sql: &str) -> Result<(), Unable> {
        self.run(
            "SET default_transaction_read_only = off; SET statement_timeout = 0; SET lock_timeout = '1min'",
        )
        .await?;
        let invalid = "SELECT indexrelid::regclass::text AS name FROM pg_index WHERE NOT indisvalid";
        let before: Vec<String> =
            self.rows(invalid).await?.iter().map(|row| row.text("name").to_owned()).collect();
        let made = self.client.batch_execute(sql).await;
        if made.is_err() {
            for row in self.rows(invalid).await? {
                if !before.iter().any(|name| name == row.text("name")) {
                    self.run(&format!("DROP INDEX CONCURRENTLY IF EXISTS {}", row.text("name"))).await?;
                }
            }
        }
        made.map_err(|why| refused(&with_cause(&why)))
    }

    /// Has a statement run for so long, or until `meanwhile` is over, which it gives.
    ///
    /// # Errors
    /// What the server says against it.
    pub async fn busy<T>(&self, seconds: u32, meanwhile: impl Future<Output = T>) -> Result<T, Unable> {
        self.run("SET statement_timeout = 0").await?;
        let sleep = format!("SELECT pg_sleep({seconds})");
        let found = tokio::select! {
            slept = self.client.batch_execute(&sleep) => {
                return Err(slept.map_or_else(|why| refused(&with_cause(&why)), |()| late()));
            }
            found = meanwhile => found,
        };
        // Who does not hear of it ends by itself.
        let _ = tokio::time::timeout(CONNECT, self.client.cancel_token().cancel_query(NoTls)).await;
        Ok(found)
    }

    /// Says something that has no answer.
    ///
    /// # Errors
    /// What the server says against it.
    pub async fn run(&self, sql: &str) -> Result<(), Unable> {
        let answer = tokio::time::timeout(ANSWER, self.client.batch_execute(sql)).await;
        answer.map_err(|_| late())?.map_err(|why| refused(&with_cause(&why)))
    }
}

impl Row {
    /// A column as text.
    #[must_use]
    pub fn text(&self, column: &str) -> &str {
        self.0.try_get(column).ok().flatten().unwrap_or_default()
    }

    /// A column as a number; 0 when it is none.
    #[must_use]
    pub fn number(&self, column: &str) -> i64 {
        self.text(column).parse().unwrap_or_default()
    }

    /// A column that is true or false.
    #[must_use]
    pub fn is(&self, column: &str) -> bool {
        self.text(column) == "t"
    }
}

fn late() -> Unable {
    Unable(words!(
        "the database does not answer in time",
        "databasen svarer ikke i tide",
        "databasen svarar inte i tid"
    ))
}

fn refused(why: &str) -> Unable {
    Unable(words!("the database says: {why}", "databasen sier: {why}", "databasen säger: {why}"))
}

/// The driver's own words are "db error"; the server's are behind them.
fn with_cause(why: &tokio_postgres::Error) -> String {
    match why.as_db_error() {
        Some(said) => said.message().chars().take(200).collect(),
        None => std::error::Error::source(why).map_or_else(|| why.to_string(), ToString::to_string),
    }
}

/// A name or text as an SQL literal.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An error in words, for checks that go on without this answer.
#[must_use]
pub fn because(why: Unable) -> Words {
    why.0
}
