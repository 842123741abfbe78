//! What the runtime asks of `klar.toml`, in the runtime's own words.

use klar_base::upstreams::{self, AppProtocol, CspMode};
use klar_base::{ByteSize, ServiceName};
use klar_config::{
    Config, Csp, Edge, Engine, ForwardedHeader, Place, PlainHttp, Role, Service, ServiceProtocol,
};

use crate::limits::Limits;
use crate::store;

/// Questions about a service.
pub trait ServiceSettings {
    /// It answers requests.
    fn is_web(&self) -> bool;
    /// It starts at set times.
    fn is_cron(&self) -> bool;
    /// One word for its kind.
    fn kind_name(&self) -> &'static str;
    /// The command for `/bin/sh`, when it has one.
    fn command(&self) -> Option<Vec<String>>;
    /// What an instance may use.
    fn limits(&self) -> Limits;
}

impl ServiceSettings for Service {
    fn is_web(&self) -> bool {
        self.role() == Role::Web
    }

    fn is_cron(&self) -> bool {
        self.role() == Role::Cron
    }

    fn kind_name(&self) -> &'static str {
        match self.role() {
            Role::Web => "web",
            Role::Static => "static",
            Role::Worker => "worker",
            Role::Cron => "cron",
        }
    }

    fn command(&self) -> Option<Vec<String>> {
        self.run.as_ref().map(|run| shell(&run.for_shell()))
    }

    fn limits(&self) -> Limits {
        Limits {
            memory: self.memory.or_else(half_of_the_machine),
            cpu: self.cpu.map(|cores| f64::from(cores.millis) / 1000.0),
            pids: Some(self.pids),
        }
    }
}

/// What an instance may use that has no limit of its own: one that leaks must not take its neighbours with it.
pub(crate) fn half_of_the_machine() -> Option<ByteSize> {
    nix::sys::sysinfo::sysinfo().ok().map(|machine| ByteSize(machine.ram_total() / 2))
}

/// A command line for `/bin/sh`.
pub fn shell(text: &str) -> Vec<String> {
    vec!["/bin/sh".into(), "-c".into(), text.into()]
}

/// The stores that klar runs itself.
pub fn managed_stores(config: &Config) -> Vec<(ServiceName, store::Engine)> {
    let managed = config.data.iter().filter(|(_, data)| matches!(data.place, Place::Managed));
    managed
        .map(|(name, data)| {
            let engine = match data.engine {
                Engine::Postgres => store::Engine::Postgres,
                Engine::Redis => store::Engine::Redis,
            };
            (name.clone(), engine)
        })
        .collect()
}

/// What instances speak, as the edge calls it.
pub fn app_protocol(protocol: ServiceProtocol) -> AppProtocol {
    match protocol {
        ServiceProtocol::Http1 => AppProtocol::Http1,
        ServiceProtocol::H2c => AppProtocol::H2c,
    }
}

/// What stands in front of an app, for the edge.
pub fn front(edge: &Edge) -> upstreams::Front {
    upstreams::Front {
        proxies: edge.trusted_proxies.clone(),
        header: match edge.forwarded_header {
            ForwardedHeader::XForwarded => upstreams::ForwardedHeader::XForwarded,
            ForwardedHeader::Forwarded => upstreams::ForwardedHeader::Forwarded,
        },
        plain: edge.plain_http == PlainHttp::Trusted,
    }
}

/// How the edge sends the content security policy.
pub fn csp_mode(csp: Csp) -> CspMode {
    match csp {
        Csp::Report => CspMode::Report,
        Csp::Enforce => CspMode::Enforce,
        Csp::Off => CspMode::Off,
    }
}
