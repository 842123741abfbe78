//! The processes that convert images, each for one edge.
//!
//! An edge may not start programs, so it asks. It gets one end of a socket, the process the other, and from there on the
//! two have nothing to do with the core: the process ends when its edge closes that socket or is gone. The core reads
//! nothing of it, and starts no more of them than can be of use, whatever an edge asks for.

use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use super::Core;
use crate::spawn::{self, Answer, Request, Spawn, users::Identity};

/// The most that run at once, over all edges.
const PROCESSES_MAX: usize = 8;

impl Core {
    /// Starts a process for the edge at the end of `connection`, or tells it that there is none.
    pub(super) async fn serve_images(self: Rc<Self>, connection: u64) {
        let started = self.start_images().await;
        if let Err(error) = &started {
            eprintln!("klar core: no process for images could be started: {error}");
        }
        let told = self.edge.borrow().give_images(connection, started.ok().as_ref());
        if let Err(error) = told {
            // It will ask again, or another edge will.
            eprintln!("klar core: the edge could not be given its process for images: {error}");
        }
    }

    async fn start_images(&self) -> io::Result<UnixStream> {
        self.images.borrow_mut().retain(|(pid, started)| spawn::started_ticks(*pid) == Some(*started));
        if self.images.borrow().len() >= PROCESSES_MAX {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, format!("{PROCESSES_MAX} run already")));
        }
        let (here, there) = UnixStream::pair()?;
        let args = vec!["images".into()];
        let spawn = Spawn { args, identity: Identity::Images, limits: None, private_tmp: None };
        let (answer, _) = self.spawner.ask(Request::Spawn(spawn), vec![there.into()]).await?;
        let Answer::Spawned { pid, started_ticks } = answer else {
            return Err(io::Error::other("the spawner did something else"));
        };
        self.images.borrow_mut().push((pid, started_ticks));
        Ok(here)
    }
}
