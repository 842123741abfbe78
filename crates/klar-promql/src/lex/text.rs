//! Strings: `"with \"escapes\""`, `'the same'`, `` `as it is` ``.

use std::fmt::Write as _;

/// The text in quotes at the beginning, and how long it is with them; else how much of it is wrong, and why.
pub(super) fn text(rest: &str) -> Result<(String, usize), (usize, String)> {
    let quote = rest.chars().next().unwrap_or_default();
    let open = || (rest.len(), format!("the string is never closed; put {quote} behind it"));
    let mut bytes = Vec::new();
    let mut left = rest.char_indices().skip(1);
    while let Some((at, one)) = left.next() {
        if one == quote {
            let length = at + 1;
            let bad = |_| {
                (length, "the string is no UTF-8; escape characters as `\\u00e6`, not as bytes".to_owned())
            };
            return String::from_utf8(bytes).map(|text| (text, length)).map_err(bad);
        }
        if quote != '`' && one == '\n' {
            return Err((
                at,
                format!("the string is not closed on its line; put {quote} behind it, or write `\\n`"),
            ));
        }
        if quote == '`' || one != '\\' {
            bytes.extend_from_slice(one.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let (_, escaped) = left.next().ok_or_else(open)?;
        let mut code = |first: Option<char>, count: usize, base: u32| {
            let mut digits: String = first.into_iter().collect();
            digits.extend(left.by_ref().take(count).map(|(_, one)| one));
            let length = at + escaped.len_utf8() + 1 + count;
            let is_code = digits.chars().all(|one| one.is_digit(base));
            let code = is_code.then(|| u32::from_str_radix(&digits, base).ok()).flatten();
            code.ok_or_else(|| {
                (length.min(rest.len()), format!("`\\{escaped}` needs digits of base {base} behind it"))
            })
        };
        let plain = match escaped {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' => b'\\',
            'x' => u8::try_from(code(None, 2, 16)?).unwrap_or_default(),
            '0'..='7' => u8::try_from(code(Some(escaped), 2, 8)?)
                .map_err(|_| (at + 4, "an octal escape ends at `\\377`".to_owned()))?,
            'u' | 'U' => {
                let count = if escaped == 'u' { 4 } else { 8 };
                let one = char::from_u32(code(None, count, 16)?)
                    .ok_or_else(|| (at + 2 + count, "the escape names no character".to_owned()))?;
                bytes.extend_from_slice(one.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ if escaped == quote => escaped as u8,
            _ => {
                let what = format!(
                    "`\\{escaped}` is no escape; write `\\\\{escaped}`, or put the string in backquotes"
                );
                return Err((at + 1 + escaped.len_utf8(), what));
            }
        };
        bytes.push(plain);
    }
    Err(open())
}

/// A text in quotes, with escapes.
pub(crate) fn quoted(text: &str) -> String {
    let mut to = String::with_capacity(text.len() + 2);
    to.push('"');
    for one in text.chars() {
        match one {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            // Writing to a string cannot fail.
            _ if one.is_control() => drop(write!(to, "\\u{:04x}", u32::from(one))),
            _ => to.push(one),
        }
    }
    to.push('"');
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read() {
        for (given, read) in [
            (r#""a""#, "a"),
            (r#""a\"b\n\t\\""#, "a\"b\n\t\\"),
            (r#"'it\'s'"#, "it's"),
            ("`\\d\n`", "\\d\n"),
            (r#""\x41\101\u00e6\U0001F600""#, "AAæ😀"),
            (r#""\xc3\xa6""#, "æ"),
        ] {
            assert_eq!(text(given), Ok((read.to_owned(), given.len())), "{given}");
            assert_eq!(text(&quoted(read)).unwrap().0, read);
        }
        for given in [
            r#""a"#,
            "\"a\nb\"",
            r#""\d""#,
            r#""\'""#,
            r#""\xff""#,
            r#""\x4""#,
            r#""\ud800""#,
            r#""\400""#,
            "\"\\",
        ] {
            assert!(text(given).is_err(), "{given}");
        }
    }
}
