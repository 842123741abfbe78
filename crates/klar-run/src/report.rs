//! What klar says about itself: the shapes behind `klar status`, `klar deploy` and their `--json`.
//!
//! These types are the contract of the control API. Fields are only ever added.

use klar_base::signal::Totals;
use klar_base::{AppKey, InstanceId, ReleaseId, ServiceName};
use serde::{Deserialize, Serialize};

/// The whole host at a glance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostStatus {
    /// The version of the core that answers.
    pub version: String,
    /// The process id of the core.
    pub core_pid: u32,
    /// The process id of the privileged spawner, when klar was started as root.
    pub spawner_pid: Option<u32>,
    /// The folder that holds everything.
    pub state_folder: String,
    /// How long the core has been up, in milliseconds.
    pub uptime_ms: u64,
    /// The edge.
    pub edge: EdgeStatus,
    /// Telemetry.
    #[serde(default)]
    pub see: SeeStatus,
    /// The apps, by name.
    pub apps: Vec<AppStatus>,
    /// The format of its state folder; a program that reads less cannot take its place.
    #[serde(default)]
    pub state_format: u32,
    /// The newest upgrade of klar itself, on its way or over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Upgrade>,
}

/// An upgrade of klar itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Upgrade {
    /// When it began, in milliseconds since the Unix epoch; this also tells it from others.
    pub number: u64,
    /// The version that ran before.
    pub from: String,
    /// The version that should run.
    pub to: String,
    /// It goes back to the program before.
    pub rollback: bool,
    /// How far it is.
    pub state: UpgradeState,
    /// Why it did not work.
    pub why: Option<String>,
    /// What it did, once it is done.
    pub receipt: Option<Box<Receipt>>,
}

/// How far an upgrade is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeState {
    /// On its way.
    Pending,
    /// Core and edge run from the new program.
    Done,
    /// The program before goes on.
    Failed,
}

/// The edge at a glance.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EdgeStatus {
    /// Its process id, when it runs.
    pub pid: Option<u32>,
    /// Where it listens, for instance `https 127.0.0.1:8443`.
    pub listens: Vec<String>,
    /// Where it should listen and cannot, with the reason.
    #[serde(default)]
    pub cannot_listen: Vec<String>,
    /// Connections from visitors that are open now.
    pub connections: u32,
    /// Connections that were closed since it started, because they came past the proxies that `edge.proxy_protocol` is
    /// for, or did not begin with its header.
    #[serde(default)]
    pub turned_away: u64,
    /// Access records that were dropped because nobody took them in time.
    pub records_dropped: u64,
    /// How often it had to be started again.
    pub restarts: u64,
    /// What of its sandbox is on.
    pub sandbox: Vec<String>,
    /// The version of klar that it runs from.
    #[serde(default)]
    pub version: String,
    /// Why a newer one could not take its place.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Those before it, which live for as long as their connections do.
    #[serde(default)]
    pub draining: Vec<DrainingEdge>,
}

/// Telemetry at a glance.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SeeStatus {
    /// Its process id, when it runs.
    pub pid: Option<u32>,
    /// Where it can be asked over TCP, with a key.
    pub listens: Option<String>,
    /// How often it had to be started again.
    pub restarts: u64,
    /// Frames of records that were dropped because it did not take them in time.
    pub frames_dropped: u64,
    /// Series of metrics that it knows.
    pub series: u64,
    /// Bytes that it keeps on disk.
    pub bytes: u64,
    /// What of its sandbox is on.
    pub sandbox: Vec<String>,
    /// What is wrong with it.
    pub trouble: Option<String>,
}

/// An edge that accepts nothing more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainingEdge {
    /// Its process id.
    pub pid: u32,
    /// The version of klar that it runs from.
    pub version: String,
    /// Connections that are still open.
    pub connections: u32,
    /// How long it has been so, in milliseconds.
    pub for_ms: u64,
}

/// One app in one environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its name.
    pub key: AppKey,
    /// One word for all of it.
    pub health: Health,
    /// Where to open it.
    pub url: String,
    /// The host names that lead to it.
    pub hosts: Vec<String>,
    /// The release that serves.
    pub release: Option<ReleaseId>,
    /// When that release went live, in milliseconds since the Unix epoch.
    pub live_since_unix_ms: Option<u64>,
    /// The release before it.
    pub previous: Option<PreviousRelease>,
    /// What a deploy that is going on is doing.
    pub deploying: Option<String>,
    /// The services.
    pub services: Vec<ServiceStatus>,
    /// The databases and caches.
    pub stores: Vec<StoreStatus>,
    /// How its databases are kept a second time.
    #[serde(default)]
    pub kept: Vec<klar_base::keep::KeptStatus>,
    /// The certificate that serves each host.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
    /// What klar decided by itself, and why.
    pub notes: Vec<String>,
    /// Requests since the edge started.
    pub totals: Totals,
    /// How ready it was when its checks last ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Readiness>,
}

/// The certificate of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// The host name.
    pub host: String,
    /// `given` (`edge.certificate`), `acme` (`edge.acme`) or `local` (klar's own authority).
    pub source: String,
    /// Who signed it.
    pub issuer: Option<String>,
    /// When it ends, in milliseconds since the Unix epoch.
    pub not_after_unix_ms: Option<u64>,
    /// Whole days until then; negative when it has ended.
    pub days_left: Option<i64>,
    /// The host of the authority that is asked for it, if one is.
    pub authority: Option<String>,
    /// When that is asked next, in milliseconds since the Unix epoch.
    pub next_try_unix_ms: Option<u64>,
    /// It is being asked now.
    pub asking: bool,
    /// Failures in a row since the newest certificate.
    pub failures: u32,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// It ends soon: `soon`, `urgent`, `critical` or `expired`.
    pub alarm: Option<String>,
}

