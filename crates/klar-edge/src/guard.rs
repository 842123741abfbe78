//! A stream that lets only well-framed requests through to the HTTP library above it.
//!
//! It holds a head back until all of it is there and judged, follows the body so that it knows where the next head
//! begins, and keeps the clocks: a head that dribbles, a body that stalls, a visitor that does not read, a
//! connection that idles. A request that is refused is replaced by a harmless one, whose [`HeadNote`] says what to
//! answer: so every answer takes the same way out, in the order of the requests.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::chunked::Chunks;
use crate::framing::{self, Framing, Refusal};

/// What stands for a request that was refused.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// How much is read at once.
const READ: usize = 16 * 1024;
/// How long a connection is read empty before it is closed, so that the last answer is not lost to a reset.
pub const LINGER: Duration = Duration::from_secs(1);

/// The limits of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// The largest head, in bytes.
    pub head_bytes: usize,
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Without any progress in a body, in or out.
    pub stall: Duration,
    /// Between two requests.
    pub idle: Duration,
}

/// What is known of a head that was let through.
#[derive(Debug, Clone, Copy)]
pub struct HeadNote {
    /// When its first byte came.
    pub begun: Instant,
    /// Its length, in bytes.
    pub length: usize,
    /// Set on a stand-in: what to answer.
    pub refusal: Option<Refusal>,
    /// It asks for another protocol: unless it gets one, the connection ends with the answer.
    pub upgrade: bool,
}

impl Default for HeadNote {
    /// Of a head of which nothing is known.
    fn default() -> Self {
        Self { begun: Instant::now(), length: 0, refusal: None, upgrade: false }
    }
}

/// The requests of a connection that were let through and not yet answered.
#[derive(Debug, Clone, Default)]
pub struct Heads(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    /// Not yet handled, oldest first.
    notes: VecDeque<HeadNote>,
    answering: u32,
    /// Who starts the clock of an idle connection.
    waiting: Option<Waker>,
}

impl Heads {
    /// The note of the request that comes next.
    pub fn take(&self) -> Option<HeadNote> {
        self.lock().notes.pop_front()
    }

    /// A request is being answered, for as long as this is kept.
    pub fn answering(&self) -> Answering {
        self.lock().answering += 1;
        Answering(self.clone())
    }

    fn push(&self, note: HeadNote) {
        self.lock().notes.push_back(note);
    }

