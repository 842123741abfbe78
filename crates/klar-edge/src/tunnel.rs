//! WebSockets: once both sides have changed protocols the edge only carries bytes.

use http::HeaderValue;
use http::{Response, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::answer::{Answer, Source};
use crate::headers;
use crate::upstream::Lease;

/// The answer that opens the tunnel; it lives for as long as both ends do, and holds its lease meanwhile.
pub fn open(visitor: OnUpgrade, mut response: Response<Incoming>, lease: Lease) -> Answer {
    let app = hyper::upgrade::on(&mut response);
    tokio::task::spawn_local(async move {
        let _lease = lease;
        if let (Ok(visitor), Ok(app)) = tokio::join!(visitor, app) {
            let (mut visitor, mut app) = (TokioIo::new(visitor), TokioIo::new(app));
            // Either end may hang up at any time, and how is nobody's concern.
            let _ = tokio::io::copy_bidirectional(&mut visitor, &mut app).await;
        }
    });
    let (mut parts, _) = response.into_parts();
    let protocol = parts.headers.get(header::UPGRADE).cloned();
    headers::from_app(&mut parts.headers);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, protocol.unwrap_or(HeaderValue::from_static("websocket")));
    Response::from_parts(parts, Source::empty())
}
