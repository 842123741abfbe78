//! How values become the bytes of a page. Source: Apache Parquet, `Encodings.md`.

use crate::bytes::{fold, put, put_signed};
use crate::texts::Texts;

/// Values in a block of differences, and in each of its parts.
pub const DELTA_BLOCK: usize = 128;
pub const DELTA_PART: usize = 32;

/// So many low bits of each number, one after the other.
fn pack(out: &mut Vec<u8>, width: u32, numbers: impl Iterator<Item = u64>) {
    let (mut held, mut bits) = (0_u128, 0);
    for number in numbers {
        held |= u128::from(number) << bits;
        bits += width;
        if bits >= 64 {
            out.extend_from_slice(&(held as u64).to_le_bytes());
            held >>= 64;
            bits -= 64;
        }
    }
    out.extend_from_slice(&held.to_le_bytes()[..bits.div_ceil(8) as usize]);
}

/// `DELTA_BINARY_PACKED`. `is_short`: the column is of four bytes, and so are differences.
pub fn deltas(out: &mut Vec<u8>, numbers: impl ExactSizeIterator<Item = i64>, is_short: bool) {
    let difference = |next: i64, last: i64| match is_short {
        true => i64::from((next as i32).wrapping_sub(last as i32)),
        false => next.wrapping_sub(last),
    };
    let mut numbers = numbers;
    put(out, DELTA_BLOCK as u64);
    put(out, (DELTA_BLOCK / DELTA_PART) as u64);
    put(out, numbers.len() as u64);
    let mut last = numbers.next().unwrap_or_default();
    // As 32 bits with a sign, where the column has as many.
    put(out, fold(if is_short { i64::from(last as i32) } else { last }));
    let mut block = [0; DELTA_BLOCK];
    loop {
        let mut count = 0;
        for (place, number) in block.iter_mut().zip(&mut numbers) {
            *place = difference(number, last);
            last = number;
            count += 1;
        }
        if count == 0 {
            return;
        }
        let block = &mut block[..count];
        let least = block.iter().copied().min().unwrap_or_default();
        put_signed(out, least);
        block.iter_mut().for_each(|number| *number = difference(*number, least));
        let above = |number: &i64| if is_short { u64::from(*number as u32) } else { *number as u64 };
        let widths_at = out.len();
        out.extend_from_slice(&[0; DELTA_BLOCK / DELTA_PART]);
        for (place, part) in block.chunks(DELTA_PART).enumerate() {
            let width = 64 - part.iter().map(above).fold(0, |all, number| all | number).leading_zeros();
            out[widths_at + place] = width as u8;
            let padding = std::iter::repeat_n(0, DELTA_PART - part.len());
            pack(out, width, part.iter().map(above).chain(padding));
        }
    }
}

/// `DELTA_LENGTH_BYTE_ARRAY`: the lengths of some texts, then all of them in one.
pub fn texts(out: &mut Vec<u8>, texts: &Texts, is_there: impl Fn(usize) -> bool) {
    let lengths: Vec<i64> = (0..texts.len())
        .filter(|at| is_there(*at))
        .map(|at| i64::from(texts.ends[at]) - texts.start(at) as i64)
        .collect();
    deltas(out, lengths.iter().copied(), true);
    // Where there is no value the text is empty.
    out.extend_from_slice(&texts.bytes);
}

/// `RLE`: numbers of so many bits, as one run of the same one, or one by one.
pub fn hybrid(out: &mut Vec<u8>, width: u32, numbers: &[u32]) {
    let Some(first) = numbers.first() else { return };
    if numbers.iter().all(|number| number == first) {
        put(out, (numbers.len() as u64) << 1);
        out.extend_from_slice(&first.to_le_bytes()[..width.div_ceil(8) as usize]);
        return;
    }
    let groups = numbers.len().div_ceil(8);
    put(out, (groups as u64) << 1 | 1);
    match width {
        8 => {
            out.extend(numbers.iter().map(|number| *number as u8));
            out.resize(out.len() + groups * 8 - numbers.len(), 0);
        }
        _ => {
            let padding = std::iter::repeat_n(0, groups * 8 - numbers.len());
            pack(out, width, numbers.iter().map(|number| u64::from(*number)).chain(padding));
        }
    }
}

/// Bits, eight a byte.
pub fn bits(out: &mut Vec<u8>, all: impl Iterator<Item = bool>) {
    pack(out, 1, all.map(u64::from));
}
