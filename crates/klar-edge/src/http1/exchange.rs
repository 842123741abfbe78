//! One request and its answer on a connection of HTTP/1.1.
//!
//! All of it happens in the task of the connection: the service is asked, the request's body is read as far as it is
//! wanted, the answer is written as far as it is taken, and a visitor that leaves meanwhile is noticed. What is not yet
//! done when that happens is dropped, and its record says so.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::chunked::Chunks;
use crate::framing::Framing;
use crate::guard::HeadNote;

use super::body::{self, Feed, VisitorBody};
use super::inbound::{Decoded, Rest};
use super::outbound::Outbound;
use super::request::{Asked, Head};
use super::response::{self, Ending};
use super::{Service, Wire};

/// RFC 9110 section 10.1.1.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// So much of a body that nobody wanted is read so that its connection may be kept, in bytes.
const UNWANTED_MAX: usize = 64 * 1024;

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The next head is waited for.
    Next,
    /// It ends. `linger`: the visitor does not expect it, and may be sending.
    Close { linger: bool },
}

/// See the [module](self).
struct Exchange<F, B> {
    answer: Answer<F, B>,
    /// See [`Service::write_lines`].
    lines: fn(&B, &mut Vec<u8>),
    asked: Asked,
    /// The visitor may ask again.
    keep_alive: bool,
    /// Where the body of the request goes, until all of it has gone there.
    feed: Option<Feed>,
    /// Since when nothing came of a body that is wanted.
    reading: Option<Instant>,
    /// Since when the visitor has not taken what is written.
    writing: Option<Instant>,
    /// The answer broke off.
    broken: Option<io::Error>,
}

enum Answer<F, B> {
    /// The service is at work.
    Awaited(Pin<Box<F>>),
    Sending(B, Ending),
    /// All of it is in the buffer.
    Sent,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Has a request answered; `None`: one that `note` refuses.
    ///
    /// # Errors
    /// When the visitor is gone or does not read, or the answer broke off.
    pub(super) async fn exchange<V: Service>(
        &mut self,
        service: &V,
        head: Option<Head>,
        note: HeadNote,
        stop: &watch::Receiver<bool>,
    ) -> io::Result<After> {
        let (request, asked, feed) = match head {
            Some(Head { request, framing, asked }) => {
                let (body, feed) = self.body(framing);
                (request.map(|()| body), asked, feed)
            }
            None => (Request::new(VisitorBody::EMPTY), Asked::REFUSED, None),
        };
        let mut exchange = Exchange {
            answer: Answer::Awaited(Box::pin(service.answer(note, request))),
            lines: V::write_lines,
            asked,
            keep_alive: asked.keep_alive,
            feed,
            reading: None,
            writing: None,
            broken: None,
        };
        poll_fn(|cx| self.poll_exchange(&mut exchange, stop, cx)).await
    }

    /// The body behind a head, and where the rest of it goes.
    fn body(&mut self, framing: Framing) -> (VisitorBody, Option<Feed>) {
        let (rest, length) = match framing {
            Framing::Length(length) => {
                if let Ok(here) = usize::try_from(length)
                    && here <= self.inbound.unread.len()
                {
                    return (VisitorBody::Whole(self.inbound.unread.split_to(here).freeze()), None);
                }
                (Rest::Length(length), Some(length))
            }
            Framing::Chunked => (Rest::Chunked(Box::new(Chunks::new())), None),
            // Not served here.
            Framing::Upgrade => (Rest::Unknown, None),
        };
        self.inbound.rest = rest;
        let (feed, coming) = body::channel(length);
        (VisitorBody::Coming(coming), Some(feed))
    }

