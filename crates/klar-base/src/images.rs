//! What the edge asks of the process that reads images, and what it hears.
//!
//! The two share a Unix stream socket that nobody else has. Each message is a frame: a length (4 bytes, big endian)
//! and that many bytes. The worker greets once; after that one [`Order`] is answered by one [`Outcome`], in order. The
//! edge believes nothing of it but what an image may be: some bytes, of at most [`RESULT_MAX`].
//!
//! ```text
//! greeting   "klar-images", version (1 byte), formats it can write (1 byte, see Format::bit)
//! order      what the source is (1), what is wanted (1), width in pixels or 0 (4), source
//! outcome    0, format that was written (1), image    or    1, why not, as a short text
//! ```

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// The largest source, in bytes.
pub const SOURCE_MAX: usize = 20 << 20;
/// The largest image that a worker may give back, in bytes.
pub const RESULT_MAX: usize = 20 << 20;
/// The most pixels that a source may have: more than a camera of 24 megapixels makes.
pub const PIXELS_MAX: u64 = 25_000_000;
/// The longest side of a source, and the largest width that may be asked for, in pixels.
pub const SIDE_MAX: u32 = 16_384;
/// The longest reason, in bytes.
const REASON_MAX: usize = 200;

const GREETING: &[u8] = b"klar-images";
const VERSION: u8 = 1;

/// What kind of image something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `image/jpeg`
    Jpeg = 1,
    /// `image/png`
    Png = 2,
    /// `image/gif`
    Gif = 3,
    /// `image/webp`
    Webp = 4,
    /// `image/avif`
    Avif = 5,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Jpeg, Self::Png, Self::Gif, Self::Webp, Self::Avif];

    /// The format of a media type, with or without parameters.
    pub fn of_media_type(kind: &str) -> Option<Self> {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|format| format.media_type().eq_ignore_ascii_case(kind))
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
            Self::Avif => "image/avif",
        }
    }

    /// Its place in a set of formats.
    pub fn bit(self) -> u8 {
        1 << self as u8
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|format| *format as u8 == number)
    }
}

/// How images are converted on a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRules {
    /// The widths that there are, in pixels, growing. Others are rounded up to the next one, so that nobody can have the
    /// edge make a thousand copies of one image.
    pub widths: Vec<u32>,
}

/// One image to make of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order<'a> {
    /// What the source says it is.
    pub source: Format,
    /// What is wanted.
    pub wanted: Format,
    /// The width that it gets at most, in pixels; a smaller image keeps its own. `None`: its own.
    pub width: Option<u32>,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An image.
    Made {
        /// What it is.
        format: Format,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The source is best given as it is; and why.
    Left(String),
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn write_frame(to: &mut impl Write, head: &[u8], body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(head.len() + body.len()).map_err(|_| invalid("a frame of over 4 GiB"))?;
    let mut start = length.to_be_bytes().to_vec();
    start.extend_from_slice(head);
    to.write_all(&start)?;
    to.write_all(body)
}

/// The next frame, or `None` when the other end closed between two.
fn read_frame(from: &mut impl Read, max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let first = loop {
        match from.read(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[first..])?;
    let length = u32::from_be_bytes(length) as usize;
    if length > max {
        return Err(invalid("a frame that is too long"));
    }
    // Grows as it comes: a length alone takes no memory.
    let mut frame = Vec::new();
    from.take(length as u64).read_to_end(&mut frame)?;
    if frame.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(frame))
}

/// Says what a worker can write: a set of [`Format::bit`].
///
/// # Errors
/// When the other end is gone.
pub fn greet(to: &mut impl Write, formats: u8) -> io::Result<()> {
    write_frame(to, GREETING, &[VERSION, formats])
}

/// Hears what a worker can write.
///
/// # Errors
/// `InvalidData` when it is no worker, or of another version.
pub fn hear_greeting(from: &mut impl Read) -> io::Result<u8> {
    let frame = read_frame(from, GREETING.len() + 2)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    match frame.strip_prefix(GREETING) {
        Some([VERSION, formats]) => Ok(*formats),
        _ => Err(invalid("it greets like no worker for images")),
    }
}

/// Gives an order.
///
/// # Errors
/// `InvalidInput` when the source is larger than [`SOURCE_MAX`]; otherwise the other end is gone.
pub fn send_order(to: &mut impl Write, order: &Order<'_>) -> io::Result<()> {
    if order.bytes.len() > SOURCE_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a source that is too large"));
    }
    let mut head = vec![order.source as u8, order.wanted as u8];
    head.extend_from_slice(&order.width.unwrap_or(0).to_be_bytes());
    write_frame(to, &head, order.bytes)
}

/// An order as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    source: Format,
    wanted: Format,
    width: Option<u32>,
    frame: Vec<u8>,
}

impl Ordered {
    /// The order.
    pub fn order(&self) -> Order<'_> {
        let bytes = self.frame.get(ORDER_HEAD..).unwrap_or_default();
        Order { source: self.source, wanted: self.wanted, width: self.width, bytes }
    }
}

const ORDER_HEAD: usize = 6;

