//! SQL injection: what a database gives away when it is handed text as SQL: an error, a yes and a no, a pause, a row.
//!
//! Nothing counts that was seen once. An error must be one that the untouched request does not show; a yes and a no
//! must differ in every round of a row of rounds with other numbers, made of the same words, so that no search or
//! filter can tell them apart that does not compute them; a pause must come again, grow with what was asked for and
//! go away; and a row must hold what only the database has put together.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::aim::{
    Range, Shot, Shots, Slot, is_kept_out, is_little, shots, signs_in, signs_out, strongest, told_of,
};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Saw, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;
use crate::world::http::{Answer, Ask, Client, Origin};

/// SQL injection through every parameter.
pub struct Sqli;

/// What came of it, on each way to the app.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    ways: Vec<Way>,
    /// Whether something in front refuses what looks like an attack.
    waf: bool,
    /// Whether klar stands in front.
    edge: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Way {
    /// Whether it goes straight to the app.
    direct: bool,
    /// Parameters that there are.
    all: usize,
    /// Parameters that were tried.
    tried: usize,
    /// Parameters that gave no answer to go by.
    silent: usize,
    /// Requests that were made.
    asked: u64,
    found: Vec<Hole>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Hole {
    route: String,
    parameter: String,
    /// `error`, `boolean`, `time`, `union`.
    how: String,
    /// What gave it away.
    evidence: String,
}

/// More holes than these tell nothing more.
const MOST_HOLES: usize = 20;
const MOST_SLOTS: usize = 240;
/// Shooting ends after this on each way, so that what was found until then is told.
const LONGEST: Duration = Duration::from_secs(540);
/// Rounds of yes and no that must all agree.
const ROUNDS: usize = 5;
/// A pause that is asked for, in seconds.
const PAUSE: f64 = 0.7;

const DIRECT: (&str, &str) = ("sec.sqli", "direct");
const WAF: (&str, &str) = ("sec.sqli", "through-waf");
const CONTROL: (&str, &str) = ("sec.sqli", "control");

impl Probe for Sqli {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "sqli",
        version: 4,
        question: "Can anybody make the database run what they typed?",
        does: "Sends SQL in every query, path, body and form field and in some headers, and looks for database errors, yes/no answers, pauses and rows that only a database makes.",
        shows: &[DIRECT, WAF, CONTROL],
        needs: &[Need::Site],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(600),
        faults: &[
            Fault::Foil("sqli-error", DIRECT),
            Fault::Foil("sqli-boolean", DIRECT),
            Fault::Foil("sqli-time", DIRECT),
            Fault::Foil("sqli-union", DIRECT),
            Fault::Foil("sqli-behind-waf", WAF),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let site = world.site()?;
        let edge = world.klar.is_some();
        let stranger = site.as_stranger();
        let waf = has_waf(&Range::new(&world, &stranger, None)).await;
        let session = strongest(&world).await;
        let range = Range::new(&world, &stranger, session.clone());
        let shots = shots(&range).await;
        let mut services = Vec::new();
        let mut addresses = Vec::new();
        if let Some(klar) = &world.klar {
            for instance in klar.instances().await.unwrap_or_default() {
                let Some(address) = instance.address else { continue };
                if !services.contains(&instance.service) {
                    services.push(instance.service);
                    addresses.push(address);
                }
            }
        }
        let share = LONGEST / u32::try_from(1 + addresses.len()).unwrap_or(u32::MAX);
        let mut ways = vec![attack(&world, &range, &shots, !edge && !waf, share).await];
        for address in addresses {
            let origin = Origin { tls: false, ..site.origin().clone() };
            let client = Client::new(origin).at(address);
            let range = Range::new(&world, &client, session.clone());
            ways.push(attack(&world, &range, &shots, true, share).await);
        }
        Ok(Seen { ways, waf, edge })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let direct: Vec<&Way> = seen.ways.iter().filter(|way| way.direct).collect();
        let front: Vec<&Way> = seen.ways.iter().filter(|way| !way.direct).collect();
        let no_way = words!(
            "no way to the app past what stands in front of it",
            "ingen vei til appen utenom det som står foran den",
            "ingen väg till appen förbi det som står framför den"
        );
        let no_waf = words!(
            "nothing in front refuses attacks; the app was attacked straight",
            "ingenting foran avviser angrep; appen ble angrepet direkte",
            "inget framför avvisar angrepp; appen angreps direkt"
        );
        vec![
            judge_ways(DIRECT, &direct, no_way),
            behind(judge_ways(WAF, &front, no_waf), seen.waf),
            Finding::held(
                CONTROL,
                words!(
                    "planted injections by error, yes/no, pause and union were sought too",
                    "plantede injeksjoner med feil, ja/nei, pause og union ble også søkt",
                    "planterade injektioner med fel, ja/nej, paus och union söktes också"
                ),
            ),
        ]
    }
}

/// What passes nowhere through something that refuses nothing does not speak for it.
fn behind(found: Finding, waf: bool) -> Finding {
    if waf || found.saw != Saw::Held {
        return found;
    }
    let because = found.because.and(&words!(
        "; but nothing in front refuses attacks",
        "; men ingenting foran avviser angrep",
        "; men inget framför avvisar angrepp"
    ));
    Finding::unseen(WAF, because)
}

fn judge_ways(place: (&'static str, &'static str), ways: &[&Way], none: Words) -> Finding {
    let holes: Vec<&Hole> = ways.iter().flat_map(|way| &way.found).collect();
    let tried: usize = ways.iter().map(|way| way.tried).sum();
    let silent: usize = ways.iter().map(|way| way.silent).sum();
    let asked: u64 = ways.iter().map(|way| way.asked).sum();
    if let Some(first) = holes.first() {
        let Hole { route, parameter, how, evidence } = first;
        let count = holes.len();
        return Finding::broken(
            place,
            words!(
                "{count} of {tried} parameters reach the database, first {parameter} of {route}, by {how}: {evidence}",
                "{count} av {tried} parametere når databasen, først {parameter} i {route}, ved {how}: {evidence}",
                "{count} av {tried} parametrar når databasen, först {parameter} i {route}, genom {how}: {evidence}"
            ),
        );
    }
    if ways.is_empty() {
        return Finding::unseen(place, none);
    }
    let answered = tried.saturating_sub(silent);
    let told = words!(
        "{asked} payloads on {answered} of {tried} parameters that are described or linked reached nothing",
        "{asked} angrep på {answered} av {tried} parametere som er beskrevet eller lenket til, nådde ingenting",
        "{asked} angrepp på {answered} av {tried} parametrar som är beskrivna eller länkade nådde inget"
    );
    let all: usize = ways.iter().map(|way| way.all).sum();
    let told = told_of(told, tried, all);
    if tried == 0 || silent > 0 || !is_little(all.saturating_sub(tried), all) {
        Finding::unseen(place, told)
    } else {
        Finding::held(place, told)
    }
}

/// Whether what looks like an attack is refused where the same without it passes.
async fn has_waf(range: &Range<'_>) -> bool {
    let plain = range.fire_bare(Ask::get("/?klar=harmless")).await;
    let attack =
        "/?klar=1%27%20UNION%20SELECT%20password%20FROM%20users--%20%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    let attack = range.fire_bare(Ask::get(attack)).await;
    let refused = |status: StatusCode| status == 403 || status == 406;
    matches!((plain, attack), (Ok(plain), Ok(attack)) if !refused(plain.status) && refused(attack.status))
}

async fn attack(world: &World, range: &Range<'_>, shots: &Shots, direct: bool, share: Duration) -> Way {
    let end = Instant::now() + share;
    let slots = shots.spread(|shot| !signs_out(world, shot));
    let all = slots.len() + shots.beyond();
    let mut way = Way { direct, all, tried: 0, silent: 0, asked: 0, found: Vec::new() };
    let mut stills: BTreeMap<usize, Option<Still>> = BTreeMap::new();
    for (number, slot) in slots {
        let Some(shot) = shots.all.get(number) else { continue };
        if way.tried >= MOST_SLOTS || way.found.len() >= MOST_HOLES || Instant::now() > end {
            break;
        }
        way.tried += 1;
        let guarded = signs_in(world, shot);
        let still = match stills.entry(number) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Still::of(range, shot, guarded).await),
        };
        let Some(still) = still else {
            way.silent += 1;
            continue;
        };
        let aimed = Aimed { range, shot, slot: &slot, still, guarded };
        match aimed.all().await {
            Tried::Hole(how, evidence) => way.found.push(Hole {
                route: shot.label.clone(),
                parameter: shot.slot_name(&slot),
                how: how.to_owned(),
                evidence: evidence.chars().take(200).collect(),
            }),
            Tried::Nothing => {}
            Tried::Silence => way.silent += 1,
        }
    }
    way.asked = range.asked();
    way
}

