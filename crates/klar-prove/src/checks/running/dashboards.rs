//! Whether dashboards show what happened: known requests, attacks, guesses, and an instance that was killed.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{anybody, good_reads};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::attacks::firewall::MARK;
use crate::words;
use crate::words::Words;
use crate::world::http::Ask;
use crate::world::{Account, Klar, World, until};

/// Dashboards.
pub struct Dashboards;

/// What was done, and what dashboards showed of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The dashboards, and what they answered as pages.
    pages: BTreeMap<String, u16>,
    /// Panels in all, and those that say nothing.
    panels: usize,
    empty: Vec<String>,
    /// Panels that are missing of what health and performance must show.
    no_health: Vec<String>,
    no_performance: Vec<String>,
    /// Done, and shown.
    requests: (u64, f64),
    attacks: (u64, f64),
    guesses: (u64, f64),
    limited: (u64, f64),
    /// Milliseconds until the kill of an instance was shown.
    kill_after_ms: Option<u64>,
}

const RENDERS: (&str, &str) = ("mon.dashboards", "renders");
const DATA: (&str, &str) = ("mon.dashboards", "data");
const HEALTH: (&str, &str) = ("mon.dashboard.health", "panels");
const KILL: (&str, &str) = ("mon.dashboard.health", "kill");
const PANELS: (&str, &str) = ("mon.dashboard.app-performance", "panels");
const AGREES: (&str, &str) = ("mon.dashboard.app-performance", "agrees");
const WAF: (&str, &str) = ("mon.dashboard.security", "waf");
const AUTH: (&str, &str) = ("mon.dashboard.security", "auth");
const LIMITS: (&str, &str) = ("mon.dashboard.security", "rate-limit");

const REQUESTS: usize = 120;
const ATTACKS: usize = 100;
const GUESSES: usize = 15;
/// Metrics are written down every 15 s, and that is how soon a kill has to be seen, and a little more to ask.
const WRITTEN: Duration = Duration::from_secs(40);
const KILL_SEEN: Duration = Duration::from_millis(15_500);
const OF_HEALTH: [&str; 4] = ["Instances that are ready", "Up", "Answers without an error", "What is active"];
const OF_PERFORMANCE: [&str; 5] =
    ["Requests per second", "p50 by route", "p95 by route", "p99 by route", "Errors"];

