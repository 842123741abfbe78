//! Whether something in front of the app tells attacks from what honest visitors send.
//!
//! Two collections are sent through the front door, as a stranger: attacks of every class and honest requests that look
//! odd. No rule was tuned on a part of both, which is judged by itself. What the app itself refuses with 403, whatever is asked there,
//! says nothing and is left out. Where the collections come from: `bench/waf/corpus` in klar's sources.

use std::collections::BTreeMap;
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;
use crate::world::http::{Answer, Ask, Client, Silence};

/// Attacks and honest requests, and what becomes of them.
pub struct Firewall;

/// What was sent and stopped.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// For each class of attack: how many were sent, and how many of them stopped.
    attacks: BTreeMap<String, (usize, usize)>,
    /// Honest requests, and how many of them were stopped.
    benign: usize,
    stopped: usize,
    /// Of both, the part that no rule was tuned on: attacks, those of them that were stopped, honest requests, those of
    /// them that were stopped.
    #[serde(default)]
    held_out: [usize; 4],
    /// Of so many stopped requests klar was asked for the record, and so many had the verdict in it.
    asked: usize,
    logged: Option<usize>,
    /// Sent, and not answered.
    silent: usize,
}

const ATTACKS: (&str, &str) = ("edge.waf", "attacks");
const BENIGN: (&str, &str) = ("edge.waf", "benign");
const HELD_OUT: (&str, &str) = ("edge.waf", "held-out");
const LOGGED: (&str, &str) = ("edge.waf", "logged");

/// Fewer say nothing.
const ENOUGH: usize = 1000;
/// And of the part that no rule was tuned on.
const ENOUGH_HELD_OUT: usize = 300;
/// Of the attacks, so many hundredths have to be stopped.
const STOPPED: usize = 99;
/// A foil is sent every so many-th.
const SAMPLE: usize = 12;
/// So many verdicts are looked up.
const LOOKED_UP: usize = 200;

/// Tells the foil, which is no firewall, what a request is: `attack` or `honest`. Nobody else is told.
pub const MARK: &str = "klar-corpus";

/// What is known to be refused whatever is asked: method, type, whether with cookies, path.
type Usual = BTreeMap<(String, Option<String>, bool, String), bool>;

/// A request of a collection.
#[derive(Debug, Deserialize)]
struct Piece {
    #[serde(default)]
    class: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
    #[serde(default)]
    body_b64: String,
    host: String,
    /// No rule was tuned on it.
    #[serde(default)]
    held_out: bool,
}

