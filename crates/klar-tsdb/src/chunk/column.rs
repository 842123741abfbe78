//! A column of whole numbers, packed into as few bits as fit most of them.
//!
//! Each number becomes its distance from the middle one: of the numbers themselves, or of the steps between them,
//! whichever is smaller. Distances get one width for all; the few that need more are written apart. So a gap in a
//! steady rhythm, or a counter that begins anew, costs its own bytes and no one else's.
//!
//! ```text
//! byte      width in bits (0 to 64); the highest bit: steps
//! signed    the first number, if steps
//! signed    the middle one
//! number    how many are apart; for each how many places after the last one, and its folded distance
//! bits      the folded distances, low bits first; zero for those apart
//! ```

use crate::bytes::{Reader, fold, put, put_signed, unfold};

const STEPS: u8 = 0x80;

/// What is used again from column to column.
#[derive(Default)]
pub struct Room {
    sorted: Vec<i64>,
    values: [Vec<u64>; 2],
}

/// What writing a column one way costs.
#[derive(Clone, Copy)]
struct Plan {
    middle: i64,
    width: u32,
    bits: usize,
}

fn plan(numbers: impl Iterator<Item = i64> + Clone, sorted: &mut Vec<i64>, folded: &mut Vec<u64>) -> Plan {
    sorted.clear();
    sorted.extend(numbers.clone());
    let half = sorted.len() / 2;
    let middle = if sorted.is_empty() { 0 } else { *sorted.select_nth_unstable(half).1 };
    folded.clear();
    let mut widths = [0_usize; 65];
    folded.extend(numbers.map(|number| {
        let distance = fold(number.wrapping_sub(middle));
        widths[64 - distance.leading_zeros() as usize] += 1;
        distance
    }));
    // Beginning with the widest: what an exception costs is a byte for its place, and its number.
    let (mut width, mut bits, mut apart) = (64, usize::MAX, 0);
    for candidate in (0..=64_usize).rev() {
        let cost = folded.len() * candidate + apart;
        if cost < bits {
            (width, bits) = (candidate as u32, cost);
        }
        apart += widths[candidate] * (8 + candidate.div_ceil(7) * 8);
    }
    Plan { middle, width, bits }
}

/// Writes a column.
pub fn write(out: &mut Vec<u8>, numbers: &[i64], room: &mut Room) {
    let [plain_room, steps_room] = &mut room.values;
    let plain = plan(numbers.iter().copied(), &mut room.sorted, plain_room);
    let pairs = numbers.windows(2).map(|pair| match pair {
        [first, second] => second.wrapping_sub(*first),
        _ => 0,
    });
    let steps = plan(pairs, &mut room.sorted, steps_room);
    // The first number is written apart: some bytes.
    let is_steps = numbers.len() > 1 && steps.bits + 32 < plain.bits;
    let (plan, folded) = if is_steps { (steps, &*steps_room) } else { (plain, &*plain_room) };
    out.push(plan.width as u8 | if is_steps { STEPS } else { 0 });
    if is_steps {
        put_signed(out, numbers.first().copied().unwrap_or_default());
    }
    put_signed(out, plan.middle);
    let fits = |distance: u64| 64 - distance.leading_zeros() <= plan.width;
    put(out, folded.iter().filter(|distance| !fits(**distance)).count() as u64);
    let mut last = 0;
    for (place, distance) in folded.iter().enumerate().filter(|(_, distance)| !fits(**distance)) {
        put(out, (place - last) as u64);
        put(out, *distance);
        last = place;
    }
    let (mut held, mut count) = (0_u128, 0);
    for distance in folded.iter().map(|distance| if fits(*distance) { *distance } else { 0 }) {
        held |= u128::from(distance) << count;
        count += plan.width;
        while count >= 64 {
            out.extend_from_slice(&(held as u64).to_le_bytes());
            held >>= 64;
            count -= 64;
        }
    }
    out.extend_from_slice(&held.to_le_bytes()[..count.div_ceil(8) as usize]);
}

