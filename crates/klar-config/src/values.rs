//! The types of values in `klar.toml`: how each is read, what it refuses and why.
//!
//! A type knows its [`Kind`] (for the schema and the docs) and how to read itself from a node of the file. Most
//! are text of a certain form and implement [`TextForm`] only.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use klar_base::{AppName, ByteSize, NameError, Network, NetworkError, Period, ServiceName};
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::keys::{InstanceRange, Instances};
use crate::read::Reader;
use crate::secret::{self, Credential, SCHEMES, SecretRef};
use crate::suggest::{self, quote};
use crate::table::{Choice, Key, Kind};
use crate::tree::{Data, Node, Table};

/// A type that a key can take.
pub(crate) trait Value: Sized {
    /// How it is described.
    const KIND: Kind;

    /// Reads it. `None` means that a fault was reported.
    fn read(node: &Node, key: &'static Key, cx: &mut Reader<'_>) -> Option<Self>;
}

/// A type that is written as text of a certain form.
pub(crate) trait TextForm: Sized {
    /// In words that follow "must be".
    const WHAT: &'static str;
    /// What editors check.
    const PATTERN: Option<&'static str> = None;

    /// Reads it, or says what is wrong with it.
    fn from_text(text: &str) -> Result<Self, Complaint>;
}

/// What is wrong with a text, and what would help.
#[derive(Debug, PartialEq)]
pub(crate) struct Complaint {
    label: String,
    hint: Option<String>,
    /// Whether the text may be a secret.
    hide: bool,
}

impl Complaint {
    fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), hint: None, hide: false }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl<T: TextForm> Value for T {
    const KIND: Kind = Kind::Text { what: T::WHAT, pattern: T::PATTERN };

    fn read(node: &Node, key: &'static Key, cx: &mut Reader<'_>) -> Option<Self> {
        let Some(text) = node.text() else {
            cx.wrong_type(key, node);
            return None;
        };
        match T::from_text(text) {
            Ok(value) => Some(value),
            Err(complaint) => {
                if complaint.hide {
                    cx.hide(node);
                }
                cx.bad_value(key, node, complaint.label, complaint.hint);
                None
            }
        }
    }
}

impl<T: Value> Value for Option<T> {
    const KIND: Kind = T::KIND;

    fn read(node: &Node, key: &'static Key, cx: &mut Reader<'_>) -> Option<Self> {
        T::read(node, key, cx).map(Some)
    }
}

impl<T: Value> Value for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);

    fn read(node: &Node, key: &'static Key, cx: &mut Reader<'_>) -> Option<Self> {
        let Data::List(items) = &node.data else {
            cx.wrong_type(key, node);
            return None;
        };
        // Every item is read, so that every mistake is reported.
        let outer = std::mem::replace(&mut cx.in_list, true);
        let values: Vec<Option<T>> = items.iter().map(|item| T::read(item, key, cx)).collect();
        cx.in_list = outer;
        values.into_iter().collect()
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Bool;

    fn read(node: &Node, key: &'static Key, cx: &mut Reader<'_>) -> Option<Self> {
        let Data::Bool(value) = node.data else {
            cx.wrong_type(key, node);
            return None;
        };
        Some(value)
    }
}

/// Whether `value` lies between what `min` and `max` of the key say; reports it if not.
fn within<T: PartialOrd>(
    value: T,
    parse: impl Fn(&str) -> Option<T>,
    node: &Node,
    key: &Key,
    cx: &mut Reader<'_>,
) -> Option<T> {
    let small = key.min.and_then(&parse).is_some_and(|min| value < min);
    let large = key.max.and_then(&parse).is_some_and(|max| value > max);
    if small || large {
        cx.bad_value(key, node, if small { "too small" } else { "too large" }, None);
        return None;
    }
    Some(value)
}

macro_rules! integers {
    ($($type:ty),*) => { $(
        impl Value for $type {
            const KIND: Kind = Kind::Integer;

            fn read(node: &Node, key: &'static Key, cx: &mut Reader<'_>) -> Option<Self> {
                let Data::Integer(number) = node.data else {
                    cx.wrong_type(key, node);
                    return None;
                };
                let number = within(number, |text| text.parse().ok(), node, key, cx)?;
                <$type>::try_from(number).inspect_err(|_| cx.bad_value(key, node, "out of range", None)).ok()
            }
        }
    )* };
}
integers!(u16, u32);

impl Value for Period {
    const KIND: Kind = Kind::Period;

    fn read(node: &Node, key: &'static Key, cx: &mut Reader<'_>) -> Option<Self> {
        let Some(text) = node.text() else {
            cx.wrong_type(key, node);
            return None;
        };
        let Ok(period) = text.parse::<Self>() else {
            let label = if text.bytes().all(|b| b.is_ascii_digit()) { "no unit" } else { "not a time" };
            cx.bad_value(key, node, label, Some("write a number and a unit, as in `\"250ms\"`, `\"30s\"`, `\"5m\"`, `\"12h\"` or `\"30d\"`".into()));
            return None;
        };
        within(period, |text| text.parse().ok(), node, key, cx)
    }
}

impl Value for ByteSize {
    const KIND: Kind = Kind::Size;

    fn read(node: &Node, key: &'static Key, cx: &mut Reader<'_>) -> Option<Self> {
        let Some(text) = node.text() else {
            cx.wrong_type(key, node);
            return None;
        };
        let Ok(size) = text.parse::<Self>() else {
            let label = if text.bytes().all(|b| b.is_ascii_digit()) { "no unit" } else { "not a size" };
            cx.bad_value(
                key,
                node,
                label,
                Some("write a whole number and a unit, as in `\"64KiB\"`, `\"512MiB\"` or `\"2GiB\"`".into()),
            );
            return None;
        };
        within(size, |text| text.parse().ok(), node, key, cx)
    }
}