impl Probe for Firewall {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "firewall",
        version: 2,
        question: "Are attacks stopped before they reach the app, and honest requests not?",
        does: "Sends 2366 attacks of 15 classes and 2221 honest requests through the front door, and looks which are answered with 403 or 406; judges those that no rule was tuned on once more by themselves; asks klar for their records.",
        shows: &[ATTACKS, BENIGN, HELD_OUT, LOGGED],
        needs: &[Need::Site],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(300),
        faults: &[
            Fault::Foil("no-firewall", ATTACKS),
            Fault::Foil("no-firewall", HELD_OUT),
            Fault::Foil("nervous-firewall", BENIGN),
            Fault::Foil("silent-firewall", LOGGED),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let site = world.site()?.as_stranger();
        let mut seen = Seen::default();
        let mut usual = BTreeMap::new();
        let mut ids = Vec::new();
        let sample = |of: Vec<Piece>| -> Vec<Piece> {
            if world.is_foil { of.into_iter().step_by(SAMPLE).collect() } else { of }
        };
        for piece in sample(collection(include_bytes!("../../../firewall/attacks.jsonl.gz"))?) {
            let mark = world.is_foil.then_some("attack");
            let Some(answer) = fire(&site, &piece, mark, &mut usual, &mut seen.silent).await else {
                continue;
            };
            let (sent, stopped) = seen.attacks.entry(piece.class.clone()).or_default();
            *sent += 1;
            seen.held_out[0] += usize::from(piece.held_out);
            if is_stopped(&answer) {
                *stopped += 1;
                seen.held_out[1] += usize::from(piece.held_out);
                ids.extend(answer.header("x-request-id").map(str::to_owned));
            }
        }
        for piece in sample(collection(include_bytes!("../../../firewall/benign.jsonl.gz"))?) {
            let mark = world.is_foil.then_some("honest");
            let Some(answer) = fire(&site, &piece, mark, &mut usual, &mut seen.silent).await else {
                continue;
            };
            let is_wrong = is_forbidden(&answer);
            seen.benign += 1;
            seen.stopped += usize::from(is_wrong);
            if piece.held_out {
                seen.held_out[2] += 1;
                seen.held_out[3] += usize::from(is_wrong);
            }
        }
        if world.is_foil {
            // So that a sample can show what all of them would.
            seen.benign *= SAMPLE;
            seen.held_out.iter_mut().for_each(|count| *count *= SAMPLE);
            seen.attacks.values_mut().for_each(|(sent, stopped)| {
                *sent *= SAMPLE;
                *stopped *= SAMPLE;
            });
        }
        if let Some(klar) = &world.klar {
            ids.truncate(LOOKED_UP);
            seen.asked = ids.len();
            seen.logged = klar.verdicts(&ids).await.ok();
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let sent: usize = seen.attacks.values().map(|(sent, _)| sent).sum();
        let stopped: usize = seen.attacks.values().map(|(_, stopped)| stopped).sum();
        let classes = seen.attacks.len();
        let worst = seen.attacks.iter().min_by_key(|(_, (sent, stopped))| stopped * 1000 / (*sent).max(1));
        let worst =
            worst.map(|(class, (sent, stopped))| format!("{class} {stopped}/{sent}")).unwrap_or_default();
        let attacks = words!(
            "{stopped} of {sent} attacks of {classes} classes were stopped, fewest of {worst}",
            "{stopped} av {sent} angrep i {classes} klasser ble stoppet, færrest av {worst}",
            "{stopped} av {sent} attacker i {classes} klasser stoppades, minst av {worst}"
        );
        let (honest, wrong) = (seen.benign, seen.stopped);
        let benign = words!(
            "{wrong} of {honest} honest requests were stopped",
            "{wrong} av {honest} ærlige forespørsler ble stoppet",
            "{wrong} av {honest} ärliga förfrågningar stoppades"
        );
        let [unseen, caught, unseen_honest, unseen_wrong] = seen.held_out;
        let held_out = words!(
            "of what no rule was tuned on, {caught} of {unseen} attacks and {unseen_wrong} of {unseen_honest} honest requests were stopped",
            "av det ingen regel er tilpasset, ble {caught} av {unseen} angrep og {unseen_wrong} av {unseen_honest} ærlige forespørsler stoppet",
            "av det som ingen regel är anpassad till stoppades {caught} av {unseen} attacker och {unseen_wrong} av {unseen_honest} ärliga förfrågningar"
        );
        let is_caught = |stopped: usize, sent: usize| stopped * 100 >= sent * STOPPED;
        let mut findings = vec![
            finding(ATTACKS, sent >= ENOUGH, is_caught(stopped, sent), attacks),
            finding(BENIGN, honest >= ENOUGH, wrong == 0, benign),
            finding(
                HELD_OUT,
                unseen.min(unseen_honest) >= ENOUGH_HELD_OUT,
                is_caught(caught, unseen) && unseen_wrong == 0,
                held_out,
            ),
        ];
        let asked = seen.asked;
        findings.push(match seen.logged {
            Some(logged) => {
                let because = words!(
                    "{logged} of {asked} stopped requests have the verdict in their access record",
                    "{logged} av {asked} stoppede forespørsler har avgjørelsen i aksessloggen",
                    "{logged} av {asked} stoppade förfrågningar har beslutet i åtkomstloggen"
                );
                finding(LOGGED, asked > 0, logged == asked, because)
            }
            None => Finding::unseen(
                LOGGED,
                words!(
                    "only where klar runs the app can its records be read",
                    "bare der klar kjører appen, kan loggen leses",
                    "bara där klar kör appen kan loggen läsas"
                ),
            ),
        });
        findings
    }
}

fn finding(part: (&'static str, &'static str), is_enough: bool, holds: bool, because: Words) -> Finding {
    match (is_enough, holds) {
        (false, _) => Finding::unseen(part, because),
        (true, true) => Finding::held(part, because),
        (true, false) => Finding::broken(part, because),
    }
}

fn collection(packed: &[u8]) -> Result<Vec<Piece>, Unable> {
    let mut text = String::new();
    let read = flate2::read::GzDecoder::new(packed).read_to_string(&mut text);
    let pieces = read.map_err(|why| why.to_string()).and_then(|_| {
        text.lines().map(|line| serde_json::from_str(line).map_err(|why| why.to_string())).collect()
    });
    pieces.map_err(|why| Unable(Words::same(why)))
}

/// What the front door answers to a request; `None` where that says nothing of a firewall.
async fn fire(
    site: &Client,
    piece: &Piece,
    mark: Option<&str>,
    usual: &mut Usual,
    silent: &mut usize,
) -> Option<Answer> {
    let method: Method = piece.method.parse().ok()?;
    let authority = site.origin().authority();
    let mut headers: Vec<(String, String)> = piece
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.replace(&piece.host, &authority)))
        .collect();
    headers.extend(mark.map(|mark| (MARK.to_owned(), mark.to_owned())));
    let body =
        if piece.body_b64.is_empty() { piece.body.clone().into_bytes() } else { decode(&piece.body_b64) };
    let body = (!body.is_empty()).then(|| Bytes::from(body));
    let ask = Ask { method: method.clone(), path: piece.path.clone(), headers, body, patience: None };
    match site.ask(ask).await {
        Ok(answer) if is_forbidden(&answer) => {
            let path = piece.path.split('?').next().unwrap_or_default();
            let has = |wanted: &str| piece.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
            let kind = piece.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
            let kind = kind.map(|(_, kind)| kind.split(';').next().unwrap_or_default().to_owned());
            let plain = Plain { method, kind, cookie: has("cookie") };
            let all = refuses(site, &plain, path, usual).await && refuses(site, &plain, "/", usual).await;
            (!all).then_some(answer)
        }
        Ok(answer) => Some(answer),
        Err(Silence::Unwritable(_)) => None,
        Err(_) => {
            *silent += 1;
            None
        }
    }
}

