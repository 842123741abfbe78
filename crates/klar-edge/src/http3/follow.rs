//! Follows the frames of a stream of HTTP/3 without decoding them (RFC 9114 section 7.1).
//!
//! The HTTP library keeps a frame until all of it is there, however long it says it is, unless it carries a body; and it
//! takes the end of a stream in the middle of a body's frame for the end of the body. Both are seen here first.

/// DATA and HEADERS (RFC 9114 section 7.2).
const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;
/// What a one-way stream begins with when it has frames (RFC 9114 section 6.2.1).
const CONTROL: u64 = 0x0;
/// What else a stream may hold that somebody has to keep until it is whole: settings, and frames that nobody knows.
const OTHER_MAX: u64 = 16 << 10;

/// A frame that is longer than what is kept of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// Where in a stream of frames the next byte belongs.
#[derive(Debug)]
pub struct Follow {
    /// The longest HEADERS frame.
    headers_max: u64,
    state: State,
    /// Of an integer that has begun (RFC 9000 section 16): what it is so far, and how many bytes are to come.
    integer: Option<(u64, u8)>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// What kind of one-way stream it is.
    Stream,
    /// No frames: whoever reads it keeps nothing.
    Other,
    Kind,
    Length {
        kind: u64,
    },
    Payload {
        left: u64,
    },
}

impl Follow {
    /// A request, from its first byte.
    pub fn new(headers_max: u64) -> Self {
        Self { headers_max, state: State::Kind, integer: None }
    }

    /// A one-way stream, from its first byte. No HEADERS belong there.
    pub fn one_way() -> Self {
        Self { headers_max: 0, state: State::Stream, integer: None }
    }

    /// Whether the stream may end here.
    pub fn is_between(&self) -> bool {
        match self.state {
            State::Kind => self.integer.is_none(),
            // Some end before they have begun (RFC 9114 section 6.2).
            State::Stream | State::Other => true,
            State::Length { .. } | State::Payload { .. } => false,
        }
    }

    /// Goes on over `bytes`.
    ///
    /// # Errors
    /// At the head of a frame that is longer than it may be.
    pub fn go_on(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while let Some((&first, rest)) = bytes.split_first() {
            if matches!(self.state, State::Other) {
                return Ok(());
            }
            if let State::Payload { left } = &mut self.state {
                let here = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= here as u64;
                bytes = &bytes[here..];
                if *left == 0 {
                    self.state = State::Kind;
                }
                continue;
            }
            bytes = rest;
            let (value, left) = match self.integer {
                None => (u64::from(first & 0x3f), (1 << (first >> 6)) - 1),
                Some((value, left)) => (value << 8 | u64::from(first), left - 1),
            };
            self.integer = (left > 0).then_some((value, left));
            if left == 0 {
                self.state = self.after(value)?;
            }
        }
        Ok(())
    }

    /// The state after an integer.
    fn after(&self, value: u64) -> Result<State, TooLong> {
        let kind = match self.state {
            State::Length { kind } => kind,
            State::Stream if value == CONTROL => return Ok(State::Kind),
            State::Stream | State::Other => return Ok(State::Other),
            State::Kind | State::Payload { .. } => return Ok(State::Length { kind: value }),
        };
        let most = match kind {
            DATA => u64::MAX,
            HEADERS => self.headers_max,
            _ => OTHER_MAX,
        };
        match value {
            0 => Ok(State::Kind),
            left if left <= most => Ok(State::Payload { left }),
            _ => Err(TooLong),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An integer in as many bytes as `width` says: 0 to 3 for 1, 2, 4 and 8.
    fn integer(value: u64, width: u8) -> Vec<u8> {
        let length = 1_usize << width;
        let mut bytes = value.to_be_bytes()[8 - length..].to_vec();
        bytes[0] |= width << 6;
        bytes
    }

    fn frame(kind: u64, length: u64, width: u8) -> Vec<u8> {
        let mut bytes = integer(kind, width);
        bytes.extend(integer(length, width.max(1)));
        bytes.resize(bytes.len() + length as usize, b'x');
        bytes
    }

    #[test]
    fn what_is_too_long() {
        for (kind, length, fits) in [
            (HEADERS, 1000, true),
            (HEADERS, 1001, false),
            (DATA, 1 << 60, true),
            (0x4, OTHER_MAX, true),
            (0x4, OTHER_MAX + 1, false),
            (0x21, 1 << 40, false),
        ] {
            let mut head = integer(kind, 3);
            head.extend(integer(length, 3));
            assert_eq!(Follow::new(1000).go_on(&head).is_ok(), fits, "kind {kind} length {length}");
        }
    }

    /// However its kind is written, a control stream is followed, and no other.
    #[test]
    fn one_way_streams() {
        for width in 0..4 {
            for (kind, fits) in [(CONTROL, false), (0x2, true), (0x3, true), (0x21, true)] {
                let mut bytes = integer(kind, width);
                bytes.extend(integer(0x4, 0));
                bytes.extend(integer(OTHER_MAX + 1, 2));
                assert_eq!(Follow::one_way().go_on(&bytes).is_ok(), fits, "kind {kind} in {width}");
            }
        }
    }

    proptest! {
        /// However the bytes are cut, only after whole frames does the stream stand between two.
        #[test]
        fn cuts_make_no_difference(
            frames in prop::collection::vec((0..3_u64, 0..200_u64, 0..4_u8), 1..8),
            cuts in prop::collection::vec(1..30_usize, 1..10),
        ) {
            let mut ends = vec![0];
            let mut all = Vec::new();
            for (kind, length, width) in frames {
                all.extend(frame(kind, length, width));
                ends.push(all.len());
            }
            let (mut follow, mut at, mut cut) = (Follow::new(1000), 0, cuts.iter().cycle());
            while at < all.len() {
                let next = all.len().min(at + cut.next().unwrap());
                prop_assert_eq!(follow.go_on(&all[at..next]), Ok(()));
                at = next;
                prop_assert_eq!(follow.is_between(), ends.contains(&at), "at {} of {:?}", at, &ends);
            }
        }
    }
}
