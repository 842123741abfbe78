//! The description at the end of a file, and the heads of its pages.
//!
//! The description is needed only by others, and where a sidecar is lost: then [`walk`] finds all pages again.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::thrift::{Thrift, Writer};
use super::{Chunk, Directory, Fault, Group, Page, encoding, ordered};
use crate::bytes::Reader;
use crate::table::Kind;

pub const MAGIC: &[u8; 4] = b"PAR1";
const COLUMNS: &str = "klar.columns";
const HEADS: &str = "klar.heads";
const SELF: &str = "klar.self";
/// No description is longer.
const FOOTER_MAX: usize = 256 << 20;
/// No head of a page is longer.
const HEAD_MAX: usize = 256;

/// What a column is in the terms of the format: its type, how long each value is, and what it stands for.
pub const fn physical(kind: Kind) -> (i32, Option<i32>, Option<i32>) {
    const UTF8: Option<i32> = Some(0);
    match kind {
        Kind::Time => (2, None, Some(10)),
        Kind::Dict | Kind::Text | Kind::Map => (6, None, UTF8),
        Kind::U16 => (1, None, Some(12)),
        Kind::U32 => (1, None, Some(13)),
        Kind::U64 => (2, None, Some(14)),
        Kind::I64 => (2, None, None),
        Kind::F64 => (5, None, None),
        Kind::Bool => (0, None, None),
        Kind::Fixed8 => (7, Some(8), None),
        Kind::Fixed16 => (7, Some(16), None),
    }
}

/// The head of a page.
pub fn head(page: &Page, rows: u32, is_dict: bool) -> Vec<u8> {
    let mut head = Writer::new();
    head.i32(1, if is_dict { 2 } else { 3 });
    head.i32(2, (page.raw + page.levels + page.repeats) as i32);
    head.i32(3, page.length as i32);
    head.i32(4, page.seal as i32);
    if is_dict {
        head.inner(7, |head| {
            head.i32(1, page.values as i32);
            head.i32(2, i32::from(encoding::PLAIN));
        });
    } else {
        head.inner(8, |head| {
            head.i32(1, page.values as i32);
            head.i32(2, page.nulls as i32);
            head.i32(3, rows as i32);
            head.i32(4, i32::from(page.encoding));
            head.i32(5, page.levels as i32);
            head.i32(6, page.repeats as i32);
            head.bool(7, page.is_packed);
        });
    }
    head.end();
    head.bytes
}

/// Reads a head. The pages that it is for are those of `head`.
fn read_head(from: &mut Reader) -> Option<(Page, u32, bool)> {
    let head = Thrift::read(from)?;
    let number = |thrift: &Thrift, id| u32::try_from(thrift.int(id)?).ok();
    let (is_dict, inner) = match head.int(1)? {
        2 => (true, head.get(7)?),
        3 => (false, head.get(8)?),
        _ => return None,
    };
    let mut page = Page {
        length: number(&head, 3)?,
        seal: head.int(4)? as i32 as u32,
        values: number(inner, 1)?,
        ..Page::default()
    };
    let mut rows = 0;
    if !is_dict {
        page.nulls = number(inner, 2)?;
        rows = number(inner, 3)?;
        page.encoding = u8::try_from(inner.int(4)?).ok()?;
        (page.levels, page.repeats) = (number(inner, 5)?, number(inner, 6)?);
        page.is_packed = inner.bool(7)?;
    }
    page.raw = number(&head, 2)?.checked_sub(page.levels.checked_add(page.repeats)?)?;
    Some((page, rows, is_dict))
}

fn number_bytes(kind: Kind, number: i64) -> Vec<u8> {
    match kind {
        Kind::Bool => vec![number as u8],
        Kind::U16 | Kind::U32 => (number as u32).to_le_bytes().to_vec(),
        _ => number.to_le_bytes().to_vec(),
    }
}

struct Leaf<'a> {
    path: Vec<&'a str>,
    kind: Kind,
}

