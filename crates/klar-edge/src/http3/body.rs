//! The body of a request over HTTP/3.

use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use h3::error::StreamError;
use h3::server::RequestStream;

use super::transport::Receive;

/// A body as it comes. It has to be as long as `content-length` says (RFC 9114 section 4.1.2).
pub struct Body {
    stream: RequestStream<Receive, Bytes>,
    /// What came with the head, or went wrong then.
    first: Option<Result<Bytes, StreamError>>,
    /// How much is to come, where the head said so.
    left: Option<u64>,
    ended: bool,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("left", &self.left).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Body {
    /// What follows the head of `stream`; `length` bytes, where the head said so. What is here already is looked at, so
    /// that a request without a body is known for one.
    pub async fn new(stream: RequestStream<Receive, Bytes>, length: Option<u64>) -> Self {
        let mut body = Self { stream, first: None, left: length, ended: false };
        std::future::poll_fn(|cx| {
            match body.receive(cx) {
                Poll::Ready(Ok(Some(bytes))) => body.first = Some(Ok(bytes)),
                Poll::Ready(Ok(None)) => body.ended = body.left.is_none_or(|left| left == 0),
                Poll::Ready(Err(error)) => body.first = Some(Err(error)),
                Poll::Pending => {}
            }
            Poll::Ready(())
        })
        .await;
        body
    }

    /// Whether nothing is to come.
    pub fn is_over(&self) -> bool {
        self.ended && self.first.is_none()
    }

    /// What is to come, in bytes, where that is known.
    pub fn left(&self) -> Option<u64> {
        if self.is_over() { Some(0) } else { self.left }
    }

    /// The next piece.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let next = match self.first.take() {
            Some(first) => first.map(Some),
            None if self.ended => return Poll::Ready(None),
            None => std::task::ready!(self.receive(cx)),
        };
        let malformed = |why: &str| Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::InvalidData, why))));
        let piece = match next {
            Ok(Some(piece)) => piece,
            Ok(None) => {
                self.ended = true;
                return match self.left {
                    Some(1..) => malformed("the body is shorter than `content-length` says"),
                    _ => Poll::Ready(None),
                };
            }
            Err(error) => {
                self.ended = true;
                return Poll::Ready(Some(Err(io::Error::other(error))));
            }
        };
        if let Some(left) = &mut self.left {
            match left.checked_sub(piece.len() as u64) {
                Some(rest) => *left = rest,
                None => {
                    self.ended = true;
                    return malformed("the body is longer than `content-length` says");
                }
            }
        }
        Poll::Ready(Some(Ok(piece)))
    }

    /// The next piece that is not empty. What follows the body is not read: nobody needs it.
    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        loop {
            match std::task::ready!(self.stream.poll_recv_data(cx))? {
                None => return Poll::Ready(Ok(None)),
                Some(mut piece) if piece.has_remaining() => {
                    return Poll::Ready(Ok(Some(piece.copy_to_bytes(piece.remaining()))));
                }
                Some(_) => {}
            }
        }
    }
}
