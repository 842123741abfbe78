//! Proving the probes: each is shown its planted faults, and must find them.

use std::rc::Rc;

use crate::check::{Check, Fault, Finding, Need, Saw};
use crate::evidence::Control;
use crate::foil::keeping::Keeping;
use crate::foil::postgres::Cluster;
use crate::foil::{self, Foil};
use crate::world::http::{Client, Origin};
use crate::world::{Account, Accounts, World};

/// Checks that are shown their faults at the same time: most of them wait most of the time.
const AT_ONCE: usize = 4;

/// Does something with each check, a few at a time; gives the results in the order of the checks.
pub async fn each<T: 'static, F: Future<Output = T> + 'static>(
    checks: Vec<Check>,
    work: impl Fn(Check) -> F,
) -> Vec<(Check, T)> {
    let turns = Rc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut running = tokio::task::JoinSet::new();
    for (place, check) in checks.into_iter().enumerate() {
        let (turns, work) = (Rc::clone(&turns), work(check));
        running.spawn_local(async move {
            let _turn = turns.acquire().await;
            (place, check, work.await)
        });
    }
    let mut done = Vec::new();
    while let Some(result) = running.join_next().await {
        // A check that panics is a fault of klar's own: it has shown nothing.
        done.extend(result.ok());
    }
    done.sort_by_key(|(place, ..)| *place);
    done.into_iter().map(|(_, check, result)| (check, result)).collect()
}

/// Shows a check its planted faults; what it misses in company it may find alone, on a machine that is busy.
pub async fn controls(checks: Vec<Check>) -> Vec<Control> {
    let mut controls = Vec::new();
    for (check, first) in each(checks, control).await {
        controls.push(if first.missed.is_empty() { first } else { control(check).await });
    }
    controls
}

/// Shows a check its planted faults, as far as they can be planted without a running app.
///
/// A check whose fault needs an app under klar says so in `missed` until the rig has planted it.
pub async fn control(check: Check) -> Control {
    let about = check.about;
    let mut control = Control {
        check: about.id.to_owned(),
        version: about.version,
        planted: Vec::new(),
        missed: Vec::new(),
    };
    // The same app without a fault first: a check that finds fault with everything finds nothing.
    let needs_foil = about.faults.iter().any(|fault| matches!(fault, Fault::Foil(..)));
    let clean = if needs_foil { on_foil(check, &[]).await } else { Ok(Vec::new()) };
    let needs_database = about.faults.iter().any(|fault| matches!(fault, Fault::Database(..)));
    let cluster = if needs_database { Some(Cluster::shared().await) } else { None };
    let clean_database =
        if matches!(cluster, Some(Ok(_))) { on_database(check, &[]).await } else { Ok(Vec::new()) };
    for fault in about.faults {
        let (name, found) = match fault {
            Fault::Foil(switch, part) => {
                let innocent = clean.as_ref().is_ok_and(|found| !is_broken(found, *part));
                let seen = on_foil(check, &[switch]).await;
                ((*switch).to_owned(), innocent && seen.is_ok_and(|found| is_broken(&found, *part)))
            }
            Fault::Files(files, part) => {
                let name = files.iter().map(|(path, _)| *path).collect::<Vec<_>>().join(", ");
                (name, on_files(check, files).await.is_ok_and(|found| is_broken(&found, *part)))
            }
            Fault::Database(planted, part) => {
                let name = planted.first().copied().unwrap_or_default().to_owned();
                // Where no server is installed, nothing can be planted: the check stays unproven, and says why.
                if let Some(Err(why)) = &cluster {
                    (format!("{name} ({why})"), false)
                } else {
                    let innocent = clean_database.as_ref().is_ok_and(|found| !is_broken(found, *part));
                    let seen = on_database(check, planted).await;
                    (name, innocent && seen.is_ok_and(|found| is_broken(&found, *part)))
                }
            }
            // Planted where the app is, by `Own::control`.
            Fault::Rig(..) | Fault::Own(..) => continue,
        };
        control.planted.push(name.clone());
        if !found {
            control.missed.push(name);
        }
    }
    control
}

