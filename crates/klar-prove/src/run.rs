//! Runs checks side by side, each within its time, and keeps what is known whatever happens.

use std::rc::Rc;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::check::{Check, Disturbs, Unable};
use crate::evidence::{Evidence, Outcome};
use crate::words;
use crate::world::World;

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
    let outcome = match refused(&check, &world).await {
        Some(why) => Outcome::Unable(why.0),
        None => look(check, &world).await,
    };
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
        outcome,
    };
    let _ = progress.send(Progress::Done(Box::new(evidence)));
}

/// Gives back whatever a check may have taken away and did not come to give back: it ran out of time, or somebody
/// pressed Ctrl-C. What was not taken is not touched by it.
pub async fn restore(world: &World) {
    let Some(klar) = world.klar.clone().filter(|_| world.may >= Disturbs::Stops) else { return };
    for (store, _) in klar.stores().await.unwrap_or_default() {
        let _ = klar.give_back(&store).await;
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
