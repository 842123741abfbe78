//! Is this head of a request framed beyond doubt? (RFC 9112 sections 2, 3, 5 and 6, read strictly.)
//!
//! Whatever two servers could understand differently is refused here, before anything acts on it: both lengths,
//! two lengths, folded lines, bare CR or LF, a transfer coding that is not exactly `chunked`, two hosts, a target
//! that names another host than `Host` does.

use std::mem::MaybeUninit;

use httparse::{Header, Request, Status};

/// More header lines than this are refused: 431.
pub const HEADERS_MAX: usize = 100;
/// A longer target is refused: 414.
pub const TARGET_MAX: usize = 8 * 1024;

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes, maybe none.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Whatever the protocol that was asked for says (WebSocket), if the answer is 101.
    Upgrade,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 400, and what was wrong.
    Bad(&'static str),
    /// 408: it did not come in time.
    Late,
    /// 414.
    LongTarget,
    /// 431.
    Large,
    /// 405: a tunnel, or the request sent back as it came.
    Method,
    /// 501, and what is not known.
    Unknown(&'static str),
    /// 505.
    Version,
}

/// The length of the head at the start of `bytes`, with its empty line, when it is all there.
///
/// `seen` bytes have been looked at before.
pub fn head_length(bytes: &[u8], seen: usize) -> Option<usize> {
    let from = seen.saturating_sub(1);
    memchr::memchr_iter(b'\n', bytes.get(from..)?)
        .map(|at| from + at + 1)
        .find(|&end| bytes[..end].ends_with(b"\r\n\r\n"))
}

/// Whether `bytes` can no longer become a good head, although its end is not there yet.
pub fn is_hopeless(bytes: &[u8], seen: usize) -> bool {
    let from = seen.saturating_sub(1);
    bare_line_end(&bytes[from..], from > 0)
}

/// A CR without LF, or an LF without CR. A CR at the very end may still get its LF. `inside`: the first byte was
/// judged before.
fn bare_line_end(bytes: &[u8], inside: bool) -> bool {
    memchr::memchr2_iter(b'\r', b'\n', bytes).any(|at| match bytes[at] {
        b'\n' => at.checked_sub(1).map_or(!inside, |before| bytes[before] != b'\r'),
        _ => bytes.get(at + 1).is_some_and(|&after| after != b'\n'),
    })
}

/// Room for the lines of a head.
pub type Lines<'b> = [MaybeUninit<Header<'b>>; HEADERS_MAX];

/// No lines yet.
pub const fn no_lines<'b>() -> Lines<'b> {
    [const { MaybeUninit::uninit() }; HEADERS_MAX]
}

/// Judges a whole head, empty line included.
///
/// # Errors
/// How it is to be refused.
pub fn judge(head: &[u8]) -> Result<Framing, Refusal> {
    judge_request(&parse(head, &mut no_lines())?)
}

/// Takes a whole head apart, empty line included.
///
/// # Errors
/// How it is to be refused.
pub fn parse<'b, 'l>(head: &'b [u8], lines: &'l mut Lines<'b>) -> Result<Request<'l, 'b>, Refusal> {
    if bare_line_end(head, false) {
        return Err(Refusal::Bad("a line does not end in CR LF"));
    }
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(head, lines) {
        Ok(Status::Complete(length)) if length == head.len() => Ok(request),
        Ok(_) => Err(Refusal::Bad("the head ends where it should not")),
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::Large),
        Err(httparse::Error::Version) => Err(Refusal::Version),
        Err(httparse::Error::HeaderName) => Err(Refusal::Bad("a header has no valid name")),
        Err(httparse::Error::HeaderValue) => Err(Refusal::Bad("a header has no valid value")),
        Err(_) => Err(Refusal::Bad("the request line is not one")),
    }
}

