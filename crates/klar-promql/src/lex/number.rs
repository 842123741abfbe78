//! Numbers and durations: `1`, `0x1F`, `1_000.5e3`, `1h30m`.

use super::Token;

/// The units of durations with their milliseconds, in the order in which they have to stand.
pub(crate) const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// What a number or a duration at the beginning of a text is, and how long; else how much of it is wrong, and why.
pub(super) fn number(rest: &str) -> Result<(Token<'static>, usize), (usize, String)> {
    let bytes = rest.as_bytes();
    let word = rest.find(|one: char| !one.is_ascii_alphanumeric() && one != '_').unwrap_or(rest.len());
    if let Some(milliseconds) = rest.get(..word).and_then(duration) {
        #[allow(clippy::cast_precision_loss)] // far below 2⁵³
        return Ok((Token::Duration(milliseconds as f64 / 1000.0), word));
    }
    let is_hex = bytes.len() > 2 && bytes.first() == Some(&b'0') && matches!(bytes.get(1), Some(b'x' | b'X'));
    let mut length = word;
    if !is_hex {
        let digits = |from: usize| {
            bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit() || **byte == b'_').count()
        };
        length = digits(0);
        if bytes.get(length) == Some(&b'.') {
            length += 1 + digits(length + 1);
        }
        if matches!(bytes.get(length), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
            length += 1 + sign + digits(length + 1 + sign);
        }
    }
    let tail =
        bytes.iter().skip(length).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let text = rest.get(..length).unwrap_or_default();
    let whole = rest.get(..length + tail).unwrap_or_default();
    let bad = || {
        (
            whole.len(),
            format!("{whole:.80?} is neither a number nor a duration; write `1.5`, `0x1F` or `1h30m`"),
        )
    };
    if tail > 0 || !has_good_underscores(text, is_hex) {
        return Err(bad());
    }
    value(&text.replace('_', "")).map(|value| (Token::Number(value), length)).ok_or_else(bad)
}

/// They stand between digits; one may also follow `0x`.
fn has_good_underscores(text: &str, is_hex: bool) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_').all(|(at, _)| {
        let is_digit = |place: Option<usize>| {
            let byte = place.and_then(|place| bytes.get(place));
            byte.is_some_and(|byte| if is_hex { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() })
        };
        (is_digit(at.checked_sub(1)) || (is_hex && at == 2)) && is_digit(at.checked_add(1))
    })
}

/// What a number is worth: whole ones in base 16 or, behind a zero, 8; else decimal.
fn value(text: &str) -> Option<f64> {
    #[allow(clippy::cast_precision_loss)] // as Prometheus does
    let whole = |digits: &str, base: u32| i64::from_str_radix(digits, base).ok().map(|whole| whole as f64);
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return whole(digits, 16);
    }
    let octal = text.strip_prefix('0').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    octal.and_then(|digits| whole(digits, 8)).or_else(|| text.parse().ok())
}

/// The milliseconds of a duration such as `1h30m`; `None`: it is none, or too long.
#[must_use]
pub(crate) fn duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut units = UNITS.as_slice();
    let mut sum: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|one: char| !one.is_ascii_digit())?;
        let (count, behind) = rest.split_at_checked(digits)?;
        let end = behind.find(|one: char| one.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(end)?;
        let place = units.iter().position(|(name, _)| *name == unit)?;
        let (_, milliseconds) = units.get(place)?;
        sum = sum.checked_add(count.parse::<u64>().ok()?.checked_mul(*milliseconds)?)?;
        units = units.get(place + 1..)?;
        rest = behind;
    }
    // As many nanoseconds as Go counts: 292 years.
    (sum <= 9_223_372_036_854).then_some(sum)
}

/// A duration as it is written.
#[must_use]
pub(crate) fn written(mut milliseconds: u64) -> String {
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, worth) in UNITS {
        // Years and weeks only if nothing is left, as Prometheus writes them.
        if matches!(unit, "y" | "w") && !milliseconds.is_multiple_of(worth) {
            continue;
        }
        let count = milliseconds / worth;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            milliseconds %= worth;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_are_told_apart() {
        for (text, token, length) in [
            ("1", Token::Number(1.0), 1),
            ("2.", Token::Number(2.0), 2),
            (".5+", Token::Number(0.5), 2),
            ("1_000.5e-1 ", Token::Number(100.05), 10),
            ("0x1F", Token::Number(31.0), 4),
            ("0x_1F", Token::Number(31.0), 5),
            ("010", Token::Number(8.0), 3),
            ("09", Token::Number(9.0), 2),
            ("1e5", Token::Number(1e5), 3),
            ("5m", Token::Duration(300.0), 2),
            ("1h30m]", Token::Duration(5400.0), 5),
            ("1ms", Token::Duration(0.001), 3),
        ] {
            assert_eq!(number(text), Ok((token, length)), "{text}");
        }
        for text in ["1x", "1__0", "1_", "5m5m", "1m1h", "1.5m", "0x", "1e", "1e+", "300y"] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for (milliseconds, text) in
            [(0, "0s"), (1, "1ms"), (90_000, "1m30s"), (86_400_000 * 14, "2w"), (86_400_000 * 366, "366d")]
        {
            assert_eq!(written(milliseconds), text);
            assert_eq!(duration(text), Some(milliseconds));
        }
    }
}
