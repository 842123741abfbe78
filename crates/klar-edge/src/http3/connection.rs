//! One connection of HTTP/3: its requests, its clocks, and how it ends.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h3::error::Code;
use h3::server::{RequestResolver, RequestStream};
use http::header::{self, HeaderMap};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use quinn::VarInt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::body::Body;
use super::transport::{self, Gone, Send};
use crate::answer::OutBody;
use crate::framing::{HEADERS_MAX, Refusal, decimal};
use crate::guard::Clocks;
use crate::handle::Visit;
use crate::http1::body::VisitorBody;
use crate::http1::date;
use crate::semantics;

/// What SETTINGS_MAX_FIELD_SECTION_SIZE counts for each field beside its bytes (RFC 9114 section 4.2.2).
const FIELD: u64 = 32;
/// The longest head that is decoded at all, whatever the limits say: the HTTP library takes no more fields than fit.
const SECTION_MAX: u64 = 512 << 10;
/// What is handed to the network at once, so that a slow visitor makes progress that can be seen.
const PIECE: usize = 16 << 10;
/// Requests that a visitor took back before they were answered, more than were answered: more end the connection (what
/// CVE-2023-44487 is in HTTP/2).
const TAKEN_BACK: u32 = 100;
/// After so many requests a connection ends, in order: the HTTP library forgets no request that had no head.
const REQUESTS_MAX: u64 = 10_000;
/// Between the warning that a connection ends and the last request that it takes (RFC 9114 section 5.2): longer than
/// one is on its way.
const WARNING: Duration = Duration::from_millis(500);
/// How far ahead the warning lies: no visitor has so many requests on their way.
const AHEAD: usize = 1 << 20;

type Http3 = h3::server::Connection<transport::Connection, Bytes>;

/// Serves a connection until it ends, or until `drain` is set and its requests are answered.
pub async fn serve(
    connection: quinn::Connection,
    clocks: Clocks,
    visit: Visit,
    mut drain: watch::Receiver<bool>,
) {
    let shared = transport::Shared::default();
    // A head over the limit is answered as any other; the library answers what is over twice that, and what is longer
    // still ends the connection.
    let section = (clocks.head_bytes as u64 * 2 + FIELD * HEADERS_MAX as u64).min(SECTION_MAX);
    let transport = transport::Connection::new(connection.clone(), shared.clone(), section * 2);
    let mut builder = h3::server::builder();
    builder.max_field_section_size(section).send_grease(false);
    let Ok(Ok(mut http)) = timeout(clocks.head, builder.build(transport)).await else { return };

    let stream = Rc::new(Stream { visit, clocks, shared: shared.clone(), taken_back: Cell::new(0) });
    let mut open = JoinSet::new();
    let mut idle_since = Instant::now();
    let mut taken = 0;
    let mut ending = Ending::No;
    loop {
        tokio::select! {
            next = http.accept() => match next {
                Ok(Some(resolver)) => {
                    taken += 1;
                    let gone = shared.gone();
                    open.spawn_local(stream.clone().answer(resolver, gone));
                    if taken == REQUESTS_MAX {
                        ending.begin(&mut http, &shared, taken).await;
                    }
                }
                // The visitor ends it, or it is gone.
                Ok(None) | Err(_) => break,
            },
            Some(_) = open.join_next() => {
                idle_since = Instant::now();
                if stream.taken_back.get() > TAKEN_BACK {
                    let code = VarInt::from_u32(Code::H3_EXCESSIVE_LOAD.value() as u32);
                    return connection.close(code, b"requests are taken back");
                }
            }
            // What the wait gives is a lock.
            () = async { drop(drain.wait_for(|drain| *drain).await) }, if matches!(ending, Ending::No) => {
                ending.begin(&mut http, &shared, taken).await;
            }
            () = ending.warned() => ending.close(&mut http, &shared, taken).await,
            () = tokio::time::sleep_until(idle_since + clocks.idle), if open.is_empty() => break,
        }
        if matches!(ending, Ending::Closed) && open.is_empty() {
            break;
        }
    }
    // What a visitor has been told in full is waited for by each stream, so nothing is cut here.
    while open.join_next().await.is_some() {}
    drop(http);
}

/// How far the end of a connection has come.
enum Ending {
    No,
    /// It is told that it will end, and may still ask.
    Warned(Instant),
    /// What it asks now is given back.
    Closed,
}

impl Ending {
    async fn begin(&mut self, http: &mut Http3, shared: &transport::Shared, taken: u64) {
        match self {
            // The library warns of nothing before the first request: it ends there and then.
            Self::No if taken == 0 => self.close(http, shared, taken).await,
            Self::No => {
                tell(http, AHEAD).await;
                *self = Self::Warned(Instant::now() + WARNING);
            }
            Self::Warned(_) | Self::Closed => {}
        }
    }

