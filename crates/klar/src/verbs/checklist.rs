//! `klar check FILE.md`: a team's own list, with what klar saw of each of its items.

use std::path::Path;

use klar_prove::checklist::matching::{Match, Matcher};
use klar_prove::checklist::{self, Checklist, State, Verdict};
use klar_prove::report::Report;
use klar_prove::standing::{PartSaw, RowStanding, Standing};
use klar_prove::words::Lang;
use klar_run::durable;
use klar_run::report::Failure;
use serde_json::json;

use crate::context::{Context, Trouble};
use crate::out::{BAD, FAIR, GOOD, QUIET, STRONG, paint, words};

/// A list that was read, before anything is looked at: a file that cannot be read must not cost a minute.
pub struct List {
    bytes: Vec<u8>,
    list: Checklist,
}

impl List {
    /// Reads it.
    pub fn read(path: &Path) -> Result<Self, Trouble> {
        let wrong = |why: String| Trouble::usage(Failure::new(format!("{}: {why}", path.display())));
        let bytes = std::fs::read(path).map_err(|why| wrong(why.to_string()))?;
        let list = checklist::read(&bytes).map_err(|why| wrong(why.to_string()))?;
        if list.items.is_empty() {
            return Err(wrong("there is no `- [ ]` in it".to_owned()));
        }
        Ok(Self { bytes, list })
    }

    /// Shows what became of each item, and writes it into the file if that was asked for.
    pub fn tell(
        &self,
        context: &Context,
        path: &Path,
        report: &Report,
        lang: Option<Lang>,
        write: bool,
    ) -> Result<(), Trouble> {
        let lang = lang.unwrap_or(self.list.language);
        let verdicts: Vec<Verdict> = self
            .list
            .items
            .iter()
            .map(|item| match Matcher::built_in().find(item, self.list.language) {
                Match::Rows(rows) => judged(&rows, report, lang),
                Match::Declined { closest } => Verdict {
                    state: State::Declined,
                    rows: closest.into_iter().collect(),
                    evidence: String::new(),
                },
            })
            .collect();
        if context.printer.json {
            let items: Vec<_> = self.list.items.iter().zip(&verdicts).map(|(item, verdict)| json!({
                "line": item.line, "text": item.text, "state": verdict.state.name(), "rows": verdict.rows, "evidence": verdict.evidence,
            })).collect();
            context
                .printer
                .value(&json!({ "file": path.display().to_string(), "language": lang, "items": items }));
        } else {
            self.print(context, &verdicts, lang);
        }
        if write {
            let day = report.at.to_zoned(jiff::tz::TimeZone::system()).date();
            let all: Vec<Option<Verdict>> = verdicts.iter().cloned().map(Some).collect();
            let wrong = |why: String| Trouble::from(Failure::new(format!("{}: {why}", path.display())));
            let written = checklist::write(&self.bytes, &all, day).map_err(|why| wrong(why.to_string()))?;
            // Somebody may have gone on writing while klar looked.
            if std::fs::read(path).map_err(|why| wrong(why.to_string()))? != self.bytes {
                return Err(wrong("it was changed meanwhile, so klar leaves it alone; ask again".to_owned()));
            }
            if written != self.bytes {
                // Behind a link lies the file that is meant.
                let file = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
                durable::replace(&file, &written)
                    .map_err(|why| Trouble::from(Failure::new(why.to_string())))?;
            }
            context.printer.story(format!("{} {} is up to date", paint(GOOD, "✓"), path.display()));
        }
        if verdicts.iter().all(|verdict| verdict.state == State::Proven) {
            Ok(())
        } else {
            Err(Trouble::Verdict(1))
        }
    }

    fn print(&self, context: &Context, verdicts: &[Verdict], lang: Lang) {
        let mut heading: &[String] = &[];
        for (item, verdict) in self.list.items.iter().zip(verdicts) {
            if item.headings != heading {
                heading = &item.headings;
                if let Some(last) = heading.last() {
                    context.printer.data(format!("\n{}", paint(STRONG, words::tame(last))));
                }
            }
            let sign = match verdict.state {
                State::Proven => paint(GOOD, "✓"),
                State::NotProven => paint(BAD, "✗"),
                State::Unknown => paint(FAIR, "?"),
                State::Declined => paint(QUIET, "–"),
            };
            let rows = verdict.rows.join(", ");
            let told = match verdict.state {
                State::Declined => format!(
                    "{} {rows}",
                    lang.pick(
                        "klar does not know this; closest:",
                        "dette kjenner ikke klar; nærmest:",
                        "detta känner inte klar; närmast:"
                    )
                ),
                _ => format!("{rows}  {}", verdict.evidence),
            };
            context.printer.data(format!(
                "  {sign} {}\n      {}",
                words::tame(&item.text),
                paint(QUIET, told.trim_end())
            ));
        }
        let count = |state| verdicts.iter().filter(|verdict| verdict.state == state).count();
        let names = lang.pick(
            ["proven", "not proven", "unknown", "declined"],
            ["bevist", "ikke bevist", "ukjent", "ikke kjent igjen"],
            ["bevisat", "inte bevisat", "okänt", "inte igenkänt"],
        );
        let all = [State::Proven, State::NotProven, State::Unknown, State::Declined];
        let told: Vec<String> =
            all.iter().zip(names).map(|(state, name)| format!("{} {name}", count(*state))).collect();
        let boxes = lang.pick("boxes", "bokser", "rutor");
        let all = self.list.items.len();
        context.printer.data(format!("\n{all} {boxes}: {}", paint(QUIET, told.join(" · "))));
    }
}

/// What is known of the rows that an item asks for: all of them have to hold.
fn judged(rows: &[String], report: &Report, lang: Lang) -> Verdict {
    let standings: Vec<&RowStanding> = rows.iter().filter_map(|row| report.row(row)).collect();
    let all = |good: &dyn Fn(Standing) -> bool| {
        standings.len() == rows.len() && standings.iter().all(|row| good(row.standing))
    };
    let state = if all(&|standing| standing == Standing::Proven) {
        State::Proven
    } else if all(&|standing| standing == Standing::Unknown) {
        State::Unknown
    } else {
        State::NotProven
    };
    let wrong = standings.iter().filter(|row| row.standing != Standing::Proven).flat_map(|row| &row.parts);
    let wrong = wrong.filter(|part| part.saw != PartSaw::Held).min_by_key(|part| part.saw);
    let evidence = match (state, wrong) {
        (State::Proven, _) => {
            let checks = standings.iter().flat_map(|row| &row.parts).filter_map(|part| part.check);
            let checks: std::collections::BTreeSet<&str> = checks.collect();
            checks.into_iter().collect::<Vec<_>>().join(", ")
        }
        (_, Some(part)) if part.saw == PartSaw::Broken => part.because.get(lang).to_owned(),
        (_, Some(part)) => format!("{} ({})", part.asks.get(lang), part.because.get(lang)),
        (_, None) => {
            standings.first().map(|row| row.standing.title().get(lang).to_owned()).unwrap_or_default()
        }
    };
    Verdict { state, rows: rows.to_vec(), evidence }
}
