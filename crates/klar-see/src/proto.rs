//! Protocol Buffers as they go over the wire, without a compiler for them: the messages that come here are few, and what
//! klar does not need of them is passed over.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no message of Protocol Buffers: {what}, {left} bytes before the end")]
pub struct Malformed {
    what: &'static str,
    left: usize,
}

/// A field of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Field<'a> {
    /// A whole number, of whatever sign.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// A text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    /// A message, a text or bytes; of anything else nothing.
    pub fn bytes(self) -> &'a [u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }

    /// A text; what is no UTF-8 in it is replaced.
    pub fn text(self) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.bytes())
    }

    /// A `double`.
    pub fn double(self) -> f64 {
        if let Self::Fixed64(bits) = self { f64::from_bits(bits) } else { 0.0 }
    }

    /// An `int64`, `uint64`, `fixed64`, `enum` or `bool`.
    pub fn number(self) -> u64 {
        match self {
            Self::Varint(number) | Self::Fixed64(number) => number,
            Self::Fixed32(number) => number.into(),
            Self::Bytes(_) => 0,
        }
    }

    /// The same with a sign.
    pub fn signed(self) -> i64 {
        self.number().cast_signed()
    }
}

/// The fields of a message, one after the other.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    rest: &'a [u8],
}

impl<'a> Message<'a> {
    /// Of these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, left: self.rest.len() }
    }

    /// A number as it lies in a packed list.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for (place, byte) in self.rest.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * place);
            if *byte < 0x80 {
                self.rest = self.rest.get(place + 1..).unwrap_or_default();
                return Ok(number);
            }
        }
        Err(self.malformed("a number does not end"))
    }

    #[inline]
    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).ok();
        let halves = length.and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = halves.ok_or_else(|| self.malformed("a field is longer than its message"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next field, with its number; `None` at the end.
    ///
    /// # Errors
    /// [`Malformed`]; what was read before it is good.
    #[inline]
    pub fn field(&mut self) -> Result<Option<(u32, Field<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0);
        let number = number.ok_or_else(|| self.malformed("a field has no number"))?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?.first_chunk().copied().unwrap_or_default();
                Field::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => {
                let bytes = self.take(4)?.first_chunk().copied().unwrap_or_default();
                Field::Fixed32(u32::from_le_bytes(bytes))
            }
            _ => return Err(self.malformed("a field is of a kind that is no longer used")),
        };
        Ok(Some((number, field)))
    }
}

/// Writes what a field begins with: its number, and how its value is written.
pub fn put_key(out: &mut Vec<u8>, number: u32, wire: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire));
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Writes a whole number.
pub fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_key(out, number, 0);
    put_varint(out, value);
}

/// Writes a text, bytes or a message.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_key(out, number, 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Writes eight bytes: a `fixed64` or the bits of a `double`.
pub fn put_fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    put_key(out, number, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<(u32, Field<'_>)>, Malformed> {
        let mut message = Message::new(bytes);
        let mut found = Vec::new();
        while let Some(field) = message.field()? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn fields_of_all_kinds() {
        let bytes =
            [&b"\x08\x96\x01\x12\x02hi\x19"[..], &1.5_f64.to_le_bytes(), b"\x25\x01\x00\x00\x00"].concat();
        let found = all(&bytes).unwrap();
        assert_eq!(found[0], (1, Field::Varint(150)));
        assert_eq!((found[1].0, &*found[1].1.text()), (2, "hi"));
        assert_eq!((found[2].0, found[2].1.double()), (3, 1.5));
        assert_eq!(found[3], (4, Field::Fixed32(1)));
        let minus = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(all(&minus).unwrap()[0].1.signed(), -1);
        for torn in 1..bytes.len() {
            // Torn between two fields it is a shorter message, elsewhere it is none.
            if let Ok(found) = all(&bytes[..torn]) {
                assert!(found.len() < 4);
            }
        }
        for bad in [&b"\x00\x01"[..], b"\x0b", b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &[0x80; 11]] {
            assert!(all(bad).is_err(), "{bad:?}");
        }
    }
}
