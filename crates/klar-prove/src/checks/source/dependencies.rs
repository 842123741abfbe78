//! What the app is built from: whether its versions are written down, and whether one of them has a known hole.
//!
//! The advisories come from a folder on this machine: files in the form of OSV, or a copy of RustSec's database.
//! Without one nothing can be said, and nothing is.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tree::{Tree, is_test};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// No dependency with a known hole.
pub struct Dependencies;

/// What the lock files name, and what the advisories say of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// How many packages of each ecosystem the lock files name.
    packages: BTreeMap<String, usize>,
    /// Manifests of which the versions are not all written down.
    loose: Vec<String>,
    /// Lock files that could not be read.
    unread: Vec<String>,
    /// Manifests and lock files that were left out, since there are too many.
    left: usize,
    /// Packages that no advisory could tell of: from Git, from a folder, of a form that is not known.
    unevaluated: usize,
    /// The advisories.
    advisories: Option<Advisories>,
    /// What is vulnerable, the worst first.
    vulnerable: Vec<Vulnerable>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Advisories {
    /// How many there are of each ecosystem.
    count: BTreeMap<String, usize>,
    /// How old the newest is.
    age_days: Option<i64>,
    /// Whether all of them were read.
    whole: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Vulnerable {
    /// 4 critical, 3 high, 2 medium, 1 low, 0 nobody has rated it.
    severity: u8,
    package: String,
    version: String,
    advisory: String,
    fixed: Option<String>,
    lock: String,
}

/// Advisories in which nothing has changed for longer than this have not been fetched for as long.
const OLDEST_DAYS: i64 = 14;
const MOST_ADVISORIES: usize = 400_000;
const LARGEST_ADVISORY: u64 = 4 * 1024 * 1024;
const PART: (&str, &str) = ("deploy.stage.security", "dependencies");
const CONTROL: (&str, &str) = ("deploy.stage.security", "control");

impl Probe for Dependencies {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "dependencies",
        version: 2,
        question: "Has anything that the app is built from a known hole?",
        does: "Reads the lock files of npm, pnpm, yarn, pip, poetry, uv, composer and cargo, and compares each version with the advisories in the folder it was given, or in `.klar/advisories`.",
        shows: &[PART, CONTROL],
        needs: &[Need::Source],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(50),
        faults: &[Fault::Files(
            &[
                ("package.json", r#"{"name":"shop","dependencies":{"left-hand":"1.2.3"}}"#),
                (
                    "package-lock.json",
                    r#"{"lockfileVersion":3,"packages":{"":{"dependencies":{"left-hand":"1.2.3"}},"node_modules/left-hand":{"version":"1.2.3"}}}"#,
                ),
                (
                    ".klar/advisories/KLAR-0001.json",
                    r#"{"id":"KLAR-0001","modified":"2020-01-01T00:00:00Z","database_specific":{"severity":"HIGH"},"affected":[{"package":{"ecosystem":"npm","name":"left-hand"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"1.2.4"}]}]}]}"#,
                ),
            ],
            PART,
        )],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let tree = Tree::of(&world).await?;
        let within = tree.root.join(".klar/advisories");
        let folder = world.advisories.clone().or_else(|| within.is_dir().then_some(within));
        let seen = tokio::task::spawn_blocking(move || {
            let mut locked = Locked::default();
            read_locks(&tree, &mut locked);
            let mut seen = Seen {
                unevaluated: locked.unevaluated,
                loose: locked.loose,
                unread: locked.unread,
                left: locked.left,
                ..Seen::default()
            };
            for (ecosystem, _) in locked.packages.keys() {
                *seen.packages.entry(ecosystem.clone()).or_default() += 1;
            }
            if let Some(folder) = folder {
                let mut book = Book::default_for(&locked.packages);
                book.read(&folder);
                book.vulnerable.sort_by(|a, b| b.cmp(a));
                book.vulnerable.dedup_by(|a, b| (&a.package, &a.advisory) == (&b.package, &b.advisory));
                book.vulnerable.truncate(100);
                let newest = book.newest.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
                let age_days = newest.map(|at| jiff::Timestamp::now().duration_since(at).as_hours() / 24);
                seen.unevaluated += book.unevaluated.len();
                seen.vulnerable = book.vulnerable;
                seen.advisories = Some(Advisories { count: book.count, age_days, whole: book.whole });
            }
            seen.loose.truncate(20);
            seen.unread.truncate(20);
            seen
        });
        seen.await.map_err(|why| Unable(Words::same(why.to_string())))
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let control = Finding::held(
            CONTROL,
            words!(
                "finds its planted vulnerable dependency",
                "finner den plantede sårbare avhengigheten",
                "hittar det planterade sårbara beroendet"
            ),
        );
        vec![dependencies(seen), control]
    }
}

fn dependencies(seen: &Seen) -> Finding {
    let packages: usize = seen.packages.values().sum();
    let bad: Vec<&Vulnerable> = seen.vulnerable.iter().filter(|each| each.severity >= 3).collect();
    if let Some(worst) = bad.first() {
        let n = bad.len();
        let Vulnerable { package, version, advisory, lock, .. } = worst;
        let fixed = worst.fixed.as_deref().unwrap_or("-");
        return Finding::broken(
            PART,
            words!(
                "{n} critical or high in {packages} packages, first: {package} {version} ({advisory}, fixed in {fixed}; {lock})",
                "{n} kritiske eller høye i {packages} pakker, først: {package} {version} ({advisory}, rettet i {fixed}; {lock})",
                "{n} kritiska eller höga i {packages} paket, först: {package} {version} ({advisory}, rättat i {fixed}; {lock})"
            ),
        );
    }
    if let Some(first) = seen.unread.first() {
        let n = seen.unread.len();
        return Finding::unseen(
            PART,
            words!(
                "{n} lock files could not be read: {first}",
                "{n} låsfiler kunne ikke leses: {first}",
                "{n} låsfiler kunde inte läsas: {first}"
            ),
        );
    }
    if seen.left > 0 {
        let left = seen.left;
        return Finding::unseen(
            PART,
            words!(
                "{packages} packages were looked at, {left} manifests and lock files were left out: too many",
                "{packages} pakker ble sett på, {left} manifester og låsfiler ble utelatt: for mange",
                "{packages} paket undersöktes, {left} manifest och låsfiler utelämnades: för många"
            ),
        );
    }
    if let Some(first) = seen.loose.first() {
        let n = seen.loose.len();
        return Finding::unseen(
            PART,
            words!(
                "{n} manifests do not tell which versions are used: {first}",
                "{n} manifester sier ikke hvilke versjoner som brukes: {first}",
                "{n} manifest säger inte vilka versioner som används: {first}"
            ),
        );
    }
    let Some(advisories) = &seen.advisories else {
        return Finding::unseen(
            PART,
            words!(
                "{packages} packages, and no advisories to compare them with: give a folder of OSV files, or put one at .klar/advisories",
                "{packages} pakker, og ingen sårbarhetsvarsler å sammenligne dem med: oppgi en mappe med OSV-filer, eller legg en på .klar/advisories",
                "{packages} paket, och inga sårbarhetsvarningar att jämföra dem med: ange en mapp med OSV-filer, eller lägg en i .klar/advisories"
            ),
        );
    };
    if packages == 0 {
        return Finding::unseen(
            PART,
            words!("no lock file to read", "ingen låsfil å lese", "ingen låsfil att läsa"),
        );
    }
    let all: usize = advisories.count.values().sum();
    let missing = seen.packages.keys().find(|ecosystem| !advisories.count.contains_key(*ecosystem));
    if let Some(ecosystem) = missing {
        return Finding::unseen(
            PART,
            words!(
                "the folder has no advisories for {ecosystem}",
                "mappen har ingen varsler for {ecosystem}",
                "mappen har inga varningar för {ecosystem}"
            ),
        );
    }
    match advisories.age_days {
        Some(0..=OLDEST_DAYS) if advisories.whole => {}
        age => {
            let age = age.map_or("?".to_owned(), |age| age.to_string());
            return Finding::unseen(
                PART,
                words!(
                    "nothing known in {packages} packages, but the newest advisory is {age} days old, or not all could be read",
                    "ingenting kjent i {packages} pakker, men det nyeste varselet er {age} dager gammelt, eller ikke alle kunne leses",
                    "inget känt i {packages} paket, men den nyaste varningen är {age} dagar gammal, eller så kunde inte alla läsas"
                ),
            );
        }
    }
    let unrated = seen.vulnerable.iter().filter(|each| each.severity == 0).count();
    let unevaluated = seen.unevaluated;
    if unevaluated + unrated > 0 {
        return Finding::unseen(
            PART,
            words!(
                "{unevaluated} of {packages} packages could not be compared, and {unrated} have a hole that nobody has rated",
                "{unevaluated} av {packages} pakker kunne ikke sammenlignes, og {unrated} har et hull som ingen har vurdert",
                "{unevaluated} av {packages} paket kunde inte jämföras, och {unrated} har ett hål som ingen har bedömt"
            ),
        );
    }
    let lesser = seen.vulnerable.len();
    Finding::held(
        PART,
        words!(
            "{packages} packages against {all} advisories: none critical or high, {lesser} lesser",
            "{packages} pakker mot {all} varsler: ingen kritiske eller høye, {lesser} mindre",
            "{packages} paket mot {all} varningar: inga kritiska eller höga, {lesser} mindre"
        ),
    )
}

/// Versions by ecosystem and name, with the lock file that names them.
type Packages = HashMap<(String, String), BTreeMap<String, String>>;

/// What lock files name.
#[derive(Default)]
struct Locked {
    packages: Packages,
    unevaluated: usize,
    loose: Vec<String>,
    unread: Vec<String>,
    left: usize,
}

impl Locked {
    fn add(&mut self, ecosystem: &str, name: &str, version: &str, lock: &str) {
        let versions = self.packages.entry((ecosystem.to_owned(), plain(ecosystem, name))).or_default();
        versions.entry(version.trim_start_matches('v').to_owned()).or_insert_with(|| lock.to_owned());
    }

    fn has(&self, ecosystem: &str, name: &str) -> bool {
        self.packages.contains_key(&(ecosystem.to_owned(), plain(ecosystem, name)))
    }
}

/// A name as its ecosystem compares it.
fn plain(ecosystem: &str, name: &str) -> String {
    match ecosystem {
        "PyPI" => {
            let lower = name.to_ascii_lowercase().replace(['_', '.'], "-");
            lower.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
        }
        "Packagist" => name.to_ascii_lowercase(),
        _ => name.to_owned(),
    }
}

/// Lock files that say what is used, in forms that are not read here: what they name is not looked at.
const UNKNOWN: [&str; 8] = [
    "bun.lock",
    "bun.lockb",
    "pdm.lock",
    "go.sum",
    "Gemfile.lock",
    "mix.lock",
    "packages.lock.json",
    "gradle.lockfile",
];
const MOST_MANIFESTS: usize = 1000;

fn is_manifest(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let known = [
        "package-lock.json",
        "npm-shrinkwrap.json",
        "composer.lock",
        "Pipfile.lock",
        "Cargo.lock",
        "poetry.lock",
        "uv.lock",
        "yarn.lock",
        "pnpm-lock.yaml",
        "package.json",
        "composer.json",
        "Cargo.toml",
        "pyproject.toml",
    ];
    known.contains(&name)
        || UNKNOWN.contains(&name)
        || name.starts_with("requirements") && (name.ends_with(".txt") || name.ends_with(".lock"))
}

fn read_locks(tree: &Tree, locked: &mut Locked) {
    let read = |path: &str| {
        // Lock files may be larger than what people write.
        let about = std::fs::symlink_metadata(tree.root.join(path)).ok()?;
        (about.is_file() && about.len() < 64 << 20)
            .then(|| std::fs::read_to_string(tree.root.join(path)).ok())?
    };
    let manifests: Vec<&String> =
        tree.paths.iter().filter(|path| !is_test(path) && is_manifest(path)).collect();
    // A tree that was not looked through to its end may have one more, and so it has.
    locked.left += manifests.len().saturating_sub(MOST_MANIFESTS) + usize::from(tree.cut);
    for path in manifests.into_iter().take(MOST_MANIFESTS) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let beside =
            |file: &str| if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") };
        // A lock may stand in the folder of the workspace, above.
        let up = |file: &str| {
            let mut at = folder;
            loop {
                let here = if at.is_empty() { file.to_owned() } else { format!("{at}/{file}") };
                if tree.paths.binary_search(&here).is_ok() {
                    return true;
                }
                match at.rsplit_once('/') {
                    Some((above, _)) => at = above,
                    None if !at.is_empty() => at = "",
                    None => return false,
                }
            }
        };
        match name {
            "package-lock.json" | "npm-shrinkwrap.json" | "composer.lock" | "Pipfile.lock" => {
                match read(path).and_then(|text| serde_json::from_str::<Value>(&text).ok()) {
                    Some(json) if name == "composer.lock" => composer(&json, path, locked),
                    Some(json) if name == "Pipfile.lock" => pipfile(&json, path, locked),
                    Some(json) => npm(&json, path, locked),
                    None => locked.unread.push(path.clone()),
                }
            }
            "Cargo.lock" | "poetry.lock" | "uv.lock" => {
                let ecosystem = if name == "Cargo.lock" { "crates.io" } else { "PyPI" };
                match read(path).and_then(|text| text.parse::<toml::Table>().ok()) {
                    Some(toml) => tables(&toml, ecosystem, path, locked),
                    None => locked.unread.push(path.clone()),
                }
            }
            "yarn.lock" | "pnpm-lock.yaml" => {
                let text = read(path);
                let whole = text.as_deref().is_some_and(|text| match name {
                    "yarn.lock" => yarn(text, path, locked),
                    _ => pnpm(text, path, locked),
                });
                if !whole {
                    locked.unread.push(path.clone());
                }
            }
            _ if UNKNOWN.contains(&name) => locked.unread.push(format!("{path} (of a form not known here)")),
            "package.json" => {
                let Some(json) = read(path).and_then(|text| serde_json::from_str::<Value>(&text).ok()) else {
                    continue;
                };
                let wanted: BTreeSet<&String> = ["dependencies", "devDependencies", "optionalDependencies"]
                    .iter()
                    .filter_map(|kind| json.get(kind)?.as_object())
                    .flat_map(|list| list.keys())
                    .collect();
                let locks =
                    ["package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock"];
                if !wanted.is_empty() && !locks.iter().any(|lock| up(lock)) {
                    locked.loose.push(format!("{path} (no lock file)"));
                } else if let Some(lock) = read(&beside("package-lock.json")) {
                    out_of_step(path, &json, &lock, locked);
                }
            }
            "composer.json" => {
                let json =
                    read(path).and_then(|text| serde_json::from_str::<Value>(&text).ok()).unwrap_or_default();
                let wants = json.get("require").and_then(Value::as_object);
                if wants.is_some_and(|list| list.keys().any(|name| name.contains('/')))
                    && !up("composer.lock")
                {
                    locked.loose.push(format!("{path} (no lock file)"));
                }
            }
            "Cargo.toml" => {
                let toml = read(path).and_then(|text| text.parse::<toml::Table>().ok()).unwrap_or_default();
                let wants = toml
                    .get("dependencies")
                    .and_then(|list| list.as_table())
                    .is_some_and(|list| !list.is_empty());
                if wants && !up("Cargo.lock") {
                    locked.loose.push(format!("{path} (no lock file)"));
                }
            }
            "pyproject.toml" => {
                let toml = read(path).and_then(|text| text.parse::<toml::Table>().ok()).unwrap_or_default();
                let project = toml.get("project").and_then(|project| project.get("dependencies"));
                let poetry = toml
                    .get("tool")
                    .and_then(|tool| tool.get("poetry"))
                    .and_then(|poetry| poetry.get("dependencies"));
                let wants = project.and_then(|list| list.as_array()).is_some_and(|list| !list.is_empty())
                    || poetry.and_then(|list| list.as_table()).is_some_and(|list| list.len() > 1);
                let locks = ["poetry.lock", "uv.lock", "pdm.lock", "requirements.txt", "requirements.lock"];
                if wants && !locks.iter().any(|lock| up(lock)) {
                    locked.loose.push(format!("{path} (no lock file)"));
                }
            }
            _ if name.starts_with("requirements") && (name.ends_with(".txt") || name.ends_with(".lock")) => {
                match read(path) {
                    Some(text) => requirements(&text, path, locked),
                    None => locked.unread.push(path.clone()),
                }
            }
            _ => {}
        }
    }
}

