//! The cache goes away for a while.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{anybody, good_reads, not_back, pids, read};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::attacks::aim::{is_little, told_of};
use crate::words;
use crate::words::Words;
use crate::world::{Instance, Klar, Session, World, cache, until};

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
    /// There is a Redis to ask, and it did not say.
    #[serde(default)]
    silent: bool,
    /// The same before anything was done, by processes that asked it next to nothing, and then by new ones.
    #[serde(default)]
    renewed: Option<(u64, u64)>,
}

/// Redis is away for at least so long.
const LASTS: Duration = Duration::from_secs(12);
/// Everything is read so often to see what Redis is asked: what an app asks by itself is not much, but not nothing.
const ROUNDS: usize = 6;
const BACK: Duration = Duration::from_secs(60);
/// The cache is away no longer than this and one answer more, however many operations there are.
const AWAY: Duration = Duration::from_secs(60);
/// It is taken away so often, if somebody starts it again.
const TRIES: usize = 3;
/// Fewer commands than this are no use of a cache.
const LITTLE: u64 = 5;
/// New processes serve within this.
const RENEWED: Duration = Duration::from_secs(30);
/// An answer later than this is one that nobody waits for.
const PROMPT: Duration = Duration::from_secs(10);

impl Probe for CacheAway {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "cache-away",
        version: 4,
        question: "Without its cache, does the app go on, and take it up again by itself?",
        does: "Stops the Redis of the rig, asks every reading operation and signs in, starts it again, waits for the app, and sees whether it asks Redis again. An app that asks Redis nothing to begin with is started anew first.",
        shows: &[
            ("cache.redis", "cache-down"),
            ("err.graceful-degradation", "core-flows"),
            ("err.graceful-degradation", "recovery"),
        ],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(240),
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
        let mut used_before = used(&world, session.as_ref(), &good).await;
        let mut renewed = None;
        if let Some(found) = used_before.filter(|commands| *commands < LITTLE) {
            // Its connection may be lost already, to one late answer.
            renew(&world, &*klar).await.map_err(cannot)?;
            not_back(&world, session.as_ref(), &good, BACK).await;
            // What an app reads once for each process is no use of a cache.
            used(&world, session.as_ref(), &good).await;
            used_before = used(&world, session.as_ref(), &good).await;
            renewed = used_before.map(|anew| (found, anew));
        }
        let before = pids(&*klar).await;
        let mut tries = 0;
        let (failed, slowest, tried, signed_in) = loop {
            let seen = without(&world, &*klar, &store, session.as_ref(), &good).await.map_err(cannot)?;
            tries += 1;
            // Somebody may have started it too early, and then nobody has seen the app without it.
            let is_away = world.cache.is_none() || cache::commands(&world).await.is_none();
            if is_away {
                break seen;
            }
            if tries == TRIES {
                return Err(Unable(words!(
                    "Redis was taken away {tries} times, and was there again before it was given back",
                    "Redis ble tatt bort {tries} ganger, og var der igjen før den ble gitt tilbake",
                    "Redis togs bort {tries} gånger, och fanns där igen innan den gavs tillbaka"
                )));
            }
        };
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
            silent: world.cache.is_some() && used_before.zip(used_after).is_none(),
            renewed,
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
        let back = match seen.not_back.first() {
            Some(path) => words!(
                "{path} is not answered well again within 60 s",
                "{path} besvares ikke godt igjen innen 60 s",
                "{path} besvaras inte väl igen inom 60 s"
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
        let asked = match seen.used {
            _ if seen.was_given_up() => {
                let (found, anew) = seen.renewed.unwrap_or_default();
                words!(
                    "; processes that had run for a while asked Redis {found} commands while everything was read six times, new ones {anew}: they had given it up",
                    "; prosesser som hadde gått en stund, ga Redis {found} kommandoer mens alt ble lest seks ganger, nye {anew}: de hadde gitt den opp",
                    "; processer som hade varit igång en stund gav Redis {found} kommandon medan allt lästes sex gånger, nya {anew}: de hade gett upp den"
                )
            }
            Some((before, after)) => words!(
                "; reading everything six times asks Redis {after} commands, before it went away {before}",
                "; å lese alt seks ganger gir Redis {after} kommandoer, før den ble borte {before}",
                "; att läsa allt sex gånger ger Redis {after} kommandon, innan den försvann {before}"
            ),
            None if !seen.silent => Words::default(),
            None => words!(
                "; how much Redis is asked could not be seen",
                "; hvor mye Redis blir spurt, var ikke å se",
                "; hur mycket Redis tillfrågas gick inte att se"
            ),
        };
        let recovery = ("err.graceful-degradation", "recovery");
        let is_back = seen.not_back.is_empty() && !seen.is_given_up() && !seen.was_given_up();
        let back = back.and(&asked);
        vec![
            held(bad == 0, ("cache.redis", "cache-down"), flows.clone()),
            held(goes_on, ("err.graceful-degradation", "core-flows"), flows),
            // An app that answers well again may still have given its cache up: that has to be seen.
            if is_back && seen.silent {
                Finding::unseen(recovery, back)
            } else {
                Finding::when(is_back, recovery, back)
            },
        ]
    }
}

impl Seen {
    /// The app has used its cache, and does not use it any more.
    fn is_given_up(&self) -> bool {
        self.used.is_some_and(fell)
    }

