//! A body that comes from the app, for all who want it: whoever asked first, and those who wait for the same on
//! whichever worker they are. Each reads at a pace of their own.
//!
//! While it is going to be kept, everything that has come stays here, which costs nothing more than what is on its
//! way into the store anyway; when it is whole, what is left to read is read from the copy in the store. A body that
//! turns out not to be kept has a window instead: the fastest reader sets the pace, and one that falls further behind
//! than the window is long is cut off, so that it neither holds up the others nor costs memory.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

/// How far the app may be ahead of the fastest reader once a body is not kept, in bytes.
pub const AHEAD: u64 = 256 * 1024;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Growing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Bytes>,
    /// The number of the first of them.
    first: u64,
    /// Their bytes, and all that have come.
    held: u64,
    come: u64,
    /// What may be held, once it is not kept.
    window: Option<u64>,
    /// The app has said all, or broke off.
    end: Option<Result<(), io::ErrorKind>>,
    whole: Option<Bytes>,
    readers: HashMap<u64, Place>,
    last_reader: u64,
    writer: Option<Waker>,
}

/// Where a reader is.
#[derive(Debug, Default)]
struct Place {
    /// The number of the next piece, and the bytes before it.
    piece: u64,
    bytes: u64,
    waker: Option<Waker>,
}

impl Growing {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more reader, from the first byte on. `None`: that is not here any more.
    pub fn reader(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.lock();
        if state.first > 0 || state.window.is_some() {
            return None;
        }
        state.last_reader += 1;
        let number = state.last_reader;
        state.readers.insert(number, Place::default());
        Some(Reader { body: self.clone(), number })
    }

    /// Takes a piece in. `false`: nobody reads any more.
    pub fn push(&self, piece: Bytes) -> bool {
        let (wakers, is_read) = {
            let mut state = self.lock();
            state.held += piece.len() as u64;
            state.come += piece.len() as u64;
            state.pieces.push_back(piece);
            state.shed();
            (state.wakers(), !state.readers.is_empty())
        };
        wakers.into_iter().for_each(Waker::wake);
        is_read
    }

    /// It will not be kept: from here on it is held only as far as `window`, in bytes, or as what is held already.
    pub fn pass_on(&self, window: u64) {
        let mut state = self.lock();
        state.window = Some(window.max(state.held));
    }

