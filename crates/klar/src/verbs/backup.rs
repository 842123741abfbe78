//! Verbs about data: what is kept of it, what is proven, and its way back.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use klar_base::keep::{
    Ask, CopyTold, Dumps, Elsewhere, KeptStatus, Moment, PlanTold, PointTold, SecondPlace, Told,
};
use klar_base::{Secret, ServiceName, wire};
use klar_run::report::{Event, Failure};
use serde::Deserialize;

use crate::cli::{Backup, CloneArgs, Drill, FromArgs, RestoreArgs};
use crate::context::{Context, Trouble, wait};
use crate::disaster;
use crate::out::events::Steps;
use crate::out::words::{self, age, bytes, took};
use crate::out::{BAD, FAIR, GOOD, QUIET, STRONG, paint, render_hint};

/// Asks what keeps the data of this app, and shows what it does meanwhile.
fn asked(context: &Context, wanted: &Ask) -> Result<Told, Trouble> {
    let key = context.key()?;
    let path = context.layout.keep_socket(&key);
    let mut steps = Steps::new(context.printer);
    let mut doing: Option<String> = None;
    let progress = |what: &str, done: u64, of: u64| {
        if doing.as_deref() != Some(what) {
            steps.begin("", what);
            doing = Some(what.to_owned());
        }
        if done > 0 && of > 0 {
            steps.hear(&Event::Output { line: format!("{} of {}", bytes(done), bytes(of)) });
        }
    };
    match ask(&path, wanted, progress) {
        Ok(Told::Failed { what, hint }) => {
            steps.break_off();
            Err(Failure { hint, ..Failure::new(what) }.into())
        }
        Ok(told) => Ok(told),
        Err(error) if path.exists() => {
            let what = format!("what keeps the data of {key} did not answer ({}: {error})", path.display());
            let hint = "`klar up` starts the app and what keeps its data; `klar status` says what is wrong";
            Err(Failure::new(what).hint(hint).into())
        }
        Err(_) => {
            let what = format!(
                "nothing of {key} is kept: it has no PostgreSQL or Redis that klar runs and writes to no folder, or was never up"
            );
            let hint =
                "`postgres = \"managed\"` in [data.NAME] of klar.toml makes one that is; `klar up` starts it";
            Err(Failure::new(what).hint(hint).into())
        }
    }
}

/// Asks at a socket, and waits for the last word.
///
/// # Errors
/// Nobody is there, or ends before it has answered.
pub fn ask(path: &Path, ask: &Ask, mut progress: impl FnMut(&str, u64, u64)) -> io::Result<Told> {
    let stream = UnixStream::connect(path)?;
    wire::send(&stream, ask, &[])?;
    loop {
        match wire::receive::<Told>(&stream)? {
            Some((Told::Progress { what, done, of }, _)) => progress(&what, done, of),
            Some((told, _)) => return Ok(told),
            None => return Err(io::Error::other("it ended before it had answered; ask once more")),
        }
    }
}

fn unexpected() -> Trouble {
    Failure::new("what keeps the data answered something else: it is another version of klar").into()
}

/// `klar backup`.
pub fn backup(context: &Context, wanted: Option<Backup>, store: Option<ServiceName>) -> Result<(), Trouble> {
    match wanted {
        None | Some(Backup::List) => list(context, store),
        Some(Backup::Now) => proof(context, asked(context, &Ask::Now { store })?),
        Some(Backup::Verify) => verify(context, asked(context, &Ask::Verify { store })?),
        Some(Backup::Key { out }) => escrow(context, out),
    }
}

/// `klar drill`.
pub fn drill(context: &Context, wanted: Drill) -> Result<(), Trouble> {
    let (point, store, key, offsite) = match wanted {
        Drill::Restore { point, store, key, offsite } => (point, store, key, offsite),
        Drill::Plan { out } => return plan(context, out),
    };
    let escrow = key.map(|path| password(&path)).transpose()?;
    proof(context, asked(context, &Ask::Drill { store, point, escrow, second: offsite })?)
}