/// The root's wishes are copied into npm's lock file: another wish there means that nobody ran `npm install`.
fn out_of_step(path: &str, manifest: &Value, lock: &str, locked: &mut Locked) {
    let Ok(lock) = serde_json::from_str::<Value>(lock) else {
        locked.loose.push(format!("{path} (its lock file cannot be read)"));
        return;
    };
    let Some(root) = lock.get("packages").and_then(|packages| packages.get("")) else { return };
    for kind in ["dependencies", "devDependencies"] {
        let list = |of: &Value| of.get(kind).and_then(Value::as_object).cloned().unwrap_or_default();
        let (wanted, noted) = (list(manifest), list(root));
        if let Some((name, _)) = wanted.iter().find(|(name, wish)| noted.get(*name) != Some(wish)) {
            locked.loose.push(format!("{path} (the lock file does not know this {name})"));
            return;
        }
    }
}

fn npm(json: &Value, path: &str, locked: &mut Locked) {
    let Some(packages) = json.get("packages").and_then(Value::as_object) else {
        locked.loose.push(format!("{path} (of npm 6 or older)"));
        return;
    };
    for (place, package) in packages {
        let Some((_, folder)) = place.rsplit_once("node_modules/") else { continue };
        if package.get("link").and_then(Value::as_bool) == Some(true) {
            continue;
        }
        let from = package.get("resolved").and_then(Value::as_str).unwrap_or("https://");
        let name = package.get("name").and_then(Value::as_str).unwrap_or(folder);
        match package.get("version").and_then(Value::as_str) {
            Some(version) if from.starts_with("http") => locked.add("npm", name, version, path),
            _ => locked.unevaluated += 1,
        }
    }
}

