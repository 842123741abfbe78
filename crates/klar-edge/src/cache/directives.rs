//! `Cache-Control` of requests and answers (RFC 9111 section 5.2), and `CDN-Cache-Control` (RFC 9213), which speaks
//! to shared caches alone and, where it is there and valid, is all that counts.
//!
//! What cannot be read is read on the safe side: a broken number is 0 seconds, a broken quote or too much of it all
//! is `no-store`.

use std::time::Duration;

use http::header::{self, HeaderName};

use crate::fields::{self, Fields};

/// More directives than this in one answer are not worth reading.
const DIRECTIVES_MAX: usize = 64;
/// Nor are more bytes.
const BYTES_MAX: usize = 4096;
/// The longest time that is told apart (RFC 9111 section 1.2.2), in seconds.
const SECONDS_MAX: u64 = 1 << 31;

const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");

/// What an answer says about being kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Control {
    pub no_store: bool,
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub max_age: Option<Duration>,
    pub s_maxage: Option<Duration>,
    pub stale_while_revalidate: Option<Duration>,
    pub stale_if_error: Option<Duration>,
    /// Header fields that are not for everybody: `no-cache="x"`, `private="x"`.
    pub without: Vec<HeaderName>,
    /// It was said to shared caches alone: `Cache-Control` and `Expires` do not count.
    pub targeted: bool,
}

impl Control {
    /// Reads the headers of an answer.
    pub fn of(headers: &impl Fields) -> Self {
        targeted(headers).unwrap_or_else(|| {
            let mut control = Self::default();
            let Some(directives) = directives(headers) else {
                return Self { no_store: true, ..control };
            };
            for (name, value) in directives {
                control.take(&name, value);
            }
            control
        })
    }

    /// The first of several counts (RFC 9111 section 4.2.1).
    fn take(&mut self, name: &str, value: Option<String>) {
        let seconds = |slot: &mut Option<Duration>| {
            slot.get_or_insert_with(|| value.as_deref().and_then(delta).unwrap_or_default());
        };
        match name {
            "max-age" => seconds(&mut self.max_age),
            "s-maxage" => seconds(&mut self.s_maxage),
            "stale-while-revalidate" => seconds(&mut self.stale_while_revalidate),
            "stale-if-error" => seconds(&mut self.stale_if_error),
            "no-store" => self.no_store = true,
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "no-cache" => self.no_cache |= !self.fields(value.as_deref()),
            "private" => self.private |= !self.fields(value.as_deref()),
            _ => {}
        }
    }

    /// Notes the header fields that a directive names; `false` when it names none, and so means the whole answer.
    fn fields(&mut self, value: Option<&str>) -> bool {
        let names: Option<Vec<HeaderName>> =
            value.map(|value| value.split(',').filter_map(|name| name.trim().parse().ok()).collect());
        match names {
            Some(names) if !names.is_empty() => {
                self.without.extend(names);
                true
            }
            _ => false,
        }
    }
}

/// What a request asks of caches (RFC 9111 section 5.2.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    pub no_store: bool,
    pub no_cache: bool,
    pub only_if_cached: bool,
    pub max_age: Option<Duration>,
    pub min_fresh: Option<Duration>,
    /// How stale it may be; without a number, as stale as it may get.
    pub max_stale: Option<Duration>,
}

impl Demand {
    /// Reads the headers of a request. What cannot be read asks for an answer that is not kept.
    pub fn of(headers: &impl Fields) -> Self {
        let mut demand = Self::default();
        let Some(directives) = directives(headers) else { return Self { no_store: true, ..demand } };
        for (name, value) in directives {
            let number = || value.as_deref().and_then(delta);
            match name.as_str() {
                "no-store" => demand.no_store = true,
                "no-cache" => demand.no_cache = true,
                "only-if-cached" => demand.only_if_cached = true,
                "max-age" => demand.max_age = demand.max_age.or(Some(number().unwrap_or_default())),
                "min-fresh" => demand.min_fresh = demand.min_fresh.or(number()),
                "max-stale" => {
                    let any = Duration::from_secs(SECONDS_MAX);
                    demand.max_stale = if value.is_some() { number() } else { Some(any) };
                }
                _ => {}
            }
        }
        demand
    }
}

/// The directives of `Cache-Control`, names in small letters; `None` when they cannot be read to the end.
fn directives(headers: &impl Fields) -> Option<Vec<(String, Option<String>)>> {
    let mut found = Vec::new();
    let mut bytes = 0;
    for line in headers.all(&header::CACHE_CONTROL) {
        bytes += line.len();
        if bytes > BYTES_MAX {
            return None;
        }
        // Bytes beyond ASCII are in nobody's directives; they only must not hide what is beside them.
        let line = String::from_utf8_lossy(line);
        for item in items(&line)? {
            let (name, value) = match item.split_once('=') {
                Some((name, value)) => (name, Some(unquote(value))),
                None => (item, None),
            };
            if found.len() >= DIRECTIVES_MAX {
                return None;
            }
            found.push((name.to_ascii_lowercase(), value));
        }
    }
    Some(found)
}

