//! A stream that carries HTTP/2 for as long as the visitor has [`Manners`].
//!
//! Nothing is held back and nothing is changed: what comes is followed frame by frame before the HTTP library gets
//! it, and what goes out is followed so that a `GOAWAY` of the guard's own never lands inside another frame. The
//! guard keeps the clocks: for what has begun and does not end, for a visitor that does not read, and for a
//! connection on which nothing is asked. A connection that is ended hears why, and is then read empty for a
//! moment, so that the reason is not lost to a reset.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::frames::{Event, Frames, kind};
use crate::guard::{Clock, Clocks, Heads, LINGER};
use crate::manners::{Fault, Manners};

/// How often the socket of a connection could take no more. Its streams look here: one that waits while the
/// connection is jammed waits for the network, and not for its visitor.
pub type Jams = Rc<Cell<u64>>;

/// See the [module](self).
#[derive(Debug)]
pub struct Http2Guard<S> {
    inner: S,
    heads: Heads,
    clocks: Clocks,
    manners: Manners,
    outgoing: Frames,
    /// For what has begun and has to end.
    alarm: Alarm,
    idle_clock: Clock,
    write_clock: Clock,
    jams: Jams,
    /// The connection is ended: for what, and until when it is read empty.
    ended: Option<(Fault, Linger)>,
    closing: Option<Linger>,
}

/// A clock for one moment, which may change.
#[derive(Debug, Default)]
struct Alarm(Option<(Instant, Pin<Box<Sleep>>)>);

impl Alarm {
    fn poll(&mut self, cx: &mut Context<'_>, end: Instant) -> Poll<()> {
        match &mut self.0 {
            Some((set, _)) if *set == end => {}
            Some((set, sleep)) => {
                *set = end;
                sleep.as_mut().reset(end.into());
            }
            None => self.0 = Some((end, Box::pin(tokio::time::sleep_until(end.into())))),
        }
        self.0.as_mut().map_or(Poll::Pending, |(_, sleep)| sleep.as_mut().poll(cx))
    }
}

/// Reads a connection empty for a moment.
#[derive(Debug)]
struct Linger {
    end: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Linger {
    fn begin() -> Self {
        let end = Instant::now() + LINGER;
        Self { end, sleep: Box::pin(tokio::time::sleep_until(end.into())) }
    }

    /// Ready when the visitor has hung up, or the moment is over.
    fn poll(&mut self, inner: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<()> {
        let mut thrown_away = [0; 4096];
        // Who sends without a pause must not get more than its moment.
        while Instant::now() < self.end {
            let mut read = ReadBuf::new(&mut thrown_away);
            match Pin::new(&mut *inner).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.sleep.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }
}

impl<S> Http2Guard<S> {
    /// Guards `inner`, whose first byte is that of a preface.
    pub fn new(inner: S, clocks: Clocks) -> Self {
        Self {
            inner,
            heads: Heads::default(),
            clocks,
            manners: Manners::new(Instant::now()),
            outgoing: Frames::from_server(),
            alarm: Alarm::default(),
            idle_clock: Clock::default(),
            write_clock: Clock::default(),
            jams: Jams::default(),
            ended: None,
            closing: None,
        }
    }

    /// Where its requests say that they are being answered.
    pub fn heads(&self) -> Heads {
        self.heads.clone()
    }

    /// Where its streams see that the network is slow.
    pub fn jams(&self) -> Jams {
        self.jams.clone()
    }

    fn follow_out(&mut self, bytes: &[u8]) {
        let manners = &mut self.manners;
        let Ok(()) = self.outgoing.follow(bytes, |event| {
            if let Event::Begins(frame) = event
                && frame.kind == kind::DATA
            {
                manners.earn();
            }
            Ok::<_, Infallible>(())
        });
    }
}

/// A `GOAWAY` (RFC 9113 section 6.8).
fn goaway(last_stream: u32, code: u32) -> [u8; 17] {
    let mut frame = [0; 17];
    frame[2] = 8;
    frame[3] = kind::GOAWAY;
    frame[9..13].copy_from_slice(&last_stream.to_be_bytes());
    frame[13..].copy_from_slice(&code.to_be_bytes());
    frame
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http2Guard<S> {
    /// Says goodbye and lets nothing more through. A visitor that has not read what was sent to it before does not
    /// hear why.
    fn end(&mut self, fault: Fault, cx: &mut Context<'_>) {
        if self.outgoing.is_between() {
            let bytes = goaway(self.manners.last_stream(), fault.code());
            // One that cannot be told is not told.
            let _ = Pin::new(&mut self.inner).poll_write(cx, &bytes);
        }
        // Tried again while it is read empty.
        let _ = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.ended = Some((fault, Linger::begin()));
    }

    /// Why the connection has to end now, if it has to; otherwise it is known when to look again.
    fn overdue(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        if let Some((end, fault)) = self.manners.deadline(&self.clocks) {
            return self.alarm.poll(cx, end).map(|()| fault);
        }
        // Waiting for an answer is not idling, nor is reading one slowly.
        if self.write_clock.running || !self.heads.are_answered(cx) {
            self.idle_clock.stop();
            return Poll::Pending;
        }
        self.idle_clock.poll(cx, self.clocks.idle, None).map(|()| Fault::Idle)
    }

    fn written(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if poll.is_ready() {
            if self.write_clock.running {
                self.write_clock.stop();
                // Only now the clock of an idle connection may start.
                cx.waker().wake_by_ref();
            }
            return poll;
        }
        self.jams.set(self.jams.get().wrapping_add(1));
        ready!(self.write_clock.poll(cx, self.clocks.stall, None));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Http2Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, up: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some((fault, linger)) = &mut this.ended {
                let _ = Pin::new(&mut this.inner).poll_shutdown(cx);
                ready!(linger.poll(&mut this.inner, cx));
                return Poll::Ready(Err(io::Error::other(fault.words())));
            }
            let before = up.filled().len();
            let fault = match Pin::new(&mut this.inner).poll_read(cx, up) {
                Poll::Ready(Ok(())) => match this.manners.judge(&up.filled()[before..], Instant::now()) {
                    Ok(asked) => {
                        if asked {
                            this.idle_clock.stop();
                        }
                        return Poll::Ready(Ok(()));
                    }
                    Err(fault) => {
                        up.set_filled(before);
                        fault
                    }
                },
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => ready!(this.overdue(cx)),
            };
            this.end(fault, cx);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Http2Guard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ended.is_some() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let poll = Pin::new(&mut this.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = poll {
            this.follow_out(&bytes[..count]);
        }
        this.written(cx, poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ended.is_some() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let poll = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(mut count)) = poll {
            for slice in slices {
                let here = count.min(slice.len());
                this.follow_out(&slice[..here]);
                count -= here;
            }
        }
        this.written(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended.is_some() {
            return Poll::Ready(Ok(()));
        }
        let poll = Pin::new(&mut this.inner).poll_flush(cx).map_ok(|()| 0);
        this.written(cx, poll).map_ok(|_| ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended.is_none() && this.closing.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        }
        let linger = match &mut this.ended {
            Some((_, linger)) => linger,
            None => this.closing.get_or_insert_with(Linger::begin),
        };
        linger.poll(&mut this.inner, cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goodbye_is_a_frame() {
        let bytes = goaway(0x1_0203, 0xb);
        assert_eq!(bytes, [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0xb]);
    }
}
