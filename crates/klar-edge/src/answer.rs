//! The body of an answer, on its way to the visitor, with everything that ends when it ends: the record, the
//! lease, the connection to the app.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use hyper::body::{Body, Frame, SizeHint};
use klar_base::signal::DecidedBy;
use tokio::time::{Instant, Sleep};

use crate::cache::fill::FillBody;
use crate::compress::Compressed;
use crate::guard::Answering;
use crate::headers;
use crate::http2::Taken;
use crate::pool::{FromApp, Pool};
use crate::story::Story;
use crate::upstream::Lease;

/// How much of a file is read at once.
const PIECE: u64 = 64 * 1024;

/// An answer before the last word is said on it.
pub type Answer = Response<Source>;

/// Where the bytes come from.
#[derive(Debug)]
pub enum Source {
    /// They are here.
    Full(Bytes),
    /// They are here, and so are the lines of all headers that are the same for everybody but the date.
    Kept { lines: Bytes, body: Bytes },
    /// From the app.
    App(Box<AppBody>),
    /// From the app, compressed here.
    Compressed(Box<Compressed>),
    /// From the app, and into the cache as well.
    Fill(FillBody),
    /// From a file.
    File(FileBody),
}

impl Source {
    /// No bytes.
    pub fn empty() -> Self {
        Self::Full(Bytes::new())
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Full(bytes) | Self::Kept { body: bytes, .. } => bytes.is_empty(),
            Self::App(body) => body.ended && body.first.is_empty(),
            Self::Compressed(body) => body.is_end(),
            Self::Fill(body) => body.is_end(),
            Self::File(body) => body.left == 0,
        }
    }
}

/// What an app is still sending, plain or packed.
pub trait Coming: std::fmt::Debug {
    /// The next piece, or that the app has broken off or been silent for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>>;

    /// Counts against the instance that it did not answer well.
    fn count_failure(&self);
}

/// Part of a file.
#[derive(Debug)]
pub struct FileBody {
    pub content: Content,
    pub offset: u64,
    pub left: u64,
}

/// What is in a file.
#[derive(Debug)]
pub enum Content {
    Disk(File),
    Memory(Bytes),
}

impl FileBody {
    /// The next piece.
    fn read(&mut self) -> io::Result<Bytes> {
        let piece = match &self.content {
            Content::Memory(_) => self.read_all()?,
            Content::Disk(file) => {
                let mut piece = vec![0; self.left.min(PIECE) as usize];
                let read = file.read_at(&mut piece, self.offset)?;
                piece.truncate(read);
                piece.into()
            }
        };
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += piece.len() as u64;
        self.left -= piece.len() as u64;
        Ok(piece)
    }

    /// All of it, in memory, without going on to its end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_all(&self) -> io::Result<Bytes> {
        match &self.content {
            Content::Memory(all) => {
                let end = self.offset.saturating_add(self.left).min(all.len() as u64);
                Ok(all.slice(self.offset.min(end) as usize..end as usize))
            }
            Content::Disk(file) => {
                let mut all = vec![0; usize::try_from(self.left).map_err(io::Error::other)?];
                file.read_exact_at(&mut all, self.offset)?;
                Ok(all.into())
            }
        }
    }
}

/// A body that an app is still sending.
#[derive(Debug)]
pub struct AppBody {
    /// `None` only at its very end, when the connection goes back.
    incoming: Option<FromApp>,
    /// What was read already, and is given before the rest.
    first: Bytes,
    ended: bool,
    /// How long the app may be silent; an event stream may be so for ever.
    stall: Option<Duration>,
    clock: Option<Pin<Box<Sleep>>>,
    lease: Lease,
    pool: Rc<Pool>,
}

impl AppBody {
    /// The rest of an answer from the instance of `lease`, whose connection goes back to `pool` afterwards.
    pub fn new(incoming: FromApp, lease: Lease, pool: Rc<Pool>, stall: Option<Duration>) -> Self {
        let ended = incoming.is_over();
        Self { incoming: Some(incoming), first: Bytes::new(), ended, stall, clock: None, lease, pool }
    }

    /// Whether its end is told from a connection that broke (RFC 9112 section 8).
    pub fn is_delimited(&self) -> bool {
        self.incoming.as_ref().is_none_or(FromApp::is_delimited)
    }

    /// How much of it is to come, when the app said so.
    pub fn length(&self) -> Option<u64> {
        let rest = self.incoming.as_ref().map_or(Some(0), FromApp::length)?;
        Some(rest + self.first.len() as u64)
    }

    /// Waits for its first `max` bytes, or for all of it. They are given again afterwards, with the rest.
    ///
    /// # Errors
    /// When the app breaks off.
    pub async fn first(&mut self, max: usize) -> io::Result<Bytes> {
        let mut all = BytesMut::new();
        while all.len() < max
            && let Some(frame) = std::future::poll_fn(|cx| self.poll(cx)).await
        {
            if let Ok(data) = frame?.into_data() {
                all.extend_from_slice(&data);
            }
        }
        self.first = all.freeze();
        Ok(self.first.clone())
    }

    /// Notes with its instance that it broke off.
    pub fn count_failure(&self) {
        self.lease.count_failure();
    }

