//! Whatever a certificate says, its subject is short, and ASCII without control characters.

use klar_fuzz::Fuzz;
use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

use super::*;

#[test]
fn a_subject_is_harmless() {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String("alice".into()));
    params
        .distinguished_name
        .push(DnType::OrganizationName, DnValue::PrintableString("Shop".try_into().unwrap()));
    params.distinguished_name.push(DnType::CountryName, DnValue::PrintableString("NO".try_into().unwrap()));
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    let name: &[u8] = b"\x30\x22\x30\x20\xa0\x03\x02\x01\x02\x02\x01\x01\x30\0\x30\0\x30\0\x30\x10\x31\x0e\x30\x0c\x06\x03\x55\x04\x03\x0c\x05alice";
    Fuzz {
        name: "subjects of certificates",
        seeds: &[&der[..], name],
        words: &[
            b"\x30\x82",
            b"\x31\x0e",
            b"\x06\x03\x55\x04\x03",
            b"\x0c",
            b"\x1e",
            b"\xa0\x03\x02\x01\x02",
            b"\x80",
            b"\x84\xff\xff\xff\xff",
            b"\x81\x80",
            b",",
            b"\\",
            b"#",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        ],
        longest: 700,
    }
    .run(|input| {
        let Some(subject) = of(input) else { return };
        assert!((1..=TEXT_MAX).contains(&subject.len()));
        assert!(subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{subject:?}");
        assert_eq!(of(input), Some(subject));
    });
}
