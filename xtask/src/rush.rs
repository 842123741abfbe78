//! `cargo xtask rush`: very many buyers at once, each of whom clicks twice.
//!
//! Everybody has an account, a session and two connections of their own, thinks for a while, and buys: two requests
//! with the same `Idempotency-Key` leave at the same moment. Both must be answered with the same order. In the end
//! the table must hold just the orders that were acknowledged.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use http::StatusCode;
use tokio::task::LocalSet;

use crate::load::{BASKET, Client, Connection};
use crate::shell::{output, say};
use crate::shop::Shop;
use crate::{install, world};

/// A buyer thinks between these before each purchase.
const THINKS: std::ops::Range<f64> = 2.0..6.0;

struct Seen {
    orders: BTreeMap<u64, String>,
    purchases: u64,
    failed: Vec<String>,
    reserve_us: Histogram<u64>,
    checkout_us: Histogram<u64>,
}

/// Lets `buyers` buy for `seconds`.
pub fn rush(buyers: u32, seconds: u64) -> Result<()> {
    install::ensure("The rush (a shop with PostgreSQL and Redis)", false)?;
    let mut shop = Shop::open("rush", world::build(true)?)?;
    let result = stages(&shop, buyers, seconds);
    shop.world.stop()?;
    result
}

fn stages(shop: &Shop, buyers: u32, seconds: u64) -> Result<()> {
    say(format!("{buyers} accounts sign in"));
    // The password of the demo accounts for as many of the seeded users.
    sql(
        shop,
        &format!(
            "UPDATE users SET password_hash = (SELECT password_hash FROM users WHERE email = 'user@lisens.example') WHERE id <= {buyers}"
        ),
    )?;
    let authority = shop.world.authority()?;
    let emails = sql(shop, &format!("SELECT email FROM users WHERE id <= {buyers} ORDER BY id"))?;
    let begun = Instant::now();
    let clients: Vec<Client> = emails
        .lines()
        .map(|email| Client::sign_in_as(email, shop.world.https, &authority))
        .collect::<Result<_>>()?;
    println!("  in {} s", begun.elapsed().as_secs());
    let before = count(shop)?;

    say(format!("they buy for {seconds} s, each with a double click"));
    let seen = Rc::new(RefCell::new(Seen {
        orders: BTreeMap::new(),
        purchases: 0,
        failed: Vec::new(),
        reserve_us: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        checkout_us: Histogram::new_with_bounds(1, 60_000_000, 3)?,
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let until = Instant::now() + Duration::from_secs(seconds);
    LocalSet::new().block_on(&runtime, async {
        let mut open = tokio::task::JoinSet::new();
        for (number, client) in clients.into_iter().enumerate() {
            open.spawn_local(buyer(client, number, until, seen.clone()));
        }
        while open.join_next().await.is_some() {}
    });

    let seen = Rc::try_unwrap(seen).map_err(|_| anyhow::anyhow!("a buyer is left"))?.into_inner();
    let after = count(shop)?;
    let acknowledged = u64::try_from(seen.orders.len())?;
    for (name, histogram) in [("reserve", &seen.reserve_us), ("pay", &seen.checkout_us)] {
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        println!(
            "  {name}: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.0} ms",
            ms(0.5),
            ms(0.95),
            ms(0.99),
            ms(1.0)
        );
    }
    println!(
        "  {} double clicks ({:.0} a second), {acknowledged} orders acknowledged, {} new in the table, {} failed",
        seen.purchases,
        seen.purchases as f64 / seconds as f64,
        after - before,
        seen.failed.len()
    );
    ensure!(
        seen.failed.is_empty(),
        "{} purchases failed, such as:\n  {}",
        seen.failed.len(),
        seen.failed[..seen.failed.len().min(5)].join("\n  ")
    );
    ensure!(seen.purchases == acknowledged, "{} double clicks gave {acknowledged} orders", seen.purchases);
    ensure!(
        after - before == acknowledged,
        "{acknowledged} orders were acknowledged, the table has {} more",
        after - before
    );
    let ids: Vec<String> = seen.orders.keys().map(u64::to_string).collect();
    let found = sql(shop, &format!("SELECT count(*) FROM orders WHERE id IN ({})", ids.join(",")))?;
    ensure!(
        found.trim() == acknowledged.to_string(),
        "of {acknowledged} acknowledged orders {} are in the table",
        found.trim()
    );
    println!("  every double click is one order, and every acknowledged order is in the table");
    Ok(())
}

async fn buyer(client: Client, number: usize, until: Instant, seen: Rc<RefCell<Seen>>) {
    let mut random = fastrand::Rng::with_seed(number as u64);
    let mut connections = None;
    for purchase in 0.. {
        let thinks = THINKS.start + random.f64() * (THINKS.end - THINKS.start);
        // At first everybody comes at another moment.
        tokio::time::sleep(Duration::from_secs_f64(if purchase == 0 {
            thinks * random.f64()
        } else {
            thinks
        }))
        .await;
        if Instant::now() >= until {
            return;
        }
        let key = format!("rush-{number}-{purchase}");
        let outcome = double_click(&client, &mut connections, &key, &seen).await;
        let mut seen = seen.borrow_mut();
        seen.purchases += 1;
        match outcome {
            Ok(id) => match seen.orders.insert(id, key.clone()) {
                None => {}
                Some(other) => seen.failed.push(format!("order {id} was given to {key} and to {other}")),
            },
            Err(error) => {
                connections = None;
                seen.failed.push(format!("{key}: {error:#}"));
            }
        }
    }
}

type Pair = (Connection, Connection);

async fn double_click(
    client: &Client,
    kept: &mut Option<Pair>,
    key: &str,
    seen: &RefCell<Seen>,
) -> Result<u64> {
    if kept.as_ref().is_none_or(|(one, two)| one.is_closed() || two.is_closed()) {
        *kept = Some((client.connect().await?, client.connect().await?));
    }
    let Some((one, two)) = kept else { unreachable!("just made") };
    let begun = Instant::now();
    let (status, body) = client.send(one, "/api/reservations", None, BASKET.into()).await?;
    ensure!(status == StatusCode::CREATED, "reserving answered {status}: {body}");
    record(&mut seen.borrow_mut().reserve_us, begun);
    let held: serde_json::Value = serde_json::from_str(&body)?;
    let wish = format!(r#"{{"reservation_id":{}}}"#, held["id"]);

    let begun = Instant::now();
    let (first, second) = tokio::join!(
        client.send(one, "/api/checkout", Some(key), wish.clone()),
        client.send(two, "/api/checkout", Some(key), wish)
    );
    record(&mut seen.borrow_mut().checkout_us, begun);
    let mut ids = Vec::new();
    for (status, body) in [first?, second?] {
        ensure!(status == StatusCode::CREATED, "paying answered {status}: {body}");
        let order: serde_json::Value = serde_json::from_str(&body)?;
        ids.push(order["id"].as_u64());
    }
    ensure!(ids[0].is_some() && ids[0] == ids[1], "one double click, two orders: {ids:?}");
    Ok(ids[0].unwrap_or_default())
}

fn record(histogram: &mut Histogram<u64>, begun: Instant) {
    histogram.saturating_record(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
}

fn count(shop: &Shop) -> Result<u64> {
    Ok(sql(shop, "SELECT count(*) FROM orders")?.trim().parse()?)
}

fn sql(shop: &Shop, statement: &str) -> Result<String> {
    let mut command = std::process::Command::new("psql");
    output(command.args([
        "--no-psqlrc",
        "--tuples-only",
        "--no-align",
        "--quiet",
        "-v",
        "ON_ERROR_STOP=1",
        "--command",
        statement,
        &shop.database,
    ]))
}
