//! `klar check`: from what was typed to a world, a run, and a report.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use jiff::Timestamp;
use klar_base::{Secret, ServiceName};
use klar_config::{Config, FILE_NAME, Place};
use klar_prove::catalogue::Catalogue;
use klar_prove::check::{Check, Disturbs, Fault, Need};
use klar_prove::evidence::{self, Attestation, Control, Evidence, kind};
use klar_prove::foil::{Foil, SWITCHES};
use klar_prove::own::{Declared, Own};
use klar_prove::prove;
use klar_prove::report::Report;
use klar_prove::report::text::{Detail, Paint};
use klar_prove::run::{self, Progress};
use klar_prove::standing::{Records, Standing};
use klar_prove::words::Lang;
use klar_prove::world::http::{Client, Origin};
use klar_prove::world::{Account, Accounts, World};
use klar_run::durable;
use klar_run::report::{AppStatus, Failure, Readiness};
use klar_run::store::Engine;
use klar_store::{Entry, KeyId, Ledger};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::checklist::List;
use super::ledger;
use super::up::secret;
use crate::cli::{self, Format};
use crate::context::{Context, Trouble};
use crate::hands::Hands;
use crate::out::{BAD, FAIR, GOOD, QUIET, paint};
use crate::rig::Rig;

/// The app is not ready: exit status 1.
const NOT_READY: u8 = 1;
/// klar could not look: exit status 3.
const COULD_NOT: u8 = 3;

/// `klar check`.
pub fn check(context: &Context, wanted: &cli::Check) -> Result<(), Trouble> {
    let declared = declared(context, wanted)?;
    let all = declared.checks();
    let chosen = choose(wanted, &all)?;
    let list = wanted.list.as_deref().map(|path| Ok::<_, Trouble>((path, List::read(path)?))).transpose()?;
    if let Some(file) = &wanted.replay {
        return replay(context, wanted, file);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Trouble::system("starting"))?;
    LocalSet::new().block_on(&runtime, async {
        let ended = ended()?;
        let ledger = ledger::open(context)?;
        let mut world = world(context, wanted).await?;
        limit(&mut world, wanted, ledger.key()).await?;
        let world = Rc::new(world);
        let told = Told::read(&ledger, declared, all)?;
        tokio::select! {
            done = checked(context, wanted, chosen, list, told, &ledger, &world) => done,
            // What runs beside this process goes with it: rig, browser and scratch database end when they are dropped.
            () = ended => {
                run::restore(&world).await;
                Err(Trouble::Verdict(COULD_NOT))
            }
        }
    })
}

/// Waits until klar is told to end: by a service manager, or because the terminal is gone.
fn ended() -> Result<impl Future<Output = ()>, Trouble> {
    let listen = |kind| signal(kind).map_err(Trouble::system("listening for signals"));
    let (mut terminate, mut hangup) = (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = hangup.recv() => {} }
    })
}

async fn checked(
    context: &Context,
    wanted: &cli::Check,
    chosen: Vec<Check>,
    list: Option<(&Path, List)>,
    mut told: Told,
    ledger: &Ledger,
    world: &Rc<World>,
) -> Result<(), Trouble> {
    told.declare(ledger)?;
    let chosen = if wanted.due { due(&chosen, &told, &world.target) } else { chosen };
    tokio::select! {
        proven = prove_probes(context, wanted, &chosen, world, ledger, &mut told) => proven?,
        _ = tokio::signal::ctrl_c() => return Err(Trouble::Verdict(COULD_NOT)),
    }
    if !wanted.prove_probes {
        look(context, &chosen, world, ledger, &mut told).await?;
    }
    if wanted.full && !told.interrupted {
        let disturbing: Vec<Check> =
            chosen.iter().filter(|check| check.about.disturbs >= Disturbs::Attacks).copied().collect();
        in_rig(context, &disturbing, world, ledger, &mut told).await?;
    }
    let report = told.report(&world.target, world.release.as_deref(), Timestamp::now());
    if wanted.url.is_none() {
        keep(context, &report)?;
    }
    match list {
        Some((path, list)) => list.tell(context, path, &report, wanted.lang, wanted.write),
        None if wanted.due => Ok(()),
        None => show(context, wanted, &report, &told.declared.catalogue()),
    }
}

