//! HTTP/1.0 and 1.1 with visitors: klar's own codec.
//!
//! One task, one buffer in, one buffer out and one timer for each connection. A head is read once: `framing.rs` judges
//! it, [`request`] makes a request of it. Its body is handed over whole when it is here, otherwise piece by piece as
//! it is asked for ([`body`], [`inbound`]). The answer is written behind its head and goes out with it ([`response`],
//! [`outbound`]). [`exchange`] is one request and its answer, the rest of the connection is here. What idles keeps no
//! buffer.
//!
//! A request for another protocol (WebSocket) is not read any further: hyper, behind the guard, gets the connection
//! from the first byte of that head on ([`fallback`]). There the codec would save nothing, and hyper's way of changing
//! protocols is proven.
//!
//! **Invariant:** nothing is read beyond a body or a head that is in doubt. Who is refused hears why, and the connection
//! ends.
//! **Invariant:** a visitor that is late with a head, a body or with reading is let go (see [`Clocks`]).

pub mod alarm;
pub mod body;
#[cfg(test)]
mod cost;
pub mod date;
#[cfg(test)]
mod differential;
mod exchange;
pub mod fallback;
mod inbound;
mod outbound;
mod request;
mod response;
#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use hyper::body::Body;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use crate::framing::{Framing, Refusal};
use crate::guard::{Clocks, HeadNote, LINGER};
use alarm::Alarm;
use body::VisitorBody;
use exchange::After;
use inbound::{Inbound, Rest};
use outbound::Outbound;
use request::Head;

/// Whether the codec serves visitors, or hyper behind the guard. Not for users: what they see is the same.
pub const IS_ON: bool = true;

/// What answers the requests of a connection.
pub trait Service {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error = io::Error> + Unpin;

    /// Answers a request. `note` may say that it is to be refused.
    fn answer(
        &self,
        note: HeadNote,
        request: Request<VisitorBody>,
    ) -> impl Future<Output = Response<Self::Body>>;

    /// Writes lines of the head that are not among the headers of the answer.
    fn write_lines(_: &Self::Body, _: &mut Vec<u8>) {}
}

/// How a connection has ended.
#[derive(Debug)]
pub enum End<S> {
    /// It is closed.
    Closed,
    /// It goes on with a protocol that is not spoken here. `unread` begins with the head that asks for it.
    Unusual {
        /// The connection.
        stream: S,
        /// What was read of it.
        unread: BytesMut,
    },
}

/// A connection.
struct Wire<S> {
    io: S,
    inbound: Inbound,
    out: Outbound,
    clocks: Clocks,
    alarm: Alarm,
}

/// What comes next on a connection.
#[expect(clippy::large_enum_variant, reason = "most are the large one, and each is taken apart at once")]
enum Next {
    Request(Head, HeadNote),
    Refused(HeadNote),
    Unusual,
    /// Nothing.
    End,
}

/// Serves a connection until it ends, or until `stop` is set and what was asked is answered.
pub async fn serve<S, V>(io: S, clocks: Clocks, service: &V, stop: &mut watch::Receiver<bool>) -> End<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: Service,
{
    let mut wire =
        Wire { io, inbound: Inbound::default(), out: Outbound::default(), clocks, alarm: Alarm::default() };
    let mut is_fresh = true;
    loop {
        let (head, note) = match wire.next(stop, is_fresh).await {
            Next::Request(head, note) => (Some(head), note),
            Next::Refused(note) => (None, note),
            Next::Unusual => return End::Unusual { stream: wire.io, unread: wire.inbound.unread },
            Next::End => return wire.close(false).await,
        };
        is_fresh = false;
        // How a connection ends is in the records of its requests.
        match wire.exchange(service, head, note, stop).await {
            Ok(After::Next) => {}
            Ok(After::Close { linger }) => return wire.close(linger).await,
            // Half an answer must not look whole: no goodbye.
            Err(_) => return End::Closed,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Waits for the next head. `is_fresh`: there was none yet.
    async fn next(&mut self, stop: &mut watch::Receiver<bool>, is_fresh: bool) -> Next {
        let idle = Instant::now() + self.clocks.idle;
        tokio::select! {
            biased;
            next = poll_fn(|cx| self.poll_next(cx, idle)) => return next,
            // Who sends the word is gone only when everything is.
            _ = stop.wait_for(|stop| *stop) => {}
        }
        // A head that has begun is waited for, and one that has just been opened is about to ask.
        let grace = if is_fresh { LINGER } else { Duration::ZERO };
        let idle = idle.min(Instant::now() + grace);
        poll_fn(|cx| self.poll_next(cx, idle)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, idle: Instant) -> Poll<Next> {
        loop {
            match self.inbound.head(self.clocks.head_bytes) {
                Ok(Some(length)) => return Poll::Ready(self.take_head(length)),
                Ok(None) => {}
                Err(refusal) => return Poll::Ready(self.refuse(refusal, None)),
            }
            match self.inbound.fill(&mut self.io, cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(Next::End),
                Poll::Pending => {
                    let end = match self.inbound.begun {
                        Some(begun) => begun + self.clocks.head,
                        None => {
                            self.inbound.give_back();
                            self.out.give_back();
                            idle
                        }
                    };
                    ready!(self.alarm.poll(cx, end));
                    return Poll::Ready(match self.inbound.begun {
                        Some(_) => self.refuse(Refusal::Late, None),
                        // Without a word: an answer would be taken for that to the next request.
                        None => Next::End,
                    });
                }
            }
        }
    }

    fn take_head(&mut self, length: usize) -> Next {
        let unread = &mut self.inbound.unread;
        // Nothing behind it: the memory need not be shared.
        let bytes = if length == unread.len() { std::mem::take(unread) } else { unread.split_to(length) };
        let bytes = bytes.freeze();
        let head = match request::read(&bytes) {
            Ok(head) => head,
            Err(refusal) => return self.refuse(refusal, Some(length)),
        };
        if head.framing == Framing::Upgrade {
            let mut unread = BytesMut::from(&bytes[..]);
            unread.extend_from_slice(&self.inbound.unread);
            self.inbound.unread = unread;
            return Next::Unusual;
        }
        let begun = self.inbound.begun.take().unwrap_or_else(Instant::now);
        Next::Request(head, HeadNote { begun, length, refusal: None, upgrade: false })
    }

    fn refuse(&mut self, refusal: Refusal, length: Option<usize>) -> Next {
        let begun = self.inbound.begun.take().unwrap_or_else(Instant::now);
        let length = length.unwrap_or(self.inbound.unread.len());
        self.inbound.rest = Rest::Unknown;
        Next::Refused(HeadNote { begun, length, refusal: Some(refusal), upgrade: false })
    }

    /// Says goodbye. `linger`: first what the visitor is still sending is read, so that the last answer is not lost to a
    /// reset.
    async fn close(mut self, linger: bool) -> End<S> {
        let linger = linger && !self.inbound.ended;
        self.inbound.unread.clear();
        let goodbye = async {
            self.io.shutdown().await?;
            if linger {
                poll_fn(|cx| self.inbound.discard(&mut self.io, cx)).await;
            }
            io::Result::Ok(())
        };
        // One that is gone already, or does not listen, needs none.
        let _ = tokio::time::timeout(LINGER, goodbye).await;
        End::Closed
    }
}