fn plan(context: &Context, out: Option<PathBuf>) -> Result<(), Trouble> {
    let plan = disaster::plan(context)?;
    match out {
        Some(path) => {
            disaster::write(&plan, &path)?;
            context.printer.data(format!("{} {}", paint(GOOD, "✓"), path.display()));
        }
        None if context.printer.json => {
            context.printer.value(&serde_json::json!({ "text": plan.text, "lacks": plan.lacks }));
        }
        None => context.printer.data(&plan.text),
    }
    if !plan.lacks.is_empty() && !context.printer.json {
        let lacks = plan.lacks.join(", ");
        context.printer.story(format!("{} it lacks what klar.toml does not say: {lacks}", paint(FAIR, "▲")));
    }
    Ok(())
}

/// What a sheet of `klar backup key` says, or a file with nothing but the password.
fn password(path: &Path) -> Result<Secret<String>, Trouble> {
    let text = std::fs::read_to_string(path).map_err(Trouble::system(path.display()))?;
    let password = text.lines().find_map(|line| line.trim().strip_prefix("password:")).unwrap_or(&text);
    Ok(Secret::new(password.trim().to_owned()))
}

fn elsewhere(wanted: FromArgs) -> Result<Option<Elsewhere>, Trouble> {
    let (Some(place), Some(key)) = (wanted.from, wanted.key) else { return Ok(None) };
    // As it is written for klar, which runs in another folder.
    let place = match std::path::absolute(&place) {
        Ok(path) if path.is_dir() => path.display().to_string(),
        _ => place,
    };
    let at = SecondPlace { place, key: wanted.place_key.map(|path| password(&path)).transpose()? };
    Ok(Some(Elsewhere { at, password: password(&key)? }))
}

fn list(context: &Context, store: Option<ServiceName>) -> Result<(), Trouble> {
    let all = store.is_none();
    let Told::Points { points, status, refused } = asked(context, &Ask::List { store })? else {
        return Err(unexpected());
    };
    if context.printer.json {
        let value = serde_json::json!({ "points": points, "status": status, "refused": refused });
        context.printer.value(&value);
        return Ok(());
    }
    show_points(context, &points, &status, refused);
    let mut escrow = status.escrow;
    // What the app writes to its folders, and each Redis, is kept beside its databases.
    for store in if all { others(context, &status.store)? } else { Vec::new() } {
        let Told::Points { points, status, refused } = asked(context, &Ask::List { store: Some(store) })?
        else {
            return Err(unexpected());
        };
        show_points(context, &points, &status, refused);
        escrow &= status.escrow;
    }
    if !escrow {
        let what =
            "nobody has a key but this machine: `klar backup key --out KEY.txt`, and put it in a drawer";
        context.printer.data(render_hint(what, "").trim_end());
    }
    Ok(())
}

/// What is kept in daily points, but for the one that was shown.
fn others(context: &Context, shown: &str) -> Result<Vec<ServiceName>, Trouble> {
    let key = context.key()?;
    let host = wait(context.client().status())??;
    let kept = host.apps.into_iter().filter(|app| app.key == key).flat_map(|app| app.kept);
    let others = kept.filter(|one| one.daily && one.store != shown);
    Ok(others.filter_map(|one| one.store.parse().ok()).collect())
}

