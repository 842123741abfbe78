//! Does the edge keep what the team has promised, and nothing that is somebody's own?

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::promises::{Policy, Promise};
use super::shared::{Did, asked, candidates};
use super::{good_reads, read};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::http::{Answer, Ask};
use crate::world::{Account, Session, World};

/// Promises about caches, and what is seen of them.
pub struct CachePolicy;

/// The matrix of what was promised and what was seen.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The document with the policy; `None` where there is none.
    policy: Option<String>,
    /// Paths of which no line speaks.
    uncovered: Vec<String>,
    looked_at: usize,
    /// A path of each line, with what was promised and what was seen.
    matrix: Vec<One>,
    /// Whether signing in, a write, was seen by the next read; `None` where nobody signs in.
    fresh: Option<bool>,
    /// What is shared between visitors, with its lifetime, and whether it was older than that when it was given.
    overdue: Vec<String>,
    /// Pairs of visitors, and the paths at which one of them got the other's.
    compared: usize,
    mixed: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct One {
    pattern: String,
    path: String,
    promised: Promise,
    seen: Promise,
}

const ROW: &str = "edge.cache-strategy";
/// So many paths of one line are looked at.
const OF_A_LINE: usize = 3;
const MOST: usize = 60;

impl Probe for CachePolicy {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "cache-policy",
        version: 1,
        question: "Does the edge keep what was promised, for as long, and nothing that is somebody's own?",
        does: "Reads the table of routes in the app's documents, asks twice for paths of each line and compares; signs in, and looks whether the next read knows; asks as two users and as nobody, and looks whether anybody gets what is another's.",
        shows: &[(ROW, "policy"), (ROW, "observed"), (ROW, "fresh"), (ROW, "separation")],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(120),
        faults: &[
            Fault::Foil("unwritten-class", (ROW, "policy")),
            Fault::Foil("keeps-nothing", (ROW, "observed")),
            Fault::Foil("stale-session", (ROW, "fresh")),
            Fault::Foil("forgets-who-asks", (ROW, "separation")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let policy = match (&world.source, &world.caching) {
            (Some(folder), _) => Policy::below(folder),
            (None, Some(text)) => Policy::read("what was given", text),
            (None, None) => None,
        };
        let mut seen = Seen { policy: policy.as_ref().map(|policy| policy.from.clone()), ..Seen::default() };
        let paths = paths(&world).await?;
        seen.looked_at = paths.len();
        if let Some(policy) = &policy {
            seen.compare(&world, policy, &paths).await?;
        }
        seen.fresh = sees_the_sign_in(&world).await;
        seen.separate(&world, &paths).await;
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        vec![seen.policy(), seen.observed(), seen.fresh(), seen.separation()]
    }
}

/// Pages, files and data that can be asked for without an id.
async fn paths(world: &Rc<World>) -> Result<Vec<String>, Unable> {
    let crawl = world.crawl().await?;
    let good = |(path, answer): (&String, &Answer)| answer.status.is_success().then(|| path.clone());
    let mut paths: BTreeSet<String> = crawl.all().filter_map(good).collect();
    let found = candidates(world).await?;
    paths.extend(found.data.into_iter().map(|(path, _)| path));
    let session = super::anybody(world).await;
    paths.extend(good_reads(world, session.as_ref()).await.unwrap_or_default());
    Ok(paths.into_iter().take(MOST).collect())
}

impl Seen {
    /// Asks twice for some paths of each line.
    async fn compare(&mut self, world: &Rc<World>, policy: &Policy, paths: &[String]) -> Result<(), Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let cannot = |why: String| Unable(Words::same(why));
        let session = super::anybody(world).await;
        // What the edge serves by itself, it says nothing of: whether the app was asked tells.
        let mut silent = Vec::new();
        let mut of_lines: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
        for path in paths {
            let Some(line) = policy.of(path) else {
                self.uncovered.push(path.clone());
                continue;
            };
            let count = of_lines.entry(&line.pattern).or_default();
            *count += 1;
            if *count > OF_A_LINE {
                continue;
            }
            let first = read(world, None, path).await;
            // What nobody may see without signing in is asked for as somebody.
            let session = session.as_ref().filter(|_| !first.is_ok_and(|answer| answer.status.is_success()));
            let Ok(second) = twice(world, session, path).await else { continue };
            let one = |seen| One {
                pattern: line.pattern.clone(),
                path: path.clone(),
                promised: line.promise,
                seen,
            };
            match Did::of(&second) {
                Did::Silent => silent.push((path.clone(), session.cloned(), one(Promise::Hit))),
                Did::Hit | Did::Stale => self.matrix.push(one(Promise::Hit)),
                Did::Miss => self.matrix.push(one(Promise::Miss)),
                Did::Bypass => self.matrix.push(one(Promise::Bypass)),
            }
            if let Some(told) = overdue(path, &second) {
                self.overdue.push(told);
            }
        }
        for promise in [Promise::Hit, Promise::Miss] {
            let group: Vec<_> = silent
                .iter()
                .filter(|(.., one)| (one.promised == Promise::Hit) == (promise == Promise::Hit))
                .collect();
            if group.is_empty() {
                continue;
            }
            let before = asked(world, &*klar).await.map_err(cannot)?;
            for (path, session, _) in &group {
                let _ = read(world, session.as_ref(), path).await;
            }
            let asked = asked(world, &*klar).await.map_err(cannot)?.saturating_sub(before);
            let each = asked >= u64::try_from(group.len()).unwrap_or(u64::MAX);
            // One of them that is not as promised spoils its group: which one it was, the counter does not say.
            let kept = if promise == Promise::Hit { asked == 0 } else { !each };
            let seen = if kept { Promise::Hit } else { Promise::Miss };
            let of = |one: &One| One {
                pattern: one.pattern.clone(),
                path: one.path.clone(),
                promised: one.promised,
                seen,
            };
            self.matrix.extend(group.into_iter().map(|(.., one)| of(one)));
        }
        Ok(())
    }

