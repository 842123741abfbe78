//! A chunked body, decoded (RFC 9112 section 7.1, read strictly).

use bytes::{Buf, Bytes};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use httparse::{EMPTY_HEADER, Status};

use super::Fault;

/// The longest line of a size with its extension, in bytes.
const LINE_MAX: usize = 4 << 10;
/// All trailers together, in bytes.
const TRAILERS_MAX: usize = 8 << 10;
/// More trailers than this are refused.
const TRAILER_LINES_MAX: usize = 100;

/// Decodes a chunked body, however its bytes are cut.
#[derive(Debug)]
pub struct Chunks {
    state: State,
    /// Bytes of the line that is being read.
    line: usize,
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { size: u64, digits: u8 },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// What a chunked body is made of.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Data(Bytes),
    /// They come after the last data, and the body ends with them.
    Trailers(HeaderMap),
    /// There is nothing more.
    End,
}

impl Chunks {
    /// At the start of a body.
    pub fn new() -> Self {
        Self { state: State::Size { size: 0, digits: 0 }, line: 0, trailers: Vec::new() }
    }

    /// Takes the next piece from the start of `input`; `None`: more has to come first.
    ///
    /// # Errors
    /// What is wrong with the body.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Piece>, Fault> {
        loop {
            match self.state {
                State::Done => return Ok(Some(Piece::End)),
                State::Data { left } if !input.is_empty() => {
                    let here = left.min(input.len() as u64);
                    self.state = if here == left { State::DataCr } else { State::Data { left: left - here } };
                    return Ok(Some(Piece::Data(input.split_to(here as usize))));
                }
                _ => {}
            }
            let Some(byte) = input.first().copied() else { return Ok(None) };
            input.advance(1);
            if self.state == State::Trailers {
                if let Some(trailers) = self.trailer(byte)? {
                    self.state = State::Done;
                    return Ok(Some(if trailers.is_empty() {
                        Piece::End
                    } else {
                        Piece::Trailers(trailers)
                    }));
                }
                continue;
            }
            self.state = self.step(byte)?;
        }
    }

    fn step(&mut self, byte: u8) -> Result<State, Fault> {
        self.line += 1;
        if self.line > LINE_MAX {
            return Err(Fault::Doubtful("a line in the chunked body of the answer is too long"));
        }
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == 15 {
                    return Err(Fault::Doubtful("a chunk of the answer is too large"));
                }
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { digits: 1.., size } | State::Extension { size }, b'\r') => State::SizeLf { size },
            (State::Size { digits: 1.., size }, b';') => State::Extension { size },
            (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => State::Extension { size },
            (State::SizeLf { size }, b'\n') => {
                self.line = 0;
                if size == 0 { State::Trailers } else { State::Data { left: size } }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.line = 0;
                State::Size { size: 0, digits: 0 }
            }
            _ => return Err(Fault::Doubtful("a chunk of the answer is not framed as it should be")),
        })
    }

    /// Takes one more byte of the trailers, which end with an empty line.
    fn trailer(&mut self, byte: u8) -> Result<Option<HeaderMap>, Fault> {
        let before = self.trailers.last().copied();
        if (byte == b'\n') != (before == Some(b'\r')) {
            return Err(Fault::Doubtful("a line in the trailers of the answer does not end in CR LF"));
        }
        self.trailers.push(byte);
        if self.trailers.len() > TRAILERS_MAX {
            return Err(Fault::Doubtful("the trailers of the answer are longer than 8 KiB"));
        }
        if self.trailers != b"\r\n" && !self.trailers.ends_with(b"\r\n\r\n") {
            return Ok(None);
        }
        let bad = Fault::Doubtful("a trailer of the answer is not a header");
        let mut lines = [EMPTY_HEADER; TRAILER_LINES_MAX];
        let parsed = httparse::parse_headers(&self.trailers, &mut lines);
        let Ok(Status::Complete((length, lines))) = parsed else { return Err(bad) };
        if length != self.trailers.len() {
            return Err(bad);
        }
        let mut trailers = HeaderMap::with_capacity(lines.len());
        for line in lines {
            let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| bad)?;
            trailers.append(name, HeaderValue::from_bytes(line.value).map_err(|_| bad)?);
        }
        Ok(Some(trailers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data, the trailers, and what was left over.
    type Decoded = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// Decodes a body that comes in pieces of `step` bytes.
    fn decoded(body: &[u8], step: usize) -> Result<Decoded, Fault> {
        let (mut chunks, mut data, mut trailers) = (Chunks::new(), Vec::new(), None);
        let mut pieces = body.chunks(step);
        let mut input = Bytes::new();
        loop {
            match chunks.next(&mut input)? {
                Some(Piece::Data(piece)) => data.extend_from_slice(&piece),
                Some(Piece::Trailers(all)) => trailers = Some(all),
                Some(Piece::End) => {
                    let rest = pieces.flatten().copied();
                    return Ok((data, trailers, input.iter().copied().chain(rest).collect()));
                }
                None => {
                    assert!(input.is_empty(), "what is not needed yet is not left lying");
                    let more = pieces.next().ok_or(Fault::Broken("it ends"))?;
                    input = Bytes::copy_from_slice(more);
                }
            }
        }
    }

    #[test]
    fn good_bodies() {
        for (body, data, trailer) in [
            ("0\r\n\r\n", "", None),
            ("5\r\nhello\r\n0\r\n\r\n", "hello", None),
            ("5;name=value\r\nhello\r\n00\r\nTrailer: x\r\n\r\n", "hello", Some("x")),
            ("A\r\n0123456789\r\n1\r\n\n\r\n0\r\n\r\n", "0123456789\n", None),
        ] {
            for step in 1..=body.len() + 4 {
                let more = format!("{body}next");
                let (got, trailers, rest) = decoded(more.as_bytes(), step).unwrap();
                assert_eq!((&got[..], &rest[..]), (data.as_bytes(), &b"next"[..]), "{body:?} by {step}");
                let got = trailers.map(|trailers| trailers["trailer"].to_str().unwrap().to_owned());
                assert_eq!(got.as_deref(), trailer, "{body:?} by {step}");
            }
        }
    }

    #[test]
    fn doubtful_bodies() {
        let long_line = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(LINE_MAX));
        let long_trailer = format!("0\r\nA: {}\r\n\r\n", "x".repeat(TRAILERS_MAX));
        let many_trailers = format!("0\r\n{}\r\n", "A: b\r\n".repeat(TRAILER_LINES_MAX + 1));
        for body in [
            "\r\n",
            ";x\r\n\r\n",
            "5\nhello\r\n",
            "5 \r\nhello\r\n",
            "0x5\r\nhello\r\n",
            "-5\r\nhello",
            "5\r\nhello0\r\n",
            "5\r\nhello\n0\r\n",
            "5;a\nb\r\nhello",
            "1000000000000000\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nA: b\r\n folded\r\n\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\nA: b\r\r\n\r\n",
            "0\r\nA b\r\n\r\n",
            "0\r\n\n",
            &long_line,
            &long_trailer,
            &many_trailers,
        ] {
            for step in [1, 2, body.len()] {
                let got = decoded(body.as_bytes(), step);
                assert!(matches!(got, Err(Fault::Doubtful(_))), "{body:?} by {step} gave {got:?}");
            }
        }
    }
}
