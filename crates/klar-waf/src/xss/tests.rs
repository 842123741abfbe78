#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use klar_fuzz::Fuzz;
use libinjectionrs::xss::Html5Flags;
use libinjectionrs::{XssDetector, XssResult};

use super::*;

fn oracle(value: &[u8]) -> bool {
    XssDetector::new().detect(value) != XssResult::Safe
}

pub(super) const ATTACKS: &[&[u8]] = &[
    b"<script>alert(1)</script>",
    b"<ScRiPt src=//x.test>",
    b"\"><img src=x onerror=alert(1)>",
    b"' onmouseover='alert(1)",
    b"x onfocus=alert(1) autofocus",
    b"` onclick=alert(1)",
    b"<a href=javascript:alert(1)>",
    b"<a href=\"&#106;avascript:alert(1)\">",
    b"<a href=' \x01java&#x0a;script:alert(1)'>",
    b"<a href=`javascript:alert(1)`>",
    b"<svg/onload=alert(1)>",
    b"<svg><set attributename=href to=javascript:alert(1)>",
    b"<iframe srcdoc=x>",
    b"<!--[if IE]><b><![endif]-->",
    b"<!-- ` -->",
    b"<?import namespace=t>",
    b"<!ENTITY x SYSTEM \"y\">",
    b"<!doctype html>",
    b"<p style=x:expression(1)>",
    b"<a xlink:href=x xmlns:a=b>",
    b"<%foo%><b onclick=x>",
    b"<object data=x>",
    b"<x\0 o\0nclick=1 onclick=1>",
];

pub(super) const HARMLESS: &[&[u8]] = &[
    b"",
    b"hello",
    b"a < b and c > d",
    b"1 = 1",
    b"<b>bold</b> and <i class=\"x\">more</i>",
    b"<p>One</p><br/><ul><li>x</ul>",
    b"only once = yes",
    b"O'Brien said \"no\" = 1",
    b"price <= 10 && size >= 3",
    b"<a href=\"https://shop.test/data\">x</a>",
    b"<img src=/a.png alt='x y'>",
    b"<!-- a comment -->",
    b"{\"a\": \"<b>\"}",
    b"<![CDATA[x]]>",
    b"<3",
    b"</b>",
    b"&#106;avascript:",
];

#[test]
fn attacks_are_found_and_other_values_are_not() {
    for value in ATTACKS {
        assert!(detect(value), "{}", value.escape_ascii());
    }
    for value in HARMLESS {
        assert!(!detect(value), "{}", value.escape_ascii());
    }
}

#[test]
fn what_libinjection_passes_over_is_found() {
    for value in [
        &b"</><script>alert(1)</script>"[..],
        b"</b ><script>alert(1)</script>",
        b"<b \xff onclick=alert(1)>",
        b"<b onauxclick=alert(1)>",
    ] {
        let theirs = XssDetector::is_xss(value, Html5Flags::DataState);
        assert!(runs(value, State::Data) && !theirs, "{}", value.escape_ascii());
    }
}

#[rustfmt::skip] // a list of words
pub(super) const WORDS: &[&[u8]] = &[
    b"<", b">", b"</", b"/>", b"=", b"'", b"\"", b"`", b" ", b"\0", b"\n", b"\x0b", b"<!--", b"-->",
    b"--!>", b"-!>", b"<![CDATA[", b"]]>", b"<!", b"<?", b"<%", b"%>", b"<!DOCTYPE", b"[if", b"xml",
    b"import", b"entity", b"script", b"<b ", b"<svg", b"<xsl", b"style", b"href=", b"src=", b"to=",
    b"onclick=", b"onload", b"on", b"xmlns", b"xlink:", b"attributename=", b"javascript:", b"data:",
    b"&#x6a;", b"&#106", b"&#", b"&#x", b";", b"view-source:", b"vbscript:", b"java", b"\x7f", b"\xa0",
    b"/",
];

/// Where libinjection is known to see less, or the port to read otherwise.
fn is_known(value: &[u8], ours: bool) -> bool {
    // libinjection ends the name of an attribute at a zero byte, the port does not.
    value.contains(&0)
        || (ours
            && (value.contains(&0xff)
                || memchr::memmem::find(value, b"</").is_some()
                || value.windows(2).any(|two| two.eq_ignore_ascii_case(b"on"))))
}

#[test]
fn agrees_with_libinjection() {
    let (compared, attacks, others) = (Cell::new(0_u64), Cell::new(0_u64), Cell::new(0_u64));
    let seeds: Vec<&[u8]> = ATTACKS.iter().chain(HARMLESS).copied().collect();
    Fuzz { name: "HTML that runs", seeds: &seeds, words: WORDS, longest: 120 }.run(|value| {
        let (ours, theirs) = (detect(value), oracle(value));
        compared.set(compared.get() + 1);
        attacks.set(attacks.get() + u64::from(theirs));
        if ours != theirs && is_known(value, ours) {
            others.set(others.get() + 1);
            return;
        }
        assert_eq!(ours, theirs, "{}", value.escape_ascii());
    });
    println!(
        "{} compared, {} attacks, {} judged otherwise for a known reason",
        compared.get(),
        attacks.get(),
        others.get()
    );
    // Whoever goes on for long keeps what is rare.
    let is_long = std::env::var_os("KLAR_FUZZ_SECONDS").is_some();
    assert!(is_long || (others.get() * 20 < compared.get() && attacks.get() * 10 > compared.get()));
}

#[test]
fn time_is_linear() {
    // What would be quadratic if anything were read twice.
    for part in [
        &b"<!--"[..],
        b"<a ",
        b"<a b=\"",
        b"-\0",
        b"=&#0",
        b"<%",
        b"<![CDATA[",
        b"'\"`",
        b"<!DOCTYP",
        b"</a ",
    ] {
        let value = part.repeat(200_000);
        let _ = detect(&value);
    }
}
