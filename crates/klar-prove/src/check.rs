//! A check: a question, how klar looks, and how it judges what it saw.
//!
//! Looking and judging are apart. [`Probe::look`] touches the world and returns plain data; [`Probe::judge`] is a
//! pure function of that data. So every verdict can be computed again from stored evidence, years later and on
//! another machine, and a judgement can be tested without a world.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::own::Own;
use crate::words::Words;
use crate::world::World;

/// What a check is, apart from what it does.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// For ever the same; what evidence is filed under.
    pub id: &'static str,
    /// Counted up when what is seen or how it is seen changes: evidence of another version no longer counts.
    pub version: u32,
    /// What is asked, in a sentence.
    pub question: &'static str,
    /// What it does to find out, in a sentence or two.
    pub does: &'static str,
    /// The parts of rows it can show: `("edge.tls", "versions")`.
    pub shows: &'static [(&'static str, &'static str)],
    /// What it cannot do without.
    pub needs: &'static [Need],
    /// What others may notice of it.
    pub disturbs: Disturbs,
    /// How long what it saw is worth something. After twice as long it is worth nothing.
    pub good_for: Duration,
    /// It is given up after this.
    pub limit: Duration,
    /// The planted faults it must find before its pass counts.
    pub faults: &'static [Fault],
}

/// What a check cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// An address to ask.
    Site,
    /// A description of its API (OpenAPI 3).
    Api,
    /// Accounts to sign in with.
    Accounts,
    /// The folder with its sources.
    Source,
    /// Its PostgreSQL.
    Database,
    /// Chromium.
    Browser,
    /// That klar runs it: releases, instances, logs.
    Klar,
    /// A database that klar keeps a second time.
    Kept,
    /// That klar runs it, and so keeps what there is to keep: it may be nothing.
    Keeper,
}

/// What others may notice of a check, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Disturbs {
    /// A few requests, as any visitor makes them.
    Nothing,
    /// Many requests, or strange ones that change nothing.
    Load,
    /// It attacks, or writes: only against a rig, or with `--disruptive` against what is provably one's own.
    Attacks,
    /// It stops or kills parts of the app: only in a rig, or with `--disruptive`.
    Stops,
}

/// A planted fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A switch of `klar foil`, and the part of a row that must be found broken with it.
    Foil(&'static str, (&'static str, &'static str)),
    /// Files of a small source tree, and the part that must be found broken in it.
    Files(&'static [(&'static str, &'static str)], (&'static str, &'static str)),
    /// Statements that plant the fault in a database with the good tables of [`crate::foil::postgres::GOOD`], and the
    /// part that must be found broken in it. They run as the app's role, which `ALTER ROLE app` names; that one runs as
    /// the superuser.
    Database(&'static [&'static str], (&'static str, &'static str)),
    /// The one that a team has declared for a check of its own: see [`crate::own`].
    Own((&'static str, &'static str)),
    /// One that needs a running app under klar; the test of this name plants it.
    Rig(&'static str, (&'static str, &'static str)),
}

/// What became of one part of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Saw {
    /// It is not so.
    Broken,
    /// It is so.
    Held,
    /// There is nothing here to which it could apply. Counts only once somebody signs that.
    Inapplicable,
    /// This time it could not be seen.
    Unseen,
}

/// One part of a row, as a check judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The row.
    pub row: &'static str,
    /// The part of its proof.
    pub part: &'static str,
    /// What became of it.
    pub saw: Saw,
    /// The reason, with the numbers.
    pub because: Words,
}

/// Why a check saw nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unable(pub Words);

/// A check as its author writes it: one file, one of these.
pub trait Probe: 'static {
    /// What it saw: numbers and short texts, never secrets.
    type Seen: Serialize + DeserializeOwned + 'static;

    /// What it is.
    const ABOUT: About;

    /// Looks.
    fn look(world: Rc<World>) -> impl Future<Output = Result<Self::Seen, Unable>>;

    /// Judges what was seen.
    fn judge(seen: &Self::Seen) -> Vec<Finding>;
}

type Looking = Pin<Box<dyn Future<Output = Result<Value, Unable>>>>;

/// Any check.
#[derive(Clone, Copy)]
pub struct Check {
    /// What it is.
    pub about: About,
    does: Does,
}

