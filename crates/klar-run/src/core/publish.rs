//! What the edge is told: one whole configuration after each change that concerns it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use klar_base::images::ImageRules;
use klar_base::look::{Counts, Explained, Question, Told, Wanted};
use klar_base::replay::Replay;
use klar_base::upstreams::{
    self, CacheRules, EdgeConfig, Limits, ProxyProtocol, Purge, Route, Site, Target, Upstream, Upstreams,
};
use klar_base::{AppKey, Network, ServiceName};
use klar_config::{Edge, RouteCache};

use super::instance::{self};
use super::{App, Core};
use crate::control::{ReplayRequest, ReplayedRequest};
use crate::release::Release;
use crate::report::{Failure, InstanceState};
use crate::settings::{self, ServiceSettings};
use crate::stopped;

/// The policy where `klar.toml` gives none: everything from the app itself.
const CSP: &str = "default-src 'self'";

/// Everything of a configuration but its number, to tell whether it has changed.
pub(super) type Published = String;

impl Core {
    /// Starts the edge when there is something to serve and none runs, and keeps it listening.
    pub(super) fn keep_edge(self: &Rc<Self>) {
        let addresses = self.wanted_addresses();
        let mut edge = self.edge.borrow_mut();
        if self.finishing.get() {
            return;
        }
        if addresses.is_empty() {
            edge.forget_listeners();
            return;
        }
        if edge.is_connected() {
            edge.keep_listening(&addresses, &self.datagram_addresses());
            return;
        }
        // One that is about to take over takes over from nobody, too.
        if self.replacing.get() || !edge.may_start() {
            return;
        }
        // One that lost its core is still there after this core was started anew.
        let result = match edge.adopt() {
            Ok(true) => Ok(()),
            _ => edge.start(),
        };
        match result {
            Ok(()) => edge.keep_listening(&addresses, &self.datagram_addresses()),
            Err(error) => eprintln!("klar core: the edge could not be started: {error}"),
        }
        edge.forget_published();
    }

    /// Whether there is anything to serve.
    pub(super) fn needs_edge(&self) -> bool {
        !self.wanted_addresses().is_empty()
    }

    /// Where the apps that are up want to be reached.
    fn wanted_addresses(&self) -> Vec<(SocketAddr, bool)> {
        self.of_wanted(|key, release| self.addresses(key, release))
    }

    /// Where they want to be reached over HTTP/3: as over TLS.
    fn datagram_addresses(&self) -> Vec<SocketAddr> {
        self.of_wanted(|key, release| {
            let mut addresses = self.addresses(key, release);
            addresses.retain(|(_, tls)| *tls && self.serves_http3(&release.config.edge));
            addresses.into_iter().map(|(address, _)| address).collect()
        })
    }

    /// What stands in front of an app and speaks the PROXY protocol does so in TCP.
    fn serves_http3(&self, edge: &Edge) -> bool {
        edge.http3 && (!edge.proxy_protocol || self.ports.is_some())
    }

    fn of_wanted<T>(&self, look: impl Fn(&AppKey, &Release) -> Vec<T>) -> Vec<T> {
        let host = self.host.borrow();
        let apps = self.apps.borrow();
        let wanted = host.apps.iter().filter(|(_, app)| app.wanted);
        let releases = wanted.filter_map(|(key, app)| {
            let release = apps.get(key)?.releases.get(app.current.as_ref()?)?;
            Some((key, release))
        });
        releases.flat_map(|(key, release)| look(key, release)).collect()
    }

    /// Tells the edge what to serve, when that has changed.
    pub(super) fn publish(&self) {
        if self.edge.borrow().is_alone() {
            return;
        }
        let (mut config, folders) = match self.edge_config() {
            Ok(made) => made,
            Err(error) => {
                eprintln!("klar core: the edge keeps its old settings: {error}");
                return;
            }
        };
        let Ok(published) = serde_json::to_string(&config) else { return };
        let mut edge = self.edge.borrow_mut();
        if edge.is_published(&published) {
            return;
        }
        self.generation.set(self.generation.get() + 1);
        config.generation = self.generation.get();
        match edge.publish(config, &folders) {
            Ok(()) => edge.note_published(published),
            Err(error) => eprintln!("klar core: the edge could not be told: {error}"),
        }
    }

