//! Files and shared answers at the edge: kept, fetched once, forgotten when told, and given when the app is away.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::shared::{Did, Rush, asked, candidates, lifetime, may_be_stale, rush};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::http::Ask;
use crate::world::{Klar, World, until};

/// What the edge delivers without the app.
pub struct Cdn;

/// What the edge did, and how often the app was asked.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Files that the edge serves by itself, and how often the app was asked for them all the same.
    own: usize,
    own_asked: u64,
    /// What comes from the app, asked for twice after the edge had forgotten it.
    files: Vec<One>,
    /// How often the app was asked meanwhile.
    asked: u64,
    rush: Option<Rush>,
    /// A path, and whether it came from the app again once it had been purged.
    purged: Option<(String, bool)>,
    stale: Option<Stale>,
}

#[derive(Debug, Serialize, Deserialize)]
struct One {
    path: String,
    /// The second answer came from the edge, and said how old it was.
    hit: bool,
    age: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stale {
    path: String,
    /// How long it was fresh.
    fresh_s: u64,
    /// The edge gave the old answer at once while the app was there.
    while_revalidate: bool,
    /// The status of the old answer while no instance was there.
    away: Option<u16>,
    /// Whether that came from what was kept.
    kept: bool,
}

const ROW: &str = "edge.cdn";
/// Nobody waits longer for an answer to become old.
const LONGEST_FRESH: u64 = 20;
/// So many of what comes from the app are asked for twice.
const TWICE: usize = 12;
const BACK: Duration = Duration::from_secs(60);

impl Probe for Cdn {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "cdn",
        version: 1,
        question: "Does the edge deliver files and shared answers without asking the app again?",
        does: "In the rig, asks for each file twice and counts what reaches the app; has the edge forget one and lets 100 ask for it at once; purges; lets an answer grow old, and kills all instances.",
        shows: &[(ROW, "hit"), (ROW, "stampede"), (ROW, "purge"), (ROW, "stale")],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(180),
        faults: &[
            Fault::Foil("keeps-nothing", (ROW, "hit")),
            Fault::Foil("stampedes", (ROW, "stampede")),
            Fault::Foil("deaf-to-purge", (ROW, "purge")),
            Fault::Foil("no-stale", (ROW, "stale")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let found = candidates(&world).await?;
        let mut own = Vec::new();
        let mut behind = Vec::new();
        let data = found.data.into_iter().map(|(path, _)| path);
        for path in data.chain(found.files) {
            match world.ask(Ask::get(&path)).await {
                Ok(answer) if Did::of(&answer) == Did::Silent => own.push(path),
                Ok(answer) => {
                    behind.push(Behind { path, fresh: lifetime(&answer), stale: may_be_stale(&answer) })
                }
                Err(_) => {}
            }
        }
        // What is old soonest comes first, and what is not to be kept last.
        behind.sort_by_key(|each| each.fresh.unwrap_or(u64::MAX));
        behind.truncate(TWICE);
        let cannot = |why: String| Unable(Words::same(why));
        let mut seen = Seen { own: own.len(), ..Seen::default() };
        seen.delivered(&world, &*klar, &own, &behind).await.map_err(cannot)?;
        // What is fresh for longest does not grow old while a hundred come.
        if let Some((path, fresh)) = behind.iter().rev().find_map(|each| Some((&each.path, each.fresh?))) {
            seen.rush = Some(rush(&world, &*klar, path, fresh).await.map_err(cannot)?);
            klar.purge(path).await.map_err(cannot)?;
            let again = world.ask(Ask::get(path)).await;
            seen.purged = again.ok().map(|answer| (path.clone(), !Did::of(&answer).is_kept()));
        }
        let kept = |path: &str| seen.files.iter().any(|one| one.path == *path && one.hit);
        let short = behind.iter().filter(|each| each.stale && kept(&each.path)).find_map(|each| {
            each.fresh.filter(|fresh| *fresh <= LONGEST_FRESH).map(|fresh| (&each.path, fresh))
        });
        if let Some((path, fresh)) = short {
            let stale = grown_old(&world, &*klar, path, fresh).await;
            // Whatever came of it, the app is there again for the checks after this one.
            let back = klar.resume().await;
            let _ = until(world.patience(BACK), || async {
                let there = klar.instances().await.ok()?;
                (!there.is_empty() && there.iter().all(|instance| instance.pid.is_some())).then_some(())
            })
            .await;
            back.map_err(cannot)?;
            seen.stale = Some(stale.map_err(cannot)?);
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let nothing = || {
            let own = seen.own;
            words!(
                "nothing of the app may be kept by caches; {own} files come from the edge itself",
                "ingenting fra appen kan beholdes i cacher; {own} filer kommer fra kanten selv",
                "inget från appen får sparas i cachar; {own} filer kommer från kanten själv"
            )
        };
        vec![seen.hit(), seen.stampede(&nothing), seen.purge(&nothing), seen.old(&nothing)]
    }
}

/// What comes from the app.
struct Behind {
    path: String,
    /// Seconds; `None`: it is not to be kept.
    fresh: Option<u64>,
    /// It may be given when it is old.
    stale: bool,
}

impl Seen {
    /// Asks for everything twice.
    async fn delivered(
        &mut self,
        world: &Rc<World>,
        klar: &dyn Klar,
        own: &[String],
        behind: &[Behind],
    ) -> Result<(), String> {
        let before = asked(world, klar).await?;
        for path in own.iter().chain(own) {
            let _ = world.ask(Ask::get(path)).await;
        }
        let between = asked(world, klar).await?;
        self.own_asked = between.saturating_sub(before);
        for Behind { path, .. } in behind {
            klar.purge(path).await?;
            let mut one = One { path: path.chars().take(200).collect(), hit: false, age: false };
            if world.ask(Ask::get(path)).await.is_ok()
                && let Ok(second) = world.ask(Ask::get(path)).await
            {
                one.hit = Did::of(&second).is_kept();
                one.age = second.header("age").is_some_and(|age| age.parse::<u64>().is_ok());
            }
            self.files.push(one);
        }
        self.asked = asked(world, klar).await?.saturating_sub(between);
        Ok(())
    }

    fn hit(&self) -> Finding {
        let place = (ROW, "hit");
        let (own, own_asked, asked, count) = (self.own, self.own_asked, self.asked, self.files.len());
        let bad: Vec<&str> =
            self.files.iter().filter(|one| !one.hit || !one.age).map(|one| one.path.as_str()).collect();
        let told = words!(
            "{own} files from the edge itself, the app asked {own_asked} times; {count} of the app asked for twice, the app asked {asked} times",
            "{own} filer fra kanten selv, appen spurt {own_asked} ganger; {count} fra appen hentet to ganger, appen spurt {asked} ganger",
            "{own} filer från kanten själv, appen tillfrågad {own_asked} gånger; {count} från appen hämtade två gånger, appen tillfrågad {asked} gånger"
        );
        if own + count == 0 {
            return Finding::unseen(
                place,
                words!("no files were found", "ingen filer ble funnet", "inga filer hittades"),
            );
        }
        if let Some(first) = bad.first() {
            let missed = bad.len();
            return Finding::broken(
                place,
                told.and(&words!(
                    "; {missed} came from the app again, first {first}",
                    "; {missed} kom fra appen igjen, først {first}",
                    "; {missed} kom från appen igen, först {first}"
                )),
            );
        }
        let few = u64::try_from(count).unwrap_or(u64::MAX);
        Finding::when(own_asked == 0 && asked <= few, place, told)
    }

    fn stampede(&self, nothing: &dyn Fn() -> Words) -> Finding {
        let place = (ROW, "stampede");
        let Some(rush) = &self.rush else { return Finding::unseen(place, nothing()) };
        Finding::when(rush.is_one(), place, rush.words())
    }

    fn purge(&self, nothing: &dyn Fn() -> Words) -> Finding {
        let place = (ROW, "purge");
        match &self.purged {
            None => Finding::unseen(place, nothing()),
            Some((path, true)) => Finding::held(
                place,
                words!(
                    "{path} came from the app again after it was purged",
                    "{path} kom fra appen igjen etter at den ble fjernet fra cachen",
                    "{path} kom från appen igen efter att den rensats ur cachen"
                ),
            ),
            Some((path, false)) => Finding::broken(
                place,
                words!(
                    "{path} was still given from the cache after it was purged",
                    "{path} ble fortsatt gitt fra cachen etter at den ble fjernet",
                    "{path} gavs fortfarande från cachen efter att den rensats"
                ),
            ),
        }
    }

    fn old(&self, nothing: &dyn Fn() -> Words) -> Finding {
        let place = (ROW, "stale");
        let Some(Stale { path, fresh_s, while_revalidate, away, kept }) = &self.stale else {
            let none = words!(
                "nothing that is kept says stale-while-revalidate and stale-if-error and becomes old within {LONGEST_FRESH} s",
                "ingenting som beholdes sier stale-while-revalidate og stale-if-error og blir gammelt innen {LONGEST_FRESH} s",
                "inget som sparas säger stale-while-revalidate och stale-if-error och blir gammalt inom {LONGEST_FRESH} s"
            );
            return Finding::unseen(place, if self.rush.is_some() { none } else { nothing() });
        };
        let status = away.map_or_else(|| "-".to_owned(), |status| status.to_string());
        let told = words!(
            "{path} was fresh for {fresh_s} s; without any instance it was answered with {status}",
            "{path} var fersk i {fresh_s} s; uten noen instans ble den besvart med {status}",
            "{path} var färsk i {fresh_s} s; utan någon instans besvarades den med {status}"
        );
        if *away != Some(200) || !kept {
            return Finding::broken(place, told);
        }
        if !while_revalidate {
            return Finding::unseen(
                place,
                told.and(&words!(
                    "; it is not given while it is fetched anew, as stale-while-revalidate would let it",
                    "; den gis ikke mens den hentes på nytt, slik stale-while-revalidate ville tillate",
                    "; den ges inte medan den hämtas på nytt, som stale-while-revalidate skulle tillåta"
                )),
            );
        }
        Finding::held(place, told)
    }
}

impl Rush {
    /// In words.
    pub(super) fn words(&self) -> Words {
        let Self { path, sent, good, asked, .. } = self;
        words!(
            "{sent} asked for {path} at once: {good} got it, the app was asked {asked} times",
            "{sent} ba om {path} samtidig: {good} fikk den, appen ble spurt {asked} ganger",
            "{sent} bad om {path} samtidigt: {good} fick den, appen tillfrågades {asked} gånger"
        )
    }
}

/// Lets an answer grow old, once with the app and once without.
async fn grown_old(world: &Rc<World>, klar: &dyn Klar, path: &str, fresh_s: u64) -> Result<Stale, String> {
    let old = Duration::from_millis(fresh_s * 1000 + 1200);
    let ask = || world.ask(Ask::get(path));
    let mut stale =
        Stale { path: path.to_owned(), fresh_s, while_revalidate: false, away: None, kept: false };
    ask().await.map_err(|why| why.to_string())?;
    // As much time as the answer itself has asked for: no clock of ours decides here.
    tokio::time::sleep(old).await;
    let late = ask().await.map_err(|why| why.to_string())?;
    stale.while_revalidate = Did::of(&late).is_kept();
    tokio::time::sleep(world.patience(Duration::from_secs(2))).await;
    klar.halt().await?;
    tokio::time::sleep(old).await;
    if let Ok(answer) = ask().await {
        stale.away = Some(answer.status.as_u16());
        stale.kept = Did::of(&answer).is_kept();
    }
    Ok(stale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    fn seen() -> Seen {
        let one = |path: &str| One { path: path.into(), hit: true, age: true };
        Seen {
            own: 2,
            own_asked: 0,
            files: vec![one("/a"), one("/b")],
            asked: 2,
            rush: Some(Rush { path: "/a".into(), sent: 100, good: 100, asked: 1, most: 1 }),
            purged: Some(("/a".into(), true)),
            stale: Some(Stale {
                path: "/a".into(),
                fresh_s: 10,
                while_revalidate: true,
                away: Some(200),
                kept: true,
            }),
        }
    }

    #[test]
    fn each_part_is_judged_by_what_was_seen_of_it() {
        let saw = |change: fn(&mut Seen)| {
            let mut seen = seen();
            change(&mut seen);
            Cdn::judge(&seen).into_iter().map(|found| found.saw).collect::<Vec<_>>()
        };
        use Saw::{Broken, Held, Unseen};
        assert_eq!(saw(|_| {}), [Held; 4]);
        assert_eq!(saw(|seen| seen.own_asked = 1)[0], Broken);
        assert_eq!(saw(|seen| seen.asked = 3)[0], Broken);
        assert_eq!(saw(|seen| seen.files[1].age = false)[0], Broken);
        assert_eq!(saw(|seen| seen.rush.as_mut().unwrap().asked = 2)[1], Broken);
        assert_eq!(saw(|seen| seen.rush.as_mut().unwrap().good = 99)[1], Broken);
        assert_eq!(saw(|seen| seen.purged.as_mut().unwrap().1 = false)[2], Broken);
        assert_eq!(saw(|seen| seen.stale.as_mut().unwrap().away = Some(502))[3], Broken);
        assert_eq!(saw(|seen| seen.stale.as_mut().unwrap().while_revalidate = false)[3], Unseen);
        assert_eq!(saw(|seen| *seen = Seen { own: 3, ..Seen::default() }), [Held, Unseen, Unseen, Unseen]);
        assert_eq!(saw(|seen| *seen = Seen::default())[0], Unseen);
    }
}
