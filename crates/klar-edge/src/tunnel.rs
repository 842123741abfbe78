//! WebSockets: once both sides have changed protocols the edge only carries bytes.

use std::io;
use std::pin::pin;
use std::time::Duration;

use http::response::Parts;
use http::{HeaderValue, Response, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::answer::{Answer, Source};
use crate::client::Switched;
use crate::guard::Answering;
use crate::headers;
use crate::serve::Place;
use crate::upstream::Lease;

/// The answer that opens the tunnel; it lives for as long as both ends do, and holds its lease meanwhile.
///
/// `answering` keeps a connection that the tunnel shares with others from idling.
pub fn open(
    visitor: OnUpgrade,
    mut parts: Parts,
    app: Switched,
    lease: Lease,
    answering: Option<Answering>,
) -> Answer {
    let here = lease.shared().tunnels.subscribe();
    // One that shares its connection is counted with it.
    let place = answering.is_none().then(|| Place::keep(lease.shared()));
    tokio::task::spawn_local(async move {
        let _kept = (lease, answering, here, place);
        let Ok(visitor) = visitor.await else { return };
        let mut visitor = TokioIo::new(visitor);
        // The app may have begun to talk in the same breath.
        if visitor.write_all(&app.first).await.is_ok() {
            carry(visitor, app.stream).await;
        }
    });
    let protocol = parts.headers.get(header::UPGRADE).cloned();
    headers::from_app(&mut parts.headers);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, protocol.unwrap_or(HeaderValue::from_static("websocket")));
    Response::from_parts(parts, Source::empty())
}

/// How long one side may go on when the other one has ended: an instance that is gone must not keep its lease for as
/// long as a visitor likes.
const GRACE: Duration = Duration::from_secs(5);

/// Carries bytes both ways until both sides have ended. How they end is nobody's concern.
async fn carry(visitor: impl AsyncRead + AsyncWrite, app: impl AsyncRead + AsyncWrite) {
    let (from_visitor, to_visitor) = tokio::io::split(visitor);
    let (from_app, to_app) = tokio::io::split(app);
    let (mut up, mut down) = (pin!(one_way(from_visitor, to_app)), pin!(one_way(from_app, to_visitor)));
    tokio::select! {
        ended = &mut up => if ended.is_ok() { drop(tokio::time::timeout(GRACE, down).await) },
        ended = &mut down => if ended.is_ok() { drop(tokio::time::timeout(GRACE, up).await) },
    }
}

async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}
