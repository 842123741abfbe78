//! Everything that needs privilege, behind one request and one answer.
//!
//! Started as root, `klar spawn` ([`server`]) answers over a socketpair and the core is an ordinary user. Started
//! by an ordinary user there is no spawner: the core answers itself, everything runs as that user, and
//! `klar doctor` says what is missing. The spawner never runs a command of an app: it only starts klar's own
//! roles (`klar shim`, `klar edge`), as users of klar's own, never as root.

mod process;
pub mod server;
pub mod users;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use klar_base::{AppKey, wire};
use serde::{Deserialize, Serialize};

use crate::limits::{Backend, Limits};
use crate::programs::Programs;
pub use process::reserve_descriptors;
use users::Identity;

/// A request to the privileged side.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Start one of klar's own roles. Descriptors become 3, 4 ... in the new process.
    Spawn(Spawn),
    /// Make sure that a folder exists below the state folder, with this owner and mode.
    Folder {
        /// Below the state folder.
        path: PathBuf,
        /// Who owns it.
        owner: Identity,
        /// Whose group it belongs to.
        group: Identity,
        /// Its mode, for instance 0o750.
        mode: u32,
    },
    /// Give a whole tree below the state folder to the core, readable for all, and read-only.
    Freeze {
        /// Below the state folder.
        path: PathBuf,
    },
    /// Give a whole tree below the state folder to somebody, writable.
    Give {
        /// Below the state folder.
        path: PathBuf,
        /// To whom.
        owner: Identity,
    },
    /// Put a tree elsewhere below the state folder, where nothing is yet.
    Move {
        /// Below the state folder.
        from: PathBuf,
        /// Below the state folder.
        to: PathBuf,
    },
    /// Remove a tree below the state folder, whoever owns it.
    Remove {
        /// Below the state folder.
        path: PathBuf,
    },
    /// Bind and listen; the socket comes back as a descriptor.
    Bind {
        /// Where.
        address: SocketAddr,
    },
    /// Bind so many sockets for datagrams that share the port; they come back as descriptors, in order.
    BindDatagrams {
        /// Where.
        address: SocketAddr,
        /// How many.
        count: u16,
    },
    /// Send a signal to a process that belongs to this host, and is still the one that was started then.
    Signal {
        /// The process.
        pid: i32,
        /// Its start time as [`started_ticks`] gives it.
        started_ticks: u64,
        /// The signal's number.
        signal: i32,
    },
    /// Who listens on a local TCP port.
    PortOwner {
        /// The port.
        port: u16,
    },
    /// Memory in use by a group, and kills for lack of it.
    Usage {
        /// The instance.
        group: String,
    },
    /// Remove the group of an instance; what still runs in it is killed first.
    Release {
        /// The instance.
        group: String,
    },
    /// The groups that exist.
    Groups,
    /// What this side can do, for `klar doctor`.
    Describe,
    /// Stop for good: the core has stopped everything and is about to exit.
    Finish,
}

/// One of klar's own roles to start.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spawn {
    /// The arguments of the `klar` binary, for instance `["shim", "lisens.prod.api.7"]`.
    pub args: Vec<String>,
    /// As whom.
    pub identity: Identity,
    /// In a group of this name with these limits.
    pub limits: Option<(String, Limits)>,
    /// In a process namespace of its own, with this folder as `/tmp`: when the first process dies, all die.
    pub private_tmp: Option<PathBuf>,
}

/// The answer of the privileged side.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answer {
    /// The role runs.
    Spawned {
        /// Its process id on the host.
        pid: i32,
        /// When it was started, see [`started_ticks`].
        started_ticks: u64,
    },
    /// It is done; a socket may travel along.
    Done,
    /// Who listens.
    Owner {
        /// `nginx (pid 812)`, when somebody does and it can be told.
        owner: Option<String>,
    },
    /// Memory of a group.
    Usage {
        /// (bytes, kills), where the host can tell.
        usage: Option<(u64, u64)>,
    },
    /// Groups.
    Groups {
        /// By instance.
        groups: Vec<String>,
    },
    /// What this side can do.
    Description(Description),
    /// It did not work.
    Failed {
        /// Why, with the name of the file or port.
        reason: String,
        /// The kind, so that the core can tell a taken port from a forbidden one.
        errno: Option<i32>,
    },
}

