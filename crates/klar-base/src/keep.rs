//! What the core and people say to the process that keeps an app's data (`klar keep`), and what it says of itself.
//!
//! The core starts one for each app that has a store, with one end of a socket, and it ends when the core closes the other
//! one. People ask it over a Unix socket that the core has opened: one [`Ask`], then [`Told`] until the last one. Frames are
//! those of [`wire`](crate::wire). Times are in milliseconds since the Unix epoch unless their name says otherwise.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::ids::{AppKey, ServiceName};

/// What an app's keeper has to know. It takes the place of what was said before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeepWorld {
    /// Whose data.
    pub key: AppKey,
    /// The stores that run.
    pub stores: Vec<KeptStore>,
    /// When a base is due each day, by the host's clock: hours and minutes.
    pub at: (u8, u8),
    /// For how many days any second can be restored.
    pub days: u32,
    /// Questions of the app's own, each of which a restored copy has to answer with true.
    pub assertions: Vec<String>,
    /// What becomes of columns in a copy that people may look at: see [`Rule`](crate::anonymise::Rule).
    #[serde(default)]
    pub anonymise: Vec<String>,
    /// Where all of it is kept once more.
    pub second: Option<SecondPlace>,
    /// Whether databases acknowledge a commit only once it is there.
    #[serde(default)]
    pub synchronous: bool,
    /// What the app writes to its folders, where it does that.
    pub files: Option<KeptFiles>,
    /// Each Redis that runs.
    #[serde(default)]
    pub redis: Vec<KeptRedis>,
    /// Each PostgreSQL that is dumped.
    #[serde(default)]
    pub dumps: Vec<KeptDump>,
}

/// From the core to a keeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToKeep {
    /// What there is.
    World(Box<KeepWorld>),
    /// The app's folders are being read: a socket on which that comes is with it.
    Files,
}

/// The folders that an app writes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFiles {
    /// What they are called among its stores.
    pub name: ServiceName,
    /// So many daily points stay.
    pub days: u32,
}

/// A managed Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRedis {
    /// Its name in `klar.toml`.
    pub name: ServiceName,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// What opens it.
    pub password: Secret<String>,
    /// Its server's program, which loads copies too.
    pub program: PathBuf,
    /// Bytes of memory that a server with a copy may have.
    pub memory: u64,
    /// So many daily points stay.
    pub days: u32,
}

/// A PostgreSQL that is dumped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDump {
    /// What it is called among the app's stores.
    pub name: ServiceName,
    /// Which.
    pub of: DumpOf,
    /// For so many days dumps stay.
    pub days: u32,
}

/// Which PostgreSQL is dumped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DumpOf {
    /// One that klar runs, and keeps to any second beside: once a week, with all of its databases.
    Managed {
        /// Where it listens: an address, or the folder of its socket.
        host: String,
        /// Its port.
        port: u16,
        /// A role that may read everything.
        user: String,
        /// Its password.
        password: Secret<String>,
    },
    /// One that runs elsewhere, by its address with all that opens it: each day, with one database.
    Url(Secret<String>),
}

/// How often something is dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dumps {
    /// Each day: nothing else is kept of it.
    Daily,
    /// Once a week, beside what is kept to any second.
    Weekly,
}

/// Where repositories are kept once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondPlace {
    /// As [`Place`](crate::place::Place) is written.
    pub place: String,
    /// What opens it, where that is given: `ID:SECRET` of a bucket, a private key for another machine.
    pub key: Option<Secret<String>>,
}

/// A managed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptStore {
    /// Its name in `klar.toml`.
    pub name: ServiceName,
    /// Where it listens: an address, or the folder of its socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// A role that may replicate.
    pub user: String,
    /// Its password.
    pub password: Secret<String>,
    /// The app's database.
    pub database: String,
    /// Its files, which the keeper's group may read.
    pub data: PathBuf,
    /// The folder of its programs.
    pub programs: PathBuf,
}

