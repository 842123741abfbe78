//! Frames of HTTP/2, cut anywhere, are judged as all at once; and what brings nothing has an end.

use std::time::Instant;

use klar_fuzz::{Feed, Fuzz};

use super::*;

const SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const WITH_HEAD: &[u8] =
    b"\x05\x09\x01\x40PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64\
\0\0\x02\x01\x05\0\0\0\x01\x82\x84\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08";
const TALK: &[u8] =
    b"\x10\x11\x12\x13PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x08\x06\0\0\0\0\0\
12345678\0\0\x04\x08\0\0\0\0\0\0\0\0\x01\0\0\x05\x02\0\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\x01";

const FUZZ: Fuzz<'_> = Fuzz {
    name: "frames of HTTP/2",
    seeds: &[SETTINGS, WITH_HEAD, TALK],
    words: &[
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\x04\0\0\0\0\0",
        b"\0\0\0\x04\x01\0\0\0\0",
        b"\0\0\x08\x06\0\0\0\0\x0012345678",
        b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
        b"\0\0\x02\x01\x05\0\0\0\x03\x82\x84",
        b"\0\0\0\x09\x04\0\0\0\x01",
        b"\0\0\0\0\x01\0\0\0\x01",
        b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01",
        b"\xff\xff\xff",
    ],
    longest: 600,
};

/// The heads of all frames, by their places in bytes that are all there; the last one may have no end.
fn heads(bytes: &[u8]) -> Vec<Frame> {
    let (mut at, mut all) = (24, Vec::new());
    while let Some(head) = bytes.get(at..at + 9) {
        let length = u32::from(head[0]) << 16 | u32::from(head[1]) << 8 | u32::from(head[2]);
        let stream = head[5..].iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) % (1 << 31);
        all.push(Frame { length, kind: head[3], flags: head[4], stream });
        at += 9 + length as usize;
    }
    all
}

#[test]
fn cuts_change_nothing_and_talk_has_an_end() {
    let now = Instant::now();
    FUZZ.run(|input| {
        let pieces = Feed::new(input).pieces();
        let whole = pieces.concat();
        let (mut at_once, mut in_pieces) = (Manners::new(now), Manners::new(now));
        let one = at_once.judge(&whole, now);
        let two: Result<bool, Fault> =
            pieces.iter().try_fold(false, |asked, piece| Ok(asked | in_pieces.judge(piece, now)?));
        assert_eq!(one, two);
        assert_eq!(at_once.last_stream(), in_pieces.last_stream());

        let heads = heads(&whole);
        let asked = heads.iter().filter(|frame| frame.kind == kind::HEADERS).count();
        if let Ok(begun) = one {
            assert_eq!(begun, asked > 0);
            assert!(heads.iter().all(|frame| fits(*frame)), "{heads:?}");
            // Nothing fills up again in no time.
            let talk: u32 = heads.iter().map(|frame| price(*frame)).sum();
            let resets = heads.iter().filter(|frame| frame.kind == kind::RST_STREAM).count();
            assert!(talk <= IDLE_TALK && resets <= RESETS as usize);
            let first = heads.first();
            assert!(first.is_none_or(|frame| frame.kind == kind::SETTINGS && !frame.has(flag::ACK)));
            let last =
                heads.iter().filter(|frame| frame.kind == kind::HEADERS).map(|frame| frame.stream).max();
            assert_eq!(at_once.last_stream(), last.unwrap_or(0));
            // What has begun has its time, and what is between two frames has none.
            let is_open = at_once.head.is_some() || !at_once.frames.is_between();
            let clocks = Clocks {
                head_bytes: 1 << 14,
                head: Duration::from_secs(10),
                stall: Duration::from_secs(30),
                idle: Duration::from_secs(60),
            };
            assert_eq!(at_once.deadline(&clocks).is_some(), is_open || !at_once.settled);
        }
    });
}
