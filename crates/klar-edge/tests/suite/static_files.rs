//! Files come from their folder, as browsers and caches want them, and nothing else does.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;

use crate::common::{Answer, App, Edge, Folder, HOST, route};
use klar_base::signal::DecidedBy;
use klar_base::upstreams::{Route, Target};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

const PAGE: &str = "<!doctype html><title>page</title>";
const LINE: &str = "licence;club;season\n";
const LARGE: usize = 3_000_001;

fn site() -> Folder {
    let folder = Folder::new();
    let outside = folder.path("outside");
    let public = folder.path("public");
    for path in
        ["public/docs", "public/assets", "public/.well-known", "public/.git", "public/empty", "outside"]
    {
        fs::create_dir_all(folder.path(path)).unwrap();
    }
    let large: Vec<u8> = (0..LARGE).map(|at| (at % 251) as u8).collect();
    let list = LINE.repeat(100);
    let files: [(&str, &[u8]); 18] = [
        ("list.csv", list.as_bytes()),
        ("index.html", PAGE.as_bytes()),
        ("docs/index.html", b"docs"),
        ("digits.txt", b"0123456789"),
        ("nothing.txt", b""),
        ("large.bin", &large),
        ("a b.txt", b"space"),
        ("\u{e5}.txt", b"letter"),
        ("assets/app-3fa9c1d2.js", b"immutable"),
        ("app.js", b"plain"),
        ("app.js.br", b"brotli"),
        ("app.js.gz", b"gz"),
        (".env", b"secret"),
        (".git/config", b"secret"),
        ("docs/.hidden", b"secret"),
        (".well-known/security.txt", b"contact"),
        ("Page.HTML", b"loud"),
        ("unknown", b"bytes"),
    ];
    for (name, content) in files {
        fs::write(public.join(name), content).unwrap();
    }
    fs::write(outside.join("secret.txt"), "secret").unwrap();
    symlink(outside.join("secret.txt"), public.join("absolute.txt")).unwrap();
    symlink("../outside/secret.txt", public.join("relative.txt")).unwrap();
    symlink("../outside", public.join("out")).unwrap();
    symlink("/proc/self/root", public.join("magic")).unwrap();
    symlink("digits.txt", public.join("inside.txt")).unwrap();
    symlink("loop.txt", public.join("loop.txt")).unwrap();
    nix::unistd::mkfifo(&public.join("pipe.txt"), Mode::S_IRWXU).unwrap();
    folder
}

fn files(pattern: &str, spa: bool) -> Route {
    let release = "0123456789ab".parse().unwrap();
    Route { target: Target::Static { folder: 0, release, spa, prepared: None }, ..route(pattern) }
}

fn hold(folder: &Folder, below: &str) -> OwnedFd {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(&folder.path(below), flags, Mode::empty()).unwrap()
}

/// Serves `site()` at `/`, with its pages as those of one program when `spa` is set.
fn serve(spa: bool) -> (Edge, Folder) {
    let folder = site();
    let edge = Edge::with(&[], |edge| {
        edge.folders = vec![hold(&folder, "public")];
        edge.site().routes = vec![files("/*", spa)];
    });
    (edge, folder)
}

fn ask(edge: &Edge, method: &str, path: &str, headers: &str) -> Answer {
    edge.ask(&format!("{method} {path} HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n"))
}

