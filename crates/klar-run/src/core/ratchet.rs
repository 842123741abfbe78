//! Routes on which the firewall only watches until it would have stopped nothing for long enough (`waf_block_after`).

use std::collections::BTreeMap;

use klar_base::AppKey;
use klar_base::upstreams::{Vitals, Watched};
use klar_config::{RoutePolicy, Waf};
use serde::{Deserialize, Serialize};

use super::Core;

/// It is written down this often on its way.
const STEPS: u64 = 20;

/// How far a route is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ratchet {
    /// Requests in a row of which none would have been stopped.
    pub clean: u64,
    /// It has begun to block.
    pub blocks: bool,
}

/// What the edge that serves had counted last, and how far each route is since.
pub(super) type Counted = BTreeMap<(AppKey, String), (Watched, Ratchet)>;

/// How far a route is, that blocks after so many requests, if it is one.
pub(super) fn goal(policy: &RoutePolicy) -> Option<u64> {
    policy.waf_block_after.filter(|_| policy.waf == Waf::Detect).map(u64::from)
}

impl Ratchet {
    /// After what was counted in between. An edge that has started anew counts from 0.
    fn after(self, before: Watched, now: Watched, goal: u64) -> Self {
        let is_new = now.requests < before.requests || now.found < before.found;
        let before = if is_new { Watched::default() } else { before };
        let clean = if now.found > before.found {
            0
        } else {
            self.clean.saturating_add(now.requests - before.requests)
        };
        Self { clean, blocks: self.blocks || clean >= goal }
    }

    /// Whether the difference to what is on disk is worth a write. That it counts from 0 again always is.
    fn is_news_to(self, written: Self, goal: u64) -> bool {
        self.blocks != written.blocks
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
                let on_disk = self.ratchet(key, pattern);
                let Some(goal) = goals.get(pattern) else {
                    // It is only to be watched again.
                    dropped.extend((on_disk != Ratchet::default()).then(|| (key.clone(), pattern.clone())));
                    continue;
                };
                let mut counted = self.counted.borrow_mut();
                // What came before this core looked is not known to have been in a row.
                let (before, ratchet) =
                    counted.entry((key.clone(), pattern.clone())).or_insert((*now, on_disk));
                *ratchet = ratchet.after(*before, *now, *goal);
                *before = *now;
                if ratchet.is_news_to(on_disk, *goal) {
                    written.push((key.clone(), pattern.clone(), *ratchet));
                }
            }
        }
        for (key, pattern) in dropped {
            let forgotten =
                self.remember(|host| host.apps.get_mut(&key).map(|app| app.ratchets.remove(&pattern)));
            if let Err(error) = forgotten {
                eprintln!("klar core: {key}: how far {pattern} was cannot be forgotten: {error}");
            }
        }
        for (key, pattern, ratchet) in written {
            let is_first = ratchet.blocks && !self.ratchet(&key, &pattern).blocks;
            let remembered = self.remember(|host| {
                let app = host.apps.entry(key.clone()).or_default();
                app.ratchets.insert(pattern.clone(), ratchet);
            });
            match remembered {
                Ok(()) if is_first => eprintln!(
                    "klar core: {key}: the firewall blocks on {pattern} from now on: of {} requests in a row it would have \
                     stopped none",
                    ratchet.clean
                ),
                Ok(()) => {}
                Err(error) => eprintln!("klar core: {key}: how far {pattern} is cannot be kept: {error}"),
            }
        }
    }

    /// How far a route is.
    pub(super) fn ratchet(&self, key: &AppKey, pattern: &str) -> Ratchet {
        let host = self.host.borrow();
        host.apps.get(key).and_then(|app| app.ratchets.get(pattern)).copied().unwrap_or_default()
    }

    /// The routes of an app that are to block one day, and after how many requests.
    pub(super) fn goals(&self, key: &AppKey) -> BTreeMap<String, u64> {
        let (host, apps) = (self.host.borrow(), self.apps.borrow());
        let release = host.apps.get(key).and_then(|app| apps.get(key)?.releases.get(app.current.as_ref()?));
        let routes = release.into_iter().flat_map(|release| &release.config.routes);
        routes.filter_map(|route| Some((route.pattern.to_string(), goal(&route.policy)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_clean_in_a_row_counts() {
        let seen = |requests, found| Watched { requests, found };
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
            ratchet = ratchet.after(before, now, 100);
            assert_eq!(ratchet, Ratchet { clean, blocks }, "{now:?}");
            before = now;
        }
    }

    #[test]
    fn it_is_not_written_each_second() {
        let at = |clean| Ratchet { clean, blocks: false };
        assert!(!at(104).is_news_to(at(100), 100) && at(105).is_news_to(at(100), 100));
        assert!(at(0).is_news_to(at(1), 100) && Ratchet { clean: 1, blocks: true }.is_news_to(at(1), 100));
        assert!(at(1).is_news_to(at(0), 3) && !at(0).is_news_to(at(0), 3));
    }
}
