//! Does this visitor speak HTTP/2 as visitors do? (RFC 9113 sections 3.4, 4.3, 6 and 10.5.)
//!
//! The HTTP library bounds what it keeps: the streams that are open, the fields and `CONTINUATION` frames of a
//! head, small `DATA` frames that nobody has read, resets of streams that it has not handed over, errors that it
//! answers with a reset. It has no clock, and it works for as long as frames come. What is missing is here: a time
//! for the first `SETTINGS`, for each head and for each frame that has begun, and budgets for frames that make work
//! and bring nothing. Budgets fill up again with time, so a connection may last.

use std::time::{Duration, Instant};

use crate::frames::{Event, Frame, Frames, flag, kind};
use crate::guard::Clocks;

/// Frames that bring nothing, as many as may come at once; what each costs is in [`price`].
const IDLE_TALK: u32 = 1024;
/// So many of them may come each second for as long as the connection lasts.
const IDLE_TALK_PER_SECOND: u32 = 128;
/// A `DATA` frame to the visitor earns so many back: it may be answered with a `WINDOW_UPDATE` for its stream and one
/// for the connection, and a `PING` that measures the way.
const EARNED: u32 = 6;
/// Streams that a visitor may reset at once: a browser does it with all that a page loads when somebody leaves it.
const RESETS: u32 = 200;
/// So many may be reset each second for as long as the connection lasts (CVE-2023-44487).
const RESETS_PER_SECOND: u32 = 10;

/// The longest frame that the edge takes, and says that it does (SETTINGS_MAX_FRAME_SIZE), in bytes.
pub const FRAME_MAX: u32 = 16 << 10;
/// The longest `SETTINGS`: 64 of them, where seven are known.
const SETTINGS_MAX: u32 = 6 * 64;

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The preface or the first `SETTINGS` did not come in time.
    Silent,
    /// The first frame is not `SETTINGS`.
    Unsettled,
    /// A frame has not the length that its type has, or is longer than any may be.
    Size,
    /// A head, or another frame, did not come in time.
    Late,
    /// Too many frames that bring nothing.
    IdleTalk,
    /// Too many streams were opened only to be reset.
    Resets,
    /// No request for too long.
    Idle,
}

impl Fault {
    /// What `GOAWAY` says (RFC 9113 section 7).
    pub fn code(self) -> u32 {
        match self {
            Self::Idle => 0x0,
            Self::Unsettled => 0x1,
            Self::Silent => 0x4,
            Self::Size => 0x6,
            Self::Late | Self::IdleTalk | Self::Resets => 0xb,
        }
    }

    /// In words for a person.
    pub fn words(self) -> &'static str {
        match self {
            Self::Idle => "no request for too long",
            Self::Unsettled => "the first frame is not SETTINGS",
            Self::Size => "a frame of a length that its type does not have",
            Self::Silent => "no SETTINGS in time",
            Self::Late => "a frame or a head did not come in time",
            Self::IdleTalk => "too many frames that bring nothing",
            Self::Resets => "too many streams were reset",
        }
    }
}

/// What may be spent now, and fills up again.
#[derive(Debug)]
struct Budget {
    left: u32,
    full: u32,
    per_second: u32,
    /// When it was last filled up.
    filled: Instant,
}

impl Budget {
    fn new(full: u32, per_second: u32, now: Instant) -> Self {
        Self { left: full, full, per_second, filled: now }
    }

