//! What the core remembers: on disk before it is acted on, and nothing that can be seen by looking.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

use klar_base::{AppKey, ReleaseId, ServiceName};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::layout::Layout;
use crate::store::Store;

use super::ratchet::Ratchet;

/// The format of the state folder. It grows when an older klar would misread what a newer one has written; fields
/// that an older one may pass over do not change it.
pub const FORMAT: u32 = 1;

/// The durable state of a host.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HostState {
    /// The [`FORMAT`] it was written in; 0 from before there was a number, and in memory.
    #[serde(default)]
    pub format: u32,
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
    /// Routes on which the firewall is to block one day, by their patterns.
    #[serde(default)]
    pub ratchets: BTreeMap<String, Ratchet>,
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
    /// When the file is damaged, cannot be read, or is that of a newer klar.
    pub fn read(layout: &Layout) -> io::Result<Self> {
        #[derive(Deserialize)]
        struct Format {
            #[serde(default)]
            format: u32,
        }
        let path = layout.host_file();
        let found = durable::read_json::<Format>(&path)?.map_or(0, |found| found.format);
        if found > FORMAT {
            let what = format!(
                "{} is in format {found}, which a newer klar has written; this one reads up to {FORMAT}: start the \
                 newer one",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(durable::read_json(&path)?.unwrap_or_default())
    }

    /// Writes it.
    ///
    /// # Errors
    /// When the disk is full or broken; what was there before stays.
    pub fn write(&self, layout: &Layout) -> io::Result<()> {
        durable::write_json(&layout.host_file(), &Self { format: FORMAT, ..self.clone() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_klar_wrote_is_not_guessed_at() {
        let folder = std::env::temp_dir().join(format!("klar-state-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let layout = Layout::new(&folder);
        for (text, readable) in [
            (r#"{"apps":{}}"#.to_owned(), true),
            (format!(r#"{{"format":{FORMAT},"apps":{{}}}}"#), true),
            (format!(r#"{{"format":{},"apps":"something else"}}"#, FORMAT + 1), false),
        ] {
            std::fs::write(layout.host_file(), &text).unwrap();
            let read = HostState::read(&layout);
            assert_eq!(read.is_ok(), readable, "{text}");
            if let Err(error) = read {
                assert!(error.to_string().contains("newer klar"), "{error}");
            }
        }
        HostState::default().write(&layout).unwrap();
        let written = std::fs::read_to_string(layout.host_file()).unwrap();
        assert!(written.contains(&format!("\"format\": {FORMAT}")), "{written}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
