//! Case, white space, parity and the command line: what is decided byte by byte.

use crate::bytes::Presence;

/// White space as C has it.
pub(super) const SPACES: Presence = Presence::all_of(b" \t\n\x0b\x0c\r");
/// What `removeWhitespace` takes out: also both bytes of a non-breaking space in UTF-8, wherever they stand.
pub(super) const SPACES_AND_NBSP: Presence = SPACES.or(&Presence::all_of(b"\xa0\xc2"));
pub(super) const UPPER: Presence = Presence::range(b'A', b'Z');
pub(super) const LOWER: Presence = Presence::range(b'a', b'z');
/// What `cmdLine` can begin to change: it joins words and `/` or `(` only across a space.
pub(super) const CMD_LINE: Presence = UPPER.or(&Presence::all_of(b"\"'\\^,; \t\r\n"));
/// What `urlEncode` leaves as it is.
pub(super) const URL_PLAIN: Presence =
    UPPER.or(&LOWER).or(&Presence::range(b'0', b'9')).or(&Presence::all_of(b"*"));

type Map = [u8; 256];

pub(super) const TO_LOWER: Map = flipped(b'A');
pub(super) const TO_UPPER: Map = flipped(b'a');
pub(super) const TO_EVEN: Map = parity(0);
pub(super) const TO_ODD: Map = parity(1);
pub(super) const TO_ZERO: Map = zero_parity();
pub(super) const TO_NO_NULLS: Map = {
    let mut map = identity();
    map[0] = b' ';
    map
};
pub(super) const NOT_EVEN: Presence = moved(&TO_EVEN);
pub(super) const NOT_ODD: Presence = moved(&TO_ODD);
pub(super) const NOT_ZERO: Presence = moved(&TO_ZERO);

const fn identity() -> Map {
    let mut map = [0; 256];
    let mut at = 0;
    while at < 256 {
        map[at] = at as u8;
        at += 1;
    }
    map
}

/// The letters from `first` on with the other case.
const fn flipped(first: u8) -> Map {
    let mut map = identity();
    let mut at = first as usize;
    while at < first as usize + 26 {
        map[at] = at as u8 ^ 0x20;
        at += 1;
    }
    map
}

/// The eighth bit such that the number of ones, modulo 2, is `odd`; the bit itself is counted, as the reference does.
const fn parity(odd: u32) -> Map {
    let mut map = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        map[at] = if byte.count_ones() % 2 == odd { byte & 0x7f } else { byte | 0x80 };
        at += 1;
    }
    map
}

const fn zero_parity() -> Map {
    let mut map = [0; 256];
    let mut at = 0;
    while at < 256 {
        map[at] = at as u8 & 0x7f;
        at += 1;
    }
    map
}

/// The bytes that a map changes.
const fn moved(map: &Map) -> Presence {
    let mut set = Presence::all_of(b"");
    let mut at = 0;
    while at < 256 {
        if map[at] != at as u8 {
            set.insert(at as u8);
        }
        at += 1;
    }
    set
}

/// Each byte as the map has it.
pub(super) fn mapped(value: &[u8], map: &Map, out: &mut Vec<u8>) {
    out.extend(value.iter().map(|byte| map[usize::from(*byte)]));
}

/// All bytes but these.
pub(super) fn without(value: &[u8], dropped: &Presence, out: &mut Vec<u8>) {
    let mut table = [0_usize; 256];
    for (byte, kept) in (0..=u8::MAX).zip(&mut table) {
        *kept = usize::from(!dropped.has(byte));
    }
    // Each is written, and the next one over it where it is to be left out.
    let begin = out.len();
    out.resize(begin + value.len(), 0);
    let (room, mut len) = (out.get_mut(begin..).unwrap_or_default(), 0);
    for byte in value {
        if let Some(place) = room.get_mut(len) {
            *place = *byte;
        }
        len += table[usize::from(*byte)];
    }
    out.truncate(begin + len);
}

/// Whether C has it for white space.
pub(crate) fn is_space(byte: u8) -> bool {
    SPACES.has(byte)
}

/// Without the white space before it.
pub(crate) fn trimmed_left(value: &[u8]) -> &[u8] {
    let begin = value.iter().position(|byte| !is_space(*byte)).unwrap_or(value.len());
    value.get(begin..).unwrap_or_default()
}

/// Without the white space behind it.
pub(crate) fn trimmed_right(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|byte| !is_space(*byte)).map_or(0, |last| last + 1);
    value.get(..end).unwrap_or_default()
}

/// A number in decimal digits.
pub(crate) fn decimal(mut number: usize, out: &mut Vec<u8>) {
    let begin = out.len();
    loop {
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(begin..) {
        digits.reverse();
    }
}

/// One space for each run of white space.
pub(super) fn compress_whitespace(value: &[u8], out: &mut Vec<u8>) {
    let mut is_inside = false;
    for byte in value {
        let is_white = is_space(*byte);
        if !is_white {
            out.push(*byte);
        } else if !is_inside {
            out.push(b' ');
        }
        is_inside = is_white;
    }
}

/// How a byte is taken in a command line.
#[derive(Clone, Copy)]
enum Word {
    Kept(u8),
    Dropped,
    Space,
    /// Takes the space before it away.
    Joining,
}

const WORDS: [Word; 256] = {
    let mut words = [Word::Dropped; 256];
    let mut at = 0;
    while at < 256 {
        words[at] = match at as u8 {
            b'"' | b'\'' | b'\\' | b'^' => Word::Dropped,
            b' ' | b',' | b';' | b'\t' | b'\r' | b'\n' => Word::Space,
            b'/' | b'(' => Word::Joining,
            byte => Word::Kept(byte.to_ascii_lowercase()),
        };
        at += 1;
    }
    words
};

/// As a shell and its user would both read it: no quotes and escapes, one space between words, none before `/` and `(`.
pub(super) fn cmd_line(value: &[u8], out: &mut Vec<u8>) {
    let mut is_space_last = false;
    for byte in value {
        match WORDS[usize::from(*byte)] {
            Word::Dropped => {}
            Word::Space => {
                if !is_space_last {
                    out.push(b' ');
                }
                is_space_last = true;
            }
            Word::Joining => {
                if is_space_last {
                    out.pop();
                }
                is_space_last = false;
                out.push(*byte);
            }
            Word::Kept(byte) => {
                is_space_last = false;
                out.push(byte);
            }
        }
    }
}
