//! The foil's front end: a page, its files, and what they ask for.

use std::borrow::Cow;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::Full;

use super::app::{Answer, App, with};
use super::gzip::gzip;
use super::shelf::LIFETIME;

const INDEX: &str = include_str!("front/index.html");
const APP: &str = include_str!("front/app.js");
const LIST: &str = include_str!("front/list.js");
const STYLE: &str = include_str!("front/style.css");
const WORKER: &str = include_str!("front/sw.js");
const PNG: &[u8] = include_bytes!("front/field.png");
const WEBP: &[u8] = include_bytes!("front/field.webp");
const NEWS: &str =
    r#"{"news":[{"title":"The first news"},{"title":"The second news"},{"title":"The third news"}]}"#;
/// Everything that the page needs, for the service worker.
const FILES: &str = r#"["/","/assets/style-1a2b3c4d5e6f7a8b.css","/assets/app-0123456789abcdef.js","/assets/list-9f8e7d6c5b4a3f2e.js","/images/hero.webp","/images/field.webp"]"#;
/// Switches that the script of the page knows.
const IN_SCRIPT: &[&str] = &[
    "layout-shift",
    "long-task",
    "eager-chunks",
    "one-script",
    "no-service-worker",
    "no-skeleton",
    "no-boundary",
    "dead-links",
    "all-rows",
    "unreachable-rows",
    "fetched-twice",
    "xss-drawn",
    "xss-fragment",
    "xss-parameter",
];

const TO_REVALIDATE: &str = "no-cache";
const FOR_EVER: &str = "public, max-age=31536000, immutable";

struct File {
    kind: &'static str,
    cache: &'static str,
    body: Vec<u8>,
}

/// What the front end answers; `None` when this is none of its paths.
pub(super) fn answer(app: &App, head: &Parts) -> Option<Answer> {
    if head.method != Method::GET && head.method != Method::HEAD {
        return None;
    }
    let path = head.uri.path();
    if path == "/api/news" {
        let cache = if app.has("public-cookie") { "public, max-age=600" } else { "no-store" };
        let news = File { kind: "application/json", cache, body: NEWS.into() };
        let cookie = "visited=1; Path=/; Secure; HttpOnly; SameSite=Lax";
        return Some(with(deliver(app, head, news), "set-cookie", cookie));
    }
    if path == "/api/rows" {
        let body = rows(app, head.uri.query().unwrap_or_default()).into();
        return Some(deliver(app, head, File { kind: "application/json", cache: "no-store", body }));
    }
    let hashed = if app.has("no-immutable") { "public, max-age=31536000" } else { FOR_EVER };
    let (kind, cache, body) = match path {
        "/list" if app.has("no-deep-links") => return None,
        "/assets/style-1a2b3c4d5e6f7a8b.css" if app.has("missing-file") => return None,
        "/" | "/list" | "/notes" => {
            let cache = if app.has("html-cached") { "max-age=3600" } else { TO_REVALIDATE };
            ("text/html; charset=utf-8", cache, text(app, &index(app)))
        }
        "/assets/app-0123456789abcdef.js" => ("text/javascript", hashed, text(app, &entry(app))),
        "/assets/list-9f8e7d6c5b4a3f2e.js" => ("text/javascript", hashed, text(app, LIST)),
        "/assets/style-1a2b3c4d5e6f7a8b.css" => {
            (if app.has("wrong-type") { "text/html" } else { "text/css" }, hashed, text(app, STYLE))
        }
        "/assets/ballast-00112233445566aa.bin" if app.has("heavy-page") => {
            ("image/x-ballast", hashed, vec![7; 2 << 20])
        }
        "/sw.js" => ("text/javascript", TO_REVALIDATE, text(app, WORKER)),
        "/images/hero.png" | "/images/field.png" => ("image/png", LIFETIME, padded(PNG, 20_000)),
        "/images/hero.webp" | "/images/field.webp" => {
            ("image/webp", LIFETIME, padded(WEBP, if app.has("large-images") { 18_000 } else { 9_000 }))
        }
        _ => return None,
    };
    Some(deliver(app, head, File { kind, cache, body }))
}

