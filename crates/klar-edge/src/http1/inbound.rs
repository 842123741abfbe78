//! What a visitor sends over HTTP/1.1: one buffer for each connection, and what its bytes are.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::chunked::{Chunks, Piece};
use crate::framing::{self, HEADERS_MAX, Refusal};
use crate::scratch::poll_read;

/// How much is read at once, in bytes: while a head is waited for, and in a body.
const HEAD_READ: usize = 8 * 1024;
const BODY_READ: usize = 32 * 1024;
/// Less room than this in the buffer is not worth reading into.
const ROOM: usize = 1024;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Inbound {
    pub unread: BytesMut,
    /// This many bytes of a head were looked at.
    seen: usize,
    /// When the first byte of the head came that has begun.
    pub begun: Option<Instant>,
    pub rest: Rest,
    /// The visitor sends nothing more.
    pub ended: bool,
}

/// What the next bytes belong to.
#[derive(Debug, Default)]
pub enum Rest {
    /// The next head.
    #[default]
    Head,
    /// A body; this many bytes of it are to come.
    Length(u64),
    /// A body in chunks.
    Chunked(Box<Chunks>),
    /// Nothing that can be known: nothing more is believed.
    Unknown,
}

/// What a body has come to.
#[derive(Debug)]
pub enum Decoded {
    /// The next piece, and whether it is the last.
    Piece(Frame<Bytes>, bool),
    /// It has ended.
    End,
    /// More bytes are needed.
    More,
}

impl Inbound {
    /// The length of the head that the unread bytes begin with, once all of it is there.
    ///
    /// # Errors
    /// When it cannot become a good one. Nothing after it can be believed.
    pub fn head(&mut self, max: usize) -> Result<Option<usize>, Refusal> {
        // RFC 9112 section 2.2: empty lines before a request are skipped.
        while self.seen == 0 && self.unread.starts_with(b"\r\n") {
            self.unread.advance(2);
        }
        // A lone CR may be half of one.
        if self.seen == 0 && (self.unread.is_empty() || self.unread[..] == *b"\r") {
            return Ok(None);
        }
        self.begun.get_or_insert_with(Instant::now);
        match framing::head_length(&self.unread, self.seen) {
            Some(length) if length <= max => {
                self.seen = 0;
                Ok(Some(length))
            }
            Some(_) => Err(Refusal::Large),
            None if self.unread.len() > max => Err(Refusal::Large),
            None if framing::is_hopeless(&self.unread, self.seen) => {
                Err(Refusal::Bad("a line does not end in CR LF"))
            }
            None => {
                self.seen = self.unread.len();
                Ok(None)
            }
        }
    }

