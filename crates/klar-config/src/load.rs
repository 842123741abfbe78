//! From the text of a `klar.toml` to a [`Config`]: parse, lay the environment over it, read, check, decide.
//!
//! Each step reports everything it finds before the next begins, so that one run shows all mistakes.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use klar_base::{AppKey, EnvName, ServiceName};
use serde::{Deserialize, Serialize};

use crate::check::{check_backup, check_edge, check_own_checks, check_services, check_waf};
use crate::decide::{decide_stores, default_routes, notes_on};
use crate::environment::{overlay, own_domains};
use crate::fault::{ConfigErrors, Fault};
use crate::keys::{
    Account, App, Backup, Check, Deploy, Edge, Logs, OwnCheck, Recovery, See, Service, WafException, Waiver,
};
use crate::provenance::Provenance;
use crate::read::{Facts, Reader};
use crate::root::read_root;
use crate::route::Route;
use crate::source::Source;
use crate::tree::{self, Table};
use crate::values::{Place, RelativePath, VarName};
use crate::{sqlite, syntax};

/// The name of the file.
pub const FILE_NAME: &str = "klar.toml";
/// The largest file that is read, in bytes.
pub const FILE_SIZE_MAX: usize = 1024 * 1024;

/// The smallest file that works.
pub const TEMPLATE: &str = "[app]\nname = \"shop\"\n\n[services.web]\nrun = \"node server.js\"\n";

/// One app in one environment, complete: every key has its value.
///
/// Can be stored with a release and read again by a later klar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The environment this is for.
    pub env: EnvName,
    /// `[app]`.
    pub app: App,
    /// `[services.NAME]`.
    pub services: BTreeMap<ServiceName, Service>,
    /// `[routes]`, ordered so that the first that matches is the one that is meant.
    pub routes: Vec<Route>,
    /// `[data.NAME]`.
    pub data: BTreeMap<ServiceName, Store>,
    /// `[edge]`.
    #[serde(default)]
    pub edge: Edge,
    /// `[logs]`.
    #[serde(default)]
    pub logs: Logs,
    /// `[see]`.
    #[serde(default)]
    pub see: See,
    /// `[backup]`.
    #[serde(default)]
    pub backup: Backup,
    /// `[recovery]`.
    #[serde(default)]
    pub recovery: Recovery,
    /// `[deploy]`.
    #[serde(default)]
    pub deploy: Deploy,
    /// `[check]`.
    #[serde(default)]
    pub check: Check,
    /// `[checks.NAME]`.
    #[serde(default)]
    pub checks: BTreeMap<ServiceName, OwnCheck>,
    /// `[waf.NAME]`.
    #[serde(default)]
    pub waf: BTreeMap<ServiceName, WafException>,
    /// `[waivers.NAME]`.
    #[serde(default)]
    pub waivers: BTreeMap<ServiceName, Waiver>,
    /// `[accounts.NAME]`.
    #[serde(default)]
    pub accounts: BTreeMap<ServiceName, Account>,
}

/// A database or cache of the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// What it is.
    pub engine: Engine,
    /// Where it is.
    pub place: Place,
    /// The variable in which services get its address.
    pub env: VarName,
}

/// What a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// Redis, or what speaks its protocol.
    Redis,
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
        })
    }
}

/// A configuration, what klar decided on the way, and where each value comes from.
#[derive(Debug, Clone, Serialize)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What klar decided or noticed, in the order of the file's tables.
    pub notes: Vec<Note>,
    /// Where each value comes from.
    pub provenance: Provenance,
    /// The file, as it was named by the caller.
    pub file: String,
}

/// Something klar decided by itself, or noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Whether this is likely to hurt.
    pub warning: bool,
    /// The key it is about, if it is about one.
    pub key: Option<String>,
    /// What was decided or noticed, and because of what.
    pub message: String,
    /// How to have it otherwise.
    pub hint: Option<String>,
}

