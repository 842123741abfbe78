//! The straight way of a request: from the bytes of its head to those of its answer, with nothing made in between.
//!
//! A [`Service`](super::Service) takes it where it can, and says so before it has done anything that cannot be done
//! twice; or later, and then says also how far it has come. Everything else goes the general way.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::guard::HeadNote;

use super::exchange::After;
use super::request::{self, Asked, Head};
use super::{Service, Wire};

/// So long an app may take before it is looked whether the visitor still waits.
const SOON: Duration = Duration::from_millis(500);

/// A request without a body, whose framing is beyond doubt.
#[derive(Debug)]
pub struct Said<'a, 'l, 'b> {
    pub head: &'b [u8],
    pub parsed: &'a httparse::Request<'l, 'b>,
    pub note: &'a HeadNote,
    pub asked: Asked,
}

/// Which way a request goes.
#[derive(Debug)]
pub enum Way<W> {
    /// The general one: nothing was done.
    General,
    /// It has been answered. `keep_alive`: the visitor may ask again.
    Answered { keep_alive: bool },
    /// The straight one, and it waits.
    Waits(W),
}

/// What of a request is kept while it waits.
pub trait Waiting {
    /// Nobody waits for its answer any more.
    fn leave(self, head: &[u8]);
}

impl Waiting for std::convert::Infallible {
    fn leave(self, _: &[u8]) {}
}

/// A request that waits.
#[derive(Debug)]
pub struct Waits<W: Waiting> {
    pub head: Bytes,
    pub note: HeadNote,
    pub asked: Asked,
    /// `None`: it waits no more.
    pub waiting: Option<W>,
}

impl<W: Waiting> Waits<W> {
    /// The same for the general way; `None` does not happen, as the head was good before.
    pub fn into_general<V: Service<Waiting = W>>(mut self, service: &V) -> Option<(Head, HeadNote)> {
        let mut head = request::read(&self.head).ok()?;
        if let Some(waiting) = self.waiting.take() {
            service.hand_over(waiting, &mut head.request);
        }
        Some((head, self.note))
    }
}

impl<W: Waiting> Drop for Waits<W> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.leave(&self.head);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Waits until a request is answered, and gives whether the visitor may ask again; `None`: it goes the general way.
    ///
    /// # Errors
    /// When the visitor is gone.
    pub(super) async fn wait<V: Service>(
        &mut self,
        service: &V,
        waits: &mut Waits<V::Waiting>,
        stop: &watch::Receiver<bool>,
    ) -> io::Result<Option<bool>> {
        // Most answers come so soon that nobody has left, and to listen for it costs as much as to read a request.
        let soon = Instant::now() + SOON;
        let mut is_soon = true;
        let answered = poll_fn(|cx| {
            let Waits { head, asked, waiting: Some(waiting), .. } = waits else {
                return Poll::Ready(Ok(None));
            };
            let asked = Asked { keep_alive: asked.keep_alive && !*stop.borrow(), ..*asked };
            let gone_on = service.go_on(cx, head, waiting, asked, &mut self.alarm, &mut self.out);
            if let Poll::Ready(answered) = gone_on {
                return Poll::Ready(Ok(answered));
            }
            is_soon = is_soon && self.alarm.poll(cx, soon).is_pending();
            if is_soon { Poll::Pending } else { self.watch_visitor(cx) }
        });
        let answered = answered.await?;
        if answered.is_some() {
            waits.waiting = None;
        }
        Ok(answered)
    }

    /// Notices a visitor that leaves before it has its answer.
    fn watch_visitor<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        // What it asks next waits for its turn.
        if !self.inbound.unread.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.inbound.fill(&mut self.io, cx)) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Poll::Ready(Err(error)),
            Ok(_) => Poll::Pending,
        }
    }

    /// Sends what was written of an answer.
    ///
    /// # Errors
    /// When the visitor is gone, or does not read.
    pub(super) async fn finish(&mut self, asked: Asked, keep_alive: bool) -> io::Result<After> {
        let mut since = None;
        poll_fn(|cx| {
            let mut moved = false;
            if let Poll::Ready(sent) = self.out.poll(&mut self.io, cx, &mut moved) {
                return Poll::Ready(sent);
            }
            if moved {
                since = None;
            }
            let since = *since.get_or_insert_with(Instant::now);
            ready!(self.alarm.poll(cx, since + self.clocks.stall));
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        })
        .await?;
        Ok(if keep_alive {
            After::Next
        } else {
            After::Close { linger: asked.keep_alive || !self.inbound.unread.is_empty() }
        })
    }
}
