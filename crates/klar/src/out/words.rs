//! Numbers and times in the words of people.

/// How long something took: `0.3s`, `12.4s`, `2m 05s`, `1h 02m`.
pub fn took(ms: u64) -> String {
    // Rounded first, so that 59.96 s is not "60.0s".
    let tenths = (ms + 50) / 100;
    match tenths {
        0..600 => format!("{}.{}s", tenths / 10, tenths % 10),
        600..36_000 => format!("{}m {:02}s", tenths / 600, tenths / 10 % 60),
        _ => format!("{}h {:02}m", tenths / 36_000, tenths / 600 % 60),
    }
}

/// How long something has lasted: `12s`, `5m`, `3h 12m`, `5d 4h`.
pub fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m"),
        3600..86_400 => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// A number with its thousands apart: `12,345`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 instance`, `2 instances`.
pub fn things(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", count(number))
}

/// A number of bytes, rounded: `34.1 MiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut size = number as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// Somebody else's text, which may try to move the cursor or to change colours.
pub fn tame(text: &str) -> String {
    let plain = anstream::adapter::strip_str(text).to_string();
    plain.chars().filter(|letter| *letter == '\t' || !letter.is_control()).collect()
}

/// Milliseconds since the Unix epoch.
pub fn now_unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (ms, expected) in [
            (0, "0.0s"),
            (340, "0.3s"),
            (12_449, "12.4s"),
            (59_960, "1m 00s"),
            (125_000, "2m 05s"),
            (3_720_000, "1h 02m"),
        ] {
            assert_eq!(took(ms), expected, "{ms}");
        }
        for (ms, expected) in [
            (999, "0s"),
            (61_000, "1m"),
            (11_520_000, "3h 12m"),
            (446_400_000, "5d 4h"),
            (86_400_000, "1d 0h"),
        ] {
            assert_eq!(age(ms), expected, "{ms}");
        }
    }

    #[test]
    fn numbers() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), expected);
        }
        for (number, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (35_756_441, "34.1 MiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
        assert_eq!((things(1, "file"), things(2, "file")), ("1 file".into(), "2 files".into()));
    }

    #[test]
    fn strangers_words_cannot_steer_the_terminal() {
        assert_eq!(tame("\u{1b}[31mred\u{1b}[0m\u{1b}]0;title\u{7}\r\u{1b}[2Jdone\tø"), "reddone\tø");
    }
}
