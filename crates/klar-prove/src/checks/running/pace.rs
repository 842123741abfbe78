//! Requests at a steady pace, sent whether or not the ones before were answered.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::check::Finding;
use crate::words;
use crate::words::Words;
use crate::world::http::Ask;
use crate::world::{Session, World};

/// What is asked, how often, and for how long.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Requests a second.
    pub rate: u32,
    /// How long at most.
    pub run: Duration,
    /// Set by somebody else, it ends sooner.
    pub enough: Rc<Cell<bool>>,
    /// The paths, in turn.
    pub paths: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tally {
    /// How many were sent.
    pub sent: u64,
    /// How many of them failed: no answer, 5xx, or never sent because too many had no answer yet.
    pub failed: u64,
    /// How many were turned away by a limit: they show nothing.
    #[serde(default)]
    pub limited: u64,
    /// What the first failures were, at most five.
    pub failures: Vec<String>,
    /// The slowest good answer, in milliseconds.
    pub slowest_ms: u64,
}

/// How long the good answers of each path took, in milliseconds.
pub type Times = BTreeMap<String, Vec<u64>>;

/// A server that answers nothing must not make the probe keep everything.
const MOST_AT_ONCE: usize = 512;

impl Pace {
    /// Sends, waits for the last answer, and counts.
    pub async fn run(&self, world: Rc<World>, session: Option<Session>) -> Tally {
        self.run_timed(world, session).await.0
    }

    /// The same; and the times of all good answers of each path, in milliseconds, in no order. A time begins when the
    /// request is due, so that one which waits for a connection waits in it.
    pub async fn run_timed(&self, world: Rc<World>, session: Option<Session>) -> (Tally, Times) {
        let tally = Rc::new(RefCell::new(Tally::default()));
        let times = Rc::new(RefCell::new(Times::new()));
        let mut running = JoinSet::new();
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / self.rate.max(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let end = Instant::now() + self.run;
        for path in self.paths.iter().cycle() {
            ticks.tick().await;
            if Instant::now() >= end || self.enough.get() {
                break;
            }
            while running.try_join_next().is_some() {}
            if running.len() >= MOST_AT_ONCE {
                let mut tally = tally.borrow_mut();
                tally.sent += 1;
                tally.failed += 1;
                continue;
            }
            let ask = Ask::get(path).with("accept", "application/json, text/html;q=0.5");
            let ask = session.as_ref().map_or(ask.clone(), |session| session.on(ask));
            let due = Instant::now();
            running.spawn_local(one(Rc::clone(&world), ask, due, Rc::clone(&tally), Rc::clone(&times)));
        }
        while running.join_next().await.is_some() {}
        (tally.take(), times.take())
    }
}

async fn one(world: Rc<World>, ask: Ask, due: Instant, tally: Rc<RefCell<Tally>>, times: Rc<RefCell<Times>>) {
    let Some(site) = &world.site else { return };
    let path = ask.path.clone();
    let answer = site.ask(ask).await;
    let mut tally = tally.borrow_mut();
    tally.sent += 1;
    let failure = match answer {
        Ok(answer) if answer.status == 429 => {
            tally.limited += 1;
            return;
        }
        Ok(answer) if answer.status.is_success() || answer.status.is_redirection() => {
            let ms = u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX);
            tally.slowest_ms = tally.slowest_ms.max(ms);
            let waited = u64::try_from(due.elapsed().as_millis()).unwrap_or(u64::MAX);
            times.borrow_mut().entry(path).or_default().push(waited);
            return;
        }
        Ok(answer) => format!("{path}: {}", answer.status),
        Err(why) => format!("{path}: {why}"),
    };
    tally.failed += 1;
    if tally.failures.len() < 5 {
        tally.failures.push(failure);
    }
}

impl Tally {
    /// What the tally shows of a part: nothing where requests were turned away by a limit before they reached the app.
    #[must_use]
    pub fn finding(&self, good: bool, place: (&'static str, &'static str)) -> Finding {
        if self.sent == 0 || self.limited > 0 {
            return Finding::unseen(place, self.words());
        }
        Finding::when(good, place, self.words())
    }

    /// In words.
    #[must_use]
    pub fn words(&self) -> Words {
        let Self { sent, failed, slowest_ms, .. } = self;
        let first = self.failures.first().map(|first| format!(" ({first})")).unwrap_or_default();
        words!(
            "{failed} of {sent} requests failed{first}; the slowest took {slowest_ms} ms",
            "{failed} av {sent} forespørsler mislyktes{first}; den tregeste tok {slowest_ms} ms",
            "{failed} av {sent} anrop misslyckades{first}; det långsammaste tog {slowest_ms} ms"
        )
    }
}
