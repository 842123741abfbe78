//! Base64 (RFC 4648, section 4), strictly and with everything forgiven.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const NONE: u8 = 0xff;
/// The six bits of each byte of the alphabet, `NONE` for any other.
const SIX_BITS: [u8; 256] = {
    let mut bits = [NONE; 256];
    let mut at = 0;
    while at < 64 {
        bits[ALPHABET[at] as usize] = at as u8;
        at += 1;
    }
    bits
};

pub(super) fn encode(value: &[u8], out: &mut Vec<u8>) {
    for three in value.chunks(3) {
        let bits =
            three.iter().fold(0, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * at) & 0x3f) as usize];
            out.push(if at <= three.len() { letter } else { b'=' });
        }
    }
}

/// Six bits each, put together to bytes; what is left of the last four letters is `None` where they are not filled.
struct Joined<'a> {
    out: &'a mut Vec<u8>,
    bits: u32,
    count: usize,
}

impl Joined<'_> {
    fn push(&mut self, six_bits: u8) {
        self.bits = (self.bits << 6) | u32::from(six_bits);
        self.count += 1;
        if self.count == 4 {
            self.flush();
        }
    }

    /// Takes what a value begins with of whole fours of letters, and says how many these are. Nothing may be left over.
    fn push_fours(&mut self, rest: &mut &[u8]) -> usize {
        let fours = run(rest) / 4;
        let (letters, after) = rest.split_at(fours * 4);
        let begin = self.out.len();
        self.out.resize(begin + fours * 3, 0);
        let threes = self.out.get_mut(begin..).unwrap_or_default().chunks_exact_mut(3);
        for (four, three) in letters.chunks_exact(4).zip(threes) {
            let bits =
                four.iter().fold(0, |bits, letter| (bits << 6) | u32::from(SIX_BITS[usize::from(*letter)]));
            three.copy_from_slice(&[(bits >> 16) as u8, (bits >> 8) as u8, bits as u8]);
        }
        *rest = after;
        fours * 4
    }

    /// Writes the whole bytes that there are.
    fn flush(&mut self) {
        let bits = self.bits << (6 * (4 - self.count));
        let bytes = [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8];
        self.out.extend(bytes.iter().take(self.count.saturating_sub(1)));
        (self.bits, self.count) = (0, 0);
    }
}

/// How many letters of the alphabet a value begins with.
fn run(value: &[u8]) -> usize {
    value.iter().position(|byte| SIX_BITS[usize::from(*byte)] == NONE).unwrap_or(value.len())
}

/// Nothing at all unless it is all Base64, up to its first zero byte. Line ends do not count, nor do letters at the end
/// that are no whole four.
pub(super) fn decode(value: &[u8], out: &mut Vec<u8>) {
    let value = value.get(..memchr::memchr(0, value).unwrap_or(value.len())).unwrap_or_default();
    let Some(letters) = check(value) else { return };
    let mut joined = Joined { out, bits: 0, count: 0 };
    let whole = letters / 4 * 4;
    let mut seen = 0;
    let mut rest = value;
    loop {
        if joined.count == 0 {
            seen += joined.push_fours(&mut rest);
            if seen >= whole {
                return;
            }
        }
        let [byte, after @ ..] = rest else { return };
        rest = after;
        let six_bits = SIX_BITS[usize::from(*byte)];
        if *byte == b'=' {
            seen += 1;
            if seen == whole {
                joined.flush();
            }
        } else if six_bits != NONE {
            seen += 1;
            joined.push(six_bits);
        }
        if seen >= whole {
            return;
        }
    }
}

/// How many letters there are, the filling `=` with them; `None` where it is no Base64. Spaces stand at line ends only.
fn check(value: &[u8]) -> Option<usize> {
    let (mut letters, mut filling) = (0, 0);
    let mut rest = value;
    loop {
        if filling == 0 {
            let letters_here = run(rest);
            letters += letters_here;
            rest = rest.get(letters_here..)?;
        }
        let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
        rest = rest.get(spaces..)?;
        match rest {
            [] => return Some(letters),
            [b'\r', b'\n', after @ ..] | [b'\n', after @ ..] => rest = after,
            [byte, after @ ..] => {
                if spaces > 0 {
                    return None;
                }
                if *byte == b'=' {
                    filling += 1;
                } else if filling > 0 || SIX_BITS[usize::from(*byte)] == NONE {
                    return None;
                }
                if filling > 2 {
                    return None;
                }
                letters += 1;
                rest = after;
            }
        }
    }
}

/// What can be made of it: all other bytes are passed over.
///
/// A single letter behind the last whole four makes nothing of all where `=` follows it, and where it is a `9`, which
/// the reference takes for one.
pub(super) fn decode_ext(value: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    let mut joined = Joined { out, bits: 0, count: 0 };
    let mut rest = value;
    loop {
        if joined.count == 0 {
            joined.push_fours(&mut rest);
        }
        let [byte, after @ ..] = rest else { break };
        rest = after;
        let six_bits = SIX_BITS[usize::from(*byte)];
        if *byte == b'=' {
            if after.first() != Some(&b'=') && joined.count == 1 {
                joined.out.truncate(begin);
                return;
            }
        } else if six_bits != NONE {
            joined.push(six_bits);
        }
    }
    if joined.count == 1 && matches!(value.last(), Some(b'=' | b'9')) {
        joined.out.truncate(begin);
        return;
    }
    joined.flush();
}
