//! Functions of dates, in UTC.

/// The function of a name: from seconds since 1970 to a part of the date.
pub(super) fn date(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "minute" => |time| (seconds(time).rem_euclid(3600) / 60) as f64,
        "hour" => |time| (seconds(time).rem_euclid(86_400) / 3600) as f64,
        "day_of_week" => |time| (days(time) + 4).rem_euclid(7) as f64,
        "day_of_month" => |time| Day::of(time).day as f64,
        "day_of_year" => |time| {
            let day = Day::of(time);
            (days(time) - first_of(day.year, 1) + 1) as f64
        },
        "days_in_month" => |time| {
            let Day { year, month, .. } = Day::of(time);
            let next = if month == 12 { first_of(year + 1, 1) } else { first_of(year, month + 1) };
            (next - first_of(year, month)) as f64
        },
        "month" => |time| Day::of(time).month as f64,
        "year" => |time| Day::of(time).year as f64,
        _ => return None,
    })
}

/// Whole seconds, within what days can be counted of.
#[allow(clippy::cast_possible_truncation)]
fn seconds(time: f64) -> i64 {
    time.clamp(-1e16, 1e16) as i64
}

fn days(time: f64) -> i64 {
    seconds(time).div_euclid(86_400)
}

struct Day {
    year: i64,
    month: i64,
    day: i64,
}

impl Day {
    /// Counted in eras of 400 years that begin in March. Source: Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    fn of(time: f64) -> Self {
        let shifted = days(time) + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self { year: year + era * 400 + i64::from(month <= 2), month, day }
    }
}

/// The days since 1970 on the first of a month.
fn first_of(year: i64, month: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_dates() {
        for (time, parts) in [
            (0.0, [1970.0, 1.0, 1.0, 1.0, 4.0, 31.0, 0.0, 0.0]),
            (1_709_251_199.0, [2024.0, 2.0, 29.0, 60.0, 4.0, 29.0, 23.0, 59.0]),
            (-1.0, [1969.0, 12.0, 31.0, 365.0, 3.0, 31.0, 23.0, 59.0]),
            (951_868_800.0, [2000.0, 3.0, 1.0, 61.0, 3.0, 31.0, 0.0, 0.0]),
        ] {
            let names = [
                "year",
                "month",
                "day_of_month",
                "day_of_year",
                "day_of_week",
                "days_in_month",
                "hour",
                "minute",
            ];
            assert_eq!(names.map(|name| date(name).unwrap()(time)), parts, "{time}");
        }
    }
}
