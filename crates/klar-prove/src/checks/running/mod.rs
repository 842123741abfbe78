//! Does it go on when something of it goes away?

pub mod balance;
pub mod broken_schema;
pub mod cache_away;
pub mod cache_policy;
pub mod cdn;
pub mod dashboards;
pub mod database_away;
pub mod environment;
pub mod health_speed;
pub mod instance_killed;
pub mod local_start;
pub mod log_lines;
pub mod logs;
pub mod metrics;
pub mod own_metrics;
pub mod pace;
mod promises;
pub mod releases;
pub mod rollouts;
mod shared;
pub mod steady_load;
pub mod telemetry;
pub mod traces;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::check::Unable;
use crate::words;
use crate::world::http::{Answer, Ask, Silence};
use crate::world::{Klar, Session, World, until};

/// Where apps tell how they are: whether they can serve, then whether they live.
const READY: [&str; 4] = ["/readyz", "/healthz", "/ready", "/health"];
const LIVE: [&str; 3] = ["/livez", "/live", "/alive"];
const HEALTH: [&str; 7] = ["/readyz", "/healthz", "/ready", "/health", "/livez", "/live", "/alive"];

/// Signs somebody in who may see the most, if there are accounts; operations that need nobody can be asked anyway.
pub(in crate::checks) async fn anybody(world: &World) -> Option<Session> {
    let account = world.accounts.as_ref()?.list.last()?;
    world.sign_in(account).await.ok()
}

/// Reading requests that are answered well now: what the app does when all is well. At least one, or there is
/// nothing to compare with.
pub(in crate::checks) async fn good_reads(
    world: &Rc<World>,
    session: Option<&Session>,
) -> Result<Vec<String>, Unable> {
    let mut paths = Vec::new();
    if let Some(api) = world.api().await {
        for operation in api.operations.iter().filter(|operation| operation.reads()) {
            // One with an id in its path would need one that exists; what tells of health is looked at apart.
            if !operation.path.contains('{') && !HEALTH.contains(&operation.path.as_str()) {
                paths.push(operation.example(&BTreeMap::new()).path);
            }
        }
    }
    if paths.is_empty()
        && let Ok(crawl) = world.crawl().await
    {
        let answers =
            crawl.all().filter(|(_, answer)| answer.media_type().contains("json") || answer.is_html());
        paths.extend(answers.map(|(path, _)| path.clone()).take(10));
    }
    let mut good = Vec::new();
    for path in paths.into_iter().take(40) {
        if read(world, session, &path).await.is_ok_and(|answer| answer.status.is_success()) {
            good.push(path);
        }
    }
    if good.is_empty() {
        return Err(Unable(words!(
            "no reading operation is answered well to begin with",
            "ingen leseoperasjon besvares godt i utgangspunktet",
            "ingen läsoperation besvaras väl från början"
        )));
    }
    Ok(good)
}

/// Asks every page and every reading operation that needs no id once; gives how many, and those that failed.
async fn smoke(world: &Rc<World>, session: Option<&Session>) -> (usize, Vec<String>) {
    let mut paths: Vec<String> = Vec::new();
    if let Ok(crawl) = world.crawl().await {
        paths.extend(crawl.all().map(|(path, _)| path.clone()).chain(crawl.broken.keys().cloned()).take(40));
    }
    if let Some(api) = world.api().await {
        let reads =
            api.operations.iter().filter(|operation| operation.reads() && !operation.path.contains('{'));
        paths.extend(reads.map(|operation| operation.example(&BTreeMap::new()).path).take(40));
    }
    let mut failed = Vec::new();
    for path in &paths {
        if read(world, session, path).await.is_ok_and(|answer| !answer.status.is_server_error()) {
            continue;
        }
        failed.push(path.clone());
    }
    (paths.len(), failed)
}

/// The paths that are not answered well again: what comes back does so within `back`, and all are asked within that
/// and a little more, however many there are.
async fn not_back(world: &World, session: Option<&Session>, paths: &[String], back: Duration) -> Vec<String> {
    let mut not_back = Vec::new();
    let end = Instant::now() + world.patience(back) + Duration::from_secs(15);
    for path in paths {
        if !not_back.is_empty() && Instant::now() > end {
            break; // one that is not back is enough to know that the app is not
        }
        let well = || async {
            let answer = read(world, session, path).await.ok()?;
            answer.status.is_success().then_some(())
        };
        let patience = if not_back.is_empty() { world.patience(back) } else { Duration::from_secs(1) };
        let looking = tokio::time::timeout(patience + Duration::from_secs(2), until(patience, well));
        if looking.await.ok().flatten().is_none() {
            not_back.push(path.clone());
        }
    }
    not_back
}

/// Reads a path as this visitor.
pub(in crate::checks) async fn read(
    world: &World,
    session: Option<&Session>,
    path: &str,
) -> Result<Answer, Silence> {
    let ask = Ask::get(path).with("accept", "application/json, text/html;q=0.5");
    world.ask(session.map_or(ask.clone(), |session| session.on(ask))).await
}

/// The processes of the app.
async fn pids(klar: &dyn Klar) -> Vec<Option<i32>> {
    klar.instances().await.unwrap_or_default().iter().map(|instance| instance.pid).collect()
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
