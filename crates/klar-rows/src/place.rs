//! Where files of rows are, and what their names say.
//!
//! ```text
//! signal=access/day=2026-11-23/hour=03/0000000001-0000000240-0.parquet, .side
//! ```
//!
//! The first two numbers say which records of the log the file has of this table and hour: all of them until the second
//! one are in it or in files before it. So a file whose numbers lie within those of another one was merged into that one,
//! and of two with the same numbers the one with the higher third number was written later.

use std::path::{Path, PathBuf};

pub const HOUR_US: i64 = 3_600_000_000;

/// The name of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub from: u64,
    pub to: u64,
    pub generation: u64,
}

impl Name {
    pub fn parse(name: &str) -> Option<Self> {
        let mut numbers = name.strip_suffix(".parquet")?.split('-').map(|number| number.parse().ok());
        let found = Self { from: numbers.next()??, to: numbers.next()??, generation: numbers.next()?? };
        (numbers.next().is_none() && found.from <= found.to).then_some(found)
    }

    pub fn file(&self) -> String {
        format!("{:010}-{:010}-{}.parquet", self.from, self.to, self.generation)
    }

    /// Whether another file has all that this one has.
    pub fn is_replaced_by(&self, other: &Self) -> bool {
        self != other
            && other.from <= self.from
            && self.to <= other.to
            && ((self.from, self.to) != (other.from, other.to) || other.generation > self.generation)
    }
}

/// The hour of a time, counted from 1970.
pub const fn hour_of(time_us: i64) -> i64 {
    time_us.div_euclid(HOUR_US)
}

/// The folder of an hour. Source of the calendar: Howard Hinnant, `days_from_civil`.
pub fn folder(root: &Path, table: &str, hour: i64) -> PathBuf {
    let (days, hour) = (hour.div_euclid(24), hour.rem_euclid(24));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    root.join(format!("signal={table}/day={year:04}-{month:02}-{day:02}/hour={hour:02}"))
}

/// The hour of such a folder's name: the day and the hour.
pub fn parse(day: &str, hour: &str) -> Option<i64> {
    let mut parts = day.strip_prefix("day=")?.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let hour: i64 = hour.strip_prefix("hour=")?.parse().ok().filter(|hour| (0..24).contains(hour))?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(0..=9999).contains(&year) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era - 719_468) * 24 + hour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hour_has_its_folder() {
        for (hour, name) in [
            (0, "signal=a/day=1970-01-01/hour=00"),
            (11_016 * 24 + 23, "signal=a/day=2000-02-29/hour=23"),
            (20_780 * 24 + 3, "signal=a/day=2026-11-23/hour=03"),
        ] {
            assert_eq!(folder(Path::new(""), "a", hour), Path::new(name));
        }
        for hour in (0..2_900_000 * 24).step_by(1009) {
            let path = folder(Path::new(""), "a", hour);
            let parts: Vec<&str> = path.to_str().unwrap().split('/').collect();
            assert_eq!(parse(parts[1], parts[2]), Some(hour));
        }
        assert_eq!(parse("day=2026-13-01", "hour=03"), None);
        assert_eq!(parse("day=2026-11-01", "hour=24"), None);
    }

    #[test]
    fn a_name_says_what_it_replaces() {
        let name = |from, to, generation| Name { from, to, generation };
        for (first, second, is_replaced) in [
            (name(1, 5, 0), name(1, 9, 0), true),
            (name(1, 5, 3), name(1, 9, 0), true),
            (name(1, 9, 0), name(1, 5, 0), false),
            (name(1, 5, 0), name(1, 5, 1), true),
            (name(1, 5, 1), name(1, 5, 0), false),
            (name(1, 5, 1), name(1, 5, 1), false),
            (name(6, 9, 0), name(1, 5, 0), false),
        ] {
            assert_eq!(first.is_replaced_by(&second), is_replaced, "{first:?} {second:?}");
            assert_eq!(Name::parse(&first.file()), Some(first));
        }
        assert_eq!(Name::parse("tmp-1-2-3.parquet"), None);
    }
}
