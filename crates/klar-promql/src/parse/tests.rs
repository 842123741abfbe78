//! What is read, what is written again, and what is refused.

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_read_is_written() {
    for (given, written) in [
        ("up", "up"),
        ("up{}", "up"),
        ("{__name__='up'}", "up"),
        (r#"{"a.b", c="d",}"#, r#"{__name__="a.b",c="d"}"#),
        (r#"{"x y"=~"a|b", z!="", q!~"r"}"#, r#"{"x y"=~"a|b",z!="",q!~"r"}"#),
        ("sum", "sum"),
        ("SUM(up)", "sum(up)"),
        ("sum by (a, on,) (up)", "sum by (a, on) (up)"),
        ("sum(up) without ()", "sum without () (up)"),
        ("topk(3, up) by (a)", "topk by (a) (3, up)"),
        ("-1 ^ 2", "-1 ^ 2"),
        ("1 + 2 * 3", "1 + 2 * 3"),
        ("---x", "---x"),
        ("rate(x[300])", "rate(x[5m])"),
        ("x[5m] offset -1h @ 10", "x[5m] @ 10.000 offset -1h"),
        ("x offset 5m * 2", "x offset 5m * 2"),
        ("x offset (step() * 2)", "x offset ((step()) * (2s))"),
        ("x @ start() + x @ end()", "x @ start() + x @ end()"),
        ("rate(x[1m])[1h:]", "rate(x[1m])[1h:]"),
        ("a / on (b) group_left c", "a / on (b) group_left () c"),
        ("a == bool ignoring (b) c", "a == bool ignoring (b) c"),
        ("a + fill(1) b", "a + fill (1) b"),
        ("fill + fill", "fill + fill"),
        ("and and and", "and and and"),
        ("offset offset 5m", "offset offset 5m"),
        ("x # a comment\n + y", "x + y"),
        ("Inf - nan", "+Inf - NaN"),
        ("inf ^ up", "Inf ^ up"),
        ("x[1h + 30m:step()]", "x[1h30m:step()]"),
        ("rate(x[5m] smoothed)", "rate(x[5m] smoothed)"),
        ("1h30m", "5400"),
        ("\"a\\\"b\"", "\"a\\\"b\""),
        ("a:b:c", "a:b:c"),
    ] {
        let expr = parse(given).unwrap_or_else(|error| panic!("{given}: {error}"));
        assert_eq!(expr.to_string(), written, "{given}");
        assert_eq!(parse(written).as_ref(), Ok(&expr), "{given}");
    }
}

#[test]
fn operators_bind_as_in_prometheus() {
    for (given, same) in [
        ("a + b * c", "a + (b * c)"),
        ("a ^ b ^ c", "a ^ (b ^ c)"),
        ("a - b - c", "(a - b) - c"),
        ("-a ^ b", "-(a ^ b)"),
        ("-a * b", "(-a) * b"),
        ("a or b and c", "a or (b and c)"),
        ("a == b + c", "a == (b + c)"),
        ("a atan2 b + c", "(a atan2 b) + c"),
        ("a ^ -b * c", "(a ^ -b) * c"),
    ] {
        let bare = |query: &str| strip(&parse(query).unwrap());
        assert_eq!(bare(given), bare(same), "{given}");
    }
}

/// In Polish notation, in which there are no parentheses.
fn strip(expr: &Expr) -> String {
    match &expr.bare().kind {
        Kind::Binary(binary) => {
            format!("{} {} {}", binary.op.symbol(), strip(&binary.left), strip(&binary.right))
        }
        Kind::Sign { of, .. } => format!("neg {}", strip(of)),
        _ => expr.bare().to_string(),
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (query, said) in [
        ("", "1:1: the query is empty; write an expression such as `up`"),
        ("up +", "1:5: expected an expression, found the end of the query"),
        ("up\n  + )", "2:5: expected an expression, found `)`"),
        ("(up", "1:4: expected `)` behind the expression in parentheses, found the end of the query"),
        ("up{job=}", "1:8: expected a value in quotes, found `}`"),
        ("up{job}", "1:7: expected `=`, `!=`, `=~` or `!~` behind the label, found `}`"),
        (
            "{}",
            "1:1: this would take every series; add a name or a condition that an empty value does not meet",
        ),
        (
            "{a=~\".*\"}",
            "1:1: this would take every series; add a name or a condition that an empty value does not meet",
        ),
        (
            "rate(up)",
            "1:6: argument 1 of `rate` asks for a range vector, found an instant vector; write a range behind it: `[5m]`",
        ),
        ("Rate(up[5m])", "1:1: there is no function `Rate`; write `rate`"),
        ("rate(up[5m], 1)", "1:1: `rate` takes 1 argument(s), found 2"),
        ("sum(1)", "1:5: `sum` asks for an instant vector, found a scalar; write `vector(…)` around it"),
        ("1 < 2", "1:1: two scalars are compared with `< bool`; add it"),
        ("up[0s]", "1:4: the duration has to be more than 0"),
        ("up offset 5m offset 5m", "1:14: `offset` is there twice; remove one of them"),
        (
            "(up) offset 5m",
            "1:6: `offset` stands right behind a series, a range or a subquery; move it to each series",
        ),
        (
            "up[5m] + 1",
            "1:1: `+` takes scalars and instant vectors, found a range vector; put it in a function of ranges such as `rate(…)`, or remove the range",
        ),
        ("up && up", "1:4: `&` means nothing; write `and` or `or`"),
        ("5x", "1:1: \"5x\" is neither a number nor a duration; write `1.5`, `0x1F` or `1h30m`"),
    ] {
        assert_eq!(parse(query).unwrap_err().to_string(), said, "{query}");
    }
}

#[test]
fn what_is_refused() {
    for query in [
        "up{a=\"b\"",
        "up{__name__=\"a\"}",
        "1 and up",
        "up + on (a) 1",
        "sum(up, up)",
        "topk(up)",
        "on",
        "bool",
        "a and on (b) group_left c",
        "a + bool b",
        "a * on (b) group_left (b) c",
        "x[5m:5m:5m]",
        "x[5m][5m]",
        "x @ ",
        "x @ inf",
        "rate(x[5m]) @ 1",
        "sum by a (x)",
        "sum by (a b) (x)",
        "f(x,)",
        "up up",
        "a ! b",
        "1 + \"a\"",
        "x[5m] offset",
        "-\"a\"",
        "x smoothed smoothed",
        "count_values(\"\", x)",
        "time(1)",
        "x{a:b=\"c\"}",
        "x{1=\"c\"}",
        "{a=~\"(\"}",
        "vector(1)[5m]",
        "\"a",
        "a ~ b",
    ] {
        assert!(parse(query).is_err(), "{query}");
    }
}

#[test]
fn depth_and_length_have_limits() {
    for bracket in ["(", "-", "sum(", "[", "x[(", "{", "a^", "x[-"] {
        assert!(parse(&bracket.repeat(5000)).is_err());
    }
    let sum = |count| vec!["x"; count].join(" + ");
    assert!(parse(&sum(100)).is_ok());
    assert!(parse(&sum(1000)).unwrap_err().what.starts_with("more than 128"));
    assert!(parse(&"x".repeat(LENGTH_MAX + 1)).unwrap_err().what.contains("bytes"));
}

/// Words of queries in any order.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "up",
        "sum",
        "by",
        "(",
        ")",
        "(a)",
        "{",
        "}",
        "{a=\"b\"}",
        "[5m]",
        "[1h:5m]",
        "offset",
        "1h",
        "@",
        "start()",
        "1",
        "0x1f",
        "+",
        "-",
        "*",
        "^",
        "==",
        "bool",
        "on",
        "group_left",
        "rate",
        "and",
        "or",
        "\"x\"",
        ",",
        "topk",
        "inf",
        "fill(1)",
        "step()",
        "smoothed",
    ]);
    prop::collection::vec(word, 0..14).prop_map(|words| words.join(" "))
}

