//! One request, from its head to the answer on its way out.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Body;
use klar_base::ReleaseId;
use klar_base::signal::{DecidedBy, ImageOutcome};
use klar_base::upstreams::WafMode;

use tokio::sync::watch;

use crate::answer::{Answer, OutBody, Source};
use crate::cache;
use crate::compress::compress;
use crate::fields::Fields;
use crate::files;
use crate::firewall::{self, Inspection};
use crate::forward::{Failure, Road};
use crate::front::{Peer, Visitor};
use crate::guard::{HeadNote, Heads};
use crate::headers::{self, Address};
use crate::http1::alarm::Alarm;
use crate::http1::body::VisitorBody;
use crate::http1::outbound::Outbound;
use crate::http1::{self, Said, Service, Way};
use crate::images::{self, Images};
use crate::kept::Shelf;
use crate::lane::{Handed, Underway};
use crate::mutual_tls::Subject;
use crate::page::{self, Reason};
use crate::pool::Pool;
use crate::story::{Draft, Story};
use crate::table::{Destination, RouteTable, Shared, SiteTable};

/// A connection, as its requests see it.
#[derive(Debug)]
pub struct Visit {
    pub shared: Arc<Shared>,
    pub pool: Rc<Pool>,
    pub heads: Heads,
    /// Its answers are written by the codec of `http1`, which takes lines that are written already.
    pub codec: bool,
    pub peer: Peer,
    /// Whether connections should go elsewhere.
    pub drain: watch::Receiver<bool>,
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// A host that nobody has named.
pub const NO_SITE: Reason = Reason::new(StatusCode::NOT_FOUND, "no app answers to this host name");
/// A connection may ask for any host; this one is for others (RFC 9110 section 15.5.20).
const NOT_OVER_HTTP3: Reason = Reason::new(
    StatusCode::MISDIRECTED_REQUEST,
    "this host is not served over HTTP/3; a browser asks again over HTTP/2",
);

impl Visit {
    /// Answers a request of which `head` is known.
    pub async fn answer_to(&self, head: HeadNote, request: Request<VisitorBody>) -> Response<OutBody> {
        let answering = self.heads.answering();
        let is_http2 = request.version() == Version::HTTP_2;
        let is_http3 = request.version() == Version::HTTP_3;
        let mut visitor = self.peer.visitor();
        let mut story = Story::begin(self.shared.clone(), head.begun, visitor);
        if let Some(handed) = request.extensions().get::<Handed>() {
            story.go_on(handed.time_unix_ms, handed.id);
        }
        if is_http2 {
            story.record.protocol = "h2";
        } else if is_http3 {
            story.record.protocol = "h3";
        }
        let asked = page::Asked::of(request.headers());
        let method = request.method().clone();
        let mut found = None;
        let mut host = Arc::default();

        let answer = match head.refusal {
            Some(refusal) => Err(refused(Reason::from(refusal))),
            None => {
                host = host_of(&request);
                note(&mut story.record, &request, &host);
                let site = self.shared.table.load().site(&host).cloned();
                match site {
                    None => Err(refused(NO_SITE)),
                    Some(site) => {
                        visitor = self.peer.visitor_of(&site.front, request.headers());
                        story.tell_visitor(visitor);
                        story.record.site = Some(site.clone());
                        story.totals = Some(site.totals.clone());
                        let site = &*found.insert(site);
                        if is_http3 && site.http3.is_none() {
                            Err(refused(NOT_OVER_HTTP3))
                        } else {
                            self.route(site, head, visitor, request, &host, &mut story).await
                        }
                    }
                }
            }
        };
        let (mut answer, must_close) = match answer {
            Ok(answer) => (answer, false),
            Err(failure) => {
                story.record.decided_by = failure.decided_by;
                story.record.error = Some(failure.error);
                let reason = failure.reason;
                // Its body may still be on its way.
                let must_close = head.refusal.is_some() || may_have_body(reason.status);
                (page::answer(reason, &asked, story.record.request_id.as_str()), must_close)
            }
        };
        let is_tunnel = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        if is_http2 && head.upgrade {
            if is_tunnel {
                opened(&mut answer);
            } else if answer.status().is_success() {
                // A visitor would take this for the tunnel (RFC 8441 section 5).
                let detail = "what answers here does not speak WebSocket";
                story.record.decided_by = DecidedBy::Refused;
                story.record.error = Some(detail.into());
                let reason = Reason::new(StatusCode::NOT_IMPLEMENTED, detail);
                answer = page::answer(reason, &asked, story.record.request_id.as_str());
            }
        }
        story.record.status = answer.status().as_u16();
        let mut lines = None;
        if self.codec && !is_tunnel {
            lines = match (answer.body(), &found) {
                (Source::Kept { lines, .. }, _) => Some(lines.clone()),
                (_, Some(site)) if !headers::says_own(answer.headers()) => {
                    Some(site.protection(&host, visitor.https).clone())
                }
                _ => None,
            };
        }
        let out = answer.headers_mut();
        if !is_tunnel {
            if lines.is_none() {
                let policy = found.as_ref().and_then(|site| site.csp.as_ref());
                headers::protect(out, policy, &host, visitor.https);
            }
            if let Some(http3) = found.as_ref().and_then(|site| site.http3.as_ref())
                && !is_http3
                && self.may_tell_of_http3(visitor)
                && !out.contains_key(header::ALT_SVC)
            {
                out.insert(header::ALT_SVC, http3.clone());
            }
            // An idle connection must not be closed to be drained: the visitor's next request may be on its way. It is
            // the answer to that one which says that no other is read here (RFC 9112 section 9.6).
            let must_close = must_close || head.upgrade || *self.drain.borrow();
            if must_close && !is_http2 && !is_http3 {
                out.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        if lines.is_none()
            && let Ok(id) = HeaderValue::from_str(story.record.request_id.as_str())
        {
            out.insert(headers::REQUEST_ID, id);
        }
        let status = answer.status();
        let bodiless = method == Method::HEAD
            || is_tunnel
            || status == StatusCode::NOT_MODIFIED
            || status == StatusCode::NO_CONTENT;
        if method == Method::HEAD
            && !answer.headers().contains_key(header::CONTENT_LENGTH)
            && let Source::Full(bytes) = answer.body()
        {
            let length = HeaderValue::from(bytes.len());
            answer.headers_mut().insert(header::CONTENT_LENGTH, length);
        }
        answer.map(|source| OutBody::new(source, story, answering, bodiless).with_lines(lines))
    }

    /// Whether a visitor reaches by datagrams what it reaches now: not where somebody stands in between.
    pub fn may_tell_of_http3(&self, visitor: Visitor) -> bool {
        let near = self.peer.tls
            && self.peer.address == self.peer.neighbour
            && visitor.address == self.peer.neighbour;
        near && self.shared.serves_http3.load(Ordering::Relaxed)
    }

    /// Whether a host leads to the same app.
    fn is_own(&self, site: &Arc<SiteTable>, host: &str) -> bool {
        self.shared.table.load().site(host).is_some_and(|other| Arc::ptr_eq(other, site))
    }

    /// Answers a request to a site.
    async fn route(
        &self,
        site: &Arc<SiteTable>,
        head: HeadNote,
        visitor: Visitor,
        mut request: Request<VisitorBody>,
        host: &str,
        story: &mut Story,
    ) -> Result<Answer, Failure> {
        let decided = self.decide(site, head.length, &Saying::of(&request), host, |route| {
            story.record.route = Some(route.pattern.clone());
            story.route = Some(route.totals.clone());
        });
        let route = match decided? {
            Decided::Answer(answer) => return Ok(answer),
            Decided::Route(route, subject) => {
                if let Some(subject) = subject {
                    request.extensions_mut().insert(subject);
                }
                route
            }
        };
        self.inspect(site, route, visitor, &request, story)?;
        match &route.target {
            Destination::Static { folder, prepared, release, spa, shelf } => {
                let source = (&**folder, prepared.as_deref(), release, *spa);
                let asked = images::Asked::of(route, &request, host);
                if let Some(asked) = &asked {
                    let read = |plain: &Request<()>| from_folder(route, source, shelf, plain);
                    // What few requests wait for is kept elsewhere than what all of them need.
                    let given = Box::pin(self.shared.images.of_folder(asked, site, read, story)).await;
                    if let Some(answer) = given {
                        return Ok(answer);
                    }
                }
                let answer = from_folder(route, source, shelf, &request).map_err(refused)?;
                let answer = compress(answer, request.method(), request.headers());
                Ok(match story.record.image {
                    Some(ImageOutcome::Later) => images::for_now(images::varying(answer)),
                    _ if route.images.is_some() => images::varying(answer),
                    _ => answer,
                })
            }
            Destination::Service(service) => {
                let road = Road {
                    shared: self.shared.clone(),
                    pool: self.pool.clone(),
                    site: site.clone(),
                    https: visitor.https,
                    upgrade: head.upgrade,
                    // What is made of an answer needs its headers as headers.
                    codec: self.codec && route.images.is_none(),
                    shared_connection: matches!(request.version(), Version::HTTP_2 | Version::HTTP_3)
                        .then(|| self.heads.clone()),
                };
                story.record.decided_by = DecidedBy::App;
                let asked = images::Asked::of(route, &request, host);
                Images::widen(asked.as_ref(), &mut request);
                let answer = cache::answer(&road, route, service, request, host, story).await?;
                Ok(match &asked {
                    Some(asked) => Box::pin(self.shared.images.of_app(asked, site, answer, story)).await,
                    None if route.images.is_some() => images::varying(answer),
                    None => answer,
                })
            }
        }
    }

    /// Has the firewall judge the head of a request, and the body where none is to come that it reads.
    ///
    /// # Errors
    /// How the request is refused.
    fn inspect(
        &self,
        site: &SiteTable,
        route: &RouteTable,
        visitor: Visitor,
        request: &Request<VisitorBody>,
        story: &mut Story,
    ) -> Result<(), Failure> {
        let Some(rules) = site.rules.as_ref().filter(|_| route.waf != WafMode::Off) else { return Ok(()) };
        if self.shared.table.load().is_check(request.headers()) {
            return Ok(());
        }
        let headers = firewall::lines(request.headers());
        let address = Address::of(visitor.address.to_canonical());
        let asking = firewall::Asking {
            method: request.method().as_str(),
            target: request.uri().path_and_query().map_or("/", PathAndQuery::as_str),
            protocol: firewall::protocol(request.version()),
            remote: address.as_str(),
            id: story.record.request_id.as_str(),
            has_body: !request.body().is_end_stream(),
        };
        let (mut inspection, mut blocked) = Inspection::begin(rules, route.waf, asking, &headers);
        let has_body = asking.has_body && route.service().is_some();
        let length = request.body().size_hint().exact();
        let looked_at =
            has_body.then(|| inspection.look(headers::media_type(request.headers()), length)).flatten();
        if blocked.is_none() && looked_at.is_none() {
            blocked = inspection.body(b"", true);
        }
        story.inspection = Some(inspection);
        blocked.map_or(Ok(()), |blocked| Err(blocked.into()))
    }

    /// Decides what answers a request to `site`, with a head of so many bytes. Changes nothing, so that it can be asked
    /// also of a request that nobody makes. `found` is told the route, as soon as there is one.
    ///
    /// # Errors
    /// How the request is refused.
    pub fn decide<'a, F: Fields>(
        &self,
        site: &'a Arc<SiteTable>,
        head_length: usize,
        saying: &Saying<'_, F>,
        host: &str,
        found: impl FnOnce(&'a RouteTable),
    ) -> Result<Decided<'a>, Failure> {
        if !self.peer.tls {
            let table = self.shared.table.load();
            if let Some(text) = table.challenges.text(host, saying.path) {
                return Ok(Decided::Answer(proof(text)));
            }
            if !self.peer.is_served(&site.front) {
                let https = to_https(host, table.https_port, saying.target);
                return Ok(Decided::Answer(https));
            }
        }
        // The visitor may have named another app in the handshake, with wider limits.
        if head_length > site.limits.header_bytes {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Err(refused(Reason::new(status, "the head of the request is too large")));
        }
        let path = saying.path;
        if is_dangerous(path) {
            return Err(refused(Reason::new(
                StatusCode::BAD_REQUEST,
                "the path climbs, or hides what it means",
            )));
        }
        let nothing = || refused(Reason::new(StatusCode::NOT_FOUND, "no route leads here"));
        let route = site.route(path).ok_or_else(nothing)?;
        found(route);
        let mut subject = None;
        if let Some(authorities) = &route.clients {
            let shown = self.peer.certificate.as_ref().filter(|shown| shown.is_of(authorities));
            let Some(shown) = shown else {
                let detail =
                    "this is for visitors with a certificate of certain authorities, and none was shown";
                return Err(refused(Reason::certificate(detail)));
            };
            subject = shown.subject();
        }
        if saying.body > route.body_bytes {
            let reason = "the body of the request is larger than this route takes";
            return Err(refused(Reason::new(StatusCode::PAYLOAD_TOO_LARGE, reason)));
        }
        if !route.cross_site
            && writes(saying.method)
            && let Some(origin) = foreign_origin(saying.headers, host)
            && !self.is_own(site, &origin)
        {
            return Err(refused(Reason::new(
                StatusCode::FORBIDDEN,
                "a page of another site may not write here with this visitor's cookies",
            )));
        }
        Ok(Decided::Route(route, subject))
    }
}

/// What is decided by.
#[derive(Debug)]
pub struct Saying<'a, F> {
    pub method: &'a Method,
    pub path: &'a str,
    /// The path with the query.
    pub target: &'a str,
    pub headers: &'a F,
    /// The body has so many bytes at least.
    pub body: u64,
}

impl<'a> Saying<'a, HeaderMap> {
    /// What a request says.
    pub fn of<B: Body>(request: &'a Request<B>) -> Self {
        let uri = request.uri();
        Self {
            method: request.method(),
            path: uri.path(),
            target: uri.path_and_query().map_or("/", PathAndQuery::as_str),
            headers: request.headers(),
            body: request.body().size_hint().lower(),
        }
    }
}

/// What answers a request.
#[derive(Debug)]
pub enum Decided<'a> {
    /// The edge, with this.
    Answer(Answer),
    /// What this route leads to. With the verified subject of the visitor, where the route wants one that has a name.
    Route(&'a RouteTable, Option<Subject>),
}

/// Answers from the folder that `route` leads to, with what was made of it, or from what `shelf` keeps of it.
///
/// # Errors
/// What to say instead.
pub fn from_folder<B>(
    route: &RouteTable,
    (folder, prepared, release, spa): (&OwnedFd, Option<&OwnedFd>, &ReleaseId, bool),
    shelf: &Shelf,
    request: &Request<B>,
) -> Result<Answer, Reason> {
    let below = route.pattern.strip_suffix("/*").unwrap_or_default();
    files::Folder { folder, prepared, release, spa, below, shelf }.answer(request)
}

impl Service for Visit {
    type Body = OutBody;
    type Waiting = Underway;

