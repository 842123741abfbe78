//! Whatever a stranger writes before it, what a trusted proxy adds is what counts.

use http::header::{HeaderMap, HeaderValue};
use klar_fuzz::{Feed, Fuzz};

use super::*;

const FUZZ: Fuzz<'_> = Fuzz {
    name: "Forwarded and X-Forwarded-For",
    seeds: &[
        b"\0\x01\x02\x03203.0.113.9, 10.0.0.2\n6.6.6.6",
        b"\x01\x01\x02\x03for=203.0.113.9;proto=https, for=\"[2001:db8::9]:4711\"\nfor=unknown",
        b"\x01\x05\x02\x03for=\"_hidden\\\"\";by=10.0.0.1;host=\"a,b\"",
        b"\0\x09\x02\x03[2001:db8::1]:80, ::ffff:10.0.0.1,,\"",
    ],
    words: &[
        b"for=",
        b"proto=",
        b"by=",
        b"host=",
        b"https",
        b"\"",
        b"\\",
        b"\\\"",
        b", ",
        b";",
        b"[2001:db8::1]",
        b"10.0.0.1",
        b"203.0.113.9",
        b"unknown",
        b"_gazonk",
        b":4711",
        b"FOR=",
        b"\n",
    ],
    longest: 400,
};

fn lines(text: &[u8], name: &HeaderName) -> HeaderMap {
    let values = text.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    values.map(|value| (name.clone(), value)).collect()
}

#[test]
fn nothing_that_a_stranger_writes_makes_anybody_believed() {
    let proxies: Vec<Network> = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).into();
    let near = Visitor { address: "10.0.0.1".parse().unwrap(), https: false };
    FUZZ.run(|input| {
        let mut feed = Feed::new(input);
        let by = feed.one_of(&[ForwardedHeader::XForwarded, ForwardedHeader::Forwarded]);
        // No proxy's.
        let person: IpAddr = match feed.below(2) {
            0 => [203, 0, 113, feed.byte()].into(),
            _ => [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(feed.byte())].into(),
        };
        let https = feed.one_of(&[None, Some(true), Some(false)]);
        let is_own_line = feed.below(2) == 0;
        let stranger = feed.rest();
        let name = match by {
            ForwardedHeader::XForwarded => FORWARDED_FOR,
            ForwardedHeader::Forwarded => header::FORWARDED,
        };

        let mut headers = lines(stranger, &name);
        // A proxy adds the stranger's address to the end of the list, in a line of its own or in the same.
        let added = match by {
            ForwardedHeader::XForwarded => person.to_string(),
            ForwardedHeader::Forwarded => Element { address: Some(person), https }.to_string(),
        };
        let last = headers.get_all(&name).iter().next_back().cloned();
        match last.filter(|_| !is_own_line) {
            Some(last) => {
                let mut all: Vec<HeaderValue> = headers.get_all(&name).iter().cloned().collect();
                all.pop();
                all.push(
                    HeaderValue::from_bytes(&[last.as_bytes(), b", ", added.as_bytes()].concat()).unwrap(),
                );
                headers = all.into_iter().map(|value| (name.clone(), value)).collect();
            }
            None => {
                headers.append(&name, HeaderValue::try_from(&added).unwrap());
            }
        }
        let seen = visitor(&headers, by, &proxies, near);
        assert_eq!(seen.address, person);
        if by == ForwardedHeader::Forwarded {
            assert_eq!(seen.https, https.unwrap_or(near.https));
        }
    });
}

/// An element that makes sense is written, read and written again as the same.
#[test]
fn what_is_read_is_written_and_read_again() {
    Fuzz { name: "Forwarded, one element", longest: 120, ..FUZZ }.run(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let Some(element) = Element::read(text) else { return };
        let written = element.to_string();
        assert_eq!(Element::read(&written), Some(element), "{written}");
    });
}
