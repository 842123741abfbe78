//! The straight way held against the general one: the same bytes from a visitor and from an app have to come to the same
//! bytes for the app, for the visitor and in the record.
//!
//! Each case is sent three times: the first one finds nothing known, the others what it left. Compared is everything but
//! what is different each time (names, times), and the order of headers with different names, which says nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use http::Response;
use klar_base::lines::Lines;
use klar_base::signal::AccessRecord;
use klar_base::upstreams::{
    CacheRules, Csp, CspMode, EdgeConfig, ForwardedHeader, Front, Limits, Route, Site, Target, Upstream,
    Upstreams, Waf, WafMode, WafRules,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::*;
use crate::answer::OutBody;
use crate::front::Peer;
use crate::guard::{Clocks, HeadNote, Heads};
use crate::http1::body::VisitorBody;
use crate::http1::{self, Service};
use crate::pool::Pool;
use crate::table::Note;

const LONG: Duration = Duration::from_secs(60);
const CLOCKS: Clocks = Clocks { head_bytes: 16 << 10, head: LONG, stall: LONG, idle: LONG };

/// The edge as if there were no straight way.
struct General(Visit);

impl Service for General {
    type Body = OutBody;
    type Waiting = Infallible;

    async fn answer(&self, note: HeadNote, request: Request<VisitorBody>) -> Response<OutBody> {
        self.0.answer_to(note, request).await
    }

    fn write_lines(body: &OutBody, out: &mut Vec<u8>) {
        body.write_lines(out);
    }
}

/// The edge, and how many of its answers came straight.
struct Counted(Visit, Cell<u32>);

impl Service for Counted {
    type Body = OutBody;
    type Waiting = Underway;

    async fn answer(&self, note: HeadNote, request: Request<VisitorBody>) -> Response<OutBody> {
        self.0.answer_to(note, request).await
    }

    fn write_lines(body: &OutBody, out: &mut Vec<u8>) {
        body.write_lines(out);
    }

    fn set_out(&self, cx: &mut Context<'_>, said: &Said<'_, '_, '_>, out: &mut Outbound) -> Way<Underway> {
        let way = self.0.set_out(cx, said, out);
        self.1.set(self.1.get() + u32::from(matches!(way, Way::Answered { .. })));
        way
    }

    fn go_on(
        &self,
        cx: &mut Context<'_>,
        head: &[u8],
        waiting: &mut Underway,
        asked: Asked,
        alarm: &mut Alarm,
        out: &mut Outbound,
    ) -> Poll<Option<bool>> {
        let gone_on = self.0.go_on(cx, head, waiting, asked, alarm, out);
        self.1.set(self.1.get() + u32::from(matches!(gone_on, Poll::Ready(Some(_)))));
        gone_on
    }

    fn hand_over(&self, waiting: Underway, request: &mut Request<()>) {
        self.0.hand_over(waiting, request);
    }
}

/// What an app says, in pieces.
type Script = Arc<Mutex<Vec<Vec<u8>>>>;

/// An edge with an app behind it.
struct World {
    shared: Arc<Shared>,
    _notes: Receiver<Note>,
    pool: Rc<Pool>,
    script: Script,
    got: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcomes {
    app: Vec<Message>,
    visitor: Vec<Message>,
    records: Vec<String>,
}

/// A head line by line, and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    line: String,
    headers: BTreeMap<String, Vec<String>>,
    body: String,
}

fn app(script: Script, got: Arc<Mutex<Vec<Vec<u8>>>>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, script, got) = (stream.unwrap(), script.clone(), got.clone());
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while let Ok(1) = stream.read(&mut byte) {
                    head.push(byte[0]);
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    got.lock().unwrap().push(std::mem::take(&mut head));
                    let pieces = script.lock().unwrap().clone();
                    for (number, piece) in pieces.iter().enumerate() {
                        if number > 0 {
                            std::thread::sleep(Duration::from_millis(2));
                        }
                        if piece.is_empty() || stream.write_all(piece).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

/// What the firewall takes for odd beside what its own rules do: much of what is sent here.
const SUSPICIOUS: &str = r#"
SecRule ARGS|REQUEST_COOKIES "@contains 1" "id:1,phase:1,pass,log,msg:'A one'"
SecRule RESPONSE_BODY "@contains a" "id:2,phase:4,pass,log,msg:'An a'"
"#;

impl World {
    fn new(csp: CspMode, cache: CacheRules, mode: WafMode) -> Self {
        let (script, got) = (Script::default(), Arc::default());
        let address = app(Arc::clone(&script), Arc::clone(&got));
        let (shared, notes) = Shared::new();
        let web: klar_base::ServiceName = "web".parse().unwrap();
        let upstream = Upstream {
            id: "shop.prod.web.1".parse().unwrap(),
            address,
            weight: 1,
            release: "0123456789ab".parse().unwrap(),
        };
        let route = |pattern: &str, cache| Route {
            pattern: pattern.into(),
            target: Target::Service { service: web.clone() },
            idempotent: false,
            cross_site: false,
            timeout: None,
            body_bytes: None,
            cache,
            client_authorities: None,
            waf: mode,
            images: None,
        };
        let off = CacheRules { enabled: false, ..CacheRules::default() };
        let site = Site {
            app: "shop.prod".parse().unwrap(),
            hosts: vec!["shop.test".into()],
            routes: vec![route("/*", cache), route("/off/*", off)],
            services: BTreeMap::from([(
                web.clone(),
                Upstreams { upstreams: vec![upstream], ..Upstreams::default() },
            )]),
            limits: Limits {
                header_bytes: 16 << 10,
                body_bytes: 1 << 20,
                header_timeout: LONG,
                timeout: LONG,
                stall_timeout: LONG,
                idle_timeout: LONG,
            },
            csp: Csp { mode: csp, policy: "default-src 'self'".into() },
            front: Front {
                proxies: vec!["10.0.0.0/8".parse().unwrap()],
                header: ForwardedHeader::XForwarded,
                plain: false,
            },
            http3: true,
            waf: (mode != WafMode::Off).then(|| Waf {
                rules: WafRules::Core,
                paranoia: 1,
                own: SUSPICIOUS.into(),
                shadow: None,
            }),
        };
        let config = EdgeConfig {
            generation: 1,
            https_port: 443,
            certificates: Vec::new(),
            sites: vec![site],
            challenges: Vec::new(),
            connections_max: 1000,
            cache_bytes: 4 << 20,
            proxy_protocol: Vec::new(),
            check_key: None,
            cache_disk_bytes: 0,
        };
        shared.apply(config, Vec::new()).unwrap();
        shared.serves_http3.store(true, std::sync::atomic::Ordering::Relaxed);
        Self { shared, _notes: notes, pool: Rc::default(), script, got }
    }

    fn visit(&self, from: &str) -> Visit {
        let address = from.parse().unwrap();
        Visit {
            shared: self.shared.clone(),
            pool: self.pool.clone(),
            heads: Heads::default(),
            codec: true,
            peer: Peer { address, neighbour: address, tls: true, secured: false, certificate: None },
            drain: watch::channel(false).1,
        }
    }

    /// What comes of `sent`, with an app that says `pieces` to each request.
    async fn run(&self, service: &impl Service, sent: &[u8], pieces: &[Vec<u8>]) -> Outcomes {
        *self.script.lock().unwrap() = pieces.to_vec();
        self.got.lock().unwrap().clear();
        let (mut visitor, edge) = duplex(1 << 20);
        let (_stop, mut stopped) = watch::channel(false);
        let asked = async {
            visitor.write_all(sent).await.unwrap();
            let mut heard = Vec::new();
            visitor.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let served = http1::serve(edge, CLOCKS, service, &mut stopped);
        let (heard, _) = tokio::join!(asked, async { drop(served.await) });
        let app = std::mem::take(&mut *self.got.lock().unwrap());
        let is_head = sent.starts_with(b"HEAD");
        Outcomes {
            app: app.iter().flat_map(|head| messages(head, true)).collect(),
            visitor: messages(&heard, is_head),
            records: self.records(),
        }
    }

    fn records(&self) -> Vec<String> {
        let all = self.shared.records.take().into_iter().flat_map(|message| {
            let lines = Lines::read(message).unwrap();
            let read = lines.iter().map(|(_, json)| serde_json::from_slice(json).unwrap());
            read.collect::<Vec<AccessRecord>>()
        });
        let same = |record: AccessRecord| AccessRecord {
            time_unix_ms: 0,
            request_id: String::new(),
            duration_us: 0,
            ..record
        };
        all.map(|record| format!("{:?}", same(record))).collect()
    }
}

/// Takes messages apart, without what is different each time.
fn messages(mut bytes: &[u8], is_bodiless: bool) -> Vec<Message> {
    let mut all = Vec::new();
    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut id = String::new();
        for header in lines {
            let (name, value) = header.split_once(": ").unwrap_or_else(|| panic!("{header:?}"));
            let value = match name {
                "x-request-id" => {
                    value.clone_into(&mut id);
                    "of this request"
                }
                "traceparent" if value.get(3..35) == Some(id.as_str()) => "of this request too",
                "age" => "some seconds",
                "date" if !value.contains("1994") => "now",
                _ => value,
            };
            // Seconds may pass, also since the end of what was fresh.
            let value = match value.split_once("ttl=") {
                Some((before, after)) => {
                    let seconds = |char: char| char == '-' || char.is_ascii_digit();
                    format!("{before}ttl={}", after.trim_start_matches(seconds))
                }
                None => value.to_owned(),
            };
            headers.entry(name.to_owned()).or_default().push(value);
        }
        let is_empty = is_bodiless || line.contains(" 204 ") || line.contains(" 304 ");
        let length = headers.get("content-length").and_then(|length| length[0].parse().ok());
        let body = if is_bodiless && line.contains(" 400 ") {
            // Who is refused before the method is known hears why, and nothing comes after it.
            std::mem::take(&mut bytes).to_vec()
        } else if is_empty {
            Vec::new()
        } else if headers.contains_key("transfer-encoding") {
            chunks(&mut bytes)
        } else {
            let length = usize::min(length.unwrap_or(bytes.len()), bytes.len());
            let (body, rest) = bytes.split_at(length);
            bytes = rest;
            body.to_vec()
        };
        // Where the edge answers itself, it says the name again.
        let is_long = body.len() > 200 && body.iter().all(|byte| *byte == b'x');
        let body = if is_long { format!("{} times x", body.len()) } else { body.escape_ascii().to_string() };
        let body = if id.is_empty() { body } else { body.replace(&id, "id") };
        all.push(Message { line, headers, body });
    }
    assert!(bytes.is_empty(), "{:?} is no message", bytes.escape_ascii().to_string());
    all
}

/// What is in the chunks that `bytes` begin with: how they are cut says nothing.
fn chunks(bytes: &mut &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        let data = &bytes[end + 2..];
        let here = usize::min(size, data.len());
        all.extend_from_slice(&data[..here]);
        *bytes = &data[usize::min(here + 2, data.len())..];
        if size == 0 {
            break;
        }
    }
    all
}

const ASKED: [&str; 25] = [
    "accept: */*",
    "Accept-Encoding: gzip, br",
    "accept-encoding: identity",
    "accept-encoding: gzip;q=0\r\naccept-encoding: br",
    "User-Agent: some browser/1.0",
    "user-agent: bl\u{e5}b\u{e6}r",
    "user-agent:",
    "Cookie: a=1; b=2",
    "cookie: __klar_instance=abc",
    "authorization: Bearer x",
    "x-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: http",
    "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.2",
    "x-request-id: mine",
    "traceparent: 00-11111111111111111111111111111111-2222222222222222-01\r\ntracestate: them=1",
    "forwarded: for=6.6.6.6",
    "connection: keep-alive",
    "Connection: keep-alive, x-inner\r\nx-inner: 1",
    "te: trailers",
    "expect: 100-continue",
    "cache-control: no-cache",
    "cache-control: only-if-cached",
    "range: bytes=0-1",
    "if-none-match: \"a\"",
    "x-same: 1\r\nX-SAME: 2",
    "content-length: 0",
];

const SAID: [&str; 34] = [
    "Server: app",
    "x-powered-by: app",
    "Connection: keep-alive",
    "connection: close",
    "Connection: keep-alive, x-inner\r\nX-Inner: 1",
    "keep-alive: timeout=5",
    "Content-Type: text/html; charset=utf-8",
    "content-type: application/json",
    "content-type: image/png",
    "content-type: text/event-stream",
    "content-type: application/grpc",
    "Date: Sun, 06 Nov 1994 08:49:37 GMT",
    "ETag: \"a\"",
    "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
    "Set-Cookie: a=1",
    "set-cookie: __klar_instance=x",
    "Cache-Control: max-age=600",
    "cache-control: public, max-age=600",
    "cache-control: no-store",
    "cache-control: private, no-transform",
    "vary: accept-encoding",
    "Vary: cookie, accept-language",
    "vary: *",
    "content-encoding: gzip",
    "X-Frame-Options: SAMEORIGIN",
    "Content-Security-Policy: default-src *",
    "strict-transport-security: max-age=0",
    "x-request-id: theirs",
    "alt-svc: clear",
    "cache-status: app; hit",
    "upgrade: h2c",
    "x-latin: \u{e6}",
    "x-empty:",
    "age: 5",
];

#[derive(Debug, Clone)]
struct Case {
    method: &'static str,
    path: String,
    host: &'static str,
    from: &'static str,
    asked: Vec<&'static str>,
    status: &'static str,
    said: Vec<&'static str>,
    body: usize,
    ending: u8,
    cut: Option<usize>,
}

prop_compose! {
    fn case()(
        method in prop_oneof![8 => Just("GET"), 2 => Just("HEAD"), 1 => Just("POST"), 1 => Just("OPTIONS")],
        path in prop_oneof![
            6 => "/[a-z]{0,6}", 2 => "/off/[a-z]{0,4}", 1 => "/[a-z%.;|{}\"]{0,8}", 1 => "/\\.\\./[a-z]{0,2}"
        ],
        host in prop_oneof![8 => Just("shop.test"), 1 => Just("Shop.test:8443"), 1 => Just("other.test")],
        from in prop_oneof![2 => Just("198.51.100.1"), 1 => Just("10.0.0.1")],
        asked in prop::collection::vec(prop::sample::select(&ASKED[..]), 0..4),
        status in prop_oneof![
            8 => Just("200 OK"), 1 => Just("404 Not Found"), 1 => Just("204 No Content"), 1 => Just("304 Not Modified"),
            1 => Just("500 Sorry"), 1 => Just("301 Elsewhere"), 1 => Just("206 Partial Content")
        ],
        said in prop::collection::vec(prop::sample::select(&SAID[..]), 0..5),
        body in prop_oneof![1 => Just(0_usize), 8 => 1..2000_usize, 1 => Just(20_000), 1 => Just(70_000)],
        ending in prop_oneof![8 => Just(0_u8), 1 => Just(1), 1 => Just(2), 1 => Just(3)],
        cut in prop::option::weighted(0.3, 1..400_usize),
    ) -> Case {
        Case { method, path, host, from, asked, status, said, body, ending, cut }
    }
}

impl Case {
    /// Three times the request.
    fn sent(&self, number: u32) -> Vec<u8> {
        let Self { method, path, host, asked, .. } = self;
        let lines: String = asked.iter().map(|line| format!("{line}\r\n")).collect();
        let one =
            |more: &str| format!("{method} {path}?n={number} HTTP/1.1\r\nHost: {host}\r\n{lines}{more}\r\n");
        [one(""), one(""), one("connection: close\r\n")].concat().into_bytes()
    }

    /// What the app says, in pieces; an empty one stands for the end.
    fn answered(&self) -> Vec<Vec<u8>> {
        let Self { method, status, said, body, ending, cut, .. } = self;
        let mut head = format!("HTTP/1.1 {status}\r\n");
        said.iter().for_each(|line| head += &format!("{line}\r\n"));
        let is_bodiless = *method == "HEAD" || status.starts_with("204") || status.starts_with("304");
        let mut bytes = match ending {
            0 | 3 => format!("{head}Content-Length: {body}\r\n\r\n").into_bytes(),
            1 => format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes(),
            _ => format!("{head}connection: close\r\n\r\n").into_bytes(),
        };
        if !is_bodiless {
            let body = vec![b'x'; *body];
            match ending {
                1 if body.is_empty() => bytes.extend(b"0\r\n\r\n"),
                1 => bytes
                    .extend([format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()),
                _ => bytes.extend(body),
            }
        }
        if *ending == 3 {
            // More than was announced.
            bytes.extend(b"HTTP/1.1 ");
        }
        let mut pieces = match cut {
            // What comes unasked comes at once, or it would depend on who is faster.
            Some(cut) if *cut < bytes.len() && *ending != 3 => {
                vec![bytes[..*cut].to_vec(), bytes[*cut..].to_vec()]
            }
            _ => vec![bytes],
        };
        if *ending == 2 {
            pieces.push(Vec::new());
        }
        pieces
    }
}

fn compare(cases: u32) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let rules = CacheRules::default();
        let lifetime = CacheRules { lifetime: Some(LONG), ..rules.clone() };
        let worlds = [
            (CspMode::Report, rules.clone(), WafMode::Off),
            (CspMode::Off, lifetime, WafMode::Off),
            (CspMode::Report, rules, WafMode::Detect),
        ];
        let worlds = worlds
            .map(|(csp, rules, mode)| (World::new(csp, rules.clone(), mode), World::new(csp, rules, mode)));
        let mut straight = 0;
        let mut runner = TestRunner::new(Config { cases, ..Config::default() });
        for number in 0..cases {
            let case = case().new_tree(&mut runner).unwrap().current();
            let (one, other) = &worlds[number as usize % worlds.len()];
            let (sent, answered) = (case.sent(number), case.answered());
            let counted = Counted(one.visit(case.from), Cell::new(0));
            let mut by_lane = one.run(&counted, &sent, &answered).await;
            let mut by_road = other.run(&General(other.visit(case.from)), &sent, &answered).await;
            straight += counted.1.get();
            // Both apps are the first and only one.
            for outcomes in [&mut by_lane, &mut by_road] {
                outcomes.records.sort();
            }
            assert_eq!(by_lane, by_road, "{case:?}");
        }
        straight
    })
}

#[test]
fn both_ways_come_to_the_same() {
    let straight = compare(150);
    // Which cases are made up is left to chance: some 70 of them.
    assert!(straight > 30, "only {straight} answers went straight");
}

#[test]
#[ignore = "takes as long as it is told to"]
fn both_ways_come_to_the_same_for_long() {
    let seconds = std::env::var("KLAR_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        compare(1000);
    }
}
