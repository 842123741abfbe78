//! Comparisons of numbers, as they are read out of texts.

use crate::seclang::OperatorKind;

/// A comparison of a value with what a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `@eq`
    Equal,
    /// `@ge`
    AtLeast,
    /// `@gt`
    More,
    /// `@le`
    AtMost,
    /// `@lt`
    Less,
}

impl Comparison {
    /// As rules name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Equal => "eq",
            Self::AtLeast => "ge",
            Self::More => "gt",
            Self::AtMost => "le",
            Self::Less => "lt",
        }
    }

    /// The comparison an operator makes; `None` if it makes none.
    #[must_use]
    pub const fn of(operator: OperatorKind) -> Option<Self> {
        match operator {
            OperatorKind::Eq => Some(Self::Equal),
            OperatorKind::Ge => Some(Self::AtLeast),
            OperatorKind::Gt => Some(Self::More),
            OperatorKind::Le => Some(Self::AtMost),
            OperatorKind::Lt => Some(Self::Less),
            _ => None,
        }
    }

    /// Whether it holds for `value` (from the left) and `argument`.
    ///
    /// A text is the number it begins with, 0 if it begins with none; white space before it does not matter. What is
    /// too large is the largest, but for `@eq`, where it is 0 already from 2^31.
    #[must_use]
    pub fn holds(self, value: &[u8], argument: &[u8]) -> bool {
        self.compare(number(value), number(argument))
    }

    /// Whether it holds for numbers that were read already.
    #[must_use]
    pub fn compare(self, value: i64, argument: i64) -> bool {
        match self {
            Self::Equal => small(value) == small(argument),
            Self::AtLeast => value >= argument,
            Self::More => value > argument,
            Self::AtMost => value <= argument,
            Self::Less => value < argument,
        }
    }
}

fn small(number: i64) -> i32 {
    i32::try_from(number).unwrap_or_default()
}

fn number(text: &[u8]) -> i64 {
    let text =
        text.iter().position(|byte| !matches!(byte, b'\t'..=b'\r' | b' ')).and_then(|at| text.get(at..));
    let (is_negative, digits) = match text {
        Some([b'-', digits @ ..]) => (true, digits),
        Some([b'+', digits @ ..]) => (false, digits),
        Some(digits) => (false, digits),
        None => return 0,
    };
    digits.iter().take_while(|byte| byte.is_ascii_digit()).fold(0_i64, |number, byte| {
        let digit = i64::from(byte - b'0');
        number.saturating_mul(10).saturating_add(if is_negative { -digit } else { digit })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_does() {
        for (text, expected) in [
            (&b""[..], 0),
            (b"12", 12),
            (b" \n-12abc", -12),
            (b"+7.9", 7),
            (b"abc", 0),
            (b"--1", 0),
            (b"0x10", 0),
            (b"9223372036854775808", i64::MAX),
            (b"-99999999999999999999", i64::MIN),
        ] {
            assert_eq!(number(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn comparisons() {
        for (comparison, value, argument, holds) in [
            (Comparison::Equal, "0", "", true),
            (Comparison::Equal, "4294967296", "0", true),
            (Comparison::Equal, "2147483647", "2147483647", true),
            (Comparison::AtLeast, "5", "5", true),
            (Comparison::AtLeast, "4294967296", "5", true),
            (Comparison::More, "5", "5", false),
            (Comparison::AtMost, "-1", "0", true),
            (Comparison::Less, "9", "10", true),
        ] {
            assert_eq!(
                comparison.holds(value.as_bytes(), argument.as_bytes()),
                holds,
                "{comparison:?} {value} {argument}"
            );
        }
        assert_eq!(Comparison::of(OperatorKind::Ge), Some(Comparison::AtLeast));
        assert_eq!(Comparison::of(OperatorKind::Rx), None);
    }
}