    /// Takes the next piece of a body, as far as it is there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(&mut self) -> Result<Decoded, &'static str> {
        match &mut self.rest {
            Rest::Head => Ok(Decoded::End),
            Rest::Unknown => Err("the body broke off"),
            Rest::Length(_) if self.unread.is_empty() => Ok(Decoded::More),
            Rest::Length(left) => {
                let here = (*left).min(self.unread.len() as u64);
                *left -= here;
                let last = *left == 0;
                if last {
                    self.rest = Rest::Head;
                }
                Ok(Decoded::Piece(Frame::data(self.unread.split_to(here as usize).freeze()), last))
            }
            Rest::Chunked(chunks) => loop {
                if chunks.is_done() {
                    let trailers = trailers(chunks.trailers());
                    self.rest = Rest::Head;
                    return Ok(match trailers? {
                        trailers if trailers.is_empty() => Decoded::End,
                        trailers => Decoded::Piece(Frame::trailers(trailers), true),
                    });
                }
                if self.unread.is_empty() {
                    return Ok(Decoded::More);
                }
                match chunks.piece(&self.unread)? {
                    Piece::Data(length) => {
                        let data = self.unread.split_to(length).freeze();
                        return Ok(Decoded::Piece(Frame::data(data), false));
                    }
                    Piece::Framing(length) => self.unread.advance(length),
                }
            },
        }
    }

    /// Reads more. Ready with 0 at the end.
    pub fn fill(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        // A head is short, and most of the time it is waited for; a body is read to where it stays.
        let read = if matches!(self.rest, Rest::Head) {
            ready!(poll_read(io, cx, HEAD_READ, |came| {
                self.unread.extend_from_slice(came);
                came.len()
            }))?
        } else {
            if self.unread.capacity() - self.unread.len() < ROOM {
                self.unread.reserve(BODY_READ);
            }
            ready!(pin!(io.read_buf(&mut self.unread)).poll(cx))?
        };
        self.ended |= read == 0;
        Poll::Ready(Ok(read))
    }

    /// Gives the buffer back while nothing is in it.
    pub fn give_back(&mut self) {
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
    }

    /// Reads and throws away. Ready when the visitor has hung up.
    pub fn discard(&mut self, io: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<()> {
        let mut thrown_away = [0; 4096];
        let mut read = tokio::io::ReadBuf::new(&mut thrown_away);
        match ready!(Pin::new(io).poll_read(cx, &mut read)) {
            Ok(()) if !read.filled().is_empty() => {
                // Others wait for their turn.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

/// The trailers of a chunked body.
fn trailers(lines: &[u8]) -> Result<HeaderMap, &'static str> {
    const WRONG: &str = "the trailers of a chunked body are not headers";
    let mut map = HeaderMap::new();
    if lines.is_empty() {
        return Ok(map);
    }
    let lines = [lines, b"\r\n"].concat();
    let mut parsed = [httparse::EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(&lines, &mut parsed) {
        Ok(httparse::Status::Complete((_, headers))) => {
            for header in headers {
                let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| WRONG)?;
                map.append(name, HeaderValue::from_bytes(header.value).map_err(|_| WRONG)?);
            }
            Ok(map)
        }
        _ => Err(WRONG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(bytes: &[u8], rest: Rest) -> Inbound {
        Inbound { unread: BytesMut::from(bytes), rest, ..Inbound::default() }
    }

    #[test]
    fn a_head_is_found_however_it_comes() {
        let bytes = b"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\nGET /next";
        for step in 1..=bytes.len() {
            let mut inbound = Inbound::default();
            let mut pieces = bytes.chunks(step);
            let length = loop {
                if let Some(length) = inbound.head(100).unwrap() {
                    break length;
                }
                inbound.unread.extend_from_slice(pieces.next().unwrap());
            };
            assert_eq!(&inbound.unread[..length], &bytes[4..31], "in pieces of {step}");
        }
    }

    #[test]
    fn a_head_that_is_none_is_refused_early() {
        for (bytes, max, refusal) in [
            (&b"GET / HTTP/1.1\nhost"[..], 100, Refusal::Bad("a line does not end in CR LF")),
            (b"GET / HTTP/1.1\r\nhost: a", 10, Refusal::Large),
            (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 26, Refusal::Large),
        ] {
            assert_eq!(with(bytes, Rest::Head).head(max), Err(refusal), "{}", bytes.escape_ascii());
        }
        for bytes in [&b""[..], b"\r", b"\r\n", b"\r\n\r"] {
            let mut inbound = with(bytes, Rest::Head);
            assert_eq!((inbound.head(10), inbound.begun), (Ok(None), None), "{}", bytes.escape_ascii());
        }
    }

    /// RFC 9112 section 7.1.2.
    #[test]
    fn trailers_come_last_and_are_headers() {
        let decode = |bytes: &[u8]| {
            let mut inbound = with(bytes, Rest::Chunked(Box::new(Chunks::new())));
            let mut seen = Vec::new();
            loop {
                match inbound.decode().map_err(str::to_owned)? {
                    Decoded::Piece(frame, _) => match frame.into_data() {
                        Ok(data) => seen.push(format!("{data:?}")),
                        Err(frame) => seen.push(format!("{:?}", frame.into_trailers().unwrap())),
                    },
                    Decoded::End => break,
                    Decoded::More => return Err("more".to_owned()),
                }
                if matches!(inbound.rest, Rest::Head) {
                    break;
                }
            }
            Ok((seen.join(" "), inbound.unread.to_vec()))
        };
        for (bytes, seen) in [
            (&b"0\r\n\r\nnext"[..], ""),
            (b"1\r\na\r\n2;x\r\nbc\r\n0\r\n\r\nnext", r#"b"a" b"bc""#),
            (b"1\r\na\r\n0\r\nX: y\r\nx: z\r\n\r\nnext", r#"b"a" {"x": "y", "x": "z"}"#),
        ] {
            assert_eq!(decode(bytes), Ok((seen.to_owned(), b"next".to_vec())), "{}", bytes.escape_ascii());
        }
        for bytes in [&b"0\r\nno trailer\r\n\r\n"[..], b"0\r\na b: c\r\n\r\n", b"0\r\n: c\r\n\r\n"] {
            assert!(decode(bytes).is_err_and(|error| error != "more"), "{}", bytes.escape_ascii());
        }
    }
}