fn leaves(directory: &Directory) -> Vec<Leaf<'_>> {
    let mut leaves = Vec::new();
    for (name, kind, _) in &directory.columns {
        if *kind == Kind::Map {
            for part in ["key", "value"] {
                leaves.push(Leaf { path: vec![name, "key_value", part], kind: *kind });
            }
        } else {
            leaves.push(Leaf { path: vec![name], kind: *kind });
        }
    }
    leaves
}

/// One of the elements of which a schema is.
struct Element<'a> {
    name: &'a str,
    /// 0 there is one, 1 there may be one, 2 there are many.
    repetition: Option<i32>,
    kind: Option<Kind>,
    children: Option<i32>,
    converted: Option<i32>,
}

fn schema(directory: &Directory) -> Vec<Element<'_>> {
    let leaf = |name, kind, repetition| Element {
        name,
        repetition: Some(repetition),
        kind: Some(kind),
        children: None,
        converted: physical(kind).2,
    };
    let branch = |name, repetition, children, converted| Element {
        name,
        repetition,
        kind: None,
        children: Some(children),
        converted,
    };
    let mut elements = vec![branch("rows", None, directory.columns.len() as i32, None)];
    for (place, (name, kind, _)) in directory.columns.iter().enumerate() {
        if *kind == Kind::Map {
            elements.push(branch(name, Some(1), 1, Some(1)));
            elements.push(branch("key_value", Some(2), 2, None));
            elements.push(leaf("key", Kind::Text, 0));
            elements.push(leaf("value", Kind::Text, 0));
        } else {
            elements.push(leaf(name, *kind, i32::from(place > 0)));
        }
    }
    elements
}

/// The description of a file, as it stands at its end. `heads`: the checksum of all heads of pages.
pub fn footer(directory: &Directory, heads: u32) -> Vec<u8> {
    let columns: Vec<String> =
        directory.columns.iter().map(|(name, kind, _)| format!("{name}={}", *kind as u8)).collect();
    let leaves = leaves(directory);
    let mut out = Writer::new();
    out.i32(1, 2);
    out.structs(2, &schema(directory), |out, element| {
        if let Some(kind) = element.kind {
            let (kind, length, _) = physical(kind);
            out.i32(1, kind);
            if let Some(length) = length {
                out.i32(2, length);
            }
        }
        if let Some(repetition) = element.repetition {
            out.i32(3, repetition);
        }
        out.binary(4, element.name.as_bytes());
        if let Some(children) = element.children {
            out.i32(5, children);
        }
        if let Some(converted) = element.converted {
            out.i32(6, converted);
        }
    });
    out.i64(3, directory.rows() as i64);
    out.structs(4, &directory.groups, |out, group| write_group(out, group, &leaves));
    let pairs = [
        (COLUMNS, columns.join(",")),
        (HEADS, format!("{heads:08x}")),
        // Sealed as if this was zeros.
        (SELF, "00000000".to_owned()),
    ];
    out.structs(5, &pairs, |out, (name, text)| {
        out.binary(1, name.as_bytes());
        out.binary(2, text.as_bytes());
    });
    out.binary(6, b"klar");
    out.structs(7, &leaves, |out, _| out.inner(1, |_| {}));
    out.end();
    let mut bytes = out.bytes;
    let seal = format!("{:08x}", crc32fast::hash(&bytes));
    if let Some(at) = memchr::memmem::rfind(&bytes, SELF.as_bytes()) {
        // Behind the name there is the kind of the next field and its length.
        let at = at + SELF.len() + 2;
        bytes[at..at + 8].copy_from_slice(seal.as_bytes());
    }
    bytes
}

