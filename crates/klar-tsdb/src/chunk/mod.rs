//! Some samples of one series, packed: every bit of every value comes back.
//!
//! Times are one column of whole numbers, values another. How values become whole numbers is chosen for each chunk:
//!
//! - counters, and whatever has few decimals, as how many of its last decimal it is: 1.25 is 125 hundredths. Each
//!   value is divided again when it is packed; one that would not come back as it was is written apart, as it is.
//!   So are markers that a series has ended.
//! - all others as their bits, in the order of the numbers, without the low bits that are zero in all.
//!
//! If most values are those before them, only the others are in the column, and a bit for each says which is which.
//!
//! ```text
//! number    how many samples
//! column    times in milliseconds
//! byte      0 to 14: decimals; 64 to 127: bits, less 64 how many low ones are left out; the highest bit: repeats
//! number    decimals only: how many values are apart; for each how many places after the last one, and its bits
//! bits      repeats only: one for each sample, 1 if the value is another one than the last
//! number    repeats only: how many are in the column
//! column    values
//! ```

use crate::bytes::{Reader, put};
use crate::sample::Sample;

mod column;

/// More samples are never in a chunk.
pub const SAMPLES_MAX: usize = 4096;
const REPEATS: u8 = 0x80;
const BITS: u8 = 0x40;
/// Powers of ten that are exact, and let a whole number of 53 bits be divided exactly.
const TENS: [f64; 15] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14];
/// Whole numbers are exact below this.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// What packing uses again from chunk to chunk.
#[derive(Default)]
pub struct Packer {
    numbers: Vec<i64>,
    apart: Vec<(usize, u64)>,
    changed: Vec<i64>,
    repeating: Vec<u8>,
    column: column::Room,
}

impl Packer {
    /// Packs samples, oldest first; at most [`SAMPLES_MAX`].
    pub fn pack(&mut self, samples: &[Sample]) -> Vec<u8> {
        debug_assert!(samples.len() <= SAMPLES_MAX);
        let mut out = Vec::with_capacity(24 + samples.len() * 2);
        put(&mut out, samples.len() as u64);
        self.numbers.clear();
        self.numbers.extend(samples.iter().map(|sample| sample.time_ms));
        column::write(&mut out, &self.numbers, &mut self.column);
        self.apart.clear();
        let tag = match self.decimals(samples) {
            Some(decimals) => decimals as u8,
            None => self.bits(samples),
        };
        let at_tag = out.len();
        out.push(tag);
        if tag & BITS == 0 {
            put(&mut out, self.apart.len() as u64);
            let mut last = 0;
            for (place, bits) in &self.apart {
                put(&mut out, (place - last) as u64);
                out.extend_from_slice(&bits.to_le_bytes());
                last = *place;
            }
        }
        let at_values = out.len();
        column::write(&mut out, &self.numbers, &mut self.column);
        let differ = self.numbers.windows(2).filter(|pair| pair[0] != pair[1]).count() + 1;
        if differ * 3 < samples.len() * 2 && (out.len() - at_values) * 8 > samples.len() {
            self.repeats();
            if self.repeating.len() < out.len() - at_values {
                out.truncate(at_values);
                out.extend_from_slice(&self.repeating);
                out[at_tag] |= REPEATS;
            }
        }
        out.shrink_to_fit();
        out
    }

    /// Values as whole numbers of so many decimals. `None`: too many are not.
    fn decimals(&mut self, samples: &[Sample]) -> Option<usize> {
        let mut decimals = 0;
        self.numbers.clear();
        let mut place = 0;
        while let Some(sample) = samples.get(place) {
            if let Some(number) = whole(sample.value, decimals) {
                self.numbers.push(number);
                place += 1;
                continue;
            }
            // A finer unit for all, if there is one for this value, or else this value apart.
            let finer = (decimals + 1..TENS.len()).find(|finer| whole(sample.value, *finer).is_some());
            let finer = finer.filter(|finer| {
                samples[..place].iter().enumerate().all(|(before, sample)| {
                    whole(sample.value, *finer).is_some()
                        || self.apart.iter().any(|(apart, _)| *apart == before)
                })
            });
            if let Some(finer) = finer {
                decimals = finer;
                for (number, sample) in self.numbers.iter_mut().zip(samples) {
                    *number = whole(sample.value, finer).unwrap_or_default();
                }
                for (apart, _) in &self.apart {
                    self.numbers[*apart] = apart.checked_sub(1).map_or(0, |before| self.numbers[before]);
                }
                continue;
            }
            self.apart.push((place, sample.value.to_bits()));
            self.numbers.push(self.numbers.last().copied().unwrap_or_default());
            place += 1;
            if self.apart.len() > 2 + samples.len() / 32 {
                self.apart.clear();
                return None;
            }
        }
        Some(decimals)
    }

