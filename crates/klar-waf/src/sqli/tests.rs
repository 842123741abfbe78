#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use klar_fuzz::{Feed, Fuzz};
use libinjectionrs::detect_sqli;

use super::*;

fn oracle(value: &[u8]) -> Option<String> {
    let result = detect_sqli(value);
    let fingerprint = result.fingerprint.as_ref().map(|fingerprint| fingerprint.as_str().to_owned());
    result.is_injection().then(|| fingerprint.unwrap_or_default())
}

fn ours(value: &[u8]) -> Option<String> {
    detect(value).map(|fingerprint| fingerprint.to_string())
}

pub(super) const ATTACKS: &[(&[u8], &str)] = &[
    (b"1 UNION SELECT password FROM users", "1UEnk"),
    (b"1' OR '1'='1", "s&sos"),
    (b"' or 1=1--", "s&1c"),
    (b"\" or \"a\"=\"a", "s&sos"),
    (b"1 or 1=1", "1&1"),
    (b"1; DROP TABLE users", "1;Tnn"),
    (b"-1 union all select 1,2,3", "1UE1"),
    (b"admin'--", "sc"),
    (b"1' or 1 #", "s&1c"),
    (b"1 and sleep(5)", "1&f(1"),
    (b"1 /*!UNION*/ select", "X"),
    (b"1 /* /* */ select", "X"),
    (b"x' and extractvalue(1,concat(0x7e,version()))-- ", "s&f(1"),
    (b"select * from users", ""),
    (b"1'; exec master..xp_cmdshell 'dir'--", ""),
    (b"') waitfor delay '0:0:5'--", ""),
    (b"1 order by 10", ""),
    (b"1)) or ((1=1", ""),
    (b"sleep(5)", ""),
    (b"@@version union select 1", ""),
    (b"1 union select `a` from b", ""),
    (b"foo' || 'bar", ""),
];

pub(super) const HARMLESS: &[&[u8]] = &[
    b"",
    b"price_asc",
    b"42",
    b"-1.5e10",
    b"The quick brown fox jumps over a lazy dog",
    b"O'Brien",
    b"it's all or nothing",
    b"Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0",
    b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    b"https://shop.test/a?b=c&d=e",
    b"union of workers",
    b"select a colour",
    b"1 union",
    b"sexy and 17",
    b"he said \"yes\" -- and left",
    b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_",
    b"2026-11-22T08:15:00Z",
    b"#hashtag and more",
    b"100% sure",
];

#[test]
fn attacks_have_fingerprints() {
    for (value, fingerprint) in ATTACKS {
        let found = ours(value);
        assert_eq!(found, oracle(value), "{}", value.escape_ascii());
        if !fingerprint.is_empty() {
            assert_eq!(found.as_deref(), Some(*fingerprint), "{}", value.escape_ascii());
        }
    }
}

#[test]
fn what_people_write_is_none() {
    for value in HARMLESS {
        assert_eq!(ours(value), None, "{}", value.escape_ascii());
        assert_eq!(oracle(value), None, "{}", value.escape_ascii());
    }
}

#[test]
fn every_byte_is_read_once_and_the_reading_ends() {
    for byte in 0..=u8::MAX {
        for value in
            [vec![byte], vec![byte; 3], vec![b'1', byte, b'1'], vec![b'\'', byte], vec![byte; 100_000]]
        {
            assert_eq!(
                ours(&value),
                if value.len() > 1000 { ours(&value) } else { oracle(&value) },
                "{value:?}"
            );
        }
    }
}

#[test]
fn time_is_linear() {
    for part in [
        &b"1+"[..],
        b"a.",
        b"\\'",
        b"/*",
        b"$a$ ",
        b"$a ",
        b"q'[",
        b"b'0",
        b"x'0",
        b"@`",
        b"1,",
        b"((",
        b"!!",
        b"--x\n",
        b"#\n",
        b"select.",
        b"`",
        b"{a ",
        b"[",
        b"1.e",
        b"\\",
    ] {
        let value = part.repeat(200_000);
        let _ = detect(&value);
        let _ = detect(&[b"1 '\" ", &value[..]].concat());
    }
}

