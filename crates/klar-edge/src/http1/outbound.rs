//! What is on its way to a visitor over HTTP/1.1.
//!
//! Heads, chunk lines and short pieces are gathered in one buffer, a long piece is written from where it is, and
//! all of it goes out in as few writes as there can be: over TLS a write is a record.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Pieces up to this size, in bytes, are copied beside what is there.
pub const COPY_MAX: usize = 4 * 1024;
/// When so much is gathered it is time to write.
const FULL: usize = 16 * 1024;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Outbound {
    /// Goes first; `written` bytes of it have gone.
    gathered: Vec<u8>,
    written: usize,
    /// A long piece, which goes after that.
    piece: Bytes,
    /// And what comes after the piece.
    after: &'static [u8],
    /// Something was written and maybe not yet sent.
    unflushed: bool,
}

impl Outbound {
    /// Whether there is room for more.
    pub fn has_room(&self) -> bool {
        self.piece.is_empty() && self.after.is_empty() && self.gathered.len() < FULL
    }

    /// Where heads are written. Only while there is room.
    pub fn gathered(&mut self) -> &mut Vec<u8> {
        &mut self.gathered
    }

    /// Adds a piece of a body. Only while there is room.
    pub fn push(&mut self, piece: Bytes) {
        if piece.len() <= COPY_MAX {
            self.gathered.extend_from_slice(&piece);
        } else {
            self.piece = piece;
        }
    }

    /// The same, of bytes that are somebody else's.
    pub fn push_copy(&mut self, piece: &[u8]) {
        if piece.len() <= FULL {
            self.gathered.extend_from_slice(piece);
        } else {
            self.piece = Bytes::copy_from_slice(piece);
        }
    }

    /// Adds a piece of a body as a chunk (RFC 9112 section 7.1). Only while there is room.
    pub fn push_chunk(&mut self, piece: Bytes) {
        // The chunk of size 0 is the last.
        if piece.is_empty() {
            return;
        }
        // Writing to memory does not fail.
        let _ = write!(self.gathered, "{:x}\r\n", piece.len());
        self.push(piece);
        if self.piece.is_empty() {
            self.gathered.extend_from_slice(b"\r\n");
        } else {
            self.after = b"\r\n";
        }
    }

    /// Whether everything has been written and sent.
    pub fn is_empty(&self) -> bool {
        self.left() == 0 && !self.unflushed
    }

    fn left(&self) -> usize {
        self.gathered.len() - self.written + self.piece.len() + self.after.len()
    }

    /// Writes and sends all there is. `moved` is set when something could be written.
    ///
    /// # Errors
    /// As the connection says it.
    pub fn poll(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
        moved: &mut bool,
    ) -> Poll<io::Result<()>> {
        while self.left() > 0 {
            let first = &self.gathered[self.written..];
            let written = if self.piece.is_empty() && self.after.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, first))?
            } else {
                let slices = [first, &self.piece, self.after].map(IoSlice::new);
                let from = slices.iter().take_while(|slice| slice.is_empty()).count();
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices[from..]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *moved = true;
            self.unflushed = true;
            self.advance(written);
        }
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.unflushed = false;
            *moved = true;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        let first = written.min(self.gathered.len() - self.written);
        self.written += first;
        written -= first;
        if self.written == self.gathered.len() {
            self.gathered.clear();
            self.written = 0;
        }
        let middle = written.min(self.piece.len());
        self.piece.advance(middle);
        if self.piece.is_empty() {
            // Its memory is given back.
            self.piece = Bytes::new();
        }
        self.after = &self.after[(written - middle).min(self.after.len())..];
    }

    /// Gives the buffer back while nothing is in it.
    pub fn give_back(&mut self) {
        if self.gathered.is_empty() {
            self.gathered = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes at most so many bytes at a time, and remembers each write.
    #[derive(Debug, Default)]
    struct Narrow {
        width: usize,
        writes: Vec<Vec<u8>>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut all = slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
            all.truncate(self.width);
            self.writes.push(all.clone());
            Poll::Ready(Ok(all.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn drained(out: &mut Outbound, width: usize) -> Vec<Vec<u8>> {
        let mut io = Narrow { width, ..Narrow::default() };
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(out.poll(&mut io, &mut cx, &mut false), Poll::Ready(Ok(()))));
        assert!(out.is_empty() && out.has_room());
        io.writes
    }

    #[test]
    fn head_and_body_go_together() {
        for size in [1, COPY_MAX, COPY_MAX + 1, 100_000] {
            let body = vec![b'x'; size];
            let mut out = Outbound::default();
            out.gathered().extend_from_slice(b"head");
            out.push(body.clone().into());
            assert_eq!(drained(&mut out, usize::MAX), [[&b"head"[..], &body].concat()], "{size} bytes");
        }
    }

    #[test]
    fn whatever_is_taken_at_once_nothing_is_lost() {
        for size in [1, 10, COPY_MAX + 1, 20_000] {
            for width in [1, 3, 4096, 4103, 5000] {
                let mut out = Outbound::default();
                out.gathered().extend_from_slice(b"head");
                out.push_chunk(Bytes::new());
                out.push_chunk(vec![b'x'; size].into());
                let mut wanted = format!("head{size:x}\r\n{}\r\n", "x".repeat(size)).into_bytes();
                let mut got = drained(&mut out, width).concat();
                out.push_chunk(Bytes::from_static(b"y"));
                got.extend(drained(&mut out, width).concat());
                wanted.extend_from_slice(b"1\r\ny\r\n");
                assert!(got == wanted, "{size} bytes, {width} at a time");
            }
        }
    }
}
