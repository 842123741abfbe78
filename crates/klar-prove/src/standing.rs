//! From evidence to the standing of each row: pure, and the same wherever it is computed.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::catalogue::{Catalogue, Row, Who};
use crate::check::{Check, Finding, Saw};
use crate::derive;
use crate::evidence::{Attestation, Control, Evidence, Outcome, Place, Says};
use crate::own::Declared;
use crate::words;
use crate::words::Words;

/// All that a report is computed from. Nothing else goes in: no clock, no file, no environment.
#[derive(Clone, Copy)]
pub struct Records<'r> {
    /// What the target is called.
    pub target: &'r str,
    /// The release that serves there at `at`, where klar knows it.
    pub release: Option<&'r str>,
    /// As of when.
    pub at: Timestamp,
    /// Everything that was seen, oldest first.
    pub evidence: &'r [Evidence],
    /// Which checks have found their planted faults.
    pub controls: &'r [Control],
    /// What people have signed, oldest first.
    pub attestations: &'r [Attestation],
    /// What `klar.toml` says about checks.
    pub declared: &'r Declared,
}

/// How a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Something that had to be so was seen not to be.
    Failing,
    /// Some of its proof was seen, nothing against it.
    Partial,
    /// Nothing was seen.
    Unknown,
    /// All was seen, but too long ago to count in full.
    Stale,
    /// It does not hold, and somebody has accepted that for a while.
    Waived,
    /// Somebody vouches for it.
    Attested,
    /// All of its proof was seen.
    Proven,
    /// It has no meaning for this app, and somebody has signed that.
    NotApplicable,
}

/// A row with what is known of it.
#[derive(Debug, Clone, Serialize)]
pub struct RowStanding {
    /// Its id.
    pub row: String,
    /// How it stands.
    pub standing: Standing,
    /// What it is worth in the score, in hundredths: 0, 30, 70 or 100.
    pub value: u32,
    /// Each part of its proof.
    pub parts: Vec<PartStanding>,
    /// The signature that counts, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Attestation>,
}

/// One part of a proof with what is known of it.
#[derive(Debug, Clone, Serialize)]
pub struct PartStanding {
    /// Its id.
    pub part: String,
    /// What has to be seen.
    pub asks: Words,
    /// How it stands.
    pub saw: PartSaw,
    /// Why, with the numbers.
    pub because: Words,
    /// The check that looked, or could.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<&'static str>,
    /// When it looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Timestamp>,
}

/// How a part stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartSaw {
    /// It is not so.
    Broken,
    /// No check looks at it yet.
    NoProbe,
    /// It could not be seen.
    Unseen,
    /// It was so, too long ago to count.
    Expired,
    /// It applies to nothing here.
    Inapplicable,
    /// It is so, but seen long ago or in a copy of another release.
    Ageing,
    /// It is so.
    Held,
}

/// The standing of every row of the catalogue, in its order.
#[must_use]
pub fn standings(catalogue: &Catalogue, checks: &[Check], records: &Records<'_>) -> Vec<RowStanding> {
    let judged: Vec<Judged> = checks.iter().map(|check| Judged::of(check, records)).collect();
    let mut parts: BTreeMap<(&str, &str), Vec<PartStanding>> = BTreeMap::new();
    for judged in &judged {
        for &(row, part) in judged.check.about.shows {
            parts.entry((row, part)).or_default().push(judged.part(row, part));
        }
    }
    let signed = |row: &Row| {
        let today = records.at.to_zoned(jiff::tz::TimeZone::UTC).date();
        let is_good = |signed: &&Attestation| today <= signed.until && signed.target == records.target;
        let of_row = records
            .attestations
            .iter()
            .rev()
            .find(|signed| signed.row == row.id && signed.target == records.target);
        of_row.filter(is_good).or_else(|| records.declared.waiver(&row.id).filter(is_good))
    };
    let nobody = words!(
        "klar has no probe for this yet",
        "klar har ingen probe for dette ennå",
        "klar har ingen prob för detta än"
    );
    let mut rows = Vec::new();
    for row in catalogue.rows() {
        let own = row.proof.iter().map(|part| {
            let seen = parts.get(&(row.id.as_str(), part.id.as_str()));
            let worst = seen.into_iter().flatten().min_by_key(|part| part.saw.weight()).cloned();
            let worst = worst.unwrap_or_else(|| PartStanding {
                part: part.id.clone(),
                asks: Words::default(),
                saw: PartSaw::NoProbe,
                because: nobody.clone(),
                check: None,
                when: None,
            });
            PartStanding { asks: part.text.clone(), ..worst }
        });
        rows.push(RowStanding::of(row, own.collect(), signed(row).cloned()));
    }
    derive::derive(catalogue, &mut rows);
    rows
}

