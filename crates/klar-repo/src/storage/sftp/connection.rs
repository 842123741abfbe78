//! One connection: a child whose standard input and output speak SFTP.
//!
//! Nothing here waits for longer than its patience: both pipes are looked at at once (a server that answers before it has
//! read all would otherwise hold both of us up), and so is what the child says of errors. There is no thread beside the
//! one that asks.
//!
//! The child ends with this process because its input does, and a network that is gone is noticed by `ssh` itself. A
//! signal at the parent's death would come too early: the kernel means the thread that started the child, and threads of a
//! backup come and go while connections stay.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::transport::{NotConnected, Transport};
use super::wire::{self, Answer, PACKET_MAX, Refused, Request, kind, open};

/// So many requests are on their way at once: 2 MiB, which is what OpenSSH lets through before it waits.
const WINDOW: usize = 64;
/// What a pipe of Linux holds.
const PIPE: usize = 64 << 10;
/// What is kept of what the child says.
const SAID_MAX: usize = 16 << 10;
/// For so long is waited for the child's last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Wrong {
    /// The server said so. The connection is as good as before.
    Refused(Refused),
    /// It cannot be used any more.
    Broken(NotConnected),
}

pub(super) type Asked<T> = Result<T, Wrong>;

pub(super) struct Connection {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    errors: Option<ChildStderr>,
    transport: Transport,
    patience: Duration,
    /// What the child did not take yet, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    /// What came and is no whole packet yet, from `begun` on.
    came: Vec<u8>,
    begun: usize,
    said: Vec<u8>,
    next: u32,
    extensions: Vec<String>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Connection {
    pub fn open(transport: &Transport, patience: Duration) -> Result<Self, NotConnected> {
        let mut command = Command::new(&transport.program);
        command
            .args(&transport.args)
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |error: io::Error| transport.not_started(&error);
        let mut child = command.spawn().map_err(failed)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        let mut connection = Connection {
            child,
            input,
            output,
            errors: Some(errors),
            transport: transport.clone(),
            patience,
            out: Vec::new(),
            sent: 0,
            came: Vec::new(),
            begun: 0,
            said: Vec::new(),
            next: 0,
            extensions: Vec::new(),
        };
        let waits_never = |fd: &dyn AsFd| {
            fcntl(fd.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| failed(error.into()))
        };
        waits_never(&connection.input)?;
        waits_never(&connection.output)?;
        if let Some(errors) = &connection.errors {
            waits_never(errors)?;
        }
        // The one packet without a number: the version takes its place.
        Request::new(kind::INIT, []).put(wire::VERSION, &mut connection.out);
        let first = connection.packet()?;
        match wire::extensions(&first) {
            Some((wire::VERSION.., extensions)) => connection.extensions = extensions,
            Some((version, _)) => return Err(connection.odd(&format!("it speaks SFTP version {version}"))),
            None => return Err(connection.odd("its first words are not those of SFTP")),
        }
        Ok(connection)
    }

    pub fn offers(&self, extension: &str) -> bool {
        self.extensions.iter().any(|name| name == extension)
    }

    /// Asks one thing.
    pub fn ask(&mut self, request: Request<'_>) -> Asked<Answer> {
        let mut answer = Answer::End;
        self.many([request], &mut |_, found| {
            answer = found;
            Ok(())
        })?;
        match answer {
            Answer::Refused(refused) => Err(Wrong::Refused(refused)),
            answer => Ok(answer),
        }
    }

    /// Asks for what is answered with nothing but that it was done.
    pub fn done(&mut self, request: Request<'_>) -> Asked<()> {
        let answer = self.ask(request)?;
        self.is_done(answer)
    }

    /// Such things, each sent without waiting for the one before.
    pub fn all_done<'a>(&mut self, requests: impl IntoIterator<Item = Request<'a>>) -> Asked<()> {
        let mut is_odd = false;
        self.many(requests, &mut |_, answer| {
            is_odd |= !matches!(answer, Answer::Done | Answer::Refused(_));
            match answer {
                Answer::Refused(refused) => Err(refused),
                _ => Ok(()),
            }
        })?;
        if is_odd { Err(Wrong::Broken(self.odd("it answered something else"))) } else { Ok(()) }
    }

    fn is_done(&mut self, answer: Answer) -> Asked<()> {
        match answer {
            Answer::Done => Ok(()),
            _ => Err(Wrong::Broken(self.odd("it answered something else"))),
        }
    }

    pub fn opened(&mut self, request: Request<'_>) -> Asked<Vec<u8>> {
        match self.ask(request)? {
            Answer::Handle(handle) => Ok(handle),
            _ => Err(Wrong::Broken(self.odd("it answered something else"))),
        }
    }

    pub fn is_there(&mut self, path: &str) -> Asked<bool> {
        match self.ask(Request::path(kind::LSTAT, path)) {
            Ok(_) => Ok(true),
            Err(Wrong::Refused(refused)) if refused.code == Refused::GONE => Ok(false),
            Err(wrong) => Err(wrong),
        }
    }

    /// A file that only this user may read, and that was not there.
    pub fn create(&mut self, path: &str) -> Asked<Vec<u8>> {
        self.opened(Request::open(path, open::WRITE | open::CREATE | open::EXCLUSIVE))
    }

