//! What an app sends plain arrives compressed, in the coding that the visitor likes, and as promptly.

use std::io::{Read, Write};

use crate::common::{App, Edge, Gate, HOST, Then};
use klar_base::signal::DecidedBy;

const PAGE: &str = "<p>All licences of the season, in one long list.</p>\n";

/// What can be read of the start of something packed.
fn start(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut reader: Box<dyn Read + '_> = match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(bytes)),
        "br" => Box::new(brotli::Decompressor::new(bytes, 4096)),
        _ => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
    };
    let mut out = Vec::new();
    let mut piece = [0; 64];
    while let Ok(read @ 1..) = reader.read(&mut piece) {
        out.extend_from_slice(&piece[..read]);
    }
    out
}

fn unpacked(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out),
        "zstd" => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut out),
        other => panic!("{other}"),
    }
    .unwrap();
    out
}

/// Short answers are compressed whole, long ones as they come; to the visitor it is the same.
#[test]
fn a_page_arrives_in_the_coding_that_is_asked_for() {
    let app = App::start(|got, stream| {
        let times = if got.line.contains("long") { 20_000 } else { 100 };
        let body = if got.line.starts_with("HEAD") { String::new() } else { PAGE.repeat(times) };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\netag: \"v1\"\r\ncontent-length: {}\r\n\r\n",
            PAGE.len() * times
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        Then::Keep
    });
    let edge = Edge::with(&[&app], |_| {});
    for (path, times) in [("/", 100), ("/long", 20_000)] {
        for coding in ["gzip", "br", "zstd"] {
            let request = |method: &str| {
                format!("{method} {path} HTTP/1.1\r\nhost: {HOST}\r\naccept-encoding: {coding}\r\n\r\n")
            };
            let answer = edge.ask(&request("GET"));
            assert_eq!(answer.header("content-encoding"), Some(coding), "{path}");
            assert_eq!(answer.header("vary"), Some("accept-encoding"));
            assert_eq!(answer.header("etag"), Some("W/\"v1\""));
            assert!(unpacked(coding, &answer.body) == PAGE.repeat(times).as_bytes(), "{path} {coding}");
            assert_eq!(edge.record(&answer).bytes_out, answer.body.len() as u64);
            let head = edge.ask(&request("HEAD"));
            assert_eq!(head.header("content-encoding"), Some(coding), "{path}");
            assert_eq!(head.header("content-length"), None, "nobody knows it without doing it");
        }
        let plain = edge.get(path);
        assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("accept-encoding")));
        assert_eq!(plain.body.len(), PAGE.len() * times);
    }
}

/// What an app has written is seen before it writes more.
#[test]
fn nothing_is_held_back_while_the_app_thinks() {
    for coding in ["gzip", "br", "zstd"] {
        let gate = Gate::default();
        let waiting = gate.clone();
        let app = App::start(move |_, stream| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(format!("{head}{:x}\r\n{PAGE}\r\n", PAGE.len()).as_bytes()).unwrap();
            waiting.pass();
            stream.write_all(format!("{:x}\r\n{PAGE}\r\n0\r\n\r\n", PAGE.len()).as_bytes()).unwrap();
            Then::Keep
        });
        let edge = Edge::with(&[&app], |_| {});
        let mut visitor = edge.visitor();
        visitor.send(format!(
            "GET / HTTP/1.1\r\nhost: {HOST}\r\naccept-encoding: {coding}\r\nconnection: close\r\n\r\n"
        ));
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(visitor.read(1));
        }
        // The gate opens only when all that the app has written can be read.
        let mut packed = Vec::new();
        while start(coding, &packed) != PAGE.as_bytes() {
            let mut size = Vec::new();
            while !size.ends_with(b"\r\n") {
                size.extend(visitor.read(1));
            }
            let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
            packed.extend_from_slice(&visitor.read(size + 2)[..size]);
        }
        gate.open();
        assert!(visitor.rest().ends_with(b"0\r\n\r\n"));
    }
}

/// An answer that breaks off is not one that ends: the visitor must be able to tell.
#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    let app = App::start(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 999999\r\n\r\n";
        stream.write_all(format!("{head}{}", PAGE.repeat(50)).as_bytes()).unwrap();
        Then::Close
    });
    let edge = Edge::with(&[&app], |_| {});
    let mut visitor = edge.visitor();
    visitor.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\naccept-encoding: gzip\r\n\r\n"));
    let said = visitor.rest();
    assert!(said.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&said));
    assert!(!said.ends_with(b"0\r\n\r\n"));
    edge.core().wait("the record", |heard| {
        heard.records.iter().find(|record| record.decided_by == DecidedBy::Failed).map(drop)
    });
}

/// What is compressed already, or small, or must stay as it is, stays as it is.
#[test]
fn what_is_packed_already_is_left_alone() {
    let app = App::start(|got, stream| {
        let more = match got.line.as_str() {
            line if line.contains("packed") => "content-encoding: gzip\r\n",
            line if line.contains("kept") => "cache-control: no-transform\r\n",
            _ => "",
        };
        let body = "x".repeat(if got.line.contains("small") { 100 } else { 4000 });
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n{more}content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        Then::Keep
    });
    let edge = Edge::with(&[&app], |_| {});
    for (path, length) in [("/packed", 4000), ("/kept", 4000), ("/small", 100)] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\naccept-encoding: gzip\r\n\r\n");
        let answer = edge.ask(&request);
        assert_eq!(answer.body.len(), length, "{path}");
        assert_eq!(answer.header("vary"), None, "{path}");
    }
}
