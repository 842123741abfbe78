//! The firewall of an app, as the edge is told of it.
//!
//! klar's own rules are in the edge. A Core Rule Set lies in a folder, which the edge cannot read: what is in it travels
//! as one file, made anew when something in the folder has changed.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use klar_base::AppKey;
use klar_base::look::{Question, Told};
use klar_base::shadow::{Trial, Tried};
use klar_base::upstreams::{RuleFiles, Waf, WafMode, WafRules};
use klar_config::{Config, RoutePolicy};
use nix::sys::memfd::{MFdFlags, memfd_create};
use sha2::{Digest, Sha256};

use super::{Core, ratchet};
use crate::control::{TriedRules, TryRequest};
use crate::report::Failure;

/// Where Debian's package `modsecurity-crs` puts rules and settings.
const DEBIAN: &str = "/usr/share/modsecurity-crs";
const DEBIAN_SETTINGS: &str = "/etc/modsecurity/crs";
/// Rules and what they name, in bytes.
const SET_MAX: u64 = 32 << 20;

/// A rule set as it was found last.
#[derive(Debug)]
pub(super) struct Found {
    /// Every file, how long it was and when it was written.
    files: Vec<(PathBuf, u64, SystemTime)>,
    digest: String,
    file: File,
}

impl Core {
    /// What judges the requests of an app: nothing where no route wants it.
    pub(super) fn waf(&self, config: &Config, folders: &mut Vec<OwnedFd>) -> std::io::Result<Option<Waf>> {
        let Config { edge, routes, .. } = config;
        if routes.iter().all(|route| route.policy.waf == klar_config::Waf::Off) {
            return Ok(None);
        }
        let rules = match edge.waf_rules {
            klar_config::WafRules::Core => WafRules::Core,
            klar_config::WafRules::Crs => match self.rule_set() {
                Ok((digest, file)) => {
                    folders.push(file);
                    WafRules::Set { name: "crs".into(), file: folders.len() - 1, digest }
                }
                Err(error) => {
                    // Other rules are better than none, and than an edge that is told nothing.
                    eprintln!("klar core: klar's own rules are used instead of the Core Rule Set: {error}");
                    WafRules::Core
                }
            },
        };
        let shadow = match (&rules, edge.waf_shadow) {
            (_, false) => None,
            (WafRules::Set { .. }, true) => Some(rules.clone()),
            (WafRules::Core, true) => match self.rule_set() {
                Ok((digest, file)) => {
                    folders.push(file);
                    Some(WafRules::Set { name: "crs".into(), file: folders.len() - 1, digest })
                }
                Err(error) => {
                    eprintln!("klar core: no stricter rules look at what is let through: {error}");
                    None
                }
            },
        };
        let paranoia = u8::try_from(edge.waf_paranoia).unwrap_or(1);
        Ok(Some(Waf { rules, paranoia, own: crate::waf::own_rules(&config.waf), shadow }))
    }

    /// Names the rules that judge the requests of an app.
    pub(super) fn judged_by(&self, config: &Config) -> String {
        let paranoia = config.edge.waf_paranoia;
        match config.edge.waf_rules {
            klar_config::WafRules::Core => "core".into(),
            klar_config::WafRules::Crs => {
                let digest = self.rule_set().map(|(digest, _)| digest).unwrap_or_default();
                format!("crs {paranoia} {}", digest.get(..16).unwrap_or(&digest))
            }
        }
    }

    /// Whether stricter rules are to look at what an app lets through.
    pub(super) fn is_shadowed(&self, key: &AppKey) -> bool {
        let (host, apps) = (self.host.borrow(), self.apps.borrow());
        let release = host.apps.get(key).and_then(|app| apps.get(key)?.releases.get(app.current.as_ref()?));
        release.is_some_and(|release| release.config.edge.waf_shadow)
    }

    /// Whether there are none that could.
    pub(super) fn lacks_shadow(&self, key: &AppKey) -> bool {
        self.is_shadowed(key) && self.rule_set().is_err()
    }