/// Takes an order, or `None` when nobody gives any more.
///
/// # Errors
/// `InvalidData` when it is none.
pub fn take_order(from: &mut impl Read) -> io::Result<Option<Ordered>> {
    let Some(frame) = read_frame(from, ORDER_HEAD + SOURCE_MAX)? else { return Ok(None) };
    let [source, wanted, width @ ..] =
        *frame.first_chunk::<ORDER_HEAD>().ok_or_else(|| invalid("no order"))?;
    let format = |number| Format::from_number(number).ok_or_else(|| invalid("an unknown format"));
    let width = u32::from_be_bytes(width);
    let width = (width > 0).then_some(width.min(SIDE_MAX));
    Ok(Some(Ordered { source: format(source)?, wanted: format(wanted)?, width, frame }))
}

/// Says what became of an order. A reason is cut, and an image that is too large is none.
///
/// # Errors
/// When the other end is gone.
pub fn send_outcome(to: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    match outcome {
        Outcome::Made { bytes, .. } if bytes.len() > RESULT_MAX => {
            write_frame(to, &[1], b"the result is too large")
        }
        Outcome::Made { format, bytes } => write_frame(to, &[0, *format as u8], bytes),
        Outcome::Left(why) => {
            let end = why
                .char_indices()
                .map(|(at, char)| at + char.len_utf8())
                .take_while(|end| *end <= REASON_MAX);
            write_frame(to, &[1], why.get(..end.last().unwrap_or(0)).unwrap_or_default().as_bytes())
        }
    }
}

/// Hears what became of an order.
///
/// # Errors
/// `InvalidData` when that cannot be understood, `UnexpectedEof` when the other end is gone.
pub fn hear_outcome(from: &mut impl Read) -> io::Result<Outcome> {
    let mut frame = read_frame(from, 2 + RESULT_MAX)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    match *frame.as_slice() {
        [0, format, _, ..] => {
            let format = Format::from_number(format).ok_or_else(|| invalid("an unknown format"))?;
            Ok(Outcome::Made { format, bytes: frame.split_off(2) })
        }
        [1, ..] if frame.len() <= 1 + REASON_MAX => {
            let why = String::from_utf8_lossy(frame.get(1..).unwrap_or_default());
            Ok(Outcome::Left(why.chars().filter(|char| !char.is_control()).collect()))
        }
        _ => Err(invalid("neither an image nor a reason")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let mut wire = Vec::new();
        greet(&mut wire, Format::Webp.bit() | Format::Png.bit()).unwrap();
        let order =
            Order { source: Format::Jpeg, wanted: Format::Webp, width: Some(640), bytes: b"not looked at" };
        send_order(&mut wire, &order).unwrap();
        send_outcome(&mut wire, &Outcome::Made { format: Format::Webp, bytes: vec![7; 3] }).unwrap();
        send_outcome(&mut wire, &Outcome::Left("å".repeat(150))).unwrap();
        let from = &mut wire.as_slice();
        assert_eq!(hear_greeting(from).unwrap(), 0b1_0100);
        assert_eq!(take_order(from).unwrap().unwrap().order(), order);
        assert_eq!(hear_outcome(from).unwrap(), Outcome::Made { format: Format::Webp, bytes: vec![7; 3] });
        assert_eq!(hear_outcome(from).unwrap(), Outcome::Left("å".repeat(100)), "cut, and still a text");
        assert_eq!(take_order(from).unwrap(), None, "closed between two messages");
    }

    /// Each line: bytes, and what reading an outcome or an order from them comes to.
    #[test]
    fn what_makes_no_sense_is_an_error() {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        for (bytes, outcome, order) in [
            (&[][..], Some(UnexpectedEof), None),
            (&[0, 0], Some(UnexpectedEof), Some(UnexpectedEof)),
            (&[0, 0, 0, 9, 0, 4], Some(UnexpectedEof), Some(UnexpectedEof)),
            (&[0xff, 0xff, 0xff, 0xff, 0], Some(InvalidData), Some(InvalidData)),
            (&[0, 0, 0, 0], Some(InvalidData), Some(InvalidData)),
            (&[0, 0, 0, 3, 0, 9, 1], Some(InvalidData), Some(InvalidData)),
            (&[0, 0, 0, 2, 0, 4], Some(InvalidData), Some(InvalidData)),
            (&[0, 0, 0, 1, 2], Some(InvalidData), Some(InvalidData)),
            (&[0, 0, 0, 6, 1, 0, 0, 0, 0, 0], None, Some(InvalidData)),
            (&[0, 0, 0, 6, 1, 4, 0, 0, 0, 0], None, None),
        ] {
            assert_eq!(hear_outcome(&mut &*bytes).err().map(|error| error.kind()), outcome, "{bytes:?}");
            assert_eq!(take_order(&mut &*bytes).err().map(|error| error.kind()), order, "{bytes:?}");
        }
        let large = vec![0; SOURCE_MAX + 1];
        let order = Order { source: Format::Png, wanted: Format::Png, width: None, bytes: &large };
        assert_eq!(send_order(&mut Vec::new(), &order).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