fn show_points(context: &Context, points: &[PointTold], status: &KeptStatus, refused: Vec<String>) {
    context.printer.data(heading(status));
    for point in points {
        context.printer.data(line(point));
    }
    if let Some(second) = &status.second {
        let told = |at: Option<u64>| at.map_or("not yet".to_owned(), ago);
        let (covered, proven) = (told(second.covered_unix_ms), told(second.proven_unix_ms));
        let what =
            format!("once more at {}: complete as of {covered}, restored from there {proven}", second.place);
        context.printer.data(paint(QUIET, what));
        let waits = match (second.synchronous, &second.together) {
            (None, _) => None,
            (Some(true), None) => Some(
                "commits wait for it: nothing that was acknowledged is lost with this machine (RPO 0)".into(),
            ),
            (Some(true), Some(why)) => Some(format!("commits wait for it, and would be lost with it: {why}")),
            (Some(false), _) => {
                Some("commits wait for it, and it does not have all before them yet".to_owned())
            }
        };
        if let Some(waits) = waits {
            context.printer.data(paint(QUIET, waits));
        }
    }
    if points.is_empty() {
        context.printer.data(paint(QUIET, "no point yet: the first one is on its way"));
    }
    for refused in refused {
        context.printer.data(format!("{} {refused}", paint(BAD, "✗")));
    }
    if let Some(trouble) = &status.trouble {
        context.printer.data(format!("{} {trouble}", paint(BAD, "✗")));
        if let Some(hint) = &status.hint {
            context.printer.data(render_hint(hint, "  ").trim_end());
        }
    }
}

fn ago(unix_ms: u64) -> String {
    format!("{} ago", age(words::now_unix_ms().saturating_sub(unix_ms)))
}

fn heading(status: &KeptStatus) -> String {
    let ago = |unix_ms: Option<u64>| unix_ms.map(ago);
    let range = match (ago(status.earliest_unix_ms), ago(status.covered_unix_ms)) {
        (Some(from), _) if status.daily => {
            let points = format!("{}, from {from} on", words::things(status.points.into(), "point"));
            match status.dumps {
                None => points,
                Some(Dumps::Daily) => {
                    format!(
                        "dumped each day: {points}, and nothing between them (any second needs `managed`, or its provider)"
                    )
                }
                Some(Dumps::Weekly) => format!("dumped each week: {points}"),
            }
        }
        (Some(from), Some(to)) => format!("any second from {from} to {to} can be restored"),
        (Some(from), None) => format!("points from {from} on; the log is not streamed right now"),
        _ => "nothing can be restored yet".into(),
    };
    let size = bytes(status.bytes);
    format!(
        "{} {range}  {}",
        paint(STRONG, &status.store),
        paint(QUIET, format_args!("{}, {size}", status.doing))
    )
}

fn line(point: &PointTold) -> String {
    let proven = match (point.good, point.proven_unix_ms) {
        (Some(true), Some(at)) => {
            let took = point.rto_ms.map(took).unwrap_or_default();
            format!("{} restored {}, there in {took}", paint(GOOD, "✓"), ago(at))
        }
        (Some(false), _) => {
            let why = point.bad.clone().unwrap_or_else(|| "it did not come up".into());
            format!("{} {why}", paint(BAD, "✗"))
        }
        _ => format!("{} not restored yet", paint(FAIR, "…")),
    };
    let taken = ago(point.time_unix_ms);
    format!(
        "  {}  {taken:<16} {:>10}  {:>10} new  {proven}",
        point.id,
        bytes(point.bytes),
        bytes(point.added)
    )
}

/// What is shown of a proof.
#[derive(Deserialize)]
struct Shown {
    point: String,
    steps: Vec<ShownStep>,
    rto_ms: Option<u64>,
    rpo_ms: Option<u64>,
}

#[derive(Deserialize)]
struct ShownStep {
    what: String,
    outcome: String,
    evidence: String,
    ms: u64,
}