#[test]
fn files_are_served() {
    let (edge, _folder) = serve(false);
    let table = [
        ("/", PAGE, "text/html; charset=utf-8"),
        ("/index.html", PAGE, "text/html; charset=utf-8"),
        ("/docs/", "docs", "text/html; charset=utf-8"),
        ("/docs/?a=b", "docs", "text/html; charset=utf-8"),
        ("/digits.txt", "0123456789", "text/plain; charset=utf-8"),
        ("/nothing.txt", "", "text/plain; charset=utf-8"),
        ("/a%20b.txt", "space", "text/plain; charset=utf-8"),
        ("/%C3%A5.txt", "letter", "text/plain; charset=utf-8"),
        ("/inside.txt", "0123456789", "text/plain; charset=utf-8"),
        ("/.well-known/security.txt", "contact", "text/plain; charset=utf-8"),
        ("/Page.HTML", "loud", "text/html; charset=utf-8"),
        ("/unknown", "bytes", "application/octet-stream"),
    ];
    for (path, body, kind) in table {
        let answer = edge.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (200, body), "{path}");
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
        let head = ask(&edge, "HEAD", path, "");
        assert_eq!(head.status, 200, "{path}");
        for name in ["content-length", "content-type", "etag", "cache-control"] {
            assert_eq!(head.header(name), answer.header(name), "{path}: {name}, RFC 9110 section 9.3.2");
        }
        let record = edge.record(&answer);
        assert_eq!((record.decided_by, record.attempts), (DecidedBy::Edge, 0));
        assert_eq!(record.bytes_out, body.len() as u64);
    }
    let answer = edge.get("/assets/app-3fa9c1d2.js");
    assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
}

#[test]
fn nothing_else_is_served() {
    for spa in [false, true] {
        let (edge, _folder) = serve(spa);
        let paths = [
            "/absolute.txt",
            "/relative.txt",
            "/out/secret.txt",
            "/magic/etc/passwd",
            "/loop.txt",
            "/pipe.txt",
            "/.env",
            "/%2eenv",
            "/.git/config",
            "/docs/.hidden",
            "/docs%2f.hidden",
            "/missing.txt",
            "/digits.txt/more.txt",
            "/%ff.txt",
            "/%zz.txt",
        ];
        for path in paths {
            let answer = ask(&edge, "GET", path, "accept: application/json\r\n");
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
            assert!(!answer.text().contains("secret"));
        }
        let long = format!("/{}", "x".repeat(5000));
        assert_eq!(ask(&edge, "GET", &long, "accept: image/*\r\n").status, 404);
        for path in
            ["/../outside/secret.txt", "/%2e%2e/outside/secret.txt", "/docs/..%2f..%2foutside/secret.txt"]
        {
            assert_eq!(edge.get(path).status, 400, "{path}");
        }
    }
}

