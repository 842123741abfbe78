//! The foil's front door keeps its images for a moment, as an edge does, and says so.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use http::request::Parts;
use tokio::time::Instant;

use super::app::{Answer, App, plain, with};
use super::front;

/// How long an image is fresh: less than anybody waits for it to become stale.
pub(super) const FRESH: Duration = Duration::from_secs(1);
/// What its images say of themselves.
pub(super) const LIFETIME: &str = "public, max-age=1, stale-while-revalidate=60, stale-if-error=60";
/// How long the app behind takes: long enough for others to come meanwhile.
const WORK: Duration = Duration::from_millis(20);
/// And where nobody waits for others: so long that many come meanwhile, also on a machine that is busy.
const LONG_WORK: Duration = Duration::from_millis(700);

/// What is kept, and what is on its way.
#[derive(Default)]
pub(super) struct Shelf(RefCell<BTreeMap<String, Kept>>);

#[derive(Clone, Copy)]
enum Kept {
    OnItsWay,
    Since(Instant),
}

impl Shelf {
    pub(super) fn forget(&self, path: &str) {
        self.0.borrow_mut().remove(path);
    }

    fn get(&self, path: &str) -> Option<Kept> {
        self.0.borrow().get(path).copied()
    }

    fn put(&self, path: &str, kept: Kept) {
        self.0.borrow_mut().insert(path.to_owned(), kept);
    }
}

/// An image through the shelf; `None` when it is none of its paths.
pub(super) async fn answer(app: &App, head: &Parts) -> Option<Answer> {
    let path = head.uri.path();
    if !path.starts_with("/images/") {
        return None;
    }
    let image = front::answer(app, head)?;
    let state = &app.state;
    let shelf = &state.shelf;
    let away = || app.error(head, StatusCode::BAD_GATEWAY, "Try again in a moment.");
    let hit = |since: Instant, image: Answer| {
        let age = since.elapsed();
        let left = i64::try_from(FRESH.as_secs()).unwrap_or(1) - i64::try_from(age.as_secs()).unwrap_or(0);
        let image = with(image, "age", &age.as_secs().to_string());
        with(image, "cache-status", &format!("foil; hit; ttl={left}"))
    };
    while matches!(shelf.get(path), Some(Kept::OnItsWay)) && !app.has("stampedes") {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    if let Some(Kept::Since(since)) = shelf.get(path).filter(|_| !app.has("keeps-nothing")) {
        let is_fresh = since.elapsed() <= FRESH;
        if state.halted.get() && !is_fresh && app.has("no-stale") {
            return Some(away());
        }
        if !is_fresh && !state.halted.get() {
            // As if one request fetched it anew behind the visitor's back.
            app.count();
            shelf.put(path, Kept::Since(Instant::now()));
        }
        return Some(hit(since, image));
    }
    if state.halted.get() {
        return Some(away());
    }
    app.count();
    shelf.put(path, Kept::OnItsWay);
    tokio::time::sleep(if app.has("stampedes") { LONG_WORK } else { WORK }).await;
    shelf.put(path, Kept::Since(Instant::now()));
    Some(with(image, "cache-status", "foil; fwd=uri-miss; ttl=1; stored"))
}

/// What the foil's team has written about its caches.
pub(super) fn policy(app: &App) -> String {
    let head =
        "| route | what | edge | fresh within |\n|---|---|---|---|\n| `/*` | pages | miss | at once |\n";
    if app.has("unwritten-class") {
        return head.replace("`/*`", "`/`");
    }
    format!(
        "{head}| `/assets/*` | files with a hash in their name | hit | for ever |\n\
         | `/images/*` | images | hit | 1 s |\n\
         | `/api/*` | data | miss | at once |\n"
    )
}

/// An answer of the app behind while nobody is there.
pub(super) fn halted(app: &App, head: &Parts) -> Option<Answer> {
    let behind = head.uri.path().starts_with("/api/");
    (app.state.halted.get() && behind).then(|| {
        let answer = app.error(head, StatusCode::BAD_GATEWAY, "Try again in a moment.");
        if app.has("plain-errors") { plain(StatusCode::BAD_GATEWAY, "text/plain", "") } else { answer }
    })
}
