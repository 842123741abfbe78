//! Telling whoever asked what is going on. Nobody has to listen.

use std::time::Instant;

use tokio::sync::mpsc;

use super::state::millis;
use crate::report::{Event, Failure, Receipt};

/// The sending side of an operation's events.
#[derive(Debug, Clone)]
pub struct Progress(mpsc::Sender<Event>);

impl Progress {
    /// A channel for one operation.
    pub fn channel() -> (Self, mpsc::Receiver<Event>) {
        const ROOM: usize = 1024;
        let (sender, receiver) = mpsc::channel(ROOM);
        (Self(sender), receiver)
    }

    fn tell(&self, event: Event) {
        // A listener that has gone away, or does not keep up, must not hold up a deploy.
        let _ = self.0.try_send(event);
    }

    /// Begins a step; ending it is up to the value that comes back.
    pub fn step(&self, step: &str, detail: impl Into<String>) -> Step<'_> {
        self.tell(Event::Begin { step: step.into(), detail: detail.into() });
        Step { progress: self, step: step.into(), started: Instant::now() }
    }

    /// Something that klar decided or noticed.
    pub fn note(&self, text: impl Into<String>) {
        self.tell(Event::Note { text: text.into() });
    }

    /// A line that a build printed.
    pub fn output(&self, line: impl Into<String>) {
        self.tell(Event::Output { line: line.into() });
    }

    /// The end of it. The last event is never dropped.
    pub async fn finish(&self, result: Result<Receipt, Failure>) {
        let event = match result {
            Ok(receipt) => Event::Done(Box::new(receipt)),
            Err(failure) => Event::Failed(failure),
        };
        let _ = self.0.send(event).await;
    }
}

/// A step that has begun.
#[derive(Debug)]
pub struct Step<'a> {
    progress: &'a Progress,
    step: String,
    started: Instant,
}

impl Step<'_> {
    /// Ends it.
    pub fn end(self, detail: impl Into<String>) {
        let duration_ms = millis(self.started.elapsed());
        self.progress.tell(Event::End { step: self.step, detail: detail.into(), duration_ms });
    }
}
