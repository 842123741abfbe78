//! klar: runs your web app in production.

mod cli;
mod context;
mod disaster;
mod hands;
mod out;
mod pack;
mod rig;
mod verbs;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cache, Cert, Cli, Look, Verb, Waf};
use context::{Context, Trouble};
use verbs::{
    backup, check, dashboard, edge, fix, host, learn, ledger, metrics, operate, see, service, trace, trust,
    up, upgrade, waf,
};

/// Returns what it frees sooner than the system's own, and is faster with many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Cli { global, verb } = Cli::parse();
    let context = Context::new(global);
    let checks = matches!(verb, Some(Verb::Check(_)));
    match run(&context, verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            let status = trouble.tell(&context.printer);
            ExitCode::from(if checks { check::exit_of(&trouble).unwrap_or(status) } else { status })
        }
    }
}

fn run(context: &Context, verb: Option<Verb>) -> Result<(), Trouble> {
    match verb {
        None | Some(Verb::Status) => see::status(context),
        Some(Verb::Ps) => see::ps(context),
        Some(Verb::Metrics(wanted)) => metrics::metrics(context, &wanted),
        Some(Verb::Dashboard(wanted)) => dashboard::dashboard(context, &wanted),
        Some(Verb::Trace { id }) => trace::trace(context, &id),
        Some(Verb::Traces(wanted)) => trace::traces(context, &wanted),
        Some(Verb::Logs(wanted)) => see::logs(context, wanted),
        Some(Verb::Doctor) => see::doctor(context),
        Some(Verb::Open { print }) => see::open(context, print),
        Some(Verb::Version) => see::version(context),
        Some(Verb::Up) => up::up(context),
        Some(Verb::Deploy) => up::deploy(context),
        Some(Verb::Rollback) => operate::rollback(context),
        Some(Verb::Restart { service }) => operate::restart(context, service),
        Some(Verb::Scale { wanted: (service, number) }) => operate::scale(context, service, number),
        Some(Verb::Cache(Cache::Purge(wanted))) => operate::purge(context, &wanted),
        Some(Verb::Waf(Waf::Report(wanted))) => waf::report(context, &wanted),
        Some(Verb::Waf(Waf::Try(wanted))) => waf::attempt(context, &wanted),
        Some(Verb::Waf(Waf::Explain { id })) => waf::explain(context, &id),
        Some(Verb::Waf(Waf::Allow(wanted))) => waf::allow(context, &wanted),
        Some(Verb::Waf(Waf::Add { from })) => waf::add(context, &from),
        Some(Verb::Backup { what, store }) => backup::backup(context, what, store),
        Some(Verb::Restore(wanted)) => backup::restore(context, wanted),
        Some(Verb::Clone(wanted)) => backup::clone(context, wanted),
        Some(Verb::Drill(wanted)) => backup::drill(context, wanted),
        Some(Verb::Cert(Cert::Renew)) => operate::renew(context),
        Some(Verb::Down(wanted)) => operate::down(context, &wanted),
        Some(Verb::Check(wanted)) => check::check(context, &wanted),
        Some(Verb::Attest(wanted)) => ledger::attest(context, &wanted),
        Some(Verb::Ledger(wanted)) => ledger::ledger(context, &wanted),
        Some(Verb::Fix(wanted)) => fix::fix(context, &wanted),
        Some(Verb::Foil(wanted)) => check::foil(context, &wanted),
        Some(Verb::Init(wanted)) => learn::init(context, &wanted),
        Some(Verb::Explain { key }) => learn::explain(context, key.as_deref()),
        Some(Verb::Schema) => learn::schema(context),
        Some(Verb::Completions { shell }) => learn::completions(shell),
        Some(Verb::Man { out }) => learn::man(out.as_deref()),
        Some(Verb::Trust { print }) => trust::trust(context, print),
        Some(Verb::Service { what }) => service::service(context, what),
        Some(Verb::Upgrade(wanted)) => upgrade::upgrade(context, &wanted),
        Some(Verb::Formats) => {
            host::formats(context);
            Ok(())
        }
        Some(Verb::Host { core_pid, core_fd }) => {
            host::host(&context.layout, host::Handed { core_pid, core_fd })
        }
        Some(Verb::Spawn) => host::spawn(&context.layout, host::Handed::default()),
        Some(Verb::Core { spawner_fd }) => host::core(&context.layout, spawner_fd),
        Some(Verb::Edge { what: Some(Look::Top { once }), .. }) => edge::top(context, once),
        Some(Verb::Edge { what: Some(Look::Explain(wanted)), .. }) => edge::explain(context, wanted),
        Some(Verb::Edge { core_uid: Some(core_uid), static_root, cache_folder, .. }) => {
            host::edge(core_uid, static_root, cache_folder)
        }
        Some(Verb::Edge { .. }) => Err(edge::nothing_wanted()),
        Some(Verb::See { folder, apps, allow, tcp }) => host::see(folder, apps, allow, tcp),
        Some(Verb::Keep { folder, allow }) => host::keep(folder, allow),
        Some(Verb::ReadFiles { folder }) => host::read_files(&folder),
        Some(Verb::Shim { .. }) => host::shim(),
        Some(Verb::Assets { out }) => host::assets(&out),
        Some(Verb::Images { memory, time }) => host::images(memory, time),
    }
}
