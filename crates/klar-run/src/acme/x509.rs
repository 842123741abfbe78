//! What klar has to know of a certificate: how long, for whom, by whom (RFC 5280, section 4.1).
//!
//! Only certificates that were asked for or given are read here, never a stranger's. Whether one is genuine is not
//! judged: that is for those who visit.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

/// The facts of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    /// Seconds since the Unix epoch.
    pub not_after: i64,
    /// Who signed it: the organisation and the common name, as far as there are such.
    pub issuer: String,
    /// The host names that it is for.
    pub names: Vec<String>,
    /// The bytes of the serial number.
    pub serial: Vec<u8>,
    /// The key identifier of the authority, where it says one.
    pub authority_key: Option<Vec<u8>>,
}

impl Facts {
    /// How long it is good for, in seconds.
    pub fn lifetime(&self) -> i64 {
        (self.not_after - self.not_before).max(0)
    }

    /// Whether it is good at a time, in seconds since the Unix epoch.
    pub fn is_valid(&self, now: i64) -> bool {
        (self.not_before..self.not_after).contains(&now)
    }

    /// Whether it is for a host name in lower case; a wildcard is for one label (RFC 9525, section 6.3).
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest == parent),
            None => name == host,
        })
    }
}

/// Reads the first certificate of a chain in PEM.
///
/// # Errors
/// Says what is not as it should be.
pub fn leaf(chain_pem: &str) -> Result<Facts, String> {
    let leaf = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .next()
        .ok_or_else(|| "there is no certificate in it".to_owned())?
        .map_err(|error| format!("it is not PEM: {error}"))?;
    read(&leaf).ok_or_else(|| "it is not a certificate (X.509)".to_owned())
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const KEY_IDENTIFIER: u8 = 0x80;
const DNS_NAME: u8 = 0x82;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];

fn read(der: &[u8]) -> Option<Facts> {
    let mut body = Der(Der(Der(der).take(SEQUENCE)?).take(SEQUENCE)?);
    body.take(VERSION)?;
    let serial = body.take(INTEGER)?.to_vec();
    body.take(SEQUENCE)?; // how it is signed
    let issuer = name(body.take(SEQUENCE)?);
    let mut validity = Der(body.take(SEQUENCE)?);
    let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
    body.take(SEQUENCE)?; // subject
    body.take(SEQUENCE)?; // its key
    let (mut names, mut authority_key) = (Vec::new(), None);
    while let Some((tag, content)) = body.next() {
        if tag != EXTENSIONS {
            continue;
        }
        let mut extensions = Der(Der(content).take(SEQUENCE)?);
        while let Some(extension) = extensions.take(SEQUENCE) {
            let mut extension = Der(extension);
            let kind = extension.take(OID)?;
            // A critical one says so between the two.
            let Some(value) = extension.find(OCTETS) else { continue };
            let inner = || Der(value).take(SEQUENCE).map(Der);
            if kind == SUBJECT_ALT_NAME {
                let mut all = inner()?;
                while let Some((tag, name)) = all.next() {
                    if tag == DNS_NAME {
                        names.push(std::str::from_utf8(name).ok()?.to_ascii_lowercase());
                    }
                }
            } else if kind == AUTHORITY_KEY {
                authority_key = inner()?.find(KEY_IDENTIFIER).map(<[u8]>::to_vec);
            }
        }
    }
    Some(Facts { not_before, not_after, issuer, names, serial, authority_key })
}

/// The organisation and the common name.
fn name(der: &[u8]) -> String {
    let (mut organisation, mut common) = (None, None);
    let mut sets = Der(der);
    while let Some((_, set)) = sets.next() {
        let Some(pair) = Der(set).take(SEQUENCE) else { continue };
        let mut pair = Der(pair);
        let (Some(kind), Some((_, text))) = (pair.take(OID), pair.next()) else { continue };
        let text: String = String::from_utf8_lossy(text).chars().filter(|char| !char.is_control()).collect();
        match kind {
            COMMON_NAME => common = Some(text),
            ORGANISATION => organisation = Some(text),
            _ => {}
        }
    }
    let parts: Vec<String> = [organisation, common].into_iter().flatten().collect();
    parts.join(" ")
}

/// `YYMMDDHHMMSSZ` until 2049, `YYYYMMDDHHMMSSZ` after (RFC 5280, section 4.1.2.5).
fn time(der: &mut Der<'_>) -> Option<i64> {
    let (tag, text) = der.next()?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let short: i16 = text[..2].parse().ok()?;
            (if short < 50 { 2000 + short } else { 1900 + short }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let part = |index: usize| rest[2 * index..2 * index + 2].parse::<i8>().ok();
    let date = jiff::civil::DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?, 0).ok()?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// Elements one after the other (X.690): a tag, a length, the content.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = match first {
            0..=0x7f => usize::from(first),
            // A certificate is shorter than 16 MiB.
            0x81..=0x83 => {
                let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = after;
                bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, content))
    }

    fn take(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().and_then(|(tag, content)| (tag == wanted).then_some(content))
    }

    fn find(&mut self, wanted: u8) -> Option<&'a [u8]> {
        while let Some((tag, content)) = self.next() {
            if tag == wanted {
                return Some(content);
            }
        }
        None
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber};
    use std::time::{Duration, SystemTime};

    fn certificate(not_before: i64, not_after: i64) -> rcgen::Certificate {
        let mut params =
            CertificateParams::new(vec!["shop.example".into(), "*.shop.example".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "R3");
        params.distinguished_name.push(DnType::OrganizationName, "Some Authority");
        let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap());
        params.not_before = at(not_before).into();
        params.not_after = at(not_after).into();
        params.serial_number = Some(SerialNumber::from_slice(&[0x87, 0x65]));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn facts_are_what_was_signed() {
        // Both forms of a time: before and after 2050.
        for (not_before, not_after) in [(1_800_000_000, 1_807_776_000), (1_800_000_000, 2_600_000_001)] {
            let facts = leaf(&certificate(not_before, not_after).pem()).unwrap();
            assert_eq!((facts.not_before, facts.not_after), (not_before, not_after));
            assert_eq!(facts.issuer, "Some Authority R3");
            assert_eq!(facts.names, ["shop.example", "*.shop.example"]);
            assert_eq!(facts.serial, [0, 0x87, 0x65]);
            for (host, covered) in [
                ("shop.example", true),
                ("www.shop.example", true),
                ("a.b.shop.example", false),
                ("example", false),
                ("myshop.example", false),
            ] {
                assert_eq!(facts.covers(host), covered, "{host}");
            }
        }
        assert!(
            leaf("").is_err()
                && leaf("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----").is_err()
        );
    }

    proptest! {
        #[test]
        fn damage_is_refused_and_never_a_panic(at in 0usize..600, byte: u8, cut in 0usize..600) {
            let mut der = certificate(1_800_000_000, 1_807_776_000).der().to_vec();
            let length = der.len();
            der[at % length] = byte;
            der.truncate(cut.max(1));
            let _ = read(&der);
        }
    }
}
