//! Apps for Node: what `package.json` and the lock file say.
//!
//! Commands of packages are run from `node_modules/.bin`, not by `npx`: that stays as a process of its own, and when
//! it is asked to end (SIGTERM), it ends without the app.

use std::collections::BTreeSet;

use serde_json::Value;

use super::folder::Folder;
use super::{Found, Said};

/// Packages that are a whole app, or serve a folder: the command, its port, and what it needs.
struct Known {
    package: &'static str,
    /// What follows `node_modules/.bin/`.
    command: &'static str,
    health: Option<&'static str>,
    /// A folder that it writes to, and the command that fills it before the first start.
    keeps: Option<(&'static str, &'static str)>,
}

const VERDACCIO_CONFIG: &str =
    "test -f data/config.yaml || cp node_modules/@verdaccio/config/build/conf/default.yaml data/config.yaml";

const KNOWN: [Known; 6] = [
    Known {
        package: "verdaccio",
        command: "verdaccio --config data/config.yaml --listen 127.0.0.1:$PORT",
        health: Some("/-/ping"),
        keeps: Some(("data", VERDACCIO_CONFIG)),
    },
    Known { package: "next", command: "next start -H 127.0.0.1 -p $PORT", health: None, keeps: None },
    Known { package: "http-server", command: "http-server -a 127.0.0.1 -p $PORT", health: None, keeps: None },
    Known { package: "serve", command: "serve -l tcp://127.0.0.1:$PORT", health: None, keeps: None },
    Known {
        package: "json-server",
        command: "json-server --host 127.0.0.1 --port $PORT db.json",
        health: None,
        keeps: None,
    },
    Known { package: "sirv-cli", command: "sirv --host 127.0.0.1 --port $PORT", health: None, keeps: None },
];

/// Tools that build a folder of static files, and where they put it.
const BUILDERS: [(&str, &str); 8] = [
    ("vite", "dist"),
    ("react-scripts", "build"),
    ("@angular/cli", "dist"),
    ("@vue/cli-service", "dist"),
    ("astro", "dist"),
    ("parcel", "dist"),
    ("gatsby", "public"),
    ("@docusaurus/core", "build"),
];

/// Servers for development: what starts one is no way to run in production.
const DEV_SERVERS: [&str; 9] = [
    "vite",
    "react-scripts start",
    "webpack serve",
    "webpack-dev-server",
    "ng serve",
    "vue-cli-service serve",
    "astro dev",
    "parcel",
    "gatsby develop",
];

pub(super) fn look(folder: &Folder) -> Option<Found> {
    let text = folder.text("package.json")?;
    let mut found = Found::default();
    let Ok(package) = serde_json::from_str::<Value>(text.trim_start_matches('\u{feff}')) else {
        found.asks.push("package.json cannot be read as JSON; correct it and run `klar init` again".into());
        return Some(found);
    };
    found.name = package["name"].as_str().map(|name| {
        let name = name.rsplit('/').next().unwrap_or(name);
        Said::new(name, "that is its name in package.json")
    });
    let names = |key: &str| -> BTreeSet<String> {
        package[key].as_object().into_iter().flat_map(|all| all.keys().cloned()).collect()
    };
    let (needs, dev) = (names("dependencies"), names("devDependencies"));
    found.packages = needs.clone();
    let script =
        |name: &str| package["scripts"][name].as_str().map(str::trim).filter(|text| !text.is_empty());

    start(folder, &package, &needs, &dev, script("start"), &mut found);
    if found.run.is_none()
        && let Some((tool, dir)) =
            BUILDERS.iter().find(|(tool, _)| needs.contains(*tool) || dev.contains(*tool))
        && script("build").is_some()
    {
        found.static_dir = Some(Said::new(*dir, format!("{tool} builds the pages into this folder")));
    }
    let needs_dev = script("build").is_some() || needs.contains("prisma") || dev.contains("prisma");
    build(folder, !needs.is_empty(), !dev.is_empty(), needs_dev, script("build"), &mut found);
    if found.run.is_some() {
        found.env.push((
            "NODE_ENV",
            "\"production\"".into(),
            "Node's packages are slower and show more of themselves without it".into(),
        ));
    }
    found.release = found.release.take().or_else(|| migration(folder, &script));
    found.last_ask = package["engines"]["node"]
        .as_str()
        .map(|node| format!("package.json wants Node {node}: see that `node --version` on the machine fits"));
    Some(found)
}

