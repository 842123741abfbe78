//! Runs checks side by side, each within its time, and keeps what is known whatever happens.

use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::check::{Check, Disturbs, Unable};
use crate::evidence::{Evidence, Outcome};
use crate::words;
use crate::world::{World, until};

/// How long one step is tried to be undone.
const UNDO: Duration = Duration::from_secs(6);

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Progress {
    /// A check has begun.
    Began(&'static str),
    /// A check is done.
    Done(Box<Evidence>),
}

/// Runs checks against a world and gives their evidence through `progress`, each as soon as it is there.
///
/// Checks that attack or stop parts of the app run alone, one after the other, after all others. Dropping the future ends the
/// run; what was told until then is whole.
pub async fn run(checks: &[Check], world: Rc<World>, progress: mpsc::UnboundedSender<Progress>) {
    let (alone, together): (Vec<Check>, Vec<Check>) =
        checks.iter().partition(|check| check.about.disturbs >= Disturbs::Attacks);
    let mut running = JoinSet::new();
    for check in together {
        running.spawn_local(one(check, Rc::clone(&world), progress.clone()));
    }
    while running.join_next().await.is_some() {}
    for check in alone {
        one(check, Rc::clone(&world), progress.clone()).await;
    }
}

async fn one(check: Check, world: Rc<World>, progress: mpsc::UnboundedSender<Progress>) {
    let about = check.about;
    let began = Timestamp::now();
    let _ = progress.send(Progress::Began(about.id));
    let (outcome, let_look) = match refused(&check, &world).await {
        Some(why) => (Outcome::Unable(why.0), false),
        None => (look(check, &world).await, true),
    };
    let gave_up = let_look && matches!(outcome, Outcome::Unable(_));
    if about.disturbs >= Disturbs::Stops {
        restore(&world).await;
    }
    let evidence = Evidence {
        check: about.id.to_owned(),
        version: about.version,
        target: world.target.clone(),
        release: world.release.clone(),
        place: world.place,
        began,
        ended: Timestamp::now(),
        gave_up,
        outcome,
    };
    let _ = progress.send(Progress::Done(Box::new(evidence)));
}

/// Gives back whatever a check may have taken away and did not come to give back: it ran out of time, or somebody
/// pressed Ctrl-C. What was not taken is not touched by it.
pub async fn restore(world: &World) {
    if let Some(klar) = world.klar.clone().filter(|_| world.may >= Disturbs::Stops) {
        for (store, _) in klar.stores().await.unwrap_or_default() {
            let _ = klar.give_back(&store).await;
        }
        let _ = klar.resume().await;
    }
    undo(world).await;
}

/// Says to the database what undoes what a check did to it and had no time to undo.
async fn undo(world: &World) {
    let steps = world.undo.take();
    if steps.is_empty() {
        return;
    }
    // It may have been away until just now.
    let connected = until(UNDO, || async { world.database().await.ok() }).await;
    let Some(database) = connected else {
        *world.undo.borrow_mut() = steps;
        return;
    };
    for step in steps.iter().rev() {
        // What is to be undone may still be under way on the connection of the check that was ended.
        let said = || async {
            database.run("SET default_transaction_read_only = off").await.ok()?;
            database.run(step).await.ok()
        };
        if until(UNDO, said).await.is_none() {
            world.undo.borrow_mut().insert(0, step.clone());
        }
    }
}

/// Looks, in a task of its own: a check that panics is a fault of klar's, and costs that check only.
async fn look(check: Check, world: &Rc<World>) -> Outcome {
    let seconds = check.about.limit.as_secs();
    let world = Rc::clone(world);
    let task = tokio::task::spawn_local(async move { check.look(world).await });
    let abort = Abort(task.abort_handle());
    let outcome = match tokio::time::timeout(check.about.limit, task).await {
        Ok(Ok(Ok(seen))) => Outcome::Seen(seen),
        Ok(Ok(Err(Unable(why)))) => Outcome::Unable(why),
        Ok(Err(_)) => Outcome::Unable(words!(
            "the check itself broke down: please report this",
            "sjekken selv brøt sammen: meld gjerne fra om dette",
            "kontrollen själv gick sönder: anmäl gärna detta"
        )),
        Err(_) => Outcome::Unable(words!(
            "not done within {seconds} s",
            "ikke ferdig innen {seconds} s",
            "inte klar inom {seconds} s"
        )),
    };
    drop(abort);
    outcome
}

struct Abort(tokio::task::AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn refused(check: &Check, world: &World) -> Option<Unable> {
    if check.about.disturbs > world.may {
        if check.about.disturbs == Disturbs::Load {
            return Some(Unable(words!(
                "it sends what a visitor would not, and this site is not provably yours",
                "den sender det en besøkende ikke ville sendt, og dette nettstedet er ikke beviselig ditt",
                "den skickar sådant en besökare inte skulle, och den här sajten är inte bevisligen din"
            )));
        }
        return Some(Unable(words!(
            "it disturbs: klar check --full runs it in a rig",
            "den forstyrrer: klar check --full kjører den i en rigg",
            "den stör: klar check --full kör den i en rigg"
        )));
    }
    world.missing(check.about.needs).await.map(|need| Unable(need.missing()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{About, Finding, Need, Probe};
    use crate::foil::postgres::Cluster;
    use crate::world::database::Database;

    /// Renames a table and is never done.
    struct Renames;

    impl Probe for Renames {
        type Seen = ();
        const ABOUT: About = About {
            id: "renames",
            version: 1,
            question: "?",
            does: "-",
            shows: &[],
            needs: &[Need::Database],
            disturbs: Disturbs::Stops,
            good_for: Duration::from_secs(1),
            limit: Duration::from_millis(300),
            faults: &[],
        };

        async fn look(world: Rc<World>) -> Result<(), Unable> {
            let database = world.database().await?;
            world.undo.borrow_mut().push("ALTER TABLE klar_check_away RENAME TO clubs".to_owned());
            database.run("SET default_transaction_read_only = off").await?;
            database.run("ALTER TABLE clubs RENAME TO klar_check_away").await?;
            std::future::pending().await
        }

        fn judge((): &()) -> Vec<Finding> {
            Vec::new()
        }
    }

    #[test]
    fn a_table_has_its_name_back_when_time_is_up_and_when_nobody_waits_any_longer() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let Ok(cluster) = Cluster::shared().await else {
                eprintln!("skipped: PostgreSQL is not installed");
                return;
            };
            let url = cluster.plant(&[]).await.unwrap();
            let mut world = World::new("t");
            world.may = Disturbs::Stops;
            world.database = Some(url.clone());
            let world = Rc::new(world);
            let (told, mut done) = mpsc::unbounded_channel();
            run(&[Check::of::<Renames>()], Rc::clone(&world), told).await;
            assert!(matches!(done.recv().await, Some(Progress::Began("renames"))));
            assert!(matches!(done.recv().await, Some(Progress::Done(evidence)) if evidence.gave_up));
            let database = Database::connect(&url).await.unwrap_or_else(|why| panic!("{}", why.0.en));
            let clubs = || async { database.rows("SELECT 1 FROM clubs LIMIT 1").await.is_ok() };
            assert!(clubs().await);
            assert!(world.undo.borrow().is_empty());

            // Ctrl-C: the run is dropped in the middle.
            let (told, _done) = mpsc::unbounded_channel();
            let checks = [Check::of::<Renames>()];
            let running = run(&checks, Rc::clone(&world), told);
            let renamed = until(Duration::from_secs(5), || async { (!clubs().await).then_some(()) });
            tokio::select! { () = running => {}, _ = renamed => {} }
            restore(&world).await;
            assert!(clubs().await);
        });
    }
}
