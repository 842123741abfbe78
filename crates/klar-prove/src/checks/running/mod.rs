//! Does it go on when something of it goes away?

pub mod database_away;
pub mod instance_killed;
pub mod pace;

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::world::http::{Answer, Ask, Silence};
use crate::world::{Session, World};

/// Signs somebody in who may see the most, if there are accounts; operations that need nobody can be asked anyway.
async fn anybody(world: &World) -> Option<Session> {
    let account = world.accounts.as_ref()?.list.last()?;
    world.sign_in(account).await.ok()
}

/// Reading requests that are answered well now: what the app does when all is well.
async fn good_reads(world: &Rc<World>, session: Option<&Session>) -> Vec<String> {
    let mut paths = Vec::new();
    if let Some(api) = world.api().await {
        for operation in api.operations.iter().filter(|operation| operation.reads()) {
            // One with an id in its path would need one that exists.
            if !operation.path.contains('{') {
                paths.push(operation.example(&BTreeMap::new()).path);
            }
        }
    }
    if paths.is_empty() {
        if let Ok(crawl) = world.crawl().await {
            let answers =
                crawl.all().filter(|(_, answer)| answer.media_type().contains("json") || answer.is_html());
            paths.extend(answers.map(|(path, _)| path.clone()).take(10));
        }
    }
    let mut good = Vec::new();
    for path in paths.into_iter().take(40) {
        if read(world, session, &path).await.is_ok_and(|answer| answer.status.is_success()) {
            good.push(path);
        }
    }
    good
}

/// Reads a path as this visitor.
async fn read(world: &World, session: Option<&Session>, path: &str) -> Result<Answer, Silence> {
    let ask = Ask::get(path).with("accept", "application/json, text/html;q=0.5");
    world.ask(session.map_or(ask.clone(), |session| session.on(ask))).await
}

/// What an error answer must never show: pieces of stack traces, of SQL, of paths.
#[must_use]
pub fn leak_in(text: &str) -> Option<String> {
    const SIGNS: [&str; 18] = [
        "    at ",
        "Traceback (most recent call last)",
        "node_modules/",
        ".js:",
        ".py\", line",
        "Stack trace:",
        "SQLSTATE",
        "syntax error at or near",
        "ECONNREFUSED",
        "PDOException",
        "psycopg",
        "SELECT ",
        "INSERT INTO",
        "relation \"",
        "password authentication failed",
        "/usr/src/",
        "/var/www/",
        "/home/",
    ];
    SIGNS.into_iter().find(|sign| text.contains(sign)).map(|sign| sign.trim().to_owned())
}
