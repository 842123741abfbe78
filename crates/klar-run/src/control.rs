//! What can be asked of a core: the verbs behind the control API and so behind the command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use klar_base::look::{Counts, Explained, Wanted};
use klar_base::replay::{Exception, Replayed, Sent};
use klar_base::shadow::Tried;
use klar_base::upstreams::{Purge, RuleFiles};
use klar_base::{AppKey, Secret, ServiceName};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::report::{Event, Failure, Finding, HostStatus, LogLine, Upgrade};

/// Events of an operation as they happen; the last one is [`Event::Failed`] or [`Event::Done`]. The operation goes
/// on when nobody listens any more.
pub type Events = mpsc::Receiver<Event>;

/// A new release to put in place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeployRequest {
    /// The id of an upload: a tar archive of the app's folder with `klar.toml` at its top.
    pub upload: String,
    /// Only for an app that is not up yet (`klar up`); `klar deploy` is for one that is.
    pub first: bool,
    /// The values behind `env:` and `file:` references of `klar.toml`, by reference as written there. They are read
    /// by the command line, as the person who runs it.
    pub secrets: BTreeMap<String, Secret<String>>,
    /// A given certificate, where `klar.toml` names one.
    pub certificate: Option<GivenCertificate>,
}

/// A certificate that klar did not make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GivenCertificate {
    /// PEM, leaf first.
    pub chain_pem: String,
    /// PEM.
    pub key_pem: Secret<String>,
    /// Where both were read, so that the core can read them again when they change.
    #[serde(default)]
    pub files: Option<GivenFiles>,
}

/// The files of a certificate that klar did not make: absolute paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenFiles {
    /// `edge.certificate`.
    pub chain: PathBuf,
    /// `edge.key`.
    pub key: PathBuf,
}

/// Another program to go on with: the one that lies ready in the state folder ([`crate::programs`]).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeRequest {
    /// The version it said it was.
    pub version: String,
    /// It is the one that ran before.
    #[serde(default)]
    pub rollback: bool,
}

/// Which lines of output are wanted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LogQuery {
    /// Only this service or store.
    pub service: Option<ServiceName>,
    /// Only this instance: `api.7`.
    pub instance: Option<String>,
    /// How many lines from the past.
    pub lines: usize,
    /// Go on with new ones.
    pub follow: bool,
    /// Access records instead of output; `text` is then one JSON object.
    pub access: bool,
    /// Instead, what stricter rules say of requests that were let through: each a [`ShadowedRequest`] as JSON.
    pub shadow: bool,
}

/// A request that the firewall stopped, to be judged again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// As in its access record.
    pub request_id: String,
    /// Exceptions to try.
    #[serde(default)]
    pub exceptions: Vec<Exception>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayedRequest {
    /// The request, as it was kept.
    pub sent: Sent,
    /// What the firewall says of it.
    pub replayed: Replayed,
}

/// Other rules, to be tried on requests that were let through.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TryRequest {
    /// Which.
    pub rules: TriedRules,
    /// At which level.
    pub paranoia: u8,
    /// Exceptions to try with them, beside those of `klar.toml`.
    #[serde(default)]
    pub exceptions: Vec<Exception>,
    /// As in [`Trial::attacked`](klar_base::shadow::Trial::attacked).
    #[serde(default)]
    pub attacked: Vec<(String, String)>,
}

/// Which rules are tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriedRules {
    /// klar's own.
    Core,
    /// The Core Rule Set of this machine.
    Crs,
    /// These.
    Files(RuleFiles),
}

/// What a core does when it is asked.
#[allow(async_fn_in_trait)] // one thread, so nobody needs `Send`
pub trait Control {
    /// Everything at a glance, without waiting for anything.
    async fn status(&self) -> HostStatus;
    /// What this host can and cannot do.
    async fn doctor(&self) -> Vec<Finding>;
    /// The certificate of the local authority, in PEM.
    async fn authority(&self) -> Result<String, Failure>;
    /// The folder for uploads; the API puts the archive there under a name of its own, which is the upload's id.
    fn uploads(&self) -> &Path;
    /// Puts a release in place.
    async fn deploy(&self, key: AppKey, request: DeployRequest) -> Events;
    /// Goes back to the release before.
    async fn rollback(&self, key: AppKey) -> Events;
    /// Replaces instances by new ones of the same release, one after the other.
    async fn restart(&self, key: AppKey, service: Option<ServiceName>) -> Events;
    /// Sets the number of instances, until the next change of `klar.toml`.
    async fn scale(&self, key: AppKey, service: ServiceName, instances: u32) -> Events;
    /// Puts a copy that was restored in the place of a database.
    async fn take_over(&self, key: AppKey, store: ServiceName, copy: String) -> Events;
    /// Renews the certificates of an app's names now. Those before serve on until then, and when it fails.
    async fn renew(&self, key: AppKey) -> Events;
    /// Stops an app; `purge` also removes its releases, logs, folders and databases.
    async fn down(&self, key: AppKey, purge: bool) -> Events;
    /// Has the cache of the edge forget answers of an app, and says how many there were.
    async fn purge(&self, key: AppKey, what: Purge) -> Result<u64, Failure>;
    /// The counters of the edge.
    async fn edge_counts(&self) -> Result<Counts, Failure>;
    /// What the edge would do with a request. Nothing is sent.
    async fn edge_explain(&self, wanted: Wanted) -> Result<Explained, Failure>;
    /// What the firewall says of a request that it stopped, and what it would say with exceptions. Nothing is sent.
    async fn replay(&self, key: AppKey, wanted: ReplayRequest) -> Result<ReplayedRequest, Failure>;
    /// What other rules would do with requests that were let through and kept. Nothing is sent.
    async fn try_rules(&self, key: AppKey, wanted: TryRequest) -> Result<Tried, Failure>;
    /// Output of an app. Ends when it is not followed, or when the receiver is dropped.
    async fn logs(&self, key: AppKey, query: LogQuery) -> Result<mpsc::Receiver<LogLine>, Failure>;
    /// `klar.toml` as it is in force for the release that serves, with where each value came from.
    async fn loaded(&self, key: AppKey) -> Result<PathBuf, Failure>;
    /// Goes on with another program. The core that answers ends soon after; the next one knows what came of it
    /// ([`HostStatus::upgrade`]).
    async fn upgrade(&self, wanted: UpgradeRequest) -> Result<Upgrade, Failure>;
    /// Stops every app, the edge and the core itself.
    async fn stop(&self) -> Events;
}
