//! Bodies of answers: a value at once, or one JSON object a line as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};
use klar_run::report::Failure;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::route::Media;

/// An answer.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn with(status: StatusCode, media: &'static str, body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media));
    answer
}

/// Bytes that are there already.
pub(crate) fn full(status: StatusCode, media: &'static str, bytes: impl Into<Bytes>) -> Answer {
    with(status, media, Full::new(bytes.into()).boxed_unsync())
}

/// One JSON value.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(text) => full(status, Media::Json.name(), text),
        Err(error) => full(StatusCode::INTERNAL_SERVER_ERROR, Media::Text.name(), error.to_string()),
    }
}

/// A failure, for people and machines.
pub(crate) fn failure(status: StatusCode, failure: &Failure) -> Answer {
    json(status, failure)
}

/// One JSON object a line, for as long as `values` come.
pub(crate) fn lines<T: Serialize + Send + 'static>(values: mpsc::Receiver<T>) -> Answer {
    with(StatusCode::OK, Media::Lines.name(), Lines { values }.boxed_unsync())
}

/// Dropped by hyper when whoever asked has gone, which closes the channel.
struct Lines<T> {
    values: mpsc::Receiver<T>,
}

impl<T: Serialize> Body for Lines<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // What is there already travels together: a log of many lines is not many packets.
        const TOGETHER_MAX: usize = 64 * 1024;
        let mut text = Vec::new();
        while text.len() < TOGETHER_MAX {
            match self.values.poll_recv(context) {
                Poll::Ready(Some(value)) => {
                    let before = text.len();
                    match serde_json::to_writer(&mut text, &value) {
                        Ok(()) => text.push(b'\n'),
                        Err(_) => text.truncate(before),
                    }
                }
                Poll::Ready(None) if text.is_empty() => return Poll::Ready(None),
                Poll::Pending if text.is_empty() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}