/// A large file comes whole, and a connection that is cut off in it is on the record as that.
#[test]
fn a_large_file_comes_whole() {
    let (edge, _folder) = serve(false);
    let answer = edge.get("/large.bin");
    assert_eq!(answer.body.len(), LARGE);
    assert!(answer.body.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
    let tag = answer.header("etag").unwrap();
    let again = ask(&edge, "GET", "/large.bin", &format!("if-none-match: {tag}\r\n"));
    assert_eq!(again.status, 304);
    let part = ask(&edge, "GET", "/large.bin", "range: bytes=-100\r\n");
    assert_eq!((part.status, part.body.as_slice()), (206, &answer.body[LARGE - 100..]));
}

/// RFC 9110 section 13.1.2.
#[test]
fn what_a_visitor_has_is_not_sent_again() {
    let (edge, _folder) = serve(false);
    let tag = edge.get("/digits.txt").header("etag").unwrap().to_owned();
    let other = edge.get("/index.html").header("etag").unwrap().to_owned();
    assert_ne!(tag, other);
    let table = [
        (tag.clone(), 304),
        (format!("W/{tag}"), 304),
        (format!("{other}, {tag}"), 304),
        ("*".into(), 304),
        (other, 200),
        ("nonsense".into(), 200),
    ];
    for (value, status) in table {
        for method in ["GET", "HEAD"] {
            let answer = ask(&edge, method, "/digits.txt", &format!("if-none-match: {value}\r\n"));
            assert_eq!(answer.status, status, "{value}");
            assert_eq!(answer.header("etag"), Some(tag.as_str()), "{value}");
        }
    }
}

/// RFC 9110 section 14.2.
#[test]
fn ranges_are_honoured() {
    let (edge, _folder) = serve(false);
    let tag = edge.get("/digits.txt").header("etag").unwrap().to_owned();
    let table = [
        ("range: bytes=2-4\r\n".into(), 206, "234", Some("bytes 2-4/10")),
        ("range: bytes=7-\r\n".into(), 206, "789", Some("bytes 7-9/10")),
        ("range: bytes=-3\r\n".into(), 206, "789", Some("bytes 7-9/10")),
        ("range: bytes=8-100\r\n".into(), 206, "89", Some("bytes 8-9/10")),
        ("range: bytes=0-0,2-2\r\n".into(), 200, "0123456789", None),
        ("range: bytes=4-2\r\n".into(), 200, "0123456789", None),
        ("range: lines=1-2\r\n".into(), 200, "0123456789", None),
        ("range: bytes=10-\r\n".into(), 416, "", Some("bytes */10")),
        (format!("range: bytes=2-4\r\nif-range: {tag}\r\n"), 206, "234", Some("bytes 2-4/10")),
        ("range: bytes=2-4\r\nif-range: \"other\"\r\n".into(), 200, "0123456789", None),
        (format!("range: bytes=2-4\r\nif-none-match: {tag}\r\n"), 304, "", None),
    ];
    for (headers, status, body, range) in &table {
        let answer = ask(&edge, "GET", "/digits.txt", headers);
        assert_eq!((answer.status, answer.text().as_str()), (*status, *body), "{headers}");
        assert_eq!(answer.header("content-range"), *range, "{headers}");
    }
    let head = ask(&edge, "HEAD", "/digits.txt", "range: bytes=2-4\r\n");
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")), "only GET has ranges");
    assert_eq!(ask(&edge, "GET", "/nothing.txt", "range: bytes=0-\r\n").status, 416);
}

/// The pages of a program that runs in the browser are all `index.html`; what is no page is missing.
#[test]
fn a_page_of_a_program_is_its_index() {
    let (edge, _folder) = serve(true);
    let html = "accept: text/html,*/*;q=0.8\r\n";
    for (path, headers) in [("/cart", html), ("/cart/7", html), ("/old.html", html), ("/cart", "")] {
        let answer = ask(&edge, "GET", path, headers);
        assert_eq!((answer.status, answer.text().as_str()), (200, PAGE), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
    }
    for (path, headers) in [("/missing.js", html), ("/cart", "accept: application/json\r\n"), ("/.env", html)]
    {
        assert_eq!(ask(&edge, "GET", path, headers).status, 404, "{path}");
    }
    let (edge, _folder) = serve(false);
    assert_eq!(ask(&edge, "GET", "/cart", html).status, 404, "only where it was asked for");
}

#[test]
fn the_best_copy_that_is_understood_is_sent() {
    let (edge, _folder) = serve(false);
    let table = [
        ("", "plain", None),
        ("accept-encoding: identity\r\n", "plain", None),
        ("accept-encoding: gzip, deflate, br, zstd\r\n", "brotli", Some("br")),
        ("accept-encoding: gzip;q=1.0, br;q=0\r\n", "gz", Some("gzip")),
        ("accept-encoding: GZIP\r\n", "gz", Some("gzip")),
    ];
    let mut tags = Vec::new();
    for (headers, body, encoding) in table {
        let answer = ask(&edge, "GET", "/app.js", headers);
        assert_eq!((answer.status, answer.text().as_str()), (200, body), "{headers}");
        assert_eq!(answer.header("content-encoding"), encoding, "{headers}");
        assert_eq!(answer.header("vary"), Some("accept-encoding"), "{headers}");
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"), "{headers}");
        tags.push(answer.header("etag").unwrap().to_owned());
    }
    assert_eq!(tags[0], tags[1]);
    assert_ne!(tags[0], tags[2], "RFC 9110 section 8.8.3.3: each copy has a tag of its own");
    assert_ne!(tags[2], tags[3]);
    assert_eq!(edge.get("/digits.txt").header("vary"), None);
}

/// Where there is no copy, one is made; a part of a file is a part of the plain one.
#[test]
fn a_file_without_copies_is_compressed_for_who_can_read_it() {
    let (edge, _folder) = serve(false);
    let plain = ask(&edge, "GET", "/list.csv", "");
    for _ in 0..2 {
        let answer = ask(&edge, "GET", "/list.csv", "accept-encoding: gzip\r\n");
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        assert_eq!(answer.header("etag"), Some(&*format!("W/{}", plain.header("etag").unwrap())));
        assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()));
        let mut text = String::new();
        flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, LINE.repeat(100));
        let tag = answer.header("etag").unwrap();
        let headers = format!("accept-encoding: gzip\r\nif-none-match: {tag}\r\n");
        let again = ask(&edge, "GET", "/list.csv", &headers);
        assert_eq!((again.status, again.header("etag")), (304, Some(tag)));
    }
    let part = ask(&edge, "GET", "/list.csv", "accept-encoding: gzip\r\nrange: bytes=0-6\r\n");
    assert_eq!((part.header("content-encoding"), &part.body[..]), (None, &b"licence"[..]));
    let image = ask(&edge, "GET", "/large.bin", "accept-encoding: gzip\r\n");
    assert_eq!((image.header("content-encoding"), image.body.len()), (None, LARGE));
}