fn proof(context: &Context, told: Told) -> Result<(), Trouble> {
    let Told::Proof { proof, good } = told else { return Err(unexpected()) };
    if context.printer.json {
        context.printer.value(&proof);
        return if good { Ok(()) } else { Err(Trouble::Verdict(1)) };
    }
    let shown: Shown = serde_json::from_value(proof).map_err(|_| unexpected())?;
    for step in &shown.steps {
        let mark = match &*step.outcome {
            "good" => paint(GOOD, "✓"),
            "bad" => paint(BAD, "✗"),
            _ => paint(FAIR, "–"),
        };
        let took = took(step.ms);
        context.printer.data(format!("{mark} {:<11} {}  {}", step.what, step.evidence, paint(QUIET, took)));
    }
    let of = |ms: Option<u64>| ms.map_or("–".to_owned(), took);
    let (rto, rpo) = (of(shown.rto_ms), of(shown.rpo_ms));
    if !good {
        let failure = Failure::new(format!("{} is not proven", shown.point));
        return Err(failure
            .hint("the points before it stay; `klar backup list` shows which of them are good")
            .into());
    }
    context.printer.data(format!(
        "{} {} is proven: there again in {rto}, with all but the last {rpo}",
        paint(GOOD, "✓"),
        paint(STRONG, shown.point)
    ));
    Ok(())
}

fn verify(context: &Context, told: Told) -> Result<(), Trouble> {
    let Told::Verified { objects, bytes: read, mut problems, corrupted, missing } = told else {
        return Err(unexpected());
    };
    if !(corrupted && missing) {
        problems
            .push("damage that was planted was not found: nothing that was found good is known to be".into());
    }
    if context.printer.json {
        let value = serde_json::json!({ "objects": objects, "bytes": read, "problems": problems });
        context.printer.value(&value);
    } else {
        for problem in &problems {
            context.printer.data(format!("{} {problem}", paint(BAD, "✗")));
        }
    }
    if !problems.is_empty() {
        let what = format!("{} wrong in the repository", words::things(problems.len() as u64, "thing"));
        return Err(Failure::new(what)
            .hint("`klar backup now` takes a new point; restore from one that is good")
            .into());
    }
    if !context.printer.json {
        let objects = words::things(objects, "object");
        let all = format!("{objects}, {}, and the log between them are what was written", bytes(read));
        context.printer.data(format!("{} {all}", paint(GOOD, "✓")));
    }
    Ok(())
}

fn escrow(context: &Context, out: Option<PathBuf>) -> Result<(), Trouble> {
    let key = context.key()?;
    let mut random = [0; 20];
    io::Read::read_exact(
        &mut std::fs::File::open("/dev/urandom").map_err(Trouble::system("/dev/urandom"))?,
        &mut random,
    )
    .map_err(Trouble::system("/dev/urandom"))?;
    // Letters that nobody takes for another one, in groups of four.
    const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz23456789-";
    let letters = random.iter().map(|byte| char::from(LETTERS[usize::from(byte % 31)])).collect::<Vec<_>>();
    let password =
        letters.chunks(4).map(|some| some.iter().collect::<String>()).collect::<Vec<_>>().join("-");
    let Told::Done = asked(context, &Ask::Escrow { password: Secret::new(password.clone()) })? else {
        return Err(unexpected());
    };
    let folder = context.layout.keep(&key);
    let sheet = format!(
        "The backups of {key} open with this password. It is kept nowhere else: print it, and put it in a drawer.\n\n\
         password: {password}\n\n\
         On this machine:       klar drill restore --key THIS-FILE\n\
         Anywhere, without klar: restic -r {}/NAME/repository snapshots\n",
        folder.display()
    );
    match out {
        Some(path) => {
            use std::io::Write;
            use std::os::unix::fs::OpenOptionsExt;
            let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
            let written =
                file.and_then(|mut file| file.write_all(sheet.as_bytes()).and_then(|()| file.sync_all()));
            written.map_err(Trouble::system(path.display()))?;
            context.printer.data(format!("{} {}", paint(GOOD, "✓"), path.display()));
        }
        None if context.printer.json => context.printer.value(&serde_json::json!({ "password": password })),
        None => context.printer.data(sheet.trim_end()),
    }
    Ok(())
}