    /// Whether nothing is being answered; otherwise who asks is woken when that has changed.
    pub fn are_answered(&self, cx: &Context<'_>) -> bool {
        let mut open = self.lock();
        let answered = open.answering == 0 && open.notes.is_empty();
        open.waiting = (!answered).then(|| cx.waker().clone());
        answered
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a connection from idling.
#[derive(Debug)]
pub struct Answering(Heads);

impl Drop for Answering {
    fn drop(&mut self) {
        let mut open = self.0.lock();
        open.answering -= 1;
        if let Some(waiting) = open.waiting.take() {
            waiting.wake();
        }
    }
}

#[derive(Debug)]
enum Reading {
    /// Collecting a head; this many bytes of it were looked at.
    Head {
        seen: usize,
        begun: Option<Instant>,
    },
    /// This many bytes of a body are to come.
    Length(u64),
    Chunked(Chunks),
    /// Another protocol.
    Raw,
    /// Nothing more is let through; what still comes is thrown away.
    Refused,
}

const NEXT_HEAD: Reading = Reading::Head { seen: 0, begun: None };

/// See the [module](self).
#[derive(Debug)]
pub struct Guard<S> {
    inner: S,
    heads: Heads,
    clocks: Clocks,
    reading: Reading,
    buffer: BytesMut,
    /// This many bytes at the start of `buffer` may go up.
    free: usize,
    read_clock: Clock,
    write_clock: Clock,
    closing: Option<Pin<Box<Sleep>>>,
}

/// A clock that runs only while something is waited for.
#[derive(Debug, Default)]
pub struct Clock {
    sleep: Option<Pin<Box<Sleep>>>,
    pub running: bool,
}

impl Clock {
    pub fn stop(&mut self) {
        self.running = false;
    }

    /// Ready when it has run for `time` since it was last stopped, or until `end`.
    pub fn poll(&mut self, cx: &mut Context<'_>, time: Duration, since: Option<Instant>) -> Poll<()> {
        if !self.running {
            let end = tokio::time::Instant::from_std(since.unwrap_or_else(Instant::now)) + time;
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(end),
                None => self.sleep = Some(Box::pin(tokio::time::sleep_until(end))),
            }
            self.running = true;
        }
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<S> Guard<S> {
    /// Guards `inner`.
    pub fn new(inner: S, clocks: Clocks) -> Self {
        Self {
            inner,
            heads: Heads::default(),
            clocks,
            reading: NEXT_HEAD,
            buffer: BytesMut::new(),
            free: 0,
            read_clock: Clock::default(),
            write_clock: Clock::default(),
            closing: None,
        }
    }

    /// The same, after the codec has read `unread`, which begins with a head.
    pub fn with_unread(inner: S, clocks: Clocks, unread: BytesMut) -> Self {
        Self { buffer: unread, ..Self::new(inner, clocks) }
    }

    /// Where the notes of its heads are found.
    pub fn heads(&self) -> Heads {
        self.heads.clone()
    }

    fn refuse(&mut self, refusal: Refusal) {
        let begun = match self.reading {
            Reading::Head { begun: Some(begun), .. } => begun,
            _ => Instant::now(),
        };
        let length = self.buffer.len();
        self.heads.push(HeadNote { begun, length, refusal: Some(refusal), upgrade: false });
        self.buffer.clear();
        self.buffer.extend_from_slice(STAND_IN);
        self.free = STAND_IN.len();
        self.reading = Reading::Refused;
    }

    /// Frees what may go up of the bytes that are there, when none is free. `false`: more are needed.
    fn advance(&mut self) -> io::Result<bool> {
        let unread = &self.buffer[..];
        match &mut self.reading {
            Reading::Head { seen, begun } => {
                // RFC 9112 section 2.2: empty lines before a request are skipped.
                while *seen == 0 && self.buffer.starts_with(b"\r\n") {
                    self.buffer.advance(2);
                }
                // A lone CR may be half of one.
                if *seen == 0 && (self.buffer.is_empty() || self.buffer[..] == *b"\r") {
                    return Ok(false);
                }
                let begun = *begun.get_or_insert_with(Instant::now);
                let Some(length) = framing::head_length(&self.buffer, *seen) else {
                    if self.buffer.len() > self.clocks.head_bytes {
                        self.refuse(Refusal::Large);
                        return Ok(true);
                    }
                    if framing::is_hopeless(&self.buffer, *seen) {
                        self.refuse(Refusal::Bad("a line does not end in CR LF"));
                        return Ok(true);
                    }
                    *seen = self.buffer.len();
                    return Ok(false);
                };
                if length > self.clocks.head_bytes {
                    self.refuse(Refusal::Large);
                    return Ok(true);
                }
                match framing::judge(&self.buffer[..length]) {
                    Err(refusal) => self.refuse(refusal),
                    Ok(framing) => {
                        let upgrade = framing == Framing::Upgrade;
                        self.heads.push(HeadNote { begun, length, refusal: None, upgrade });
                        self.free = length;
                        self.read_clock.stop();
                        self.reading = match framing {
                            Framing::Length(0) => NEXT_HEAD,
                            Framing::Length(bytes) => Reading::Length(bytes),
                            Framing::Chunked => Reading::Chunked(Chunks::new()),
                            Framing::Upgrade => Reading::Raw,
                        };
                    }
                }
                Ok(true)
            }
            _ if unread.is_empty() => Ok(false),
            Reading::Length(left) => {
                let here = (*left).min(unread.len() as u64);
                *left -= here;
                self.free = here as usize;
                if *left == 0 {
                    self.reading = NEXT_HEAD;
                }
                Ok(true)
            }
            Reading::Chunked(chunks) => {
                let here = chunks
                    .follow(unread)
                    .map_err(|wrong| io::Error::new(io::ErrorKind::InvalidData, wrong))?;
                self.free = here;
                if chunks.is_done() {
                    self.reading = NEXT_HEAD;
                }
                Ok(true)
            }
            Reading::Raw => {
                self.free = self.buffer.len();
                Ok(true)
            }
            Reading::Refused => {
                self.buffer.clear();
                Ok(false)
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// Reads more into the buffer. Ready with 0 at the end.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() - self.buffer.len() < READ / 4 {
            self.buffer.reserve(READ);
        }
        let read = {
            let spare = self.buffer.spare_capacity_mut();
            let mut spare = ReadBuf::uninit(spare);
            match Pin::new(&mut self.inner).poll_read(cx, &mut spare) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(result) => result?,
            }
            spare.filled().len()
        };
        // SAFETY: `poll_read` has initialised this many bytes of the spare capacity, as `filled` says.
        #[allow(unsafe_code)]
        unsafe {
            self.buffer.set_len(self.buffer.len() + read);
        }
        Poll::Ready(Ok(read))
    }

    fn late(&mut self) -> Poll<io::Result<()>> {
        match self.reading {
            Reading::Head { begun: Some(_), .. } => {
                self.refuse(Refusal::Late);
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, up: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.free > 0 {
                let here = this.free.min(up.remaining());
                up.put_slice(&this.buffer[..here]);
                this.buffer.advance(here);
                this.free -= here;
                return Poll::Ready(Ok(()));
            }
            if this.advance()? {
                continue;
            }
            match this.fill(cx) {
                Poll::Ready(Ok(0)) => {
                    return match this.reading {
                        // hyper would take an end here for a visitor that is gone, and stop answering.
                        Reading::Refused => Poll::Pending,
                        Reading::Raw => Poll::Ready(Ok(())),
                        Reading::Head { .. } if this.buffer.is_empty() => Poll::Ready(Ok(())),
                        _ => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    };
                }
                Poll::Ready(Ok(_)) => {
                    if !matches!(this.reading, Reading::Head { begun: Some(_), .. }) {
                        this.read_clock.stop();
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let (time, since) = match this.reading {
                        Reading::Head { begun: Some(begun), .. } => (this.clocks.head, Some(begun)),
                        // Waiting for an answer is not idling: an end here would abort it.
                        Reading::Head { begun: None, .. }
                            if this.write_clock.running || !this.heads.are_answered(cx) =>
                        {
                            return Poll::Pending;
                        }
                        Reading::Head { begun: None, .. } => (this.clocks.idle, None),
                        Reading::Length(_) | Reading::Chunked(_) => (this.clocks.stall, None),
                        Reading::Raw | Reading::Refused => return Poll::Pending,
                    };
                    ready!(this.read_clock.poll(cx, time, since));
                    this.read_clock.stop();
                    if matches!(this.reading, Reading::Head { begun: None, .. }) {
                        return Poll::Ready(Ok(()));
                    }
                    ready!(this.late())?;
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guard<S> {
    fn written(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if poll.is_ready() {
            if self.write_clock.running {
                self.write_clock.stop();
                // Only now the clock of an idle connection may start.
                cx.waker().wake_by_ref();
            }
            return poll;
        }
        if matches!(self.reading, Reading::Raw) {
            return Poll::Pending;
        }
        ready!(self.write_clock.poll(cx, self.clocks.stall, None));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.written(cx, poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        this.written(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_flush(cx).map_ok(|()| 0);
        this.written(cx, poll).map_ok(|_| ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
            if matches!(this.reading, Reading::Head { begun: None, .. } | Reading::Raw) {
                return Poll::Ready(Ok(()));
            }
            this.closing = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        loop {
            this.buffer.clear();
            match this.fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    if let Some(closing) = &mut this.closing {
                        ready!(closing.as_mut().poll(cx));
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}
