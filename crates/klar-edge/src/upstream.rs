//! Which instance gets the request: the one with the fewest leases for its weight, of those that are well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use klar_base::look::{InstanceCounts, Wellness};
use klar_base::signal::UpstreamVitals;
use klar_base::upstreams::{AppProtocol, Upstream};
use klar_base::{InstanceId, ReleaseId};
use tokio::time::Instant;

use crate::table::{ServiceTable, Shared};

/// How an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Health {
    /// It answers, and says that it is well.
    Well = 0,
    /// It answers, but not well. It is used when nobody is better.
    Unwell = 1,
    /// Nobody listens. It is not used until somebody does.
    Gone = 2,
}

/// What the edge knows of an instance, for as long as it is the same process at the same address.
#[derive(Debug)]
pub struct UpstreamState {
    /// Unlike that of any other since the edge started.
    pub serial: u64,
    pub id: InstanceId,
    /// The same, as records say it.
    pub name: Box<str>,
    pub address: SocketAddr,
    pub release: ReleaseId,
    pub protocol: AppProtocol,
    /// What the cookie of a sticky service says: stable for an instance, and telling nothing of it.
    pub tag: String,
    weight: AtomicU32,
    leases: AtomicU32,
    requests: AtomicU64,
    failures: AtomicU64,
    health: AtomicU8,
    misses: AtomicU32,
    /// Somebody is asking it now how it is.
    pub probed: AtomicBool,
}

/// So many failures in a row make an instance unwell.
const MISSES: u32 = 2;

