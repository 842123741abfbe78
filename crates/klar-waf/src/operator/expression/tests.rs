#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn compiled(pattern: &str) -> Expression {
    Expression::new(pattern.as_bytes(), true).unwrap_or_else(|refusal| panic!("{pattern}: {refusal}"))
}

#[test]
fn patterns_of_pcre_are_read_as_pcre_reads_them() {
    for (pattern, value, is_match) in [
        // Newlines: DOTALL and MULTILINE.
        (r"a.b", &b"a\nb"[..], true),
        (r"^b$", b"a\nb\nc", true),
        (r"^$", b"", true),
        (r"^$", b"a\n", false),
        (r"^$", b"\n", true),
        (r"^$", b"a\n\nb", true),
        (r"\Aa\Z", b"a\n", true),
        (r"\Aa\z", b"a\n", false),
        (r"(?-s)a.b", b"a\nb", false),
        (r"a\Nb", b"a\nb", false),
        // Bytes.
        ("[é]", b"\xc3", true),
        ("[é]", b"\xa8", false),
        ("^é$", "é".as_bytes(), true),
        ("^é+$", b"\xc3\xa9\xa9", true),
        (r"\x{c2}\xb4", b"\xc2\xb4", true),
        (r"^[^a]$", b"\xff", true),
        (r"\W", b"\xe9", true),
        (r"(?i)\xe9", b"\xc9", false),
        // Escapes.
        (r"\h", b"\xa0", true),
        (r"\v", b"\x85", true),
        (r"[\h]x", b"\tx", true),
        (r"\s", b"\x0b", true),
        (r"\<a\>", b"<a>", true),
        (r"\x", b"\0", true),
        (r"\x5", b"\x05", true),
        (r"\07", b"\x07", true),
        (r"\cA\e\a", b"\x01\x1b\x07", true),
        (r"\Qa.b\E+", b"a.bb", true),
        (r"\Qa.b", b"axb", false),
        (r"a\/b\-\'\!", b"a/b-'!", true),
        (r"\Rx", b"\r\nx", true),
        // Classes.
        (r"[]a]", b"]", true),
        (r"[^]a]", b"]", false),
        (r"[a-]", b"-", true),
        (r"[\w-]", b"-", true),
        (r"[\d\-x]", b"-", true),
        (r"[[:alpha:]_]", b"Q", true),
        (r"[[:^digit:]]", b"5", false),
        (r"[a[:]", b":", true),
        (r"[a&&b]", b"&", true),
        (r"[a~~b]", b"~", true),
        (r"[[a]", b"[", true),
        (r"[\b]", b"\x08", true),
        (r"[\x00-\x1f]", b"\n", true),
        (r"(?i)[^k]", b"K", false),
        (r"(?i)[^\W_]", b"K", true),
        (r"[+--]", b",", true),
        // Quantifiers and groups.
        (r"^a{2}$", b"aa", true),
        (r"^a{,2}$", b"a{,2}", true),
        (r"^a{x$", b"a{x", true),
        (r"a(?#b)c", b"ac", true),
        (r"(?x) a b # c", b"ab", true),
        (r"(?x)a\ b[ ]c", b"a b c", true),
        (r"(?:(?x) a b )c d", b"abc d", true),
        (r"a(?i)b|c", b"C", true),
        (r"(?i:a)b", b"AB", false),
        (r"(?<n>a)(?'m'b)(?P<o>c)", b"abc", true),
        (r"(|a)b", b"b", true),
        (r"foo\Kbar", b"foobar", true),
        (r"(?U)a+", b"a", true),
    ] {
        assert_eq!(compiled(pattern).is_match(value), is_match, "{pattern} {}", value.escape_ascii());
    }
}

