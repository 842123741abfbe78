//! Constant load on the demo app: reads, checkouts and plain writes, on kept connections and on new ones.
//!
//! The schedule does not wait for answers, as visitors do not: an app that hangs is not spared (an open model). Each
//! request is sent once; nothing is repeated here, so what klar does not save is counted as failed.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::header::{COOKIE, HeaderMap, SET_COOKIE, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;

/// Requests per second, where the machine can carry as many.
pub const RATE: u32 = 240;
/// Fewer show nothing.
const LEAST_RATE: u32 = 20;
/// How long the machine is asked what it can carry, and by how many at once.
const TRIAL: Duration = Duration::from_secs(8);
const TRIAL_VISITORS: usize = 8;
/// What is sent of what the machine can carry: half of it is gone with one of two instances, and the start of another
/// takes half of the rest.
const SHARE: f64 = 0.3;
/// A visitor gives up after this.
const PATIENCE: Duration = Duration::from_secs(15);
/// Errors that are kept as examples.
const EXAMPLES: usize = 12;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A page of orders.
    Orders,
    /// One order.
    Order,
    /// A checkout with an `Idempotency-Key`.
    Checkout,
    /// A plain write, which must not be sent twice.
    Note,
}

impl Kind {
    /// Whether klar may send it again.
    pub fn is_repeatable(self) -> bool {
        self != Self::Note
    }
}

/// How the requests of one kind went.
#[derive(Debug, Clone, Default)]
pub struct Count {
    pub sent: u64,
    pub good: u64,
    /// 502, 503 or 504 from klar.
    pub honest: u64,
    /// Another answer that is no success, or none at all.
    pub broken: u64,
}

/// How everything went.
#[derive(Debug, Clone)]
pub struct Tally {
    pub kinds: BTreeMap<Kind, Count>,
    pub fresh_connections: u64,
    pub latency_us: Histogram<u64>,
    /// The most that waited for an answer at once.
    pub waited_at_once: usize,
    pub examples: Vec<String>,
    /// Orders that were acknowledged, by their key.
    pub orders: BTreeMap<String, u64>,
}

impl Tally {
    fn new() -> Result<Self> {
        Ok(Self {
            kinds: BTreeMap::new(),
            fresh_connections: 0,
            latency_us: Histogram::new_with_bounds(1, 60_000_000, 3)?,
            waited_at_once: 0,
            examples: Vec::new(),
            orders: BTreeMap::new(),
        })
    }

    /// All that were sent.
    pub fn sent(&self) -> u64 {
        self.kinds.values().map(|count| count.sent).sum()
    }

    /// Those of a kind that may be repeated and failed all the same.
    pub fn repeatable_failed(&self) -> u64 {
        let repeatable = self.kinds.iter().filter(|(kind, _)| kind.is_repeatable());
        repeatable.map(|(_, count)| count.honest + count.broken).sum()
    }

    /// Those that failed.
    pub fn failed(&self) -> u64 {
        self.kinds.values().map(|count| count.honest + count.broken).sum()
    }

    /// Plain writes that got a 502, 503 or 504.
    pub fn honest(&self) -> u64 {
        self.kinds.values().map(|count| count.honest).sum()
    }

    /// Those that got neither a good answer nor an honest one.
    pub fn broken(&self) -> u64 {
        self.kinds.values().map(|count| count.broken).sum()
    }

    /// Whether the app was ever a second behind the visitors, who come at this rate.
    pub fn fell_behind(&self, rate: u32) -> bool {
        self.waited_at_once > rate as usize
    }

    /// In a line.
    pub fn line(&self) -> String {
        let part = |quantile| self.latency_us.value_at_quantile(quantile) as f64 / 1000.0;
        format!(
            "{} requests ({} on new connections), {} failed; p50 {:.1} ms, p99 {:.1} ms, max {:.0} ms, at most {} at once",
            self.sent(),
            self.fresh_connections,
            self.failed(),
            part(0.5),
            part(0.99),
            self.latency_us.max() as f64 / 1000.0,
            self.waited_at_once
        )
    }

    /// Why some failed.
    pub fn reasons(&self) -> String {
        self.examples.iter().map(|example| format!("\n      {example}")).collect()
    }
}

/// Who sends.
#[derive(Clone)]
pub struct Client {
    port: u16,
    tls: TlsConnector,
    session: Session,
    agent: String,
}

/// What a browser sends once somebody is signed in.
#[derive(Debug, Clone, Default)]
struct Session {
    cookie: String,
    csrf: String,
}

/// Of the accounts that go with the demo app's seeds (its `klar.toml`).
pub const PASSWORD: &str = "demo-lisens-2026";
/// What the load calls itself, with the number of its seed behind it, so that its requests can be told from those of
/// another load and from klar's own probes.
const AGENT: &str = "klar-load";
/// What buyers hold while they pay.
pub const BASKET: &str = r#"{"items":[{"licence_kind":"ledsager","quantity":1}]}"#;