/// The items of a list, with commas in quotes left alone; `None` when a quote does not end.
pub fn items(line: &str) -> Option<Vec<&str>> {
    let mut found = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                found.push(line[start..at].trim_matches([' ', '\t']));
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(line[start..].trim_matches([' ', '\t']));
    found.retain(|item| !item.is_empty());
    (!quoted).then_some(found)
}

fn unquote(value: &str) -> String {
    match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
        None => value.to_owned(),
        Some(inner) => {
            let mut escaped = false;
            inner
                .chars()
                .filter(|char| {
                    escaped = *char == '\\' && !escaped;
                    !escaped
                })
                .collect()
        }
    }
}

/// A number of seconds: digits and nothing else. Too many are very many.
pub fn delta(value: &str) -> Option<Duration> {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Duration::from_secs(value.parse().unwrap_or(SECONDS_MAX).min(SECONDS_MAX)))
}

/// What `CDN-Cache-Control` says; `None` when it is not there, empty, or no valid dictionary of structured fields
/// (RFC 9213 section 2.1: it is ignored then).
fn targeted(headers: &impl Fields) -> Option<Control> {
    let lines: Option<Vec<&str>> = headers.all(&CDN).map(fields::text).collect();
    let text = lines?.join(", ");
    if text.trim().is_empty() || text.len() > BYTES_MAX {
        return None;
    }
    let mut control = Control { targeted: true, ..Control::default() };
    let mut members: Vec<(&str, Item)> = Vec::new();
    let mut rest = text.trim_matches(' ');
    loop {
        let (key, after) = key(rest)?;
        let (item, after) = match after.strip_prefix('=') {
            Some(value) => bare(value)?,
            None => (Item::Boolean(true), after),
        };
        let after = parameters(after)?;
        // The last of several counts (RFC 9651 section 4.2.2), unlike in `Cache-Control`.
        members.retain(|(known, _)| *known != key);
        if members.len() >= DIRECTIVES_MAX {
            return None;
        }
        members.push((key, item));
        let after = after.trim_start_matches([' ', '\t']);
        if after.is_empty() {
            break;
        }
        rest = after.strip_prefix(',')?.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            return None;
        }
    }
    for (key, item) in members {
        let is_time = matches!(key, "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error");
        match item {
            Item::Integer(seconds) if is_time => {
                control.take(key, Some(u64::try_from(seconds).unwrap_or_default().to_string()));
            }
            _ if is_time => return None,
            Item::Boolean(true) | Item::Other => control.take(key, None),
            Item::Boolean(false) | Item::Integer(_) => {}
        }
    }
    Some(control)
}

/// A value of a structured field, as far as it matters here.
enum Item {
    Boolean(bool),
    Integer(i64),
    Other,
}

fn key(text: &str) -> Option<(&str, &str)> {
    let starts = |char: char| char.is_ascii_lowercase() || char == '*';
    let goes_on = |char: char| starts(char) || char.is_ascii_digit() || "_-.".contains(char);
    if !text.starts_with(starts) {
        return None;
    }
    Some(text.split_at(text.find(|char| !goes_on(char)).unwrap_or(text.len())))
}

/// One bare item (RFC 9651 section 4.2.3.1), and what follows. Lists in brackets, decimals, dates and bytes are no
/// directive's value, so the dictionary is as good as broken.
fn bare(text: &str) -> Option<(Item, &str)> {
    let first = text.chars().next()?;
    if let Some(rest) = text.strip_prefix('?') {
        return match rest.split_at_checked(1)? {
            ("1", rest) => Some((Item::Boolean(true), rest)),
            ("0", rest) => Some((Item::Boolean(false), rest)),
            _ => None,
        };
    }
    if first == '-' || first.is_ascii_digit() {
        let digits = text[1..].find(|char: char| !char.is_ascii_digit()).map_or(text.len(), |end| end + 1);
        let (number, rest) = text.split_at(digits);
        // 15 digits and a sign at most
        let number = number.parse::<i64>().ok().filter(|_| number.len() <= 16 && !rest.starts_with('.'))?;
        return Some((Item::Integer(number), rest));
    }
    if let Some(inner) = text.strip_prefix('"') {
        let mut escaped = false;
        for (at, char) in inner.char_indices() {
            match char {
                '"' | '\\' if escaped => escaped = false,
                _ if escaped => return None,
                '\\' => escaped = true,
                '"' => return Some((Item::Other, &inner[at + 1..])),
                ' '..='~' => {}
                _ => return None,
            }
        }
        return None;
    }
    let is_token = |char: char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(char);
    if first.is_ascii_alphabetic() || first == '*' {
        return Some((Item::Other, &text[text.find(|char| !is_token(char)).unwrap_or(text.len())..]));
    }
    None
}

