//! What stricter rules would have stopped of what was let through.
//!
//! A sample of the requests that are over is judged once more, by other rules at all paranoia levels at once, in a thread
//! of its own: nobody waits for it. It rests after each request, so that it takes no more than [`SHARE`] of a processor
//! core, and nobody hands it another one until it has rested. Requests are copied as they came, which stays within this
//! process; what leaves it has no secrets (see [`stopped`](super::stopped)).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use klar_base::AppKey;
use klar_base::replay::BODY_MAX;
use klar_base::shadow::{LevelMatch, Shadowed, ShadowedRequest};
use klar_base::upstreams::WafMode;
use klar_waf::engine::Request;

use super::raw::Raw;
use super::replay::judge;
use super::{Inspection, MATCHES_MAX, Rules, stopped};

/// At most so much of the time of a core goes into it: one part in so many.
const SHARE: u32 = 20;
/// Between two requests there is at least so much time. What is judged is kept on disk, too.
const REST: Duration = Duration::from_millis(250);
/// So many wait for the core.
const WAITING_MAX: usize = 40;
/// So many requests that are not over yet are copied at a time.
const SAMPLES_MAX: usize = 4;
/// Levels that rules run at.
const LEVELS: u8 = 4;

/// Stricter rules, and who judges by them.
#[derive(Debug)]
pub struct Shadow {
    pub rules: Arc<Rules>,
    pub judge: Arc<Judge>,
}

/// Judges requests that are over, one at a time.
#[derive(Debug, Default)]
pub struct Judge {
    /// Its thread, once there was something to judge.
    jobs: OnceLock<Option<SyncSender<Job>>>,
    is_busy: AtomicBool,
    samples: AtomicUsize,
    judged: Mutex<Vec<ShadowedRequest>>,
}

/// A request that is to be judged when it is over.
#[derive(Debug)]
pub struct Sample {
    raw: Raw,
    judge: Arc<Judge>,
}

impl Drop for Sample {
    fn drop(&mut self) {
        self.judge.samples.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is known of a request that is over, beside what came.
#[derive(Debug)]
pub struct Over<'a> {
    pub time_unix_ms: u64,
    pub request_id: &'a str,
    pub app: &'a AppKey,
    pub route: Option<&'a str>,
    pub status: u16,
}

#[derive(Debug)]
struct Job {
    rules: Arc<Rules>,
    raw: Raw,
    request: ShadowedRequest,
}

impl Judge {
    /// Whether it would take a request now.
    pub fn is_free(&self) -> bool {
        !self.is_busy.load(Ordering::Relaxed) && self.samples.load(Ordering::Relaxed) < SAMPLES_MAX
    }

    /// What was judged since somebody asked.
    pub fn take(&self) -> Vec<ShadowedRequest> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ShadowedRequest>> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request, unless it is busy.
    fn hand(self: &Arc<Self>, make: impl FnOnce() -> Job) {
        if self.is_busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let jobs = self.jobs.get_or_init(|| {
            let (sender, jobs) = sync_channel(1);
            let judge = self.clone();
            // An edge that gets no thread for this does without: it stays busy.
            let begun = std::thread::Builder::new().name("shadow".into()).spawn(move || judge.run(&jobs));
            begun.ok().map(|_| sender)
        });
        if let Some(jobs) = jobs {
            // There is room: nobody else hands over anything before this one is judged.
            let _ = jobs.try_send(make());
        }
    }