    /// Asks many things, of which a window is on its way at once, and hands over each answer with the number of its request,
    /// in the order in which they come. Once `each` fails, no more is sent; what was sent is still waited for, so that the
    /// connection can be used on.
    pub fn many<'a>(
        &mut self,
        requests: impl IntoIterator<Item = Request<'a>>,
        each: &mut dyn FnMut(usize, Answer) -> Result<(), Refused>,
    ) -> Asked<()> {
        let mut requests = requests.into_iter().enumerate();
        let mut waited: BTreeMap<u32, usize> = BTreeMap::new();
        let mut refused = None;
        loop {
            while waited.len() < WINDOW
                && refused.is_none()
                && let Some((number, request)) = requests.next()
            {
                request.put(self.next, &mut self.out);
                waited.insert(self.next, number);
                self.next = self.next.wrapping_add(1);
            }
            if waited.is_empty() {
                return refused.map_or(Ok(()), |refused| Err(Wrong::Refused(refused)));
            }
            let packet = self.packet().map_err(Wrong::Broken)?;
            let found = wire::answer(&packet).and_then(|(id, answer)| Some((waited.remove(&id)?, answer)));
            let Some((number, answer)) = found else {
                return Err(Wrong::Broken(self.odd("it answered what was not asked")));
            };
            if refused.is_none() {
                refused = each(number, answer).err();
            }
        }
    }

    /// The next packet, without its length.
    fn packet(&mut self) -> Result<Vec<u8>, NotConnected> {
        let mut until = Instant::now() + self.patience;
        loop {
            let came = &self.came[self.begun..];
            if let Some((length, rest)) = came.split_first_chunk() {
                let length = u32::from_be_bytes(*length) as usize;
                if length > PACKET_MAX || length == 0 {
                    let first = wire::plain(&came[..came.len().min(60)]);
                    return Err(self.odd(&format!("it sent {first:?}, which is not SFTP")));
                }
                if let Some(packet) = rest.get(..length) {
                    let packet = packet.to_vec();
                    self.begun += 4 + length;
                    return Ok(packet);
                }
            }
            self.came.drain(..self.begun);
            self.begun = 0;
            // While it takes what is sent it is not silent; it takes no more than a window of that.
            if self.turn(until)? {
                until = Instant::now() + self.patience;
            }
        }
    }

    /// Waits until something can be moved, and moves it; says whether that was something of ours.
    fn turn(&mut self, until: Instant) -> Result<bool, NotConnected> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let silent = format!("no answer within {} s", self.patience.as_secs_f32());
            return Err(self.transport.reason(&silent, &self.told()));
        }
        let (can_write, can_read, has_said) = self.wait(left, !self.out.is_empty(), true)?;
        if has_said {
            self.listen();
        }
        let mut has_sent = false;
        if can_write {
            match self.input.write(&self.out[self.sent..]) {
                Ok(count) => {
                    self.sent += count;
                    has_sent = count > 0;
                    if self.sent * 2 > self.out.len() {
                        self.out.drain(..self.sent);
                        self.sent = 0;
                    }
                }
                Err(error) if waits(&error) => {}
                // What it has said before it went is read below.
                Err(_) => (self.sent, self.out) = (0, Vec::new()),
            }
        }
        if can_read {
            let before = self.came.len();
            self.came.resize(before + PIPE, 0);
            let read = self.output.read(&mut self.came[before..]);
            self.came.truncate(before + read.as_ref().copied().unwrap_or(0));
            match read {
                Ok(0) => return Err(self.ended()),
                Err(error) if !waits(&error) => return Err(self.ended()),
                _ => {}
            }
        }
        Ok(has_sent)
    }

    /// Whether the child takes something, has sent something, and has said something of errors.
    fn wait(
        &mut self,
        patience: Duration,
        write: bool,
        read: bool,
    ) -> Result<(bool, bool, bool), NotConnected> {
        let mut fds = Vec::with_capacity(3);
        let mut watch =
            |fd: Option<_>, flags| fd.map(|fd| fds.push(PollFd::new(fd, flags))).map(|()| fds.len() - 1);
        let input = watch(write.then(|| self.input.as_fd()), PollFlags::POLLOUT);
        let output = watch(read.then(|| self.output.as_fd()), PollFlags::POLLIN);
        let errors = watch(self.errors.as_ref().map(AsFd::as_fd), PollFlags::POLLIN);
        // Rounded up: it is never early, and never 0 in a circle.
        let ms = patience.as_micros().div_ceil(1000).try_into().unwrap_or(i32::MAX);
        match poll(&mut fds, PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(self.transport.not_started(&error.into())),
        }
        let is_ready =
            |at: Option<usize>| at.and_then(|at| fds.get(at)).and_then(PollFd::any).unwrap_or_default();
        Ok((is_ready(input), is_ready(output), is_ready(errors)))
    }

    /// Reads what the child says, and keeps the end of it.
    fn listen(&mut self) {
        let Some(errors) = &mut self.errors else { return };
        let mut some = [0; 4096];
        match errors.read(&mut some) {
            Ok(0) => self.errors = None,
            Ok(count) => {
                self.said.extend_from_slice(&some[..count]);
                let beyond = self.said.len().saturating_sub(SAID_MAX);
                self.said.drain(..beyond);
            }
            Err(error) if waits(&error) => {}
            Err(_) => self.errors = None,
        }
    }

    fn told(&self) -> String {
        String::from_utf8_lossy(&self.said).into_owned()
    }

    /// It is at its end: what it says of that is waited for.
    fn ended(&mut self) -> NotConnected {
        let until = Instant::now() + LAST_WORDS;
        while self.errors.is_some() && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            match self.wait(left, false, false) {
                Ok((_, _, true)) => self.listen(),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.transport.reason("the connection was closed", &self.told())
    }

    /// It does not speak as it should.
    pub fn odd(&self, why: &str) -> NotConnected {
        self.transport.reason(&format!("what answers there is no server of SFTP: {why}"), "")
    }
}

/// It is nothing but too early.
fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
