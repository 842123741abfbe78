#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::tests::soon;

/// What each of them makes of a value; `None`: nothing changes.
fn of(which: Transformation, value: &[u8]) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    let is_changed = which.apply(value, &mut out);
    let written = out.strip_prefix(b"before").unwrap().to_vec();
    assert!(is_changed || written.is_empty(), "{which:?} {}", value.escape_ascii());
    is_changed.then_some(written)
}

/// The name of a transformation, and values with what becomes of them.
type Row<'a> = (&'a str, &'a [(&'a [u8], &'a [u8])]);

/// As libmodsecurity 3 has it.
#[test]
fn values_become_what_they_hide() {
    let rows: &[Row] = &[
        (
            "urlDecodeUni",
            &[
                (b"a%41+b", b"aA b"),
                (b"%u0041%U0042", b"AB"),
                (b"%uff21%uFF5e%uff00%uff5f", b"A~\0\x5f"),
                (b"%u1241", b"A"),
                (b"%u004", b"%u004"),
                (b"%u004g%41", b"%u004gA"),
                (b"%u", b"%u"),
                (b"%%41", b"%A"),
                (b"%4", b"%4"),
                (b"%", b"%"),
                (b"%zz+", b"%zz "),
                (b"%00", b"\0"),
            ],
        ),
        ("urlDecode", &[(b"%u0041+%41%4", b"%u0041 A%4"), (b"%2541", b"%41"), (b"plain", b"plain")]),
        ("urlEncode", &[(b"a Z*9", b"a+Z*9"), (b"a/\xff-", b"a%2f%ff%2d")]),
        (
            "jsDecode",
            &[
                (b"\\u0041\\uff21", b"AA"),
                (b"\\x41\\x4", b"Ax4"),
                (b"\\101\\377\\400\\8", b"A\xff\x200\x38"),
                (b"\\a\\n\\q\\'\\\\", b"\x07\nq'\\"),
                (b"\\u12", b"u12"),
                (b"a\\", b"a\\"),
                (b"\\1", b"\x01"),
            ],
        ),
        (
            "escapeSeqDecode",
            &[
                (b"\\n\\x41\\X42\\?\\\"", b"\nAB?\""),
                (b"\\101\\777\\8", b"A\xff8"),
                (b"\\x4g", b"x4g"),
                (b"a\\", b"a\\"),
                (b"\\\\x41", b"\\x41"),
            ],
        ),
        (
            "cssDecode",
            &[
                (b"\\41 b\\41b", b"Ab\x1b"),
                (b"\\a\\61\\062", b"\nab"),
                (b"\\ff21\\0ff21\\00ff21\\01ff21 x", b"AAA!x"),
                (b"\\12ff21", b"!"),
                (b"a\\\nb\\qc\\", b"abqc"),
                (b"a\\0b", b"a\x0b"),
                (b"a\0\\z", b"a\0z"),
            ],
        ),
        (
            "htmlEntityDecode",
            &[
                (b"&#65;&#x41;&#X41&#65b", b"AAAAb"),
                (b"&quot;&AMP&lt;&Gt&nbsp;", b"\"&<>\xa0"),
                (b"&#;&#x;&#xg&#", b"&#;&#x;&#xg&#"),
                (b"&copy;&ltx;&", b"&copy;&ltx;&"),
                (b"&&lt;", b"&<"),
                (b"&#321;", b"A"),
                (b"&#99999999999999999999;&#xffffffffffffffffff;", b"\xff\xff"),
            ],
        ),
        (
            "sqlHexDecode",
            &[
                (b"0x414243", b"ABC"),
                (b"0X4g", b"0X4g"),
                (b"x0x41424g0x4", b"xAB4g0x4"),
                (b"00x41", b"0A"),
                (b"\x000x41", b"\0A"),
            ],
        ),
        ("hexDecode", &[(b"4142", b"AB"), (b"414", b"A"), (b"zz", b"\x53"), (b"4", b"")]),
        ("hexEncode", &[(b"A\xff\0", b"41ff00"), (b"", b"")]),
        (
            "base64Decode",
            &[
                (b"QUJD", b"ABC"),
                (b"QUI=", b"AB"),
                (b"QQ==", b"A"),
                (b"QUJDRA", b"ABC"),
                (b"QUJDQ==", b"ABC"),
                (b"QU\r\nJD \nQUJD ", b"ABCABC"),
                (b"QU JD", b""),
                (b"QQ==QQ==", b""),
                (b"QQ-_", b""),
                (b"QUJD\0!", b"ABC"),
                (b"Q", b""),
            ],
        ),
        (
            "base64DecodeExt",
            &[
                (b"QUJD", b"ABC"),
                (b"Q.U-J D", b"ABC"),
                (b"QUJDRA", b"ABCD"),
                (b"QQ==QUJD", b"A\x04\x14\x24"),
                (b"QUJDQ=", b""),
                (b"QUJD9", b""),
                (b"QUJDQ", b"ABC"),
                (b"PD9waHA", b"<?php"),
            ],
        ),
        (
            "base64Encode",
            &[(b"A", b"QQ=="), (b"AB", b"QUI="), (b"ABC", b"QUJD"), (b"\xff\xfe\xfd\xfc", b"//79/A==")],
        ),
        (
            "cmdLine",
            &[
                (b"C^:\\\"Win\"  ,;\tx", b"c:win x"),
                (b"cat  /etc (a", b"cat/etc(a"),
                (b" /a", b"/a"),
                (b"a ^/b", b"a/b"),
                (b"a\x0bb", b"a\x0bb"),
            ],
        ),
        ("compressWhitespace", &[(b"a \t\n\x0b\x0c\rb\tc ", b"a b c "), (b"a b", b"a b")]),
        ("removeWhitespace", &[(b" a\tb\xc2\xa0c\x0b", b"abc")]),
        ("trim", &[(b" \ta b\n\0", b"a b\n\0"), (b"\x0b\x0c", b"")]),
        ("trimLeft", &[(b" \ta ", b"a ")]),
        ("trimRight", &[(b" a\r\n", b" a")]),
        ("removeNulls", &[(b"\0a\0\0b", b"ab")]),
        ("replaceNulls", &[(b"\0a\0\0b", b" a  b")]),
        ("lowercase", &[(b"aBZ[@\xc4", b"abz[@\xc4")]),
        ("uppercase", &[(b"aBz{`\xe4", b"ABZ{`\xe4")]),
        ("length", &[(b"", b"0"), (b"1", b"1"), (b"abcdefghijkl", b"12")]),
        ("parityZero7bit", &[(b"a\xe1", b"aa")]),
        ("parityEven7bit", &[(b"abc", b"\xe1\xe2c")]),
        ("parityOdd7bit", &[(b"abc", b"ab\xe3")]),
        (
            "removeComments",
            &[
                (b"a/*b*/c/*d", b"ac "),
                (b"a/*b*/", b"a\0"),
                (b"a<!--b-->c", b"ac"),
                (b"a--b", b"a"),
                (b"a#b", b"a"),
                (b"/*a*//*b*/c", b"/*b*/c"),
                (b"/*a-->b*/c", b"b*/c"),
                (b"/*/", b" "),
            ],
        ),
        ("removeCommentsChar", &[(b"a/*b*/c--d#e<!--f-->g", b"abcdefg"), (b"//**", b"/*"), (b"---->", b"")]),
        ("replaceComments", &[(b"a/*b*/c/*d", b"a c "), (b"a/b*/", b"a/b*/"), (b"/*/*/x", b" x")]),
        (
            "normalizePath",
            &[
                (b"/a//b/./c/../d", b"/a/b/d"),
                (b"/../../a", b"/a"),
                (b"../a/..", b".."),
                (b"a/../../b", b"../b"),
                (b"./a/.", b"a"),
                (b"ab..", b""),
                (b"..", b".."),
                (b".", b""),
                (b"/", b"/"),
                (b"/..", b""),
                (b"/a/b/", b"/a/b/"),
                (b"/a\\..\\b", b"/a\\..\\b"),
            ],
        ),
        (
            "normalizePathWin",
            &[
                (b"\\a\\\\b\\..\\c", b"/a/c"),
                (b"c:\\x\\.\\y", b"c:/x/y"),
                (b"\\\\\\", b"\\"),
                (b"a\\", b"a/"),
            ],
        ),
        (
            "utf8toUnicode",
            &[
                ("aé€😀".as_bytes(), b"a%u00e9%u20ac%u1f600"),
                (b"a\0b\0", b"ab"),
                (b"\xc3(\xe2\x82", b"(\x82"),
                (b"\x80\xff\xf8", b"\x80\xff\xf8"),
                (b"\xc1\x81", b"%u0041\xc1"),
                (b"\xed\xa0\x80", b"%ud800\xed"),
                (b"\xf4\x8f\xbf\xbf", b"%u10ffff"),
                (b"\xf5\x80\x80\x80", b"\xf5%u140000"),
                (b"\xf5", b"\xf5"),
            ],
        ),
    ];
    for (name, pairs) in rows {
        let which = Transformation::named(name).unwrap();
        for (value, wanted) in *pairs {
            let made = of(which, value);
            let made = made.as_deref().unwrap_or(value);
            assert!(
                made == *wanted,
                "{name} of {} is {}, not {}",
                value.escape_ascii(),
                made.escape_ascii(),
                wanted.escape_ascii()
            );
        }
    }
    let covered: Vec<_> = rows.iter().filter_map(|(name, _)| Transformation::named(name)).collect();
    for (name, which) in NAMES {
        let is_digest = matches!(which, Transformation::Md5 | Transformation::Sha1);
        assert!(is_digest || covered.contains(&which), "{name} has no row");
    }
}