/// Checks that disturb nobody, need little, and whose evidence is no longer young.
fn due(chosen: &[Check], told: &Told, target: &str) -> Vec<Check> {
    let now = Timestamp::now();
    let is_due = |check: &&Check| {
        let about = check.about;
        let last = told.evidence.iter().rev().find(|seen| {
            seen.check == about.id
                && seen.target == target
                && seen.place == evidence::Place::Target
                && seen.version == about.version
        });
        let half = i64::try_from(about.good_for.as_secs() / 2).unwrap_or(i64::MAX);
        last.is_none_or(|last| now.duration_since(last.ended).as_secs() > half)
    };
    // No browser and no scratch database beside an app that is busy.
    let heavy = [Need::Source, Need::Browser, Need::Database];
    let quiet = |check: &&Check| {
        check.about.disturbs == Disturbs::Nothing
            && !check.about.needs.iter().any(|need| heavy.contains(need))
    };
    chosen.iter().filter(quiet).filter(is_due).copied().collect()
}

/// Leaves the result where `klar status` finds it.
fn keep(context: &Context, report: &Report) -> Result<(), Trouble> {
    let Ok(key) = context.key() else { return Ok(()) };
    let count = |standing| {
        let found = report.counts.iter().find(|(each, _)| *each == standing);
        found.map_or(0, |(_, count)| u32::try_from(*count).unwrap_or(u32::MAX))
    };
    let readiness = Readiness {
        total: report.score.total,
        ready: report.verdict.ready,
        proven: count(Standing::Proven) + count(Standing::Attested),
        failing: count(Standing::Failing),
        at_unix_ms: u64::try_from(report.at.as_millisecond()).unwrap_or(0),
    };
    let path = context.layout.readiness(&key);
    durable::write_json(&path, &readiness).map_err(Trouble::system("keeping the result"))?;
    klar_store::ledger::give_to_owner(&path, &context.layout.ledger())
        .map_err(Trouble::system(path.display()))
}

/// `klar foil`.
pub fn foil(context: &Context, wanted: &cli::FoilArgs) -> Result<(), Trouble> {
    if wanted.list {
        for (name, what) in SWITCHES {
            context.printer.data(format!("{name:<24} {what}"));
        }
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Trouble::system("starting"))?;
    LocalSet::new().block_on(&runtime, async {
        let faults: Vec<&str> = wanted.faults.iter().map(String::as_str).collect();
        let foil = Foil::start(&faults).await.map_err(|why| {
            Trouble::usage(Failure::new(why.to_string()).hint("`klar foil --list` names the switches"))
        })?;
        context.printer.data(format!("https://localhost:{}", foil.https.port()));
        context.printer.data(format!("http://localhost:{}", foil.http.port()));
        foil.serve().await;
        Ok(())
    })
}

/// What the `klar.toml` here says about checks, where it is its app that is checked.
fn declared(context: &Context, wanted: &cli::Check) -> Result<Declared, Trouble> {
    if wanted.url.is_some() || wanted.replay.is_some() || !context.folder().join(FILE_NAME).is_file() {
        return Ok(Declared::default());
    }
    let declared = Declared::of(&context.load()?.config);
    let catalogue = declared.catalogue();
    for waiver in &declared.waivers {
        if catalogue.get(&waiver.says.row).is_none() {
            let (name, row) = (&waiver.name, &waiver.says.row);
            let failure =
                Failure::new(format!("`waivers.{name}` in klar.toml waives `{row}`, which is no row"));
            return Err(Trouble::usage(failure.hint("`klar check --all` names the rows")));
        }
    }
    Ok(declared)
}

