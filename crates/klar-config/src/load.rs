//! From the text of a `klar.toml` to a [`Config`]: parse, lay the environment over it, read, check, decide.
//!
//! Each step reports everything it finds before the next begins, so that one run shows all mistakes.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use klar_base::{AppKey, EnvName, ServiceName};
use serde::{Deserialize, Serialize};

use crate::fault::{ConfigErrors, Fault};
use crate::keys::{App, Deploy, ENV, Edge, Logs, ROOTS, Root, RoutePolicy, Service, StoreKeys};
use crate::provenance::Provenance;
use crate::read::{Facts, Reader, Whence, join};
use crate::route::{Pattern, Route};
use crate::secret::SecretRef;
use crate::source::Source;
use crate::sqlite;
use crate::suggest::{self, quote};
use crate::syntax;
use crate::table::Kind;
use crate::tree::{self, Data, Entry, Node, Table, toml_string};
use crate::values::{Place, RelativePath, Role, VarName, name_complaint};

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
    /// `[deploy]`.
    #[serde(default)]
    pub deploy: Deploy,
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
    fn decided(key: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { warning: false, key: Some(key.into()), message: message.into(), hint: Some(hint.into()) }
    }

    fn warning(key: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
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
    check_edge(&facts.root, &mut cx);
    faults.append(&mut cx.faults);
    hidden.append(&mut cx.hidden);
    let settings = std::mem::take(&mut cx.settings);

    let complete = (|| {
        Some(Config {
            env: env.clone(),
            app: parts.app?,
            services: parts
                .services
                .into_iter()
                .map(|(name, service)| Some((name, service?)))
                .collect::<Option<_>>()?,
            routes,
            data: stores,
            edge: parts.edge?,
            logs: parts.logs?,
            deploy: parts.deploy?,
        })
    })();
    match complete {
        Some(config) if faults.is_empty() => {
            note_decisions(&config, &facts, &root, &mut notes);
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

/// Reports mistakes of syntax, and those mistakes of meaning that cannot be a consequence of them.
fn broken_syntax(mut source: Source, root: &Table, errors: &[tree::SyntaxError]) -> ConfigErrors {
    let mut faults: Vec<Fault> =
        errors.iter().map(|error| syntax::explain(error, source.text(), root)).collect();
    // One mistake confuses the parser for the rest of its line, an open quote or bracket for longer.
    let line_of = |fault: &Fault| fault.span.as_ref().map_or(0, |span| source.position(span.start).line);
    let mut lines = std::collections::BTreeSet::new();
    faults.retain(|fault| lines.insert(line_of(fault)));
    let first = lines.first().copied().unwrap_or(0);
    let facts = Facts::default();
    let mut cx = Reader::new(&facts, true);
    read_root(root, &mut cx);
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

/// Checks every environment's table on its own, and lays the one that is wanted over the rest.
fn overlay(root: &Table, env: &EnvName) -> (Table, Vec<Fault>, Vec<std::ops::Range<usize>>) {
    let facts = Facts { root: root.clone(), ..Facts::default() };
    let mut cx = Reader::new(&facts, true);
    let mut merged = root.clone();
    merged.entries.retain(|entry| entry.key != ENV);
    let Some(environments) = root.entry(ENV) else { return (merged, Vec::new(), Vec::new()) };
    cx.path.push(ENV.into());
    match environments.node.table() {
        None => cx.fault(
            Fault::new("`env` must be a table of environments")
                .at(environments.node.span.clone(), format!("this is {}", environments.node.data.noun()))
                .hint("write `[env.staging]`; variables for a service go into `env` of the service"),
        ),
        Some(environments) => {
            for entry in &environments.entries {
                check_environment(entry, root, &mut cx);
            }
        }
    }
    let chosen = root.get_table(ENV).and_then(|environments| environments.get_table(env.as_str()));
    if let Some(chosen) = chosen {
        merged.overlay(chosen, &mut Vec::new(), &alternatives);
    }
    (merged, cx.faults, cx.hidden)
}

fn check_environment(entry: &Entry, root: &Table, cx: &mut Reader<'_>) {
    if let Err(error) = EnvName::new(entry.key.as_str()) {
        let all_upper = entry.key.bytes().all(|b| b.is_ascii_uppercase() || b == b'_' || b.is_ascii_digit());
        let (label, hint) = if all_upper {
            let hint =
                format!("a variable belongs to a service: `[services.NAME.env]` with `{} = ...`", entry.key);
            ("looks like a variable".into(), Some(hint))
        } else {
            name_complaint(&entry.key, &error)
        };
        let mut fault = Fault::new(format!("{} cannot name an environment", quote(&entry.key)))
            .at(entry.key_span.clone(), label);
        fault.hint = hint;
        cx.fault(fault);
        return;
    }
    let Some(table) = entry.node.table() else {
        let fault = Fault::new(format!("`env.{}` must be a table", entry.key))
            .at(entry.node.span.clone(), format!("this is {}", entry.node.data.noun()))
            .hint(format!("write `[env.{}.services.NAME]` and below it what is different there", entry.key));
        cx.fault(fault);
        return;
    };
    cx.within(&entry.key, |cx| {
        read_root(table, cx);
        if let Some(name) = table.get_table("app").and_then(|app| app.entry("name")) {
            let fault = Fault::new("an environment cannot rename the app")
                .at(name.key_span.clone(), "not here")
                .hint("remove the line; what klar keeps is told apart by app and environment anyway");
            cx.fault(fault);
        }
        let known = root.get_table("services");
        let services =
            table.get_table("services").map(|services| services.entries.as_slice()).unwrap_or_default();
        for service in services {
            let new = known.is_none_or(|known| known.get(&service.key).is_none());
            let complete = service
                .node
                .table()
                .is_some_and(|table| table.get("run").is_some() || table.get("static").is_some());
            if new && !complete {
                let names = known.map(|known| known.entries.iter().map(|entry| entry.key.as_str()));
                let hint = match names.and_then(|names| suggest::nearest(&service.key, names)) {
                    Some(meant) => format!("did you mean {}?", quote(meant)),
                    None => "a service that exists in one environment only needs a `run` there".into(),
                };
                let fault = Fault::new(format!("there is no service {} to override", quote(&service.key)))
                    .at(service.key_span.clone(), "not a service of this file")
                    .hint(hint);
                cx.fault(fault);
            }
        }
    });
}

fn alternatives(path: &[String]) -> &'static [&'static str] {
    let [root, _] = path else { return &[] };
    ROOTS
        .iter()
        .find(|known| known.name == root && known.named)
        .map_or(&[], |known| known.section.alternatives)
}

/// Takes away the domains of `[app]` in another environment than prod: they belong to prod.
fn own_domains(mut root: Table, env: &EnvName, notes: &mut Vec<Note>) -> Table {
    if env.is_default() {
        return root;
    }
    let app = root.entries.iter_mut().find(|entry| entry.key == "app");
    if let Some(Data::Table(app)) = app.map(|entry| &mut entry.node.data) {
        let before = app.entries.len();
        app.entries.retain(|entry| entry.key != "domains" || entry.node.overridden);
        if app.entries.len() < before {
            notes.push(Note::decided(
                "app.domains",
                format!("the domains of [app] are prod's, so `{env}` answers on a localhost name"),
                format!("give it its own: `[env.{env}.app]` with `domains = [\"{env}.shop.example\"]`"),
            ));
        }
    }
    root
}

/// What could be read of each table.
#[derive(Default)]
struct Parts {
    app: Option<App>,
    services: Vec<(ServiceName, Option<Service>)>,
    routes: Vec<Route>,
    data: Vec<(ServiceName, Option<StoreKeys>, Entry)>,
    edge: Option<Edge>,
    logs: Option<Logs>,
    deploy: Option<Deploy>,
}

fn read_root(table: &Table, cx: &mut Reader<'_>) -> Parts {
    for entry in &table.entries {
        let known =
            ROOTS.iter().any(|root| root.name == entry.key) || (entry.key == ENV && cx.path.is_empty());
        if !known {
            unknown_root(entry, cx);
        }
    }
    let mut parts = Parts::default();
    for root in &ROOTS {
        let Some(found) = root_table(table, root, cx) else { continue };
        cx.path.push(root.name.into());
        match root.name {
            "app" => parts.app = App::read(found, cx),
            "services" => {
                parts.services = read_named(found, cx, Service::read)
                    .into_iter()
                    .map(|(name, service, _)| (name, service))
                    .collect();
            }
            "routes" => parts.routes = read_routes(found, cx),
            "data" => parts.data = read_named(found, cx, StoreKeys::read),
            "edge" => parts.edge = Edge::read(found, cx),
            "logs" => parts.logs = Logs::read(found, cx),
            _ => parts.deploy = Deploy::read(found, cx),
        }
        cx.path.pop();
    }
    parts
}

/// The table at the top called `root`; empty when it is left out, `None` when it is no table.
fn root_table<'a>(table: &'a Table, root: &Root, cx: &mut Reader<'_>) -> Option<&'a Table> {
    static EMPTY: Table = Table { entries: Vec::new(), span: 0..0 };
    let Some(entry) = table.entry(root.name) else {
        // A misspelt `[app]` is one mistake, not two.
        return if root.name == "app" && cx.is_misspelt("app") { None } else { Some(&EMPTY) };
    };
    if entry.node.table().is_none() {
        let path = cx.path_of(root.name);
        let (message, hint) = if root.named {
            let header = root.section.path.replace("routes.*", "routes").replace('*', "NAME");
            (format!("{} must be a table", quote(&path)), format!("write it as `[{header}]`"))
        } else {
            (format!("{} must be a table", quote(&path)), format!("write it as `[{path}]`"))
        };
        let label = match &entry.node.data {
            Data::List(_) => "this is a list (`[[ ]]` makes one)".into(),
            data => format!("this is {}", data.noun()),
        };
        cx.fault(Fault::new(message).at(entry.key_span.clone(), label).hint(hint));
    }
    entry.node.table()
}

fn unknown_root(entry: &Entry, cx: &mut Reader<'_>) {
    let lower = entry.key.to_ascii_lowercase();
    let meant = ROOTS
        .iter()
        .find(|root| root.aliases.contains(&lower.as_str()))
        .map(|root| root.name)
        .or_else(|| suggest::nearest(&entry.key, ROOTS.iter().map(|root| root.name).chain([ENV])));
    let is_table = entry.node.table().is_some();
    // A key that belongs somewhere else: say where.
    let home = ROOTS.iter().find(|root| root.section.key(&entry.key).is_some());
    let (message, label, hint) = match (meant, home) {
        (_, Some(home)) if !is_table => {
            let header = home.section.header();
            (
                format!("key {} stands outside of its table", quote(&entry.key)),
                "no table above it",
                format!("write it below `{header}`"),
            )
        }
        (Some(meant), _) => {
            if let Some(root) = ROOTS.iter().find(|root| root.name == meant) {
                cx.note_misspelt(root.name);
            }
            let header = join(cx.path.iter().map(String::as_str).chain([meant]));
            let header = if ROOTS.iter().any(|root| root.name == meant && root.named && root.name != "routes")
            {
                format!("[{header}.NAME]")
            } else {
                format!("[{header}]")
            };
            (
                format!("unknown table {}", quote(&cx.path_of(&entry.key))),
                "not a table of klar.toml",
                format!("did you mean `{header}`?"),
            )
        }
        (None, _) => {
            let what = if is_table { "table" } else { "key" };
            let names = ROOTS.iter().map(|root| root.name).chain(cx.path.is_empty().then_some(ENV));
            let hint = format!("the tables are {}", suggest::one_of(names).replace(" or ", " and "));
            (format!("unknown {what} {}", quote(&cx.path_of(&entry.key))), "klar does not know this", hint)
        }
    };
    cx.fault(Fault::new(message).at(entry.key_span.clone(), label).hint(hint));
}

/// Reads the tables in `[services]` or `[data]`, which the user names.
fn read_named<T>(
    table: &Table,
    cx: &mut Reader<'_>,
    read: fn(&Table, &mut Reader<'_>) -> Option<T>,
) -> Vec<(ServiceName, Option<T>, Entry)> {
    let mut found = Vec::new();
    for entry in &table.entries {
        let Some(inner) = entry.node.table() else {
            let root = cx.path.last().cloned().unwrap_or_default();
            let section = ROOTS.iter().find(|known| known.name == root).map(|known| known.section);
            let is_key = section.is_some_and(|section| section.key(&entry.key).is_some());
            let name = if root == "data" { "db" } else { "web" };
            let hint = if is_key {
                format!(
                    "give it a name of your choice: `[{}.{name}]`, and write `{}` below that",
                    cx.here(),
                    entry.key
                )
            } else {
                format!("write `[{}]`", cx.path_of(&entry.key))
            };
            let message = format!("{} must be a table", quote(&cx.path_of(&entry.key)));
            let label = format!("this is {}", entry.node.data.noun());
            cx.fault(Fault::new(message).at(entry.node.span.clone(), label).hint(hint));
            continue;
        };
        let name = match ServiceName::new(entry.key.as_str()) {
            Ok(name) => Some(name),
            Err(error) => {
                let (label, hint) = name_complaint(&entry.key, &error);
                let what =
                    if cx.path.last().is_some_and(|root| root == "data") { "store" } else { "service" };
                let message = format!(
                    "{} cannot name a {what}: a-z, 0-9 and `-`, a letter first, at most 32 characters",
                    quote(&entry.key)
                );
                let mut fault = Fault::new(message).at(entry.key_span.clone(), label);
                fault.hint = hint;
                cx.fault(fault);
                None
            }
        };
        let value = cx.within(&entry.key, |cx| read(inner, cx));
        found.extend(name.map(|name| (name, value, entry.clone())));
    }
    found
}

fn read_routes(table: &Table, cx: &mut Reader<'_>) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for entry in &table.entries {
        let pattern = match Pattern::new(&entry.key) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let hint = match &error.meant {
                    Some(meant) => format!("did you mean `\"{meant}\"`?"),
                    None => "a route is `\"/pricing\"` (that path), `\"/api/*\"` (all below it) or `\"/*\"` (all else)".into(),
                };
                let message = format!("{} is not a route", quote(&entry.key));
                cx.fault(Fault::new(message).at(entry.key_span.clone(), error.label).hint(hint));
                None
            }
        };
        let short;
        let policy = match &entry.node.data {
            Data::Table(policy) => policy,
            Data::Text(_) => {
                let to =
                    Entry { key: "to".into(), key_span: entry.key_span.clone(), node: entry.node.clone() };
                short = Table { entries: vec![to], span: entry.node.span.clone() };
                &short
            }
            other => {
                let message =
                    format!("{} must be the name of a service, or a table", quote(&cx.path_of(&entry.key)));
                let hint = format!("for instance `{} = \"api\"`", toml_string(&entry.key));
                let label = format!("this is {}", other.noun());
                cx.fault(Fault::new(message).at(entry.node.span.clone(), label).hint(hint));
                continue;
            }
        };
        let policy_read = cx.within(&entry.key, |cx| {
            let read = RoutePolicy::read(policy, cx);
            if !cx.partial
                && let (Some(read), Some(to)) = (&read, policy.get("to"))
            {
                check_target(&read.to, to, cx);
            }
            read
        });
        if let (Some(pattern), Some(policy)) = (pattern, policy_read) {
            routes.push(Route { pattern, policy });
        }
    }
    routes.sort_by(|a, b| a.pattern.precedence().cmp(&b.pattern.precedence()));
    routes
}

/// A route must lead to a service that answers requests.
fn check_target(to: &ServiceName, node: &Node, cx: &mut Reader<'_>) {
    let services = cx.facts.root.get_table("services");
    let names =
        || services.into_iter().flat_map(|services| services.entries.iter().map(|entry| entry.key.as_str()));
    if !names().any(|name| name == to.as_str()) {
        let hint = match suggest::nearest(to.as_str(), names()) {
            Some(meant) => format!("did you mean {}?", quote(meant)),
            None => format!("the services are {}", suggest::one_of(names()).replace(" or ", " and ")),
        };
        let fault = Fault::new(format!("a route leads to {}, which is no service", quote(to.as_str())))
            .at(node.span.clone(), "no such service")
            .hint(hint);
        return cx.fault(fault);
    }
    let role = cx.facts.role(to.as_str());
    if matches!(role, Role::Worker | Role::Cron) {
        let fault = Fault::new(format!("a route leads to {}, which is {}", quote(to.as_str()), role.noun()))
            .at(node.span.clone(), "listens to nothing")
            .hint("a route leads to a service of kind `\"web\"`");
        cx.fault(fault);
    }
}

/// What the keys of one service say about each other.
fn check_services(root: &Table, cx: &mut Reader<'_>) {
    let services = root.get_table("services").map(|services| services.entries.as_slice()).unwrap_or_default();
    if services.is_empty()
        && root.get("services").is_none_or(|node| node.table().is_some())
        && !cx.is_misspelt("services")
    {
        let hint = "add one that runs a command:\n\n[services.web]\nrun = \"node server.js\"\n";
        cx.fault(Fault::new("there is no service, so nothing would run").hint(hint));
    }
    for entry in services {
        let Some(table) = entry.node.table() else { continue };
        cx.path = vec!["services".into(), entry.key.clone()];
        check_service(entry, table, cx);
        cx.path.clear();
    }
    let mut ports: BTreeMap<i64, &Entry> = BTreeMap::new();
    for entry in services {
        let Some(Node { data: Data::Integer(port), span, .. }) =
            entry.node.table().and_then(|table| table.get("port"))
        else {
            continue;
        };
        if let Some(first) = ports.insert(*port, entry) {
            let fault = Fault::new(format!(
                "services {} and {} insist on the same port",
                quote(&first.key),
                quote(&entry.key)
            ))
            .at(span.clone(), "taken already")
            .hint("remove `port` from one and let it listen on `$PORT`");
            cx.fault(fault);
        }
    }
}

fn check_service(entry: &Entry, table: &Table, cx: &mut Reader<'_>) {
    let name = quote(&entry.key);
    let kind_is_known = table.get("kind").is_none_or(|kind| {
        let Some(Kind::Choice(choices)) = Service::SECTION.key("kind").map(|key| key.kind) else {
            return true;
        };
        kind.text().is_some_and(|text| choices.iter().any(|choice| choice.name == text))
    });
    if !kind_is_known {
        return;
    }
    let role = Role::of(table);
    let (run, folder) = (table.entry("run"), table.entry("static"));
    if let (Some(run), Some(folder)) = (run, folder) {
        let fault = Fault::new(format!("service {name} has both `run` and `static`"))
            .at(run.key_span.clone(), "a command")
            .and(folder.key_span.clone(), "a folder")
            .hint("make two services of it and say in `[routes]` which path leads to which");
        cx.fault(fault);
        return;
    }
    if run.is_none() && folder.is_none() && !cx.is_misspelt("run") && !cx.is_misspelt("static") {
        let header = if table.span.is_empty() { entry.key_span.clone() } else { table.span.clone() };
        let example = if role == Role::Web { "node server.js" } else { "node worker.js" };
        let other = if role == Role::Web { ", or `static = \"dist\"` to serve a folder" } else { "" };
        let fault = Fault::new(format!("service {name} has nothing to run"))
            .at(header, if role == Role::Web { "neither `run` nor `static`" } else { "no `run`" })
            .hint(format!("add the command that starts it, `run = \"{example}\"`{other}"));
        cx.fault(fault);
    }
    for set in &table.entries {
        let Some(key) = Service::SECTION.key(&set.key) else { continue };
        if key.only.is_empty() || key.only.contains(&role) || key.name == "run" {
            continue;
        }
        let hint = match (key.name, role) {
            ("schedule", _) => "add `kind = \"cron\"`, or remove the line".to_owned(),
            ("static", _) => "remove `kind`: a folder is served by the edge".to_owned(),
            _ => "remove the line".to_owned(),
        };
        let fault = Fault::new(format!("`{}` means nothing here: {name} is {}", key.name, role.noun()))
            .at(set.key_span.clone(), format!("only for {}", roles(key.only)))
            .hint(hint);
        cx.fault(fault);
    }
    if role == Role::Cron && table.get("schedule").is_none() && !cx.is_misspelt("schedule") {
        let kind = table.get("kind").map_or(entry.key_span.clone(), |kind| kind.span.clone());
        let fault = Fault::new(format!("cron service {name} has no `schedule`"))
            .at(kind, "runs at set times")
            .hint("say when: `schedule = \"30 3 * * *\"` (every night at half past three, UTC) or `schedule = \"@hourly\"`");
        cx.fault(fault);
    }
    if let (Some(port), Some(instances)) = (table.entry("port"), table.entry("instances")) {
        let above_one = |node: &Node| matches!(node.data, Data::Integer(number) if number > 1);
        let several = above_one(&instances.node)
            || instances
                .node
                .table()
                .is_some_and(|range| range.entries.iter().any(|entry| above_one(&entry.node)));
        if several && role == Role::Web {
            let fault = Fault::new(format!("service {name} has a fixed port and several instances"))
                .at(port.key_span.clone(), "only one can listen on it")
                .and(instances.key_span.clone(), "more than one")
                .hint("remove `port` and let the app listen on `$PORT`, or set `instances = 1`");
            cx.fault(fault);
        }
    }
}

fn roles(roles: &[Role]) -> String {
    let names: Vec<&str> = roles
        .iter()
        .map(|role| match role {
            Role::Web => "web",
            Role::Static => "static",
            Role::Worker => "worker",
            Role::Cron => "cron",
        })
        .collect();
    match &names[..] {
        [first @ .., last] if !first.is_empty() => format!("{} and {last} services", first.join(", ")),
        _ => format!("{} services", names.concat()),
    }
}

fn check_edge(root: &Table, cx: &mut Reader<'_>) {
    let Some(edge) = root.get_table("edge") else { return };
    for (one, other) in [("certificate", "key"), ("key", "certificate")] {
        if let (Some(set), None) = (edge.entry(one), edge.entry(other)) {
            let fault = Fault::new(format!("`edge.{one}` needs `edge.{other}`"))
                .at(set.key_span.clone(), "one without the other")
                .hint(format!("add the file with the {other}: `{other} = \"/etc/ssl/shop.pem\"`, or remove this line and let klar get a certificate"));
            cx.fault(fault);
        }
    }
    if let (Some(https), Some(http)) = (edge.get("https_port"), edge.get("http_port"))
        && let (Data::Integer(one), Data::Integer(two)) = (&https.data, &http.data)
        && one == two
    {
        let fault = Fault::new("HTTPS and HTTP cannot share a port")
            .at(https.span.clone(), "HTTPS")
            .and(http.span.clone(), "HTTP")
            .hint("remove one of the two lines");
        cx.fault(fault);
    }
}

/// Decides what each store is, where, and under which name services learn its address.
fn decide_stores(
    read: &[(ServiceName, Option<StoreKeys>, Entry)],
    cx: &mut Reader<'_>,
    notes: &mut Vec<Note>,
) -> BTreeMap<ServiceName, Store> {
    let mut known = Vec::new();
    for (name, keys, entry) in read {
        let Some(table) = entry.node.table() else { continue };
        let header = if table.span.is_empty() { entry.key_span.clone() } else { table.span.clone() };
        let kinds: Vec<&Entry> =
            table.entries.iter().filter(|set| StoreKeys::SECTION.alternatives.contains(&&*set.key)).collect();
        cx.path = vec!["data".into(), entry.key.clone()];
        let misspelt = StoreKeys::SECTION.alternatives.iter().any(|key| cx.is_misspelt(key));
        cx.path.clear();
        match &kinds[..] {
            [] if misspelt => {}
            [] => cx.fault(
                Fault::new(format!("store {} does not say what it is", quote(&entry.key)))
                    .at(header, "neither `postgres`, `redis` nor `url`")
                    .hint("add `postgres = \"managed\"` or `redis = \"managed\"` for one that klar runs, or `url = \"env:DATABASE_URL\"`"),
            ),
            [_] => {}
            [first, second, ..] => cx.fault(
                Fault::new(format!("store {} is two things at once", quote(&entry.key)))
                    .at(second.key_span.clone(), format!("and `{}`", second.key))
                    .and(first.key_span.clone(), format!("`{}`", first.key))
                    .hint("make two stores of it, each in a table of its own: `[data.db]`, `[data.cache]`"),
            ),
        }
        let Some(keys) = keys else { continue };
        let (engine, place) = match (&keys.postgres, &keys.redis, &keys.url) {
            (Some(place), ..) => (Engine::Postgres, place.clone()),
            (None, Some(place), _) => (Engine::Redis, place.clone()),
            (None, None, Some(url)) => {
                let engine = guess_engine(name, url);
                let key = if engine == Engine::Redis { "redis" } else { "postgres" };
                let path = format!("data.{name}.url");
                let other = if engine == Engine::Redis { "postgres" } else { "redis" };
                notes.push(Note::decided(
                    path,
                    format!("the store `{name}` is taken for {engine}, by its name and that of its address"),
                    format!("say it outright with `{key} = \"{url}\"`, or `{other} = \"{url}\"` if it is the other"),
                ));
                (engine, Place::Url(url.clone()))
            }
            (None, None, None) => continue,
        };
        known.push((name.clone(), engine, place, keys.env.clone(), entry.clone()));
    }

    let mut stores = BTreeMap::new();
    let mut names: BTreeMap<VarName, ServiceName> = BTreeMap::new();
    for engine in [Engine::Postgres, Engine::Redis] {
        let of_kind = || known.iter().filter(move |(_, kind, ..)| *kind == engine);
        let usual =
            VarName::known(if engine == Engine::Postgres { "DATABASE_URL" } else { "REDIS_URL" }.into());
        let usual_is_taken = known.iter().any(|(_, _, _, env, _)| env.as_ref() == Some(&usual));
        let mut unnamed = of_kind().filter(|(_, _, _, env, _)| env.is_none());
        let first = if usual_is_taken {
            None
        } else {
            unnamed
                .clone()
                .find(|(name, ..)| matches!(name.as_str(), "db" | "database" | "redis" | "cache"))
                .or_else(|| unnamed.next())
                .map(|(name, ..)| name)
        };
        for (name, engine, place, env, entry) in of_kind() {
            let own = format!("{}_URL", name.as_str().to_ascii_uppercase().replace('-', "_"));
            let chosen = match env {
                Some(env) => env.clone(),
                None => {
                    let (chosen, because) = if first == Some(name) {
                        (usual.clone(), format!("the usual name for {engine}"))
                    } else {
                        (VarName::known(own), format!("another store has `{usual}`"))
                    };
                    cx.record(
                        format!("data.{name}.env"),
                        Some(toml_string(chosen.as_str())),
                        Whence::Default(because),
                    );
                    chosen
                }
            };
            if let Some(other) = names.insert(chosen.clone(), name.clone()) {
                let span = entry
                    .node
                    .table()
                    .and_then(|table| table.get("env"))
                    .map_or(entry.key_span.clone(), |env| env.span.clone());
                let fault = Fault::new(format!(
                    "stores `{other}` and `{name}` hand over their address in the same variable"
                ))
                .at(span, format!("`{chosen}` is taken"))
                .hint(format!(
                    "give this one another: `env = \"{}_URL\"`",
                    name.as_str().to_ascii_uppercase().replace('-', "_")
                ));
                cx.fault(fault);
            }
            stores.insert(name.clone(), Store { engine: *engine, place: place.clone(), env: chosen });
        }
    }
    stores
}

fn guess_engine(name: &ServiceName, url: &SecretRef) -> Engine {
    let text = format!("{name} {url}").to_ascii_lowercase();
    if ["redis", "valkey", "cache"].iter().any(|word| text.contains(word)) {
        Engine::Redis
    } else {
        Engine::Postgres
    }
}

/// The routes of an app that has none in its file.
fn default_routes(facts: &Facts, cx: &mut Reader<'_>, notes: &mut Vec<Note>) -> Vec<Route> {
    let services =
        facts.root.get_table("services").map(|services| services.entries.as_slice()).unwrap_or_default();
    let of_role = |role: Role| -> Vec<&Entry> {
        services
            .iter()
            .filter(|entry| entry.node.table().is_some_and(|table| Role::of(table) == role))
            .filter(|entry| ServiceName::new(entry.key.as_str()).is_ok())
            .collect()
    };
    let (web, folders) = (of_role(Role::Web), of_role(Role::Static));
    let chosen: Vec<(&str, &Entry)> = match (&web[..], &folders[..]) {
        ([], []) => return Vec::new(),
        ([only], []) | ([], [only]) => vec![("/*", *only)],
        ([web], [folder]) => {
            notes.push(Note::decided(
                "routes",
                format!(
                    "`/api/*` leads to `{}` and everything else to `{}`, because the file has no [routes]",
                    web.key, folder.key
                ),
                format!(
                    "to change it, write\n[routes]\n\"/api/*\" = \"{}\"\n\"/*\" = \"{}\"",
                    web.key, folder.key
                ),
            ));
            vec![("/api/*", *web), ("/*", *folder)]
        }
        _ => {
            let mut all: Vec<&Entry> = web.iter().chain(&folders).copied().collect();
            all.sort_by_key(|entry| entry.key_span.start);
            let lines = all.iter().enumerate().map(|(at, entry)| {
                let path = if at + 1 == all.len() { "/*".to_owned() } else { format!("/{}/*", entry.key) };
                format!("\"{path}\" = \"{}\"", entry.key)
            });
            let hint = format!(
                "say which path leads to which, for instance\n\n[routes]\n{}\n",
                lines.collect::<Vec<_>>().join("\n")
            );
            let mut fault =
                Fault::new(format!("{} services could answer requests, and there are no routes", all.len()));
            for (at, entry) in all.iter().enumerate().take(6) {
                let span = entry.key_span.clone();
                fault =
                    if at == 0 { fault.at(span, "could answer") } else { fault.and(span, "could answer") };
            }
            cx.fault(fault.hint(hint));
            return Vec::new();
        }
    };
    let mut routes = Vec::new();
    for (path, entry) in chosen {
        let to = Entry { key: "to".into(), key_span: 0..0, node: Node::made(Data::Text(entry.key.clone())) };
        let table = Table { entries: vec![to], span: 0..0 };
        cx.path = vec!["routes".into(), path.into()];
        let policy = RoutePolicy::read(&table, cx);
        let because = "the file has no [routes]".to_owned();
        cx.record(cx.path_of("to"), Some(toml_string(&entry.key)), Whence::Default(because));
        cx.path.clear();
        if let (Ok(pattern), Some(policy)) = (Pattern::new(path), policy) {
            routes.push(Route { pattern, policy });
        }
    }
    routes
}

/// What klar decided that its user may want to know about.
fn note_decisions(config: &Config, facts: &Facts, root: &Table, notes: &mut Vec<Note>) {
    let environments = root.get_table(ENV).map(|table| table.entries.as_slice()).unwrap_or_default();
    if !config.env.is_default() && !environments.iter().any(|entry| entry.key == config.env.as_str()) {
        let nearest =
            suggest::nearest(config.env.as_str(), environments.iter().map(|entry| entry.key.as_str()));
        let hint = match nearest {
            Some(meant) => format!("did you mean `--env {meant}`?"),
            None => format!("what should be different there goes into `[env.{}]`", config.env),
        };
        let message =
            format!("the file says nothing about the environment `{}`, so it is as prod", config.env);
        notes.push(Note { warning: nearest.is_some(), key: None, message, hint: Some(hint) });
    }
    for (name, service) in &config.services {
        if service.role() == Role::Web {
            note_instances(name, service, facts, notes);
        }
        let reachable = config.routes.iter().any(|route| route.policy.to == *name);
        if matches!(service.role(), Role::Web | Role::Static) && !reachable {
            notes.push(Note::warning(
                format!("services.{name}"),
                format!("no route leads to `{name}`, so nobody can reach it"),
                format!("add one to [routes]: `\"/{name}/*\" = \"{name}\"`"),
            ));
        }
    }
    note_databases(config, facts, notes);
    if !config.routes.is_empty()
        && !config
            .routes
            .iter()
            .any(|route| route.pattern.is_catch_all() || route.pattern == Pattern::Exact("/".into()))
    {
        notes.push(Note::warning(
            "routes",
            "no route takes `/`, so the front page is not found",
            format!("add `\"/*\" = {}`", toml_string(config.routes[0].policy.to.as_str())),
        ));
    }
}

fn note_instances(name: &ServiceName, service: &Service, facts: &Facts, notes: &mut Vec<Note>) {
    let key = format!("services.{name}.instances");
    let said = facts
        .root
        .get_table("services")
        .and_then(|services| services.get_table(name.as_str()))
        .is_some_and(|table| table.get("instances").is_some());
    if let Some(port) = service.port {
        if !said {
            notes.push(Note::decided(
                key,
                format!("1 instance of `{name}`, because it insists on port {port}"),
                "let the app listen on `$PORT` and remove `port`, so that a second one can take over",
            ));
        }
        return;
    }
    let Some(file) = facts.sqlite_in_use().first() else { return };
    if !said {
        notes.push(Note::decided(
            key,
            format!("1 instance of `{name}`, because a SQLite file was found at {}", file.display()),
            "if the service does not write to it, set `instances = { min = 2, max = 10 }`",
        ));
    } else if service.instances.max > 1 {
        notes.push(Note::warning(
            key,
            format!(
                "up to {} instances of `{name}` may share the SQLite file at {}",
                service.instances.max,
                file.display()
            ),
            "set `instances = 1` unless the service does not write to it",
        ));
    }
}

fn note_databases(config: &Config, facts: &Facts, notes: &mut Vec<Note>) {
    for file in facts.sqlite_in_use() {
        let kept =
            config.services.values().flat_map(|service| &service.writable).any(|dir| file.starts_with(dir));
        if kept {
            continue;
        }
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
        let hint = match dir {
            Some(dir) => format!(
                "add `writable = [{}]` to the service that uses it",
                toml_string(&dir.display().to_string())
            ),
            None => format!(
                "move it into a folder of its own, for instance `data/{}`, and add `writable = [\"data\"]` to its service",
                file.display()
            ),
        };
        notes.push(Note::warning(
            "services",
            format!("the SQLite file {} is in no writable folder: the app cannot write to it, and it is not backed up", file.display()),
            hint,
        ));
    }
}