#[rustfmt::skip] // a list of words
pub(super) const WORDS: &[&[u8]] = &[
    b"'", b"\"", b"`", b" ", b"(", b")", b",", b";", b"--", b"-- ", b"#", b"/*", b"*/", b"/*!", b"\n",
    b"\0", b"\xa0", b"\\", b"\\N", b"=", b"<=>", b"<", b"!=", b"!", b"||", b"&&", b"::", b":=", b":", b"{",
    b"}", b"[", b"]", b"$", b"$$", b"$a$", b"@", b"@@", b"@`", b"1", b"0x1", b"0x", b"0b1", b"1e", b"1e5",
    b".", b"1.", b".5f", b"1d", b"1fUNION", b"x'1f'", b"b'01'", b"n'", b"nq'[", b"q'[a]'", b"u&'", b"e'",
    b"UNION", b"ALL", b"DISTINCT", b"SELECT", b"FROM", b"WHERE", b"users", b"password", b"user", b"OR",
    b"AND", b"XOR", b"NOT", b"IN", b"LIKE", b"SOUNDS", b"BETWEEN", b"IS", b"NULL", b"INTO", b"OUTFILE",
    b"DUMPFILE", b"ORDER", b"GROUP", b"BY", b"HAVING", b"LIMIT", b"PROCEDURE", b"ANALYSE", b"EXEC",
    b"xp_cmdshell", b"DROP", b"TABLE", b"INSERT", b"UPDATE", b"SET", b"DELETE", b"CREATE", b"IF", b"IF(",
    b"CASE", b"WHEN", b"sleep", b"benchmark", b"COLLATE", b"latin1_bin", b"_latin1", b"BINARY", b"INT",
    b"WAITFOR", b"DELAY", b"DECLARE", b"CURRENT_USER", b"sp_password", b"+", b"-", b"*", b"/", b"%", b"~",
    b"^", b"?", b"the", b"foo_bar", b"AT TIME ZONE", b"mode", b"boolean", b"\x80", b"\x7f", b"END",
    b"BEGIN", b"WHILE", b"USE", b"SHUTDOWN", b"MERGE", b"HANDLER", b"LOAD", b"DATA", b"INFILE",
];

/// What the port does otherwise than libinjection.
fn is_of_the_port(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    let has = |word: &str| memmem::find(&value, word.as_bytes()).is_some();
    // It looks for this word whatever the case of its letters, and in text that is UTF-8 only. It does not end the
    // names of variables at zero bytes, and does not put phrases together that are barewords.
    has("sp_password")
        || value.contains(&0)
        || [
            ("at", "time"),
            ("create", "or"),
            ("in", "boolean"),
            ("is", "distinct"),
            ("lock", "in"),
            ("next", "value"),
        ]
        .iter()
        .any(|(first, second)| has(first) && has(second))
}

#[test]
fn agrees_with_libinjection() {
    let (compared, attacks, skipped) = (Cell::new(0_u64), Cell::new(0_u64), Cell::new(0_u64));
    let seeds: Vec<&[u8]> = ATTACKS.iter().map(|(value, _)| *value).chain(HARMLESS.iter().copied()).collect();
    let compare = |value: &[u8]| {
        let (ours, theirs) = (ours(value), oracle(value));
        compared.set(compared.get() + 1);
        attacks.set(attacks.get() + u64::from(ours.is_some()));
        if ours != theirs && is_of_the_port(value) {
            skipped.set(skipped.get() + 1);
            return;
        }
        assert_eq!(ours, theirs, "{}", value.escape_ascii());
    };
    Fuzz { name: "SQL in values", seeds: &seeds, words: WORDS, longest: 120 }.run(compare);
    // Words one after the other, as each byte says.
    Fuzz {
        name: "SQL in words",
        seeds: &[b"\x00\x01\x02", b"ABCDEF", b"\x10\x41\x22\x17\x60"],
        words: &[],
        longest: 14,
    }
    .run(|bytes| {
        let mut feed = Feed::new(bytes);
        let blanks = feed.byte().is_multiple_of(2);
        let separator = if blanks { &b" "[..] } else { b"" };
        let words: Vec<&[u8]> = feed
            .rest()
            .iter()
            .filter_map(|byte| WORDS.get(usize::from(*byte) % WORDS.len()))
            .copied()
            .collect();
        compare(&words.join(separator));
    });
    println!("{} compared, {} attacks, {} left out", compared.get(), attacks.get(), skipped.get());
    // Whoever goes on for long keeps what is rare.
    let is_long = std::env::var_os("KLAR_FUZZ_SECONDS").is_some();
    assert!(is_long || (attacks.get() * 20 > compared.get() && skipped.get() * 50 < compared.get()));
}
