//! A cluster of Debian's PostgreSQL in a folder, and what keeps it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use klar_keep::base;
use klar_keep::keeper::{Keeper, Settings, Wishes};
use klar_keep::point::{AnyPoint, Point};
use klar_keep::server::programs::{succeeded, wait};
use klar_keep::server::slot::SLOT;
use klar_keep::server::{Door, Facts, Programs, ReadySlot, Receiver, Session, Source};
use klar_keep::ship::{Mark, Progress, Shipper};
use klar_keep::witness::{self, Depth};
use klar_repo::{Folder, Repository};
use klar_store::SigningKey;

const MINUTE: Duration = Duration::from_secs(60);

/// A folder for one test; removed when it is dropped.
pub struct Home(pub PathBuf);

/// A running server.
pub struct Cluster {
    pub programs: Programs,
    pub door: Door,
    pub data: PathBuf,
    child: Child,
}

/// What keeps it: receiver and shipper, in threads.
pub struct Kept {
    pub repository: Repository,
    pub key: SigningKey,
    pub progress: Arc<Progress>,
    pub slot: ReadySlot,
    pub facts: Facts,
    is_over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    _receiver: Receiver,
}

impl Home {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("klar-keep-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits for what comes by itself.
pub fn until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < 2 * MINUTE, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Debian's programs; servers run as its user, since they refuse to run as root.
pub fn programs() -> Programs {
    let programs = Programs::newest().expect("PostgreSQL is installed: `apt-get install postgresql`");
    let user = nix::unistd::User::from_name("postgres").unwrap().expect("Debian's package makes the user");
    Programs { server: Some((user.uid.as_raw(), user.gid.as_raw())), ..programs }
}

impl Cluster {
    pub fn start(home: &Home) -> Self {
        let (programs, data) = (programs(), home.join("cluster"));
        fs::create_dir_all(&data).unwrap();
        programs.give(&data).unwrap();
        let mut initdb = programs.server("initdb", "KILL");
        initdb.arg("-D").arg(&data).args(["-U", "klar", "--data-checksums", "--no-sync", "--auth=trust"]);
        initdb.args(["--encoding=UTF8", "--locale=C.UTF-8", "--wal-segsize=1"]);
        succeeded(&mut initdb, MINUTE).unwrap();
        let settings = data.join("postgresql.conf");
        let text = fs::read_to_string(&settings).unwrap() + "include_if_exists = '../ahead.conf'\n";
        fs::write(&settings, text).unwrap();
        // The server writes that file.
        programs.give(&home.0).unwrap();
        let child = Self::run(&programs, &data);
        let door = Door::socket(&data, 5432, "klar");
        let cluster = Self { programs, door, data, child };
        cluster.wait();
        cluster
    }

    fn run(programs: &Programs, data: &Path) -> Child {
        let log = fs::File::options().create(true).append(true).open(data.with_extension("log")).unwrap();
        let mut command = programs.server("postgres", "INT");
        command.arg("-D").arg(data).args(["-c", "listen_addresses="]);
        command.arg("-c").arg(format!("unix_socket_directories={}", data.display()));
        command.args(["-c", "wal_level=replica", "-c", "max_wal_size=64MB", "-c", "min_wal_size=2MB"]);
        command.args(["-c", "max_slot_wal_keep_size=512MB", "-c", "checkpoint_timeout=30s"]);
        command.envs(std::env::vars().filter(|(name, _)| name == "LD_PRELOAD" || name.contains("FAKE")));
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn wait(&self) {
        let begun = Instant::now();
        while Session::open(&self.door).is_err() {
            assert!(begun.elapsed() < MINUTE, "the server did not come up: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of what it has said.
    fn said(&self) -> String {
        let said = fs::read_to_string(self.data.with_extension("log")).unwrap_or_default();
        said.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }

    pub fn source(&self) -> Source {
        Source { door: self.door.clone(), data: Some(self.data.clone()), programs: self.programs.clone() }
    }

    /// What keeps it, as klar does, without a second place unless `change` names one.
    pub fn keeper(&self, home: &Home, change: impl FnOnce(&mut Wishes)) -> Keeper {
        let mut settings = Settings {
            name: "db".parse().unwrap(),
            source: self.source(),
            database: "postgres".into(),
            home: home.join("keep"),
            host: "host".into(),
            second_name: "shop.production/db".into(),
            wishes: Wishes {
                at: (2, 0),
                days: 30,
                assertions: Vec::new(),
                anonymise: Vec::new(),
                second: None,
                synchronous: false,
            },
        };
        change(&mut settings.wishes);
        Keeper::start(settings, Box::new(|_| {})).unwrap()
    }

    pub fn session(&self) -> Session {
        Session::open(&self.door).unwrap()
    }

    /// Its log lies elsewhere from now on.
    pub fn put_log_into(&mut self, folder: &Path) {
        self.stop();
        let (own, elsewhere) = (self.data.join("pg_wal"), folder.join("pg_wal"));
        let moved = std::process::Command::new("cp").arg("-a").arg(&own).arg(&elsewhere).status();
        assert!(moved.unwrap().success());
        fs::remove_dir_all(&own).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &own).unwrap();
        self.start_again();
    }

    fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        self.child.wait().unwrap();
    }

    /// Where it has not begun again by itself.
    pub fn start_again(&mut self) {
        let begun = Instant::now();
        while Session::open(&self.door).is_err() {
            assert!(begun.elapsed() < MINUTE, "the server did not come up again: {}", self.said());
            if self.child.try_wait().unwrap().is_some() {
                self.child = Self::run(&self.programs, &self.data);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// As a loss of power does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
        let _ = wait(&mut self.child, Duration::from_secs(20));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Kept {
    pub fn begin(cluster: &Cluster, home: &Home) -> Self {
        let storage = Arc::new(Folder::new(&home.join("repository")));
        let repository = Repository::create(storage, "own", "own").unwrap();
        let session = cluster.session();
        let facts = Facts::ask(&session).unwrap();
        let slot = ReadySlot::ensure(&session, SLOT).unwrap();
        let source = cluster.source();
        let spool = home.join("spool");
        let receiver = Receiver::start(&source, &spool, facts.segment_size).unwrap();
        let mut shipper = Shipper::open(&repository, &spool, &facts).unwrap();
        let progress = shipper.progress();
        let is_over = Arc::<AtomicBool>::default();
        let ends = is_over.clone();
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Acquire) {
                let mark = Mark::ask(&session).ok();
                let turn = shipper.turn(mark).unwrap();
                assert!(turn.gap.is_none(), "{:?}", turn.gap);
                shipper.settle().unwrap();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let key = SigningKey::fleeting().unwrap();
        let thread = Some(thread);
        Self { repository, key, progress, slot, facts, is_over, thread, _receiver: receiver }
    }

    /// Takes a base and publishes it when its log is there.
    pub fn point(&self, cluster: &Cluster, name: &str) -> Point {
        let point = self.taken(cluster, name);
        point.publish(&self.repository, &self.key).unwrap();
        point
    }

    /// Takes a base; its log is there.
    pub fn taken(&self, cluster: &Cluster, name: &str) -> Point {
        let session = cluster.session();
        let data = &cluster.data;
        let base = base::take(&session, &self.slot, &self.facts, data, &self.repository, "host", &mut |_| {})
            .unwrap();
        let witness = witness::take(&cluster.door, name, Depth::Full).unwrap();
        let until = witness.as_ref().map_or(base.stop, |witness| witness.lsn.max(base.stop));
        let shipped = self.progress.wait(self.facts.timeline, until, MINUTE);
        assert!(shipped.lsn >= until, "{shipped:?} {until}");
        Point::new(&self.facts, &base, witness)
    }

    /// Ends shipping, with all in the repository that was written until now.
    pub fn end(&mut self, cluster: &Cluster) {
        let session = cluster.session();
        let mark = Mark::ask(&session).unwrap();
        let begun = Instant::now();
        while self.progress.now().covered.is_none_or(|covered| covered < mark.time) {
            assert!(begun.elapsed() < MINUTE, "{:?} {mark:?}", self.progress.now());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