enum Tried {
    Hole(&'static str, String),
    Nothing,
    Silence,
}

/// What a shot is answered with when nobody tampers with it.
struct Still {
    prints: Vec<String>,
    /// Whether it says a number that is another one each time, such as how long it took: then digits do not count.
    counts: bool,
    text: String,
    slowest: f64,
}

impl Still {
    async fn of(range: &Range<'_>, shot: &Shot, guarded: bool) -> Option<Self> {
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(range.fire(shot.plain()).await.ok().filter(|answer| !is_kept_out(answer, guarded))?);
        }
        let prints =
            |counts| -> Vec<String> { answers.iter().map(|answer| print_of(answer, "", counts)).collect() };
        let same = |prints: &[String]| prints.windows(2).all(|pair| pair.first() == pair.last());
        let counts = !same(&prints(false)) && same(&prints(true));
        Some(Self {
            prints: prints(counts),
            counts,
            text: answers.first()?.text().to_ascii_lowercase(),
            slowest: answers.iter().map(|answer| answer.took.as_secs_f64()).fold(0.0, f64::max),
        })
    }
}

/// A slot of a shot, under attack.
struct Aimed<'a> {
    range: &'a Range<'a>,
    shot: &'a Shot,
    slot: &'a Slot,
    still: &'a Still,
    guarded: bool,
}

