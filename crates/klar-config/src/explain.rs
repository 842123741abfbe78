//! `klar explain`: what a key means, what it takes, what holds without it, and what is in force and why.
//!
//! A key is asked for as it stands in a file (`services.web.health`), in general (`services.*.health`), or by its
//! last part where only one table has it (`health`). A table (`services`, `[edge]`) is explained as well.
//!
//! **Invariant:** nothing is written here about a key; all of it comes from the table of keys and from
//! [`Provenance`](crate::Provenance).

use klar_base::ServiceName;
use serde::Serialize;

use crate::check;
use crate::keys::{ENV, ENV_DOC, ROOTS, Root, Service};
use crate::load::{Config, Loaded};
use crate::provenance::{Origin, Setting};
use crate::read::join;
use crate::suggest::{self, quote};
use crate::table::{Key, Kind, Preset, Section};
use crate::tree::toml_string;
use crate::values::{EnvValue, Role};

/// Everything there is to say about a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Its path: `services.web.health` where the question or the file names the service, else `services.*.health`.
    pub key: String,
    /// What it does, in paragraphs.
    pub meaning: String,
    /// What it takes, in words that follow "must be".
    pub takes: String,
    /// What holds when it is left out: TOML where that is always the same, else a sentence.
    pub default: String,
    /// How it looks in a file.
    pub example: String,
    /// What it means something for: "web and worker services".
    pub applies_to: String,
    /// The value in force, as TOML. Absent where there is none, where no file was read, and where it differs from
    /// place to place (see [`each`](Self::each)). A secret is a reference only.
    pub value: Option<String>,
    /// Where that value comes from.
    pub origin: Option<Origin>,
    /// The values in force by their path, where a general question meets several.
    pub each: Vec<InForce>,
}

/// One of several values that are in force for a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InForce {
    /// Its path: `services.web.health`.
    pub key: String,
    /// As TOML; absent where there is none.
    pub value: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

/// There is no such key, or there are several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnknownKey {
    /// What was asked for, fit to be shown.
    pub key: String,
    /// What may have been meant, most likely first; may be empty.
    pub suggestions: Vec<String>,
    /// Whether each suggestion is a key of that very name, so that one must be chosen.
    pub ambiguous: bool,
}

impl std::fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.ambiguous { "is a key of several tables" } else { "is no key of klar.toml" };
        write!(f, "{} {what}", self.key)
    }
}

impl std::error::Error for UnknownKey {}

impl klar_base::Hint for UnknownKey {
    fn hint(&self) -> Option<String> {
        let names = || self.suggestions.iter().map(String::as_str);
        Some(match (&self.suggestions[..], self.ambiguous) {
            ([], _) => {
                let roots = ROOTS.iter().map(|root| root.name).chain([ENV]);
                format!(
                    "the tables are {}; `klar explain services` lists the keys of one",
                    suggest::all_of(roots)
                )
            }
            (_, true) => format!("say which: {}", suggest::one_of(names())),
            (_, false) => format!("did you mean {}?", suggest::one_of(names())),
        })
    }
}

/// Every key of the file, tables inside of keys included, in the order in which they are best read.
pub(crate) fn every_key() -> Vec<&'static Key> {
    let mut keys = Vec::new();
    ROOTS.iter().for_each(|root| add_keys(root.section, &mut keys));
    keys
}

fn add_keys(section: &'static Section, keys: &mut Vec<&'static Key>) {
    for key in section.keys {
        keys.push(key);
        inner_sections(&key.kind).into_iter().for_each(|inner| add_keys(inner, keys));
    }
}

