//! Where does a chunked body end? (RFC 9112 section 7.1, read strictly.)
//!
//! hyper decodes the chunks; this only follows along, so that the byte after the body is known to be the first of
//! the next head, and so that no size line is let through that another server could read differently.

/// The longest line of a size, an extension or a trailer, in bytes.
const LINE_MAX: usize = 4 * 1024;
/// All trailers together, in bytes.
const TRAILERS_MAX: usize = 8 * 1024;

/// Follows a chunked body.
#[derive(Debug)]
pub struct Chunks {
    state: State,
    line: usize,
    trailers: usize,
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
        Self { state: State::Size { size: 0, digits: 0 }, line: 0, trailers: 0 }
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
            if let State::Data { left } = self.state {
                let here = left.min((bytes.len() - at) as u64);
                at += here as usize;
                self.state = if here == left { State::DataCr } else { State::Data { left: left - here } };
                continue;
            }
            self.state = self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<State, &'static str> {
        self.line += 1;
        if self.line > LINE_MAX {
            return Err("a line of a chunked body is too long");
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
                self.trailers += self.line;
                self.line = 0;
                if self.trailers > TRAILERS_MAX {
                    return Err("the trailers of a chunked body are too long");
                }
                State::TrailerStart
            }
            (State::LastLf, b'\n') => State::Done,
            _ => return Err("a chunked body is not framed as it should be"),
        })
    }
}

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
