//! The head of an answer, judged: what it says, what follows it, and whether the connection lasts (RFC 9112 sections
//! 4, 5, 6 and 9.3).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use httparse::{Header, ParserConfig, Response, Status};
use hyper::ext::ReasonPhrase;

use super::Fault;
use crate::framing::decimal;
use crate::headers;

/// The largest head of an answer, in bytes.
pub const HEAD_MAX: usize = 64 << 10;
/// More header lines than this are refused.
pub const LINES_MAX: usize = 100;
/// What the edge adds to an answer on its way out: the map need not grow for it.
const ADDED: usize = 12;

/// What follows the head of an answer (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes, maybe none.
    Length(u64),
    Chunked,
    /// Whatever comes until the app closes the connection.
    UntilClose,
}

/// A head.
#[derive(Debug)]
pub struct Head {
    pub status: StatusCode,
    /// What the app says in place of the usual words for the status.
    pub reason: Option<ReasonPhrase>,
    pub headers: HeaderMap,
    pub framing: Framing,
    /// The connection may be used again after this answer.
    pub lasts: bool,
}

/// A head as it lies in the bytes that it came in.
#[derive(Debug)]
pub struct Parsed<'l, 'b> {
    pub status: StatusCode,
    /// What the app says in place of the usual words for the status.
    reason: Option<&'b str>,
    /// All of them: see [`ends_here`].
    pub lines: &'l [Header<'b>],
    pub framing: Framing,
    /// As in [`Head`].
    pub lasts: bool,
    /// Its length, in bytes.
    pub length: usize,
}

/// Room for the lines of a head.
pub type Room<'b> = [MaybeUninit<Header<'b>>; LINES_MAX];

/// Room without anything in it.
pub const fn room<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; LINES_MAX]
}

/// Takes the head of an answer to `method` at the start of `bytes` apart, and judges it. `None`: it is not all there.
///
/// # Errors
/// Why there is no such head, however much more comes.
pub fn parse<'l, 'b>(
    bytes: &'b [u8],
    method: &Method,
    room: &'l mut Room<'b>,
) -> Result<Option<Parsed<'l, 'b>>, Fault> {
    if bytes.first().is_some_and(|first| *first != b'H') {
        return Err(match bytes[0] {
            b'\r' | b'\n' => Fault::Doubtful("the answer begins with an empty line"),
            _ => Fault::Broken("the answer is not HTTP"),
        });
    }
    let mut response = Response::new(&mut []);
    let parser = ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut response, bytes, room) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if bytes.len() >= HEAD_MAX => return Err(TOO_LARGE),
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Fault::Broken("the head of the answer has more than 100 lines"));
        }
        Err(httparse::Error::HeaderName) => {
            return Err(Fault::Broken("a header of the answer has no valid name"));
        }
        Err(httparse::Error::HeaderValue) => {
            return Err(Fault::Broken("a header of the answer has no valid value"));
        }
        Err(_) => return Err(Fault::Broken("the status line of the answer is not one")),
    };
    if length > HEAD_MAX {
        return Err(TOO_LARGE);
    }
    let Response { version, code, reason, headers: lines } = response;
    let lines: &'l [Header<'b>] = lines;
    // The parser takes a bare LF for the end of a line. Each end but the last has the name of a header behind it.
    let ends_well = |end: usize| end >= 2 && bytes[end - 2..end] == *b"\r\n";
    let names_begin_well = lines.iter().all(|line| ends_well(at(bytes, line.name.as_bytes())));
    if !names_begin_well || !ends_well(length) || !ends_well(length - 2) {
        return Err(Fault::Doubtful("a line in the head of the answer does not end in CR LF"));
    }

    let is_http_11 = version == Some(1);
    let status = code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Fault::Broken("the status of the answer is none"))?;
    let reason = reason.filter(|reason| Some(*reason) != status.canonical_reason());
    let (mut lengths, mut codings) = (Said::default(), Said::default());
    let (mut close, mut keep_alive) = (false, false);
    for line in lines {
        // By their length: hardly any line is one of these.
        match line.name.len() {
            14 if line.name.eq_ignore_ascii_case("content-length") => lengths.note(line.value),
            17 if line.name.eq_ignore_ascii_case("transfer-encoding") => codings.note(line.value),
            10 if line.name.eq_ignore_ascii_case("connection") => {
                close |= options(line.value).any(|option| option.eq_ignore_ascii_case(b"close"));
                keep_alive |= options(line.value).any(|option| option.eq_ignore_ascii_case(b"keep-alive"));
            }
            _ => {}
        }
    }
    let is_bodiless = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || *method == Method::HEAD;
    let framing = framing(&lengths, &codings, is_http_11)?;
    let framing = if is_bodiless { Framing::Length(0) } else { framing };
    // After 101 it is a connection of another protocol.
    let stays = status != StatusCode::SWITCHING_PROTOCOLS && framing != Framing::UntilClose;
    let lasts = stays && !close && (is_http_11 || keep_alive);
    Ok(Some(Parsed { status, reason, lines, framing, lasts, length }))
}

/// Where a part of `bytes` begins.
fn at(bytes: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - bytes.as_ptr() as usize
}