/// The checks that were asked for.
fn choose(wanted: &cli::Check, all: &[Check]) -> Result<Vec<Check>, Trouble> {
    if wanted.only.is_empty() {
        return Ok(all.to_vec());
    }
    let named = |check: &&Check, name: &str| {
        check.about.id == name || check.about.shows.iter().any(|(row, _)| *row == name)
    };
    for name in &wanted.only {
        if !all.iter().any(|check| named(&check, name)) {
            let ids: Vec<&str> = all.iter().map(|check| check.about.id).collect();
            let what = if Catalogue::built_in().get(name).is_some() {
                format!("klar has no check yet that looks at `{name}`")
            } else {
                format!("there is no check or row `{name}`")
            };
            return Err(Trouble::usage(
                Failure::new(what).hint(format!("the checks are {}", ids.join(", "))),
            ));
        }
    }
    let is_wanted = |check: &&Check| wanted.only.iter().any(|name| named(check, name));
    Ok(all.iter().filter(is_wanted).copied().collect())
}

/// What there is to look at.
pub(super) async fn world(context: &Context, wanted: &cli::Check) -> Result<World, Trouble> {
    let mut world = match &wanted.url {
        Some(url) => {
            let origin = Origin::parse(url).map_err(|why| Trouble::usage(Failure::new(why)))?;
            let mut world = World::new(origin.to_string());
            world.site = Some(Client::new(origin));
            world
        }
        None => running(context, wanted.due).await?,
    };
    world.source = wanted.source.clone().or(world.source);
    world.database = wanted.database.clone().or(world.database);
    world.api_file = wanted.openapi.clone();
    world.advisories = wanted.advisories.clone();
    if let Some(file) = &wanted.ca {
        let pem = std::fs::read(file).map_err(Trouble::system(file.display()))?;
        world.authority = first_certificate(&pem);
    }
    Ok(world)
}

/// The app of this folder, as klar runs it.
async fn running(context: &Context, due: bool) -> Result<World, Trouble> {
    let folder = context.folder();
    if !folder.join(FILE_NAME).is_file() {
        let failure = Failure::new("there is nothing to check here: no klar.toml and no --url");
        return Err(Trouble::usage(
            failure.hint("`klar check --url https://HOST`, or go to the folder of an app"),
        ));
    }
    let config = context.load()?.config;
    let key = config.key();
    let mut world = World::new(key.to_string());
    world.source = Some(folder.clone());
    world.tests = config.check.tests.as_ref().map(ToString::to_string);
    // Nobody is there to be told about a password that only a person's shell has.
    world.accounts =
        if due { accounts(&config, &folder).unwrap_or_default() } else { accounts(&config, &folder)? };
    let Ok(host) = context.client().status().await else { return Ok(world) };
    let Some(app) = host.apps.into_iter().find(|app| app.key == key) else { return Ok(world) };
    let origin = Origin::parse(&app.url).map_err(|why| Trouble::from(Failure::new(why)))?;
    world.plain = plain_port(&host.edge.listens, &origin);
    world.plain_address = world.plain.as_ref().map(|plain| ([127, 0, 0, 1], plain.port).into());
    world.site = Some(at_loopback(Client::new(origin), &app));
    world.release = app.release.as_ref().map(ToString::to_string);
    if let Ok(pem) = context.client().authority().await {
        world.authority = first_certificate(pem.as_bytes());
    }
    let stores = klar_run::store_urls(&context.layout, &key).unwrap_or_default();
    let of = |wanted| stores.iter().filter(move |(_, engine, _)| *engine == wanted);
    world.databases = of(Engine::Postgres).map(|(name, _, url)| (name.to_string(), url.clone())).collect();
    let variable = |name: &ServiceName| config.data.get(name).map(|store| store.env.to_string());
    world.variables =
        stores.iter().filter_map(|(name, _, url)| Some((variable(name)?, url.clone()))).collect();
    let first = |wanted| of(wanted).map(|(_, _, url)| url.clone()).next();
    world.database = first(Engine::Postgres);
    world.cache = first(Engine::Redis);
    world.klar = Some(Rc::new(Hands::new(context.client(), key, None)));
    Ok(world)
}