/// Queries.
fn queries() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[a-z]{1,3}(_total)?".prop_map(|name| name),
        any::<f64>().prop_map(|number| Number(number).to_string()),
        "[a-z]{1,3}".prop_map(|name| format!("{name}{{\"l.x\"=~\"a.*\", b!=\"\\n\\\"\"}} offset -5m @ 17.5")),
        (1..10_000_000u64).prop_map(|range| format!("rate(x[{}ms])", range)),
        Just("{\"æ b\"} @ end() offset step()".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        prop_oneof![
            (
                inner.clone(),
                prop::sample::select(vec!["+", "-", "^", "*", "/", "==bool", "atan2", "% on (a)"]),
                inner.clone()
            )
                .prop_map(|(left, op, right)| format!("{left} {op} {right}")),
            (inner.clone(), inner.clone())
                .prop_map(|(left, right)| format!("vector(1) and ({left}) or {right}")),
            inner.clone().prop_map(|of| format!("-{of}")),
            inner.clone().prop_map(|of| format!("({of})")),
            inner.clone().prop_map(|of| format!("sum by (a, \"b.c\") ({of})")),
            inner.clone().prop_map(|of| format!("quantile(0.5, {of})")),
            inner.clone().prop_map(|of| format!("max_over_time(({of})[1h30m:step() + 5s] offset 1d)")),
            inner.prop_map(|of| format!("label_replace({of}, \"a\", \"$1\", 'b', `\\d`)")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_makes_it_panic(query in any::<String>()) {
        let _ = parse(&query);
    }

    #[test]
    fn no_words_make_it_panic_and_what_is_written_is_the_same(query in words()) {
        if let Ok(expr) = parse(&query) {
            let again = parse(&expr.to_string());
            prop_assert_eq!(again.as_ref(), Ok(&expr), "{}", expr);
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same(query in queries()) {
        if let Ok(expr) = parse(&query) {
            let again = parse(&expr.to_string());
            prop_assert_eq!(again.as_ref(), Ok(&expr), "{}", expr);
        }
    }
}
