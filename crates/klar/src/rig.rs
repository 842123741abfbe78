//! A rig: the same app a second time, under a klar of its own, for checks that disturb.
//!
//! Same files, same settings, so the same release; a state folder of its own, so databases, users and instances of
//! its own; ports of its own on the loopback. It is gone afterwards, whatever happens.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use klar_config::Config;
use klar_run::layout::Layout;
use klar_run::release;
use klar_run::report::{Event, Failure};

use crate::context::{Context, Trouble};
use crate::pack::pack;

/// A running rig.
pub struct Rig {
    folder: PathBuf,
    /// As for any app, but of the rig's klar.
    pub context: Context,
    /// Of the app that it is a copy of.
    pub original: Context,
}

impl Rig {
    /// Makes one of the app in the context's folder, and waits until it serves.
    ///
    /// # Errors
    /// What `klar up` says.
    pub async fn start(context: &Context, config: &Config) -> Result<Self, Trouble> {
        // A name that nobody can have taken, and that only the users of the rig's own klar pass through.
        let name = format!("klar-rig-{}-{}", std::process::id(), jiff::Timestamp::now().as_nanosecond());
        let folder = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o711).create(&folder).map_err(Trouble::system(folder.display()))?;
        let mut global = context.global.clone();
        global.state = Some(folder.join("state"));
        global.app = Some(folder.join("app"));
        let printer = crate::out::Printer { json: false, quiet: true };
        let layout = Layout::new(folder.join("state"));
        // From here on it is removed whatever happens.
        let rig = Self { context: Context { printer, layout, global }, folder, original: context.clone() };
        rig.copy_app(context, config).await?;
        let ports = [free_port(), free_port()].into_iter().collect::<Result<Vec<u16>, _>>();
        let ports = ports.map_err(Trouble::system("finding a free port"))?;
        std::fs::create_dir(rig.second_place()).map_err(Trouble::system(rig.folder.display()))?;
        rig.set_apart(&ports)?;
        let output = rig.klar(&["up"]).output().map_err(Trouble::system("starting a rig"))?;
        if output.status.success() {
            return Ok(rig);
        }
        let said = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
        let failure = match serde_json::from_str(&said) {
            Ok(Event::Failed(failure)) => failure,
            _ => {
                let said = String::from_utf8_lossy(&output.stderr);
                Failure::new("it did not come up").output(said.lines().map(str::to_owned).collect())
            }
        };
        Err(Failure { what: format!("in the rig: {}", failure.what), ..failure }.into())
    }

    /// Where it keeps its data once more, where the app does that.
    pub fn second_place(&self) -> PathBuf {
        self.folder.join("second")
    }

    /// Its own folder, for what belongs to nobody else.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Says to its klar what is its own: ports, and a second place.
    pub fn set_apart(&self, ports: &[u16]) -> Result<(), Trouble> {
        let layout = &self.context.layout;
        let failed = || Trouble::system(layout.root().display().to_string());
        std::fs::create_dir_all(layout.root()).map_err(failed())?;
        let second = serde_json::json!(self.second_place());
        std::fs::write(layout.ports_file(), serde_json::json!(ports).to_string()).map_err(failed())?;
        std::fs::write(layout.second_file(), second.to_string()).map_err(failed())
    }

    /// The files that a release is made of, as `klar deploy` would take them: the digest is the same.
    async fn copy_app(&self, context: &Context, config: &Config) -> Result<(), Trouble> {
        let path = self.folder.join("app.tar");
        let io = |what: &Path| Trouble::system(what.display().to_string());
        let mut file = std::fs::File::create(&path).map_err(io(&path))?;
        let (mut archive, packing) = pack(context.folder(), config, context.layout.root());
        while let Some(piece) = archive.recv().await {
            let piece = piece.map_err(Trouble::system("packing the app"))?;
            file.write_all(&piece).map_err(io(&path))?;
        }
        match packing.join() {
            Ok(packed) => drop(packed.map_err(Trouble::system("packing the app"))?),
            Err(_) => return Err(Failure::new("packing the app broke off").into()),
        }
        release::unpack(&path, &self.folder.join("app"))?;
        std::fs::remove_file(&path).map_err(io(&path))
    }

    /// A klar command for the rig.
    pub fn klar(&self, verb: &[&str]) -> Command {
        let global = &self.context.global;
        let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "klar".into()));
        command.arg("--json").arg("--env").arg(global.env.as_str()).args(verb).stdin(Stdio::null());
        command.arg("--state").arg(self.context.layout.root()).arg("-C").arg(self.folder.join("app"));
        command
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.klar(&["down", "--all"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        remove(&self.folder);
    }
}

/// Removes a folder that processes may still write to.
pub fn remove(folder: &Path) {
    // The last processes let go of their files a moment after they were told to.
    for _ in 0..20 {
        if std::fs::remove_dir_all(folder).is_ok() || !folder.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
