//! `klar check`: from what was typed to a world, a run, and a report.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use klar_config::{FILE_NAME, Place};
use klar_prove::catalogue::Catalogue;
use klar_prove::check::{Check, Disturbs, Fault, Need};
use klar_prove::evidence::{self, Evidence, Outcome, kind};
use klar_prove::foil::{Foil, SWITCHES};
use klar_prove::own::{Declared, Own};
use klar_prove::prove;
use klar_prove::report::Report;
use klar_prove::report::text::{Detail, Paint};
use klar_prove::run::{self, Progress};
use klar_prove::standing::Standing;
use klar_prove::words::Lang;
use klar_prove::world::World;
use klar_prove::world::http::Origin;
use klar_run::durable;
use klar_run::report::{Failure, Readiness};
use klar_store::Ledger;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::checklist::List;
use super::ledger;
use super::target::{limit, running, world};
use super::told::Told;
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
        in_rig(context, &disturbing, world, wanted.soak, ledger, &mut told).await?;
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
        let last = Timestamp::now()
            .to_zoned(jiff::tz::TimeZone::UTC)
            .date()
            .saturating_add(jiff::Span::new().days(366));
        if waiver.says.until > last {
            let (name, until) = (&waiver.name, waiver.says.until);
            let failure = Failure::new(format!(
                "`waivers.{name}` in klar.toml is good until {until}: a waiver lasts a year at most"
            ));
            return Err(Trouble::usage(
                failure.hint(format!("`until = \"{last}\"` at the latest; look at it again then")),
            ));
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

/// Runs what disturbs against a copy that is there for it.
async fn in_rig(
    context: &Context,
    disturbing: &[Check],
    target: &World,
    soak: Option<Duration>,
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
    world.klar = Some(Rc::new(Hands::new(&rig.context, key, Some(Rc::clone(&rig)))));
    world.target.clone_from(&target.target);
    world.place = evidence::Place::Rig;
    world.may = Disturbs::Stops;
    world.soak = soak;
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
    let asked = asked_for(context, wanted)?;
    let fits = |seen: &&Evidence| {
        seen.ended <= at
            && seen.outcome != Outcome::Erased
            && asked.as_ref().is_none_or(|target| seen.target == *target)
    };
    let Some(last) = told.evidence.iter().rev().find(fits) else {
        let of = asked.map(|target| format!(" of {target}")).unwrap_or_default();
        let known: BTreeSet<&str> = told.evidence.iter().map(|seen| seen.target.as_str()).collect();
        let known = known.into_iter().filter(|target| !target.is_empty()).collect::<Vec<_>>().join(", ");
        let failure = Failure::new(format!("{} has no evidence{of} from before {at}", file.display()));
        return Err(Trouble::usage(failure.hint(format!("what it has is of {known}"))));
    };
    let declared = told.before.iter().rev().find(|(when, said)| said.target == last.target && *when <= at);
    told.declared = declared.map(|(_, said)| said.clone()).unwrap_or_default();
    told.checks = told.declared.checks();
    let report = told.report(&last.target, last.release.as_deref(), at);
    show(context, wanted, &report, &told.declared.catalogue())
}

/// What is to be replayed, where that is said: an address, or the app whose folder was named or entered. Elsewhere it is
/// what was looked at last.
fn asked_for(context: &Context, wanted: &cli::Check) -> Result<Option<String>, Trouble> {
    if let Some(url) = &wanted.url {
        let origin = Origin::parse(url).map_err(|why| Trouble::usage(Failure::new(why)))?;
        return Ok(Some(origin.to_string()));
    }
    if !context.folder().join(FILE_NAME).is_file() {
        return Ok(None);
    }
    Ok(Some(context.load()?.config.key().to_string()))
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
