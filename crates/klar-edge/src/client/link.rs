//! A connection to an app, and one exchange over it.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Fault;
use super::head::{self, Head};
use super::reply::Reply;
use super::request::{self, Sending, Stuck};
use crate::forward::ToApp;
use crate::scratch::{self, poll_read};

/// Heads with a status of 1xx before the answer itself; more are refused.
const INTERIM_MAX: u32 = 32;

/// A connection that is between two messages.
#[derive(Debug)]
pub struct Link<S = TcpStream> {
    pub(super) stream: S,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Miss {
    /// Nothing of the request was sent; its body comes back.
    Unsent(io::Error, ToApp),
    /// Some of it was, and the app may have seen it.
    Sent(io::Error),
}

/// A connection that speaks another protocol from now on, and what has come of it already.
#[derive(Debug)]
pub struct Switched<S = TcpStream> {
    pub first: Bytes,
    pub stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// Over a connection that was just opened.
    pub fn new(stream: S) -> Self {
        Self { stream }
    }

    /// Whether a request may be sent: the app has not closed the connection, and has said nothing unasked. Costs no
    /// system call while nothing has come.
    pub fn is_quiet(&mut self) -> bool {
        self.is_quiet_for(&mut Context::from_waker(Waker::noop()))
    }

    /// The same; whoever runs in `cx` is woken when the app says something.
    pub fn is_quiet_for(&mut self, cx: &mut Context<'_>) -> bool {
        let mut byte = [0];
        let look = |cx: &mut Context<'_>| {
            Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut byte)).map(drop)
        };
        // A task that has done a lot is told that nothing is there, so that it lets others run; this has to be the truth.
        let look = pin!(tokio::task::unconstrained(std::future::poll_fn(look)));
        look.poll(cx).is_pending()
    }

    /// Sends the head of a request without a body, or as much of it as the connection takes at once. Ready with how much.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, head: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, head)
    }

    /// Reads what the app says, and has `take` look at it; nothing is the end.
    pub fn poll_hear<T>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        poll_read(&mut self.stream, cx, scratch::MOST, take)
    }

    /// Sends a request, and waits for the head of the answer; its body may be on its way still.
    ///
    /// # Errors
    /// Why there is no answer, and whether the request can have been seen.
    pub async fn exchange(mut self, asked: &request::Head, body: ToApp) -> Result<Response<Reply<S>>, Miss> {
        let mut sending = Sending::new(asked, body);
        if let Err(error) = std::future::poll_fn(|cx| sending.poll_write(&mut self.stream, cx)).await {
            return Err(Miss::Unsent(error, sending.take_back()));
        }
        Waiting::new(self, &asked.method, Some(sending)).answer().await
    }
}

/// An exchange that was begun elsewhere, by hand: the request has no body, and some of it was sent.
#[derive(Debug)]
pub struct Begun<S = TcpStream> {
    pub link: Link<S>,
    /// Of the request, what was not sent.
    pub unsent: Vec<u8>,
    /// Of the answer, what has come.
    pub came: Vec<u8>,
    /// Why nothing more comes.
    pub broken: Option<io::Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Begun<S> {
    /// Waits for the head of the answer to what was asked by `method`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn go_on(self, method: &Method) -> Result<Response<Reply<S>>, Miss> {
        if let Some(error) = self.broken {
            return Err(Miss::Sent(error));
        }
        let sending = (!self.unsent.is_empty()).then(|| Sending::rest(&self.unsent));
        let mut waiting = Waiting::new(self.link, method, sending);
        if !self.came.is_empty() {
            let found = answer(method, self.came.into(), &mut waiting.interim);
            match found.map_err(|fault| Miss::Sent(fault.into()))? {
                Ok(found) => return Ok(waiting.reply(found)),
                Err(rest) => waiting.came.extend_from_slice(&rest),
            }
        }
        waiting.answer().await
    }
}

/// An exchange whose answer has not begun.
struct Waiting<'a, S> {
    link: Link<S>,
    method: &'a Method,
    sending: Option<Sending>,
    /// The app took no more of the request; it may have answered all the same.
    unsendable: Option<io::Error>,
    /// The beginning of a head.
    came: Vec<u8>,
    /// Heads that came before it.
    interim: u32,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Waiting<'a, S> {
    fn new(link: Link<S>, method: &'a Method, sending: Option<Sending>) -> Self {
        Self { link, method, sending, unsendable: None, came: Vec::new(), interim: 0 }
    }

    async fn answer(mut self) -> Result<Response<Reply<S>>, Miss> {
        let found = std::future::poll_fn(|cx| self.poll(cx)).await.map_err(Miss::Sent)?;
        Ok(self.reply(found))
    }

    /// The answer that begins with this head; the rest comes behind it.
    fn reply(self, (head, rest): (Head, Bytes)) -> Response<Reply<S>> {
        let Waiting { link, sending, unsendable, .. } = self;
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        if let Some(reason) = head.reason {
            response.extensions_mut().insert(reason);
        }
        let lasts = head.lasts && unsendable.is_none();
        let sending = sending.map(Box::new);
        response.map(|()| Reply::new(link.stream, rest, head.framing, sending, lasts))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Head, Bytes)>> {
        if let Some(sending) = &mut self.sending {
            match sending.poll(&mut self.link.stream, cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.sending = None,
                Poll::Ready(Err(Stuck::Body(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Err(Stuck::Connection(error))) => {
                    (self.sending, self.unsendable) = (None, Some(error));
                }
            }
        }
        loop {
            let Self { link, method, came, interim, unsendable, .. } = self;
            let found = ready!(poll_read(&mut link.stream, cx, scratch::MOST, |new| {
                if new.is_empty() {
                    return Err(unsendable.take().unwrap_or_else(|| ENDED.into()));
                }
                // Most heads come whole.
                if came.is_empty() {
                    let found = answer(method, Bytes::copy_from_slice(new), interim)?;
                    if let Err(rest) = &found {
                        came.extend_from_slice(rest);
                    }
                    return Ok(found.ok());
                }
                came.extend_from_slice(new);
                // Without the end of another line there is no more to be read out of it.
                if !new.contains(&b'\n') && came.len() < head::HEAD_MAX {
                    return Ok(None);
                }
                let found = answer(method, Bytes::copy_from_slice(came), interim)?;
                if let Err(rest) = &found {
                    let read = came.len() - rest.len();
                    came.drain(..read);
                }
                Ok(found.ok())
            }))??;
            if let Some(found) = found {
                return Poll::Ready(Ok(found));
            }
        }
    }
}

const ENDED: Fault = Fault::Broken("the app closed the connection before it had answered");

/// The answer to `method` in what came, without those that come before it (RFC 9110 section 15.2): they say nothing
/// that a visitor needs. `Err` inside: what is left of it, as more has to come. `interim` counts them.
fn answer(
    method: &Method,
    mut came: Bytes,
    interim: &mut u32,
) -> Result<Result<(Head, Bytes), Bytes>, Fault> {
    while *interim <= INTERIM_MAX {
        match head::read(&came, method, || came.clone())? {
            None => return Ok(Err(came)),
            Some((head, rest)) => {
                if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Ok(Ok((head, rest)));
                }
                *interim += 1;
                came = rest;
            }
        }
    }
    Err(Fault::Broken("the app says 1xx over and over, and no answer comes"))
}
