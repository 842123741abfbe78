//! Who the visitor is, as proxies say it in the head of a request: `X-Forwarded-For` and `X-Forwarded-Proto`, or
//! `Forwarded` (RFC 7239).
//!
//! Both are lists to whose end each proxy adds who came to it. So they are read from the end, and only as far as
//! those who wrote are trusted: the first address that is no proxy's is the visitor, and what stands before it is the
//! visitor's own invention. Where something makes no sense, the last proxy that was sensible is the visitor: nothing
//! that a stranger can write makes anybody believed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderName};
use klar_base::Network;
use klar_base::upstreams::ForwardedHeader;

use crate::fields::Fields;

use crate::front::Visitor;

/// So many entries are read; a visitor who came through more proxies counts as the last of them.
const HOPS_MAX: usize = 16;
/// A longer entry makes no sense, in bytes. The longest that does is `for="[IPv6]:port"` with `by`, `host` and `proto`.
const ENTRY_MAX: usize = 512;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The visitor of a request that came from `near`, a proxy of `proxies`.
pub fn visitor(headers: &impl Fields, by: ForwardedHeader, proxies: &[Network], near: Visitor) -> Visitor {
    match by {
        ForwardedHeader::XForwarded => {
            let address = walk(headers, &FORWARDED_FOR, proxies, near.address, address);
            // One proxy wrote this last, and it is the one that is here.
            let scheme = entries(headers, &FORWARDED_PROTO).next().and_then(scheme);
            Visitor { address, https: scheme.unwrap_or(near.https) }
        }
        ForwardedHeader::Forwarded => {
            let mut https = near.https;
            let address = walk(headers, &header::FORWARDED, proxies, near.address, |entry| {
                let element = Element::read(entry)?;
                // Said by the same proxy, of the same connection.
                https = element.https.unwrap_or(near.https);
                element.address
            });
            Visitor { address, https }
        }
    }
}

/// The first address from the end that is no proxy's, or the last one that is.
fn walk(
    headers: &impl Fields,
    name: &HeaderName,
    proxies: &[Network],
    near: IpAddr,
    mut read: impl FnMut(&str) -> Option<IpAddr>,
) -> IpAddr {
    let mut known = near;
    for entry in entries(headers, name).take(HOPS_MAX) {
        match read(entry) {
            Some(address) => known = address,
            None => break,
        }
        if !proxies.iter().any(|network| network.contains(known)) {
            break;
        }
    }
    known
}

/// The entries of a list over several lines, the last one first. One that is no text is empty, as it makes no sense.
fn entries<'a, F: Fields>(headers: &'a F, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a, F> {
    let lines = headers.all(name).rev();
    // An empty line says nothing; elsewhere an empty entry makes no sense, and ends the reading.
    let lines = lines.filter(|line| !line.trim_ascii().is_empty());
    lines
        .flat_map(|line| Backwards { rest: Some(line) })
        .map(|entry| std::str::from_utf8(entry).unwrap_or(""))
}

/// The entries of one line, the last one first. Commas between quotes are none: what a proxy has added is well-formed in
/// itself, so that the quotes are counted from its end and nothing before it changes what it means.
struct Backwards<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Backwards<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.rest?;
        let mut quoted = false;
        for (at, byte) in line.iter().enumerate().rev() {
            match byte {
                b'"' => {
                    let escapes = line[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                    quoted ^= escapes % 2 == 0;
                }
                b',' if !quoted => {
                    self.rest = Some(&line[..at]);
                    return Some(line[at + 1..].trim_ascii());
                }
                _ => {}
            }
        }
        self.rest = None;
        Some(line.trim_ascii())
    }
}

/// An address as proxies write it: alone, or with a port; IPv6 with a port in brackets.
fn address(text: &str) -> Option<IpAddr> {
    if text.len() > ENTRY_MAX {
        return None;
    }
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let address = text.parse().ok().or_else(bracketed).or_else(with_port)?;
    Some(address.to_canonical())
}

/// Whether a scheme is that of HTTPS; `None`: it is neither.
fn scheme(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("https") {
        return Some(true);
    }
    text.eq_ignore_ascii_case("http").then_some(false)
}

/// What an element of `Forwarded` says (RFC 7239 section 4), as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Element {
    /// `None`: it names nobody, or somebody by another name than an address (section 6).
    address: Option<IpAddr>,
    https: Option<bool>,
}

impl Element {
    /// Reads one; `None` when it is malformed.
    fn read(text: &str) -> Option<Self> {
        if text.len() > ENTRY_MAX {
            return None;
        }
        let mut element = Self { address: None, https: None };
        let (mut has_address, mut has_scheme) = (false, false);
        let mut rest = text;
        loop {
            let (name, after) = rest.split_once('=')?;
            let (value, after) = value(after)?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return None;
            }
            // Each name at most once (section 4).
            if name.eq_ignore_ascii_case("for") {
                if std::mem::replace(&mut has_address, true) {
                    return None;
                }
                element.address = node(&value);
            } else if name.eq_ignore_ascii_case("proto") {
                if std::mem::replace(&mut has_scheme, true) {
                    return None;
                }
                element.https = scheme(&value);
            }
            match after.strip_prefix(';') {
                Some(more) => rest = more,
                None => return after.is_empty().then_some(element),
            }
        }
    }
}

