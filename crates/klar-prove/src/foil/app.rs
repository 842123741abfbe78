//! What the foil answers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::front;
use super::output::Output;
use super::shelf::{self, Shelf};
use super::shop::Shop;
use super::telemetry::Telemetry;
use crate::checks::attacks::firewall::MARK;

pub(super) type Answer = Response<Full<Bytes>>;

/// The switches, and what each makes the foil do.
pub const SWITCHES: &[(&str, &str)] = &[
    ("miscounts", "adds one to every sum that klar itself computes"),
    ("no-csp", "sends no Content-Security-Policy"),
    ("loose-csp", "allows inline scripts in its Content-Security-Policy"),
    ("no-framing", "sends no X-Frame-Options"),
    ("no-nosniff", "sends no X-Content-Type-Options"),
    ("no-hsts", "sends no Strict-Transport-Security"),
    ("no-referrer-policy", "sends no Referrer-Policy"),
    ("old-tls", "takes up TLS 1.0 and 1.1"),
    ("wrong-name", "shows a certificate of another name"),
    ("certificate-ends-soon", "shows a certificate that ends in 10 days"),
    ("no-redirect", "serves plain HTTP instead of sending it to HTTPS"),
    ("no-permissions-policy", "sends no Permissions-Policy"),
    ("stack-trace", "shows a stack trace in its error pages"),
    ("500-without-database", "answers 500 with the error of the driver while the database is away"),
    ("hangs-without-database", "answers nothing while the database is away"),
    ("never-back", "goes on failing after the database is back"),
    ("silent-log", "writes no error to its log"),
    ("ready-lies", "says that it is ready while the database is away"),
    ("live-dies", "says that it is dead while the database is away"),
    ("dead-on-arrival", "answers 502 from the beginning"),
    ("nothing-runs", "has no instance that runs"),
    ("two-releases", "runs another release in each instance"),
    ("never-ready", "says that it is not ready"),
    ("one-instance", "runs one instance only"),
    ("drops-on-deploy", "answers 502 once a new release was shipped"),
    ("takes-broken", "takes a release that cannot start for good"),
    ("no-way-back", "stays where it is when it should roll back"),
    ("never-restarted", "does not come back after it was killed"),
    ("no-failover", "answers 502 after an instance was killed"),
    ("xss-text", "shows a search term in a page as it came"),
    ("xss-attribute", "holds a search term in an attribute without escaping quotes"),
    ("xss-script", "puts a search term into a script"),
    ("xss-stored", "shows notes in a page as they were written"),
    ("xss-drawn", "has a script that draws notes as HTML"),
    ("xss-fragment", "has a script that draws the fragment of its address as HTML"),
    ("xss-parameter", "has a script that draws a parameter of its address as HTML"),
    (
        "xss-form",
        "has a form whose text it shows as it was written, on the page that it sends the sender back to",
    ),
    ("any-origin", "takes writes that other sites send"),
    ("no-csrf-token", "takes writes without a token"),
    ("strict-csrf-token", "refuses writes with the right token too"),
    ("bare-cookie", "sets a cookie without SameSite, Secure and HttpOnly"),
    ("reads-of-others", "shows orders to whoever knows their number"),
    ("writes-of-others", "changes orders for whoever knows their number"),
    ("no-sign-in-needed", "serves orders to those who are not signed in"),
    ("users-for-all", "shows the list of users to ordinary users"),
    ("forged-tokens", "believes tokens that it never gave out"),
    ("believes-input", "takes bodies without looking at types, bounds and lengths"),
    ("crashes-on-types", "answers 500 when a text is a number"),
    ("crashes-on-bad-json", "answers 500 with a stack trace when a body is no JSON"),
    ("crashes-on-odd-days", "answers 500 when it is asked for a day that no calendar has"),
    ("spoiled-by-errors", "refuses every order once it had to refuse one"),
    ("wrong-schema", "describes its answers otherwise than they are"),
    ("wrong-example", "describes examples that it refuses"),
    ("broken-document", "serves a description with references that lead nowhere"),
    ("ignores-limit", "gives as many rows as it likes"),
    ("no-pages", "gives all rows at once"),
    ("shifting-pages", "counts pages from the newest row, so that new rows shift them"),
    ("wrong-total", "states a total that is one too many"),
    ("gap-in-pages", "leaves out a row between two pages"),
    ("ignores-fields", "gives all fields whatever was asked for"),
    ("plain-errors", "answers errors as plain text to everybody"),
    ("no-error-id", "answers errors without an id"),
    ("no-retry-after", "limits without saying for how long"),
    ("limits-everybody", "lets nobody sign in after somebody has guessed too often"),
    ("any-head", "takes heads of any size"),
    ("any-body", "takes bodies of any size"),
    ("sqli-error", "builds SQL from a path and shows what the database says of it"),
    ("sqli-boolean", "builds SQL from a search term"),
    ("sqli-time", "builds SQL from a field of a body"),
    ("sqli-union", "builds SQL from a search term, and shows whatever rows come back"),
    (
        "sqli-behind-waf",
        "builds SQL from a search term, and refuses what looks like an attack at first glance",
    ),
    ("plain-log", "writes its log as sentences"),
    ("log-without-level", "leaves the level out of its log lines"),
    ("leaky-log", "writes the headers of each request into its log"),
    ("log-without-trace", "leaves the trace id out of its log lines"),
    ("broken-metrics", "answers /metrics with what no collector can read"),
    ("needs-cache", "answers 500 while the cache is away"),
    ("never-back-cache", "goes on failing after the cache is back"),
    ("slow-health", "takes a fifth of a second to say how it is"),
    ("favourite-instance", "sends most requests to one of its instances"),
    ("connection-per-request", "opens a connection to its database for each request"),
    ("refuses-many", "answers 503 when more than fifty ask at once"),
    ("n-plus-one", "asks its database once for each row of a list"),
    ("select-star", "asks its database for all columns"),
    ("sql-by-hand", "writes what the visitor sent into its SQL"),
    ("no-correlation-id", "answers errors without an id"),
    ("no-immutable", "sends files with a hash in their name without `immutable`"),
    ("html-cached", "lets browsers keep its page for an hour"),
    ("no-304", "sends everything again, whatever If-None-Match says"),
    ("public-cookie", "marks an answer public that sets a cookie"),
    ("development", "was started in development mode"),
    ("debug", "was started with debug on"),
    ("public-order", "marks an order public that only its owner may see"),
    ("not-minified", "serves its sources with comments and indentation"),
    ("not-compressed", "compresses nothing"),
    ("old-images", "has its images as PNG only"),
    ("large-images", "has WebP images that are hardly smaller than the PNG"),
    ("no-dimensions", "does not state the sizes of its images"),
    ("missing-file", "does not find the style sheet of its page"),
    ("wrong-type", "serves its style sheet as HTML"),
    ("no-deep-links", "answers its first page only"),
    ("slow-paint", "takes 3 s for its style sheet"),
    ("layout-shift", "moves its page when the data come"),
    ("long-task", "keeps the processor busy for a second after it has painted"),
    ("heavy-entry", "has an entry script of half a megabyte"),
    ("one-script", "has all its code in one script"),
    ("eager-chunks", "fetches the scripts of all places at once"),
    ("eager-images", "fetches images at once that nobody sees yet"),
    ("no-service-worker", "registers no service worker"),
    ("no-precache", "has a service worker that keeps nothing beforehand"),
    ("not-offline", "has a service worker that answers nothing"),
    ("no-last-data", "has a service worker that forgets the data"),
    ("no-skeleton", "shows nothing until its data are there"),
    ("all-rows", "draws all rows of its long list that it has seen"),
    ("unreachable-rows", "ends its long list in the middle"),
    ("fetched-twice", "fetches each part of its long list twice"),
    ("rows-twice", "has rows of its long list in two parts"),
    ("no-boundary", "empties its page when a part of it fails"),
    ("dead-links", "follows no link after a part of its page has failed"),
    ("open-instance", "has an instance that listens on every address"),
    ("open-database", "has a database that listens on every address"),
    ("keeps-nothing", "asks its app anew for each image"),
    ("stampedes", "asks its app once for each of those who want the same image at the same time"),
    ("deaf-to-purge", "keeps what it was told to forget"),
    ("no-stale", "answers 502 for an old image while its app is away"),
    ("unwritten-class", "has written down for its pages only how long they are kept"),
    ("forgets-who-asks", "shows everybody the session of whoever asked first"),
    ("stale-session", "does not see that somebody has signed in"),
    ("slow-route", "takes a quarter of a second for its items"),
    ("closes-connections", "ends the connection after each answer"),
    ("busy", "keeps a processor core busy"),
    ("leaks", "takes a megabyte more each time somebody looks"),
    ("near-its-limit", "takes nearly all the memory that it may have"),
    ("never-renews", "shows the same certificate after it was to be renewed"),
    ("drops-on-renewal", "answers 502 once its certificate was to be renewed"),
    ("heavy-page", "has a page that fetches two megabytes"),
    ("no-firewall", "lets every attack through"),
    ("nervous-firewall", "refuses every tenth honest request as an attack"),
    ("torn-metrics", "is run by a klar whose own /metrics no collector can read"),
    ("blind-telemetry", "has no metrics of the machine"),
    ("deaf-to-stores", "has no metrics of its database"),
    ("no-durations", "does not measure how long its second route takes"),
    ("miscounts-requests", "counts every ninth request twice"),
    ("wrong-durations", "measures 0.9 s too much"),
    ("hides-errors", "counts every answer as a good one"),
    ("forgets-requests", "keeps no record of every ninth request"),
    ("nameless-records", "keeps records that do not say from where"),
    ("forgets-lines", "finds only eight of nine of the lines that were said"),
    ("nameless-lines", "does not know at which output a line was said"),
    ("forgets-on-restart", "finds no lines from before telemetry was killed"),
    ("never-rotates", "has one file for all lines"),
    ("keeps-plain-logs", "compresses no files of lines"),
    ("loses-at-the-turn", "loses the line that is said when a file is full"),
    ("keeps-all-logs", "removes no files of lines"),
    ("untraced-database", "has no spans of its statements"),
    ("orphan-spans", "has spans that hang under nothing"),
    ("refuses-otlp", "takes no OTLP"),
    ("counts-own-twice", "counts what it counts for itself twice"),
    ("old-gauges", "keeps the first value of each gauge of its own"),
    ("no-histograms", "has no buckets of histograms of its own"),
    ("mishears-statsd", "forgets what StatsD counted before"),
    ("counts-no-connections", "sees no connections to its database"),
    ("sees-no-slow-statements", "does not see how long statements take"),
    ("blind-to-latency", "has no series of how long its database works"),
    ("broken-dashboard", "has a dashboard that is not drawn"),
    ("empty-panel", "has a panel without data"),
    ("no-objectives", "has a dashboard of health without its objectives"),
    ("unseen-kill", "shows nothing when an instance was killed"),
    ("no-quantiles", "has a dashboard of performance without p95"),
    ("stale-dashboard", "shows no requests"),
    ("unseen-attacks", "shows no attacks"),
    ("unseen-guesses", "shows no wrong passwords"),
    ("unseen-limits", "shows nobody who was held up"),
    ("unknown-uptime", "does not know how long an instance has been up"),
    ("uncounted-restarts", "does not count how often an instance was started again"),
    ("never-backed-up", "has a database that nobody keeps"),
    ("old-backups", "has backups that are more than a day old"),
    ("empty-backup", "has a newest backup without a byte"),
    ("rotten-backup", "has backups with a bit that is wrong"),
    ("overlooks-rot", "does not find a bit that is wrong"),
    ("overlooks-loss", "does not find that all is gone"),
    ("never-verified", "has backups that nobody can read again"),
    ("other-rows", "has a backup with a row less than there was"),
    ("slow-restore", "takes three hours to restore"),
    ("fails-on-restored-data", "answers 500 once its database was restored"),
    ("restores-too-much", "restores rows from after the moment that was asked for"),
    ("restores-too-little", "restores a row less than there was"),
    ("lost-log", "has lost a piece of the log between its backups"),
    ("far-behind", "does not say how far its backups are"),
    ("second-beside-first", "has the second copy of its backups on the disk of the first"),
    ("second-lacks-pack", "has a second copy of its backups that is not whole"),
    ("second-can-go", "has a second copy of its backups that anybody can remove who takes over the machine"),
    ("second-rots", "has a second copy of its backups with a bit that is wrong"),
    ("old-files", "has kept its files for the last time more than a day ago"),
    ("rotten-files", "has kept files with a bit that is wrong"),
    ("keeps-few-days", "keeps its files and its database for three days"),
    ("loses-oldest-day", "cannot bring back the oldest day of its files and its database"),
    ("loses-seconds", "cannot bring back a second between two points"),
    ("keeps-all-days", "never removes what it has kept"),
    ("lacks-a-day", "has a day of which nothing was kept"),
    ("no-recovery-plan", "has no plan for when its machine is lost"),
    ("old-recovery-plan", "has a plan from before its settings changed"),
    ("nobody-to-call", "has a plan that names nobody"),
    ("made-up-command", "has a plan with a command that does not exist"),
    ("no-second-place", "has nothing to rebuild from when its machine is lost"),
    ("not-rebuilt", "cannot be rebuilt by the commands of its plan"),
    ("slow-rebuild", "takes three hours to rebuild"),
    ("loses-newest-rows", "loses the last hour when its machine is lost"),
    ("fails-when-rebuilt", "answers 500 when it was rebuilt"),
    ("plain-backup", "has a backup that everybody can read"),
    ("searches-nothing", "finds no text where it is"),
    ("key-in-repository", "keeps the key to its backups in them"),
    ("any-key-opens", "opens its backups with any key"),
    ("silent-firewall", "writes down nothing of what it refuses as an attack"),
];

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// Through the front door, over TLS.
    Front,
    /// Where visitors are sent to the front door.
    Plain,
    /// From the machine itself, past the front door.
    Inside,
}