    /// It had given it up before anybody took it away.
    fn was_given_up(&self) -> bool {
        self.renewed.is_some_and(|(found, anew)| fell((anew, found)))
    }
}

/// What an app asks by itself comes and goes: a third is left to that.
fn fell((before, after): (u64, u64)) -> bool {
    before >= LITTLE && after * 3 <= before
}

/// What is seen without the cache: what failed, the slowest answer, how many were asked, and whether anybody could sign in.
type Without = (Vec<(String, u16)>, Duration, usize, Option<bool>);

/// Takes the cache away, and asks everything. It is still away afterwards.
async fn without(
    world: &Rc<World>,
    klar: &dyn Klar,
    store: &str,
    session: Option<&Session>,
    good: &[String],
) -> Result<Without, String> {
    let gone = Instant::now();
    klar.take_away(store).await?;
    // Whatever happens in between, the cache comes back.
    let mut failed = Vec::new();
    let mut slowest = Duration::ZERO;
    let mut tried = 0;
    let end = Instant::now() + AWAY;
    for path in good {
        if Instant::now() > end {
            break;
        }
        tried += 1;
        let asking = read(world, session, path);
        let answer = tokio::time::timeout(world.patience(PROMPT), asking).await.ok().and_then(Result::ok);
        match answer {
            Some(answer) if answer.status.is_success() => slowest = slowest.max(answer.took),
            answer => failed.push((path.clone(), answer.map_or(0, |answer| answer.status.as_u16()))),
        }
    }
    let signed_in = match session {
        Some(_) => Some(anybody(world).await.is_some()),
        None => None,
    };
    // Long enough for a client that tries a few times only to give up.
    tokio::time::sleep(world.patience(LASTS).saturating_sub(gone.elapsed())).await;
    Ok((failed, slowest, tried, signed_in))
}

/// Has every process of the app replaced, one after the other.
async fn renew(world: &World, klar: &dyn Klar) -> Result<(), String> {
    for old in klar.instances().await? {
        klar.kill(&old).await?;
        let replaced = || async {
            let now = klar.instances().await.ok()?;
            let again = |instance: &Instance| instance.service == old.service && instance.pid.is_some();
            let serves = now.iter().any(|instance| again(instance) && instance.pid != old.pid);
            let gone = now.iter().all(|instance| instance.pid != old.pid);
            (serves && gone).then_some(())
        };
        until(world.patience(RENEWED), replaced)
            .await
            .ok_or_else(|| format!("{} was not replaced within {} s", old.name, RENEWED.as_secs()))?;
    }
    Ok(())
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
                silent: false,
                renewed: None,
            });
            [found[0].saw, found[1].saw, found[2].saw]
        };
        assert_eq!(saw(20, Vec::new()), [Saw::Held; 3]);
        assert_eq!(saw(6, Vec::new()), [Saw::Unseen, Saw::Unseen, Saw::Held]);
        assert_eq!(saw(6, vec![("/a".into(), 500)]), [Saw::Broken, Saw::Broken, Saw::Held]);
    }

    #[test]
    fn a_cache_that_is_asked_nothing_any_more_is_given_up() {
        for (used, silent, renewed, saw) in [
            (None, false, None, Saw::Held),
            (None, true, None, Saw::Unseen),
            (Some((0, 0)), false, None, Saw::Held),
            (Some((30, 12)), false, None, Saw::Held),
            (Some((30, 0)), false, None, Saw::Broken),
            (Some((30, 4)), false, None, Saw::Broken),
            (Some((4, 0)), false, None, Saw::Held),
            (Some((0, 0)), false, Some((0, 0)), Saw::Held),
            (Some((30, 30)), false, Some((0, 30)), Saw::Broken),
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
                silent,
                renewed,
            };
            let recovery = CacheAway::judge(&seen).pop().unwrap();
            assert_eq!(recovery.saw, saw, "{used:?} {renewed:?}");
        }
    }
}