impl UpstreamState {
    /// A new one; the core has just seen it ready.
    pub fn new(serial: u64, upstream: &Upstream, protocol: AppProtocol) -> Self {
        Self {
            serial,
            id: upstream.id.clone(),
            name: upstream.id.to_string().into(),
            address: upstream.address,
            release: upstream.release.clone(),
            protocol,
            tag: tag(&upstream.id),
            weight: AtomicU32::new(upstream.weight),
            leases: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            health: AtomicU8::new(Health::Well as u8),
            misses: AtomicU32::new(0),
            probed: AtomicBool::new(false),
        }
    }

    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::SeqCst)
    }

    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::SeqCst);
    }

    pub fn leases(&self) -> u32 {
        self.leases.load(Ordering::SeqCst)
    }

    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Well,
            1 => Health::Unwell,
            _ => Health::Gone,
        }
    }

    /// Notes an answer, or a health check that succeeded.
    pub fn note_well(&self, shared: &Shared) {
        self.misses.store(0, Ordering::Relaxed);
        if self.health.swap(Health::Well as u8, Ordering::Relaxed) != Health::Well as u8 {
            shared.tell_waiting();
        }
    }

    /// Notes that it failed: at once when nobody listens, otherwise when it happens again.
    pub fn note_miss(&self, gone: bool, shared: &Shared) {
        let misses = self.misses.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if gone {
            self.health.store(Health::Gone as u8, Ordering::Relaxed);
        } else if misses >= MISSES
            && self.health.swap(Health::Unwell as u8, Ordering::Relaxed) == Health::Gone as u8
        {
            shared.tell_waiting();
        }
    }

    /// Counts a request that it answered with 500 or above, or not at all.
    pub fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// For the core.
    pub fn vitals(&self) -> UpstreamVitals {
        UpstreamVitals {
            id: self.id.clone(),
            leases: self.leases(),
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            healthy: self.health() == Health::Well,
        }
    }

    /// For who looks.
    pub fn counts(&self) -> InstanceCounts {
        InstanceCounts {
            id: self.id.clone(),
            release: self.release.clone(),
            weight: self.weight(),
            wellness: match self.health() {
                Health::Well => Wellness::Well,
                Health::Unwell => Wellness::Unwell,
                Health::Gone => Wellness::Gone,
            },
            in_flight: self.leases(),
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}

/// A digest of the name of an instance (FNV-1a).
fn tag(id: &InstanceId) -> String {
    let hash = id.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// The right to send one request to an instance; it counts from the pick to the last byte of the answer.
#[derive(Debug)]
pub struct Lease {
    upstream: Arc<UpstreamState>,
    shared: Arc<Shared>,
}

impl Lease {
    /// `None` when the instance gets no more requests.
    pub fn take(upstream: &Arc<UpstreamState>, shared: &Arc<Shared>) -> Option<Self> {
        upstream.leases.fetch_add(1, Ordering::SeqCst);
        let lease = Self { upstream: upstream.clone(), shared: shared.clone() };
        if upstream.weight() == 0 {
            return None;
        }
        upstream.requests.fetch_add(1, Ordering::Relaxed);
        Some(lease)
    }
}

impl Lease {
    /// Nothing was sent after all.
    pub fn give_back(self) {
        self.upstream.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// What all workers share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl std::ops::Deref for Lease {
    type Target = Arc<UpstreamState>;
    fn deref(&self) -> &Self::Target {
        &self.upstream
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.upstream.leases.fetch_sub(1, Ordering::SeqCst) == 1 && self.upstream.weight() == 0 {
            self.shared.tell_drained();
        }
    }
}

/// Who asks for an instance.
#[derive(Debug, Default)]
pub struct Wish {
    /// Instances that have failed this request, by serial.
    pub tried: Vec<u64>,
    /// The instance that the visitor was sent to before.
    pub tag: Option<String>,
}

/// Takes a lease on the best instance there is, if there is one.
pub fn pick(service: &ServiceTable, wish: &Wish, shared: &Arc<Shared>) -> Option<Lease> {
    best(service, wish).and_then(|upstream| Lease::take(upstream, shared))
}

/// The best instance there is; one of them, where several are as good.
pub fn best<'a>(service: &'a ServiceTable, wish: &Wish) -> Option<&'a Arc<UpstreamState>> {
    let all = &service.upstreams;
    let start = if all.len() > 1 { fastrand::usize(..all.len()) } else { 0 };
    let mut best = None;
    for upstream in all[start..].iter().chain(&all[..start]) {
        let (weight, health) = (u64::from(upstream.weight()), upstream.health());
        if weight == 0 || health == Health::Gone {
            continue;
        }
        let tried = wish.tried.contains(&upstream.serial);
        let rank = (health, tried);
        let load = u64::from(upstream.leases()) + 1;
        if rank == (Health::Well, false) && wish.tag.as_ref().is_some_and(|tag| *tag == upstream.tag) {
            best = Some((upstream, rank, load, weight));
            break;
        }
        let better = best.is_none_or(|(_, best_rank, best_load, best_weight)| {
            // load / weight, without the division
            rank < best_rank || (rank == best_rank && load * best_weight < best_load * weight)
        });
        if better {
            best = Some((upstream, rank, load, weight));
        }
    }
    best.map(|(upstream, ..)| upstream)
}

/// Takes a lease on the best instance, and waits until `end` for one when there is none.
pub async fn acquire(
    shared: &Arc<Shared>,
    find: impl Fn(&crate::table::Table) -> Option<Arc<ServiceTable>>,
    wish: &Wish,
    end: impl Fn(&ServiceTable) -> Instant,
) -> Option<Lease> {
    // The weight of the one that was picked can fall to 0 in between; the newest table has the others.
    const AGAIN: usize = 3;
    for _ in 0..AGAIN {
        if let Some(lease) = pick(find(&shared.table.load())?.as_ref(), wish, shared) {
            return Some(lease);
        }
    }
    // Hardly any request comes here, and the others should not keep room for it.
    Box::pin(wait(shared, find, wish, end)).await
}

async fn wait(
    shared: &Arc<Shared>,
    find: impl Fn(&crate::table::Table) -> Option<Arc<ServiceTable>>,
    wish: &Wish,
    end: impl Fn(&ServiceTable) -> Instant,
) -> Option<Lease> {
    let mut changes = shared.changes();
    loop {
        changes.borrow_and_update();
        let service = find(&shared.table.load())?;
        if let Some(lease) = pick(&service, wish, shared) {
            return Some(lease);
        }
        match tokio::time::timeout_at(end(&service), changes.changed()).await {
            Ok(Ok(())) => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn upstream(number: u64, weight: u32) -> Arc<UpstreamState> {
        let id = format!("shop.prod.web.{number}").parse().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 1000 + number as u16));
        let release = "0123456789ab".parse().unwrap();
        let upstream = Upstream { id, address, weight, release };
        Arc::new(UpstreamState::new(number, &upstream, AppProtocol::Http1))
    }

    fn service(upstreams: Vec<Arc<UpstreamState>>) -> ServiceTable {
        ServiceTable { upstreams, health: None, sticky: false, hold: Duration::ZERO }
    }

    #[test]
    fn the_least_loaded_gets_the_next() {
        let (shared, _notes) = Shared::new();
        let service = service(vec![upstream(1, 1), upstream(2, 3), upstream(3, 0)]);
        let leases: Vec<Lease> = (0..8).map(|_| pick(&service, &Wish::default(), &shared).unwrap()).collect();
        let counts: Vec<u32> = service.upstreams.iter().map(|upstream| upstream.leases()).collect();
        assert_eq!(counts, [2, 6, 0]);
        drop(leases);
        assert!(service.upstreams.iter().all(|upstream| upstream.leases() == 0));
    }

    #[test]
    fn the_sick_are_spared_while_others_are_well() {
        let (shared, _notes) = Shared::new();
        let service = service(vec![upstream(1, 1), upstream(2, 1)]);
        let [one, two] = &service.upstreams[..] else { panic!("two") };
        let picked = |wish: &Wish| pick(&service, wish, &shared).map(|lease| lease.serial);
        one.note_miss(false, &shared);
        assert_eq!(one.health(), Health::Well, "once is chance");
        one.note_miss(false, &shared);
        for _ in 0..20 {
            assert_eq!(picked(&Wish::default()), Some(2));
        }
        two.note_miss(false, &shared);
        two.note_miss(false, &shared);
        assert!(picked(&Wish::default()).is_some(), "all unwell: better those than nobody");
        two.note_miss(true, &shared);
        one.note_miss(true, &shared);
        assert_eq!(picked(&Wish::default()), None, "nobody listens");
        two.note_well(&shared);
        assert_eq!(
            picked(&Wish { tried: vec![2], tag: None }),
            Some(2),
            "the same again, as there is no other"
        );
    }

    #[test]
    fn visitors_stay_and_move_on_when_they_must() {
        let (shared, _notes) = Shared::new();
        let service = service(vec![upstream(1, 1), upstream(2, 1)]);
        let wish = Wish { tried: Vec::new(), tag: Some(service.upstreams[1].tag.clone()) };
        let leases: Vec<Lease> = (0..5).map(|_| pick(&service, &wish, &shared).unwrap()).collect();
        assert!(leases.iter().all(|lease| lease.serial == 2));
        service.upstreams[1].set_weight(0);
        assert_eq!(pick(&service, &wish, &shared).unwrap().serial, 1);
    }
}