    /// Waits until the fastest reader has most of what has come, or nobody reads.
    pub fn poll_taken(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let fastest = state.readers.values().map(|place| place.bytes).max();
        if fastest.is_none_or(|fastest| state.come - fastest <= AHEAD) {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// There is no more. `whole`: all of it, where it is kept. The first end counts.
    pub fn end(&self, end: Result<(), io::ErrorKind>, whole: Option<Bytes>) {
        let wakers = {
            let mut state = self.lock();
            if state.end.is_some() {
                return;
            }
            state.end = Some(end);
            if whole.is_some() {
                state.pieces = VecDeque::new();
                state.held = 0;
            }
            state.whole = whole;
            state.wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn wakers(&mut self) -> Vec<Waker> {
        self.readers.values_mut().filter_map(|place| place.waker.take()).collect()
    }

    /// Lets go of what all have read, or what is further back than the window.
    fn shed(&mut self) {
        let Some(window) = self.window else { return };
        let places = || self.readers.values().map(|place| place.piece);
        let (slowest, fastest) = (places().min(), places().max());
        while let Some(piece) = self.pieces.front() {
            let is_read = slowest.is_none_or(|slowest| slowest > self.first);
            // Whoever sets the pace is never cut off.
            let may_go = self.held > window && fastest.is_some_and(|fastest| fastest > self.first);
            if !is_read && !may_go {
                return;
            }
            self.held -= piece.len() as u64;
            self.first += 1;
            self.pieces.pop_front();
        }
    }
}

/// One who reads.
#[derive(Debug)]
pub struct Reader {
    body: Arc<Growing>,
    number: u64,
}

impl Reader {
    /// Whether everything was read.
    pub fn is_end(&self) -> bool {
        let state = self.body.lock();
        let bytes = state.readers.get(&self.number).map_or(0, |place| place.bytes);
        state.end == Some(Ok(())) && bytes == state.come
    }

    /// The next piece.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut state = self.body.lock();
        let State { pieces, first, end, whole, readers, writer, come, .. } = &mut *state;
        let Some(place) = readers.get_mut(&self.number) else { return Poll::Ready(None) };
        let piece = match whole {
            Some(whole) if place.bytes < *come => {
                usize::try_from(place.bytes).ok().filter(|at| *at <= whole.len()).map(|at| whole.slice(at..))
            }
            Some(_) => None,
            None if place.piece < *first => {
                let behind = "this visitor read so slowly that what comes next is gone";
                return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, behind))));
            }
            None => pieces.get(usize::try_from(place.piece - *first).unwrap_or(usize::MAX)).cloned(),
        };
        if let Some(piece) = piece {
            place.piece += 1;
            place.bytes += piece.len() as u64;
            if let Some(writer) = writer.take() {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        match *end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(kind)) => Poll::Ready(Some(Err(kind.into()))),
            None => {
                place.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.body.lock();
        state.readers.remove(&self.number);
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    /// Everything that can be read now.
    fn take(reader: &mut Reader) -> Vec<u8> {
        let mut all = Vec::new();
        while let Poll::Ready(Some(Ok(piece))) = reader.poll(&cx()) {
            all.extend_from_slice(&piece);
        }
        all
    }

    fn piece(bytes: &'static str) -> Bytes {
        Bytes::from_static(bytes.as_bytes())
    }

    #[test]
    fn each_reads_at_a_pace_of_their_own() {
        let body = Arc::new(Growing::default());
        let (mut fast, mut slow) = (body.reader().unwrap(), body.reader().unwrap());
        assert!(body.push(piece("one ")));
        assert_eq!(take(&mut fast), b"one ");
        body.push(piece("two "));
        let mut late = body.reader().unwrap();
        assert_eq!((take(&mut fast), take(&mut late)), (b"two ".to_vec(), b"one two ".to_vec()));
        assert!(fast.poll(&cx()).is_pending() && !fast.is_end());
        body.push(piece("three"));
        body.end(Ok(()), Some(piece("one two three")));
        assert_eq!((take(&mut fast), take(&mut slow)), (b"three".to_vec(), b"one two three".to_vec()));
        assert_eq!(take(&mut body.reader().unwrap()), b"one two three");
        for mut reader in [fast, slow] {
            assert!(reader.is_end() && matches!(reader.poll(&cx()), Poll::Ready(None)));
        }
    }

    #[test]
    fn who_is_slow_is_cut_off_and_holds_nobody() {
        let body = Arc::new(Growing::default());
        let (mut fast, mut slow) = (body.reader().unwrap(), body.reader().unwrap());
        body.push(piece("12345"));
        body.pass_on(10);
        assert!(body.reader().is_none(), "nobody joins what is not kept");
        for _ in 0..3 {
            body.push(piece("67890"));
            assert_eq!(take(&mut fast).len() % 5, 0);
            assert!(body.lock().held <= 10);
        }
        body.push(piece("longer than the window"));
        assert_eq!(take(&mut fast).len(), 22, "who sets the pace gets everything");
        assert!(matches!(slow.poll(&cx()), Poll::Ready(Some(Err(_)))));
        drop(slow);
        body.push(piece("x"));
        assert_eq!(
            (take(&mut fast).as_slice(), body.lock().pieces.len()),
            (&b"x"[..], 1),
            "all else was read"
        );
        drop(fast);
        assert!(!body.push(piece("y")), "nobody reads");
    }

    #[test]
    fn the_fastest_sets_the_pace() {
        let body = Arc::new(Growing::default());
        let (mut fast, _slow) = (body.reader().unwrap(), body.reader().unwrap());
        body.push(vec![0; AHEAD as usize].into());
        assert!(body.poll_taken(&cx()).is_ready());
        body.push(piece("x"));
        assert!(body.poll_taken(&cx()).is_pending());
        take(&mut fast);
        assert!(body.poll_taken(&cx()).is_ready());
        drop(fast);
        assert!(body.poll_taken(&cx()).is_pending());
    }

    #[test]
    fn what_breaks_off_breaks_off_for_all() {
        let body = Arc::new(Growing::default());
        let mut reader = body.reader().unwrap();
        body.push(piece("half"));
        body.end(Err(io::ErrorKind::BrokenPipe), None);
        assert_eq!(take(&mut reader), b"half");
        assert!(!reader.is_end());
        assert!(
            matches!(reader.poll(&cx()), Poll::Ready(Some(Err(error))) if error.kind() == io::ErrorKind::BrokenPipe)
        );
    }
}
