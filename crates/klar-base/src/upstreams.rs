//! What the core tells the edge, and what the edge tells the core.
//!
//! The core sends whole [`EdgeConfig`]s, never changes to one: the newest generation is the truth, and a lost or
//! repeated message does no harm. The edge takes a lease for each request on the upstream that it picks; an
//! upstream of weight 0 gets no new leases, and is *drained* when [`UpstreamVitals::leases`] is 0 in a report
//! that follows the [`FromEdge::Applied`] of that generation.
//!
//! Start: the core spawns the edge with a listening Unix socket as its control socket and connects to it. Each
//! time a core connects, the edge answers [`FromEdge::Hello`] with a copy of each listener it holds, so that a core
//! that was killed gets its sockets back without closing one. An edge accepts nobody before it has an [`EdgeConfig`],
//! whatever comes first: until then visitors wait in the queues of the sockets.
//!
//! Another edge takes over like this: it is spawned beside the one that serves, gets the newest [`EdgeConfig`] and
//! only then copies of the same listening sockets ([`ToEdge::Listen`]), and says [`FromEdge::Listening`]. From here
//! on both accept from one queue, which belongs to the sockets and not to a process. Then the old one gets
//! [`ToEdge::Drain`]: it stops accepting, and lives for as long as its connections do. Nothing is closed on the way,
//! so nobody is refused.
//!
//! Core and edge may be of two versions while klar is upgraded. Each message may grow fields that have a default,
//! and each side passes over kinds of messages that it does not know. Whatever goes further changes [`PROTOCOL`].
//! [`FromEdge::Hello`], [`ToEdge::Listen`], [`ToEdge::Stop`], [`FromEdge::Vitals`] and [`FromEdge::Records`] keep
//! their shapes for good: with them a core can replace an edge of any version.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::datagrams::DatagramSpec;
use crate::ids::{AppKey, InstanceId, ReleaseId, ServiceName};
use crate::images::ImageRules;
use crate::lines::Lines;
use crate::look::{Question, Told};
use crate::network::Network;
use crate::replay::StoppedRequest;
use crate::shadow::ShadowedRequest;
use crate::signal::{AccessRecord, Totals, UpstreamVitals};
use crate::{Secret, wire};

/// The version of the messages between core and edge. A core gives an [`EdgeConfig`] only to an edge of its own
/// number; one of another number serves on as it is, until a new one has taken over.
///
/// 1: before there was a number. 2: [`ToEdge::Drain`] and [`FromEdge::Listening`]; unknown kinds are passed over.
pub const PROTOCOL: u32 = 2;

/// The number of an edge that says none.
fn before_numbers() -> u32 {
    1
}

/// From the core to the edge.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToEdge {
    /// More listening sockets to serve, in the order of the descriptors that travel with the message.
    Listen {
        /// What each descriptor is.
        listeners: Vec<ListenerSpec>,
    },
    /// More sockets for datagrams of HTTP/3, in the order of the descriptors that travel with the message: to serve
    /// those of one lane ([`crate::datagrams`]), and to hold all. Sent only to who answers for them in its greeting
    /// ([`FromEdge::Hello::datagrams`]).
    Datagrams(Datagrams),
    /// The whole truth about what to serve. Descriptors: the open folders of [`Target::Static`], by index.
    Config(Box<EdgeConfig>),
    /// Forget answers that are kept. Answered by [`FromEdge::Purged`].
    Purge {
        /// Comes back with the answer.
        number: u64,
        /// Of this app.
        app: AppKey,
        /// Which.
        what: Purge,
    },
    /// Say something of yourself. Answered by [`FromEdge::Answered`].
    Ask {
        /// Comes back with the answer.
        number: u64,
        /// What.
        question: Question,
    },
    /// A process that converts images, as [`FromEdge::WantsImages`] asked for. Descriptor: the socket to it
    /// ([`crate::images`]); none when there is no such process to be had.
    Images,
    /// Stop accepting, finish what is in flight within `patience`, exit with 0. Connections between two requests are
    /// closed at once.
    Stop {
        /// How long requests in flight may take.
        patience: Duration,
    },
    /// Stop accepting: another edge has the sockets. Connections are led over as their protocols allow, and none is
    /// cut within `patience`: HTTP/1.1 is told with its next answer (`connection: close`, RFC 9112 section 9.6),
    /// HTTP/2 at once (GOAWAY, RFC 9113 section 6.8), WebSockets and answers that have begun live on. When the last
    /// one has ended, exit with 0.
    Drain {
        /// How long connections may live.
        patience: Duration,
    },
    /// Send finished requests as [`Lines`] from now on: a core that says this can read them.
    TakesLines,
    /// What a newer core says and this version does not know.
    #[serde(other)]
    Unknown,
}

