//! What a team declares itself in `klar.toml`: checks of its own, and what it has decided to live without for a while.
//!
//! The declaration is written into the ledger like evidence, so that a report can be computed again where there is no
//! `klar.toml`. A check of one's own goes the way of all others: it looks, a pure function judges, and its pass counts
//! once it has found a planted fault.

use std::process::ExitStatus;
use std::rc::Rc;
use std::time::{Duration, Instant};

use klar_config::Config;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::catalogue::{Catalogue, Category, Part, Priority, Row, Who};
use crate::check::{About, Check, Disturbs, Fault, Finding, Need, Saw, Unable};
use crate::checks;
use crate::evidence::{Attestation, Control, Says};
use crate::shell;
use crate::words;
use crate::words::Words;
use crate::world::World;
use crate::world::http::Ask;

/// The only part of the proof of such a row.
pub const PART: &str = "holds";
/// More rows than this are not counted.
const MOST_ROWS: usize = 1_000;
/// As much of its reason is kept.
const MOST_REASON: usize = 300;

/// All that a `klar.toml` declares about checks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// The app and environment it is for.
    pub target: String,
    /// `[checks.NAME]`.
    pub checks: Vec<Own>,
    /// `[waivers.NAME]`.
    pub waivers: Vec<Waiver>,
}

/// A demand that the team lives without for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// What it is called in `klar.toml`.
    pub name: String,
    /// What it says, as if it were signed.
    #[serde(flatten)]
    pub says: Attestation,
}

/// A check of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// The row it settles, and its own id: `own.orders`.
    pub row: String,
    /// What it asks.
    pub question: String,
    /// Where it counts.
    pub category: Category,
    /// What it weighs.
    pub priority: Priority,
    /// How it looks.
    pub looks: Looks,
    /// The fault it must find.
    pub plant: Option<String>,
    /// It is given up after so many milliseconds.
    pub limit_ms: u64,
    /// What it saw is worth something for so many milliseconds.
    pub good_for_ms: u64,
    /// What to do when it fails.
    pub fix: Option<String>,
}

/// How a check of one's own looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Looks {
    /// It asks the app.
    Path {
        /// For this.
        path: String,
        /// The status that is expected.
        status: u16,
        /// A text that the body must have.
        contains: Option<String>,
        /// How long it may take.
        within_ms: Option<u64>,
        /// Who asks.
        account: Option<String>,
    },
    /// It asks a database for what must not be there.
    Sql {
        /// The query.
        sql: String,
        /// The database; the only one when not said.
        store: Option<String>,
    },
    /// It runs a command.
    Command {
        /// For `sh`.
        command: String,
    },
}

/// What such a check saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Seen {
    /// An answer.
    Answer { status: u16, has: bool, ms: u64 },
    /// So many rows that must not be there; their contents stay where they are.
    Rows(usize),
    /// A command ended.
    Ended { saw: Word, because: String },
}

/// How a command says what it saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Held,
    Broken,
    Unseen,
    Inapplicable,
}

/// Nothing declared: a target that is no app of a `klar.toml`.
pub static NOTHING: Declared = Declared { target: String::new(), checks: Vec::new(), waivers: Vec::new() };

impl Declared {
    /// What a `klar.toml` declares.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let waivers = config.waivers.iter().map(|(name, waiver)| Waiver {
            name: name.to_string(),
            says: Attestation {
                target: config.key().to_string(),
                row: waiver.row.to_string(),
                says: Says::Accepted,
                by: waiver.by.to_string(),
                until: waiver.until.0,
                document: None,
                digest: None,
                note: Some(waiver.reason.to_string()),
            },
        });
        let checks = config.checks.iter().map(|(name, own)| Own::of(name.as_str(), own)).collect();
        Self { target: config.key().to_string(), checks, waivers: waivers.collect() }
    }

    /// klar's rows and those of the team.
    #[must_use]
    pub fn catalogue(&self) -> Catalogue {
        let known = Catalogue::built_in().rows().iter().cloned();
        Catalogue::new(known.chain(self.checks.iter().map(Own::row)).collect())
    }

    /// klar's checks and those of the team. Those live as long as the process: ask once.
    #[must_use]
    pub fn checks(&self) -> Vec<Check> {
        let own = self.checks.iter().map(|own| Check::own(Box::leak(Box::new(own.clone()))));
        checks::ALL.iter().copied().chain(own).collect()
    }

    /// The waiver of a row.
    #[must_use]
    pub fn waiver(&self, row: &str) -> Option<&Attestation> {
        self.waivers.iter().map(|waiver| &waiver.says).find(|says| says.row == row)
    }
}