/// What a check has to say at a time.
struct Judged<'r> {
    check: &'r Check,
    /// The last thing it saw, judged.
    findings: Vec<Finding>,
    evidence: Option<&'r Evidence>,
    /// Why it has nothing to say, where it has not.
    silent: Words,
    age: Age,
    /// Why it came to nothing when it looked again where it had seen something.
    gave_up: Option<&'r Words>,
    controlled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    Fresh,
    Ageing,
    Expired,
}

impl<'r> Judged<'r> {
    fn of(check: &'r Check, records: &Records<'r>) -> Self {
        let about = &check.about;
        let own = records.evidence.iter().rev().filter(|seen| {
            // What an erased look was at, nobody knows: it may have been this.
            let there = seen.target == records.target || seen.outcome == Outcome::Erased;
            seen.check == about.id && there && seen.ended <= records.at
        });
        let mut silent = words!("not looked at yet", "ikke sett på ennå", "inte undersökt än");
        let mut findings = Vec::new();
        let mut evidence = None;
        let mut first = true;
        let mut failed: Vec<(Place, &Words)> = Vec::new();
        for seen in own {
            match &seen.outcome {
                Outcome::Unable(why) => {
                    if first {
                        silent = why.clone();
                    }
                    if seen.gave_up {
                        failed.push((seen.place, why));
                    }
                }
                Outcome::Erased => {
                    silent = words!(
                        "what was seen last was erased from the ledger: look again",
                        "det som sist ble sett, er slettet fra loggboken: se på nytt",
                        "det som senast sågs har raderats ur liggaren: titta igen"
                    );
                    break;
                }
                Outcome::Seen(_) if seen.version != about.version => {
                    silent = words!(
                        "seen by an older version of the check: look again",
                        "sett av en eldre versjon av sjekken: se på nytt",
                        "sett av en äldre version av kontrollen: titta igen"
                    );
                    break;
                }
                Outcome::Seen(data) => {
                    match check.judge(data) {
                        Ok(judged) => (findings, evidence) = (judged, Some(seen)),
                        Err(why) => silent = Words::same(why),
                    }
                    break;
                }
            }
            first = false;
        }
        // That it could not look at the app itself says nothing of what it saw in a copy.
        let place = evidence.map(|seen: &Evidence| seen.place);
        let gave_up = failed.into_iter().find(|(at, _)| Some(*at) == place).map(|(_, why)| why);
        let age = match evidence.map_or(Age::Fresh, |seen| age(seen, about.good_for, records)) {
            Age::Fresh if gave_up.is_some() => Age::Ageing,
            age => age,
        };
        let controlled = about.faults.is_empty()
            || records
                .controls
                .iter()
                .rev()
                .find(|control| control.check == about.id && control.version == about.version)
                .is_some_and(|control| !control.planted.is_empty() && control.missed.is_empty());
        Self { check, findings, evidence, silent, age, gave_up, controlled }
    }

    fn part(&self, row: &'static str, part: &'static str) -> PartStanding {
        let worst = self
            .findings
            .iter()
            .filter(|found| (found.row, found.part) == (row, part))
            .min_by_key(|found| found.saw);
        let (saw, because) = match worst {
            None => (PartSaw::Unseen, self.silent.clone()),
            Some(found) => (self.saw(found.saw), found.because.clone()),
        };
        let because = match saw {
            PartSaw::Unseen if worst.is_some_and(|found| found.saw == Saw::Held) => words!(
                "the check has not shown yet that it can fail: klar check --prove-probes",
                "sjekken har ikke vist ennå at den kan feile: klar check --prove-probes",
                "kontrollen har inte visat än att den kan misslyckas: klar check --prove-probes"
            ),
            PartSaw::Ageing if let Some(why) = self.gave_up => because
                .and(&words!("; seen before, and then: ", "; sett før, og så: ", "; sett förut, och sedan: "))
                .and(why),
            _ => because,
        };
        PartStanding {
            part: part.to_owned(),
            asks: Words::default(),
            saw,
            because,
            check: Some(self.check.about.id),
            when: self.evidence.map(|seen| seen.ended),
        }
    }

    fn saw(&self, saw: Saw) -> PartSaw {
        match (saw, self.age) {
            // What was broken stays broken until somebody looks again.
            (Saw::Broken, _) => PartSaw::Broken,
            (Saw::Unseen, _) => PartSaw::Unseen,
            (Saw::Held, _) if !self.controlled => PartSaw::Unseen,
            (_, Age::Expired) => PartSaw::Expired,
            (Saw::Inapplicable, _) => PartSaw::Inapplicable,
            (Saw::Held, Age::Ageing) => PartSaw::Ageing,
            (Saw::Held, Age::Fresh) => PartSaw::Held,
        }
    }
}