#[test]
fn possessive_quantifiers_take_what_they_take() {
    for (pattern, value, is_match) in [
        (r"^\s*+;", &b"  ;"[..], true),
        (r"^a*+a", b"aaa", false),
        (r"^\s*+[^;]+$", b"  ", false),
        (r"^\s*+[^;]+$", b"  x ", true),
        (r"^\w++\s*[\w\x22]*!", b"ab c!", true),
        (r"^[ab]++[a]*c", b"abac", true),
        (r"(?:\s*+,\s*+x)*$", b" , x , x", true),
        (r"^;\s*+(?:a|[^a;]x|;?)$", b"; \tx", false),
        (r"^;\s*+(?:a|[^a;]x|;?)$", b"; bx", true),
        (r"^;\s*+(?:a|[^a;]x|;?)$", b"; ;", true),
        (r"a?+b", b"ab", true),
        (r"x(?>a|ab)", b"xab", true),
        (r"a{2}+$", b"aa", true),
        (r"^[ab]{2}+a", b"aba", true),
        (r"^[ab]{2}+\b", b"ab", true),
    ] {
        assert_eq!(compiled(pattern).is_match(value), is_match, "{pattern} {}", value.escape_ascii());
    }
    for pattern in
        [r"(?>a|ab)c", r"(?>[ab]*?)a", r"a{1,3}+a", r"a?+a", r"(?:ab)*+a", r"\w++\b", r"(?:a|\s*+)\s"]
    {
        assert_eq!(Expression::new(pattern.as_bytes(), false).unwrap_err(), Refusal::Possessive, "{pattern}");
    }
    // The marks are no groups.
    let mut groups = Default::default();
    assert!(compiled(r"(a)\s*+(b)").groups(b"a  b", &mut groups));
    assert_eq!(groups[1..4], [Some(0..1), Some(3..4), None]);
}

#[test]
fn words_are_compared_with_the_first() {
    let pattern = r#"(?i:[\s'"]*?\b([\d\w]+)\b[\s'"]*?(?:<(?:=[\s'"]*?(?!\b\1\b)[\d\w]+|>[\s'"]*?(?:\b\1\b))|(?:is\s+not|!=)[\s'"]*?(?!\b\1\b)[\d\w]+|(?:like|=)[\s'"]*?(?:\b\1\b)))"#;
    let expression = compiled(pattern);
    for (value, found) in [
        ("1=1", Some(0..3)),
        ("1=2", None),
        ("1=12", None),
        ("12=1", None),
        ("1 = 2 or 3 = 3", Some(8..14)),
        ("A like a", Some(0..8)),
        ("a <= b", Some(0..6)),
        ("a <= a", None),
        ("a <= ab", Some(0..7)),
        ("ab != a", Some(0..7)),
        ("a <> b", None),
        ("a <> a", Some(0..6)),
        ("x is not y", Some(0..10)),
        ("x is not x", None),
        ("1'='1", Some(0..5)),
        ("1=1_", None),
        ("", None),
    ] {
        assert_eq!(expression.find(value.as_bytes()), found, "{value}");
        assert_eq!(expression.is_match(value.as_bytes()), found.is_some(), "{value}");
    }
    // As long as the value is, whatever stands in it.
    let all_other = "a = b ".repeat(200_000);
    assert!(!expression.is_match(all_other.as_bytes()));
    for refused in [
        r"(a)\b([\d\w]+)\b=\b\1\b",
        r"\b([\d\w]+)\b=\1",
        r"([\d\w]+)=\b\1\b",
        r"\b([\d\w]+)\b(?!\b\1\b)x",
        // Another match might hold, or finding it take long.
        r"\b([\d\w]+)\b.*?[=]*?(?:\b\1\b)",
        r"\b([\d\w]+)\b[=]*?(?:\b\1\b|x)",
        r"\b([\d\w]+)\b[^=]*?(?:\b\1\b)",
    ] {
        assert!(Expression::new(refused.as_bytes(), false).is_err(), "{refused}");
    }
}

#[test]
fn what_an_automaton_cannot_do_is_refused_by_name() {
    for (pattern, reason) in [
        (r"a(?=b)c", "look-ahead `(?=` at byte 2 is not supported"),
        (r"(?!b)a", "look-ahead `(?!` at byte 1 is not supported"),
        (r"(a|(?<!b)c)", "look-behind `(?<!` at byte 4 is not supported"),
        (r"(a)\1", "a back-reference at byte 4 is not supported"),
        (r"(?P<a>b)(?P=a)", "a back-reference `(?P=` at byte 9 is not supported"),
        (r"(a(?R)?b)", "a recursion `(?R)` at byte 3 is not supported"),
        (r"(*UTF8)a", "a verb of backtracking at byte 0 is not supported"),
        (r"(?(1)a|b)", "a condition `(?(` at byte 1 is not supported"),
        (r"\pL", "a property of Unicode at byte 1 is not supported"),
        (r"*a", "a quantifier of nothing at byte 0 is not supported"),
        (r"[a", "a `[` without its `]` at byte 1 is not supported"),
        (r"a)", "a `)` without its `(` at byte 1 is not supported"),
        (r"[b-a]", "a range that ends before it begins at byte 2 is not supported"),
    ] {
        assert_eq!(Expression::new(pattern.as_bytes(), false).unwrap_err().to_string(), reason, "{pattern}");
    }
    assert!(matches!(Expression::new(b"(a", false), Err(Refusal::Syntax(_))));
    assert!(matches!(Expression::new(b"(?:[a-z]{1000}){1000}", false), Err(Refusal::TooLarge(_))));
    assert!(Expression::new("(".repeat(1000).as_bytes(), false).is_err());
}