/// The value at the beginning of a text, without its quotes, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (!value.is_empty() && value.bytes().all(is_token)).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            char => value.push(char),
        }
    }
    None
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A node that is an address (RFC 7239 section 6): IPv6 only in brackets; its port may be a made-up name.
fn node(text: &str) -> Option<IpAddr> {
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':')?),
            };
            (IpAddr::V6(address.parse().ok()?), port)
        }
        None => {
            let (address, port) = match text.split_once(':') {
                Some((address, port)) => (address, Some(port)),
                None => (text, None),
            };
            (IpAddr::V4(address.parse().ok()?), port)
        }
    };
    let is_port = |port: &str| match port.strip_prefix('_') {
        Some(name) => {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        }
        None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
    };
    port.is_none_or(is_port).then(|| address.to_canonical())
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match self.address {
            Some(IpAddr::V4(address)) => address.to_string(),
            Some(IpAddr::V6(address)) => format!("\"[{address}]\""),
            None => "unknown".into(),
        };
        write!(f, "for={address}")?;
        match self.https {
            Some(true) => f.write_str(";proto=https"),
            Some(false) => f.write_str(";proto=http"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const NEAR: &str = "10.0.0.1";

    fn seen(by: ForwardedHeader, lines: &[(&str, &str)]) -> Visitor {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let headers: HeaderMap = lines.iter().map(pair).collect();
        let proxies = ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().unwrap());
        visitor(&headers, by, &proxies, Visitor { address: NEAR.parse().unwrap(), https: false })
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_visitor() {
        let long = format!("6.6.6.6{}", " ".repeat(ENTRY_MAX));
        let hops = "10.0.0.9, ".repeat(HOPS_MAX + 1);
        for (lines, address) in [
            (&["203.0.113.9"][..], "203.0.113.9"),
            (&["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
            (&["6.6.6.6", "203.0.113.9"], "203.0.113.9"),
            (&["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            (&["203.0.113.9", "10.0.0.2", ""], "203.0.113.9"),
            (&["203.0.113.9,10.0.0.2,10.0.0.3"], "203.0.113.9"),
            (&["203.0.113.9:4711"], "203.0.113.9"),
            (&["::ffff:203.0.113.9"], "203.0.113.9"),
            (&["2001:db9::7, 2001:db8::2"], "2001:db9::7"),
            (&["[2001:db9::7]:4711"], "2001:db9::7"),
            (&["[2001:db9::7]"], "2001:db9::7"),
            // Proxies all the way: the first of them asks for itself.
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Nothing, or nothing that makes sense: the proxy that is here.
            (&[], NEAR),
            (&[""], NEAR),
            (&["6.6.6.6, "], NEAR),
            (&["6.6.6.6, unknown"], NEAR),
            (&["6.6.6.6, 203.0.113.9x"], NEAR),
            (&["6.6.6.6, 203.0.113.9, 10.0.0.2, ''"], NEAR),
            (&["6.6.6.6, 0x7f.1"], NEAR),
            (&["6.6.6.6, 203.0.113.9:99999"], NEAR),
            (&["6.6.6.6, sh\u{f8}p"], NEAR),
            (&["sh\u{f8}p, 203.0.113.9"], "203.0.113.9"),
            // A proxy that is sensible, behind one that is not.
            (&["6.6.6.6, nonsense, 10.0.0.2"], "10.0.0.2"),
            (&[&long], "6.6.6.6"),
            (&[&format!("6.6.6.6 {}x", " ".repeat(ENTRY_MAX))], NEAR),
            (&[&format!("6.6.6.6, {hops}10.0.0.8")], "10.0.0.9"),
            // Of no list that is believed.
            (&["\"6.6.6.6\""], NEAR),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            let lines = [&lines[..], &[("forwarded", "for=7.7.7.7;proto=https")]].concat();
            let seen = seen(ForwardedHeader::XForwarded, &lines);
            assert_eq!((seen.address.to_string(), seen.https), (address.into(), false), "{lines:?}");
        }
    }

    #[test]
    fn the_nearest_proxy_says_the_scheme() {
        for (lines, https) in [
            (&["https"][..], true),
            (&["HTTPS"], true),
            (&["http"], false),
            (&["http, https"], true),
            (&["https, http"], false),
            (&["https", "http"], false),
            (&["wss"], false),
            (&["https,"], false),
            (&[], false),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-proto", *line)).collect();
            assert_eq!(seen(ForwardedHeader::XForwarded, &lines).https, https, "{lines:?}");
        }
    }

    /// RFC 7239 sections 4 and 6, and what strangers write before it.
    #[test]
    fn forwarded_is_read_from_its_end() {
        for (lines, address, https) in [
            (&["for=203.0.113.9"][..], "203.0.113.9", false),
            (&["For=203.0.113.9;Proto=https"], "203.0.113.9", true),
            (&["by=10.0.0.1;proto=https;for=203.0.113.9;host=shop.example"], "203.0.113.9", true),
            (&["for=\"203.0.113.9:4711\";proto=\"https\""], "203.0.113.9", true),
            (&["for=\"[2001:db9::7]:_port\""], "2001:db9::7", false),
            (&["for=\"\\[2001:db9::7]\""], "2001:db9::7", false),
            (&["for=6.6.6.6;proto=https, for=203.0.113.9;proto=http, for=10.0.0.2"], "203.0.113.9", false),
            (&["for=203.0.113.9;proto=https, for=10.0.0.2;proto=http"], "203.0.113.9", true),
            (&["for=203.0.113.9;proto=https", "for=10.0.0.2"], "203.0.113.9", true),
            // The stranger's part: quotes that never end, elements that never began.
            (&["for=\"6.6.6.6, for=203.0.113.9"], "203.0.113.9", false),
            (&["for=\"6.6.6.6, for=7.7.7.7;by=\", for=203.0.113.9;proto=http"], "203.0.113.9", false),
            (&[";;;, for=203.0.113.9"], "203.0.113.9", false),
            (&["for=6.6.6.6, for=unknown"], NEAR, false),
            (&["for=6.6.6.6, for=_hidden;proto=https"], NEAR, true),
            (&["for=6.6.6.6, proto=https"], NEAR, true),
            (&["for=6.6.6.6, for=2001:db9::7"], NEAR, false),
            (&["for=6.6.6.6, for=7.7.7.7;for=8.8.8.8"], NEAR, false),
            (&["for=6.6.6.6, for=7.7.7.7; proto=https"], NEAR, false),
            (&["for=6.6.6.6, for=7.7.7.7;"], NEAR, false),
            (&["for=6.6.6.6, for"], NEAR, false),
            (&["for=6.6.6.6, for=\"7.7.7.7"], NEAR, false),
            (&["for=6.6.6.6, for=7.7.7.7:x"], NEAR, false),
            (&["6.6.6.6"], NEAR, false),
            (&[], NEAR, false),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
            let lines =
                [&lines[..], &[("x-forwarded-for", "7.7.7.7"), ("x-forwarded-proto", "https")]].concat();
            let seen = seen(ForwardedHeader::Forwarded, &lines);
            assert_eq!((seen.address.to_string(), seen.https), (address.into(), https), "{lines:?}");
        }
    }

    proptest! {
        /// Whatever a stranger writes, what a proxy adds after it says who the stranger is.
        #[test]
        fn nothing_before_it_changes_what_a_proxy_adds(
            strange in proptest::collection::vec(
                "([ -~]|[\"\\\\,;=]|\u{f8}|for=|6\\.6\\.6\\.6|proto=https){0,40}", 0..4
            ),
            visitor in any::<[u8; 4]>().prop_map(|mut address| { address[0] = 200; IpAddr::from(address) }),
            https in any::<bool>(),
        ) {
            let element = Element { address: Some(visitor), https: Some(https) }.to_string();
            for (by, name, own) in [
                (ForwardedHeader::Forwarded, "forwarded", element),
                (ForwardedHeader::XForwarded, "x-forwarded-for", visitor.to_string()),
            ] {
                let mut lines: Vec<(&str, String)> = strange.iter().map(|line| (name, line.clone())).collect();
                match lines.last_mut() {
                    Some((_, last)) if !https => last.push_str(&format!(", {own}")),
                    _ => lines.push((name, own)),
                }
                let lines: Vec<_> = lines.iter().map(|(name, line)| (*name, line.as_str())).collect();
                prop_assert_eq!(seen(by, &lines).address, visitor, "{:?}", lines);
            }
        }

        #[test]
        fn bytes_of_any_kind_are_read_without_harm(
            lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..4)
        ) {
            for name in ["forwarded", "x-forwarded-for", "x-forwarded-proto"] {
                let mut headers = HeaderMap::new();
                for line in &lines {
                    if let Ok(value) = HeaderValue::from_bytes(line) {
                        headers.append(name, value);
                    }
                }
                let near = Visitor { address: NEAR.parse().unwrap(), https: false };
                for by in [ForwardedHeader::Forwarded, ForwardedHeader::XForwarded] {
                    visitor(&headers, by, &["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()], near);
                }
            }
        }

        #[test]
        fn what_is_printed_is_read_the_same(
            address in any::<Option<IpAddr>>(),
            https in any::<Option<bool>>(),
        ) {
            let element = Element { address: address.map(|address| address.to_canonical()), https };
            prop_assert_eq!(Element::read(&element.to_string()), Some(element));
        }
    }
}
