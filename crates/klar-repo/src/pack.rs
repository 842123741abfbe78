//! Packs: many blobs in one object, and behind them a header that says what they are.
//!
//! ```text
//! pack   = sealed blob … ‖ sealed header ‖ length of the sealed header (4 bytes)
//! header = (kind (1 byte) ‖ sealed length (4) ‖ plain length (4, only where compressed) ‖ id (32)) …
//! ```

use crate::crypto::OVERHEAD;
use crate::index::{self, Blob, BlobKind};
use crate::{Id, Kind, Object, ReadError, Repository};

/// A pack is written when it is so long.
pub(crate) const FULL: usize = 16 << 20;
/// Or has so many blobs: restic reads no header of more than 16 MiB.
const FULL_BLOBS: usize = 50_000;
/// A pack with nothing in it.
pub(crate) const LENGTH_EMPTY: u64 = OVERHEAD as u64 + 4;

/// What a blob takes in the header; `plain` is 0 where it is not compressed.
pub(crate) fn entry_length(plain: u32) -> usize {
    if plain == 0 { 37 } else { 41 }
}

/// A pack that is being filled: with blobs of one kind, as restic wants it.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    bytes: Vec<u8>,
    blobs: Vec<Blob>,
}

/// A pack ready to be written.
pub(crate) struct Built {
    pub bytes: Vec<u8>,
    pub pack: index::Pack,
}

impl Builder {
    /// Takes a sealed blob; `plain` is the length of its content where that was compressed, otherwise 0.
    pub fn push(&mut self, kind: BlobKind, id: Id, sealed: &[u8], plain: u32) {
        // Blobs are far shorter than 4 GiB, and packs not much longer than 16 MiB and one blob.
        let (offset, length) = (self.bytes.len() as u32, sealed.len() as u32);
        self.bytes.extend_from_slice(sealed);
        self.blobs.push(Blob { id, kind, offset, length, uncompressed_length: plain });
    }

    pub fn is_full(&self) -> bool {
        self.bytes.len() >= FULL || self.blobs.len() >= FULL_BLOBS
    }

    /// What there is, as a pack; nothing, where there is nothing. It is empty then.
    pub fn build(&mut self, repository: &Repository) -> Result<Option<Built>, &'static str> {
        let Builder { mut bytes, blobs } = std::mem::take(self);
        if blobs.is_empty() {
            return Ok(None);
        }
        let mut header = Vec::with_capacity(blobs.len() * entry_length(1));
        for blob in &blobs {
            let is_packed = blob.uncompressed_length > 0;
            header.push(u8::from(blob.kind == BlobKind::Tree) | u8::from(is_packed) << 1);
            header.extend_from_slice(&blob.length.to_le_bytes());
            if is_packed {
                header.extend_from_slice(&blob.uncompressed_length.to_le_bytes());
            }
            header.extend_from_slice(blob.id.as_bytes());
        }
        let header = repository.seal_bytes(&header)?;
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
        let id = Id::of(&bytes);
        Ok(Some(Built { bytes, pack: index::Pack { id, blobs } }))
    }
}

/// What the header of a whole pack says.
pub(crate) fn blobs(repository: &Repository, pack: Id, bytes: &[u8]) -> Result<Vec<Blob>, ReadError> {
    let damaged = |why: &str| {
        let object = Object::Stored(Kind::Pack, pack);
        ReadError::Damaged { object, why: format!("its header {why}") }
    };
    let (rest, length) = bytes.split_last_chunk::<4>().ok_or_else(|| damaged("is missing"))?;
    let length = u32::from_le_bytes(*length) as usize;
    let at = rest.len().checked_sub(length).ok_or_else(|| damaged("is longer than itself"))?;
    let header = repository.open_bytes(&rest[at..]).ok_or_else(|| damaged("does not open"))?;
    let (mut blobs, mut rest, mut offset) = (Vec::new(), &*header, 0_u32);
    while !rest.is_empty() {
        let (blob, next) = entry(rest, offset).ok_or_else(|| damaged("cannot be read"))?;
        offset = offset.checked_add(blob.length).ok_or_else(|| damaged("names too many bytes"))?;
        blobs.push(blob);
        rest = next;
    }
    match offset as usize == at {
        true => Ok(blobs),
        false => Err(damaged("names another number of bytes than there are")),
    }
}

fn entry(header: &[u8], offset: u32) -> Option<(Blob, &[u8])> {
    let number = |rest: &mut &[u8]| {
        let (bytes, after) = rest.split_first_chunk::<4>()?;
        *rest = after;
        Some(u32::from_le_bytes(*bytes))
    };
    let (kind, mut rest) = header.split_first()?;
    let length = number(&mut rest)?;
    let uncompressed_length = if kind & 2 == 2 { number(&mut rest)? } else { 0 };
    let (id, rest) = rest.split_first_chunk::<32>()?;
    let kind = match kind {
        0 | 2 => BlobKind::Data,
        1 | 3 => BlobKind::Tree,
        _ => return None,
    };
    Some((Blob { id: Id::from(*id), kind, offset, length, uncompressed_length }, rest))
}