/// Declares an enum that is written as one of a few words, each with its doc.
macro_rules! choice {
    (
        $(#[doc = $doc:literal])*
        $vis:vis enum $Type:ident { $( #[doc = $choice_doc:literal] $Variant:ident = $name:literal ),* $(,)? }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        $vis enum $Type { $( #[doc = $choice_doc] #[serde(rename = $name)] $Variant ),* }

        impl $Type {
            /// As written in `klar.toml`.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$Variant => $name ),* }
            }
        }

        impl fmt::Display for $Type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $Type {
            type Err = ();
            fn from_str(text: &str) -> Result<Self, ()> {
                match text {
                    $( $name => Ok(Self::$Variant), )*
                    _ => Err(()),
                }
            }
        }

        impl Value for $Type {
            const KIND: Kind = Kind::Choice(&[ $( Choice { name: $name, doc: $choice_doc.trim_ascii() } ),* ]);

            fn read(node: &Node, key: &'static Key, cx: &mut Reader<'_>) -> Option<Self> {
                let Some(text) = node.text() else {
                    cx.wrong_type(key, node);
                    return None;
                };
                match text.parse() {
                    Ok(choice) => Some(choice),
                    Err(()) => {
                        let hint = suggest::nearest(text, [ $( $name ),* ]).map(|meant| format!("did you mean `\"{meant}\"`?"));
                        cx.bad_value(key, node, "none of these", hint);
                        None
                    }
                }
            }
        }
    };
}

choice! {
    /// What kind of work a service does.
    pub enum ServiceKind {
        /// Answers HTTP requests on `$PORT`.
        Web = "web",
        /// Runs all the time and listens to nothing.
        Worker = "worker",
        /// Starts at set times and ends by itself.
        Cron = "cron",
    }
}

choice! {
    /// What the instances of a service speak with klar.
    pub enum ServiceProtocol {
        /// HTTP/1.1, and WebSockets.
        Http1 = "http/1.1",
        /// HTTP/2 without TLS, from the first byte: what gRPC needs.
        H2c = "h2c",
    }
}

choice! {
    /// What klar does with the Content-Security-Policy header.
    pub enum Csp {
        /// Sends the policy as report-only: browsers report what it would block, and block nothing.
        Report = "report",
        /// Sends the policy: browsers block what it does not allow.
        Enforce = "enforce",
        /// Sends no policy of its own.
        Off = "off",
    }
}

choice! {
    /// What the web application firewall does.
    pub enum Waf {
        /// Stops what looks like an attack, with 403.
        Block = "block",
        /// Says in the access records what it would stop, and stops nothing.
        Detect = "detect",
        /// Nothing.
        Off = "off",
    }
}

choice! {
    /// The rules of the web application firewall.
    pub enum WafRules {
        /// klar's own.
        Core = "core",
        /// The OWASP Core Rule Set.
        Crs = "crs",
    }
}

choice! {
    /// Who is served over plain HTTP.
    pub enum PlainHttp {
        /// Nobody: every request is led to HTTPS.
        Redirect = "redirect",
        /// The proxies in `trusted_proxies`, where TLS ends at them; everybody else is led to HTTPS.
        Trusted = "trusted",
    }
}

choice! {
    /// The header in which trusted proxies say who the visitor is.
    pub enum ForwardedHeader {
        /// `X-Forwarded-For` and `X-Forwarded-Proto`: nginx, HAProxy, Caddy, Traefik, and the balancers of clouds.
        XForwarded = "x-forwarded-for",
        /// `Forwarded` (RFC 7239).
        Forwarded = "forwarded",
    }
}

choice! {
    /// How a service worker of klar's ends.
    pub enum WorkerOff {
        /// It takes itself, and what it kept, out of the browsers that have it.
        Off = "off",
    }
}

/// Whether a static folder has a service worker of klar's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ServiceWorker {
    /// Whether there is one.
    Switch(bool),
    /// There was one.
    Leaving(WorkerOff),
}

impl Value for ServiceWorker {
    const KIND: Kind = Kind::Either(&[Kind::Bool, <WorkerOff as Value>::KIND]);

    fn read(node: &Node, key: &'static Key, cx: &mut Reader<'_>) -> Option<Self> {
        match node.data {
            Data::Bool(switch) => Some(Self::Switch(switch)),
            _ => WorkerOff::read(node, key, cx).map(Self::Leaving),
        }
    }
}

/// What the cache of the edge does on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RouteCache {
    /// Whether it keeps what says that it may be kept.
    Switch(bool),
    /// It does, and gives this lifetime to what states none.
    Lifetime(Period),
}

impl Value for RouteCache {
    const KIND: Kind = Kind::Either(&[Kind::Period, Kind::Bool]);

    fn read(node: &Node, key: &'static Key, cx: &mut Reader<'_>) -> Option<Self> {
        match node.data {
            Data::Bool(switch) => Some(Self::Switch(switch)),
            _ => Period::read(node, key, cx).map(Self::Lifetime),
        }
    }
}

choice! {
    /// Where a check counts in the score.
    pub enum CheckCategory {
        /// Unit, integration and browser tests, load.
        Testing = "testing",
        /// What happens when something goes wrong.
        ErrorHandling = "error-handling",
        /// Metrics, logs, traces, alerts.
        Monitoring = "monitoring",
        /// TLS, attacks, access, secrets.
        Security = "security",
        /// Data that comes back.
        Backup = "backup",
        /// How fast it is, and stays.
        Performance = "performance",
        /// What is written down, and true.
        Documentation = "documentation",
        /// Deploys, instances, cost.
        Scalability = "scalability",
    }
}

choice! {
    /// What a check weighs.
    pub enum CheckPriority {
        /// 3.
        Critical = "critical",
        /// 2.
        High = "high",
        /// 1.
        Medium = "medium",
    }
}

/// What a service is to klar: its kind, with a static folder as a role of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A process that answers requests.
    Web,
    /// A folder that the edge serves.
    Static,
    /// A process that listens to nothing.
    Worker,
    /// A process that starts at set times.
    Cron,
}

impl Role {
    /// In words: "a worker".
    pub fn noun(self) -> &'static str {
        match self {
            Self::Web => "a web service",
            Self::Static => "a static service",
            Self::Worker => "a worker",
            Self::Cron => "a cron service",
        }
    }

    pub(crate) fn of(service: &Table) -> Self {
        match service.get("kind").and_then(Node::text) {
            Some("worker") => Self::Worker,
            Some("cron") => Self::Cron,
            _ if service.get("static").is_some() => Self::Static,
            _ => Self::Web,
        }
    }
}

const NAME_WHAT: &str = "a name: a-z, 0-9 and `-`, a letter first, at most 32 characters";
const NAME_PATTERN: &str = "^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$";

