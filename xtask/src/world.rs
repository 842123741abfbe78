//! A klar of one's own with the demo app under it: state, ports and processes that nobody else uses.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell::{cargo, repository, run, say};

/// See the [module](self).
#[derive(Debug)]
pub struct World {
    pub state: PathBuf,
    pub app: PathBuf,
    pub https: u16,
    http: u16,
    klar: PathBuf,
    /// Everything is removed in the end.
    fleeting: bool,
    stopped: bool,
}

/// Builds klar and gives the program; optimised where it is measured or has to last.
pub fn build(optimised: bool) -> Result<PathBuf> {
    say("building klar");
    let mut command = cargo();
    command.args(["build", "--package", "klar"]);
    if optimised {
        command.arg("--release");
    }
    run(&mut command)?;
    program(if optimised { "release" } else { "debug" })
}

fn program(profile: &str) -> Result<PathBuf> {
    Ok(target()?.join(profile).join("klar"))
}

/// Where cargo puts what it builds.
pub fn target() -> Result<PathBuf> {
    let metadata =
        crate::shell::output(cargo().args(["metadata", "--format-version", "1", "--no-deps", "--offline"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let target = metadata["target_directory"].as_str().context("cargo names no target folder")?;
    Ok(PathBuf::from(target))
}

/// Where state can lie so that the users of apps can reach their part of it, and sockets have short paths.
fn base() -> Result<PathBuf> {
    let base = if nix::unistd::geteuid().is_root() {
        PathBuf::from("/var/lib")
    } else {
        let home = std::env::var_os("HOME").context("HOME is not set")?;
        PathBuf::from(home).join(".local/state")
    };
    std::fs::create_dir_all(&base)?;
    Ok(base)
}

/// Two ports that are free now.
fn free_ports() -> Result<(u16, u16)> {
    let (one, two) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((one.local_addr()?.port(), two.local_addr()?.port()))
}

impl World {
    /// One for `name` that is removed in the end, with ports that are free now.
    pub fn fleeting(name: &str, klar: PathBuf) -> Result<Self> {
        let folder = base()?.join(format!("klar-{name}-{}", std::process::id()));
        let (https, http) = free_ports()?;
        Self::new(folder, klar, https, http, true)
    }

    /// As [`World::fleeting`], with the faulty twin in place of the demo app.
    pub fn of_raw(klar: PathBuf) -> Result<Self> {
        let folder = base()?.join(format!("klar-raw-{}", std::process::id()));
        let (https, http) = free_ports()?;
        Self::of(folder, "raw", klar, https, http, true)
    }

    /// As [`World::fleeting`], with an app that is not klar's.
    pub fn of_foreign(name: &str, klar: PathBuf) -> Result<Self> {
        let folder = base()?.join(format!("klar-foreign-{}", std::process::id()));
        let (https, http) = free_ports()?;
        Self::of(folder, &format!("foreign/{name}"), klar, https, http, true)
    }

    /// One with an app of one file, in two instances, that is removed in the end.
    pub fn small(name: &str, klar: PathBuf, app: &str, server: &str) -> Result<Self> {
        let folder = base()?.join(format!("klar-{name}-{}", std::process::id()));
        let (https, http) = free_ports()?;
        Self::with(folder.clone(), small_app(&folder, app, server)?, klar, https, http, true)
    }

    /// The same klar with another such app beside the first. It ends with the first.
    pub fn small_beside(&self, app: &str, server: &str) -> Result<Self> {
        let folder = self.state.parent().context("a state without a folder")?.to_owned();
        let app = small_app(&folder, app, server)?;
        let mut other = Self::with(folder, app, self.klar.clone(), self.https, self.http, false)?;
        other.stopped = true;
        Ok(other)
    }

    /// The same klar with another such app beside the first. It ends with the first.
    pub fn beside(&self, name: &str) -> Result<Self> {
        let folder = self.state.parent().context("a state without a folder")?.to_owned();
        let demo = format!("foreign/{name}");
        let mut other = Self::of(folder, &demo, self.klar.clone(), self.https, self.http, false)?;
        other.stopped = true;
        Ok(other)
    }

    /// The one of `cargo xtask demo`, whose data is there the next time.
    pub fn lasting(klar: PathBuf) -> Result<Self> {
        Self::new(base()?.join("klar-demo"), klar, 8443, 8080, false)
    }

    fn new(folder: PathBuf, klar: PathBuf, https: u16, http: u16, fleeting: bool) -> Result<Self> {
        build_pages()?;
        Self::of(folder, "lisens", klar, https, http, fleeting)
    }

    /// The same klar with a copy of the demo app beside the first, under another name and with these patches in it.
    pub fn patched(&self, name: &str, patches: &[PathBuf]) -> Result<Self> {
        let folder = self.state.parent().context("a state without a folder")?.join(name);
        let app = copy_of(&folder, "lisens")?;
        for patch in patches {
            // The paths in it are `a/demo/lisens/…`.
            run(Command::new("git").args(["apply", "-p3"]).arg(patch).current_dir(&app))?;
        }
        let file = app.join("klar.toml");
        let text = std::fs::read_to_string(&file)?;
        std::fs::write(&file, text.replace("name = \"lisens\"", &format!("name = \"{name}\"")))?;
        let mut other = Self::with(folder, app, self.klar.clone(), self.https, self.http, false)?;
        other.state.clone_from(&self.state);
        other.stopped = true;
        Ok(other)
    }

    fn of(folder: PathBuf, demo: &str, klar: PathBuf, https: u16, http: u16, fleeting: bool) -> Result<Self> {
        let app = copy_of(&folder, demo)?;
        Self::with(folder, app, klar, https, http, fleeting)
    }

    fn with(
        folder: PathBuf,
        app: PathBuf,
        klar: PathBuf,
        https: u16,
        http: u16,
        fleeting: bool,
    ) -> Result<Self> {
        let file = app.join("klar.toml");
        let text = std::fs::read_to_string(&file)?;
        // Where a demo has the table [edge], it is the last one.
        let table = if text.contains("[edge]") { "" } else { "\n[edge]\n" };
        std::fs::write(&file, format!("{text}{table}https_port = {https}\nhttp_port = {http}\n"))?;
        Ok(Self { state: folder.join("state"), app, https, http, klar, fleeting, stopped: false })
    }

    /// Where the app answers.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.https)
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.klar
    }

    /// A klar command for this world.
    pub fn klar(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.klar);
        command.args(args).env("KLAR_STATE", &self.state).current_dir(&self.app);
        command
    }

    /// Runs one that may fail.
    pub fn try_klar(&self, args: &[&str]) -> Result<Output> {
        self.klar(args).output().with_context(|| format!("running klar {}", args.join(" ")))
    }

    /// Runs one that must succeed, and gives the last JSON value that it printed.
    pub fn ask(&self, args: &[&str]) -> Result<Value> {
        let output = self.try_klar(&[args, &["--json"]].concat())?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!(
                "klar {}: {}\n{text}{}",
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let last = text.lines().last().context("klar printed nothing")?;
        serde_json::from_str(last).with_context(|| format!("klar {} printed {last}", args.join(" ")))
    }

    /// How everything is.
    pub fn status(&self) -> Result<Value> {
        self.ask(&["status"])
    }

    /// Waits until something is true of the status.
    pub fn until(&self, what: &str, patience: Duration, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let status = self.status();
            match status {
                Ok(status) if is_so(&status) => return Ok(status),
                last if begun.elapsed() > patience => {
                    bail!("{what}: not within {patience:?}; last: {last:?}")
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Waits until a core answers.
    pub fn until_running(&self, patience: Duration) -> Result<()> {
        self.until("klar answers", patience, |status| status["core_pid"].is_i64()).map(|_| ())
    }

    /// The certificate of the local authority.
    pub fn authority(&self) -> Result<String> {
        crate::shell::output(&mut self.klar(&["trust", "--print"]))
    }

    /// Marks the app as another version, so that the next deploy has something to do.
    pub fn set_version(&self, version: &str) -> io::Result<()> {
        std::fs::write(self.app.join("VERSION"), version)
    }

    /// Stops everything.
    pub fn stop(&mut self) -> Result<()> {
        if !self.stopped {
            self.stopped = true;
            self.ask(&["down", "--all"])?;
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("stopping klar: {error:#}");
            return;
        }
        if let (true, Some(folder)) = (self.fleeting, self.state.parent())
            && let Err(error) = std::fs::remove_dir_all(folder)
        {
            eprintln!("removing {}: {error}", folder.display());
        }
    }
}

/// Once and not for each release: a release whose front end is built already skips it.
fn build_pages() -> Result<()> {
    run(Command::new("node").arg("web/build.js").current_dir(repository().join("demo/lisens")))
}

/// A folder with a server for Node, and the `klar.toml` for it.
fn small_app(folder: &Path, name: &str, server: &str) -> Result<PathBuf> {
    let app = folder.join(name);
    std::fs::create_dir_all(&app)?;
    std::fs::write(app.join("server.js"), server)?;
    let toml = format!(
        "[app]\nname = \"{name}\"\ndomains = [\"{name}.localhost\"]\n[services.web]\nrun = \"node server.js\"\n\
         instances = {{ min = 2, max = 4 }}\n"
    );
    std::fs::write(app.join("klar.toml"), toml)?;
    Ok(app)
}

/// A copy of a demo in a folder.
fn copy_of(folder: &Path, demo: &str) -> Result<PathBuf> {
    let app = folder.join(demo);
    if app.exists() {
        std::fs::remove_dir_all(&app)?;
    }
    copy(&repository().join("demo").join(demo), &app).with_context(|| format!("copying demo/{demo}"))?;
    Ok(app)
}

/// Copies a folder, without what is made in it.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if ["node_modules", "coverage", ".venv", "__pycache__"].iter().any(|name| entry.file_name() == *name)
        {
            continue;
        }
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Instances of the app in a status.
pub fn instances(status: &Value) -> Vec<Value> {
    let services = status["apps"][0]["services"].as_array().cloned().unwrap_or_default();
    services.iter().flat_map(|service| service["instances"].as_array().cloned().unwrap_or_default()).collect()
}

/// Those that serve.
pub fn serving(status: &Value) -> Vec<Value> {
    let ready = |instance: &Value| instance["serving"] == true && instance["state"] == "ready";
    instances(status).into_iter().filter(ready).collect()
}