/// What a check finds in the foil with these faults.
///
/// # Errors
/// Why it found nothing at all.
pub async fn on_foil(check: Check, faults: &[&str]) -> Result<Vec<Finding>, String> {
    // A check that looks at both gets a foil over a real database; one that looks at what is kept of it a database that
    // nobody else fills. What it does not look at is not started.
    let needs = |need| check.about.needs.contains(&need);
    let keeps = needs(Need::Kept) || needs(Need::Keeper);
    let failed = |why: std::io::Error| why.to_string();
    let (cluster, url) = match (keeps, needs(Need::Database)) {
        (_, false) => (None, None),
        (true, true) => {
            let cluster = Rc::new(Cluster::start().await.map_err(failed)?);
            let url = cluster.small().await.map_err(failed)?;
            (Some(cluster), Some(url))
        }
        (false, true) => {
            let cluster = Cluster::shared().await.map_err(failed)?;
            let url = cluster.plant(&[]).await.map_err(failed)?;
            (Some(cluster), Some(url))
        }
    };
    // Its items are in the good tables.
    let items = url.as_deref().filter(|_| !keeps);
    let foil = Foil::over(faults, items).await.map_err(failed)?;
    if keeps {
        foil.keep(Keeping::new(cluster.clone().zip(url.clone())));
    }
    let mut world = foil_world(&foil);
    world.database = url;
    found(check, world).await
}

/// What a check finds in a source tree of these files.
///
/// # Errors
/// Why it found nothing at all.
pub async fn on_files(check: Check, files: &[(&str, &str)]) -> Result<Vec<Finding>, String> {
    let folder =
        std::env::temp_dir().join(format!("klar-prove-{}-{:x}", std::process::id(), fastrand::u64(..)));
    let written = files.iter().try_for_each(|(path, text)| {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        std::fs::write(path, text)
    });
    let mut world = World::new("files");
    world.source = Some(folder.clone());
    let found = match written {
        Ok(()) => found(check, world).await,
        Err(why) => Err(why.to_string()),
    };
    let _ = std::fs::remove_dir_all(folder);
    found
}

/// What a check finds in a PostgreSQL with the good tables and this fault in it.
///
/// # Errors
/// Why it found nothing at all.
pub async fn on_database(check: Check, planted: &[&str]) -> Result<Vec<Finding>, String> {
    let cluster = Cluster::shared().await.map_err(|why| why.to_string())?;
    let mut world = World::new("database");
    world.database = Some(cluster.plant(planted).await.map_err(|why| why.to_string())?);
    world.is_foil = true;
    found(check, world).await
}

/// A world with the foil in it.
#[must_use]
pub fn foil_world(foil: &Foil) -> World {
    let mut world = World::new("foil");
    let origin = |tls, port| Origin { tls, host: "foil.example".to_owned(), port };
    world.site = Some(Client::new(origin(true, foil.https.port())).at(foil.https));
    world.plain = Some(origin(false, foil.http.port()));
    world.plain_address = Some(foil.http);
    world.authority = Some(foil.authority.clone());
    world.may = crate::check::Disturbs::Stops;
    world.is_foil = true;
    world.caching = Some(foil.policy());
    world.miscounts = foil.has("miscounts");
    world.klar = Some(Rc::new(foil.hands()));
    world.accounts = Some(Accounts {
        path: "/api/session".to_owned(),
        body: serde_json::json!({ "email": "{name}", "password": "{password}" }),
        csrf: Some(("x-csrf-token".to_owned(), "csrf_token".to_owned())),
        list: foil::ACCOUNTS
            .iter()
            .map(|(name, privileged)| Account {
                label: name.split('@').next().unwrap_or(name).to_owned(),
                name: (*name).to_owned(),
                password: klar_base::Secret::new(foil::PASSWORD.to_owned()),
                privileged: *privileged,
            })
            .collect(),
    });
    world
}

async fn found(check: Check, world: World) -> Result<Vec<Finding>, String> {
    if let Some(need) = world.missing(check.about.needs).await {
        return Err(need.missing().en);
    }
    let looking = tokio::time::timeout(check.about.limit, check.look(Rc::new(world)));
    let seen = looking.await.map_err(|_| "not done in time".to_owned())?.map_err(|why| why.0.en)?;
    check.judge(&seen)
}

fn is_broken(found: &[Finding], (row, part): (&str, &str)) -> bool {
    found.iter().any(|found| found.row == row && found.part == part && found.saw == Saw::Broken)
}
