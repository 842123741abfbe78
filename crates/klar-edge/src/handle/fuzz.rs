//! A path that two programs could understand differently never gets to an app or to a folder.

use klar_fuzz::Fuzz;

use super::*;

const FUZZ: Fuzz<'_> = Fuzz {
    name: "paths",
    seeds: &[
        b"/a/b/c.js",
        b"/../etc/passwd",
        b"/a/%2e%2e/b",
        b"/a/..%2fb",
        b"/a/.%2e;x/b",
        b"/%5c..%5cb",
        b"/a%00b",
        b"/.well-known/acme-challenge/x",
        b"/...",
        b"/%c3%b8",
        b"/a//b",
        b"/%252e%252e/",
    ],
    words: &[
        b"/",
        b"..",
        b".",
        b"%2e",
        b"%2E",
        b"%2f",
        b"%2F",
        b"%5c",
        b"\\",
        b"%00",
        b";",
        b"%",
        b"%25",
        b"%3b",
        b"/../",
        b"/./",
        b"%%2e",
        b"%2%65",
        b"index.html",
    ],
    longest: 80,
};

/// All escapes are read, once.
fn plain(path: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < path.len() {
        let escape = path.get(at + 1..at + 3).filter(|_| path[at] == b'%');
        let byte = escape.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        // `+f` is a number to Rust, and no escape.
        match byte.filter(|_| escape.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(path[at]);
                at += 1;
            }
        }
    }
    out
}

#[test]
fn what_is_safe_climbs_nowhere() {
    FUZZ.run(|input| {
        let Ok(path) = std::str::from_utf8(input) else { return };
        let plain = plain(input);
        let is_dot = |part: &[u8]| part == b"." || part == b"..";
        let is_slash = |byte: &u8| *byte == b'/' || *byte == b'\\';
        let climbs = plain.split(is_slash).any(is_dot);
        // Some servers take what follows a `;` for a parameter of the part before it.
        let climbs_with_parameter =
            input.iter().enumerate().filter(|(_, byte)| **byte == b';').any(|(at, _)| {
                let before = self::plain(&input[..at]);
                before.rsplit(is_slash).next().is_some_and(is_dot)
            });
        let has_zero = input.windows(3).any(|three| three == b"%00");
        let is_odd = has_zero || plain.contains(&b'\\');
        if climbs || climbs_with_parameter || is_odd {
            assert!(is_dangerous(path), "{path} is let through as {:?}", String::from_utf8_lossy(&plain));
        }
        // Files are looked for under the same name.
        let decoded = crate::files::decode(path);
        if let Some(decoded) = decoded {
            assert_eq!(decoded.as_bytes(), plain, "{path}");
            assert!(!decoded.contains('\0'));
        }
    });
}

#[test]
fn a_host_is_what_stands_before_its_port() {
    let seeds: &[&[u8]] = &[b"shop.test", b"SHOP.test:8443", b"[::1]:80", b"[::1]", b"a:b:c", b"]", b":80"];
    Fuzz { name: "hosts", seeds, words: &[b":80", b"[", b"]", b"::", b"."], longest: 60 }.run(|input| {
        let Ok(authority) = std::str::from_utf8(input) else { return };
        let host = host_in(authority);
        assert!(authority.to_ascii_lowercase().starts_with(&host));
        assert_eq!(host_in(&host), host, "a host has no port");
        // What is in brackets is an address or nothing, and stands alone; the other reader is not as strict.
        let inner = authority
            .strip_prefix('[')
            .map_or(authority, |inner| inner.rsplit_once(']').map_or("[", |two| two.0));
        if authority.contains('@') || inner.contains(['[', ']']) {
            return;
        }
        if let Ok(other) = authority.parse::<http::uri::Authority>() {
            assert_eq!(host, other.host().to_ascii_lowercase(), "another reader says so");
        }
    });
}