/// One of klar's, or one that a team has declared.
#[derive(Clone, Copy)]
enum Does {
    Probe { look: fn(Rc<World>) -> Looking, judge: fn(&Value) -> Result<Vec<Finding>, String> },
    Own(&'static Own),
}

impl Check {
    /// The check that `P` is.
    #[must_use]
    pub const fn of<P: Probe>() -> Self {
        Self {
            about: P::ABOUT,
            does: Does::Probe {
                look: |world| {
                    Box::pin(async move {
                        let seen = P::look(world).await?;
                        serde_json::to_value(seen).map_err(|why| Unable(Words::same(why.to_string())))
                    })
                },
                judge: |seen| {
                    let seen = P::Seen::deserialize(seen).map_err(|why| why.to_string())?;
                    Ok(P::judge(&seen))
                },
            },
        }
    }

    /// A check that a team has declared.
    #[must_use]
    pub fn own(own: &'static Own) -> Self {
        Self { about: own.about(), does: Does::Own(own) }
    }

    /// The declaration, if it is a team's own.
    #[must_use]
    pub fn declared(&self) -> Option<&'static Own> {
        match self.does {
            Does::Probe { .. } => None,
            Does::Own(own) => Some(own),
        }
    }

    /// Looks at the world.
    ///
    /// # Errors
    /// Why it saw nothing.
    pub async fn look(&self, world: Rc<World>) -> Result<Value, Unable> {
        match self.does {
            Does::Probe { look, .. } => look(world).await,
            Does::Own(own) => own.look(&world).await,
        }
    }

    /// Judges what it saw, now or long ago.
    ///
    /// # Errors
    /// When it is not what this version of the check sees.
    pub fn judge(&self, seen: &Value) -> Result<Vec<Finding>, String> {
        match self.does {
            Does::Probe { judge, .. } => judge(seen),
            Does::Own(own) => own.judge(seen),
        }
    }
}

impl Finding {
    /// It is so.
    #[must_use]
    pub fn held((row, part): (&'static str, &'static str), because: Words) -> Self {
        Self { row, part, saw: Saw::Held, because }
    }

    /// It is not so.
    #[must_use]
    pub fn broken((row, part): (&'static str, &'static str), because: Words) -> Self {
        Self { row, part, saw: Saw::Broken, because }
    }

    /// It could not be seen this time.
    #[must_use]
    pub fn unseen((row, part): (&'static str, &'static str), because: Words) -> Self {
        Self { row, part, saw: Saw::Unseen, because }
    }

    /// There is nothing it could apply to.
    #[must_use]
    pub fn inapplicable((row, part): (&'static str, &'static str), because: Words) -> Self {
        Self { row, part, saw: Saw::Inapplicable, because }
    }

    /// Held when `good`, else broken.
    #[must_use]
    pub fn when(good: bool, place: (&'static str, &'static str), because: Words) -> Self {
        if good { Self::held(place, because) } else { Self::broken(place, because) }
    }
}

impl Need {
    /// What the user has to give, as the reason why a check was not run.
    #[must_use]
    pub fn missing(self) -> Words {
        let (en, nb, sv) = match self {
            Self::Site => ("no address: --url", "ingen adresse: --url", "ingen adress: --url"),
            Self::Api => (
                "no OpenAPI document found: --openapi FILE",
                "fant ikke noe OpenAPI-dokument: --openapi FILE",
                "hittade inget OpenAPI-dokument: --openapi FILE",
            ),
            Self::Accounts => (
                "no accounts to sign in with: [check.accounts] in klar.toml",
                "ingen kontoer å logge inn med: [check.accounts] i klar.toml",
                "inga konton att logga in med: [check.accounts] i klar.toml",
            ),
            Self::Source => (
                "no source folder: --source DIR",
                "ingen kildekode: --source DIR",
                "ingen källkod: --source DIR",
            ),
            Self::Database => (
                "no database: --database URL",
                "ingen database: --database URL",
                "ingen databas: --database URL",
            ),
            Self::Browser => {
                ("chromium is not installed", "chromium er ikke installert", "chromium är inte installerat")
            }
            Self::Klar | Self::Keeper => (
                "the app does not run under klar: klar up",
                "appen kjører ikke under klar: klar up",
                "appen körs inte under klar: klar up",
            ),
            Self::Kept => (
                "klar runs no PostgreSQL of the app: `postgres = \"managed\"` in [data.NAME]",
                "klar kjører ingen PostgreSQL for appen: `postgres = \"managed\"` i [data.NAVN]",
                "klar kör ingen PostgreSQL för appen: `postgres = \"managed\"` i [data.NAMN]",
            ),
        };
        Words { en: en.into(), nb: nb.into(), sv: sv.into() }
    }
}