/// The text of a file, as a build would leave it.
fn text(app: &App, source: &str) -> Vec<u8> {
    let faults: Vec<&&str> = IN_SCRIPT.iter().filter(|fault| app.has(fault)).collect();
    let source = source
        .replace("__FAULTS__", &format!("{faults:?}"))
        .replace("__FILES__", if app.has("no-precache") { "[]" } else { FILES })
        .replace("__DATA__", if app.has("no-last-data") { "false" } else { "true" })
        .replace("__OFFLINE__", if app.has("not-offline") { "false" } else { "true" });
    if app.has("not-minified") { source.into_bytes() } else { shrunk(&source).into_bytes() }
}

/// Rows of the long list: `from=500&count=500`.
fn rows(app: &App, query: &str) -> String {
    let number = |name: &str| {
        query.split('&').find_map(|each| each.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    let from: usize = number("from").unwrap_or(0).min(10_000);
    let to = (from + number("count").unwrap_or(100).min(500)).min(10_000);
    let before = if app.has("rows-twice") { from / 500 } else { 0 };
    let rows: Vec<String> = (from..to).map(|at| format!("\"Row {}\"", at + 1 - before)).collect();
    format!("{{\"rows\":[{}]}}", rows.join(","))
}

/// The page, as its switches want it.
fn index(app: &App) -> String {
    let mut page = INDEX.to_owned();
    if app.has("old-images") {
        page = page.lines().filter(|line| !line.contains("<source")).collect::<Vec<_>>().join("\n");
    }
    if app.has("no-dimensions") {
        page = page.replace("width=\"320\" height=\"180\" ", "");
    }
    if app.has("no-skeleton") {
        page = page.replace("<li class=\"skeleton\"></li>", "");
    }
    if app.has("eager-images") {
        page = page.replace("loading=\"lazy\" ", "");
    }
    page
}

/// The entry script, as its switches want it.
fn entry(app: &App) -> String {
    let mut script = APP.to_owned();
    if app.has("one-script") {
        script = script.replace("await import('/assets/list-9f8e7d6c5b4a3f2e.js')", "{ rows: () => {} }");
    }
    if app.has("heavy-page") {
        script.push_str("fetch('/assets/ballast-00112233445566aa.bin').then((all) => all.arrayBuffer());\n");
    }
    if app.has("heavy-entry") {
        // What no compression makes small: numbers without an order.
        let mut number = 7_u64;
        let mut more = || {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("{number:016x}")
        };
        let ballast: String = (0..32_000).map(|_| more()).collect();
        script.push_str(&format!("globalThis.ballast='{ballast}';\n"));
    }
    script
}

/// Without indentation, line ends and the lines that are comments. The sources are written so that this is safe.
fn shrunk(source: &str) -> String {
    let lines = source.lines().map(str::trim);
    lines.filter(|line| !["//", "/*", "<!--"].iter().any(|sign| line.starts_with(sign))).collect()
}

/// An image of a size that is worth a thought: decoders ignore what follows its end.
fn padded(image: &[u8], size: usize) -> Vec<u8> {
    let mut image = image.to_vec();
    image.resize(size, 0);
    image
}

fn deliver(app: &App, head: &Parts, file: File) -> Answer {
    let given = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let packs = !file.kind.starts_with("image/")
        && given("accept-encoding").contains("gzip")
        && !app.has("not-compressed");
    let body = if packs { Cow::Owned(gzip(&file.body)) } else { Cow::Borrowed(&file.body) };
    let etag = format!(
        "\"{:x}-{}\"",
        body.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte)),
        body.len()
    );
    let fresh = given("if-none-match") == etag && !app.has("no-304");
    let mut answer =
        Response::new(Full::new(if fresh { Bytes::new() } else { Bytes::from(body.into_owned()) }));
    if fresh {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let mut headers = vec![
        ("content-type", file.kind),
        ("cache-control", file.cache),
        ("vary", "accept-encoding"),
        ("etag", &etag),
    ];
    if packs {
        headers.push(("content-encoding", "gzip"));
    }
    headers.into_iter().fold(answer, |answer, (name, value)| with(answer, name, value))
}
