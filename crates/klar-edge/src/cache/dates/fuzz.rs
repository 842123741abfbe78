//! Dates as `httpdate` reads them, and as they are written.

use klar_fuzz::Fuzz;

use super::*;

#[test]
fn another_reader_reads_the_same() {
    // Seen from here, both put two digits into the same hundred years: 1970 to 2069.
    let now = UNIX_EPOCH + Duration::from_secs(1_560_000_000);
    Fuzz {
        name: "dates",
        seeds: &[
            b"Sun, 06 Nov 1994 08:49:37 GMT",
            b"Sunday, 06-Nov-94 08:49:37 GMT",
            b"Sun Nov  6 08:49:37 1994",
            b"Thu, 01 Jan 1970 00:00:00 GMT",
            b"Fri, 31 Dec 9999 23:59:59 GMT",
            b"Thu, 29 Feb 2024 23:59:60 GMT",
            b"Tuesday, 31-Feb-69 00:00:00 GMT",
            b"0",
            b"-1",
        ],
        words: &[
            b"Mon", b"Tuesday", b", ", b" GMT", b"Jan", b"Dec", b"-", b":", b"  ", b"00", b"60", b"24",
            b"31", b"32", b"1600", b"2069", b"-70", b"+", b"UTC",
        ],
        longest: 48,
    }
    .run(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let ours = read(text, now);
        // It is easy about what stands between the parts, and hard about days that do not exist or have another name, on
        // which no lifetime depends. What has one of the three forms to the letter is one date for both.
        if let Ok(time) = httpdate::parse_http_date(text)
            && forms(&httpdate::fmt_http_date(time)).iter().any(|form| form == text)
        {
            assert_eq!(ours, Some(time), "{text}");
        }
        let Some(time) = ours else { return };
        // A leap second at the end of the year 9999 is past all that can be written.
        if time >= UNIX_EPOCH + Duration::from_secs(253_402_300_800) {
            return;
        }
        let written = write(time);
        assert_eq!(read(&written, now), Some(time), "{written}");
        assert_eq!(httpdate::parse_http_date(&written).ok(), Some(time), "{written}");
        assert_eq!(written, httpdate::fmt_http_date(time));
        let clock = &written[17..25];
        let is_old = time == UNIX_EPOCH;
        assert!(text.contains(clock) || text.contains(":60") || is_old, "{text} became {written}");
    });
}

/// The three forms of a date (RFC 9110 section 5.6.7), of which this is the first.
fn forms(first: &str) -> [String; 3] {
    let (day_name, day, month, year, clock) =
        (&first[..3], &first[5..7], &first[8..11], &first[12..16], &first[17..25]);
    let long = DAYS.iter().find(|name| name[..3].eq_ignore_ascii_case(day_name)).map_or("", |name| *name);
    let long = format!("{day_name}{}", &long[3..]);
    let short_day = day.trim_start_matches('0');
    [
        first.to_owned(),
        format!("{long}, {day}-{month}-{} {clock} GMT", &year[2..]),
        format!("{day_name} {month} {short_day:>2} {clock} {year}"),
    ]
}
