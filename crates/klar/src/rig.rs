//! A rig: the same app a second time, under a klar of its own, for checks that disturb.
//!
//! Same files, same settings, so the same release; a state folder of its own, so databases, users and instances of
//! its own; ports of its own on the loopback. It is gone afterwards, whatever happens.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use klar_run::layout::Layout;
use klar_run::report::Failure;

use crate::context::{Context, Trouble};

/// A running rig.
pub struct Rig {
    folder: PathBuf,
    /// As for any app, but of the rig's klar.
    pub context: Context,
}

impl Rig {
    /// Makes one of the app in the context's folder, and waits until it serves.
    ///
    /// # Errors
    /// What `klar up` says.
    pub fn start(context: &Context) -> Result<Self, Trouble> {
        let folder = std::env::temp_dir().join(format!("klar-rig-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(Trouble::system(folder.display()))?;
        let mut global = context.global.clone();
        global.state = Some(folder.clone());
        global.app = Some(context.folder());
        global.json = true;
        let printer = crate::out::Printer { json: false, quiet: true };
        let rig = Self { context: Context { printer, layout: Layout::new(&folder), global }, folder };
        let ports = [free_port(), free_port()].into_iter().collect::<Result<Vec<u16>, _>>();
        let ports = ports.map_err(Trouble::system("finding a free port"))?;
        let text = serde_json::to_string(&ports).unwrap_or_default();
        std::fs::write(rig.context.layout.ports_file(), text)
            .map_err(Trouble::system(rig.folder.display()))?;
        let output = rig.klar("up").output().map_err(Trouble::system("starting a rig"))?;
        if output.status.success() {
            return Ok(rig);
        }
        let said = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
        let failure: Option<Failure> = serde_json::from_str(&said).ok();
        let failure = failure.unwrap_or_else(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            Failure::new("the rig did not come up").output(said.lines().map(str::to_owned).collect())
        });
        Err(Failure { what: format!("in the rig: {}", failure.what), ..failure }.into())
    }

    fn klar(&self, verb: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "klar".into()));
        command
            .arg("--state")
            .arg(&self.folder)
            .arg("--json")
            .arg("--env")
            .arg(self.context.global.env.as_str());
        if let Some(app) = &self.context.global.app {
            command.arg("-C").arg(app);
        }
        command.args(verb.split(' ')).stdin(Stdio::null());
        command
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.klar("down --all").stdout(Stdio::null()).stderr(Stdio::null()).status();
        remove(&self.folder);
    }
}

fn remove(folder: &Path) {
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