impl Probe for Dashboards {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "dashboards",
        version: 1,
        question: "Do dashboards show what happened?",
        does: "In the rig, sends 120 requests, 100 attacks and wrong passwords, kills an instance, and compares what every dashboard shows with what was done.",
        shows: &[RENDERS, DATA, HEALTH, KILL, PANELS, AGREES, WAF, AUTH, LIMITS],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(240),
        faults: &[
            Fault::Foil("broken-dashboard", RENDERS),
            Fault::Foil("empty-panel", DATA),
            Fault::Foil("no-objectives", HEALTH),
            Fault::Foil("unseen-kill", KILL),
            Fault::Foil("no-quantiles", PANELS),
            Fault::Foil("stale-dashboard", AGREES),
            Fault::Foil("unseen-attacks", WAF),
            Fault::Foil("unseen-guesses", AUTH),
            Fault::Foil("unseen-limits", LIMITS),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let cannot = |why: String| Unable(Words::same(why));
        let session = anybody(&world).await;
        let good = good_reads(&world, session.as_ref()).await?;
        let mut seen = Seen::default();
        written(&world, &*klar).await?;
        let before = Shown::ask(&*klar).await.map_err(cannot)?;
        for path in good.iter().cycle().take(REQUESTS) {
            let ask = Ask::get(path).with("accept", "application/json, text/html;q=0.5");
            let ask = session.as_ref().map_or(ask.clone(), |session| session.on(ask));
            seen.requests.0 += u64::from(world.ask(ask).await.is_ok());
        }
        // Whether an attack was stopped says its answer; what is counted beside is what the app says itself.
        // Without the pass that lets other checks attack the app itself.
        let stranger = world.site()?.as_stranger();
        for number in 0..ATTACKS {
            let mut ask = Ask::get(format!("/?klar={number}&q=%3Cscript%3Ealert({number})%3C/script%3E"));
            if world.is_foil {
                ask = ask.with(MARK, "attack");
            }
            seen.requests.0 += 1;
            match stranger.ask(ask).await {
                Ok(answer) if answer.status == 403 => seen.attacks.0 += 1,
                Ok(_) => {}
                Err(_) => seen.requests.0 -= 1,
            }
        }
        let nobody = Account {
            label: "nobody".to_owned(),
            name: format!("klar-check-{:08x}@example.com", fastrand::u32(..)),
            password: klar_base::Secret::new("klar-check-wrong".to_owned()),
            privileged: false,
        };
        for _ in 0..GUESSES {
            let Some(ask) = world.sign_in_request(&nobody) else { break };
            let Ok(answer) = world.ask(ask).await else { continue };
            seen.requests.0 += 1;
            seen.guesses.0 += u64::from(answer.status == 401);
            seen.limited.0 += u64::from(answer.status == 429);
        }
        written(&world, &*klar).await?;
        let after = Shown::ask(&*klar).await.map_err(cannot)?;
        seen.requests.1 = after.requests - before.requests;
        seen.attacks.1 = after.attacks - before.attacks;
        seen.guesses.1 = after.guesses - before.guesses;
        seen.limited.1 = after.limited - before.limited;

        let (_, names) = klar.dashboard("", "json").await.map_err(cannot)?;
        let names: Vec<Value> = serde_json::from_str(&names).unwrap_or_default();
        for name in names.iter().filter_map(|one| one["name"].as_str()) {
            let (status, page) = klar.dashboard(name, "html").await.map_err(cannot)?;
            // A page without a picture is none.
            let status = if status == 200 && !page.contains("</svg>") { 0 } else { status };
            seen.pages.insert(name.to_owned(), status);
            for panel in panels(&*klar, name).await.map_err(cannot)? {
                seen.panels += 1;
                if panel["is_empty"] == true {
                    seen.empty.push(format!("{name}: {}", panel["title"].as_str().unwrap_or_default()));
                }
            }
        }
        let missing = async |name: &str, wanted: &[&str]| {
            let panels = panels(&*klar, name).await?;
            let is_there = |title: &str| panels.iter().any(|panel| panel["title"] == title);
            Ok::<_, String>(
                wanted.iter().filter(|title| !is_there(title)).map(|title| (*title).to_owned()).collect(),
            )
        };
        seen.no_health = missing("health", &OF_HEALTH).await.map_err(cannot)?;
        seen.no_performance = missing("performance", &OF_PERFORMANCE).await.map_err(cannot)?;

        let instances = klar.instances().await.map_err(cannot)?;
        let Some(victim) = instances.iter().find(|instance| instance.pid.is_some()) else {
            return Err(Unable(words!("no instance runs", "ingen instans kjører", "ingen instans körs")));
        };
        klar.kill(victim).await.map_err(cannot)?;
        let killed = tokio::time::Instant::now();
        let is_shown = async || {
            let now = Shown::ask(&*klar).await.ok()?;
            (now.restarts > after.restarts || now.missing).then(|| killed.elapsed())
        };
        let shown = until(world.patience(KILL_SEEN).max(Duration::from_secs(1)), is_shown).await;
        seen.kill_after_ms = shown.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let broken: Vec<String> = seen
            .pages
            .iter()
            .filter(|(_, status)| **status != 200)
            .map(|(name, status)| format!("{name} ({status})"))
            .collect();
        let (pages, broken, panels, empty) =
            (seen.pages.len(), broken.join(", "), seen.panels, seen.empty.join(", "));
        let mut found = vec![
            if broken.is_empty() && pages > 0 {
                Finding::held(
                    RENDERS,
                    words!(
                        "{pages} dashboards are drawn",
                        "{pages} dashbord er tegnet",
                        "{pages} instrumentpaneler ritas"
                    ),
                )
            } else {
                Finding::broken(
                    RENDERS,
                    words!(
                        "of {pages} dashboards these are not drawn: {broken}",
                        "av {pages} dashbord er disse ikke tegnet: {broken}",
                        "av {pages} instrumentpaneler ritas dessa inte: {broken}"
                    ),
                )
            },
            if empty.is_empty() && panels > 0 {
                Finding::held(
                    DATA,
                    words!(
                        "all {panels} panels have data",
                        "alle {panels} paneler har data",
                        "alla {panels} paneler har data"
                    ),
                )
            } else {
                Finding::broken(
                    DATA,
                    words!(
                        "of {panels} panels these have no data: {empty}",
                        "av {panels} paneler har disse ingen data: {empty}",
                        "av {panels} paneler har dessa inga data: {empty}"
                    ),
                )
            },
            there(HEALTH, &OF_HEALTH, &seen.no_health),
            there(PANELS, &OF_PERFORMANCE, &seen.no_performance),
            shown(AGREES, seen.requests, 0.05),
            shown(WAF, seen.attacks, 0.0),
            shown(AUTH, seen.guesses, 0.0),
            shown(LIMITS, seen.limited, 0.0),
        ];
        found.push(match seen.kill_after_ms {
            Some(ms) => Finding::held(
                KILL,
                words!(
                    "a killed instance is shown after {ms} ms",
                    "en drept instans vises etter {ms} ms",
                    "en dödad instans visas efter {ms} ms"
                ),
            ),
            None => Finding::broken(
                KILL,
                words!(
                    "a killed instance is not shown within 15 s",
                    "en drept instans vises ikke innen 15 s",
                    "en dödad instans visas inte inom 15 s"
                ),
            ),
        });
        found
    }
}

