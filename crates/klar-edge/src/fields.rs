//! The header lines of a message, wherever they are kept: in a map, or still in the bytes that they came in.
//!
//! What decides by headers is written once, over this, and serves the straight way of a request (`lane/`) as well as
//! the general one.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use httparse::Header;

/// See the [module](self).
pub trait Fields {
    /// The values of all lines with this name, in their order.
    fn all<'a>(&'a self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a, Self>;

    /// Which of these names the first line has that has any of them.
    fn first_of<'n>(&self, names: &'n [HeaderName]) -> Option<&'n HeaderName>;

    /// The value of the first line with this name.
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The same, if it is nothing but visible ASCII, blanks and tabs.
    fn text(&self, name: &HeaderName) -> Option<&str> {
        self.first(name).and_then(text)
    }

    /// Whether there is a line with this name.
    fn has(&self, name: &HeaderName) -> bool {
        self.first(name).is_some()
    }
}

/// A value as text, if it is nothing but visible ASCII, blanks and tabs.
#[allow(unsafe_code)]
pub fn text(value: &[u8]) -> Option<&str> {
    let is_plain = value.iter().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~' | b'\t'));
    // SAFETY: each byte was just seen to be one of ASCII, and ASCII is UTF-8.
    is_plain.then(|| unsafe { std::str::from_utf8_unchecked(value) })
}

impl Fields for HeaderMap {
    fn all<'a>(&'a self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a> {
        self.get_all(name).into_iter().map(HeaderValue::as_bytes)
    }

    fn first_of<'n>(&self, names: &'n [HeaderName]) -> Option<&'n HeaderName> {
        // To look at each header once costs less than to look for each name.
        self.keys().find_map(|key| names.iter().find(|name| *name == key))
    }

    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.get(name).map(HeaderValue::as_bytes)
    }

    fn has(&self, name: &HeaderName) -> bool {
        self.contains_key(name)
    }
}

/// Lines as the parser found them.
#[derive(Debug, Clone, Copy)]
pub struct Lines<'l, 'b> {
    pub all: &'l [Header<'b>],
    /// A bit for each name that there may be: most names that are asked for are not there.
    marks: u64,
}

impl<'l, 'b> Lines<'l, 'b> {
    /// All lines of a head.
    pub fn new(all: &'l [Header<'b>]) -> Self {
        Self { all, marks: all.iter().fold(0, |marks, line| marks | mark(line.name)) }
    }

    fn place(&self, name: &HeaderName) -> Option<usize> {
        let name = name.as_str();
        if self.marks & mark(name) == 0 {
            return None;
        }
        self.all.iter().position(|line| is_alike(line.name, name))
    }
}

/// The bit of a name, in whatever case.
fn mark(name: &str) -> u64 {
    let name = name.as_bytes();
    let first = name.first().map_or(0, |first| first | 0x20);
    let last = name.last().map_or(0, |last| last | 0x20);
    let sum =
        u32::from(first).wrapping_mul(5).wrapping_add(u32::from(last)).wrapping_add(name.len() as u32 * 3);
    1 << (sum & 63)
}

impl<'l, 'b> Fields for Lines<'l, 'b> {
    fn all<'a>(&'a self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a, 'l, 'b> {
        // The name that is looked for may be gone when the next line is; those that are found are as good.
        let at = self.place(name).unwrap_or(self.all.len());
        let (found, name) = (&self.all[at..], self.all.get(at).map_or("", |line| line.name));
        found.iter().filter(move |line| is_alike(line.name, name)).map(|line| line.value)
    }

    fn first_of<'n>(&self, names: &'n [HeaderName]) -> Option<&'n HeaderName> {
        let there = |name: &&'n HeaderName| self.place(name).map(|place| (place, *name));
        names.iter().filter_map(|name| there(&name)).min_by_key(|(place, _)| *place).map(|(_, name)| name)
    }

    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.place(name).and_then(|place| self.all.get(place)).map(|line| line.value)
    }
}

/// Whether a line has this name, in whatever case.
pub fn is(line: &Header<'_>, name: &HeaderName) -> bool {
    is_alike(line.name, name.as_str())
}

fn is_alike(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.eq_ignore_ascii_case(other)
}

#[cfg(test)]
mod tests {
    use http::header;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn visible_text_is_text() {
        for byte in 0..=u8::MAX {
            let value = [b'a', byte];
            let other = HeaderValue::from_bytes(&value).ok();
            let other = other.as_ref().and_then(|value| value.to_str().ok());
            assert_eq!(text(&value), other, "{byte}");
        }
    }

    proptest! {
        /// Whoever asks gets the same from a map and from lines.
        #[test]
        fn both_say_the_same(lines in proptest::collection::vec(("(Host|host|VARY|vary|Cookie|x-a|X-A|x-b)", "[ -~]{0,3}"), 0..8)) {
            let map: HeaderMap = lines
                .iter()
                .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
                .collect();
            let headers: Vec<Header<'_>> =
                lines.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
            let slices = Lines::new(&headers);
            let names = [header::HOST, header::VARY, header::COOKIE, HeaderName::from_static("x-a")];
            for name in &names {
                let one: Vec<_> = map.all(name).collect();
                prop_assert_eq!(&one, &slices.all(name).collect::<Vec<_>>());
                let backwards: Vec<_> = slices.all(name).rev().collect();
                prop_assert_eq!(map.all(name).rev().collect::<Vec<_>>(), backwards);
                prop_assert_eq!(map.first(name), slices.first(name));
                prop_assert_eq!(map.text(name), slices.text(name));
                prop_assert_eq!(map.has(name), slices.has(name));
            }
            prop_assert_eq!(map.first_of(&names), slices.first_of(&names));
        }
    }
}
