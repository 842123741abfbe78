//! Escapes of URLs, HTML, CSS, JavaScript, C and SQL, and hexadecimal text.

use memchr::{memchr, memchr2};

use super::text::{URL_PLAIN, is_space};

/// The value of a hexadecimal digit, `NONE` for any other byte.
const HEX: [u8; 256] = {
    let mut digits = [NONE; 256];
    let mut at = 0;
    while at < 256 {
        digits[at] = match at as u8 {
            byte @ b'0'..=b'9' => byte - b'0',
            byte @ b'a'..=b'f' => byte - b'a' + 10,
            byte @ b'A'..=b'F' => byte - b'A' + 10,
            _ => NONE,
        };
        at += 1;
    }
    digits
};
const NONE: u8 = 0xff;
/// What `nbsp` stands for.
const NBSP: u8 = 0xa0;

fn is_hex(byte: u8) -> bool {
    HEX[usize::from(byte)] != NONE
}

/// The byte that two hexadecimal digits stand for.
fn pair(high: u8, low: u8) -> Option<u8> {
    let (high, low) = (HEX[usize::from(high)], HEX[usize::from(low)]);
    (high != NONE && low != NONE).then_some((high << 4) | low)
}

fn digits(value: &[u8], most: usize, is_digit: impl Fn(u8) -> bool) -> &[u8] {
    let value = value.get(..most.min(value.len())).unwrap_or_default();
    let end = value.iter().position(|byte| !is_digit(*byte)).unwrap_or(value.len());
    value.get(..end).unwrap_or_default()
}

fn is_octal(byte: u8) -> bool {
    matches!(byte, b'0'..=b'7')
}

/// Octal digits as a number, of which the lower eight bits count.
fn octal(digits: &[u8]) -> u8 {
    digits.iter().fold(0, |number: u8, digit| (number << 3) | (digit - b'0'))
}

/// The low byte of four hexadecimal digits; a full-width character (U+FF01 to U+FF5E) gives the one it looks like.
fn low_byte(first: u8, second: u8, low: u8) -> u8 {
    let is_full_width = matches!((first, second), (b'f' | b'F', b'f' | b'F')) && (0x01..=0x5e).contains(&low);
    if is_full_width { low + 0x20 } else { low }
}