/// The app: its faults, and where it is.
pub struct App {
    faults: BTreeSet<String>,
    https: SocketAddr,
    /// Where it listens behind its front door, and where its database does.
    pub(super) ports: [u16; 2],
    pub(super) state: State,
    shop: Shop,
}

/// What has happened to it.
#[derive(Default)]
pub(super) struct State {
    pub(super) database_away: Cell<bool>,
    pub(super) was_away: Cell<bool>,
    pub(super) cache_away: Cell<bool>,
    pub(super) cache_was_away: Cell<bool>,
    pub(super) schema_broken: Cell<bool>,
    /// Where its items are; without one it has those of its shop.
    pub(super) database: std::cell::OnceCell<tokio_postgres::Client>,
    pub(super) database_at: std::cell::OnceCell<String>,
    /// What keeps it a second time.
    pub(super) keeping: std::cell::OnceCell<super::keeping::Keeping>,
    /// Its database was replaced by a copy of itself.
    pub(super) restored: Cell<bool>,
    /// How many are asking now.
    pub(super) asking: Cell<u32>,
    /// The number of the first instance, counted up when it is killed.
    pub(super) number: Cell<i32>,
    pub(super) gone: Cell<bool>,
    pub(super) release: Cell<i32>,
    pub(super) shipped: Cell<u32>,
    pub(super) broken: Cell<bool>,
    /// What each of three instances was asked.
    pub(super) requests: Cell<[u64; 3]>,
    pub(super) log: RefCell<Vec<String>>,
    /// How often somebody has looked at what it takes of the machine.
    pub(super) looks: Cell<u64>,
    /// Whether no instance is there.
    pub(super) halted: Cell<bool>,
    pub(super) shelf: Shelf,
    pub(super) telemetry: Telemetry,
    pub(super) telemetry_was_killed: Cell<bool>,
    pub(super) output: Output,
    /// How often its certificate was renewed, and whether that was asked for.
    pub(super) certificate: Cell<usize>,
    pub(super) renewed: Cell<bool>,
    /// Honest requests that its firewall has seen.
    honest: Cell<u32>,
    /// What it said first to somebody who asked for a session.
    first_session: RefCell<Option<String>>,
}

