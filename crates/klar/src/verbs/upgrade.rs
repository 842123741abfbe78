//! `klar upgrade`: what runs becomes another program, and nobody notices.
//!
//! Here the program is looked at and laid ready; from then on the core, the host and the next core do the rest, and
//! this only watches: it may be killed at any time.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use klar_api::ClientError;
use klar_base::upstreams::PROTOCOL;
use klar_run::control::UpgradeRequest;
use klar_run::core::state::FORMAT;
use klar_run::programs::{self, Programs};
use klar_run::report::{Event, Failure, HostStatus, Receipt, Upgrade as Seen, UpgradeState};
use serde::{Deserialize, Serialize};

use crate::cli::Upgrade;
use crate::context::{Context, Trouble, wait};
use crate::out::events::Steps;
use crate::verbs::operate::conclude;

/// How long a program may take to say what it is.
const SAY: Duration = Duration::from_secs(10);
/// It says that in so many bytes at most.
const SAID_MAX: u64 = 64 * 1024;
/// How long all of it may take: the trial of a core, that of an edge, and the same on the way back.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the core is asked how far it is.
const ASK: Duration = Duration::from_millis(100);

/// What a program reads and speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formats {
    /// Its version.
    pub version: String,
    /// The newest format of the state folder that it reads.
    pub state: u32,
    /// The version of the messages between core and edge that it speaks.
    pub edge: u32,
}

impl Formats {
    /// Those of this program.
    pub fn own() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").into(), state: FORMAT, edge: PROTOCOL }
    }
}

/// `klar upgrade`.
pub fn upgrade(context: &Context, wanted: &Upgrade) -> Result<(), Trouble> {
    let host = match wait(context.client().status())? {
        Err(error @ ClientError::NotRunning { .. }) => {
            let failure = Failure::new(error.to_string());
            return Err(failure.hint("start it with the new program: there is nothing to take over").into());
        }
        other => other?,
    };
    let mut steps = Steps::new(context.printer);
    match run(context, wanted, &host, &mut steps) {
        Ok(Some(receipt)) => {
            steps.hear(&Event::Done(Box::new(receipt.clone())));
            conclude(context, &receipt);
            told_elsewhere(context);
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(trouble) => {
            steps.break_off();
            Err(trouble)
        }
    }
}

fn run(
    context: &Context,
    wanted: &Upgrade,
    host: &HostStatus,
    steps: &mut Steps,
) -> Result<Option<Receipt>, Trouble> {
    let kept = Programs::new(context.layout.root());
    let program = match &wanted.program {
        Some(program) => program.clone(),
        None if wanted.rollback => kept.previous(),
        None => std::env::current_exe().map_err(Trouble::system("finding klar's own program"))?,
    };
    if wanted.rollback && !program.exists() {
        return Err(Failure::new("there is no program to go back to")
            .hint("klar keeps the one before from the first upgrade on; `klar upgrade PATH` takes any other")
            .into());
    }
    let begun = Instant::now();
    steps.begin("check", program.display().to_string());
    let formats = examine(&program, host)?;
    let running = PathBuf::from(format!("/proc/{}/exe", host.core_pid));
    if programs::same_bytes(&program, &running).unwrap_or(false) {
        steps.end("check", "it is the program that runs", begun.elapsed());
        if context.printer.json {
            context.printer.value(&serde_json::json!({ "type": "unchanged", "version": host.version }));
        } else {
            context.printer.data(format!("klar {} runs from this program already", host.version));
        }
        return Ok(None);
    }
    let what = format!("klar {}, state format {}, works here", formats.version, formats.state);
    steps.end("check", what, begun.elapsed());

    let begun = Instant::now();
    steps.begin("install", kept.current().display().to_string());
    kept.stage(&program).map_err(|error| {
        let failure = Failure::new(format!("the program could not be put beside the state: {error}"));
        Trouble::from(failure.hint("run this as the user who started klar, or as root; nothing has changed"))
    })?;
    let request = UpgradeRequest { version: formats.version.clone(), rollback: wanted.rollback };
    let seen = wait(context.client().upgrade(&request))??;
    steps.end("install", "the one before is kept", begun.elapsed());
    watch(context, host, &seen, steps).map(Some)
}

/// Watches until it is done or has failed.
fn watch(context: &Context, before: &HostStatus, seen: &Seen, steps: &mut Steps) -> Result<Receipt, Trouble> {
    let begun = Instant::now();
    let mut core_came = None;
    steps.begin("core", "the new one comes up, the edge serves meanwhile");
    while begun.elapsed() < PATIENCE {
        std::thread::sleep(ASK);
        // Between two cores nobody answers.
        let Ok(status) = wait(context.client().status())? else { continue };
        if status.core_pid == before.core_pid {
            continue;
        }
        if core_came.is_none() {
            steps.end("core", format!("klar {} (pid {})", status.version, status.core_pid), begun.elapsed());
            steps.begin("edge", "the new one takes over, the old one drains");
            core_came = Some(Instant::now());
        }
        let Some(now) = status.upgrade.filter(|now| now.number == seen.number) else { continue };
        match (now.state, now.receipt) {
            (UpgradeState::Done, Some(receipt)) => {
                let pid = status.edge.pid.map_or("none is needed".into(), |pid| format!("pid {pid}"));
                let took = core_came.map_or(Duration::ZERO, |came| came.elapsed());
                steps.end("edge", pid, took);
                return Ok(*receipt);
            }
            (UpgradeState::Pending, _) | (UpgradeState::Done, None) => {}
            (UpgradeState::Failed, _) => {
                let why = now.why.unwrap_or_else(|| "it does not say why".into());
                let log = context.layout.own_log();
                let failure = Failure {
                    now: Some(format!("klar {} serves, as before; no app was touched", now.from)),
                    ..Failure::new(format!("klar {} could not take over: {why}", now.to))
                };
                return Err(failure.hint(format!("its log is {}", log.display())).into());
            }
        }
    }
    Err(Failure::new(format!("klar did not say within {} s how the upgrade went", PATIENCE.as_secs()))
        .hint("`klar status` shows it; apps and edge run on in any case")
        .into())
}

/// Whether the program runs here, and can go on from what is there.
fn examine(program: &Path, host: &HostStatus) -> Result<Formats, Trouble> {
    let refuse = |what: String, hint: &str| {
        Trouble::usage(Failure::new(format!("{}: {what}", program.display())).hint(hint))
    };
    const NAME: &str = "name the `klar` program of the version that you want; nothing has changed";
    let found = std::fs::metadata(program).map_err(|error| refuse(error.to_string(), NAME))?;
    if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
        return Err(refuse("this is no program that can be run".into(), NAME));
    }
    let said = ask(program, &["--version"]).map_err(|why| refuse(why, NAME))?;
    if !said.starts_with("klar ") {
        return Err(refuse("it does not say that it is klar".into(), NAME));
    }
    const OLD: &str =
        "end klar (`klar down --all`) and start it with that program instead; nothing has changed";
    let formats: Formats = ask(program, &["formats"])
        .and_then(|said| serde_json::from_str(&said).map_err(|error| error.to_string()))
        .map_err(|_| refuse(format!("{} is from before `klar upgrade`", said.trim()), OLD))?;
    if formats.state < host.state_format {
        let what = format!(
            "klar {} reads the state folder up to format {}, and it is in format {} by now",
            formats.version, formats.state, host.state_format
        );
        return Err(refuse(what, "take a newer program; nothing has changed"));
    }
    Ok(formats)
}