/// What is wrong with a name, and the nearest one that would do.
pub(crate) fn name_complaint(text: &str, error: &NameError) -> (String, Option<String>) {
    let label = match error {
        NameError::Empty => "empty".into(),
        NameError::TooLong(_) => format!("{} characters", text.chars().count()),
        NameError::Charset(_) => text
            .chars()
            .find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-'))
            .map_or("begins or ends with the wrong character".into(), |c| match c {
                'A'..='Z' => "has a capital letter".into(),
                ' ' => "has a space".into(),
                c => format!("has {}", quote(&c.to_string())),
            }),
    };
    let fixed: String =
        text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let fixed: String = fixed.trim_matches(|c: char| c == '-').chars().take(32).collect();
    let fixed = fixed.trim_start_matches(|c: char| !c.is_ascii_lowercase()).trim_end_matches('-');
    let hint = AppName::new(fixed).ok().map(|name| format!("for instance `{name}`"));
    (label, hint)
}

macro_rules! names {
    ($($type:ty),*) => { $(
        impl TextForm for $type {
            const WHAT: &'static str = NAME_WHAT;
            const PATTERN: Option<&'static str> = Some(NAME_PATTERN);

            fn from_text(text: &str) -> Result<Self, Complaint> {
                Self::new(text).map_err(|error| {
                    let (label, hint) = name_complaint(text, &error);
                    Complaint { label, hint, hide: false }
                })
            }
        }
    )* };
}
names!(AppName, ServiceName);

