//! What the foil answers.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::shop::Shop;

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
    ("stack-trace", "shows a stack trace in its error pages"),
    ("xss-text", "shows a search term in a page as it came"),
    ("xss-attribute", "holds a search term in an attribute without escaping quotes"),
    ("xss-script", "puts a search term into a script"),
    ("xss-stored", "shows notes in a page as they were written"),
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
];

/// The app: its faults, and where it is.
pub struct App {
    faults: BTreeSet<String>,
    https: SocketAddr,
    shop: Shop,
}

impl App {
    pub(super) fn new(faults: BTreeSet<String>, https: SocketAddr) -> Self {
        Self { faults, https, shop: Shop::new() }
    }

    pub(super) fn has(&self, fault: &str) -> bool {
        self.faults.contains(fault)
    }

    pub(super) fn body_limit(&self) -> usize {
        if self.has("any-body") { 64 << 20 } else { 64 * 1024 }
    }

    pub(super) fn too_large(&self, head: &Parts) -> Answer {
        self.harden(self.error(head, StatusCode::PAYLOAD_TOO_LARGE, "Send less at a time."))
    }

    pub(super) async fn answer(&self, request: Request<Bytes>, _peer: SocketAddr, tls: bool) -> Answer {
        let (head, body) = request.into_parts();
        if !tls && !self.has("no-redirect") {
            let to = format!("https://localhost:{}{}", self.https.port(), head.uri);
            return with(plain(StatusCode::PERMANENT_REDIRECT, "text/plain", ""), "location", &to);
        }
        let answer = match (&head.method, head.uri.path()) {
            (_, "/") if self.shop.refuses(self, &head, &body) => {
                self.error(&head, StatusCode::FORBIDDEN, "Ask for it in other words.")
            }
            (&Method::GET | &Method::HEAD, "/") => plain(StatusCode::OK, "text/html; charset=utf-8", PAGE),
            (&Method::GET | &Method::HEAD, "/assets/app-0123456789abcdef.js") => {
                plain(StatusCode::OK, "text/javascript", "document.title = document.title;\n")
            }
            _ => match self.shop.answer(self, &head, &body).await {
                Some(answer) => answer,
                None => {
                    self.error(&head, StatusCode::NOT_FOUND, "Check the address, or begin at the first page.")
                }
            },
        };
        if tls { self.harden(answer) } else { answer }
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
        let (shown, instance) =
            if self.has("no-error-id") { ("", "") } else { ("Error id: foil-1", ",\"instance\":\"foil-1\"") };
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
        answer
    }
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Foil</title><script src="/assets/app-0123456789abcdef.js" defer></script></head>
<body><main><h1>Foil</h1><p><a href="/api/items">Items</a> <a href="/board">Board</a> <a href="/search?q=red">Red</a></p></main></body>
</html>
"#;

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