/// One word for how something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All that should run runs.
    Up,
    /// On its way.
    Starting,
    /// It answers, but something is missing.
    Degraded,
    /// It does not answer.
    Down,
    /// It was stopped on purpose.
    Stopped,
}

/// What the checks of an app came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Of 80.
    pub total: u32,
    /// Whether it is ready.
    pub ready: bool,
    /// Scored rows that are proven.
    pub proven: u32,
    /// Scored rows that fail.
    pub failing: u32,
    /// When that was computed.
    pub at_unix_ms: u64,
}

/// The release before the one that serves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PreviousRelease {
    /// Which.
    pub release: ReleaseId,
    /// Until when its instances are kept running, so that a rollback is instant. Milliseconds since the epoch.
    pub warm_until_unix_ms: Option<u64>,
}

/// Something that needs a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What happened.
    pub what: String,
    /// What to try.
    pub hint: Option<String>,
    /// The app's own last words, when they say more.
    pub output: Vec<String>,
}

/// One service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// `web`, `worker`, `cron` or `static`.
    pub kind: String,
    /// How many instances there should be.
    pub wanted: u32,
    /// Those that there are, also of the previous release.
    pub instances: Vec<InstanceStatus>,
}

/// One instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub id: InstanceId,
    /// What it is doing.
    pub state: InstanceState,
    /// The release it runs.
    pub release: ReleaseId,
    /// Whether it gets new requests.
    pub serving: bool,
    /// The process id of the app's process, as the host sees its shim.
    pub pid: Option<u32>,
    /// The process id of its shim.
    pub shim_pid: Option<u32>,
    /// Where it listens.
    pub port: Option<u16>,
    /// How long it has been in this state, in milliseconds.
    pub for_ms: u64,
    /// How often its place has been filled again after a crash.
    pub restarts: u32,
    /// Memory in use by all its processes, in bytes, when the host can tell.
    pub memory_bytes: Option<u64>,
    /// Requests that are being answered now.
    pub leases: u32,
    /// Requests since the edge first saw it.
    pub requests: u64,
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Started, not yet ready.
    Starting,
    /// Answers.
    Ready,
    /// Asked to stop.
    Stopping,
    /// Waits for its next start after a crash.
    Waiting,
}

/// One managed database or cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Its name in `klar.toml`.
    pub name: ServiceName,
    /// `postgres` or `redis`, with the version where it is known.
    pub kind: String,
    /// Whether klar runs it.
    pub managed: bool,
    /// What it is doing.
    pub state: Option<InstanceState>,
    /// The process id of its shim.
    pub shim_pid: Option<u32>,
    /// The process id of the server.
    pub pid: Option<u32>,
    /// Where it listens.
    pub port: Option<u16>,
    /// What proves that it is the right one, for instance PostgreSQL's system identifier.
    pub identity: Option<String>,
    /// How often it had to be started again.
    pub restarts: u32,
}

/// One thing that happened during a deploy, a rollback or another long operation. Sent as it happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A step has begun.
    Begin {
        /// One word: `upload`, `build`, `migrate`, `start`, `switch`, `drain`.
        step: String,
        /// What exactly.
        detail: String,
    },
    /// The step that had begun is finished.
    End {
        /// The same word.
        step: String,
        /// What came of it.
        detail: String,
        /// How long it took.
        duration_ms: u64,
    },
    /// A line that a build or a migration printed.
    Output {
        /// The line.
        line: String,
    },
    /// Something that klar decided or noticed.
    Note {
        /// What.
        text: String,
    },
    /// It did not work. Nothing follows.
    Failed(Failure),
    /// It worked. Nothing follows.
    Done(Box<Receipt>),
}

/// Why an operation failed, and what is true now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// What happened.
    pub what: String,
    /// What to try.
    pub hint: Option<String>,
    /// The app's own last lines.
    pub output: Vec<String>,
    /// What serves now, in a sentence.
    pub now: Option<String>,
}

impl Failure {
    /// A failure that says all in one sentence.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None, output: Vec::new(), now: None }
    }

    /// Adds what to try.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the app's own last lines.
    pub fn output(mut self, lines: Vec<String>) -> Self {
        self.output = lines;
        self
    }
}

impl klar_base::Hint for Failure {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// What a deploy or a rollback did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Receipt {
    /// `up`, `deploy`, `rollback`, `restart`, `scale`, `down`, `upgrade` or `upgrade rollback`.
    pub operation: String,
    /// For which app.
    pub key: AppKey,
    /// The release that served before.
    pub from: Option<ReleaseId>,
    /// The release that serves now.
    pub to: Option<ReleaseId>,
    /// When it began, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// From the decision to switch until the first request that the new release may answer, in milliseconds.
    pub switch_ms: Option<u64>,
    /// Requests that the edge finished meanwhile.
    pub requests: u64,
    /// Of these: 502, 503 and 504 that the edge had to give.
    pub failed_requests: u64,
    /// Of these: answers of 500 and above by the app itself.
    pub app_errors: u64,
    /// Where to open the app.
    pub url: String,
    /// What klar decided or noticed.
    pub notes: Vec<String>,
}

/// One line of an app's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// RFC 3339, UTC.
    pub time: String,
    /// Who said it: `api.7`.
    pub instance: String,
    /// `stdout`, `stderr` or `klar`.
    pub stream: String,
    /// What.
    pub text: String,
}

/// One finding of `klar doctor`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `limits`, `sandbox`, `ports`.
    pub topic: String,
    /// How it is.
    pub grade: Grade,
    /// What was found.
    pub what: String,
    /// What it means, or what to do.
    pub hint: Option<String>,
}

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As good as it gets.
    Good,
    /// Works, with less.
    Fair,
    /// Needs a person.
    Bad,
}
