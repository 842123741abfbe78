//! What becomes of lines: whether they are found again, and whether the files that they are in stay bounded.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::http::Ask;
use crate::world::{Instance, Klar, Output, World, until};

/// Lines of the app's processes and of the edge.
pub struct LogLines;

/// What was said, what was found, and what the files were like.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Marked lines and requests: said, and found by a word in them.
    said: usize,
    found: usize,
    /// Found by the service, the stream and the status that they are of as well.
    by_field: usize,
    /// Found by a word after telemetry was killed.
    after_restart: usize,
    /// How long it took until as many were found, in milliseconds.
    after_ms: u64,
    files: Files,
}

/// The files of one instance, after more was written than may be kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Files {
    /// What they may take, and what they took at most; how many there were.
    limit: u64,
    bytes: u64,
    count: usize,
    /// Of those that are full and not the newest of these, how many are compressed, and how many are not.
    packed: usize,
    plain: usize,
    /// Numbered lines that are kept, and how many are missing between the first and the last that was written.
    lines: usize,
    missing: usize,
    /// A file that was older than files may be is gone after the next turn, and one that was not is there.
    old_is_gone: bool,
}

const FULL_TEXT: (&str, &str) = ("mon.logging", "full-text");
const FIELDS: (&str, &str) = ("mon.logging", "fields");
const RESTART: (&str, &str) = ("mon.logging", "restart");
const ROTATES: (&str, &str) = ("mon.log-rotation", "rotates");
const COMPRESSED: (&str, &str) = ("mon.log-rotation", "compressed");
const COMPLETE: (&str, &str) = ("mon.log-rotation", "complete");
const BOUNDED: (&str, &str) = ("mon.log-rotation", "bounded");

/// Lines at each of two outputs, and requests at the edge: a thousand in all.
const LINES: usize = 450;
const REQUESTS: usize = 100;
const FOUND_WITHIN: Duration = Duration::from_secs(10);
/// A filling line, in bytes.
const FILLING: usize = 1000;
/// What a pipe takes in one piece: lines are never torn by others.
const PIECE: usize = 4096;
/// Older than any app keeps its lines.
const OLD: Duration = Duration::from_secs(4000 * 86_400);

