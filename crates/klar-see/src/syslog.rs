//! Syslog as it is sent: RFC 5424, and what came before it (RFC 3164) in the ways in which programs write it. Everything is
//! a line; what cannot be read of it is its text.

use std::borrow::Cow;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::intake::Draft;

/// Names of facilities (RFC 5424 section 6.2.1), as rsyslog writes them.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];
/// What severities are here, from emergency to debug.
const LEVELS: [&str; 8] = ["fatal", "fatal", "fatal", "error", "warn", "info", "info", "debug"];
/// Elements and parameters of structured data that are looked at.
const PARAMS_MAX: usize = 128;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads a message. `now` and `zone` say what is missing of an old time.
pub fn read<'a>(message: &'a [u8], now: Timestamp, zone: &TimeZone) -> Draft<'a> {
    let end = message.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r' | 0)).map_or(0, |at| at + 1);
    match String::from_utf8_lossy(message.get(..end).unwrap_or_default()) {
        Cow::Borrowed(text) => read_text(text, now, zone),
        Cow::Owned(text) => owned(&read_text(&text, now, zone)),
    }
}

/// A draft that borrows nothing.
fn owned(draft: &Draft<'_>) -> Draft<'static> {
    let mut copy = Draft::of(draft.time_us, draft.body.clone().into_owned());
    copy.level = draft.level;
    copy.service = draft.service.clone().into_owned().into();
    copy.instance = draft.instance.clone().into_owned().into();
    copy.stream = draft.stream.clone().into_owned().into();
    (copy.trace_id, copy.span_id) = (draft.trace_id, draft.span_id);
    draft.all_kept().for_each(|(name, value)| copy.attr(name.to_owned(), value.to_owned()));
    copy
}

fn read_text<'a>(text: &'a str, now: Timestamp, zone: &TimeZone) -> Draft<'a> {
    let mut draft = Draft::default();
    draft.stream = "syslog".into();
    draft.body = text.into();
    let Some((priority, rest)) = priority(text) else { return draft };
    draft.level = LEVELS.get(priority & 7).copied();
    if let Some(facility) = FACILITIES.get(priority >> 3) {
        draft.attr("facility", *facility);
    }
    draft.body = rest.into();
    // One that is not whole has been changed in parts only; it begins anew as an old one.
    match rest.strip_prefix("1 ") {
        Some(rest) if new(rest, &mut draft).is_some() => {}
        _ => old(rest, now, zone, &mut draft),
    }
    draft
}

/// `<34>`.
fn priority(text: &str) -> Option<(usize, &str)> {
    let (digits, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_number = (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|number| is_number && *number < 192)?;
    Some((number, rest))
}

/// What follows `<34>1 `: nothing is told unless all of it can be read.
fn new<'a>(text: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    let mut parts = text.splitn(6, ' ');
    let mut part = || parts.next().map(|part| if part == "-" { "" } else { part });
    let (time, host, app, process, id) = (part()?, part()?, part()?, part()?, part()?);
    let rest = parts.next()?;
    let time = if time.is_empty() { None } else { Some(time.parse::<Timestamp>().ok()?) };
    let mut params = Vec::new();
    let rest = match rest.strip_prefix('-') {
        Some(rest) => rest,
        None => structured(rest, &mut params)?,
    };
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let body = rest.strip_prefix(' ').unwrap_or_default();
    draft.time_us = time.map(Timestamp::as_microsecond);
    draft.instance = host.into();
    draft.service = app.into();
    draft.attr("procid", process);
    draft.attr("msgid", id);
    for (name, value) in params {
        match name.rsplit('.').next().unwrap_or_default() {
            "trace_id" | "traceId" if draft.trace_id.is_none() => draft.say_trace(&value),
            "span_id" | "spanId" if draft.span_id.is_none() => draft.say_span(&value),
            _ => {}
        }
        draft.attr(name, value);
    }
    // A text that is UTF-8 may say so.
    draft.body = body.strip_prefix('\u{feff}').unwrap_or(body).into();
    Some(())
}

