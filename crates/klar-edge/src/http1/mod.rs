//! HTTP/1.0 and 1.1 with visitors: klar's own codec.
//!
//! One task, one buffer in, one buffer out and one timer for each connection. A head is read once: `framing.rs` judges
//! it, [`request`] makes a request of it. Its body is handed over whole when it is here, otherwise piece by piece as
//! it is asked for ([`body`], [`inbound`]). The answer is written behind its head and goes out with it ([`response`],
//! [`outbound`]). [`exchange`] is one request and its answer, the rest of the connection is here. What idles keeps no
//! buffer. Most requests are so simple that no request is made of them: they go a straight way ([`straight`]).
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
pub mod outbound;
pub mod request;
pub mod response;
mod straight;
#[cfg(test)]
mod tests;
mod word;

use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use hyper::body::Body;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use crate::framing::{self, Framing, Refusal};
use crate::guard::{Clocks, HeadNote, LINGER};
use alarm::Alarm;
use body::VisitorBody;
use exchange::After;
use inbound::{Inbound, Rest};
use outbound::Outbound;
use request::{Asked, Head};
use straight::Waits;
pub use straight::{Said, Waiting, Way};
use word::Word;

/// Whether the codec serves visitors, or hyper behind the guard. Not for users: what they see is the same.
pub const IS_ON: bool = true;

/// What answers the requests of a connection.
pub trait Service {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error = io::Error> + Unpin;
    /// A request on its straight way that waits for an app: see [`straight`].
    type Waiting: Waiting;

    /// Answers a request. `note` may say that it is to be refused.
    fn answer(
        &self,
        note: HeadNote,
        request: Request<VisitorBody>,
    ) -> impl Future<Output = Response<Self::Body>>;

    /// Writes lines of the head that are not among the headers of the answer.
    fn write_lines(_: &Self::Body, _: &mut Vec<u8>) {}

    /// Answers a request straight from the bytes of its head, or begins to, where that is as simple as it mostly is.
    fn set_out(&self, _: &mut Context<'_>, _: &Said<'_, '_, '_>, _: &mut Outbound) -> Way<Self::Waiting> {
        Way::General
    }

    /// Goes on with a request that waits. Ready with whether the visitor may ask again, or with nothing where its way is
    /// the general one from here on. Whoever runs in `cx` is woken when there is more to do, and no later than `alarm`.
    fn go_on(
        &self,
        _: &mut Context<'_>,
        _: &[u8],
        _: &mut Self::Waiting,
        _: Asked,
        _alarm: &mut Alarm,
        _: &mut Outbound,
    ) -> Poll<Option<bool>> {
        Poll::Ready(None)
    }