impl Probe for LogLines {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "log-lines",
        version: 1,
        question: "Are lines found again, also after a restart, and do the files that they are in stay bounded?",
        does: "In the rig, writes 900 marked lines to the output of the app's processes and sends 100 marked requests, looks for them by text and by field, kills telemetry and looks again; then writes more lines than may be kept, makes one of the files look older than files may be, and reads what is left.",
        shows: &[FULL_TEXT, FIELDS, RESTART, ROTATES, COMPRESSED, COMPLETE, BOUNDED],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(240),
        faults: &[
            Fault::Foil("forgets-lines", FULL_TEXT),
            Fault::Foil("nameless-lines", FIELDS),
            Fault::Foil("forgets-on-restart", RESTART),
            Fault::Foil("never-rotates", ROTATES),
            Fault::Foil("keeps-plain-logs", COMPRESSED),
            Fault::Foil("loses-at-the-turn", COMPLETE),
            Fault::Foil("keeps-all-logs", BOUNDED),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let cannot = |why: String| Unable(Words::same(why));
        let instances = klar.instances().await.map_err(cannot)?;
        let speaks: Vec<&Instance> = instances.iter().filter(|instance| instance.pid.is_some()).collect();
        let (Some(first), Some(last)) = (speaks.first(), speaks.last()) else {
            return Err(Unable(words!("no instance runs", "ingen instans kjører", "ingen instans körs")));
        };
        let mut seen = Seen { said: 2 * LINES + REQUESTS, ..Seen::default() };
        let marker = format!("klar-check-{:08x}", fastrand::u32(..));
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let marked = Marked {
            klar: &*klar,
            since: since.to_string(),
            marker: &marker,
            services: [&first.service, &last.service],
        };
        let line =
            |number: usize| format!("{{\"level\":\"info\",\"msg\":\"{marker}\",\"number\":{number}}}\n");
        let out: String = (0..LINES).map(line).collect();
        let err: String = (LINES..2 * LINES).map(line).collect();
        say(&*klar, first, false, &out).await.map_err(cannot)?;
        say(&*klar, last, true, &err).await.map_err(cannot)?;
        for _ in 0..REQUESTS {
            // Whatever comes of it: it is in the record.
            let _ = world.ask(Ask::get(format!("/{marker}"))).await;
        }
        let began = tokio::time::Instant::now();
        let all = async || (marked.by_word().await.ok()? >= seen.said).then_some(());
        let _ = until(world.patience(FOUND_WITHIN), all).await;
        let after = began.elapsed();
        seen.after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        seen.found = marked.by_word().await.map_err(cannot)?;
        seen.by_field = marked.by_field().await.map_err(cannot)?;
        // What was found has reached the disk a moment later.
        tokio::time::sleep(world.patience(Duration::from_secs(3))).await;
        klar.kill_telemetry().await.map_err(cannot)?;
        let again = async || (marked.by_word().await.ok()? >= seen.found).then_some(());
        let _ = until(world.patience(Duration::from_secs(30)), again).await;
        seen.after_restart = marked.by_word().await.map_err(cannot)?;
        seen.files = files(&world, &*klar, first).await.map_err(cannot)?;
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { said, found, by_field, after_restart, after_ms, files } = seen;
        let Files { limit, bytes, count, packed, plain, lines, missing, old_is_gone } = files;
        let (limit, bytes) = (limit >> 10, bytes >> 10);
        let files = words!(
            "{count} files of {bytes} KiB, of {limit} KiB that they may take",
            "{count} filer på {bytes} KiB, av {limit} KiB de kan ta",
            "{count} filer på {bytes} KiB, av {limit} KiB som de får ta"
        );
        let old = if *old_is_gone {
            words!(
                "; one that was too old is gone",
                "; en som var for gammel er borte",
                "; en som var för gammal är borta"
            )
        } else {
            words!(
                "; one that was too old is still there",
                "; en som var for gammel er der ennå",
                "; en som var för gammal är kvar"
            )
        };
        vec![
            Finding::when(
                found == said,
                FULL_TEXT,
                words!(
                    "{found} of {said} marked lines are found by a word, after {after_ms} ms",
                    "{found} av {said} merkede linjer er funnet med et ord, etter {after_ms} ms",
                    "{found} av {said} märkta rader hittas med ett ord, efter {after_ms} ms"
                ),
            ),
            Finding::when(
                by_field == said,
                FIELDS,
                words!(
                    "{by_field} of {said} are found by service, stream and status",
                    "{by_field} av {said} er funnet med tjeneste, strøm og status",
                    "{by_field} av {said} hittas med tjänst, ström och status"
                ),
            ),
            Finding::when(
                after_restart == said,
                RESTART,
                words!(
                    "{after_restart} of {said} are found after telemetry was killed",
                    "{after_restart} av {said} er funnet etter at telemetrien ble drept",
                    "{after_restart} av {said} hittas efter att telemetrin dödats"
                ),
            ),
            Finding::when(*count > 1 && *old_is_gone, ROTATES, files.clone().and(&old)),
            Finding::when(
                *packed > 0 && *plain == 0,
                COMPRESSED,
                words!(
                    "{packed} older files are compressed, {plain} are not",
                    "{packed} eldre filer er komprimert, {plain} er ikke det",
                    "{packed} äldre filer är komprimerade, {plain} är det inte"
                ),
            ),
            Finding::when(
                *lines > 0 && *missing == 0,
                COMPLETE,
                words!(
                    "of {lines} numbered lines that are kept {missing} are missing in between",
                    "av {lines} nummererte linjer som er beholdt mangler {missing} imellom",
                    "av {lines} numrerade rader som är kvar saknas {missing} däremellan"
                ),
            ),
            Finding::when(bytes <= limit && *count <= 4, BOUNDED, files),
        ]
    }
}

/// Looks for what was marked.
struct Marked<'a> {
    klar: &'a dyn Klar,
    since: String,
    marker: &'a str,
    services: [&'a str; 2],
}

impl Marked<'_> {
    /// How many different rows are there.
    async fn count(&self, what: &str, more: &[(&str, &str)]) -> Result<usize, String> {
        let mut narrowed = vec![("since", self.since.as_str()), ("contains", self.marker)];
        narrowed.extend_from_slice(more);
        let rows = self.klar.kept(what, &narrowed).await?;
        let name = if what == "logs" { "body" } else { "id" };
        let different: BTreeSet<String> = rows.iter().map(|row: &Value| row[name].to_string()).collect();
        Ok(different.len())
    }

    async fn by_word(&self) -> Result<usize, String> {
        Ok(self.count("logs", &[]).await? + self.count("requests", &[]).await?)
    }

    async fn by_field(&self) -> Result<usize, String> {
        let [first, last] = self.services;
        let out = self.count("logs", &[("service", first), ("stream", "stdout")]).await?;
        let err = self.count("logs", &[("service", last), ("stream", "stderr")]).await?;
        Ok(out + err + self.count("requests", &[("method", "GET")]).await?)
    }
}

