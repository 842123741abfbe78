//! What keys say about each other: a static service with a health path, a cron service without a schedule.

use std::collections::BTreeMap;

use klar_base::ServiceName;

use crate::fault::Fault;
use crate::keys::{OwnCheck, Service};
use crate::load::{Engine, Store};
use crate::read::Reader;
use crate::suggest::{self, quote};
use crate::table::Kind;
use crate::tree::{Data, Entry, Node, Table};
use crate::values::Role;

/// What the keys of one service say about each other.
pub(crate) fn check_services(root: &Table, cx: &mut Reader<'_>) {
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

/// What the keys of `[backup]` say about each other.
pub(crate) fn check_backup(root: &Table, cx: &mut Reader<'_>) {
    let Some(backup) = root.get_table("backup") else { return };
    let Some(entry) = backup.entry("synchronous").filter(|entry| matches!(entry.node.data, Data::Bool(true)))
    else {
        return;
    };
    match backup.get("offsite").map(|node| (&node.data, &node.span)) {
        None if !cx.is_misspelt("offsite") => cx.fault(
            Fault::new("`backup.synchronous` needs `backup.offsite`")
                .at(entry.key_span.clone(), "commits wait for which place?")
                .hint("add `offsite = \"sftp://USER@HOST/FOLDER\"`"),
        ),
        Some((Data::Text(place), span)) if place.starts_with("s3:") => cx.fault(
            Fault::new("commits cannot wait for a bucket: its objects cannot be appended to")
                .at(span.clone(), "a bucket")
                .and(entry.key_span.clone(), "what commits wait for")
                .hint("name a machine, `sftp://USER@HOST/FOLDER`, or a folder of a network; or remove `synchronous`"),
        ),
        _ => {}
    }
}

/// What the keys of an exception of the firewall say about each other.
pub(crate) fn check_waf(root: &Table, cx: &mut Reader<'_>) {
    for entry in root.get_table("waf").map(|waf| waf.entries.as_slice()).unwrap_or_default() {
        let Some(table) = entry.node.table() else { continue };
        let name = quote(&entry.key);
        match (table.entry("allow"), table.entry("pattern")) {
            (Some(first), Some(second)) => cx.fault(
                Fault::new(format!("exception {name} allows and demands at once"))
                    .at(second.key_span.clone(), "and `pattern`")
                    .and(first.key_span.clone(), "`allow`")
                    .hint("make two exceptions of it"),
            ),
            (None, None) if !["allow", "pattern"].iter().any(|way| cx.is_misspelt(way)) => {
                let header = if table.span.is_empty() { entry.key_span.clone() } else { table.span.clone() };
                cx.fault(
                    Fault::new(format!("exception {name} says nothing"))
                        .at(header, "neither `allow` nor `pattern`")
                        .hint("add `allow = [942100]` with the rules that should not look there"),
                );
            }
            (None, Some(pattern)) if table.entry("parameter").is_none() => cx.fault(
                Fault::new(format!("exception {name} does not say what must be so"))
                    .at(pattern.key_span.clone(), "of which parameter?")
                    .hint("add `parameter = \"id\"`"),
            ),
            _ => {}
        }
    }
}

/// What the keys of a check say about each other, and about stores and accounts.
pub(crate) fn check_own_checks(root: &Table, stores: &BTreeMap<ServiceName, Store>, cx: &mut Reader<'_>) {
    for entry in root.get_table("checks").map(|checks| checks.entries.as_slice()).unwrap_or_default() {
        let Some(table) = entry.node.table() else { continue };
        cx.path = vec!["checks".into(), entry.key.clone()];
        check_own_check(entry, table, root, stores, cx);
        cx.path.clear();
    }
}

fn check_own_check(
    entry: &Entry,
    table: &Table,
    root: &Table,
    stores: &BTreeMap<ServiceName, Store>,
    cx: &mut Reader<'_>,
) {
    let name = quote(&entry.key);
    let ways = OwnCheck::SECTION.alternatives;
    let set: Vec<&Entry> = table.entries.iter().filter(|set| ways.contains(&&*set.key)).collect();
    let way = match &set[..] {
        [] if ways.iter().any(|way| cx.is_misspelt(way)) => return,
        [] => {
            let header = if table.span.is_empty() { entry.key_span.clone() } else { table.span.clone() };
            let fault = Fault::new(format!("check {name} does not say how to look"))
                .at(header, "neither `path`, `sql` nor `command`")
                .hint("add `path = \"/api/prices\"`, `sql = \"SELECT …\"` or `command = \"…\"`");
            return cx.fault(fault);
        }
        [way] => *way,
        [first, second, ..] => {
            let fault = Fault::new(format!("check {name} looks in two ways at once"))
                .at(second.key_span.clone(), format!("and `{}`", second.key))
                .and(first.key_span.clone(), format!("`{}`", first.key))
                .hint("make two checks of it");
            return cx.fault(fault);
        }
    };
    for set in &table.entries {
        let of: &[&str] = match set.key.as_str() {
            "status" | "contains" | "within" | "account" => &["path"],
            "store" => &["sql"],
            "plant" => &["sql", "command"],
            _ => continue,
        };
        if !of.contains(&way.key.as_str()) {
            let fault = Fault::new(format!("`{}` means nothing here: {name} has `{}`", set.key, way.key))
                .at(set.key_span.clone(), format!("only beside `{}`", of.join("` or `")))
                .hint("remove the line");
            cx.fault(fault);
        }
    }
    let named = |key: &str| Some((table.entry(key)?, table.get(key)?.text()?));
    if let Some((account, label)) = named("account")
        && root.get_table("accounts").and_then(|accounts| accounts.get(label)).is_none()
    {
        let fault = Fault::new(format!("check {name} asks as {}, which is no account", quote(label)))
            .at(account.node.span.clone(), "no such account")
            .hint(format!("add `[accounts.{label}]`, or leave `account` out"));
        cx.fault(fault);
    }
    let is_postgres = |store: &Store| store.engine == Engine::Postgres;
    let databases = || stores.iter().filter(|(_, store)| is_postgres(store)).map(|(name, _)| name.as_str());
    if let Some((store, label)) = named("store")
        && !databases().any(|database| database == label)
    {
        let hint = match databases().count() {
            0 => "add `[data.db]` with `postgres = \"managed\"`".to_owned(),
            _ => format!("the PostgreSQL databases are {}", suggest::all_of(databases())),
        };
        let fault =
            Fault::new(format!("check {name} asks {}, which is no PostgreSQL of this app", quote(label)))
                .at(store.node.span.clone(), "no such database")
                .hint(hint);
        cx.fault(fault);
    } else if way.key == "sql" && table.get("store").is_none() && databases().count() != 1 {
        let fault = match databases().count() {
            0 => Fault::new(format!("check {name} asks a database, and the app has none"))
                .at(way.key_span.clone(), "no PostgreSQL to ask")
                .hint("add `[data.db]` with `postgres = \"managed\"`, or `url = \"env:DATABASE_URL\"`"),
            _ => Fault::new(format!("check {name} does not say which database it asks"))
                .at(way.key_span.clone(), "there are several")
                .hint(format!("add `store`: one of {}", suggest::all_of(databases()))),
        };
        cx.fault(fault);
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
    if let (Some(health), Some(protocol)) = (table.entry("health"), table.entry("protocol"))
        && protocol.node.text() == Some("h2c")
    {
        let fault = Fault::new(format!("service {name} speaks h2c and has a health path"))
            .at(health.key_span.clone(), "klar asks for no path in HTTP/2")
            .and(protocol.key_span.clone(), "HTTP/2")
            .hint("remove `health`: an instance is ready when it answers in HTTP/2");
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

pub(crate) fn roles(roles: &[Role]) -> String {
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

pub(crate) fn check_edge(root: &Table, cx: &mut Reader<'_>) {
    let Some(edge) = root.get_table("edge") else { return };
    for (one, other, example) in
        [("certificate", "key", "/etc/ssl/shop.key"), ("key", "certificate", "/etc/ssl/shop.pem")]
    {
        if let (Some(set), None) = (edge.entry(one), edge.entry(other)) {
            let fault = Fault::new(format!("`edge.{one}` needs `edge.{other}`"))
                .at(set.key_span.clone(), "one without the other")
                .hint(format!(
                    "add `{other} = \"{example}\"`, or remove this line and let klar get a certificate"
                ));
            cx.fault(fault);
        }
    }
    for set in ["acme_email", "acme_root"] {
        if let (Some(entry), None) = (edge.entry(set), edge.entry("acme")) {
            let fault = Fault::new(format!("`edge.{set}` needs `edge.acme`"))
                .at(entry.key_span.clone(), "for which authority?")
                .hint("add `acme = \"letsencrypt\"`, which says that you agree to its terms of service, or remove this line");
            cx.fault(fault);
        }
    }
    check_proxies(edge, cx);
    check_widths(edge, cx);
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

/// Widths of images: each may be a copy of each image.
const WIDTHS_MAX: usize = 16;

fn check_widths(edge: &Table, cx: &mut Reader<'_>) {
    let Some(entry) = edge.entry("image_widths") else { return };
    let Data::List(widths) = &entry.node.data else { return };
    if widths.len() > WIDTHS_MAX {
        let fault = Fault::new(format!("`edge.image_widths` has more than {WIDTHS_MAX} widths"))
            .at(entry.key_span.clone(), format!("{} of them", widths.len()))
            .hint("leave some out: browsers choose the next larger one");
        cx.fault(fault);
    }
}

/// Proxies that are looked for in every request; nobody has so many networks of them.
const PROXIES_MAX: usize = 256;

fn check_proxies(edge: &Table, cx: &mut Reader<'_>) {
    let proxies = edge.entry("trusted_proxies").and_then(|entry| match &entry.node.data {
        Data::List(proxies) => Some((entry, proxies.len())),
        _ => None,
    });
    if let Some((entry, count)) = proxies.filter(|(_, count)| *count > PROXIES_MAX) {
        let fault = Fault::new(format!("`edge.trusted_proxies` has more than {PROXIES_MAX} networks"))
            .at(entry.key_span.clone(), format!("{count} of them"))
            .hint("name the networks that they are in");
        cx.fault(fault);
    }
    if proxies.is_some_and(|(_, count)| count > 0) || cx.is_misspelt("trusted_proxies") {
        return;
    }
    let needs = [
        ("proxy_protocol", "true", "nobody could connect"),
        ("plain_http", "\"trusted\"", "nobody would be served"),
        ("forwarded_header", "\"forwarded\"", "whose?"),
    ];
    for (name, value, label) in needs {
        let Some(entry) = edge.entry(name).filter(|entry| entry.node.to_toml() == value) else {
            continue;
        };
        let fault = Fault::new(format!("`edge.{name}` needs `edge.trusted_proxies`"))
            .at(entry.key_span.clone(), label)
            .hint("add `trusted_proxies = [\"10.0.0.0/8\"]` with the addresses of your proxies, or remove this line");
        cx.fault(fault);
    }
}