/// Copies what holds no escape, and has `one` write each escape: it is given the rest from there on, and says how much
/// of it is done.
fn each(
    value: &[u8],
    out: &mut Vec<u8>,
    find: impl Fn(&[u8]) -> Option<usize>,
    mut one: impl FnMut(&[u8], &mut Vec<u8>) -> usize,
) {
    let mut rest = value;
    while let Some((plain, escape)) = find(rest).and_then(|at| rest.split_at_checked(at)) {
        out.extend_from_slice(plain);
        let done = one(escape, out);
        rest = escape.get(done..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// Copies the first bytes of an escape that is none.
fn as_is(escape: &[u8], length: usize, out: &mut Vec<u8>) -> usize {
    let length = length.min(escape.len());
    out.extend_from_slice(escape.get(..length).unwrap_or_default());
    length
}

/// `%41` and `+`. Whether each `%` was the beginning of two digits.
pub(crate) fn url(value: &[u8], out: &mut Vec<u8>) -> bool {
    let mut is_valid = true;
    each(
        value,
        out,
        |rest| memchr2(b'%', b'+', rest),
        |escape, out| {
            match *escape {
                [b'+', ..] => out.push(b' '),
                [_, high, low, ..] => {
                    if let Some(byte) = pair(high, low) {
                        out.push(byte);
                        return 3;
                    }
                    is_valid = false;
                    out.push(b'%');
                }
                _ => {
                    is_valid = false;
                    out.push(b'%');
                }
            }
            1
        },
    );
    is_valid
}

/// As [`url`], and `%u0041`. The higher byte of it is left away: what a server without a table of its code page does.
pub(super) fn url_uni(value: &[u8], out: &mut Vec<u8>) {
    each(
        value,
        out,
        |rest| memchr2(b'%', b'+', rest),
        |escape, out| match *escape {
            [b'+', ..] => {
                out.push(b' ');
                1
            }
            [_, b'u' | b'U', ref code @ ..] => match *code {
                [first, second, high, low, ..] if is_hex(first) && is_hex(second) => match pair(high, low) {
                    Some(low) => {
                        out.push(low_byte(first, second, low));
                        6
                    }
                    None => as_is(escape, 2, out),
                },
                _ => as_is(escape, 2, out),
            },
            [_, high, low, ..] => match pair(high, low) {
                Some(byte) => {
                    out.push(byte);
                    3
                }
                None => as_is(escape, 1, out),
            },
            _ => as_is(escape, 1, out),
        },
    );
}

/// `\u0041`, `\x41`, `\101`, `\n`.
pub(super) fn js(value: &[u8], out: &mut Vec<u8>) {
    each(
        value,
        out,
        |rest| memchr(b'\\', rest),
        |escape, out| {
            match *escape {
                [_, b'u', first, second, high, low, ..] if is_hex(first) && is_hex(second) => {
                    if let Some(low) = pair(high, low) {
                        out.push(low_byte(first, second, low));
                        return 6;
                    }
                }
                [_, b'x', high, low, ..] => {
                    if let Some(byte) = pair(high, low) {
                        out.push(byte);
                        return 4;
                    }
                }
                [_, ref rest @ ..] => match *digits(rest, 3, is_octal) {
                    [] => {}
                    // Three digits only where they are one byte.
                    [first @ b'4'..=b'7', second, _] => {
                        out.push(octal(&[first, second]));
                        return 3;
                    }
                    ref octals => {
                        out.push(octal(octals));
                        return 1 + octals.len();
                    }
                },
                [] => {}
            }
            let Some(letter) = escape.get(1) else { return as_is(escape, 1, out) };
            out.push(control(*letter).unwrap_or(*letter));
            2
        },
    );
}

/// The control characters that have letters in C and JavaScript.
fn control(letter: u8) -> Option<u8> {
    Some(match letter {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        _ => return None,
    })
}

/// `\n`, `\x41`, `\101` of C. What is no escape loses its backslash.
pub(super) fn ansi_c(value: &[u8], out: &mut Vec<u8>) {
    each(
        value,
        out,
        |rest| memchr(b'\\', rest),
        |escape, out| {
            match *escape {
                [_, b'x' | b'X', high, low, ..] => {
                    if let Some(byte) = pair(high, low) {
                        out.push(byte);
                        return 4;
                    }
                }
                [_, ref rest @ ..] => {
                    let octals = digits(rest, 3, is_octal);
                    if !octals.is_empty() {
                        out.push(octal(octals));
                        return 1 + octals.len();
                    }
                }
                [] => {}
            }
            let Some(letter) = escape.get(1) else { return as_is(escape, 1, out) };
            out.push(control(*letter).unwrap_or(*letter));
            2
        },
    );
}

/// `\41`, up to six digits and one white space behind them; other characters stand for themselves.
pub(super) fn css(value: &[u8], out: &mut Vec<u8>) {
    each(
        value,
        out,
        |rest| memchr(b'\\', rest),
        |escape, out| {
            let rest = escape.get(1..).unwrap_or_default();
            let code = digits(rest, 6, is_hex);
            match *code {
                [] => {
                    // A line that goes on; and a backslash at the end, which is nothing.
                    if let Some(byte) = rest.first().filter(|byte| **byte != b'\n') {
                        out.push(*byte);
                    }
                    return 2;
                }
                [only] => out.push(HEX[usize::from(only)]),
                [.., first, second, high, low] if code.len() == 4 || is_zero(code) => {
                    out.push(low_byte(first, second, pair(high, low).unwrap_or_default()));
                }
                [.., high, low] => out.push(pair(high, low).unwrap_or_default()),
            }
            let end = 1 + code.len();
            end + usize::from(escape.get(end).is_some_and(|byte| is_space(*byte)))
        },
    );
}

/// Whether all digits before the last four are zeros; there are five or six.
fn is_zero(code: &[u8]) -> bool {
    code.len() > 4 && code.iter().take(code.len() - 4).all(|digit| *digit == b'0')
}

/// `&#65;`, `&#x41;` and the five names that count, each with or without its semicolon.
pub(super) fn html(value: &[u8], out: &mut Vec<u8>) {
    each(
        value,
        out,
        |rest| memchr(b'&', rest),
        |escape, out| {
            let (number, prefix, base) = match *escape {
                [_, b'#', b'x' | b'X', ref rest @ ..] => (digits(rest, rest.len(), is_hex), 3, 16),
                [_, b'#', ref rest @ ..] => (digits(rest, rest.len(), |byte| byte.is_ascii_digit()), 2, 10),
                _ => return named_entity(escape, out),
            };
            if number.is_empty() {
                return as_is(escape, prefix, out);
            }
            // The lower byte of a number that stays at the largest there is.
            let number_value = number.iter().fold(0_i64, |value, digit| {
                value.saturating_mul(base).saturating_add(i64::from(HEX[usize::from(*digit)]))
            });
            out.push(number_value as u8);
            behind_semicolon(escape, prefix + number.len())
        },
    );
}

fn named_entity(escape: &[u8], out: &mut Vec<u8>) -> usize {
    let rest = escape.get(1..).unwrap_or_default();
    let name = digits(rest, rest.len(), |byte| byte.is_ascii_alphanumeric());
    let known: [(&[u8], u8); 5] =
        [(b"quot", b'"'), (b"amp", b'&'), (b"lt", b'<'), (b"gt", b'>'), (b"nbsp", NBSP)];
    match known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        Some((_, byte)) => {
            out.push(*byte);
            behind_semicolon(escape, 1 + name.len())
        }
        None => as_is(escape, 1 + name.len(), out),
    }
}

fn behind_semicolon(escape: &[u8], end: usize) -> usize {
    end + usize::from(escape.get(end) == Some(&b';'))
}

/// `0x414243`: as many pairs of digits as follow.
pub(super) fn sql_hex(value: &[u8], out: &mut Vec<u8>) {
    each(
        value,
        out,
        |rest| memchr(b'0', rest),
        |escape, out| {
            let [_, b'x' | b'X', ref rest @ ..] = *escape else { return as_is(escape, 1, out) };
            let begin = out.len();
            let decoded = rest.chunks_exact(2).map_while(|two| pair(*two.first()?, *two.last()?));
            out.extend(decoded);
            match out.len() - begin {
                0 => as_is(escape, 1, out),
                count => 2 + 2 * count,
            }
        },
    );
}

/// Two digits for each byte; what are none are taken for digits all the same, and one that is left over is lost.
pub(super) fn hex_decode(value: &[u8], out: &mut Vec<u8>) {
    let digit = |byte: u8| match byte {
        b'A'.. => (byte & 0xdf).wrapping_sub(b'A').wrapping_add(10),
        _ => byte.wrapping_sub(b'0'),
    };
    out.extend(value.chunks_exact(2).filter_map(|two| {
        let (high, low) = (two.first()?, two.last()?);
        Some(digit(*high).wrapping_mul(16).wrapping_add(digit(*low)))
    }));
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

pub(super) fn hex_encode(value: &[u8], out: &mut Vec<u8>) {
    out.extend(
        value.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]),
    );
}

/// A space becomes `+`; letters, digits and `*` stay.
pub(super) fn url_encode(value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        match *byte {
            b' ' => out.push(b'+'),
            byte if URL_PLAIN.has(byte) => out.push(byte),
            byte => out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]),
        }
    }
}
