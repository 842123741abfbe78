//! The cache goes away for a while.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{anybody, good_reads, not_back, pids, read};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::attacks::aim::{is_little, told_of};
use crate::words;
use crate::words::Words;
use crate::world::{Session, World, cache};

/// The app without its cache.
pub struct CacheAway;

/// What was answered meanwhile and after.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Reading requests that were answered well before.
    good_before: usize,
    /// Those that were asked meanwhile.
    tried: usize,
    /// Those that were not answered well meanwhile: path and status, 0 for no answer.
    failed: Vec<(String, u16)>,
    /// Whether an account could sign in meanwhile; `None` when there is none, or it could not before.
    signed_in: Option<bool>,
    slowest_ms: u64,
    /// Paths that were not answered well again within a minute.
    not_back: Vec<String>,
    same_processes: bool,
    /// What Redis was asked while everything was read once, before it went away and after it was back.
    #[serde(default)]
    used: Option<(u64, u64)>,
}

/// Redis is away for at least so long.
const LASTS: Duration = Duration::from_secs(12);
/// Everything is read so often to see what Redis is asked: what an app asks by itself is not much, but not nothing.
const ROUNDS: usize = 6;
const BACK: Duration = Duration::from_secs(60);
/// The cache is away no longer than this and one answer more, however many operations there are.
const AWAY: Duration = Duration::from_secs(60);
/// An answer later than this is one that nobody waits for.
const PROMPT: Duration = Duration::from_secs(10);

impl Probe for CacheAway {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "cache-away",
        version: 3,
        question: "Without its cache, does the app go on, and take it up again by itself?",
        does: "Stops the Redis of the rig, asks every reading operation and signs in, starts it again, waits for the app, and sees whether it asks Redis again.",
        shows: &[
            ("cache.redis", "cache-down"),
            ("err.graceful-degradation", "core-flows"),
            ("err.graceful-degradation", "recovery"),
        ],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(180),
        faults: &[
            Fault::Foil("needs-cache", ("cache.redis", "cache-down")),
            Fault::Foil("needs-cache", ("err.graceful-degradation", "core-flows")),
            Fault::Foil("never-back-cache", ("err.graceful-degradation", "recovery")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let cannot = |why: String| Unable(Words::same(why));
        let stores = klar.stores().await.map_err(cannot)?;
        let Some((store, _)) = stores.into_iter().find(|(_, kind)| kind == "redis") else {
            return Err(Unable(words!(
                "klar runs no cache of this app",
                "klar kjører ingen cache for denne appen",
                "klar kör ingen cache för den här appen"
            )));
        };
        let session = anybody(&world).await;
        let good = good_reads(&world, session.as_ref()).await?;
        let before = pids(&*klar).await;
        let used_before = used(&world, session.as_ref(), &good).await;
        let gone = Instant::now();
        klar.take_away(&store).await.map_err(cannot)?;
        // Whatever happens in between, the cache comes back.
        let mut failed = Vec::new();
        let mut slowest = Duration::ZERO;
        let mut tried = 0;
        let end = Instant::now() + AWAY;
        for path in &good {
            if Instant::now() > end {
                break;
            }
            tried += 1;
            let asking = read(&world, session.as_ref(), path);
            let answer = tokio::time::timeout(world.patience(PROMPT), asking).await.ok().and_then(Result::ok);
            match answer {
                Some(answer) if answer.status.is_success() => slowest = slowest.max(answer.took),
                answer => failed.push((path.clone(), answer.map_or(0, |answer| answer.status.as_u16()))),
            }
        }
        let signed_in = match &session {
            Some(_) => Some(anybody(&world).await.is_some()),
            None => None,
        };
        // Long enough for a client that tries a few times only to give up.
        tokio::time::sleep(world.patience(LASTS).saturating_sub(gone.elapsed())).await;
        klar.give_back(&store).await.map_err(cannot)?;
        let not_back = not_back(&world, session.as_ref(), &good, BACK).await;
        let mut used_after = used(&world, session.as_ref(), &good).await;
        let end = Instant::now() + world.patience(BACK / 2);
        while used_before.unwrap_or(0) > used_after.unwrap_or(0) * 3 && Instant::now() < end {
            tokio::time::sleep(world.patience(Duration::from_secs(2))).await;
            used_after = used(&world, session.as_ref(), &good).await;
        }
        Ok(Seen {
            good_before: good.len(),
            tried,
            failed,
            signed_in,
            slowest_ms: u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX),
            not_back,
            same_processes: pids(&*klar).await == before,
            used: used_before.zip(used_after),
        })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { good_before: all, tried, slowest_ms, .. } = seen;
        let cut = !is_little(all.saturating_sub(*tried), *all);
        let bad = seen.failed.len();
        let flows = match (seen.failed.first(), seen.signed_in) {
            (Some((path, status)), _) => words!(
                "without Redis {bad} of {all} reading operations fail, first {path}: {status}",
                "uten Redis mislykkes {bad} av {all} leseoperasjoner, først {path}: {status}",
                "utan Redis misslyckas {bad} av {all} läsoperationer, först {path}: {status}"
            ),
            (None, Some(false)) => words!(
                "without Redis nobody can sign in",
                "uten Redis kan ingen logge inn",
                "utan Redis kan ingen logga in"
            ),
            (None, _) => words!(
                "without Redis all {all} reading operations are answered well, the slowest in {slowest_ms} ms",
                "uten Redis besvares alle {all} leseoperasjoner godt, den tregeste på {slowest_ms} ms",
                "utan Redis besvaras alla {all} läsoperationer väl, den långsammaste på {slowest_ms} ms"
            ),
        };
        let flows = told_of(flows, *tried, *all);
        let goes_on = bad == 0 && seen.signed_in != Some(false);
        let held = |good: bool, place, because: Words| {
            if good && cut { Finding::unseen(place, because) } else { Finding::when(good, place, because) }
        };
        let commands = seen.used.map_or(0, |(before, _)| before);
        let back = match seen.not_back.first() {
            Some(path) => words!(
                "{path} is not answered well again within 60 s",
                "{path} besvares ikke godt igjen innen 60 s",
                "{path} besvaras inte väl igen inom 60 s"
            ),
            None if seen.is_given_up() => words!(
                "Redis is back and is asked nothing any more; before, reading everything six times made {commands} commands",
                "Redis er tilbake og blir ikke spurt om noe mer; før ga det å lese alt seks ganger {commands} kommandoer",
                "Redis är tillbaka och blir inte längre tillfrågad; förut gav att läsa allt sex gånger {commands} kommandon"
            ),
            None if seen.same_processes => words!(
                "all {all} are answered well again, by the same processes",
                "alle {all} besvares godt igjen, av de samme prosessene",
                "alla {all} besvaras väl igen, av samma processer"
            ),
            None => words!(
                "all {all} are answered well again, by new processes",
                "alle {all} besvares godt igjen, av nye prosesser",
                "alla {all} besvaras väl igen, av nya processer"
            ),
        };
        vec![
            held(bad == 0, ("cache.redis", "cache-down"), flows.clone()),
            held(goes_on, ("err.graceful-degradation", "core-flows"), flows),
            Finding::when(
                seen.not_back.is_empty() && !seen.is_given_up(),
                ("err.graceful-degradation", "recovery"),
                back,
            ),
        ]
    }
}

