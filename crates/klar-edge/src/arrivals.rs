//! Connections that have not yet shown what they are for: accepted, but with a handshake that has not ended or, over
//! plain HTTP, without a first byte.
//!
//! They cost whoever opens them nothing, so they must not keep out those who want something: when every place is
//! taken, the oldest of them makes room for the next to come. A visitor shakes hands in milliseconds, and is not the
//! oldest of thousands.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Those of all workers: a worker that has none of them would otherwise keep everybody out while the others are full
/// of them. Each connection takes the lock twice, and holds it for a moment.
#[derive(Debug, Default)]
pub struct Arrivals(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    count: u64,
    /// Oldest first.
    leave: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Arrivals {
    /// One more, for as long as this is kept.
    pub fn begin(self: &Arc<Self>) -> Arriving {
        let (leave, told) = oneshot::channel();
        let mut waiting = self.lock();
        let number = waiting.count;
        waiting.count += 1;
        waiting.leave.insert(number, leave);
        drop(waiting);
        Arriving { arrivals: self.clone(), number, told }
    }

    /// Sends the oldest away, if there is one.
    pub fn make_room(&self) -> bool {
        let oldest = self.lock().leave.pop_first();
        oldest.is_some_and(|(_, leave)| leave.send(()).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that may be sent away.
#[derive(Debug)]
pub struct Arriving {
    arrivals: Arc<Arrivals>,
    number: u64,
    told: oneshot::Receiver<()>,
}

impl Arriving {
    /// What comes of `step`, or nothing if the connection has to make room before.
    pub async fn unless_sent_away<T>(&mut self, step: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _ = &mut self.told => None,
            done = step => Some(done),
        }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.arrivals.lock().leave.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_makes_room() {
        let arrivals = Arc::new(Arrivals::default());
        assert!(!arrivals.make_room(), "nobody is there");
        let (mut first, mut second, third) = (arrivals.begin(), arrivals.begin(), arrivals.begin());
        assert_eq!(first.unless_sent_away(async { 1 }).await, Some(1));
        assert!(arrivals.make_room());
        assert_eq!(first.unless_sent_away(std::future::pending::<()>()).await, None);
        assert_eq!(second.unless_sent_away(async { 2 }).await, Some(2));
        // One that has shown what it is for stays.
        drop((second, third));
        assert!(!arrivals.make_room());
    }
}