    /// Tells the general way how far a request has come.
    fn hand_over(&self, _: Self::Waiting, _: &mut Request<()>) {}
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
#[expect(clippy::large_enum_variant, reason = "most are the large ones, and each is taken apart at once")]
enum Next<W: Waiting> {
    /// It goes the general way.
    Request(Head, HeadNote),
    /// It goes the straight one, and waits.
    Waits(Waits<W>),
    /// It has been answered. `keep_alive`: and the visitor may ask again.
    Answered {
        asked: Asked,
        keep_alive: bool,
    },
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
    let mut word = Word::new(stop);
    loop {
        let next = wire.next(service, stop, &mut word, is_fresh).await;
        is_fresh = false;
        let (head, note) = match next {
            Next::Request(head, note) => (Some(head), note),
            Next::Answered { asked, keep_alive } => match wire.finish(asked, keep_alive).await {
                Ok(After::Next) => continue,
                Ok(After::Close { linger }) => return wire.close(linger).await,
                Err(_) => return End::Closed,
            },
            Next::Waits(mut waits) => match wire.wait(service, &mut waits, stop).await {
                Ok(Some(keep_alive)) => match wire.finish(waits.asked, keep_alive).await {
                    Ok(After::Next) => continue,
                    Ok(After::Close { linger }) => return wire.close(linger).await,
                    Err(_) => return End::Closed,
                },
                Ok(None) => match waits.into_general(service) {
                    Some((head, note)) => (Some(head), note),
                    None => return End::Closed,
                },
                Err(_) => return End::Closed,
            },
            Next::Refused(note) => (None, note),
            Next::Unusual => return End::Unusual { stream: wire.io, unread: wire.inbound.unread },
            Next::End => return wire.close(false).await,
        };
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
    /// Waits for the next head. `is_fresh`: there was none yet. `word`: is heard when `stop` is set.
    async fn next<V: Service>(
        &mut self,
        service: &V,
        stop: &watch::Receiver<bool>,
        word: &mut Word,
        is_fresh: bool,
    ) -> Next<V::Waiting> {
        let mut idle = Instant::now() + self.clocks.idle;
        let mut has_heard = false;
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(next) = self.poll_next(cx, service, stop, idle) {
                    return Poll::Ready(next);
                }
                if has_heard {
                    return Poll::Pending;
                }
                ready!(word.poll(cx));
                has_heard = true;
                // A head that has begun is waited for, and one that has just been opened is about to ask.
                let grace = if is_fresh { LINGER } else { Duration::ZERO };
                idle = idle.min(Instant::now() + grace);
            }
        })
        .await
    }

    fn poll_next<V: Service>(
        &mut self,
        cx: &mut Context<'_>,
        service: &V,
        stop: &watch::Receiver<bool>,
        idle: Instant,
    ) -> Poll<Next<V::Waiting>> {
        loop {
            match self.inbound.head(self.clocks.head_bytes) {
                Ok(Some(length)) => return Poll::Ready(self.take_head(cx, service, stop, length)),
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

    fn take_head<V: Service>(
        &mut self,
        cx: &mut Context<'_>,
        service: &V,
        stop: &watch::Receiver<bool>,
        length: usize,
    ) -> Next<V::Waiting> {
        let unread = &mut self.inbound.unread;
        // Nothing behind it: the memory need not be shared.
        let bytes = if length == unread.len() { std::mem::take(unread) } else { unread.split_to(length) };
        let bytes = bytes.freeze();
        let mut lines = framing::no_lines();
        let parsed = framing::parse(&bytes, &mut lines);
        let judged = parsed.and_then(|parsed| Ok((framing::judge_request(&parsed)?, parsed)));
        let (framing, parsed) = match judged {
            Ok(judged) => judged,
            Err(refusal) => return self.refuse(refusal, Some(length)),
        };
        if framing == Framing::Upgrade {
            let mut unread = BytesMut::from(&bytes[..]);
            unread.extend_from_slice(&self.inbound.unread);
            self.inbound.unread = unread;
            return Next::Unusual;
        }
        let asked = Asked::of(&parsed);
        let begun = *self.inbound.begun.get_or_insert_with(Instant::now);
        let note = HeadNote { begun, length, refusal: None, upgrade: false };
        if framing == Framing::Length(0) && !asked.is_old && self.out.has_room() {
            let keep_alive = asked.keep_alive && !*stop.borrow();
            let said =
                Said { head: &bytes, parsed: &parsed, note: &note, asked: Asked { keep_alive, ..asked } };
            match service.set_out(cx, &said, &mut self.out) {
                Way::General => {}
                Way::Answered { keep_alive } => {
                    self.inbound.begun = None;
                    return Next::Answered { asked, keep_alive };
                }
                Way::Waits(waiting) => {
                    self.inbound.begun = None;
                    return Next::Waits(Waits { head: bytes, note, asked, waiting: Some(waiting) });
                }
            }
        }
        let request = match request::request(&bytes, &parsed) {
            Ok(request) => request,
            Err(refusal) => return self.refuse(refusal, Some(length)),
        };
        self.inbound.begun = None;
        Next::Request(Head { request, framing, asked }, note)
    }

    fn refuse<W: Waiting>(&mut self, refusal: Refusal, length: Option<usize>) -> Next<W> {
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
