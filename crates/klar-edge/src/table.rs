//! What to serve, made ready for lookups; and what all workers share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use klar_base::images::ImageRules;
use klar_base::look::{Counts, RouteCounts, SiteView};
use klar_base::replay::{Replay, Replayed};
use klar_base::shadow::{Trial, Tried};
use klar_base::signal::Totals;
use klar_base::upstreams::{
    AppProtocol, CacheRules, EdgeConfig, Front, Limits, Target, Vitals, WafMode, Watched,
};
use klar_base::{AppKey, InstanceId, Network, ReleaseId, Secret, ServiceName, upstreams};
use rustls::DistinguishedName;
use tokio::sync::watch;

use crate::arrivals::Arrivals;
use crate::cache::Cache;
use crate::cache::key::ByNumber;
use crate::challenge::Challenges;
use crate::counters::{Doors, RouteSums, RouteTotals};
use crate::fields::Fields;
use crate::firewall::{self, Rules, Seen};
use crate::front::TurnedAway;
use crate::guard::Clocks;
use crate::headers;
use crate::images::Images;
use crate::kept::Shelf;
use crate::mutual_tls::Authorities;
use crate::records::{Record, Records};
use crate::tls::Certificates;
use crate::upstream::UpstreamState;

/// One configuration, ready for use.
#[derive(Debug)]
pub struct Table {
    pub generation: u64,
    pub https_port: u16,
    pub certificates: Certificates,
    pub challenges: Challenges,
    pub connections_max: u32,
    /// Some host asks its visitors for certificates.
    pub asks_somewhere: bool,
    /// Some host is served over HTTP/3.
    pub http3: bool,
    check_key: Option<Secret<String>>,
    /// By port.
    proxy_protocol: HashMap<u16, Arc<[Network]>>,
    /// Visitors look for what they like, and put nothing in: no secret need be in its hashes.
    hosts: HashMap<String, Arc<SiteTable>, ByNumber>,
    apps: BTreeMap<AppKey, Arc<SiteTable>>,
}

/// One app.
#[derive(Debug)]
pub struct SiteTable {
    pub app: AppKey,
    /// The same, as records say it.
    pub name: Box<str>,
    pub limits: Limits,
    /// See [`crate::headers::policy`].
    pub csp: Option<(HeaderName, HeaderValue)>,
    /// What [`headers::protect`] adds for a host without HTTPS or one that many things share, and for one with it.
    protection: [Bytes; 2],
    pub front: Front,
    pub totals: Arc<AppTotals>,
    /// What tells visitors that they may use HTTP/3. `None`: it is off, or a route wants a certificate of theirs.
    pub http3: Option<HeaderValue>,
    pub services: BTreeMap<ServiceName, Arc<ServiceTable>>,
    pub first_host: String,
    /// What its requests are judged by.
    pub rules: Option<Arc<Rules>>,
    /// Grows when the releases change that get requests: see [`crate::cache`].
    pub epoch: u64,
    /// The most specific first.
    routes: Vec<RouteTable>,
}

/// One route.
#[derive(Debug)]
pub struct RouteTable {
    /// Its place among those of its site.
    pub place: usize,
    pub pattern: Arc<str>,
    pub target: Destination,
    pub idempotent: bool,
    pub cross_site: bool,
    pub timeout: Duration,
    pub body_bytes: u64,
    pub cache: CacheRules,
    /// Whose certificates let a visitor in; `None`: none is needed.
    pub clients: Option<Arc<Authorities>>,
    /// How images are converted; `None`: they are not.
    pub images: Option<ImageRules>,
    pub waf: WafMode,
    pub totals: Arc<RouteTotals>,
}

impl RouteTable {
    /// The service that it leads to, if it is not a folder.
    pub fn service(&self) -> Option<&ServiceName> {
        match &self.target {
            Destination::Service(service) => Some(service),
            Destination::Static { .. } => None,
        }
    }
}

