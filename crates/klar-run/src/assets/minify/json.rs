//! JSON (RFC 8259): white space between its signs means nothing.

use serde::de::IgnoredAny;

use super::Minified;

pub fn minify(text: &str) -> Minified {
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        return Minified::Broken("it is no JSON");
    }
    let mut out = String::with_capacity(text.len());
    let (mut in_text, mut escaped) = (false, false);
    for char in text.chars() {
        if in_text {
            in_text = escaped || char != '"';
            escaped = char == '\\' && !escaped;
        } else if matches!(char, ' ' | '\t' | '\n' | '\r') {
            continue;
        } else {
            in_text = char == '"';
        }
        out.push(char);
    }
    Minified::Smaller(out)
}
