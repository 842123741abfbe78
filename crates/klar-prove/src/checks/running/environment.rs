//! In what mode the app's processes run: what they were started with, read from the system and not from any file.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// Production mode, and no door for debuggers.
pub struct Environment;

/// What was seen of each process.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The environment that klar runs it as: `prod`.
    env: String,
    processes: Vec<Process>,
    /// Instances whose processes could not be read.
    hidden: usize,
}

/// One process of an instance.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Process {
    instance: String,
    /// `node`, `python3.11`.
    runtime: String,
    /// Variables that choose a mode, with their values; no other is looked at.
    modes: Vec<(String, String)>,
    /// Arguments that open a door for debuggers.
    debuggers: Vec<String>,
}

const PRODUCTION: (&str, &str) = ("runtime.environment", "production");
const DEBUG_OFF: (&str, &str) = ("deploy.env.prod", "debug-off");
/// Variables that are to say `production`, where they are there.
const MODES: [&str; 7] =
    ["NODE_ENV", "APP_ENV", "RAILS_ENV", "RACK_ENV", "FLASK_ENV", "ASPNETCORE_ENVIRONMENT", "MIX_ENV"];
/// Variables that are to say no, where they are there.
const DEBUGS: [&str; 5] = ["FLASK_DEBUG", "DJANGO_DEBUG", "APP_DEBUG", "PYTHONDEVMODE", "DEBUG"];
const MOST: usize = 200;

impl Probe for Environment {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "environment",
        version: 1,
        question: "Do the app's processes run in production mode, with debug off?",
        does: "Reads from the system what the app's processes were started with: the variables that choose a mode (`NODE_ENV`, `FLASK_DEBUG`, …; no others), and arguments for debuggers.",
        shows: &[PRODUCTION, DEBUG_OFF],
        needs: &[Need::Klar],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(20),
        faults: &[
            Fault::Foil("development", PRODUCTION),
            Fault::Foil("development", DEBUG_OFF),
            Fault::Foil("debug", DEBUG_OFF),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let instances = klar.instances().await.map_err(|why| Unable(Words::same(why)))?;
        // What klar calls the app ends with its environment.
        let env = world.target.rsplit('.').next().unwrap_or_default().to_owned();
        let mut seen = Seen { env, ..Seen::default() };
        for instance in instances {
            let Some(pid) = instance.pid else { continue };
            let before = seen.processes.len();
            for pid in family(pid) {
                seen.processes.extend(process(&instance.name, pid));
            }
            seen.hidden += usize::from(seen.processes.len() == before);
        }
        seen.processes.truncate(MOST);
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { env, processes, hidden } = seen;
        let count = processes.len();
        let unread = count == 0 || *hidden > 0;
        let none = || {
            words!(
                "{count} processes could be read, those of {hidden} instances not: root may",
                "{count} prosesser kunne leses, de til {hidden} instanser ikke: root får",
                "{count} processer kunde läsas, de för {hidden} instanser inte: root får"
            )
        };
        let first = |is_bad: &dyn Fn(&Process) -> Option<String>| {
            processes.iter().find_map(|process| Some((process, is_bad(process)?)))
        };
        let told = |bad: Option<(&Process, String)>, place, good: Words| match bad {
            Some((Process { instance, runtime, .. }, why)) => {
                Finding::broken(place, Words::same(format!("{instance}, {runtime}: {why}")))
            }
            None if unread => Finding::unseen(place, none()),
            None => Finding::held(place, good),
        };
        let mode = first(&Process::other_mode);
        let debug = first(&Process::debug).or_else(|| first(&Process::other_mode));
        let good = words!(
            "{count} processes, none in another mode",
            "{count} prosesser, ingen i en annen modus",
            "{count} processer, ingen i ett annat läge"
        );
        let debug = if env == "prod" || debug.is_some() {
            told(debug, DEBUG_OFF, good.clone())
        } else {
            Finding::unseen(
                DEBUG_OFF,
                words!(
                    "this is the environment {env}, not prod",
                    "dette er miljøet {env}, ikke prod",
                    "det här är miljön {env}, inte prod"
                ),
            )
        };
        vec![told(mode, PRODUCTION, good), debug]
    }
}

impl Process {
    /// What is wrong with its mode. Node.js is in no production mode unless it is told to be.
    fn other_mode(&self) -> Option<String> {
        let mode =
            |name: &str| self.modes.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str());
        if self.runtime == "node" && mode("NODE_ENV").is_none() {
            return Some("NODE_ENV is not set".to_owned());
        }
        let is_other =
            |name: &&&str| mode(name).is_some_and(|value| !value.to_ascii_lowercase().starts_with("prod"));
        MODES.iter().find(is_other).map(|name| format!("{name}={}", mode(name).unwrap_or_default()))
    }

    /// What debugs it.
    fn debug(&self) -> Option<String> {
        if let Some(argument) = self.debuggers.first() {
            return Some(argument.clone());
        }
        let on =
            |value: &str| !matches!(value.to_ascii_lowercase().as_str(), "" | "0" | "false" | "no" | "off");
        let debugs = self.modes.iter().find(|(name, value)| DEBUGS.contains(&name.as_str()) && on(value));
        debugs.map(|(name, value)| format!("{name}={value}"))
    }
}