fn start(
    folder: &Folder,
    package: &Value,
    needs: &BTreeSet<String>,
    dev: &BTreeSet<String>,
    script: Option<&str>,
    found: &mut Found,
) {
    if let Some(script) = script {
        let because = format!("scripts.start in package.json is `{script}`");
        let plain = !script.contains(['&', '|', ';', '>', '<', '`', '\n']);
        let first = script.split_whitespace().next().unwrap_or_default();
        let hooked = package["scripts"]["prestart"].is_string();
        if let Some(known) = KNOWN.iter().find(|known| known.command.split(' ').next() == Some(first))
            && plain
        {
            return use_known(known, folder, because, found);
        }
        if DEV_SERVERS.iter().any(|server| script == *server || script.starts_with(&format!("{server} "))) {
            let can_build = package["scripts"]["build"].is_string();
            if can_build {
                return;
            }
        }
        let rest = script.strip_prefix(first).unwrap_or_default();
        found.run = Some(match first {
            "node" if plain && !hooked => Said::new(script, because),
            "nodemon" | "ts-node-dev" if plain && !hooked => {
                let runner = if first == "nodemon" { "node" } else { "node_modules/.bin/ts-node" };
                Said::new(
                    format!("{runner}{rest}"),
                    format!("{because}, which restarts when files change; klar does not need that"),
                )
            }
            _ => Said::new(format!("{} start", manager(folder).0), because),
        });
        return;
    }
    let exists = |path: &str| {
        let path = path.trim_start_matches("./");
        let inside = !path.starts_with('/') && !path.split('/').any(|part| part == "..");
        inside
            .then(|| {
                [path.to_owned(), format!("{path}.js"), format!("{path}/index.js")]
                    .into_iter()
                    .find(|path| folder.has(path))
            })
            .flatten()
    };
    if let Some(main) = package["main"].as_str().and_then(exists) {
        found.run = Some(Said::new(format!("node {}", word(&main)), "`main` in package.json names it"));
        return;
    }
    for known in &KNOWN {
        if needs.contains(known.package) {
            let because = format!("package.json depends on {} and has no start script", known.package);
            return use_known(known, folder, because, found);
        }
    }
    let bin = package["bin"].as_str().or_else(|| package["bin"].as_object()?.values().next()?.as_str());
    if let Some(bin) = bin.and_then(exists) {
        found.run = Some(Said::new(format!("node {}", word(&bin)), "`bin` in package.json names it"));
        return;
    }
    const USUAL: [&str; 9] = [
        "server.js",
        "index.js",
        "app.js",
        "main.js",
        "server.mjs",
        "index.mjs",
        "src/server.js",
        "src/index.js",
        "src/app.js",
    ];
    let builds_pages = BUILDERS.iter().any(|(tool, _)| needs.contains(*tool) || dev.contains(*tool));
    if let Some(file) = folder.first(&USUAL)
        && !(builds_pages && file.starts_with("src/"))
    {
        found.run = Some(Said::new(
            format!("node {file}"),
            format!("{file} is there, and package.json has no start script"),
        ));
        return;
    }
    // A folder that is there for one package only: what that package installs as a command.
    if let (1, Some(only)) = (needs.len(), needs.first())
        && let Some(bin) = command_of(folder, only)
    {
        let because = format!("{only} is the only dependency, and installs this command");
        found.run = Some(Said::new(format!("node_modules/.bin/{}", word(&bin)), because));
        found.asks.push(format!(
            "tell `{bin}` to listen on 127.0.0.1:$PORT in `run`: klar does not know how it is told"
        ));
        found.knows_port = true;
    }
}

fn use_known(known: &Known, folder: &Folder, because: String, found: &mut Found) {
    found.knows_port = true;
    found.health = known.health.map(|path| Said::new(path, format!("{} answers there", known.package)));
    let mut command = known.command.to_owned();
    if let Some((dir, fill)) = known.keeps {
        found.single = Some(format!("{} keeps its data in files", known.package));
        let own = folder
            .first(&["config.yaml", "config.yml", "conf/config.yaml"])
            .filter(|_| known.package == "verdaccio");
        let dir = match own {
            Some(own) => {
                command = command.replace("data/config.yaml", own);
                let dir =
                    folder.text(own).and_then(|text| storage_of(&text)).unwrap_or_else(|| "storage".into());
                if dir.contains("..") || dir.starts_with(['/', '~', '.', '$']) {
                    found.asks.push(format!(
                        "let `storage` in {own} be a folder in this one: {dir} is out of the app's reach"
                    ));
                    "storage".into()
                } else {
                    let folder_of =
                        own.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
                    format!("{folder_of}{dir}")
                }
            }
            None => {
                let because = format!(
                    "{} needs a file with its settings; this one begins with its defaults",
                    known.package
                );
                found.release = Some(Said::new(fill, because));
                dir.to_owned()
            }
        };
        found.writable.push((dir, format!("{} keeps its data there", known.package)));
    }
    found.run = Some(Said::new(format!("node_modules/.bin/{command}"), because));
}