/// From the edge to the core.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromEdge {
    /// The first message on each connection. Descriptors: the listeners, in order.
    Hello {
        /// The process id of the edge.
        pid: u32,
        /// The version of klar it was built from.
        version: String,
        /// The generation that it serves, 0 when it has none.
        generation: u64,
        /// The listeners that it holds.
        listeners: Vec<ListenerSpec>,
        /// What could be switched on of the sandbox, in words for `klar doctor`.
        sandbox: Vec<String>,
        /// Its [`PROTOCOL`].
        #[serde(default = "before_numbers")]
        protocol: u32,
        /// Names the file of the program that it runs: another file, another name. Empty when it is not known.
        #[serde(default)]
        program: String,
        /// It got [`ToEdge::Drain`] or [`ToEdge::Stop`].
        #[serde(default)]
        draining: bool,
        /// It understands [`ToEdge::Ask`]; one of an older klar would hang up.
        #[serde(default)]
        answers: bool,
        /// It understands [`Question::Replay`] and [`ToEdge::TakesLines`].
        #[serde(default)]
        replays: bool,
        /// It understands [`Question::Try`].
        #[serde(default)]
        tries: bool,
        /// It serves HTTP/3, and so many messages with its sockets follow. `None`: it does not know of any.
        #[serde(default)]
        datagrams: Option<u32>,
    },
    /// Sockets for datagrams that it holds, right after [`FromEdge::Hello`]. Descriptors: the sockets, in order.
    Datagrams(Datagrams),
    /// Every worker has its part of all listeners that [`ToEdge::Listen`] named, or cannot serve some. Follows that
    /// message, or the first [`FromEdge::Applied`] when there was no configuration yet.
    Listening {
        /// How many it serves.
        count: usize,
        /// What it cannot serve, with the reason.
        failed: Vec<String>,
    },
    /// Every worker serves `generation`, and no request will be sent to an upstream that it left out or gave
    /// weight 0.
    Applied {
        /// The generation.
        generation: u64,
    },
    /// A configuration could not be used; the one before it stays in force.
    Rejected {
        /// The generation that was refused.
        generation: u64,
        /// Why.
        reason: String,
    },
    /// What was to be forgotten is, and what was on its way will not be kept.
    Purged {
        /// The number of the request.
        number: u64,
        /// How many answers there were.
        dropped: u64,
    },
    /// What was asked.
    Answered {
        /// The number of the question.
        number: u64,
        /// The answer.
        told: Told,
    },
    /// There are images to convert, and nobody who does. Said only by an edge that serves a route with
    /// [`Route::images`]. Answered by [`ToEdge::Images`].
    WantsImages,
    /// Sent once a second, and at once when an upstream of weight 0 has no leases left.
    Vitals(Vitals),
    /// Finished requests, oldest first.
    Records {
        /// The requests.
        records: Vec<AccessRecord>,
        /// Records dropped since the edge started, because nobody took them in time.
        dropped: u64,
    },
    /// Requests that the firewall stopped, or would have.
    Stopped {
        /// The requests.
        requests: Vec<StoppedRequest>,
    },
    /// Requests of which it is known now what stricter rules say.
    Shadowed {
        /// The requests.
        requests: Vec<ShadowedRequest>,
    },
    /// Finished requests, oldest first, for a core that said [`ToEdge::TakesLines`]. They are no JSON: see
    /// [`FromEdge::receive`].
    #[serde(skip)]
    Lines(Lines),
    /// What a newer edge says and this version does not know.
    #[serde(other)]
    Unknown,
}

impl FromEdge {
    /// Receives one message, and what travelled with it; `None` when the edge has hung up.
    ///
    /// # Errors
    /// As [`wire::receive`].
    pub fn receive(stream: &UnixStream) -> io::Result<Option<(Self, Vec<OwnedFd>)>> {
        let Some((body, descriptors)) = wire::receive_text(stream)? else { return Ok(None) };
        let message = match Lines::read(body) {
            Ok(lines) => Self::Lines(lines),
            Err(body) => serde_json::from_slice(&body)?,
        };
        Ok(Some((message, descriptors)))
    }
}