/// Judges what [`parse`] took apart.
///
/// # Errors
/// How it is to be refused.
pub fn judge_request(request: &Request<'_, '_>) -> Result<Framing, Refusal> {
    let is_http_11 = request.version == Some(1);
    let target = request.path.unwrap_or_default();
    if target.len() > TARGET_MAX {
        return Err(Refusal::LongTarget);
    }
    let method = request.method.unwrap_or_default();
    if matches!(method, "CONNECT" | "TRACE" | "TRACK") {
        return Err(Refusal::Method);
    }

    let (mut length, mut coding, mut host, mut upgrade, mut upgrades) = (None, None, None, false, false);
    for header in request.headers.iter() {
        let value = trim(header.value);
        let name = header.name;
        if name.eq_ignore_ascii_case("content-length") {
            if length.replace(value).is_some() {
                return Err(Refusal::Bad("two Content-Length headers"));
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if coding.replace(value).is_some() {
                return Err(Refusal::Bad("two Transfer-Encoding headers"));
            }
        } else if name.eq_ignore_ascii_case("host") {
            if host.replace(value).is_some() {
                return Err(Refusal::Bad("two Host headers"));
            }
        } else if name.eq_ignore_ascii_case("upgrade") {
            upgrade = value.eq_ignore_ascii_case(b"websocket");
        } else if name.eq_ignore_ascii_case("connection") {
            upgrades |=
                value.split(|&byte| byte == b',').any(|item| trim(item).eq_ignore_ascii_case(b"upgrade"));
        }
    }
    judge_host(host, target, is_http_11)?;
    match (length, coding) {
        (Some(_), Some(_)) => Err(Refusal::Bad("both Content-Length and Transfer-Encoding")),
        (None, Some(_)) if !is_http_11 => Err(Refusal::Bad("Transfer-Encoding in HTTP/1.0")),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (None, Some(_)) => Err(Refusal::Unknown("a Transfer-Encoding other than `chunked`")),
        (Some(digits), None) => decimal(digits)
            .map(Framing::Length)
            .ok_or(Refusal::Bad("Content-Length is not a number that makes sense")),
        (None, None) if upgrade && upgrades && is_http_11 && method == "GET" => Ok(Framing::Upgrade),
        (None, None) => Ok(Framing::Length(0)),
    }
}

/// Judges a `Host` and whether the target agrees with it.
///
/// # Errors
/// How the head is to be refused.
pub fn judge_host(host: Option<&[u8]>, target: &str, is_http_11: bool) -> Result<(), Refusal> {
    let host = match host {
        None if is_http_11 => return Err(Refusal::Bad("no Host header")),
        other => other.unwrap_or_default(),
    };
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
    if !host.iter().all(is_part) || (is_http_11 && host.is_empty()) {
        return Err(Refusal::Bad("Host is not a host name"));
    }
    if target.starts_with('/') {
        return Ok(());
    }
    if target == "*" {
        return Err(Refusal::Bad("a target of `*`"));
    }
    // RFC 9112 section 3.2.2: the authority of an absolute target must be what Host says.
    let authority = target
        .split_once("://")
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
        .map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    match authority {
        Some(authority) if authority.as_bytes().eq_ignore_ascii_case(host) => Ok(()),
        Some(_) => Err(Refusal::Bad("the target names another host than Host does")),
        None => Err(Refusal::Bad("the target is neither a path nor a URL")),
    }
}

fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// A number without sign, of at most 18 digits.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(head: &str) -> Result<Framing, Refusal> {
        judge(head.as_bytes())
    }

    #[test]
    fn good_heads() {
        let table = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Length(0)),
            ("GET / HTTP/1.0\r\n\r\n", Framing::Length(0)),
            ("POST /x?y HTTP/1.1\r\nhost: a:8443\r\nContent-Length: 12\r\n\r\n", Framing::Length(12)),
            ("POST / HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: Chunked\r\n\r\n", Framing::Chunked),
            ("GET https://a.b/c HTTP/1.1\r\nHost: A.b\r\n\r\n", Framing::Length(0)),
            (
                "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
                Framing::Upgrade,
            ),
            (
                "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
                Framing::Length(0),
            ),
        ];
        for (head, framing) in table {
            assert_eq!(judged(head), Ok(framing), "{head}");
        }
    }

    #[test]
    fn doubtful_heads() {
        let table = [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        ];
        for head in table {
            assert!(matches!(judged(head), Err(Refusal::Bad(_))), "{head:?} gave {:?}", judged(head));
        }
        let coding = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        assert!(matches!(judged(coding), Err(Refusal::Unknown(_))));
        assert!(matches!(judged("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Refusal::Method)));
        assert_eq!(judged("GET / HTTP/3.1\r\nHost: a\r\n\r\n"), Err(Refusal::Version));
        let many = "X: y\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(judged(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")), Err(Refusal::Large));
        let long = "x".repeat(TARGET_MAX);
        assert_eq!(judged(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")), Err(Refusal::LongTarget));
    }

    #[test]
    fn the_end_is_found_however_the_bytes_come() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody";
        for seen in 0..head.len() - 5 {
            assert_eq!(head_length(head, seen), Some(head.len() - 4), "after {seen} bytes");
        }
        for cut in 0..head.len() - 4 {
            assert_eq!(head_length(&head[..cut], 0), None);
            assert!(!is_hopeless(&head[..cut], cut / 2), "after {cut} bytes");
        }
        assert!(is_hopeless(b"GET / HTTP/1.1\nHost", 0));
        assert!(is_hopeless(b"GET / HTTP/1.1\rHost", 15));
    }
}
