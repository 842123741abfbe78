//! An input that is taken apart into what a target needs: numbers, choices, texts. What is used up gives zeros and
//! nothing, so that every input means something.

/// What is left of an input.
#[derive(Debug, Clone, Copy)]
pub struct Feed<'a>(&'a [u8]);

impl<'a> Feed<'a> {
    /// All of it.
    pub fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `end`, 0 where there is none. Takes a byte, two from 257 on, eight from 65537 on.
    pub fn below(&mut self, end: u64) -> u64 {
        let width = match end {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 8,
        };
        let number = (0..width).fold(0, |number, _| (number << 8) | u64::from(self.byte()));
        number.checked_rem(end).unwrap_or(0)
    }

    /// One of several; the first of none is a mistake of the target.
    ///
    /// # Panics
    /// When there are none.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// Up to the next byte `end`, which is taken too; all the rest where there is none.
    pub fn until(&mut self, end: u8) -> &'a [u8] {
        match self.0.iter().position(|byte| *byte == end) {
            Some(at) => {
                let taken = &self.0[..at];
                self.0 = &self.0[at + 1..];
                taken
            }
            None => std::mem::take(&mut self.0),
        }
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is left, cut into pieces as it says itself: its first bytes are their lengths. No piece is empty.
    pub fn pieces(mut self) -> Vec<&'a [u8]> {
        let mut lengths = [0; 4];
        lengths.iter_mut().for_each(|length| *length = 1 + self.below(64) as usize);
        let (mut pieces, mut rest) = (Vec::new(), self.0);
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(*length));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }
}
