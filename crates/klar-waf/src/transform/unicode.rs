//! UTF-8 written as `%u` escapes.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// `%u` and the number of each character beyond ASCII, in at least four digits.
///
/// What is no UTF-8 is lost but for bytes that never begin a character, and so are zero bytes. A character that is
/// written too long, or that is half of a surrogate pair, has its first byte put behind it.
pub(super) fn utf8_to_unicode(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        let first = *first;
        rest = after;
        match first {
            0 => {}
            0x01..=0x7f => out.push(first),
            // Goes on, or is more than there is.
            0x80..=0xbf | 0xf8.. => out.push(first),
            0xc0..=0xf7 => {
                if first >= 0xf5 {
                    out.push(first);
                }
                let (count, least, bits) = match first {
                    0xc0..=0xdf => (1, 0x80, first & 0x1f),
                    0xe0..=0xef => (2, 0x800, first & 0x0f),
                    _ => (3, 0x1_0000, first & 0x07),
                };
                let Some(code) = continued(after, count, bits) else { continue };
                escape(code, out);
                if (0xd800..=0xdfff).contains(&code) {
                    out.push(first);
                }
                if code < least {
                    out.push(first);
                }
                rest = after.get(count..).unwrap_or_default();
            }
        }
    }
}

/// The number of a character of which `count` bytes follow; none where one of them does not go on with it.
fn continued(rest: &[u8], count: usize, bits: u8) -> Option<u32> {
    rest.get(..count)?.iter().try_fold(u32::from(bits), |code, byte| {
        (byte & 0xc0 == 0x80).then_some((code << 6) | u32::from(byte & 0x3f))
    })
}

fn escape(code: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"%u");
    let count = (32 - code.leading_zeros()).div_ceil(4).max(4);
    out.extend((0..count).rev().map(|digit| DIGITS[((code >> (4 * digit)) & 0xf) as usize]));
}