impl Own {
    fn of(name: &str, own: &klar_config::OwnCheck) -> Self {
        use klar_config::{CheckCategory as C, CheckPriority as P};
        let category = match own.category {
            C::Testing => Category::Testing,
            C::ErrorHandling => Category::ErrorHandling,
            C::Monitoring => Category::Monitoring,
            C::Security => Category::Security,
            C::Backup => Category::Backup,
            C::Performance => Category::Performance,
            C::Documentation => Category::Documentation,
            C::Scalability => Category::Scalability,
        };
        let priority = match own.priority {
            P::Critical => Priority::Critical,
            P::High => Priority::High,
            P::Medium => Priority::Medium,
        };
        let text = |text: &Option<klar_config::PlainText>| text.as_ref().map(ToString::to_string);
        let looks = match (&own.path, &own.sql, &own.command) {
            (Some(path), ..) => Looks::Path {
                path: path.to_string(),
                status: own.status,
                contains: text(&own.contains),
                within_ms: own.within.map(|within| millis(within.0)),
                account: own.account.as_ref().map(ToString::to_string),
            },
            (None, Some(sql), _) => {
                Looks::Sql { sql: sql.to_string(), store: own.store.as_ref().map(ToString::to_string) }
            }
            // The file is refused when none of the three is there.
            (None, None, command) => {
                Looks::Command { command: command.as_ref().map(ToString::to_string).unwrap_or_default() }
            }
        };
        Self {
            row: format!("own.{name}"),
            question: own.question.to_string(),
            category,
            priority,
            looks,
            plant: own.plant.as_ref().map(ToString::to_string),
            limit_ms: millis(own.limit.0),
            good_for_ms: millis(own.good_for.0),
            fix: text(&own.fix),
        }
    }

    /// As a row of the catalogue.
    fn row(&self) -> Row {
        let name = self.row.trim_start_matches("own.");
        Row {
            id: self.row.clone(),
            category: self.category,
            priority: self.priority,
            who: Who::App,
            effort: "1h".to_owned(),
            sign: None,
            sign_days: None,
            title: Words::same(&self.question),
            risk: words!(
                "What the team itself has found worth asking is not so.",
                "Det teamet selv har funnet verdt å spørre om, er ikke slik.",
                "Det som teamet självt har funnit värt att fråga om är inte så."
            ),
            fix: match &self.fix {
                Some(fix) => Words::same(fix),
                None => words!(
                    "See `[checks.{name}]` in `klar.toml`.",
                    "Se `[checks.{name}]` i `klar.toml`.",
                    "Se `[checks.{name}]` i `klar.toml`."
                ),
            },
            proof: vec![Part { id: PART.to_owned(), text: Words::same(&self.question) }],
        }
    }

    /// What it is, for as long as the process lives.
    #[must_use]
    pub fn about(&'static self) -> About {
        let place: &'static (&'static str, &'static str) = Box::leak(Box::new((&*self.row, PART)));
        let shows = std::slice::from_ref(place);
        About {
            id: &self.row,
            version: self.version(),
            question: &self.question,
            does: match self.looks {
                Looks::Path { .. } => "Asks the app for a path, as `klar.toml` says.",
                Looks::Sql { .. } => "Asks the database for what must not be there, as `klar.toml` says.",
                Looks::Command { .. } => "Runs the command that `klar.toml` names.",
            },
            shows,
            needs: match self.looks {
                Looks::Path { .. } => &[Need::Site],
                // A query is cheap: it may run beside an app that is busy.
                Looks::Sql { .. } => &[],
                Looks::Command { .. } => &[Need::Source],
            },
            disturbs: Disturbs::Nothing,
            good_for: Duration::from_millis(self.good_for_ms),
            limit: Duration::from_millis(self.limit_ms),
            faults: Box::leak(Box::new([Fault::Own(*place)])),
        }
    }

    /// Another declaration is another check: what the old one saw says nothing about it.
    fn version(&self) -> u32 {
        let digest = Sha256::digest(serde_json::to_vec(self).unwrap_or_default());
        u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
    }

