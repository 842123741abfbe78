use proptest::prelude::*;

use super::super::multipart::{Flags, Reader};
use super::*;

const TYPE: &[u8] = b"multipart/form-data; boundary=b";

/// What is unusual, by its names in rules.
fn unusual(flags: &Flags) -> String {
    let mut names: Vec<String> = [
        (flags.boundary_quoted, "boundary_quoted"),
        (flags.boundary_whitespace, "boundary_whitespace"),
        (flags.crlf_lf_lines(), "crlf_lf_lines"),
        (flags.data_after, "data_after"),
        (flags.data_before, "data_before"),
        (flags.file_limit_exceeded, "file_limit_exceeded"),
        (flags.header_folding, "header_folding"),
        (flags.invalid_header_folding, "invalid_header_folding"),
        (flags.invalid_part, "invalid_part"),
        (flags.invalid_quoting, "invalid_quoting"),
        (flags.lf_line, "lf_line"),
        (flags.missing_semicolon, "missing_semicolon"),
    ]
    .into_iter()
    .filter(|(is_so, _)| *is_so)
    .map(|(_, name)| name.to_owned())
    .collect();
    if flags.strict_error() != (!names.is_empty() || flags.error) {
        names.push("strict_error".to_owned());
    }
    if flags.unmatched_boundary == 1 {
        names.push("unmatched_boundary".to_owned());
    }
    names.join(" ")
}

/// Fields, files with their contents, what is unusual, and how it came out.
fn read(kind: &[u8], body: &[u8]) -> [String; 4] {
    let (mut reader, mut fields) = (Reader::default(), Pairs::default());
    let outcome = told(reader.read(kind, body, &LIMITS, &mut fields));
    assert_eq!(reader.files.len(), reader.contents.len());
    let mut files = Pairs::default();
    for ((name, file), span) in reader.files.iter().zip(&reader.contents) {
        files.push(&[name, b":", file].concat(), &body[span.clone()]);
    }
    [shown(&fields), shown(&files), unusual(&reader.flags), outcome]
}

/// A body with one part after the other: its headers, and its contents.
fn body(parts: &[(&str, &str)]) -> Vec<u8> {
    let part = |(headers, contents): &(&str, &str)| format!("--b\r\n{headers}\r\n\r\n{contents}\r\n");
    let parts: String = parts.iter().map(part).collect();
    format!("{parts}--b--\r\n").into_bytes()
}

#[test]
fn fields_and_files_are_found() {
    let parts: &[(&str, &str)] = &[
        ("Content-Disposition: form-data; name=\"a\"", "1"),
        ("content-disposition:form-data;name=b", ""),
        (
            "Content-Type: text/plain\r\nContent-Disposition: form-data; name=\"c\"; filename=\"f;1.txt\"",
            "l1\r\nl2\r\n\0",
        ),
        ("Content-Disposition: form-data; name=\"d\"; filename=\"\"", "no file"),
        ("Content-Disposition: form-data ; name = \"a\\\"\\\\b\\c\" ; filename=\"C:\\x.y\"", "z"),
        ("Content-Disposition: form-data; name=\"e\"; filename=\"x\"; filename*=UTF-8'en'%e2%82%ac.txt", "z"),
        ("Content-Disposition: form-data; name=\"it's\"", "a\r\n\r\nb"),
    ];
    let body = body(parts);
    let wanted = [
        "a=1|b=|d=no file|it\\'s=a\\r\\n\\r\\nb",
        "c:f;1.txt=l1\\r\\nl2\\r\\n\\x00|a\\\"\\\\b\\\\c:C:\\\\x.y=z|e:x=z",
        "",
        "complete",
    ];
    assert_eq!(read(TYPE, &body), wanted);
    // The last boundary may lack its line end.
    assert_eq!(read(TYPE, body.strip_suffix(b"\r\n").unwrap()), wanted);
    let (mut reader, mut fields) = (Reader::default(), Pairs::default());
    assert_eq!(reader.read(TYPE, &body, &LIMITS, &mut fields), Outcome::Complete);
    assert_eq!(
        shown(&reader.part_headers).split('|').take(4).collect::<Vec<_>>(),
        [
            "a=Content-Disposition: form-data; name=\\\"a\\\"",
            "b=content-disposition:form-data;name=b",
            "c=Content-Type: text/plain",
            "c=Content-Disposition: form-data; name=\\\"c\\\"; filename=\\\"f;1.txt\\\"",
        ]
    );
    assert_eq!(shown(&reader.names).split('|').count(), parts.len());
    // Nothing of it stays for the next body.
    assert_eq!(reader.read(TYPE, b"", &LIMITS, &mut fields), Outcome::Complete);
    assert!(reader.names.is_empty() && reader.files.is_empty() && reader.part_headers.is_empty());
}

