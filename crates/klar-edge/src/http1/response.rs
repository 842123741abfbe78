//! The head of an answer in HTTP/1.1, written in one go, and how its body is framed (RFC 9112 section 6).

use http::StatusCode;
use http::header::HeaderMap;
use http::response::Parts;

use crate::framing;

use super::date;
use super::request::{self, Asked};

/// How the end of an answer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// There is no body.
    Bodiless,
    /// So many bytes are to come.
    Length(u64),
    Chunked,
    /// By the end of the connection (HTTP/1.0).
    Close,
}

/// What was promised with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    pub ending: Ending,
    /// The visitor may ask again.
    pub keep_alive: bool,
}

/// What a head without its headers takes, in bytes, and each header beside its name and value.
const FRAME: usize = 1024;
const LINE: usize = 4;

/// Writes a head. `lines` writes some of it, not the date; `length` is that of the body, when it is known.
pub fn write(
    out: &mut Vec<u8>,
    parts: &Parts,
    lines: impl FnOnce(&mut Vec<u8>),
    asked: Asked,
    length: Option<u64>,
) -> Promise {
    let size: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE).sum();
    out.reserve(FRAME + size);
    begin(out, parts.status, asked);
    lines(out);
    let mut end = End::new(parts.status, asked, length);
    for (name, value) in &parts.headers {
        if end.heeds(name.as_str().as_bytes(), value.as_bytes()) {
            line(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    end.write(out)
}

/// Writes the line that a head begins with.
pub fn begin(out: &mut Vec<u8>, status: StatusCode, asked: Asked) {
    out.extend_from_slice(if asked.is_old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a line.
pub fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + LINE);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// What a head ends with: what is said of the connection and of the body.
#[derive(Debug)]
pub struct End {
    status: StatusCode,
    asked: Asked,
    length: Option<u64>,
    /// What is said of the length, and how often.
    declared: (Option<u64>, u32),
    has_date: bool,
    pub must_close: bool,
}

impl End {
    /// Of an answer with this status. `length`: that of its body, when it is known.
    pub fn new(status: StatusCode, asked: Asked, length: Option<u64>) -> Self {
        Self { status, asked, length, declared: (None, 0), has_date: false, must_close: false }
    }

    /// Takes note of a header, its name in small letters, and says whether it is to be written: framing is this
    /// connection's business.
    pub fn heeds(&mut self, name: &[u8], value: &[u8]) -> bool {
        match name {
            b"content-length" => self.declared = (framing::decimal(value), self.declared.1 + 1),
            b"transfer-encoding" => {}
            b"connection" => self.must_close |= request::has_token(value, "close"),
            b"date" => {
                self.has_date = true;
                return true;
            }
            _ => return true,
        }
        false
    }

    /// Writes it.
    pub fn write(self, out: &mut Vec<u8>) -> Promise {
        let Self { status, asked, .. } = self;
        // The one `Content-Length` of an answer, if it is a good one.
        let declared = self.declared.0.filter(|_| self.declared.1 == 1);
        let ending = ending(status, asked, declared.or(self.length));
        let told = match ending {
            Ending::Length(length) => Some(length),
            // What a GET would have got (RFC 9110 section 8.6).
            Ending::Bodiless if asked.is_head && may_have_body(status) => declared,
            _ => None,
        };
        if let Some(length) = told {
            line(out, b"content-length", itoa::Buffer::new().format(length).as_bytes());
        } else if ending == Ending::Chunked {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        let keep_alive = asked.keep_alive && !self.must_close && ending != Ending::Close;
        match (keep_alive, asked.is_old) {
            (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            (false, false) => out.extend_from_slice(b"connection: close\r\n"),
            // As the version has it anyway.
            (true, false) | (false, true) => {}
        }
        if !self.has_date {
            date::extend(out);
        }
        out.extend_from_slice(b"\r\n");
        Promise { ending, keep_alive }
    }
}

fn ending(status: StatusCode, asked: Asked, length: Option<u64>) -> Ending {
    match length {
        _ if asked.is_head || !may_have_body(status) => Ending::Bodiless,
        Some(length) => Ending::Length(length),
        None if asked.is_old => Ending::Close,
        None => Ending::Chunked,
    }
}

/// RFC 9112 section 6.3.
pub fn may_have_body(status: StatusCode) -> bool {
    !(status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED)
}

/// Writes the trailers of a chunked body and its end (RFC 9112 section 7.1.2).
pub fn write_last(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::{Response, header};

    use super::*;

    const NEW: Asked =
        Asked { is_head: false, is_old: false, keep_alive: true, expects: false, takes_trailers: false };
    const CLOSING: Asked = Asked { keep_alive: false, ..NEW };
    const HEAD: Asked = Asked { is_head: true, ..NEW };
    const OLD: Asked = Asked { is_old: true, ..CLOSING };
    const OLD_KEPT: Asked = Asked { is_old: true, ..NEW };

    /// RFC 9112 section 6.3, and section 9.3 for what is said of the connection.
    #[test]
    fn framing_follows_from_what_was_asked() {
        use Ending::{Bodiless, Chunked, Close, Length};
        let length = |value| (header::CONTENT_LENGTH, value);
        let close = (header::CONNECTION, "close");
        let chunked = (header::TRANSFER_ENCODING, "chunked");
        for (asked, status, headers, body, lines, ending, keep_alive) in [
            (NEW, 200, vec![], Some(5), "HTTP/1.1 200 OK|content-length: 5", Length(5), true),
            (NEW, 200, vec![], None, "HTTP/1.1 200 OK|transfer-encoding: chunked", Chunked, true),
            (
                NEW,
                200,
                vec![chunked.clone()],
                None,
                "HTTP/1.1 200 OK|transfer-encoding: chunked",
                Chunked,
                true,
            ),
            (NEW, 200, vec![chunked], Some(1), "HTTP/1.1 200 OK|content-length: 1", Length(1), true),
            (NEW, 200, vec![length("7")], None, "HTTP/1.1 200 OK|content-length: 7", Length(7), true),
            (NEW, 200, vec![length("x")], None, "HTTP/1.1 200 OK|transfer-encoding: chunked", Chunked, true),
            (NEW, 200, vec![], Some(0), "HTTP/1.1 200 OK|content-length: 0", Length(0), true),
            (NEW, 204, vec![length("7")], Some(0), "HTTP/1.1 204 No Content", Bodiless, true),
            (NEW, 304, vec![length("7")], Some(0), "HTTP/1.1 304 Not Modified", Bodiless, true),
            (NEW, 599, vec![], Some(1), "HTTP/1.1 599 |content-length: 1", Length(1), true),
            (HEAD, 200, vec![length("7")], Some(0), "HTTP/1.1 200 OK|content-length: 7", Bodiless, true),
            (HEAD, 200, vec![], Some(0), "HTTP/1.1 200 OK", Bodiless, true),
            (HEAD, 304, vec![length("7")], Some(0), "HTTP/1.1 304 Not Modified", Bodiless, true),
            (
                CLOSING,
                200,
                vec![],
                Some(5),
                "HTTP/1.1 200 OK|content-length: 5|connection: close",
                Length(5),
                false,
            ),
            (
                NEW,
                200,
                vec![close],
                Some(5),
                "HTTP/1.1 200 OK|content-length: 5|connection: close",
                Length(5),
                false,
            ),
            (OLD, 200, vec![], Some(5), "HTTP/1.0 200 OK|content-length: 5", Length(5), false),
            (OLD, 200, vec![], None, "HTTP/1.0 200 OK", Close, false),
            (OLD_KEPT, 200, vec![], None, "HTTP/1.0 200 OK", Close, false),
            (
                OLD_KEPT,
                200,
                vec![],
                Some(5),
                "HTTP/1.0 200 OK|content-length: 5|connection: keep-alive",
                Length(5),
                true,
            ),
        ] {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in headers {
                response.headers_mut().append(name, value.parse().unwrap());
            }
            response.headers_mut().insert(header::DATE, "now".parse().unwrap());
            let mut out = Vec::new();
            let promise = write(&mut out, &response.into_parts().0, |_| (), asked, body);
            let out = String::from_utf8(out).unwrap().replace("date: now\r\n", "");
            assert_eq!(out, format!("{}\r\n\r\n", lines.replace('|', "\r\n")), "{asked:?}");
            assert_eq!(promise, Promise { ending, keep_alive }, "{lines}");
        }
    }

    #[test]
    fn every_answer_has_a_date() {
        let mut out = Vec::new();
        write(&mut out, &Response::new(()).into_parts().0, |_| (), NEW, Some(0));
        let out = String::from_utf8(out).unwrap();
        let date = out.lines().find_map(|line| line.strip_prefix("date: ")).unwrap();
        assert!(crate::cache::dates::read(date, std::time::SystemTime::now()).is_some(), "{date}");
    }

    #[test]
    fn trailers_come_after_the_last_chunk() {
        let mut out = Vec::new();
        write_last(&mut out, None);
        assert_eq!(out, b"0\r\n\r\n");
        let trailers = HeaderMap::from_iter([(header::ETAG, "\"x\"".parse().unwrap())]);
        out.clear();
        write_last(&mut out, Some(&trailers));
        assert_eq!(out, b"0\r\netag: \"x\"\r\n\r\n");
    }
}