/// Gives a newtype around a `String` its accessors.
macro_rules! text_type {
    ($Type:ident) => {
        impl $Type {
            /// As written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $Type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

/// A host name in lower case: `lisens.example`. Never an address, a port or a wildcard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostName(String);
text_type!(HostName);

impl HostName {
    pub(crate) fn local(name: String) -> Self {
        Self(name)
    }

    /// Whether the name always means this machine (RFC 6761, 6.3), so that no public certificate exists for it.
    pub fn is_local(&self) -> bool {
        self.0 == "localhost" || self.0.ends_with(".localhost")
    }

    /// Whether all the world may know the name, so that a public authority can sign for it: not one of those that are
    /// set aside (RFC 2606, 6761, 6762, 7686, 9476 and the domain `internal` of ICANN), not one of those that home
    /// networks make up, and not a bare word.
    pub fn is_public(&self) -> bool {
        const SET_ASIDE: [&str; 11] = [
            "localhost",
            "local",
            "test",
            "example",
            "invalid",
            "internal",
            "onion",
            "alt",
            "arpa",
            "lan",
            "home",
        ];
        match self.0.rsplit_once('.') {
            Some((_, last)) => !SET_ASIDE.contains(&last),
            None => false,
        }
    }
}

impl TextForm for HostName {
    const WHAT: &'static str = "a host name";
    const PATTERN: Option<&'static str> =
        Some(r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$");

    fn from_text(text: &str) -> Result<Self, Complaint> {
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let bare = bare.split(['/', ':', '?', '#']).next().unwrap_or_default();
        let bare_hint = |complaint: Complaint| match Self::from_text(bare) {
            Ok(host) if bare != text => complaint.hint(format!("write only the name: `\"{host}\"`")),
            _ => complaint,
        };
        if text.contains("://") {
            return Err(bare_hint(Complaint::new("this is a URL")));
        }
        if text.contains('/') {
            return Err(bare_hint(Complaint::new("this has a path")));
        }
        if text.contains(':') {
            return Err(bare_hint(Complaint::new("this has a port")));
        }
        if text.contains('*') {
            return Err(Complaint::new("this has a wildcard")
                .hint("list each name: klar gets a certificate for each; one with a wildcard, which takes changes in DNS, is given with `edge.certificate`"));
        }
        if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(Complaint::new("this is an address")
                .hint("leave `domains` out to reach the app as `localhost`, or get a name that points to the address"));
        }
        if !text.is_ascii() {
            return Err(Complaint::new("has letters beyond a-z")
                .hint("write the name as browsers send it, beginning with `xn--`"));
        }
        let label_ok = |label: &str| {
            let letters = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            letters && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
        };
        if text.len() > 253 || !text.split('.').all(label_ok) {
            return Err(Complaint::new("not a host name"));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// Where certificates come from: `letsencrypt`, `letsencrypt-staging`, the URL of a directory, or `off`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Acme(String);
text_type!(Acme);

impl Acme {
    /// The URL of the directory (RFC 8555, section 7.1.1); `None` when nobody is asked.
    pub fn directory(&self) -> Option<&str> {
        match self.0.as_str() {
            "off" => None,
            "letsencrypt" => Some("https://acme-v02.api.letsencrypt.org/directory"),
            "letsencrypt-staging" => Some("https://acme-staging-v02.api.letsencrypt.org/directory"),
            url => Some(url),
        }
    }

    /// Whether it is one that signs for names that all the world knows, and no others.
    pub fn is_public(&self) -> bool {
        matches!(self.0.as_str(), "letsencrypt" | "letsencrypt-staging")
    }
}

impl TextForm for Acme {
    const WHAT: &'static str = "an authority";
    const PATTERN: Option<&'static str> = Some(r"^(off|letsencrypt|letsencrypt-staging|https://[^\s/]+\S*)$");

    fn from_text(text: &str) -> Result<Self, Complaint> {
        const CHOICE: &str = "write `\"letsencrypt\"`, `\"letsencrypt-staging\"`, `\"off\"` or the `https://` URL of a directory";
        if matches!(text, "off" | "letsencrypt" | "letsencrypt-staging") {
            return Ok(Self(text.into()));
        }
        if text.starts_with("http://") {
            return Err(Complaint::new("is not encrypted").hint("an authority is asked over `https://` only"));
        }
        let rest =
            text.strip_prefix("https://").ok_or_else(|| Complaint::new("no authority").hint(CHOICE))?;
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic()) && text.len() <= 2000;
        if rest.is_empty() || rest.starts_with('/') || !plain || rest.contains('@') {
            return Err(Complaint::new("not the URL of a directory").hint(CHOICE));
        }
        Ok(Self(text.into()))
    }
}

/// An e-mail address: `ops@shop.example`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Email(String);
text_type!(Email);

impl TextForm for Email {
    const WHAT: &'static str = "an e-mail address";
    const PATTERN: Option<&'static str> = Some(r"^[^@\s,?&]+@[^@\s,?&]+$");

    fn from_text(text: &str) -> Result<Self, Complaint> {
        let bare = text.strip_prefix("mailto:").unwrap_or(text);
        let fits = bare.split_once('@').is_some_and(|(who, place)| {
            !who.is_empty()
                && place.contains('.')
                && !place.contains('@')
                && HostName::from_text(place).is_ok()
        });
        // A comma or a question mark would make more of it than one address (RFC 6068).
        let plain = bare.bytes().all(|byte| byte.is_ascii_graphic() && !b",?&<>\"".contains(&byte));
        if !fits || !plain || bare.len() > 254 {
            return Err(Complaint::new("not an e-mail address")
                .hint("one address, for instance `\"ops@shop.example\"`"));
        }
        Ok(Self(bare.into()))
    }
}

impl TextForm for Network {
    const WHAT: &'static str = "an IP address, or a network such as `10.0.0.0/8`";
    const PATTERN: Option<&'static str> = Some(r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$");

    fn from_text(text: &str) -> Result<Self, Complaint> {
        let network: Self = text.parse().map_err(|error: NetworkError| {
            let complaint = Complaint::new(error.to_string());
            match &error {
                NetworkError::Bits { meant } => complaint.hint(format!("did you mean `\"{meant}\"`?")),
                NetworkError::Address
                    if text
                        .contains(|char: char| char.is_ascii_alphabetic() && !char.is_ascii_hexdigit()) =>
                {
                    complaint
                        .hint("write the address and not the name, which others could make lead elsewhere")
                }
                NetworkError::Address | NetworkError::Prefix { .. } => complaint,
            }
        })?;
        if network.is_everybody() {
            let complaint = Complaint::new("this is everybody, so that anybody could say to be anybody");
            return Err(
                complaint.hint("name the networks that the proxies are in, for instance `\"10.0.0.0/8\"`")
            );
        }
        Ok(network)
    }
}

/// A file or folder inside the app's folder: `uploads`, `data/cache`. Never absolute, never with `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RelativePath(String);
text_type!(RelativePath);

impl RelativePath {
    pub(crate) fn known(path: &str) -> Self {
        Self(path.into())
    }

    /// For use with the file system, below the app's folder.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl AsRef<Path> for RelativePath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

impl TextForm for RelativePath {
    const WHAT: &'static str = "a path inside the app's folder";
    const PATTERN: Option<&'static str> = Some(r"^[^/~*?\\][^*?\\]*$");

    fn from_text(text: &str) -> Result<Self, Complaint> {
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if text.starts_with('/') {
            return Err(Complaint::new("starts at the root of the machine").hint(
                "an app may only use folders of its own; write the path without the `/` in front, as seen from `klar.toml`",
            ));
        }
        if text.starts_with('~') {
            return Err(Complaint::new("starts in somebody's home"));
        }
        if parts.contains(&"..") {
            return Err(Complaint::new("leads out of the app's folder")
                .hint("write the path without `..`, as seen from `klar.toml`"));
        }
        if text.contains('\\') {
            return Err(
                Complaint::new("has a backslash").hint(format!("write `{}`", text.replace('\\', "/")))
            );
        }
        if text.contains(['*', '?']) {
            return Err(Complaint::new("has a wildcard")
                .hint("name the folder itself; everything below it is meant too"));
        }
        if parts.is_empty() {
            return Err(Complaint::new("names nothing inside the folder"));
        }
        if text.chars().any(char::is_control) {
            return Err(Complaint::new("has a control character"));
        }
        Ok(Self(parts.join("/")))
    }
}

impl TextForm for PathBuf {
    const WHAT: &'static str = "a path";

    fn from_text(text: &str) -> Result<Self, Complaint> {
        if text.trim().is_empty() || text.contains('\0') {
            return Err(Complaint::new("not a path"));
        }
        Ok(text.into())
    }
}

/// The path of a request: `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UrlPath(String);
text_type!(UrlPath);

/// Any text on one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainText(String);
text_type!(PlainText);

impl TextForm for PlainText {
    const WHAT: &'static str = "text on one line";

    fn from_text(text: &str) -> Result<Self, Complaint> {
        if text.is_empty() || text.len() > 4096 || text.contains(|c: char| c.is_control()) {
            return Err(Complaint::new("must have from 1 to 4096 characters and no line break"));
        }
        Ok(Self(text.into()))
    }
}

/// Which paths an exception of the firewall is for: as a route, [`Pattern`](crate::Pattern), but that rules see paths decoded,
/// with blanks and the letters of any language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WafRoute(String);
text_type!(WafRoute);

impl WafRoute {
    /// Reads it, or says what is wrong with it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        Self::from_text(text).map_err(|complaint| format!("`{text}` {}", complaint.label))
    }
}

impl TextForm for WafRoute {
    const WHAT: &'static str = "a path";

    fn from_text(text: &str) -> Result<Self, Complaint> {
        let is_letter = |one: char| one == ' ' || (!one.is_ascii() && !one.is_control());
        crate::Pattern::new(&text.replace(is_letter, "x")).map_err(|error| Complaint::new(error.label))?;
        Ok(Self(text.into()))
    }
}

/// Where the firewall looks: `NAME` of a parameter, `header:NAME` or `cookie:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WafPlace(String);
text_type!(WafPlace);

impl WafPlace {
    /// Reads it, or says what is wrong with it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        Self::from_text(text).map_err(|complaint| format!("`{text}` {}", complaint.label))
    }
}

impl TextForm for WafPlace {
    const WHAT: &'static str = "the name of a parameter";

    fn from_text(text: &str) -> Result<Self, Complaint> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"'\"`,;|\\/".contains(&byte);
        if text.is_empty() || text.len() > 256 || !text.bytes().all(is_plain) {
            return Err(Complaint::new(
                "must have from 1 to 256 letters without blanks, quotes, `,`, `;`, `|`, `/`",
            ));
        }
        Ok(Self(text.into()))
    }
}

/// A command or an SQL statement: text that may have several lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script(String);
text_type!(Script);

impl TextForm for Script {
    const WHAT: &'static str = "a command or a statement";

    fn from_text(text: &str) -> Result<Self, Complaint> {
        let text = text.trim();
        if text.is_empty() || text.len() > 16384 || text.contains('\0') {
            return Err(Complaint::new("must have from 1 to 16384 characters and no zero byte"));
        }
        Ok(Self(text.into()))
    }
}

/// A day: `2027-06-30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub jiff::civil::Date);

impl TextForm for Day {
    const WHAT: &'static str = "a day as year, month and day";
    const PATTERN: Option<&'static str> = Some("^[0-9]{4}-[0-9]{2}-[0-9]{2}$");

    fn from_text(text: &str) -> Result<Self, Complaint> {
        if text.len() != 10 {
            return Err(Complaint::new("not a day").hint("write it as `\"2027-06-30\"`"));
        }
        text.parse().map(Self).map_err(|_| Complaint::new("no such day").hint("write it as `\"2027-06-30\"`"))
    }
}

/// The name of an HTTP header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderField(String);
text_type!(HeaderField);

impl TextForm for HeaderField {
    const WHAT: &'static str = "the name of a header";
    const PATTERN: Option<&'static str> = Some("^[A-Za-z0-9-]+$");

    fn from_text(text: &str) -> Result<Self, Complaint> {
        let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if good { Ok(Self(text.into())) } else { Err(Complaint::new("may hold letters, digits and `-`")) }
    }
}

impl TextForm for UrlPath {
    const WHAT: &'static str = "a path that starts with `/`";
    const PATTERN: Option<&'static str> = Some(r"^/[!-~]*$");

    fn from_text(text: &str) -> Result<Self, Complaint> {
        if let Some((_, rest)) = text.split_once("://") {
            let path = rest.find('/').map_or("/", |at| &rest[at..]);
            return Err(Complaint::new("this is a URL").hint(format!("write only the path: `\"{path}\"`")));
        }
        if !text.starts_with('/') {
            return Err(Complaint::new("no `/` in front").hint(format!("write `\"/{text}\"`")));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains('#') {
            return Err(Complaint::new("has a character that no request line may have")
                .hint("write spaces and letters beyond a-z percent-encoded, as in `%20`"));
        }
        Ok(Self(text.into()))
    }
}

/// A command line for `/bin/sh`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Command(String);
text_type!(Command);

impl Command {
    /// The text to give to `/bin/sh -c`, so that the shell steps aside for a simple command.
    ///
    /// `node server.js` becomes `exec node server.js`: signals then reach the app itself. What is more than one
    /// command (`cd api && node x`), or begins with a variable (`A=1 node x`, which `exec` does not understand),
    /// or with a word of the shell (`exec`, `if`), stays as it is.
    pub fn for_shell(&self) -> String {
        let text = self.0.trim();
        let first = text.split_whitespace().next().unwrap_or_default();
        const SHELL_WORDS: [&str; 20] = [
            "exec", "cd", "if", "for", "while", "until", "case", "set", "export", ".", "source", "eval",
            "trap", "umask", "ulimit", "unset", "{", "!", "true", ":",
        ];
        let mut quote = None;
        let mut escaped = false;
        let compound = text.chars().any(|c| {
            let bare = quote.is_none() && !escaped;
            escaped = c == '\\' && !escaped && quote != Some('\'');
            match (quote, c) {
                (Some(open), c) if open == c => quote = None,
                (None, '"' | '\'') if bare => quote = Some(c),
                _ => {}
            }
            bare && matches!(c, ';' | '&' | '|' | '\n' | '(' | ')' | '#' | '`')
        });
        if compound || first.contains('=') || SHELL_WORDS.contains(&first) {
            text.into()
        } else {
            format!("exec {text}")
        }
    }
}

impl TextForm for Command {
    const WHAT: &'static str = "a command";

    fn from_text(text: &str) -> Result<Self, Complaint> {
        if text.trim().is_empty() {
            return Err(Complaint::new("empty"));
        }
        if text.contains('\0') {
            return Err(Complaint::new("has a zero byte"));
        }
        Ok(Self(text.trim().into()))
    }
}

/// The value of an HTTP header.
impl TextForm for String {
    const WHAT: &'static str = "text on one line";

    fn from_text(text: &str) -> Result<Self, Complaint> {
        if text.trim().is_empty() {
            return Err(Complaint::new("empty"));
        }
        if text.chars().any(char::is_control) || !text.is_ascii() {
            return Err(Complaint::new("has a line break or a letter that no header may have"));
        }
        Ok(text.trim().into())
    }
}

/// The name of an environment variable: `DATABASE_URL`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VarName(String);
text_type!(VarName);

const VAR_WHAT: &str = "the name of a variable: A-Z, 0-9 and `_`";
const VAR_PATTERN: &str = "^[A-Z_][A-Z0-9_]*$";

impl VarName {
    pub(crate) fn known(name: String) -> Self {
        Self(name)
    }
}

impl TextForm for VarName {
    const WHAT: &'static str = VAR_WHAT;
    const PATTERN: Option<&'static str> = Some(VAR_PATTERN);

    fn from_text(text: &str) -> Result<Self, Complaint> {
        if secret::is_variable(text) {
            return Ok(Self(text.into()));
        }
        let complaint = Complaint::new("not a name for a variable");
        Err(match upper_case(text) {
            Some(upper) => complaint.hint(format!("write {}", quote(&upper))),
            None => complaint,
        })
    }
}

fn upper_case(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase().replace(['-', '.', ' '], "_");
    secret::is_variable(&upper).then_some(upper)
}

/// When a cron service runs: five fields (minute, hour, day, month, weekday) or a nickname such as `@daily`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schedule(String);
text_type!(Schedule);

impl TextForm for Schedule {
    const WHAT: &'static str =
        "five fields (minute, hour, day, month, weekday) or a nickname such as `@daily`";
    const PATTERN: Option<&'static str> = Some(r"^(@[a-z]+|\S+(\s+\S+){4})$");

    fn from_text(text: &str) -> Result<Self, Complaint> {
        const NICKNAMES: [&str; 6] = ["@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@annually"];
        let text = text.trim();
        if text.starts_with('@') {
            if NICKNAMES.contains(&text) {
                return Ok(Self(text.into()));
            }
            let hint = match suggest::nearest(text, NICKNAMES) {
                Some(meant) => format!("did you mean `\"{meant}\"`?"),
                None => format!("the nicknames are {}", NICKNAMES.join(", ")),
            };
            return Err(Complaint::new("no such nickname").hint(hint));
        }
        let fields = text.split_whitespace().count();
        let hint = "for instance `\"*/15 * * * *\"` (every quarter of an hour) or `\"30 3 * * *\"` (at half past three in the night)";
        if fields != 5 {
            let label = if fields == 1 { "one field".into() } else { format!("{fields} fields") };
            return Err(Complaint::new(label).hint(hint));
        }
        if text.len() > 256 {
            return Err(Complaint::new("longer than 256 characters").hint(hint));
        }
        let parser = croner::parser::CronParser::builder()
            .seconds(croner::parser::Seconds::Disallowed)
            .year(croner::parser::Year::Disallowed)
            .build();
        match parser.parse(text) {
            Ok(_) => Ok(Self(text.split_whitespace().collect::<Vec<_>>().join(" "))),
            Err(_) => Err(Complaint::new(wrong_field(text)).hint(hint)),
        }
    }
}

/// Where backups are kept once more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offsite(String);
text_type!(Offsite);

impl TextForm for Offsite {
    const WHAT: &'static str = "a folder (`/mnt/nas/klar`), a folder of another machine (`sftp://USER@HOST/FOLDER`) or a bucket \
         (`s3://BUCKET/FOLDER`, `s3:https://HOST/BUCKET/FOLDER`)";
    const PATTERN: Option<&'static str> =
        Some("^(/.*|s3://.+|s3:https?://.+/.+|sftp://[^@/]+@[^@/]+/.+|sftp:[^@/]+@[^@/]+:/.+)$");

    fn from_text(text: &str) -> Result<Self, Complaint> {
        text.parse::<klar_base::place::Place>().map(|_| Self(text.into())).map_err(|error| {
            Complaint::new(error.to_string()).hint(
                "for instance `\"/mnt/nas/klar\"`, `\"sftp://klar@nas.example.net/srv/klar\"` or \
                     `\"s3://shop-backups?region=eu-north-1\"`",
            )
        })
    }
}

/// What becomes of a column in a copy that people may look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ColumnRule(String);
text_type!(ColumnRule);

impl TextForm for ColumnRule {
    const WHAT: &'static str = "a column and what becomes of it, such as `users.email email`";
    const PATTERN: Option<&'static str> = Some("^[^ ]+ +[a-z]+$");

    fn from_text(text: &str) -> Result<Self, Complaint> {
        text.parse::<klar_base::anonymise::Rule>().map(|_| Self(text.into())).map_err(|error| {
            Complaint::new(error.to_string())
                .hint("for instance `\"users.email email\"`, `\"users.* keep\"`, `\"sessions.* empty\"`")
        })
    }
}

/// A time of the day: `02:00`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Clock(String);
text_type!(Clock);

impl Clock {
    /// Hours and minutes.
    pub fn parts(&self) -> (u8, u8) {
        let part = |text: &str| text.parse().unwrap_or_default();
        self.0.split_once(':').map_or((0, 0), |(hours, minutes)| (part(hours), part(minutes)))
    }
}

impl TextForm for Clock {
    const WHAT: &'static str = "a time of the day: hours and minutes, such as `02:00`";
    const PATTERN: Option<&'static str> = Some("^([01][0-9]|2[0-3]):[0-5][0-9]$");

    fn from_text(text: &str) -> Result<Self, Complaint> {
        let digits = |part: &str, below: u8| {
            let is_it = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            is_it && part.parse::<u8>().is_ok_and(|number| number < below)
        };
        match text.split_once(':').is_some_and(|(hours, minutes)| digits(hours, 24) && digits(minutes, 60)) {
            true => Ok(Self(text.into())),
            false => {
                Err(Complaint::new("not a time of the day").hint("for instance `\"02:00\"` or `\"23:30\"`"))
            }
        }
    }
}

/// Which of five cron fields is wrong, found by trying each alone.
fn wrong_field(text: &str) -> String {
    const FIELDS: [(&str, &str); 5] = [
        ("minute", "0-59"),
        ("hour", "0-23"),
        ("day of the month", "1-31"),
        ("month", "1-12 or JAN-DEC"),
        ("weekday", "0-7 or SUN-SAT"),
    ];
    for (at, field) in text.split_whitespace().enumerate().take(5) {
        let mut alone = ["*"; 5];
        alone[at] = field;
        if croner::parser::CronParser::new().parse(&alone.join(" ")).is_err() {
            let (name, range) = FIELDS[at];
            return format!("{} is no {name} ({range})", quote(field));
        }
    }
    "not a schedule".into()
}

impl TextForm for SecretRef {
    const WHAT: &'static str = "a reference to a secret: `env:NAME`, `file:PATH` or `secret:NAME`";
    const PATTERN: Option<&'static str> = Some("^(env:[A-Z_][A-Z0-9_]*|file:.+|secret:[A-Za-z0-9_./-]+)$");

    fn from_text(text: &str) -> Result<Self, Complaint> {
        text.parse().map_err(|error: secret::SecretRefError| {
            let hint = match error.nearest_scheme() {
                Some(meant) => format!("did you mean `{meant}:`?"),
                None => {
                    let ways = SCHEMES.map(|(scheme, meaning)| format!("`{scheme}:` {meaning}"));
                    format!("what klar reads secrets from: {}", ways.join(", "))
                }
            };
            let label = match &error {
                secret::SecretRefError::NoScheme => {
                    "this may be the secret itself, so it is not shown".into()
                }
                error => error.to_string(),
            };
            Complaint { label, hint: Some(hint), hide: true }
        })
    }
}

/// Where a store is: klar runs it, or it runs elsewhere at an address that is kept as a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// klar installs, runs, backs up and restores it.
    Managed,
    /// It runs elsewhere; its address is a secret.
    Url(SecretRef),
}

impl TextForm for Place {
    const WHAT: &'static str =
        "`\"managed\"`, or a reference to its address: `env:NAME`, `file:PATH` or `secret:NAME`";
    const PATTERN: Option<&'static str> =
        Some("^(managed|env:[A-Z_][A-Z0-9_]*|file:.+|secret:[A-Za-z0-9_./-]+)$");

    fn from_text(text: &str) -> Result<Self, Complaint> {
        match text {
            "managed" => Ok(Self::Managed),
            _ if suggest::nearest(text, ["managed"]).is_some() => {
                Err(Complaint::new("not a place").hint("did you mean `\"managed\"`?"))
            }
            _ => SecretRef::from_text(text).map(Self::Url),
        }
    }
}

/// A number of processor cores, in thousandths: `0.5` is 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cores {
    /// Thousandths of a core.
    pub millis: u32,
}

impl Value for Cores {
    const KIND: Kind = Kind::Number;

    fn read(node: &Node, key: &'static Key, cx: &mut Reader<'_>) -> Option<Self> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a number of cores is small; large ones are refused below"
        )]
        let cores = match node.data {
            Data::Integer(number) => number as f64,
            Data::Float(number) => number,
            _ => {
                cx.wrong_type(key, node);
                return None;
            }
        };
        let cores = within(cores, |text| text.parse().ok(), node, key, cx)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the bounds of the key")]
        let millis = (cores * 1000.0).round() as u32;
        Some(Self { millis })
    }
}

