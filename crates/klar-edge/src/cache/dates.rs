//! Dates in headers (RFC 9110 section 5.6.7): the one form that is written, and the two old ones that must be read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Reads a date; `None` when it has none of the three forms. `now` says which century two digits are of.
pub fn read(text: &str, now: SystemTime) -> Option<SystemTime> {
    if text.len() > 64 || !text.is_ascii() {
        return None;
    }
    let text = text.to_ascii_lowercase();
    let (day_name, rest) = text.split_once([',', ' '])?;
    let is_short = DAYS.iter().any(|day| day[..3] == *day_name);
    let is_long = DAYS.contains(&day_name);
    if text[day_name.len()..].starts_with(", ") {
        let rest = rest.strip_prefix(' ')?.strip_suffix(" gmt")?;
        if is_short {
            // Sun, 06 Nov 1994 08:49:37 GMT
            let [day, month, year, time] = parts(rest, ' ')?;
            return date(number(year, 4)?, month, number(day, 2)?, time);
        }
        // Sunday, 06-Nov-94 08:49:37 GMT
        let (date_part, time) = rest.split_once(' ')?;
        let [day, month, year] = parts(date_part, '-')?;
        let this_year = year_of(now);
        // More than 50 years ahead is the century before.
        let mut year = this_year - this_year % 100 + number(year, 2)?;
        if year > this_year + 50 {
            year -= 100;
        }
        return if is_long { date(year, month, number(day, 2)?, time) } else { None };
    }
    // Sun Nov  6 08:49:37 1994
    if !is_short {
        return None;
    }
    let (month, rest) = rest.split_once(' ')?;
    let day = rest.get(..2)?;
    let day = day.strip_prefix(' ').map_or_else(|| number(day, 2), |day| number(day, 1))?;
    let [time, year] = parts(rest.get(2..)?.strip_prefix(' ')?, ' ')?;
    date(number(year, 4)?, month, day, time)
}

/// Writes a date.
pub fn write(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    // 1 January 1970 was a Thursday.
    let name = DAYS[(days as usize + 3) % 7];
    let capital = |name: &str| format!("{}{}", name[..1].to_ascii_uppercase(), &name[1..3]);
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        capital(name),
        capital(MONTHS[month as usize - 1]),
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

fn parts<const N: usize>(text: &str, between: char) -> Option<[&str; N]> {
    text.split(between).collect::<Vec<_>>().try_into().ok()
}

/// A number of exactly so many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn date(year: u64, month: &str, day: u64, time: &str) -> Option<SystemTime> {
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let [hour, minute, second] = parts(time, ':')?;
    let (hour, minute, second) = (number(hour, 2)?, number(minute, 2)?, number(second, 2)?);
    // 60 is a leap second.
    if !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if year < 1970 {
        // Long ago is all that anybody needs to know.
        return Some(UNIX_EPOCH);
    }
    let days = days_from_civil(year, month, day);
    UNIX_EPOCH.checked_add(Duration::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second))
}

fn year_of(time: SystemTime) -> u64 {
    civil(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400).0
}

/// Days since 1970 of a day in the Gregorian calendar, counted in years that begin in March.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The reverse: year, month and day.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_three_forms() {
        let now = at(1_790_000_000);
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "SUN, 06 nov 1994 08:49:37 gMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(read(text, now), Some(at(784_111_777)), "{text}");
        }
        assert_eq!(read("Thursday, 18-Aug-50 02:01:18 GMT", now), read("Thu, 18 Aug 2050 02:01:18 GMT", now));
        assert_eq!(read("Thu, 01 Jan 1600 00:00:00 GMT", now), Some(UNIX_EPOCH));
    }

    #[test]
    fn nothing_else() {
        for text in [
            "0",
            "",
            "-1",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 32 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 24:01:18 GMT",
            "Xyz, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT ",
        ] {
            assert_eq!(read(text, UNIX_EPOCH), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0_u64..250_000_000_000) {
            prop_assert_eq!(read(&write(at(seconds)), UNIX_EPOCH), Some(at(seconds)));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,40}") {
            let _ = read(&text, UNIX_EPOCH);
        }

        #[test]
        fn nothing_near_a_date_panics(text in "(Sun|Sunday|Mon),? ?[0-9 ]{0,3}[- ](Nov|Feb|Xyz)[- ][0-9]{0,6} [0-9:]{0,9}( GMT)?") {
            let _ = read(&text, UNIX_EPOCH);
        }
    }
}
