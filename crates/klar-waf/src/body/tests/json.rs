use proptest::prelude::*;
use serde_json::Value;

use super::super::json::Reader;
use super::*;

fn megabyte(piece: &[u8]) -> Vec<u8> {
    much_of(piece, 1 << 20)
}

fn read(body: &[u8]) -> (String, String) {
    let (mut reader, mut pairs) = (Reader::default(), Pairs::default());
    let outcome = reader.read(body, &LIMITS, &mut pairs);
    (shown(&pairs), told(outcome))
}

/// Names as libmodsecurity 3 gives them.
#[test]
fn values_have_the_names_of_all_they_lie_in() {
    for (body, wanted) in [
        (&b""[..], ""),
        (b"{}", ""),
        (b" [ ] ", ""),
        (b"5", "json=5"),
        (b"\"x\"", "json=x"),
        (b"null", "json="),
        (br#"{"a":{"b":1}}"#, "json.a.b=1"),
        (
            br#"{"list":[1,"x",{"y":true}]}"#,
            "json.list.array_0=1|json.list.array_1=x|json.list.array_2.y=true",
        ),
        (b"[[1],[2,[3]]]", "json.array_0.array_0=1|json.array_1.array_0=2|json.array_1.array_1.array_0=3"),
        (b"[{},[],1]", "json.array_2=1"),
        (br#"{"":1,"a":{"":2}}"#, "json.empty-key=1|json.a.empty-key=2"),
        (br#"{"a":1,"a":2,"b.c":3}"#, "json.a=1|json.a=2|json.b.c=3"),
        (br#"{"a":null,"b":false,"c":-0.5E+10}"#, "json.a=|json.b=false|json.c=-0.5E+10"),
        (br#"{"\u0061\n":"\"\\\/\b\f\r\t"}"#, r#"json.a\n=\"\\/\x08\x0c\r\t"#),
        (br#"["\u00e9\u20AC\ud83d\ude00\u0000"]"#, r"json.array_0=\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x00"),
        (
            br#"["\ud800","\ud800\u0041","\udc00"]"#,
            r"json.array_0=\xed\xa0\x80|json.array_1=\xed\xa0\x80A|json.array_2=\xed\xb0\x80",
        ),
        (b"[\"\xff\xfe\"]", r"json.array_0=\xff\xfe"),
        (b"\t\r\n[0 , 1e5 ]\n", "json.array_0=0|json.array_1=1e5"),
    ] {
        assert_eq!(read(body), (wanted.to_owned(), "complete".to_owned()), "{}", body.escape_ascii());
    }
}

#[test]
fn what_stands_before_a_mistake_is_read() {
    for (body, wanted, outcome) in [
        (&b" "[..], "", "JSON: ends too early at 1"),
        (b"{", "", "JSON: ends too early at 1"),
        (b"{\"a\":1", "json.a=1", "JSON: ends too early at 6"),
        (b"{\"a\":1}x", "json.a=1", "JSON: data after the value at 7"),
        (b"{\"a\":1}{}", "json.a=1", "JSON: data after the value at 7"),
        (b"[1,]", "json.array_0=1", "JSON: unexpected character at 3"),
        (b"[1 2]", "json.array_0=1", "JSON: unexpected character at 3"),
        (b"[1}", "json.array_0=1", "JSON: unexpected character at 2"),
        (b"{\"a\" 1}", "", "JSON: unexpected character at 5"),
        (b"{a:1}", "", "JSON: unexpected character at 1"),
        (b"{\"a\":1,}", "json.a=1", "JSON: unexpected character at 7"),
        (b"[\"union sel", "json.array_0=union sel", "JSON: ends too early at 11"),
        (b"{\"union sel", "json.union sel=", "JSON: ends too early at 11"),
        (b"[\"a\nb\"]", "json.array_0=a", "JSON: control character in a string at 3"),
        (b"[\"a\\qb\"]", "json.array_0=a", "JSON: invalid escape in a string at 3"),
        (b"[\"a\\u12", "json.array_0=a", "JSON: ends too early at 7"),
        (b"[\"a\\u12g4\"]", "json.array_0=a", "JSON: invalid escape in a string at 3"),
        (b"[\"a\\", "json.array_0=a", "JSON: ends too early at 4"),
        (b"01", "", "JSON: invalid literal or number at 1"),
        (b"-", "", "JSON: ends too early at 1"),
        (b"[-]", "", "JSON: invalid literal or number at 2"),
        (b"1.", "", "JSON: ends too early at 2"),
        (b"[1.e1]", "", "JSON: invalid literal or number at 3"),
        (b"[1e]", "", "JSON: invalid literal or number at 3"),
        (b"+1", "", "JSON: unexpected character at 0"),
        (b"tru", "", "JSON: ends too early at 3"),
        (b"[trux]", "", "JSON: invalid literal or number at 1"),
        (b"NaN", "", "JSON: unexpected character at 0"),
        (b"'a'", "", "JSON: unexpected character at 0"),
        (b"/**/1", "", "JSON: unexpected character at 0"),
        (b"\xef\xbb\xbf{}", "", "JSON: unexpected character at 0"),
        (b"{}\0", "", "JSON: data after the value at 2"),
    ] {
        assert_eq!(read(body), (wanted.to_owned(), outcome.to_owned()), "{}", body.escape_ascii());
    }
}

#[test]
fn bodies_that_mean_harm_end_soon() {
    let (mut reader, mut pairs) = (Reader::default(), Pairs::default());
    for (body, outcome) in [
        (megabyte(b"["), "too deeply nested"),
        (megabyte(b"{\"a\":"), "too deeply nested"),
        (megabyte(b"{"), "JSON: unexpected character at 1"),
        (megabyte(b"\""), "JSON: data after the value at 2"),
        (megabyte(b" "), "JSON: ends too early at 1048576"),
        (megabyte(b"1"), "complete"),
        ([b"[".to_vec(), megabyte(b"1,")].concat(), "too many arguments"),
    ] {
        pairs.clear();
        assert_eq!(told(soon("JSON", || reader.read(&body, &LIMITS, &mut pairs))), outcome);
    }
    // As deep as anybody likes, where it is asked for.
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let limits = Limits { depth: 100_000, ..LIMITS };
    assert_eq!(reader.read(&deep, &limits, &mut pairs), Outcome::Complete);
    let limits = Limits { depth: 99_999, ..LIMITS };
    assert_eq!(reader.read(&deep, &limits, &mut pairs), Outcome::Limited(Limit::Depth));
    // A name of half a megabyte for each of many values would be the square of the body.
    let body = [b"{\"".to_vec(), vec![b'a'; 1 << 19], b"\":[".to_vec(), b"1,".repeat(1 << 18)].concat();
    pairs.clear();
    let outcome = soon("long names", || reader.read(&body, &LIMITS, &mut pairs));
    assert_eq!(outcome, Outcome::Limited(Limit::Bytes));
    assert!(pairs.size() <= LIMITS.bytes);
}

/// The plain way to do it.
fn flattened(value: &Value, path: &str, out: &mut Vec<(String, String)>) {
    match value {
        Value::Null => out.push((path.to_owned(), String::new())),
        Value::String(text) => out.push((path.to_owned(), text.clone())),
        Value::Array(all) => {
            for (at, one) in all.iter().enumerate() {
                flattened(one, &format!("{path}.array_{at}"), out);
            }
        }
        Value::Object(all) => {
            for (name, one) in all {
                let name = if name.is_empty() { "empty-key" } else { name };
                flattened(one, &format!("{path}.{name}"), out);
            }
        }
        scalar => out.push((path.to_owned(), scalar.to_string())),
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((any::<String>(), inner), 0..5)
                .prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn trees_are_flattened_as_the_plain_way_does(value in values(), is_pretty in any::<bool>()) {
        let body = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let (mut reader, mut pairs) = (Reader::default(), Pairs::default());
        let outcome = reader.read(body.unwrap().as_bytes(), &LIMITS, &mut pairs);
        prop_assert_eq!(outcome, Outcome::Complete);
        let mut wanted = Vec::new();
        flattened(&value, "json", &mut wanted);
        let read: Vec<_> = pairs
            .iter()
            .map(|(name, value)| {
                (String::from_utf8(name.to_vec()).unwrap(), String::from_utf8(value.to_vec()).unwrap())
            })
            .collect();
        prop_assert_eq!(read, wanted);
    }
}
