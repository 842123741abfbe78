//! What Parquet's own descriptions are written in: Thrift's compact protocol, as far as Parquet uses it.

use crate::bytes::{Reader, put, put_part, put_signed};

const I32: u8 = 5;
const I64: u8 = 6;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;
/// Structs and lists within each other.
const DEPTH_MAX: usize = 16;

/// Writes one struct, and those in it.
pub struct Writer {
    pub bytes: Vec<u8>,
    last: Vec<u8>,
}

impl Writer {
    pub fn new() -> Self {
        Self { bytes: Vec::new(), last: vec![0] }
    }

    fn field(&mut self, id: u8, kind: u8) {
        if let Some(last) = self.last.last_mut() {
            // Fields of Parquet are few: the step to the next one always fits.
            self.bytes.push((id - *last) << 4 | kind);
            *last = id;
        }
    }

    pub fn bool(&mut self, id: u8, is: bool) {
        self.field(id, if is { 1 } else { 2 });
    }

    pub fn i32(&mut self, id: u8, number: i32) {
        self.field(id, I32);
        put_signed(&mut self.bytes, i64::from(number));
    }

    pub fn i64(&mut self, id: u8, number: i64) {
        self.field(id, I64);
        put_signed(&mut self.bytes, number);
    }

    pub fn binary(&mut self, id: u8, bytes: &[u8]) {
        self.field(id, BINARY);
        put_part(&mut self.bytes, bytes);
    }

    fn list(&mut self, id: u8, kind: u8, count: usize) {
        self.field(id, LIST);
        if count < 15 {
            self.bytes.push((count as u8) << 4 | kind);
        } else {
            self.bytes.push(0xf0 | kind);
            put(&mut self.bytes, count as u64);
        }
    }

    pub fn i32s(&mut self, id: u8, numbers: &[i32]) {
        self.list(id, I32, numbers.len());
        numbers.iter().for_each(|number| put_signed(&mut self.bytes, i64::from(*number)));
    }

    pub fn binaries(&mut self, id: u8, parts: &[&str]) {
        self.list(id, BINARY, parts.len());
        parts.iter().for_each(|part| put_part(&mut self.bytes, part.as_bytes()));
    }

    pub fn structs<T>(&mut self, id: u8, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.list(id, STRUCT, items.len());
        for item in items {
            self.last.push(0);
            write(self, item);
            self.end();
        }
    }

    pub fn inner(&mut self, id: u8, write: impl FnOnce(&mut Self)) {
        self.field(id, STRUCT);
        self.last.push(0);
        write(self);
        self.end();
    }

    pub fn end(&mut self) {
        self.last.pop();
        self.bytes.push(0);
    }
}

/// A value that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Thrift<'a> {
    Bool(bool),
    Int(i64),
    Bytes(&'a [u8]),
    List(Vec<Thrift<'a>>),
    Struct(Vec<(i64, Thrift<'a>)>),
}

impl<'a> Thrift<'a> {
    /// Reads one struct.
    pub fn read(from: &mut Reader<'a>) -> Option<Self> {
        Self::read_struct(from, 0)
    }

    fn read_struct(from: &mut Reader<'a>, depth: usize) -> Option<Self> {
        let mut fields = Vec::new();
        let mut last = 0;
        loop {
            let head = from.byte()?;
            if head == 0 {
                return Some(Self::Struct(fields));
            }
            last = if head >> 4 == 0 { from.signed()? } else { last + i64::from(head >> 4) };
            let value = match head & 15 {
                1 => Self::Bool(true),
                2 => Self::Bool(false),
                kind => Self::read_value(from, kind, depth)?,
            };
            fields.push((last, value));
        }
    }

    fn read_value(from: &mut Reader<'a>, kind: u8, depth: usize) -> Option<Self> {
        if depth > DEPTH_MAX {
            return None;
        }
        Some(match kind {
            1 | 2 => Self::Bool(from.byte()? == 1),
            3 => Self::Int(i64::from(from.byte()?)),
            4..=6 => Self::Int(from.signed()?),
            7 => Self::Bytes(from.take(8)?),
            BINARY => Self::Bytes(from.part()?),
            LIST | 10 => {
                let head = from.byte()?;
                let count = if head >> 4 == 15 { from.size()? } else { usize::from(head >> 4) };
                // Each one has a byte at least.
                if count > from.0.len() {
                    return None;
                }
                let items: Option<Vec<Self>> =
                    (0..count).map(|_| Self::read_value(from, head & 15, depth + 1)).collect();
                Self::List(items?)
            }
            STRUCT => Self::read_struct(from, depth + 1)?,
            _ => return None,
        })
    }

    pub fn get(&self, id: i64) -> Option<&Self> {
        match self {
            Self::Struct(fields) => fields.iter().find(|(found, _)| *found == id).map(|(_, value)| value),
            _ => None,
        }
    }

    pub fn int(&self, id: i64) -> Option<i64> {
        match self.get(id)? {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    pub fn size(&self, id: i64) -> Option<usize> {
        usize::try_from(self.int(id)?).ok()
    }

    pub fn bool(&self, id: i64) -> Option<bool> {
        match self.get(id)? {
            Self::Bool(is) => Some(*is),
            _ => None,
        }
    }

    pub fn bytes(&self, id: i64) -> Option<&'a [u8]> {
        match self.get(id)? {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub fn list(&self, id: i64) -> Option<&[Self]> {
        match self.get(id)? {
            Self::List(items) => Some(items),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::new();
        writer.i32(1, -5);
        writer.bool(2, true);
        writer.structs(4, &[1, 2, 3], |writer, number| writer.i64(1, *number));
        writer.inner(5, |writer| writer.binary(3, b"abc"));
        writer.i32s(6, &[7; 20]);
        writer.binaries(7, &["a", "b"]);
        writer.end();
        let mut from = Reader(&writer.bytes);
        let read = Thrift::read(&mut from).unwrap();
        assert!(from.0.is_empty());
        assert_eq!((read.int(1), read.bool(2)), (Some(-5), Some(true)));
        assert_eq!(read.list(4).unwrap()[2].int(1), Some(3));
        assert_eq!(read.get(5).unwrap().bytes(3), Some(&b"abc"[..]));
        assert_eq!(read.list(6).unwrap().len(), 20);
        assert_eq!(read.list(7).unwrap()[1], Thrift::Bytes(b"b"));
        for end in 0..writer.bytes.len() {
            assert_eq!(Thrift::read(&mut Reader(&writer.bytes[..end])), None);
        }
        assert_eq!(Thrift::read(&mut Reader(&[0x1c; 99])), None);
    }
}