/// Reads a lock file of yarn; whether it was one: with entries, or with nothing but comments.
fn yarn(text: &str, path: &str, locked: &mut Locked) -> bool {
    let mut name = None;
    let mut entries = 0;
    for line in text.lines() {
        if !line.starts_with([' ', '#']) && line.ends_with(':') {
            let first = line.trim_end_matches(':').split(',').next().unwrap_or_default().trim_matches('"');
            name =
                first.char_indices().skip(1).find(|(_, c)| *c == '@').map(|(at, _)| first[..at].to_owned());
        } else if let (Some(rest), Some(name)) = (line.strip_prefix("  version"), &name) {
            entries += 1;
            let version = rest.trim_start_matches([':', ' ']).trim_matches('"');
            if !version.starts_with("0.0.0-use") {
                locked.add("npm", name, version, path);
            }
        }
    }
    entries > 0 || text.lines().all(|line| line.trim().is_empty() || line.starts_with('#'))
}

/// Reads a lock file of pnpm; whether it was one.
fn pnpm(text: &str, path: &str, locked: &mut Locked) -> bool {
    let mut inside = false;
    let (mut keys, mut entries) = (0, 0);
    for line in text.lines() {
        if !line.starts_with(' ') && !line.is_empty() {
            inside = line == "packages:";
        } else if let (true, Some(key)) =
            (inside, line.strip_prefix("  ").filter(|key| !key.starts_with(' ')))
        {
            keys += 1;
            let key = key.trim_end_matches(':').trim_matches('\'').trim_start_matches('/');
            let key = key.split('(').next().unwrap_or(key);
            if let Some((name, version)) = key.rsplit_once('@').filter(|(name, _)| !name.is_empty()) {
                entries += 1;
                locked.add("npm", name, version, path);
            }
        }
    }
    text.starts_with("lockfileVersion") && (entries > 0 || keys == 0)
}

