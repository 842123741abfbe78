//! PostgreSQL's streaming replication protocol, as far as a receiver needs it that acknowledges on another's behalf.
//!
//! `pg_receivewal` can only acknowledge what is in a folder of its own. Here whoever asks says when a part of the log is
//! safe, and the server lets those commits return. Source: PostgreSQL 15, "Streaming Replication Protocol" (chapter 55.4)
//! and "Message Formats" (55.7).
//!
//! Limits: no message is longer than [`MESSAGE_MAX`]; every wait has a deadline.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use jiff::Timestamp;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;

use super::Door;
use super::session::PATIENCE;
use crate::lsn::{Lsn, Timeline};

/// A server sends at most 128 KiB of the log in one message (`MAX_SEND_SIZE`, walsender.c).
const MESSAGE_MAX: usize = 1 << 20;
/// What is read at once, and so the most that is handed on at once.
const READ: usize = 1 << 20;
/// Microseconds from 1970 to 2000, where PostgreSQL's time begins.
const EPOCH: i64 = 946_684_800_000_000;

/// It does not stream.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// The connection.
    #[error("streaming from PostgreSQL at {door}: {source}")]
    Io {
        /// Where.
        door: String,
        /// As the system says it.
        source: io::Error,
    },
    /// It says no.
    #[error("streaming from PostgreSQL at {door}: {why}")]
    Said {
        /// Where.
        door: String,
        /// As it says it.
        why: String,
    },
    /// An answer that is none.
    #[error("PostgreSQL at {door} answered with {found}, expected {expected}")]
    Answer {
        /// Where.
        door: String,
        /// What was expected.
        expected: &'static str,
        /// What came.
        found: String,
    },
}

/// A part of the log, without a gap in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Where it begins.
    pub from: Lsn,
    /// The log.
    pub bytes: Vec<u8>,
    /// When the server sent the last of it, by its clock.
    pub sent: Timestamp,
}

impl Received {
    /// The first byte that is no longer in it.
    #[must_use]
    pub fn to(&self) -> Lsn {
        self.from + self.bytes.len() as u64
    }
}

trait Stream: Read + Write + Send {
    fn set_patience(&self, patience: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(patience))?;
        self.set_write_timeout(Some(PATIENCE))
    }
}

impl Stream for UnixStream {
    fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(patience))?;
        self.set_write_timeout(Some(PATIENCE))
    }
}

/// A connection that streams.
pub struct Replication {
    stream: Box<dyn Stream>,
    /// What was read and not understood yet.
    buffer: BytesMut,
    door: String,
    /// The first byte that is expected next.
    next: Lsn,
    acknowledged: Lsn,
    said: Instant,
}

/// How often the server hears something though nothing is new: it gives up after a minute (`wal_sender_timeout`).
const WORD: Duration = Duration::from_secs(10);

struct Message {
    tag: u8,
    body: BytesMut,
}

impl Replication {
    /// Streams from `slot`, from `from` on. `name` is what `synchronous_standby_names` knows it by.
    ///
    /// # Errors
    /// The server does not let us in, has no such slot, or no longer has that part of its log.
    pub fn start(
        door: &Door,
        name: &str,
        slot: &str,
        from: Lsn,
        timeline: Timeline,
    ) -> Result<Self, ReplicationError> {
        let known = format!("{}:{}", door.host, door.port);
        let failed = |source| ReplicationError::Io { door: known.clone(), source };
        let stream = connect(door).map_err(failed)?;
        stream.set_patience(PATIENCE).map_err(failed)?;
        let mut this = Self {
            stream,
            buffer: BytesMut::new(),
            door: known.clone(),
            next: from,
            acknowledged: from,
            said: Instant::now(),
        };
        this.enter(door, name)?;
        let command = format!("START_REPLICATION SLOT \"{slot}\" PHYSICAL {from} TIMELINE {timeline}");
        this.ask(&command)?;
        let answer = this.expect()?;
        match answer.tag {
            b'W' => Ok(this),
            // It has ended that timeline, and streamed nothing of it.
            tag => Err(this.strange("a stream", tag)),
        }
    }

