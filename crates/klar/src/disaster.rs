//! When the machine is lost: the plan, written from `klar.toml`, and its rehearsal in a rig that is really lost.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use klar_base::Period;
use klar_base::place::Place;
use klar_config::{Config, EnvValue, SecretRef};
use klar_prove::world::database::Database;
use klar_prove::world::http::Ask;
use klar_prove::world::recovery::{MARKS, Plan, Rebuilt, part};
use klar_prove::world::until;
use klar_run::report::{Event, Failure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::context::{Context, Trouble};
use crate::rig::{self, Rig};
use crate::verbs::target::running;

/// What the plan calls the file that `klar backup key` makes.
const DRAWER: &str = "drawer.txt";
/// What opens a bucket or another machine, in the plan.
const PLACE_KEY: &str = "place-key.txt";
/// Documents are looked for so deep, and are not longer than this.
const DEPTH: usize = 4;
const DOCUMENT_MAX: u64 = 1 << 20;
/// The table that the rehearsal writes to, and for how long.
const TABLE: &str = "klar_disaster";
const WRITES: Duration = Duration::from_secs(5);
/// A rig's app is back within this, or it is not.
const BACK: Duration = Duration::from_secs(120);

/// The plan of the app in a context's folder.
///
/// # Errors
/// What is wrong with its `klar.toml`.
pub fn plan(context: &Context) -> Result<Plan, Trouble> {
    let config = context.load()?.config;
    let ms = |period: &Period| u64::try_from(period.0.as_millis()).unwrap_or(u64::MAX);
    Ok(Plan {
        text: text(&config),
        written: find(&context.folder(), Path::new(""), DEPTH),
        lacks: lacks(&config),
        place: config.backup.offsite.as_ref().map(ToString::to_string),
        rto_ms: ms(&config.recovery.rto),
        rpo_ms: ms(&config.recovery.rpo),
    })
}

/// The keys without which a plan is none.
fn lacks(config: &Config) -> Vec<String> {
    let recovery = &config.recovery;
    let mut lacks = Vec::new();
    if config.backup.offsite.is_none() {
        lacks.push("backup.offsite");
    }
    for (key, value) in [
        ("recovery.contact", &recovery.contact),
        ("recovery.decides", &recovery.decides),
        ("recovery.restores", &recovery.restores),
        ("recovery.informs", &recovery.informs),
    ] {
        if value.is_none() {
            lacks.push(key);
        }
    }
    lacks.into_iter().map(str::to_owned).collect()
}

fn text(config: &Config) -> String {
    let (key, recovery) = (config.key(), &config.recovery);
    let lack = |what: &str| format!("**nobody yet** (`{what}` in `[recovery]` of `klar.toml`)");
    let person = |who: &Option<klar_config::PlainText>, key: &str| match who {
        Some(who) => who.to_string(),
        None => lack(key),
    };
    let place = config.backup.offsite.as_ref().map(ToString::to_string);
    let kept = kept(config);
    let names: Vec<String> = kept.iter().map(|(name, _)| format!("`{name}`")).collect();
    let what = if names.is_empty() { "nothing that klar keeps".to_owned() } else { names.join(", ") };
    let mut drawer = format!("`{DRAWER}`, which `klar backup key --out {DRAWER}` made: it opens the backups");
    let mut from = String::new();
    if let Some(place) = &place {
        from = format!(" --from {place} --key {DRAWER}");
        let has_key = config.backup.offsite_key.is_some();
        let opens = match place.parse() {
            Ok(Place::S3 { .. }) => Some("with the `ID:SECRET` of the bucket".to_owned()),
            Ok(Place::Sftp { user, host, .. }) if has_key => {
                Some(format!("with the private key that {host} knows for {user}"))
            }
            // The new machine has a key of its own, and says which line is missing.
            Ok(Place::Sftp { user, host, .. }) => {
                drawer +=
                    &format!(", and what it takes to put a line into `authorized_keys` of {user} on {host}");
                None
            }
            _ => None,
        };
        if let Some(opens) = opens {
            from += &format!(" --place-key {PLACE_KEY}");
            drawer += &format!(", and `{PLACE_KEY}`, {opens}");
        }
    }
    let restore = |(_, store): &(String, Option<String>)| {
        let store = store.as_ref().map(|name| format!(" --store {name}")).unwrap_or_default();
        format!("$ klar restore latest{store}{from} --yes {key}\n")
    };
    let commands: String = kept.iter().map(restore).collect();
    let named = named_files(config);
    if !named.is_empty() {
        let files: Vec<String> = named.iter().map(|path| format!("`{}`", path.display())).collect();
        drawer +=
            &format!(". Files that `klar.toml` names, where Git does not have them: {}", files.join(", "));
    }
    let place = place.map_or_else(
        || {
            "**nowhere yet** (`offsite` in `[backup]` of `klar.toml`): a lost machine takes all of it along"
                .to_owned()
        },
        |place| format!("`{place}`"),
    );
    let (contact, decides) = (person(&recovery.contact, "contact"), person(&recovery.decides, "decides"));
    let (restores, informs) = (person(&recovery.restores, "restores"), person(&recovery.informs, "informs"));
    let (rto, rpo) = (recovery.rto, recovery.rpo);
    format!(
        "{}\n\n\
         ## When the machine of {key} is lost\n\n\
         | | |\n| --- | --- |\n\
         | The app is away for at most (RTO) | {rto} |\n\
         | Newest data that may be lost (RPO) | {rpo} |\n\
         | Called first | {contact} |\n\
         | Decides that this plan is followed | {decides} |\n\
         | Follows it | {restores} |\n\
         | Tells users and customers | {informs} |\n\
         | Data | {what} |\n\
         | Where it is kept once more | {place} |\n\n\
         What has to be at hand: the sources with `klar.toml`, from Git; from the drawer {drawer}.\n\n\
         On another machine with klar, in the folder of the sources:\n\n\
         ```console\n$ klar up\n{commands}$ klar status\n```\n\n\
         Then the names of the app are led to the new machine (DNS), and the old one is kept from coming back by itself.\n\n\
         These commands are followed in a rig, which is really lost before, by `klar check --full --only disaster`; how long it \
         took the last time is in its report, at `dr.drill`.\n\n\
         {}",
        MARKS.0, MARKS.1
    )
}

/// What klar keeps of the app: what it is called, and what has to be said to mean it. Files come first, and each Redis: they
/// are in place before the process that keeps all of it begins anew on what came with the database.
fn kept(config: &Config) -> Vec<(String, Option<String>)> {
    let mut kept = Vec::new();
    if config.services.values().any(|service| !service.writable.is_empty()) {
        let name =
            if config.data.keys().any(|name| name.as_str() == "files") { "app-files" } else { "files" };
        kept.push((name.to_owned(), Some(name.to_owned())));
    }
    let managed = |engine| {
        let stores = config.data.iter();
        let of_it = stores.filter(move |(_, store)| {
            store.engine == engine && matches!(store.place, klar_config::Place::Managed)
        });
        of_it.map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    kept.extend(managed(klar_config::Engine::Redis).into_iter().map(|name| (name.clone(), Some(name))));
    let names = managed(klar_config::Engine::Postgres);
    let is_alone = names.len() == 1;
    kept.extend(names.into_iter().map(|name| (name.clone(), (!is_alone).then_some(name))));
    kept
}

/// Files whose content is a secret or a certificate of the app.
fn named_files(config: &Config) -> BTreeSet<PathBuf> {
    let of_services = config.services.values().flat_map(|service| service.env.values());
    let of_services = of_services.filter_map(|value| match value {
        EnvValue::Secret(reference) => Some(reference),
        EnvValue::Plain(_) => None,
    });
    let of_data = config.data.values().filter_map(|store| match &store.place {
        klar_config::Place::Url(reference) => Some(reference),
        klar_config::Place::Managed => None,
    });
    let of_accounts = config.accounts.values().map(|account| &account.password);
    let secrets = of_services.chain(of_data).chain(of_accounts).chain(&config.backup.offsite_key);
    let files = secrets.filter_map(|reference| match reference {
        SecretRef::File(path) => Some(path.clone()),
        _ => None,
    });
    let certificate =
        [&config.edge.certificate, &config.edge.key].into_iter().flatten().map(|path| path.to_path_buf());
    files.chain(certificate).collect()
}

/// The first document beneath a folder that has a plan, and the plan in it.
fn find(root: &Path, at: &Path, depth: usize) -> Option<(String, String)> {
    let mut names: Vec<_> =
        std::fs::read_dir(root.join(at)).ok()?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    let paths: Vec<PathBuf> = names.into_iter().map(|name| at.join(name)).collect();
    let is_document = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let here = paths.iter().filter(is_document).find_map(|path| {
        let whole = root.join(path);
        let is_fit = whole.symlink_metadata().is_ok_and(|of| of.is_file() && of.len() <= DOCUMENT_MAX);
        let text = is_fit.then(|| std::fs::read_to_string(whole).ok()).flatten()?;
        Some((path.display().to_string(), part(&text)?.to_owned()))
    });
    let is_folder = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_made = name.starts_with('.') || ["node_modules", "vendor", "target"].contains(&&*name);
        !is_made && root.join(path).symlink_metadata().is_ok_and(|of| of.is_dir())
    };
    here.or_else(|| match depth {
        0 => None,
        _ => paths.iter().filter(is_folder).find_map(|path| find(root, path, depth - 1)),
    })
}

/// Writes the plan into a document: in the place of the one that is there, or at its end.
///
/// # Errors
/// The file cannot be read or written.
pub fn write(plan: &Plan, path: &Path) -> Result<(), Trouble> {
    let failed = || Trouble::system(path.display().to_string());
    let before = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "# Recovery\n".to_owned(),
        read => read.map_err(failed())?,
    };
    let after = match part(&before) {
        Some(there) => before.replacen(there, &plan.text, 1),
        None => format!("{}\n\n{}\n", before.trim_end(), plan.text),
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed())?;
    }
    std::fs::write(path, after).map_err(failed())
}

