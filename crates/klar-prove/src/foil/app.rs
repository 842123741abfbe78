//! What the foil answers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::front;

pub(super) type Answer = Response<Full<Bytes>>;

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
    ("no-immutable", "sends files with a hash in their name without `immutable`"),
    ("html-cached", "lets browsers keep its page for an hour"),
    ("no-304", "sends everything again, whatever If-None-Match says"),
    ("public-cookie", "marks an answer public that sets a cookie"),
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
];

/// The app: its faults, and where it is.
pub struct App {
    faults: BTreeSet<String>,
    https: SocketAddr,
    /// Where its instance and its database listen.
    pub(super) ports: [u16; 2],
    pub(super) state: State,
}

/// What has happened to it.
#[derive(Default)]
pub(super) struct State {
    pub(super) database_away: Cell<bool>,
    pub(super) was_away: Cell<bool>,
    /// The number of the first instance, counted up when it is killed.
    pub(super) number: Cell<i32>,
    pub(super) gone: Cell<bool>,
    pub(super) log: RefCell<Vec<String>>,
}

impl App {
    pub(super) fn new(faults: BTreeSet<String>, https: SocketAddr, ports: [u16; 2]) -> Self {
        Self { faults, https, ports, state: State::default() }
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
        if !tls && !self.has("no-redirect") {
            let to = format!("https://localhost:{}{}", self.https.port(), head.uri);
            return with(plain(StatusCode::PERMANENT_REDIRECT, "text/plain", ""), "location", &to);
        }
        if self.has("slow-paint") && head.uri.path().ends_with(".css") {
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        }
        if let Some(answer) = front::answer(self, &head) {
            return if tls { self.harden(answer) } else { answer };
        }
        let answer = match (&head.method, head.uri.path()) {
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
            (_, "/api/items") if self.has("no-failover") && self.state.number.get() > 0 => {
                self.error(&head, StatusCode::BAD_GATEWAY, "Try again.")
            }
            (&Method::GET | &Method::HEAD, "/api/items") => {
                plain(StatusCode::OK, "application/json", "{\"items\":[]}")
            }
            _ => self.error(&head, StatusCode::NOT_FOUND, "Check the address, or begin at the first page."),
        };
        if tls { self.harden(answer) } else { answer }
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
            let page = format!(
                "<!doctype html><html lang=en><title>{title}</title><h1>{title}</h1><p>{detail}</p><p>Error id: foil-1</p></html>"
            );
            return plain(status, "text/html; charset=utf-8", &page);
        }
        let problem = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{},\"detail\":\"{detail}\",\"instance\":\"foil-1\"}}",
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

fn plain(status: StatusCode, kind: &str, body: &str) -> Answer {
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