/// `klar restore`.
pub fn restore(context: &Context, wanted: RestoreArgs) -> Result<(), Trouble> {
    let RestoreArgs { at, store, dry_run, into, tables, from, yes } = wanted;
    let (key, from) = (context.key()?, elsewhere(from)?);
    let plan = Ask::Plan { store: store.clone(), moment: at.0.clone(), from: from.clone() };
    let Told::Plan(plan) = asked(context, &plan)? else { return Err(unexpected()) };
    if context.printer.json && dry_run {
        context.printer.value(&plan);
        return Ok(());
    }
    tell_plan(context, &plan);
    if dry_run {
        return Ok(());
    }
    if !tables.is_empty() {
        let told = asked(context, &Ask::Tables { store, moment: at.0, from, tables })?;
        return tell_tables(context, &told);
    }
    if into.is_none() && !plan.dumps.is_empty() {
        // Nothing of what is there is touched.
        let told = asked(context, &Ask::Beside { store, moment: at.0, from })?;
        return tell_beside(context, &told);
    }
    if into.is_none() {
        agreed(&key.to_string(), yes.as_deref())?;
    }
    let is_own = from.is_none();
    let Told::Copy(copy) = asked(context, &Ask::Restore { store, moment: at.0, from })? else {
        return Err(unexpected());
    };
    match into {
        Some(folder) => {
            let taken = take_out(&copy, &folder);
            asked(context, &Ask::Remove { copy: copy.copy })?;
            taken?;
            let mut what = format!("the data is in {}", folder.display());
            if !copy.database.is_empty() {
                what.push_str(&format!("; `postgres -D {}` runs on it", folder.display()));
            }
            context.printer.data(format!("{} {what}", paint(GOOD, "✓")));
            tell_dumps(context, &plan, &folder);
            Ok(())
        }
        None => {
            let swapped = super::operate::operate(context, async |tell| {
                context.client().take_over(&key, plan.store.clone(), copy.copy.clone(), tell).await
            });
            let removed = asked(context, &Ask::Remove { copy: copy.copy });
            swapped?;
            // What keeps the data may be starting again, on the repository that came with it: that removes the copy too.
            if is_own {
                removed?;
            }
            Ok(())
        }
    }
}

/// How what was put into a folder is loaded.
fn tell_dumps(context: &Context, plan: &PlanTold, folder: &Path) {
    if plan.dumps.is_empty() {
        return;
    }
    let folder = folder.display();
    context.printer.story(paint(
        QUIET,
        format!("  roles, on another server:  psql -d postgres -f {folder}/globals.sql"),
    ));
    for (database, dump) in &plan.dumps {
        let load = format!("pg_restore --create --dbname=postgres {folder}/{dump}");
        context.printer.story(paint(QUIET, format!("  {database}:  {load}")));
    }
}

fn tell_beside(context: &Context, told: &Told) -> Result<(), Trouble> {
    let Told::Beside { databases, ms } = told else { return Err(unexpected()) };
    if context.printer.json {
        context.printer.value(told);
        return Ok(());
    }
    for (was, now) in databases {
        context.printer.data(format!(
            "{} {was} as it was then is in {}",
            paint(GOOD, "✓"),
            paint(STRONG, now)
        ));
    }
    context.printer.story(format!("there after {}; what is there now was left as it is", took(*ms)));
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    for (was, now) in databases {
        let before = quoted(&format!("{was}_before"));
        let swap = format!(
            "alter database {0} rename to {before}; alter database {1} rename to {0};",
            quoted(was),
            quoted(now)
        );
        context
            .printer
            .story(paint(QUIET, format!("  to swap, while nobody is connected to either:  {swap}")));
        context.printer.story(paint(QUIET, format!("  when you are done:  drop database {};", quoted(now))));
    }
    Ok(())
}

fn tell_tables(context: &Context, told: &Told) -> Result<(), Trouble> {
    let Told::Tables { schema, tables, ms } = told else { return Err(unexpected()) };
    if context.printer.json {
        context.printer.value(told);
        return Ok(());
    }
    for (name, now, rows) in tables {
        let rows = words::things(*rows, "row");
        context.printer.data(format!("{} {name}: {rows}, in {}", paint(GOOD, "✓"), paint(STRONG, now)));
    }
    context.printer.story(format!("there after {}; what is there now was left as it is", took(*ms)));
    for (name, now, _) in tables {
        let missing = format!("insert into {name} select * from {now} on conflict do nothing;");
        context.printer.story(paint(QUIET, format!("  what is missing:  {missing}")));
    }
    context.printer.story(paint(QUIET, format!("  when you are done:  drop schema {schema} cascade;")));
    Ok(())
}