#[test]
fn the_boundary_is_read_as_the_reference_does() {
    let plain = body(&[("Content-Disposition: form-data; name=a", "1")]);
    for (kind, flags, outcome) in [
        ("multipart/form-data; boundary=b", "", "complete"),
        ("MultiPart/Form-Data;boundary=b", "", "complete"),
        ("multipart/form-data; boundary=b; charset=utf-8", "", "complete"),
        ("multipart/form-data; boundary=\"b\"", "boundary_quoted", "complete"),
        ("multipart/form-data boundary=b", "missing_semicolon", "complete"),
        ("multipart/form-data; boundary =b", "boundary_whitespace", "complete"),
        (
            "multipart/form-data; boundary= b",
            "boundary_whitespace data_before unmatched_boundary",
            "Multipart: no boundaries found in payload at 57",
        ),
        ("multipart/mixed; boundary=b", "", "Multipart: invalid MIME type in Content-Type at 0"),
        ("multipart/form-data", "", "Multipart: boundary not found in Content-Type at 0"),
        (
            "multipart/form-data; BOUNDARY=b",
            "",
            "Multipart: invalid boundary (case sensitivity) in Content-Type at 0",
        ),
        ("multipart/form-data; boundary", "", "Multipart: invalid boundary (malformed) in Content-Type at 0"),
        (
            "multipart/form-data; charset=x; boundary=b",
            "",
            "Multipart: invalid boundary (malformed) in Content-Type at 0",
        ),
        (
            "multipart/form-data; boundaryx=b",
            "",
            "Multipart: invalid boundary (parameter name) in Content-Type at 0",
        ),
        ("multipart/form-data; boundary=\"b", "", "Multipart: invalid boundary (quote) in Content-Type at 0"),
        (
            "multipart/form-data; boundary=b; boundary=c",
            "",
            "Multipart: multiple boundary parameters in Content-Type at 0",
        ),
        (
            "multipart/form-data; boundary=b@c",
            "",
            "Multipart: invalid boundary (characters) in Content-Type at 0",
        ),
        (
            "multipart/form-data; boundary=b ",
            "",
            "Multipart: invalid boundary (characters) in Content-Type at 0",
        ),
        ("multipart/form-data; boundary=", "", "Multipart: invalid boundary (empty) in Content-Type at 0"),
        (
            "multipart/form-data; boundary=\"\"",
            "boundary_quoted",
            "Multipart: invalid boundary (empty) in Content-Type at 0",
        ),
    ] {
        let [_, _, seen, told] = read(kind.as_bytes(), &plain);
        assert_eq!((seen.as_str(), told.as_str()), (flags, outcome), "{kind}");
    }
    let long = format!("multipart/form-data; boundary={}", "b".repeat(1000));
    assert!(read(long.as_bytes(), &plain)[3].contains("(length)"));
}

