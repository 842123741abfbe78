//! A fuzzer that lives in ordinary tests: it changes good inputs at random, and what takes a path through the code that
//! none before it took is kept and changed further.
//!
//! Each target is a test that calls [`Fuzz::run`] with seeds, with words of the format and with what has to hold for
//! every input. Without further ado a few thousand inputs are tried, always the same ones, so that a test that passes
//! once passes again. With `KLAR_FUZZ_SECONDS` it goes on for so much CPU time, from a seed of its own, and says at
//! the end what it did.
//!
//! Which paths were taken is known only where the crate under test was built with counters for them (`coverage.rs`;
//! `bench/FUZZ.md` has the command). Otherwise it is a fuzzer that sees nothing, and everything else holds.
//!
//! An input that fails is made as small as it gets before it is shown.
//!
//! **Invariant:** for tests alone; no crate may depend on it otherwise.

mod coverage;
mod feed;
mod mutate;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use fastrand::Rng;
use nix::sys::resource::{UsageWho, getrusage};

pub use feed::Feed;

use crate::coverage::Coverage;
use crate::mutate::Mutator;

/// How long to go on, in seconds of CPU time.
const SECONDS: &str = "KLAR_FUZZ_SECONDS";
/// Inputs of a short run.
const SHORT: u64 = 3000;
/// Inputs that are kept at most; from there on new ones replace old ones.
const KEPT_MAX: usize = 4096;
/// How often the clock is looked at.
const LOOK: u64 = 64;
/// Attempts to make an input that fails smaller.
const REDUCTIONS: usize = 2000;

/// One target. Lengths are in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Fuzz<'a> {
    /// As it is shown.
    pub name: &'a str,
    /// Good inputs, and some that are nearly good. Each is tried as it is, too.
    pub seeds: &'a [&'a [u8]],
    /// What the format is made of: put in now and then.
    pub words: &'a [&'a [u8]],
    /// No input is longer.
    pub longest: usize,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Inputs that were tried.
    pub inputs: u64,
    /// Inputs that were kept, seeds included.
    pub kept: usize,
    /// Places in the code that were reached; `None`: the build has no counters.
    pub reached: Option<usize>,
}

impl Fuzz<'_> {
    /// Tries inputs; `check` panics for one that something does not hold for.
    ///
    /// # Panics
    /// As `check` does, after the smallest input was shown that makes it.
    pub fn run(&self, check: impl FnMut(&[u8])) -> Done {
        let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).map(Duration::from_secs);
        self.run_for(seconds, check)
    }

    fn run_for(&self, seconds: Option<Duration>, mut check: impl FnMut(&[u8])) -> Done {
        // A long run that repeats the last one finds nothing new.
        let seed = seconds.map_or_else(|| self.seed(), |_| fastrand::u64(..));
        let (begun, mut rng) = (cpu_time(), Rng::with_seed(seed));
        let mut coverage = Coverage::new();
        let mut kept: Vec<Vec<u8>> = Vec::new();
        let mut inputs = 0;
        for seed in self.seeds {
            let seed = &seed[..seed.len().min(self.longest)];
            inputs += 1;
            self.attempt(seed, &mut check, &mut coverage);
            kept.push(seed.to_vec());
        }
        if kept.is_empty() {
            kept.push(Vec::new());
        }
        let mutator = Mutator { words: self.words, longest: self.longest };
        let is_over = |inputs: u64| match seconds {
            Some(seconds) => inputs.is_multiple_of(LOOK) && cpu_time().saturating_sub(begun) >= seconds,
            None => inputs >= SHORT,
        };
        let mut input = Vec::new();
        while !is_over(inputs) {
            input.clear();
            input.extend_from_slice(&kept[rng.usize(..kept.len())]);
            mutator.change(&mut input, &kept, &mut rng);
            inputs += 1;
            if self.attempt(&input, &mut check, &mut coverage) {
                if kept.len() < KEPT_MAX {
                    kept.push(input.clone());
                } else {
                    let at = rng.usize(self.seeds.len().min(KEPT_MAX - 1)..KEPT_MAX);
                    kept[at].clone_from(&input);
                }
            }
        }
        let done = Done { inputs, kept: kept.len(), reached: coverage.reached() };
        if seconds.is_some() {
            let spent = cpu_time().saturating_sub(begun).as_secs_f64();
            let reached = done.reached.map_or_else(|| "not counted".to_owned(), |count| count.to_string());
            let (name, kept) = (self.name, done.kept);
            // Past the harness, which swallows what a test that passes has printed.
            let _ = writeln!(
                std::io::stderr(),
                "fuzz {name}: {inputs} inputs, {spent:.1} s of CPU time, {kept} kept, places reached: {reached}"
            );
        }
        done
    }

    /// Tries one input, and says whether it took a new path.
    fn attempt(&self, input: &[u8], check: &mut impl FnMut(&[u8]), coverage: &mut Coverage) -> bool {
        coverage.begin();
        let outcome = catch_unwind(AssertUnwindSafe(|| check(input)));
        let is_new = coverage.is_new();
        if let Err(cause) = outcome {
            // It fails many times on the way, and was heard once.
            let tell = std::panic::take_hook();
            std::panic::set_hook(Box::new(|_| {}));
            let smallest = reduce(input, |input| catch_unwind(AssertUnwindSafe(|| check(input))).is_err());
            std::panic::set_hook(tell);
            let _ =
                writeln!(std::io::stderr(), "fuzz {}: fails for b\"{}\"", self.name, smallest.escape_ascii());
            resume_unwind(cause);
        }
        is_new
    }

    /// The same for each run of the same target (FNV-1a).
    fn seed(&self) -> u64 {
        self.name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

/// Takes out of an input what is not needed for it to fail: halves first, single bytes last.
fn reduce(input: &[u8], mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let (mut smallest, mut tries) = (input.to_vec(), 0);
    let mut length = smallest.len().div_ceil(2);
    while length > 0 && tries < REDUCTIONS {
        let (mut at, before) = (0, smallest.len());
        while at < smallest.len() && tries < REDUCTIONS {
            let end = (at + length).min(smallest.len());
            let less = [&smallest[..at], &smallest[end..]].concat();
            tries += 1;
            if fails(&less) {
                smallest = less;
            } else {
                at = end;
            }
        }
        if smallest.len() == before {
            length /= 2;
        }
    }
    smallest
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_THREAD) else { return Duration::ZERO };
    let times = [usage.user_time(), usage.system_time()].map(|time| {
        Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or_default())
            + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or_default())
    });
    times.iter().sum()
}

#[cfg(test)]
mod tests;
