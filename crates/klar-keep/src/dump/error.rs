//! Why a database is not dumped, or a dump not loaded, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use klar_base::Hint;

use super::url::{Address, NotAnAddress};
use crate::restore::RestoringError;
use crate::scratch::ScratchError;
use crate::server::ProgramError;

/// It cannot be kept, or not now.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The address.
    #[error(transparent)]
    Address(#[from] NotAnAddress),
    /// Nobody is there.
    #[error("PostgreSQL at {at} cannot be reached: {said}")]
    Unreachable {
        /// Who was asked.
        at: String,
        /// As the program says it.
        said: String,
    },
    /// It does not let us in.
    #[error("PostgreSQL at {at} does not let klar in: {said}")]
    Refused {
        /// Who was asked.
        at: String,
        /// As it says it.
        said: String,
    },
    /// The role may not read something.
    #[error("PostgreSQL at {at} does not let `{user}` read all of it: {said}")]
    Rights {
        /// Who was asked.
        at: String,
        /// As whom.
        user: String,
        /// As it says it.
        said: String,
    },
    /// What is installed here is older than the server, or not there.
    #[error(
        "PostgreSQL at {at} is version {server}, and {here}: only programs of at least its version can dump it"
    )]
    Version {
        /// Who was asked.
        at: String,
        /// Its major version.
        server: u32,
        /// What is here, in words.
        here: String,
    },
    /// It says no.
    #[error("PostgreSQL at {at}: {said}")]
    Said {
        /// Who was asked.
        at: String,
        /// As it says it.
        said: String,
    },
    /// A program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A program failed, and what it said is known to hold no secret.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which.
        program: &'static str,
        /// The end of what it said.
        said: String,
    },
    /// A dump cannot be loaded on this machine, whatever is in it.
    #[error("{why}")]
    NotHere {
        /// Why.
        why: String,
        /// What to do.
        hint: String,
    },
    /// A server for a copy.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The disk.
    #[error(transparent)]
    Space(#[from] RestoringError),
    /// A file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
    /// This process ends.
    #[error("it was given up, since klar keep ends")]
    Over,
}

impl Hint for DumpError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Address(_) => "write the address that the database's provider shows into the secret, and run `klar up`".into(),
            Self::Unreachable { .. } => {
                "look whether it runs, and whether a firewall lets this machine in (`psql ADDRESS`); it is tried again by itself"
                    .into()
            }
            Self::Refused { .. } => {
                "is the address in the secret that of today (`klar secret`, or the variable)? write the new one and run `klar up`"
                    .into()
            }
            Self::Rights { user, .. } => format!(
                "as an administrator of it: `GRANT pg_read_all_data TO \"{user}\"` (since PostgreSQL 14), or `GRANT SELECT` on \
                 what is named; where rows are guarded, `ALTER ROLE \"{user}\" BYPASSRLS`"
            ),
            Self::Version { server, .. } => install(*server),
            Self::NotHere { hint, .. } => hint.clone(),
            Self::Scratch(error) => return error.hint(),
            Self::Space(error) => return error.hint(),
            _ => "nothing that was there before was touched; what is due is tried again by itself".into(),
        })
    }
}

/// Where a version comes from.
pub(super) fn install(version: u32) -> String {
    format!(
        "`apt-get install postgresql-{version}`: it dumps, and runs the copy on which each dump is proven (where the \
         distribution does not have it: https://apt.postgresql.org)"
    )
}

impl DumpError {
    /// Sorts what one of PostgreSQL's programs says of the server.
    pub(super) fn of(program: &'static str, address: &Address, said: &str) -> Self {
        let said = address.without_password(&shortened(said));
        let (at, user) = (address.to_string(), address.user().to_owned());
        let has = |some: &[&str]| some.iter().any(|text| said.contains(text));
        if has(&["server version mismatch"]) {
            let server = number_after(&said, "server version:").unwrap_or_default();
            let here = format!("{program} here is {}", number_after(&said, "version:").unwrap_or_default());
            // Both are named in one line: the server's first.
            let here = match said.rfind("version:").and_then(|from| number_after(&said[from..], "version:")) {
                Some(own) => format!("{program} here is {own}"),
                None => here,
            };
            return Self::Version { at, server, here };
        }
        if has(&[
            "password authentication failed",
            "no password supplied",
            "no pg_hba.conf entry",
            "28P01",
            "28000",
        ]) || (said.contains("database \"") && said.contains("does not exist"))
            || (said.contains("role \"") && said.contains("is not permitted to log in"))
        {
            return Self::Refused { at, said };
        }
        if has(&[
            "permission denied",
            "42501",
            "row-level security policy",
            "must be superuser",
            "must be owner",
        ]) {
            return Self::Rights { at, user, said };
        }
        if has(&[
            "could not connect",
            "connection to server",
            "could not translate host name",
            "Connection refused",
            "timeout expired",
            "server closed the connection",
            "starting up",
            "shutting down",
            "terminating connection",
            "SSL",
            "certificate",
        ]) {
            return Self::Unreachable { at, said };
        }
        match program {
            "psql" => Self::Said { at, said },
            _ => Self::Failed { program, said },
        }
    }
}

/// The first lines: what follows are mostly the commands that were not done.
fn shortened(said: &str) -> String {
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("LOCATION:"));
    let text = lines.take(4).collect::<Vec<_>>().join("; ");
    let text = text.strip_prefix("psql: error: ").unwrap_or(&text);
    if text.is_empty() { "it said nothing".to_owned() } else { text.chars().take(1000).collect() }
}

fn number_after(text: &str, mark: &str) -> Option<u32> {
    let rest = text.split_once(mark)?.1.trim_start();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> DumpError + use<> {
    let path = path.to_owned();
    move |source| DumpError::File { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use klar_base::Secret;

    use super::*;

    /// What the programs really say.
    #[test]
    fn what_is_said_is_sorted() {
        let address = Address::parse(&Secret::new("postgres://shop:hunter22@db/shop".into())).unwrap();
        for (said, expected, hint) in [
            (
                "psql: error: connection to server at \"db\" (10.0.0.1), port 5432 failed: Connection refused\n\tIs the \
                 server running on that host and accepting TCP/IP connections?",
                "cannot be reached",
                "firewall",
            ),
            (
                "psql: error: connection to server at \"db\", port 5432 failed: FATAL:  password authentication failed for \
                 user \"shop\" hunter22",
                "does not let klar in",
                "secret",
            ),
            (
                "ERROR:  42501: permission denied for table wages\nLOCATION:  aclcheck_error, aclchk.c:3650",
                "does not let `shop` read all of it",
                "pg_read_all_data",
            ),
            (
                "pg_dump: error: server version: 17.2 (Debian 17.2-1); pg_dump version: 15.18 (Debian 15.18-0)\npg_dump: \
                 error: aborting because of server version mismatch",
                "is version 17, and pg_dump here is 15",
                "postgresql-17",
            ),
        ] {
            let error = DumpError::of("pg_dump", &address, said);
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!error.to_string().contains("hunter22"), "{error}");
            assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        }
    }
}
