//! How a body is read: as its media type says, or as it looks, since apps read bodies also by what they find in them.

use crate::seclang::BodyProcessor;

/// The longest name of a field that makes a form of a text, in bytes.
const NAME_MAX: usize = 128;

/// How a body of this media type is read, before a rule says otherwise.
pub fn of_type(content_type: &[u8]) -> Option<BodyProcessor> {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let is = |wanted: &[u8]| kind.eq_ignore_ascii_case(wanted);
    let ends = |wanted: &[u8]| {
        kind.len() >= wanted.len()
            && kind.get(kind.len() - wanted.len()..).is_some_and(|end| end.eq_ignore_ascii_case(wanted))
    };
    if is(b"application/x-www-form-urlencoded") {
        Some(BodyProcessor::UrlEncoded)
    } else if kind.get(..19).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/form-data")) {
        Some(BodyProcessor::Multipart)
    } else if is(b"application/json") || ends(b"+json") {
        Some(BodyProcessor::Json)
    } else if is(b"text/xml") || is(b"application/xml") || ends(b"+xml") {
        Some(BodyProcessor::Xml)
    } else {
        None
    }
}

/// How a body of some other type, or of none, is read: by how it begins. `None`: as a text.
pub fn guess(body: &[u8]) -> Option<BodyProcessor> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    match body.first()? {
        b'{' | b'[' | b'"' => Some(BodyProcessor::Json),
        b'<' => Some(BodyProcessor::Xml),
        _ => {
            let begin = body.get(..=NAME_MAX).unwrap_or(body);
            let name = begin.get(..memchr::memchr(b'=', begin)?)?;
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.[]%+$".contains(byte);
            (!name.is_empty() && name.iter().all(is_name)).then_some(BodyProcessor::UrlEncoded)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn bodies_by_how_they_begin() {
        use BodyProcessor::{Json, UrlEncoded, Xml};
        let long = format!("{}=1", "a".repeat(NAME_MAX));
        let longer = format!("a{long}");
        for (body, expected) in [
            ("", None),
            (" \n", None),
            ("{\"a\": 1}", Some(Json)),
            ("\u{feff}\r\n [1]", Some(Json)),
            ("\"a\"", Some(Json)),
            ("<?xml version='1.0'?><a/>", Some(Xml)),
            ("a=1", Some(UrlEncoded)),
            ("filter[name]=1' or 1=1--", Some(UrlEncoded)),
            ("a%5B0%5D=", Some(UrlEncoded)),
            ("=1", None),
            ("a", None),
            ("x = 1", None),
            ("Dear all,\nx=1", None),
            (&long, Some(UrlEncoded)),
            (&longer, None),
        ] {
            assert_eq!(guess(body.as_bytes()), expected, "{body:?}");
        }
    }
}
