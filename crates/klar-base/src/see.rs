//! What the core tells telemetry (`klar see`), and what telemetry says of itself.
//!
//! The core starts telemetry with one end of a socket, and telemetry ends when the core closes the other one. Frames are
//! those of [`wire`](crate::wire): a [`ToSee`] in JSON, or [`Lines`](crate::lines::Lines), as the edge has written them.
//! The core never waits: what telemetry does not take in time is dropped, and counted in [`Pulse::frames_dropped`].

use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::ids::{AppKey, InstanceId, ReleaseId, ServiceName};

/// From the core to telemetry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToSee {
    /// What there is. It takes the place of what was said before.
    World(World),
    /// How the edge fares, once in a while.
    Pulse(Pulse),
    /// The doors without a key. Their sockets come with it, in the same order. They take the place of those before.
    Doors {
        /// All of them.
        doors: Vec<Door>,
    },
    /// An app was removed with all it had: what is known of it is deleted.
    Forget {
        /// Which.
        key: AppKey,
    },
}

/// A door without a key: whoever is on the machine can say something there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// What is spoken there.
    pub speaks: Speaks,
    /// Whose it is; nobody's if several asked for it.
    pub whose: Option<AppKey>,
}

/// What is spoken at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaks {
    /// Syslog: a socket for TCP and one for datagrams.
    Syslog,
    /// StatsD: a socket for datagrams.
    Statsd,
}

/// What there is on a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct World {
    /// The apps.
    pub apps: Vec<SeenApp>,
    /// What whoever asks over TCP has to show: it may read everything.
    pub key: Option<Secret<String>>,
}

/// An app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeenApp {
    /// Which.
    pub key: AppKey,
    /// What its processes show when they tell something of themselves: it may write as this app.
    pub token: Secret<String>,
    /// The release that serves.
    pub release: Option<ReleaseId>,
    /// Since when, in milliseconds since the Unix epoch.
    pub live_since_unix_ms: u64,
    /// Its services and stores.
    pub services: Vec<SeenService>,
    /// What runs of them.
    pub instances: Vec<SeenInstance>,
}

/// A service or a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeenService {
    /// Its name.
    pub name: ServiceName,
    /// `web`, `worker`, `cron`, `static`, `postgres`, `redis`.
    pub kind: String,
    /// How many instances there should be.
    pub wanted: u32,
    /// How often one of them had to be started again since the core began.
    pub restarts: u32,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeenInstance {
    /// Which.
    pub id: InstanceId,
    /// Which release it runs; a store runs none.
    pub release: Option<ReleaseId>,
    /// The process from which all of its processes come.
    pub shim: Option<u32>,
    /// It is ready for work.
    pub ready: bool,
    /// Where it shows what it counts itself: a port of the loopback, and a path.
    #[serde(default)]
    pub metrics: Option<(u16, String)>,
    /// Where a store says how it does.
    #[serde(default)]
    pub store: Option<StoreDoor>,
}

/// Where a managed store can be asked how it does, by a user who may do nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreDoor {
    /// `postgres` or `redis`.
    pub engine: String,
    /// Its port on the loopback.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The user's password.
    pub password: Secret<String>,
    /// The database of the app.
    pub database: String,
}

/// How the edge fares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pulse {
    /// Connections of visitors that are open.
    pub connections: u32,
    /// Access records that the edge dropped since it started, because the core did not take them in time.
    pub records_dropped: u64,
    /// Frames of records that the core dropped since it started, because telemetry did not take them in time.
    pub frames_dropped: u64,
    /// Requests that each instance is answering.
    pub leases: Vec<(InstanceId, u32)>,
}

/// From telemetry to the core.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FromSee {
    /// What of its sandbox is on.
    pub sandbox: Vec<String>,
    /// Series of metrics that it knows.
    pub series: u64,
    /// Bytes that it keeps on disk.
    pub bytes: u64,
    /// What a person should know, when something is wrong.
    pub trouble: Option<String>,
}
