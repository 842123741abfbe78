//! A PostgreSQL to plant faults in: a cluster of its own in a temporary folder, for as long as faults are planted.
//!
//! Nobody else can reach it: it listens on a socket in a folder that only its owner may enter. It knows no passwords,
//! writes nothing to disk in earnest, and is gone afterwards.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::{Rc, Weak};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tokio_postgres::{Config, NoTls};

use crate::world::until;

/// A running cluster; dropped, it is gone.
pub struct Cluster {
    folder: PathBuf,
    server: RefCell<Child>,
    made: Cell<u32>,
}

thread_local! {
    /// One for all who need it at the same time.
    static SHARED: Rc<tokio::sync::Mutex<Weak<Cluster>>> = Rc::default();
}

const UP: Duration = Duration::from_secs(20);

/// The tables of a small shop as they should be: rows enough for indexes to matter, an index for each question, and
/// statements that use them.
pub const GOOD: &[&str] = &[
    "CREATE TABLE clubs (id bigint PRIMARY KEY, name text NOT NULL)",
    "CREATE TABLE orders (id bigint PRIMARY KEY, club_id bigint NOT NULL, \
     placed_at timestamptz NOT NULL, total integer NOT NULL, note text NOT NULL)",
    "INSERT INTO clubs SELECT n, 'club ' || n FROM generate_series(1, 2000) n",
    "INSERT INTO orders SELECT n, 1 + n % 2000, timestamptz '2026-01-01' + n * interval '1 minute', n % 900, 'x' \
     FROM generate_series(1, 120000) n",
    // After the rows: then they are looked through once, and not one by one.
    "ALTER TABLE orders ADD FOREIGN KEY (club_id) REFERENCES clubs (id) ON DELETE CASCADE",
    "CREATE INDEX orders_of_club ON orders (club_id, placed_at, id)",
    "CREATE INDEX orders_newest ON orders (placed_at, id)",
    "ANALYZE",
];

/// What the app of these tables asks again and again, as its own role.
const ASKED: &[&str] = &[
    "SELECT id, total FROM orders WHERE club_id = 7 ORDER BY placed_at DESC, id DESC LIMIT 20",
    "SELECT id, total FROM orders ORDER BY placed_at DESC, id DESC LIMIT 20",
    "SELECT count(*), sum(total) FROM orders WHERE club_id = 7",
    "SELECT id, name FROM clubs WHERE id = 7",
];

impl Cluster {
    /// The one that runs, or a new one.
    ///
    /// # Errors
    /// When PostgreSQL's server is not installed, or does not start.
    pub async fn shared() -> io::Result<Rc<Self>> {
        let shared = SHARED.with(Rc::clone);
        let mut shared = shared.lock().await;
        if let Some(cluster) = shared.upgrade() {
            return Ok(cluster);
        }
        let cluster = Rc::new(Self::start().await?);
        *shared = Rc::downgrade(&cluster);
        Ok(cluster)
    }

