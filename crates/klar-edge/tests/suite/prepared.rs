//! What was made of the files of a release beforehand is sent in their place, and has no address of its own.

use std::fs;
use std::os::fd::OwnedFd;

use crate::common::{Answer, Edge, Folder, HOST, route};
use klar_base::upstreams::{Route, Target};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

const SCRIPT: &str = "console.log('the same script, again and again');\n";

fn hold(folder: &Folder, below: &str) -> OwnedFd {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(&folder.path(below), flags, Mode::empty()).unwrap()
}

/// The copies are no real ones: what is sent can be told by what it says.
fn serve() -> (Edge, Folder) {
    let folder = Folder::new();
    let put = |path: &str, content: &[u8]| {
        let path = folder.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    put("public/index.html", b"<!doctype html><title>page</title>");
    put("public/app.js", SCRIPT.repeat(100).as_bytes());
    put("public/own.js", SCRIPT.repeat(100).as_bytes());
    put("public/own.js.br", b"br of its own");
    put("public/large.js", SCRIPT.repeat(10_000).as_bytes());
    put("made/br/app.js", b"br of app");
    put("made/zstd/app.js", b"zstd of app");
    put("made/gzip/app.js", b"gzip of app");
    put("made/zstd/own.js", b"zstd of own");
    put("made/br/large.js", b"br of large");
    put("made/br/gone.js", b"br of what is not there");
    put("made/whole.json", b"{}");
    put("public/a.css", b"a { b: c }");
    put("public/a.css.gz", b"gz of its own");
    put("made/plain/a.css", b"a{b:c}");
    put("made/plain/klar-worker.js", b"worker");
    put("made/link/index.html", b"</app.js>; rel=preload; as=script");
    put("made/link/app.js", b"</no.js>");
    let edge = Edge::with(&[], |edge| {
        edge.folders = vec![hold(&folder, "public"), hold(&folder, "made")];
        let release = "0123456789ab".parse().unwrap();
        let target = Target::Static { folder: 0, release, spa: false, prepared: Some(1) };
        edge.site().routes = vec![Route { target, ..route("/*") }];
    });
    (edge, folder)
}

fn ask(edge: &Edge, method: &str, path: &str, headers: &str) -> Answer {
    edge.ask(&format!("{method} {path} HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n"))
}

#[test]
fn each_visitor_gets_the_copy_that_it_understands() {
    let (edge, _folder) = serve();
    // Twice: from disk, and from memory where it is kept.
    for _ in 0..2 {
        let mut tags = Vec::new();
        for (accepts, path, body, coding) in [
            ("gzip, deflate, br, zstd", "/app.js", "br of app", Some("br")),
            ("gzip, zstd", "/app.js", "zstd of app", Some("zstd")),
            ("gzip", "/app.js", "gzip of app", Some("gzip")),
            ("br;q=0, gzip", "/app.js", "gzip of app", Some("gzip")),
            ("identity", "/app.js", &SCRIPT.repeat(100), None),
            ("br, zstd", "/own.js", "br of its own", Some("br")),
            ("zstd", "/own.js", "zstd of own", Some("zstd")),
            ("br", "/large.js", "br of large", Some("br")),
            ("identity", "/large.js", &SCRIPT.repeat(10_000), None),
        ] {
            let headers = format!("accept-encoding: {accepts}\r\n");
            let answer = ask(&edge, "GET", path, &headers);
            assert_eq!((answer.status, answer.text() == body), (200, true), "{path} {accepts}");
            assert_eq!(answer.header("content-encoding"), coding, "{path} {accepts}");
            assert_eq!(answer.header("content-length"), Some(body.len().to_string().as_str()));
            assert_eq!(answer.header("vary"), Some("accept-encoding"), "{path} {accepts}");
            assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
            let tag = answer.header("etag").unwrap().to_owned();
            let head = ask(&edge, "HEAD", path, &headers);
            for name in ["content-length", "content-encoding", "etag", "vary"] {
                assert_eq!(head.header(name), answer.header(name), "{path} {accepts}: {name}");
            }
            let same = ask(&edge, "GET", path, &format!("{headers}if-none-match: {tag}\r\n"));
            assert_eq!((same.status, same.header("etag")), (304, Some(tag.as_str())), "{path} {accepts}");
            let part = ask(&edge, "GET", path, &format!("{headers}range: bytes=3-4\r\nif-range: {tag}\r\n"));
            assert_eq!((part.status, part.text().as_str()), (206, &body[3..5]), "{path} {accepts}");
            tags.push((path, coding, tag));
        }
        for (at, (path, coding, tag)) in tags.iter().enumerate() {
            let same = tags[..at].iter().find(|(_, _, other)| other == tag);
            assert!(
                same.is_none_or(|(other, earlier, _)| (other, earlier) == (path, coding) || coding.is_none()),
                "two contents share {tag}: {path} {coding:?} and {same:?}"
            );
        }
    }
}

#[test]
fn what_has_no_copy_is_compressed_as_ever() {
    let (edge, _folder) = serve();
    let answer = ask(&edge, "GET", "/own.js", "accept-encoding: gzip\r\n");
    assert_eq!((answer.status, answer.header("content-encoding")), (200, Some("gzip")));
    assert_ne!(answer.text(), "gzip of app");
}

#[test]
fn what_was_made_has_no_address() {
    let (edge, _folder) = serve();
    for path in
        ["/br/app.js", "/whole.json", "/made/br/app.js", "/../made/br/app.js", "/app.js.zst", "/gone.js"]
    {
        let answer = ask(&edge, "GET", path, "accept-encoding: br\r\naccept: */*\r\n");
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
    }
}

#[test]
fn what_takes_the_place_of_a_file_is_sent_for_it() {
    let (edge, _folder) = serve();
    for _ in 0..2 {
        for (path, body, kind) in [
            ("/a.css", "a{b:c}", "text/css; charset=utf-8"),
            ("/klar-worker.js", "worker", "text/javascript; charset=utf-8"),
        ] {
            for headers in ["", "accept-encoding: gzip\r\n"] {
                let answer = ask(&edge, "GET", path, headers);
                assert_eq!((answer.status, answer.text().as_str()), (200, body), "{path}");
                assert_eq!(answer.header("content-type"), Some(kind), "{path}");
                assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
            }
        }
    }
    assert_eq!(edge.get("/plain/a.css").status, 404);
}

#[test]
fn a_page_says_what_it_needs() {
    let (edge, _folder) = serve();
    for _ in 0..2 {
        for method in ["GET", "HEAD"] {
            let answer = ask(&edge, method, "/", "");
            assert_eq!(answer.header("link"), Some("</app.js>; rel=preload; as=script"));
        }
        let tag = edge.get("/").header("etag").unwrap().to_owned();
        let same = ask(&edge, "GET", "/", &format!("if-none-match: {tag}\r\n"));
        assert_eq!((same.status, same.header("link")), (304, None));
        assert_eq!(edge.get("/app.js").header("link"), None);
        assert_eq!(edge.get("/link/index.html").status, 404);
    }
}
