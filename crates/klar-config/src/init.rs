//! `klar init`: the first `klar.toml` of an app that has none, guessed from the app's folder.
//!
//! Every line that is written carries the reason for it, in the file and as a [`Guess`]; what cannot be guessed is
//! asked for ([`Draft::asks`]). `node.rs` and `python.rs` know one language each, `folder.rs` bounds what is read;
//! this file joins what they found with what is true of any app (Procfile, databases, health path) and writes it.
//!
//! **Invariant:** a draft is a file that [`Config::parse`] accepts.
//! **Invariant:** no process is started, nothing is written, and no file behind a link is read.

mod folder;
mod node;
mod python;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use klar_base::{AppName, EnvName, ServiceName};
use serde::Serialize;

use self::folder::Folder;
use crate::keys::ROOTS;
use crate::load::{Config, TEMPLATE};
use crate::tree::{toml_key, toml_string};

/// The text of a first `klar.toml`, and why it is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Draft {
    /// The file.
    pub toml: String,
    /// What was guessed, in the order of the file.
    pub guesses: Vec<Guess>,
    /// What only the user can know or do, most important first.
    pub asks: Vec<String>,
}

/// One line of a draft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guess {
    /// The setting: `services.web.run = "node server.js"`.
    pub what: String,
    /// What it was guessed from.
    pub because: String,
}

/// No draft can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// There is something else in this place.
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// The folder cannot be read.
    #[error("{} cannot be read: {reason}", .dir.display())]
    Unreadable {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// There is nothing in it that klar knows how to run.
    #[error("nothing in {} says how the app is run", .0.display())]
    Unknown(PathBuf),
    /// What was found cannot be written down.
    #[error("what was found in {} makes no usable klar.toml: {reason}", .dir.display())]
    Unusable {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with the draft.
        reason: String,
    },
}

impl klar_base::Hint for InitError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotAFolder(_) => "name the folder that holds the app".into(),
            Self::Unreadable { .. } => "run klar as somebody who may read the app's folder".into(),
            Self::Unknown(_) => format!(
                "klar looked for package.json, requirements.txt, pyproject.toml, manage.py, Procfile, go.mod and \
                 index.html; if the app is run in another way, write klar.toml yourself:\n\n{TEMPLATE}"
            ),
            Self::Unusable { .. } => format!("write klar.toml yourself:\n\n{TEMPLATE}"),
        })
    }
}

/// A value and what it was guessed from.
#[derive(Debug, Clone)]
struct Said {
    value: String,
    because: String,
}

impl Said {
    fn new(value: impl Into<String>, because: impl Into<String>) -> Self {
        Self { value: value.into(), because: because.into() }
    }

    fn toml(self) -> Self {
        Self { value: toml_string(&self.value), because: self.because }
    }
}

/// What a language's files say about an app.
#[derive(Debug, Default)]
struct Found {
    name: Option<Said>,
    build: Option<Said>,
    release: Option<Said>,
    run: Option<Said>,
    static_dir: Option<Said>,
    health: Option<Said>,
    /// Folders that it writes to.
    writable: Vec<(String, String)>,
    /// Variables: name, TOML, reason.
    env: Vec<(&'static str, String, String)>,
    /// Why there may be one instance only.
    single: Option<String>,
    /// Whether `run` already tells the app where to listen.
    knows_port: bool,
    packages: BTreeSet<String>,
    asks: Vec<String>,
    /// What is rarely amiss.
    last_ask: Option<String>,
}

/// The draft before it is text: tables, each with keys in TOML and reasons.
#[derive(Default)]
struct Plan {
    tables: BTreeMap<String, BTreeMap<String, Said>>,
    asks: Vec<String>,
}

impl Plan {
    fn set(&mut self, table: &str, key: &str, said: Said) {
        self.tables.entry(table.into()).or_default().insert(key.into(), said);
    }