    /// Asks as two users and as nobody, one right after the other.
    async fn separate(&mut self, world: &Rc<World>, paths: &[String]) {
        let Some(accounts) = &world.accounts else { return };
        let mut sessions = Vec::new();
        for account in accounts.list.iter().take(2) {
            if let Ok(session) = world.sign_in(account).await {
                sessions.push((session, account));
            }
        }
        let [(first, account), (second, other)] = sessions.as_slice() else { return };
        let mut marks = Marks::of(account, first);
        let mut others = Marks::of(other, second);
        marks.apart_from(&mut others);
        let own = [accounts.path.clone()];
        for path in own.iter().chain(paths) {
            let Ok(mine) = twice(world, Some(first), path).await else { continue };
            let (theirs, nobodys) = (read(world, Some(second), path).await, read(world, None, path).await);
            // What names both, a list of all, is nobody's own.
            let is_personal = marks.are_in(&mine) && !others.are_in(&mine);
            let mut wrong = is_personal && Did::of(&mine).is_kept();
            // Where one asks who one is, the name of anybody else is wrong, whoever that is.
            let anybody_else = || accounts.list.iter().any(|each| mine.text().contains(&each.name));
            wrong |= *path == accounts.path && !is_personal && anybody_else();
            for answer in [&theirs, &nobodys].into_iter().flatten() {
                self.compared += 1;
                wrong |= is_personal && answer.status.is_success() && answer.body == mine.body;
            }
            if wrong {
                self.mixed.push(path.clone());
            }
        }
    }

    fn policy(&self) -> Finding {
        let (place, all, uncovered) = ((ROW, "policy"), self.looked_at, self.uncovered.len());
        let Some(from) = &self.policy else {
            return Finding::broken(
                place,
                words!(
                    "no document says what is kept for how long: a table with the columns route and edge (hit, miss, bypass)",
                    "ingen dokument sier hva som beholdes hvor lenge: en tabell med kolonnene rute og edge (hit, miss, bypass)",
                    "inget dokument säger vad som sparas hur länge: en tabell med kolumnerna rutt och edge (hit, miss, bypass)"
                ),
            );
        };
        match self.uncovered.first() {
            Some(first) => Finding::broken(
                place,
                words!(
                    "{from} says nothing of {uncovered} of {all} addresses, first {first}",
                    "{from} sier ingenting om {uncovered} av {all} adresser, først {first}",
                    "{from} säger inget om {uncovered} av {all} adresser, först {first}"
                ),
            ),
            None => Finding::held(
                place,
                words!(
                    "{from} speaks of all {all} addresses looked at",
                    "{from} omtaler alle {all} adressene som ble sett på",
                    "{from} omfattar alla {all} adresser som granskades"
                ),
            ),
        }
    }