#[test]
fn a_folder_has_its_own_address() {
    let (edge, _folder) = serve(false);
    for (path, location) in [("/docs", "/docs/"), ("/docs?a=b", "/docs/?a=b"), ("//docs", "/docs/")] {
        let answer = edge.get(path);
        assert_eq!((answer.status, answer.header("location")), (308, Some(location)), "{path}");
    }
    assert_eq!(edge.get("/empty/").status, 404, "no listing");
    assert_eq!(edge.get("/empty").status, 404);
}

#[test]
fn a_file_can_only_be_read() {
    let (edge, _folder) = serve(false);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let mut visitor = edge.visitor();
        visitor
            .send(format!("{method} /digits.txt HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 4\r\n\r\nbody"));
        let answer = visitor.answer();
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "RFC 9110 section 15.5.6");
    }
}

/// A folder below a prefix, one file at an exact path, and an app beside them.
#[test]
fn files_and_apps_live_side_by_side() {
    let folder = site();
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| {
        edge.folders = vec![hold(&folder, "public")];
        edge.site().routes.push(files("/static/*", false));
        edge.site().routes.push(files("/digits.txt", false));
    });
    assert_eq!(edge.get("/static/docs/").text(), "docs");
    assert_eq!(edge.get("/static/").text(), PAGE);
    assert_eq!(edge.get("/static").text(), PAGE);
    assert_eq!(edge.get("/digits.txt").text(), "0123456789");
    assert_eq!(edge.get("/index.html").text(), "app: GET /index.html");
}

/// The files change with the configuration, all at once.
#[test]
fn a_new_release_has_new_files() {
    let folder = site();
    fs::create_dir(folder.path("next")).unwrap();
    fs::write(folder.path("next/digits.txt"), "9876543210").unwrap();
    let mut edge = Edge::with(&[], |edge| {
        edge.folders = vec![hold(&folder, "public")];
        edge.site().routes = vec![files("/*", false)];
    });
    let old = edge.get("/digits.txt");
    edge.folders = vec![hold(&folder, "next")];
    edge.site().routes[0].target =
        Target::Static { folder: 0, release: "ba9876543210".parse().unwrap(), spa: false, prepared: None };
    edge.apply();
    let tag = old.header("etag").unwrap();
    let new = ask(&edge, "GET", "/digits.txt", &format!("if-none-match: {tag}\r\n"));
    assert_eq!((new.status, new.text().as_str()), (200, "9876543210"));
    assert_eq!(edge.get("/index.html").status, 404);
}
