//! What the edges of a host have said, always the newest: one serves, another one may be about to, and those before
//! it live for as long as their connections do.

use std::collections::BTreeMap;
use std::time::Instant;

use klar_base::lines::Lines;
use klar_base::signal::Totals;
use klar_base::upstreams::{FromEdge, Vitals};
use klar_base::{AppKey, InstanceId};

/// Purges whose outcome is remembered, for those who wait for it.
const PURGES: usize = 64;

/// See the [module](self). The fields of the edge that serves stand here themselves.
#[derive(Debug, Clone, Default)]
pub struct EdgeState {
    /// Its process id, while it is connected.
    pub pid: Option<u32>,
    /// The number of the connection to it.
    pub connection: u64,
    /// The version of klar that it was built from.
    pub version: String,
    /// What of its sandbox is on.
    pub sandbox: Vec<String>,
    /// The newest generation that every worker serves.
    pub applied: u64,
    /// The newest generation that it refused, and why.
    pub rejected: Option<(u64, String)>,
    /// The last purges that it did, by number, and how many answers each took.
    pub purged: BTreeMap<u64, u64>,
    /// The newest vitals.
    pub vitals: Vitals,
    /// How often one was started because there was none.
    pub starts: u64,
    /// Records that it dropped.
    pub records_dropped: u64,
    /// The edges beside it, by the numbers of their connections.
    pub others: BTreeMap<u64, Other>,
    /// What those came to that have drained since the first of them was started.
    pub past: BTreeMap<AppKey, Totals>,
}

/// An edge beside the one that serves: on its way in, or draining.
#[derive(Debug, Clone, Default)]
pub struct Other {
    /// Its process id.
    pub pid: u32,
    /// The version of klar that it was built from.
    pub version: String,
    /// What of its sandbox is on.
    pub sandbox: Vec<String>,
    /// The newest generation that every worker serves.
    pub applied: u64,
    /// The newest generation that it refused, and why.
    pub rejected: Option<(u64, String)>,
    /// How many sockets it serves, and what it cannot serve.
    pub listening: Option<(usize, Vec<String>)>,
    /// The newest vitals.
    pub vitals: Vitals,
    /// Records that it dropped.
    pub records_dropped: u64,
    /// Since when it drains.
    pub draining: Option<Instant>,
    /// It hears of configurations.
    pub configured: bool,
    /// What it had counted when the count began anew, because the edge that served had died.
    pub before: BTreeMap<AppKey, Totals>,
}

impl EdgeState {
    /// Takes note of what the edge at the end of `connection` has said.
    pub fn note(&mut self, connection: u64, message: &FromEdge) {
        if connection != self.connection {
            if let Some(other) = self.others.get_mut(&connection) {
                other.note(message);
            }
            return;
        }
        match message {
            FromEdge::Applied { generation } => self.applied = *generation,
            FromEdge::Rejected { generation, reason } => self.rejected = Some((*generation, reason.clone())),
            FromEdge::Vitals(vitals) => self.vitals = vitals.clone(),
            FromEdge::Records { dropped, .. } | FromEdge::Lines(Lines { dropped, .. }) => {
                self.records_dropped = *dropped;
            }
            FromEdge::Purged { number, dropped } => {
                self.purged.insert(*number, *dropped);
                if self.purged.len() > PURGES {
                    self.purged.pop_first();
                }
            }
            _ => {}
        }
    }

    /// The edge at the end of `connection`, which was beside the one that serves, serves from now on; the one before
    /// it, if there still is one, drains.
    pub fn promote(&mut self, connection: u64) {
        let Some(next) = self.others.remove(&connection) else { return };
        if let Some(pid) = self.pid {
            let old = Other {
                pid,
                version: std::mem::take(&mut self.version),
                sandbox: std::mem::take(&mut self.sandbox),
                applied: self.applied,
                vitals: std::mem::take(&mut self.vitals),
                records_dropped: self.records_dropped,
                draining: Some(Instant::now()),
                configured: true,
                ..Other::default()
            };
            self.others.insert(self.connection, old);
        }
        *self = Self {
            pid: Some(next.pid),
            connection,
            version: next.version,
            sandbox: next.sandbox,
            applied: next.applied,
            rejected: None,
            purged: std::mem::take(&mut self.purged),
            vitals: next.vitals,
            starts: self.starts,
            records_dropped: next.records_dropped,
            others: std::mem::take(&mut self.others),
            past: std::mem::take(&mut self.past),
        };
    }

    /// The edge at the end of `connection` is gone. When it was the one that served, everything is counted anew;
    /// otherwise what it came to is kept.
    pub fn lost(&mut self, connection: u64) {
        if connection == self.connection {
            self.pid = None;
            self.past.clear();
            for other in self.others.values_mut() {
                other.before = other.vitals.totals.clone();
            }
        } else if let Some(gone) = self.others.remove(&connection) {
            for (key, totals) in &gone.vitals.totals {
                let sum = self.past.entry(key.clone()).or_default();
                *sum += gone.counted(key, totals);
            }
        }
    }