/// `[id name="value"]...`; gives what is behind it.
fn structured<'a>(text: &'a str, params: &mut Vec<(String, String)>) -> Option<&'a str> {
    let mut rest = text;
    while let Some(element) = rest.strip_prefix('[') {
        let end = element.find([' ', ']'])?;
        let (id, mut inner) = element.split_at(end);
        if id.is_empty() {
            return None;
        }
        loop {
            if let Some(behind) = inner.strip_prefix(']') {
                rest = behind;
                break;
            }
            let (name, value) = inner.strip_prefix(' ')?.split_once("=\"")?;
            let mut plain = String::new();
            let mut letters = value.char_indices();
            let end = loop {
                match letters.next()? {
                    (at, '"') => break at + 1,
                    (_, '\\') => {
                        let (_, letter) = letters.next()?;
                        // Any other letter keeps its backslash (section 6.3.3).
                        if !matches!(letter, '"' | '\\' | ']') {
                            plain.push('\\');
                        }
                        plain.push(letter);
                    }
                    (_, letter) => plain.push(letter),
                }
            };
            if params.len() < PARAMS_MAX {
                params.push((format!("{id}.{name}"), plain));
            }
            inner = value.get(end..)?;
        }
    }
    // At least one.
    (rest.len() < text.len()).then_some(rest)
}

/// `Oct 11 22:14:15 host tag[7]: text`, of which each part may be missing.
fn old<'a>(text: &'a str, now: Timestamp, zone: &TimeZone, draft: &mut Draft<'a>) {
    let Some((time, rest)) = old_time(text, now, zone) else {
        draft.body = text.into();
        tagged(text, draft);
        return;
    };
    draft.time_us = Some(time.as_microsecond());
    draft.body = rest.into();
    // What programs on this machine write names no host.
    if tagged(rest, draft) {
        return;
    }
    if let Some((host, rest)) = rest.split_once(' ') {
        draft.instance = host.into();
        draft.body = rest.into();
        tagged(rest, draft);
    }
}

/// `tag[7]: text`. Whether it is that.
fn tagged<'a>(text: &'a str, draft: &mut Draft<'a>) -> bool {
    let Some((tag, body)) = text.split_once(':') else { return false };
    let (name, process) = match tag.split_once('[') {
        Some((name, process)) => (name, process.strip_suffix(']')),
        None => (tag, Some("")),
    };
    let Some(process) = process else { return false };
    let is_name = |letter: char| letter.is_ascii_graphic() && !matches!(letter, '[' | ']' | '"' | '{');
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_name) || !process.chars().all(is_name) {
        return false;
    }
    // `http://...` and `12:00` are texts.
    if !(body.is_empty() || body.starts_with(' ')) {
        return false;
    }
    draft.service = name.into();
    draft.attr("procid", process);
    draft.body = body.strip_prefix(' ').unwrap_or(body).into();
    true
}

/// A time without a year is of the year that makes it nearest to now. Many write RFC 3339 instead.
fn old_time<'a>(text: &'a str, now: Timestamp, zone: &TimeZone) -> Option<(Timestamp, &'a str)> {
    if let Some((time, rest)) = text.split_once(' ')
        && let Ok(time) = time.parse()
    {
        return Some((time, rest));
    }
    // `Oct  1 22:14:15`, and Cisco's `*Oct  1 22:14:15.123:`.
    let (stamp, rest) = text.split_at_checked(15)?;
    let month = MONTHS.iter().position(|month| stamp.strip_prefix(month).is_some())?;
    let number = |from: usize, to: usize| stamp.get(from..to)?.trim_start().parse::<i8>().ok();
    let (day, hour, minute, second) = (number(4, 6)?, number(7, 9)?, number(10, 12)?, number(13, 15)?);
    let rest = rest.strip_prefix(' ')?;
    let month = i8::try_from(month + 1).ok()?;
    let at = |year: i16| {
        let time = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
        Some(time.to_zoned(zone.clone()).ok()?.timestamp())
    };
    let tomorrow = now.checked_add(24.hours()).ok()?;
    let year = tomorrow.to_zoned(zone.clone()).year();
    let time = at(year).filter(|time| *time <= tomorrow).or_else(|| at(year - 1))?;
    Some((time, rest))
}

/// Takes messages out of what comes over a connection: counted, `7 <34>abc`, or each on a line (RFC 6587). A message
/// that is too long is cut.
#[derive(Debug, Default)]
pub struct Frames {
    waiting: Vec<u8>,
    /// The rest of a message that was too long has not all come yet.
    skipping: Skip,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Skip {
    #[default]
    No,
    /// So many bytes.
    Bytes(usize),
    /// Up to the end of the line.
    Line,
}

impl Frames {
    /// How long a message may be, in bytes.
    pub const MESSAGE_MAX: usize = 64 << 10;
    /// A message that says that it is longer than this is no message.
    const COUNT_MAX: usize = 16 << 20;