impl Value for Instances {
    const KIND: Kind = Kind::Either(&[Kind::Integer, Kind::Table(InstanceRange::SECTION)]);

    fn read(node: &Node, key: &'static Key, cx: &mut Reader<'_>) -> Option<Self> {
        match &node.data {
            Data::Integer(_) => {
                let number = u32::read(node, key, cx)?;
                Some(Self { min: number, max: number })
            }
            Data::Table(table) => {
                let range = cx.within(key.name, |cx| InstanceRange::read(table, cx))?;
                if range.min > range.max {
                    let path = quote(&cx.path_of(key.name));
                    let span =
                        |name: &str| table.get(name).map_or(node.span.clone(), |node| node.span.clone());
                    cx.fault(
                        Fault::new(format!("{path} has a `min` above its `max`"))
                            .at(span("min"), "at least this many")
                            .and(span("max"), "at most this many")
                            .hint(format!(
                                "swap them: `instances = {{ min = {}, max = {} }}`",
                                range.max, range.min
                            )),
                    );
                    return None;
                }
                Some(Self { min: range.min, max: range.max })
            }
            _ => {
                cx.wrong_type(key, node);
                None
            }
        }
    }
}

/// The value of a variable that klar hands to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvValue {
    /// A setting, shown wherever settings are shown.
    Plain(String),
    /// A secret, read when the app is deployed.
    Secret(SecretRef),
}