    fn set_out(&self, cx: &mut Context<'_>, said: &Said<'_, '_, '_>, out: &mut Outbound) -> Way<Underway> {
        self.set_out_straight(cx, said, out).unwrap_or(Way::General)
    }

    fn go_on(
        &self,
        cx: &mut Context<'_>,
        head: &[u8],
        waiting: &mut Underway,
        asked: http1::request::Asked,
        alarm: &mut Alarm,
        out: &mut Outbound,
    ) -> Poll<Option<bool>> {
        self.go_on_straight(cx, head, waiting, asked, alarm, out)
    }

    fn hand_over(&self, waiting: Underway, request: &mut Request<()>) {
        self.hand_over_straight(waiting, request);
    }

    fn answer(
        &self,
        note: HeadNote,
        request: Request<VisitorBody>,
    ) -> impl Future<Output = Response<OutBody>> {
        self.answer_to(note, request)
    }

    fn write_lines(body: &OutBody, out: &mut Vec<u8>) {
        body.write_lines(out);
    }
}

/// Makes the answer that opens a WebSocket the one that HTTP/2 has for it (RFC 8441 section 5).
fn opened(answer: &mut Answer) {
    *answer.status_mut() = StatusCode::OK;
    let headers = answer.headers_mut();
    [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT]
        .iter()
        .for_each(|name| drop(headers.remove(name)));
}

/// Methods that change something.
pub fn writes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// The host of the page that has the visitor's browser send this, cookies and all, if it is not the host that is asked;
/// empty where the browser says only that it is another site (Fetch Metadata; RFC 6454, section 7).
fn foreign_origin(headers: &impl Fields, host: &str) -> Option<String> {
    if !headers.has(&header::COOKIE) {
        return None;
    }
    let site = headers.text(&SEC_FETCH_SITE);
    if matches!(site, Some("same-origin" | "none")) {
        return None;
    }
    let origin = match headers.text(&header::ORIGIN) {
        Some(origin) => host_in(origin.split_once("://").map_or("", |(_, rest)| rest)),
        // Not a browser, or one that says it is the same site.
        None => return (site == Some("cross-site")).then(String::new),
    };
    (origin != host).then_some(origin)
}

fn refused(reason: Reason) -> Failure {
    Failure { reason, decided_by: DecidedBy::Refused, error: reason.detail.into() }
}

/// Statuses after which the rest of a request's body may still be coming.
fn may_have_body(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 403 | 408 | 413)
}