/// A process and its children, and theirs.
pub(in crate::checks) fn family(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(&pid) = all.get(next) {
        next += 1;
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        if all.len() > MOST {
            break;
        }
    }
    all
}

/// What a process was started with; nothing where that may not be read. A shell that only waits for the app is none.
fn process(instance: &str, pid: i32) -> Option<Process> {
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let runtime = exe.file_name()?.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    if ["sh", "dash", "bash", "npm", "klar"].contains(&runtime.as_str()) {
        return None;
    }
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).ok();
    let split = |bytes: Vec<u8>| -> Vec<String> {
        let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
        parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
    };
    let variables = split(read("environ")?);
    let modes = variables
        .iter()
        .filter_map(|each| each.split_once('='))
        .filter(|(name, _)| MODES.contains(name) || DEBUGS.contains(name));
    let arguments = split(read("cmdline")?);
    let opens = |argument: &&String| {
        ["--inspect", "--debug", "-Xdebug", "-agentlib:jdwp"].iter().any(|door| argument.starts_with(door))
    };
    Some(Process {
        instance: instance.to_owned(),
        runtime,
        modes: modes.map(|(name, value)| (name.to_owned(), value.chars().take(40).collect())).collect(),
        debuggers: arguments
            .iter()
            .filter(opens)
            .map(|argument| argument.chars().take(80).collect())
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::check::Saw;

    fn judged(env: &str, processes: Vec<Process>, hidden: usize) -> [Saw; 2] {
        let found = Environment::judge(&Seen { env: env.to_owned(), processes, hidden });
        [found[0].saw, found[1].saw]
    }

    fn of(runtime: &str, modes: &[(&str, &str)], debuggers: &[&str]) -> Process {
        Process {
            instance: "web.1".to_owned(),
            runtime: runtime.to_owned(),
            modes: modes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            debuggers: debuggers.iter().map(|argument| (*argument).to_owned()).collect(),
        }
    }

    #[test]
    fn modes() {
        use Saw::{Broken, Held, Unseen};
        for (process, saw) in [
            (of("node", &[("NODE_ENV", "production")], &[]), [Held, Held]),
            (of("node", &[("NODE_ENV", "development")], &[]), [Broken, Broken]),
            (of("node", &[], &[]), [Broken, Broken]),
            (of("node", &[("NODE_ENV", "production")], &["--inspect=0.0.0.0"]), [Held, Broken]),
            (of("python3.11", &[], &[]), [Held, Held]),
            (of("python3.11", &[("FLASK_DEBUG", "1")], &[]), [Held, Broken]),
            (of("python3.11", &[("FLASK_DEBUG", "0"), ("DEBUG", "False")], &[]), [Held, Held]),
            (of("php", &[("APP_ENV", "local")], &[]), [Broken, Broken]),
        ] {
            assert_eq!(judged("prod", vec![process.clone()], 0), saw, "{process:?}");
        }
        let good = || vec![of("node", &[("NODE_ENV", "production")], &[])];
        assert_eq!(judged("staging", good(), 0), [Held, Unseen]);
        assert_eq!(judged("prod", good(), 1), [Unseen, Unseen]);
        assert_eq!(judged("prod", Vec::new(), 0), [Unseen, Unseen]);
    }

    #[test]
    fn a_mode_is_read_from_the_process_itself() {
        let mut shell = Command::new("sh");
        // The shell has a child, as `npm start` has.
        shell.args(["-c", "sleep 30; true"]).env("NODE_ENV", "development").env("FLASK_DEBUG", "1");
        shell.env("SECRET_KEY", "nobody's business").stdout(Stdio::null());
        let mut child = shell.spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let begun = std::time::Instant::now();
        let seen = loop {
            let seen: Vec<Process> =
                family(pid).into_iter().filter_map(|pid| process("web.1", pid)).collect();
            if !seen.is_empty() || begun.elapsed() > Duration::from_secs(10) {
                break seen;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        for pid in family(pid).into_iter().rev() {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        child.wait().unwrap();
        let mut modes = seen[0].modes.clone();
        modes.sort();
        let wanted = of("", &[("FLASK_DEBUG", "1"), ("NODE_ENV", "development")], &[]).modes;
        assert_eq!(modes, wanted, "and nothing else");
        assert_eq!(judged("prod", seen, 0), [Saw::Broken, Saw::Broken]);
    }
}
