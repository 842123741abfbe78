//! Heads and bodies that are larger than any honest one.
//!
//! A body is taken to be refused unless the app answers it just as it answers the same body when it is small: then it
//! has read it all. The body is wrong in itself, so that nothing is changed by it. Refused is what is answered with 400,
//! 413, 414 or 431, or cut off; an error of the server's own shows that it did not see the size coming.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::aim::{Range, shots, signs_in, strongest};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::World;
use crate::world::http::Silence;

/// Requests of a size that nobody needs.
pub struct Oversized;

/// How they were answered.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The status of a head of 400 kB; 0 when the connection was cut.
    head: Option<u16>,
    /// Each operation with the status of a small wrong body and of the same with 16 MiB; 0 when it was cut.
    bodies: Vec<(String, u16, u16)>,
}

const OVERSIZED: (&str, &str) = ("edge.ddos", "oversized");
const BODY: usize = 16 << 20;
const MOST_BODIES: usize = 2;
const MOST_TRIED: usize = 4;

impl Probe for Oversized {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "oversized",
        version: 2,
        question: "Are requests refused that are far too large?",
        does: "Sends a head of 400 kB, and wrong bodies padded to 16 MiB beside the same unpadded.",
        shows: &[OVERSIZED],
        needs: &[Need::Site, Need::Api],
        disturbs: Disturbs::Load,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(60),
        faults: &[Fault::Foil("any-head", OVERSIZED), Fault::Foil("any-body", OVERSIZED)],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let range = Range::new(&world, world.site()?, strongest(&world).await);
        let mut seen = Seen { head: head(&world).await, bodies: Vec::new() };
        let mut tried = 0;
        for shot in shots(&range).await.all {
            if seen.bodies.len() >= MOST_BODIES || tried >= MOST_TRIED {
                break;
            }
            if shot.body().is_none() || shot.operation.is_none() || signs_in(&world, &shot) {
                continue;
            }
            let small = shot.with_body(json!(["klar"]));
            let Ok(answer) = range.fire(small.clone()).await else { continue };
            // Only an answer to what the body says shows that the body is read.
            if !matches!(answer.status.as_u16(), 400 | 422) {
                continue;
            }
            tried += 1;
            let mut padded = small.body.as_deref().unwrap_or_default().to_vec();
            padded.resize(BODY, b' ');
            let mut large = small.within(Duration::from_secs(10));
            large.body = Some(Bytes::from(padded));
            let status = match range.fire(large).await {
                Ok(answer) => answer.status.as_u16(),
                // Being slow about it is no refusal.
                Err(Silence::Late) => continue,
                Err(_) => 0,
            };
            seen.bodies.push((shot.label.clone(), answer.status.as_u16(), status));
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let taken = seen.bodies.iter().find(|(_, small, large)| body(*small, *large) == Size::Taken);
        let failed = seen.bodies.iter().find(|(_, _, large)| *large >= 500);
        let finding = match (seen.head, taken, failed) {
            (_, Some((route, _, status)), _) => Finding::broken(
                OVERSIZED,
                words!(
                    "a body of 16 MiB was read to its end by {route} ({status})",
                    "et innhold på 16 MiB ble lest til ende av {route} ({status})",
                    "en kropp på 16 MiB lästes till slutet av {route} ({status})"
                ),
            ),
            (_, None, Some((route, _, status))) => Finding::broken(
                OVERSIZED,
                words!(
                    "a body of 16 MiB is too much for {route} ({status})",
                    "et innhold på 16 MiB er for mye for {route} ({status})",
                    "en kropp på 16 MiB är för mycket för {route} ({status})"
                ),
            ),
            (Some(status @ (200..400 | 500..)), ..) => Finding::broken(
                OVERSIZED,
                words!(
                    "a head of 400 kB was not refused ({status})",
                    "et hode på 400 kB ble ikke avvist ({status})",
                    "ett huvud på 400 kB avvisades inte ({status})"
                ),
            ),
            (head, None, None) => {
                let all = seen.bodies.len();
                let refused = seen
                    .bodies
                    .iter()
                    .filter(|(_, small, large)| body(*small, *large) == Size::Refused)
                    .count();
                let status = head.map_or_else(|| "?".to_owned(), |status| status.to_string());
                let because = words!(
                    "a head of 400 kB was answered with {status} (0: cut off), {refused} of {all} bodies of 16 MiB were refused or cut off",
                    "et hode på 400 kB ble besvart med {status} (0: brutt av), {refused} av {all} innhold på 16 MiB ble avvist eller brutt av",
                    "ett huvud på 400 kB besvarades med {status} (0: avbrutet), {refused} av {all} kroppar på 16 MiB avvisades eller bröts av"
                );
                if head.is_some_and(is_refusal) && refused > 0 && refused == all {
                    Finding::held(OVERSIZED, because)
                } else {
                    Finding::unseen(OVERSIZED, because)
                }
            }
        };
        vec![finding]
    }
}