fn write_group(out: &mut Writer, group: &Group, leaves: &[Leaf]) {
    let stored = |chunk: &Chunk| -> i64 {
        let first = chunk.dict.iter().chain(&chunk.pages).next();
        let start = first.map_or(0, |page| start(page, chunk.dict.is_some(), group));
        chunk.pages.last().map_or(0, |last| (last.at + u64::from(last.length)).saturating_sub(start) as i64)
    };
    let raw = |chunk: &Chunk| -> i64 {
        let mut pages = chunk.dict.iter().map(|page| (page, true, 0)).collect::<Vec<_>>();
        pages.extend(chunk.pages.iter().zip(&group.granules).map(|(page, rows)| (page, false, *rows)));
        let size = |(page, is_dict, rows): (&Page, bool, u32)| {
            head(page, rows, is_dict).len() as i64 + i64::from(page.raw + page.levels + page.repeats)
        };
        pages.into_iter().map(size).sum()
    };
    let items: Vec<(&Chunk, &Leaf)> = group.chunks.iter().zip(leaves).collect();
    out.structs(1, &items, |out, (chunk, leaf)| {
        let is_packed = chunk.pages.iter().any(|page| page.is_packed);
        let begin = chunk.pages.first().map_or(0, |page| start(page, false, group));
        out.i64(2, 0);
        out.inner(3, |out| {
            out.i32(1, physical(leaf.kind).0);
            let mut encodings: Vec<i32> = chunk.pages.iter().map(|page| i32::from(page.encoding)).collect();
            encodings.extend([i32::from(encoding::RLE), i32::from(encoding::PLAIN)]);
            encodings.sort_unstable();
            encodings.dedup();
            out.i32s(2, &encodings);
            out.binaries(3, &leaf.path);
            out.i32(4, if is_packed { 6 } else { 0 });
            out.i64(5, chunk.pages.iter().map(|page| i64::from(page.values)).sum());
            out.i64(6, raw(chunk));
            out.i64(7, stored(chunk));
            out.i64(9, begin as i64);
            if let Some(dict) = &chunk.dict {
                out.i64(11, start(dict, true, group) as i64);
            }
            let nulls: i64 = chunk.pages.iter().map(|page| i64::from(page.nulls)).sum();
            out.inner(12, |out| {
                out.i64(3, nulls);
                let some = || chunk.pages.iter().filter(|page| page.nulls < page.values);
                let (least, most) = (some().map(|page| page.least).min(), some().map(|page| page.most).max());
                // Fractions may be no numbers at all, and readers disagree about zeros with a sign.
                if let (Some(least), Some(most), true) =
                    (least, most, leaf.kind.is_number() && leaf.kind != Kind::F64)
                {
                    out.binary(5, &number_bytes(leaf.kind, ordered(leaf.kind, most)));
                    out.binary(6, &number_bytes(leaf.kind, ordered(leaf.kind, least)));
                }
            });
        });
    });
    out.i64(2, group.chunks.iter().map(raw).sum());
    out.i64(3, group.granules.iter().map(|rows| i64::from(*rows)).sum());
    out.structs(4, &[()], |out, ()| {
        out.i32(1, 0);
        out.bool(2, false);
        out.bool(3, false);
    });
    out.i64(6, group.chunks.iter().map(stored).sum());
}

/// Where the head of a page begins, which is just before it. Of data pages this is asked for the first one only.
fn start(page: &Page, is_dict: bool, group: &Group) -> u64 {
    let rows = group.granules.first().copied().unwrap_or_default();
    page.at - head(page, rows, is_dict).len() as u64
}

