//! HTTP/1.1 by hyper, behind the guard: for what the codec does not speak, and to judge the codec by.
//!
//! Both sides of a [`Service`] are the same as with the codec. `differential.rs` holds the two against each other.

use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;

use bytes::BytesMut;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::framing::HEADERS_MAX;
use crate::guard::{Clocks, Guard, Heads};

use super::{Service, body::VisitorBody};

/// Serves a connection of which `unread` was read already, until it ends, or until `stop` is set and what was asked is
/// answered. `service` is made with what the guard knows of the requests.
pub async fn serve<S, V>(
    stream: S,
    unread: BytesMut,
    clocks: Clocks,
    service: impl FnOnce(Heads) -> V,
    stop: &mut watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: Service + 'static,
    V::Body: 'static,
{
    let guard = Guard::with_unread(stream, clocks, unread);
    let heads = guard.heads();
    let service = Rc::new(service(guard.heads()));
    let service = service_fn(move |request| {
        let (service, note) = (service.clone(), heads.take());
        async move {
            let note = note.unwrap_or_default();
            Ok::<_, Infallible>(service.answer(note, request.map(VisitorBody::from)).await)
        }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(guard), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    // As in `http2::serve`: what the wait gives is a lock.
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
