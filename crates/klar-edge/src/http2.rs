//! HTTP/2 with visitors: how the HTTP library is set up, and the clock of an answer that its visitor does not take.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::framing::HEADERS_MAX;
use crate::guard::{Clock, Clocks};
use crate::guard_http2::{Http2Guard, Jams};
use crate::handle::Visit;
use crate::http1::body::VisitorBody;
use crate::manners::FRAME_MAX;
use crate::semantics;

/// Streams that a visitor may have open at once: what RFC 9113 section 6.5.2 asks for at least.
const STREAMS: u32 = 100;
/// How much of a body may be on its way before the app has read it: of one stream, and of a connection. What the
/// edge keeps of bodies for one connection is at most the latter.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// How much of an answer is kept for a visitor that has yet to take it, for each stream.
const SEND_BUFFER: usize = 64 << 10;
/// Streams that were reset before the edge saw them: more end the connection (CVE-2023-44487).
const RESET_UNSEEN: usize = 50;
/// Streams that were reset because what they brought is malformed: more end the connection (RUSTSEC-2024-0003).
const RESET_MALFORMED: usize = 100;
/// What SETTINGS_MAX_HEADER_LIST_SIZE counts for each field beside its bytes (RFC 9113 section 6.5.2).
const FIELD: usize = 32;

/// Serves a connection that has agreed on `h2`, until it ends or `stop` is set and its streams have ended.
///
/// `visit` is what its requests are told of it, but for [`Visit::heads`].
pub async fn serve<S>(stream: S, clocks: Clocks, visit: Visit, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let guard = Http2Guard::new(stream, clocks);
    let visit = Rc::new(Visit { heads: guard.heads(), ..visit });
    let streams = Streams { next: Rc::default(), jams: guard.jams(), stall: clocks.stall };
    let next = streams.next.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (visit, taken) = (visit.clone(), Taken::default());
        *next.borrow_mut() = Some(taken.clone());
        async move {
            let note = semantics::judge(&mut request);
            let answer = visit.answer_to(note, request.map(VisitorBody::from)).await;
            Ok::<_, Infallible>(answer.map(|body| body.note_taken(taken)))
        }
    });
    // A longer head than the limit, in the counting of HTTP/2, is refused by the library with 431; the exact limit
    // is kept where those of the app are known.
    let head = u32::try_from(clocks.head_bytes + FIELD * HEADERS_MAX).unwrap_or(u32::MAX);
    let connection = http2::Builder::new(streams)
        .max_concurrent_streams(STREAMS)
        .max_frame_size(FRAME_MAX)
        .max_header_list_size(head)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .max_local_error_reset_streams(RESET_MALFORMED)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(guard), service);
    let mut connection = pin!(connection);
    // What the wait gives is a lock: kept for as long as the connection ends, it would stop whoever says so again.
    let told = async { drop(stop.wait_for(|stop| *stop).await) };
    // How a connection ends is in the records of its requests.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = told => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// How a body tells that a piece of it was handed out, and that the next one is asked for.
#[derive(Debug, Clone, Default)]
pub struct Taken(Rc<Cell<Handed>>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Handed {
    pieces: u64,
    /// The last piece has yet to be taken.
    waits: bool,
}

impl Taken {
    /// The next piece is asked for.
    pub fn asked(&self) {
        self.0.set(Handed { waits: false, ..self.0.get() });
    }

    /// A piece was handed out.
    pub fn handed(&self) {
        self.0.set(Handed { pieces: self.0.get().pieces + 1, waits: true });
    }
}

/// Runs the streams of a connection.
#[derive(Debug, Clone)]
struct Streams {
    /// Of the stream that is about to run: the library asks the service first, and then for this.
    next: Rc<RefCell<Option<Taken>>>,
    jams: Jams,
    stall: Duration,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, future: F) {
        let taken = self.next.take().unwrap_or_default();
        tokio::task::spawn_local(Paced {
            future: Box::pin(future),
            taken,
            jams: self.jams.clone(),
            stall: self.stall,
            clock: Clock::default(),
            last: (Handed::default(), 0),
        });
    }
}

/// A stream, for as long as its visitor takes what it is sent. Dropped, it is reset.
struct Paced<F> {
    future: Pin<Box<F>>,
    taken: Taken,
    jams: Jams,
    stall: Duration,
    clock: Clock,
    last: (Handed, u64),
}

impl<F: Future<Output = ()>> Future for Paced<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let handed = this.taken.0.get();
            let now = (handed, this.jams.get());
            // While the network is what is slow, the clock of the connection runs, and this one does not.
            if !handed.waits || now != this.last {
                this.clock.stop();
                this.last = now;
            }
            if !handed.waits || this.clock.poll(cx, this.stall, None).is_pending() {
                return Poll::Pending;
            }
            if this.jams.get() == now.1 {
                return Poll::Ready(());
            }
        }
    }
}
