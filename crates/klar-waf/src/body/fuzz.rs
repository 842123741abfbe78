//! Each reader keeps its limits, gives spans that are there, reads the same twice, and reads of the beginning of a body
//! nothing that the body has not.

use klar_fuzz::{Feed, Fuzz};

use super::tests::LIMITS;
use super::*;

/// What holds of anything read.
fn check<F>(outcome: &Outcome<F>, pairs: &Pairs, limits: &Limits, length: usize) {
    assert!(pairs.len() <= limits.arguments && pairs.size() <= limits.bytes);
    if let Outcome::Malformed { at, .. } = outcome {
        assert!(*at <= length);
    }
}

/// Small limits now and then.
fn limits(feed: &mut Feed<'_>) -> Limits {
    match feed.below(4) {
        0 => Limits {
            arguments: feed.below(5) as usize,
            depth: feed.below(5) as usize,
            bytes: feed.below(64) as usize,
            files: feed.below(3) as usize,
        },
        _ => LIMITS,
    }
}

#[test]
fn forms_and_cookies() {
    Fuzz {
        name: "forms",
        seeds: &[b"\x01a=1&b=%41+&&c", b"\x01; a=1;b; =", b"\0\x02\0\x20\0a&b&c=%zz"],
        words: &[b"&", b"=", b"%41", b"%", b";", b" ", b"\0"],
        longest: 120,
    }
    .run(|input| {
        let mut feed = Feed::new(input);
        let limits = limits(&mut feed);
        let body = feed.rest();
        let mut pairs = Pairs::default();
        let form = urlencoded::read(body, b'&', &limits, &mut pairs);
        check::<()>(&Outcome::Complete, &pairs, &limits, body.len());
        if form.limit.is_none() {
            let pieces = body.split(|byte| *byte == b'&').count() - usize::from(body.ends_with(b"&"));
            assert_eq!(pairs.len(), if body.is_empty() { 0 } else { pieces });
            assert!(pairs.size() <= body.len());
        }
        pairs.clear();
        let _ = urlencoded::cookies(body, &limits, &mut pairs);
        check::<()>(&Outcome::Complete, &pairs, &limits, body.len());
        assert!(pairs.iter().all(|(name, _)| !name.is_empty() && pairs.size() <= body.len()));
    });
}

#[test]
fn json() {
    Fuzz {
        name: "JSON",
        seeds: &[
            b"\x01{\"a\":[1,{\"b\":null}],\"\\u0041\":\"\\ud83d\\ude00\"}",
            b"\x01[true,false,-0.5e+3,\"x",
            b"\0\x02\x02\x10\0[[[1]]]",
            b"\x01{\"\":{}} ",
        ],
        words: &[
            b"{", b"}", b"[", b"]", b"\"", b":", b",", b"\\u", b"\\ud800", b"\\", b"null", b"true", b"1",
            b"-", b"e", b".", b"0", b"\"a\":", b"[[[[", b"\xff", b"\x01", b" ",
        ],
        longest: 150,
    }
    .run(|input| {
        let mut feed = Feed::new(input);
        let limits = limits(&mut feed);
        let body = feed.rest();
        let (mut reader, mut pairs) = (json::Reader::default(), Pairs::default());
        let outcome = reader.read(body, &limits, &mut pairs);
        check(&outcome, &pairs, &limits, body.len());
        assert!(pairs.iter().all(|(name, _)| name.starts_with(b"json")));
        // The reader has kept nothing.
        let mut again = Pairs::default();
        assert_eq!(reader.read(body, &limits, &mut again), outcome);
        assert!(again.iter().eq(pairs.iter()));
        if limits == LIMITS && !body.is_empty() {
            let is_json = serde_json::from_slice::<serde_json::Value>(body).is_ok();
            // Half a surrogate pair is let pass, and so is what is no UTF-8; a number may be of any size.
            let text = String::from_utf8_lossy(body);
            let is_alike = !text.contains("\\u") && text.len() == body.len() && !text.contains(['e', 'E']);
            assert!(!is_json || outcome == Outcome::Complete, "{outcome:?}");
            assert!(!is_alike || is_json == (outcome == Outcome::Complete), "{outcome:?}");
        }
    });
}