/// Where a route leads.
#[derive(Debug)]
pub enum Destination {
    Service(ServiceName),
    Static {
        folder: Arc<OwnedFd>,
        /// What was made of its files when it was released.
        prepared: Option<Arc<OwnedFd>>,
        release: ReleaseId,
        spa: bool,
        shelf: Shelf,
    },
}

/// The instances of a service.
#[derive(Debug)]
pub struct ServiceTable {
    pub upstreams: Vec<Arc<UpstreamState>>,
    pub health: Option<String>,
    pub sticky: bool,
    pub hold: Duration,
}

impl ServiceTable {
    /// Whether there is an instance that speaks this.
    pub fn speaks(&self, protocol: AppProtocol) -> bool {
        self.upstreams.iter().any(|upstream| upstream.protocol == protocol)
    }
}

impl Table {
    fn empty() -> Self {
        Self {
            generation: 0,
            https_port: 443,
            certificates: Certificates::default(),
            challenges: Challenges::default(),
            connections_max: u32::MAX,
            asks_somewhere: false,
            http3: false,
            check_key: None,
            proxy_protocol: HashMap::new(),
            hosts: HashMap::default(),
            apps: BTreeMap::new(),
        }
    }

    /// The site for a host name in lower case.
    pub fn site(&self, host: &str) -> Option<&Arc<SiteTable>> {
        self.hosts.get(host.strip_suffix('.').unwrap_or(host)).or_else(|| {
            let (_, parent) = host.split_once('.')?;
            self.hosts.get(&format!("*.{parent}"))
        })
    }

    /// The authorities that a handshake with a host names, if it asks for a certificate.
    pub fn asks(&self, host: &str) -> Option<Vec<DistinguishedName>> {
        let site = self.site(host)?;
        let wanted = site.routes.iter().filter_map(|route| route.clients.as_ref());
        let mut all: Option<Vec<DistinguishedName>> = None;
        for authorities in wanted {
            let all = all.get_or_insert_default();
            for name in &authorities.names {
                if !all.iter().any(|known| known.as_ref() == name.as_ref()) {
                    all.push(name.clone());
                }
            }
        }
        all
    }

    /// Whose connections begin with a header of the PROXY protocol at a port, if any do.
    pub fn proxy_protocol(&self, port: u16) -> Option<Arc<[Network]>> {
        self.proxy_protocol.get(&port).cloned()
    }

    /// The ports where every connection begins with a header of the PROXY protocol.
    pub fn ports_of_proxies(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.proxy_protocol.keys().copied().collect();
        ports.sort_unstable();
        ports
    }

    /// A service of an app.
    pub fn service(&self, app: &AppKey, service: &ServiceName) -> Option<Arc<ServiceTable>> {
        self.apps.get(app)?.services.get(service).cloned()
    }

    /// The site of an app.
    pub fn app(&self, app: &AppKey) -> Option<&Arc<SiteTable>> {
        self.apps.get(app)
    }

    /// Every app, with its hosts and routes.
    pub fn sites(&self) -> Vec<SiteView> {
        let view = |(app, site): (&AppKey, &Arc<SiteTable>)| {
            let its =
                |(host, other): (&String, &Arc<SiteTable>)| Arc::ptr_eq(site, other).then(|| host.clone());
            let mut hosts: Vec<String> = self.hosts.iter().filter_map(its).collect();
            hosts.sort_by_key(|host| (*host != site.first_host, host.clone()));
            let routes = site.routes.iter().map(|route| {
                let leads_to = route.service().map_or("files".into(), ToString::to_string);
                (route.pattern.to_string(), leads_to)
            });
            SiteView { app: app.clone(), hosts, routes: routes.collect() }
        };
        self.apps.iter().map(view).collect()
    }

    /// Whether a request comes from one of klar's own probes, which look past the firewall.
    pub fn is_check(&self, headers: &impl Fields) -> bool {
        let (Some(shown), Some(key)) = (headers.first(&firewall::CHECK), &self.check_key) else {
            return false;
        };
        let digest = |text: &[u8]| ring::digest::digest(&ring::digest::SHA256, text);
        // How many bytes are right must not be told by how long it takes: of digests that says nothing.
        !key.expose().is_empty() && digest(shown).as_ref() == digest(key.expose().as_bytes()).as_ref()
    }

