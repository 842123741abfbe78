//! Whatever becomes of one object of a repository: what is restored is right, or nothing is, and it is noticed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use klar_keep::point::Proof;
use klar_keep::restore::{self, Kept as All};
use klar_keep::scratch::{Then, Until};
use klar_keep::server::{Programs, Session};
use klar_keep::verify;
use klar_keep::wal::{batch, chain::Log};
use klar_repo::{Folder, Repository};
use klar_store::KeyId;

use crate::cluster::{Cluster, Home, Kept};

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    Bit,
    Cut,
    Gone,
    /// It is there under another object's name too, of the same kind.
    Twice,
    /// A piece of the log under another timeline's name.
    Timeline,
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => files(&path, found),
            path => found.push(path),
        }
    }
}

/// Does it, and says to what.
fn harm(repository: &Path, harm: Harm, random: &mut fastrand::Rng) -> String {
    let mut all = Vec::new();
    files(repository, &mut all);
    all.sort();
    // Pieces of the log are many, the rest is few: each kind is as likely.
    let kind = |path: &PathBuf| {
        let name = path.strip_prefix(repository).unwrap().display().to_string();
        let parts: Vec<&str> = name.split('/').collect();
        parts[..parts.len().min(if parts[0] == "klar" { 2 } else { 1 })].join("/")
    };
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in all {
        kinds.entry(kind(&path)).or_default().push(path);
    }
    let kinds: Vec<Vec<PathBuf>> = match harm {
        Harm::Timeline | Harm::Twice => vec![kinds.remove("klar/wal").unwrap()],
        _ => kinds.into_values().collect(),
    };
    let of_kind = &kinds[random.usize(..kinds.len())];
    let path = &of_kind[random.usize(..of_kind.len())];
    let mut bytes = fs::read(path).unwrap();
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    match harm {
        Harm::Bit => {
            let at = random.usize(..bytes.len());
            bytes[at] ^= 1 << random.u8(..8);
            fs::write(path, bytes).unwrap();
        }
        Harm::Cut => fs::write(path, &bytes[..random.usize(..bytes.len())]).unwrap(),
        Harm::Gone => fs::remove_file(path).unwrap(),
        Harm::Twice => fs::write(&of_kind[random.usize(..of_kind.len())], bytes).unwrap(),
        Harm::Timeline => {
            let name = path.file_name().unwrap().to_str().unwrap();
            let folder = repository.join("klar/wal/00000002");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("00000002{}", &name[8..])), bytes).unwrap();
        }
    }
    path.strip_prefix(repository).unwrap().display().to_string()
}

/// What is wrong, as `klar backup verify` finds it.
fn found(repository: &Repository, trusted: &[KeyId]) -> Vec<String> {
    match All::read(repository, trusted) {
        Err(error) => vec![error.to_string()],
        Ok(all) => match verify::database(&all, &mut |_, _, _| {}) {
            Err(error) => vec![error.to_string()],
            Ok(found) => found.problems,
        },
    }
}

/// How many rows come back, and their sum; or why none do.
fn restored(
    repository: &Repository,
    trusted: &[KeyId],
    programs: &Programs,
    folder: &Path,
) -> Result<String, String> {
    let all = All::read(repository, trusted).map_err(|error| error.to_string())?;
    let plan = all.plan(Until::End, None).map_err(|error| error.to_string())?;
    let (data, log) = (folder.join("data"), folder.join("log"));
    all.bring_back(&plan, programs, &data, &log).map_err(|error| error.to_string())?;
    let home = folder.join("home");
    let server = restore::start(&plan, programs, &data, &log, &home, Then::Promote, false)
        .map_err(|error| error.to_string())?;
    let session = Session::open(server.door()).unwrap();
    let sql = "select count(*) || ' ' || md5(string_agg(id || filler, ',' order by id)) from public.rows";
    let rows = session.rows(sql, Duration::from_secs(60)).map_err(|error| error.to_string())?;
    Ok(rows[0].get(0).unwrap_or_default().to_owned())
}