impl Value for BTreeMap<VarName, EnvValue> {
    const KIND: Kind = Kind::Map {
        names: "names of variables (A-Z, 0-9 and `_`)",
        pattern: VAR_PATTERN,
        values: &Kind::Either(&[
            Kind::Text {
                what: "text, or a reference to a secret (`env:NAME`, `file:PATH`, `secret:NAME`)",
                pattern: None,
            },
            Kind::Table(PlainValue::SECTION),
        ]),
    };

    fn read(node: &Node, key: &'static Key, cx: &mut Reader<'_>) -> Option<Self> {
        let Some(table) = node.table() else {
            cx.wrong_type(key, node);
            return None;
        };
        let entries: Vec<Option<(VarName, EnvValue)>> = cx.within(key.name, |cx| {
            table
                .entries
                .iter()
                .map(|entry| {
                    let name = read_var_name(&entry.key, entry.key_span.clone(), cx);
                    let value = read_env_value(&entry.key, &entry.node, cx);
                    Some((name?, value?))
                })
                .collect()
        });
        entries.into_iter().collect()
    }
}

fn read_var_name(name: &str, span: std::ops::Range<usize>, cx: &mut Reader<'_>) -> Option<VarName> {
    let reason = match name {
        "PORT" => {
            "klar chooses the port and sets `PORT` itself; an app that insists on a port says so with `port = 3000`"
        }
        _ if secret::is_variable(name) => return Some(VarName(name.into())),
        _ => "",
    };
    let fault = if reason.is_empty() {
        let hint = upper_case(name)
            .map_or("for instance `LOG_LEVEL`".into(), |upper| format!("write {}", quote(&upper)));
        Fault::new(format!("{} must be {VAR_WHAT}", quote(&cx.path_of(name))))
            .at(span, "not such a name")
            .hint(hint)
    } else {
        Fault::new(format!("{} cannot be set", quote(&cx.path_of(name)))).at(span, "set by klar").hint(reason)
    };
    cx.fault(fault);
    None
}