fn host_of(request: &Request<VisitorBody>) -> Arc<str> {
    let said = request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Most are as they should be.
    let is_plain = said.bytes().all(|byte| !byte.is_ascii_uppercase() && byte != b':');
    if is_plain { said.into() } else { host_in(said).into() }
}

/// A host without its port, in small letters.
pub fn host_in(authority: &str) -> String {
    let name = match authority.rfind(']') {
        Some(end) => &authority[..=end],
        None => authority.split(':').next().unwrap_or_default(),
    };
    name.to_ascii_lowercase()
}

fn note(record: &mut Draft, request: &Request<VisitorBody>, host: &Arc<str>) {
    record.method = Some(request.method().clone());
    record.host = host.clone();
    record.target = request.uri().path_and_query().cloned();
    record.user_agent = request.headers().get(header::USER_AGENT).cloned();
}

/// What a certificate authority came for (RFC 8555, section 8.3).
fn proof(text: &str) -> Answer {
    let mut answer = Response::new(Source::Full(text.to_owned().into()));
    let kind = HeaderValue::from_static("application/octet-stream");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn to_https(host: &str, port: u16, path: &str) -> Answer {
    let target = match port {
        443 => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    };
    let mut answer = Response::new(Source::empty());
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Ok(target) = HeaderValue::try_from(target) {
        answer.headers_mut().insert(header::LOCATION, target);
    }
    answer
}

/// Whether two programs could disagree on where a path leads: it has `.` or `..` for a part, plain or escaped, an
/// escaped slash beside one, a backslash, or a zero byte.
fn is_dangerous(path: &str) -> bool {
    let bytes = path.as_bytes();
    let is_plain = !bytes.iter().any(|byte| matches!(byte, b'%' | b'\\'));
    if is_plain && !bytes.starts_with(b".") && !bytes.windows(2).any(|pair| pair == b"/.") {
        return false;
    }
    let plain = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\");
    plain.contains('\\')
        || plain.contains("%00")
        || plain.split('/').any(|part| {
            let part = part.split(';').next().unwrap_or_default();
            part == "." || part == ".."
        })
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_climb_are_seen() {
        for path in [
            "/..",
            "/a/../b",
            "/%2e%2e/etc",
            "/a%2f..%2fb",
            "/.%2E/x",
            "/a\\b",
            "/a%5Cb",
            "/x%00",
            "/..;/a",
            "/./a",
        ] {
            assert!(is_dangerous(path), "{path}");
        }
        for path in ["/", "/a/b", "/.well-known/x", "/a..b", "/a%2fb", "/a/..b", "/@scope%2fname", "/-/all"] {
            assert!(!is_dangerous(path), "{path}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_known() {
        for (headers, foreign) in [
            (
                &[("cookie", "a=1"), ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")][..],
                Some("evil.example"),
            ),
            (&[("cookie", "a=1"), ("origin", "https://evil.example")], Some("evil.example")),
            (
                &[("cookie", "a=1"), ("origin", "https://www.shop.example"), ("sec-fetch-site", "same-site")],
                Some("www.shop.example"),
            ),
            (&[("cookie", "a=1"), ("origin", "null")], Some("")),
            (&[("cookie", "a=1"), ("sec-fetch-site", "cross-site")], Some("")),
            (&[("cookie", "a=1"), ("sec-fetch-site", "same-site")], None),
            (&[("cookie", "a=1"), ("origin", "https://Shop.example:8443")], None),
            (
                &[("cookie", "a=1"), ("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")],
                None,
            ),
            (&[("cookie", "a=1"), ("sec-fetch-site", "none")], None),
            (&[("cookie", "a=1")], None),
            // Nothing of the visitor's goes along.
            (&[("origin", "https://evil.example"), ("authorization", "Bearer x")], None),
        ] {
            let headers: HeaderMap = headers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse::<HeaderValue>().unwrap()))
                .collect::<Vec<(http::HeaderName, _)>>()
                .into_iter()
                .collect();
            assert_eq!(foreign_origin(&headers, "shop.example").as_deref(), foreign, "{headers:?}");
        }
    }

    #[test]
    fn plain_http_leads_to_https() {
        let location = |port| to_https("shop.example", port, "/a?b=c").headers()["location"].clone();
        assert_eq!(location(443), "https://shop.example/a?b=c");
        assert_eq!(location(8443), "https://shop.example:8443/a?b=c");
    }
}
