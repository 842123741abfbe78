//! What the core remembers: on disk before it is acted on, and nothing that can be seen by looking.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

use klar_base::{AppKey, ReleaseId, ServiceName};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::layout::Layout;
use crate::store::Store;

/// The durable state of a host.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HostState {
    /// The apps.
    pub apps: BTreeMap<AppKey, AppState>,
}

/// The durable state of an app.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AppState {
    /// It should run.
    pub wanted: bool,
    /// The release that serves.
    pub current: Option<ReleaseId>,
    /// Since when.
    pub live_since_unix_ms: u64,
    /// The release that served before.
    pub previous: Option<Previous>,
    /// Numbers of instances that were set by hand.
    pub scale: BTreeMap<ServiceName, u32>,
    /// The number of the next instance.
    pub next_number: u64,
    /// The managed databases and caches.
    pub stores: BTreeMap<ServiceName, Store>,
    /// When each cron service was last started.
    pub cron_unix_ms: BTreeMap<ServiceName, u64>,
}

/// The release that served before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Previous {
    /// Which.
    pub release: ReleaseId,
    /// Its instances are kept until then.
    pub warm_until_unix_ms: u64,
}

impl Previous {
    /// Whether its instances should be running now.
    pub fn is_warm(&self) -> bool {
        self.warm_until_unix_ms > unix_ms()
    }
}

impl HostState {
    /// Reads the state of a host, empty for a new one.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read.
    pub fn read(layout: &Layout) -> io::Result<Self> {
        Ok(durable::read_json(&layout.host_file())?.unwrap_or_default())
    }

    /// Writes it.
    ///
    /// # Errors
    /// When the disk is full or broken; what was there before stays.
    pub fn write(&self, layout: &Layout) -> io::Result<()> {
        durable::write_json(&layout.host_file(), self)
    }
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds in a duration, for reports.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
