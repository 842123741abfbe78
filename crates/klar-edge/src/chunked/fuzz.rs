//! A body in chunks, cut anywhere, is what a reader that has all of it at once makes of it.

use klar_fuzz::{Feed, Fuzz};

use super::*;

const FUZZ: Fuzz<'_> = Fuzz {
    name: "bodies in chunks",
    seeds: &[
        b"\x01\x02\x03\x040\r\n\r\nGET /",
        b"\x03\x03\x03\x035\r\nhello\r\n0\r\n\r\n",
        b"\x07\x01\x20\x025;name=value\r\nhello\r\n00\r\nTrailer: x\r\n\r\n",
        b"\x40\x02\x09\x08A\r\n0123456789\r\n1;\"q\"\r\n\n\r\n0;x\r\nA: b\r\nC: d\r\n\r\n",
    ],
    words: &[
        b"\r\n",
        b"\n",
        b"0\r\n\r\n",
        b"0\r\n",
        b";a=b",
        b"ffffffffffffffff",
        b"7fffffffffffffff",
        b"fff",
        b"Trailer: x\r\n",
        b" ",
        b"\t",
        b"\0",
        b"5\r\nhello\r\n",
        b"000000000000000",
    ],
    longest: 400,
};

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Content, trailers, and how many bytes belong to the body.
    Whole(Vec<u8>, Vec<u8>, usize),
    /// The content so far.
    Unfinished(Vec<u8>),
    Refused,
}

/// Splits at line ends, which needs all of it to be there.
fn second_reader(bytes: &[u8]) -> Outcome {
    let (mut at, mut data) = (0, Vec::new());
    let line_at = |at: usize| {
        let end = bytes[at..].iter().position(|byte| *byte == b'\r').map(|end| at + end)?;
        (bytes.get(end + 1) == Some(&b'\n')).then_some((&bytes[at..end], end + 2))
    };
    let is_text = |line: &[u8]| line.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
    loop {
        let Some((line, after)) = line_at(at) else { return Outcome::Unfinished(data) };
        let (digits, extension) = match line.iter().position(|byte| *byte == b';') {
            Some(end) => (&line[..end], &line[end..]),
            None => (line, &line[..0]),
        };
        let is_size = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
        if !is_size || !is_text(extension) {
            return Outcome::Refused;
        }
        let size = usize::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        at = after;
        if size == 0 {
            break;
        }
        let here = size.min(bytes.len() - at);
        data.extend_from_slice(&bytes[at..at + here]);
        at += here;
        match &bytes[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Outcome::Unfinished(data),
            _ => return Outcome::Refused,
        }
    }
    let trailers = at;
    loop {
        let Some((line, after)) = line_at(at) else { return Outcome::Unfinished(data) };
        if line.is_empty() {
            return Outcome::Whole(data, bytes[trailers..at].to_vec(), after);
        }
        if !(b'!'..=b'~').contains(&line[0]) || !is_text(line) {
            return Outcome::Refused;
        }
        at = after;
    }
}

#[test]
fn pieces_are_what_the_whole_is() {
    FUZZ.run(|input| {
        let pieces = Feed::new(input).pieces();
        let whole = pieces.concat();
        let (mut chunks, mut data, mut taken) = (Chunks::new(), Vec::new(), 0);
        let mut refused = false;
        'pieces: for piece in pieces {
            let mut rest = piece;
            while !rest.is_empty() && !chunks.is_done() {
                match chunks.piece(rest) {
                    Ok(Piece::Data(length)) => {
                        data.extend_from_slice(&rest[..length]);
                        (rest, taken) = (&rest[length..], taken + length);
                    }
                    Ok(Piece::Framing(length)) => (rest, taken) = (&rest[length..], taken + length),
                    Err(_) => {
                        refused = true;
                        break 'pieces;
                    }
                }
            }
        }
        // No input here is long enough for a limit.
        match second_reader(&whole) {
            Outcome::Whole(wanted, trailers, length) => {
                assert!(chunks.is_done() && !refused);
                assert_eq!((data, chunks.trailers(), taken), (wanted, &trailers[..], length));
            }
            Outcome::Unfinished(wanted) => {
                assert!(!chunks.is_done());
                // A line that has not ended may have gone wrong already.
                assert_eq!(data, wanted);
            }
            Outcome::Refused => assert!(refused),
        }
    });
}
