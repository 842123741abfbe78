//! The tour: what klar promises, shown on the demo app under constant load, unattended.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::load::{self, Client, Load, Tally};
use crate::scores;
use crate::shell::{run, say};
use crate::world::{World, serving};

/// Instances that are shot.
const KILLS: u32 = 5;
/// Deploys, and as many rollbacks.
const DEPLOYS: u32 = 20;
/// An instance that was shot is replaced within this.
const BACK: Duration = Duration::from_secs(30);

/// How often a stage is begun where the app falls behind its visitors, each time with half as many of them.
const ATTEMPTS: u32 = 3;

/// Does it all.
pub fn tour(klar: PathBuf) -> Result<()> {
    let begun = Instant::now();
    let mut world = World::fleeting("tour", klar)?;
    let result = stages(&world);
    if result.is_err() {
        eprintln!("\nwhat klar says of itself:");
        // The error that brought us here matters more than one of these.
        let log = std::fs::read_to_string(world.state.join("logs/klar.log")).unwrap_or_default();
        log.lines().rev().take(20).collect::<Vec<_>>().iter().rev().for_each(|line| eprintln!("  {line}"));
        let _ = run(&mut world.klar(&["status"]));
    }
    world.stop()?;
    result?;
    say(format!("the tour is complete ({} s)", begun.elapsed().as_secs()));
    Ok(())
}

fn stages(world: &World) -> Result<()> {
    say("klar up: build, migrate, start, serve");
    run(&mut world.klar(&["up"]))?;
    let client = Client::sign_in(world.https, &world.authority()?)?;
    let (status, orders) = client.get("/api/orders?limit=3")?;
    ensure!(status == 200, "orders answered {status}: {orders}");
    let orders: serde_json::Value = serde_json::from_str(&orders)?;
    let orders = orders["orders"].as_array().context("no list of orders")?;
    ensure!(orders.len() == 3, "3 orders were asked for, {} came", orders.len());
    for order in orders {
        println!("  order {} for {}, {} øre", order["id"], order["user_name"], order["total_ore"]);
    }
    println!("  ... from PostgreSQL, over HTTPS at {}", world.url());

    let (status, page) = client.get("/")?;
    ensure!(status == 200 && page.contains("<div id=\"root\">"), "the front page answered {status}: {page}");

    say("what this machine can carry");
    let carried = load::carried(client.clone())?;
    let mut visitors = Visitors { client, rate: load::bearable(carried), loads: 0 };
    println!("  {carried} requests/s one after the other; {} are sent from here on", visitors.rate);
    visitors.meanwhile(|visitors| shoot(world, visitors))?;
    visitors.meanwhile(|visitors| ship(world, visitors))?;
    visitors.meanwhile(|visitors| refuse(world, visitors))?;
    bring_back(world, &visitors.client)?;
    // As the shop is kept, without what the tour has written into it: its own tests run too.
    let _ = std::fs::remove_file(world.app.join("VERSION"));
    world.ask(&["deploy"])?;
    // After so many kills and deploys the machine may be to blame; `cargo xtask scores` is strict.
    let blamed = scores::scores(world)?;
    if !blamed.is_empty() {
        say(format!("failing, although nothing is planted there: {}", blamed.join(", ")));
    }
    Ok(())
}

/// Who visits the app meanwhile.
struct Visitors {
    client: Client,
    rate: u32,
    loads: u64,
}

/// Why a stage failed.
enum Failure {
    /// The app fell behind, so that what failed may have failed for that.
    Behind(anyhow::Error),
    Real(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Real(error.into())
    }
}

impl Visitors {
    /// A stage under load. Where the app fell behind and something failed, the stage says nothing about klar: once more,
    /// with half as many visitors.
    fn meanwhile(&mut self, stage: impl Fn(&mut Self) -> Result<(), Failure>) -> Result<()> {
        for _ in 1..ATTEMPTS {
            match stage(self) {
                Ok(()) => return Ok(()),
                Err(Failure::Real(error)) => return Err(error),
                Err(Failure::Behind(error)) => {
                    self.rate = (self.rate / 2).max(1);
                    println!("  the app fell behind: {error:#}\n  once more, with {} requests/s", self.rate);
                    std::thread::sleep(Duration::from_secs(5));
                }
            }
        }
        stage(self).map_err(|failure| match failure {
            Failure::Behind(error) | Failure::Real(error) => error,
        })
    }