    /// What is new: all that has come by now; `None` where nothing came for `patience`.
    ///
    /// # Errors
    /// The connection ended, or what came does not go on where the last one ended.
    pub fn receive(&mut self, patience: Duration) -> Result<Option<Received>, ReplicationError> {
        let mut found: Option<Received> = None;
        self.stream.set_patience(patience).map_err(|source| self.failed(source))?;
        loop {
            while let Some(message) = self.next_message()? {
                self.take(message, &mut found)?;
            }
            if found.is_some() {
                return Ok(found);
            }
            match self.fill() {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if self.said.elapsed() >= WORD {
                        self.acknowledge(self.acknowledged)?;
                    }
                    return Ok(None);
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// What lies before `lsn` is safe: commits in it may return.
    ///
    /// # Errors
    /// The connection.
    pub fn acknowledge(&mut self, lsn: Lsn) -> Result<(), ReplicationError> {
        let mut word = Vec::with_capacity(34);
        word.push(b'r');
        // Written, flushed, applied: a receiver applies nothing.
        for place in [lsn.0, lsn.0, 0] {
            word.extend_from_slice(&place.to_be_bytes());
        }
        word.extend_from_slice(&(Timestamp::now().as_microsecond() - EPOCH).to_be_bytes());
        word.push(0);
        let mut out = BytesMut::new();
        let written = frontend::CopyData::new(&word[..]).map(|data| data.write(&mut out));
        written.and_then(|()| self.stream.write_all(&out)).map_err(|source| self.failed(source))?;
        self.acknowledged = lsn;
        self.said = Instant::now();
        Ok(())
    }

    fn take(&mut self, message: Message, found: &mut Option<Received>) -> Result<(), ReplicationError> {
        let Message { tag, mut body } = message;
        let kind = body.first().copied().unwrap_or_default();
        match (tag, kind) {
            (b'd', b'w') if body.len() >= 25 => {
                body.advance(1);
                let from = Lsn(body.get_u64());
                body.advance(8);
                let sent =
                    Timestamp::from_microsecond(body.get_i64().saturating_add(EPOCH)).unwrap_or_default();
                if from != self.next {
                    return Err(
                        self.answer("the log from where it ended", format!("{from} after {}", self.next))
                    );
                }
                self.next = from + body.len() as u64;
                match found {
                    Some(found) => {
                        found.bytes.extend_from_slice(&body);
                        found.sent = sent;
                    }
                    None => *found = Some(Received { from, bytes: body.to_vec(), sent }),
                }
                Ok(())
            }
            // It is alive; where it wants a word it gets one.
            (b'd', b'k') if body.len() == 18 => match body[17] {
                0 => Ok(()),
                _ => self.acknowledge(self.acknowledged),
            },
            (b'N' | b'S', _) => Ok(()),
            (b'E', _) => Err(self.said(&body)),
            (b'c', _) => Err(self.answer("more of the log", "the end of its timeline".to_owned())),
            _ => Err(self.strange("a part of the log", tag)),
        }
    }

    /// Says who we are.
    fn enter(&mut self, door: &Door, name: &str) -> Result<(), ReplicationError> {
        let mut out = BytesMut::new();
        let parameters = [
            ("user", &*door.user),
            ("replication", "true"),
            ("application_name", name),
            ("client_encoding", "UTF8"),
        ];
        let begun = frontend::startup_message(parameters, &mut out);
        begun.and_then(|()| self.stream.write_all(&out)).map_err(|source| self.failed(source))?;
        let mut scram: Option<ScramSha256> = None;
        loop {
            let Message { tag, mut body } = self.expect()?;
            if tag == b'Z' {
                return Ok(());
            }
            if matches!(tag, b'S' | b'K' | b'N') {
                continue;
            }
            if tag != b'R' || body.len() < 4 {
                return Err(self.strange("who we are to be", tag));
            }
            let mut out = BytesMut::new();
            let done = match (body.get_u32(), &mut scram) {
                (0, _) => continue,
                (10, scram @ None)
                    if body[..].split(|byte| *byte == 0).any(|one| one == SCRAM_SHA_256.as_bytes()) =>
                {
                    let password = door.password.as_ref().map_or("", |password| password.expose());
                    let begun =
                        scram.insert(ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported()));
                    frontend::sasl_initial_response(SCRAM_SHA_256, begun.message(), &mut out)
                }
                (11, Some(scram)) => {
                    scram.update(&body).and_then(|()| frontend::sasl_response(scram.message(), &mut out))
                }
                (12, Some(scram)) => scram.finish(&body),
                (other, _) => {
                    let found = format!("authentication of kind {other}");
                    return Err(self.answer("SCRAM-SHA-256 or none", found));
                }
            };
            done.and_then(|()| self.stream.write_all(&out)).map_err(|source| self.failed(source))?;
        }
    }

    fn ask(&mut self, command: &str) -> Result<(), ReplicationError> {
        let mut out = BytesMut::new();
        let asked = frontend::query(command, &mut out);
        asked.and_then(|()| self.stream.write_all(&out)).map_err(|source| self.failed(source))
    }

    /// The next message that says something; an error that the server tells is one.
    fn expect(&mut self) -> Result<Message, ReplicationError> {
        loop {
            match self.next_message()? {
                Some(message) if message.tag == b'E' => return Err(self.said(&message.body)),
                Some(message) => return Ok(message),
                None => self.fill().map_err(|source| self.failed(source))?,
            }
        }
    }

    fn next_message(&mut self) -> Result<Option<Message>, ReplicationError> {
        let Some((head, _)) = self.buffer.split_first_chunk::<5>() else { return Ok(None) };
        let tag = head[0];
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if !(4..=MESSAGE_MAX).contains(&length) {
            return Err(self.answer("a message", format!("one of {length} bytes")));
        }
        if self.buffer.len() < 1 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(Message { tag, body: self.buffer.split_to(length - 4) }))
    }

    fn fill(&mut self) -> io::Result<()> {
        let before = self.buffer.len();
        self.buffer.resize(before + READ, 0);
        let read = self.stream.read(&mut self.buffer[before..]);
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        match read? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")),
            _ => Ok(()),
        }
    }

