//! Which bytes a value has in it, and pairs of names and values in one buffer.

/// From so many bytes on a table of 256 is worth its while.
const TABLE_MIN: usize = 512;

/// The set of bytes that occur in a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Presence([u64; 4]);

impl Presence {
    /// The bytes of `value`.
    #[must_use]
    pub fn of(value: &[u8]) -> Self {
        let mut set = Self::default();
        if value.len() < TABLE_MIN {
            for byte in value {
                set.insert(*byte);
            }
            return set;
        }
        // A bit has to be read before it is set, a byte has not.
        let mut table = [0; 256];
        for byte in value {
            table[usize::from(*byte)] = 1_u8;
        }
        for (byte, is_there) in (0..=u8::MAX).zip(table) {
            if is_there != 0 {
                set.insert(byte);
            }
        }
        set
    }

    /// A set that is known when this is compiled.
    #[must_use]
    pub const fn all_of(bytes: &[u8]) -> Self {
        let mut set = [0; 4];
        let mut at = 0;
        while at < bytes.len() {
            set[(bytes[at] >> 6) as usize] |= 1 << (bytes[at] & 63);
            at += 1;
        }
        Self(set)
    }

    /// The bytes from `first` to `last`, both included.
    #[must_use]
    pub const fn range(first: u8, last: u8) -> Self {
        let mut set = [0; 4];
        let mut byte = first as usize;
        while byte <= last as usize {
            set[byte >> 6] |= 1 << (byte & 63);
            byte += 1;
        }
        Self(set)
    }

    /// Puts a byte in.
    pub const fn insert(&mut self, byte: u8) {
        self.0[(byte >> 6) as usize] |= 1 << (byte & 63);
    }

    /// Without a byte.
    #[must_use]
    pub const fn without(mut self, byte: u8) -> Self {
        self.0[(byte >> 6) as usize] &= !(1 << (byte & 63));
        self
    }

    /// Whether a byte is in it.
    #[must_use]
    pub const fn has(&self, byte: u8) -> bool {
        self.0[(byte >> 6) as usize] & (1 << (byte & 63)) != 0
    }

    /// Whether at least one byte is in both.
    #[must_use]
    pub const fn meets(&self, other: &Self) -> bool {
        (self.0[0] & other.0[0])
            | (self.0[1] & other.0[1])
            | (self.0[2] & other.0[2])
            | (self.0[3] & other.0[3])
            != 0
    }

    /// What is in one of both.
    #[must_use]
    pub const fn or(&self, other: &Self) -> Self {
        Self([self.0[0] | other.0[0], self.0[1] | other.0[1], self.0[2] | other.0[2], self.0[3] | other.0[3]])
    }

    /// Whether every byte of it is in `other`.
    #[must_use]
    pub const fn is_within(&self, other: &Self) -> bool {
        (self.0[0] & !other.0[0])
            | (self.0[1] & !other.0[1])
            | (self.0[2] & !other.0[2])
            | (self.0[3] & !other.0[3])
            == 0
    }
}

/// Names with values, in a buffer that is used again for the next request.
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    bytes: Vec<u8>,
    /// Where each name and each value ends.
    ends: Vec<(u32, u32)>,
}

impl Pairs {
    /// Adds one. What would make the buffer larger than 4 GiB is left out; limits stand far below.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let name_end = self.bytes.len() + name.len();
        if let (Ok(name_end), Ok(end)) = (u32::try_from(name_end), u32::try_from(name_end + value.len())) {
            self.bytes.extend_from_slice(name);
            self.bytes.extend_from_slice(value);
            self.ends.push((name_end, end));
        }
    }

    /// Adds one that is written right where it is kept: the name first, then the value. What would make the buffer
    /// larger than 4 GiB is left out.
    pub fn push_with(&mut self, name: impl FnOnce(&mut Vec<u8>), value: impl FnOnce(&mut Vec<u8>)) {
        let begin = self.bytes.len();
        name(&mut self.bytes);
        let name_end = self.bytes.len();
        value(&mut self.bytes);
        match (u32::try_from(name_end), u32::try_from(self.bytes.len())) {
            (Ok(name_end), Ok(end)) => self.ends.push((name_end, end)),
            _ => self.bytes.truncate(begin),
        }
    }

    /// How many bytes all names and values have together.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Name and value of one.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<(&[u8], &[u8])> {
        let (name_end, end) = *self.ends.get(at)?;
        let begin = at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |(_, end)| *end);
        Some((
            self.bytes.get(begin as usize..name_end as usize)?,
            self.bytes.get(name_end as usize..end as usize)?,
        ))
    }

    /// Each name with its value, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// Forgets all, and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}
