//! What the HTTP library knows of QUIC: its traits, for the connections and streams of quinn.
//!
//! Three things happen on the way. Frames are followed ([`Follow`]), so that nothing is kept that is too long. A request
//! that comes after the end was announced is given back untouched, so that its visitor may send it again elsewhere (RFC
//! 9114 section 5.2). And whatever is dropped before its end is reset: quinn would end it as if all had been said.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use super::follow::Follow;

/// How much is read of a stream at once.
const READ: usize = 16 << 10;

type Later<T> = Pin<Box<dyn Future<Output = T>>>;

/// Ends when the visitor has all of a stream, or wants no more of it, or is gone.
pub type Gone = Later<()>;

/// What the side that serves a connection shares with its transport.
#[derive(Debug, Clone, Default)]
pub struct Shared(Rc<Inner>);

#[derive(Default)]
struct Inner {
    /// Of the stream that was accepted last.
    gone: RefCell<Option<Gone>>,
    /// Streams from this number on are given back.
    closed_from: Cell<Option<u64>>,
    /// Pieces that were taken by the network.
    sent: Cell<u64>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("closed_from", &self.closed_from).finish_non_exhaustive()
    }
}

impl Shared {
    /// Of the stream that was accepted last: when its visitor is gone.
    pub fn gone(&self) -> Option<Gone> {
        self.0.gone.take()
    }

    /// From now on requests from this number on are given back.
    pub fn close_from(&self, stream: u64) {
        self.0.closed_from.set(Some(stream));
    }

    /// Grows whenever some stream of the connection makes progress.
    pub fn sent(&self) -> u64 {
        self.0.sent.get()
    }
}

/// A connection of a visitor.
pub struct Connection {
    inner: quinn::Connection,
    shared: Shared,
    headers_max: u64,
    accept_two_way: Option<Later<Result<(quinn::SendStream, quinn::RecvStream), ConnectionError>>>,
    accept_one_way: Option<Later<Result<quinn::RecvStream, ConnectionError>>>,
    opening: Opener,
}

impl Connection {
    /// No HEADERS frame is kept that is longer than `headers_max` bytes.
    pub fn new(inner: quinn::Connection, shared: Shared, headers_max: u64) -> Self {
        let opening = Opener { inner: inner.clone(), open: None };
        Self { inner, shared, headers_max, accept_two_way: None, accept_one_way: None, opening }
    }
}

impl quic::Connection<Bytes> for Connection {
    type RecvStream = Receive;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receive, ConnectionErrorIncoming>> {
        let inner = &self.inner;
        let accept = self.accept_one_way.get_or_insert_with(|| {
            let inner = inner.clone();
            Box::pin(async move { inner.accept_uni().await })
        });
        let accepted = ready!(accept.as_mut().poll(cx));
        self.accept_one_way = None;
        Poll::Ready(Ok(Receive::new(accepted.map_err(connection_error)?, Follow::one_way())))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<TwoWay, ConnectionErrorIncoming>> {
        loop {
            let inner = &self.inner;
            let accept = self.accept_two_way.get_or_insert_with(|| {
                let inner = inner.clone();
                Box::pin(async move { inner.accept_bi().await })
            });
            let accepted = ready!(accept.as_mut().poll(cx));
            self.accept_two_way = None;
            let (mut send, mut receive) = accepted.map_err(connection_error)?;
            let late = self.shared.0.closed_from.get().is_some_and(|from| u64::from(send.id()) >= from);
            if late {
                let code = number(Code::H3_REQUEST_REJECTED.value());
                // One that is gone already needs no telling.
                let _ = (send.reset(code), receive.stop(code));
                continue;
            }
            let stopped = send.stopped();
            let gone: Gone = Box::pin(async move { drop(stopped.await) });
            self.shared.0.gone.replace(Some(gone));
            return Poll::Ready(Ok(TwoWay {
                send: Send::new(send, self.shared.clone()),
                receive: Receive::new(receive, Follow::new(self.headers_max)),
            }));
        }
    }

    fn opener(&self) -> Opener {
        Opener { inner: self.inner.clone(), open: None }
    }
}

impl quic::OpenStreams<Bytes> for Connection {
    type BidiStream = TwoWay;
    type SendStream = Send;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<TwoWay, StreamErrorIncoming>> {
        self.opening.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Send, StreamErrorIncoming>> {
        self.opening.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.inner.close(number(code.value()), reason);
    }
}

/// Opens streams of the edge's own: those of control.
pub struct Opener {
    inner: quinn::Connection,
    open: Option<Later<Result<quinn::SendStream, ConnectionError>>>,
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = TwoWay;
    type SendStream = Send;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<TwoWay, StreamErrorIncoming>> {
        // No server asks its visitors anything (RFC 9114 section 6.1).
        let why = "a server opens no request".to_owned();
        let connection_error = ConnectionErrorIncoming::InternalError(why);
        Poll::Ready(Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error }))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Send, StreamErrorIncoming>> {
        let inner = &self.inner;
        let open = self.open.get_or_insert_with(|| {
            let inner = inner.clone();
            Box::pin(async move { inner.open_uni().await })
        });
        let opened = ready!(open.as_mut().poll(cx));
        self.open = None;
        Poll::Ready(match opened {
            Ok(stream) => Ok(Send::new(stream, Shared::default())),
            Err(error) => Err(stream_error(error)),
        })
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.inner.close(number(code.value()), reason);
    }
}

/// A request and its answer.
pub struct TwoWay {
    send: Send,
    receive: Receive,
}

impl quic::BidiStream<Bytes> for TwoWay {
    type SendStream = Send;
    type RecvStream = Receive;