    fn failed(&self, source: io::Error) -> ReplicationError {
        ReplicationError::Io { door: self.door.clone(), source }
    }

    fn answer(&self, expected: &'static str, found: String) -> ReplicationError {
        ReplicationError::Answer { door: self.door.clone(), expected, found }
    }

    fn strange(&self, expected: &'static str, tag: u8) -> ReplicationError {
        self.answer(expected, format!("a message of kind `{}`", char::from(tag).escape_default()))
    }

    /// What an error of the server says: its field `M`.
    fn said(&self, body: &[u8]) -> ReplicationError {
        let fields = body.split(|byte| *byte == 0);
        let message = fields.filter_map(|field| field.split_first()).find(|(kind, _)| **kind == b'M');
        let why = message.map_or_else(String::new, |(_, text)| String::from_utf8_lossy(text).into_owned());
        ReplicationError::Said { door: self.door.clone(), why }
    }
}

fn connect(door: &Door) -> io::Result<Box<dyn Stream>> {
    if door.host.starts_with('/') {
        return Ok(Box::new(UnixStream::connect(format!("{}/.s.PGSQL.{}", door.host, door.port))?));
    }
    use std::net::ToSocketAddrs;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in (door.host.as_str(), door.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                // An acknowledgement is small, and somebody waits for it.
                stream.set_nodelay(true)?;
                return Ok(Box::new(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
