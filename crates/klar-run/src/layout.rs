//! Where everything lies. One folder holds a host's whole state; everything of an app is below its [`AppKey`].
//!
//! ```text
//! STATE/host.json                      the apps, their releases, ports: atomically replaced
//! STATE/ledger/                        receipts, evidence, signatures: append-only, signed, hash-chained
//! STATE/bin/klar, klar.previous        the program that everything runs from, and the one before
//! STATE/upgrade.json                   the newest upgrade of klar itself, on its way or over
//! STATE/logs/klar.log                  what core, spawner, edge and shims say of themselves
//! STATE/ca/                            the local certificate authority and given certificates
//! STATE/acme/accounts/HASH/             the account at a public authority: its key, and where it is
//! STATE/acme/certificates/NAME.*       what it gave: key and chain, those before, an order on its way
//! STATE/cache/                         answers that the edge keeps; its own
//! STATE/check.key                      what klar's own probes show to get past the firewall
//! STATE/see/                           what telemetry keeps: metrics/, rows/, routes/; its own
//! STATE/see.key, see.port              what shows that somebody may read it, and where it listens on the loopback
//! STATE/waf/crs/                       a rule set for the firewall that was added: rules/, crs-setup.conf
//! STATE/run/klar.sock, see.sock, edge.sock  control sockets; edge.next.sock, edge.PID.sock: edges before and after
//! STATE/run/i/HASH.{json,sock}         one pair for each running shim: enough to find it again
//! STATE/apps/APP.ENV/releases/ID/      files/ (read-only), assets/ (made of static files), release.json (written last: the release is whole)
//! STATE/apps/APP.ENV/writable/NAME     the declared folders, which outlive releases
//! STATE/apps/APP.ENV/logs/SERVICE/     output of instances
//! STATE/apps/APP.ENV/home, tmp/N       caches of builds; a private tmp for each instance
//! STATE/data/APP.ENV/NAME/             the folder of a managed database, and its credentials beside it
//! STATE/keep/APP.ENV/NAME/             what is kept of it a second time: repository/, its key, spool/, work/
//! STATE/run/keep/APP.ENV.sock          where what keeps it can be asked
//! ```

use std::path::{Path, PathBuf};

use klar_base::{AppKey, InstanceId, ReleaseId, ServiceName};
use sha2::{Digest, Sha256};

