//! Finished requests as lines of text, which the core writes down without taking them apart: to read a record and to
//! write it again costs more than the edge's whole work for a request.
//!
//! A frame is `records DROPPED` and a line for each request: its app, a blank, and an
//! [`AccessRecord`](crate::signal::AccessRecord) in JSON. The app is left out where the request is of none.

use std::str;

/// What such a frame begins with, and no JSON does.
const MARK: &[u8] = b"records ";

/// A frame. What is in it is the edge's word; whoever reads a line takes it for what anybody may have sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    text: Vec<u8>,
    /// Where the lines begin.
    begin: usize,
    /// Records dropped since the edge started, because nobody took them in time.
    pub dropped: u64,
}

impl Lines {
    /// Takes a frame for what it is; gives it back if it is another message.
    ///
    /// # Errors
    /// The frame, which is none of these.
    pub fn read(frame: Vec<u8>) -> Result<Self, Vec<u8>> {
        let head = frame.strip_prefix(MARK).and_then(|rest| rest.split(|byte| *byte == b'\n').next());
        let dropped = head.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
        match (head.map(<[u8]>::len), dropped) {
            (Some(digits), Some(dropped)) => {
                Ok(Self { begin: frame.len().min(MARK.len() + digits + 1), text: frame, dropped })
            }
            _ => Err(frame),
        }
    }

    /// The frame, to be passed on as it came.
    pub fn into_frame(self) -> Vec<u8> {
        self.text
    }

    /// Each record: of which app, and its JSON.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        split(self.text.get(self.begin..).unwrap_or_default())
    }
}

/// The beginning of a frame; lines follow, each ended by a line end.
#[must_use]
pub fn head(dropped: u64) -> Vec<u8> {
    [MARK, dropped.to_string().as_bytes(), b"\n"].concat()
}

/// Of lines without a head: of which app each is, and its JSON.
pub fn split(lines: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    lines.split(|byte| *byte == b'\n').filter_map(|line| {
        let blank = line.iter().position(|byte| *byte == b' ')?;
        let (app, json) = line.split_at(blank);
        Some((str::from_utf8(app).ok()?, json.get(1..)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let frame = [&head(7)[..], b"shop.prod {\"a\":\"b c\"}\n {}\nshop.prod {}\n"].concat();
        let lines = Lines::read(frame).unwrap();
        let all: Vec<_> = lines.iter().collect();
        assert_eq!(all, [("shop.prod", &b"{\"a\":\"b c\"}"[..]), ("", b"{}"), ("shop.prod", b"{}")]);
        assert_eq!(lines.dropped, 7);
        assert_eq!(Lines::read(head(0)).unwrap().iter().count(), 0);
    }

    #[test]
    fn what_is_none_is_given_back() {
        for frame in [
            &b""[..],
            b"records",
            b"records \n",
            b"records x\n{}",
            b"{\"type\":\"records\"}",
            b"records -1\n",
        ] {
            assert_eq!(Lines::read(frame.to_vec()), Err(frame.to_vec()));
        }
        // Nonsense behind a good head is no record, or nobody's.
        let frame = [&head(1)[..], b"\n\nnothing\n\xff\xff {}\n"].concat();
        assert_eq!(Lines::read(frame).unwrap().iter().count(), 0);
    }
}