impl Aimed<'_> {
    async fn send(&self, text: &str) -> Option<Answer> {
        self.range.fire(self.shot.with(self.slot, text)).await.ok()
    }

    fn print(&self, answer: &Answer, sent: &str) -> String {
        print_of(answer, sent, self.still.counts)
    }

    async fn all(&self) -> Tried {
        let value = self.shot.value(self.slot);
        // First what a database answers quietly: it may fall over an error.
        if let Some(evidence) = self.boolean(&value).await {
            return Tried::Hole("yes/no", evidence);
        }
        if self.still.slowest < 3.0
            && let Some(evidence) = self.time(&value).await
        {
            return Tried::Hole("time", evidence);
        }
        let quote = self.send(&format!("{value}'")).await;
        let letter = self.send(&format!("{value}k")).await;
        let answered = quote.is_some() || letter.is_some();
        let differ = match (&quote, &letter) {
            (Some(quote), Some(letter)) => {
                self.print(quote, &format!("{value}'")) != self.print(letter, &format!("{value}k"))
            }
            _ => true,
        };
        if let Some(evidence) = self.error(&value, quote).await {
            return Tried::Hole("error", evidence);
        }
        if differ
            && self.shot.reads()
            && !self.guarded
            && let Some(evidence) = self.union(&value).await
        {
            return Tried::Hole("union", evidence);
        }
        if answered { Tried::Nothing } else { Tried::Silence }
    }

    /// A yes and a no of the same words, in every place of a statement where text ends up.
    async fn boolean(&self, value: &str) -> Option<String> {
        let contexts: &[(&str, &str, &str)] = &[
            ("{v}' AND ", " AND '1' LIKE '1", "'"),
            ("{v} AND ", "", "number"),
            ("%' AND ", " AND '1' LIKE '1", "LIKE"),
            ("{v}') AND ", " AND ('1' LIKE '1", "')"),
            ("{v}) AND (", "", ")"),
            ("{v}\" AND ", " AND \"1\" LIKE \"1", "\""),
            // Those below find more than was asked for, so only what reads is asked.
            ("zq{v}' OR ", " AND '1' LIKE '1", "' OR"),
            ("-7 OR ", "", "OR"),
        ];
        let contexts = match (self.guarded, self.shot.reads()) {
            // Few guesses are allowed there, and this is the one that lets in.
            (true, _) => &[("zq{v}' OR ", "-- -", "' OR")],
            (false, true) => contexts,
            (false, false) => contexts.get(..2).unwrap_or_default(),
        };
        for (before, after, name) in contexts {
            let before = before.replace("{v}", value);
            let payload = |yes: bool| {
                let (low, step) = (fastrand::u32(1000..4000), fastrand::u32(1000..4000));
                let (low, middle, high) = (low, low + step, low + 2 * step);
                if yes {
                    format!("{before}{middle} BETWEEN {low} AND {high}{after}")
                } else {
                    format!("{before}{low} BETWEEN {middle} AND {high}{after}")
                }
            };
            let mut yes: Option<(String, StatusCode)> = None;
            let mut no: Option<String> = None;
            let mut same = true;
            // Not in turns: an app that alternates by itself must not look like one that answers.
            let order = [[true, false], [false, true], [false, true], [true, false], [false, true]];
            'rounds: for round in order.iter().take(ROUNDS) {
                for asked in round {
                    let text = payload(*asked);
                    let Some(answer) = self.send(&text).await else {
                        same = false;
                        break 'rounds;
                    };
                    let print = self.print(&answer, &text);
                    match asked {
                        true => match &yes {
                            Some((before, _)) if *before != print => same = false,
                            Some(_) => {}
                            None => yes = Some((print, answer.status)),
                        },
                        false => match &no {
                            Some(before) if *before != print => same = false,
                            Some(_) => {}
                            None => no = Some(print),
                        },
                    }
                }
                if !same || yes.as_ref().map(|(print, _)| print) == no.as_ref() {
                    same = false;
                    break;
                }
            }
            let (Some((yes, status)), Some(no)) = (yes, no) else { continue };
            let widens = before.starts_with('%') || before.contains(" OR ");
            let anchored = widens || self.still.prints.contains(&yes);
            if same && yes != no && status.is_success() && anchored {
                return Some(format!("{ROUNDS} × 2 conditions after {name} were computed"));
            }
        }
        None
    }

    /// A pause that grows with what is asked for.
    async fn time(&self, value: &str) -> Option<String> {
        let sleeps: &[(&str, &str)] = &[
            ("PostgreSQL", "{v}'||(SELECT '' FROM pg_sleep({s}))||'"),
            ("PostgreSQL", "{v}+(SELECT 0 FROM pg_sleep({s}))"),
            ("PostgreSQL", "{v}';SELECT pg_sleep({s})-- -"),
            ("MySQL", "{v}'+(SELECT 0 FROM (SELECT SLEEP({s})) klar)+'"),
            ("MySQL", "{v}+(SELECT 0 FROM (SELECT SLEEP({s})) klar)"),
            ("SQLite", "{v}'||substr(hex(randomblob({b})),1,0)||'"),
            ("SQLite", "{v}+0*length(hex(randomblob({b})))"),
        ];
        let most = if self.guarded { 1 } else { sleeps.len() };
        for (database, sleep) in sleeps.iter().take(most) {
            let payload = |seconds: f64| {
                let text = sleep.replace("{v}", value).replace("{s}", &format!("{seconds:.1}"));
                text.replace("{b}", &format!("{}", (seconds * 60e6) as u64))
            };
            let took = async |seconds: f64| {
                let ask = self.shot.with(self.slot, &payload(seconds)).within(Duration::from_secs(12));
                self.range.fire(ask).await.ok().map(|answer| answer.took.as_secs_f64())
            };
            let exact = *database != "SQLite";
            let least = if exact { 0.97 * PAUSE } else { 0.25 + self.still.slowest };
            // A busy machine may spoil a series; an app that does not pause at all spoils every one.
            for _ in 0..3 {
                let Some(once) = took(PAUSE).await.filter(|once| *once >= least) else { break };
                let (Some(none), Some(double), Some(again), Some(nothing)) =
                    (took(0.0).await, took(2.0 * PAUSE).await, took(PAUSE).await, took(0.0).await)
                else {
                    break;
                };
                // Twice without, twice with, and twice as long: noise does not do that.
                let (quick, with) = (none.max(nothing), once.min(again));
                let grows = if exact {
                    double >= 1.97 * PAUSE && (0.7 * PAUSE..2.0 * PAUSE).contains(&(double - with))
                } else {
                    double > 1.6 * with && once.max(again) < 1.4 * with
                };
                if again >= least && quick < 0.5 * with && grows {
                    return Some(format!(
                        "{database}: {PAUSE} s → {once:.1} s, {:.1} s → {double:.1} s, 0 s → {quick:.1} s",
                        2.0 * PAUSE
                    ));
                }
            }
        }
        None
    }

    /// A database's own words.
    async fn error(&self, value: &str, quote: Option<Answer>) -> Option<String> {
        let seen = |answer: &Answer| {
            let text = answer.text().to_ascii_lowercase();
            let sign = signature(&text)?;
            // What the page says anyhow is no answer to this.
            (signature(&self.still.text) != Some(sign)).then(|| format!("{} {sign}", answer.status.as_u16()))
        };
        if let Some(found) = quote.as_ref().and_then(seen) {
            return Some(found);
        }
        let texts: &[&str] = if self.guarded { &[] } else { &["\"", "\\", "') klar(\""] };
        for text in texts {
            if let Some(found) = self.send(&format!("{value}{text}")).await.as_ref().and_then(seen) {
                return Some(found);
            }
        }
        if matches!(self.slot, Slot::Json(_)) && !self.guarded {
            let operator = self.shot.with_json(self.slot, &json!({ "$klar": 1 }));
            let answer = self.range.fire(operator).await.ok();
            return answer.as_ref().and_then(seen);
        }
        None
    }

    /// A row that the database has put together.
    async fn union(&self, value: &str) -> Option<String> {
        for (before, after) in [("zq{v}'", "-- -"), ("-7", "-- -"), ("zq{v}')", "-- -")] {
            let before = before.replace("{v}", value);
            let (left, right) =
                (format!("{:06x}", fastrand::u32(..1 << 24)), format!("{:06x}", fastrand::u32(..1 << 24)));
            let marker = format!("{left}{right}");
            let mut prints: Vec<String> = Vec::new();
            for columns in 1..=10_usize {
                let nulls = vec!["NULL"; columns];
                let text = format!("{before} UNION ALL SELECT {}{after}", nulls.join(","));
                let answer = self.send(&text).await?;
                prints.push(self.print(&answer, &text));
                // Too many or too few columns are all answered alike; the right number is not.
                let odd = columns > 1 && prints.first() != prints.last();
                if !odd && columns != 1 {
                    continue;
                }
                for place in 0..columns {
                    for joined in [format!("'{left}'||'{right}'"), format!("CONCAT('{left}','{right}')")] {
                        let mut list = nulls.clone();
                        if let Some(each) = list.get_mut(place) {
                            *each = &joined;
                        }
                        let text = format!("{before} UNION ALL SELECT {}{after}", list.join(","));
                        if self.send(&text).await?.text().contains(&marker) {
                            return Some(format!("{columns} columns"));
                        }
                    }
                }
                if odd {
                    break;
                }
            }
        }
        None
    }
}