impl App {
    pub(super) fn new(faults: BTreeSet<String>, https: SocketAddr, ports: [u16; 2]) -> Self {
        Self { faults, https, ports, state: State::default(), shop: Shop::new() }
    }

    pub(super) fn has(&self, fault: &str) -> bool {
        self.faults.contains(fault)
    }

    /// Whether its firewall stops a request, of which it is told what it is.
    fn is_stopped(&self, head: &Parts) -> bool {
        match head.headers.get(MARK).and_then(|mark| mark.to_str().ok()) {
            Some("attack") => !self.has("no-firewall"),
            Some("honest") if self.has("nervous-firewall") => {
                self.state.honest.set(self.state.honest.get() + 1);
                self.state.honest.get().is_multiple_of(10)
            }
            _ => false,
        }
    }

    pub(super) fn body_limit(&self) -> usize {
        if self.has("any-body") { 64 << 20 } else { 64 * 1024 }
    }

    pub(super) fn too_large(&self, head: &Parts) -> Answer {
        self.harden(self.error(head, StatusCode::PAYLOAD_TOO_LARGE, "Send less at a time."))
    }

    pub(super) async fn answer(&self, request: Request<Bytes>, via: Via) -> Answer {
        if via != Via::Front {
            return self.reply(request, via).await;
        }
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let began = std::time::Instant::now();
        let answer = self.reply(request, via).await;
        self.state.telemetry.note(self, &method, &path, answer, began.elapsed())
    }