    fn run(&self, jobs: &Receiver<Job>) {
        for job in jobs {
            let begun = Instant::now();
            let judged = job.judged();
            let mut waiting = self.lock();
            if waiting.len() < WAITING_MAX {
                waiting.push(judged);
            }
            drop(waiting);
            // Time that others took from it counts as its own: it takes less then, not more.
            std::thread::sleep((begun.elapsed() * (SHARE - 1)).max(REST));
            self.is_busy.store(false, Ordering::Release);
        }
    }
}

impl Job {
    fn judged(self) -> ShadowedRequest {
        let found = judge(&self.rules, WafMode::Detect, &self.raw, Inspection::levels).1;
        ShadowedRequest {
            found,
            sent: stopped::sent(&self.raw.as_request(), self.raw.is_cut),
            ..self.request
        }
    }
}

impl Raw {
    /// The request that rules have seen, up to what is kept of one.
    pub fn of(seen: &Request<'_>, is_cut: bool) -> Self {
        let headers = seen.headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec()));
        Self {
            method: seen.method.to_vec(),
            target: seen.target.to_vec(),
            protocol: seen.protocol.to_vec(),
            remote: seen.remote.to_vec(),
            headers: headers.collect(),
            body: seen.body.get(..BODY_MAX).unwrap_or(seen.body).to_vec(),
            is_cut: is_cut || seen.body.len() > BODY_MAX,
        }
    }

    fn as_request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            target: &self.target,
            protocol: &self.protocol,
            remote: &self.remote,
            headers: self.headers.iter().map(|(name, value)| (&**name, &**value)).collect(),
            body: &self.body,
        }
    }
}

impl Inspection {
    /// Whether this request is to be judged by stricter rules, too, when it is over.
    pub fn is_sampled(rules: &Rules) -> bool {
        rules.shadow.as_ref().is_some_and(|shadow| shadow.judge.is_free())
    }

    /// A copy of the request, if stricter rules want one.
    pub(super) fn sample(&mut self, is_cut: bool) -> Option<Sample> {
        let rules = self.rules.clone();
        let judge = rules.shadow.as_ref()?.judge.clone();
        judge.samples.fetch_add(1, Ordering::Relaxed);
        let raw = self.with(|transaction, _| Raw::of(&transaction.seen(), is_cut));
        Some(Sample { raw: raw.unwrap_or_default(), judge })
    }

    /// It is over: stricter rules may look at it, if these let it through.
    pub fn shadow(&mut self, over: &Over<'_>) {
        let Some(mut sample) = self.sample.take() else { return };
        let rules = self.rules.clone();
        let is_stopped = self.with(|transaction, _| transaction.interruption().is_some());
        let Some(shadow) = rules.shadow.as_ref().filter(|_| is_stopped == Some(false)) else { return };
        shadow.judge.hand(|| Job {
            rules: shadow.rules.clone(),
            request: ShadowedRequest {
                time_unix_ms: over.time_unix_ms,
                request_id: over.request_id.to_owned(),
                app: over.app.clone(),
                route: over.route.map(str::to_owned),
                status: over.status,
                found: Shadowed::default(),
                // Made where nobody waits for it.
                sent: stopped::nothing(),
            },
            raw: std::mem::take(&mut sample.raw),
        });
    }

    /// What each level says of the request.
    fn levels(&mut self) -> Shadowed {
        let rules = self.rules.clone();
        let finding = self.finding();
        let stopped_from = self.with(|transaction, _| {
            let limit = transaction.variable(b"inbound_anomaly_score_threshold");
            let mut sum = 0;
            let reached = (1..=LEVELS).find(|level| {
                let names = ["inbound_anomaly_score_pl", "anomaly_score_pl"];
                let names = names.map(|name| format!("{name}{level}"));
                sum += names.iter().find_map(|name| transaction.variable(name.as_bytes())).unwrap_or(0);
                limit.is_some_and(|limit| sum >= limit)
            });
            // Rules without levels, or one that stops by itself.
            reached.or(transaction.interruption().map(|_| 1))
        });
        let matches = finding.into_iter().flat_map(|finding| finding.matches);
        let matches = matches.map(|found| LevelMatch { level: rules.level(found.rule), found });
        Shadowed { stopped_from: stopped_from.flatten(), matches: matches.take(MATCHES_MAX).collect() }
    }
}