fn named(seed: u64) -> String {
    format!("{AGENT}/{seed}")
}

/// A connection that is kept.
pub type Connection = SendRequest<Full<Bytes>>;

impl Client {
    /// For the app at this port, trusting this authority (PEM) and no other; signed in as an official, who may see and
    /// do everything that the load asks for.
    pub fn sign_in(port: u16, authority: &str) -> Result<Self> {
        Self::sign_in_as("official@lisens.example", port, authority)
    }

    /// Signed in with this e-mail address and the password of the demo.
    pub fn sign_in_as(email: &str, port: u16, authority: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate.map_err(|error| anyhow::anyhow!("klar's authority: {error}"))?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client = Self {
            port,
            tls: TlsConnector::from(Arc::new(config)),
            session: Session::default(),
            agent: AGENT.into(),
        };
        let who = serde_json::json!({ "email": email, "password": PASSWORD }).to_string();
        let (status, headers, body) = client.exchange(client.post("/api/session", None, who)?)?;
        ensure!(status == StatusCode::CREATED, "signing in answered {status}: {body}");
        let cookie = headers.get(SET_COOKIE).context("signing in set no cookie")?.to_str()?;
        let answer: serde_json::Value = serde_json::from_str(&body)?;
        client.session = Session {
            cookie: cookie.split(';').next().unwrap_or_default().into(),
            csrf: answer["csrf_token"].as_str().context("signing in gave no token")?.into(),
        };
        Ok(client)
    }

    fn get_request(&self, path: &str) -> Result<Request<Full<Bytes>>> {
        Ok(self.request(Method::GET, path).body(Full::default())?)
    }

    fn post(&self, path: &str, key: Option<&str>, body: String) -> Result<Request<Full<Bytes>>> {
        let mut request = self.request(Method::POST, path).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        Ok(request.body(Full::from(body))?)
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.header(USER_AGENT, &self.agent);
        request.header(COOKIE, &self.session.cookie).header("x-csrf-token", &self.session.csrf)
    }

    /// The session as headers: `Cookie` and `X-CSRF-Token`.
    pub fn session_headers(&self) -> (&str, &str) {
        (&self.session.cookie, &self.session.csrf)
    }

    /// Posts once, on a connection that is kept.
    pub async fn send(
        &self,
        connection: &mut Connection,
        path: &str,
        key: Option<&str>,
        body: String,
    ) -> Result<(StatusCode, String)> {
        let asked = ask(connection, self.post(path, key, body)?);
        let (status, _, body) = tokio::time::timeout(PATIENCE, asked).await.context("no answer")??;
        Ok((status, body))
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = self.tls.connect(name, stream).await.context("TLS handshake")?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async move {
            // How it ends is told to who waits for the answer.
            let _ = driver.await;
        });
        Ok(connection)
    }

    /// Gets a path once, from outside of any load.
    pub fn get(&self, path: &str) -> Result<(StatusCode, String)> {
        let (status, _, body) = self.exchange(self.get_request(path)?)?;
        Ok((status, body))
    }

    fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, async {
            let asked = async {
                let mut connection = self.connect().await?;
                ask(&mut connection, request).await
            };
            tokio::time::timeout(PATIENCE, asked).await.context("no answer")?
        })
    }
}

type Answer = (StatusCode, HeaderMap, String);

async fn ask(connection: &mut Connection, request: Request<Full<Bytes>>) -> Result<Answer> {
    connection.ready().await?;
    let response = connection.send_request(request).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("reading the answer")?.to_bytes();
    Ok((head.status, head.headers, String::from_utf8_lossy(&body).into_owned()))
}

/// A load that goes on until it is stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    thread: JoinHandle<Result<()>>,
    agent: String,
}