/// What became of something large.
#[derive(Debug, PartialEq, Eq)]
enum Size {
    Taken,
    Refused,
    /// Limited, or refused for another reason.
    Unclear,
}

/// Whether a status says that it is too much; 0 is a closed connection.
fn is_refusal(status: u16) -> bool {
    matches!(status, 0 | 400 | 413 | 414 | 431)
}

fn body(small: u16, large: u16) -> Size {
    match large {
        200..300 => Size::Taken,
        // The same 400 may be for what is in the body or for how much it is.
        400 if small == 400 => Size::Unclear,
        429 => Size::Unclear,
        large if large == small => Size::Taken,
        large if is_refusal(large) => Size::Refused,
        _ => Size::Unclear,
    }
}

/// The status that a head of 400 kB is answered with, 0 when it is cut off; `None` when nothing could be sent.
async fn head(world: &World) -> Option<u16> {
    let site = world.site.as_ref()?;
    let stream = site.stream().await.ok()?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut text = format!("GET / HTTP/1.1\r\nhost: {}\r\n", site.origin().authority());
    for number in 0..2000 {
        text.push_str(&format!("x-klar-check-{number}: {}\r\n", "k".repeat(180)));
    }
    text.push_str("connection: close\r\n\r\n");
    let send = async {
        // It may be cut off in the middle; what was answered until then is still to be read.
        let _ = writer.write_all(text.as_bytes()).await;
        let _ = writer.flush().await;
        std::future::pending::<()>().await;
    };
    let read = async {
        let mut start = [0; 12];
        reader.read_exact(&mut start).await.ok()?;
        std::str::from_utf8(&start).ok()?.get(9..12)?.parse::<u16>().ok()
    };
    let both = async {
        tokio::select! {
            status = read => status.unwrap_or(0),
            () = send => 0,
        }
    };
    tokio::time::timeout(Duration::from_secs(10), both).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn only_what_speaks_of_size_is_refused() {
        let saw = |head: Option<u16>, bodies: &[(u16, u16)]| {
            let bodies = bodies.iter().map(|(small, large)| ("POST /a".to_owned(), *small, *large)).collect();
            Oversized::judge(&Seen { head, bodies })[0].saw
        };
        for (head, body, wanted) in [
            (431, (422, 413), Saw::Held),
            (0, (422, 0), Saw::Held),
            (400, (422, 400), Saw::Held),
            (431, (422, 422), Saw::Broken),
            (431, (422, 201), Saw::Broken),
            (431, (422, 500), Saw::Broken),
            (431, (400, 502), Saw::Broken),
            (500, (422, 413), Saw::Broken),
            (200, (422, 413), Saw::Broken),
            (429, (422, 413), Saw::Unseen),
            (431, (422, 429), Saw::Unseen),
            (431, (422, 403), Saw::Unseen),
            (431, (400, 400), Saw::Unseen),
            (404, (422, 413), Saw::Unseen),
        ] {
            assert_eq!(saw(Some(head), &[body]), wanted, "{head} {body:?}");
        }
        assert_eq!(saw(None, &[(422, 413)]), Saw::Unseen);
        assert_eq!(saw(Some(431), &[]), Saw::Unseen);
        assert_eq!(saw(Some(431), &[(422, 413), (422, 429)]), Saw::Unseen);
    }
}
