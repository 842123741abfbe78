//! Proving the probes: each is shown its planted faults, and must find them.

use std::rc::Rc;

use crate::check::{Check, Fault, Finding, Saw};
use crate::evidence::Control;
use crate::foil::Foil;
use crate::world::World;
use crate::world::http::{Client, Origin};

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
            Fault::Rig(..) => continue,
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
    let foil = Foil::start(faults).await.map_err(|why| why.to_string())?;
    let world = foil_world(&foil);
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
    world.klar = Some(Rc::new(foil.hands()));
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