/// Finds all pages of a file, by its description and the heads of pages alone. The least and most of numbers are left
/// open: nothing is unpacked here.
pub fn walk(file: &File) -> Result<Directory, Fault> {
    let size = file.metadata()?.len();
    let wrong = Fault::Damaged;
    let mut tail = [0; 8];
    let tail_at = size.checked_sub(12).ok_or(wrong("shorter than any file of rows"))? + 4;
    file.read_exact_at(&mut tail, tail_at)?;
    let (length, magic) = tail.split_at(4);
    if magic != MAGIC {
        return Err(wrong("its end is not that of a Parquet file"));
    }
    let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
    if length > FOOTER_MAX || length as u64 > tail_at {
        return Err(wrong("its description is longer than it can be"));
    }
    let mut footer = vec![0; length];
    file.read_exact_at(&mut footer, tail_at - length as u64)?;
    let sealed = memchr::memmem::rfind(&footer, SELF.as_bytes()).and_then(|at| {
        let at = at + SELF.len() + 2;
        let seal = u32::from_str_radix(std::str::from_utf8(footer.get(at..at + 8)?).ok()?, 16).ok()?;
        footer[at..at + 8].copy_from_slice(b"00000000");
        (crc32fast::hash(&footer) == seal).then_some(())
    });
    sealed.ok_or(wrong("the checksum of its description is wrong"))?;
    let description = Thrift::read(&mut Reader(&footer)).ok_or(wrong("its description cannot be read"))?;
    let bare = described(&description).ok_or(wrong("its description lacks something"))?;
    let (mut directory, heads) = (bare.directory, bare.heads);
    let mut found = crc32fast::Hasher::new();
    for (starts, counts) in bare.chunks {
        let mut group = Group::default();
        for (place, (start, end)) in starts.into_iter().enumerate() {
            let mut chunk = Chunk::default();
            let (mut at, mut granules) = (start, Vec::new());
            while at < end {
                let mut bytes = vec![0; HEAD_MAX.min((tail_at - at.min(tail_at)) as usize)];
                file.read_exact_at(&mut bytes, at)?;
                let mut from = Reader(&bytes);
                let (mut page, rows, is_dict) =
                    read_head(&mut from).ok_or(wrong("the head of a page cannot be read"))?;
                let head_length = bytes.len() - from.0.len();
                found.update(&bytes[..head_length]);
                page.at = at + head_length as u64;
                at = page.at + u64::from(page.length);
                if is_dict {
                    page.is_packed =
                        bare.packed.get(directory.groups.len()).and_then(|all| all.get(place)) == Some(&true);
                    chunk.dict = Some(page);
                } else {
                    chunk.pages.push(page);
                    granules.push(rows);
                }
            }
            if place == 0 {
                group.granules = granules;
            } else if group.granules != granules {
                return Err(wrong("its columns have different rows"));
            }
            group.chunks.push(chunk);
        }
        if group.granules.iter().map(|rows| u64::from(*rows)).sum::<u64>() != counts {
            return Err(wrong("a row group has other rows than its description says"));
        }
        directory.groups.push(group);
    }
    if found.finalize() != heads {
        return Err(wrong("the checksum of the heads of its pages is wrong"));
    }
    Ok(directory)
}

/// What a description says, without the pages.
struct Bare {
    directory: Directory,
    heads: u32,
    /// Of each row group where its chunks begin and end, and its rows.
    chunks: Vec<(Vec<(u64, u64)>, u64)>,
    packed: Vec<Vec<bool>>,
}

fn described(description: &Thrift) -> Option<Bare> {
    let pair = |name: &str| {
        let pairs = description.list(5)?;
        let pair = pairs.iter().find(|pair| pair.bytes(1) == Some(name.as_bytes()))?;
        std::str::from_utf8(pair.bytes(2)?).ok()
    };
    let mut directory = Directory::default();
    let mut leaf = 0;
    for column in pair(COLUMNS)?.split(',') {
        let (name, kind) = column.split_once('=')?;
        let kind = *Kind::ALL.get(kind.parse::<usize>().ok()?)?;
        directory.columns.push((name.to_owned(), kind, leaf));
        leaf += if kind == Kind::Map { 2 } else { 1 };
    }
    let heads = u32::from_str_radix(pair(HEADS)?, 16).ok()?;
    let (mut chunks, mut packed) = (Vec::new(), Vec::new());
    for group in description.list(4)? {
        let (mut spans, mut are_packed) = (Vec::new(), Vec::new());
        for chunk in group.list(1)? {
            let chunk = chunk.get(3)?;
            let start = chunk.size(11).or(chunk.size(9))? as u64;
            spans.push((start, start.checked_add(chunk.size(7)? as u64)?));
            are_packed.push(chunk.int(4)? == 6);
        }
        (spans.len() == leaf).then_some(())?;
        chunks.push((spans, group.size(3)? as u64));
        packed.push(are_packed);
    }
    Some(Bare { directory, heads, chunks, packed })
}