fn there(place: (&'static str, &'static str), wanted: &[&str], missing: &[String]) -> Finding {
    let (wanted, missing) = (wanted.join(", "), missing.join(", "));
    if missing.is_empty() {
        return Finding::held(
            place,
            words!("it shows: {wanted}", "det viser: {wanted}", "den visar: {wanted}"),
        );
    }
    Finding::broken(place, words!("it lacks: {missing}", "det mangler: {missing}", "den saknar: {missing}"))
}

/// So many were done and so many are shown, up to a share.
fn shown(place: (&'static str, &'static str), (done, shown): (u64, f64), share: f64) -> Finding {
    let told = words!(
        "{done} were counted at the sender, {shown} are shown",
        "{done} ble talt hos avsenderen, {shown} vises",
        "{done} räknades hos avsändaren, {shown} visas"
    );
    if done == 0 {
        return Finding::unseen(place, told);
    }
    // What is shown comes from a division and a multiplication by time.
    Finding::when((shown - done as f64).abs() <= done as f64 * share + 0.01, place, told)
}

/// What the panels say now.
struct Shown {
    requests: f64,
    attacks: f64,
    guesses: f64,
    limited: f64,
    restarts: f64,
    /// An instance is missing.
    missing: bool,
}

impl Shown {
    async fn ask(klar: &dyn Klar) -> Result<Self, String> {
        let (performance, security) = (panels(klar, "performance").await?, panels(klar, "security").await?);
        let health = panels(klar, "health").await?;
        let active = health.iter().find(|panel| panel["title"] == "What is active");
        let is_missing = |line: &Value| line["name"] == "instances that are missing";
        Ok(Self {
            requests: total(&performance, "Requests"),
            attacks: total(&security, "Stopped by the firewall"),
            guesses: total(&security, "Sign-ins that failed"),
            limited: total(&security, "Stopped by rate limits"),
            restarts: total(&health, "Started again"),
            missing: active
                .and_then(|panel| panel["series"].as_array())
                .is_some_and(|all| all.iter().any(is_missing)),
        })
    }
}

async fn panels(klar: &dyn Klar, name: &str) -> Result<Vec<Value>, String> {
    let (status, text) = klar.dashboard(name, "json").await?;
    let board: Value = serde_json::from_str(&text).unwrap_or_default();
    match &board["panels"] {
        Value::Array(panels) => Ok(panels.clone()),
        _ if status != 200 => Ok(Vec::new()),
        other => Err(format!("the dashboard {name} has no panels: {other}")),
    }
}

/// The sum of the last values of a panel.
fn total(panels: &[Value], title: &str) -> f64 {
    let panel = panels.iter().find(|panel| panel["title"] == title);
    let lines = panel.and_then(|panel| panel["series"].as_array()).into_iter().flatten();
    lines.filter_map(|line| line["values"].as_array()?.iter().rev().find_map(Value::as_f64)).sum()
}

/// Waits until what happened until now is written down.
async fn written(world: &World, klar: &dyn Klar) -> Result<(), Unable> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    let look = async || {
        let clock = klar.measured("klar_records_total").await.ok()?;
        clock.iter().any(|series| series.at_unix_ms > now_ms).then_some(())
    };
    let is_written = until(world.patience(WRITTEN).max(Duration::from_secs(1)), look).await;
    is_written.ok_or_else(|| {
        Unable(words!(
            "telemetry has written nothing down for too long",
            "telemetrien har ikke skrevet ned noe på for lenge",
            "telemetrin har inte skrivit ned något på för länge"
        ))
    })
}