    /// Every service, with its site.
    pub fn services(&self) -> impl Iterator<Item = (&SiteTable, &ServiceTable)> {
        self.apps.values().flat_map(|site| site.services.values().map(move |service| (&**site, &**service)))
    }

    /// The limits of a connection, by the name that its visitor gave in the handshake.
    pub fn clocks(&self, name: Option<&str>) -> Clocks {
        let named = name.and_then(|name| self.site(name));
        let limits = named.or_else(|| self.apps.values().next()).map(|site| &site.limits);
        limits.map_or(
            Clocks {
                head_bytes: 16 << 10,
                head: Duration::from_secs(10),
                stall: Duration::from_secs(30),
                idle: Duration::from_secs(60),
            },
            |limits| Clocks {
                head_bytes: limits.header_bytes,
                head: limits.header_timeout,
                stall: limits.stall_timeout,
                idle: limits.idle_timeout,
            },
        )
    }
}

impl SiteTable {
    /// What [`headers::protect`] adds to an answer that says nothing of it, as HTTP/1.1 writes it.
    pub fn protection(&self, host: &str, https: bool) -> &Bytes {
        &self.protection[usize::from(https && host != "localhost")]
    }

    /// The route at this place.
    pub fn route_at(&self, place: usize) -> Option<&RouteTable> {
        self.routes.get(place)
    }

    /// The most specific route for a path.
    pub fn route(&self, path: &str) -> Option<&RouteTable> {
        self.routes.iter().find(|route| matches(&route.pattern, path))
    }
}

/// `/exact`, `/prefix/*` (which also takes `/prefix`), or `/*`.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix("/*") {
        None => pattern == path,
        Some(prefix) => {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    }
}

/// Running totals of an app, over all configurations.
#[derive(Debug, Default)]
pub struct AppTotals {
    pub requests: AtomicU64,
    pub app_errors: AtomicU64,
    pub failed: AtomicU64,
    pub refused: AtomicU64,
    pub saved_by_retry: AtomicU64,
    pub aborted: AtomicU64,
}

impl AppTotals {
    fn read(&self) -> Totals {
        Totals {
            requests: self.requests.load(Ordering::Relaxed),
            app_errors: self.app_errors.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            saved_by_retry: self.saved_by_retry.load(Ordering::Relaxed),
            aborted: self.aborted.load(Ordering::Relaxed),
        }
    }
}

/// For the thread that talks to the core.
#[derive(Debug)]
pub enum Note {
    /// Requests are over: see [`Shared::records`].
    Records,
    /// An instance without weight lost its last lease.
    Drained,
    /// There are images to convert, and no process that does.
    WantsImages,
}

/// Notes that wait for the core; more are dropped and counted.
pub const NOTES_MAX: usize = 1024;

/// What all threads share.
#[derive(Debug)]
pub struct Shared {
    pub table: ArcSwap<Table>,
    pub connections: AtomicU32,
    pub arrivals: Arc<Arrivals>,
    pub records: Records,
    /// What the firewall has seen, on its way to the core.
    pub seen: Seen,
    pub turned_away: TurnedAway,
    /// The thread that takes the notes.
    pub reporter: OnceLock<Thread>,
    pub cache: Arc<Cache>,
    pub images: Images,
    /// Each WebSocket holds a receiver: they outlive the tasks of their connections.
    pub tunnels: watch::Sender<()>,
    pub doors: Doors,
    /// There is a socket for HTTP/3.
    pub serves_http3: AtomicBool,
    started: Instant,
    notes: SyncSender<Note>,
    changes: watch::Sender<()>,
    memory: Mutex<Memory>,
}

