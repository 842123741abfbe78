//! The subject of a certificate as text (RFC 5280 section 4.1.2.6, RFC 4514).
//!
//! Read only of certificates that an authority of the app has signed. The text is ASCII without control characters,
//! whatever the certificate says, so that it fits into a header and means one thing.

use std::fmt::Write;

/// A longer one is none, in bytes.
const TEXT_MAX: usize = 1024;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
/// Texts whose bytes are UTF-8: `UTF8String`, `PrintableString`, `IA5String`.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];
/// The short names of RFC 4514 section 3.
const NAMES: [(&[u8], &str); 9] = [
    (&[0x55, 0x04, 0x03], "CN"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x0a], "O"),
    (&[0x55, 0x04, 0x0b], "OU"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x09], "STREET"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01], "UID"),
];

/// The subject of a certificate in DER, the last part first: `CN=alice,O=Shop`.
///
/// `None` when it cannot be read, is empty, or is longer than 1024 bytes.
pub fn of(certificate: &[u8]) -> Option<String> {
    let mut whole = certificate;
    let mut whole = take(&mut whole, SEQUENCE)?;
    let mut body = take(&mut whole, SEQUENCE)?;
    // Version 1 does not say so.
    if body.first() == Some(&VERSION) {
        take(&mut body, VERSION)?;
    }
    take(&mut body, INTEGER)?; // serial number
    take(&mut body, SEQUENCE)?; // how it is signed
    take(&mut body, SEQUENCE)?; // by whom
    take(&mut body, SEQUENCE)?; // when it is valid
    let mut parts = Vec::new();
    let mut names = take(&mut body, SEQUENCE)?;
    while !names.is_empty() {
        let mut set = take(&mut names, SET)?;
        let mut values = Vec::new();
        while !set.is_empty() {
            let mut pair = take(&mut set, SEQUENCE)?;
            values.push(attribute(&mut pair)?);
        }
        parts.push(values.join("+"));
    }
    parts.reverse();
    let text = parts.join(",");
    (!text.is_empty() && text.len() <= TEXT_MAX).then_some(text)
}

/// One type and its value.
fn attribute(pair: &mut &[u8]) -> Option<String> {
    let kind = take(pair, OID)?;
    let whole = *pair;
    let (tag, value) = next(pair)?;
    if !pair.is_empty() {
        return None;
    }
    let name = NAMES.iter().find(|(oid, _)| *oid == kind).map(|(_, name)| *name);
    let text = std::str::from_utf8(value).ok().filter(|_| TEXTS.contains(&tag));
    match (name, text) {
        (Some(name), Some(text)) => Some(format!("{name}={}", escaped(text))),
        // Section 2.4: the encoding itself, which nobody can take for text.
        (name, _) => {
            let mut out = name.map_or_else(|| dotted(kind), |name| Some(name.to_owned()))?;
            out.push_str("=#");
            for byte in whole {
                write!(out, "{byte:02x}").ok()?;
            }
            Some(out)
        }
    }
}

/// RFC 4514 section 2.4.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for (at, char) in text.char_indices() {
        let is_last = at + char.len_utf8() == text.len();
        match char {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', char]),
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at == 0 || is_last => out.push_str("\\ "),
            ' '..='~' => out.push(char),
            char => {
                for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                    // Writing to a string never fails.
                    let _ = write!(out, "\\{byte:02X}");
                }
            }
        }
    }
    out
}

/// An object identifier in its numbers.
fn dotted(oid: &[u8]) -> Option<String> {
    let mut numbers = Vec::new();
    let mut number: u64 = 0;
    for byte in oid {
        number = number.checked_mul(128)? + u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            numbers.push(std::mem::take(&mut number));
        }
    }
    let (first, rest) = numbers.split_first()?;
    let top = (first / 40).min(2);
    let all: Vec<String> = [top, first - top * 40].iter().chain(rest).map(u64::to_string).collect();
    Some(all.join("."))
}

/// The content of the next element, which must be of this kind.
fn take<'a>(der: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    next(der).filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
}

/// The kind and the content of the next element.
fn next<'a>(der: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, short], rest) = der.split_first_chunk()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *der = rest;
    Some((tag, content))
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::*;

    fn made(parts: &[(DnType, DnValue)]) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_subject_reads_as_it_is_written_elsewhere() {
        let text = |text: &str| DnValue::Utf8String(text.into());
        for (parts, subject) in [
            (
                &[(DnType::OrganizationName, text("Shop")), (DnType::CommonName, text("alice"))][..],
                Some("CN=alice,O=Shop"),
            ),
            (&[(DnType::CountryName, DnValue::PrintableString("NO".try_into().unwrap()))], Some("C=NO")),
            (&[(DnType::CommonName, text("a,O=Bank"))], Some("CN=a\\,O=Bank")),
            (&[(DnType::CommonName, text("#a+b\\c\"<;>"))], Some("CN=\\#a\\+b\\\\c\\\"\\<\\;\\>")),
            (&[(DnType::CommonName, text(" a "))], Some("CN=\\ a\\ ")),
            (&[(DnType::CommonName, text("\u{f8}\r\nx: y"))], Some("CN=\\C3\\B8\\0D\\0Ax: y")),
            (
                &[(DnType::CustomDnType(vec![1, 2, 840, 113549, 1, 9, 1]), text("a@b"))],
                Some("1.2.840.113549.1.9.1=#0c03614062"),
            ),
            (&[(DnType::CommonName, DnValue::BmpString("a".try_into().unwrap()))], Some("CN=#1e020061")),
            (&[], None),
            (&[(DnType::CommonName, text(&"x".repeat(TEXT_MAX)))], None),
        ] {
            assert_eq!(of(&made(parts)).as_deref(), subject, "{parts:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = of(&bytes);
        }

        #[test]
        fn a_certificate_with_changed_bytes_is_read_without_harm(at in 0_usize..200, byte in any::<u8>()) {
            let mut der = made(&[(DnType::CommonName, DnValue::Utf8String("alice".into()))]);
            let at = at.min(der.len() - 1);
            der[at] = byte;
            let subject = of(&der).unwrap_or_default();
            prop_assert!(subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", subject);
        }
    }
}