fn tell_plan(context: &Context, plan: &PlanTold) {
    let taken = ago(plan.point_unix_ms);
    context.printer.story(format!("  from   {} ({taken})", plan.point));
    context.printer.story(format!("  until  {}", plan.until));
    let reads = match plan.log_bytes {
        0 => format!("{} of files", bytes(plan.bytes)),
        log => format!("{} of files and log, of which {} are replayed", bytes(plan.bytes), bytes(log)),
    };
    context.printer.story(format!("  reads  {reads}"));
    if let Some(ms) = plan.rto_ms {
        context.printer.story(format!("  takes  about {}, as the last drill did", took(ms)));
    }
}

/// What takes the place of a database is asked for by the app's name.
fn agreed(key: &str, yes: Option<&str>) -> Result<(), Trouble> {
    use std::io::{IsTerminal, Write};
    let said = match yes {
        Some(said) => said.to_owned(),
        None if std::io::stdin().is_terminal() => {
            eprint!("what is there now is put aside. To go on, type {key}: ");
            // What cannot be shown need not be waited for.
            let _ = std::io::stderr().flush();
            let mut said = String::new();
            std::io::stdin().read_line(&mut said).map_err(Trouble::system("reading your answer"))?;
            said.trim().to_owned()
        }
        None => {
            let failure = Failure::new("this takes the place of what is there, and nobody is there to agree");
            return Err(Trouble::usage(failure.hint(format!("say it with `--yes {key}`"))));
        }
    };
    match said == key {
        true => Ok(()),
        false => {
            let failure = Failure::new(format!("nothing was restored: expected {key}, read `{said:.80}`"));
            Err(Trouble::usage(failure))
        }
    }
}

fn take_out(copy: &CopyTold, folder: &Path) -> Result<(), Trouble> {
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        let failure = Failure::new(format!("{} is not empty", folder.display()));
        return Err(Trouble::usage(failure.hint("choose a folder that is empty or not there yet")));
    }
    let made =
        Command::new("cp").args(["-a", "--reflink=auto", "-T", "--"]).arg(&copy.data).arg(folder).status();
    match made.map_err(Trouble::system("cp"))?.success() {
        true => Ok(()),
        false => Err(Failure::new(format!("the data could not be put into {}", folder.display())).into()),
    }
}

/// `klar clone`.
pub fn clone(context: &Context, wanted: CloneArgs) -> Result<(), Trouble> {
    let CloneArgs { anonymise, at, store, from, for_, psql } = wanted;
    let from = elsewhere(from)?;
    let wanted = Ask::Clone { store, moment: at.0, from, seconds: for_.as_secs(), anonymise };
    let Told::Copy(copy) = asked(context, &wanted)? else { return Err(unexpected()) };
    if context.printer.json {
        context.printer.value(&copy);
        return Ok(());
    }
    context.printer.story(format!("{} a copy is there, after {}", paint(GOOD, "✓"), took(copy.ms)));
    let socket = copy.socket.clone().unwrap_or_default();
    if !psql || copy.socket.is_none() || copy.database.is_empty() {
        context.printer.data(match copy.socket {
            Some(_) if copy.database.is_empty() => format!("redis-cli -s {}", socket.display()),
            Some(_) => format!("psql -h {} -U klar {}", socket.display(), copy.database),
            None => copy.data.display().to_string(),
        });
        let left = copy.until_unix_ms.unwrap_or_default().saturating_sub(words::now_unix_ms());
        context.printer.story(format!("it disappears in {}", age(left)));
        return Ok(());
    }
    let ended = Command::new("psql").arg("-h").arg(&socket).args(["-U", "klar", &copy.database]).status();
    asked(context, &Ask::Remove { copy: copy.copy })?;
    ended.map_err(Trouble::system("psql (`apt-get install postgresql-client` installs it)"))?;
    context.printer.story("the copy is gone");
    Ok(())
}