    /// The numbers as those that are other ones than the last, and which ones these are.
    fn repeats(&mut self) {
        self.changed.clear();
        self.repeating.clear();
        self.repeating.resize(self.numbers.len().div_ceil(8), 0);
        let mut last = None;
        for (place, number) in self.numbers.iter().enumerate() {
            if last != Some(*number) {
                self.repeating[place / 8] |= 1 << (place % 8);
                self.changed.push(*number);
                last = Some(*number);
            }
        }
        put(&mut self.repeating, self.changed.len() as u64);
        column::write(&mut self.repeating, &self.changed, &mut self.column);
    }

    fn bits(&mut self, samples: &[Sample]) -> u8 {
        self.numbers.clear();
        self.numbers.extend(samples.iter().map(|sample| ordered(sample.value.to_bits())));
        let all = self.numbers.iter().fold(0, |all, number| all | number);
        let zeros = if all == 0 { 0 } else { all.trailing_zeros().min(63) };
        self.numbers.iter_mut().for_each(|number| *number >>= zeros);
        BITS | zeros as u8
    }
}

/// How many of this decimal a value is, if that says everything about it.
fn whole(value: f64, decimals: usize) -> Option<i64> {
    let ten = TENS.get(decimals)?;
    let times = (value * ten).round_ties_even();
    if times.abs() >= WHOLE_MAX || times.is_nan() {
        return None;
    }
    let number = times as i64;
    ((number as f64 / ten).to_bits() == value.to_bits()).then_some(number)
}