    async fn reply(&self, request: Request<Bytes>, via: Via) -> Answer {
        let (head, body) = request.into_parts();
        if via == Via::Inside && head.uri.path() == "/metrics" {
            return self.metrics();
        }
        if via == Via::Plain && !self.has("no-redirect") {
            let to = format!("https://localhost:{}{}", self.https.port(), head.uri);
            return with(plain(StatusCode::PERMANENT_REDIRECT, "text/plain", ""), "location", &to);
        }
        self.note(&head);
        if self.has("fails-on-restored-data") && self.state.restored.get() {
            return self.error(&head, StatusCode::INTERNAL_SERVER_ERROR, "Try again.");
        }
        if self.has("slow-paint") && head.uri.path().ends_with(".css") {
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        }
        if self.is_stopped(&head) {
            let answer = self.error(&head, StatusCode::FORBIDDEN, "Ask for it in other words.");
            return self.harden(with(answer, "x-request-id", "stopped"));
        }
        if head.uri.path() == "/" && self.shop.refuses(self, &head, &body) {
            return self.harden(self.error(&head, StatusCode::FORBIDDEN, "Ask for it in other words."));
        }
        if let Some(answer) = shelf::halted(self, &head) {
            return answer;
        }
        if via == Via::Front
            && head.method == Method::GET
            && let Some(answer) = shelf::answer(self, &head).await
        {
            return self.harden(answer);
        }
        // Its front door serves these by itself.
        if !head.uri.path().starts_with("/assets/") {
            self.count();
        }
        if let Some(answer) = self.remembered(&head).await {
            return answer;
        }
        if self.has("drops-on-renewal") && self.state.renewed.get() && head.uri.path().starts_with("/api/") {
            return self.error(&head, StatusCode::BAD_GATEWAY, "Try again.");
        }
        if self.has("slow-route") && head.uri.path() == "/api/items" {
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        }
        if let Some(answer) = front::answer(self, &head) {
            return if via == Via::Plain { answer } else { self.harden(answer) };
        }
        let answer = match (&head.method, head.uri.path()) {
            (&Method::GET, "/livez" | "/readyz") if self.has("slow-health") => {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                plain(StatusCode::OK, "application/json", "{}")
            }
            (&Method::GET, "/livez") if self.has("live-dies") && self.is_without_database() => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "application/json", "{}")
            }
            (&Method::GET, "/livez") => plain(StatusCode::OK, "application/json", "{}"),
            (&Method::GET, "/readyz") => {
                let ready =
                    !self.has("never-ready") && (self.has("ready-lies") || !self.is_without_database());
                let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                plain(status, "application/json", "{}")
            }
            (_, "/api/items")
                if self.has("drops-on-deploy") && self.state.shipped.get() > 0 || self.state.broken.get() =>
            {
                self.error(&head, StatusCode::BAD_GATEWAY, "Try again.")
            }
            (_, "/api/items") if self.has("dead-on-arrival") => {
                self.error(&head, StatusCode::BAD_GATEWAY, "Try again.")
            }
            (_, "/api/items") if self.is_without_database() => self.without_database(&head).await,
            (_, "/api/items") if self.is_thrown_off() => {
                self.error(&head, StatusCode::INTERNAL_SERVER_ERROR, "Try again, or tell us the id.")
            }
            (_, "/api/items") if self.has("no-failover") && self.state.number.get() > 0 => {
                self.error(&head, StatusCode::BAD_GATEWAY, "Try again.")
            }
            (&Method::GET, path) if path.starts_with("/api/") && self.state.database.get().is_some() => {
                self.over_database(&head, &body).await
            }
            _ => match self.shop.answer(self, &head, &body).await {
                Some(answer) if !answer.headers().contains_key("cache-control") => {
                    with(answer, "cache-control", "no-cache")
                }
                Some(answer) => answer,
                None => {
                    self.error(&head, StatusCode::NOT_FOUND, "Check the address, or begin at the first page.")
                }
            },
        };
        if via == Via::Plain { answer } else { self.harden(answer) }
    }

    /// Whether its own code throws: over a table that is not there, or a cache that it cannot do without.
    fn is_thrown_off(&self) -> bool {
        let state = &self.state;
        state.schema_broken.get()
            || self.has("needs-cache") && state.cache_away.get()
            || self.has("never-back-cache") && state.cache_was_away.get() && !state.cache_away.get()
    }

    /// A session as a cache shows it that looks at the address alone.
    async fn remembered(&self, head: &Parts) -> Option<Answer> {
        let (mixes, stale) = (self.has("forgets-who-asks"), self.has("stale-session"));
        if head.uri.path() != "/api/session" || head.method != Method::GET || !(mixes || stale) {
            return None;
        }
        if stale && head.uri.query().is_none() {
            return Some(plain(StatusCode::OK, "application/json", "{\"user\":null}"));
        }
        if !mixes {
            return None;
        }
        let first = self.state.first_session.borrow().clone();
        if first.is_some() {
            return first.map(|first| plain(StatusCode::OK, "application/json", &first));
        }
        let answer = self.shop.answer(self, head, &Bytes::new()).await?;
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.ok()?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        // Nobody is nobody's content.
        if !text.contains("null") {
            *self.state.first_session.borrow_mut() = Some(text.clone());
        }
        Some(plain(StatusCode::OK, "application/json", &text))
    }

    /// As if each request went to one of three instances.
    pub(super) fn count(&self) {
        let mut requests = self.state.requests.get();
        let all: u64 = requests.iter().sum();
        let turn = if self.has("favourite-instance") && !all.is_multiple_of(4) { 0 } else { all % 3 };
        for (number, count) in (0..).zip(&mut requests) {
            *count += u64::from(number == turn);
        }
        self.state.requests.set(requests);
    }

    /// One line for each request.
    fn note(&self, head: &Parts) {
        /// A foil that is left running does not fill the memory.
        const LINES: usize = 10_000;
        let value = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let trace = value("traceparent").split('-').nth(1).unwrap_or_default().to_owned();
        let path = head.uri.path();
        let mut line = serde_json::json!({
            "ts": jiff::Timestamp::now().to_string(), "level": "info", "service": "foil", "trace_id": trace,
            "msg": "request", "method": head.method.as_str(), "path": path,
        });
        if let Some(fields) = line.as_object_mut() {
            if self.has("log-without-level") {
                fields.remove("level");
            }
            if self.has("log-without-trace") {
                fields.remove("trace_id");
            }
            if self.has("leaky-log") {
                fields.insert("headers".to_owned(), format!("{:?}", head.headers).into());
            }
        }
        let line = if self.has("plain-log") { format!("{} {path}", head.method) } else { line.to_string() };
        let mut log = self.state.log.borrow_mut();
        if log.len() < LINES {
            log.push(line);
        }
    }

    fn metrics(&self) -> Answer {
        let text = if self.has("broken-metrics") {
            "requests = 12\n"
        } else {
            "# TYPE requests counter\nrequests_total{route=\"/api/items\"} 12\n# EOF\n"
        };
        plain(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text)
    }

    /// The newest orders of a club, with its name.
    async fn items(&self, query: &str) -> Result<String, tokio_postgres::Error> {
        let Some(database) = self.state.database.get() else { return Ok("{\"items\":[]}".to_owned()) };
        if let (true, Some(url)) = (self.has("connection-per-request"), self.state.database_at.get()) {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
            tokio::task::spawn_local(async move {
                let _ = connection.await;
            });
            // One by one it is quick; in a rush they are all there at once.
            let hold = if self.state.asking.get() > 5 { 3 } else { 0 };
            client.simple_query(&format!("SELECT pg_sleep({hold})")).await?;
        }
        // Whatever number the visitor has sent.
        let numbers =
            query.split(|c: char| !c.is_ascii_digit()).filter(|digits| (1..10).contains(&digits.len()));
        let club: i64 =
            numbers.max_by_key(|digits| digits.len()).and_then(|digits| digits.parse().ok()).unwrap_or(7);
        let columns = if self.has("select-star") { "*" } else { "id, total" };
        let sql = |club: &str| {
            format!(
                "SELECT {columns} FROM orders WHERE club_id = {club} ORDER BY placed_at DESC, id DESC LIMIT 20"
            )
        };
        let count = if self.has("sql-by-hand") {
            database.simple_query(&sql(&club.to_string())).await?.len()
        } else {
            database.query(&sql("$1"), &[&club]).await?.len()
        };
        let name = "SELECT id, name FROM clubs WHERE id = $1";
        for _ in 0..if self.has("n-plus-one") { count } else { 0 } {
            database.query(name, &[&club]).await?;
        }
        Ok(format!("{{\"items\":{count}}}"))
    }

    fn is_without_database(&self) -> bool {
        self.state.database_away.get() || self.has("never-back") && self.state.was_away.get()
    }

    /// Whatever is read asks the database; where it is the items that are read, it gives them.
    async fn over_database(&self, head: &Parts, body: &Bytes) -> Answer {
        let asking = &self.state.asking;
        asking.set(asking.get() + 1);
        let items = self.items(head.uri.query().unwrap_or_default()).await;
        let is_many = asking.get() > 50;
        asking.set(asking.get().saturating_sub(1));
        match items {
            Ok(_) if is_many && self.has("refuses-many") => {
                self.error(head, StatusCode::SERVICE_UNAVAILABLE, "Try again in a moment.")
            }
            Ok(items) if head.uri.path() == "/api/items" => plain(StatusCode::OK, "application/json", &items),
            Ok(_) => match self.shop.answer(self, head, body).await {
                Some(answer) => answer,
                None => self.error(head, StatusCode::NOT_FOUND, "Check the address."),
            },
            Err(_) => self.error(head, StatusCode::INTERNAL_SERVER_ERROR, "Try again."),
        }
    }

    async fn without_database(&self, head: &Parts) -> Answer {
        if !self.has("silent-log") {
            let line =
                r#"{"level":"error","msg":"the database does not answer","trace_id":"0123","attempt":1}"#;
            self.state.log.borrow_mut().push(line.to_owned());
        }
        if self.has("hangs-without-database") {
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        }
        if self.has("500-without-database") {
            let said = "Error: connect ECONNREFUSED 127.0.0.1:5432 in SELECT * FROM items";
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", said);
        }
        with(self.error(head, StatusCode::SERVICE_UNAVAILABLE, "Try again in a moment."), "retry-after", "2")
    }

    pub(super) fn error(&self, head: &Parts, status: StatusCode, next: &str) -> Answer {
        let detail = if self.has("stack-trace") {
            "Error: ENOENT\\n    at open (/srv/app/server.js:10:7)\\n    at node:internal/main:5:1"
        } else {
            next
        };
        let wants_html = head
            .headers
            .get("accept")
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("text/html"));
        let title = status.canonical_reason().unwrap_or("Error");
        if self.has("plain-errors") {
            return plain(status, "text/plain", detail);
        }
        let nameless = self.has("no-error-id") || self.has("no-correlation-id");
        let (shown, instance) = if nameless {
            ("", "")
        } else {
            ("Error id: foil-1", ",\"instance\":\"foil-1\",\"request_id\":\"foil-1\"")
        };
        if wants_html {
            let page = format!(
                "<!doctype html><html lang=en><title>{title}</title><h1>{title}</h1><p>{detail}</p><p>{shown}</p></html>"
            );
            return plain(status, "text/html; charset=utf-8", &page);
        }
        let problem = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{},\"detail\":\"{detail}\"{instance}}}",
            status.as_u16()
        );
        plain(status, "application/problem+json", &problem)
    }

    /// What comes of an exception that nobody caught.
    pub(super) fn crash(&self) -> Answer {
        let text = "TypeError: Cannot read properties of undefined\n    at handle (/srv/app/server.js:10:7)\n    at node:internal/main:5:1";
        plain(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", text)
    }

    fn harden(&self, mut answer: Answer) -> Answer {
        let policy =
            if self.has("loose-csp") { "default-src 'self' 'unsafe-inline'" } else { "default-src 'self'" };
        for (switch, name, value) in [
            ("no-csp", "content-security-policy", policy),
            ("no-framing", "x-frame-options", "DENY"),
            ("no-nosniff", "x-content-type-options", "nosniff"),
            ("no-hsts", "strict-transport-security", "max-age=31536000"),
            ("no-referrer-policy", "referrer-policy", "strict-origin-when-cross-origin"),
            ("no-permissions-policy", "permissions-policy", "camera=(), microphone=(), geolocation=()"),
        ] {
            if !self.has(switch) {
                answer = with(answer, name, value);
            }
        }
        if self.has("closes-connections") {
            answer = with(answer, "connection", "close");
        }
        answer
    }
}

pub(super) fn plain(status: StatusCode, kind: &str, body: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *answer.status_mut() = status;
    with(answer, "content-type", kind)
}

pub(super) fn with(mut answer: Answer, name: &str, value: &str) -> Answer {
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
        answer.headers_mut().insert(name, value);
    }
    answer
}
