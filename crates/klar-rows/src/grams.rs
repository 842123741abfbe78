//! Which granules cannot have what is looked for: a filter of pieces of texts, and of ids.
//!
//! Of each seven pieces of six letters that follow each other the one with the least hash goes into the filter, in lower
//! case (winnowing; Schleimer, Wilkerson, Aiken 2003). So of any text of twelve letters or more at least one piece of the
//! filter is known, wherever it begins, also in the middle of a word: it is looked for in the granules that have all
//! pieces that are known. A shorter text is looked for everywhere.
//!
//! The filter is one of Bloom's, in blocks of 64 bytes, of which one is read for each piece. A block carries its checksum:
//! a bit that is lost would hide rows.

use crate::texts::fold;

const PIECE: usize = 6;
const WINDOW: usize = 7;
/// Bytes of a block, and bits of it that are used.
pub const BLOCK: usize = 64;
const BITS: u64 = (BLOCK as u64 - 4) * 8;
const BLOCKS_MAX: usize = 2048;
/// Blocks are put together as long as so many bits of a hundred, at most, are set.
const FILL_MAX: usize = 55;

/// Gives the hashes of pieces of a text that are in filters, which is in lower case. `hashes` is room for all of them.
fn pieces(text: &[u8], hashes: &mut Vec<i32>, mut each: impl FnMut(i32)) {
    if text.len() < PIECE + WINDOW - 1 {
        return;
    }
    let hash = |word: u64| ((word & 0xffff_ffff_ffff).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as i32;
    hashes.clear();
    hashes.extend(text.windows(8).map(|word| hash(u64::from_le_bytes(word.try_into().unwrap_or_default()))));
    for piece in text[text.len() - 7..].windows(PIECE) {
        hashes.push(hash(piece.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))));
    }
    // The least of two, of four, of seven: without a question for each letter.
    for ahead in [1, 2, 3] {
        for at in 0..hashes.len() - ahead {
            hashes[at] = hashes[at].min(hashes[at + ahead]);
        }
        hashes.truncate(hashes.len() - ahead);
    }
    let mut last = None;
    for least in hashes.iter().filter(|least| last.replace(**least) != Some(**least)) {
        each(*least);
    }
}

/// The marks of what a text has to have if it contains another one.
pub fn marks_within(text: &[u8]) -> Vec<u64> {
    let mut marks = Vec::new();
    pieces(&text.to_ascii_lowercase(), &mut Vec::new(), |piece| marks.push(mark(piece)));
    marks.sort_unstable();
    marks.dedup();
    marks
}

/// The marks of a value of fixed bytes: two, since one would be there by chance too often.
pub fn marks_of(value: &[u8]) -> [u64; 2] {
    let state = value.chunks(8).fold(value.len() as u64, |state, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        fold(state, u64::from_le_bytes(word))
    });
    [fold(state, 1), fold(state, 2)]
}

const fn mark_parts(mark: u64) -> (usize, [usize; 3]) {
    const fn bit(part: u64) -> usize {
        (((part & 0xffff) * BITS) >> 16) as usize
    }
    ((mark >> 48) as usize, [bit(mark), bit(mark >> 16), bit(mark >> 32)])
}

fn mark(piece: i32) -> u64 {
    fold(piece as u64, 0x2545_f491_4f6c_dd1d)
}

/// The filter of a granule.
pub struct Filter {
    blocks: Vec<[u8; BLOCK]>,
    lower: Vec<u8>,
    hashes: Vec<i32>,
}

impl Filter {
    pub fn new() -> Self {
        Self { blocks: vec![[0; BLOCK]; BLOCKS_MAX], lower: Vec::new(), hashes: Vec::new() }
    }

    pub fn add(&mut self, mark: u64) {
        let (block, bits) = mark_parts(mark);
        let block = &mut self.blocks[block % BLOCKS_MAX];
        for bit in bits {
            block[bit / 8] |= 1 << (bit % 8);
        }
    }

    pub fn add_text(&mut self, text: &[u8]) {
        let mut lower = std::mem::take(&mut self.lower);
        lower.clear();
        lower.extend_from_slice(text);
        lower.make_ascii_lowercase();
        let mut hashes = std::mem::take(&mut self.hashes);
        pieces(&lower, &mut hashes, |piece| self.add(mark(piece)));
        (self.lower, self.hashes) = (lower, hashes);
    }