#[test]
fn groups_are_those_of_the_pattern() {
    let expression = compiled(r"(?i)(\w+)=(?:(\d+)|(x))(,)?");
    let mut groups = Default::default();
    assert!(expression.groups(b"?Abc=X,", &mut groups));
    assert_eq!(groups[..6], [Some(1..7), Some(1..4), None, Some(5..6), Some(6..7), None]);
    assert!(!expression.groups(b"none", &mut groups));
    assert_eq!(expression.group_count(), 5);
    let without = Expression::new(b"(a)(b)", false).unwrap();
    assert!(without.groups(b"xab", &mut groups));
    assert_eq!(groups[..2], [Some(1..3), None]);
    let many = compiled("(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)");
    assert!(many.groups(b"abcdefghijk", &mut groups));
    assert_eq!(groups[9], Some(8..9));
}

#[test]
fn screens_know_what_is_needed() {
    for (pattern, min_len, sets) in [
        (r"(?i)union\s+select", 12, 4),
        (r"<script", 7, 4),
        (r"a=|b=", 2, 1),
        (r"(?:x<y|z<)?", 0, 0),
        (r"\d+", 1, 0),
        (r"^$", 0, 0),
    ] {
        let expression = compiled(pattern);
        assert_eq!(expression.screen().min_len(), min_len, "{pattern}");
        assert_eq!(expression.screen().sets().len(), sets, "{pattern} {:?}", expression.screen());
    }
}

const PATTERNS: &[&str] = &[
    r"(?i)union.{0,9}select|<[a-z]+\s*=",
    r"(?:a|b)+c?[=<]{1,2}",
    r"^\w+(?:\.\w+)*$",
    r"(?i:on(?:load|error))\s*=|javascript:",
    r"[^a-z]{2}|;\s*\$\(",
    r"\b(?:cat|id)\b|`[^`]*`",
    r"(?:\s*+;\s*+(?:x|y)|)*$",
    r"(a(b(c)?)?)+-",
    r"\x00|%[0-9a-f]{2}",
];

/// Pieces of values that come near to the patterns.
const PIECES: &[&str] = &[
    "union",
    "SELECT",
    " ",
    "<",
    "=",
    "a",
    "b",
    "c",
    "-",
    ";",
    "$(",
    "`",
    "cat",
    "id",
    ".",
    "onload",
    "onerror",
    "javascript:",
    "%2",
    "f",
    "\0",
    "x",
    "<a",
    "'",
    "\n",
];

proptest! {
    #[test]
    fn what_a_screen_refuses_does_not_match(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..8)) {
        let value = pieces.concat();
        for pattern in PATTERNS {
            let expression = compiled(pattern);
            if expression.is_match(value.as_bytes()) {
                prop_assert!(expression.may_match(&Presence::of(value.as_bytes()), value.len()), "{pattern} {value:?}");
            }
        }
    }

    #[test]
    fn translating_never_panics(pattern in r"[\\\[\](){}?*+|^$:<>=!#a-cx0-9,.-]{0,24}") {
        let _ = pcre::translate(pattern.as_bytes());
    }
}

/// The patterns of rules in files of a folder, as they stand between the quotes.
fn patterns_in(folder: &Path) -> Vec<String> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut patterns = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "conf")) {
        let text = fs::read_to_string(file).unwrap().replace("\\\n", " ");
        for line in text.lines().map(str::trim_start).filter(|line| line.starts_with("SecRule ")) {
            let Some((_, operator)) = line.split_once(" \"").filter(|(_, text)| text.contains("@rx ")) else {
                continue;
            };
            let Some(pattern) = operator.strip_prefix("@rx ").or_else(|| operator.strip_prefix("!@rx "))
            else {
                continue;
            };
            let mut end = None;
            let mut is_escaped = false;
            for (at, byte) in pattern.bytes().enumerate() {
                if byte == b'"' && !is_escaped {
                    end = Some(at);
                    break;
                }
                is_escaped = byte == b'\\' && !is_escaped;
            }
            patterns.push(pattern[..end.unwrap()].replace("\\\"", "\""));
        }
    }
    patterns
}

