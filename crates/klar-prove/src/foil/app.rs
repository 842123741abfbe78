//! What the foil answers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

type Answer = Response<Full<Bytes>>;

/// The switches, and what each makes the foil do.
pub const SWITCHES: &[(&str, &str)] = &[
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
    ("never-restarted", "does not come back after it was killed"),
    ("no-failover", "answers 502 after an instance was killed"),
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
];

/// The app: its faults, and where it is.
pub struct App {
    faults: BTreeSet<String>,
    https: SocketAddr,
    pub(super) state: State,
}

/// What has happened to it.
#[derive(Default)]
pub(super) struct State {
    pub(super) database_away: Cell<bool>,
    pub(super) was_away: Cell<bool>,
    pub(super) cache_away: Cell<bool>,
    pub(super) cache_was_away: Cell<bool>,
    pub(super) schema_broken: Cell<bool>,
    /// Where its items are; without one it has none.
    pub(super) database: std::cell::OnceCell<tokio_postgres::Client>,
    pub(super) database_at: std::cell::OnceCell<String>,
    /// How many are asking now.
    pub(super) asking: Cell<u32>,
    /// Where it speaks plain HTTP: what is for those on the machine is there.
    pub(super) http: Cell<Option<SocketAddr>>,
    /// The number of the first instance, counted up when it is killed.
    pub(super) number: Cell<i32>,
    pub(super) gone: Cell<bool>,
    /// What each of three instances was asked.
    pub(super) requests: Cell<[u64; 3]>,
    pub(super) log: RefCell<Vec<String>>,
}

impl App {
    pub(super) fn new(faults: BTreeSet<String>, https: SocketAddr) -> Self {
        Self { faults, https, state: State::default() }
    }

    pub(super) fn has(&self, fault: &str) -> bool {
        self.faults.contains(fault)
    }

    pub(super) fn body_limit(&self) -> usize {
        64 * 1024
    }

    pub(super) fn too_large(&self, head: &Parts) -> Answer {
        self.harden(self.error(head, StatusCode::PAYLOAD_TOO_LARGE, "Send less at a time."))
    }

    pub(super) async fn answer(&self, request: Request<Bytes>, _peer: SocketAddr, tls: bool) -> Answer {
        let (head, _body) = request.into_parts();
        if !tls && head.uri.path() == "/metrics" {
            return self.metrics();
        }
        if !tls && !self.has("no-redirect") {
            let to = format!("https://localhost:{}{}", self.https.port(), head.uri);
            return with(plain(StatusCode::PERMANENT_REDIRECT, "text/plain", ""), "location", &to);
        }
        self.note(&head);
        self.count();
        let answer = match (&head.method, head.uri.path()) {
            (&Method::GET | &Method::HEAD, "/") => plain(StatusCode::OK, "text/html; charset=utf-8", PAGE),
            (&Method::GET | &Method::HEAD, "/assets/app-0123456789abcdef.js") => {
                plain(StatusCode::OK, "text/javascript", "document.title = document.title;\n")
            }
            (&Method::GET, "/livez" | "/readyz") if self.has("slow-health") => {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                plain(StatusCode::OK, "application/json", "{}")
            }
            (&Method::GET, "/livez") if self.has("live-dies") && self.is_without_database() => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "application/json", "{}")
            }
            (&Method::GET, "/livez") => plain(StatusCode::OK, "application/json", "{}"),
            (&Method::GET, "/readyz") => {
                let ready = self.has("ready-lies") || !self.is_without_database();
                let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                plain(status, "application/json", "{}")
            }
            (_, "/api/items") if self.is_without_database() => self.without_database(&head).await,
            (_, "/api/items") if self.is_thrown_off() => {
                self.error(&head, StatusCode::INTERNAL_SERVER_ERROR, "Try again, or tell us the id.")
            }
            (_, "/api/items") if self.has("no-failover") && self.state.number.get() > 0 => {
                self.error(&head, StatusCode::BAD_GATEWAY, "Try again.")
            }
            (&Method::GET | &Method::HEAD, "/api/items") if self.state.database.get().is_some() => {
                let asking = &self.state.asking;
                asking.set(asking.get() + 1);
                let items = self.items(head.uri.query().unwrap_or_default()).await;
                let is_many = asking.get() > 50;
                asking.set(asking.get().saturating_sub(1));
                match items {
                    Ok(_) if is_many && self.has("refuses-many") => {
                        self.error(&head, StatusCode::SERVICE_UNAVAILABLE, "Try again in a moment.")
                    }
                    Ok(items) => plain(StatusCode::OK, "application/json", &items),
                    Err(_) => self.error(&head, StatusCode::INTERNAL_SERVER_ERROR, "Try again."),
                }
            }
            (&Method::GET | &Method::HEAD, "/api/items") => {
                plain(StatusCode::OK, "application/json", "{\"items\":[]}")
            }
            _ => self.error(&head, StatusCode::NOT_FOUND, "Check the address, or begin at the first page."),
        };
        if tls { self.harden(answer) } else { answer }
    }

    /// Whether its own code throws: over a table that is not there, or a cache that it cannot do without.
    fn is_thrown_off(&self) -> bool {
        let state = &self.state;
        state.schema_broken.get()
            || self.has("needs-cache") && state.cache_away.get()
            || self.has("never-back-cache") && state.cache_was_away.get() && !state.cache_away.get()
    }

    /// As if each request went to one of three instances.
    fn count(&self) {
        let mut requests = self.state.requests.get();
        let all: u64 = requests.iter().sum();
        let turn = if self.has("favourite-instance") && all % 4 != 0 { 0 } else { all % 3 };
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
        let club = query.strip_prefix("club=").unwrap_or("7").chars().filter(char::is_ascii_digit).take(9);
        let club: i64 = club.collect::<String>().parse().unwrap_or(7);
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

    fn metrics(&self) -> Answer {
        let text = if self.has("broken-metrics") {
            "requests = 12 in all\n"
        } else {
            "# TYPE requests counter\nrequests_total{route=\"/api/items\"} 12\n# EOF\n"
        };
        plain(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text)
    }

    fn is_without_database(&self) -> bool {
        self.state.database_away.get() || self.has("never-back") && self.state.was_away.get()
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

    fn error(&self, head: &Parts, status: StatusCode, next: &str) -> Answer {
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
        if wants_html {
            let id = if self.has("no-correlation-id") { "" } else { "<p>Error id: foil-1</p>" };
            let page = format!(
                "<!doctype html><html lang=en><title>{title}</title><h1>{title}</h1><p>{detail}</p>{id}</html>"
            );
            return plain(status, "text/html; charset=utf-8", &page);
        }
        let id = if self.has("no-correlation-id") { "" } else { ",\"request_id\":\"foil-1\"" };
        let problem = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{},\"detail\":\"{detail}\"{id}}}",
            status.as_u16()
        );
        plain(status, "application/problem+json", &problem)
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
        answer
    }
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Foil</title><script src="/assets/app-0123456789abcdef.js" defer></script></head>
<body><main><h1>Foil</h1><p><a href="/api/items">Items</a> <a href="/api/items?club=7">Of a club</a></p></main></body>
</html>
"#;

fn plain(status: StatusCode, kind: &str, body: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *answer.status_mut() = status;
    with(answer, "content-type", kind)
}

fn with(mut answer: Answer, name: &str, value: &str) -> Answer {
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
        answer.headers_mut().insert(name, value);
    }
    answer
}