fn composer(json: &Value, path: &str, locked: &mut Locked) {
    for kind in ["packages", "packages-dev"] {
        for package in json.get(kind).and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| package.get(key).and_then(Value::as_str);
            match (text("name"), text("version")) {
                (Some(name), Some(version)) if !version.starts_with("dev-") => {
                    locked.add("Packagist", name, version, path)
                }
                _ => locked.unevaluated += 1,
            }
        }
    }
}

fn pipfile(json: &Value, path: &str, locked: &mut Locked) {
    for kind in ["default", "develop"] {
        for (name, package) in json.get(kind).and_then(Value::as_object).into_iter().flatten() {
            match package
                .get("version")
                .and_then(Value::as_str)
                .and_then(|version| version.strip_prefix("=="))
            {
                Some(version) => locked.add("PyPI", name, version, path),
                None => locked.unevaluated += 1,
            }
        }
    }
}

fn tables(toml: &toml::Table, ecosystem: &str, path: &str, locked: &mut Locked) {
    for package in toml.get("package").and_then(|list| list.as_array()).into_iter().flatten() {
        let text = |key: &str| package.get(key).and_then(|value| value.as_str());
        let (Some(name), Some(version)) = (text("name"), text("version")) else { continue };
        // Cargo: what has no source is of the workspace, and one's own.
        match (ecosystem, text("source")) {
            ("crates.io", None) => {}
            ("crates.io", Some(source)) if !source.starts_with("registry+") => locked.unevaluated += 1,
            _ => {
                let own = package.get("source").and_then(|source| source.as_table());
                let own = own.is_some_and(|source| {
                    ["editable", "virtual", "directory"].iter().any(|kind| source.contains_key(*kind))
                });
                if !own {
                    locked.add(ecosystem, name, version, path);
                }
            }
        }
    }
}

