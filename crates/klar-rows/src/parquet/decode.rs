//! How the bytes of a page become values again. What does not fit is `None`, never a panic.

use super::encode::{DELTA_BLOCK, DELTA_PART};
use crate::bytes::Reader;
use crate::texts::Texts;

/// The number of so many bits at a place. Bytes that are not there are zeros.
fn slow(bytes: &[u8], width: u32, at: usize) -> u64 {
    let bit = at * width as usize;
    let mut word = [0; 16];
    let part = bytes.get(bit / 8..).unwrap_or_default();
    let count = part.len().min(16);
    word[..count].copy_from_slice(&part[..count]);
    let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
    (u128::from_le_bytes(word) >> (bit % 8)) as u64 & mask
}

/// Gives each of some numbers of so many bits.
#[inline]
fn unpack(bytes: &[u8], width: u32, count: usize, mut each: impl FnMut(u64)) {
    let mut fast = 0;
    if (1..=56).contains(&width) && bytes.len() >= 8 {
        let mask = (1_u64 << width) - 1;
        fast = (((bytes.len() - 8) * 8 + 7) / width as usize + 1).min(count);
        for at in 0..fast {
            let bit = at * width as usize;
            let word = bytes.get(bit / 8..bit / 8 + 8).and_then(|word| word.try_into().ok());
            each(u64::from_le_bytes(word.unwrap_or_default()) >> (bit % 8) & mask);
        }
    }
    for at in fast..count {
        each(slow(bytes, width, at));
    }
}

/// `DELTA_BINARY_PACKED`, as many numbers as there have to be.
pub fn deltas(from: &mut Reader, count: usize, is_short: bool, out: &mut Vec<i64>) -> Option<()> {
    let (block, parts) = (from.size()?, from.size()?);
    let total = from.size()?;
    if block != DELTA_BLOCK || parts != DELTA_BLOCK / DELTA_PART || total != count {
        return None;
    }
    let mut last = from.signed()?;
    out.reserve(count);
    if count > 0 {
        out.push(last);
    }
    let mut left = count.saturating_sub(1);
    while left > 0 {
        let least = from.signed()?;
        for width in from.take(DELTA_BLOCK / DELTA_PART)? {
            if left == 0 {
                break;
            }
            let width = u32::from(*width);
            if width > if is_short { 32 } else { 64 } {
                return None;
            }
            let bytes = from.take(width as usize * DELTA_PART / 8)?;
            let here = left.min(DELTA_PART);
            if is_short {
                unpack(bytes, width, here, |number| {
                    last = i64::from((last as i32).wrapping_add(least as i32).wrapping_add(number as i32));
                    out.push(last);
                });
            } else {
                unpack(bytes, width, here, |number| {
                    last = last.wrapping_add(least).wrapping_add(number as i64);
                    out.push(last);
                });
            }
            left -= here;
        }
    }
    Some(())
}

/// `DELTA_LENGTH_BYTE_ARRAY`.
pub fn texts(mut from: Reader, count: usize) -> Option<Texts> {
    let mut lengths = Vec::new();
    deltas(&mut from, count, true, &mut lengths)?;
    let mut end = 0_u32;
    let mut ends = Vec::with_capacity(count);
    for length in lengths {
        end = end.checked_add(u32::try_from(length).ok()?)?;
        ends.push(end);
    }
    (from.0.len() == end as usize).then(|| Texts { bytes: from.0.to_vec(), ends })
}

/// `PLAIN` of texts: each after its length, as dictionaries have them.
pub fn plain_texts(mut from: Reader, count: usize) -> Option<Texts> {
    let mut texts = Texts::default();
    for _ in 0..count {
        let length = from.u32()? as usize;
        texts.push(from.take(length)?);
    }
    from.0.is_empty().then_some(texts)
}

/// `RLE`: so many numbers of so many bits.
pub fn hybrid(mut from: Reader, width: u32, count: usize) -> Option<Vec<u32>> {
    if width > 32 {
        return None;
    }
    let mut out = Vec::with_capacity(count);
    while out.len() < count {
        let head = from.size()?;
        let left = count - out.len();
        if head & 1 == 0 {
            let mut word = [0; 4];
            let bytes = width.div_ceil(8) as usize;
            word[..bytes].copy_from_slice(from.take(bytes)?);
            let run = (head >> 1).min(left);
            (run > 0).then_some(())?;
            out.resize(out.len() + run, u32::from_le_bytes(word));
        } else {
            let groups = head >> 1;
            (groups > 0).then_some(())?;
            let bytes = from.take(groups.checked_mul(width as usize)?)?;
            let run = groups.saturating_mul(8).min(left);
            if width == 8 {
                out.extend(bytes.iter().take(run).map(|byte| u32::from(*byte)));
            } else {
                unpack(bytes, width, run, |number| out.push(number as u32));
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::super::encode;
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut random = fastrand::Rng::with_seed(7);
        for count in [0, 1, 2, 31, 32, 33, 128, 129, 130, 1000] {
            for bits in [0, 1, 7, 31, 32, 33, 56, 57, 63, 64] {
                let numbers: Vec<i64> =
                    (0..count).map(|_| random.u64(..).checked_shr(64 - bits).unwrap_or(0) as i64).collect();
                let mut out = Vec::new();
                encode::deltas(&mut out, numbers.iter().copied(), false);
                let (mut from, mut back) = (Reader(&out), Vec::new());
                deltas(&mut from, count, false, &mut back).unwrap();
                assert_eq!((back, from.0.len()), (numbers.clone(), 0));
                for end in 0..out.len() {
                    assert_eq!(deltas(&mut Reader(&out[..end]), count, false, &mut Vec::new()), None);
                }
                let short: Vec<i64> = numbers.iter().map(|number| i64::from(*number as i32)).collect();
                let (mut out, mut back) = (Vec::new(), Vec::new());
                encode::deltas(&mut out, short.iter().copied(), true);
                deltas(&mut Reader(&out), count, true, &mut back).unwrap();
                assert_eq!(back, short);
                let codes: Vec<u32> = numbers.iter().map(|number| *number as u32).collect();
                for width in [32, 8, 1, 0] {
                    let codes: Vec<u32> =
                        codes.iter().map(|code| (u64::from(*code) & ((1 << width) - 1)) as u32).collect();
                    let mut out = Vec::new();
                    encode::hybrid(&mut out, width, &codes);
                    assert_eq!(hybrid(Reader(&out), width, count), Some(codes));
                }
            }
        }
    }

    #[test]
    fn texts_come_back() {
        let mut some = Texts::default();
        ["a", "", "bcd"].iter().for_each(|text| some.push(text.as_bytes()));
        let mut out = Vec::new();
        encode::texts(&mut out, &some, |_| true);
        assert_eq!(texts(Reader(&out), 3), Some(some));
        assert_eq!(texts(Reader(&out), 2), None);
        assert_eq!(texts(Reader(&out[..out.len() - 1]), 3), None);
        assert_eq!(hybrid(Reader(&[0, 0]), 8, 5), None);
    }
}
