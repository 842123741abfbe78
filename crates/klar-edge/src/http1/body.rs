//! The body of a visitor's request, whichever protocol it came over.
//!
//! Most bodies are short, and are here when their head is: they are handed over whole. A longer one is handed over
//! in pieces, each when it is asked for: the connection reads no more of it than somebody wants.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::http3;

/// See the [module](self).
#[derive(Debug)]
pub enum VisitorBody {
    /// All of it, or all that is left.
    Whole(Bytes),
    /// As it comes, over HTTP/1.1.
    Coming(Coming),
    /// As hyper reads it: over HTTP/2, or behind the guard.
    Hyper(Incoming),
    /// As it comes, over HTTP/3.
    Http3(Box<http3::Body>),
}

impl VisitorBody {
    /// No body.
    pub const EMPTY: Self = Self::Whole(Bytes::new());
}

impl From<Incoming> for VisitorBody {
    fn from(incoming: Incoming) -> Self {
        Self::Hyper(incoming)
    }
}

impl Body for VisitorBody {
    type Data = Bytes;
    /// Of kind [`io::ErrorKind::TimedOut`] when the visitor stalled.
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Coming(coming) => coming.poll(cx),
            Self::Http3(body) => body.poll(cx).map_ok(Frame::data),
            Self::Hyper(incoming) => Pin::new(incoming).poll_frame(cx).map_err(|error| {
                let late = std::error::Error::source(&error)
                    .and_then(|source| source.downcast_ref::<io::Error>())
                    .is_some_and(|source| source.kind() == io::ErrorKind::TimedOut);
                if late { io::ErrorKind::TimedOut.into() } else { io::Error::other(error) }
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Coming(coming) => coming.0.borrow().is_over(),
            Self::Hyper(incoming) => incoming.is_end_stream(),
            Self::Http3(body) => body.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Coming(coming) => {
                coming.0.borrow().left.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Self::Hyper(incoming) => incoming.size_hint(),
            Self::Http3(body) => body.left().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// The end of a body at which it is read.
#[derive(Debug)]
pub struct Coming(Rc<RefCell<Slot>>);

/// The end of a body at which its connection puts pieces in.
#[derive(Debug)]
pub struct Feed(Rc<RefCell<Slot>>);

#[derive(Debug, Default)]
struct Slot {
    piece: Option<io::Result<Frame<Bytes>>>,
    /// Nothing comes after `piece`.
    ended: bool,
    wanted: bool,
    /// Nobody reads it any more.
    dropped: bool,
    /// Bytes that were not taken yet, where that is known.
    left: Option<u64>,
    /// Who waits for a piece.
    reader: Option<Waker>,
    /// Set while the connection sleeps, so that it hears what is wanted.
    connection: Option<Waker>,
}

impl Slot {
    fn is_over(&self) -> bool {
        self.ended && self.piece.is_none()
    }

    fn wake_connection(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.wake();
        }
    }
}

/// Both ends of a body of `length` bytes; `None`: of unknown length.
pub fn channel(length: Option<u64>) -> (Feed, Coming) {
    let slot = Rc::new(RefCell::new(Slot { left: length, ..Slot::default() }));
    (Feed(slot.clone()), Coming(slot))
}

impl Coming {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut slot = self.0.borrow_mut();
        let Some(piece) = slot.piece.take() else {
            if slot.ended {
                return Poll::Ready(None);
            }
            if !slot.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
                slot.reader = Some(cx.waker().clone());
            }
            slot.wanted = true;
            slot.wake_connection();
            return Poll::Pending;
        };
        if let (Some(left), Ok(frame)) = (&mut slot.left, &piece) {
            *left -= frame.data_ref().map_or(0, |data| data.len() as u64).min(*left);
        }
        Poll::Ready(Some(piece))
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut slot = self.0.borrow_mut();
        slot.dropped = true;
        slot.wake_connection();
    }
}

impl Feed {
    /// Whether somebody waits for a piece.
    pub fn is_wanted(&self) -> bool {
        self.0.borrow().wanted
    }

    /// Whether nobody reads it any more.
    pub fn is_dropped(&self) -> bool {
        self.0.borrow().dropped
    }

    /// Hands a piece over to who waits for it. `None`: there is none, the body has ended. An error ends it as well.
    /// Whoever runs in `cx` looks again without being woken.
    pub fn put(&self, piece: Option<io::Result<Frame<Bytes>>>, last: bool, cx: &Context<'_>) {
        let mut slot = self.0.borrow_mut();
        slot.ended = last || !matches!(piece, Some(Ok(_)));
        slot.piece = piece;
        slot.wanted = false;
        if let Some(reader) = slot.reader.take()
            && !reader.will_wake(cx.waker())
        {
            reader.wake();
        }
    }

    /// Has `cx` woken when something is wanted.
    pub fn sleep(&self, cx: &Context<'_>) {
        self.0.borrow_mut().connection = Some(cx.waker().clone());
    }

    /// What is wanted is seen without being woken.
    pub fn stay_awake(&self) {
        self.0.borrow_mut().connection = None;
    }
}