    fn begin(&mut self) -> Result<Load> {
        self.loads += 1;
        Load::start(self.client.clone(), self.loads, self.rate)
    }

    /// The load ends; then this must hold of it.
    fn end(&self, load: Load, holds: impl FnOnce(&Tally) -> Result<()>) -> Result<(), Failure> {
        let tally = load.stop()?;
        println!("  {}", tally.line());
        if tally.sent() == 0 {
            return Err(anyhow!("the load generator sent nothing").into());
        }
        holds(&tally).map_err(|error| {
            if tally.fell_behind(self.rate) { Failure::Behind(error) } else { Failure::Real(error) }
        })
    }
}

fn shoot(world: &World, visitors: &mut Visitors) -> Result<(), Failure> {
    say(format!("kill -9 on {KILLS} instances, one after the other, under {} requests/s", visitors.rate));
    let load = visitors.begin()?;
    let agent = load.agent().to_owned();
    std::thread::sleep(Duration::from_secs(2));
    for _ in 0..KILLS {
        let status = world.until("two instances serve", BACK, |status| serving(status).len() >= 2)?;
        let victim = &serving(&status)[0];
        let pid = victim["pid"].as_i64().context("an instance without a process")?;
        println!("  kill -9 {} (pid {pid})", victim["id"].as_str().unwrap_or("?"));
        let pid = i32::try_from(pid).context("a process id")?;
        kill(Pid::from_raw(pid), Signal::SIGKILL).context("killing it")?;
        std::thread::sleep(Duration::from_millis(500));
    }
    world.until("two instances serve again", BACK, |status| serving(status).len() >= 2)?;
    std::thread::sleep(Duration::from_secs(1));
    visitors.end(load, |tally| {
        let repeatable = tally.repeatable_failed();
        ensure!(
            repeatable == 0,
            "{repeatable} requests failed that could have been repeated:{}",
            tally.reasons()
        );
        ensure!(tally.broken() == 0, "{} requests got no honest answer:{}", tally.broken(), tally.reasons());
        let recorded = recorded_as_failed(world, &agent, tally.honest())?;
        ensure!(
            recorded == tally.honest(),
            "visitors saw {} errors, klar recorded {recorded}",
            tally.honest()
        );
        println!(
            "  0 of those that can be repeated failed, {} checkouts included; {} plain writes in flight on a shot \
             instance got an honest 502 or 503, and klar recorded each",
            tally.orders.len(),
            tally.honest()
        );
        Ok(())
    })
}

fn ship(world: &World, visitors: &mut Visitors) -> Result<(), Failure> {
    say(format!("{DEPLOYS} deploys and {DEPLOYS} rollbacks under {} requests/s", visitors.rate));
    let load = visitors.begin()?;
    for number in 1..=DEPLOYS {
        world.set_version(&format!("tour {} {number}", visitors.loads))?;
        let deploy = world.ask(&["deploy"])?;
        let rollback = world.ask(&["rollback"])?;
        let seconds = |receipt: &serde_json::Value| receipt["duration_ms"].as_f64().unwrap_or(0.0) / 1000.0;
        println!(
            "  {number:>2}. deployed {} in {:.1} s, rolled back in {:.1} s; {} requests meanwhile, {} failed",
            deploy["to"].as_str().unwrap_or("?"),
            seconds(&deploy),
            seconds(&rollback),
            deploy["requests"].as_u64().unwrap_or(0) + rollback["requests"].as_u64().unwrap_or(0),
            deploy["failed_requests"].as_u64().unwrap_or(0)
                + rollback["failed_requests"].as_u64().unwrap_or(0),
        );
        if deploy["to"] == deploy["from"] {
            return Err(anyhow!("nothing was deployed: {deploy}").into());
        }
        if rollback["to"] != deploy["from"] {
            return Err(anyhow!("not rolled back to what was there: {rollback}").into());
        }
        if load.so_far().failed() > 0 {
            break;
        }
    }
    visitors.end(load, none_failed)
}