    fn split(self) -> (Send, Receive) {
        (self.send, self.receive)
    }
}

impl quic::RecvStream for TwoWay {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receive.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.receive.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.receive.recv_id()
    }
}

impl quic::SendStream<Bytes> for TwoWay {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

/// What a visitor sends.
pub struct Receive {
    inner: quinn::RecvStream,
    follow: Follow,
    spare: BytesMut,
    ended: bool,
}

impl Receive {
    fn new(inner: quinn::RecvStream, follow: Follow) -> Self {
        Self { inner, follow, spare: BytesMut::new(), ended: false }
    }
}

impl quic::RecvStream for Receive {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.spare.resize(READ, 0);
        let read = match ready!(self.inner.poll_read(cx, &mut self.spare)) {
            Ok(read) => read,
            Err(error) => {
                self.ended = true;
                return Poll::Ready(Err(match error {
                    ReadError::Reset(code) => {
                        StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
                    }
                    ReadError::ConnectionLost(error) => stream_error(error),
                    other => StreamErrorIncoming::Unknown(Box::new(other)),
                }));
            }
        };
        if read == 0 {
            self.ended = true;
            if !self.follow.is_between() {
                let why = "a stream that ends within a frame";
                return Poll::Ready(Err(StreamErrorIncoming::Unknown(why.into())));
            }
            return Poll::Ready(Ok(None));
        }
        let bytes = self.spare.split_to(read).freeze();
        if self.follow.go_on(&bytes).is_err() {
            let connection_error =
                ConnectionErrorIncoming::InternalError("a frame longer than is kept".into());
            return Poll::Ready(Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error }));
        }
        Poll::Ready(Ok(Some(bytes)))
    }

    fn stop_sending(&mut self, code: u64) {
        self.ended = true;
        // One that has ended already is what was wanted.
        let _ = self.inner.stop(number(code));
    }

    fn recv_id(&self) -> StreamId {
        id(self.inner.id())
    }
}

impl Drop for Receive {
    fn drop(&mut self) {
        if !self.ended {
            // What is left of a request that was answered is of no use (RFC 9114 section 4.1).
            let _ = self.inner.stop(number(Code::H3_NO_ERROR.value()));
        }
    }
}

/// What a visitor is sent.
pub struct Send {
    inner: quinn::SendStream,
    shared: Shared,
    writing: Option<WriteBuf<Bytes>>,
    ended: bool,
}

impl Send {
    fn new(inner: quinn::SendStream, shared: Shared) -> Self {
        Self { inner, shared, writing: None, ended: false }
    }
}

impl quic::SendStream<Bytes> for Send {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        while let Some(data) = self.writing.as_mut().filter(|data| data.has_remaining()) {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, data.chunk()));
            data.advance(written.map_err(|error| match error {
                WriteError::Stopped(code) => {
                    StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
                }
                WriteError::ConnectionLost(error) => stream_error(error),
                other => StreamErrorIncoming::Unknown(Box::new(other)),
            })?);
            self.shared.0.sent.set(self.shared.0.sent.get() + 1);
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            let why = "two pieces at once on one stream".to_owned();
            let connection_error = ConnectionErrorIncoming::InternalError(why);
            return Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error });
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.ended = true;
        Poll::Ready(self.inner.finish().map_err(|error| StreamErrorIncoming::Unknown(Box::new(error))))
    }

    fn reset(&mut self, code: u64) {
        self.ended = true;
        // One that is gone already needs no telling.
        let _ = self.inner.reset(number(code));
    }

    fn send_id(&self) -> StreamId {
        id(self.inner.id())
    }
}

impl Drop for Send {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.inner.reset(number(Code::H3_INTERNAL_ERROR.value()));
        }
    }
}

fn number(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

/// Both sides count in 62 bits.
fn id(stream: quinn::StreamId) -> StreamId {
    StreamId::try_from(u64::from(stream)).unwrap_or_else(|_| unreachable!("streams are counted in 62 bits"))
}

fn connection_error(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(closed) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: closed.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

fn stream_error(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection_error(error) }
}