/// The tables with keys of their own that a value of this kind may be or hold.
pub(crate) fn inner_sections(kind: &'static Kind) -> Vec<&'static Section> {
    match kind {
        Kind::Table(section) => vec![section],
        Kind::List(inner) | Kind::Map { values: inner, .. } => inner_sections(inner),
        Kind::Either(kinds) => kinds.iter().flat_map(inner_sections).collect(),
        _ => Vec::new(),
    }
}

/// Explains one key, with its value in force where a file was read.
///
/// # Errors
/// [`UnknownKey`] when there is no such key, or several tables have one of that name.
pub fn explain(loaded: Option<&Loaded>, key: &str) -> Result<Explanation, UnknownKey> {
    let unknown = |suggestions: Vec<String>, ambiguous| {
        Err(UnknownKey { key: quote(key.trim()), suggestions, ambiguous })
    };
    let mut parts = split(key);
    if let [env, _, _, ..] = &parts[..]
        && env == ENV
    {
        parts.drain(..2);
    }
    if let [only] = &parts[..] {
        if only == ENV {
            return Ok(about_environments());
        }
        if let Some(root) = ROOTS.iter().find(|root| root.name == only) {
            return Ok(about_table(root, None));
        }
        let keys = every_key();
        let same: Vec<&Key> = keys.iter().copied().filter(|key| key.name == only).collect();
        return match &same[..] {
            [key] => in_force(loaded, key, &split(&key.path())).or_else(|near| unknown(near, false)),
            [] => unknown(similar(only), false),
            several => {
                // A table inside a key is the less likely question: `min` is rare, `timeout` is not.
                unknown(several.iter().map(|key| key.path()).collect(), true)
            }
        };
    }
    if parts.first().is_some_and(|first| first == ENV) && parts.len() == 2 {
        return Ok(about_environments());
    }
    if let [first, name] = &parts[..]
        && let Some(root) = ROOTS.iter().find(|root| root.named && root.name == first)
    {
        return match named(loaded, root, name) {
            Ok(()) => Ok(about_table(root, (name != "*").then_some(name))),
            Err(near) => unknown(near.into_iter().map(|near| join([root.name, &near])).collect(), false),
        };
    }
    let known = every_key().into_iter().find(|known| matches(&known.path(), &parts));
    if let Some(known) = known {
        return in_force(loaded, known, &parts).or_else(|near| unknown(near, false));
    }
    // `services.web.env.LOG_LEVEL`: a name inside a table whose names the user chooses.
    if let Some((variable, outer)) = parts.split_last()
        && let Some(known) = every_key()
            .into_iter()
            .find(|known| matches!(known.kind, Kind::Map { .. }) && matches(&known.path(), outer))
    {
        return match in_force(loaded, known, outer) {
            Ok(mut found) => {
                found.key = join(parts.iter().map(String::as_str)).replace("\"*\"", "*");
                found.value = loaded.and_then(|loaded| variable_value(&loaded.config, outer, variable));
                Ok(found)
            }
            Err(near) => unknown(near, false),
        };
    }
    let last = parts.last().map(String::as_str).unwrap_or_default();
    let in_table =
        |key: &&&Key| parts.first().is_some_and(|first| key.section.split('.').next() == Some(first));
    let keys = every_key();
    let near: Vec<String> = keys
        .iter()
        .filter(in_table)
        .filter(|key| key.aliases.contains(&last) || suggest::nearest(last, [key.name]).is_some())
        .map(|key| filled(&key.path(), &parts))
        .take(3)
        .collect();
    if near.is_empty() { unknown(similar(last), false) } else { unknown(near, false) }
}

/// Explains every setting in force, the file's own and all defaults, in the order in which tables are best read.
///
/// What means nothing for a service is left out: a worker has no `health`.
pub fn explain_all(loaded: &Loaded) -> Vec<Explanation> {
    let keys = every_key();
    let mut found: Vec<(usize, usize, String, Explanation)> = Vec::new();
    for (path, setting) in loaded.provenance.iter() {
        let parts = split(path);
        let Some(at) = keys.iter().position(|key| matches(&key.path(), &parts)) else { continue };
        let key = keys[at];
        // The parts of a table say more than the table: which of them are defaults. A map is shown as a whole.
        let has_parts = inner_sections(&key.kind).iter().flat_map(|section| section.keys).any(|inner| {
            loaded.provenance.get(&join(parts.iter().map(String::as_str).chain([inner.name]))).is_some()
        });
        let in_map = keys.iter().any(|outer| {
            let depth = outer.path().split('.').count();
            matches!(outer.kind, Kind::Map { .. })
                && depth < parts.len()
                && matches(&outer.path(), &parts[..depth])
        });
        if has_parts || in_map || !means_something(&loaded.config, key, &parts) {
            continue;
        }
        let root = ROOTS.iter().position(|root| parts.first().is_some_and(|part| part == root.name));
        let name = if parts.len() > 2 { parts[1].clone() } else { String::new() };
        let one = filled_in(key, path.to_owned(), Some(setting.clone()));
        found.push((root.unwrap_or(ROOTS.len()), at, name, one));
    }
    found.sort_by(|a, b| (a.0, &a.2, a.1).cmp(&(b.0, &b.2, b.1)));
    found.into_iter().map(|(.., one)| one).collect()
}

/// Whether the key means something for the service that the path names.
fn means_something(config: &Config, key: &Key, parts: &[String]) -> bool {
    let role = match parts {
        [root, name, ..] if root == "services" => service(config, name).map(Service::role),
        _ => None,
    };
    let key = match parts {
        [root, _, outer, _, ..] if root == "services" => Service::SECTION.key(outer).unwrap_or(key),
        _ => key,
    };
    role.is_none_or(|role| key.only.is_empty() || key.only.contains(&role))
}

fn service<'a>(config: &'a Config, name: &str) -> Option<&'a Service> {
    config.services.get(&ServiceName::new(name).ok()?)
}

