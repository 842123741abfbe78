//! What the file leaves open: which store is what, which path leads where; and the notes that say so.

use std::collections::BTreeMap;

use klar_base::ServiceName;

use crate::fault::Fault;
use crate::keys::{ENV, RoutePolicy, Service, StoreKeys};
use crate::load::{Config, Engine, Note, Store};
use crate::read::{Facts, Reader, Whence};
use crate::route::{Pattern, Route};
use crate::secret::SecretRef;
use crate::suggest;
use crate::suggest::quote;
use crate::tree::{Data, Entry, Node, Table, toml_string};
use crate::values::{Place, Role, VarName};

/// Decides what each store is, where, and under which name services learn its address.
pub(crate) fn decide_stores(
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
pub(crate) fn default_routes(facts: &Facts, cx: &mut Reader<'_>, notes: &mut Vec<Note>) -> Vec<Route> {
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
pub(crate) fn notes_on(config: &Config, facts: &Facts, root: &Table, notes: &mut Vec<Note>) {
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
