//! A certificate with anything in it is read, or refused; what is read is short and has nothing in it for a terminal.

use klar_fuzz::Fuzz;
use rcgen::{CertificateParams, DnType, KeyPair};

use super::*;

#[test]
fn facts_are_harmless() {
    let mut params = CertificateParams::new(vec!["shop.example".into(), "*.shop.example".into()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "R3");
    params.distinguished_name.push(DnType::OrganizationName, "Some Authority");
    params.use_authority_key_identifier_extension = true;
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    Fuzz {
        name: "certificates that were got",
        seeds: &[&der[..]],
        words: &[
            b"\x30\x82",
            b"\x06\x03\x55\x1d\x11",
            b"\x06\x03\x55\x1d\x23",
            b"\x17\x0d270115080000Z",
            b"\x18\x0f20500115080000Z",
            b"\x18\x0f99991231235959Z",
            b"\xa3",
            b"\x82\x01*",
            b"\x83\xff\xff\xff",
            b"\x80",
        ],
        longest: 900,
    }
    .run(|input| {
        let Some(facts) = read(input) else { return };
        assert!(facts.lifetime() >= 0);
        assert!(!facts.issuer.chars().any(char::is_control));
        let parts = facts.names.iter().map(String::len).sum::<usize>() + facts.serial.len();
        assert!(parts <= input.len(), "nothing is there that was not in it");
        // Whom it covers is decided by whole labels.
        for name in &facts.names {
            let is_covered = facts.covers(name);
            assert!(is_covered || name.starts_with("*."), "{name}");
        }
        assert_eq!(read(input), Some(facts));
    });
}