/// What a program says, when it ends well and soon.
fn ask(program: &Path, args: &[&str]) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("it cannot be run here: {error}"))?;
    let said = child.stdout.take().map(|out| {
        std::thread::spawn(move || {
            let mut said = String::new();
            // What breaks off is no answer.
            let _ = out.take(SAID_MAX).read_to_string(&mut said);
            said
        })
    });
    let ended = end_of(&mut child);
    let said = said.and_then(|said| ended.as_ref().ok().and_then(|()| said.join().ok()));
    ended.map(|()| said.unwrap_or_default())
}

fn end_of(child: &mut Child) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("it cannot be run here: it ended with {status}")),
            Ok(None) if begun.elapsed() < SAY => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) | Err(_) => {
                // Gone already is as good.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it did not say what it is within {} s", SAY.as_secs()));
            }
        }
    }
}

/// Programs that somebody will start later, and that are not the one that runs now.
fn told_elsewhere(context: &Context) {
    let current = Programs::new(context.layout.root()).current();
    let unit = std::fs::read_to_string("/etc/systemd/system/klar.service").unwrap_or_default();
    let started = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).and_then(|line| {
        let quoted = line.strip_prefix('"')?;
        quoted.contains(&*context.layout.root().to_string_lossy()).then(|| quoted.split('"').next())?
    });
    if let Some(program) = started
        && !programs::same_bytes(Path::new(program), &current).unwrap_or(false)
    {
        context.printer.story(format!(
            "  note      systemd starts {program}, which is another program: copy the new one there before this \
             machine starts anew"
        ));
    }
}
