//! Memory that all connections of a worker read into: one that waits holds none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// The most that is read at once, in bytes.
pub const MOST: usize = 64 << 10;

/// Reads what is there, up to `most` bytes of [`MOST`], and has `take` look at it; none of it is the end of the stream.
///
/// # Errors
/// As the stream says it.
pub fn poll_read<T>(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    most: usize,
    take: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    thread_local! {
        static MEMORY: RefCell<Box<[u8]>> = RefCell::new(vec![0; MOST].into());
    }
    MEMORY.with_borrow_mut(|memory| {
        let mut read = ReadBuf::new(&mut memory[..most.min(MOST)]);
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(take(read.filled())))
    })
}

/// Has `write` write into memory that is used again. Not to be asked for while it is in use.
pub fn with_text<T>(write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    TEXT.with_borrow_mut(|text| {
        text.clear();
        let given = write(text);
        text.shrink_to(MOST);
        given
    })
}
