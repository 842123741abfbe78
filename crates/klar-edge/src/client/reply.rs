//! The body of an answer on its way in, and the connection that it comes over (RFC 9112 sections 6.3, 7 and 9.3).

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Frame;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Fault;
use super::chunks::{Chunks, Piece};
use super::head::Framing;
use super::link::{Link, Switched};
use super::request::{Sending, Stuck};
use crate::scratch::{self, poll_read};

/// How long an app that has answered may take to read the rest of a request.
const AFTERMATH: Duration = Duration::from_secs(30);

/// See the [module](self).
#[derive(Debug)]
pub struct Reply<S = TcpStream> {
    stream: S,
    /// What came and was not looked at yet.
    input: Bytes,
    rest: Rest,
    delimited: bool,
    /// Of the request: an app may answer before it has read all of it.
    sending: Option<Box<Sending>>,
    /// The connection may be used again once all is sent and read.
    lasts: bool,
}

#[derive(Debug)]
enum Rest {
    Length(u64),
    Chunked(Box<Chunks>),
    UntilClose,
    Over,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Reply<S> {
    pub(super) fn new(
        stream: S,
        input: Bytes,
        framing: Framing,
        sending: Option<Box<Sending>>,
        lasts: bool,
    ) -> Self {
        let rest = match framing {
            Framing::Length(0) => Rest::Over,
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(Box::new(Chunks::new())),
            Framing::UntilClose => Rest::UntilClose,
        };
        Self { stream, input, rest, delimited: framing != Framing::UntilClose, sending, lasts }
    }

    /// Whether its end is told from a connection that broke.
    pub fn is_delimited(&self) -> bool {
        self.delimited
    }

    /// Whether all of it was given.
    pub fn is_over(&self) -> bool {
        matches!(self.rest, Rest::Over)
    }

    /// How many bytes are to come, when the app said so.
    pub fn length(&self) -> Option<u64> {
        match self.rest {
            Rest::Length(left) => Some(left),
            Rest::Over => Some(0),
            Rest::Chunked(_) | Rest::UntilClose => None,
        }
    }

    /// The next piece.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(Err(error)) = self.poll_sending(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match self.take() {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.is_over() => return Poll::Ready(None),
                Ok(None) => {}
                Err(fault) => return Poll::Ready(Some(Err(fault.into()))),
            }
            match ready!(poll_read(&mut self.stream, cx, scratch::MOST, Bytes::copy_from_slice)) {
                Ok(came) if !came.is_empty() => self.input = came,
                Ok(_) if matches!(self.rest, Rest::UntilClose) => self.rest = Rest::Over,
                Ok(_) => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// Sends more of the request, if there is more. `None`: not now.
    fn poll_sending(&mut self, cx: &mut Context<'_>) -> Option<io::Result<()>> {
        let sending = self.sending.as_mut()?;
        let done = match sending.poll(&mut self.stream, cx) {
            Poll::Pending => return None,
            Poll::Ready(Ok(())) => Ok(()),
            // The app wants no more of it, which is no fault of the answer.
            Poll::Ready(Err(Stuck::Connection(_))) => {
                self.lasts = false;
                Ok(())
            }
            Poll::Ready(Err(Stuck::Body(error))) => {
                self.lasts = false;
                Err(error)
            }
        };
        self.sending = None;
        Some(done)
    }

    /// The next piece of what has come.
    fn take(&mut self) -> Result<Option<Frame<Bytes>>, Fault> {
        match &mut self.rest {
            Rest::Over => Ok(None),
            Rest::Chunked(chunks) => match chunks.next(&mut self.input)? {
                None => Ok(None),
                Some(Piece::Data(data)) => Ok(Some(Frame::data(data))),
                Some(Piece::Trailers(trailers)) => {
                    self.rest = Rest::Over;
                    Ok(Some(Frame::trailers(trailers)))
                }
                Some(Piece::End) => {
                    self.rest = Rest::Over;
                    Ok(None)
                }
            },
            _ if self.input.is_empty() => Ok(None),
            Rest::UntilClose => Ok(Some(Frame::data(std::mem::take(&mut self.input)))),
            Rest::Length(left) => {
                let here = (self.input.len() as u64).min(*left);
                *left -= here;
                if *left == 0 {
                    self.rest = Rest::Over;
                }
                let data = if here == self.input.len() as u64 {
                    std::mem::take(&mut self.input)
                } else {
                    self.input.split_to(here as usize)
                };
                Ok(Some(Frame::data(data)))
            }
        }
    }

    /// The connection, for another exchange: all is sent, the answer has ended, and nothing came behind it.
    pub fn into_link(self) -> Option<Link<S>> {
        let is_between = self.lasts && self.is_over() && self.input.is_empty() && self.is_sent();
        is_between.then(|| Link { stream: self.stream })
    }

    /// Whether all of the request was sent.
    pub fn is_sent(&self) -> bool {
        self.sending.is_none()
    }

    /// Goes on sending the request, after the answer has ended, for half a minute at most: an app that has answered may
    /// still want to read it, and a visitor who is sending it is not cut off.
    pub async fn send_rest(&mut self) {
        if self.is_sent() {
            return;
        }
        let sent = std::future::poll_fn(|cx| self.poll_sending(cx).map_or(Poll::Pending, Poll::Ready));
        // What remains unsent keeps the connection from being used again.
        let _ = tokio::time::timeout(AFTERMATH, sent).await;
    }

    /// The connection, after the answer has said that it speaks another protocol from now on.
    pub fn into_switched(self) -> Switched<S> {
        Switched { first: self.input, stream: self.stream }
    }
}