fn refuse(world: &World, visitors: &mut Visitors) -> Result<(), Failure> {
    say("a release that crashes at its start is refused");
    let before = world.status()?["apps"][0]["release"].clone();
    let load = visitors.begin()?;
    let marker = world.app.join("CRASH");
    std::fs::write(&marker, "").context("writing CRASH")?;
    let output = world.try_klar(&["deploy"])?;
    print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    std::fs::remove_file(&marker).context("removing CRASH")?;
    let after = world.status()?["apps"][0]["release"].clone();
    visitors.end(load, |tally| {
        ensure!(output.status.code() == Some(1), "the deploy ended with {}", output.status);
        ensure!(after == before, "release {before} served before, {after} after");
        none_failed(tally)
    })
}

/// Somebody drops the table of orders, and it comes back as it was the second before.
fn bring_back(world: &World, client: &Client) -> Result<()> {
    say("a table that was dropped comes back as it was the second before");
    let host: serde_json::Value = serde_json::from_slice(&std::fs::read(world.state.join("host.json"))?)?;
    let apps = host["apps"].as_object().context("no apps in host.json")?;
    let (key, app) = apps.iter().next().context("no app in host.json")?;
    let store = &app["stores"]["db"];
    let sql = |sql: &str| {
        let mut psql = std::process::Command::new("psql");
        psql.args(["-XAtq", "-h", "127.0.0.1", "-U", "klar", "-v", "ON_ERROR_STOP=1", "-c", sql, "lisens"]);
        psql.env("PGPORT", store["port"].to_string());
        psql.env("PGPASSWORD", store["admin_password"].as_str().unwrap_or_default());
        crate::shell::output(&mut psql)
    };
    run(&mut world.klar(&["backup"]))?;
    let digest = "select count(*), sum(hashtextextended(o::text, 0)::numeric) from orders o";
    let now = "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let (before, moment) = (sql(digest)?, sql(now)?);
    std::thread::sleep(Duration::from_millis(100));
    sql("drop table orders cascade")?;
    let (status, _) = client.get("/api/orders?limit=3")?;
    ensure!(status.is_server_error(), "orders answered {status} without their table");
    println!("  orders answers {status}");
    run(&mut world.klar(&["restore", moment.trim(), "--yes", key]))?;
    let begun = Instant::now();
    while client.get("/api/orders?limit=3").map_or(true, |(status, _)| status != 200) {
        ensure!(begun.elapsed() < BACK, "orders did not come back within {} s", BACK.as_secs());
        std::thread::sleep(Duration::from_millis(200));
    }
    let after = sql(digest)?;
    ensure!(before == after, "{} orders before, {} after", before.trim(), after.trim());
    println!("  {} orders, every one of them as it was", before.split('|').next().unwrap_or_default());
    Ok(())
}

fn none_failed(tally: &Tally) -> Result<()> {
    ensure!(tally.failed() == 0, "{} requests failed:{}", tally.failed(), tally.reasons());
    Ok(())
}

/// The load's requests that the edge recorded as failed. Totals would not do: klar's own probes ask the app too, and
/// one of them may be in flight on an instance that is shot.
fn recorded_as_failed(world: &World, agent: &str, wanted: u64) -> Result<u64> {
    const RECORDS: &str = "100000";
    const PATIENCE: Duration = Duration::from_secs(10);
    let begun = Instant::now();
    loop {
        // They come in batches.
        let records = crate::shell::output(&mut world.klar(&["logs", "--access", "--json", "-n", RECORDS]))?;
        let records: Vec<serde_json::Value> =
            records.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        ensure!(!records.is_empty(), "no access records");
        let failed = records.iter().filter(|record| record["decided_by"] == "failed");
        let (ours, others): (Vec<_>, Vec<_>) = failed.partition(|record| record["user_agent"] == agent);
        let counted = ours.len() as u64;
        if counted >= wanted || begun.elapsed() > PATIENCE {
            for record in others {
                println!("  failed too, for somebody else: {record}");
            }
            return Ok(counted);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