/// An app on this machine is asked here, whatever its names say elsewhere.
fn at_loopback(client: Client, _app: &AppStatus) -> Client {
    let port = client.origin().port;
    client.at(([127, 0, 0, 1], port).into())
}

/// Where the edge takes plain HTTP: the port that is not the one for HTTPS.
fn plain_port(listens: &[String], origin: &Origin) -> Option<Origin> {
    let ports = listens
        .iter()
        .filter_map(|listen| listen.rsplit(':').next()?.split_whitespace().next()?.parse().ok());
    let port = ports.into_iter().find(|port: &u16| *port != origin.port)?;
    Some(Origin { tls: false, host: origin.host.clone(), port })
}

fn accounts(config: &Config, folder: &Path) -> Result<Option<Accounts>, Trouble> {
    let Some(path) = &config.check.sign_in else { return Ok(None) };
    let body = serde_json::from_str(config.check.sign_in_body.as_str()).map_err(|why| {
        let failure = Failure::new(format!("`sign_in_body` in klar.toml is no JSON: {why}"));
        Trouble::usage(failure.hint(r#"for instance '{"email":"{name}","password":"{password}"}'"#))
    })?;
    let mut list = Vec::new();
    for (label, account) in &config.accounts {
        let password = secret(&account.password, folder).map_err(|(why, hint)| {
            let what = format!("the password of `accounts.{label}` in klar.toml cannot be read: {why}");
            Trouble::usage(Failure::new(what).hint(hint))
        })?;
        list.push((
            account.privileged,
            Account {
                label: label.to_string(),
                name: account.name.to_string(),
                password: Secret::new(password),
                privileged: account.privileged,
            },
        ));
    }
    list.sort_by_key(|(privileged, _)| *privileged);
    let csrf = config.check.csrf_header.as_ref();
    Ok((!list.is_empty()).then(|| Accounts {
        path: path.to_string(),
        body,
        csrf: csrf.map(|header| (header.to_string(), config.check.csrf_field.to_string())),
        list: list.into_iter().map(|(_, account)| account).collect(),
    }))
}

fn first_certificate(pem: &[u8]) -> Option<Vec<u8>> {
    use klar_prove::world::http::certificate_of;
    certificate_of(pem)
}

/// Where a site says who may attack it: the key of a ledger, as `klar ledger` prints it.
const TOKEN: &str = "/.well-known/klar-check";

/// Whether the site is provably the user's own: on this machine, or one that shows the key of their ledger.
async fn is_owned(world: &World, key: KeyId) -> bool {
    let Some(site) = &world.site else { return true };
    if world.klar.is_some() || site.is_loopback().await {
        return true;
    }
    let shown = site.get(TOKEN).await;
    shown.is_ok_and(|answer| answer.status.is_success() && answer.text().trim() == key.to_string())
}

/// How much checks may disturb the target itself. What is not provably one's own gets the few requests of a visitor;
/// guessing passwords, for one, is for owners.
async fn limit(world: &mut World, wanted: &cli::Check, key: KeyId) -> Result<(), Trouble> {
    let owned = is_owned(world, key).await;
    if wanted.disruptive && !owned {
        let site = world.site.as_ref().map(|site| site.origin().to_string()).unwrap_or_default();
        let failure = Failure::new(format!("{site} is not provably yours, so klar does not attack it"));
        return Err(Trouble::usage(failure.hint(format!("let it answer {TOKEN} with {key}, and ask again"))));
    }
    world.may = match (wanted.disruptive, owned) {
        (true, _) => Disturbs::Stops,
        (false, true) => Disturbs::Load,
        (false, false) => Disturbs::Nothing,
    };
    Ok(())
}

/// What the ledger tells, read once, and what `klar.toml` declares.
struct Told {
    evidence: Vec<Evidence>,
    controls: Vec<Control>,
    attestations: Vec<Attestation>,
    /// What the report is made with.
    declared: Declared,
    /// klar's checks and those that are declared.
    checks: Vec<Check>,
    /// What was declared before, with the time.
    before: Vec<(Timestamp, Declared)>,
    /// Somebody does not want to wait any longer.
    interrupted: bool,
}

impl Told {
    fn read(ledger: &Ledger, declared: Declared, checks: Vec<Check>) -> Result<Self, Trouble> {
        let entries = ledger.verified().map_err(|why| Trouble::from(Failure::new(why.to_string())))?;
        Ok(Self::of(&entries, declared, checks))
    }

    fn of(entries: &[Entry], declared: Declared, checks: Vec<Check>) -> Self {
        let (evidence, controls, attestations, before) = Default::default();
        let mut told =
            Self { evidence, controls, attestations, declared, checks, before, interrupted: false };
        for entry in entries {
            let Some(payload) = &entry.payload else { continue };
            let text = payload.get();
            // What an older klar wrote in another form no longer counts as evidence.
            match entry.kind.as_str() {
                kind::EVIDENCE => told.evidence.extend(serde_json::from_str(text).ok()),
                kind::CONTROL => told.controls.extend(serde_json::from_str(text).ok()),
                kind::ATTESTATION => told.attestations.extend(serde_json::from_str(text).ok()),
                kind::DECLARED => {
                    told.before.extend(serde_json::from_str(text).ok().map(|said| (entry.at, said)));
                }
                _ => {}
            }
        }
        told
    }

    /// Writes down what is declared now, where that is something else than before.
    fn declare(&self, ledger: &Ledger) -> Result<(), Trouble> {
        let declared = &self.declared;
        let last = self.before.iter().rev().find(|(_, said)| said.target == declared.target);
        let is_news = match last {
            Some((_, said)) => said != declared,
            None => !declared.checks.is_empty() || !declared.waivers.is_empty(),
        };
        if is_news {
            ledger
                .append(Timestamp::now(), [(kind::DECLARED, declared.target.as_str(), declared)])
                .map_err(|why| Trouble::from(Failure::new(why.to_string())))?;
        }
        Ok(())
    }

    fn report(&self, target: &str, release: Option<&str>, at: Timestamp) -> Report {
        let records = Records {
            target,
            release,
            at,
            evidence: &self.evidence,
            controls: &self.controls,
            attestations: &self.attestations,
            declared: &self.declared,
        };
        Report::of(&self.declared.catalogue(), &self.checks, &records)
    }
}

/// Runs what disturbs against a copy that is there for it.
async fn in_rig(
    context: &Context,
    disturbing: &[Check],
    target: &World,
    ledger: &Ledger,
    told: &mut Told,
) -> Result<(), Trouble> {
    let began = Instant::now();
    context
        .printer
        .story(format!("{} a rig: the same app a second time, for what disturbs", paint(QUIET, "→")));
    let config = context.load()?.config;
    if let Some((name, _)) = config.data.iter().find(|(_, store)| !matches!(store.place, Place::Managed)) {
        let failure =
            Failure::new(format!("`data.{name}` lies elsewhere: a rig would attack and fill the real one"));
        let hint = "check with an environment in which klar runs the database: `[env.check.data.NAME] postgres = \"managed\"` and `--env check`";
        return Err(Trouble::usage(failure.hint(hint)));
    }
    let rig = Rc::new(Rig::start(context, &config).await?);
    context.printer.story(format!(
        "{} the rig serves  {}",
        paint(QUIET, "→"),
        paint(QUIET, format!("{:.1} s", began.elapsed().as_secs_f64()))
    ));
    let mut world = running(&rig.context, false).await?;
    let key = context.key()?;
    world.klar = Some(Rc::new(Hands::new(rig.context.client(), key, Some(Rc::clone(&rig)))));
    world.target.clone_from(&target.target);
    world.place = evidence::Place::Rig;
    world.may = Disturbs::Stops;
    let world = Rc::new(world);
    look(context, disturbing, &world, ledger, told).await
}

/// Shows the checks their planted faults: those that have not been shown them yet, or all when that was asked for.
async fn prove_probes(
    context: &Context,
    wanted: &cli::Check,
    chosen: &[Check],
    world: &Rc<World>,
    ledger: &Ledger,
    told: &mut Told,
) -> Result<(), Trouble> {
    let known: BTreeSet<(&str, u32)> = told
        .controls
        .iter()
        .filter(|control| control.missed.is_empty())
        .map(|control| (control.check.as_str(), control.version))
        .collect();
    let mut unproven: Vec<Check> = chosen
        .iter()
        .filter(|check| wanted.prove_probes || !known.contains(&(check.about.id, check.about.version)))
        .filter(|check| check.about.faults.iter().any(|fault| !matches!(fault, Fault::Rig(..))))
        .copied()
        .collect();
    if unproven.is_empty() {
        return Ok(());
    }
    let began = Instant::now();
    let own: Vec<&Own> = unproven.iter().filter_map(Check::declared).collect();
    unproven.retain(|check| check.declared().is_none());
    let mut controls = prove::controls(unproven).await;
    for own in own {
        controls.extend(own.control(world).await);
    }
    for control in &controls {
        if wanted.prove_probes || !control.missed.is_empty() {
            let sign = if control.missed.is_empty() { paint(GOOD, "✓") } else { paint(BAD, "✗") };
            let missed = match control.missed.as_slice() {
                [] => String::new(),
                missed => format!(", missed {}", missed.join(", ")),
            };
            context.printer.story(format!(
                "  {sign} {:<20} {} planted{missed}",
                control.check,
                control.planted.len()
            ));
        }
    }
    controls.sort_by(|a, b| a.check.cmp(&b.check));
    let found: usize = controls.iter().map(|control| control.planted.len() - control.missed.len()).sum();
    let planted: usize = controls.iter().map(|control| control.planted.len()).sum();
    context.printer.story(format!(
        "{} the checks found {found} of {planted} planted faults  {}",
        paint(QUIET, "→"),
        paint(QUIET, format!("{:.1} s", began.elapsed().as_secs_f64()))
    ));
    let entries = controls.iter().map(|control| (kind::CONTROL, control.check.as_str(), control));
    ledger.append(Timestamp::now(), entries).map_err(|why| Trouble::from(Failure::new(why.to_string())))?;
    told.controls.extend(controls);
    Ok(())
}

/// Runs the checks, tells how it goes, and keeps each result as soon as it is there: what was seen when somebody
/// presses Ctrl-C is not lost.
async fn look(
    context: &Context,
    chosen: &[Check],
    world: &Rc<World>,
    ledger: &Ledger,
    told: &mut Told,
) -> Result<(), Trouble> {
    let began = Instant::now();
    let (progress, mut results) = mpsc::unbounded_channel();
    let all = chosen.len();
    let mut running = BTreeSet::new();
    let mut done = 0;
    let live = context.printer.is_live();
    let chosen = chosen.to_vec();
    let run = tokio::task::spawn_local({
        let world = Rc::clone(world);
        async move { run::run(&chosen, world, progress).await }
    });
    let mut interrupted = false;
    loop {
        let next = tokio::select! {
            next = results.recv() => next,
            _ = tokio::signal::ctrl_c() => {
                interrupted = true;
                run.abort();
                None
            }
        };
        match next {
            None => break,
            Some(Progress::Began(id)) => {
                running.insert(id.to_owned());
            }
            Some(Progress::Done(evidence)) => {
                running.remove(&evidence.check);
                done += 1;
                ledger
                    .append(evidence.ended, [(kind::EVIDENCE, evidence.check.as_str(), &*evidence)])
                    .map_err(|why| Trouble::from(Failure::new(why.to_string())))?;
                told.evidence.push(*evidence);
            }
        }
        if live {
            let names: Vec<&str> = running.iter().map(String::as_str).take(4).collect();
            let mut stderr = anstream::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K{done}/{all} {}", names.join(", "));
            let _ = stderr.flush();
        }
    }
    if live {
        let _ = write!(anstream::stderr().lock(), "\r\x1b[K");
    }
    if interrupted {
        run::restore(world).await;
    }
    told.interrupted |= interrupted;
    let what = if interrupted { "stopped; what was seen is kept" } else { "looked" };
    context.printer.story(format!(
        "{} {what}: {done} of {all} checks  {}",
        paint(if interrupted { FAIR } else { QUIET }, "→"),
        paint(QUIET, format!("{:.1} s", began.elapsed().as_secs_f64()))
    ));
    Ok(())
}

fn replay(context: &Context, wanted: &cli::Check, file: &Path) -> Result<(), Trouble> {
    let read = klar_store::ledger::read(file).map_err(|why| Trouble::usage(Failure::new(why.to_string())))?;
    let broken = |why: String| {
        let failure = Failure::new(format!("{}: {why}", file.display()));
        Trouble::from(
            failure.hint("this is not the evidence as it was written: get it again from where it was made"),
        )
    };
    let Some(key) = wanted.key else {
        let failure = Failure::new("--replay needs --key: who is trusted to have written this evidence");
        return Err(Trouble::usage(failure.hint("`klar ledger` prints it where the evidence was made")));
    };
    klar_store::chain::verify(klar_store::Head::default(), &read, &key, wanted.head)
        .map_err(|why| broken(why.to_string()))?;
    let mut told = Told::of(&read, Declared::default(), Vec::new());
    let at = wanted.at.unwrap_or_else(Timestamp::now);
    let last = told.evidence.iter().rev().find(|seen| seen.ended <= at);
    let Some(last) = last else {
        return Err(Trouble::usage(Failure::new(format!(
            "{} has no evidence from before {at}",
            file.display()
        ))));
    };
    let declared = told.before.iter().rev().find(|(when, said)| said.target == last.target && *when <= at);
    told.declared = declared.map(|(_, said)| said.clone()).unwrap_or_default();
    told.checks = told.declared.checks();
    let report = told.report(&last.target, last.release.as_deref(), at);
    show(context, wanted, &report, &told.declared.catalogue())
}

/// Prints the report or writes it, and ends with what it says.
fn show(
    context: &Context,
    wanted: &cli::Check,
    report: &Report,
    catalogue: &Catalogue,
) -> Result<(), Trouble> {
    let lang = wanted.lang.unwrap_or_else(language);
    let format = wanted.format.unwrap_or(if context.printer.json { Format::Json } else { Format::Text });
    let detail = if wanted.all { Detail::All } else { Detail::Short };
    let colour = wanted.out.is_none() && std::io::stdout().is_terminal();
    let text = match format {
        Format::Text => report.text(lang, detail, if colour { Paint::ANSI } else { Paint::default() }),
        Format::Md => report.markdown(catalogue, lang),
        Format::Html => report.html(catalogue, lang),
        Format::Sarif => report.sarif(catalogue, lang).to_string(),
        Format::Junit => report.junit(catalogue, lang),
        Format::Badge => report.badge(lang),
        Format::Json => report.json().map_err(|why| Trouble::from(Failure::new(why.to_string())))?,
    };
    match &wanted.out {
        Some(path) => write_to(path, &text)?,
        None => context.printer.data(text.trim_end()),
    }
    if report.verdict.ready { Ok(()) } else { Err(Trouble::Verdict(NOT_READY)) }
}

fn write_to(path: &PathBuf, text: &str) -> Result<(), Trouble> {
    std::fs::write(path, text).map_err(Trouble::system(path.display()))
}

/// The language of the shell, where klar speaks it.
fn language() -> Lang {
    let named = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().filter_map(|name| std::env::var(name).ok());
    let first = named.into_iter().find(|value| !value.is_empty()).unwrap_or_default();
    match first.get(..2) {
        Some("nb" | "no" | "nn") => Lang::Nb,
        Some("sv") => Lang::Sv,
        _ => Lang::En,
    }
}

/// Whether what went wrong means that klar could not look at all.
#[must_use]
pub fn exit_of(trouble: &Trouble) -> Option<u8> {
    matches!(trouble, Trouble::Failed(_)).then_some(COULD_NOT)
}