    /// Looks at the world.
    pub(crate) async fn look(&self, world: &Rc<World>) -> Result<serde_json::Value, Unable> {
        let seen = match &self.looks {
            Looks::Path { path, contains, account, .. } => {
                self.ask(world, path, contains.as_deref(), account.as_deref()).await?
            }
            Looks::Sql { sql, store } => {
                let database = world.database_named(store.as_deref()).await?;
                Seen::Rows(database.count(sql, "", MOST_ROWS).await.map_err(without_values)?)
            }
            Looks::Command { command } => self.run(world, command).await?,
        };
        serde_json::to_value(seen).map_err(|why| Unable(Words::same(why.to_string())))
    }

    async fn ask(
        &self,
        world: &World,
        path: &str,
        contains: Option<&str>,
        account: Option<&str>,
    ) -> Result<Seen, Unable> {
        let mut ask = Ask::get(path);
        ask.patience = Some(Duration::from_millis(self.limit_ms));
        if let Some(label) = account {
            let accounts = world.accounts.as_ref().ok_or_else(|| Unable(Need::Accounts.missing()))?;
            let account = accounts.list.iter().find(|account| account.label == label);
            let account = account.ok_or_else(|| Unable(Need::Accounts.missing()))?;
            ask = world.sign_in(account).await?.on(ask);
        }
        let began = Instant::now();
        let answer =
            world.ask(ask).await.map_err(|why| words!("{path}: {why}", "{path}: {why}", "{path}: {why}"));
        let answer = answer.map_err(Unable)?;
        let has = contains.is_none_or(|text| answer.text().contains(text));
        Ok(Seen::Answer { status: answer.status.as_u16(), has, ms: millis(began.elapsed()) })
    }

    async fn run(&self, world: &World, command: &str) -> Result<Seen, Unable> {
        let folder = world.source.as_ref().ok_or_else(|| Unable(Need::Source.missing()))?;
        let site = world.site.iter().map(|site| ("KLAR_URL".to_owned(), site.origin().to_string()));
        let done = shell::run(command, folder, &site.collect::<Vec<_>>()).await;
        let done = done.map_err(|why| Unable(Words::same(format!("{command}: {why}"))))?;
        Ok(ended(done.status, &done.said))
    }

    /// Judges what it saw.
    pub(crate) fn judge(&'static self, seen: &serde_json::Value) -> Result<Vec<Finding>, String> {
        let seen = Seen::deserialize(seen).map_err(|why| why.to_string())?;
        let (saw, because) = self.verdict(&seen);
        let place = (&*self.row, PART);
        let unarmed = saw == Saw::Held && self.plant.is_none() && !matches!(self.looks, Looks::Path { .. });
        if unarmed {
            let Words { en, nb, sv } = because;
            return Ok(vec![Finding::unseen(
                place,
                words!(
                    "{en}; but it has no `plant` with which to show that it can fail",
                    "{nb}; men den har ingen `plant` som viser at den kan feile",
                    "{sv}; men den har ingen `plant` som visar att den kan misslyckas"
                ),
            )]);
        }
        Ok(vec![Finding { row: place.0, part: place.1, saw, because }])
    }