/// The explanation of `key` at the path `parts`, which may hold `*`.
fn in_force(
    loaded: Option<&Loaded>,
    key: &'static Key,
    parts: &[String],
) -> Result<Explanation, Vec<String>> {
    let path = shown(parts);
    let Some(loaded) = loaded else { return Ok(filled_in(key, path, None)) };
    let root = ROOTS.iter().find(|root| root.named && parts.first().is_some_and(|part| part == root.name));
    if let (Some(root), Some(name)) = (root, parts.get(1)) {
        named(Some(loaded), root, name).map_err(|near| {
            let again = |name: String| {
                let mut parts = parts.to_vec();
                parts[1] = name;
                shown(&parts)
            };
            near.into_iter().map(again).collect::<Vec<_>>()
        })?;
    }
    let names = match (root, parts.get(1)) {
        (Some(root), Some(star)) if star == "*" => names_of(&loaded.config, root),
        _ => vec![parts.get(1).cloned().unwrap_or_default()],
    };
    let mut each: Vec<InForce> = Vec::new();
    for name in names {
        let mut parts = parts.to_vec();
        if parts.len() > 1 && root.is_some() {
            parts[1] = name;
        }
        if parts.iter().any(|part| part == "*") || !means_something(&loaded.config, key, &parts) {
            continue;
        }
        let path = join(parts.iter().map(String::as_str));
        let setting = loaded.provenance.get(&path).cloned().or_else(|| instance_bound(loaded, &parts));
        each.extend(setting.map(|Setting { value, origin }| InForce { key: path, value, origin }));
    }
    Ok(match <[InForce; 1]>::try_from(each) {
        Ok([InForce { key: path, value, origin }]) => filled_in(key, path, Some(Setting { value, origin })),
        Err(each) => Explanation { each, ..filled_in(key, path, None) },
    })
}

/// `instances.min` of a service that has `instances = 3`, or none at all.
fn instance_bound(loaded: &Loaded, parts: &[String]) -> Option<Setting> {
    let [root, name, outer, bound] = parts else { return None };
    let instances =
        service(&loaded.config, name).filter(|_| root == "services" && outer == "instances")?.instances;
    let number = if bound == "min" { instances.min } else { instances.max };
    let origin = loaded.provenance.origin(&join([root, name, outer].map(String::as_str)))?.clone();
    Some(Setting { value: Some(number.to_string()), origin })
}

fn variable_value(config: &Config, outer: &[String], variable: &str) -> Option<String> {
    let [root, name, _] = outer else { return None };
    let service = service(config, name).filter(|_| root == "services")?;
    let (_, value) = service.env.iter().find(|(name, _)| name.as_str() == variable)?;
    Some(match value {
        EnvValue::Plain(text) => toml_string(text),
        EnvValue::Secret(reference) => toml_string(&reference.to_string()),
    })
}

