//! A small gzip: enough for the foil to compress what it serves, with no library for it.
//!
//! One block with the fixed codes of RFC 1951, 3.2.6; repetitions of 3 to 10 bytes, whose lengths need no extra bits.

use std::collections::HashMap;

use bytes::Bytes;
use http::request::Parts;
use http_body_util::{BodyExt, Full};

use super::app::{Answer, with};

/// Nobody gains from packing less than this.
const SMALL: usize = 1024;

/// Whether who asks takes gzip.
pub(super) fn is_taken(head: &Parts) -> bool {
    let accepts = head.headers.get("accept-encoding").and_then(|value| value.to_str().ok());
    accepts.is_some_and(|accepts| accepts.contains("gzip"))
}

/// Packs an answer of data that is not packed yet and large enough.
pub(super) async fn packed(answer: Answer) -> Answer {
    let is_data = answer.headers().get("content-type").is_some_and(|kind| kind == "application/json");
    if !is_data || answer.headers().contains_key("content-encoding") {
        return answer;
    }
    let (head, body) = answer.into_parts();
    // It lies in memory: collecting it cannot fail.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    if body.len() < SMALL {
        return Answer::from_parts(head, Full::new(body));
    }
    let answer = Answer::from_parts(head, Full::new(Bytes::from(gzip(&body))));
    with(with(answer, "content-encoding", "gzip"), "vary", "accept-encoding")
}

struct Bits {
    bytes: Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits {
    /// The lowest bit first, as all numbers but codes are written.
    fn number(&mut self, value: u32, bits: u32) {
        self.held |= value << self.count;
        self.count += bits;
        while self.count >= 8 {
            self.bytes.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// The highest bit first, as codes are written.
    fn code(&mut self, value: u32, bits: u32) {
        self.number(value.reverse_bits() >> (32 - bits), bits);
    }

    fn symbol(&mut self, symbol: u32) {
        match symbol {
            0..=143 => self.code(0x30 + symbol, 8),
            144..=255 => self.code(0x190 + symbol - 144, 9),
            256..=279 => self.code(symbol - 256, 7),
            _ => self.code(0xc0 + symbol - 280, 8),
        }
    }

    fn distance(&mut self, distance: u32) {
        let less = distance - 1;
        if less < 4 {
            return self.code(less, 5);
        }
        // Two codes for each power of two, with as many extra bits as are needed to tell the distances apart.
        let extra = 30 - less.leading_zeros();
        self.code(2 * extra + (less >> extra), 5);
        self.number(less & ((1 << extra) - 1), extra);
    }
}

/// Compresses.
pub(super) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut out = Bits { bytes: vec![31, 139, 8, 0, 0, 0, 0, 0, 0, 255], held: 0, count: 0 };
    out.number(1, 1);
    out.number(1, 2);
    let mut last: HashMap<&[u8], usize> = HashMap::new();
    let mut at = 0;
    while at < plain.len() {
        let before = plain.get(at..at + 3).and_then(|three| last.insert(three, at));
        let length = before.filter(|before| at - before <= 32_768).map(|before| {
            plain[before..].iter().zip(&plain[at..]).take(10).take_while(|(a, b)| a == b).count()
        });
        match (before, length) {
            (Some(before), Some(length)) => {
                out.symbol(254 + length as u32);
                out.distance((at - before) as u32);
                at += length;
            }
            _ => {
                out.symbol(u32::from(plain[at]));
                at += 1;
            }
        }
    }
    out.symbol(256);
    out.number(0, 7);
    out.bytes.extend(crc32(plain).to_le_bytes());
    out.bytes.extend((plain.len() as u32).to_le_bytes());
    out.bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
