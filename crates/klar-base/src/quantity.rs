//! Numbers with a unit, as people write them: `512MiB`, `30s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A quantity that could not be read, with what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct QuantityError {
    /// What was written.
    pub text: String,
    /// What would have been understood, with an example.
    pub expected: &'static str,
}

/// A number of bytes. Written with binary units: `64KiB`, `10MiB`, `2GiB` (`KB`, `MB`, `GB` mean the same).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `n` kibibytes.
    pub const fn kib(n: u64) -> Self {
        Self(n * 1024)
    }
    /// `n` mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }
    /// `n` gibibytes.
    pub const fn gib(n: u64) -> Self {
        Self(n * 1024 * 1024 * 1024)
    }
}

const SIZE_EXPECTED: &str = "a size such as `512MiB`, `64KiB` or `2GiB`";

impl FromStr for ByteSize {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError { text: text.into(), expected: SIZE_EXPECTED };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| error())?;
        let factor: u64 = match text[digits..].trim_start() {
            "B" => 1,
            "KiB" | "KB" | "K" => 1 << 10,
            "MiB" | "MB" | "M" => 1 << 20,
            "GiB" | "GB" | "G" => 1 << 30,
            "TiB" | "TB" | "T" => 1 << 40,
            _ => return Err(error()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut value, mut unit) = (self.0, 0);
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        while value != 0 && value.is_multiple_of(1024) && unit < 4 {
            value /= 1024;
            unit += 1;
        }
        f.pad(&format!("{value}{}", UNITS[unit]))
    }
}

impl TryFrom<String> for ByteSize {
    type Error = QuantityError;
    fn try_from(text: String) -> Result<Self, QuantityError> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> String {
        size.to_string()
    }
}

/// A length of time as people write it: `250ms`, `30s`, `5m`, `12h`, `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(pub Duration);

impl Period {
    /// `n` seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
}

const PERIOD_EXPECTED: &str = "a time such as `250ms`, `30s`, `5m`, `12h` or `30d`";

impl FromStr for Period {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError { text: text.into(), expected: PERIOD_EXPECTED };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| error())?;
        let unit_ms: u64 = match text[digits..].trim_start() {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(error()),
        };
        number.checked_mul(unit_ms).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(error)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let text = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
            .into_iter()
            .find(|(unit, _)| ms != 0 && ms.is_multiple_of(*unit))
            .map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit));
        f.pad(&text)
    }
}

impl TryFrom<String> for Period {
    type Error = QuantityError;
    fn try_from(text: String) -> Result<Self, QuantityError> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> String {
        period.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes, back) in [
            ("0B", 0, "0B"),
            ("512MiB", 512 << 20, "512MiB"),
            ("64KB", 64 << 10, "64KiB"),
            ("1 GiB", 1 << 30, "1GiB"),
            ("1536KiB", 1536 << 10, "1536KiB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, back), "{text}");
        }
        for text in ["", "12", "MiB", "-1KiB", "1.5GiB", "99999999999999TiB", "10 apples", "æ"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn periods_read_and_print() {
        for (text, ms, back) in [
            ("250ms", 250, "250ms"),
            ("30s", 30_000, "30s"),
            ("90s", 90_000, "90s"),
            ("120s", 120_000, "2m"),
            ("1d", 86_400_000, "1d"),
            ("0s", 0, "0ms"),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!((period.0.as_millis(), period.to_string().as_str()), (ms, back), "{text}");
        }
        for text in ["", "5", "s", "5 weeks", "99999999999999999999s", "184467440737095516h"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }
}