/// From the keeper to the core.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromKeep {
    /// How it stands. It takes the place of what was said before.
    Status {
        /// Of each store.
        stores: Vec<KeptStatus>,
    },
    /// The app's folders are to be read now.
    ReadFiles,
    /// Something that belongs in the ledger.
    Entry {
        /// `point`, `proof`.
        kind: String,
        /// The store, and which point.
        subject: String,
        /// What is to be remembered.
        payload: serde_json::Value,
    },
}

/// How the data of one store is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptStatus {
    /// Its name in `klar.toml`.
    pub store: String,
    /// Whether only its points can be restored, and nothing between them: so it is with files and with Redis.
    pub daily: bool,
    /// Whether it is a Redis.
    #[serde(default)]
    pub redis: bool,
    /// Where they are dumps of a PostgreSQL, how often they are taken.
    #[serde(default)]
    pub dumps: Option<Dumps>,
    /// What it does now, in words: `streaming`, `taking a base`, `proving 20261123T020000Z-9f3a`.
    pub doing: String,
    /// Points that can be restored from.
    pub points: u32,
    /// The newest one.
    pub newest_unix_ms: Option<u64>,
    /// The newest that was restored and found good.
    pub proven_unix_ms: Option<u64>,
    /// How long that took, to a server that can be written to.
    pub rto_ms: Option<u64>,
    /// The earliest time that can be restored.
    pub earliest_unix_ms: Option<u64>,
    /// Every commit that was acknowledged until then is in the repository.
    pub covered_unix_ms: Option<u64>,
    /// Bytes of the repository.
    pub bytes: u64,
    /// A key was printed that opens the repository without this machine.
    pub escrow: bool,
    /// How the second place stands, where there is one.
    pub second: Option<SecondStatus>,
    /// What a person should know, when something is wrong.
    pub trouble: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// How the second place of a store stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SecondStatus {
    /// Where it is.
    pub place: String,
    /// Every commit that was acknowledged until then is there, too.
    pub covered_unix_ms: Option<u64>,
    /// When it was last restored from there alone, and found good.
    pub proven_unix_ms: Option<u64>,
    /// Where commits are acknowledged only once they are there: whether that holds right now.
    #[serde(default)]
    pub synchronous: Option<bool>,
    /// Why it would be lost together with this machine's disk, where that can be seen.
    #[serde(default)]
    pub together: Option<String>,
}

/// A repository to restore from that is not the keeper's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// Where it is, and what opens the place.
    pub at: SecondPlace,
    /// What opens the repository.
    pub password: Secret<String>,
}

/// How far to restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// All that there is.
    Latest,
    /// A time, in microseconds since the Unix epoch.
    Time(i64),
    /// A place in the log, such as `0/3000000`.
    Lsn(String),
    /// A named restore point.
    Name(String),
    /// Just before a transaction commits.
    Before(u32),
    /// The point itself, and nothing after it.
    Point(String),
}

