//! A connection to a Redis: one command, one answer, in its own protocol (RESP 2, redis.io/docs/reference/protocol-spec).

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use klar_base::keep::KeptRedis;

use super::RedisError;

/// A connection is there within this.
const CONNECTING: Duration = Duration::from_secs(5);
/// Reads are broken off this often, to see whether all is over.
const TICK: Duration = Duration::from_millis(500);
/// A line, such as an error, is not longer.
const LINE_MAX: usize = 4096;
/// `INFO` is not longer.
const BULK_MAX: usize = 1 << 20;

/// What is both read and written.
trait Duplex: Read + Write + Send {}

impl Duplex for TcpStream {}
impl Duplex for UnixStream {}

/// A connection; whoever waits on it may be told to give up.
pub struct Link<'a> {
    stream: BufReader<Box<dyn Duplex>>,
    at: String,
    is_over: &'a (dyn Fn() -> bool + Sync),
}

impl<'a> Link<'a> {
    /// Opens one to a Redis that klar runs, and says its password.
    ///
    /// # Errors
    /// Nobody listens; it is another password.
    pub fn open(redis: &KeptRedis, is_over: &'a (dyn Fn() -> bool + Sync)) -> Result<Self, RedisError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, redis.port));
        let at = format!("`{}` at {address}", redis.name);
        let lost = |source| RedisError::Lost { at: at.clone(), source };
        let stream = TcpStream::connect_timeout(&address, CONNECTING).map_err(lost)?;
        stream.set_read_timeout(Some(TICK)).map_err(lost)?;
        stream.set_write_timeout(Some(CONNECTING)).map_err(lost)?;
        let stream = BufReader::with_capacity(1 << 18, Box::new(stream) as Box<dyn Duplex>);
        let mut link = Self { stream, at, is_over };
        match link.ask(&["AUTH", redis.password.expose()], CONNECTING) {
            Err(RedisError::Refused { at, said, .. }) => Err(match said.starts_with("LOADING") {
                true => RedisError::Refused { at, command: "AUTH".into(), said },
                false => RedisError::Password { at, said },
            }),
            other => other.map(|_| link),
        }
    }

    /// Opens one to a server of this process' own.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn beside(path: &Path, is_over: &'a (dyn Fn() -> bool + Sync)) -> Result<Self, RedisError> {
        let at = path.display().to_string();
        let lost = |source| RedisError::Lost { at: at.clone(), source };
        let stream = UnixStream::connect(path).map_err(lost)?;
        stream.set_read_timeout(Some(TICK)).map_err(lost)?;
        stream.set_write_timeout(Some(CONNECTING)).map_err(lost)?;
        Ok(Self { stream: BufReader::new(Box::new(stream)), at, is_over })
    }

    /// Who is at the other end, for messages.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// One command, one answer, which is a line or a text: no command that is used here has another one.
    ///
    /// # Errors
    /// It is refused; no answer comes within `patience`.
    pub fn ask(&mut self, words: &[&str], patience: Duration) -> Result<String, RedisError> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.send(request.as_bytes())?;
        let head = self.line(patience)?;
        let (kind, rest) = head.split_at(head.len().min(1));
        match kind {
            "+" | ":" => Ok(rest.to_owned()),
            "-" => {
                let command = words.first().map(|word| (*word).to_owned()).unwrap_or_default();
                Err(RedisError::Refused { at: self.at.clone(), command, said: rest.to_owned() })
            }
            "$" => {
                let length: usize = rest.parse().map_err(|_| self.odd(&head))?;
                if length > BULK_MAX {
                    return Err(self.odd(&head));
                }
                let mut text = vec![0; length + 2];
                let mut filled = 0;
                while filled < text.len() {
                    filled += self.some(&mut text[filled..], patience)?;
                }
                text.truncate(length);
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            _ => Err(self.odd(&head)),
        }
    }

    /// The fields of `INFO`.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub fn info(&mut self) -> Result<BTreeMap<String, String>, RedisError> {
        let text = self.ask(&["INFO"], CONNECTING * 2)?;
        let fields = text.lines().filter_map(|line| line.trim().split_once(':'));
        Ok(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Sends what is not answered at once.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), RedisError> {
        self.stream.get_mut().write_all(bytes).map_err(|source| self.lost(source))
    }

    /// A line without its end.
    pub(super) fn line(&mut self, patience: Duration) -> Result<String, RedisError> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") {
            if line.len() >= LINE_MAX {
                return Err(self.odd(&String::from_utf8_lossy(&line)));
            }
            self.some(&mut byte, patience)?;
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Some bytes, at least one. Silence may last for `patience`.
    pub(super) fn some(&mut self, into: &mut [u8], patience: Duration) -> Result<usize, RedisError> {
        let begun = Instant::now();
        loop {
            match self.stream.read(into) {
                Ok(0) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => return Ok(count),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        if (self.is_over)() {
                            return Err(RedisError::Over);
                        }
                        if begun.elapsed() >= patience {
                            let what = format!("it said nothing for {} s", patience.as_secs());
                            return Err(self.lost(io::Error::new(io::ErrorKind::TimedOut, what)));
                        }
                    }
                    _ => return Err(self.lost(error)),
                },
            }
        }
    }

    fn lost(&self, source: io::Error) -> RedisError {
        RedisError::Lost { at: self.at.clone(), source }
    }

    pub(super) fn odd(&self, said: &str) -> RedisError {
        RedisError::Odd { at: self.at.clone(), said: said.chars().take(200).collect() }
    }
}