fn age(seen: &Evidence, good_for: Duration, records: &Records<'_>) -> Age {
    let age = records.at.duration_since(seen.ended);
    let limit = SignedDuration::try_from(good_for).unwrap_or(SignedDuration::MAX);
    let same_release = seen.release.as_deref() == records.release;
    if age > limit.saturating_add(limit) {
        Age::Expired
    } else if age > limit || !same_release && (seen.place == Place::Rig || records.release.is_some()) {
        // Another release than the one that serves: what was true of it need not be true of this one.
        Age::Ageing
    } else {
        Age::Fresh
    }
}

impl PartSaw {
    /// A sign that says the same without colour.
    #[must_use]
    pub fn sign(self) -> char {
        match self {
            Self::Held => '✓',
            Self::Broken => '✗',
            Self::Ageing | Self::Expired => '◷',
            Self::Inapplicable => '–',
            Self::Unseen | Self::NoProbe => '?',
        }
    }

    /// Of several looks at the same part, the one that decides: broken beats all, then what was seen best.
    fn weight(self) -> u32 {
        match self {
            Self::Broken => 0,
            Self::Held => 1,
            Self::Ageing => 2,
            Self::Inapplicable => 3,
            Self::Expired => 4,
            Self::Unseen => 5,
            Self::NoProbe => 6,
        }
    }

    fn is_seen(self) -> bool {
        matches!(self, Self::Held | Self::Ageing)
    }
}

impl RowStanding {
    pub(crate) fn of(row: &Row, parts: Vec<PartStanding>, signed: Option<Attestation>) -> Self {
        let any = |saw| parts.iter().any(|part: &PartStanding| part.saw == saw);
        let all =
            |good: &dyn Fn(PartSaw) -> bool| !parts.is_empty() && parts.iter().all(|part| good(part.saw));
        let seen = parts.iter().any(|part| part.saw.is_seen());
        // A part that applies to nothing here asks for nothing, as long as another one was seen.
        let whole = seen && all(&|saw| saw.is_seen() || saw == PartSaw::Inapplicable);
        let human = row.who == Who::Human;
        let says = signed.as_ref().map(|signed| signed.says);
        let (standing, value) = if says == Some(Says::NotApplicable) && !any(PartSaw::Broken) && !seen {
            (Standing::NotApplicable, 0)
        } else if any(PartSaw::Broken) {
            (if says == Some(Says::Accepted) { Standing::Waived } else { Standing::Failing }, 0)
        } else if human && says == Some(Says::Holds) {
            (Standing::Attested, 100)
        } else if whole && !human && !any(PartSaw::Ageing) {
            (Standing::Proven, 100)
        } else if whole && !human {
            (Standing::Stale, 70)
        } else if says == Some(Says::Holds) {
            (Standing::Attested, 70)
        } else if says == Some(Says::Accepted) {
            (Standing::Waived, 0)
        } else if any(PartSaw::Expired)
            && all(&|saw| saw.is_seen() || matches!(saw, PartSaw::Inapplicable | PartSaw::Expired))
        {
            (Standing::Stale, 0)
        } else if seen {
            (Standing::Partial, 30)
        } else {
            (Standing::Unknown, 0)
        };
        let attestation = signed
            .filter(|_| matches!(standing, Standing::Attested | Standing::Waived | Standing::NotApplicable));
        Self { row: row.id.clone(), standing, value, parts, attestation }
    }
}

impl Standing {
    /// All, from the worst.
    pub const ALL: [Self; 8] = [
        Self::Failing,
        Self::Partial,
        Self::Unknown,
        Self::Stale,
        Self::Waived,
        Self::Attested,
        Self::Proven,
        Self::NotApplicable,
    ];

    /// Its name.
    #[must_use]
    pub fn title(self) -> Words {
        let (en, nb, sv) = match self {
            Self::Failing => ("failing", "feiler", "brister"),
            Self::Partial => ("partial", "delvis", "delvis"),
            Self::Unknown => ("unknown", "ukjent", "okänt"),
            Self::Stale => ("stale", "utdatert", "inaktuellt"),
            Self::Waived => ("waived", "unntatt", "undantaget"),
            Self::Attested => ("attested", "attestert", "intygat"),
            Self::Proven => ("proven", "bevist", "bevisat"),
            Self::NotApplicable => ("not applicable", "ikke relevant", "ej tillämpligt"),
        };
        Words { en: en.into(), nb: nb.into(), sv: sv.into() }
    }

    /// A sign that says the same without colour.
    #[must_use]
    pub fn sign(self) -> char {
        match self {
            Self::Failing => '✗',
            Self::Partial => '◐',
            Self::Unknown => '?',
            Self::Stale => '◷',
            Self::Waived => '~',
            Self::Attested => '✍',
            Self::Proven => '✓',
            Self::NotApplicable => '–',
        }
    }
}