/// What outlives a configuration. Only the control thread takes the lock.
#[derive(Debug, Default)]
struct Memory {
    serial: u64,
    upstreams: BTreeMap<(InstanceId, SocketAddr), Arc<UpstreamState>>,
    totals: BTreeMap<AppKey, Arc<AppTotals>>,
    routes: BTreeMap<(AppKey, String), Arc<RouteTotals>>,
    epochs: BTreeMap<AppKey, Epoch>,
    rules: BTreeMap<firewall::Key, Weak<Rules>>,
}

impl Memory {
    /// The rules of an app, compiled anew only where nobody has the same.
    fn rules(
        &mut self,
        app: &AppKey,
        wanted: &upstreams::Waf,
        files: &[Arc<OwnedFd>],
        seen: &Seen,
    ) -> Result<Arc<Rules>, String> {
        self.rules.retain(|_, rules| rules.strong_count() > 0);
        let key = firewall::key(wanted);
        if let Some(known) = self.rules.get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let rules = Arc::new(Rules::new(&app.to_string(), wanted, files, seen)?);
        self.rules.insert(key, Arc::downgrade(&rules));
        Ok(rules)
    }
}

/// Which releases of an app get requests, and how often that has changed.
#[derive(Debug, Default)]
struct Epoch {
    number: u64,
    serving: BTreeMap<ServiceName, BTreeSet<ReleaseId>>,
}

impl Epoch {
    /// Takes note of who serves now, and says whether that has changed. A service without any instance is between two.
    fn turn(&mut self, services: &BTreeMap<ServiceName, BTreeSet<ReleaseId>>) -> bool {
        let mut changed = false;
        for (service, releases) in services.iter().filter(|(_, releases)| !releases.is_empty()) {
            let before = self.serving.insert(service.clone(), releases.clone());
            changed |= before.is_some_and(|before| before != *releases);
        }
        self.number += u64::from(changed);
        changed
    }
}

impl Shared {
    /// Nothing to serve yet; and the notes for the core.
    pub fn with(cache: Cache) -> (Arc<Self>, Receiver<Note>) {
        let (notes, taken) = sync_channel(NOTES_MAX);
        let cache = Arc::new(cache);
        let asking = notes.clone();
        // When the queue is full, the next order asks again.
        let images = Images::new(cache.clone(), move || drop(asking.try_send(Note::WantsImages)));
        let shared = Self {
            table: ArcSwap::from_pointee(Table::empty()),
            connections: AtomicU32::new(0),
            arrivals: Arc::default(),
            records: Records::default(),
            seen: Seen::default(),
            turned_away: TurnedAway::default(),
            reporter: OnceLock::new(),
            cache,
            images,
            tunnels: watch::Sender::new(()),
            doors: Doors::default(),
            serves_http3: AtomicBool::new(false),
            started: Instant::now(),
            notes,
            changes: watch::Sender::new(()),
            memory: Mutex::default(),
        };
        (Arc::new(shared), taken)
    }

    /// The same without any cache.
    #[cfg(test)]
    pub fn new() -> (Arc<Self>, Receiver<Note>) {
        Self::with(Cache::open(None).unwrap_or_else(|error| panic!("{error}")))
    }

    /// Wakes those who wait for an instance.
    pub fn tell_waiting(&self) {
        self.changes.send_replace(());
    }

    /// Changes of the table, or of somebody's health.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Tells the core soon that an instance has no leases left. When the queue is full the next vitals say so.
    pub fn tell_drained(&self) {
        let _ = self.notes.try_send(Note::Drained);
        if let Some(reporter) = self.reporter.get() {
            reporter.unpark();
        }
    }

    /// Hands a record over, or counts it as dropped.
    pub fn record(&self, record: &Record<'_>) {
        if self.records.add(record) {
            // Where the queue is full somebody has been told already.
            let _ = self.notes.try_send(Note::Records);
        }
    }

    /// What the firewall of an app says of a request that was kept.
    ///
    /// # Errors
    /// Why it says nothing.
    pub fn replay(&self, wanted: &Replay) -> Result<Box<Replayed>, String> {
        let table = self.table.load();
        let site = table.app(&wanted.app).ok_or_else(|| format!("{} is not served", wanted.app))?;
        let rules = site.rules.as_ref().ok_or_else(|| format!("the firewall of {} is off", wanted.app))?;
        firewall::replay(rules, wanted).map(Box::new)
    }

