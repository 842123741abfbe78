//! What is let through means the same to a second reader, which knows nothing of `httparse`; and where a head ends does
//! not depend on how it is cut. (What hyper makes of the same bytes is in `http1/differential.rs`.)

use klar_fuzz::Fuzz;

use super::*;

const FUZZ: Fuzz<'_> = Fuzz {
    name: "heads of requests",
    seeds: &[
        b"\x03\x05\x07\x09GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x01\x02\x03\x04POST /x?y HTTP/1.1\r\nhost: a:8443\r\nContent-Length: 12\r\n\r\nhello, world",
        b"\x10\x20\x08\x09POST / HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
        b"\x04\x00\x00\x00GET /:// HTTP/1.1\r\nHost: b\r\n\r\n",
        b"\x30\x01\x02\x03GET https://a.b/c HTTP/1.1\r\nHost: A.b\r\nX: \xc3\xb8\r\n\r\n",
        b"\x09\x09\x09\x09GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"\x02\x02\x02\x02GET / HTTP/1.0\r\n\r\n",
    ],
    words: &[
        b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\r\n ", b": ", b" :", b"Content-Length: ", b"Transfer-Encoding: ",
        b"chunked", b"Host: ", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"GET ", b"CONNECT ", b"TRACE ", b"*",
        b"http://", b"https://b/", b"Connection: ", b"upgrade", b"Upgrade: websocket\r\n", b"\0", b"\x7f", b"\t",
        b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n",
    ],
    longest: 700,
};

/// What a strict reader without a parser makes of a head that it knows to be let through.
fn second_reader(head: &[u8]) -> Framing {
    let text = head.strip_suffix(b"\r\n\r\n").unwrap();
    // httparse passes over empty lines before a head, as RFC 9112 section 2.2 asks servers to.
    let start = text.iter().position(|byte| !b"\r\n".contains(byte)).unwrap();
    let text = text[start..].iter().map(|byte| char::from(*byte)).collect::<String>();
    assert_eq!(text.matches('\r').count(), text.matches("\r\n").count());
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    let mut lines = text.split("\r\n");
    let first: Vec<&str> = lines.next().unwrap().split(' ').collect();
    let [method, target, version] = first[..] else { panic!("{first:?} for a request line") };
    assert!(version == "HTTP/1.1" || version == "HTTP/1.0");
    assert!(!target.is_empty() && target.chars().all(|char| char > ' ' && char != '\x7f'));
    let fields: Vec<(String, &str)> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            let is_token = |char: char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char);
            assert!(!name.is_empty() && name.chars().all(is_token), "{name:?} for a name");
            assert!(value.chars().all(|char| char == '\t' || (char >= ' ' && char != '\x7f')), "{value:?}");
            (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']))
        })
        .collect();
    let all = |wanted: &str| -> Vec<&str> {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| *value).collect()
    };
    let hosts = all("host");
    assert!(hosts.len() == 1 || (hosts.is_empty() && version == "HTTP/1.0"));
    // A path may have `://` in it, too.
    if !target.starts_with('/') {
        let (scheme, rest) = target.split_once("://").unwrap();
        assert!(["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        assert!(rest[..end].eq_ignore_ascii_case(hosts.first().unwrap_or(&"")));
    }
    let is_named = |list: &str, word: &str| {
        list.split(',').any(|item| item.trim_matches([' ', '\t']).eq_ignore_ascii_case(word))
    };
    match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([length], []) => Framing::Length(length.parse().unwrap()),
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") && version == "HTTP/1.1" => Framing::Chunked,
        ([], []) => {
            let wants = all("connection").iter().any(|list| is_named(list, "upgrade"))
                && all("upgrade").last().is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
            match wants && method == "GET" && version == "HTTP/1.1" {
                true => Framing::Upgrade,
                false => Framing::Length(0),
            }
        }
        (lengths, codings) => panic!("{lengths:?} and {codings:?} were let through"),
    }
}

#[test]
fn what_is_let_through_means_one_thing() {
    FUZZ.run(|input| {
        let (cuts, bytes) = input.split_at(input.len().min(4));
        let whole = head_length(bytes, 0);
        // However it comes, the end is found when it is there and not before.
        let (mut seen, mut found, mut hopeless) = (0, None, false);
        for cut in cuts.iter().map(|cut| 1 + usize::from(*cut)).cycle() {
            let have = (seen + cut).min(bytes.len());
            found = head_length(&bytes[..have], seen);
            hopeless |= found.is_none() && is_hopeless(&bytes[..have], seen);
            seen = have;
            if found.is_some() || have == bytes.len() || cuts.is_empty() {
                break;
            }
        }
        if !cuts.is_empty() {
            assert_eq!(found, whole);
        }
        let Some(length) = whole else { return };
        let head = &bytes[..length];
        if let Ok(framing) = judge(head) {
            assert!(!hopeless, "given up and let through");
            assert_eq!(framing, second_reader(head));
        }
    });
}

#[test]
fn numbers_are_digits() {
    Fuzz { name: "Content-Length", seeds: &[b"0", b"12", b"999999999999999999"], words: &[], longest: 24 }
        .run(|input| {
            let text = String::from_utf8_lossy(input);
            let is_plain = (1..=18).contains(&input.len()) && text.chars().all(|char| char.is_ascii_digit());
            assert_eq!(decimal(input), is_plain.then(|| text.parse().unwrap()));
        });
}