crate::table::section! {
    /// A value that is taken as it stands, although it looks like a reference or is named like a secret.
    pub(crate) struct PlainValue in "services.*.env.*", "a plain value";

    /// The text. Shown wherever settings are shown.
    plain as "plain": AnyText = required("the value itself") {
        example: r#"DATABASE_URL = { plain = "file:./dev.db" }"#,
    };
}

/// Text of any form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct AnyText(String);

impl TextForm for AnyText {
    const WHAT: &'static str = "text";

    fn from_text(text: &str) -> Result<Self, Complaint> {
        if text.contains('\0') { Err(Complaint::new("has a zero byte")) } else { Ok(Self(text.into())) }
    }
}

fn read_env_value(name: &str, node: &Node, cx: &mut Reader<'_>) -> Option<EnvValue> {
    let path = quote(&cx.path_of(name));
    let text = match &node.data {
        Data::Text(text) => text,
        Data::Table(table) => {
            let plain = cx.within(name, |cx| PlainValue::read(table, cx))?.plain.0;
            // The name may mislead, but a password in a URL and a private key are what they are.
            if matches!(secret::looks_secret("", &plain), Some(credential) if credential != Credential::Name)
            {
                cx.hide(node);
                cx.fault(literal_secret(&path, name, node, &plain, Credential::Url));
                return None;
            }
            return Some(EnvValue::Plain(plain));
        }
        Data::Integer(_) | Data::Float(_) | Data::Bool(_) => {
            let hint = format!("variables are text, so put it in quotes: `{name} = \"{}\"`", node.to_toml());
            let label = format!("this is {}", node.data.noun());
            cx.fault(Fault::new(format!("{path} must be text")).at(node.span.clone(), label).hint(hint));
            return None;
        }
        _ => {
            let label = format!("this is {}", node.data.noun());
            cx.fault(Fault::new(format!("{path} must be text")).at(node.span.clone(), label));
            return None;
        }
    };
    if text.contains('\0') {
        cx.fault(Fault::new(format!("{path} must be text")).at(node.span.clone(), "has a zero byte"));
        return None;
    }
    let scheme = text.split(':').next().unwrap_or_default();
    let is_reference = text.contains(':') && SCHEMES.iter().any(|(known, _)| *known == scheme);
    if is_reference {
        let address = text.split('?').next().unwrap_or_default();
        if [".db", ".sqlite", ".sqlite3", ".db3"].iter().any(|end| address.ends_with(end)) {
            let fault = Fault::new(format!("{path} would hand over the content of a database file"))
                .at(node.span.clone(), "`file:` reads a secret from a file")
                .hint(format!(
                    "to pass the address of a SQLite database on, write `{name} = {{ plain = {} }}`",
                    crate::suggest::shown_toml(&node.to_toml())
                ));
            cx.fault(fault);
            return None;
        }
        return match text.parse::<SecretRef>() {
            Ok(reference) => Some(EnvValue::Secret(reference)),
            Err(error) => {
                cx.hide(node);
                let fault = Fault::new(format!("{path} is not a usable reference to a secret"));
                cx.fault(
                    fault
                        .at(node.span.clone(), error.to_string())
                        .hint("or, if this is no secret: `{ plain = \"...\" }`"),
                );
                None
            }
        };
    }
    const MISWRITTEN: [(&str, &str); 6] = [
        ("secrets", "secret"),
        ("vault", "secret"),
        ("environment", "env"),
        ("envs", "env"),
        ("files", "file"),
        ("path", "file"),
    ];
    if let Some((_, meant)) = MISWRITTEN.iter().find(|(wrong, _)| text.contains(':') && *wrong == scheme) {
        cx.hide(node);
        let fault = Fault::new(format!("{path} is not a usable reference to a secret"));
        let label = format!("`{scheme}:` is not a place klar reads secrets from");
        cx.fault(fault.at(node.span.clone(), label).hint(format!("did you mean `{meant}:`?")));
        return None;
    }
    if let Some(credential) = secret::looks_secret(name, text) {
        cx.hide(node);
        cx.fault(literal_secret(&path, name, node, text, credential));
        return None;
    }
    Some(EnvValue::Plain(text.clone()))
}

