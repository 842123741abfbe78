//! The one timer of a connection, and of who forwards a request.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

/// Goes off at a moment that may change with every request.
///
/// To move a timer costs more than to look at the clock, and most moments that are set are moved before they come. So
/// the timer stands still while the moment moves away, and looks again when it has run down.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// What comes of `future`, unless `moment` comes first.
    pub async fn before<T>(&mut self, moment: Instant, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll(cx, moment).map(|()| None),
        })
        .await
    }

    /// Ready when `moment` has come.
    pub fn poll(&mut self, cx: &mut Context<'_>, moment: Instant) -> Poll<()> {
        let end = moment.into();
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        if sleep.deadline() > end {
            sleep.as_mut().reset(end);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if tokio::time::Instant::now() >= end {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(end);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_late_is_left() {
        let mut alarm = Alarm::default();
        // The second has less time than the timer was set for.
        let in_ms = |ms| Instant::now() + Duration::from_millis(ms);
        assert_eq!(alarm.before(in_ms(60_000), async { 1 }).await, Some(1));
        assert_eq!(alarm.before(in_ms(60_000), tokio::time::sleep(Duration::from_millis(1))).await, Some(()));
        assert_eq!(alarm.before(in_ms(20), std::future::pending::<()>()).await, None);
        assert_eq!(alarm.before(in_ms(60_000), tokio::task::yield_now()).await, Some(()));
    }

    /// In real time: a paused clock needs a feature of tokio that nothing else does.
    #[tokio::test]
    async fn it_goes_off_at_the_last_moment_that_was_set() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for (moments, end) in [(&[40][..], 40), (&[20, 60], 60), (&[60_000, 20], 20), (&[20, 60_000, 80], 80)]
        {
            let mut alarm = Alarm::default();
            let mut set = moments.iter();
            let mut moment = at(0);
            std::future::poll_fn(|cx| {
                // Each moment is set before the one before it has come.
                for &next in set.by_ref() {
                    moment = at(next);
                    if next != end {
                        assert!(alarm.poll(cx, moment).is_pending() || Instant::now() >= moment);
                    }
                }
                alarm.poll(cx, moment)
            })
            .await;
            assert!(Instant::now() >= at(end), "{moments:?}");
        }
    }
}
