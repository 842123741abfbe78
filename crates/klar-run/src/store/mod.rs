//! Databases and caches that klar runs: Debian's own servers, each in a cluster and folder of its own.
//!
//! A port that answers is not an identity: another server may have taken it. Before a store counts as ready, klar
//! logs in with a password that only this store knows, and compares what the server says of itself.

mod postgres;
mod redis;

use std::path::{Path, PathBuf};

use klar_base::keep::{KeptRedis, KeptStore};
use klar_base::see::StoreDoor;
use klar_base::{AppKey, Secret, ServiceName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::report::Failure;

/// The user as whom telemetry asks. With a hyphen, which no app's user has.
const WATCHER: &str = "klar-see";

/// What is kept of a managed store, from its first start to its removal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Store {
    /// Which engine.
    pub engine: Engine,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// klar's own password.
    pub admin_password: Secret<String>,
    /// The app's password.
    pub app_password: Secret<String>,
    /// What the server said of itself when it was made.
    pub identity: Option<String>,
    /// Its folder has been set up.
    pub initialised: bool,
}

/// An engine that klar can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
}

impl Engine {
    /// Its name as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }
}

/// What to run, and with which environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables beside the usual ones.
    pub env: Vec<(String, String)>,
}

impl Store {
    /// A store that has not been set up yet, on a port that is free now.
    ///
    /// # Errors
    /// When there is no free port or no randomness.
    pub fn plan(engine: Engine) -> std::io::Result<Self> {
        Ok(Self {
            engine,
            port: crate::ports::free_port()?,
            admin_password: Secret::new(random_hex()?),
            app_password: Secret::new(random_hex()?),
            identity: None,
            initialised: false,
        })
    }

    /// How to set up its folder; harmless when that is done already.
    ///
    /// # Errors
    /// When the engine is not installed.
    pub fn initialise(&self, folder: &Path) -> Result<Invocation, Failure> {
        match self.engine {
            Engine::Postgres => postgres::initialise(self, folder),
            Engine::Redis => redis::initialise(self, folder),
        }
    }

    /// How to run it.
    ///
    /// # Errors
    /// When the engine is not installed in the version that the folder needs.
    pub fn run(&self, folder: &Path) -> Result<Invocation, Failure> {
        match self.engine {
            Engine::Postgres => postgres::run(self, folder),
            Engine::Redis => redis::run(self, folder),
        }
    }

    /// The signal that makes it stop in good order at once.
    pub fn stop_signal(&self) -> i32 {
        match self.engine {
            Engine::Postgres => libc::SIGINT,
            Engine::Redis => libc::SIGTERM,
        }
    }

    /// Logs in, compares identities, and makes sure that the app's user and database exist. Blocks for at most a
    /// few seconds.
    ///
    /// # Errors
    /// [`NotReady::Later`] while it starts, [`NotReady::Never`] when it is somebody else's.
    pub fn verify(&self, key: &AppKey, folder: &Path) -> Result<String, NotReady> {
        match self.engine {
            Engine::Postgres => postgres::verify(self, key),
            Engine::Redis => redis::verify(self, folder),
        }
    }

    /// The address that the app gets.
    pub fn url(&self, key: &AppKey) -> String {
        let (port, password) = (self.port, self.app_password.expose());
        match self.engine {
            Engine::Postgres => {
                let name = postgres::database(key);
                format!("postgres://{name}:{password}@127.0.0.1:{port}/{name}")
            }
            Engine::Redis => format!("redis://:{password}@127.0.0.1:{port}/0"),
        }
    }

    /// Where telemetry asks how it does, as a user who may do nothing else.
    pub fn door(&self, key: &AppKey) -> StoreDoor {
        StoreDoor {
            engine: self.engine.name().into(),
            port: self.port,
            user: WATCHER.into(),
            password: self.watcher_password(),
            database: match self.engine {
                Engine::Postgres => postgres::database(key),
                Engine::Redis => "0".into(),
            },
        }
    }

    /// What keeps it has to know; `None` for an engine that is not kept a second time, or is not installed.
    pub fn kept(&self, key: &AppKey, name: &ServiceName, folder: &Path) -> Option<KeptStore> {
        match self.engine {
            Engine::Postgres => Some(KeptStore {
                name: name.clone(),
                host: "127.0.0.1".into(),
                port: self.port,
                user: postgres::ADMIN.into(),
                password: self.admin_password.clone(),
                database: postgres::database(key),
                data: folder.join(postgres::CLUSTER),
                programs: postgres::programs().ok()?,
            }),
            Engine::Redis => None,
        }
    }

    /// What keeps it has to know, where it is a Redis and one is installed; a copy of it may have so much memory, and so many
    /// days stay.
    pub fn kept_redis(&self, name: &ServiceName, memory: u64, days: u32) -> Option<KeptRedis> {
        match self.engine {
            Engine::Postgres => None,
            Engine::Redis => Some(KeptRedis {
                name: name.clone(),
                port: self.port,
                password: self.app_password.clone(),
                program: redis::server().ok()?.into(),
                memory,
                days,
            }),
        }
    }

    /// How a copy is put in the place of what it has, while it does not run.
    pub fn take_over(&self, folder: &Path, from: &Path) -> Invocation {
        match self.engine {
            Engine::Postgres => postgres::take_over(folder, from),
            Engine::Redis => redis::take_over(folder, from),
        }
    }

    /// What the folder with what was there before is called.
    pub fn aside(&self) -> &'static str {
        match self.engine {
            Engine::Postgres => postgres::ASIDE,
            Engine::Redis => redis::ASIDE,
        }
    }

    /// Follows from klar's own, which does not follow from it: there is one thing less to remember.
    fn watcher_password(&self) -> Secret<String> {
        let digest = Sha256::digest(format!("watcher:{}", self.admin_password.expose()));
        Secret::new(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Where the variable goes by default.
    pub fn variable(&self) -> &'static str {
        match self.engine {
            Engine::Postgres => "DATABASE_URL",
            Engine::Redis => "REDIS_URL",
        }
    }
}

/// Why a store cannot be used.
#[derive(Debug)]
pub enum NotReady {
    /// It is starting, or recovering: ask again.
    Later(String),
    /// It is not ours, or refuses us: a person must look.
    Never(Failure),
}

impl NotReady {
    fn someone_else(store: &Store, what: &str) -> Self {
        let hint = format!(
            "find out who listens there (`ss -ltnp 'sport = :{0}'`), stop it, and klar starts its own again",
            store.port
        );
        Self::Never(Failure::new(format!("port {} answers, but {what}", store.port)).hint(hint))
    }
}

/// 32 hexadecimal digits from the kernel: safe in a URL, in SQL and in a configuration file.
pub(crate) fn random_hex() -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Finds a program on the search path and in `more` folders.
fn find_program(name: &str, more: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"].map(PathBuf::from);
    more.iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .chain(usual)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// The version of the engine that is installed, for `klar doctor`.
pub fn installed(engine: Engine) -> Option<String> {
    match engine {
        Engine::Postgres => {
            postgres::newest().map(|(version, folder)| format!("{version} in {}", folder.display()))
        }
        Engine::Redis => find_program("redis-server", &[]).map(|path| path.display().to_string()),
    }
}

/// The folder of one store of an app, by the name it has in `klar.toml`.
pub fn folder(layout: &crate::layout::Layout, key: &AppKey, name: &ServiceName) -> PathBuf {
    layout.store(key, name)
}