/// Sockets for datagrams, and which of them are an edge's to serve.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Datagrams {
    /// What each descriptor is.
    pub sockets: Vec<DatagramSpec>,
    /// The lane of the edge.
    pub lane: u16,
    /// 32 bytes of chance, in hexadecimal, the same for all edges of a core: what one of them has told a visitor (the
    /// token that shows where it is, and how a connection that nobody knows any more is taken back) the next one knows.
    pub secret: Secret<String>,
}

/// Which answers of an app the cache is to forget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", content = "value", rename_all = "snake_case")]
pub enum Purge {
    /// All of them.
    All,
    /// Those to one address: `https://shop.example/page?a=1`, or `/page?a=1` at every host of the app.
    Url(String),
    /// Those to addresses that begin so.
    Prefix(String),
    /// Those that the app has given this name, in `Cache-Tag` or `Surrogate-Key`.
    Tag(String),
}

/// How the edge and its upstreams are doing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Vitals {
    /// The generation that this describes.
    pub generation: u64,
    /// Connections from visitors that are open now.
    pub connections: u32,
    /// Connections that were closed since the edge started, because they came past the proxies that
    /// [`EdgeConfig::proxy_protocol`] names, or began with no header that makes sense.
    #[serde(default)]
    pub turned_away: u64,
    /// Each upstream of the generation, and those of earlier ones that still have leases.
    pub upstreams: Vec<UpstreamVitals>,
    /// Totals for each app since the edge started.
    pub totals: BTreeMap<AppKey, Totals>,
    /// Apps with rules of the firewall that do not run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused_rules: BTreeMap<AppKey, RefusedRules>,
    /// Routes on which a firewall only says what it would have stopped, by their patterns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub watched: BTreeMap<AppKey, BTreeMap<String, Watched>>,
}

/// What came on a route since the edge started, past a firewall.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Requests that would have passed, and had an answer below 400.
    pub passed: u64,
    /// Those that would have been stopped.
    pub found: u64,
}

/// Rules of a firewall that cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRules {
    /// How many.
    pub count: u32,
    /// Where the first of them stands, and why.
    pub first: String,
}

/// One listening socket. There is one for each address and worker (`SO_REUSEPORT`), and the set never shrinks:
/// closing one would drop the connections in its accept queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListenerSpec {
    /// Where it is bound.
    pub address: SocketAddr,
    /// HTTPS; plain HTTP redirects to it, but for [`Front::plain`].
    pub tls: bool,
    /// Which worker serves it, counted from 0; workers beyond the number that runs wrap around.
    pub worker: usize,
}

/// Everything the edge needs to know to serve.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EdgeConfig {
    /// Grows with each change.
    pub generation: u64,
    /// Where plain HTTP is sent: the port of HTTPS as visitors see it.
    pub https_port: u16,
    /// The certificates. The first one answers visitors that name no host.
    pub certificates: Vec<Certificate>,
    /// The apps.
    pub sites: Vec<Site>,
    /// What certificate authorities may find here now.
    #[serde(default)]
    pub challenges: Vec<Challenge>,
    /// Connections from visitors in all; more are closed at once.
    pub connections_max: u32,
    /// The room of the cache, in bytes; 0 switches it off.
    #[serde(default = "cache_bytes")]
    pub cache_bytes: u64,
    /// What the cache may take on disk, in bytes; 0 keeps nothing there.
    #[serde(default)]
    pub cache_disk_bytes: u64,
    /// The ports where every connection begins with a header of the PROXY protocol.
    #[serde(default)]
    pub proxy_protocol: Vec<ProxyProtocol>,
    /// Whoever shows this in `klar-check` is one of klar's own probes, which look past the firewall at the app.
    #[serde(default)]
    pub check_key: Option<Secret<String>>,
}

/// A port behind proxies that say in the PROXY protocol, versions 1 and 2, who the visitor is (proxy-protocol.txt of
/// HAProxy). Whoever else connects there is closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyProtocol {
    /// As in [`ListenerSpec::address`].
    pub port: u16,
    /// Whose connections these are.
    pub proxies: Vec<Network>,
}