impl Note {
    pub(crate) fn decided(
        key: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { warning: false, key: Some(key.into()), message: message.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn warning(
        key: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { warning: true, ..Self::decided(key, message, hint) }
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl klar_base::Hint for Note {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl Config {
    /// Reads the `klar.toml` in a folder, or a file by its own name, for one environment.
    ///
    /// Looks through the folder for SQLite databases, because the number of instances depends on them.
    ///
    /// # Errors
    /// [`ConfigErrors`] holds everything that is wrong with the file, also when it cannot be read at all.
    pub fn load(dir_or_file: &Path, env: &EnvName) -> Result<Loaded, ConfigErrors> {
        let file = if dir_or_file.is_dir() { dir_or_file.join(FILE_NAME) } else { dir_or_file.to_owned() };
        let file = file.strip_prefix(".").map_or(file.clone(), Path::to_owned);
        let name = file.display().to_string();
        let text = read_text(&file, &name)?;
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        load(Source::new(name, text), env, sqlite::find(dir))
    }

    /// Reads the text of a `klar.toml` for one environment. `file_name` is what errors call it.
    ///
    /// Looks at nothing but the text.
    ///
    /// # Errors
    /// [`ConfigErrors`] holds everything that is wrong with the text.
    pub fn parse(text: &str, file_name: &str, env: &EnvName) -> Result<Loaded, ConfigErrors> {
        check_size(text.len() as u64, file_name)?;
        load(Source::new(file_name, text), env, Vec::new())
    }

    /// The key of everything that is kept for this app in this environment.
    pub fn key(&self) -> AppKey {
        AppKey::new(self.app.name.clone(), self.env.clone())
    }

    /// The route that a path takes, if one does. `path` holds no query.
    pub fn route(&self, path: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.pattern.matches(path))
    }

    /// Everything that is left out of releases: what the file says, and what klar always leaves out.
    pub fn left_out(&self) -> Vec<RelativePath> {
        let builds = self.services.values().any(|service| service.build.is_some());
        let always: &[&str] = &[".git", ".hg", ".svn", ".klar"];
        let built: &[&str] = if builds { &["node_modules", ".venv", "__pycache__", "target"] } else { &[] };
        let known = always.iter().chain(built).map(|name| RelativePath::known(name));
        known.chain(self.app.ignore.iter().cloned()).collect()
    }
}

fn check_size(size: u64, name: &str) -> Result<(), ConfigErrors> {
    if size > FILE_SIZE_MAX as u64 {
        let fault = Fault::new(format!("the file has {size} bytes, more than the 1 MiB klar reads"))
            .hint("a klar.toml of fifty lines is a long one; is this the right file?");
        return Err(ConfigErrors::about_file(name, fault));
    }
    Ok(())
}

fn read_text(file: &Path, name: &str) -> Result<String, ConfigErrors> {
    let unreadable = |error: std::io::Error| {
        let fault = match error.kind() {
            std::io::ErrorKind::NotFound => Fault::new(format!("there is no {FILE_NAME} here")).hint(format!(
                "run `klar init`, which writes one for the app it finds, or write it yourself:\n\n{TEMPLATE}"
            )),
            std::io::ErrorKind::PermissionDenied => Fault::new("the file cannot be read: permission denied")
                .hint(format!("allow it with `chmod u+r {name}`, or run klar as the owner of the file")),
            _ => Fault::new(format!("the file cannot be read: {error}")),
        };
        ConfigErrors::about_file(name, fault)
    };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    check_size(opened.metadata().map_err(unreadable)?.len(), name)?;
    opened.take(FILE_SIZE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    check_size(bytes.len() as u64, name)?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let bytes = error.into_bytes();
        let line = bytes[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        let wide = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
        let kind = if wide { "it is UTF-16" } else { "a byte on that line belongs to another encoding" };
        let fault = Fault::new(format!("the file is not UTF-8 text: line {line}"))
            .hint(format!("{kind}; save the file as UTF-8 in your editor"));
        ConfigErrors::about_file(name, fault)
    })
}

fn load(mut source: Source, env: &EnvName, sqlite: Vec<PathBuf>) -> Result<Loaded, ConfigErrors> {
    let (root, syntax_errors) = tree::parse(source.text());
    if !syntax_errors.is_empty() {
        return Err(broken_syntax(source, &root, &syntax_errors));
    }
    if root.entries.is_empty() {
        let fault =
            Fault::new("the file is empty").hint(format!("this is enough to begin with:\n\n{TEMPLATE}"));
        return Err(ConfigErrors::about_file(source.name, fault));
    }

    let (merged, mut faults, mut hidden) = overlay(&root, env);
    let mut notes = Vec::new();
    let merged = own_domains(merged, env, &mut notes);
    let facts = Facts { root: merged, env: env.clone(), sqlite };
    let mut cx = Reader::new(&facts, false);
    let parts = read_root(&facts.root, &mut cx);
    check_services(&facts.root, &mut cx);
    let stores = decide_stores(&parts.data, &mut cx, &mut notes);
    let routes = match facts.root.get_table("routes") {
        Some(routes) if !routes.entries.is_empty() => parts.routes,
        _ => default_routes(&facts, &mut cx, &mut notes),
    };
    check_backup(&facts.root, &mut cx);
    check_edge(&facts.root, &mut cx);
    check_own_checks(&facts.root, &stores, &mut cx);
    check_waf(&facts.root, &mut cx);
    faults.append(&mut cx.faults);
    hidden.append(&mut cx.hidden);
    let settings = std::mem::take(&mut cx.settings);

    let complete = (|| {
        Some(Config {
            env: env.clone(),
            app: parts.app?,
            services: whole(parts.services)?,
            routes,
            data: stores,
            edge: parts.edge?,
            logs: parts.logs?,
            see: parts.see?,
            backup: parts.backup?,
            recovery: parts.recovery?,
            deploy: parts.deploy?,
            check: parts.check?,
            checks: whole(parts.checks)?,
            waf: whole(parts.waf)?,
            waivers: whole(parts.waivers)?,
            accounts: whole(parts.accounts)?,
        })
    })();
    match complete {
        Some(config) if faults.is_empty() => {
            notes_on(&config, &facts, &root, &mut notes);
            let settings =
                settings.into_iter().map(|(path, (value, from))| (path, from.resolve(value, env, &source)));
            let provenance = Provenance::new(settings.collect());
            Ok(Loaded { config, notes, provenance, file: source.name })
        }
        _ => {
            if faults.is_empty() {
                faults.push(Fault::new("the file could not be read"));
            }
            hidden.into_iter().for_each(|span| source.hide(span));
            Err(ConfigErrors::new(source, faults))
        }
    }
}

/// All of them, if each could be read.
fn whole<T>(named: Vec<(ServiceName, Option<T>)>) -> Option<BTreeMap<ServiceName, T>> {
    named.into_iter().map(|(name, value)| Some((name, value?))).collect()
}

/// Reports mistakes of syntax, and those mistakes of meaning that cannot be a consequence of them.
fn broken_syntax(mut source: Source, root: &Table, errors: &[tree::SyntaxError]) -> ConfigErrors {
    let mut faults = syntax::explain_all(errors, source.text(), root);
    let facts = Facts::default();
    let mut cx = Reader::new(&facts, true);
    read_root(root, &mut cx);
    // One mistake confuses the parser for the rest of its line, an open quote or bracket for longer.
    let line_of = |fault: &Fault| fault.span.as_ref().map_or(0, |span| source.position(span.start).line);
    let lines: Vec<usize> = faults.iter().map(line_of).collect();
    let first = lines.iter().copied().min().unwrap_or(0);
    let only_twice = errors.iter().all(|error| error.message == "duplicate key");
    let certain = |fault: &Fault| {
        let line = line_of(fault);
        line < first || (only_twice && !lines.contains(&line))
    };
    let certain: Vec<Fault> = cx.faults.iter().filter(|fault| certain(fault)).cloned().collect();
    faults.extend(certain);
    let hidden = std::mem::take(&mut cx.hidden);
    hidden.into_iter().for_each(|span| source.hide(span));
    ConfigErrors::new(source, faults)
}