    /// Publishes, and waits until every worker of the edge has it.
    pub(super) async fn publish_and_wait(&self) -> Result<(), Failure> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let outcome = self.wait_for(PATIENCE, |core| {
            // An edge that was just started, or came back, is told by this.
            core.publish();
            let generation = core.generation.get();
            let edge = core.edge_now();
            match &edge.rejected {
                Some((refused, reason)) if *refused >= generation => Some(Err(reason.clone())),
                _ => (edge.pid.is_some() && edge.applied >= generation).then_some(Ok(())),
            }
        });
        match outcome.await {
            Some(Ok(())) => Ok(()),
            Some(Err(reason)) => Err(Failure::new(format!("the edge refused its settings: {reason}"))),
            None => Err(Failure::new(
                "the edge did not start, or did not take its new settings, within 10 s",
            )
            .hint("look at what it says in `logs/klar.log` of the state folder (`klar doctor` names it)")),
        }
    }

    /// Has the edge forget answers of an app, and says how many it had.
    pub(super) async fn purge_now(&self, key: AppKey, what: Purge) -> Result<u64, Failure> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let number = self.purges.get() + 1;
        self.purges.set(number);
        let sent = self.edge.borrow().purge(number, key, what);
        sent.map_err(|error| {
            Failure::new(format!("the edge could not be told to forget: {error}"))
                .hint("one that starts anew has an empty cache; `klar` says whether it runs")
        })?;
        let done = self.wait_for(PATIENCE, |core| core.edge_now().purged.get(&number).copied()).await;
        done.ok_or_else(|| {
            Failure::new("the edge did not say within 10 s that it has forgotten")
                .hint("look at what it says in `logs/klar.log` of the state folder (`klar doctor` names it)")
        })
    }

    /// Asks the edge something.
    pub(super) async fn ask_edge(&self, question: Question, files: &[OwnedFd]) -> Result<Told, Failure> {
        // A rule set is compiled for it, and many requests are judged.
        let is_long = matches!(question, Question::Replay(_) | Question::Try(_));
        let patience = Duration::from_secs(if is_long { 60 } else { 5 });
        let asked = self.edge.borrow_mut().ask(question, files);
        let answer = asked.map_err(|error| {
            let gone = error.kind() == std::io::ErrorKind::NotConnected;
            let what =
                if gone { "no edge runs".into() } else { format!("the edge cannot be asked: {error}") };
            Failure::new(what).hint(if gone {
                "it runs while an app does: `klar up` puts one in place"
            } else {
                "ask again; where its klar is older, `klar down --all` and `klar up` start the edge anew"
            })
        })?;
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(told)) => Ok(told),
            Ok(Err(_)) => {
                Err(Failure::new("the edge ended while it was asked")
                    .hint("ask again: another one is started"))
            }
            Err(_) => Err(Failure::new(format!("the edge did not answer within {} s", patience.as_secs()))
                .hint(
                    "look at what it says in `logs/klar.log` of the state folder (`klar doctor` names it)",
                )),
        }
    }

    /// What the edge would do with a request.
    pub(super) async fn explain_now(&self, wanted: Wanted) -> Result<Explained, Failure> {
        match self.ask_edge(Question::Request(wanted), &[]).await? {
            Told::Explained(explained) => Ok(*explained),
            _ => Err(Failure::new("the edge answered something else")),
        }
    }

    /// The counters of the edge.
    pub(super) async fn counts_now(&self) -> Result<Counts, Failure> {
        match self.ask_edge(Question::Counts, &[]).await? {
            Told::Counts(counts) => Ok(*counts),
            _ => Err(Failure::new("the edge answered something else")),
        }
    }

    /// What the firewall says of a request that it stopped.
    pub(super) async fn replay_now(
        &self,
        app: AppKey,
        wanted: ReplayRequest,
    ) -> Result<ReplayedRequest, Failure> {
        let own = crate::waf::trial(&wanted.exceptions).map_err(Failure::new)?;
        let kept = stopped::read(&self.layout, &app, &wanted.request_id);
        let kept = kept.map_err(|error| Failure::new(error.to_string()))?.ok_or_else(|| {
            Failure::new(format!("request {} was not kept", wanted.request_id)).hint(
                "kept are the newest 500 that were stopped or would have been, and of a flood 20 each second",
            )
        })?;
        let parameters = wanted.exceptions.into_iter().filter_map(|exception| exception.parameter).collect();
        let question = Replay { app, sent: kept.sent.clone(), own, parameters };
        match self.ask_edge(Question::Replay(Box::new(question)), &[]).await? {
            Told::Replayed { said: Ok(replayed) } => {
                Ok(ReplayedRequest { sent: kept.sent, replayed: *replayed })
            }
            Told::Replayed { said: Err(why) } => {
                Err(Failure::new(format!("it cannot be judged again: {why}")))
            }
            _ => Err(Failure::new("the edge answered something else")),
        }
    }

    fn edge_config(&self) -> std::io::Result<(EdgeConfig, Vec<OwnedFd>)> {
        self.sync_names();
        let mut folders = Vec::new();
        let mut sites = Vec::new();
        let mut certificates = Vec::new();
        let mut connections_max = 0;
        let mut cache_bytes = 0;
        let mut cache_disk_bytes = 0;
        let mut https_port = 443;
        let mut behind: BTreeMap<u16, BTreeSet<Network>> = BTreeMap::new();
        let host = self.host.borrow();
        let apps = self.apps.borrow();
        for (key, remembered) in host.apps.iter().filter(|(_, app)| app.wanted) {
            let Some(app) = apps.get(key) else { continue };
            let Some(release) = remembered.current.as_ref().and_then(|id| app.releases.get(id)) else {
                continue;
            };
            let settings = &release.config.edge;
            let (https, http) = self.edge_ports(settings);
            https_port = https;
            // What stands in front of an app does not stand in front of its copies.
            if settings.proxy_protocol && self.ports.is_none() {
                for port in [https, http] {
                    behind.entry(port).or_default().extend(&settings.trusted_proxies);
                }
            }
            connections_max = connections_max.max(settings.connections);
            cache_bytes = cache_bytes.max(settings.cache_memory.0);
            cache_disk_bytes = cache_disk_bytes.max(settings.cache_disk.0);
            let hosts = self.hosts(key, release);
            certificates.extend(self.certificates_of(key, release, &hosts)?);
            sites.push(self.site(key, app, release, hosts, &mut folders)?);
        }
        let config = EdgeConfig {
            generation: 0,
            https_port,
            certificates,
            sites,
            challenges: self.certificates.challenges(),
            connections_max,
            cache_bytes,
            proxy_protocol: behind
                .into_iter()
                .map(|(port, proxies)| ProxyProtocol { port, proxies: proxies.into_iter().collect() })
                .collect(),
            cache_disk_bytes,
            check_key: Some(self.check_key.clone()),
        };
        Ok((config, folders))
    }

    /// The host names of an app, its own first: without those that lead to another app. Without `domains` each app
    /// would be `localhost`, and one of them is.
    pub(super) fn hosts(&self, key: &AppKey, release: &Release) -> Vec<String> {
        let names = |release: &Release| -> Vec<String> {
            release.config.app.domains.iter().map(ToString::to_string).collect()
        };
        let host = self.host.borrow();
        let apps = self.apps.borrow();
        let before = host.apps.iter().filter(|(other, app)| app.wanted && *other < key);
        let taken: Vec<String> = before
            .filter_map(|(other, app)| apps.get(other)?.releases.get(app.current.as_ref()?))
            .flat_map(|release| names(release))
            .collect();
        names(release).into_iter().filter(|name| !taken.contains(name)).collect()
    }

    /// The ports of the edge: those of the app's settings, unless this host is a rig with ports of its own.
    pub(super) fn edge_ports(&self, edge: &Edge) -> (u16, u16) {
        self.ports.unwrap_or_else(|| edge.ports(self.description.root))
    }

    /// The addresses that an app needs the edge to listen at: all of them, or loopback for local names.
    pub(super) fn addresses(&self, key: &AppKey, release: &Release) -> Vec<(SocketAddr, bool)> {
        let (https, http) = self.edge_ports(&release.config.edge);
        // A rig is nobody else's business, whatever the names of the app.
        let local = self.ports.is_some() || self.hosts(key, release).iter().all(|host| is_local(host));
        let ips: [IpAddr; 2] = if local {
            [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        } else {
            [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
        };
        ips.into_iter()
            .flat_map(|ip| [(SocketAddr::new(ip, https), true), (SocketAddr::new(ip, http), false)])
            .collect()
    }

    /// Where to open an app.
    pub(super) fn url(&self, key: &AppKey, release: &Release) -> String {
        let hosts = self.hosts(key, release);
        let host = hosts.first().map_or("localhost", String::as_str);
        match self.edge_ports(&release.config.edge).0 {
            443 => format!("https://{host}"),
            port => format!("https://{host}:{port}"),
        }
    }

    fn site(
        &self,
        key: &AppKey,
        app: &App,
        release: &Release,
        hosts: Vec<String>,
        folders: &mut Vec<OwnedFd>,
    ) -> std::io::Result<Site> {
        let edge = &release.config.edge;
        let ripe = self.ripe(key);
        let mut routes = Vec::new();
        for route in &release.config.routes {
            let policy = &route.policy;
            let Some(service) = release.config.services.get(&policy.to) else { continue };
            let target = match &service.static_dir {
                Some(folder) => {
                    let place = self.layout.release(key, &release.id);
                    let path = place.join("files").join(folder.as_path());
                    folders.push(instance::open_folder(&path)?);
                    let folder = folders.len() - 1;
                    let prepared = match super::assets::prepared(&place, policy.to.as_str()) {
                        Some(path) => {
                            folders.push(instance::open_folder(&path)?);
                            Some(folders.len() - 1)
                        }
                        None => None,
                    };
                    Target::Static { folder, release: release.id.clone(), spa: service.spa, prepared }
                }
                None => Target::Service { service: policy.to.clone() },
            };
            routes.push(Route {
                pattern: route.pattern.to_string(),
                target,
                idempotent: policy.idempotent,
                cross_site: policy.cross_site,
                client_authorities: policy
                    .client_ca
                    .as_ref()
                    .map(|file| self.client_authorities(key, release, file)),
                timeout: Some(policy.timeout.0),
                body_bytes: Some(policy.body.0),
                waf: super::firewall::mode(policy, ripe.contains(&route.pattern.to_string())),
                images: policy.images.then(|| ImageRules { widths: in_order(&edge.image_widths) }),
                cache: CacheRules {
                    enabled: policy.cache != RouteCache::Switch(false),
                    lifetime: match policy.cache {
                        RouteCache::Switch(_) => None,
                        RouteCache::Lifetime(lifetime) => Some(lifetime.0),
                    },
                    stale_while_revalidate: policy.stale_while_revalidate.map(|period| period.0),
                },
            });
        }
        let services = release.config.services.iter().filter(|(_, service)| service.is_web());
        let services: BTreeMap<ServiceName, Upstreams> = services
            .map(|(name, service)| {
                let upstreams = Upstreams {
                    upstreams: upstreams_of(app, name),
                    health: service.health.as_ref().map(ToString::to_string),
                    sticky: service.sticky,
                    hold: edge.hold.0,
                    protocol: settings::app_protocol(service.protocol),
                };
                (name.clone(), upstreams)
            })
            .collect();
        Ok(Site {
            app: key.clone(),
            hosts,
            routes,
            services,
            limits: Limits {
                header_bytes: usize::try_from(edge.header_limit.0).unwrap_or(usize::MAX),
                body_bytes: edge.body_limit.0,
                header_timeout: edge.headers_timeout.0,
                timeout: edge.timeout.0,
                stall_timeout: Duration::from_secs(30),
                idle_timeout: Duration::from_secs(60),
            },
            front: settings::front(edge),
            http3: self.serves_http3(edge),
            waf: self.waf(&release.config, folders)?,
            csp: upstreams::Csp {
                mode: settings::csp_mode(edge.csp),
                policy: edge.csp_policy.clone().unwrap_or_else(|| CSP.into()),
            },
        })
    }

    /// How often each app's totals stood at what, for receipts.
    pub(super) fn totals(&self, key: &AppKey) -> klar_base::signal::Totals {
        self.edge_now().totals(key)
    }
}

/// Growing, each once.
fn in_order(widths: &[u32]) -> Vec<u32> {
    widths.iter().copied().collect::<BTreeSet<u32>>().into_iter().collect()
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

fn upstreams_of(app: &App, service: &ServiceName) -> Vec<Upstream> {
    let ready = app.instances.values().filter(|instance| {
        instance.record.id.service == *service && instance.state != InstanceState::Starting
    });
    ready
        .filter_map(|instance| {
            Some(Upstream {
                id: instance.record.id.clone(),
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, instance.listening_port()?)),
                weight: u32::from(instance.serving && instance.state == InstanceState::Ready),
                release: instance.release()?.clone(),
            })
        })
        .collect()
}