/// Says lines in pieces that hold whole ones.
async fn say(klar: &dyn Klar, instance: &Instance, is_error: bool, lines: &str) -> Result<(), String> {
    let mut pieces: Vec<String> = vec![String::new()];
    for line in lines.split_inclusive('\n') {
        if pieces.last().is_none_or(|piece| piece.len() + line.len() > PIECE) {
            pieces.push(String::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push_str(line);
        }
    }
    klar.say(instance, is_error, pieces).await
}

/// Writes more than may be kept, and looks at what is.
async fn files(world: &World, klar: &dyn Klar, instance: &Instance) -> Result<Files, String> {
    let limit = klar.output(instance).await?.limit;
    let mut seen = Files { limit, ..Files::default() };
    let quarter = usize::try_from(limit / 4).unwrap_or(usize::MAX) / FILLING;
    let mut said = 0;
    // So many that all of the files are full; then as many as one more takes.
    for (lines, after) in [(quarter * 5, "full"), (quarter + 1, "aged")] {
        if after == "aged" {
            let output = klar.output(instance).await?;
            // Neither the oldest, which leaves anyway, nor the newest.
            if let Some((path, _)) = output.files.iter().rev().nth(2) {
                age(path)?;
            }
        }
        let filling: String = (said..said + lines)
            .map(|number| format!("{number:09} {:x<width$}\n", "", width = FILLING - 70))
            .collect();
        said += lines;
        say(klar, instance, false, &filling).await?;
        let last = format!("{:09}", said - 1);
        let is_there = async || {
            let output = klar.output(instance).await.ok()?;
            let (_, bytes) = output.files.last()?;
            // All of it has arrived, and what is to be compressed is.
            let tail = numbers(&output).last().copied()?;
            (tail.to_string().as_str() == last.trim_start_matches('0') && *bytes > 0 && !is_busy(&output))
                .then_some(())
        };
        let _ = until(world.patience(Duration::from_secs(40)), is_there).await;
        let output = klar.output(instance).await?;
        seen.bytes = seen.bytes.max(output.files.iter().map(|(_, bytes)| bytes).sum());
        seen.count = seen.count.max(output.files.len());
        if after == "aged" {
            let old = output.files.iter().filter(|(path, _)| is_old(path)).count();
            seen.old_is_gone = old == 0 && output.files.len() > 1;
            continue;
        }
        let full = output.files.iter().rev().skip(2);
        (seen.packed, seen.plain) =
            full.fold(
                (0, 0),
                |(packed, plain), (path, _)| {
                    if is_packed(path) { (packed + 1, plain) } else { (packed, plain + 1) }
                },
            );
        let numbers = numbers(&output);
        seen.lines = numbers.len();
        if let Some(first) = numbers.first() {
            seen.missing = (said - first).saturating_sub(numbers.len());
        }
    }
    Ok(seen)
}

fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "gz")
}

/// Whether one is there that is still to be compressed.
fn is_busy(output: &Output) -> bool {
    output.files.iter().rev().skip(2).any(|(path, _)| !is_packed(path))
}

/// The numbers of filling lines in all files, in their order.
fn numbers(output: &Output) -> Vec<usize> {
    let mut found = Vec::new();
    for (path, _) in &output.files {
        let mut bytes = std::fs::read(path).unwrap_or_default();
        if is_packed(path) {
            let mut plain = Vec::new();
            // What cannot be unpacked is missing then.
            let _ = GzDecoder::new(&*bytes).take(1 << 30).read_to_end(&mut plain);
            bytes = plain;
        }
        let text = String::from_utf8_lossy(&bytes);
        found.extend(text.lines().filter_map(|line| {
            let said = line.splitn(4, ' ').nth(3)?;
            let (number, rest) = said.split_once(' ')?;
            if number.len() == 9 && rest.starts_with('x') { number.parse::<usize>().ok() } else { None }
        }));
    }
    found
}

fn age(path: &Path) -> Result<(), String> {
    let file = std::fs::File::options()
        .append(true)
        .open(path)
        .map_err(|why| format!("{}: {why}", path.display()))?;
    file.set_modified(SystemTime::now() - OLD).map_err(|why| format!("{}: {why}", path.display()))
}

fn is_old(path: &Path) -> bool {
    let modified = std::fs::metadata(path).and_then(|found| found.modified()).ok();
    modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age + Duration::from_secs(86_400) > OLD)
}
