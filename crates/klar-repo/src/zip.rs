//! Zstandard, with what it needs kept for each thread: to make that anew costs more than to compress a piece of 32 KiB.

use std::cell::RefCell;
use std::io;

use zstd::bulk::{Compressor, Decompressor};

/// As restic's default.
const LEVEL: i32 = 3;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Gives `act` what is kept in `slot`; made where it is not there yet.
fn with<C, T>(
    slot: &RefCell<Option<C>>,
    make: fn() -> io::Result<C>,
    act: impl FnOnce(&mut C) -> io::Result<T>,
) -> io::Result<T> {
    let mut slot = slot.borrow_mut();
    let context = match &mut *slot {
        Some(context) => context,
        empty => empty.insert(make()?),
    };
    act(context)
}

pub fn compress(plain: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with(|slot| with(slot, || Compressor::new(LEVEL), |context| context.compress(plain)))
}

/// What is longer than `limit` is an error.
pub fn decompress(packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with(|slot| with(slot, Decompressor::new, |context| context.decompress(packed, limit)))
}
