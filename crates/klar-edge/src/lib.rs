//! The edge: the process that reads strangers' bytes. TLS, limits, routes, static files, balancing, retries.
//!
//! It is one process for all apps of a host, with one thread for each core. It knows what the core told it last
//! ([`klar_base::upstreams`]), and goes on with that when the core is gone.
//!
//! A connection is from whom `front.rs` finds out (`proxy_protocol.rs`, and `forwarded.rs` for each request).
//!
//! A request passes through these files, in this order: `http1/` reads it from its connection and writes the answer
//! (`framing.rs` judges heads and `chunked.rs` chunks; `guard.rs` lets only well-framed bytes through to hyper, where a
//! WebSocket is asked for), or, for HTTP/2, `guard_http2.rs` ends connections that only cost (`frames.rs` follows
//! frames, `manners.rs` judges them), for HTTP/3 `http3/`, and `semantics.rs` judges requests; `handle.rs` finds the site
//! and the route (`table.rs`, and `mutual_tls.rs` for routes that want a certificate), `firewall/` judges it, `cache/` answers from what it
//! keeps, `forward.rs` sends the request to an instance, over and over where that is safe (`asking.rs` says it as an app
//! should get it, `upstream.rs` chooses, `pool.rs` keeps connections, `client/` speaks HTTP/1.1 over them),
//! `compress.rs` packs what comes back, or `files.rs` answers from a folder (`kept.rs` keeps what is small); `images/`
//! puts smaller images in place of large ones; `headers.rs` adds what a browser should know, and `story.rs` tells
//! `records.rs` what became of it. `explain.rs` goes the same way with a request that nobody makes, and `counters.rs`
//! counts for who looks. Most requests over HTTP/1.1 take a shorter way, `lane.rs`, past the same rules: they are written
//! over `fields.rs`.
//!
//! **Invariant:** a request never reaches an upstream that got weight 0 before it was picked: a lease is taken
//! first, then the weight is read (both `SeqCst`), and the control thread does it the other way round.
//! **Invariant:** nothing on the way of a request waits for the core, for a file on a network, or for a lock that
//! is held across a system call.

mod answer;
mod arrivals;
mod asking;
mod cache;
mod challenge;
mod chunked;
mod client;
mod compress;
mod control;
mod counters;
mod explain;
mod fields;
mod files;
mod firewall;
mod forward;
mod forwarded;
mod frames;
mod framing;
mod front;
mod guard;
mod guard_http2;
mod handle;
mod headers;
mod health;
mod http1;
mod http2;
mod http3;
mod images;
mod kept;
mod lane;
mod manners;
mod mutual_tls;
mod page;
mod pool;
mod proxy_protocol;
mod records;
mod scratch;
mod semantics;
mod serve;
mod story;
mod subject;
mod table;
mod tls;
mod tunnel;
mod upstream;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use thiserror::Error;

/// How to run an edge.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only a process of this user may be its core.
    pub core_uid: u32,
    /// The folders beneath which static files may be read.
    pub static_roots: Vec<PathBuf>,
    /// The folder of the cache on disk, which must be there and the edge's own. `None`: there is none.
    pub cache_folder: Option<PathBuf>,
    /// Threads that serve; `None` means one for each core.
    pub workers: Option<usize>,
    /// Names the file of the program that runs: see [`klar_base::upstreams::FromEdge::Hello`].
    pub program: String,
    /// Give up every right that serving does not need. Off only in tests that run inside another program.
    pub sandbox: bool,
}

/// Why an edge could not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EdgeError {
    /// Something that the kernel refused.
    #[error("the edge cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The sandbox could not be set up.
    #[error("the edge cannot lock itself in: {0}")]
    Sandbox(String),
}

impl EdgeError {
    fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// How long requests may take to finish when nobody says so.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves until a core says stop, or SIGTERM or SIGINT comes.
///
/// `control` is a listening Unix socket; a core connects to it, and after it died the next one does.
///
/// # Errors
/// When a thread cannot be started or the sandbox cannot be closed.
pub fn run(control: OwnedFd, options: Options) -> Result<(), EdgeError> {
    use nix::sys::signal::{SigSet, Signal};
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    if options.sandbox {
        // Before the first thread: they all inherit it.
        signals
            .thread_block()
            .map_err(io::Error::from)
            .map_err(EdgeError::system("take charge of its signals"))?;
    }
    // Before the sandbox closes: afterwards no file can be opened or made. A cache that is smaller is better than no edge.
    let cache = cache::Cache::open(options.cache_folder.as_deref()).or_else(|error| {
        eprintln!("edge: the cache on disk is off: {error}");
        cache::Cache::open(None)
    });
    let cache = cache.map_err(EdgeError::system("make its cache"))?;
    let sandbox = if options.sandbox {
        lock_in(&options.static_roots)?
    } else {
        vec!["off: this edge runs inside another program".to_owned()]
    };

    let (shared, notes) = table::Shared::with(cache);
    shared.cache.start().map_err(EdgeError::system("start the threads of its cache"))?;
    let count =
        options.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let mut workers = Vec::with_capacity(count);
    for number in 0..count {
        workers
            .push(serve::Worker::start(number, shared.clone()).map_err(EdgeError::system("start a worker"))?);
    }
    let (stop, stopped) = mpsc::channel();
    if options.sandbox {
        let stop = stop.clone();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                if signals.wait().is_ok() {
                    // The main thread is gone only when the process is.
                    let _ = stop.send(serve::End::Stop(PATIENCE));
                }
            })
            .map_err(EdgeError::system("start its signal thread"))?;
    }
    let orders = workers.iter().map(serve::Worker::orders).collect();
    let own = control::Own { sandbox, program: options.program, core_uid: options.core_uid };
    let link = Arc::new(control::Link::new(shared.clone(), orders, own, stop));
    link.clone().start(control.into(), notes).map_err(EdgeError::system("start its control thread"))?;
    end(&workers, &stopped);
    for worker in workers {
        worker.join();
    }
    shared.cache.close();
    link.flush();
    Ok(())
}

/// Gives up everything but this: it may serve sockets that it was given, connect to apps, and read beneath the folders of
/// releases. It may not start programs, open or make other files, bind ports, trace, load modules or become somebody
/// else. The files of its cache were opened before: it reads, writes and empties them, and cannot open, make, rename or
/// remove any.
fn lock_in(static_roots: &[PathBuf]) -> Result<Vec<String>, EdgeError> {
    let kept = klar_sandbox::Kept { read: static_roots, write: &[], calls: &[klar_sandbox::SERVING] };
    klar_sandbox::close(&kept, "files read only beneath releases")
        .map_err(|error| EdgeError::Sandbox(error.to_string()))
}

/// Waits until it is told to end, and then until all workers have. One that drains may still be told to stop.
fn end(workers: &[serve::Worker], told: &mpsc::Receiver<serve::End>) {
    /// How often the workers are looked at while they end.
    const LOOK: Duration = Duration::from_millis(20);
    let mut how = told.recv().unwrap_or(serve::End::Stop(PATIENCE));
    loop {
        workers.iter().for_each(|worker| worker.end(how));
        how = loop {
            if workers.iter().all(serve::Worker::has_ended) {
                return;
            }
            if let Ok(again) = told.recv_timeout(LOOK) {
                break again;
            }
        };
    }
}