    fn verdict(&self, seen: &Seen) -> (Saw, Words) {
        match (seen, &self.looks) {
            (
                Seen::Answer { status, has, ms },
                Looks::Path { path, status: wanted, contains, within_ms, .. },
            ) => {
                if status != wanted {
                    let because = words!(
                        "{path} answers {status}, not {wanted}",
                        "{path} svarer {status}, ikke {wanted}",
                        "{path} svarar {status}, inte {wanted}"
                    );
                    return (Saw::Broken, because);
                }
                if let (false, Some(text)) = (has, contains) {
                    let because = words!(
                        "{path} answers without `{text}`",
                        "{path} svarer uten `{text}`",
                        "{path} svarar utan `{text}`"
                    );
                    return (Saw::Broken, because);
                }
                let late = within_ms.is_some_and(|within| *ms > within);
                let within = within_ms.unwrap_or(self.limit_ms);
                let because = words!(
                    "{path} answers {status} after {ms} ms of {within}",
                    "{path} svarer {status} etter {ms} ms av {within}",
                    "{path} svarar {status} efter {ms} ms av {within}"
                );
                (if late { Saw::Broken } else { Saw::Held }, because)
            }
            (Seen::Rows(0), _) => (
                Saw::Held,
                words!("the query finds nothing", "spørringen finner ingenting", "frågan hittar inget"),
            ),
            (Seen::Rows(rows), _) => {
                let rows = if *rows > MOST_ROWS { format!("> {MOST_ROWS}") } else { rows.to_string() };
                let because = words!(
                    "the query finds {rows} rows that must not be there",
                    "spørringen finner {rows} rader som ikke skal være der",
                    "frågan hittar {rows} rader som inte ska finnas"
                );
                (Saw::Broken, because)
            }
            (Seen::Ended { saw, because }, _) => {
                let saw = match saw {
                    Word::Held => Saw::Held,
                    Word::Broken => Saw::Broken,
                    Word::Unseen => Saw::Unseen,
                    Word::Inapplicable => Saw::Inapplicable,
                };
                (saw, Words::same(because))
            }
            (Seen::Answer { .. }, _) => (Saw::Unseen, Words::default()),
        }
    }

    /// Shows the check its planted fault; nothing when it has none, or when none may be planted here.
    ///
    /// A query is asked before and after the statement, in a transaction that is rolled back. A path needs no fault of
    /// its own: answers that differ from what is expected, each in one way, must be found wrong.
    pub async fn control(&'static self, world: &Rc<World>) -> Option<Control> {
        let mut missed = Vec::new();
        let planted = match (&self.looks, &self.plant) {
            (Looks::Path { status, contains, within_ms, .. }, _) => {
                let good = Seen::Answer { status: *status, has: true, ms: 0 };
                let innocent = self.verdict(&good).0 == Saw::Held;
                let mut ruined =
                    vec![("another status", Seen::Answer { status: status ^ 1, has: true, ms: 0 })];
                if contains.as_ref().is_some_and(|text| !text.is_empty()) {
                    ruined.push(("no such text", Seen::Answer { status: *status, has: false, ms: 0 }));
                }
                if let Some(within) = within_ms {
                    ruined.push(("too late", Seen::Answer { status: *status, has: true, ms: within + 1 }));
                }
                let blind =
                    ruined.iter().filter(|(_, seen)| !innocent || self.verdict(seen).0 != Saw::Broken);
                missed.extend(blind.map(|(name, _)| (*name).to_owned()));
                ruined.iter().map(|(name, _)| (*name).to_owned()).collect()
            }
            (_, None) => return None,
            (Looks::Sql { .. }, Some(_)) if world.may < Disturbs::Load => return None,
            (Looks::Sql { sql, store }, Some(plant)) => {
                let counted = async {
                    let database = world.database_named(store.as_deref()).await?;
                    let before = database.count(sql, "", MOST_ROWS).await?;
                    Ok::<_, Unable>((before, database.count(sql, plant, MOST_ROWS).await?))
                };
                match counted.await {
                    Ok((before, after)) if after > before => {}
                    Ok(_) => missed.push(plant.clone()),
                    Err(Unable(why)) => missed.push(format!("{plant} ({})", why.en)),
                }
                vec![plant.clone()]
            }
            (Looks::Command { .. }, Some(plant)) => {
                let limit = Duration::from_millis(self.limit_ms);
                match tokio::time::timeout(limit, self.run(world, plant)).await {
                    Ok(Ok(seen)) if self.verdict(&seen).0 == Saw::Broken => {}
                    Ok(Err(Unable(why))) => missed.push(format!("{plant} ({})", why.en)),
                    _ => missed.push(plant.clone()),
                }
                vec![plant.clone()]
            }
        };
        Some(Control { check: self.row.clone(), version: self.version(), planted, missed })
    }
}

/// What a database says against a query may have a row's contents in quotes: they stay where they are.
fn without_values(Unable(Words { en, nb, sv }): Unable) -> Unable {
    let plain = |text: String| -> String {
        let pieces = text.split('"').enumerate();
        pieces.map(|(number, piece)| if number % 2 == 0 { piece } else { "\"…\"" }).collect()
    };
    Unable(Words { en: plain(en), nb: plain(nb), sv: plain(sv) })
}

