//! The word that a worker stops, as one connection hears it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::sync::watch;

/// Each connection listens for this all the time, and it is said once in the life of a worker. So who has left word of
/// whom to wake does not do so again.
pub struct Word {
    stop: watch::Receiver<bool>,
    /// `None`: it was said.
    waits: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Who will be woken.
    waker: Option<Waker>,
}

impl Word {
    /// Not heard yet.
    pub fn new(stop: &watch::Receiver<bool>) -> Self {
        let mut ear = stop.clone();
        // Who says it is gone only when everything is. What the wait gives is a lock. A task that has done a lot is told
        // to wait without its word being taken, which must not happen here.
        let waits = tokio::task::unconstrained(async move { drop(ear.wait_for(|stop| *stop).await) });
        Self { stop: stop.clone(), waits: Some(Box::pin(waits)), waker: None }
    }

    /// Ready when it was said.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(waits) = &mut self.waits else { return Poll::Ready(()) };
        let is_known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_known && !*self.stop.borrow() {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        ready!(waits.as_mut().poll(cx));
        (self.waits, self.waker) = (None, None);
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_is_heard_once_it_is_said_and_ever_after() {
        let (say, stop) = watch::channel(false);
        let mut word = Word::new(&stop);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(word.poll(&mut cx).is_pending() && word.poll(&mut cx).is_pending());
        let said = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            say.send_replace(true);
        };
        tokio::join!(std::future::poll_fn(|cx| word.poll(cx)), said);
        assert!(word.poll(&mut cx).is_ready());
    }
}