/// 64 MiB.
fn cache_bytes() -> u64 {
    64 << 20
}

/// A certificate chain and its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Certificate {
    /// The host names it is used for, exact (`localhost`) or with one leading wildcard label (`*.example.no`).
    pub hosts: Vec<String>,
    /// PEM, leaf first.
    pub chain_pem: String,
    /// PEM, PKCS#8.
    pub key_pem: Secret<String>,
}

/// What proves to a certificate authority that a host name leads to this machine (RFC 8555, section 8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Challenge {
    /// A text at `/.well-known/acme-challenge/TOKEN`, over plain HTTP (RFC 8555, section 8.3).
    Http {
        /// The name that is proven, in lower case.
        host: String,
        /// The end of the path: letters, digits, `-` and `_`.
        token: String,
        /// The text.
        answer: String,
    },
    /// A certificate for those who speak `acme-tls/1` and nothing else (RFC 8737).
    Tls {
        /// The name that is proven, in lower case.
        host: String,
        /// PEM, one certificate, signed by its own key.
        chain_pem: String,
        /// PEM, PKCS#8.
        key_pem: Secret<String>,
    },
}

/// One app in one environment as the edge sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Site {
    /// Which app.
    pub app: AppKey,
    /// The host names that lead to it, in lower case, without port.
    pub hosts: Vec<String>,
    /// Its routes, in any order: the most specific one wins (exact, then longest prefix, then `/*`).
    pub routes: Vec<Route>,
    /// The instances behind each service.
    pub services: BTreeMap<ServiceName, Upstreams>,
    /// Limits for each request.
    pub limits: Limits,
    /// The content security policy.
    pub csp: Csp,
    /// What stands between its visitors and the edge.
    #[serde(default)]
    pub front: Front,
    /// Its visitors may use HTTP/3, and hear of it.
    #[serde(default)]
    pub http3: bool,
    /// The rules that its requests are judged by; `None`: by none.
    #[serde(default)]
    pub waf: Option<Waf>,
}

/// A web application firewall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waf {
    /// The rules.
    pub rules: WafRules,
    /// How many requests that may be honest are suspected: 1 (few) to 4.
    pub paranoia: u8,
    /// Rules of the app itself, in SecLang, before all others.
    #[serde(default)]
    pub own: String,
    /// Rules that judge a sample of what these let through, at all levels, and stop nothing.
    #[serde(default)]
    pub shadow: Option<WafRules>,
}

/// Where the rules of a firewall come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WafRules {
    /// klar's own.
    Core,
    /// A set that somebody else wrote.
    Set {
        /// What people call it.
        name: String,
        /// Index among the descriptors that travel with the configuration: an open file with a [`RuleFiles`] as JSON.
        file: usize,
        /// Names the content: two files with the same value are the same.
        digest: String,
    },
}

/// The files of a rule set as they came, and what they name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleFiles {
    /// Name and text of each file of rules, in their order.
    pub rules: Vec<(String, String)>,
    /// Name and contents of each file that they name.
    pub data: Vec<(String, String)>,
}

/// What a firewall does on a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WafMode {
    /// Nothing.
    #[default]
    Off,
    /// It says what it would have stopped.
    Detect,
    /// It stops requests.
    Block,
}

/// What stands between visitors and the edge, and how far it is believed. By default nothing does, and nobody is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Front {
    /// Those whose word counts for who the visitor is.
    pub proxies: Vec<Network>,
    /// In which header they say it.
    pub header: ForwardedHeader,
    /// They are served over plain HTTP too, where everybody else is led to HTTPS.
    pub plain: bool,
}

/// The header in which a proxy says who its visitor is. One of them: a proxy that writes one lets strangers write the
/// other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For` and `X-Forwarded-Proto`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// A path and where it leads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Route {
    /// `/exact`, `/prefix/*` (which also takes `/prefix`) or `/*`.
    pub pattern: String,
    /// Where it leads.
    pub target: Target,
    /// A `POST` or `PATCH` with an `Idempotency-Key` may be sent again.
    pub idempotent: bool,
    /// Pages of other sites may have their visitors' browsers write here.
    #[serde(default)]
    pub cross_site: bool,
    /// Overrides [`Limits::timeout`].
    pub timeout: Option<Duration>,
    /// Overrides [`Limits::body_bytes`].
    pub body_bytes: Option<u64>,
    /// What the cache does with answers.
    #[serde(default)]
    pub cache: CacheRules,
    /// Only visitors with a certificate of these authorities are let in: PEM, one certificate after the other; empty for
    /// nobody. `None`: everybody is, certificate or not.
    #[serde(default)]
    pub client_authorities: Option<String>,
    /// Images are converted and scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageRules>,
    /// What the firewall does.
    #[serde(default)]
    pub waf: WafMode,
}