/// What a command has said by ending so.
fn ended(status: ExitStatus, said: &str) -> Seen {
    #[derive(Deserialize)]
    struct Said {
        saw: Word,
        #[serde(default)]
        because: String,
    }
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let short = |text: &str| text.trim().chars().take(MOST_REASON).collect::<String>();
    let code = status.code();
    let by_code = match code {
        Some(0) => Word::Held,
        Some(1) => Word::Broken,
        _ => Word::Unseen,
    };
    let ending = code.map_or_else(|| status.to_string(), |code| format!("exit status {code}"));
    match serde_json::from_str::<Said>(last) {
        // What it says must not be better than how it ended.
        Ok(told) if told.saw != Word::Held || by_code == Word::Held => {
            Seen::Ended { saw: told.saw, because: short(&told.because) }
        }
        Ok(told) => Seen::Ended { saw: by_code, because: format!("{ending}: {}", short(&told.because)) },
        Err(_) if last.is_empty() => Seen::Ended { saw: by_code, because: ending },
        Err(_) => Seen::Ended { saw: by_code, because: format!("{ending}: {}", short(last)) },
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn own(looks: Looks, plant: Option<&str>) -> &'static Own {
        Box::leak(Box::new(Own {
            row: "own.x".to_owned(),
            question: "?".to_owned(),
            category: Category::Testing,
            priority: Priority::High,
            looks,
            plant: plant.map(str::to_owned),
            limit_ms: 5_000,
            good_for_ms: 60_000,
            fix: None,
        }))
    }

    fn saw(own: &'static Own, seen: &Seen) -> Saw {
        own.judge(&serde_json::to_value(seen).unwrap()).unwrap()[0].saw
    }

    #[test]
    fn an_answer_is_judged_by_what_was_asked_for() {
        let asks = own(
            Looks::Path {
                path: "/".to_owned(),
                status: 200,
                contains: Some("NOK".to_owned()),
                within_ms: Some(100),
                account: None,
            },
            None,
        );
        for (status, has, ms, wanted) in [
            (200, true, 100, Saw::Held),
            (200, true, 101, Saw::Broken),
            (200, false, 1, Saw::Broken),
            (204, true, 1, Saw::Broken),
        ] {
            assert_eq!(saw(asks, &Seen::Answer { status, has, ms }), wanted, "{status} {has} {ms}");
        }
    }

    #[test]
    fn what_cannot_show_that_it_can_fail_does_not_count() {
        let sql = || Looks::Sql { sql: "SELECT 1".to_owned(), store: None };
        assert_eq!(saw(own(sql(), None), &Seen::Rows(0)), Saw::Unseen);
        assert_eq!(saw(own(sql(), None), &Seen::Rows(3)), Saw::Broken);
        assert_eq!(saw(own(sql(), Some("INSERT")), &Seen::Rows(0)), Saw::Held);
    }

    #[test]
    fn a_command_says_no_better_than_it_ends() {
        for (code, said, wanted, because) in [
            (0, "", Word::Held, "exit status 0"),
            (1, "one\n3 dead links\n\n", Word::Broken, "exit status 1: 3 dead links"),
            (2, "no such file", Word::Unseen, "exit status 2: no such file"),
            (0, r#"{"saw":"broken","because":"3 dead links"}"#, Word::Broken, "3 dead links"),
            (0, r#"{"saw":"inapplicable"}"#, Word::Inapplicable, ""),
            (1, r#"{"saw":"held","because":"fine"}"#, Word::Broken, "exit status 1: fine"),
            (0, r#"{"saw":"grand"}"#, Word::Held, r#"exit status 0: {"saw":"grand"}"#),
        ] {
            let seen = ended(ExitStatus::from_raw(code << 8), said);
            assert_eq!(seen, Seen::Ended { saw: wanted, because: because.to_owned() }, "{code} {said}");
        }
    }

    #[test]
    fn what_stands_in_the_database_stays_there() {
        let said = Unable(Words::same("invalid input syntax for type integer: \"kari@secret.example\" (1)"));
        assert_eq!(without_values(said).0.en, "invalid input syntax for type integer: \"…\" (1)");
    }

    #[test]
    fn another_declaration_is_another_version() {
        let one = own(Looks::Command { command: "true".to_owned() }, None);
        let other = own(Looks::Command { command: "true ".to_owned() }, None);
        assert_ne!(one.version(), other.version());
    }
}