/// How far to restore, as people write it.
#[derive(Debug, Clone)]
pub struct At(pub Moment);

impl std::str::FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        moment(text.trim(), &jiff::Zoned::now()).map(Self)
    }
}

fn moment(text: &str, now: &jiff::Zoned) -> Result<Moment, String> {
    const EXPECTED: &str = "expected `latest`, a time (`2026-11-23 14:05:00`, `14:05`, `10 minutes ago`), a point of \
                            `klar backup list`, `name:NAME`, `lsn:0/3000000` or `before:TRANSACTION`";
    if text == "latest" {
        return Ok(Moment::Latest);
    }
    if let Some((kind, rest)) = text.split_once(':')
        && ["name", "lsn", "before"].contains(&kind)
    {
        return Ok(match kind {
            "name" => Moment::Name(rest.to_owned()),
            "lsn" => Moment::Lsn(rest.to_owned()),
            _ => Moment::Before(rest.parse().map_err(|_| EXPECTED.to_owned())?),
        });
    }
    let of = |time: jiff::Timestamp| Moment::Time(time.as_microsecond());
    if text.len() == 21 && text.contains("Z-") {
        return Ok(Moment::Point(text.to_owned()));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(of(time));
    }
    // Without a zone it is that of whoever asks.
    if let Ok(time) = text.parse::<jiff::civil::DateTime>() {
        return time
            .to_zoned(now.time_zone().clone())
            .map(|time| of(time.timestamp()))
            .map_err(|error| error.to_string());
    }
    if text.contains(':')
        && let Ok(time) = text.parse::<jiff::civil::Time>()
    {
        let at = now
            .date()
            .to_datetime(time)
            .to_zoned(now.time_zone().clone())
            .map_err(|error| error.to_string())?;
        // A time of the day that is still to come was that of yesterday.
        let at = if at > *now { at.yesterday().map_err(|error| error.to_string())? } else { at };
        return Ok(of(at.timestamp()));
    }
    match text.parse::<jiff::Span>() {
        Ok(span) if text.ends_with("ago") => {
            now.checked_add(span).map(|time| of(time.timestamp())).map_err(|error| error.to_string())
        }
        _ => Err(EXPECTED.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let now: jiff::Zoned = "2026-11-23T14:30:00+01:00[Europe/Oslo]".parse().unwrap();
        let time = |text: &str| Moment::Time(text.parse::<jiff::Timestamp>().unwrap().as_microsecond());
        for (text, expected) in [
            ("latest", Moment::Latest),
            ("2026-11-23T12:00:00Z", time("2026-11-23T12:00:00Z")),
            ("2026-11-23 12:00:00.5", time("2026-11-23T11:00:00.5Z")),
            ("2026-11-23 12:00", time("2026-11-23T11:00:00Z")),
            ("14:05", time("2026-11-23T13:05:00Z")),
            ("23:00:10", time("2026-11-22T22:00:10Z")),
            ("10 minutes ago", time("2026-11-23T13:20:00Z")),
            ("1h 30m ago", time("2026-11-23T12:00:00Z")),
            ("lsn:0/3000000", Moment::Lsn("0/3000000".into())),
            ("name:before-import", Moment::Name("before-import".into())),
            ("before:1234", Moment::Before(1234)),
            ("20261123T020000Z-9f3a", Moment::Point("20261123T020000Z-9f3a".into())),
        ] {
            assert_eq!(moment(text, &now), Ok(expected), "{text}");
        }
        for wrong in ["", "yesterday", "10 minutes", "before:x", "25:00", "latest!"] {
            assert!(moment(wrong, &now).unwrap_err().contains("expected"), "{wrong}");
        }
    }
}