#[test]
fn what_is_unusual_is_said() {
    const A: &str = "Content-Disposition: form-data; name=a";
    for (body, fields, flags, outcome) in [
        (format!("pre\r\n--b\r\n{A}\r\n\r\n1\r\n--b--\r\n"), "a=1", "data_before", "complete"),
        (format!("--b\r\n{A}\r\n\r\n1\r\n--b--\r\npost"), "a=1", "data_after", "complete"),
        (format!("--b\r\n{A}\r\n\r\n1\n--b--\r\n"), "a=1", "crlf_lf_lines lf_line", "complete"),
        (format!("--b\n{A}\n\n1\n2\n--b--\n"), "a=1\\n2", "lf_line", "complete"),
        (format!("--b\r\n{A}\r\n\r\n1\n2\r\n--b--\r\n"), "a=1\\n2", "", "complete"),
        (format!("--b\r\n{A}\r\nX: y\r\n z\r\n\r\n1\r\n--b--\r\n"), "a=1", "header_folding", "complete"),
        (
            "--b\r\nContent-Disposition: form-data;\r\n\tname=a\r\n\r\n1\r\n--b--\r\n".to_owned(),
            "a=1",
            "header_folding",
            "complete",
        ),
        (
            format!("--b\r\n{A}\r\n\x0bz\r\n\r\n1\r\n--b--\r\n"),
            "a=1",
            "header_folding invalid_header_folding invalid_part",
            "Multipart: invalid Content-Disposition header (semicolon expected) at 49",
        ),
        (
            format!("--b\r\n z\r\n{A}\r\n\r\n1\r\n--b--\r\n"),
            "a=1",
            "header_folding",
            "Multipart: invalid part header (folding error) at 5",
        ),
        (
            format!("--b\r\n{A}\r\n\r\n--b--\r\n"),
            "a=--b--\\r\\n",
            "invalid_part",
            "Multipart: final boundary missing at 54",
        ),
        (format!("--b\r\n{A}\r\n\r\n--b--"), "a=", "invalid_part", "complete"),
        (
            format!("--b\r\n{A}\r\n--b--\r\n"),
            "a=",
            "invalid_part",
            "Multipart: boundary in part headers at 45",
        ),
        (format!("--b\r\n{A}\r\n\r\n1\r\n--c\r\n--b--\r\n"), "a=1\\r\\n--c", "", "complete"),
        (format!("--b\r\n{A}\r\n\r\n1\r\n--b--\r\n--c"), "a=1", "data_after", "complete"),
        (
            format!("--b\r\n{A}\r\n\r\n1\r\n--c"),
            "a=1\\r\\n--c",
            "",
            "Multipart: final boundary missing at 53",
        ),
        (
            format!("--b\r\n{A}\r\n\r\n1\r\n--c\r\n"),
            "a=1\\r\\n--c\\r\\n",
            "unmatched_boundary",
            "Multipart: final boundary missing at 55",
        ),
        (
            format!("--b\r\n{A}\r\n\r\n1--b\r\n"),
            "a=1--b\\r\\n",
            "unmatched_boundary",
            "Multipart: final boundary missing at 53",
        ),
        (
            format!("--b\r\n{A}\r\n\r\n1\r\n-- b\r\n"),
            "",
            "",
            "Multipart: invalid boundary (whitespace) at 50",
        ),
        (format!("--b\r\n{A}\r\n\r\n1\r\n--bc\r\n"), "", "", "Multipart: invalid boundary at 50"),
        (format!("--b\r\n{A}\r\n\r\n1\r\n--b--c\r\n"), "", "", "Multipart: invalid boundary at 50"),
        ("a=1".to_owned(), "", "", "Multipart: no boundaries found in payload at 3"),
        ("--b--\r\n".to_owned(), "", "", "complete"),
    ] {
        let [seen, _, unusual, told] = read(TYPE, body.as_bytes());
        assert_eq!(
            (seen.as_str(), unusual.as_str(), told.as_str()),
            (fields, flags, outcome),
            "{}",
            body.escape_debug()
        );
    }
    let quoted = format!("--b\r\n{A}\r\n\r\n1\r\n--\"b\"\r\n");
    let [_, _, _, told] = read(b"multipart/form-data; boundary=\"b\"", quoted.as_bytes());
    assert_eq!(told, "Multipart: invalid boundary (quotes) at 50");
}

