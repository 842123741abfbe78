//! The words of a piece of Markdown, without its marks.

/// What a person reads: no emphasis, links, tags, addresses, emoji; what is struck out is gone.
pub(crate) fn plain(markdown: &str) -> String {
    let mut out = String::new();
    let mut rest = markdown;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\\' if after.starts_with(|next: char| next.is_ascii_punctuation()) => {
                out.push_str(&after[..1]);
                &after[1..]
            }
            '<' => match tag(rest, &mut out) {
                Some(rest) => rest,
                // Less than.
                None => {
                    out.push(c);
                    after
                }
            },
            '~' if after.starts_with('~') => match after[1..].find("~~") {
                Some(end) => &after[1 + end + 2..],
                None => &after[1..],
            },
            '!' if after.starts_with('[') => after,
            ']' => address(after),
            '{' if braces(rest).is_some() => &rest[braces(rest).unwrap_or(0)..],
            '`' | '*' | '[' => after,
            '_' if !inside_word(&out, after) => after,
            'h' if (rest.starts_with("http://") || rest.starts_with("https://")) => {
                &rest[rest.find(char::is_whitespace).unwrap_or(rest.len())..]
            }
            '&' if after.starts_with("amp;") => {
                out.push('&');
                &after[4..]
            }
            c if is_picture(c) => {
                out.push(' ');
                after
            }
            c => {
                out.push(c);
                after
            }
        };
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The end of `{edge.tls}` at the start of the text, where braces name rows.
pub(crate) fn braces(text: &str) -> Option<usize> {
    let end = text.find('}')?;
    let inside = text.get(1..end)?;
    inside.split(',').all(|id| super::is_id(id.trim())).then_some(end + 1)
}

/// `(address)` or `[reference]` after the text of a link.
fn address(after: &str) -> &str {
    let close = match after.chars().next() {
        Some('(') => ')',
        Some('[') => ']',
        _ => return after,
    };
    after.find(close).map_or(after, |end| &after[end + 1..])
}

/// A tag says nothing; `<` before anything else is "less than".
fn tag<'a>(text: &'a str, out: &mut String) -> Option<&'a str> {
    let name = text[1..].trim_start_matches(['/', '!']);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '-') {
        return None;
    }
    let end = text.find('>')?;
    out.push(' ');
    Some(&text[end + 1..])
}

fn inside_word(before: &str, after: &str) -> bool {
    before.ends_with(char::is_alphanumeric) && after.starts_with(char::is_alphanumeric)
}

fn is_picture(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{2bff}' | '\u{fe00}'..='\u{fe0f}' | '\u{1f000}'..='\u{1faff}' | '\u{200d}' | '\u{20e3}')
}

/// Words, folded so that spelling varies less: lower case, `æ` and `ä` as `a`, `ø` and `ö` as `o`.
///
/// Numbers keep their point (`99.9`), and a comma before a digit is one. A percent sign is a word.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    let mut words = vec![String::new()];
    for (at, c) in letters.iter().enumerate() {
        let digit =
            |place: Option<usize>| place.and_then(|p| letters.get(p)).is_some_and(char::is_ascii_digit);
        let word = match c {
            '.' | ',' if digit(at.checked_sub(1)) && digit(Some(at + 1)) => '.',
            // An apostrophe is not heard: don't, team's. A combining mark was folded with its letter.
            '\'' | '\u{2019}' | '\u{ad}' | '\u{300}'..='\u{36f}' => continue,
            '%' => {
                words.push("%".to_owned());
                words.push(String::new());
                continue;
            }
            c if c.is_alphanumeric() => fold(*c),
            _ => {
                words.push(String::new());
                continue;
            }
        };
        if let Some(last) = words.last_mut() {
            last.push(word);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn fold(c: char) -> char {
    match c {
        'å' | 'ä' | 'æ' | 'á' | 'à' | 'â' => 'a',
        'ö' | 'ø' | 'ó' | 'ò' | 'ô' => 'o',
        'é' | 'è' | 'ê' | 'ë' => 'e',
        'ü' | 'ú' => 'u',
        'í' | 'ï' => 'i',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_and_words_stay() {
        for (markdown, text) in [
            ("**TLS** for _all_ `traffic`", "TLS for all traffic"),
            ("[docs](https://a.b/c) at https://a.b", "docs at"),
            ("![alt](x.png) then [ref][1]", "alt then ref"),
            ("🔒 Kryptert ✅", "Kryptert"),
            ("~~old~~ new", "new"),
            ("a_b <b>c</b> < 5 {edge.tls} {x}", "a_b c < 5 {x}"),
            ("a &amp; b \\*c\\*", "a & b *c*"),
        ] {
            assert_eq!(plain(markdown), text);
        }
    }

    #[test]
    fn words_are_folded() {
        assert_eq!(tokens("Nøkkel-håndtering på 99,9 %!"), ["nokkel", "handtering", "pa", "99.9", "%"]);
        assert_eq!(tokens("don't; p95<200ms"), ["dont", "p95", "200ms"]);
    }
}