/// How something is asked that nobody takes for an attack.
#[derive(Debug)]
struct Plain {
    method: Method,
    kind: Option<String>,
    cookie: bool,
}

/// Whether nothing at all can be asked in this way, as where an app wants a token with each write.
async fn refuses(site: &Client, plain: &Plain, path: &str, usual: &mut Usual) -> bool {
    let place = (plain.method.to_string(), plain.kind.clone(), plain.cookie, path.to_owned());
    if let Some(known) = usual.get(&place) {
        return *known;
    }
    let kind = plain.kind.iter().map(|kind| ("content-type".to_owned(), kind.clone()));
    let cookie = plain.cookie.then(|| ("cookie".to_owned(), "theme=dark".to_owned()));
    let headers = kind.chain(cookie).collect();
    let ask = Ask { method: plain.method.clone(), path: path.to_owned(), headers, ..Ask::default() };
    let refuses = site.ask(ask).await.is_ok_and(|answer| is_forbidden(&answer));
    usual.insert(place, refuses);
    refuses
}

fn is_forbidden(answer: &Answer) -> bool {
    matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::NOT_ACCEPTABLE)
}

/// Whether an attack came to nothing: what is no request at all is refused as such.
fn is_stopped(answer: &Answer) -> bool {
    is_forbidden(answer) || answer.status == StatusCode::BAD_REQUEST
}

/// Base64 (RFC 4648 section 4) of klar's own; what is none ends it.
fn decode(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut out, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for value in text.bytes().map_while(digit) {
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn what_counts() {
        let seen = |stopped: usize, wrong: usize, held_out: [usize; 4], logged: Option<usize>| Seen {
            attacks: [("sqli".to_owned(), (1000, stopped))].into(),
            benign: 1000,
            stopped: wrong,
            held_out,
            asked: 10,
            logged,
            ..Seen::default()
        };
        use Saw::{Broken, Held, Unseen};
        for (seen, wanted) in [
            (seen(990, 0, [300, 297, 300, 0], Some(10)), [Held, Held, Held, Held]),
            (seen(989, 0, [300, 296, 300, 0], Some(9)), [Broken, Held, Broken, Broken]),
            (seen(1000, 1, [300, 300, 300, 1], None), [Held, Broken, Broken, Unseen]),
            (seen(1000, 1, [300, 300, 300, 0], None), [Held, Broken, Held, Unseen]),
            (seen(1000, 0, [299, 299, 300, 0], None), [Held, Held, Unseen, Unseen]),
            (Seen::default(), [Unseen, Unseen, Unseen, Unseen]),
        ] {
            let found: Vec<Saw> = Firewall::judge(&seen).into_iter().map(|finding| finding.saw).collect();
            assert_eq!(found, wanted, "{seen:?}");
        }
    }

    #[test]
    fn the_collections_can_be_read() {
        for packed in [
            &include_bytes!("../../../firewall/attacks.jsonl.gz")[..],
            include_bytes!("../../../firewall/benign.jsonl.gz"),
        ] {
            let pieces = collection(packed).unwrap();
            assert!(pieces.len() >= ENOUGH, "{}", pieces.len());
            assert!(
                pieces.iter().all(|piece| piece.body_b64.is_empty() || !decode(&piece.body_b64).is_empty())
            );
        }
        assert_eq!(decode("aGVpLCBow6Vw"), "hei, håp".as_bytes());
        assert_eq!(decode("aA=="), b"h");
    }
}