    /// Whether there was enough.
    fn spend(&mut self, price: u32, now: Instant) -> bool {
        let time = now.saturating_duration_since(self.filled).as_millis();
        let more = u32::try_from(time * u128::from(self.per_second) / 1000).unwrap_or(u32::MAX);
        if more > 0 {
            self.earn(more);
            self.filled = now;
        }
        let left = self.left.checked_sub(price);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    fn earn(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(self.full);
    }
}

/// What a frame costs of [`IDLE_TALK`]: the more work it makes, the more.
fn price(frame: Frame) -> u32 {
    match frame.kind {
        // Each is acknowledged, and can change the windows of all streams.
        kind::SETTINGS => 16,
        // Each is answered.
        kind::PING if !frame.has(flag::ACK) => 4,
        kind::HEADERS => 0,
        kind::DATA if frame.length > 0 || frame.has(flag::END_STREAM) => 0,
        kind::CONTINUATION if frame.length > 0 => 0,
        // Has a budget of its own.
        kind::RST_STREAM => 0,
        _ => 1,
    }
}

/// Whether a frame has a length that its type may have (RFC 9113 sections 4.2 and 6).
fn fits(frame: Frame) -> bool {
    match frame.kind {
        kind::SETTINGS if frame.has(flag::ACK) => frame.length == 0,
        kind::SETTINGS => frame.length.is_multiple_of(6) && frame.length <= SETTINGS_MAX,
        kind::PRIORITY => frame.length == 5,
        kind::RST_STREAM | kind::WINDOW_UPDATE => frame.length == 4,
        kind::PING => frame.length == 8,
        kind::GOAWAY => (8..=FRAME_MAX).contains(&frame.length),
        _ => frame.length <= FRAME_MAX,
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Manners {
    frames: Frames,
    begun: Instant,
    settled: bool,
    /// When the head began that has not ended.
    head: Option<Instant>,
    /// When the frame began that has not ended; for `DATA`, when it last made progress.
    partial: Option<Instant>,
    idle_talk: Budget,
    resets: Budget,
    last_stream: u32,
}

impl Manners {
    /// Of a connection that begins now.
    pub fn new(now: Instant) -> Self {
        Self {
            frames: Frames::from_client(),
            begun: now,
            settled: false,
            head: None,
            partial: None,
            idle_talk: Budget::new(IDLE_TALK, IDLE_TALK_PER_SECOND, now),
            resets: Budget::new(RESETS, RESETS_PER_SECOND, now),
            last_stream: 0,
        }
    }

    /// The stream that was opened last.
    pub fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// A `DATA` frame goes to the visitor.
    pub fn earn(&mut self) {
        self.idle_talk.earn(EARNED);
    }

    /// Judges what came at `now`. `true`: a request began.
    ///
    /// # Errors
    /// Why the connection is to be ended.
    pub fn judge(&mut self, bytes: &[u8], now: Instant) -> Result<bool, Fault> {
        let Self { frames, settled, head, idle_talk, resets, last_stream, .. } = self;
        let (mut asked, mut ended) = (false, false);
        frames.follow(bytes, |event| {
            match event {
                Event::Begins(frame) => {
                    if !*settled && (frame.kind != kind::SETTINGS || frame.has(flag::ACK)) {
                        return Err(Fault::Unsettled);
                    }
                    if !fits(frame) {
                        return Err(Fault::Size);
                    }
                    if frame.kind == kind::HEADERS {
                        asked = true;
                        *last_stream = frame.stream.max(*last_stream);
                        head.get_or_insert(now);
                    }
                    if !idle_talk.spend(price(frame), now) {
                        return Err(Fault::IdleTalk);
                    }
                    if frame.kind == kind::RST_STREAM && !resets.spend(1, now) {
                        return Err(Fault::Resets);
                    }
                }
                Event::Ends(frame) => {
                    *settled = true;
                    ended = true;
                    let is_head = matches!(frame.kind, kind::HEADERS | kind::CONTINUATION);
                    if is_head && frame.has(flag::END_HEADERS) {
                        *head = None;
                    }
                }
            }
            Ok(())
        })?;
        if self.frames.is_between() {
            self.partial = None;
        } else if ended || self.partial.is_none() || self.is_in_data() {
            self.partial = Some(now);
        }
        Ok(asked)
    }

    /// When the visitor will have been too slow if nothing more comes.
    pub fn deadline(&self, clocks: &Clocks) -> Option<(Instant, Fault)> {
        if !self.settled {
            return Some((self.begun + clocks.head, Fault::Silent));
        }
        let head = self.head.map(|since| since + clocks.head);
        let partial = self.partial.map(|since| since + self.patience(clocks));
        head.into_iter().chain(partial).min().map(|end| (end, Fault::Late))
    }

    fn patience(&self, clocks: &Clocks) -> Duration {
        if self.is_in_data() { clocks.stall } else { clocks.head }
    }

    fn is_in_data(&self) -> bool {
        self.frames.current().is_some_and(|frame| frame.kind == kind::DATA)
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLOCKS: Clocks = Clocks {
        head_bytes: 16 << 10,
        head: Duration::from_secs(10),
        stall: Duration::from_secs(30),
        idle: Duration::from_secs(60),
    };
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(content.len()).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(content);
        bytes
    }

    fn settled(now: Instant) -> Manners {
        let mut manners = Manners::new(now);
        assert_eq!(manners.judge(PREFACE, now), Ok(false));
        assert_eq!(manners.judge(&frame(kind::SETTINGS, 0, 0, &[]), now), Ok(false));
        assert_eq!(manners.deadline(&CLOCKS), None);
        manners
    }

    /// How many of these may come at once before it is too much.
    fn how_many(frame: &[u8]) -> (usize, Fault) {
        let now = Instant::now();
        let mut manners = settled(now);
        for count in 0..100_000 {
            if let Err(fault) = manners.judge(frame, now) {
                return (count, fault);
            }
        }
        panic!("there is no end to it");
    }

    #[test]
    fn what_brings_nothing_is_counted() {
        let left = IDLE_TALK as usize - 16;
        for (what, bytes, count, fault) in [
            ("SETTINGS", frame(kind::SETTINGS, 0, 0, &[]), left / 16, Fault::IdleTalk),
            ("PING", frame(kind::PING, 0, 0, &[0; 8]), left / 4, Fault::IdleTalk),
            ("PRIORITY", frame(2, 0, 1, &[0; 5]), left, Fault::IdleTalk),
            ("WINDOW_UPDATE", frame(8, 0, 0, &[0, 0, 0, 1]), left, Fault::IdleTalk),
            ("a type of tomorrow", frame(0x42, 0, 0, b"?"), left, Fault::IdleTalk),
            ("DATA without data", frame(kind::DATA, 0, 1, &[]), left, Fault::IdleTalk),
            ("CONTINUATION without fields", frame(kind::CONTINUATION, 0, 1, &[]), left, Fault::IdleTalk),
            ("RST_STREAM", frame(kind::RST_STREAM, 0, 1, &[0; 4]), RESETS as usize, Fault::Resets),
        ] {
            assert_eq!(how_many(&bytes), (count, fault), "{what}");
        }
    }

    #[test]
    fn budgets_fill_up_again() {
        let mut now = Instant::now();
        let mut manners = settled(now);
        let (reset, update) = (frame(kind::RST_STREAM, 0, 1, &[0; 4]), frame(8, 0, 0, &[0, 0, 0, 1]));
        for _ in 0..1000 {
            now += Duration::from_secs(1);
            for _ in 0..RESETS_PER_SECOND {
                assert_eq!(manners.judge(&reset, now), Ok(false));
            }
            for _ in 0..IDLE_TALK_PER_SECOND {
                assert_eq!(manners.judge(&update, now), Ok(false));
            }
        }
        for _ in 0..100_000 {
            manners.earn();
            for _ in 0..2 {
                assert_eq!(manners.judge(&update, now), Ok(false), "a download is acknowledged");
            }
        }
    }

    #[test]
    fn bodies_and_heads_cost_nothing() {
        let now = Instant::now();
        let mut manners = settled(now);
        for number in 0..10_000 {
            let stream = number * 2 + 1;
            assert_eq!(manners.judge(&frame(kind::HEADERS, flag::END_HEADERS, stream, b"x"), now), Ok(true));
            assert_eq!(manners.judge(&frame(kind::DATA, flag::END_STREAM, stream, b""), now), Ok(false));
        }
        assert_eq!(manners.last_stream(), 19_999);
    }

    #[test]
    fn settings_come_first() {
        let now = Instant::now();
        for (first, verdict) in [
            (frame(kind::SETTINGS, 0, 0, &[]), Ok(false)),
            (frame(kind::SETTINGS, flag::ACK, 0, &[]), Err(Fault::Unsettled)),
            (frame(kind::PING, 0, 0, &[0; 8]), Err(Fault::Unsettled)),
            (frame(kind::HEADERS, flag::END_HEADERS, 1, b"x"), Err(Fault::Unsettled)),
        ] {
            let mut manners = Manners::new(now);
            assert_eq!(manners.deadline(&CLOCKS), Some((now + CLOCKS.head, Fault::Silent)));
            assert_eq!(manners.judge(&[PREFACE, &first].concat(), now), verdict);
        }
    }

    #[test]
    fn lengths_are_those_of_their_types() {
        for (kind, flags, good, bad) in [
            (kind::SETTINGS, 0, &[0, 6, 384][..], &[1, 7, 390][..]),
            (kind::SETTINGS, flag::ACK, &[0], &[6]),
            (kind::PRIORITY, 0, &[5], &[0, 4, 6]),
            (kind::RST_STREAM, 0, &[4], &[3, 5]),
            (kind::WINDOW_UPDATE, 0, &[4], &[0, 5]),
            (kind::PING, 0, &[8], &[7, 9]),
            (kind::GOAWAY, 0, &[8, 100], &[7, FRAME_MAX + 1]),
            (kind::DATA, 0, &[0, FRAME_MAX], &[FRAME_MAX + 1]),
            (0x42, 0, &[0, FRAME_MAX], &[FRAME_MAX + 1, 0xff_ffff]),
        ] {
            for (lengths, wanted) in [(good, true), (bad, false)] {
                for &length in lengths {
                    let frame = Frame { length, kind, flags, stream: 1 };
                    assert_eq!(fits(frame), wanted, "{frame:?}");
                }
            }
        }
    }

    /// The clock of a head begins with its first frame, and no frame that follows winds it up.
    #[test]
    fn a_head_has_its_time() {
        let begun = Instant::now();
        let mut manners = settled(begun);
        let mut now = begun;
        assert_eq!(manners.judge(&frame(kind::HEADERS, 0, 1, b"x"), now), Ok(true));
        for _ in 0..5 {
            now += Duration::from_secs(1);
            assert_eq!(manners.judge(&frame(kind::CONTINUATION, 0, 1, b"x"), now), Ok(false));
            assert_eq!(manners.deadline(&CLOCKS), Some((begun + CLOCKS.head, Fault::Late)));
        }
        let last = frame(kind::CONTINUATION, flag::END_HEADERS, 1, b"x");
        assert_eq!(manners.judge(&last, now), Ok(false));
        assert_eq!(manners.deadline(&CLOCKS), None);
    }

    #[test]
    fn a_frame_has_its_time() {
        let begun = Instant::now();
        let later = begun + Duration::from_secs(5);
        let ping = frame(kind::PING, 0, 0, &[0; 8]);
        let data = frame(kind::DATA, 0, 1, &[0; 8]);
        for (what, bytes, cut, end) in [
            ("a head of a frame", &ping, 3, begun + CLOCKS.head),
            ("a frame", &ping, 12, begun + CLOCKS.head),
            ("a body that makes progress", &data, 12, later + CLOCKS.stall),
        ] {
            let mut manners = settled(begun);
            assert_eq!(manners.judge(&bytes[..cut], begun), Ok(false), "{what}");
            assert_eq!(manners.judge(&bytes[cut..=cut], later), Ok(false), "{what}");
            assert_eq!(manners.deadline(&CLOCKS), Some((end, Fault::Late)), "{what}");
            assert_eq!(manners.judge(&bytes[cut + 1..], later), Ok(false), "{what}");
            assert_eq!(manners.deadline(&CLOCKS), None, "{what}");
        }
    }

    proptest! {
        /// However the bytes are cut, the verdict is the same, and so is what is waited for.
        #[test]
        fn cuts_make_no_difference(
            kinds in prop::collection::vec((0..12_u8, any::<u8>(), 0..6_usize, 1..60_usize), 0..40),
            cuts in prop::collection::vec(1..50_usize, 1..20),
        ) {
            let now = Instant::now();
            let mut bytes = PREFACE.to_vec();
            bytes.extend(frame(kind::SETTINGS, 0, 0, &[]));
            for (kind, flags, length, times) in kinds {
                for _ in 0..times {
                    bytes.extend(frame(kind, flags, 1, &[0; 6][..length]));
                }
            }
            let mut whole = Manners::new(now);
            let wanted = whole.judge(&bytes, now).map(drop);
            let mut pieces = Manners::new(now);
            let (mut rest, mut cut, mut verdict) = (&bytes[..], cuts.iter().cycle(), Ok(()));
            while !rest.is_empty() && verdict.is_ok() {
                let (piece, more) = rest.split_at(rest.len().min(*cut.next().unwrap()));
                verdict = pieces.judge(piece, now).map(drop);
                rest = more;
            }
            prop_assert_eq!(verdict, wanted);
            prop_assert_eq!(pieces.last_stream(), whole.last_stream());
            if wanted.is_ok() {
                prop_assert_eq!(pieces.deadline(&CLOCKS), whole.deadline(&CLOCKS));
            }
        }
    }
}