/// The folders of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Everything below `root`, which should be absolute.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder that `klar` uses when none is named: `$KLAR_STATE`, then `/var/lib/klar` for root, then
    /// `$XDG_STATE_HOME/klar`, then `~/.local/state/klar`.
    pub fn default_for_user() -> Self {
        let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(folder) = from("KLAR_STATE") {
            return Self::new(folder);
        }
        if nix::unistd::geteuid().is_root() {
            return Self::new("/var/lib/klar");
        }
        let state = from("XDG_STATE_HOME")
            .or_else(|| from("HOME").map(|home| home.join(".local/state")))
            .unwrap_or_else(std::env::temp_dir);
        Self::new(state.join("klar"))
    }

    /// What klar's own probes show to get past the firewall to the app; for who may use the control socket.
    pub fn check_key(&self) -> PathBuf {
        self.root.join("check.key")
    }

    /// What telemetry keeps.
    pub fn see(&self) -> PathBuf {
        self.root.join("see")
    }

    /// What telemetry wants to be shown over TCP; for who may use the control socket.
    pub fn see_key(&self) -> PathBuf {
        self.root.join("see.key")
    }

    /// The port of the loopback at which telemetry can be asked.
    pub fn see_port(&self) -> PathBuf {
        self.root.join("see.port")
    }

    /// Where telemetry can be asked.
    pub fn see_socket(&self) -> PathBuf {
        self.root.join("run/see.sock")
    }

    /// Where a rule set for the firewall lies that was added to this host.
    pub fn rule_set(&self) -> PathBuf {
        self.root.join("waf/crs")
    }

    /// The folder that holds everything.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// The durable state of the core.
    pub fn host_file(&self) -> PathBuf {
        self.root.join("host.json")
    }
    /// What the checks of an app came to when they last ran: a `Readiness`.
    pub fn readiness(&self, key: &AppKey) -> PathBuf {
        self.ledger().join(format!("readiness-{key}.json"))
    }
    /// Where a rig says which ports its edge has instead of those in `klar.toml`: `[HTTPS, HTTP]`. So the same release,
    /// with the same digest, can run beside the one that serves.
    pub fn ports_file(&self) -> PathBuf {
        self.root.join("ports.json")
    }
    /// Where a rig says which folder is its second place, instead of the one in `klar.toml`: what it keeps is worth
    /// nothing, and must never come near what is.
    pub fn second_file(&self) -> PathBuf {
        self.root.join("second.json")
    }
    /// The folder of the ledger: receipts, evidence, signatures.
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }
    /// What klar's own processes say.
    pub fn own_log(&self) -> PathBuf {
        self.root.join("logs/klar.log")
    }
    /// The local certificate authority.
    pub fn ca(&self) -> PathBuf {
        self.root.join("ca")
    }
    /// Accounts at certificate authorities, and the certificates that they gave.
    pub fn acme(&self) -> PathBuf {
        self.root.join("acme")
    }
    /// What the edge keeps of answers on disk.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }
    /// Sockets and what is only true while processes live.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }
    /// The control API.
    pub fn control_socket(&self) -> PathBuf {
        self.root.join("run/klar.sock")
    }
    /// The edge's control socket.
    pub fn edge_socket(&self) -> PathBuf {
        self.root.join("run/edge.sock")
    }
    /// That of an edge that is about to take over.
    pub fn edge_socket_next(&self) -> PathBuf {
        self.root.join("run/edge.next.sock")
    }
    /// That of an edge that drains, by its process id.
    pub fn edge_socket_aside(&self, pid: u32) -> PathBuf {
        self.root.join(format!("run/edge.{pid}.sock"))
    }
    /// The control sockets of all edges that there may be: that of the one that serves first, then that of the next.
    pub fn edge_sockets(&self) -> Vec<PathBuf> {
        let (serving, next) = (self.edge_socket(), self.edge_socket_next());
        let entries = std::fs::read_dir(self.run()).into_iter().flatten().flatten();
        let mut aside: Vec<PathBuf> = entries
            .filter(|entry| {
                let name = entry.file_name();
                let name = name.to_str().unwrap_or_default();
                name.starts_with("edge.") && name.ends_with(".sock")
            })
            .map(|entry| entry.path())
            .filter(|path| *path != serving && *path != next)
            .collect();
        aside.sort();
        let first = [serving, next].into_iter().filter(|path| path.exists());
        first.chain(aside).collect()
    }
    /// What the newest upgrade of klar itself is about, or came to.
    pub fn upgrade_file(&self) -> PathBuf {
        self.root.join("upgrade.json")
    }
    /// The record and the socket of a running shim. Hashed: a socket's path may have 107 bytes in all.
    pub fn shim(&self, id: &InstanceId) -> (PathBuf, PathBuf) {
        let digest = Sha256::digest(id.to_string());
        let name: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let folder = self.shims();
        (folder.join(format!("{name}.json")), folder.join(format!("{name}.sock")))
    }
    /// The folder with the records of running shims.
    pub fn shims(&self) -> PathBuf {
        self.root.join("run/i")
    }
    /// All apps.
    pub fn apps(&self) -> PathBuf {
        self.root.join("apps")
    }
    /// All of one app, apart from its databases.
    pub fn app(&self, key: &AppKey) -> PathBuf {
        self.apps().join(key.to_string())
    }
    /// Its releases.
    pub fn releases(&self, key: &AppKey) -> PathBuf {
        self.app(key).join("releases")
    }
    /// One release.
    pub fn release(&self, key: &AppKey, id: &ReleaseId) -> PathBuf {
        self.releases(key).join(id.as_str())
    }
    /// The declared folders, which outlive releases.
    pub fn writable(&self, key: &AppKey) -> PathBuf {
        self.app(key).join("writable")
    }
    /// The home of builds and instances: caches, nothing precious.
    pub fn home(&self, key: &AppKey) -> PathBuf {
        self.app(key).join("home")
    }
    /// The private tmp of one instance.
    pub fn tmp(&self, id: &InstanceId) -> PathBuf {
        self.app(&id.key).join("tmp").join(format!("{}-{}", id.service, id.number))
    }
    /// The output of one service or store.
    pub fn logs(&self, key: &AppKey, service: &ServiceName) -> PathBuf {
        self.app(key).join("logs").join(service.as_str())
    }
    /// The access records of an app.
    pub fn access_log(&self, key: &AppKey) -> PathBuf {
        self.app(key).join("access/access.jsonl")
    }
    /// What stricter rules of the firewall say of requests of an app that were let through.
    pub fn shadow_log(&self, key: &AppKey) -> PathBuf {
        self.app(key).join("access/shadow.jsonl")
    }
    /// Requests of an app that the firewall stopped.
    pub fn stopped(&self, key: &AppKey) -> PathBuf {
        self.app(key).join("stopped")
    }
    /// What is kept of an app's databases a second time.
    pub fn keep(&self, key: &AppKey) -> PathBuf {
        self.root.join("keep").join(key.to_string())
    }
    /// Where what keeps them can be asked.
    pub fn keep_socket(&self, key: &AppKey) -> PathBuf {
        self.root.join("run/keep").join(format!("{key}.sock"))
    }
    /// Everything of one managed store.
    pub fn store(&self, key: &AppKey, name: &ServiceName) -> PathBuf {
        self.root.join("data").join(key.to_string()).join(name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_environments_of_one_app_share_nothing() {
        let layout = Layout::new("/s");
        let (prod, staging): (AppKey, AppKey) = ("a.prod".parse().unwrap(), "a.staging".parse().unwrap());
        let service: ServiceName = "api".parse().unwrap();
        for of in [Layout::app, Layout::releases, Layout::writable, Layout::home] {
            assert_ne!(of(&layout, &prod), of(&layout, &staging));
        }
        assert_ne!(layout.store(&prod, &service), layout.store(&staging, &service));
        let longest = format!("{0}.{0}.{0}.18446744073709551615", "a".repeat(32));
        let (_, socket) = layout.shim(&longest.parse().unwrap());
        assert!(socket.as_os_str().len() < 40, "{socket:?}");
    }
}