/// Starts a rig of the app, writes to its database, loses it, and rebuilds it by the commands of a plan.
///
/// # Errors
/// What went wrong before anything was lost. What goes wrong afterwards is in the result.
pub async fn rehearse(original: &Context, commands: &[String]) -> Result<Rebuilt, Trouble> {
    let config = original.load()?.config;
    let rig = Rig::start(original, &config).await?;
    let drawer = rig.folder().join(DRAWER);
    given(&rig, &["backup", "key", "--out", &drawer.display().to_string()]).map_err(not_ready)?;
    for (_, store) in kept(&config) {
        let store = store.iter().flat_map(|name| ["--store", name]);
        given(&rig, &["backup", "now"].into_iter().chain(store).collect::<Vec<_>>()).map_err(not_ready)?;
    }
    let mut rebuilt = Rebuilt { before: first_page(&rig).await, ..Rebuilt::default() };
    let rows = rows(&rig).await?;

    let lost_at = Instant::now();
    let ports = std::fs::read_to_string(rig.context.layout.ports_file()).unwrap_or_default();
    let ports: Vec<u16> = serde_json::from_str(&ports).unwrap_or_default();
    lose(&rig);

    let app = rig.context.folder();
    rebuilt.from_git = from_git(&original.folder(), &app)?;
    for path in named_files(&config) {
        let (from, to) = (original.folder().join(&path), app.join(&path));
        if rebuilt.from_git && path.is_relative() && from.is_file() && !to.exists() {
            let folder = to.parent().unwrap_or(&app);
            let copied = std::fs::create_dir_all(folder).and_then(|()| std::fs::copy(&from, &to));
            copied.map_err(Trouble::system(to.display()))?;
            rebuilt.from_drawer.push(path.display().to_string());
        }
    }
    rig.set_apart(&ports)?;
    let place = config.backup.offsite.as_ref().map(ToString::to_string).unwrap_or_default();
    for command in commands.iter().filter(|_| rebuilt.from_git) {
        let words = in_rig(command, &place, &rig.second_place(), &drawer);
        let begun = Instant::now();
        let failed = given(&rig, &words.iter().map(String::as_str).collect::<Vec<_>>()).err();
        let is_over = failed.is_some();
        rebuilt.commands.push((
            command.clone(),
            u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            failed,
        ));
        if is_over {
            break;
        }
    }
    let works = async || first_page(&rig).await.filter(|status| Some(*status) == rebuilt.before);
    let after = if rebuilt.from_git { until(BACK, works).await } else { None };
    rebuilt.after = match after {
        Some(status) => Some(status),
        None => first_page(&rig).await,
    };
    rebuilt.away_ms = after.map(|_| u64::try_from(lost_at.elapsed().as_millis()).unwrap_or(u64::MAX));
    let back = back(&rig).await.unwrap_or_default();
    rebuilt.rows = rows.len() as u64;
    rebuilt.back = rows.iter().filter(|(number, _)| back.contains(number)).count() as u64;
    let oldest = rows.iter().find(|(number, _)| !back.contains(number));
    let lost = oldest.map(|(_, at)| lost_at.saturating_duration_since(*at));
    rebuilt.lost_ms = lost.map_or(0, |lost| u64::try_from(lost.as_millis()).unwrap_or(u64::MAX));
    Ok(rebuilt)
}