    /// Takes in bytes, and shows each message that is whole.
    pub fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        self.waiting.extend_from_slice(bytes);
        let mut done = 0;
        loop {
            let rest = self.waiting.get(done..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match self.skipping {
                Skip::Bytes(left) => {
                    let now = left.min(rest.len());
                    done += now;
                    self.skipping = if now < left { Skip::Bytes(left - now) } else { Skip::No };
                    continue;
                }
                Skip::Line => {
                    let end = rest.iter().position(|byte| is_end(*byte));
                    done += end.map_or(rest.len(), |end| end + 1);
                    if end.is_some() {
                        self.skipping = Skip::No;
                    }
                    continue;
                }
                Skip::No => {}
            }
            match counted(rest) {
                Count::More => break,
                Count::Of { head, length } => {
                    let whole = length.min(Self::MESSAGE_MAX);
                    let Some(message) = rest.get(head..head + whole) else { break };
                    each(message);
                    done += head + whole;
                    if length > whole {
                        self.skipping = Skip::Bytes(length - whole);
                    }
                }
                Count::None => match rest.iter().position(|byte| is_end(*byte)) {
                    Some(end) => {
                        let line = rest.get(..end.min(Self::MESSAGE_MAX)).unwrap_or_default();
                        if !line.is_empty() {
                            each(line);
                        }
                        done += end + 1;
                    }
                    None if rest.len() > Self::MESSAGE_MAX => {
                        each(rest.get(..Self::MESSAGE_MAX).unwrap_or_default());
                        done += rest.len();
                        self.skipping = Skip::Line;
                    }
                    None => break,
                },
            }
        }
        self.waiting.drain(..done);
    }