/// Reads the head of an answer to `method` at the start of `bytes`, and gives what follows it. `None`: it is not all
/// there. `keep` gives the bytes for good; what is kept of the head shares their memory.
///
/// # Errors
/// As [`parse`].
pub fn read(
    bytes: &[u8],
    method: &Method,
    keep: impl FnOnce() -> Bytes,
) -> Result<Option<(Head, Bytes)>, Fault> {
    let mut room = room();
    let Some(parsed) = parse(bytes, method, &mut room)? else { return Ok(None) };
    let Parsed { status, reason, lines, framing, lasts, length } = parsed;
    let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    let all = keep();
    let mut headers = HeaderMap::with_capacity(lines.len() + ADDED);
    let goes_on = status != StatusCode::SWITCHING_PROTOCOLS;
    for line in lines.iter().filter(|line| !(goes_on && ends_here(line))) {
        let name = HeaderName::from_bytes(line.name.as_bytes())
            .map_err(|_| Fault::Broken("a header of the answer has no valid name"))?;
        // An empty value need not point into the head.
        let value = if line.value.is_empty() {
            Bytes::new()
        } else {
            let start = at(bytes, line.value);
            all.slice(start..start + line.value.len())
        };
        let value = HeaderValue::from_maybe_shared(value)
            .map_err(|_| Fault::Broken("a header of the answer has no valid value"))?;
        headers.append(name, value);
    }
    Ok(Some((Head { status, reason, headers, framing, lasts }, all.slice(length..))))
}

/// Whether nobody needs to hear a line: what runs there, or that the connection lasts as connections do. Most answers
/// have them, and to leave a line out costs less than to take it out.
pub fn ends_here(line: &Header<'_>) -> bool {
    let name = line.name;
    match name.len() {
        6 => name.eq_ignore_ascii_case("server"),
        10 if name.eq_ignore_ascii_case("connection") => options(line.value).all(headers::is_usual_option),
        10 => name.eq_ignore_ascii_case("keep-alive"),
        12 => name.eq_ignore_ascii_case("x-powered-by"),
        _ => false,
    }
}

/// What `Connection` says, one by one.
fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

const TOO_LARGE: Fault = Fault::Broken("the head of the answer is larger than 64 KiB");

/// A header that may come once.
#[derive(Debug, Default)]
struct Said<'b> {
    count: u32,
    value: &'b [u8],
}

impl<'b> Said<'b> {
    fn note(&mut self, value: &'b [u8]) {
        self.count += 1;
        self.value = value;
    }
}

/// What the headers say of the end of the body.
fn framing(lengths: &Said<'_>, codings: &Said<'_>, is_http_11: bool) -> Result<Framing, Fault> {
    match (lengths.count, codings.count) {
        (0, 0) => Ok(Framing::UntilClose),
        (1, 0) => decimal(lengths.value)
            .map(Framing::Length)
            .ok_or(Fault::Doubtful("the Content-Length of the answer is no number")),
        (0, 1) => {
            if !codings.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Doubtful("the Transfer-Encoding of the answer is not just `chunked`"));
            }
            // RFC 9112 section 6.1: who speaks HTTP/1.0 does not know what it says.
            if !is_http_11 {
                return Err(Fault::Doubtful("a Transfer-Encoding in an answer of HTTP/1.0"));
            }
            Ok(Framing::Chunked)
        }
        (_, 0) => Err(Fault::Doubtful("the answer has more than one Content-Length")),
        (0, _) => Err(Fault::Doubtful("the answer has more than one Transfer-Encoding")),
        _ => Err(Fault::Doubtful("the answer has both Content-Length and Transfer-Encoding")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(head: &str) -> Result<Option<(Head, Bytes)>, Fault> {
        read(head.as_bytes(), &Method::GET, || Bytes::copy_from_slice(head.as_bytes()))
    }

    #[test]
    fn what_follows_a_head() {
        use Framing::{Chunked, Length, UntilClose};
        for (head, framing, lasts) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", Length(12), true),
            ("HTTP/1.1 200\r\ncontent-length:  0 \r\n\r\n", Length(0), true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", Chunked, true),
            ("HTTP/1.1 200 OK\r\n\r\n", UntilClose, false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", Length(1), false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\n", Length(1), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x, Close\r\n\r\n", Length(1), false),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
                Length(1),
                false,
            ),
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Length(0), false),
            ("HTTP/1.1 204 No Content\r\n\r\n", Length(0), true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n", Length(0), true),
            ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", Length(0), true),
        ] {
            let (read, rest) = judged(&format!("{head}rest")).unwrap().unwrap();
            assert_eq!((read.framing, read.lasts, &rest[..]), (framing, lasts, &b"rest"[..]), "{head:?}");
        }
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (read, _) = read(head.as_bytes(), &Method::HEAD, || head.into()).unwrap().unwrap();
        assert_eq!(read.framing, Length(0), "HEAD has no body");
    }

    #[test]
    fn doubtful_heads() {
        for head in [
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\n\n",
            "HTTP/1.1 200 OK\nA: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(matches!(judged(head), Err(Fault::Doubtful(_))), "{head:?} gave {:?}", judged(head));
        }
    }

    #[test]
    fn what_is_no_head() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(LINES_MAX + 1));
        let large = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "b".repeat(HEAD_MAX));
        for head in [
            "SSH-2.0-x\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
            "HTTP/1.1 200 O\rK\r\n\r\n",
            &many,
            &large,
            &large[..HEAD_MAX],
        ] {
            assert!(matches!(judged(head), Err(Fault::Broken(_))), "{head:?} gave {:?}", judged(head));
        }
    }

    #[test]
    fn a_head_may_come_in_pieces() {
        let head = "HTTP/1.1 200 Fine\r\nA: b\r\nEmpty:\r\nContent-Length: 3\r\n\r\n";
        for end in 0..head.len() {
            assert!(judged(&head[..end]).unwrap().is_none(), "after {end} bytes");
        }
        let (read, _) = judged(head).unwrap().unwrap();
        assert_eq!(
            (&read.headers["a"], &read.headers["empty"]),
            (&"b".parse().unwrap(), &"".parse().unwrap())
        );
        assert_eq!(read.reason.unwrap().as_ref(), b"Fine");
    }
}
