//! Comparisons of texts, byte by byte: case counts.

use memchr::memmem;

/// `@contains`: whether `text` occurs in a value. `@strmatch` is the same.
#[must_use]
pub fn contains(value: &[u8], text: &[u8]) -> bool {
    memmem::find(value, text).is_some()
}

/// `@within`: whether a value occurs in `text`. An empty one does.
#[must_use]
pub fn within(value: &[u8], text: &[u8]) -> bool {
    contains(text, value)
}

/// `@beginsWith`
#[must_use]
pub fn begins_with(value: &[u8], text: &[u8]) -> bool {
    value.starts_with(text)
}

/// `@endsWith`
#[must_use]
pub fn ends_with(value: &[u8], text: &[u8]) -> bool {
    value.ends_with(text)
}

/// `@streq`
#[must_use]
pub fn str_eq(value: &[u8], text: &[u8]) -> bool {
    value == text
}

/// `@containsWord`: whether `text` occurs in a value with no letter of ASCII before it or behind.
///
/// Digits and underscores are no letters here.
#[must_use]
pub fn contains_word(value: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return true;
    }
    let is_letter = |at: Option<usize>| at.and_then(|at| value.get(at)).is_some_and(u8::is_ascii_alphabetic);
    let finder = memmem::Finder::new(text);
    // An occurrence that overlaps one of letters alone has a letter before it.
    let step = if text.iter().all(u8::is_ascii_alphabetic) { text.len() } else { 1 };
    let mut from = 0;
    while let Some(at) = value.get(from..).and_then(|rest| finder.find(rest)) {
        let begin = from + at;
        if !is_letter(begin.checked_sub(1)) && !is_letter(Some(begin + text.len())) {
            return true;
        }
        from = begin + step;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts() {
        assert!(contains(b"abc", b"bc") && contains(b"abc", b"") && !contains(b"abc", b"BC"));
        assert!(within(b"GET", b"GET POST") && within(b"", b"GET") && !within(b"PUT", b"GET POST"));
        assert!(begins_with(b"/a/b", b"/a") && !begins_with(b"/a", b"/a/b"));
        assert!(ends_with(b"a.php", b".php") && !ends_with(b"php", b".php"));
        assert!(str_eq(b"a", b"a") && !str_eq(b"a", b"A"));
    }

    #[test]
    fn words() {
        for (value, text, is_there) in [
            (&b"cat"[..], &b"cat"[..], true),
            (b"a cat", b"cat", true),
            (b"cats", b"cat", false),
            (b"concat", b"cat", false),
            (b"concat cat2", b"cat", true),
            (b"cat_", b"cat", true),
            (b"", b"cat", false),
            (b"anything", b"", true),
            (b"catcat", b"cat", false),
            (b"a.aa.aa.a", b"a.a", false),
            (b"x <a> y", b"<a>", true),
        ] {
            assert_eq!(contains_word(value, text), is_there, "{}", value.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn words_are_as_they_are_defined(value in "[ab. ]{0,12}", text in "[ab. ]{1,4}") {
            let (value, text) = (value.as_bytes(), text.as_bytes());
            let is_letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphabetic);
            let expected = (0..value.len()).any(|at| {
                value[at..].starts_with(text)
                    && !is_letter(at.checked_sub(1).map(|at| &value[at]))
                    && !is_letter(value.get(at + text.len()))
            });
            prop_assert_eq!(contains_word(value, text), expected);
        }
    }
}
