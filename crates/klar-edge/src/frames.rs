//! Where does a frame of HTTP/2 begin and end? (RFC 9113 section 4.1.)
//!
//! The HTTP library decodes the frames; this only follows along, in either direction, so that each frame can be
//! judged by its nine bytes of head before the library acts on it. Nothing is kept but the head.

/// What a client says first (RFC 9113 section 3.4), in bytes.
const PREFACE: usize = 24;
/// The head of a frame, in bytes.
const HEAD: usize = 9;

/// Types of frames (RFC 9113 section 6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames (RFC 9113 section 6).
pub mod flag {
    /// Of `SETTINGS` and `PING`.
    pub const ACK: u8 = 0x1;
    /// Of `DATA` and `HEADERS`.
    pub const END_STREAM: u8 = 0x1;
    /// Of `HEADERS` and `CONTINUATION`.
    pub const END_HEADERS: u8 = 0x4;
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Of what follows the head, in bytes.
    pub length: u32,
    /// One of [`kind`], or another one.
    pub kind: u8,
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
}

impl Frame {
    /// Reads a head.
    fn read(head: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        // The first bit is reserved.
        Self { length, kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff }
    }

    /// Whether a flag is set.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What is seen of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its head is there.
    Begins(Frame),
    /// All of it is.
    Ends(Frame),
}

/// Follows one direction of a connection.
#[derive(Debug)]
pub struct Frames {
    /// So much of the preface is to come.
    preface: usize,
    head: [u8; HEAD],
    /// So much of `head` is there.
    have: usize,
    /// The frame that has begun, and what is to come of it.
    current: Option<(Frame, u32)>,
}

impl Frames {
    /// From a client: the preface comes first.
    pub fn from_client() -> Self {
        Self { preface: PREFACE, ..Self::from_server() }
    }

    /// From a server.
    pub fn from_server() -> Self {
        Self { preface: 0, head: [0; HEAD], have: 0, current: None }
    }

    /// Whether nothing has begun that has not ended.
    pub fn is_between(&self) -> bool {
        self.preface == 0 && self.have == 0 && self.current.is_none()
    }

    /// The frame that has begun and not ended.
    pub fn current(&self) -> Option<Frame> {
        self.current.map(|(frame, _)| frame)
    }

    /// Tells what begins and ends in `bytes`, in this order.
    ///
    /// # Errors
    /// The first one of `tell`; nothing is followed after it.
    pub fn follow<E>(
        &mut self,
        mut bytes: &[u8],
        mut tell: impl FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        bytes = &bytes[skipped..];
        loop {
            if let Some((frame, left)) = &mut self.current {
                let here = bytes.len().min(*left as usize);
                *left -= here as u32;
                bytes = &bytes[here..];
                if *left > 0 {
                    return Ok(());
                }
                let frame = *frame;
                self.current = None;
                tell(Event::Ends(frame))?;
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let here = bytes.len().min(HEAD - self.have);
            self.head[self.have..self.have + here].copy_from_slice(&bytes[..here]);
            self.have += here;
            bytes = &bytes[here..];
            if self.have == HEAD {
                self.have = 0;
                let frame = Frame::read(self.head);
                self.current = Some((frame, frame.length));
                tell(Event::Begins(frame))?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use proptest::prelude::*;

    /// The bytes of a frame whose content is nothing but zeros.
    pub fn bytes(frame: Frame) -> Vec<u8> {
        let mut bytes = frame.length.to_be_bytes()[1..].to_vec();
        bytes.extend([frame.kind, frame.flags]);
        bytes.extend(frame.stream.to_be_bytes());
        bytes.resize(HEAD + frame.length as usize, 0);
        bytes
    }

    fn events(frames: &mut Frames, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        let Ok(()) = frames.follow(bytes, |event| {
            events.push(event);
            Ok::<_, Infallible>(())
        });
        events
    }

    #[test]
    fn heads_are_read() {
        let head = [0x00, 0x40, 0x01, 0x09, 0x25, 0x80, 0x00, 0x01, 0x03];
        let wanted = Frame { length: 0x4001, kind: kind::CONTINUATION, flags: 0x25, stream: 0x103 };
        assert_eq!(Frame::read(head), wanted);
        assert!(wanted.has(flag::END_HEADERS) && !Frame { flags: 1, ..wanted }.has(flag::END_HEADERS));
    }

    #[test]
    fn an_empty_frame_ends_with_its_head() {
        let empty = Frame { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 };
        let mut frames = Frames::from_server();
        assert_eq!(events(&mut frames, &bytes(empty)[..8]), []);
        assert!(!frames.is_between());
        assert_eq!(events(&mut frames, &bytes(empty)[8..]), [Event::Begins(empty), Event::Ends(empty)]);
        assert!(frames.is_between());
    }

    proptest! {
        /// However the bytes are cut, the same frames begin and end in the same order.
        #[test]
        fn cuts_make_no_difference(
            written in prop::collection::vec((0..300_u32, any::<u8>(), any::<u8>(), 0..0x8000_0000_u32), 0..20),
            cuts in prop::collection::vec(1..40_usize, 1..20),
        ) {
            let written: Vec<Frame> = written
                .into_iter()
                .map(|(length, kind, flags, stream)| Frame { length, kind, flags, stream })
                .collect();
            let mut all = vec![b'P'; PREFACE];
            all.extend(written.iter().flat_map(|frame| bytes(*frame)));
            let wanted: Vec<Event> =
                written.iter().flat_map(|frame| [Event::Begins(*frame), Event::Ends(*frame)]).collect();
            let mut frames = Frames::from_client();
            let (mut seen, mut rest, mut cut) = (Vec::new(), &all[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(rest.len().min(*cut.next().unwrap()));
                seen.extend(events(&mut frames, piece));
                rest = more;
            }
            prop_assert_eq!(seen, wanted);
            prop_assert!(frames.is_between());
        }
    }
}