    fn observed(&self) -> Finding {
        let (place, all) = ((ROW, "observed"), self.matrix.len());
        let wrong: Vec<&One> = self.matrix.iter().filter(|one| one.promised != one.seen).collect();
        if all == 0 {
            return Finding::unseen(
                place,
                words!("nothing was promised", "ingenting er lovet", "inget har utlovats"),
            );
        }
        let classes: BTreeSet<&str> = self.matrix.iter().map(|one| one.pattern.as_str()).collect();
        let classes = classes.len();
        match wrong.first() {
            None => Finding::held(
                place,
                words!(
                    "{all} addresses of {classes} classes, each as promised",
                    "{all} adresser i {classes} klasser, hver som lovet",
                    "{all} adresser i {classes} klasser, var och en som utlovat"
                ),
            ),
            Some(one) => {
                let (count, path) = (wrong.len(), &one.path);
                let (promised, seen) = (one.promised.name(), one.seen.name());
                Finding::broken(
                    place,
                    words!(
                        "{count} of {all} not as promised, first {path}: {promised} promised, {seen} seen",
                        "{count} av {all} ikke som lovet, først {path}: {promised} lovet, {seen} sett",
                        "{count} av {all} inte som utlovat, först {path}: {promised} utlovat, {seen} sett"
                    ),
                )
            }
        }
    }

    fn fresh(&self) -> Finding {
        let place = (ROW, "fresh");
        if let Some(first) = self.overdue.first() {
            return Finding::broken(place, Words::same(first.clone()));
        }
        match self.fresh {
            None => Finding::unseen(
                place,
                words!(
                    "no accounts, or nothing tells who is signed in",
                    "ingen kontoer, eller ingenting sier hvem som er logget inn",
                    "inga konton, eller inget säger vem som är inloggad"
                ),
            ),
            Some(true) => Finding::held(
                place,
                words!(
                    "the next read knew of the sign-in, and nothing shared was older than it may be",
                    "neste lesing visste om innloggingen, og ingenting delt var eldre enn det får være",
                    "nästa läsning kände till inloggningen, och inget delat var äldre än det får vara"
                ),
            ),
            Some(false) => Finding::broken(
                place,
                words!(
                    "the next read did not know that somebody had signed in",
                    "neste lesing visste ikke at noen hadde logget inn",
                    "nästa läsning visste inte att någon hade loggat in"
                ),
            ),
        }
    }

    fn separation(&self) -> Finding {
        let (place, compared, count) = ((ROW, "separation"), self.compared, self.mixed.len());
        match self.mixed.first() {
            Some(first) => Finding::broken(
                place,
                words!(
                    "{count} addresses gave one visitor what is another's, first {first}",
                    "{count} adresser ga én besøkende det som er en annens, først {first}",
                    "{count} adresser gav en besökare det som är någon annans, först {first}"
                ),
            ),
            None if compared == 0 => Finding::unseen(
                place,
                words!(
                    "two accounts are needed to tell",
                    "det trengs to kontoer for å si det",
                    "det behövs två konton för att säga det"
                ),
            ),
            None => Finding::held(
                place,
                words!(
                    "{compared} answers compared: nobody got what is another's",
                    "{compared} svar sammenlignet: ingen fikk det som er en annens",
                    "{compared} svar jämförda: ingen fick det som är någon annans"
                ),
            ),
        }
    }
}

/// The second answer of two.
async fn twice(
    world: &World,
    session: Option<&Session>,
    path: &str,
) -> Result<Answer, crate::world::http::Silence> {
    read(world, session, path).await?;
    let second = read(world, session, path).await?;
    if second.status.is_success() {
        Ok(second)
    } else {
        Err(crate::world::http::Silence::Refused(second.status.to_string()))
    }
}