#[test]
fn headers_of_parts_are_checked() {
    let why = "Multipart: invalid Content-Disposition header";
    for (headers, flags, outcome) in [
        ("X: y", "invalid_part", "Multipart: part missing Content-Disposition header".to_owned()),
        (
            "Content-Disposition: form-data",
            "invalid_part",
            "Multipart: Content-Disposition header missing name field".to_owned(),
        ),
        (
            "Content-Disposition: form-data;",
            "invalid_part",
            "Multipart: Content-Disposition header missing name field".to_owned(),
        ),
        ("Content-Disposition: attachment; name=a", "invalid_part", format!("{why} (not form-data)")),
        ("Content-Disposition: Form-Data; name=a", "invalid_part", format!("{why} (not form-data)")),
        ("Content-Disposition: form-data, name=a", "invalid_part", format!("{why} (semicolon expected)")),
        ("Content-Disposition: form-data; ", "invalid_part", format!("{why} (incomplete parameter)")),
        ("Content-Disposition: form-data; name", "invalid_part", format!("{why} (incomplete parameter)")),
        ("Content-Disposition: form-data; name x=a", "invalid_part", format!("{why} (equals sign expected)")),
        ("Content-Disposition: form-data; name=", "invalid_part", format!("{why} (incomplete parameter)")),
        (
            "Content-Disposition: form-data; name=\"a",
            "invalid_part",
            format!("{why} (missing closing quote)"),
        ),
        (
            "Content-Disposition: form-data; name=\"a\\",
            "invalid_part",
            format!("{why} (missing closing quote)"),
        ),
        (
            "Content-Disposition: form-data; name=\"a\"b\"",
            "invalid_part invalid_quoting",
            format!("{why} (semicolon expected)"),
        ),
        (
            "Content-Disposition: form-data; name=\"a\"; name=\"b\"",
            "invalid_part",
            format!("{why} (duplicate parameter)"),
        ),
        (
            "Content-Disposition: form-data; name=a; foo=b",
            "invalid_part",
            format!("{why} (unknown parameter)"),
        ),
        (
            "Content-Disposition: form-data; name=a; Name=b",
            "invalid_part",
            format!("{why} (unknown parameter)"),
        ),
        (
            "Content-Disposition: form-data; name=a; filename*=utf-8''x",
            "invalid_part",
            format!("{why} (extended file name alone)"),
        ),
        (
            "Content-Disposition: form-data; name=a; filename=x; filename*=utf-8'x",
            "invalid_part",
            format!("{why} (invalid extended file name)"),
        ),
        (
            "Content-Disposition: form-data; name=a; filename=x; filename*=''x",
            "invalid_part",
            format!("{why} (invalid extended file name)"),
        ),
        (
            "Content-Disposition: form-data; name=a; filename=x; filename*=u''%4",
            "invalid_part",
            format!("{why} (invalid extended file name)"),
        ),
        (
            "Content-Disposition: form-data; name=a; filename =x",
            "invalid_part",
            format!("{why} (hidden file name)"),
        ),
        ("Content-Disposition: form-data; name='a'", "invalid_quoting", String::new()),
        ("Content-Disposition: form-data; name=a'b", "invalid_quoting", String::new()),
        (
            "Content-Disposition: form-data; name=a\r\nnocolon",
            "",
            "Multipart: invalid part header (colon missing)".to_owned(),
        ),
        (
            "Content-Disposition: form-data; name=a\r\n: x",
            "",
            "Multipart: invalid part header (header name missing)".to_owned(),
        ),
        (
            "Content-Disposition: form-data; name=a\r\nX y: x",
            "",
            "Multipart: invalid part header (contains invalid character)".to_owned(),
        ),
        (
            "Content-Disposition: form-data; name=a\r\nX: \0",
            "",
            "Multipart: zero byte in part headers".to_owned(),
        ),
        (
            "Content-Disposition: form-data; name=a\r\ncontent-disposition: x",
            "",
            "Multipart: duplicate part header".to_owned(),
        ),
    ] {
        let [_, _, unusual, told] = read(TYPE, &body(&[(headers, "1")]));
        let wanted = if outcome.is_empty() { "complete" } else { &outcome };
        let told = told.split(" at ").next().unwrap();
        assert_eq!((unusual.as_str(), told), (flags, wanted), "{headers:?}");
    }
    let long = format!("Content-Disposition: form-data; name={}", "a".repeat(4096));
    assert!(read(TYPE, &body(&[(&long, "1")]))[3].starts_with("Multipart: part header too long"));
    let folded = format!("Content-Disposition: form-data; name=a\r\nX: y{}", "\r\n 0123456789".repeat(400));
    assert!(read(TYPE, &body(&[(&folded, "1")]))[3].starts_with("Multipart: part header too long"));
    let many: String = (0..40).map(|at| format!("X{at}: y\r\n")).collect();
    let many = format!("{many}Content-Disposition: form-data; name=a");
    assert!(read(TYPE, &body(&[(&many, "1")]))[3].starts_with("Multipart: too many headers"));
}