/// What databases and those who speak for them say, in lower case.
const SIGNATURES: [&str; 34] = [
    "unterminated quoted string",
    "syntax error at or near",
    "syntax error at end of input",
    "invalid input syntax for",
    "error: operator does not exist",
    "pg::syntaxerror",
    "psycopg2.",
    "psycopg.errors",
    "org.postgresql.util.psqlexception",
    "npgsql.postgresexception",
    "pq: ",
    "sqlstate[",
    "sqlstate 42",
    "\"routine\":\"scanner_yyerror\"",
    "\"code\":\"42601\"",
    "you have an error in your sql syntax",
    "er_parse_error",
    "mysql_fetch",
    "com.mysql.",
    "mariadb server version for the right syntax",
    "unclosed quotation mark after the character string",
    "incorrect syntax near",
    "microsoft ole db provider",
    "ora-00933",
    "ora-01756",
    "sqlite_error",
    "sqlite3.operationalerror",
    "unrecognized token: \"",
    "sqliteexception",
    "sequelizedatabaseerror",
    "queryfailederror",
    "prismaclientknownrequesterror",
    "mongoservererror",
    "unknown operator: $klar",
];

/// What SQLite says of a statement that it cannot read, with a piece of it between.
const NEAR: (&str, &str) = ("near \"", "\": syntax error");
/// As long as such a piece may be.
const LONGEST_PIECE: usize = 60;