    fn poll_exchange<F, B>(
        &mut self,
        exchange: &mut Exchange<F, B>,
        stop: &watch::Receiver<bool>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<After>>
    where
        F: Future<Output = Response<B>>,
        B: Body<Data = Bytes, Error = io::Error> + Unpin,
    {
        if let Some(feed) = &exchange.feed {
            feed.stay_awake();
        }
        loop {
            let mut moved = false;
            exchange.poll_answer(&mut self.out, stop, cx);
            match self.out.poll(&mut self.io, cx, &mut moved) {
                Poll::Ready(result) => {
                    result?;
                    exchange.writing = None;
                }
                Poll::Pending if moved => exchange.writing = Some(Instant::now()),
                Poll::Pending => {
                    exchange.writing.get_or_insert_with(Instant::now);
                }
            }
            self.poll_body(exchange, cx, &mut moved);
            if exchange.is_sent() && self.out.is_empty() {
                if let Some(error) = exchange.broken.take() {
                    return Poll::Ready(Err(error));
                }
                if let Some(after) = self.after(exchange, cx) {
                    return Poll::Ready(Ok(after));
                }
            }
            if moved {
                continue;
            }
            self.watch(exchange, cx)?;
            if let Some(since) = [exchange.reading, exchange.writing].into_iter().flatten().min()
                && self.alarm.poll(cx, since + self.clocks.stall).is_ready()
            {
                if exchange.writing.is_some_and(|writing| writing <= since) {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                self.give_up_body(exchange, io::ErrorKind::TimedOut.into(), cx);
                continue;
            }
            if let Some(feed) = &exchange.feed {
                feed.sleep(cx);
            }
            return Poll::Pending;
        }
    }

    /// Hands over as much of the request's body as is wanted.
    fn poll_body<F, B>(&mut self, exchange: &mut Exchange<F, B>, cx: &mut Context<'_>, moved: &mut bool) {
        let Some(feed) = &exchange.feed else { return };
        if !feed.is_wanted() {
            // The app takes its time, unless nothing is left for it to say.
            if !exchange.is_sent() {
                exchange.reading = None;
            } else {
                exchange.reading.get_or_insert_with(Instant::now);
            }
            return;
        }
        loop {
            match self.inbound.decode() {
                Ok(Decoded::Piece(frame, last)) => {
                    exchange.asked.expects = false;
                    feed.put(Some(Ok(frame)), last, cx);
                    if last {
                        exchange.feed = None;
                    }
                    break;
                }
                Ok(Decoded::End) => {
                    feed.put(None, true, cx);
                    exchange.feed = None;
                    break;
                }
                Ok(Decoded::More) => {
                    let waits = std::mem::take(&mut exchange.asked.expects);
                    if waits && !exchange.is_answered() && self.out.has_room() {
                        self.out.gathered().extend_from_slice(CONTINUE);
                        *moved = true;
                        return;
                    }
                    match self.inbound.fill(&mut self.io, cx) {
                        Poll::Ready(Ok(1..)) => {}
                        Poll::Ready(end) => {
                            let error = end.err().unwrap_or(io::ErrorKind::UnexpectedEof.into());
                            self.give_up_body(exchange, error, cx);
                            break;
                        }
                        Poll::Pending => {
                            exchange.reading.get_or_insert_with(Instant::now);
                            return;
                        }
                    }
                    exchange.reading = None;
                }
                Err(wrong) => {
                    self.give_up_body(exchange, io::Error::new(io::ErrorKind::InvalidData, wrong), cx);
                    break;
                }
            }
        }
        exchange.reading = None;
        *moved = true;
    }

    /// Nothing more comes of the request's body, and nothing after it is believed.
    fn give_up_body<F, B>(&mut self, exchange: &mut Exchange<F, B>, error: io::Error, cx: &Context<'_>) {
        if let Some(feed) = exchange.feed.take() {
            feed.put(Some(Err(error)), true, cx);
        }
        self.inbound.rest = Rest::Unknown;
        exchange.reading = None;
    }

    /// Notices a visitor that leaves before it has its answer.
    fn watch<F, B>(&mut self, exchange: &Exchange<F, B>, cx: &mut Context<'_>) -> io::Result<()> {
        let is_waited_for = exchange.is_sent() || exchange.feed.is_some();
        if is_waited_for || !matches!(self.inbound.rest, Rest::Head) || !self.inbound.unread.is_empty() {
            return Ok(());
        }
        match self.inbound.fill(&mut self.io, cx) {
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Err(error)) => Err(error),
            // What it asks next waits for its turn.
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }

    /// What comes after an answer that was sent; `None` while somebody still reads the request's body.
    fn after<F, B>(&mut self, exchange: &mut Exchange<F, B>, cx: &mut Context<'_>) -> Option<After> {
        if let Some(feed) = &exchange.feed {
            if !feed.is_dropped() {
                return None;
            }
            exchange.feed = None;
            // One that waits to be told to send its body will not send it now.
            if exchange.asked.expects || !self.skip_body(cx) {
                self.inbound.rest = Rest::Unknown;
            }
        }
        let may_go_on = exchange.keep_alive && matches!(self.inbound.rest, Rest::Head);
        let asked_to = !exchange.asked.keep_alive && matches!(self.inbound.rest, Rest::Head);
        Some(if may_go_on {
            After::Next
        } else {
            After::Close { linger: !asked_to || !self.inbound.unread.is_empty() }
        })
    }

    /// Throws away a body that nobody wanted, if it is short and here.
    fn skip_body(&mut self, cx: &mut Context<'_>) -> bool {
        let mut skipped = 0;
        while skipped <= UNWANTED_MAX {
            match self.inbound.decode() {
                Ok(Decoded::Piece(frame, _)) => skipped += frame.data_ref().map_or(0, Bytes::len),
                Ok(Decoded::End) => return true,
                Ok(Decoded::More) => match self.inbound.fill(&mut self.io, cx) {
                    Poll::Ready(Ok(1..)) => {}
                    _ => return false,
                },
                Err(_) => return false,
            }
        }
        false
    }
}

impl<F, B> Exchange<F, B> {
    fn is_sent(&self) -> bool {
        matches!(self.answer, Answer::Sent)
    }

    /// Whether the head of the answer has gone.
    fn is_answered(&self) -> bool {
        !matches!(self.answer, Answer::Awaited(_))
    }

    fn break_off(&mut self, error: io::Error) {
        self.broken = Some(error);
        self.answer = Answer::Sent;
    }
}

impl<F, B> Exchange<F, B>
where
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes, Error = io::Error> + Unpin,
{
    /// Gets as much of the answer as there is, and as there is room for.
    fn poll_answer(&mut self, out: &mut Outbound, stop: &watch::Receiver<bool>, cx: &mut Context<'_>) {
        if let Answer::Awaited(answer) = &mut self.answer
            && out.has_room()
            && let Poll::Ready(response) = answer.as_mut().poll(cx)
        {
            let (parts, body) = response.into_parts();
            let ended = body.is_end_stream();
            let length = if ended { Some(0) } else { body.size_hint().exact() };
            let asked = Asked { keep_alive: self.asked.keep_alive && !*stop.borrow(), ..self.asked };
            let promise =
                response::write(out.gathered(), &parts, |out| (self.lines)(&body, out), asked, length);
            self.keep_alive = promise.keep_alive;
            self.answer = match promise.ending {
                Ending::Bodiless | Ending::Length(0) => Answer::Sent,
                ending => Answer::Sending(body, ending),
            };
        }
        while out.has_room() && self.poll_piece(out, cx).is_ready() {}
    }

    /// Gets the next piece of the answer. Not ready: there is none now, or ever.
    fn poll_piece(&mut self, out: &mut Outbound, cx: &mut Context<'_>) -> Poll<()> {
        let Answer::Sending(body, ending) = &mut self.answer else { return Poll::Pending };
        let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            None => None,
            Some(Ok(frame)) => Some(frame),
            Some(Err(error)) => {
                self.break_off(error);
                return Poll::Pending;
            }
        };
        let (data, trailers, mut is_last) = match frame.map(|frame| frame.into_data()) {
            None => (None, None, true),
            Some(Ok(data)) => (Some(data), None, body.is_end_stream()),
            Some(Err(frame)) => (None, frame.into_trailers().ok(), true),
        };
        match ending {
            Ending::Bodiless => is_last = true,
            Ending::Length(left) => {
                let length = data.as_ref().map_or(0, Bytes::len) as u64;
                if length > *left || (is_last && length < *left) {
                    self.break_off(io::Error::other("the answer is not as long as it was announced"));
                    return Poll::Pending;
                }
                *left -= length;
                out.push(data.unwrap_or_default());
                if *left == 0 && !is_last {
                    // It may want to know that its end was seen.
                    let _ = Pin::new(body).poll_frame(cx);
                    is_last = true;
                }
            }
            Ending::Chunked => {
                out.push_chunk(data.unwrap_or_default());
                if is_last && out.has_room() {
                    response::write_last(
                        out.gathered(),
                        trailers.as_ref().filter(|_| self.asked.takes_trailers),
                    );
                } else {
                    // The end comes after the piece has gone.
                    is_last = false;
                }
            }
            Ending::Close => out.push(data.unwrap_or_default()),
        }
        if is_last {
            self.answer = Answer::Sent;
        }
        Poll::Ready(())
    }
}
