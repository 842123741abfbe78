//! When to ask for a certificate, which one to serve, and when to raise the alarm.
//!
//! All of it is a function of times that are handed in, in seconds since the Unix epoch: a clock that was wrong
//! yesterday must do no more harm than one request too many, or one too late by [`PAUSE_MAX`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::x509::Facts;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// After the first failure. Public authorities forgive five failures of a name in an hour.
const PAUSE_FIRST: i64 = 15 * 60;
/// After many failures; also the longest that an authority's `Retry-After` is believed.
pub const PAUSE_MAX: i64 = DAY;
/// While the certificate ends within two days, or has ended.
const PAUSE_MAX_URGENT: i64 = 2 * HOUR;

/// What has gone wrong for a name since its newest certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// In a row.
    pub count: u32,
    /// When the newest one happened.
    pub last: i64,
    /// Not before then, because the authority says so (`Retry-After`).
    #[serde(default)]
    pub told: Option<i64>,
}

impl Failures {
    /// One more. `retry_after` is what the authority asked for.
    pub fn add(&mut self, now: i64, retry_after: Option<Duration>) {
        self.count = self.count.saturating_add(1);
        self.last = now;
        self.told = retry_after.map(|pause| {
            now.saturating_add(i64::try_from(pause.as_secs()).unwrap_or(PAUSE_MAX).min(PAUSE_MAX))
        });
    }

    /// When it may be tried again: later and later, spread out by `jitter` (0 to 1), never before the authority
    /// said so.
    fn over(&self, urgent: bool, jitter: f64) -> i64 {
        if self.count == 0 {
            return i64::MIN;
        }
        let ceiling = if urgent { PAUSE_MAX_URGENT } else { PAUSE_MAX };
        let pause = PAUSE_FIRST.saturating_mul(1 << (self.count - 1).min(16)).min(ceiling);
        // Between half and all of it.
        let pause = pause / 2 + (pause as f64 / 2.0 * jitter.clamp(0.0, 1.0)) as i64;
        self.last.saturating_add(pause).max(self.told.unwrap_or(i64::MIN))
    }
}

/// When the authority would like a certificate to be renewed (RFC 9773): a window, in seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its start.
    pub start: i64,
    /// Its end.
    pub end: i64,
}

/// When a certificate is renewed if nothing goes wrong: when a third of its life is left, a little earlier for some
/// than for others, so that not all of a machine fall due together. A window of the authority wins, as long as it
/// leaves a tenth of the life. `jitter` is between 0 and 1 and stays the same for a certificate.
pub fn renewal(facts: &Facts, window: Option<Window>, jitter: f64) -> i64 {
    let (life, jitter) = (facts.lifetime(), jitter.clamp(0.0, 1.0));
    let spread = |length: i64| (length.max(0) as f64 * jitter) as i64;
    match window {
        Some(window) if window.start < window.end => {
            let within = window.start.saturating_add(spread(window.end.saturating_sub(window.start)));
            within.min(facts.not_after - life / 10)
        }
        _ => facts.not_after - life / 3 - spread(life / 20),
    }
}

/// When to ask: now, or at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Ask now.
    Now,
    /// Look again then.
    At(i64),
}

/// When to ask for a certificate. `renewal` is the time from [`renewal`], `None` when there is no certificate.
pub fn due(newest: Option<&Facts>, renewal: Option<i64>, failures: &Failures, now: i64, jitter: f64) -> Due {
    let wanted = renewal.unwrap_or(i64::MIN);
    let urgent = newest.is_some_and(|facts| facts.not_after - now < 2 * DAY);
    let over = failures.over(urgent, jitter);
    // A failure in the future was noted by a clock that was wrong.
    let over = if over > now.saturating_add(PAUSE_MAX) { i64::MIN } else { over };
    match wanted.max(over) {
        at if at <= now => Due::Now,
        at => Due::At(at),
    }
}