/// The words of a database in an answer in lower case, whether it is JSON, a page or plain text.
fn signature(text: &str) -> Option<&'static str> {
    let plain =
        ["\\\"", "&quot;", "&#34;"].iter().fold(text.to_owned(), |text, form| text.replace(form, "\""));
    let near = || {
        plain.match_indices(NEAR.0).any(|(at, near)| {
            let rest = &plain[at + near.len()..];
            rest.find(NEAR.1).is_some_and(|piece| piece <= LONGEST_PIECE)
        })
    };
    SIGNATURES
        .into_iter()
        .find(|sign| text.contains(sign) || plain.contains(sign))
        .or_else(|| near().then_some("syntax error"))
}

/// An answer without what changes from one request to the next and without what was sent; where it `counts`, without
/// any digits.
fn print_of(answer: &Answer, sent: &str, counts: bool) -> String {
    let mut text = answer.text();
    if !sent.is_empty() {
        let json = serde_json::to_string(sent).unwrap_or_default();
        let html = sent.replace('&', "&amp;").replace('"', "&quot;").replace('\'', "&#39;");
        let percent = crate::world::http::percent(sent);
        let in_script = [("%27", "'"), ("%28", "("), ("%29", ")"), ("%2A", "*"), ("%21", "!")];
        let written = [
            sent.to_owned(),
            json.trim_matches('"').to_owned(),
            html.replace("&#39;", "&#x27;"),
            html.replace("&quot;", "&#34;"),
            html,
            percent.replace("%20", "+"),
            in_script.iter().fold(percent.clone(), |text, (code, sign)| text.replace(code, sign)),
            percent,
        ];
        for form in written {
            text = text.replace(&form, "");
        }
    }
    let mut print = format!("{} ", answer.status.as_u16());
    // Tokens, numbers of requests and times: long words with digits.
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != ':') {
        let core = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if core.len() >= 8 && core.bytes().any(|byte| byte.is_ascii_digit()) {
            print.push('~');
        } else if counts {
            print.extend(word.chars().filter(|c| !c.is_ascii_digit()));
        } else {
            print.push_str(word);
        }
    }
    format!("{:016x}{}", hash(&print), print.len())
}