/// What the machine can carry with all instances serving, in requests per second: so many visitors ask one request
/// after the other.
pub fn carried(client: Client) -> Result<u32> {
    let tally = Arc::new(Mutex::new(Tally::new()?));
    let sender = Rc::new(Sender::new(client, 0, tally.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let begun = Instant::now();
    LocalSet::new().block_on(&runtime, async {
        let mut visitors = tokio::task::JoinSet::new();
        for visitor in 0..TRIAL_VISITORS {
            let (sender, mut mix) = (sender.clone(), Mix::new(visitor as u64));
            visitors.spawn_local(async move {
                while begun.elapsed() < TRIAL {
                    mix.send_one(&sender).await;
                }
            });
        }
        while visitors.join_next().await.is_some() {}
    });
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(tally.failed() == 0, "{} requests failed on a calm app:{}", tally.failed(), tally.reasons());
    Ok((tally.sent() as f64 / begun.elapsed().as_secs_f64()) as u32)
}

/// What a load may be where so much can be carried: an app that falls behind says nothing about what klar loses.
pub fn bearable(carried: u32) -> u32 {
    ((f64::from(carried) * SHARE) as u32).clamp(LEAST_RATE, RATE)
}

impl Load {
    /// Begins, with so many requests per second.
    pub fn start(client: Client, seed: u64, rate: u32) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Mutex::new(Tally::new()?));
        let sender = (client, seed, tally.clone());
        let agent = named(seed);
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("load".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (client, seed, tally) = sender;
            let sender = Rc::new(Sender::new(client, seed, tally));
            LocalSet::new().block_on(&runtime, send_all(sender, Mix::new(seed), rate, stopped));
            Ok(())
        })?;
        Ok(Self { stop, tally, thread, agent })
    }

    /// What its requests call themselves.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// How it has gone so far.
    pub fn so_far(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends, after the last answer, and tells how it went.
    pub fn stop(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(result) => result?,
            Err(_) => bail!("the load generator broke"),
        }
        Ok(self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

struct Sender {
    client: Client,
    idle: std::cell::RefCell<Vec<Connection>>,
    tally: Arc<Mutex<Tally>>,
    number: AtomicU64,
    run: String,
}

/// What is asked next, at random.
struct Mix(fastrand::Rng);

impl Mix {
    fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    fn send_one(&mut self, sender: &Rc<Sender>) -> impl Future<Output = ()> + 'static {
        let kind = match self.0.u32(..100) {
            0..50 => Kind::Orders,
            50..75 => Kind::Order,
            75..92 => Kind::Checkout,
            _ => Kind::Note,
        };
        let fresh = self.0.u32(..10) == 0;
        let order = self.0.u64(1..=100_000);
        let sender = sender.clone();
        async move { sender.send(kind, fresh, order).await }
    }
}

async fn send_all(sender: Rc<Sender>, mut mix: Mix, rate: u32, stop: Arc<AtomicBool>) {
    let mut clock = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut open = tokio::task::JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        clock.tick().await;
        open.spawn_local(mix.send_one(&sender));
        while open.try_join_next().is_some() {}
        let mut tally = sender.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.waited_at_once = tally.waited_at_once.max(open.len());
    }
    while open.join_next().await.is_some() {}
}

impl Sender {
    fn new(mut client: Client, seed: u64, tally: Arc<Mutex<Tally>>) -> Self {
        client.agent = named(seed);
        let run = format!("{}-{seed}", std::process::id());
        Self { client, idle: Default::default(), tally, number: AtomicU64::new(0), run }
    }

    async fn send(&self, kind: Kind, fresh: bool, order: u64) {
        let begun = Instant::now();
        let key = format!("{}-{}", self.run, self.number.fetch_add(1, Ordering::Relaxed));
        let outcome = tokio::time::timeout(PATIENCE, self.try_send(kind, fresh, order, &key)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {PATIENCE:?}")));
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.fresh_connections += u64::from(fresh);
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        tally.latency_us.saturating_record(took);
        let count = tally.kinds.entry(kind).or_default();
        count.sent += 1;
        let example = match &outcome {
            Ok((status, _)) if status.is_success() => {
                count.good += 1;
                None
            }
            Ok((status, body)) if matches!(status.as_u16(), 502..=504) => {
                count.honest += 1;
                Some(format!("{status} {}", body.trim()))
            }
            Ok((status, body)) => {
                count.broken += 1;
                Some(format!("{status} {}", body.trim()))
            }
            Err(error) => {
                count.broken += 1;
                Some(format!("{error:#}"))
            }
        };
        if let Some(example) = example {
            if tally.examples.len() < EXAMPLES {
                let fresh = if fresh { "new" } else { "kept" };
                tally.examples.push(format!("{kind:?} on a {fresh} connection: {example}"));
            }
            return;
        }
        if let (Kind::Checkout, Ok((status, body))) = (kind, &outcome)
            && status.is_success()
        {
            let answer: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            let id = answer["id"].as_u64();
            tally.orders.insert(key, id.unwrap_or(0));
        }
    }

    async fn try_send(&self, kind: Kind, fresh: bool, order: u64, key: &str) -> Result<(StatusCode, String)> {
        let client = &self.client;
        let request = match kind {
            Kind::Orders => client.get_request("/api/orders?limit=20")?,
            Kind::Order => client.get_request(&format!("/api/orders/{order}"))?,
            Kind::Checkout => {
                let body = r#"{"user_id":1,"items":[{"licence_kind":"KIND","quantity":1}]}"#;
                client.post("/api/checkout", Some(key), body.replace("KIND", LICENCE))?
            }
            Kind::Note => {
                client.post("/api/notes", None, format!(r#"{{"order_id":{order},"text":"{key}"}}"#))?
            }
        };
        let kept = if fresh { None } else { self.idle.borrow_mut().pop().filter(|kept| !kept.is_closed()) };
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.client.connect().await?,
        };
        let (status, _, body) = ask(&mut connection, request).await?;
        if !fresh && !connection.is_closed() {
            self.idle.borrow_mut().push(connection);
        }
        Ok((status, body))
    }
}

/// What every checkout buys.
const LICENCE: &str = "ledsager";