/// What is asked of a keeper. `store` may be left out where there is only one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Ask {
    /// All points, with what was found when they were restored.
    List {
        /// Which store.
        store: Option<ServiceName>,
    },
    /// Take a base now, and prove it.
    Now {
        /// Which store.
        store: Option<ServiceName>,
    },
    /// Read everything in the repository again, and a damaged view of it too: what finds nothing there has found nothing.
    Verify {
        /// Which store.
        store: Option<ServiceName>,
    },
    /// Look for a text in the repository's objects, and in the database's own files.
    Search {
        /// Which store.
        store: Option<ServiceName>,
        /// A text that was written to the database, and that nothing else has in it.
        text: String,
    },
    /// Restore a point into a scratch server, compare it and time it.
    Drill {
        /// Which store.
        store: Option<ServiceName>,
        /// Which point; the newest where none is named.
        point: Option<String>,
        /// Open the repository with this password instead of the keeper's own.
        escrow: Option<Secret<String>>,
        /// Restore from the second place alone.
        second: bool,
    },
    /// Compare the second place with the first, names and lengths of all objects, and see whether what is there can be
    /// removed.
    Compare {
        /// Which store.
        store: Option<ServiceName>,
    },
    /// Keep files, or a small cluster, for some days of a simulated clock, in a scratch repository, and see what is left.
    Rehearse {
        /// Which store.
        store: Option<ServiceName>,
    },
    /// What a restore would do.
    Plan {
        /// Which store.
        store: Option<ServiceName>,
        /// How far.
        moment: Moment,
        /// Another repository than the keeper's own.
        from: Option<Elsewhere>,
    },
    /// Bring a copy back into a folder of the keeper's, replayed and stopped in good order.
    Restore {
        /// Which store.
        store: Option<ServiceName>,
        /// How far.
        moment: Moment,
        /// Another repository than the keeper's own.
        from: Option<Elsewhere>,
    },
    /// Bring a copy back and run it.
    Clone {
        /// Which store.
        store: Option<ServiceName>,
        /// How far.
        moment: Moment,
        /// Another repository than the keeper's own.
        from: Option<Elsewhere>,
        /// After so many seconds it disappears.
        seconds: u64,
        /// Replace what says something of a person, by the rules that are known.
        #[serde(default)]
        anonymise: bool,
    },
    /// Bring tables back into a schema of their own, beside those that are there now.
    Tables {
        /// Which store.
        store: Option<ServiceName>,
        /// As they were when.
        moment: Moment,
        /// Another repository than the keeper's own.
        from: Option<Elsewhere>,
        /// As the app's queries name them.
        tables: Vec<String>,
    },
    /// Load a dump into new databases of the server that it is of, beside those that are there.
    Beside {
        /// Which store.
        store: Option<ServiceName>,
        /// As they were when.
        moment: Moment,
        /// Another repository than the keeper's own, which becomes its own afterwards.
        from: Option<Elsewhere>,
    },
    /// Remove a copy that [`Ask::Restore`] or [`Ask::Clone`] has made.
    Remove {
        /// Its folder's name.
        copy: String,
    },
    /// Add a password that opens the repositories without this machine.
    Escrow {
        /// The password, which is not kept.
        password: Secret<String>,
    },
}

/// What a keeper answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Told {
    /// It goes on.
    Progress {
        /// What is being done.
        what: String,
        /// How much of it was done, where that can be counted.
        done: u64,
        /// Of how much; 0 where that is not known.
        of: u64,
    },
    /// All points.
    Points {
        /// The newest last.
        points: Vec<PointTold>,
        /// How it stands.
        status: Box<KeptStatus>,
        /// What is there and cannot be believed.
        refused: Vec<String>,
    },
    /// What was found.
    Proof {
        /// As it was signed.
        proof: serde_json::Value,
        /// Whether all was as it should be.
        good: bool,
    },
    /// What a restore would do.
    Plan(PlanTold),
    /// Tables are there, in a schema of their own.
    Tables {
        /// The schema.
        schema: String,
        /// Each as it was asked for, as it is called there, and how many rows it has.
        tables: Vec<(String, String, u64)>,
        /// How long it took.
        ms: u64,
    },
    /// Databases are there, beside those that they are of.
    Beside {
        /// Each as it was called, and as it is called now.
        databases: Vec<(String, String)>,
        /// How long it took.
        ms: u64,
    },
    /// A copy is there.
    Copy(CopyTold),
    /// What was found in the repository.
    Verified {
        /// Objects that were read.
        objects: u64,
        /// Bytes that were read.
        bytes: u64,
        /// What is wrong.
        problems: Vec<String>,
        /// Whether damage was found in a view of it in which every pack has a bit that is wrong.
        corrupted: bool,
        /// Whether something was found missing in a view of it without packs.
        missing: bool,
    },
    /// What was left of files after some days of a simulated clock.
    Rehearsed(Rehearsed),
    /// What was left of a database.
    RehearsedDays(Box<RehearsedDays>),
    /// How two places differ.
    Compared {
        /// The second one.
        place: String,
        /// Objects that both have.
        same: u64,
        /// Bytes of them.
        bytes: u64,
        /// Those that the second one has not, or with another length.
        differ: Vec<String>,
        /// Why both would be lost together, where that can be seen.
        together: Option<String>,
        /// Whether nobody can remove what is there for a time, not even this machine: something was written and removed.
        locked: bool,
    },
    /// Where a text was found.
    Searched {
        /// Objects of the repository that were read, and their bytes.
        objects: u64,
        /// Bytes of them.
        bytes: u64,
        /// Those that have it.
        found: Vec<String>,
        /// The database's own files that have it.
        in_database: Vec<String>,
        /// Whether the database's files lie on an encrypted volume.
        encrypted_volume: bool,
        /// Objects of the repository that have the repository's own key in them.
        keys: Vec<String>,
    },
    /// It is done, and there is nothing to say.
    Done,
    /// It did not work.
    Failed {
        /// Why.
        what: String,
        /// What to do.
        hint: Option<String>,
    },
}