    /// Requests of an app over all edges, since the first of them was started.
    pub fn totals(&self, key: &AppKey) -> Totals {
        let mut sum = self.past.get(key).cloned().unwrap_or_default();
        sum += self.vitals.totals.get(key).cloned().unwrap_or_default();
        for other in self.others.values() {
            if let Some(totals) = other.vitals.totals.get(key) {
                sum += other.counted(key, totals);
            }
        }
        sum
    }

    /// Requests that an instance is answering now, and those that it was ever sent, over all edges that there are.
    pub fn of_instance(&self, id: &InstanceId) -> (u32, u64) {
        let others = self.others.values().map(|other| &other.vitals);
        let all = std::iter::once(&self.vitals).chain(others);
        let of_it = all.flat_map(|vitals| &vitals.upstreams).filter(|upstream| upstream.id == *id);
        of_it.fold((0, 0), |(leases, requests), upstream| {
            (leases + upstream.leases, requests + upstream.requests)
        })
    }

    /// Whether every edge that hears of configurations serves `generation` and has no request left at an instance.
    pub fn has_left(&self, id: &InstanceId, generation: u64) -> bool {
        let left = |applied: u64, vitals: &Vitals| {
            applied >= generation
                && vitals.generation >= generation
                && !vitals.upstreams.iter().any(|upstream| upstream.id == *id && upstream.leases > 0)
        };
        (self.pid.is_none() || left(self.applied, &self.vitals))
            && self.others.values().filter(|other| other.configured).all(|o| left(o.applied, &o.vitals))
    }
}

impl Other {
    fn note(&mut self, message: &FromEdge) {
        match message {
            FromEdge::Applied { generation } => self.applied = *generation,
            FromEdge::Rejected { generation, reason } => self.rejected = Some((*generation, reason.clone())),
            FromEdge::Vitals(vitals) => self.vitals = vitals.clone(),
            FromEdge::Records { dropped, .. } | FromEdge::Lines(Lines { dropped, .. }) => {
                self.records_dropped = *dropped;
            }
            FromEdge::Listening { count, failed } => self.listening = Some((*count, failed.clone())),
            _ => {}
        }
    }

    fn counted(&self, key: &AppKey, totals: &Totals) -> Totals {
        self.before.get(key).map_or_else(|| totals.clone(), |before| totals.since(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use klar_base::signal::UpstreamVitals;

    fn vitals(requests: u64, leases: u32, generation: u64) -> FromEdge {
        let totals = Totals { requests, ..Totals::default() };
        let id = "shop.prod.web.1".parse().unwrap();
        let upstream = UpstreamVitals { id, leases, requests, failures: 0, healthy: true };
        FromEdge::Vitals(Vitals {
            generation,
            connections: 1,
            turned_away: 0,
            upstreams: vec![upstream],
            totals: [("shop.prod".parse().unwrap(), totals)].into(),
            refused_rules: BTreeMap::new(),
            watched: BTreeMap::new(),
        })
    }

    /// Each line: what happens, and what the totals of the app are after it.
    #[test]
    fn totals_add_up_over_a_takeover() {
        let key: AppKey = "shop.prod".parse().unwrap();
        let mut state = EdgeState { pid: Some(10), connection: 1, ..EdgeState::default() };
        let mut check = |what: &str, change: &dyn Fn(&mut EdgeState), wanted: u64| {
            change(&mut state);
            assert_eq!(state.totals(&key).requests, wanted, "{what}");
        };
        let configured = || Other { configured: true, ..Other::default() };
        check("one serves", &|state| state.note(1, &vitals(5, 1, 1)), 5);
        check("another one is there", &|state| drop(state.others.insert(2, configured())), 5);
        check("and accepts, too", &|state| state.note(2, &vitals(2, 0, 1)), 7);
        check("it takes over", &|state| state.promote(2), 7);
        check("the old one answers once more", &|state| state.note(1, &vitals(6, 0, 1)), 8);
        check("the old one has drained", &|state| state.lost(1), 8);
        check("its successor goes on", &|state| state.note(2, &vitals(3, 0, 1)), 9);
        check("a third one takes over", &|state| drop(state.others.insert(3, configured())), 9);
        check("and serves", &|state| state.promote(3), 9);
        check("it dies: from here on all is counted anew", &|state| state.lost(3), 0);
        check("what still drains counts what comes now", &|state| state.note(2, &vitals(4, 0, 1)), 1);
    }

    #[test]
    fn an_instance_is_left_when_every_edge_has_left_it() {
        let id: InstanceId = "shop.prod.web.1".parse().unwrap();
        let mut state = EdgeState { pid: Some(10), connection: 1, applied: 7, ..EdgeState::default() };
        state.others.insert(2, Other { configured: true, ..Other::default() });
        state.note(1, &vitals(1, 0, 7));
        state.note(2, &vitals(1, 1, 7));
        state.note(2, &FromEdge::Applied { generation: 7 });
        assert!(!state.has_left(&id, 7), "the one that drains still has a lease");
        assert_eq!(state.of_instance(&id), (1, 2));
        state.note(2, &vitals(1, 0, 7));
        assert!(state.has_left(&id, 7));
        assert!(!state.has_left(&id, 8), "nobody has heard of it yet");
        state.note(1, &FromEdge::Applied { generation: 8 });
        state.note(1, &vitals(1, 0, 8));
        assert!(!state.has_left(&id, 8), "the one that drains has not");
    }
}