/// What to say about a secret in the file. `text` decides the advice and is not shown.
fn literal_secret(path: &str, name: &str, node: &Node, text: &str, credential: Credential) -> Fault {
    let what = match credential {
        Credential::Name => "the name says that this is a secret",
        Credential::Url => "this holds a password",
        Credential::Key => "this is a private key",
    };
    let lower = name.to_ascii_lowercase().replace('_', "-");
    let ways = [
        (format!("env:{name}"), "a variable of the shell that deploys".to_owned()),
        (format!("file:/run/secrets/{lower}"), "the content of a file".to_owned()),
    ];
    let width = ways.iter().map(|(way, _)| way.len()).max().unwrap_or(0) + 2;
    let mut hint = "write where it is kept, and replace it, since it has been in a file:".to_owned();
    for (way, meaning) in ways {
        hint.push_str(&format!("\n  {name} = {:width$}  # {meaning}", format!("\"{way}\"")));
    }
    if text.starts_with("postgres") || text.starts_with("redis") {
        hint.push_str("\nfor a database, `[data.db]` with `postgres = \"managed\"` or `url = \"env:DATABASE_URL\"` does it all");
    } else if credential == Credential::Name {
        hint.push_str("\nif it is no secret at all, write `{ plain = \"...\" }`");
    }
    Fault::new(format!("{path} holds a secret itself")).at(node.span.clone(), what).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_commands_replace_the_shell() {
        for (command, expected) in [
            ("node server.js", "exec node server.js"),
            ("gunicorn 'a;b' --bind 127.0.0.1:$PORT", "exec gunicorn 'a;b' --bind 127.0.0.1:$PORT"),
            ("node \"a && b\" c", "exec node \"a && b\" c"),
            ("cd api && node x", "cd api && node x"),
            ("cd api", "cd api"),
            ("NODE_ENV=production node x", "NODE_ENV=production node x"),
            ("exec node x", "exec node x"),
            ("a | b", "a | b"),
        ] {
            assert_eq!(Command(command.into()).for_shell(), expected);
        }
    }

    #[test]
    fn names_that_a_public_authority_can_sign_for() {
        for (name, public) in [
            ("shop.com", true),
            ("www.shop.co.uk", true),
            ("localhost.com", true),
            ("localhost", false),
            ("shop.localhost", false),
            ("shop", false),
            ("printer.local", false),
            ("shop.test", false),
            ("shop.example", false),
            ("shop.invalid", false),
            ("db.internal", false),
            ("x.onion", false),
        ] {
            assert_eq!(HostName::from_text(name).unwrap().is_public(), public, "{name}");
        }
    }

    #[test]
    fn authorities_and_addresses() {
        for (text, directory) in [
            ("off", Some(None)),
            ("letsencrypt", Some(Some("https://acme-v02.api.letsencrypt.org/directory"))),
            ("https://ca.shop.example:8443/dir", Some(Some("https://ca.shop.example:8443/dir"))),
            ("http://ca.shop.example/dir", None),
            ("https://", None),
            ("https:///dir", None),
            ("https://a b/dir", None),
            ("https://me:secret@ca.shop.example/dir", None),
            ("zerossl", None),
            ("", None),
        ] {
            let read = Acme::from_text(text);
            assert_eq!(read.as_ref().ok().map(Acme::directory), directory, "{text}");
        }
        for (text, fits) in [
            ("ops@shop.example", true),
            ("mailto:ops@shop.example", true),
            ("ops@shop", false),
            ("ops", false),
            ("@shop.example", false),
            ("a@b@shop.example", false),
            ("a@shop.example,b@shop.example", false),
            ("a@shop.example?cc=b", false),
            ("a b@shop.example", false),
        ] {
            assert_eq!(Email::from_text(text).is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn networks_that_may_be_trusted() {
        for (text, read) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("203.0.113.7", Some("203.0.113.7")),
            ("2001:db8::/32", Some("2001:db8::/32")),
            ("10.0.0.1/8", None),
            ("0.0.0.0/0", None),
            ("::/0", None),
            ("proxy.example", None),
            ("10.0.0.0/", None),
            ("", None),
        ] {
            let network = Network::from_text(text).ok().map(|network| network.to_string());
            assert_eq!(network.as_deref(), read, "{text}");
        }
    }

    #[test]
    fn host_names() {
        for (text, ok) in [
            ("lisens.example", true),
            ("Lisens.Example", true),
            ("localhost", true),
            ("a..b", false),
            ("-a.b", false),
            ("https://a.b", false),
            ("a.b:80", false),
            ("*.a.b", false),
            ("10.0.0.1", false),
            ("blåbær.no", false),
            ("", false),
        ] {
            assert_eq!(HostName::from_text(text).is_ok(), ok, "{text}");
        }
    }

    #[test]
    fn relative_paths() {
        for (text, expected) in [
            ("uploads", Some("uploads")),
            ("./data//cache/", Some("data/cache")),
            ("a..b", Some("a..b")),
            ("../x", None),
            ("a/../../x", None),
            ("/x", None),
            ("", None),
            (".", None),
            ("*.log", None),
        ] {
            assert_eq!(
                RelativePath::from_text(text).ok().as_ref().map(RelativePath::as_str),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn schedules() {
        for (text, ok) in [
            ("*/15 * * * *", true),
            ("30 3 * * MON", true),
            ("@daily", true),
            ("@dayly", false),
            ("* * * *", false),
            ("* * * * * *", false),
            ("61 * * * *", false),
            ("* * * * MOO", false),
        ] {
            assert_eq!(Schedule::from_text(text).is_ok(), ok, "{text}");
        }
        assert_eq!(wrong_field("0 25 * * *"), "`25` is no hour (0-23)");
    }
}
