//! A body on its way to visitors and into the store at once.
//!
//! A task of its own takes it from the app as fast as it comes. So nobody waits for anything, a slow visitor does not
//! keep the others waiting who want the same (`growing.rs`), and one that goes away takes nothing from them. What that
//! may cost in memory has an end: one answer at most [`Store::object_max`](super::store::Store::object_max), all that
//! are on their way a quarter of the cache. A body that runs over either is not kept; from then on it comes as
//! fast as the fastest visitor takes it.
//!
//! An answer that breaks off is never kept: only the regular end of the body puts it into the store.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Cache;
use super::flight::{Landing, Lead, Shown};
use super::growing::{AHEAD, Growing, Reader};
use super::key::Key;
use super::store::{Name, Stored, Ticket};
use crate::answer::Coming;

/// An answer that goes into the store once its body is here, and those who wait for it.
#[derive(Debug)]
pub struct Keep {
    pub cache: Arc<Cache>,
    pub key: Key,
    pub name: Name,
    pub ticket: Ticket,
    pub stored: Stored,
    pub lead: Option<Lead>,
}

impl Keep {
    /// Puts it in with its whole body, and tells those who wait.
    pub fn put(self, body: Bytes) -> bool {
        let stored = Arc::new(Stored { body, ..self.stored });
        let is_in = self.cache.put(&self.key, &self.name, self.ticket, &stored);
        if let Some(lead) = self.lead {
            lead.land(if is_in { Landing::Stored } else { Landing::Nothing });
        }
        is_in
    }

    /// Lets others follow its body, if anybody might.
    pub fn show(&self, body: &Arc<Growing>, length: Option<u64>) {
        let Some(lead) = &self.lead else { return };
        let head = self.stored.clone();
        lead.show(Shown { head, ticket: self.ticket, length, body: body.clone() });
    }

    /// There is nothing to keep, as it turned out.
    pub fn give_up(self) {
        if let Some(lead) = self.lead {
            lead.land(Landing::Nothing);
        }
    }
}

/// A visitor's end.
#[derive(Debug)]
pub struct FillBody {
    reader: Reader,
    /// As the app announced it.
    pub length: Option<u64>,
}

impl FillBody {
    /// Starts the task. `None`: there is nobody to read, which does not happen to a body that begins.
    pub fn start(body: Box<dyn Coming>, cache: Arc<Cache>, keep: Keep, length: Option<u64>) -> Option<Self> {
        let growing = Arc::new(Growing::default());
        let reader = growing.reader()?;
        let mut held = Held { cache, bytes: 0 };
        // What is announced has its room before anybody relies on it.
        let fits = length.is_none_or(|length| held.take(usize::try_from(length).unwrap_or(usize::MAX)));
        let kept = if fits {
            keep.show(&growing, length);
            Some((keep, Vec::new(), held))
        } else {
            growing.pass_on(AHEAD);
            keep.give_up();
            None
        };
        tokio::task::spawn_local(fill(body, kept, length.is_some(), growing));
        Some(Self { reader, length })
    }

    /// For somebody who wants the same.
    pub fn follow(growing: &Arc<Growing>, length: Option<u64>) -> Option<Self> {
        Some(Self { reader: growing.reader()?, length })
    }

    /// Whether everything was read.
    pub fn is_end(&self) -> bool {
        self.reader.is_end()
    }

    /// The next piece.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.reader.poll(cx)
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
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.cache.store.object_max() {
            self.bytes -= bytes;
            return false;
        }
        self.cache.filling.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.cache.store.room() / 4
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.cache.filling.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Ends a body that nobody brings any more.
struct Ended(Arc<Growing>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end(Err(io::ErrorKind::ConnectionAborted), None);
    }
}

/// `is_counted`: room for all of it was taken before.
async fn fill(
    mut body: Box<dyn Coming>,
    mut kept: Option<(Keep, Vec<Bytes>, Held)>,
    is_counted: bool,
    growing: Arc<Growing>,
) {
    // Whatever ends this task, nobody waits for more.
    let growing = Ended(growing);
    // What visitors have yet to read still counts after it has turned out that it is not kept.
    let mut passed_on = None;
    let end = loop {
        match std::future::poll_fn(|cx| body.poll(cx)).await {
            None => break Ok(()),
            Some(Err(error)) => {
                body.count_failure();
                break Err(error.kind());
            }
            Some(Ok(frame)) => {
                // Trailers are left out.
                let Ok(piece) = frame.into_data() else { continue };
                if let Some((_, pieces, held)) = &mut kept {
                    if is_counted || held.take(piece.len()) {
                        pieces.push(piece.clone());
                    } else if let Some((keep, _, held)) = kept.take() {
                        keep.give_up();
                        growing.0.pass_on(AHEAD);
                        passed_on = Some(held);
                    }
                }
                if !growing.0.push(piece) && kept.is_none() {
                    // Nobody wants the rest.
                    return;
                }
                if kept.is_none() {
                    std::future::poll_fn(|cx| growing.0.poll_taken(cx)).await;
                }
            }
        }
    };
    let mut whole = None;
    match (kept, &end) {
        (Some((keep, pieces, _held)), Ok(())) => {
            // In one piece of exactly its length: pieces hold on to the buffers that they were read into.
            let all: Bytes = pieces.concat().into_boxed_slice().into();
            keep.put(all.clone());
            whole = Some(all);
        }
        (Some((keep, ..)), Err(_)) => keep.give_up(),
        (None, _) => drop(passed_on),
    }
    growing.0.end(end, whole);
}
