//! What comes over a control socket, and the words that people write: read, or refused with a reason.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::{Debug, Display};
use std::io::Write;
use std::net::{IpAddr, Shutdown};
use std::os::unix::net::UnixStream;
use std::str::FromStr;

use klar_base::upstreams::{FromEdge, ToEdge};
use klar_base::{AppKey, ByteSize, InstanceId, Network, Period, ReleaseId, wire};
use klar_fuzz::{Feed, Fuzz};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is read is written and read again as the same.
fn hear<T: Serialize + DeserializeOwned>(frame: &[u8]) {
    let (mut here, there) = UnixStream::pair().unwrap();
    here.write_all(frame).unwrap();
    here.shutdown(Shutdown::Write).unwrap();
    let length = frame.first_chunk().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    match wire::receive::<T>(&there) {
        Ok(None) => assert!(frame.is_empty(), "a message was lost"),
        Ok(Some((message, descriptors))) => {
            assert!(descriptors.is_empty());
            assert!(frame.len() >= 4 + length, "more was read than was sent");
            let (here, there) = UnixStream::pair().unwrap();
            wire::send(&here, &message, &[]).unwrap();
            let (again, _) = wire::receive::<T>(&there).unwrap().unwrap();
            let text = |message: &T| serde_json::to_value(message).unwrap();
            assert_eq!(text(&again), text(&message));
        }
        Err(_) => {}
    }
}

const MESSAGES: Fuzz<'_> = Fuzz {
    name: "messages between core and edge",
    seeds: &[
        br#" {"type":"hello","pid":1,"version":"0.1.0","generation":0,"listeners":[],"sandbox":[]}"#,
        br#" {"type":"listen","listeners":[{"address":"127.0.0.1:1","tls":true,"worker":0}]}"#,
        br#" {"type":"stop","patience":{"secs":1,"nanos":0}}"#,
        br#" {"type":"rejected","generation":3,"reason":"x"}"#,
        br#" {"type":"vitals","generation":1,"connections":0,"turned_away":0,"upstreams":[],"totals":{}}"#,
        br#" {"type":"ask","number":1,"question":"counts"}"#,
        br#" {"type":"something newer","field":[1,2,{"a":null}]}"#,
    ],
    words: &[
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b":",
        b",",
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"\\u0000",
        b"\\ud800",
        b"\"type\":",
        b"\"generation\":",
        b"18446744073709551616",
        b"{\"secs\":18446744073709551615,\"nanos\":4294967295}",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        b"\xff",
    ],
    longest: 500,
};

#[test]
fn a_message_is_read_whole_or_not_at_all() {
    MESSAGES.run(|input| {
        let mut feed = Feed::new(input);
        // Mostly as long as it says.
        let off = match feed.byte() {
            0 => 1,
            1 => -1,
            2 => 1 << 30,
            _ => 0,
        };
        let body = feed.rest();
        let length = (body.len() as i64 + off).clamp(0, i64::from(u32::MAX)) as u32;
        let frame = [&length.to_be_bytes()[..], body].concat();
        hear::<ToEdge>(&frame);
        hear::<FromEdge>(&frame);
        // A length that does not come whole.
        hear::<ToEdge>(&frame[..input.len() % 4]);
    });
}

/// A word that is read is written so that it is read as the same.
fn word<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    let written = value.to_string();
    assert_eq!(written.parse().ok().as_ref(), Some(&value), "{text:?} becomes {written:?}");
    Some(value)
}

#[test]
fn words_are_written_as_they_are_read() {
    Fuzz {
        name: "words of klar.toml",
        seeds: &[
            b"shop.prod",
            b"shop.prod.web.12",
            b"0123456789ab",
            b"10.0.0.0/8",
            b"::ffff:10.0.0.0/104",
            b"16 MiB",
            b"1.5 GiB",
            b"30s",
            b"1h",
            b"2 days",
            b"2001:db8::/32",
            b"0",
            b"250ms",
        ],
        words: &[b".", b"/", b"-", b"KiB", b"GB", b"ms", b"d", b"::", b"1e9", b"/129", b"prod", b" ", b"+1"],
        longest: 40,
    }
    .run(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        if let Some(key) = word::<AppKey>(text) {
            // It names folders, users and groups.
            let is_plain =
                |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || "-.".contains(char);
            assert!(key.to_string().chars().all(is_plain), "{key}");
        }
        let _ = (word::<InstanceId>(text), word::<ReleaseId>(text));
        let _ = (word::<ByteSize>(text), word::<Period>(text));
        let Some(network) = word::<Network>(text) else { return };
        let own = text.split('/').next().unwrap_or_default().trim().parse::<IpAddr>();
        assert!(own.is_ok_and(|own| network.contains(own)), "{network} has its own address in it");
    });
}