    /// What other rules would do with requests that were let through.
    pub(super) async fn try_rules_now(&self, app: AppKey, wanted: TryRequest) -> Result<Tried, Failure> {
        let own = crate::waf::trial(&wanted.exceptions).map_err(Failure::new)?;
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| Failure::new(format!("{what}: {error}"))
        };
        let kept = kept(&self.layout.shadow_log(&app)).map_err(failed("requests that were kept"))?;
        let mut files = vec![kept.ok_or_else(|| {
            let failure = Failure::new("no requests were kept that rules could be tried on");
            failure.hint(if self.lacks_shadow(&app) {
                "this machine has no Core Rule Set to look with: `apt install modsecurity-crs`, or `klar waf add PATH`"
            } else {
                "with `waf_shadow = true` below `[edge]` a sample of them is, from the next deploy on"
            })
        })?];
        match wanted.rules {
            TriedRules::Core => {}
            TriedRules::Crs => files.push(self.rule_set().map_err(failed("the Core Rule Set"))?.1),
            TriedRules::Files(set) => {
                let text = serde_json::to_vec(&set).map_err(|error| Failure::new(error.to_string()))?;
                files.push(in_memory(&text).map_err(failed("the rules"))?.into());
            }
        }
        let trial = Trial {
            app,
            rules: (files.len() > 1).then_some(1),
            paranoia: wanted.paranoia,
            own,
            requests: 0,
            attacked: wanted.attacked,
        };
        match self.ask_edge(Question::Try(Box::new(trial)), &files).await? {
            Told::Tried { said: Ok(tried) } => Ok(*tried),
            Told::Tried { said: Err(why) } | Told::Replayed { said: Err(why) } => {
                Err(Failure::new(format!("the rules cannot be tried: {why}")))
            }
            _ => Err(Failure::new("the edge answered something else")),
        }
    }

    /// The Core Rule Set of this machine.
    fn rule_set(&self) -> std::io::Result<(String, OwnedFd)> {
        let own = self.layout.rule_set();
        let folder = if own.is_dir() { own } else { PathBuf::from(DEBIAN) };
        let paths = files_of(&folder)?;
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let about = std::fs::metadata(&path)?;
            files.push((path, about.len(), about.modified()?));
        }
        let mut known = self.rule_set.borrow_mut();
        if known.as_ref().is_none_or(|known| known.files != files) {
            *known = Some(found(files)?);
        }
        let known = known.as_ref().ok_or_else(|| std::io::Error::other("no rule set"))?;
        Ok((known.digest.clone(), known.file.try_clone()?.into()))
    }
}

/// The files of a rule set: its settings, its rules in the order of their names, and what they name.
fn files_of(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let rules = folder.join("rules");
    let entries = std::fs::read_dir(&rules).map_err(|error| {
        std::io::Error::new(
            error.kind(),
            format!("{}: {error}; `apt install modsecurity-crs` puts one there", rules.display()),
        )
    })?;
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "conf" || kind == "data") {
            files.push(path);
        }
    }
    files.sort();
    let settings = [folder, Path::new(DEBIAN_SETTINGS)].map(|folder| folder.join("crs-setup.conf"));
    let settings =
        settings.into_iter().chain([folder.join("crs-setup.conf.example")]).find(|path| path.is_file());
    files.splice(0..0, settings);
    Ok(files)
}

fn found(files: Vec<(PathBuf, u64, SystemTime)>) -> std::io::Result<Found> {
    let all: u64 = files.iter().map(|(_, length, _)| length).sum();
    if all > SET_MAX {
        return Err(std::io::Error::other(format!("{all} bytes of rules; at most {SET_MAX} are read")));
    }
    let mut set = RuleFiles::default();
    for (path, ..) in &files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
        let list =
            if path.extension().is_some_and(|kind| kind == "data") { &mut set.data } else { &mut set.rules };
        list.push((name, text));
    }
    let text = serde_json::to_vec(&set)?;
    let digest = format!("{:x}", Sha256::digest(&text));
    Ok(Found { files, digest, file: in_memory(&text)? })
}

/// A file that lies nowhere.
fn in_memory(text: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(memfd_create(c"klar-rules", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text)?;
    Ok(file)
}

/// What was kept last, the oldest first. The edge can read no file of its own.
fn kept(newest: &Path) -> std::io::Result<Option<OwnedFd>> {
    let mut text = Vec::new();
    for path in [newest.with_extension("jsonl.1"), newest.to_owned()] {
        match std::fs::read(path) {
            Ok(more) => text.extend_from_slice(&more),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(if text.is_empty() { None } else { Some(in_memory(&text)?.into()) })
}

/// What the firewall does on a route. `is_ripe`: it has watched for long enough.
pub(super) fn mode(policy: &RoutePolicy, is_ripe: bool) -> WafMode {
    match policy.waf {
        klar_config::Waf::Block => WafMode::Block,
        klar_config::Waf::Detect if is_ripe && ratchet::goal(policy).is_some() => WafMode::Block,
        klar_config::Waf::Detect => WafMode::Detect,
        klar_config::Waf::Off => WafMode::Off,
    }
}
