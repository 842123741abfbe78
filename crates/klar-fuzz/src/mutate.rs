//! Inputs are changed in the ways in which formats break: bytes, ranges, numbers, words, and parts of other inputs.

use fastrand::Rng;

/// Bytes that mean something in most formats.
const MEANINGFUL: &[u8] = b"\0\t\n\r \"%&'()*+,-./0189:;<=>?@AZ[\\]_az{|}~\x7f\x80\xc3\xff";
/// Numbers at which things turn over.
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "00",
    "1",
    "127",
    "255",
    "256",
    "65535",
    "65536",
    "4294967296",
    "18446744073709551615",
    "99999999999999999999999",
];
/// The most changes at once.
const CHANGES: usize = 6;

/// Changes inputs.
pub struct Mutator<'a> {
    pub words: &'a [&'a [u8]],
    pub longest: usize,
}

impl Mutator<'_> {
    /// Changes `input`, maybe with parts of `others`.
    pub fn change(&self, input: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut Rng) {
        for _ in 0..1 + rng.usize(..CHANGES) {
            self.change_once(input, others, rng);
        }
        input.truncate(self.longest);
    }

    fn change_once(&self, input: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut Rng) {
        let at = rng.usize(..=input.len());
        let most = 1 << rng.u8(..7);
        let length = rng.usize(..=(input.len() - at).min(most));
        match rng.u8(..12) {
            0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
            1 if at < input.len() => input[at] = rng.u8(..),
            2 | 3 if at < input.len() => input[at] = MEANINGFUL[rng.usize(..MEANINGFUL.len())],
            4 => input.insert(at, MEANINGFUL[rng.usize(..MEANINGFUL.len())]),
            5 => drop(input.drain(at..at + length)),
            6 => {
                let again = input[at..at + length].to_vec();
                let to = rng.usize(..=input.len());
                insert(input, to, &again.repeat(1 + rng.usize(..3)));
            }
            7 | 8 if !self.words.is_empty() => {
                let word = self.words[rng.usize(..self.words.len())];
                if rng.bool() {
                    drop(input.drain(at..at + length.min(word.len())));
                }
                insert(input, at, word);
            }
            9 => {
                let number = NUMBERS[rng.usize(..NUMBERS.len())];
                if let Some((from, to)) = digits(input, at) {
                    drop(input.drain(from..to));
                    insert(input, from, number.as_bytes());
                } else {
                    insert(input, at, number.as_bytes());
                }
            }
            10 | 11 if !others.is_empty() => {
                let other = &others[rng.usize(..others.len())];
                let from = rng.usize(..=other.len());
                let to = rng.usize(from..=other.len());
                if rng.bool() {
                    input.truncate(at);
                }
                insert(input, at, &other[from..to]);
            }
            // A number in bytes, one more or one less.
            _ if at < input.len() => {
                input[at] = if rng.bool() { input[at].wrapping_add(1) } else { input[at].wrapping_sub(1) };
            }
            _ => input.push(rng.u8(..)),
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

/// The digits at or behind `at`.
fn digits(input: &[u8], at: usize) -> Option<(usize, usize)> {
    let from = at + input[at..].iter().position(u8::is_ascii_digit)?;
    let length = input[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    Some((from, from + length))
}
