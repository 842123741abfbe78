//! The server that is kept: how to reach it, what it is, its slot, and what streams its log.

pub mod facts;
pub mod programs;
pub mod receive;
pub mod replication;
pub mod session;
pub mod slot;

use std::path::{Path, PathBuf};

use klar_base::Secret;

pub use facts::{Facts, Lack};
pub use programs::{ProgramError, Programs};
pub use receive::{Receiver, ReceiverState};
pub use replication::{Received, Replication, ReplicationError};
pub use session::{Session, SessionError};
pub use slot::{ReadySlot, SlotError, SlotState};

/// Where a server listens, and as whom to come in: a role that may replicate and call `pg_backup_start`.
#[derive(Debug, Clone)]
pub struct Door {
    /// The folder of its socket, or an address.
    pub host: String,
    /// 5432.
    pub port: u16,
    /// The role.
    pub user: String,
    /// Where the server asks for one.
    pub password: Option<Secret<String>>,
    /// A database to begin with: `postgres`.
    pub database: String,
}

/// A server whose data is kept.
#[derive(Debug, Clone)]
pub struct Source {
    /// How to reach it.
    pub door: Door,
    /// Its data folder, where its files can be read; `None`: they come over the connection (`pg_basebackup`).
    pub data: Option<PathBuf>,
    /// PostgreSQL's programs, of the same major version.
    pub programs: Programs,
}

impl Door {
    /// The same server, another database.
    #[must_use]
    pub fn to(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    /// What makes a cluster of another machine know this role and its password. It is said inside of the cluster, as a
    /// role that may do everything.
    #[must_use]
    pub fn sql_to_own(&self) -> String {
        let quoted = |text: &str, quote: char| text.replace(quote, &format!("{quote}{quote}"));
        let name = quoted(&self.user, '"');
        let literal = quoted(&self.user, '\'');
        let password = quoted(self.password.as_ref().map_or("", |password| password.expose()), '\'');
        format!(
            "do $$ begin if not exists (select from pg_roles where rolname = '{literal}') then create role \"{name}\"; \
             end if; end $$; alter role \"{name}\" with superuser login replication password '{password}'"
        )
    }

    /// What PostgreSQL's own programs take from their environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("PGHOST", self.host.clone()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.user.clone()),
            ("PGDATABASE", self.database.clone()),
            ("PGAPPNAME", "klar keep".to_owned()),
            ("PGCONNECT_TIMEOUT", "5".to_owned()),
            ("LC_ALL", "C.UTF-8".to_owned()),
        ];
        all.extend(self.password.as_ref().map(|password| ("PGPASSWORD", password.expose().clone())));
        all
    }

    /// A folder with a socket in it, for `user`.
    #[must_use]
    pub fn socket(folder: &Path, port: u16, user: &str) -> Self {
        let host = folder.to_string_lossy().into_owned();
        Self { host, port, user: user.to_owned(), password: None, database: "postgres".to_owned() }
    }
}