    /// Shows what came without an end, once nothing more comes.
    pub fn end(&mut self, each: impl FnOnce(&[u8])) {
        if self.skipping == Skip::No && !self.waiting.is_empty() {
            each(&self.waiting);
        }
        self.waiting.clear();
    }
}

fn is_end(byte: u8) -> bool {
    matches!(byte, b'\n' | 0)
}

enum Count {
    /// It is not counted.
    None,
    /// That cannot be said yet.
    More,
    Of {
        head: usize,
        length: usize,
    },
}

/// `7 <34>abc`: digits, a blank, and the beginning of a message. A text may begin with a number as well.
fn counted(bytes: &[u8]) -> Count {
    let digits = bytes.iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > 8 || bytes.first() == Some(&b'0') {
        return Count::None;
    }
    match bytes.get(digits..digits + 2) {
        Some(b" <") => {}
        Some(_) => return Count::None,
        None if matches!(bytes.get(digits), None | Some(b' ')) => return Count::More,
        None => return Count::None,
    }
    let number = std::str::from_utf8(bytes.get(..digits).unwrap_or_default());
    let length = number.ok().and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
    if length > Frames::COUNT_MAX { Count::None } else { Count::Of { head: digits + 1, length } }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn line(message: &[u8], now: &str) -> serde_json::Value {
        let now: Timestamp = now.parse().unwrap();
        read(message, now, &TimeZone::UTC).finish(None, now.as_microsecond(), |line| {
            let attrs: serde_json::Map<String, serde_json::Value> =
                line.attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
            let time = Timestamp::from_microsecond(line.time_us).unwrap().to_string();
            json!([time, line.instance, line.service, line.level, line.body, attrs])
        })
    }

    #[test]
    fn messages_are_lines() {
        const NOW: &str = "2026-01-02T00:00:00Z";
        for (message, expected) in [
            // The examples of RFC 5424 and RFC 3164, with times of today.
            (
                &b"<34>1 2026-01-01T22:14:15.003Z mymachine.example.com su - ID47 - \xef\xbb\xbf'su root' failed"[..],
                json!(["2026-01-01T22:14:15.003Z", "mymachine.example.com", "su", "fatal", "'su root' failed",
                    { "facility": "auth", "msgid": "ID47" }]),
            ),
            (
                br#"<165>1 2026-01-01T22:14:15-01:00 h evntslog 7 ID47 [ex@32473 iut="3" q="a \"b\" \\ \] \c"][o@1] An event"#,
                json!(["2026-01-01T23:14:15Z", "h", "evntslog", "info", "An event",
                    { "facility": "local4", "procid": "7", "msgid": "ID47", "ex@32473.iut": "3",
                      "ex@32473.q": "a \"b\" \\ ] \\c" }]),
            ),
            (b"<14>1 - - - - - -", json!([NOW, "", "", "info", "", { "facility": "user" }])),
            (
                b"<34>Jan  1 22:14:15 mymachine su: 'su root' failed for lonvick\n",
                json!(["2026-01-01T22:14:15Z", "mymachine", "su", "fatal", "'su root' failed for lonvick", { "facility": "auth" }]),
            ),
            // What logger writes to a socket, last year.
            (
                b"<27>Dec 31 23:59:59 cron[12]: x: y",
                json!(["2025-12-31T23:59:59Z", "", "cron", "error", "x: y", { "facility": "daemon", "procid": "12" }]),
            ),
            // What rsyslog forwards.
            (
                b"<4>2026-01-01T12:00:00.5+01:00 h kernel: oops",
                json!(["2026-01-01T11:00:00.5Z", "h", "kernel", "warn", "oops", { "facility": "kern" }]),
            ),
            (b"<13>just a text: yes", json!([NOW, "", "", "info", "just a text: yes", { "facility": "user" }])),
            (b"ERROR no priority", json!([NOW, "", "", "error", "ERROR no priority", {}])),
            (b"<13>1 2026-13-01T22:14:15Z h a p i - x", json!([NOW, "", "", "info", "1 2026-13-01T22:14:15Z h a p i - x", { "facility": "user" }])),
            (b"<999>x", json!([NOW, "", "", null, "<999>x", {}])),
            (b"<13>app: \xff", json!([NOW, "", "app", "info", "\u{fffd}", { "facility": "user" }])),
        ] {
            assert_eq!(line(message, NOW), expected, "{}", String::from_utf8_lossy(message));
        }
        let traced = line(b"<14>1 - - a - - [o trace_id=\"0af7651916cd43dd8448eb211c80319c\"] x", NOW);
        assert_eq!(traced[5]["o.trace_id"], "0af7651916cd43dd8448eb211c80319c");
    }

    fn frames(pieces: &[&[u8]]) -> Vec<String> {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        let mut show = |message: &[u8]| found.push(String::from_utf8_lossy(message).into_owned());
        for piece in pieces {
            frames.take(piece, &mut show);
        }
        frames.end(show);
        found
    }

    #[test]
    fn messages_are_taken_apart() {
        for (pieces, expected) in [
            (&[&b"<1>a\n<2>b\n\n<3>c"[..]][..], vec!["<1>a", "<2>b", "<3>c"]),
            (&[b"4 <1>a5 <2", b">b\n4 <3>c"], vec!["<1>a", "<2>b\n", "<3>c"]),
            (&[b"1", b"0", b" ", b"<1>a bc", b" de<1>x\n"], vec!["<1>a bc de", "<1>x"]),
            (&[b"12 monkeys\n", b"0 <1>\n"], vec!["12 monkeys", "0 <1>"]),
            (&[b"<1>a\0<2>b\0"], vec!["<1>a", "<2>b"]),
            (&[b"99999999 <1>\n"], vec!["99999999 <1>"]),
        ] {
            assert_eq!(frames(pieces), expected);
        }
        let long = [b"<1>".as_slice(), &vec![b'x'; 200 << 10], b"\n<2>y\n"].concat();
        let found = frames(&long.chunks(1000).collect::<Vec<_>>());
        assert_eq!((found.len(), found[0].len(), &*found[1]), (2, Frames::MESSAGE_MAX, "<2>y"));
        let counted = [b"204803 <1>".as_slice(), &vec![b'x'; 204_800], b"4 <2>y"].concat();
        let found = frames(&counted.chunks(777).collect::<Vec<_>>());
        assert_eq!((found.len(), found[0].len(), &*found[1]), (2, Frames::MESSAGE_MAX, "<2>y"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_line(bytes in proptest::collection::vec(any::<u8>(), 0..200), rest in r#"(<\d{1,4}>1? ?)?(\[|\]|[a-zA-Z0-9:" =\\.-]|Jan  1 22:14:15 ){0,60}"#) {
            line(&bytes, "2026-01-02T00:00:00Z");
            line(rest.as_bytes(), "2026-01-02T00:00:00Z");
        }

        #[test]
        fn it_does_not_matter_where_pieces_end(text in r"((<1>[a-z ]{0,9}\n)|(5 <1>ab)|[0-9 <\n]){0,30}", at in 1..20_usize) {
            let whole = frames(&[text.as_bytes()]);
            prop_assert_eq!(frames(&text.as_bytes().chunks(at).collect::<Vec<_>>()), whole);
        }

        #[test]
        fn what_waits_is_bounded(bytes in proptest::collection::vec(any::<u8>(), 1..3000)) {
            let mut frames = Frames::default();
            for _ in 0..200 {
                frames.take(&bytes, |message| assert!(message.len() <= Frames::MESSAGE_MAX));
                assert!(frames.waiting.len() <= Frames::MESSAGE_MAX + bytes.len() + 16);
            }
        }
    }
}