fn not_ready(why: String) -> Trouble {
    Failure::new(format!("the rig was not ready to be lost: {why}")).into()
}

/// Runs a command of klar in the rig.
fn given(rig: &Rig, words: &[&str]) -> Result<(), String> {
    let output = rig.klar(words).output().map_err(|why| why.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let failed = out.lines().rev().find_map(|line| match serde_json::from_str(line) {
        Ok(Event::Failed(failure)) => Some(failure.what),
        _ => None,
    });
    Err(failed.unwrap_or_else(|| err.lines().chain(out.lines()).next().unwrap_or("it failed").to_owned()))
}

/// A command of the plan as it is given in the rig: the second place and the drawer are others there, and what opens a
/// bucket is not needed.
fn in_rig(command: &str, place: &str, second: &Path, drawer: &Path) -> Vec<String> {
    let mut words = command.split_whitespace().skip(1);
    let mut given = Vec::new();
    while let Some(word) = words.next() {
        given.push(match word {
            "--place-key" => {
                words.next();
                continue;
            }
            DRAWER => drawer.display().to_string(),
            word if word == place => second.display().to_string(),
            word => word.to_owned(),
        });
    }
    given
}

async fn first_page(rig: &Rig) -> Option<u16> {
    let world = running(&rig.context, false).await.ok()?;
    world.ask(Ask::get("/")).await.ok().map(|answer| answer.status.as_u16())
}

async fn database(rig: &Rig) -> Result<Database, Trouble> {
    let failed = |why: String| Trouble::from(Failure::new(format!("the rig's database: {why}")));
    let world = running(&rig.context, false).await?;
    let url = world.database.clone().ok_or_else(|| failed("there is none".to_owned()))?;
    Database::connect(&url).await.map_err(|why| failed(why.0.en))
}

/// Writes a row after the other until the second place has some of them and a few seconds are over; gives those that were
/// acknowledged, and when.
async fn rows(rig: &Rig) -> Result<Vec<(u64, Instant)>, Trouble> {
    let failed = |why: klar_prove::check::Unable| {
        Trouble::from(Failure::new(format!("the rig's database: {}", why.0.en)))
    };
    let database = database(rig).await?;
    database.run("SET default_transaction_read_only = off").await.map_err(failed)?;
    let make = format!("DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} (n bigint PRIMARY KEY)");
    database.run(&make).await.map_err(failed)?;
    let made = jiff::Timestamp::now().as_millisecond().unsigned_abs();
    let mut rows = Vec::new();
    let mut covered_since = None;
    let begun = Instant::now();
    while covered_since.is_none_or(|since: Instant| since.elapsed() < WRITES) {
        if begun.elapsed() > BACK {
            return Err(not_ready("the second place does not get what is written".to_owned()));
        }
        let number = rows.len() as u64;
        database.run(&format!("INSERT INTO {TABLE} VALUES ({number})")).await.map_err(failed)?;
        rows.push((number, Instant::now()));
        if covered_since.is_none() && number.is_multiple_of(50) && second_covers(rig) > Some(made) {
            covered_since = Some(Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(rows)
}

fn second_covers(rig: &Rig) -> Option<u64> {
    let output = rig.klar(&["backup", "list"]).stderr(Stdio::null()).output().ok()?;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    told["status"]["second"]["covered_unix_ms"].as_u64()
}

/// The rows that came back.
async fn back(rig: &Rig) -> Option<BTreeSet<u64>> {
    let found = database(rig).await.ok()?.rows(&format!("SELECT n FROM {TABLE}")).await.ok()?;
    Some(found.iter().map(|row| row.number("n").unsigned_abs()).collect())
}

/// Kills everything of the rig, and removes what it had.
fn lose(rig: &Rig) {
    let state = rig.context.layout.root().display().to_string();
    let begun = Instant::now();
    loop {
        let all = processes_of(&state);
        for pid in &all {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if all.is_empty() || begun.elapsed() > Duration::from_secs(10) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    rig::remove(rig.context.layout.root());
    rig::remove(&rig.context.folder());
}

/// Processes that were started with this folder, and all that those have started; never this one.
fn processes_of(state: &str) -> BTreeSet<i32> {
    let mut parents = Vec::new();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        // After the name, which may have spaces and brackets in it: the state and the parent.
        let mut rest = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let is_dead = rest.next() == Some("Z");
        let parent = rest.next().and_then(|parent| parent.parse::<i32>().ok()).unwrap_or_default();
        parents.push((pid, parent));
        let of_it = |bytes: Vec<u8>| bytes.windows(state.len()).any(|window| window == state.as_bytes());
        let here = entry.path().join("cwd").read_link().is_ok_and(|cwd| cwd.starts_with(state));
        if !is_dead && (here || of_it(read("cmdline"))) {
            found.insert(pid);
        }
    }
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    found.remove(&own);
    loop {
        let more: Vec<i32> = parents
            .iter()
            .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid) && *pid != own)
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Puts what Git has of a folder into another one; says whether Git has its `klar.toml`.
fn from_git(folder: &Path, to: &Path) -> Result<bool, Trouble> {
    let failed = || Trouble::system("taking the sources from Git");
    std::fs::create_dir_all(to).map_err(failed())?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755)).map_err(failed())?;
    let archive = to.with_extension("git.tar");
    let file = std::fs::File::create(&archive).map_err(failed())?;
    let mut git = Command::new("git");
    // The tree alone: of a commit there would be a header that says which.
    git.arg("-c").arg("safe.directory=*").arg("-C").arg(folder).args([
        "archive",
        "--format=tar",
        "HEAD^{tree}",
    ]);
    let status = git.stdout(file).stderr(Stdio::null()).status();
    let unpacked = match status {
        Ok(status) if status.success() => klar_run::release::unpack(&archive, to).is_ok(),
        _ => false,
    };
    std::fs::remove_file(&archive).map_err(failed())?;
    Ok(unpacked && to.join(klar_config::FILE_NAME).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_given_in_a_rig() {
        let command = "klar restore latest --from s3://b/shop --key drawer.txt --place-key place-key.txt --yes shop.prod";
        let given = in_rig(command, "s3://b/shop", Path::new("/rig/second"), Path::new("/rig/drawer.txt"));
        let expected = "restore latest --from /rig/second --key /rig/drawer.txt --yes shop.prod";
        assert_eq!(given.join(" "), expected);
    }

    #[test]
    fn a_plan_is_written_into_a_document_and_found_there() {
        let folder = std::env::temp_dir().join(format!("klar-plan-{}", std::process::id()));
        let path = folder.join("docs/recovery.md");
        let plan = |text: &str| Plan { text: format!("{}\n{text}\n{}", MARKS.0, MARKS.1), ..Plan::default() };
        write(&plan("one"), &path).unwrap();
        let own = std::fs::read_to_string(&path).unwrap() + "\nCall Kari.\n";
        std::fs::write(&path, own).unwrap();
        write(&plan("two"), &path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("# Recovery\n\n{}\n\nCall Kari.\n", plan("two").text));
        assert_eq!(find(&folder, Path::new(""), DEPTH), Some(("docs/recovery.md".into(), plan("two").text)));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