/// What the privileged side can do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Description {
    /// Whether it is root.
    pub root: bool,
    /// Its own process id, when it is a process of its own.
    pub pid: Option<u32>,
    /// How limits are enforced.
    pub limits: String,
    /// Whether instances get a process namespace of their own.
    pub namespaces: bool,
}

/// Handles requests in this process: inside `klar spawn`, or inside a core without root.
#[derive(Debug)]
pub struct Privileged {
    root: PathBuf,
    executable: PathBuf,
    is_root: bool,
    limits: Backend,
}

/// The program that every role runs from: a copy of this one that every user may run.
fn own_copy(root: &Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let parents = root.ancestors().skip(1).filter(|folder| folder.exists());
    for folder in parents {
        if std::fs::metadata(folder)?.permissions().mode() & 0o001 == 0 {
            let what = format!(
                "the state folder {} lies in {}, which only its owner may enter; choose another with `--state DIR`",
                root.display(),
                folder.display()
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(root)?;
    Programs::new(root).install_own()
}

impl Privileged {
    /// Prepares to serve the host whose state lies in `root`.
    pub fn new(root: &Path) -> io::Result<Self> {
        let is_root = nix::unistd::geteuid().is_root();
        Ok(Self {
            root: root.to_owned(),
            executable: if is_root { own_copy(root)? } else { std::env::current_exe()? },
            is_root,
            limits: Backend::detect(&host_name(root)),
        })
    }

    /// Does what is asked.
    pub fn handle(&self, request: Request, descriptors: &[OwnedFd]) -> (Answer, Vec<OwnedFd>) {
        match self.try_handle(request, descriptors) {
            Ok(done) => done,
            Err(error) => {
                (Answer::Failed { reason: error.to_string(), errno: error.raw_os_error() }, Vec::new())
            }
        }
    }

    fn try_handle(&self, request: Request, descriptors: &[OwnedFd]) -> io::Result<(Answer, Vec<OwnedFd>)> {
        let answer = match request {
            Request::Spawn(spawn) => {
                let (pid, started_ticks) = process::start(self, &spawn, descriptors)?;
                Answer::Spawned { pid, started_ticks }
            }
            Request::Folder { path, owner, group, mode } => {
                users::folder(self, &path, &owner, &group, mode)?;
                Answer::Done
            }
            Request::Freeze { path } => {
                users::own_tree(self, &path, &Identity::Core, users::Modes::Frozen)?;
                Answer::Done
            }
            Request::Give { path, owner } => {
                users::own_tree(self, &path, &owner, users::Modes::Kept)?;
                Answer::Done
            }
            Request::Move { from, to } => {
                users::move_tree(self, &from, &to)?;
                Answer::Done
            }
            Request::Remove { path } => {
                users::remove_tree(self, &path)?;
                Answer::Done
            }
            Request::Bind { address } => return Ok((Answer::Done, vec![bind(address)?.into()])),
            Request::BindDatagrams { address, count } => {
                return Ok((Answer::Done, bind_datagrams(address, count)?));
            }
            Request::Signal { pid, started_ticks, signal } => {
                self.signal(pid, started_ticks, signal)?;
                Answer::Done
            }
            Request::PortOwner { port } => Answer::Owner { owner: process::port_owner(port) },
            Request::Usage { group } => Answer::Usage { usage: self.limits.usage(&group) },
            Request::Release { group } => {
                for pid in self.limits.processes(&group) {
                    // Gone already is as good as killed.
                    let _ =
                        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
                }
                self.limits.remove(&group);
                Answer::Done
            }
            Request::Groups => Answer::Groups { groups: self.limits.groups() },
            Request::Describe => Answer::Description(Description {
                root: self.is_root,
                pid: self.is_root.then(std::process::id),
                limits: self.limits.describe().into(),
                namespaces: self.is_root,
            }),
            Request::Finish => Answer::Done,
        };
        Ok((answer, Vec::new()))
    }

    /// Process ids are used again, so the start time must match; and only klar's own users are ever signalled.
    fn signal(&self, pid: i32, expected_ticks: u64, signal: i32) -> io::Result<()> {
        if started_ticks(pid) != Some(expected_ticks) {
            return Ok(());
        }
        if self.is_root && !users::belongs_to_klar(pid) {
            let what = format!("process {pid} does not belong to a user of klar");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        let signal = nix::sys::signal::Signal::try_from(signal)?;
        match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Binds and listens with `SO_REUSEPORT`, so that each worker of the edge has a socket of its own.
///
/// # Errors
/// `AddrInUse` also when a stranger's socket would share the port.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Binds `count` sockets for datagrams with `SO_REUSEPORT`, one after the other: their order is what the kernel counts
/// them by ([`klar_base::datagrams`]).
///
/// # Errors
/// `AddrInUse` also when a stranger's socket would share the port.
pub fn bind_datagrams(address: SocketAddr, count: u16) -> io::Result<Vec<OwnedFd>> {
    use socket2::{Domain, Protocol, Socket, Type};
    if usize::from(count) > klar_base::wire::DESCRIPTORS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many sockets at once"));
    }
    // What comes between two datagrams of a visitor that sends as fast as it may, at each socket.
    const ROOM: usize = 1 << 20;
    let open = |shared| {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_port(shared)?;
        socket.bind(&address.into())?;
        Ok::<_, io::Error>(socket)
    };
    // One that shares nothing is refused where anybody is.
    drop(open(false)?);
    let bound = (0..count).map(|_| {
        let socket = open(true)?;
        // The kernel gives less where less is allowed.
        let _ = socket.set_recv_buffer_size(ROOM);
        let _ = socket.set_send_buffer_size(ROOM);
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    });
    bound.collect()
}

/// When a process was started, in clock ticks since boot: with the process id it names a process for good.
pub fn started_ticks(pid: i32) -> Option<u64> {
    const STARTTIME_AFTER_NAME: usize = 19;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold spaces and parentheses.
    let after_name = &stat[stat.rfind(')')? + 2..];
    if after_name.starts_with('Z') {
        return None;
    }
    after_name.split(' ').nth(STARTTIME_AFTER_NAME)?.parse().ok()
}

/// A short name that tells apart hosts (state folders) on one machine.
pub fn host_name(root: &Path) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// The core's way to the privileged side.
#[derive(Debug, Clone)]
pub enum Spawner {
    /// There is no other side: this process does it.
    Here(Arc<Privileged>),
    /// `klar spawn` does it.
    There(Arc<Mutex<UnixStream>>),
}

impl Spawner {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The privileged side's reason, or that it is gone.
    pub fn ask_blocking(
        &self,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<(Answer, Vec<OwnedFd>)> {
        let (answer, received) = match self {
            Self::Here(privileged) => {
                let owned: io::Result<Vec<_>> =
                    descriptors.iter().map(BorrowedFd::try_clone_to_owned).collect();
                privileged.handle(request, &owned?)
            }
            Self::There(stream) => {
                let stream = stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                wire::send(&stream, &request, descriptors)?;
                wire::receive(&stream)?.ok_or_else(|| {
                    io::Error::new(io::ErrorKind::BrokenPipe, "the privileged spawner is gone")
                })?
            }
        };
        match answer {
            Answer::Failed { reason, errno } => {
                let kind =
                    errno.map_or(io::ErrorKind::Other, |number| io::Error::from_raw_os_error(number).kind());
                Err(io::Error::new(kind, reason))
            }
            answer => Ok((answer, received)),
        }
    }

    /// Asks without holding up other work of the core.
    ///
    /// # Errors
    /// As [`Spawner::ask_blocking`].
    pub async fn ask(
        &self,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<(Answer, Vec<OwnedFd>)> {
        let spawner = self.clone();
        tokio::task::spawn_blocking(move || spawner.ask_blocking(request, &wire::borrow(&descriptors)))
            .await
            .map_err(io::Error::other)?
    }

    /// Asks for something whose answer holds nothing.
    ///
    /// # Errors
    /// As [`Spawner::ask_blocking`].
    pub async fn tell(&self, request: Request) -> io::Result<()> {
        self.ask(request, Vec::new()).await.map(|_| ())
    }

    /// Makes sure that a folder exists and belongs to `owner`, open to its group.
    ///
    /// # Errors
    /// As [`Spawner::ask_blocking`].
    pub async fn folder(&self, path: PathBuf, owner: Identity, group: Identity, mode: u32) -> io::Result<()> {
        self.tell(Request::Folder { path, owner, group, mode }).await
    }
}

/// The identity that runs the instances of an app.
pub fn app_identity(key: &AppKey) -> Identity {
    Identity::App { key: key.clone() }
}
