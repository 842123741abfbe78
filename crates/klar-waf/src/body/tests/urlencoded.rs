use proptest::prelude::*;

use super::super::urlencoded::{cookies, read};
use super::*;

fn form(text: &[u8]) -> (String, bool) {
    let mut pairs = Pairs::default();
    let form = read(text, b'&', &LIMITS, &mut pairs);
    assert_eq!(form.limit, None);
    (shown(&pairs), form.is_invalid)
}

#[test]
fn forms_are_names_and_values() {
    for (text, wanted, is_invalid) in [
        (&b""[..], "", false),
        (b"a=1&b=2", "a=1|b=2", false),
        (b"a", "a=", false),
        (b"=1", "=1", false),
        (b"a=b=c", "a=b=c", false),
        (b"a=1&", "a=1", false),
        (b"&", "=", false),
        (b"a=1&&b=2&&", "a=1|=|b=2|=", false),
        (b"%61+b=%26%3d+", "a b=&= ", false),
        (b"a%00b=\0", "a\\x00b=\\x00", false),
        (b"a=%", "a=%", true),
        (b"a=%4&b=1", "a=%4|b=1", true),
        (b"%zz=1", "%zz=1", true),
        (b"a=%u0041", "a=%u0041", true),
        (b"a=1;b=2", "a=1;b=2", false),
        (b"a=1&a=2", "a=1|a=2", false),
    ] {
        assert_eq!(form(text), (wanted.to_owned(), is_invalid), "{}", text.escape_ascii());
    }
    let mut pairs = Pairs::default();
    assert!(!read(b"a=1;b=2&", b';', &LIMITS, &mut pairs).is_invalid);
    assert_eq!(shown(&pairs), "a=1|b=2&");
}

#[test]
fn cookies_are_names_and_values_as_they_stand() {
    for (header, wanted) in [
        (&b""[..], ""),
        (b"a=1; b=2", "a=1|b=2"),
        (b"a=1;b=2;", "a=1|b=2"),
        (b"a=%41+; b", "a=%41+|b="),
        (b"a=b=c;;d=", "a=b=c|d="),
        (b"=1; \t=2;  ;a=3 ", "a=3"),
        (b" a = 1 ; b = 2 \t", "a = 1 |b = 2"),
        (b"a=1; ", "a=1"),
        (b"a=1 ;", "a=1"),
        (b"a=1 ; ", "a=1 "),
        (b"a=1 ;;", "a=1 "),
    ] {
        let mut pairs = Pairs::default();
        cookies(header, &LIMITS, &mut pairs).unwrap();
        assert_eq!(shown(&pairs), wanted, "{}", header.escape_ascii());
    }
}

#[test]
fn no_more_is_read_than_is_asked_for() {
    let mut pairs = Pairs::default();
    let limits = Limits { arguments: 2, ..LIMITS };
    assert_eq!(read(b"a=1&b=2", b'&', &limits, &mut pairs).limit, None);
    assert_eq!(read(b"c=3", b'&', &limits, &mut pairs).limit, Some(Limit::Arguments));
    assert_eq!(cookies(b"c=3", &limits, &mut pairs), Err(Limit::Arguments));
    assert_eq!(shown(&pairs), "a=1|b=2");
    let limits = Limits { bytes: 10, ..LIMITS };
    assert_eq!(read(b"ccc=%41&x", b'&', &limits, &mut pairs).limit, Some(Limit::Bytes));
    for piece in [&b"&"[..], b"%", b"=", b"a&", b"+", b"%zz"] {
        let body = much_of(piece, 1 << 18);
        pairs.clear();
        let form =
            soon("a form", || read(&body, b'&', &Limits { arguments: usize::MAX, ..LIMITS }, &mut pairs));
        assert_eq!(form.limit, None);
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_again(
        wanted in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..9), proptest::collection::vec(any::<u8>(), 0..9)),
            0..9,
        ),
    ) {
        let mut body = Vec::new();
        for (name, value) in &wanted {
            for (text, behind) in [(name, b'='), (value, b'&')] {
                body.extend(text.iter().flat_map(|byte| format!("%{byte:02X}").into_bytes()));
                body.push(behind);
            }
        }
        let mut pairs = Pairs::default();
        let form = read(&body, b'&', &LIMITS, &mut pairs);
        prop_assert!(!form.is_invalid && form.limit.is_none());
        let read: Vec<_> = pairs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        prop_assert_eq!(read, wanted);
    }
}