    fn ask(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.asks.contains(&what) {
            self.asks.push(what);
        }
    }
}

/// Guesses the `klar.toml` of the app in `dir`.
///
/// # Errors
/// [`InitError`] when the folder cannot be read, or nothing in it says how the app is run.
pub fn guess(dir: &Path) -> Result<Draft, InitError> {
    let folder = Folder::open(dir)?;
    let mut plan = Plan::default();
    let procfile = procfile(&folder);
    let mut found = language(&folder);
    name_app(&folder, found.name.take(), &mut plan);
    plan.asks.append(&mut found.asks);

    let has_web = plan_services(&folder, &procfile, &mut found, &mut plan);
    if plan.tables.len() < 2 {
        return Err(InitError::Unknown(dir.to_owned()));
    }
    plan_stores(&folder, &found.packages, &mut plan);
    if has_web {
        plan_static_beside(&folder, &mut plan);
    }
    plan_secrets(&folder, &mut plan);
    plan.asks.extend(found.last_ask);

    let (toml, guesses) = write(&plan);
    match Config::parse(&toml, "klar.toml", &EnvName::default()) {
        Ok(_) => Ok(Draft { toml, guesses, asks: plan.asks }),
        Err(errors) => {
            let reason = errors.errors().first().map(ToString::to_string).unwrap_or_default();
            Err(InitError::Unusable { dir: dir.to_owned(), reason })
        }
    }
}

/// What the languages in the folder say together: the one that runs, built after the other.
fn language(folder: &Folder) -> Found {
    let (node, python) = (node::look(folder), python::look(folder));
    let (mut found, other) = match (node, python) {
        (Some(node), Some(python)) if python.run.is_some() && node.run.is_none() => (python, Some(node)),
        (Some(node), python) => (node, python),
        (None, Some(python)) => (python, None),
        (None, None) => (go(folder).unwrap_or_default(), None),
    };
    if let Some(other) = other {
        // The other language makes the pages, or helps with the build.
        found.packages.extend(other.packages);
        found.build = match (other.build, found.build.take()) {
            (Some(first), Some(then)) => Some(Said::new(
                format!("{} && {}", first.value, then.value),
                format!("{}; {}", first.because, then.because),
            )),
            (first, then) => first.or(then),
        };
    }
    found
}

fn go(folder: &Folder) -> Option<Found> {
    let text = folder.text("go.mod")?;
    let module = text.lines().find_map(|line| line.strip_prefix("module "))?.trim().trim_matches('"');
    let name = module.rsplit('/').next().unwrap_or(module);
    let mut found = Found { name: Some(Said::new(name, "that is the module in go.mod")), ..Found::default() };
    if folder.has("main.go") {
        found.build = Some(Said::new("go build -o bin/app .", "go.mod and main.go are there"));
        found.run = Some(Said::new("./bin/app", "`build` makes it"));
    }
    Some(found)
}

fn name_app(folder: &Folder, said: Option<Said>, plan: &mut Plan) {
    let of_folder = || {
        let dir = folder.dir.canonicalize().ok()?;
        let name = dir.file_name()?.to_string_lossy().into_owned();
        Some(Said::new(name, "that is the name of the folder"))
    };
    let usable = |said: Said| {
        let name = valid_name(&said.value)?;
        let because = if name == said.value { said.because } else { format!("{}, made valid", said.because) };
        Some(Said::new(name, because))
    };
    let name = said.and_then(usable).or_else(|| of_folder().and_then(usable));
    let name = name.unwrap_or_else(|| Said::new("app", "nothing in the folder has a usable name"));
    plan.set("app", "name", name.toml());
}

/// The nearest name that klar takes.
fn valid_name(text: &str) -> Option<String> {
    let mut name = String::new();
    for c in text.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            _ if name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let name: String = name.trim_start_matches(|c: char| !c.is_ascii_lowercase()).chars().take(32).collect();
    let name = name.trim_end_matches('-');
    AppName::new(name).ok().map(|name| name.to_string())
}

/// The lines of a Procfile: `web: gunicorn shop.wsgi`.
fn procfile(folder: &Folder) -> Vec<(String, String)> {
    let text = folder.text("Procfile").unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let named = lines.filter_map(|line| line.split_once(':'));
    let named = named.map(|(name, command)| (name.trim().to_owned(), command.trim().to_owned()));
    named.filter(|(_, command)| !command.is_empty()).take(32).collect()
}

/// The command of a Procfile as klar runs it: with the packages of the app, and out of the network's reach.
fn from_procfile(name: &str, command: &str, folder: &Folder, python: bool) -> Said {
    let mut because = format!("the Procfile has a line `{name}`");
    let mut command = command.replace("${PORT}", "$PORT");
    let first = command.split_whitespace().next().unwrap_or_default().to_owned();
    let tool = [
        "gunicorn",
        "uvicorn",
        "celery",
        "flask",
        "hypercorn",
        "daphne",
        "rq",
        "huey_consumer",
        "waitress-serve",
    ]
    .contains(&first.as_str());
    if python && (tool || first == "python" || first == "python3") {
        command = format!(".venv/bin/{command}");
        because.push_str("; its tools are in .venv, where `build` puts them");
    }
    if command.contains("0.0.0.0") {
        command = command.replace("0.0.0.0", "127.0.0.1");
        because.push_str("; only klar's edge has to reach it");
    }
    if name == "web" && first == "gunicorn" && !command.contains("--bind") && !command.contains(" -b") {
        command = command.replacen("gunicorn", "gunicorn --bind 127.0.0.1:$PORT", 1);
        because.push_str("; it must listen on klar's port");
    }
    if folder.has("package.json") && command == "npm start" {
        because.push_str(", and package.json has a start script");
    }
    Said::new(command, because)
}

/// Plans what runs. Returns whether a process answers requests.
fn plan_services(folder: &Folder, procfile: &[(String, String)], found: &mut Found, plan: &mut Plan) -> bool {
    let python = found
        .build
        .as_ref()
        .is_some_and(|build| build.value.contains(".venv") || build.value.contains("uv sync"));
    let mut first: Option<String> = None;
    let mut web = None;
    for (name, command) in procfile.iter().filter(|(name, _)| name != "release") {
        let Some(service) = valid_name(name).filter(|name| ServiceName::new(name.as_str()).is_ok()) else {
            continue;
        };
        let table = format!("services.{service}");
        let said = from_procfile(name, command, folder, python);
        if name == "web" {
            found.knows_port |= said.value.contains("$PORT");
            web = Some(table.clone());
        } else {
            let because = format!("only `web` answers requests in a Procfile, and this is `{name}`");
            plan.set(&table, "kind", Said::new("\"worker\"", because));
        }
        plan.set(&table, "run", said.toml());
        if first.is_none() || name == "web" {
            first = Some(table);
        }
    }
    if web.is_none()
        && let Some(run) = found.run.clone()
    {
        plan.set("services.web", "run", run.toml());
        web = Some("services.web".into());
        first = web.clone();
    }
    let release = procfile.iter().find(|(name, _)| name == "release");
    let release =
        release.map(|(name, command)| from_procfile(name, command, folder, python)).or(found.release.take());
    if let Some(first) = &first {
        for (key, said) in [("build", found.build.take()), ("release", release)] {
            said.into_iter().for_each(|said| plan.set(first, key, said.toml()));
        }
    }
    let Some(web) = web else {
        return if first.is_some() { false } else { plan_static(folder, found, plan) };
    };
    plan_web(folder, &web, found, plan);
    true
}

fn plan_web(folder: &Folder, web: &str, found: &mut Found, plan: &mut Plan) {
    let scanned = || {
        let (path, file) = folder.health()?;
        Some(Said::new(path, format!("{} has it", file.display())))
    };
    if let Some(health) = found.health.take().or_else(scanned) {
        plan.set(web, "health", health.toml());
    }
    if !found.knows_port {
        if let Some((port, file)) = folder.fixed_port() {
            let because =
                format!("{} listens on it; better let it listen on $PORT and remove this", file.display());
            plan.set(web, "port", Said::new(port.to_string(), because));
        } else if folder.mentions(&["PORT"]).is_none() {
            plan.ask("see that the app listens on 127.0.0.1:$PORT; klar did not find where it reads PORT");
        }
    }
    if !found.env.is_empty() {
        let pairs: Vec<String> = found.env.iter().map(|(name, toml, _)| format!("{name} = {toml}")).collect();
        let because: Vec<&str> = found.env.iter().map(|(.., because)| because.as_str()).collect();
        let because = because.join("; ");
        plan.set(web, "env", Said::new(format!("{{ {} }}", pairs.join(", ")), because));
    }
    for name in ["uploads", "media"] {
        if folder.has_dir(name) && found.writable.iter().all(|(dir, _)| dir != name) {
            found
                .writable
                .push((name.into(), format!("the folder {name} is there, and by its name the app fills it")));
        }
    }
    let prisma = prisma(folder);
    let postgres =
        prisma.as_deref() == Some("postgresql") || POSTGRES.iter().any(|name| found.packages.contains(*name));
    if !postgres {
        plan_sqlite(folder, prisma.as_deref() == Some("sqlite"), found, plan);
    }
    if matches!(prisma.as_deref(), Some("postgresql" | "sqlite")) {
        let because = "the schema of Prisma is there; this brings the database up to it";
        plan.set(web, "release", Said::new("npx prisma migrate deploy", because).toml());
    }
    if !found.writable.is_empty() {
        let dirs: Vec<String> = found.writable.iter().map(|(dir, _)| toml_string(dir)).collect();
        let because: BTreeSet<&str> = found.writable.iter().map(|(_, because)| because.as_str()).collect();
        let because = because.into_iter().collect::<Vec<_>>().join("; ");
        plan.set(web, "writable", Said::new(format!("[{}]", dirs.join(", ")), because));
    }
    let fixed = plan.tables.get(web).is_some_and(|table| table.contains_key("port"));
    if let Some(because) = found.single.take().filter(|_| !fixed) {
        plan.set(web, "instances", Said::new("1", because));
    }
}

fn plan_sqlite(folder: &Folder, prisma: bool, found: &mut Found, plan: &mut Plan) {
    for file in &folder.sqlite {
        let shown = file.display();
        found
            .single
            .get_or_insert_with(|| format!("{shown} is a SQLite database, which one process writes to"));
        let dir = file.parent().and_then(Path::to_str).filter(|dir| !dir.is_empty());
        match dir {
            Some("prisma") | None => plan.ask(format!(
                "move {shown} into a folder of its own, such as data/, and add `writable = [\"data\"]` to [services.web]: \
                 the app can write to such folders only"
            )),
            Some(dir) if found.writable.iter().any(|(known, _)| known == dir) => {}
            Some(dir) => found.writable.push((dir.into(), format!("{shown} is a SQLite database in it"))),
        }
    }
    if prisma {
        found
            .single
            .get_or_insert_with(|| "the schema of Prisma says SQLite, which one process writes to".into());
        if found.writable.is_empty() {
            found.writable.push((
                "data".into(),
                "the SQLite database of Prisma needs a folder that outlives releases".into(),
            ));
            plan.ask(
                "let Prisma keep its database in data/: `url = \"file:../data/app.db\"` in the schema, or \
                 `env = { DATABASE_URL = { plain = \"file:../data/app.db\" } }` in [services.web]",
            );
        }
    }
}

/// The provider in Prisma's schema.
fn prisma(folder: &Folder) -> Option<String> {
    let text = folder.text("prisma/schema.prisma").or_else(|| folder.text("schema.prisma"))?;
    let block = text.split_once("datasource ")?.1;
    let block = block.split('}').next()?;
    let line = block.lines().find_map(|line| line.trim().strip_prefix("provider"))?;
    Some(line.trim_start_matches([' ', '\t', '=']).trim().trim_matches('"').to_owned())
}

/// A folder of pages is the whole app.
fn plan_static(folder: &Folder, found: &mut Found, plan: &mut Plan) -> bool {
    let there = ["dist", "build", "public", "out", "www", "_site"];
    let there = there.into_iter().find(|dir| folder.has(&format!("{dir}/index.html")));
    let dir = found.static_dir.take().or_else(|| {
        let dir = there?;
        Some(Said::new(dir, format!("{dir}/index.html is there, and no command to run")))
    });
    if let Some(dir) = dir {
        let made = found.build.take();
        plan.set("services.web", "static", dir.toml());
        made.into_iter().for_each(|build| plan.set("services.web", "build", build.toml()));
    } else if folder.has("index.html") {
        plan.ask("put index.html and what belongs to it into a folder such as public/: klar serves a folder, never all of the app's");
        plan.set(
            "services.web",
            "static",
            Said::new("\"public\"", "index.html is there, and no command to run"),
        );
    } else if let Some(build) = found.build.take() {
        // The language is clear, the command is not.
        let example = if folder.has("package.json") { "node server.js" } else { ".venv/bin/python app.py" };
        plan.asks.insert(
            0,
            format!("say in `run` of [services.web] how the app is started; `{example}` is a placeholder"),
        );
        plan.set(
            "services.web",
            "run",
            Said::new(toml_string(example), "klar found no start command; change this line"),
        );
        plan.set("services.web", "build", build.toml());
        plan_web(folder, "services.web", found, plan);
        return true;
    }
    false
}

/// A server, and a folder of pages that it does not serve itself.
fn plan_static_beside(folder: &Folder, plan: &mut Plan) {
    let Some(dir) =
        ["dist", "build", "public"].into_iter().find(|dir| folder.has(&format!("{dir}/index.html")))
    else {
        return;
    };
    if plan.tables.contains_key("services.pages") || folder.mentions(&[dir]).is_some() {
        return;
    }
    let api = ["\"/api", "'/api", "`/api"].iter().find_map(|text| folder.source_with(text));
    let Some(api) = api.filter(|_| plan.tables.contains_key("services.web")) else {
        return plan.ask(format!(
            "{dir}/index.html is there: if the app does not serve {dir}/ itself, add `[services.pages]` with `static = \"{dir}\"`, \
             and [routes]"
        ));
    };
    let because = format!("{dir}/index.html is there, and no source mentions the folder");
    plan.set("services.pages", "static", Said::new(dir, because).toml());
    plan.set("services.pages", "spa", Said::new("true", "a path that is no file is drawn by the page"));
    plan.set("routes", "/api/*", Said::new("\"web\"", format!("{} answers below /api", api.display())));
    plan.set("routes", "/*", Said::new("\"pages\"", "all else is a file or a page"));
}

const POSTGRES: [&str; 13] = [
    "pg",
    "postgres",
    "pg-promise",
    "pg-native",
    "@neondatabase/serverless",
    "psycopg",
    "psycopg2",
    "psycopg2-binary",
    "psycopg-binary",
    "asyncpg",
    "pg8000",
    "aiopg",
    "slonik",
];
const REDIS: [&str; 12] = [
    "redis",
    "ioredis",
    "bull",
    "bullmq",
    "connect-redis",
    "bee-queue",
    "django-redis",
    "rq",
    "aioredis",
    "huey",
    "celery-redis",
    "arq",
];
const OTHER_STORES: [(&str, &str); 10] = [
    ("mysql", "MySQL"),
    ("mysql2", "MySQL"),
    ("pymysql", "MySQL"),
    ("mysqlclient", "MySQL"),
    ("mariadb", "MariaDB"),
    ("mongodb", "MongoDB"),
    ("mongoose", "MongoDB"),
    ("pymongo", "MongoDB"),
    ("@elastic/elasticsearch", "Elasticsearch"),
    ("amqplib", "RabbitMQ"),
];

fn plan_stores(folder: &Folder, packages: &BTreeSet<String>, plan: &mut Plan) {
    let used = |names: &[&str]| {
        names.iter().find(|name| packages.contains(**name)).map(|name| format!("the app depends on {name}"))
    };
    let prisma = prisma(folder);
    let by_prisma =
        (prisma.as_deref() == Some("postgresql")).then(|| "the schema of Prisma says PostgreSQL".to_owned());
    if let Some(because) = by_prisma.or_else(|| used(&POSTGRES)) {
        plan.set("data.db", "postgres", Said::new("\"managed\"", because));
        store_variable(
            "data.db",
            folder,
            &[
                "DATABASE_URL",
                "POSTGRES_URL",
                "POSTGRESQL_URL",
                "PG_URL",
                "DB_URL",
                "DATABASE_URI",
                "POSTGRES_URI",
                "PG_CONNECTION_STRING",
            ],
            plan,
        );
    }
    if let Some(because) = used(&REDIS) {
        plan.set("data.cache", "redis", Said::new("\"managed\"", because));
        store_variable(
            "data.cache",
            folder,
            &["REDIS_URL", "REDIS_URI", "REDIS_CONNECTION_STRING", "CACHE_URL", "CELERY_BROKER_URL"],
            plan,
        );
    }
    for (package, engine) in OTHER_STORES {
        if packages.contains(package) {
            plan.ask(format!(
                "klar does not run {engine}, which the app uses ({package}): hand over its address as a secret in `env` of the service"
            ));
        }
    }
}

/// The variable from which the app reads the address of its store.
fn store_variable(table: &str, folder: &Folder, names: &[&str], plan: &mut Plan) {
    match folder.mentions(names) {
        Some((name, file)) if name != names[0] => {
            let because = format!("{} reads it", file.display());
            plan.set(table, "env", Said::new(toml_string(name), because));
        }
        Some(_) => {}
        None if folder.has("prisma/schema.prisma") && names[0] == "DATABASE_URL" => {}
        None => plan.ask(format!(
            "let the app take the address of [{table}] from {}; klar did not find where it reads it",
            names[0]
        )),
    }
}

fn plan_secrets(folder: &Folder, plan: &mut Plan) {
    if folder.has(".env") {
        let because = "secrets do not belong into releases";
        plan.set("app", "ignore", Said::new("[\".env\"]", because));
        plan.ask("what .env sets is not part of a release: add it as `env = { NAME = \"...\" }` to the service, secrets as `\"env:NAME\"`");
    }
    for name in folder.wanted_secrets().iter().take(16) {
        plan.ask(format!(
            "the app reads {name}: set it in the shell that deploys, and add `{name} = \"env:{name}\"` to `env` of the service"
        ));
    }
}

/// The text of the file, and its guesses.
fn write(plan: &Plan) -> (String, Vec<Guess>) {
    let mut toml = "# Guessed by `klar init` from what is in this folder. `klar explain` shows all other keys and their defaults.\n".to_owned();
    let mut guesses = Vec::new();
    let rank = |table: &str| {
        let root = table.split('.').next().unwrap_or_default();
        ROOTS.iter().position(|known| known.name == root)
    };
    let mut tables: Vec<_> = plan.tables.iter().collect();
    // `web` before its workers.
    tables.sort_by_key(|(table, _)| (rank(table), *table != "services.web", table.as_str()));
    for (table, keys) in tables {
        toml.push_str(&format!("\n[{table}]\n"));
        let mut keys: Vec<_> = keys.iter().collect();
        if table == "routes" {
            // The one for everything else comes last.
            keys.reverse();
        } else if let Some(root) = rank(table).and_then(|at| ROOTS.get(at)) {
            keys.sort_by_key(|(key, _)| root.section.keys.iter().position(|known| known.name == **key));
        }
        for (key, said) in keys {
            let line = format!("{} = {}", toml_key(key), said.value);
            // A comment cannot be left by what a file or folder is called.
            let because: String =
                said.because.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            toml.push_str(&format!("# because {because}\n{line}\n"));
            guesses.push(Guess { what: format!("{table}.{line}"), because });
        }
    }
    (toml, guesses)
}
