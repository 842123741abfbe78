//! Another edge takes over: started beside the one that serves, told everything, given the same sockets, and only
//! then is the old one told to drain. Whatever fails on the way, the old one serves on as if nothing had been tried.

use std::rc::Rc;
use std::time::Duration;

use super::Core;
use crate::report::Failure;

/// How long the new edge may take for each step.
const PATIENCE: Duration = Duration::from_secs(15);

impl Core {
    /// Replaces an edge that runs from another program than this core: after an upgrade, or when klar was started anew
    /// from a newer program. One that does not come up is not tried again by the same core.
    pub(super) fn keep_edge_current(self: &Rc<Self>) {
        let idle = !self.replacing.get() && !self.finishing.get() && self.leaving.get().is_none();
        if !idle || self.edge_trouble.borrow().is_some() || !self.edge.borrow().is_outdated() {
            return;
        }
        self.replacing.set(true);
        let core = self.clone();
        tokio::task::spawn_local(async move {
            let result = core.replace_edge().await;
            core.replacing.set(false);
            if let Err(failure) = result {
                eprintln!("klar core: the edge stays what it was: {failure}");
                *core.edge_trouble.borrow_mut() = Some(failure.what.clone());
                core.upgrade_failed(&failure);
            }
            core.changed();
        });
    }

    async fn replace_edge(self: &Rc<Self>) -> Result<(), Failure> {
        let started = self.edge.borrow_mut().start_next();
        let number = started.map_err(|error| failure(format!("it could not be started: {error}")))?;
        match self.bring_in(number).await {
            Ok(()) => {
                self.edge.borrow_mut().promote();
                // Sockets that were bound meanwhile.
                self.keep_edge();
                Ok(())
            }
            Err(failure) => {
                // It may have accepted somebody, who is served to the end.
                self.edge.borrow_mut().drop_next();
                Err(failure)
            }
        }
    }

    /// Tells the new edge everything, and then gives it the sockets.
    async fn bring_in(self: &Rc<Self>, number: u64) -> Result<(), Failure> {
        self.edge.borrow_mut().forget_published();
        self.publish();
        let generation = self.generation.get();
        let knows = self.wait_for(PATIENCE, |core| {
            let edge = core.edge_now();
            let Some(next) = edge.others.get(&number) else {
                return Some(Err(failure("it ended before it served".into())));
            };
            match &next.rejected {
                Some((refused, reason)) if *refused >= generation => {
                    Some(Err(failure(format!("it refused its settings: {reason}"))))
                }
                _ => (next.applied >= generation).then_some(Ok(())),
            }
        });
        knows.await.unwrap_or_else(|| Err(late("take its settings")))?;

        let opened = self.edge.borrow().open_next();
        opened.map_err(|error| failure(format!("it could not be given the sockets: {error}")))?;
        let accepts = self.wait_for(PATIENCE, |core| {
            let edge = core.edge_now();
            let Some(next) = edge.others.get(&number) else {
                return Some(Err(failure("it ended when it got the sockets".into())));
            };
            match next.listening.as_ref()? {
                (_, failed) if !failed.is_empty() => {
                    Some(Err(failure(format!("it cannot serve {}", failed.join(", ")))))
                }
                (count, _) => (*count >= core.edge.borrow().listener_count()).then_some(Ok(())),
            }
        });
        accepts.await.unwrap_or_else(|| Err(late("serve the sockets")))
    }
}

fn failure(why: String) -> Failure {
    Failure::new(format!("the new edge did not come up: {why}"))
        .hint("look at what it says in `logs/klar.log` of the state folder (`klar doctor` names it)")
}

fn late(what: &str) -> Failure {
    failure(format!("it did not {what} within {} s", PATIENCE.as_secs()))
}
