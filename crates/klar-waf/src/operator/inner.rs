//! Does an address lead to what only the server itself can reach?
//!
//! Looked at is an address at the beginning of a value: its scheme, and its host in all the ways in which programs take
//! one. `http://2130706433/`, `http://0x7f.1/`, `http://[::ffff:127.0.0.1]/` and `http://example.com@127.1/` are all the
//! machine itself.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::bytes::Presence;

/// Without one of these bytes no value is an address.
pub const ADDRESS_SIGNS: Presence = Presence::all_of(b":/");

/// Schemes that no visitor has a reason to hand over, and whether `//` has to follow.
const SCHEMES: &[(&str, bool)] = &[
    ("gopher", true),
    ("dict", true),
    ("tftp", true),
    ("netdoc", false),
    ("php", true),
    ("expect", true),
    ("zip", true),
    ("phar", true),
    ("glob", true),
    ("rar", true),
    ("ogg", true),
    ("ssh2", true),
    ("data", true),
    ("local_file", true),
    ("compress.zlib", true),
    ("compress.bzip2", true),
    ("file", false),
    ("unix", true),
    ("ldap", true),
    ("ldaps", true),
    ("rmi", true),
    ("smb", true),
];

/// Schemes of databases and the like: people write where theirs are, and what fetches addresses does not speak them.
const STORES: &[&str] = &[
    "postgres",
    "postgresql",
    "mysql",
    "mariadb",
    "redis",
    "rediss",
    "mongodb",
    "amqp",
    "amqps",
    "nats",
    "smtp",
    "smtps",
    "imap",
    "imaps",
    "jdbc",
    "sqlite",
    "mqtt",
    "ssh",
];

/// Schemes that wrap another address.
const WRAPPERS: &[&str] = &["url", "jar", "feed", "view-source", "git+http", "git+https"];

/// Names of machines that are inside, and ends of names.
const NAMES: &[&str] =
    &["metadata", "instance-data", "kubernetes", "ip6-localhost", "ip6-loopback", "loopback"];
const ENDS: &[&str] = &[
    ".localhost",
    ".localdomain",
    ".internal",
    ".consul",
    ".svc",
    ".cluster",
    // Names that lead to whatever address stands in them, or back to whoever asks.
    ".nip.io",
    ".xip.io",
    ".sslip.io",
    "localtest.me",
    "lvh.me",
    "vcap.me",
    "lacolhost.com",
    ".burpcollaborator.net",
    ".oastify.com",
    ".oast.pro",
    ".oast.live",
    ".oast.site",
    ".oast.fun",
    ".oast.me",
    ".interact.sh",
    ".rbndr.us",
    ".1u.ms",
    ".dnslog.cn",
    ".ceye.io",
];

/// Ports of what stands behind an app, and is no web app itself.
const PORTS: &[u16] =
    &[22, 25, 2375, 2376, 2379, 3306, 5432, 5984, 6379, 8500, 9200, 9300, 10250, 10255, 11211, 27017];

/// First segments of paths under which clouds tell machines their keys.
const METADATA: &[&[u8]] = &[
    b"latest/meta-data",
    b"latest/user-data",
    b"latest/api/token",
    b"computemetadata/",
    b"metadata/instance",
    b"opc/v",
];

/// The longest host that is looked at; names are no longer than 253 bytes.
const HOST_MAX: usize = 256;

/// Whether a value is an address that leads inside. Takes time linear in its length, and allocates nothing.
#[must_use]
pub fn detect_inner_address(value: &[u8]) -> bool {
    let mut rest = value.trim_ascii_start();
    for _ in 0..4 {
        let Some((scheme, behind)) = scheme(rest) else {
            return match rest.strip_prefix(b"//") {
                Some(behind) => leads_inside(behind),
                None => is_metadata(rest),
            };
        };
        let is = |name: &str| scheme.eq_ignore_ascii_case(name.as_bytes());
        if WRAPPERS.iter().any(|wrapper| is(wrapper)) {
            rest = behind;
            continue;
        }
        if STORES.iter().any(|store| is(store)) {
            return false;
        }
        let slashes = behind.iter().take_while(|byte| matches!(byte, b'/' | b'\\')).count();
        let needs = SCHEMES.iter().find(|(name, _)| is(name)).map(|(_, needs)| if *needs { 2 } else { 1 });
        if needs.is_some_and(|needs| slashes >= needs) {
            return true;
        }
        // `http:127.0.0.1` is an address for browsers and for some programs.
        let is_web = is("http") || is("https");
        return (slashes >= 2 || is_web) && leads_inside(behind.get(slashes..).unwrap_or_default());
    }
    false
}