/// Bits of a float so that a greater float is a greater number. Its own inverse.
const fn ordered(bits: u64) -> i64 {
    let bits = bits as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// What unpacking uses again from chunk to chunk.
#[derive(Default)]
pub struct Unpacker {
    times: Vec<i64>,
    values: Vec<i64>,
    changed: Vec<i64>,
}

impl Unpacker {
    /// Unpacks a chunk behind what `out` holds. `None`: it is none; `out` is then as it was.
    pub fn unpack(&mut self, chunk: &[u8], out: &mut Vec<Sample>) -> Option<()> {
        let mut from = Reader(chunk);
        let count = from.size().filter(|count| *count <= SAMPLES_MAX)?;
        self.times.clear();
        column::read(&mut from, count, &mut self.times)?;
        let tag = from.byte()?;
        let kind = tag & !REPEATS;
        let mut apart = Reader(&[]);
        let mut apart_count = 0;
        if kind & BITS == 0 {
            apart_count = from.size()?;
            apart = from;
            for _ in 0..apart_count {
                from.number()?;
                from.take(8)?;
            }
        }
        self.values.clear();
        if tag & REPEATS == 0 {
            column::read(&mut from, count, &mut self.values)?;
        } else {
            let changes = from.take(count.div_ceil(8))?;
            let others = from.size().filter(|others| *others <= count)?;
            self.changed.clear();
            column::read(&mut from, others, &mut self.changed)?;
            let mut others = self.changed.iter();
            let mut last = 0;
            for place in 0..count {
                if changes[place / 8] >> (place % 8) & 1 == 1 {
                    last = *others.next()?;
                }
                self.values.push(last);
            }
        }
        let begin = out.len();
        let pairs = self.times.iter().zip(&self.values);
        if kind & BITS != 0 {
            let zeros = kind & !BITS;
            out.extend(pairs.map(|(time_ms, number)| {
                let value = f64::from_bits(ordered((number << zeros) as u64) as u64);
                Sample { time_ms: *time_ms, value }
            }));
        } else if kind == 0 {
            out.extend(pairs.map(|(time_ms, number)| Sample { time_ms: *time_ms, value: *number as f64 }));
        } else {
            let ten = TENS.get(usize::from(kind))?;
            out.extend(
                pairs.map(|(time_ms, number)| Sample { time_ms: *time_ms, value: *number as f64 / ten }),
            );
        }
        let mut place = begin;
        for _ in 0..apart_count {
            place = place.checked_add(apart.size()?)?;
            let bits = apart.u64()?;
            let Some(sample) = out.get_mut(place) else {
                out.truncate(begin);
                return None;
            };
            sample.value = f64::from_bits(bits);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample::STALE;

    /// Bytes a sample takes, after all samples came back as they were.
    fn cost(values: &[f64]) -> f64 {
        let samples: Vec<Sample> = (0..)
            .zip(values)
            .map(|(place, value)| Sample { time_ms: 1_700_000_000_000 + place * 15_000, value: *value })
            .collect();
        let chunk = Packer::default().pack(&samples);
        let mut back = vec![Sample { time_ms: 1, value: 1.0 }];
        Unpacker::default().unpack(&chunk, &mut back).unwrap();
        let bits = |samples: &[Sample]| -> Vec<(i64, u64)> {
            samples.iter().map(|sample| (sample.time_ms, sample.value.to_bits())).collect()
        };
        assert_eq!(bits(&back[1..]), bits(&samples));
        chunk.len() as f64 / values.len() as f64
    }

    #[test]
    fn what_people_measure_is_small() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut series = |next: &mut dyn FnMut(&mut fastrand::Rng, f64) -> f64| -> Vec<f64> {
            let mut last = 1000.0;
            (0..120)
                .map(|_| {
                    last = next(&mut random, last);
                    last
                })
                .collect()
        };
        for (what, values, most) in [
            ("the same", series(&mut |_, last| last), 0.2),
            ("a counter", series(&mut |random, last| last + f64::from(random.u8(..))), 1.3),
            (
                "a counter that ends",
                {
                    let mut values = series(&mut |random, last| last + f64::from(random.u8(..)));
                    values[119] = STALE;
                    values
                },
                1.4,
            ),
            ("percents", series(&mut |random, _| f64::from(random.u16(..10_000)) / 100.0), 2.1),
            (
                "now and then another",
                series(&mut |random, last| if random.u8(..) < 10 { random.f64() } else { last }),
                1.0,
            ),
            ("noise", series(&mut |random, _| 50.0 + 10.0 * random.f64()), 7.0),
            ("halves", series(&mut |random, _| f64::from(random.u8(..)) / 2.0), 1.6),
        ] {
            let cost = cost(&values);
            assert!(cost < most, "{what}: {cost:.2} bytes");
        }
    }

    #[test]
    fn odd_values_come_back() {
        let odd = [
            0.0,
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            STALE,
            f64::NAN,
            -f64::NAN,
            f64::MIN,
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
            WHOLE_MAX,
            WHOLE_MAX + 2.0,
            -WHOLE_MAX,
            0.1 + 0.2,
            1e22,
        ];
        cost(&odd);
        cost(&odd.repeat(9));
        for value in odd {
            cost(&[value]);
            cost(&[value, 1.0, 2.5, value]);
            cost(&[[1.0, 2.0, 3.25].repeat(40), vec![value], vec![7.5; 30]].concat());
        }
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (-1000..1000_i32).prop_map(f64::from),
            (-100_000..100_000_i32).prop_map(|number| f64::from(number) / 1000.0),
            Just(STALE),
            Just(-0.0),
        ]
    }

    proptest! {
        #[test]
        fn every_bit_comes_back(values in proptest::collection::vec(value(), 1..200), same in 1..5_usize) {
            cost(&values);
            cost(&values.iter().flat_map(|value| std::iter::repeat_n(*value, same)).collect::<Vec<_>>());
            cost(&values.iter().map(|value| value.round()).collect::<Vec<_>>());
        }

        #[test]
        fn times_may_be_any(mut times in proptest::collection::vec(any::<i64>(), 1..100)) {
            times.sort_unstable();
            let samples: Vec<Sample> = times.iter().map(|time_ms| Sample { time_ms: *time_ms, value: 1.0 }).collect();
            let mut back = Vec::new();
            Unpacker::default().unpack(&Packer::default().pack(&samples), &mut back).unwrap();
            prop_assert_eq!(back, samples);
        }

        #[test]
        fn rubbish_does_no_harm(rubbish in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            if Unpacker::default().unpack(&rubbish, &mut out).is_none() {
                prop_assert!(out.is_empty());
            }
        }

        #[test]
        fn a_flipped_bit_does_no_harm(at in 0..4000_usize, count in 1..120_i32) {
            let samples: Vec<Sample> = (0..count)
                .map(|place| Sample { time_ms: i64::from(place) * 1000, value: f64::from(place * place) / 4.0 })
                .collect();
            let mut chunk = Packer::default().pack(&samples);
            let bits = chunk.len() * 8;
            chunk[at % bits / 8] ^= 1 << (at % 8);
            let mut out = Vec::new();
            let _ = Unpacker::default().unpack(&chunk, &mut out);
        }
    }
}