impl Seen {
    /// The app has used its cache, and does not use it any more.
    fn is_given_up(&self) -> bool {
        // What an app asks by itself comes and goes: a third is left to that.
        self.used.is_some_and(|(before, after)| before >= 5 && after * 3 <= before)
    }
}

/// What Redis is asked while everything is read a few times, beside what the app asks anyway in that time.
async fn used(world: &Rc<World>, session: Option<&Session>, paths: &[String]) -> Option<u64> {
    let first = cache::commands(world).await?;
    let began = Instant::now();
    for path in std::iter::repeat_n(paths, ROUNDS).flatten() {
        let _ = read(world, session, path).await;
    }
    let took = began.elapsed();
    let second = cache::commands(world).await?;
    // As long again without reading.
    tokio::time::sleep(took).await;
    let third = cache::commands(world).await?;
    let (with, without) = (second.checked_sub(first)?, third.checked_sub(second)?);
    Some(with.saturating_sub(without.max(cache::OWN)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn operations_without_a_turn_are_told() {
        let saw = |tried: usize, failed: Vec<(String, u16)>| {
            let found = CacheAway::judge(&Seen {
                good_before: 20,
                tried,
                failed,
                signed_in: Some(true),
                slowest_ms: 9,
                not_back: Vec::new(),
                same_processes: true,
                used: None,
            });
            [found[0].saw, found[1].saw, found[2].saw]
        };
        assert_eq!(saw(20, Vec::new()), [Saw::Held; 3]);
        assert_eq!(saw(6, Vec::new()), [Saw::Unseen, Saw::Unseen, Saw::Held]);
        assert_eq!(saw(6, vec![("/a".into(), 500)]), [Saw::Broken, Saw::Broken, Saw::Held]);
    }

    #[test]
    fn a_cache_that_is_asked_nothing_any_more_is_given_up() {
        for (used, saw) in [
            (None, Saw::Held),
            (Some((0, 0)), Saw::Held),
            (Some((30, 12)), Saw::Held),
            (Some((30, 0)), Saw::Broken),
            (Some((30, 4)), Saw::Broken),
            (Some((4, 0)), Saw::Held),
        ] {
            let seen = Seen {
                good_before: 3,
                tried: 3,
                failed: Vec::new(),
                signed_in: None,
                slowest_ms: 5,
                not_back: Vec::new(),
                same_processes: true,
                used,
            };
            let recovery = CacheAway::judge(&seen).pop().unwrap();
            assert_eq!(recovery.saw, saw, "{used:?}");
        }
    }
}
