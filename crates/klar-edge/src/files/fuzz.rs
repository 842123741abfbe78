//! Ranges as a second reader understands them, and no folder's address that leads elsewhere.

use klar_fuzz::{Feed, Fuzz};

use super::*;

/// RFC 9110 section 14.1.2, one range: digits, and nothing else.
fn second_reader(value: &str, length: u64) -> Range {
    let Some(range) = value.strip_prefix("bytes=") else { return Range::All };
    let Some((first, last)) = range.trim_matches([' ', '\t']).split_once('-') else { return Range::All };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A number that is too large for a file is too large for a number.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    match (first, last) {
        ("", suffix) if is_number(suffix) => match number(suffix).min(length) {
            0 => Range::None,
            count => Range::Part(length - count, length - 1),
        },
        (first, "") if is_number(first) => match number(first) < length {
            true => Range::Part(number(first), length - 1),
            false => Range::None,
        },
        (first, last) if is_number(first) && is_number(last) => match (number(first), number(last)) {
            (first, last) if first > last => Range::All,
            (first, _) if first >= length => Range::None,
            (first, last) => Range::Part(first, last.min(length - 1)),
        },
        _ => Range::All,
    }
}

#[test]
fn ranges_are_what_a_second_reader_says() {
    Fuzz {
        name: "ranges",
        seeds: &[
            b"\x0abytes=0-5",
            b"\x64bytes=5-",
            b"\x64bytes=-7",
            b"\0bytes=-0",
            b"\x64bytes=9-2",
            b"\0bytes=0-",
            b"\x08bytes=0-1,3-4",
            b"\x63bytes= 1-2 ",
            b"\x09items=0-1",
        ],
        words: &[b"bytes=", b"-", b",", b" ", b"+", b"0", b"00", b"99", b"18446744073709551615", b"\t"],
        longest: 60,
    }
    .run(|input| {
        let mut feed = Feed::new(input);
        let length = u64::from(feed.byte()) * u64::from(feed.byte() % 4 + 1) / 2;
        let Ok(value) = HeaderValue::from_bytes(feed.rest()) else { return };
        let Ok(value) = value.to_str() else { return };
        let range = Range::read(value, length);
        assert_eq!(range, second_reader(value, length), "{value:?} of {length}");
        if let Range::Part(first, last) = range {
            assert!(first <= last && last < length);
        }
    });
}

#[test]
fn a_folder_is_on_this_host() {
    Fuzz {
        name: "addresses of folders",
        seeds: &[b"/docs", b"//evil.test/", b"/\\evil.test", b"docs\n", b"/a b?c=d"],
        words: &[b"/", b"//", b"\\", b"\r\n", b"?", b"evil.test", b"%0a"],
        longest: 60,
    }
    .run(|input| {
        let (path, query) = match input.iter().position(|byte| *byte == b'?') {
            Some(at) => (&input[..at], std::str::from_utf8(&input[at + 1..]).ok()),
            None => (input, None),
        };
        let Ok(path) = std::str::from_utf8(path) else { return };
        let answer = to_folder(path, query);
        let Some(location) = answer.headers().get(header::LOCATION) else { return };
        let location = location.as_bytes();
        assert!(location.starts_with(b"/") && !location.starts_with(b"//"));
        assert!(!location.iter().any(|byte| b"\r\n\0".contains(byte)));
    });
}