    /// Waits until the warning has had its time.
    async fn warned(&self) {
        match self {
            Self::Warned(until) => tokio::time::sleep_until(*until).await,
            Self::No | Self::Closed => std::future::pending().await,
        }
    }

    /// `taken`: requests that were accepted. Those of a visitor are numbered 0, 4, 8 and so on, and accepted in turn.
    async fn close(&mut self, http: &mut Http3, shared: &transport::Shared, taken: u64) {
        shared.close_from(taken * 4);
        // The library names the one after the last that it accepted; before the first it names that one.
        tell(http, 1).await;
        *self = Self::Closed;
    }
}

/// Says which request is the last one. A visitor that does not let that be said is not waited for.
async fn tell(http: &mut Http3, ahead: usize) {
    let _ = timeout(WARNING, http.shutdown(ahead)).await;
}

/// What the streams of a connection share.
struct Stream {
    visit: Visit,
    clocks: Clocks,
    shared: transport::Shared,
    taken_back: Cell<u32>,
}

impl Stream {
    async fn answer(
        self: Rc<Self>,
        resolver: RequestResolver<transport::Connection, Bytes>,
        gone: Option<Gone>,
    ) {
        let mut gone = gone.unwrap_or_else(|| Box::pin(std::future::pending()));
        // What is malformed in itself is reset by the library.
        let Ok(Ok((request, stream))) = timeout(self.clocks.head, resolver.resolve_request()).await else {
            return self.took_back();
        };
        let (mut send, receive) = stream.split();
        let answer = {
            let mut answer = pin!(self.ask(request, receive));
            tokio::select! {
                biased;
                answer = &mut answer => answer,
                () = gone.as_mut() => return self.took_back(),
            }
        };
        self.taken_back.set(self.taken_back.get().saturating_sub(1));
        if self.send(&mut send, answer).await.is_some() && send.finish().await.is_ok() {
            // Closed before its visitor has all of it, a connection would take the rest back.
            let _ = timeout(self.clocks.stall, gone).await;
        }
    }

    fn took_back(&self) {
        self.taken_back.set(self.taken_back.get() + 1);
    }

    async fn ask(
        &self,
        mut request: Request<()>,
        receive: RequestStream<transport::Receive, Bytes>,
    ) -> Response<OutBody> {
        let mut note = semantics::judge(&mut request);
        if note.length > self.clocks.head_bytes {
            note.refusal = note.refusal.or(Some(Refusal::Large));
        }
        let length =
            request.headers().get(header::CONTENT_LENGTH).and_then(|value| decimal(value.as_bytes()));
        let body = Body::new(receive, length).await;
        let body = if body.is_over() { VisitorBody::EMPTY } else { VisitorBody::Http3(Box::new(body)) };
        self.visit.answer_to(note, request.map(|()| body)).await
    }

    /// Sends an answer but for its end; `None` when it broke off, or its visitor does not take it.
    async fn send(&self, send: &mut RequestStream<Send, Bytes>, answer: Response<OutBody>) -> Option<()> {
        let (mut head, mut body) = answer.into_parts();
        finish(&mut head.headers, &body);
        self.while_it_moves(send.send_response(Response::from_parts(head, ()))).await?.ok()?;
        // The last piece of the body ends the record of the request.
        while let Some(frame) = body.frame().await {
            // The visitor must not take what it has for all of it: the stream is reset when it is dropped.
            let frame = frame.ok()?;
            match frame.into_data() {
                Ok(mut data) => {
                    while !data.is_empty() {
                        let piece = data.split_to(data.len().min(PIECE));
                        self.while_it_moves(send.send_data(piece)).await?.ok()?;
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.while_it_moves(send.send_trailers(trailers)).await?.ok()?;
                    }
                }
            }
        }
        Some(())
    }

    /// What `future` gives, unless its stream makes no progress for as long as a visitor may stall. While other
    /// streams do, the network may be what is slow, and there is more time: four times as much.
    async fn while_it_moves<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future: Pin<&mut _> = pin!(future);
        for _ in 0..4 {
            let before = self.shared.sent();
            match timeout(self.clocks.stall, future.as_mut()).await {
                Ok(done) => return Some(done),
                Err(_) if self.shared.sent() == before => return None,
                Err(_) => {}
            }
        }
        None
    }
}

/// What the codec of HTTP/1.1 and the library of HTTP/2 see to themselves: the date, the length where it is known, and
/// nothing that belongs to a connection (RFC 9114 section 4.2).
fn finish(headers: &mut HeaderMap, body: &OutBody) {
    semantics::OF_CONNECTIONS.iter().for_each(|name| drop(headers.remove(name)));
    if !headers.contains_key(header::DATE)
        && let Some(date) = date::value()
    {
        headers.insert(header::DATE, date);
    }
    if let Some(length @ 1..) = body.size_hint().exact()
        && !headers.contains_key(header::CONTENT_LENGTH)
    {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
}
