//! A drill finds what is wrong with a point, and nothing where nothing is.

use klar_keep::drill::{Assertion, Drill};
use klar_keep::point::{Outcome, Proof, StepKind};
use klar_keep::restore;

use crate::cluster::{Cluster, Home, Kept};

fn outcome(proof: &Proof, what: StepKind) -> Option<Outcome> {
    proof.steps.iter().find(|step| step.what == what).map(|step| step.outcome)
}

#[test]
fn a_good_point_is_proven_and_a_bad_one_is_not() {
    let home = Home::new("drills");
    let cluster = Cluster::start(&home);
    let session = cluster.session();
    session
        .run(
            "create table public.people (id int primary key, name text);
             insert into public.people select n, 'name ' || n from generate_series(1, 5000) n;
             create table public.\"odd \"\"name\" (a int)",
        )
        .unwrap();
    let mut kept = Kept::begin(&cluster, &home);
    let point = kept.point(&cluster, "klar-drill");
    session.run("delete from public.people where id > 100").unwrap();
    kept.end(&cluster);
    let trusted = [kept.key.id()];
    let run = |assertion: &str| {
        let all = restore::Kept::read(&kept.repository, &trusted).unwrap();
        let assertions = [Assertion { database: "postgres".into(), sql: assertion.into() }];
        let folder = home.join("drill");
        let drill = Drill {
            kept: &all,
            programs: &cluster.programs,
            folder: &folder,
            assertions: &assertions,
            escrow: false,
            place: None,
        };
        let proof = drill.run(None).unwrap();
        assert!(!folder.exists());
        proof
    };
    // The tables are compared as they were, the app's own questions as they became.
    let proof = run("select count(*) = 100 from people");
    assert!(proof.is_good(), "{proof:#?}");
    assert_eq!(proof.steps.len(), 7);
    assert!(proof.steps.iter().all(|step| step.outcome == Outcome::Good), "{proof:#?}");
    proof.publish(&kept.repository, &kept.key).unwrap();

    let proof = run("select count(*) = 5000 from public.people");
    assert_eq!(outcome(&proof, StepKind::Assertions), Some(Outcome::Bad));
    assert!(!proof.is_good());

    // A witness that says something else.
    let mut forged = point.clone();
    let witness = forged.witness.as_mut().unwrap();
    witness.tables.iter_mut().find(|table| table.table == "people").unwrap().rows += 1;
    let all = restore::Kept::read(&kept.repository, &trusted).unwrap();
    let mut all = all;
    all.points.points.insert(forged.id.clone(), forged);
    let folder = home.join("drill");
    let drill = Drill {
        kept: &all,
        programs: &cluster.programs,
        folder: &folder,
        assertions: &[],
        escrow: false,
        place: None,
    };
    let proof = drill.run(None).unwrap();
    assert_eq!(outcome(&proof, StepKind::Tables), Some(Outcome::Bad));
    let told = &proof.first_bad().unwrap().evidence;
    assert!(told.contains("postgres.public.people: 5000 rows, expected 5001"), "{told}");

    // A pack that rots, and one that is gone.
    let packs = || {
        let mut packs = Vec::new();
        for folder in std::fs::read_dir(home.join("repository/data")).unwrap().flatten() {
            packs.extend(std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path()));
        }
        packs.sort();
        packs
    };
    let pack = packs().remove(0);
    let mut bytes = std::fs::read(&pack).unwrap();
    let whole = bytes.clone();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    overwrite(&pack, &bytes);
    let proof = run("select true");
    assert_eq!(outcome(&proof, StepKind::Files), Some(Outcome::Bad), "{proof:#?}");
    assert!(proof.rto_ms.is_none() && !proof.is_good());
    std::fs::remove_file(&pack).unwrap();
    assert_eq!(outcome(&run("select true"), StepKind::Files), Some(Outcome::Bad));
    overwrite(&pack, &whole);
    assert!(run("select true").is_good());

    // A piece of the log is gone.
    let mut pieces = Vec::new();
    for entry in std::fs::read_dir(home.join("repository/klar/wal/00000001")).unwrap().flatten() {
        pieces.push(entry.path());
    }
    pieces.sort();
    for piece in [&pieces[pieces.len() - 1], &pieces[pieces.len() - 2]] {
        let bytes = std::fs::read(piece).unwrap();
        std::fs::remove_file(piece).unwrap();
        let proof = run("select true");
        assert_eq!(outcome(&proof, StepKind::Log), Some(Outcome::Bad), "{}: {proof:#?}", piece.display());
        assert!(proof.first_bad().unwrap().evidence.contains("is missing from"), "{proof:#?}");
        overwrite(piece, &bytes);
    }
    assert!(run("select true").is_good());
}

/// Objects are read-only: a new file takes the place of one.
fn overwrite(path: &std::path::Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(path);
    std::fs::write(path, bytes).unwrap();
}