fn filled_in(key: &Key, path: String, setting: Option<Setting>) -> Explanation {
    let (value, origin) = setting.map_or((None, None), |setting| (setting.value, Some(setting.origin)));
    Explanation {
        key: path,
        meaning: key.summary(),
        takes: key.expected(),
        default: default_in_words(key),
        example: key.example.into(),
        applies_to: applies_to(key),
        value,
        origin,
        each: Vec::new(),
    }
}

/// What holds without the key.
pub(crate) fn default_in_words(key: &Key) -> String {
    match key.preset {
        Preset::Required(why) => format!("none, it must be set: {why}"),
        Preset::Fixed(toml) => toml.into(),
        Preset::Computed(rule) => rule.into(),
        Preset::Absent(meaning) => format!("none: {meaning}"),
    }
}

/// Which services a key means something for, or what its table is about.
pub(crate) fn applies_to(key: &Key) -> String {
    match (key.section, key.only) {
        ("services.*", []) => "all services".into(),
        (_, roles @ [_, ..]) => check::roles(roles),
        (section, []) if section.starts_with("services.*.instances") => {
            check::roles(&[Role::Web, Role::Worker])
        }
        (section, []) => match ROOTS.iter().find(|root| root.section.path == section) {
            Some(root) if root.named => format!("each of [{}]", root.name),
            Some(root) => root.section.noun.into(),
            None => "all services".into(),
        },
    }
}

fn about_table(root: &Root, name: Option<&String>) -> Explanation {
    let keys: Vec<&str> = root.section.keys.iter().map(|key| key.name).collect();
    let required = root.section.keys.iter().find(|key| matches!(key.preset, Preset::Required(_)));
    let example = match root.name {
        "routes" => "[routes]\n\"/api/*\" = \"api\"\n\"/*\" = \"web\"".to_owned(),
        "data" => "[data.db]\npostgres = \"managed\"".to_owned(),
        "services" => "[services.web]\nrun = \"node server.js\"".to_owned(),
        _ => {
            let first = required.or(root.section.keys.first()).map_or("", |key| key.example);
            format!("{}\n{first}", root.section.header())
        }
    };
    Explanation {
        key: name.map_or_else(|| root.section.path.to_owned(), |name| join([root.name, name])),
        meaning: root.section.summary(),
        takes: format!("a table with {}", suggest::all_of(keys)),
        default: match root.name {
            "app" => "none, it must be there".into(),
            "services" => "none, at least one must be there".into(),
            "routes" => {
                "one route for everything, or `/api/*` and `/*` for a web and a static service".into()
            }
            _ => "may be left out".into(),
        },
        example,
        applies_to: root.section.noun.into(),
        value: None,
        origin: None,
        each: Vec::new(),
    }
}

fn about_environments() -> Explanation {
    Explanation {
        key: format!("{ENV}.*"),
        meaning: ENV_DOC.into(),
        takes: "a table with the same tables as the rest of the file".into(),
        default: "all environments are alike".into(),
        example: "[env.staging.services.web]\ninstances = 1".into(),
        applies_to: "one environment".into(),
        value: None,
        origin: None,
        each: Vec::new(),
    }
}

/// The names that the file gives to tables in `root`.
fn names_of(config: &Config, root: &Root) -> Vec<String> {
    match root.name {
        "services" => config.services.keys().map(ToString::to_string).collect(),
        "data" => config.data.keys().map(ToString::to_string).collect(),
        "routes" => config.routes.iter().map(|route| route.pattern.to_string()).collect(),
        _ => Vec::new(),
    }
}

/// Whether the file names such a table; if not, the names that are near.
fn named(loaded: Option<&Loaded>, root: &Root, name: &str) -> Result<(), Vec<String>> {
    let Some(loaded) = loaded.filter(|_| name != "*") else { return Ok(()) };
    let names = names_of(&loaded.config, root);
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    match suggest::nearest(name, names.iter().map(String::as_str)) {
        Some(near) => Err(vec![near.to_owned()]),
        None => Err(names.into_iter().take(3).collect()),
    }
}