    /// A new one.
    ///
    /// # Errors
    /// As [`Cluster::shared`].
    pub async fn start() -> io::Result<Self> {
        let programs = programs().ok_or_else(|| io::Error::other("PostgreSQL's server is not installed"))?;
        let folder =
            std::env::temp_dir().join(format!("klar-pg-{}-{:x}", std::process::id(), fastrand::u32(..)));
        std::fs::create_dir(&folder)?;
        // From here on the folder goes when this does, whatever happens.
        let removed = Removed(folder.clone());
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        let owner = owner()?;
        if let Some((user, group)) = owner {
            chown(&folder, Some(user), Some(group))?;
        }
        let data = folder.join("data");
        let made = {
            let mut initdb = as_owner(&programs.join("initdb"), owner, &folder);
            initdb.arg("-D").arg(&data).args([
                "-U",
                "klar",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--data-checksums",
                "--no-sync",
                "--no-instructions",
            ]);
            initdb.stderr(Stdio::piped());
            tokio::task::spawn_blocking(move || initdb.output()).await.map_err(io::Error::other)??
        };
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr);
            return Err(io::Error::other(format!("initdb: {}", said.lines().last().unwrap_or_default())));
        }
        let mut command = as_owner(&programs.join("postgres"), owner, &folder);
        command.arg("-D").arg(&data);
        let socket = format!("unix_socket_directories={}", folder.display());
        for setting in [
            "listen_addresses=",
            socket.as_str(),
            "shared_preload_libraries=pg_stat_statements",
            "fsync=off",
            "synchronous_commit=off",
            "shared_buffers=32MB",
            "max_connections=300",
            "autovacuum=off",
        ] {
            command.args(["-c", setting]);
        }
        let cluster = Self { folder, server: RefCell::new(command.spawn()?), made: Cell::new(0) };
        std::mem::forget(removed); // the cluster removes it now
        let up = || async { cluster.run("postgres", "klar", &["SELECT 1"]).await.ok() };
        match until(UP, up).await {
            Some(()) => Ok(cluster),
            None => Err(io::Error::other("PostgreSQL did not start in 20 s")),
        }
    }

    /// A database with hardly anything in it, for what looks at all of it again and again; its address is that of a role
    /// that may do no more than own it.
    ///
    /// # Errors
    /// What the server says against it.
    pub async fn small(&self) -> io::Result<String> {
        const NAME: &str = "small";
        let role = format!("CREATE ROLE {NAME} LOGIN");
        let database = format!("CREATE DATABASE {NAME} OWNER {NAME}");
        self.run("postgres", "klar", &[&role, &database]).await?;
        let fill = "CREATE TABLE clubs AS SELECT n AS id, 'club ' || n AS name FROM generate_series(1, 50) n";
        self.run(NAME, NAME, &[fill]).await?;
        Ok(self.url(NAME, NAME))
    }

    /// A database with the good tables, and then with what is planted; its address is that of the app's role, which
    /// has the name of the database and may do no more than own it.
    ///
    /// # Errors
    /// What the server says against it.
    pub async fn plant(&self, fault: &[&str]) -> io::Result<String> {
        self.made.set(self.made.get() + 1);
        let name = format!("shop_{}", self.made.get());
        let role = format!("CREATE ROLE {name} LOGIN");
        let database = format!("CREATE DATABASE {name} OWNER {name} TEMPLATE template0");
        self.run("postgres", "klar", &[&role, &database]).await?;
        // Only a superuser may make the extension, as klar's own managed databases do.
        self.run(&name, "klar", &["CREATE EXTENSION IF NOT EXISTS pg_stat_statements"]).await?;
        self.run(&name, &name, GOOD).await?;
        let (by_klar, by_app): (Vec<&str>, Vec<&str>) =
            fault.iter().partition(|sql| sql.starts_with("ALTER ROLE"));
        let by_klar: Vec<String> = by_klar.iter().map(|sql| sql.replace("app", &name)).collect();
        let by_klar: Vec<&str> = by_klar.iter().map(String::as_str).collect();
        self.run(&name, "klar", &by_klar).await?;
        self.run(&name, &name, &by_app).await?;
        for _ in 0..10 {
            self.run(&name, &name, ASKED).await?;
        }
        Ok(self.url(&name, &name))
    }

    /// Where its socket is, and its data in `data`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn url(&self, database: &str, user: &str) -> String {
        url(&self.folder, database, user)
    }

    async fn run(&self, database: &str, user: &str, statements: &[&str]) -> io::Result<()> {
        Self::run_at(&self.folder, database, user, statements).await
    }

    /// Runs statements in the server that has its socket in this folder.
    pub(super) async fn run_at(
        socket: &Path,
        database: &str,
        user: &str,
        statements: &[&str],
    ) -> io::Result<()> {
        let config: Config = url(socket, database, user).parse().map_err(io::Error::other)?;
        let (client, connection) = config.connect(NoTls).await.map_err(io::Error::other)?;
        let connection = tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        for statement in statements {
            client.simple_query(statement).await.map_err(|why| {
                let said =
                    why.as_db_error().map_or_else(|| why.to_string(), |said| said.message().to_owned());
                io::Error::other(format!("{statement}: {said}"))
            })?;
        }
        drop(client);
        // The server writes its counters when the connection ends.
        let _ = connection.await;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut server = self.server.borrow_mut();
        // At once: there is nothing in it that anybody needs.
        if let Ok(pid) = i32::try_from(server.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
        }
        let _ = server.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn url(socket: &Path, database: &str, user: &str) -> String {
    let folder = socket.to_string_lossy().replace('%', "%25").replace('/', "%2F");
    format!("postgres://{user}@{folder}/{database}")
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// PostgreSQL refuses to run as root: then it runs as Debian's user for it, or as nobody.
fn owner() -> io::Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let named = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten());
    let user = named.ok_or_else(|| io::Error::other("there is no user `postgres` or `nobody`"))?;
    Ok(Some((user.uid.as_raw(), user.gid.as_raw())))
}

fn as_owner(program: &Path, owner: Option<(u32, u32)>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin");
    // In a group of its own: Ctrl-C is for klar, which ends it in good order.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

/// The newest server that Debian has installed, or the one on the search path.
pub(super) fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let folder = entry.path().join("bin");
        folder.join("initdb").is_file().then_some((version, folder))
    });
    newest.max_by_key(|(version, _)| *version).map(|(_, folder)| folder).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| folder.join("initdb").is_file())
    })
}