    /// What other rules would do with requests that were let through.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn try_rules(&self, wanted: &Trial, files: Vec<OwnedFd>) -> Result<Box<Tried>, String> {
        let table = self.table.load();
        let site = table.app(&wanted.app).ok_or_else(|| format!("{} is not served", wanted.app))?;
        let rules = site.rules.as_ref().ok_or_else(|| format!("the firewall of {} is off", wanted.app))?;
        firewall::trial(rules, wanted, files).map(Box::new)
    }

    /// How everything is.
    pub fn vitals(&self) -> Vitals {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.upstreams.retain(|_, upstream| Arc::strong_count(upstream) > 1 || upstream.leases() > 0);
        let table = self.table.load();
        let refused = |site: &Arc<SiteTable>| Some((site.app.clone(), site.rules.as_ref()?.refused()?));
        let watched = |site: &Arc<SiteTable>| {
            let routes = site.routes.iter().filter(|route| route.waf == WafMode::Detect);
            let counts: BTreeMap<String, Watched> =
                routes.map(|route| (route.pattern.to_string(), route.totals.watched())).collect();
            (!counts.is_empty()).then(|| (site.app.clone(), counts))
        };
        Vitals {
            watched: table.apps.values().filter_map(watched).collect(),
            refused_rules: table.apps.values().filter_map(refused).collect(),
            generation: table.generation,
            connections: self.connections.load(Ordering::Relaxed),
            turned_away: self.turned_away.count(),
            upstreams: memory.upstreams.values().map(|upstream| upstream.vitals()).collect(),
            totals: memory.totals.iter().map(|(app, totals)| (app.clone(), totals.read())).collect(),
        }
    }

    /// All counters.
    pub fn counts(&self) -> Counts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let table = self.table.load();
        let routes = table.apps.values().flat_map(|site| site.routes.iter().map(move |route| (site, route)));
        let routes = routes.map(|(site, route)| {
            let RouteSums { requests, errors, bytes_in, bytes_out, cache_asked, cache_hits, times } =
                route.totals.sums();
            RouteCounts {
                app: site.app.clone(),
                pattern: route.pattern.to_string(),
                service: route.service().cloned(),
                requests,
                errors,
                bytes_in,
                bytes_out,
                cache_asked,
                cache_hits,
                times,
            }
        });
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        Counts {
            pid: std::process::id(),
            uptime_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            connections: self.connections.load(Ordering::Relaxed),
            http2_connections: self.doors.http2_open(),
            http3_connections: self.doors.http3_open(),
            accepted: count(&self.doors.accepted),
            handshakes: count(&self.doors.handshakes),
            handshakes_failed: count(&self.doors.handshakes_failed),
            http1_requests: count(&self.doors.http1_requests),
            http2_requests: count(&self.doors.http2_requests),
            http3_requests: count(&self.doors.http3_requests),
            cache_used: self.cache.used() as u64,
            cache_room: self.cache.room() as u64,
            routes: routes.collect(),
            instances: memory.upstreams.values().map(|upstream| upstream.counts()).collect(),
        }
    }

    /// Puts a configuration in force. When this returns, no request can be sent to an instance that it leaves out
    /// or gives weight 0, unless it has its lease already.
    ///
    /// # Errors
    /// Why it cannot be used; nothing has changed then.
    pub fn apply(&self, config: EdgeConfig, folders: Vec<OwnedFd>) -> Result<(), String> {
        let certificates = Certificates::new(&config.certificates)?;
        let challenges = Challenges::new(config.challenges)?;
        let folders: Vec<Arc<OwnedFd>> = folders.into_iter().map(Arc::new).collect();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut hosts, mut apps, mut kept) = (HashMap::default(), BTreeMap::new(), BTreeMap::new());
        let mut weights = Vec::new();
        let mut changed = Vec::new();
        let mut asks = false;
        for site in config.sites {
            let mut services = BTreeMap::new();
            let mut serving = BTreeMap::new();
            for (name, upstreams) in site.services {
                let weighty = upstreams.upstreams.iter().filter(|upstream| upstream.weight > 0);
                serving.insert(name.clone(), weighty.map(|upstream| upstream.release.clone()).collect());
                let mut states = Vec::with_capacity(upstreams.upstreams.len());
                for upstream in &upstreams.upstreams {
                    let key = (upstream.id.clone(), upstream.address);
                    let known = memory.upstreams.get(&key).filter(|known| {
                        known.release == upstream.release && known.protocol == upstreams.protocol
                    });
                    let state = match known {
                        Some(known) => known.clone(),
                        None => {
                            memory.serial += 1;
                            Arc::new(UpstreamState::new(memory.serial, upstream, upstreams.protocol))
                        }
                    };
                    weights.push((state.clone(), upstream.weight));
                    kept.insert(key, state.clone());
                    states.push(state);
                }
                let table = ServiceTable {
                    upstreams: states,
                    health: upstreams.health,
                    sticky: upstreams.sticky,
                    hold: upstreams.hold,
                };
                services.insert(name, Arc::new(table));
            }
            let mut routes = Vec::with_capacity(site.routes.len());
            for route in site.routes {
                let target = match route.target {
                    Target::Service { service } if services.contains_key(&service) => {
                        Destination::Service(service)
                    }
                    Target::Service { service } => {
                        return Err(format!(
                            "route {} of {} leads to {service}, which is not there",
                            route.pattern, site.app
                        ));
                    }
                    Target::Static { folder, release, spa, prepared } => {
                        let find = |number: usize| {
                            folders.get(number).cloned().ok_or_else(|| {
                                format!("folder {number} of route {} did not come along", route.pattern)
                            })
                        };
                        let (folder, prepared) = (find(folder)?, prepared.map(find).transpose()?);
                        Destination::Static { folder, prepared, release, spa, shelf: Shelf::default() }
                    }
                };
                let clients = route.client_authorities.map(|pem| {
                    let read = Authorities::new(&pem).or_else(|why| {
                        // A mistake here keeps people out, and not the other apps from what is new for them.
                        let (app, route) = (&site.app, &route.pattern);
                        eprintln!(
                            "edge: {app}: nobody is let in at {route}: the authorities of clients: {why}"
                        );
                        Authorities::new("")
                    });
                    read.map(Arc::new)
                });
                let clients = clients.transpose()?;
                asks |= clients.is_some();
                // What one visitor may have is not for others.
                let cache = if clients.is_some() {
                    CacheRules { enabled: false, ..route.cache }
                } else {
                    route.cache
                };
                let counted = memory.routes.entry((site.app.clone(), route.pattern.clone()));
                routes.push(RouteTable {
                    place: 0,
                    totals: counted.or_default().clone(),
                    pattern: route.pattern.into(),
                    target,
                    idempotent: route.idempotent,
                    cross_site: route.cross_site,
                    timeout: route.timeout.unwrap_or(site.limits.timeout),
                    body_bytes: route.body_bytes.unwrap_or(site.limits.body_bytes),
                    cache,
                    // As with the cache, where what is made would be kept.
                    images: route.images.filter(|_| clients.is_none()),
                    waf: route.waf,
                    clients,
                });
            }
            // Exact patterns first, then by length: the first that matches is the most specific.
            routes.sort_by_key(|route| (route.pattern.ends_with("/*"), usize::MAX - route.pattern.len()));
            (0..).zip(&mut routes).for_each(|(place, route)| route.place = place);
            let totals = memory.totals.entry(site.app.clone()).or_default().clone();
            // If this configuration is refused after all, that costs a few hits.
            let epoch = memory.epochs.entry(site.app.clone()).or_default();
            if epoch.turn(&serving) {
                changed.push(site.app.clone());
            }
            let epoch = epoch.number;
            self.cache.serve(&site.app, epoch, &serving);
            let rules =
                site.waf.map(|waf| memory.rules(&site.app, &waf, &folders, &self.seen)).transpose()?;
            let is_open = routes.iter().all(|route: &RouteTable| route.clients.is_none());
            let http3 = (site.http3 && is_open).then(|| headers::http3_at(config.https_port));
            let table = Arc::new(SiteTable {
                app: site.app.clone(),
                name: site.app.to_string().into(),
                limits: site.limits,
                protection: ["localhost", ""].map(|host| {
                    let mut all = HeaderMap::new();
                    headers::protect(&mut all, headers::policy(&site.csp).as_ref(), host, true);
                    headers::lines(&all)
                }),
                csp: headers::policy(&site.csp),
                front: site.front,
                totals,
                http3: http3.flatten(),
                services,
                epoch,
                first_host: site.hosts.first().cloned().unwrap_or_default(),
                rules,
                routes,
            });
            hosts.extend(site.hosts.into_iter().map(|host| (host, table.clone())));
            apps.insert(site.app, table);
        }
        let table = Table {
            generation: config.generation,
            https_port: config.https_port,
            certificates,
            challenges,
            connections_max: config.connections_max,
            asks_somewhere: asks,
            http3: apps.values().any(|site: &Arc<SiteTable>| site.http3.is_some()),
            check_key: config.check_key,
            proxy_protocol: config
                .proxy_protocol
                .into_iter()
                .map(|listener| (listener.port, listener.proxies.into()))
                .collect(),
            hosts,
            apps,
        };
        for (upstream, weight) in weights {
            upstream.set_weight(weight);
        }
        self.table.store(Arc::new(table));
        for (key, upstream) in std::mem::take(&mut memory.upstreams) {
            let is_kept = kept.get(&key).is_some_and(|kept| kept.serial == upstream.serial);
            if !is_kept {
                upstream.set_weight(0);
                if upstream.leases() > 0 {
                    kept.entry(key).or_insert(upstream);
                }
            }
        }
        memory.upstreams = kept;
        // Of routes that are gone, once their last request is.
        memory.routes.retain(|_, totals| Arc::strong_count(totals) > 1);
        drop(memory);
        self.cache.resize(usize::try_from(config.cache_bytes).unwrap_or(usize::MAX), config.cache_disk_bytes);
        // Nobody finds these any more; this gives their room back.
        for app in &changed {
            self.cache.forget(app);
        }
        self.tell_waiting();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What serves, step by step, and whether pages of before are still good.
    #[test]
    fn epochs_turn_with_the_releases_that_serve() {
        let (old, new) = ("0123456789ab", "ba9876543210");
        let mut epoch = Epoch::default();
        for (web, api, number) in [
            (&[old][..], &[old][..], 0),
            (&[old], &[old], 0),
            // Between two instances of the same release.
            (&[], &[old], 0),
            (&[old], &[old], 0),
            // A deploy: the new one joins, the old one leaves, one service after the other.
            (&[old, new], &[old], 1),
            (&[new], &[old], 2),
            (&[new], &[new], 3),
            // Back without any time together.
            (&[], &[], 3),
            (&[old], &[new], 4),
        ] {
            let releases = |all: &[&str]| all.iter().map(|id| id.parse().unwrap()).collect();
            let serving = [("web", releases(web)), ("api", releases(api))];
            let before = epoch.number;
            let turned = epoch.turn(&serving.map(|(name, all)| (name.parse().unwrap(), all)).into());
            assert_eq!((epoch.number, turned), (number, number > before), "{web:?} {api:?}");
        }
    }

    #[test]
    fn patterns() {
        let table = [
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a/*", "/a", true),
            ("/a/*", "/a/b/c", true),
            ("/a/*", "/ab", false),
            ("/*", "/", true),
            ("/*", "/x/y", true),
        ];
        for (pattern, path, wanted) in table {
            assert_eq!(matches(pattern, path), wanted, "{pattern} {path}");
        }
    }
}
