//! A body on its way to a visitor and into the store at once.
//!
//! A task of its own takes it from the app as fast as it comes. So the visitor waits for nothing, a slow visitor does
//! not keep the others waiting who want the same, and one that goes away takes nothing from them. What that may
//! cost in memory has an end: one answer at most [`Store::object_max`](super::store::Store::object_max), all that
//! are on their way a quarter of the cache. A body that runs over either is not kept; from then on it comes as
//! fast as the visitor takes it, like any other.
//!
//! An answer that breaks off is never kept: only the regular end of the body puts it into the store.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::Cache;
use super::visit::Keep;
use crate::answer::Coming;

/// How far the app may be ahead of the visitor once a body is not kept, in bytes.
const AHEAD: usize = 256 * 1024;

/// The visitor's end.
#[derive(Debug)]
pub struct FillBody {
    shared: Rc<RefCell<Between>>,
    /// As the app announced it.
    pub length: Option<u64>,
}

/// What passes from the task to the visitor.
#[derive(Debug, Default)]
struct Between {
    pieces: VecDeque<Bytes>,
    waiting: usize,
    /// `Some` when the app has said all, or broke off.
    end: Option<Result<(), io::Error>>,
    /// Nobody reads any more.
    gone: bool,
    /// What a slow visitor has yet to read still counts.
    held: Option<Held>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl FillBody {
    /// Starts the task.
    pub fn start(body: Box<dyn Coming>, cache: Arc<Cache>, keep: Keep, length: Option<u64>) -> Self {
        let shared = Rc::<RefCell<Between>>::default();
        tokio::task::spawn_local(fill(body, cache, keep, shared.clone()));
        Self { shared, length }
    }

    /// Whether everything was read.
    pub fn is_end(&self) -> bool {
        let between = self.shared.borrow();
        between.pieces.is_empty() && matches!(between.end, Some(Ok(())))
    }

    /// The next piece.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut between = self.shared.borrow_mut();
        if let Some(piece) = between.pieces.pop_front() {
            between.waiting -= piece.len();
            if let Some(writer) = between.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        match between.end.take() {
            Some(Ok(())) => {
                between.end = Some(Ok(()));
                between.held = None;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                between.end = Some(Err(error.kind().into()));
                Poll::Ready(Some(Err(error)))
            }
            None => {
                between.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for FillBody {
    fn drop(&mut self) {
        let mut between = self.shared.borrow_mut();
        between.gone = true;
        between.pieces.clear();
        between.waiting = 0;
        between.held = None;
        if let Some(writer) = between.writer.take() {
            writer.wake();
        }
    }
}

/// Bytes on their way into the store, counted against what all of them may be.
#[derive(Debug)]
struct Held {
    cache: Arc<Cache>,
    bytes: usize,
}

impl Held {
    /// `false`: there is no room for more.
    fn take(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.cache.filling.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.cache.store.room() / 4
            && self.bytes <= self.cache.store.object_max()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.cache.filling.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

async fn fill(mut body: Box<dyn Coming>, cache: Arc<Cache>, keep: Keep, shared: Rc<RefCell<Between>>) {
    let mut kept = Some((keep, Vec::<Bytes>::new(), Held { cache, bytes: 0 }));
    let end = loop {
        match std::future::poll_fn(|cx| body.poll(cx)).await {
            None => break Ok(()),
            Some(Err(error)) => {
                body.count_failure();
                break Err(error);
            }
            Some(Ok(frame)) => {
                // Trailers are left out.
                let Ok(piece) = frame.into_data() else { continue };
                if let Some((_, pieces, held)) = &mut kept {
                    if held.take(piece.len()) {
                        pieces.push(piece.clone());
                    } else if let Some((keep, ..)) = kept.take() {
                        keep.give_up();
                    }
                }
                {
                    let mut between = shared.borrow_mut();
                    if !between.gone {
                        between.waiting += piece.len();
                        between.pieces.push_back(piece);
                        if let Some(reader) = between.reader.take() {
                            reader.wake();
                        }
                    } else if kept.is_none() {
                        // Nobody wants the rest.
                        return;
                    }
                }
                if kept.is_none() {
                    std::future::poll_fn(|cx| {
                        let mut between = shared.borrow_mut();
                        if between.gone || between.waiting <= AHEAD {
                            return Poll::Ready(());
                        }
                        between.writer = Some(cx.waker().clone());
                        Poll::Pending
                    })
                    .await;
                }
            }
        }
    };
    match (kept, &end) {
        (Some((keep, pieces, held)), Ok(())) => {
            // In one piece of exactly its length: pieces hold on to the buffers that they were read into.
            let whole = pieces.concat().into_boxed_slice();
            let mut between = shared.borrow_mut();
            if !between.pieces.is_empty() {
                between.held = Some(held);
            }
            drop(between);
            keep.put(whole.into());
        }
        (Some((keep, ..)), Err(_)) => keep.give_up(),
        (None, _) => {}
    }
    let mut between = shared.borrow_mut();
    between.end = Some(end);
    if let Some(reader) = between.reader.take() {
        reader.wake();
    }
}