    /// The filter as bytes, which are empty if it holds nothing; and then it is empty again.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut blocks = std::mem::replace(&mut self.blocks, vec![[0; BLOCK]; BLOCKS_MAX]);
        let set = |blocks: &[[u8; BLOCK]]| -> usize {
            let ones =
                |eight: &[u8]| u64::from_le_bytes(eight.try_into().unwrap_or_default()).count_ones() as usize;
            blocks.iter().flat_map(|block| block.chunks_exact(8)).map(ones).sum()
        };
        if set(&blocks) == 0 {
            return Vec::new();
        }
        while blocks.len() > 1 {
            let (first, second) = blocks.split_at(blocks.len() / 2);
            let mut half = first.to_vec();
            for (to, from) in half.iter_mut().zip(second) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to |= from);
            }
            if set(&half) * 100 > half.len() * BITS as usize * FILL_MAX {
                break;
            }
            blocks = half;
        }
        for block in &mut blocks {
            let seal = crc32fast::hash(&block[..BLOCK - 4]);
            block[BLOCK - 4..].copy_from_slice(&seal.to_le_bytes());
        }
        blocks.concat()
    }
}

/// Which block of so many says whether a mark is there.
pub const fn block_of(mark: u64, blocks: usize) -> usize {
    mark_parts(mark).0 & (blocks - 1)
}

/// Whether a block has a mark; `None` if it is damaged.
pub fn has(block: &[u8; BLOCK], mark: u64) -> Option<bool> {
    let (bits, seal) = block.split_at(BLOCK - 4);
    let is_whole = crc32fast::hash(bits).to_le_bytes() == seal;
    is_whole.then(|| mark_parts(mark).1.iter().all(|bit| bits[bit / 8] >> (bit % 8) & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_have(filter: &[u8], marks: &[u64]) -> bool {
        let blocks = filter.len() / BLOCK;
        marks.iter().all(|mark| {
            let at = block_of(*mark, blocks) * BLOCK;
            has(filter[at..at + BLOCK].try_into().unwrap(), *mark).unwrap()
        })
    }

    #[test]
    fn no_part_of_a_text_is_hidden() {
        let mut random = fastrand::Rng::with_seed(3);
        let letters: Vec<char> = "abcXYZ019 -".chars().collect();
        for most in [20, 100] {
            let mut filter = Filter::new();
            let texts: Vec<String> = (0..300)
                .map(|_| (0..random.usize(0..most)).map(|_| letters[random.usize(..11)]).collect())
                .collect();
            texts.iter().for_each(|text| filter.add_text(text.as_bytes()));
            let bytes = filter.finish();
            for text in &texts {
                for length in 0..=text.len() {
                    for start in [0, (text.len() - length) / 2, text.len() - length] {
                        let part = &text[start..start + length];
                        let marks = marks_within(part.as_bytes());
                        assert_eq!(marks.is_empty(), length < 12);
                        assert!(may_have(&bytes, &marks), "{part} of {text}");
                    }
                }
            }
        }
    }

    #[test]
    fn most_of_what_is_not_there_is_told() {
        let mut random = fastrand::Rng::with_seed(4);
        let mut filter = Filter::new();
        for _ in 0..8192 {
            filter.add_text(format!("request {:016x} took {} ms", random.u64(..), random.u16(..)).as_bytes());
        }
        let bytes = filter.finish();
        let mut id = || format!("{:016x}", random.u64(..));
        let wrong = (0..2000).filter(|_| may_have(&bytes, &marks_within(id().as_bytes()))).count();
        assert!(wrong < 200, "{wrong} of 2000, {} bytes", bytes.len());
        let mut ids = Filter::new();
        (0..8192_u128).for_each(|id| marks_of(&id.to_le_bytes()).iter().for_each(|mark| ids.add(*mark)));
        let bytes = ids.finish();
        assert!((0..8192_u128).all(|id| may_have(&bytes, &marks_of(&id.to_le_bytes()))));
        let wrong = (9000..19_000_u128).filter(|id| may_have(&bytes, &marks_of(&id.to_le_bytes()))).count();
        assert!(wrong < 1000, "{wrong} of 10000, {} bytes", bytes.len());
    }

    #[test]
    fn a_damaged_block_is_told() {
        let mut filter = Filter::new();
        filter.add(5);
        let mut block: [u8; BLOCK] = filter.finish().try_into().unwrap();
        assert_eq!(has(&block, 5), Some(true));
        for bit in 0..BLOCK * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(has(&block, 5), None);
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