/// `KLAR_FAULTS=300` for the full count (bits, cuts and losses), with a fifth more of segments that are there twice or under
/// another timeline. `KLAR_SEED` for other objects.
#[test]
fn what_is_damaged_is_noticed_and_never_restored_as_if_it_were_right() {
    let of =
        |name: &str, usual: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (count, seed) = (of("KLAR_FAULTS", 10), of("KLAR_SEED", 8));
    let home = Home::new("damage");
    let cluster = Cluster::start(&home);
    let session = cluster.session();
    session.run("create table public.rows (id bigint primary key, filler text)").unwrap();
    let mut kept = Kept::begin(&cluster, &home);
    // Two points, batches and pieces, so that each kind of object is there.
    for round in 0..2 {
        for part in 0..4 {
            let from = round * 4000 + part * 1000;
            let rows = format!("generate_series({}, {}) n", from + 1, from + 1000);
            session
                .run(&format!(
                    "insert into public.rows select n, repeat('x', 200) || md5(n::text) from {rows}"
                ))
                .unwrap();
            std::thread::sleep(Duration::from_millis(150));
        }
        let point = kept.point(&cluster, &format!("klar-{round}"));
        let proof = Proof {
            format: 1,
            point: point.id,
            begun: Timestamp::now(),
            steps: Vec::new(),
            covered: None,
            rto_ms: Some(1),
            rpo_ms: None,
            escrow: false,
            place: None,
        };
        proof.publish(&kept.repository, &kept.key).unwrap();
        if round == 0 {
            session.run("select pg_switch_wal()").unwrap();
            let log = Log::read(&kept.repository, kept.facts.segment_size).unwrap();
            batch::make(&kept.repository, &log, kept.facts.system, &kept.key, "host", Timestamp::now())
                .unwrap();
        }
    }
    session.run("insert into public.rows values (100000, 'the last one')").unwrap();
    kept.end(&cluster);
    let trusted = [kept.key.id()];
    let whole = home.join("repository");
    let expected = restored(&kept.repository, &trusted, &cluster.programs, &home.join("first")).unwrap();
    assert!(expected.starts_with("8001 "), "{expected}");

    let mut random = fastrand::Rng::with_seed(seed);
    let mut seen: BTreeMap<(Harm, bool, bool), u32> = BTreeMap::new();
    for round in 0..count + count / 5 {
        let kind = match round {
            round if round >= count => [Harm::Twice, Harm::Timeline][(round % 2) as usize],
            round => [Harm::Bit, Harm::Cut, Harm::Gone][(round % 3) as usize],
        };
        let folder = home.join("harmed");
        let (place, out) = (folder.join("repository"), folder.join("out"));
        fs::create_dir_all(&folder).unwrap();
        assert!(Command::new("cp").arg("-a").arg(&whole).arg(&place).status().unwrap().success());
        let object = harm(&place, kind, &mut random);
        let what = format!("round {round} of seed {seed}: {kind:?} {object}");
        let (noticed, came) = match Repository::open(Arc::new(Folder::new(&place)), "own") {
            Err(error) => (vec![error.to_string()], Err(error.to_string())),
            Ok(repository) => {
                let noticed = found(&repository, &trusted);
                (noticed, restored(&repository, &trusted, &cluster.programs, &out))
            }
        };
        if let Ok(came) = &came {
            assert_eq!(*came, expected, "{what}: restored as if it were right");
        }
        assert!(!noticed.is_empty() || came.is_ok(), "{what}: not noticed, and {came:?}");
        *seen.entry((kind, !noticed.is_empty(), came.is_ok())).or_default() += 1;
        // What nobody notices has to be what nobody needs: a proof, an older word on how far the log was shipped.
        if noticed.is_empty() {
            println!("{what}: not noticed, and nothing was wrong");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
    for ((kind, noticed, right), count) in &seen {
        println!("{kind:?}: {count} times noticed: {noticed}, restored right: {right}");
    }
    for password in 0..10 {
        let wrong = Repository::open(Arc::new(Folder::new(&whole)), &format!("own{password}"));
        assert!(wrong.is_err_and(|error| error.to_string().contains("opens with this password")));
    }
}