/// RFC 1321, A.5; RFC 3174, 7.3; and lengths around the end of a block.
#[test]
fn digests_are_those_of_their_rfcs() {
    let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let digits = b"1234567890".repeat(8);
    for (message, wanted) in [
        (&b""[..], "d41d8cd98f00b204e9800998ecf8427e"),
        (b"a", "0cc175b9c0f1b6a831c399e269772661"),
        (b"abc", "900150983cd24fb0d6963f7d28e17f72"),
        (b"message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
        (b"abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
        (
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            "d174ab98d277d9f5a5611c2c9f419d9f",
        ),
        (&digits, "57edf4a22be3c955ac49da2e2107b67a"),
    ] {
        assert_eq!(hex(&of(Transformation::Md5, message).unwrap()), wanted);
    }
    let octets = b"0123456701234567012345670123456701234567012345670123456701234567".repeat(10);
    for (message, wanted) in [
        (&b"abc"[..], "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
        ),
        (&octets, "dea356a2cddd90c7a7ecedc5ebb563934f460452"),
        (b"", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    ] {
        assert_eq!(hex(&of(Transformation::Sha1, message).unwrap()), wanted);
    }
    // One after the other hashed, for lengths of 0 to 129 bytes; the sums were made with another program.
    let all = |which| (0..130).flat_map(|length| of(which, &vec![b'x'; length]).unwrap()).collect::<Vec<_>>();
    assert_eq!(hex(&of(Transformation::Md5, &all(Transformation::Md5)).unwrap()), MD5_OF_ALL);
    assert_eq!(hex(&of(Transformation::Sha1, &all(Transformation::Sha1)).unwrap()), SHA1_OF_ALL);
}

const MD5_OF_ALL: &str = "6c93ccf027822c47aed4077bedd7e658";
const SHA1_OF_ALL: &str = "917e149b75e688b99b568bb19d9a8970db0ffe1c";

#[test]
fn names_are_found_whatever_their_case() {
    for (name, which) in NAMES {
        assert_eq!(Transformation::named(&name.to_uppercase()), Some(which));
    }
    assert_eq!(Transformation::named("normalisepathwin"), Some(Transformation::NormalizePathWin));
    assert_eq!(Transformation::named("base64decode"), Some(Transformation::Base64Decode));
    assert_eq!(Transformation::named("none"), None);
    assert_eq!(Transformation::named(""), None);
}

/// How long the outcome can be.
fn most(which: Transformation, length: usize) -> usize {
    match which {
        Transformation::Base64Encode => length.div_ceil(3) * 4,
        Transformation::HexEncode => 2 * length,
        Transformation::UrlEncode => 3 * length,
        Transformation::Utf8toUnicode => 4 * length,
        Transformation::Length => 20,
        Transformation::Md5 => 16,
        Transformation::Sha1 => 20,
        _ => length,
    }
}

/// What holds for every value.
pub(super) fn check(value: &[u8]) {
    let bytes = Presence::of(value);
    for (name, which) in NAMES {
        let mut out = b"before".to_vec();
        let is_changed = which.apply(value, &mut out);
        let written = out.strip_prefix(b"before").unwrap();
        if is_changed {
            assert!(written != value, "{name}: changed to the same");
            assert!(which.may_change(&bytes), "{name}: changed what it may not");
            assert!(written.len() <= most(which, value.len()), "{name}: {} bytes", written.len());
        } else {
            assert!(written.is_empty(), "{name}: wrote and said that it did not");
        }
    }
    // The strict decoding is the inverse, and so is the other one.
    for (there, back) in [
        (Transformation::Base64Encode, Transformation::Base64Decode),
        (Transformation::Base64Encode, Transformation::Base64DecodeExt),
        (Transformation::HexEncode, Transformation::HexDecode),
        (Transformation::UrlEncode, Transformation::UrlDecode),
        (Transformation::UrlEncode, Transformation::UrlDecodeUni),
    ] {
        let encoded = of(there, value).unwrap_or_else(|| value.to_vec());
        assert_eq!(of(back, &encoded).unwrap_or(encoded), value, "{there:?}");
    }
    // These leave nothing to do for a second time.
    for which in [
        Transformation::CompressWhitespace,
        Transformation::Lowercase,
        Transformation::ParityZero7bit,
        Transformation::RemoveNulls,
        Transformation::RemoveWhitespace,
        Transformation::ReplaceNulls,
        Transformation::Trim,
        Transformation::Uppercase,
    ] {
        if let Some(once) = of(which, value) {
            assert_eq!(of(which, &once), None, "{which:?}");
        }
    }
}

proptest! {
    #[test]
    fn what_is_said_of_a_change_is_so(value in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&value);
    }

    #[test]
    fn single_bytes_are_screened_exactly(byte in any::<u8>()) {
        check(&[byte]);
        check(&[byte, byte, byte, byte]);
    }
}

#[test]
fn long_values_take_no_time() {
    let pieces: [&[u8]; 26] = [
        b"/*",
        b"*",
        b"-",
        b"<!--",
        b"/",
        b"../",
        b"a/../",
        b"./",
        b"&",
        b"&#",
        b"&#x4",
        b"&a",
        b"\\",
        b"\\f",
        b"%",
        b"%u",
        b"0",
        b"0x",
        b"=",
        b"Q",
        b" ",
        b"\xe2\x82",
        b"\xc2",
        b"\0",
        b"A",
        b"/.",
    ];
    for piece in pieces {
        let value: Vec<u8> = piece.iter().copied().cycle().take(1 << 16).collect();
        let mut out = Vec::new();
        for (name, which) in NAMES {
            out.clear();
            soon(&format!("{name} of {}", piece.escape_ascii()), || which.apply(&value, &mut out));
        }
    }
}