#[test]
fn xml() {
    Fuzz {
        name: "XML",
        seeds: &[
            b"\x01<?xml version='1.0'?><a x='1' y=\"&lt;&#65;\">t<b/><![CDATA[u]]><!-- c --></a>",
            b"\x01<!DOCTYPE a [<!ENTITY x 'y'><!-- ' --><?p?>]><a>&x;</a>",
            b"\0\x02\x02\x10\0<a><b><c/></b></a>",
            b"\x01<a>\r\n</b>",
        ],
        words: &[
            b"<a",
            b">",
            b"</a>",
            b"/>",
            b"<",
            b"&",
            b";",
            b"&#x",
            b"<!--",
            b"-->",
            b"<![CDATA[",
            b"]]>",
            b"<?p ",
            b"?>",
            b"<!DOCTYPE ",
            b"[",
            b"]",
            b"<!ENTITY ",
            b"'",
            b"\"",
            b" x='1'",
            b"=",
            b"\r\n",
            b"\0",
            b"\xff",
        ],
        longest: 150,
    }
    .run(|input| {
        let mut feed = Feed::new(input);
        let limits = limits(&mut feed);
        let body = feed.rest();
        let (mut reader, mut pairs) = (xml::Reader::default(), Pairs::default());
        let outcome = reader.read(body, &limits, &mut pairs);
        check(&outcome, &pairs, &limits, body.len());
        // Nothing is put in that the body does not have.
        assert!(pairs.iter().map(|(_, value)| value.len()).sum::<usize>() <= body.len());
        assert!(pairs.iter().all(|(name, _)| name == xml::TEXT || name == xml::ATTRIBUTES));
        let mut again = Pairs::default();
        assert_eq!(reader.read(body, &limits, &mut again), outcome);
        assert!(again.iter().eq(pairs.iter()));
    });
}

#[test]
fn multipart() {
    Fuzz {
        name: "multipart",
        seeds: &[
            b"\x01multipart/form-data; boundary=b\n--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--\r\n",
            b"\x01multipart/form-data; boundary=\"b\"\n--b\r\nContent-Disposition: form-data; name=a; filename=\"x\\\"y\"\r\nX: y\r\n z\r\n\r\n1\n2\r\n--b\r\n\r\n--b--",
            b"\0\x02\x02\x10\x01multipart/form-data; boundary=b\n--b\r\nContent-Disposition: form-data; name=a; filename=b\r\n\r\n1\r\n--b--\r\n",
        ],
        words: &[
            b"--b\r\n", b"--b--", b"--b", b"\r\n", b"\n", b"Content-Disposition: form-data; ", b"name=", b"filename=",
            b"filename*=u''x", b"\"", b"\\", b"'", b";", b"=", b":", b" ", b"\t", b"\0", b"--", b"boundary", b"\r",
        ],
        longest: 400,
    }
    .run(|input| {
        let mut feed = Feed::new(input);
        let limits = limits(&mut feed);
        let kind = feed.until(b'\n');
        let body = feed.rest();
        let (mut reader, mut fields) = (multipart::Reader::default(), Pairs::default());
        let outcome = reader.read(kind, body, &limits, &mut fields);
        check(&outcome, &fields, &limits, body.len());
        check(&outcome, &reader.files, &limits, body.len());
        check(&outcome, &reader.part_headers, &limits, body.len());
        assert_eq!(reader.files.len(), reader.contents.len());
        assert!(reader.contents.len() <= limits.files);
        assert!(reader.contents.iter().all(|span| body.get(span.clone()).is_some()));
        assert!(reader.contents.windows(2).all(|two| two[0].end <= two[1].start));
        let is_malformed = matches!(outcome, Outcome::Malformed { .. });
        assert!(!is_malformed || reader.flags.strict_error());
        let flags = reader.flags;
        let mut again = Pairs::default();
        assert_eq!(reader.read(kind, body, &limits, &mut again), outcome);
        assert!(again.iter().eq(fields.iter()) && reader.flags == flags);
    });
}
