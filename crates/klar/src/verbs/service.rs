//! `klar service`: klar as a part of the machine.

use std::path::Path;
use std::process::Command;

use klar_run::report::Failure;

use crate::cli::Service;
use crate::context::{Context, Trouble};

const UNIT: &str = "klar.service";
const FOLDER: &str = "/etc/systemd/system";

/// `klar service`.
pub fn service(context: &Context, what: Service) -> Result<(), Trouble> {
    let file = Path::new(FOLDER).join(UNIT);
    match what {
        Service::Show => {
            context.printer.data(unit(context)?.trim_end());
            Ok(())
        }
        Service::Install => {
            needs_root_and_systemd()?;
            std::fs::write(&file, unit(context)?)
                .map_err(Trouble::system(format!("writing {}", file.display())))?;
            systemctl(&["daemon-reload"])?;
            systemctl(&["enable", "--now", UNIT])?;
            context.printer.data(format!("klar starts with this machine ({})", file.display()));
            Ok(())
        }
        Service::Uninstall => {
            needs_root_and_systemd()?;
            systemctl(&["disable", "--now", UNIT])?;
            std::fs::remove_file(&file).map_err(Trouble::system(format!("removing {}", file.display())))?;
            systemctl(&["daemon-reload"])?;
            context.printer.data("klar no longer starts with this machine; what runs goes on");
            Ok(())
        }
    }
}

fn needs_root_and_systemd() -> Result<(), Trouble> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new("only root may change what starts with this machine")
            .hint("use sudo")
            .into());
    }
    if !Path::new("/run/systemd/system").is_dir() {
        let hint =
            "`klar service show` prints the unit; other init systems need `klar host` to be started and kept";
        return Err(Failure::new("this machine does not run systemd").hint(hint).into());
    }
    Ok(())
}

fn systemctl(args: &[&str]) -> Result<(), Trouble> {
    let status =
        Command::new("systemctl").args(args).status().map_err(Trouble::system("running systemctl"))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("systemctl {} ended with {status}", args.join(" "))).into())
}

/// Only the main process is stopped and started with the unit: instances, databases and the edge outlive it, and
/// the next core finds them again. `Delegate` gives klar its own part of the cgroup tree. After `klar down --all`,
/// which ends with 0, it stays down. The `PATH` is that of who installs it, so that a Node from a version manager is
/// found.
fn unit(context: &Context) -> Result<String, Trouble> {
    let me = std::env::current_exe().map_err(Trouble::system("finding klar's own program"))?;
    Ok(format!(
        "[Unit]\n\
         Description=klar: runs web apps\n\
         Documentation=man:klar(1)\n\
         After=network-online.target\n\
         Wants=network-online.target\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         ExecStart={} --state {} host\n\
         Environment={}\n\
         Restart=always\n\
         RestartPreventExitStatus=0\n\
         RestartSec=100ms\n\
         KillMode=process\n\
         Delegate=yes\n\
         TasksMax=infinity\n\
         LimitNOFILE=1048576\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        quoted(&me.to_string_lossy()),
        quoted(&context.layout.root().to_string_lossy()),
        quoted(&format!("PATH={}", std::env::var("PATH").unwrap_or_default())),
    ))
}

/// As systemd reads it: quotes and backslashes escaped, `%` doubled (systemd.syntax(7), systemd.unit(5)).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}