    /// Everything that has come already, up to `max` bytes; `None` with what was read when that is not all.
    ///
    /// # Errors
    /// When the app breaks off.
    pub async fn collect(&mut self, max: usize) -> io::Result<Bytes> {
        let mut all = BytesMut::new();
        while !self.ended {
            match std::future::poll_fn(|cx| self.poll(cx)).await {
                None => break,
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        // Most come in one piece.
                        if self.ended && all.is_empty() && data.len() <= max {
                            return Ok(data);
                        }
                        if all.len() + data.len() > max {
                            return Err(io::Error::new(
                                io::ErrorKind::InvalidData,
                                "more bytes than announced",
                            ));
                        }
                        all.extend_from_slice(&data);
                    }
                }
            }
        }
        Ok(all.freeze())
    }
}

impl Coming for AppBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        match incoming.poll(cx) {
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(frame)) => {
                self.clock = None;
                self.ended = frame.is_ok() && incoming.is_over();
                Poll::Ready(Some(frame.map(|mut frame| {
                    if let Some(trailers) = frame.trailers_mut() {
                        headers::from_app_last(trailers);
                    }
                    frame
                })))
            }
            Poll::Pending => {
                let Some(stall) = self.stall else { return Poll::Pending };
                let clock = self
                    .clock
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + stall)));
                match clock.as_mut().poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into()))),
                }
            }
        }
    }

    fn count_failure(&self) {
        self.lease.count_failure();
    }
}

impl Drop for AppBody {
    fn drop(&mut self) {
        if let (true, Some(incoming)) = (self.ended, self.incoming.take()) {
            self.pool.take_back(&self.lease, incoming);
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct OutBody {
    source: Source,
    lines: Option<Bytes>,
    story: Box<Story>,
    /// Told of each piece, where the visitor's connection has other answers beside this one.
    taken: Option<Taken>,
    /// Why there is no more of it, not yet told.
    broken: Option<io::Error>,
    _answering: Answering,
}

impl OutBody {
    /// Sends `source` and then ends `story`. `bodiless`: no body is sent whatever the headers say (`HEAD`, 304).
    pub fn new(source: Source, mut story: Box<Story>, answering: Answering, bodiless: bool) -> Self {
        let source = if bodiless { Source::empty() } else { source };
        story.record.aborted = !source.is_end();
        Self { source, lines: None, story, taken: None, broken: None, _answering: answering }
    }

    /// With lines of headers that are written already, and that of the request's id.
    pub fn with_lines(self, lines: Option<Bytes>) -> Self {
        Self { lines, ..self }
    }

    /// Writes those lines.
    pub fn write_lines(&self, out: &mut Vec<u8>) {
        let Some(lines) = &self.lines else { return };
        let name = headers::REQUEST_ID;
        let id = self.story.record.request_id;
        for piece in [lines, name.as_str().as_bytes(), b": ", id.as_str().as_bytes(), b"\r\n"] {
            out.extend_from_slice(piece);
        }
    }

    /// Tells `taken` of each piece.
    pub fn note_taken(self, taken: Taken) -> Self {
        Self { taken: Some(taken), ..self }
    }

    fn frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.source {
            Source::Full(bytes) | Source::Kept { body: bytes, .. } if bytes.is_empty() => Poll::Ready(None),
            Source::Full(bytes) | Source::Kept { body: bytes, .. } => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
            Source::App(body) => body.poll(cx),
            Source::Compressed(body) => body.poll(cx),
            Source::Fill(body) => body.poll(cx).map_ok(Frame::data),
            Source::File(body) if body.left == 0 => Poll::Ready(None),
            Source::File(body) => Poll::Ready(Some(body.read().map(Frame::data))),
        }
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if let Some(taken) = &this.taken {
            taken.asked();
        }
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = std::task::ready!(this.frame(cx));
        if let (Some(taken), Some(Ok(_))) = (&this.taken, &polled) {
            taken.handed();
        }
        let record = &mut this.story.record;
        match polled {
            Some(Ok(ref frame)) => record.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(error)) => {
                record.aborted = false;
                record.decided_by = DecidedBy::Failed;
                record.error = Some(format!("the answer broke off: {error}"));
                match &this.source {
                    Source::App(body) => body.count_failure(),
                    Source::Compressed(body) => body.count_failure(),
                    // The task that fills the cache has counted it.
                    Source::Fill(_) | Source::Full(_) | Source::Kept { .. } | Source::File(_) => {}
                }
                // Who writes this out does so when nothing more is there at once: what came before the break gets its
                // turn to leave.
                this.broken = Some(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => {}
        }
        if this.source.is_end() {
            record.aborted = false;
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Full(bytes) | Source::Kept { body: bytes, .. } => {
                SizeHint::with_exact(bytes.len() as u64)
            }
            Source::App(body) => body.length().map_or_else(SizeHint::default, SizeHint::with_exact),
            Source::Compressed(_) => SizeHint::default(),
            Source::Fill(body) => body.length.map_or_else(SizeHint::default, SizeHint::with_exact),
            Source::File(body) => SizeHint::with_exact(body.left),
        }
    }
}