/// Reads a column of so many numbers behind what `out` holds. `None`: that is no column.
pub fn read(from: &mut Reader, count: usize, out: &mut Vec<i64>) -> Option<()> {
    let start = out.len();
    let tag = from.byte()?;
    let (width, is_steps) = (u32::from(tag & !STEPS), tag & STEPS != 0);
    if width > 64 || (is_steps && count == 0) {
        return None;
    }
    let first = if is_steps { from.signed()? } else { 0 };
    let middle = from.signed()?;
    let packed = count - usize::from(is_steps);
    let apart_count = from.size()?;
    if apart_count > packed {
        return None;
    }
    let mut apart = *from;
    for _ in 0..apart_count {
        from.number()?;
        from.number()?;
    }
    let bits = from.take((packed * width as usize).div_ceil(8))?;
    if is_steps {
        out.push(first);
    }
    let from_here = out.len();
    unpack(bits, packed, width, middle, out);
    let mut place = from_here;
    for _ in 0..apart_count {
        place = place.checked_add(apart.size()?)?;
        *out.get_mut(place)? = middle.wrapping_add(unfold(apart.number()?));
    }
    if is_steps {
        let mut last = first;
        for number in &mut out[start + 1..] {
            last = last.wrapping_add(*number);
            *number = last;
        }
    }
    Some(())
}

fn unpack(bits: &[u8], count: usize, width: u32, middle: i64, out: &mut Vec<i64>) {
    if width == 0 {
        out.extend(std::iter::repeat_n(middle, count));
        return;
    }
    let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
    let slow = |place: usize| {
        let bit = place * width as usize;
        let mut bytes = [0; 16];
        let rest = &bits[bit / 8..];
        let length = rest.len().min(16);
        bytes[..length].copy_from_slice(&rest[..length]);
        (u128::from_le_bytes(bytes) >> (bit % 8)) as u64 & mask
    };
    // Eight bytes at once hold any number of up to 57 bits, wherever in its byte it begins.
    let quick = if width <= 57 { bits.len().saturating_sub(8) * 8 / width as usize } else { 0 };
    out.extend((0..count).map(|place| {
        let bit = place * width as usize;
        let distance = if place < quick
            && let Some(eight) = bits.get(bit / 8..).and_then(|rest| rest.first_chunk::<8>())
        {
            u64::from_le_bytes(*eight) >> (bit % 8) & mask
        } else {
            slow(place)
        };
        middle.wrapping_add(unfold(distance))
    }));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(numbers: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, numbers, &mut Room::default());
        let mut reader = Reader(&out);
        let mut back = Vec::new();
        read(&mut reader, numbers.len(), &mut back).unwrap();
        assert_eq!(back, numbers);
        assert!(reader.0.is_empty());
        out
    }

    #[test]
    fn what_is_regular_costs_nothing_and_what_is_not_only_itself() {
        let steady: Vec<i64> = (0..120).map(|place| 1_700_000_000_000 + place * 15_000).collect();
        assert!(packed(&steady).len() <= 12);
        let gap: Vec<i64> =
            steady.iter().map(|time| time + i64::from(*time > steady[60]) * 300_000).collect();
        assert!(packed(&gap).len() <= 18);
        let reset: Vec<i64> = (0..120).map(|place| (1_000_000 + place * 7) % 1_000_400).collect();
        assert!(packed(&reset).len() <= 16);
        assert!(packed(&[]).len() <= 3);
        assert!(packed(&[i64::MIN, i64::MAX, 0, -1]).len() <= 40);
    }

    proptest! {
        #[test]
        fn every_column_comes_back(numbers in proptest::collection::vec(any::<i64>(), 0..200), shift in 0..64_u32) {
            packed(&numbers.iter().map(|number| number >> shift).collect::<Vec<_>>());
        }

        #[test]
        fn rubbish_is_no_column_or_another_one(rubbish in proptest::collection::vec(any::<u8>(), 0..80), count in 0..300_usize) {
            let mut out = Vec::new();
            if read(&mut Reader(&rubbish), count, &mut out).is_some() {
                assert_eq!(out.len(), count);
            }
        }
    }
}