/// Whether a certificate that has just been signed is good now and need not be renewed at once. If not, this machine's
/// clock is wrong, or the authority's: then the next one would be no better, and asking goes on as after a failure.
pub fn is_settled(facts: &Facts, now: i64) -> bool {
    facts.is_valid(now) && renewal(facts, None, 1.0) > now
}

/// Which of several certificates to serve: of those that are good now, the one that ends last; when none is, the one
/// that ends last of all. That one may well be good by the clocks of the visitors: this machine's may be wrong.
pub fn best<T>(kept: &[T], facts: impl Fn(&T) -> &Facts, now: i64) -> Option<&T> {
    kept.iter().max_by_key(|one| (facts(one).is_valid(now), facts(one).not_after))
}

/// How loud to be about a certificate that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alarm {
    /// Within 14 days, or a quarter of its life where that is shorter: it should have been renewed.
    Soon,
    /// Within half of that.
    Urgent,
    /// Within a seventh of it: two days of a long life.
    Critical,
    /// Over.
    Expired,
}

/// The alarm for a certificate.
pub fn alarm(facts: &Facts, now: i64) -> Option<Alarm> {
    let soon = (14 * DAY).min(facts.lifetime() / 4);
    let left = facts.not_after - now;
    match left {
        left if left <= 0 => Some(Alarm::Expired),
        left if left <= soon / 7 => Some(Alarm::Critical),
        left if left <= soon / 2 => Some(Alarm::Urgent),
        left if left <= soon => Some(Alarm::Soon),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: i64 = 1_800_000_000;

    fn facts(from_days: i64, to_days: i64) -> Facts {
        Facts {
            not_before: T0 + from_days * DAY,
            not_after: T0 + to_days * DAY,
            issuer: "x".into(),
            names: Vec::new(),
            serial: Vec::new(),
            authority_key: None,
        }
    }

    fn failed(count: u32, last: i64, told: Option<i64>) -> Failures {
        Failures { count, last, told }
    }

    #[test]
    fn renewal_is_due_with_a_third_of_the_life_left() {
        let window = |start: i64, end: i64| Some(Window { start: T0 + start * DAY, end: T0 + end * DAY });
        for (life, window, jitter, day) in [
            (90, None, 0.0, 60.0),
            (90, None, 1.0, 55.5),
            (6, None, 0.0, 4.0),
            (90, window(40, 42), 0.0, 40.0),
            (90, window(40, 42), 0.5, 41.0),
            // Already past: at once.
            (90, window(-2, -1), 0.5, -1.5),
            // Later than is safe.
            (90, window(89, 95), 1.0, 81.0),
            // No window at all.
            (90, window(42, 40), 0.0, 60.0),
        ] {
            let at = renewal(&facts(0, life), window, jitter);
            assert_eq!((at - T0) as f64 / DAY as f64, day, "{life} {window:?} {jitter}");
        }
    }

    #[test]
    fn when_to_ask() {
        let (kept, none) = (facts(0, 90), None);
        let at = |seconds: i64| Due::At(T0 + seconds);
        let day = |day: i64| day * DAY;
        let no = Failures::default();
        for (what, newest, failures, now, wanted) in [
            ("nothing yet", none, no.clone(), 0, Due::Now),
            ("new", Some(&kept), no.clone(), day(1), at(day(60))),
            ("two thirds are over", Some(&kept), no.clone(), day(60), Due::Now),
            ("it has ended", Some(&kept), no.clone(), day(100), Due::Now),
            ("the first failure", none, failed(1, T0, None), 0, at(900)),
            ("pause over", none, failed(1, T0, None), 900, Due::Now),
            ("the third failure", none, failed(3, T0, None), 0, at(3600)),
            ("many failures", none, failed(40, T0, None), 0, at(day(1))),
            (
                "many, and it ends tomorrow",
                Some(&kept),
                failed(40, T0 + day(89), None),
                day(89),
                at(day(89) + 7200),
            ),
            ("the authority wants more", none, failed(1, T0, Some(T0 + 5000)), 1000, at(5000)),
            ("the authority wants less than the pause", none, failed(3, T0, Some(T0 + 60)), 60, at(3600)),
            ("renewal failed", Some(&kept), failed(1, T0 + day(60), None), day(60), at(day(60) + 900)),
            // Clocks.
            ("forwards: it seems to have ended", Some(&kept), no.clone(), day(4000), Due::Now),
            (
                "forwards: a failure then blocks nothing now",
                none,
                failed(2, T0 + day(4000), None),
                0,
                Due::Now,
            ),
            ("backwards by an hour: at most a longer pause", none, failed(1, T0 + 3600, None), 0, at(4500)),
            ("backwards before it began: kept", Some(&kept), no.clone(), day(-400), at(day(60))),
            ("told by a clock far ahead", none, failed(1, T0, Some(T0 + day(300))), 0, Due::Now),
        ] {
            let renewal = newest.map(|facts| renewal(facts, None, 0.0));
            assert_eq!(due(newest, renewal, &failures, T0 + now, 1.0), wanted, "{what}");
        }
        assert_eq!(
            due(None, None, &failed(1, T0, None), T0, 0.0),
            Due::At(T0 + 450),
            "jitter halves a pause at most"
        );
    }

    #[test]
    fn a_new_certificate_tells_a_wrong_clock() {
        for (what, now, settled) in [
            ("just signed", 0, true),
            ("half over already", 45, true),
            ("forwards: it has ended", 4000, false),
            ("forwards: to be renewed", 70, false),
            ("backwards: it has not begun", -1, false),
        ] {
            assert_eq!(is_settled(&facts(0, 90), T0 + now * DAY), settled, "{what}");
        }
    }

    #[test]
    fn what_an_authority_asks_for_has_a_limit() {
        let mut failures = Failures::default();
        failures.add(T0, Some(Duration::from_secs(u64::MAX)));
        assert_eq!(failures, failed(1, T0, Some(T0 + DAY)));
        failures.add(T0 + 5, None);
        assert_eq!(failures, failed(2, T0 + 5, None));
    }

    #[test]
    fn an_expired_one_is_never_served_while_another_is_good() {
        for (kept, now, wanted) in [
            (&[][..], 0, None),
            (&[(0, 90)][..], 10, Some(0)),
            (&[(60, 150), (0, 90)], 70, Some(0)),
            // The newer one is shorter and has ended: the older one is still good.
            (&[(60, 66), (0, 90)], 70, Some(1)),
            (&[(0, 90), (60, 150)], 100, Some(1)),
            // None is good: by the clocks of the visitors the newest may be.
            (&[(60, 150), (0, 90)], 4000, Some(0)),
            (&[(60, 150), (0, 90)], -300, Some(0)),
            // Not begun: the older one is good now.
            (&[(60, 150), (0, 90)], 50, Some(1)),
        ] {
            let all: Vec<Facts> = kept.iter().map(|(from, to)| facts(*from, *to)).collect();
            let chosen = best(&all, |facts| facts, T0 + now * DAY);
            let chosen = chosen.and_then(|chosen| all.iter().position(|one| one == chosen));
            assert_eq!(chosen, wanted, "{kept:?} on day {now}");
        }
    }

    #[test]
    fn alarms_get_louder() {
        for (life, left, wanted) in [
            (90, 60 * DAY, None),
            (90, 15 * DAY, None),
            (90, 14 * DAY, Some(Alarm::Soon)),
            (90, 7 * DAY, Some(Alarm::Urgent)),
            (90, 2 * DAY, Some(Alarm::Critical)),
            (90, 0, Some(Alarm::Expired)),
            (90, -1, Some(Alarm::Expired)),
            (6, 2 * DAY, None),
            (6, DAY, Some(Alarm::Soon)),
            (6, 12 * HOUR, Some(Alarm::Urgent)),
            (6, 5 * HOUR, Some(Alarm::Critical)),
        ] {
            let facts = facts(0, life);
            assert_eq!(alarm(&facts, facts.not_after - left), wanted, "{life} days, {left} s left");
        }
    }
}