/// Keys anywhere in the file that are named much like this, or are called so elsewhere.
fn similar(name: &str) -> Vec<String> {
    let lower = name.to_ascii_lowercase();
    let keys = every_key();
    let mut found: Vec<String> =
        keys.iter().filter(|key| key.aliases.contains(&lower.as_str())).map(|key| key.path()).collect();
    if found.is_empty()
        && let Some(meant) = suggest::nearest(name, keys.iter().map(|key| key.name))
    {
        found.extend(keys.iter().filter(|key| key.name == meant).map(|key| key.path()));
    }
    let roots = ROOTS.iter().filter(|root| root.aliases.contains(&lower.as_str())).map(|root| root.name);
    found.extend(roots.chain(suggest::nearest(name, ROOTS.iter().map(|root| root.name))).map(str::to_owned));
    found.dedup();
    found.truncate(3);
    found
}

/// Whether `parts` is the key at the general path `pattern`.
fn matches(pattern: &str, parts: &[String]) -> bool {
    let mut wanted = pattern.split('.');
    parts.iter().all(|part| wanted.next().is_some_and(|wanted| wanted == "*" || wanted == part))
        && wanted.next().is_none()
}

/// The general path with the names of the question in it.
fn filled(pattern: &str, parts: &[String]) -> String {
    let filled = pattern.split('.').enumerate().map(|(at, part)| match parts.get(at) {
        Some(name) if part == "*" => name.clone(),
        _ => part.to_owned(),
    });
    shown(&filled.collect::<Vec<_>>())
}

/// A path as people write it; `*` for any name needs no quotes.
fn shown(parts: &[String]) -> String {
    let part = |part: &String| if part == "*" { part.clone() } else { join([part.as_str()]) };
    parts.iter().map(part).collect::<Vec<_>>().join(".")
}