fn requirements(text: &str, path: &str, locked: &mut Locked) {
    for line in text.replace("\\\n", " ").lines() {
        let line = line.split(" #").next().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with(['#', '-']) {
            continue;
        }
        let name: String =
            line.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
        let rest = line[name.len()..].trim_start();
        let rest =
            if rest.starts_with('[') { rest.split_once(']').map_or("", |(_, rest)| rest) } else { rest };
        match rest.trim_start().strip_prefix("==") {
            Some(version) if !version.contains('*') => {
                let version: String = version
                    .trim()
                    .trim_start_matches('=')
                    .chars()
                    .take_while(|c| !c.is_whitespace() && *c != ',')
                    .collect();
                locked.add("PyPI", &name, &version, path);
            }
            _ if !locked.has("PyPI", &name) => locked.loose.push(format!("{path} ({name} has no version)")),
            _ => {}
        }
    }
}

/// The advisories, read one by one: only what concerns the packages is kept.
struct Book<'p> {
    packages: &'p Packages,
    count: BTreeMap<String, usize>,
    newest: Option<String>,
    whole: bool,
    vulnerable: Vec<Vulnerable>,
    unevaluated: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Osv {
    id: String,
    #[serde(default)]
    modified: String,
    withdrawn: Option<String>,
    #[serde(default)]
    affected: Vec<Affected>,
    #[serde(default)]
    severity: Vec<Rating>,
    database_specific: Option<Value>,
}

#[derive(Deserialize)]
struct Affected {
    package: Option<Named>,
    #[serde(default)]
    ranges: Vec<Span>,
    #[serde(default)]
    versions: Vec<String>,
    #[serde(default)]
    severity: Vec<Rating>,
}

#[derive(Deserialize)]
struct Named {
    ecosystem: String,
    name: String,
}

#[derive(Deserialize)]
struct Span {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    events: Vec<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Rating {
    score: String,
}

impl<'p> Book<'p> {
    fn default_for(packages: &'p Packages) -> Self {
        Self {
            packages,
            count: BTreeMap::new(),
            newest: None,
            whole: true,
            vulnerable: Vec::new(),
            unevaluated: BTreeSet::new(),
        }
    }

    fn read(&mut self, root: &Path) {
        let end = Instant::now() + Duration::from_secs(35);
        let mut folders: Vec<PathBuf> = vec![root.to_owned()];
        let mut files = 0_usize;
        while let Some(folder) = folders.pop() {
            let Ok(list) = std::fs::read_dir(&folder) else {
                self.whole = false;
                continue;
            };
            for entry in list.filter_map(Result::ok) {
                let path = entry.path();
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() {
                    if entry.file_name() != ".git" {
                        folders.push(path);
                    }
                    continue;
                }
                let ending = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
                if !kind.is_file() || !["json", "md"].contains(&ending) {
                    continue;
                }
                files += 1;
                if files > MOST_ADVISORIES || Instant::now() > end {
                    self.whole = false;
                    return;
                }
                if entry.metadata().is_ok_and(|about| about.len() > LARGEST_ADVISORY) {
                    self.whole = false;
                    continue;
                }
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                match ending {
                    "json" => match serde_json::from_str::<Osv>(&text) {
                        Ok(osv) => self.osv(osv),
                        Err(_) => self.whole &= !text.contains("\"affected\""),
                    },
                    _ => self.rustsec(&text),
                }
            }
        }
    }

    fn osv(&mut self, osv: Osv) {
        if self.newest.as_ref().is_none_or(|newest| *newest < osv.modified) {
            self.newest = Some(osv.modified.clone());
        }
        for affected in &osv.affected {
            let Some(package) = &affected.package else { continue };
            *self.count.entry(package.ecosystem.clone()).or_default() += 1;
            let key = (package.ecosystem.clone(), plain(&package.ecosystem, &package.name));
            let Some(versions) = self.packages.get(&key).filter(|_| osv.withdrawn.is_none()) else {
                continue;
            };
            for (version, lock) in versions {
                let spans: Vec<&Span> = affected.ranges.iter().filter(|span| span.kind != "GIT").collect();
                if spans.is_empty() && affected.versions.is_empty() {
                    self.unevaluated.insert(format!("{} {version}", package.name));
                    continue;
                }
                let listed = affected.versions.iter().any(|each| compare(each, version) == Ordering::Equal);
                if listed || spans.iter().any(|span| span.has(version)) {
                    let ratings = affected.severity.iter().chain(&osv.severity);
                    let rated = ratings.filter_map(|rating| level(&rating.score)).max();
                    let said = osv
                        .database_specific
                        .as_ref()
                        .and_then(|more| more.get("severity"))
                        .and_then(Value::as_str);
                    let said = said.and_then(|said| match said.to_ascii_uppercase().as_str() {
                        "CRITICAL" => Some(4),
                        "HIGH" => Some(3),
                        "MODERATE" | "MEDIUM" => Some(2),
                        "LOW" => Some(1),
                        _ => None,
                    });
                    let malware = osv.id.starts_with("MAL-").then_some(4);
                    let fixed =
                        spans.iter().flat_map(|span| &span.events).filter_map(|event| event.get("fixed"));
                    self.vulnerable.push(Vulnerable {
                        severity: malware.or(said).or(rated).unwrap_or(0),
                        package: package.name.chars().take(100).collect(),
                        version: version.clone(),
                        advisory: osv.id.chars().take(60).collect(),
                        fixed: fixed
                            .filter(|fixed| compare(fixed, version) == Ordering::Greater)
                            .min_by(|a, b| compare(a, b))
                            .cloned(),
                        lock: lock.clone(),
                    });
                }
            }
        }
    }

