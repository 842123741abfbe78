//! A request on its way to an app: its head, and its body as it comes (RFC 9112 sections 3, 5, 6 and 7.1).

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use http::header::{self, HeaderName, HeaderValue};
use hyper::body::Body;
use tokio::io::AsyncWrite;

use crate::forward::ToApp;

/// What of a request has not been sent yet.
#[derive(Debug)]
pub struct Sending {
    /// The head, or the size of a chunk.
    head: BytesMut,
    data: Bytes,
    /// `None`: all of it has been taken.
    body: Option<ToApp>,
    framing: Framing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// So many bytes have to follow.
    Length(u64),
    Chunked,
}

/// Why a request cannot be sent to its end.
#[derive(Debug)]
pub enum Stuck {
    /// The connection is broken. There may be an answer in it.
    Connection(io::Error),
    /// Its body is.
    Body(io::Error),
}

/// The head of a request without its end, which is as the body is.
#[derive(Debug)]
pub struct Head {
    pub method: Method,
    text: Vec<u8>,
}

impl Head {
    /// Without any header yet; about so many will come.
    pub fn new(method: &Method, target: &str, lines: usize) -> Self {
        let mut text = Vec::with_capacity(target.len() + 256 + 48 * lines);
        for piece in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            text.extend_from_slice(piece.as_bytes());
        }
        Self { method: method.clone(), text }
    }

    /// Adds a header. How the body ends is said by who sends it, and only there.
    pub fn line(&mut self, name: &HeaderName, value: &HeaderValue) {
        if *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
            for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                self.text.extend_from_slice(piece);
            }
        }
    }

    /// What it says.
    #[cfg(test)]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap()
    }
}

impl Sending {
    /// Nothing of it has been sent. How the body ends is worked out from `body`.
    pub fn new(head: &Head, body: ToApp) -> Self {
        let length = body.size_hint().exact();
        let framing = length.map_or(Framing::Chunked, Framing::Length);
        let Head { method, text } = head;
        let mut head = BytesMut::with_capacity(text.len() + 64);
        head.extend_from_slice(text);
        match framing {
            // RFC 9110 section 8.6: a method that usually has a body says that there is none.
            Framing::Length(0) if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {}
            Framing::Length(length) => put(&mut head, format_args!("content-length: {length}\r\n")),
            Framing::Chunked => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        head.extend_from_slice(b"\r\n");
        let (data, body) = body.into_whole();
        Self { head, data, body, framing }
    }

    /// The rest of a head, of a request without a body.
    pub fn rest(head: &[u8]) -> Self {
        Self { head: BytesMut::from(head), data: Bytes::new(), body: None, framing: Framing::Length(0) }
    }

    /// The body, when nothing of the request has been sent yet.
    pub fn take_back(self) -> ToApp {
        self.body.unwrap_or_else(|| ToApp::whole(self.data))
    }

    /// Whether all of it has been sent.
    fn is_done(&self) -> bool {
        self.head.is_empty() && self.data.is_empty() && self.body.is_none()
    }

    /// Sends what the connection takes at once. Ready with nothing sent only when nothing is left.
    pub fn poll_write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.head.is_empty() && self.data.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let stream = Pin::new(stream);
        let sent = if self.data.is_empty() {
            stream.poll_write(cx, &self.head)
        } else {
            stream.poll_write_vectored(cx, &[IoSlice::new(&self.head), IoSlice::new(&self.data)])
        };
        let sent = ready!(sent)?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_head = sent.min(self.head.len());
        self.head.advance(of_head);
        self.data.advance(sent - of_head);
        Poll::Ready(Ok(()))
    }

    /// Sends the rest. Ready when there is none.
    pub fn poll(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Stuck>> {
        while !self.is_done() {
            ready!(self.poll_write(stream, cx)).map_err(Stuck::Connection)?;
            if self.head.is_empty() && self.data.is_empty() {
                ready!(self.poll_body(cx)).map_err(Stuck::Body)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next piece of the body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        match ready!(Pin::new(body).poll_frame(cx)).transpose()?.map(|frame| frame.into_data()) {
            None => {
                self.body = None;
                match self.framing {
                    Framing::Chunked => self.head.extend_from_slice(b"0\r\n\r\n"),
                    Framing::Length(0) => {}
                    Framing::Length(_) => {
                        return Poll::Ready(Err(wrong("the body of the request is shorter than announced")));
                    }
                }
            }
            Some(Ok(data)) if !data.is_empty() => match &mut self.framing {
                Framing::Length(left) => {
                    *left = left
                        .checked_sub(data.len() as u64)
                        .ok_or_else(|| wrong("the body of the request is longer than announced"))?;
                    self.data = data;
                }
                Framing::Chunked => {
                    // In one piece, so that its end does not wait for the next one.
                    self.head.reserve(data.len() + 16);
                    put(&mut self.head, format_args!("{:x}\r\n", data.len()));
                    self.head.extend_from_slice(&data);
                    self.head.extend_from_slice(b"\r\n");
                }
            },
            // Nothing, or trailers: no app gets those.
            Some(_) => {}
        }
        Poll::Ready(Ok(()))
    }
}

fn put(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    let mut number = [0; 64];
    let mut rest = &mut number[..];
    // It has room for any number of 64 bits with its name.
    if rest.write_fmt(text).is_ok() {
        let length = 64 - rest.len();
        out.extend_from_slice(&number[..length]);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::asking::Asking;

    fn sending(request: Request<ToApp>) -> Sending {
        let (parts, body) = request.into_parts();
        Sending::new(Asking::own(&parts).in_http1(), body)
    }

    fn head(request: Request<ToApp>) -> String {
        let sending = sending(request);
        String::from_utf8([&sending.head[..], &sending.data[..]].concat()).unwrap()
    }

    #[test]
    fn what_is_said_of_the_body() {
        for (method, body, framing) in [
            ("GET", "", ""),
            ("HEAD", "", ""),
            ("DELETE", "", ""),
            ("POST", "", "content-length: 0\r\n"),
            ("PUT", "", "content-length: 0\r\n"),
            ("PATCH", "abc", "content-length: 3\r\n"),
            ("GET", "abc", "content-length: 3\r\n"),
        ] {
            let request = Request::builder()
                .method(method)
                .uri("/a?b=c")
                .header("host", "shop.test")
                // Whatever a visitor said of it.
                .header("content-length", "77")
                .header("transfer-encoding", "gzip")
                .body(ToApp::whole(Bytes::from(body)))
                .unwrap();
            let wanted = format!("{method} /a?b=c HTTP/1.1\r\nhost: shop.test\r\n{framing}\r\n{body}");
            assert_eq!(head(request), wanted);
        }
    }

    #[test]
    fn what_was_not_sent_is_given_back() {
        let sending = sending(Request::new(ToApp::whole(Bytes::from("abc"))));
        assert_eq!(sending.take_back().into_whole().0, "abc");
    }
}