/// The parts of a path: `routes."/api/*".timeout`, and the same without quotes.
fn split(path: &str) -> Vec<String> {
    let path = path.trim().trim_start_matches('[').trim_end_matches(']');
    let mut parts = vec![String::new()];
    let mut quoted = None;
    let mut escaped = false;
    for c in path.chars() {
        let last = parts.len() - 1;
        match (quoted, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), c) if c == open && !escaped => quoted = None,
            (None, '"' | '\'') => quoted = Some(c),
            (None, '.') => parts.push(String::new()),
            (_, c) => parts[last].push(c),
        }
        escaped = false;
    }
    // Shells eat quotes: `routes./a.b/*.timeout` is a route with a dot in it.
    if parts.len() > 3 && parts[0] == "routes" && parts[1].starts_with('/') {
        let last = parts.pop().unwrap_or_default();
        parts = vec!["routes".into(), parts[1..].join("."), last];
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use klar_base::{EnvName, Hint};

    use super::*;

    const FILE: &str = r#"
[app]
name = "shop"
[services.web]
run = "node server.js"
health = "/healthz"
env = { LOG_LEVEL = "info", STRIPE_API_KEY = "secret:stripe" }
[services.mailer]
kind = "worker"
run = "node mailer.js"
[routes]
"/api/*" = { to = "web", timeout = "5m" }
"/v1.2/*" = "web"
"/*" = "web"
[data.db]
url = "env:DATABASE_URL"
[env.staging.services.web]
instances = { max = 3 }
"#;

    fn loaded(env: &str) -> Loaded {
        Config::parse(FILE, "klar.toml", &EnvName::new(env).unwrap()).unwrap()
    }

    #[test]
    fn a_key_is_found_however_it_is_asked_for() {
        let prod = loaded("prod");
        for (asked, key, value) in [
            ("services.web.health", "services.web.health", Some("\"/healthz\"")),
            ("services.*.health", "services.web.health", Some("\"/healthz\"")),
            ("health", "services.web.health", Some("\"/healthz\"")),
            ("routes.\"/api/*\".timeout", "routes.\"/api/*\".timeout", Some("\"5m\"")),
            ("routes./v1.2/*.timeout", "routes.\"/v1.2/*\".timeout", Some("\"30s\"")),
            ("services.web.instances.max", "services.web.instances.max", Some("10")),
            ("services.web.env.LOG_LEVEL", "services.web.env.LOG_LEVEL", Some("\"info\"")),
            ("services.web.env.STRIPE_API_KEY", "services.web.env.STRIPE_API_KEY", Some("\"secret:stripe\"")),
            ("env.staging.edge.hold", "edge.hold", Some("\"10s\"")),
            ("[edge]", "edge", None),
            ("services", "services.*", None),
            ("services.web", "services.web", None),
            ("env", "env.*", None),
        ] {
            let found = explain(Some(&prod), asked).unwrap_or_else(|error| panic!("{asked}: {error}"));
            assert_eq!((found.key.as_str(), found.value.as_deref()), (key, value), "{asked}");
            assert!(!found.meaning.is_empty() && !found.example.is_empty(), "{asked}");
        }
        let several = explain(Some(&prod), "services.*.pids").unwrap();
        assert_eq!(
            several.each.iter().map(|one| &*one.key).collect::<Vec<_>>(),
            ["services.mailer.pids", "services.web.pids"]
        );
        assert_eq!(explain(None, "health").unwrap().key, "services.*.health");
        assert_eq!(explain(None, "services.api.stop_timeout").unwrap().default, "\"30s\"");
    }

    #[test]
    fn an_unknown_key_says_what_was_meant() {
        let prod = loaded("prod");
        for (asked, hint) in [
            ("helth", "did you mean `services.*.health`?"),
            ("services.web.helth", "did you mean `services.web.health`?"),
            ("services.wbe.health", "did you mean `services.web.health`?"),
            ("replicas", "did you mean `services.*.instances`?"),
            ("timeout", "say which: `routes.*.timeout` or `edge.timeout`"),
            ("edge.deadline", "did you mean `edge.timeout`?"),
            ("database", "did you mean `data`?"),
        ] {
            let error = explain(Some(&prod), asked).unwrap_err();
            assert_eq!(error.hint().as_deref(), Some(hint), "{asked}");
        }
        assert!(explain(None, "qqqqqqqq").unwrap_err().hint().unwrap().starts_with("the tables are `app`"));
        assert!(explain(None, "").is_err());
    }

    #[test]
    fn three_lines_show_every_default() {
        let text = "app.name = \"shop\"\n[services.web]\nrun = \"node server.js\"\n";
        let loaded = Config::parse(text, "klar.toml", &EnvName::default()).unwrap();
        let all = explain_all(&loaded);
        let find = |key: &str| all.iter().find(|one| one.key == key).unwrap_or_else(|| panic!("no {key}"));
        assert_eq!(all[0].key, "app.name");
        assert_eq!(find("app.name").origin, Some(Origin::File { line: 1, column: 5 }));
        assert_eq!(find("services.web.run").origin, Some(Origin::File { line: 3, column: 1 }));
        assert_eq!(find("services.web.instances").value.as_deref(), Some("{ min = 2, max = 10 }"));
        assert_eq!(find("services.web.health").value, None);
        assert_eq!(find("routes.\"/*\".to").value.as_deref(), Some("\"web\""));
        for root in ROOTS.iter().filter(|root| !root.named) {
            for key in root.section.keys {
                find(&key.path());
            }
        }
        for key in Service::SECTION.keys {
            let means_something = key.only.is_empty() || key.only.contains(&Role::Web);
            let path = format!("services.web.{}", key.name);
            assert_eq!(all.iter().any(|one| one.key == path), means_something, "{path}");
        }
    }

    #[test]
    fn an_environment_shows_which_parts_are_its_own() {
        let staging = loaded("staging");
        let all = explain_all(&staging);
        let find = |key: &str| all.iter().find(|one| one.key == key);
        assert!(matches!(
            find("services.web.instances.max").unwrap().origin,
            Some(Origin::Environment { .. })
        ));
        assert!(matches!(find("services.web.instances.min").unwrap().origin, Some(Origin::Default { .. })));
        assert_eq!(find("services.web.instances"), None);
    }

    #[test]
    fn every_key_explains_itself() {
        for key in every_key() {
            let found = explain(None, &key.path()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(found.key, key.path());
            for text in [&found.meaning, &found.takes, &found.default, &found.applies_to] {
                assert!(!text.is_empty(), "{}: {found:?}", key.path());
            }
            assert!(found.example.contains(key.name), "{}: {}", key.path(), found.example);
        }
    }
}
