//! Numbers of varying length, and what is left to read of some bytes.

/// Writes a number, seven bits a byte, low ones first.
pub fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Writes a number with a sign.
pub fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, fold(number));
}

/// Writes bytes after how many they are.
pub fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    put(out, part.len() as u64);
    out.extend_from_slice(part);
}

/// A number with a sign as one without: those near zero are small.
pub const fn fold(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// Takes [`fold`] back.
pub const fn unfold(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// So many bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, left) = self.0.split_first()?;
        self.0 = left;
        Some(*first)
    }

    /// A number as [`put`] writes it.
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// The same as a length.
    pub fn size(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    /// A number as [`put_signed`] writes it.
    pub fn signed(&mut self) -> Option<i64> {
        self.number().map(unfold)
    }

    /// Bytes as [`put_part`] writes them.
    pub fn part(&mut self) -> Option<&'a [u8]> {
        let length = self.size()?;
        self.take(length)
    }

    /// Four bytes, little end first.
    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// Eight bytes, little end first.
    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN, 1 << 40] {
            let mut out = Vec::new();
            put_signed(&mut out, number);
            put(&mut out, number as u64);
            let mut reader = Reader(&out);
            assert_eq!(reader.signed(), Some(number));
            assert_eq!(reader.number(), Some(number as u64));
            assert_eq!(reader.byte(), None);
        }
        assert_eq!(Reader(&[0xff; 11]).number(), None);
        assert_eq!(Reader(&[5, 1]).part(), None);
    }
}
