//! A certificate is renewed while visitors are there.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::running::pace::{Pace, Tally};
use crate::checks::running::{anybody, good_reads};
use crate::words;
use crate::words::Words;
use crate::world::http::Ask;
use crate::world::{World, until};

/// A renewal under load.
pub struct Renewal;

/// What visitors noticed of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// SHA-256 of the certificates before and after, the first bytes.
    before: String,
    after: String,
    /// Milliseconds from the request until a new connection saw the new one; `None`: it never did.
    new_after_ms: Option<u64>,
    /// Why klar did not renew.
    refused: Option<String>,
    /// Whether a connection from before still answered afterwards.
    old_goes_on: bool,
    tally: Tally,
}

const PLACE: (&str, &str) = ("edge.tls", "renewal");
const RATE: u32 = 100;
/// Before the renewal, and after it.
const CALM: Duration = Duration::from_secs(2);
const SEEN: Duration = Duration::from_secs(20);
const LONGEST: Duration = Duration::from_secs(60);

impl Probe for Renewal {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "renewal",
        version: 1,
        question: "Is a certificate renewed without anybody noticing?",
        does: "Reads at 100 requests/s in the rig, has klar renew the certificate, waits until new connections see the new one, and counts what fails; a connection from before has to go on.",
        shows: &[PLACE],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(90),
        faults: &[Fault::Foil("never-renews", PLACE), Fault::Foil("drops-on-renewal", PLACE)],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let site = world.site()?;
        if !site.origin().tls {
            return Err(Unable(words!("served without TLS", "serveres uten TLS", "serveras utan TLS")));
        }
        let session = anybody(&world).await;
        let paths = good_reads(&world, session.as_ref()).await?;
        let cannot = |why: &dyn std::fmt::Display| Unable(Words::same(why.to_string()));
        let before = site.certificate().await.map_err(|why| cannot(&why))?;
        let first = paths.first().cloned().unwrap_or_else(|| "/".to_owned());
        let ask = Ask::get(&first).with("accept", "application/json, text/html;q=0.5");
        let ask = session.as_ref().map_or(ask.clone(), |session| session.on(ask));
        let mut old = site.held(&ask).await.map_err(|why| cannot(&why))?;
        let pace = Pace { rate: RATE, run: LONGEST, enough: Rc::default(), paths };
        let load = pace.run(Rc::clone(&world), session);
        let renewal = async {
            tokio::time::sleep(world.patience(CALM)).await;
            let asked = tokio::time::Instant::now();
            let refused = klar.renew().await.err();
            let is_new = || async {
                let now = site.certificate().await.ok().filter(|now| *now != before)?;
                Some((now, asked.elapsed()))
            };
            let seen = match refused {
                Some(_) => None,
                None => until(world.patience(SEEN), is_new).await,
            };
            tokio::time::sleep(world.patience(CALM)).await;
            pace.enough.set(true);
            (refused, seen)
        };
        let (tally, (refused, seen)) = tokio::join!(load, renewal);
        let old_goes_on = old.again(&ask).await;
        Ok(Seen {
            before: short(&before),
            after: seen.as_ref().map_or_else(|| short(&before), |(after, _)| short(after)),
            new_after_ms: seen.map(|(_, took)| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            refused,
            old_goes_on,
            tally,
        })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { before, after, tally, .. } = seen;
        if let Some(why) = &seen.refused {
            return vec![Finding::unseen(
                PLACE,
                words!("klar did not renew: {why}", "klar fornyet ikke: {why}", "klar förnyade inte: {why}"),
            )];
        }
        let Some(ms) = seen.new_after_ms else {
            return vec![Finding::broken(
                PLACE,
                words!(
                    "new connections still see the certificate {before}",
                    "nye forbindelser ser fortsatt sertifikatet {before}",
                    "nya anslutningar ser fortfarande certifikatet {before}"
                ),
            )];
        };
        let told = words!(
            "{before} became {after} for new connections after {ms} ms; ",
            "{before} ble til {after} for nye forbindelser etter {ms} ms; ",
            "{before} blev {after} för nya anslutningar efter {ms} ms; "
        );
        let mut told = told.and(&tally.words());
        if !seen.old_goes_on {
            told = told.and(&words!(
                "; a connection from before was cut",
                "; en forbindelse fra før ble brutt",
                "; en anslutning från före bröts"
            ));
            return vec![Finding::broken(PLACE, told)];
        }
        // The row says none, so one is too many.
        let finding = tally.finding(tally.failed == 0, PLACE);
        vec![Finding { because: told, ..finding }]
    }
}

fn short(certificate: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(certificate).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn one_request_that_fails_is_one_too_many() {
        let saw = |change: fn(&mut Seen)| {
            let mut seen = Seen {
                before: "aa".into(),
                after: "bb".into(),
                new_after_ms: Some(30),
                refused: None,
                old_goes_on: true,
                tally: Tally { sent: 500, ..Tally::default() },
            };
            change(&mut seen);
            Renewal::judge(&seen)[0].saw
        };
        assert_eq!(saw(|_| {}), Saw::Held);
        assert_eq!(saw(|seen| seen.tally.failed = 1), Saw::Broken);
        assert_eq!(saw(|seen| seen.new_after_ms = None), Saw::Broken);
        assert_eq!(saw(|seen| seen.old_goes_on = false), Saw::Broken);
        assert_eq!(saw(|seen| seen.refused = Some("it was given".into())), Saw::Unseen);
        assert_eq!(saw(|seen| seen.tally.limited = 1), Saw::Unseen);
    }
}
