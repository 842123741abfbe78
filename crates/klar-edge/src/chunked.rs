//! Where does a chunked body end? (RFC 9112 section 7.1, read strictly.)
//!
//! The byte after the body is known to be the first of the next head, and no size line is let through that another
//! server could read differently. The codec takes its bodies apart with it; where hyper decodes them, it only follows
//! along.

/// The longest line of a size, an extension or a trailer, in bytes.
const LINE_MAX: usize = 4 * 1024;
/// All trailers together, in bytes.
const TRAILERS_MAX: usize = 8 * 1024;
/// All extensions together, in bytes: nobody needs any, and each chunk may bring one.
const EXTENSIONS_MAX: usize = 8 * 1024;

/// Follows a chunked body.
#[derive(Debug)]
pub struct Chunks {
    state: State,
    line: usize,
    extensions: usize,
    trailers: Vec<u8>,
}

/// What the next bytes of a body are; so many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Content.
    Data(usize),
    /// Sizes, line ends, extensions, trailers.
    Framing(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { size: u64, digits: u8 },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastLf,
    Done,
}

impl Chunks {
    /// At the start of a body.
    pub fn new() -> Self {
        Self { state: State::Size { size: 0, digits: 0 }, line: 0, extensions: 0, trailers: Vec::new() }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How many of `bytes` belong to the body.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            let (Piece::Data(here) | Piece::Framing(here)) = self.piece(&bytes[at..])?;
            at += here;
        }
        Ok(at)
    }

    /// What `bytes` begin with; of no length only when there are none, or the body has ended.
    ///
    /// # Errors
    /// What is wrong with the body.
    pub fn piece(&mut self, bytes: &[u8]) -> Result<Piece, &'static str> {
        if let State::Data { left } = self.state {
            let here = left.min(bytes.len() as u64);
            self.state = if here == left { State::DataCr } else { State::Data { left: left - here } };
            return Ok(Piece::Data(here as usize));
        }
        let mut at = 0;
        while at < bytes.len() && !self.is_done() && !matches!(self.state, State::Data { .. }) {
            self.state = self.step(bytes[at])?;
            at += 1;
        }
        Ok(Piece::Framing(at))
    }

    /// The lines of the trailers, each with its CR LF, once the body has ended.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    fn step(&mut self, byte: u8) -> Result<State, &'static str> {
        self.line += 1;
        if self.line > LINE_MAX {
            return Err("a line of a chunked body is too long");
        }
        match self.state {
            State::Extension { .. } => self.extensions += 1,
            State::Trailer | State::TrailerEnd => self.trailers.push(byte),
            State::TrailerStart if byte != b'\r' => self.trailers.push(byte),
            _ => {}
        }
        if self.extensions > EXTENSIONS_MAX {
            return Err("the extensions of a chunked body are too long");
        }
        if self.trailers.len() > TRAILERS_MAX {
            return Err("the trailers of a chunked body are too long");
        }
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == 15 {
                    return Err("a chunk is too large");
                }
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err("a chunk has no size"),
            (State::Size { size, .. } | State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Size { size, .. }, b';') => State::Extension { size },
            (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => State::Extension { size },
            (State::SizeEnd { size }, b'\n') => {
                self.line = 0;
                if size == 0 { State::TrailerStart } else { State::Data { left: size } }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.line = 0;
                State::Size { size: 0, digits: 0 }
            }
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerStart, b'!'..=b'~') => State::Trailer,
            (State::Trailer, b'\r') => State::TrailerEnd,
            (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => State::Trailer,
            (State::TrailerEnd, b'\n') => {
                self.line = 0;
                State::TrailerStart
            }
            (State::LastLf, b'\n') => State::Done,
            _ => return Err("a chunked body is not framed as it should be"),
        })
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_bodies_end_where_they_end() {
        let table = [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5;name=value\r\nhello\r\n00\r\nTrailer: x\r\n\r\n",
            "A\r\n0123456789\r\n1\r\n\n\r\n0\r\n\r\n",
        ];
        for body in table {
            let more = format!("{body}GET /next");
            for step in 1..=more.len() {
                let mut chunks = Chunks::new();
                let mut taken = 0;
                for piece in more.as_bytes().chunks(step) {
                    taken += chunks.follow(piece).unwrap();
                    if chunks.is_done() {
                        break;
                    }
                }
                assert!(chunks.is_done());
                assert_eq!(taken, body.len(), "{body:?} in pieces of {step}");
            }
        }
    }

    #[test]
    fn pieces_are_told_apart() {
        let body = b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\nC: d\r\n\r\nGET /next";
        let (mut chunks, mut at, mut data) = (Chunks::new(), 0, Vec::new());
        while !chunks.is_done() {
            match chunks.piece(&body[at..]).unwrap() {
                Piece::Data(length) => {
                    data.extend_from_slice(&body[at..at + length]);
                    at += length;
                }
                Piece::Framing(length) => at += length,
            }
        }
        assert_eq!((data.as_slice(), &body[at..]), (&b"hello!"[..], &b"GET /next"[..]));
        assert_eq!(chunks.trailers(), b"A: b\r\nC: d\r\n");
    }

    #[test]
    fn what_nobody_needs_is_bounded() {
        let extension = format!("1;{}\r\nx\r\n", "y".repeat(1000));
        let trailer = format!("a: {}\r\n", "y".repeat(1000));
        let extended = |count| format!("{}0\r\n\r\n", extension.repeat(count));
        let trailed = |count| format!("0\r\n{}\r\n", trailer.repeat(count));
        for (body, is_good) in
            [(extended(8), true), (extended(9), false), (trailed(8), true), (trailed(9), false)]
        {
            assert_eq!(Chunks::new().follow(body.as_bytes()).is_ok(), is_good, "{} bytes", body.len());
        }
    }

    #[test]
    fn doubtful_bodies_are_refused() {
        let table = [
            "\r\n",
            "5\nhello\r\n",
            "5 \r\nhello\r\n",
            "0x5\r\nhello\r\n",
            "-5\r\nhello",
            "5\r\nhello0\r\n",
            "5\r\nhello\n0\r\n",
            "5;a\nb\r\nhello",
            "1000000000000000\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nA: b\n\r\n",
        ];
        for body in table {
            assert!(Chunks::new().follow(body.as_bytes()).is_err(), "{body:?}");
        }
    }
}