/// What is left of daily points after some days of a simulated clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// So many days were simulated.
    pub days: u32,
    /// So many points should stay.
    pub keep: u32,
    /// So many have.
    pub kept: u32,
    /// The oldest of them could be put into a folder.
    pub oldest: bool,
    /// What only the others had is gone from the repository.
    pub pruned: bool,
}

/// What is left of a database after some days of a simulated clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearsedDays {
    /// For so many days the app wants any second.
    pub wanted: u32,
    /// So many were rehearsed: as many, but for a limit.
    pub keep: u32,
    /// So many days were simulated.
    pub days: u32,
    /// So many points were left.
    pub points: u32,
    /// The oldest of them, by its name.
    pub oldest: String,
    /// The newest.
    pub newest: String,
    /// How old the oldest was at the end, in hours of the simulated clock.
    pub oldest_hours: u64,
    /// Those that were removed, the oldest first.
    pub pruned: Vec<String>,
    /// Bytes of the repository just before the first of them was.
    pub bytes_before: u64,
    /// Bytes at the end, though days had come.
    pub bytes_after: u64,
    /// Why the oldest did not come back as it was; `None`: it did.
    pub oldest_lost: Option<String>,
    /// Why a second between the oldest and the next one did not.
    pub between_lost: Option<String>,
    /// What is still there of those that were removed.
    pub left_over: Option<String>,
    /// What a check of the repository found at the end.
    pub problems: Vec<String>,
}

/// A point, as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointTold {
    /// Names it.
    pub id: String,
    /// The earliest time that can be restored with it.
    pub time_unix_ms: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes that the repository grew by.
    pub added: u64,
    /// When it was last restored.
    pub proven_unix_ms: Option<u64>,
    /// Whether all was as it should be then.
    pub good: Option<bool>,
    /// What was not.
    pub bad: Option<String>,
    /// How long it took to a server that can be written to.
    pub rto_ms: Option<u64>,
}

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanTold {
    /// Of which store.
    pub store: ServiceName,
    /// The point that it begins with.
    pub point: String,
    /// When that was taken.
    pub point_unix_ms: u64,
    /// In words, how far.
    pub until: String,
    /// Bytes of files and log.
    pub bytes: u64,
    /// Bytes of log that are replayed.
    pub log_bytes: u64,
    /// How long the last drill took.
    pub rto_ms: Option<u64>,
    /// Where it is a dump: the databases in it, each with its folder.
    #[serde(default)]
    pub dumps: Vec<(String, String)>,
}

/// A copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopyTold {
    /// Its folder's name.
    pub copy: String,
    /// The folder with the data.
    pub data: PathBuf,
    /// The folder of its socket, where a server runs on it; of a Redis the socket itself.
    pub socket: Option<PathBuf>,
    /// The app's database; empty where it is none.
    pub database: String,
    /// How long it took.
    pub ms: u64,
    /// When it disappears.
    pub until_unix_ms: Option<u64>,
}
