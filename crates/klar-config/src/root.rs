//! Reads the tables at the top of the file, and names those that do not belong there.

use klar_base::ServiceName;

use crate::fault::Fault;
use crate::keys::{
    Account, App, Backup, Check, Deploy, ENV, Edge, Logs, OwnCheck, ROOTS, Recovery, Root, RoutePolicy, See,
    Service, StoreKeys, WafException, Waiver,
};
use crate::read::{Reader, join};
use crate::route::{Pattern, Route};
use crate::suggest::{self, quote};
use crate::tree::{Data, Entry, Node, Table, toml_string};
use crate::values::{Role, name_complaint};

/// What could be read of each table.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) app: Option<App>,
    pub(crate) services: Vec<(ServiceName, Option<Service>)>,
    pub(crate) routes: Vec<Route>,
    pub(crate) data: Vec<(ServiceName, Option<StoreKeys>, Entry)>,
    pub(crate) edge: Option<Edge>,
    pub(crate) logs: Option<Logs>,
    pub(crate) see: Option<See>,
    pub(crate) backup: Option<Backup>,
    pub(crate) recovery: Option<Recovery>,
    pub(crate) deploy: Option<Deploy>,
    pub(crate) check: Option<Check>,
    pub(crate) checks: Vec<(ServiceName, Option<OwnCheck>)>,
    pub(crate) waivers: Vec<(ServiceName, Option<Waiver>)>,
    pub(crate) waf: Vec<(ServiceName, Option<WafException>)>,
    pub(crate) accounts: Vec<(ServiceName, Option<Account>)>,
}

pub(crate) fn read_root(table: &Table, cx: &mut Reader<'_>) -> Parts {
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
            "services" => parts.services = without_entries(read_named(found, cx, Service::read)),
            "routes" => parts.routes = read_routes(found, cx),
            "data" => parts.data = read_named(found, cx, StoreKeys::read),
            "edge" => parts.edge = Edge::read(found, cx),
            "logs" => parts.logs = Logs::read(found, cx),
            "see" => parts.see = See::read(found, cx),
            "backup" => parts.backup = Backup::read(found, cx),
            "recovery" => parts.recovery = Recovery::read(found, cx),
            "deploy" => parts.deploy = Deploy::read(found, cx),
            "check" => parts.check = Check::read(found, cx),
            "checks" => parts.checks = without_entries(read_named(found, cx, OwnCheck::read)),
            "waf" => parts.waf = without_entries(read_named(found, cx, WafException::read)),
            "waivers" => parts.waivers = without_entries(read_named(found, cx, Waiver::read)),
            _ => parts.accounts = without_entries(read_named(found, cx, Account::read)),
        }
        cx.path.pop();
    }
    parts
}

fn without_entries<T>(named: Vec<(ServiceName, T, Entry)>) -> Vec<(ServiceName, T)> {
    named.into_iter().map(|(name, value, _)| (name, value)).collect()
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
            if let Some(key) = home.section.key(&entry.key) {
                cx.note_misspelt(vec![home.name.into()], key.name);
            }
            cx.note_misspelt(Vec::new(), home.name);
            let name = if home.name == "data" { "db" } else { "web" };
            let header = home.section.header().replace("NAME", name);
            (
                format!("key {} stands outside of its table", quote(&entry.key)),
                "no table above it",
                format!("write it below `{header}`"),
            )
        }
        (Some(meant), _) => {
            if let Some(root) = ROOTS.iter().find(|root| root.name == meant) {
                cx.note_misspelt(cx.path.clone(), root.name);
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
            let hint = format!("the tables are {}", suggest::all_of(names));
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
            let name = match root.as_str() {
                "data" => "db",
                "accounts" => "user",
                "checks" => "orders",
                "waivers" => "later",
                "waf" => "notes",
                _ => "web",
            };
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
                let what = match cx.path.last().map(String::as_str) {
                    Some("data") => "store",
                    Some("accounts") => "account",
                    Some("checks") => "check",
                    Some("waivers") => "waiver",
                    Some("waf") => "exception",
                    _ => "service",
                };
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
            None => format!("the services are {}", suggest::all_of(names())),
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