/// A scheme and what stands behind its colon.
fn scheme(address: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = address
        .iter()
        .take(20)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.' | b'-' | b'_'))
        .count();
    let (scheme, behind) = address.split_at(len);
    // A port is no scheme's rest: localhost:3000
    let is_port = behind.get(1).is_some_and(u8::is_ascii_digit) && !scheme.starts_with(b"http");
    (scheme.first()?.is_ascii_alphabetic() && !is_port).then_some(())?;
    Some((scheme, behind.strip_prefix(b":")?))
}

fn is_metadata(address: &[u8]) -> bool {
    let Some(slash) = memchr::memchr(b'/', address.get(..HOST_MAX.min(address.len())).unwrap_or_default())
    else {
        return false;
    };
    let (host, path) = address.split_at(slash);
    host.contains(&b'.')
        && METADATA
            .iter()
            .any(|known| path.get(1..=known.len()).is_some_and(|path| path.eq_ignore_ascii_case(known)))
}

/// Whether an authority and what follows it lead inside.
fn leads_inside(address: &[u8]) -> bool {
    // Programs do not agree on whether a backslash ends the host.
    let strict = end(address, b"/?#!");
    let loose = end(address, b"/?#!\\");
    [strict, loose].into_iter().any(|end| {
        let authority = address.get(..end).unwrap_or_default();
        let authority = authority.rsplit(|byte| *byte == b'@').next().unwrap_or_default();
        let mut buffer = [0; HOST_MAX];
        let Some(host) = host(authority, &mut buffer) else { return false };
        let port = port(authority);
        is_inside(host) || (!host.contains(['.', ':']) && port.is_some_and(|port| PORTS.contains(&port)))
    })
}

fn end(address: &[u8], ends: &[u8]) -> usize {
    address.iter().position(|byte| ends.contains(byte) || byte.is_ascii_whitespace()).unwrap_or(address.len())
}

fn port(authority: &[u8]) -> Option<u16> {
    let digits =
        authority.rsplit(|byte| *byte == b':').next().filter(|digits| digits.len() < authority.len())?;
    str::from_utf8(digits).ok()?.parse().ok()
}

/// The host in small letters, with percent signs resolved and the last dot left out; digits in circles are digits.
fn host<'b>(authority: &[u8], buffer: &'b mut [u8; HOST_MAX]) -> Option<&'b str> {
    let raw = match authority.strip_prefix(b"[") {
        Some(inner) => inner.split(|byte| *byte == b']').next(),
        None if authority.windows(2).any(|pair| pair == b"::") => Some(authority),
        None => authority.split(|byte| *byte == b':').next(),
    }?;
    let (mut at, mut len) = (0, 0);
    while let Some(byte) = raw.get(at).copied() {
        let rest = raw.get(at + 1..).unwrap_or_default();
        let hex = |at: usize| rest.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let (byte, step) = match (byte, rest) {
            (b'%', _) => match (hex(0), hex(1)) {
                (Some(high), Some(low)) => (u8::try_from(high << 4 | low).ok()?, 3),
                _ => (byte, 1),
            },
            // ① to ⑨, ⓪, full-width digits, and what stands for a full stop elsewhere.
            (0xe2, [0x91, digit @ 0xa0..=0xa8, ..]) => (b'1' + (digit - 0xa0), 3),
            (0xe2, [0x93, 0xaa, ..]) => (b'0', 3),
            (0xef, [0xbc, digit @ 0x90..=0x99, ..]) => (b'0' + (digit - 0x90), 3),
            (0xe3, [0x80, 0x82, ..]) | (0xef, [0xbc, 0x8e, ..]) | (0xef, [0xbd, 0xa1, ..]) => (b'.', 3),
            _ => (byte.to_ascii_lowercase(), 1),
        };
        *buffer.get_mut(len)? = byte;
        len += 1;
        at += step;
    }
    let host = str::from_utf8(buffer.get(..len)?).ok()?;
    Some(host.trim_end_matches('.')).filter(|host| !host.is_empty())
}

