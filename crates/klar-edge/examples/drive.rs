//! Drives an edge for `bench/edge/instructions.sh`: one connection over TLS (`plain`: behind a proxy, without), and so
//! many requests one after another.
//!
//!     drive (proxy | plain | hit | file | page) COUNT
#![allow(clippy::unwrap_used)]

#[path = "../tests/suite/common/mod.rs"]
mod common;

use std::fs::File;

use common::{App, Edge, Folder, HOST, reply, route};
use klar_base::upstreams::{ForwardedHeader, Front, Target};

/// As klar itself allocates.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut given = std::env::args().skip(1);
    let case = given.next().expect("proxy, plain, hit, file or page");
    let count: usize = given.next().and_then(|count| count.parse().ok()).expect("how many requests");
    let body = "x".repeat(1024);
    let kilobyte = body.clone();
    let app = App::start(move |got, stream| {
        let more = match got.line.as_str() {
            "GET /hit" => "cache-control: max-age=600",
            _ => "date: Sun, 06 Nov 1994 08:49:37 GMT",
        };
        let headers =
            format!("server: app\r\n{more}\r\ncontent-type: text/plain\r\nconnection: keep-alive\r\n");
        reply(stream, "200 OK", &headers, &kilobyte)
    });
    let folder = Folder::new();
    std::fs::write(folder.path("1k.txt"), &body).unwrap();
    std::fs::write(folder.path("page.html"), &body).unwrap();
    let edge = Edge::with(&[&app], |edge| {
        let mut files = route("/files/*");
        let release = "0123456789ab".parse().unwrap();
        files.target = Target::Static { folder: edge.folders.len(), release, spa: false, prepared: None };
        edge.folders.push(File::open(folder.path("")).unwrap().into());
        if case == "plain" {
            let proxies = vec!["127.0.0.1".parse().unwrap()];
            edge.site().front = Front { proxies, header: ForwardedHeader::XForwarded, plain: true };
        }
        edge.site().routes.push(files);
    });
    let (target, more) = match case.as_str() {
        "proxy" | "plain" => ("/", ""),
        "hit" => ("/hit", ""),
        "file" => ("/files/1k.txt", ""),
        "page" => ("/files/page.html", "accept-encoding: gzip, deflate, br, zstd\r\n"),
        other => panic!("{other} is none of proxy, plain, hit, file and page"),
    };
    let request = format!("GET {target} HTTP/1.1\r\nhost: {HOST}\r\n{more}\r\n");
    let mut visitor = if case == "plain" { edge.plain_visitor() } else { edge.visitor() };
    for _ in 0..count {
        visitor.send(&request);
        assert_eq!(visitor.answer().status, 200);
    }
}