#[test]
fn no_more_is_read_than_is_asked_for() {
    let parts = [
        ("Content-Disposition: form-data; name=a; filename=x", "1"),
        ("Content-Disposition: form-data; name=b; filename=y", "2"),
        ("Content-Disposition: form-data; name=c", "3"),
        ("Content-Disposition: form-data; name=d", "4"),
    ];
    let (mut reader, mut fields) = (Reader::default(), Pairs::default());
    let outcome = reader.read(TYPE, &body(&parts), &Limits { files: 1, ..LIMITS }, &mut fields);
    assert_eq!(outcome, Outcome::Limited(Limit::Files));
    assert!(reader.flags.file_limit_exceeded && reader.flags.strict_error());
    assert_eq!((shown(&reader.files).as_str(), shown(&fields).as_str()), ("a=x", "c=3|d=4"));
    fields.clear();
    let outcome = reader.read(TYPE, &body(&parts), &Limits { arguments: 3, ..LIMITS }, &mut fields);
    assert_eq!(outcome, Outcome::Limited(Limit::Arguments));
}

#[test]
fn bodies_that_mean_harm_end_soon() {
    let (mut reader, mut fields) = (Reader::default(), Pairs::default());
    let head = b"--b\r\nContent-Disposition: form-data; name=a\r\n";
    for piece in [
        &b"--b\r\n"[..],
        b"--b",
        b"\n",
        b"\r",
        b"-",
        b"--",
        b"X: y\r\n",
        b" x\r\n",
        b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n",
        b"--c\r\n",
        b"a",
    ] {
        for head in [&b""[..], head, &[head, &b"\r\n"[..]].concat()] {
            fields.clear();
            let body = [head, &much_of(piece, 1 << 17)].concat();
            let outcome = soon("multipart", || reader.read(TYPE, &body, &LIMITS, &mut fields));
            assert!(outcome != Outcome::Complete, "{}", piece.escape_ascii());
        }
    }
}

proptest! {
    /// Whatever the contents, unless a line of them is a boundary.
    #[test]
    fn contents_are_read_as_they_are(
        parts in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 1..20), proptest::collection::vec(any::<u8>(), 0..60), any::<bool>()),
            1..5,
        ),
    ) {
        let mut body = Vec::new();
        let (mut wanted, mut wanted_files) = (Vec::new(), Vec::new());
        for (name, contents, is_file) in &parts {
            let name: Vec<u8> = name.iter().map(|byte| byte % 26 + b'a').collect();
            let file: &[u8] = if *is_file { b"; filename=\"f\"" } else { b"" };
            for piece in [b"--long-boundary\r\nContent-Disposition: form-data; name=\"", &name[..], b"\"", file, b"\r\n\r\n", contents, b"\r\n"] {
                body.extend_from_slice(piece);
            }
            if *is_file { &mut wanted_files } else { &mut wanted }.push((name, contents.clone()));
        }
        body.extend_from_slice(b"--long-boundary--\r\n");
        let (mut reader, mut fields) = (Reader::default(), Pairs::default());
        let outcome = reader.read(b"multipart/form-data; boundary=long-boundary", &body, &LIMITS, &mut fields);
        prop_assert_eq!(outcome, Outcome::Complete);
        prop_assert!(!reader.flags.invalid_part && !reader.flags.data_before && !reader.flags.data_after);
        let read: Vec<_> = fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        prop_assert_eq!(read, wanted);
        let names = reader.files.iter().map(|(name, _)| name.to_vec());
        let read: Vec<_> = names.zip(reader.contents.iter().map(|span| body[span.clone()].to_vec())).collect();
        prop_assert_eq!(read, wanted_files);
    }
}