fn is_inside(host: &str) -> bool {
    if let Some((address, is_usual)) = ipv4(host) {
        return !is_usual || is_inside_v4(address);
    }
    if host.contains(':') {
        let host = host.split('%').next().unwrap_or_default();
        return host.parse::<Ipv6Addr>().is_ok_and(is_inside_v6);
    }
    host == "localhost"
        || NAMES.contains(&host)
        || host.starts_with("kubernetes.default")
        || ENDS.iter().any(|end| host.ends_with(end) || Some(host) == end.strip_prefix('.'))
}

fn is_inside_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || first == 0
        || (first == 100 && (64..128).contains(&second))
        || (first == 192 && second == 0 && third == 0)
        || (first == 198 && (second == 18 || second == 19))
        || address.is_broadcast()
}

fn is_inside_v6(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    let is_local = address.is_loopback()
        || address.is_unspecified()
        || first & 0xfe00 == 0xfc00
        || first & 0xffc0 == 0xfe80;
    let is_nat = first == 0x64 && address.segments()[1] == 0xff9b;
    let v4 = address.to_ipv4().or_else(|| {
        is_nat
            .then(|| Ipv4Addr::from_bits(u32::try_from(address.to_bits() & 0xffff_ffff).unwrap_or_default()))
    });
    is_local || v4.is_some_and(is_inside_v4)
}

/// An address as the C library reads it: one to four numbers, decimal, octal or hexadecimal; and whether it is written
/// as people write it.
fn ipv4(host: &str) -> Option<(Ipv4Addr, bool)> {
    let (mut parts, mut count, mut is_usual) = ([0_u64; 4], 0, true);
    for part in host.split('.') {
        let (digits, radix) = match part.as_bytes() {
            [b'0', b'x', ..] => (part.get(2..)?, 16),
            [b'0', _, ..] => (part.get(1..)?, 8),
            _ => (part, 10),
        };
        is_usual &= radix == 10;
        if part.is_empty()
            || part.len() > 20
            || (radix != 16 && !digits.bytes().all(|digit| digit.is_ascii_digit()))
        {
            return None;
        }
        *parts.get_mut(count)? =
            if digits.is_empty() { 0 } else { u64::from_str_radix(digits, radix).ok()? };
        count += 1;
    }
    is_usual &= count == 4 && parts.iter().all(|part| *part < 256);
    // Octets that are too large are cut by some programs.
    let bits = parts.iter().take(count).enumerate().fold(0_u64, |bits, (at, part)| {
        if at + 1 == count {
            bits | part & (u64::MAX >> (32 + 8 * at))
        } else {
            bits | (part & 0xff) << (24 - 8 * at)
        }
    });
    Some((Ipv4Addr::from_bits(u32::try_from(bits & 0xffff_ffff).ok()?), is_usual))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside() {
        for value in [
            "http://127.0.0.1/",
            "http://127.1/admin",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0251.0376.0251.0376/latest/",
            "http://[::1]:80/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fd00:ec2::254]/latest",
            "http://169.254.169.254/latest/meta-data/",
            "HTTP://Metadata.Google.Internal./computeMetadata/v1/",
            "//10.0.0.1/x",
            "https://example.com@192.168.0.1/",
            "http://example.com\\@127.0.0.1/",
            "http://①②⑦.⓪.⓪.①/",
            "http://%31%32%37.0.0.1/",
            "http://127.0.0.1.nip.io/",
            "http://localhost:8080/",
            "http://redis:6379/",
            "gopher://example.com/_x",
            "file:///etc/passwd",
            "php://filter/resource=x",
            "jar:http://127.0.0.1/x.jar!/",
            "ftp://192.168.1.2/",
            "169.254.169.254/latest/meta-data/",
            "http:127.0.0.1/",
        ] {
            assert!(detect_inner_address(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn outside() {
        for value in [
            "https://example.com/path?a=127.0.0.1",
            "localhost:3000",
            "192.168.1.1 logg inn",
            "10.0.0.5:9100",
            "http://intranett/side.aspx?ID=12",
            "https://kari@git.example.com/team/app",
            "data:image/png;base64,iVBORw0KGgo=",
            "mailto:post@example.com",
            "http://",
            "https://203.0.113.7/",
            "file: se vedlegg",
            "Re: møte",
            "app://open/order/42",
            "12:30",
            "",
        ] {
            assert!(!detect_inner_address(value.as_bytes()), "{value}");
        }
    }
}