fn hash(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: http::HeaderMap::new(),
            body: body.to_owned().into(),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn prints_forget_what_changes() {
        let print = |status, body: &str| print_of(&answer(status, body), "p'1", false);
        let same = |a: &str, b: &str| print(200, a) == print(200, b);
        assert!(same("id 0a1b2c3d-77 x", "id 99112233-aa x"));
        assert!(same("for p'1", "for "));
        assert!(same("for p&#39;1", "for "));
        assert!(!same("[1]", "[]"));
        assert!(print(200, "x") != print(404, "x"));
    }

    #[test]
    fn prints_of_what_counts_forget_numbers() {
        let same = |a: &str, b: &str, counts| {
            let print = |body| print_of(&answer(200, body), "it's 1 \"x\"", counts);
            print(a) == print(b)
        };
        assert!(!same("took 1.25ms", "took 12.5ms", false));
        assert!(same("took 1.25ms", "took 12.5ms", true));
        assert!(!same("<li>a boat</li> took 1.25ms", "took 12.5ms", true));
        for written in
            ["it%27s%201%20%22x%22", "it%27s+1+%22x%22", "it's%201%20%22x%22", "it&#39;s 1 &#34;x&#34;"]
        {
            assert!(same(&format!("<a href='?q={written}'>"), "<a href='?q='>", false), "{written}");
        }
    }

    #[test]
    fn what_was_left_out_is_told() {
        let way = |all, silent, found| Way { direct: true, all, tried: 80, silent, asked: 900, found };
        let hole = || Hole {
            route: "GET /a".into(),
            parameter: "q (query)".into(),
            how: "time".into(),
            evidence: "x".into(),
        };
        let judged = |way: Way| judge_ways(DIRECT, &[&way], Words::same(String::new()));
        assert_eq!(judged(way(80, 0, Vec::new())).saw, Saw::Held);
        assert_eq!(judged(way(82, 0, Vec::new())).saw, Saw::Held);
        let cut = judged(way(212, 0, Vec::new()));
        assert_eq!(cut.saw, Saw::Unseen);
        assert!(cut.because.en.ends_with("80 of 212 were tried"), "{}", cut.because.en);
        assert_eq!(judged(way(80, 1, Vec::new())).saw, Saw::Unseen);
        assert_eq!(judged(way(212, 1, vec![hole()])).saw, Saw::Broken);
    }

    #[test]
    fn signatures() {
        assert!(signature("error: syntax error at or near \"'\"").is_some());
        assert!(signature("the body is not valid json").is_none());
        assert!(signature("there is nothing at this address").is_none());
        // SQLite by itself, in JSON, in pages of two kinds, and from Java.
        for said in [
            r#"near "'": syntax error"#,
            r#"{"error":"near \"klar\": syntax error"}"#,
            r#"{"error":"unrecognized token: \"'1''\""}"#,
            "<p>unrecognized token: &#34;&#39;&#34;</p>",
            "<p>near &quot;)&quot;: syntax error</p>",
            "org.sqlite.sqliteexception: [sqlite_error]",
            "android.database.sqlite.sqliteexception",
        ] {
            assert!(signature(said).is_some(), "{said}");
        }
        assert!(signature("unexpected end of input: syntax error").is_none());
    }
}
