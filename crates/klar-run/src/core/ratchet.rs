//! Routes on which the firewall only watches until it would have stopped nothing for long enough (`waf_block_after`).

use std::collections::{BTreeMap, BTreeSet};

use klar_base::AppKey;
use klar_base::upstreams::{Vitals, Watched};
use klar_config::{RoutePolicy, Waf};
use serde::{Deserialize, Serialize};

use super::Core;
use super::state::AppState;

/// It is written down this often on its way.
const STEPS: u64 = 20;

/// How far a route is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ratchet {
    /// Requests in a row of which none would have been stopped.
    pub clean: u64,
    /// The most there have been.
    pub reached: u64,
    /// By these rules ([`Core::judged_by`]).
    pub rules: String,
}

/// What the edge that serves had counted last, and how far each route is since.
pub(super) type Counted = BTreeMap<(AppKey, String), (Watched, Ratchet)>;

/// How far a route is, that blocks after so many requests, if it is one.
pub(super) fn goal(policy: &RoutePolicy) -> Option<u64> {
    policy.waf_block_after.filter(|_| policy.waf == Waf::Detect).map(u64::from)
}

impl Ratchet {
    /// After what was counted in between. An edge that has started anew counts from 0.
    fn after(&mut self, before: Watched, now: Watched) {
        let is_new = now.passed < before.passed || now.found < before.found;
        let before = if is_new { Watched::default() } else { before };
        self.clean =
            if now.found > before.found { 0 } else { self.clean.saturating_add(now.passed - before.passed) };
        self.reached = self.reached.max(self.clean);
    }

    /// Whether it has begun to block.
    pub(super) const fn blocks(&self, goal: u64) -> bool {
        self.reached >= goal
    }

    /// Whether the difference to what is on disk is worth a write. That it counts from 0 again always is.
    fn is_news_to(&self, written: &Self, goal: u64) -> bool {
        self.rules != written.rules
            || self.blocks(goal) != written.blocks(goal)
            || self.clean < written.clean
            || self.clean - written.clean >= (goal / STEPS).max(1)
    }
}

impl Core {
    /// Takes note of what the edge that serves has counted.
    pub(super) fn watch(&self, vitals: &Vitals) {
        let (mut written, mut dropped) = (Vec::new(), Vec::new());
        for (key, routes) in &vitals.watched {
            let goals = self.goals(key);
            for (pattern, now) in routes {
                let Some((goal, on_disk)) = goals.get(pattern) else {
                    // It is only to be watched again, if it ever was to block.
                    dropped.push((key.clone(), pattern.clone()));
                    continue;
                };
                let mut counted = self.counted.borrow_mut();
                // What came before this core looked is not known to have been in a row.
                let known = counted.entry((key.clone(), pattern.clone()));
                let (before, ratchet) = known.or_insert_with(|| (*now, on_disk.clone()));
                if ratchet.rules != on_disk.rules {
                    *ratchet = on_disk.clone();
                }
                ratchet.after(*before, *now);
                *before = *now;
                if ratchet.is_news_to(on_disk, *goal) {
                    let is_first = ratchet.blocks(*goal) && !on_disk.blocks(*goal);
                    written.push((key.clone(), pattern.clone(), ratchet.clone(), is_first));
                }
            }
        }
        for (key, pattern) in dropped {
            let is_known = |app: &AppState| app.ratchets.contains_key(&pattern);
            if self.host.borrow().apps.get(&key).is_some_and(is_known) {
                let forgotten =
                    self.remember(|host| host.apps.get_mut(&key).map(|app| app.ratchets.remove(&pattern)));
                if let Err(error) = forgotten {
                    eprintln!("klar core: {key}: how far {pattern} was cannot be forgotten: {error}");
                }
            }
        }
        for (key, pattern, ratchet, is_first) in written {
            let clean = ratchet.clean;
            let remembered = self.remember(|host| {
                let app = host.apps.entry(key.clone()).or_default();
                app.ratchets.insert(pattern.clone(), ratchet);
            });
            match remembered {
                Ok(()) if is_first => eprintln!(
                    "klar core: {key}: the firewall blocks on {pattern} from now on: of {clean} requests in a row it would \
                     have stopped none"
                ),
                Ok(()) => {}
                Err(error) => eprintln!("klar core: {key}: how far {pattern} is cannot be kept: {error}"),
            }
        }
    }

    /// The routes of an app that were watched for long enough.
    pub(super) fn ripe(&self, key: &AppKey) -> BTreeSet<String> {
        let goals = self.goals(key).into_iter();
        goals.filter(|(_, (goal, ratchet))| ratchet.blocks(*goal)).map(|(pattern, _)| pattern).collect()
    }

    /// The routes of an app that are to block one day: after how many requests, and how far they are. What other rules have
    /// watched does not count.
    pub(super) fn goals(&self, key: &AppKey) -> BTreeMap<String, (u64, Ratchet)> {
        let (host, apps) = (self.host.borrow(), self.apps.borrow());
        let app = host.apps.get(key);
        let release = app.and_then(|app| apps.get(key)?.releases.get(app.current.as_ref()?));
        let Some((app, release)) = app.zip(release) else { return BTreeMap::new() };
        let rules = self.judged_by(&release.config);
        let goal = |route: &klar_config::Route| {
            let pattern = route.pattern.to_string();
            let known = app.ratchets.get(&pattern).filter(|known| known.rules == rules).cloned();
            let ratchet = known.unwrap_or_else(|| Ratchet { rules: rules.clone(), ..Ratchet::default() });
            Some((pattern, (goal(&route.policy)?, ratchet)))
        };
        release.config.routes.iter().filter_map(goal).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_clean_in_a_row_counts() {
        let seen = |passed, found| Watched { passed, found };
        let mut ratchet = Ratchet::default();
        let mut before = seen(0, 0);
        for (now, clean, blocks) in [
            (seen(40, 0), 40, false),
            (seen(90, 0), 90, false),
            (seen(95, 1), 0, false),
            (seen(95, 1), 0, false),
            // Another edge.
            (seen(30, 0), 30, false),
            (seen(99, 0), 99, false),
            (seen(60, 1), 0, false),
            (seen(160, 1), 100, true),
            // It has begun: what it stops now is no reason to end.
            (seen(170, 9), 0, true),
        ] {
            ratchet.after(before, now);
            assert_eq!((ratchet.clean, ratchet.blocks(100)), (clean, blocks), "{now:?}");
            before = now;
        }
        assert!(!ratchet.blocks(101), "who asks for more than it has seen has it watch on");
    }

    #[test]
    fn it_is_not_written_each_second() {
        let at = |clean| Ratchet { clean, reached: clean, rules: "a".into() };
        assert!(!at(104).is_news_to(&at(100), 1000) && at(150).is_news_to(&at(100), 1000));
        assert!(at(0).is_news_to(&at(1), 100) && at(100).is_news_to(&at(99), 100));
        assert!(at(1).is_news_to(&at(0), 3) && !at(0).is_news_to(&at(0), 3));
        assert!(Ratchet { rules: "b".into(), ..at(0) }.is_news_to(&at(0), 3));
    }
}