/// What the cache of the edge does on a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRules {
    /// Whether it has any part.
    pub enabled: bool,
    /// How long an answer is fresh that states no lifetime, and was asked for without `Cookie` and `Authorization`.
    /// `None`: it is not kept.
    pub lifetime: Option<Duration>,
    /// How long a stale answer is given while a newer one is fetched, where the answer does not say (RFC 5861).
    pub stale_while_revalidate: Option<Duration>,
}

impl Default for CacheRules {
    fn default() -> Self {
        Self { enabled: true, lifetime: None, stale_while_revalidate: None }
    }
}

/// Where a route leads.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Target {
    /// To an instance of a service.
    Service {
        /// Which.
        service: ServiceName,
    },
    /// To the files in a folder.
    Static {
        /// Index among the descriptors that travel with the configuration: an open folder (`O_PATH`).
        folder: usize,
        /// Names the content: two configurations with the same value serve the same files.
        release: ReleaseId,
        /// Unknown paths that look like pages get `/index.html`.
        spa: bool,
        /// Index of the open folder with what was made of the files at the release: `plain/PATH` in place of a file,
        /// compressed copies as `CODING/PATH` with the name that `Content-Encoding` has for it, and the `Link` header
        /// of a page as `link/PATH`.
        #[serde(default)]
        prepared: Option<usize>,
    },
}

/// The instances behind a service.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Upstreams {
    /// The instances.
    pub upstreams: Vec<Upstream>,
    /// The path that says whether an instance is well. `None`: any answer on a connection will do.
    pub health: Option<String>,
    /// Visitors stay with the instance that they were first sent to, for as long as it takes requests.
    pub sticky: bool,
    /// How long a request waits when there is no instance to send it to.
    pub hold: Duration,
    /// What its instances speak.
    #[serde(default)]
    pub protocol: AppProtocol,
}

/// What an instance speaks with the edge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS and without asking first (RFC 9113 section 3.3): what gRPC needs.
    H2c,
}

/// An instance as the edge sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Which instance.
    pub id: InstanceId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of new requests in proportion to the others; 0 means none.
    pub weight: u32,
    /// The release that it runs.
    pub release: ReleaseId,
}

/// Limits for each request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Limits {
    /// The whole head of a request, in bytes. More: 431.
    pub header_bytes: usize,
    /// The body of a request, in bytes. More: 413.
    pub body_bytes: u64,
    /// From the first byte of a request to the last byte of its head. More: 408.
    pub header_timeout: Duration,
    /// From the end of the head to the head of the answer, over all attempts. More: 504.
    pub timeout: Duration,
    /// How long a body, in or out, may make no progress at all.
    pub stall_timeout: Duration,
    /// How long a connection may idle between requests.
    pub idle_timeout: Duration,
}

/// The content security policy that is sent where the app sends none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Csp {
    /// How it is sent.
    pub mode: CspMode,
    /// The policy.
    pub policy: String,
}

/// How a content security policy is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CspMode {
    /// `content-security-policy-report-only`: breaks nothing.
    Report,
    /// `content-security-policy`.
    Enforce,
    /// Not at all.
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_are_understood_as_far_as_it_goes() {
        let unknown = r#"{"type":"dance","steps":[1,2]}"#;
        assert!(matches!(serde_json::from_str(unknown).unwrap(), ToEdge::Unknown));
        assert!(matches!(serde_json::from_str(unknown).unwrap(), FromEdge::Unknown));
        let first =
            r#"{"type":"hello","pid":7,"version":"0.1.0","generation":3,"listeners":[],"sandbox":[]}"#;
        let FromEdge::Hello { protocol, program, draining, .. } = serde_json::from_str(first).unwrap() else {
            panic!("no hello")
        };
        assert_eq!((protocol, program.as_str(), draining), (1, "", false));
    }
}