/// `storage: ./storage` in the settings of verdaccio.
fn storage_of(yaml: &str) -> Option<String> {
    let line = yaml.lines().find_map(|line| line.strip_prefix("storage:"))?;
    let value = line.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    let value = value.trim_start_matches("./").trim_end_matches('/');
    (!value.is_empty()).then(|| value.to_owned())
}

fn command_of(folder: &Folder, package: &str) -> Option<String> {
    if package.starts_with(['.', '/']) || package.contains("..") {
        return None;
    }
    let text = folder.text(&format!("node_modules/{package}/package.json"))?;
    let installed: Value = serde_json::from_str(&text).ok()?;
    match &installed["bin"] {
        Value::String(_) => Some(package.rsplit('/').next().unwrap_or(package).into()),
        Value::Object(bins) => {
            let short = package.rsplit('/').next().unwrap_or(package);
            bins.keys().find(|name| *name == short).or_else(|| bins.keys().next()).cloned()
        }
        _ => None,
    }
}

/// A script that brings the database up to date.
fn migration<'a>(folder: &Folder, script: &impl Fn(&str) -> Option<&'a str>) -> Option<Said> {
    let (name, text) = ["migrate:deploy", "db:migrate", "migrate"]
        .into_iter()
        .find_map(|name| Some((name, script(name)?)))
        .filter(|(_, text)| !text.contains(" dev") && !text.contains("reset"))?;
    let plain = text.starts_with("node ") && !text.contains(['&', '|', ';', '>', '<', '`', '\n']);
    let command = if plain { text.to_owned() } else { format!("{} run {name}", manager(folder).0) };
    Some(Said::new(command, format!("package.json has a script `{name}`")))
}

/// The package manager, its lock file, how it installs what was locked, and the same with tools for development.
fn manager(folder: &Folder) -> (&'static str, Option<&'static str>, &'static str, &'static str) {
    if folder.has("pnpm-lock.yaml") {
        let lock = Some("pnpm-lock.yaml");
        return (
            "pnpm",
            lock,
            "pnpm install --frozen-lockfile --prod",
            "pnpm install --frozen-lockfile --prod=false",
        );
    }
    if folder.has("yarn.lock") {
        let lock = Some("yarn.lock");
        return if folder.has(".yarnrc.yml") {
            ("yarn", lock, "yarn install --immutable", "yarn install --immutable")
        } else {
            (
                "yarn",
                lock,
                "yarn install --frozen-lockfile --production",
                "yarn install --frozen-lockfile --production=false",
            )
        };
    }
    let lock = folder.first(&["package-lock.json", "npm-shrinkwrap.json"]);
    match lock {
        Some(lock) => ("npm", Some(lock), "npm ci --omit=dev", "npm ci --include=dev"),
        None => ("npm", None, "npm install --omit=dev", "npm install --include=dev"),
    }
}

fn build(folder: &Folder, needs: bool, dev: bool, needs_dev: bool, script: Option<&str>, found: &mut Found) {
    let (manager, lock, install, install_all) = manager(folder);
    if !(needs || dev || script.is_some()) {
        return;
    }
    let install = match (dev, needs_dev) {
        (true, true) => install_all,
        (true, false) => install,
        // Nothing to leave out.
        (false, _) if manager == "npm" => {
            if lock.is_some() {
                "npm ci"
            } else {
                "npm install"
            }
        }
        (false, _) => install,
    };
    let mut because = match lock {
        Some(lock) => format!("{lock} says which packages"),
        None => "package.json has dependencies, and there is no lock file".to_owned(),
    };
    if lock.is_none() {
        found.asks.push(
            "run `npm install` once and keep package-lock.json, so that each build gets the same packages"
                .into(),
        );
    }
    let mut command = install.to_owned();
    if script.is_some() {
        command.push_str(&format!(" && {manager} run build"));
        because.push_str(", and package.json has a script `build`");
    }
    found.build = Some(Said::new(command, because));
}

/// A path as one word of a command.
fn word(path: &str) -> String {
    let plain =
        path.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/' | b'_' | b'-' | b'@'));
    if plain { path.into() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}