/// Folders with rules: the one of Debian, and what `KLAR_CRS_DIR` names.
fn rules() -> Vec<PathBuf> {
    let named = std::env::var_os("KLAR_CRS_DIR").map(|folder| Path::new(&folder).join("rules"));
    let mut folders = vec![PathBuf::from("/usr/share/modsecurity-crs/rules")];
    folders.extend(named);
    folders.retain(|folder| {
        let is_there = folder.is_dir();
        if !is_there {
            println!("skipped: there is no {}", folder.display());
        }
        is_there
    });
    folders
}

#[test]
fn expressions_of_the_core_rule_set_compile() {
    for folder in rules() {
        let patterns = patterns_in(&folder);
        let (mut refused, mut memory) = (Vec::new(), 0);
        for pattern in &patterns {
            match Expression::new(pattern.as_bytes(), true) {
                Ok(expression) => memory += expression.memory(),
                Err(refusal) => refused.push(format!("{refusal}: {:.60}", pattern)),
            }
        }
        println!(
            "{}: {} expressions, {memory} bytes of automata, {} refused\n{}",
            folder.display(),
            patterns.len(),
            refused.len(),
            refused.join("\n")
        );
        assert!(patterns.len() > 100);
        assert!(refused.is_empty(), "{refused:?}");
    }
}

/// What a look-around at an end of a pattern says of a value.
#[test]
fn words_at_the_ends() {
    let entity = r"(?<!&(?:[aA]uml)|&(?:amp));|['\x22=]";
    for (pattern, value, is_match) in [
        (entity, &b"a;b"[..], true),
        (entity, b";", true),
        (entity, b"&amp;", false),
        (entity, b"&Auml;&auml;", false),
        (entity, b"&amp;;", true),
        (entity, b"&uml;", true),
        (entity, b"amp;", true),
        (entity, b"&amp;'", true),
        (r"<\?(?!xml)", b"<?php", true),
        (r"<\?(?!xml)", b"<?xml version", false),
        (r"<\?(?!xml)", b"<?xm", true),
        (r"<\?(?!xml)", b"<?", true),
        (r"<\?(?!xml)", b"<?xml <?x", true),
        (r"a(?=b|cd)", b"acd", true),
        (r"a(?=b|cd)", b"ac", false),
        (r"(?<=x)a|b", b"ya", false),
    ] {
        assert_eq!(compiled(pattern).is_match(value), is_match, "{pattern} {}", value.escape_ascii());
    }
    for pattern in [
        r"a(?!b)c",
        r"a(?<!b)c",
        r"(?:a(?!b))",
        r"a(?!b*)",
        r"a(?!)",
        r"(?i)(?<!b)a",
        r"(?i)a(?!bc|Bd)",
        r"(?x)a(?! b)",
        r"(?<!(b))a",
        r"a(?!\b)",
        r"a(?!b",
    ] {
        let refused = Expression::new(pattern.as_bytes(), false).unwrap_err().to_string();
        assert!(refused.contains("look-"), "{pattern}: {refused}");
    }
}

proptest! {
    /// As a reader would say it who looks at each place by itself.
    #[test]
    fn words_before_and_behind(value in "[abc]{0,5};[abc]{0,5}", words in prop::collection::vec("[abc]{1,4}", 1..6)) {
        let pattern = words.join("|");
        let (behind, before) = (compiled(&format!(";(?!{pattern})")), compiled(&format!("(?<!{pattern});")));
        let places: Vec<usize> = value.match_indices(';').map(|(at, _)| at).collect();
        let is_free = |at: &usize| !words.iter().any(|word| value[at + 1..].starts_with(word.as_str()));
        prop_assert_eq!(behind.is_match(value.as_bytes()), places.iter().any(is_free));
        let is_free = |at: &usize| !words.iter().any(|word| value[..*at].ends_with(word.as_str()));
        prop_assert_eq!(before.is_match(value.as_bytes()), places.iter().any(is_free));
    }
}
