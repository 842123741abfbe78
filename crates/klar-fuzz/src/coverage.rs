//! Which places of the code an input has reached, and how often.
//!
//! LLVM can give each basic block a counter of one byte (SanitizerCoverage, "Inline 8bit-counters"). A crate that is
//! built so tells where its counters lie before `main`, by calling a function of a fixed name, which stands here. One
//! that is built otherwise never does.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static COUNTERS: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Called by the crate under test, once for each of its objects, with the counters of all of them.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    COUNTERS.store(start, Ordering::SeqCst);
    COUNT.store((stop as usize).saturating_sub(start as usize), Ordering::SeqCst);
}

/// What inputs have reached so far.
pub struct Coverage {
    /// For each counter, one bit for each order of magnitude that it has had.
    seen: Vec<u8>,
}

impl Coverage {
    /// Nothing is reached yet.
    pub fn new() -> Self {
        Self { seen: vec![0; COUNT.load(Ordering::SeqCst)] }
    }

    /// Before an input.
    pub fn begin(&mut self) {
        counters().fill(0);
    }

    /// After it: whether it reached something that none before it did, or something much more often.
    pub fn is_new(&mut self) -> bool {
        self.note(counters())
    }

    fn note(&mut self, counts: &[u8]) -> bool {
        let mut is_new = false;
        let (words, _) = counts.as_chunks::<8>();
        for (word, seen) in words.iter().zip(self.seen.as_chunks_mut::<8>().0) {
            // Most code is not reached by most inputs.
            if u64::from_ne_bytes(*word) == 0 {
                continue;
            }
            for (count, seen) in word.iter().zip(seen) {
                let now = *seen | magnitude(*count);
                is_new |= now != *seen;
                *seen = now;
            }
        }
        is_new
    }

    /// How many places were reached; `None`: nobody counts.
    pub fn reached(&self) -> Option<usize> {
        (!self.seen.is_empty()).then(|| self.seen.iter().filter(|seen| **seen != 0).count())
    }
}

/// The bit for a count.
fn magnitude(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 1 << 1,
        3 => 1 << 2,
        4..=7 => 1 << 3,
        8..=15 => 1 << 4,
        16..=31 => 1 << 5,
        32..=127 => 1 << 6,
        128.. => 1 << 7,
    }
}

fn counters() -> &'static mut [u8] {
    let (start, count) = (COUNTERS.load(Ordering::SeqCst), COUNT.load(Ordering::SeqCst));
    if start.is_null() {
        return &mut [];
    }
    // SAFETY: the linker laid this section out and it lives as long as the program. Code under test adds to the bytes
    // without asking anybody, in this thread and maybe in others; a count that is lost on the way does no harm, and
    // no reference to them outlives the call that took it.
    unsafe { std::slice::from_raw_parts_mut(start, count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What counts as new, one input after the other.
    #[test]
    fn new_is_what_was_not_reached_as_often() {
        let mut coverage = Coverage { seen: vec![0; 24] };
        for (place, count, is_new) in [
            (3, 1, true),
            (3, 1, false),
            (3, 4, true),
            (3, 7, false),
            (3, 8, true),
            (20, 1, true),
            (20, 255, true),
            (20, 200, false),
        ] {
            let mut counts = [0; 24];
            counts[place] = count;
            assert_eq!(coverage.note(&counts), is_new, "{count} at {place}");
        }
        assert_eq!(coverage.reached(), Some(2));
        assert_eq!(Coverage { seen: Vec::new() }.reached(), None);
    }
}