/// What follows an item's parameters, which say nothing here.
fn parameters(mut text: &str) -> Option<&str> {
    while let Some(rest) = text.strip_prefix(';') {
        let (_, rest) = key(rest.trim_start_matches(' '))?;
        text = match rest.strip_prefix('=') {
            Some(value) => bare(value)?.1,
            None => rest,
        };
    }
    Some(text)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        lines.iter().map(pair).collect()
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn lifetimes() {
        for (text, max_age) in [
            ("max-age=60", seconds(60)),
            ("MaX-AgE=60", seconds(60)),
            ("foo, max-age=60, bar=1", seconds(60)),
            ("max-age=\"60\"", seconds(60)),
            ("max-age=0060", seconds(60)),
            ("max-age=60, max-age=1", seconds(60)),
            ("max-age=99999999999999999999999", seconds(SECONDS_MAX)),
            // Said, but not understood: no time at all.
            ("max-age=-1", seconds(0)),
            ("max-age=60.0", seconds(0)),
            ("max-age=60s", seconds(0)),
            ("max-age='60'", seconds(0)),
            ("max-age= 60", seconds(0)),
            ("max-age", seconds(0)),
            // Not said.
            ("max-age =60", None),
            ("x=\"max-age=60\"", None),
            ("x=\"\\\", max-age=60\"", None),
            ("", None),
        ] {
            assert_eq!(Control::of(&headers(&[("cache-control", text)])).max_age, max_age, "{text}");
        }
    }

    #[test]
    fn flags_and_fields() {
        let control = Control::of(&headers(&[
            ("cache-control", "No-Cache=\"a, set-cookie\", public"),
            ("cache-control", "s-maxage=5,stale-while-revalidate=6,stale-if-error=7"),
        ]));
        assert!(!control.no_cache && control.public && !control.private);
        assert_eq!(control.without, ["a", "set-cookie"]);
        assert_eq!((control.s_maxage, control.max_age), (seconds(5), None));
        assert_eq!((control.stale_while_revalidate, control.stale_if_error), (seconds(6), seconds(7)));
        for text in ["no-cache", "no-cache=\"\"", "no-cache="] {
            assert!(Control::of(&headers(&[("cache-control", text)])).no_cache, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_kept() {
        let many = "a,".repeat(DIRECTIVES_MAX + 1);
        let long = format!("max-age=60, a={}", "b".repeat(BYTES_MAX));
        for text in ["max-age=60, x=\"y", &many, &long] {
            assert!(Control::of(&headers(&[("cache-control", text)])).no_store, "{text}");
        }
        assert!(Control::of(&headers(&[("cache-control", "no-store, x=\u{e6}")])).no_store);
    }

    /// RFC 9213 section 2: it replaces `Cache-Control`, unless it is invalid.
    #[test]
    fn targeted_ones_win() {
        let both = |text: &str| {
            let control =
                Control::of(&headers(&[("cache-control", "no-store"), ("cdn-cache-control", text)]));
            (control.targeted, control.no_store, control.max_age)
        };
        for text in
            ["max-age=60", "max-age=60;x=\"y\", foo=bar", "a=?0,max-age=1, max-age=60", "max-age=60, b"]
        {
            assert_eq!(both(text), (true, false, seconds(60)), "{text}");
        }
        assert_eq!(both("no-store, max-age=60"), (true, true, seconds(60)));
        assert_eq!(both("no-store=?0"), (true, false, None));
        for text in [
            "",
            "max-age=60, &&&",
            "max-age=\"60\"",
            "max-age=6.0",
            "MaX-age=60",
            "max-age =60",
            "max-age= 60",
            "max-age=60,",
            "max-age=60 b",
            "a=(1 2)",
            "a=\"",
            "max-age",
        ] {
            assert_eq!(both(text), (false, true, None), "{text}");
        }
    }

    #[test]
    fn demands() {
        let demand = |text| Demand::of(&headers(&[("cache-control", text)]));
        assert_eq!(demand("max-stale").max_stale, seconds(SECONDS_MAX));
        assert_eq!(demand("max-stale=5").max_stale, seconds(5));
        assert_eq!(demand("max-stale=x").max_stale, None);
        assert_eq!(demand("max-age=x").max_age, seconds(0));
        assert_eq!(demand("min-fresh=5").min_fresh, seconds(5));
        assert!(demand("only-if-cached, no-cache").only_if_cached);
        assert!(demand("\"").no_store);
        assert_eq!(demand("nothing-to-see-here"), Demand::default());
    }

    proptest! {
        /// `no-store` outside quotes is seen, whatever stands around it.
        #[test]
        fn nothing_hides_no_store(before in "[a-z=,; \"\\\\0-9]{0,40}", after in "[a-z=,; \"\\\\0-9]{0,40}") {
            let text = format!("{before},no-store,{after}");
            let quoted = {
                let (mut quoted, mut escaped) = (false, false);
                for char in before.chars() {
                    match char {
                        _ if escaped => escaped = false,
                        '\\' if quoted => escaped = true,
                        '"' => quoted = !quoted,
                        _ => {}
                    }
                }
                quoted
            };
            let control = Control::of(&headers(&[("cache-control", &text)]));
            prop_assert!(quoted || control.no_store, "{}", text);
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut map = HeaderMap::new();
                map.insert(header::CACHE_CONTROL, value.clone());
                map.insert(CDN, value);
                let _ = (Control::of(&map), Demand::of(&map));
            }
        }
    }
}
