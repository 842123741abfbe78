//! What a write takes out of the cache (RFC 9111 section 4.4).

use std::time::Duration;

use http::header;
use tokio::time::timeout;

use super::Cache;
use super::key::Key;
use super::store::Name;
use crate::answer::Answer;
use crate::forward::Road;

/// How long the answer to a write waits for what it changed to be forgotten on disk.
const NOTED: Duration = Duration::from_millis(500);

/// Takes out what an unsafe request has changed, as far as its answer says so (RFC 9111 section 4.4). Where that is on
/// disk, whoever asked waits until it would not come back after a kill.
pub async fn invalidate(
    cache: &Cache,
    road: &Road,
    authority: &str,
    host: &str,
    target: &str,
    answer: &Answer,
) {
    if !answer.status().is_success() && !answer.status().is_redirection() {
        return;
    }
    let remove = |target: &str| {
        let name = Name { app: road.site.app.clone(), host: host.to_owned(), target: target.to_owned() };
        // However it was asked for, it has changed.
        ["https", "http"].map(|scheme| {
            cache.remove(&Key::of(scheme, &road.site.app, road.site.epoch, authority, target), &name)
        })
    };
    let mut written = Vec::from(remove(target));
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let named = answer.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(named) = named.and_then(|named| same_origin(named, road.https, authority, target)) {
            written.extend(remove(&named));
        }
    }
    for written in written.into_iter().flatten() {
        // A disk that takes longer is in trouble, and the visitor need not be.
        let _ = timeout(NOTED, written).await;
    }
}

/// Path and query of an address as an answer names it, if it is of the same host.
fn same_origin(named: &str, https: bool, authority: &str, target: &str) -> Option<String> {
    let named = named.split('#').next().unwrap_or_default();
    let scheme = if https { "https://" } else { "http://" };
    if let Some(rest) = named.strip_prefix(scheme).or_else(|| named.strip_prefix("//")) {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, rest) = rest.split_at(end);
        let same = host.eq_ignore_ascii_case(authority);
        return same.then(|| if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") });
    }
    if named.starts_with('/') {
        return Some(named.to_owned());
    }
    if named.is_empty() || named.contains(':') {
        return None;
    }
    let path = target.split('?').next().unwrap_or_default();
    let folder = path.rfind('/').map_or("", |end| &path[..end]);
    Some(format!("{folder}/{named}"))
}