    /// A file of RustSec's database: a block of TOML, then text.
    fn rustsec(&mut self, text: &str) {
        let Some(block) = text.split("```toml").nth(1).and_then(|rest| rest.split("```").next()) else {
            return;
        };
        let Ok(toml) = block.parse::<toml::Table>() else { return };
        let Some(advisory) = toml.get("advisory") else { return };
        let text = |key: &str| advisory.get(key).and_then(|value| value.as_str());
        let (Some(id), Some(name)) = (text("id"), text("package")) else { return };
        *self.count.entry("crates.io".to_owned()).or_default() += 1;
        let date = format!("{}T00:00:00Z", text("date").unwrap_or_default());
        if self.newest.as_ref().is_none_or(|newest| *newest < date) {
            self.newest = Some(date);
        }
        let Some(versions) = self.packages.get(&("crates.io".to_owned(), name.to_owned())) else { return };
        if text("withdrawn").is_some() || text("informational").is_some_and(|kind| kind != "unsound") {
            return;
        }
        let list = |key: &str| -> Vec<String> {
            let list =
                toml.get("versions").and_then(|versions| versions.get(key)).and_then(|list| list.as_array());
            list.into_iter().flatten().filter_map(|each| each.as_str()).map(str::to_owned).collect()
        };
        let (patched, unaffected) = (list("patched"), list("unaffected"));
        for (version, lock) in versions {
            if !patched.iter().chain(&unaffected).any(|wish| satisfies(version, wish)) {
                self.vulnerable.push(Vulnerable {
                    severity: text("cvss").and_then(level).unwrap_or(0),
                    package: name.to_owned(),
                    version: version.clone(),
                    advisory: id.to_owned(),
                    fixed: patched.first().cloned(),
                    lock: lock.clone(),
                });
            }
        }
    }
}

impl Span {
    /// As OSV says it is to be evaluated: events in the order of their versions.
    fn has(&self, version: &str) -> bool {
        let mut events: Vec<(&str, &str)> =
            self.events.iter().flatten().map(|(kind, at)| (kind.as_str(), at.as_str())).collect();
        events.sort_by(|a, b| match (a.1, b.1) {
            ("0", "0") => Ordering::Equal,
            ("0", _) => Ordering::Less,
            (_, "0") => Ordering::Greater,
            (a, b) => compare(a, b),
        });
        let mut inside = false;
        for (kind, at) in events {
            let order = if at == "0" { Ordering::Greater } else { compare(version, at) };
            match kind {
                "introduced" if order != Ordering::Less => inside = true,
                "fixed" | "limit" if order != Ordering::Less => inside = false,
                "last_affected" if order == Ordering::Greater => inside = false,
                _ => {}
            }
        }
        inside
    }
}

/// `>= 1.2.3, < 2`, `^1.2`, `~1.2.3`, `= 1.2.3` as RustSec writes them.
fn satisfies(version: &str, wish: &str) -> bool {
    wish.split(',').map(str::trim).all(|one| {
        let at = one.trim_start_matches(['>', '<', '=', '^', '~', ' ']);
        let order = compare(version, at);
        if one.starts_with(">=") {
            order != Ordering::Less
        } else if one.starts_with("<=") {
            order != Ordering::Greater
        } else if one.starts_with('>') {
            order == Ordering::Greater
        } else if one.starts_with('<') {
            order == Ordering::Less
        } else if one.starts_with('=') {
            order == Ordering::Equal
        } else {
            let given: Vec<u64> = at.split('.').filter_map(|number| number.parse().ok()).collect();
            let own: Vec<u64> = release(version);
            let leading =
                given.iter().position(|number| *number > 0).unwrap_or(given.len().saturating_sub(1));
            let same = if one.starts_with('~') { given.len().min(2) } else { leading + 1 };
            order != Ordering::Less && given.iter().take(same).eq(own.iter().take(same))
        }
    })
}

fn release(version: &str) -> Vec<u64> {
    let version = version.trim_start_matches(['v', 'V']);
    let numbers = version.split(|c: char| !(c.is_ascii_digit() || c == '.')).next().unwrap_or_default();
    numbers.split('.').filter_map(|number| number.parse().ok()).collect()
}

/// Which version is older: of SemVer, PEP 440 and Composer, which agree on this much.
fn compare(a: &str, b: &str) -> Ordering {
    let parse = |version: &str| {
        let version = version.trim().trim_start_matches(['v', 'V']);
        let (epoch, version) = version.split_once('!').unwrap_or(("0", version));
        let version = version.split('+').next().unwrap_or_default();
        let mut numbers = release(version);
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        let rest = version
            .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
            .trim_start_matches(['-', '_', '.']);
        // Before a release: dev, alpha, beta, rc and whatever SemVer has there; after it: post.
        let mut parts: Vec<(u8, u64, String)> = Vec::new();
        for part in rest.split(['.', '-', '_']).filter(|part| !part.is_empty()) {
            let letters: String =
                part.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
            let number = part[letters.len()..].parse().unwrap_or(0);
            let rank = match letters.as_str() {
                "" => 1,
                "dev" => 0,
                "a" | "alpha" => 2,
                "b" | "beta" => 3,
                "c" | "rc" | "pre" | "preview" => 4,
                "post" | "patch" | "pl" | "p" | "r" | "rev" => 9,
                _ => 5,
            };
            let word = if rank == 5 { part.to_owned() } else { String::new() };
            parts.push((rank, number, word));
        }
        let after = parts.first().is_some_and(|part| part.0 == 9);
        let stage = if parts.is_empty() {
            1
        } else if after {
            2
        } else {
            0
        };
        (epoch.parse::<u64>().unwrap_or(0), numbers, stage, parts)
    };
    parse(a).cmp(&parse(b))
}

/// 4 critical, 3 high, 2 medium, 1 low, from a vector of CVSS 3 or a number.
fn level(score: &str) -> Option<u8> {
    let score = score.parse::<f64>().ok().or_else(|| cvss3(score))?;
    Some(match score {
        9.0.. => 4,
        7.0.. => 3,
        4.0.. => 2,
        _ => 1,
    })
}

/// The base score of a vector of CVSS 3.0 and 3.1 (FIRST, section 7.1).
fn cvss3(vector: &str) -> Option<f64> {
    let metrics: HashMap<&str, &str> = vector
        .strip_prefix("CVSS:3.")?
        .split('/')
        .skip(1)
        .filter_map(|metric| metric.split_once(':'))
        .collect();
    let of = |name: &str| metrics.get(name).copied();
    let changed = of("S")? == "C";
    let loss = |name| match of(name)? {
        "H" => Some(0.56),
        "L" => Some(0.22),
        "N" => Some(0.0),
        _ => None,
    };
    let base = 1.0 - (1.0 - loss("C")?) * (1.0 - loss("I")?) * (1.0 - loss("A")?);
    let impact: f64 =
        if changed { 7.52 * (base - 0.029) - 3.25 * f64::powi(base - 0.02, 15) } else { 6.42 * base };
    let vector = match of("AV")? {
        "N" => 0.85,
        "A" => 0.62,
        "L" => 0.55,
        _ => 0.2,
    };
    let complexity = if of("AC")? == "L" { 0.77 } else { 0.44 };
    let rights = match (of("PR")?, changed) {
        ("N", _) => 0.85,
        ("L", true) => 0.68,
        ("L", false) => 0.62,
        (_, true) => 0.5,
        (_, false) => 0.27,
    };
    let user = if of("UI")? == "N" { 0.85 } else { 0.62 };
    let exploit = 8.22 * vector * complexity * rights * user;
    if impact <= 0.0 {
        return Some(0.0);
    }
    let score = f64::min(if changed { 1.08 * (impact + exploit) } else { impact + exploit }, 10.0);
    Some((score * 10.0 - 1e-9).ceil() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Check, Saw};

    #[test]
    fn versions_in_order() {
        let order = [
            "1.0.dev1",
            "1.0-alpha.1",
            "1.0a2",
            "1.0.0-beta",
            "1.0rc1",
            "1.0",
            "1.0.post1",
            "1.0.1",
            "v1.2",
            "1.10.0",
            "1!0.1",
        ];
        for pair in order.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
        assert_eq!(compare("1.0", "1.0.0+build"), Ordering::Equal);
    }

    #[test]
    fn ranges() {
        let span = |events: &[(&str, &str)]| Span {
            kind: "SEMVER".into(),
            events: events
                .iter()
                .map(|(kind, at)| BTreeMap::from([((*kind).into(), (*at).into())]))
                .collect(),
        };
        let two = span(&[
            ("introduced", "0"),
            ("fixed", "1.2.3"),
            ("introduced", "2.0.0"),
            ("last_affected", "2.1.0"),
        ]);
        for (version, inside) in [
            ("1.2.2", true),
            ("1.2.3", false),
            ("1.9.0", false),
            ("2.0.0", true),
            ("2.1.0", true),
            ("2.1.1", false),
            ("1.2.3-rc.1", true),
        ] {
            assert_eq!(two.has(version), inside, "{version}");
        }
        for (version, wish, good) in [
            ("1.2.3", ">= 1.2.0, < 2", true),
            ("2.0.0", ">= 1.2.0, < 2", false),
            ("0.3.9", "^0.3.5", true),
            ("0.4.0", "^0.3.5", false),
            ("1.9.0", "^1.2", true),
            ("1.2.9", "~1.2.3", true),
            ("1.3.0", "~1.2.3", false),
        ] {
            assert_eq!(satisfies(version, wish), good, "{version} {wish}");
        }
    }

    #[test]
    fn scores() {
        for (vector, score) in [
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
            ("CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", 7.5),
            ("CVSS:3.1/AV:L/AC:H/PR:L/UI:N/S:U/C:L/I:N/A:N", 2.5),
        ] {
            assert_eq!(cvss3(vector), Some(score), "{vector}");
        }
        assert_eq!(level("CVSS:4.0/AV:N"), None);
    }

    #[test]
    fn locks() {
        let mut locked = Locked::default();
        requirements(
            "a_B==1.0 # x\n-r base.txt\nc[d] == 2.0 ; python_version > '3'\ne>=1\n",
            "requirements.txt",
            &mut locked,
        );
        yarn("\"@a/b@^1.0.0\", \"@a/b@^1.1.0\":\n  version \"1.1.2\"\n", "yarn.lock", &mut locked);
        pnpm(
            "lockfileVersion: '9.0'\n\npackages:\n\n  '@c/d@2.0.0':\n    resolution: {}\n  e@3.0.0(f@1.0.0):\n\nsnapshots:\n  x@1.0.0:\n",
            "pnpm-lock.yaml",
            &mut locked,
        );
        let mut names: Vec<String> = locked
            .packages
            .iter()
            .map(|((_, name), versions)| format!("{name} {}", versions.keys().next().unwrap()))
            .collect();
        names.sort();
        assert_eq!(names, ["@a/b 1.1.2", "@c/d 2.0.0", "a-b 1.0", "c 2.0", "e 3.0.0"]);
        assert_eq!(locked.loose, ["requirements.txt (e has no version)"]);
    }

    #[test]
    fn what_was_not_read_is_told() {
        let read = |files: &[(&str, &str)]| {
            let folder = std::env::temp_dir().join(format!(
                "klar-locks-{}-{:x}",
                std::process::id(),
                fastrand::u64(..)
            ));
            for (path, text) in files {
                let path = folder.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            let mut paths: Vec<String> = files.iter().map(|(path, _)| (*path).to_owned()).collect();
            paths.sort();
            let tree = Tree { root: folder.clone(), paths, git: false, cut: false };
            let mut locked = Locked::default();
            read_locks(&tree, &mut locked);
            std::fs::remove_dir_all(folder).unwrap();
            locked
        };
        for (path, text) in [
            ("package-lock.json", "{"),
            ("composer.lock", ""),
            ("Cargo.lock", "<<<<<<< ours"),
            ("yarn.lock", "{\"a\": 1}"),
            ("pnpm-lock.yaml", "<html>"),
        ] {
            assert_eq!(read(&[(path, text)]).unread, [path], "{path}");
        }
        assert_eq!(read(&[("web/bun.lock", "{}")]).unread, ["web/bun.lock (of a form not known here)"]);
        assert!(read(&[("yarn.lock", "# yarn lockfile v1\n"), ("requirements.txt", "")]).unread.is_empty());
        // Six hundred files before the lock file do not hide it.
        let many: Vec<String> = (0..600).map(|number| format!("a/{number}.js")).collect();
        let mut files: Vec<(&str, &str)> = many.iter().map(|path| (path.as_str(), "")).collect();
        files.push(("requirements.txt", "flask==2.0.0\n"));
        assert_eq!(read(&files).packages.len(), 1);
        let many: Vec<String> = (0..MOST_MANIFESTS + 3).map(|at| format!("p{at}/package.json")).collect();
        let files: Vec<(&str, &str)> = many.iter().map(|path| (path.as_str(), "{}")).collect();
        assert_eq!(read(&files).left, 3);
        let saw = |seen: Seen| dependencies(&seen).saw;
        let fresh = || Seen {
            packages: BTreeMap::from([("npm".into(), 3)]),
            advisories: Some(Advisories {
                count: BTreeMap::from([("npm".into(), 9)]),
                age_days: Some(1),
                whole: true,
            }),
            ..Seen::default()
        };
        assert_eq!(saw(fresh()), Saw::Held);
        assert_eq!(saw(Seen { left: 3, ..fresh() }), Saw::Unseen);
        assert_eq!(saw(Seen { unread: vec!["yarn.lock".into()], ..fresh() }), Saw::Unseen);
    }

    #[test]
    fn without_fresh_advisories_nothing_is_held() {
        let folder =
            std::env::temp_dir().join(format!("klar-deps-{}-{:x}", std::process::id(), fastrand::u64(..)));
        let write = |path: &str, text: &str| {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("app/requirements.txt", "flask==2.0.0\n");
        let look = || {
            let mut world = World::new("t");
            world.source = Some(folder.join("app"));
            world.advisories = Some(folder.join("osv")).filter(|folder| folder.is_dir());
            let check = Check::of::<Dependencies>();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let seen = runtime.block_on(check.look(Rc::new(world))).map_err(|why| why.0.en).unwrap();
            check.judge(&seen).unwrap().swap_remove(0).saw
        };
        assert_eq!(look(), Saw::Unseen, "no advisories");
        let osv = |modified: &str, ecosystem: &str, fixed: &str| {
            format!(
                r#"{{"id":"T-1","modified":"{modified}","severity":[{{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}}],"affected":[{{"package":{{"ecosystem":"{ecosystem}","name":"Flask"}},"ranges":[{{"type":"ECOSYSTEM","events":[{{"introduced":"0"}},{{"fixed":"{fixed}"}}]}}]}}]}}"#
            )
        };
        let now = jiff::Timestamp::now().to_string();
        for (modified, ecosystem, fixed, saw) in [
            (now.as_str(), "PyPI", "1.9", Saw::Held),
            (now.as_str(), "PyPI", "2.0.1", Saw::Broken),
            ("2020-01-01T00:00:00Z", "PyPI", "1.9", Saw::Unseen),
            (now.as_str(), "npm", "1.9", Saw::Unseen),
        ] {
            write("osv/PyPI/T-1.json", &osv(modified, ecosystem, fixed));
            assert_eq!(look(), saw, "{modified} {ecosystem} {fixed}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