/// An answer from the cache that is older than it may be, in words.
fn overdue(path: &str, answer: &Answer) -> Option<String> {
    let lifetime = super::shared::lifetime(answer)?;
    let age: u64 = answer.header("age")?.parse().ok()?;
    let stale = Did::of(answer) == Did::Stale;
    // Rounded up by each cache on the way.
    (age > lifetime + 1 && !stale).then(|| format!("{path}: Age {age}, max-age {lifetime}"))
}

/// What an answer for somebody has in it: the name of the account, and what its sign-in said.
struct Marks(BTreeSet<String>);

/// Shorter words are found in any answer.
const SHORTEST_MARK: usize = 6;

impl Marks {
    fn of(account: &Account, session: &Session) -> Self {
        let mut marks = BTreeSet::new();
        leaves(&session.said, &mut marks);
        marks.retain(|mark| mark.len() >= SHORTEST_MARK);
        marks.insert(account.name.clone());
        Self(marks)
    }

    /// Leaves out what is said of both.
    fn apart_from(&mut self, others: &mut Self) {
        let both: BTreeSet<String> = self.0.intersection(&others.0).cloned().collect();
        self.0.retain(|mark| !both.contains(mark));
        others.0.retain(|mark| !both.contains(mark));
    }

    fn are_in(&self, answer: &Answer) -> bool {
        let text = answer.text();
        self.0.iter().any(|mark| text.contains(mark.as_str()))
    }
}

/// Each text and each number of a document.
fn leaves(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(found.insert(text.clone())),
        Value::Number(number) => drop(found.insert(number.to_string())),
        Value::Array(items) => items.iter().for_each(|item| leaves(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| leaves(field, found)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Signing in is a write that every app with accounts has. `None` where its address does not tell who is signed in.
async fn sees_the_sign_in(world: &Rc<World>) -> Option<bool> {
    let accounts = world.accounts.as_ref()?;
    let account = accounts.list.first()?;
    let before = world.ask(Ask::get(&accounts.path)).await.ok()?;
    let session = world.sign_in(account).await.ok()?;
    let ask = |path: &str| world.ask(session.on(Ask::get(path)));
    let (after, again) = (ask(&accounts.path).await.ok()?, ask(&accounts.path).await.ok()?);
    if !after.status.is_success() || before.status.is_server_error() {
        return None;
    }
    let marks = Marks::of(account, &session);
    if marks.are_in(&before) {
        return Some(false);
    }
    if marks.are_in(&after) && marks.are_in(&again) {
        return Some(true);
    }
    // An address that nobody has asked for yet is in no cache.
    let new = format!("{}?klar={:x}", accounts.path, fastrand::u64(..));
    let unkept = ask(&new).await.ok()?;
    (unkept.status.is_success() && marks.are_in(&unkept)).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw::{Broken, Held, Unseen};

    #[test]
    fn each_part_is_judged_by_what_was_seen_of_it() {
        let one = |promised, seen| One { pattern: "/*".into(), path: "/".into(), promised, seen };
        let good = || Seen {
            policy: Some("docs/caching.md".into()),
            looked_at: 3,
            matrix: vec![one(Promise::Hit, Promise::Hit), one(Promise::Miss, Promise::Miss)],
            fresh: Some(true),
            compared: 4,
            ..Seen::default()
        };
        let saw = |change: &dyn Fn(&mut Seen)| {
            let mut seen = good();
            change(&mut seen);
            CachePolicy::judge(&seen).into_iter().map(|found| found.saw).collect::<Vec<_>>()
        };
        assert_eq!(saw(&|_| {}), [Held; 4]);
        assert_eq!(saw(&|seen| seen.policy = None)[0], Broken);
        assert_eq!(saw(&|seen| seen.uncovered.push("/x".into()))[0], Broken);
        assert_eq!(saw(&|seen| seen.matrix.push(one(Promise::Miss, Promise::Hit)))[1], Broken);
        assert_eq!(saw(&|seen| seen.matrix.clear())[1], Unseen);
        assert_eq!(saw(&|seen| seen.fresh = Some(false))[2], Broken);
        assert_eq!(saw(&|seen| seen.overdue.push("/x".into()))[2], Broken);
        assert_eq!(saw(&|seen| seen.fresh = None)[2], Unseen);
        assert_eq!(saw(&|seen| seen.mixed.push("/x".into()))[3], Broken);
        assert_eq!(saw(&|seen| seen.compared = 0)[3], Unseen);
    }
}
