//! Environments: `[env.NAME]` is checked on its own, and laid over the rest of the file when it is wanted.

use klar_base::EnvName;

use crate::fault::Fault;
use crate::keys::{ENV, ROOTS};
use crate::load::Note;
use crate::read::{Facts, Reader};
use crate::root::read_root;
use crate::suggest::{self, quote};
use crate::tree::{Data, Entry, Table};
use crate::values::name_complaint;

/// Checks every environment's table on its own, and lays the one that is wanted over the rest.
pub(crate) fn overlay(root: &Table, env: &EnvName) -> (Table, Vec<Fault>, Vec<std::ops::Range<usize>>) {
    let facts = Facts { root: root.clone(), ..Facts::default() };
    let mut cx = Reader::new(&facts, true);
    let mut merged = root.clone();
    merged.entries.retain(|entry| entry.key != ENV);
    let Some(environments) = root.entry(ENV) else { return (merged, Vec::new(), Vec::new()) };
    let mut unknown_services = Vec::new();
    cx.path.push(ENV.into());
    match environments.node.table() {
        None => cx.fault(
            Fault::new("`env` must be a table of environments")
                .at(environments.node.span.clone(), format!("this is {}", environments.node.data.noun()))
                .hint("write `[env.staging]`; variables for a service go into `env` of the service"),
        ),
        Some(environments) => {
            for entry in &environments.entries {
                let unknown = check_environment(entry, root, &mut cx);
                if entry.key == env.as_str() {
                    unknown_services = unknown;
                }
            }
        }
    }
    let chosen = root.get_table(ENV).and_then(|environments| environments.get_table(env.as_str()));
    if let Some(chosen) = chosen {
        merged.overlay(chosen, &mut Vec::new(), &alternatives);
        // Reported already; as services of their own they would only cause more errors.
        let services = merged.entries.iter_mut().find(|entry| entry.key == "services");
        if let Some(Data::Table(services)) = services.map(|entry| &mut entry.node.data) {
            services.entries.retain(|entry| !unknown_services.contains(&entry.key));
        }
    }
    (merged, cx.faults, cx.hidden)
}

/// Returns the services it names that are in no other part of the file.
fn check_environment(entry: &Entry, root: &Table, cx: &mut Reader<'_>) -> Vec<String> {
    let mut unknown = Vec::new();
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
        return unknown;
    }
    let Some(table) = entry.node.table() else {
        let fault = Fault::new(format!("`env.{}` must be a table", entry.key))
            .at(entry.node.span.clone(), format!("this is {}", entry.node.data.noun()))
            .hint(format!("write `[env.{}.services.NAME]` and below it what is different there", entry.key));
        cx.fault(fault);
        return unknown;
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
                unknown.push(service.key.clone());
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
    unknown
}

fn alternatives(path: &[String]) -> &'static [&'static str] {
    let [root, _] = path else { return &[] };
    ROOTS
        .iter()
        .find(|known| known.name == root && known.named)
        .map_or(&[], |known| known.section.alternatives)
}

/// Takes away the domains of `[app]` in another environment than prod: they belong to prod.
pub(crate) fn own_domains(mut root: Table, env: &EnvName, notes: &mut Vec<Note>) -> Table {
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
