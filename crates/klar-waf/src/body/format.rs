//! How a body is read: as its media type says, or as it looks, since apps read bodies also by what they find in them.

use crate::seclang::BodyProcessor;

/// The longest name of a field that makes a form of a text, in bytes, and so many pieces without one may stand before it.
const NAME_MAX: usize = 1024;
const NAMELESS_MAX: usize = 16;
/// A form has no line ends: this much is looked at, in bytes.
const LOOKED_AT: usize = 4096;

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
    } else if ends(b"/json") || ends(b"+json") || ends(b"/x-json") || is(b"application/jsonrequest") {
        Some(BodyProcessor::Json)
    } else if is(b"text/xml") || is(b"application/xml") || ends(b"+xml") {
        Some(BodyProcessor::Xml)
    } else {
        None
    }
}

/// How a body of some other type, or of none, is read: by how it begins. `None`: as a text. HTML is no XML.
pub fn guess(body: &[u8]) -> Option<BodyProcessor> {
    let body = without_mark(body).trim_ascii_start();
    match body.first()? {
        b'{' | b'[' | b'"' => Some(BodyProcessor::Json),
        b'<' => {
            let starts = |text: &[u8]| body.get(..text.len()).is_some_and(|it| it.eq_ignore_ascii_case(text));
            let is_xml = starts(b"<?xml") || (starts(b"<!doctype") && !starts(b"<!doctype html"));
            is_xml.then_some(BodyProcessor::Xml)
        }
        _ => is_form(body).then_some(BodyProcessor::UrlEncoded),
    }
}

/// Without the mark that says how a text is encoded.
pub fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Whether the first piece between `&` that has a name is one of a form.
fn is_form(body: &[u8]) -> bool {
    let begin = body.get(..LOOKED_AT).unwrap_or(body);
    if begin.trim_ascii_end().contains(&b'\n') {
        return false;
    }
    let is_name = |byte: &u8| byte.is_ascii_graphic() && !b"<>{}\"".contains(byte) || *byte >= 0x80;
    let mut pieces = begin.split(|byte| *byte == b'&').take(NAMELESS_MAX);
    pieces
        .find_map(|piece| piece.get(..memchr::memchr(b'=', piece)?))
        .is_some_and(|name| !name.is_empty() && name.len() <= NAME_MAX && name.iter().all(is_name))
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
        let late = format!("{}a=1", "&".repeat(NAMELESS_MAX));
        for (body, expected) in [
            ("", None),
            (" \n", None),
            ("{\"a\": 1}", Some(Json)),
            ("\u{feff}\r\n [1]", Some(Json)),
            ("\"a\"", Some(Json)),
            ("<?xml version='1.0'?><a/>", Some(Xml)),
            ("<!DOCTYPE a [<!ENTITY b SYSTEM 'c'>]><a/>", Some(Xml)),
            ("<!doctype html><p>", None),
            ("<div><br>", None),
            ("a=1", Some(UrlEncoded)),
            ("a=1\r\n", Some(UrlEncoded)),
            ("filter[name]=1' or 1=1--", Some(UrlEncoded)),
            ("a%5B0%5D=", Some(UrlEncoded)),
            ("&a&a:b=1", Some(UrlEncoded)),
            ("=1", None),
            ("a", None),
            ("x = 1", None),
            ("a=1\nb=2", None),
            ("Dear all, x=1", None),
            (&long, Some(UrlEncoded)),
            (&longer, None),
            (&late, None),
        ] {
            assert_eq!(guess(body.as_bytes()), expected, "{body:?}");
        }
    }
}
