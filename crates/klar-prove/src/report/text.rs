//! For a terminal.

use std::fmt::Write;

use super::{Report, ready_word};
use crate::roadmap::{Phase, hundredths};
use crate::standing::Standing;
use crate::words::Lang;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// The table, the verdict and the first few things to do.
    Short,
    /// Every row with every part.
    All,
}

/// Styles of a terminal; empty where there is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Paint {
    /// Before what is good.
    pub good: &'static str,
    /// Before what is bad.
    pub bad: &'static str,
    /// Before what is between.
    pub mild: &'static str,
    /// Before a headline.
    pub bold: &'static str,
    /// Before what matters less.
    pub dim: &'static str,
    /// After any of them.
    pub off: &'static str,
}

impl Paint {
    /// The colours of every terminal.
    pub const ANSI: Self = Self {
        good: "\x1b[32m",
        bad: "\x1b[31m",
        mild: "\x1b[33m",
        bold: "\x1b[1m",
        dim: "\x1b[2m",
        off: "\x1b[0m",
    };

    fn of(&self, standing: Standing) -> &'static str {
        match standing {
            Standing::Proven | Standing::Attested => self.good,
            Standing::Failing => self.bad,
            Standing::Partial | Standing::Stale | Standing::Waived => self.mild,
            Standing::Unknown | Standing::NotApplicable => self.dim,
        }
    }
}

const FIRST: usize = 5;

impl Report {
    /// The report as text.
    #[must_use]
    pub fn text(&self, lang: Lang, detail: Detail, paint: Paint) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out, lang, detail, paint);
        out
    }

    /// What people answer for, apart from what was seen.
    fn signed(&self, out: &mut String, lang: Lang, p: Paint) -> std::fmt::Result {
        let Paint { bold, dim, off, .. } = p;
        let mut signed = self.rows.iter().filter_map(|row| Some((row, row.attestation.as_ref()?))).peekable();
        if signed.peek().is_none() {
            return Ok(());
        }
        writeln!(
            out,
            "{bold}{}{off}",
            lang.pick("Signed, not seen", "Signert, ikke sett", "Signerat, inte sett")
        )?;
        for (row, says) in signed {
            let (sign, standing) = (row.standing.sign(), row.standing.title());
            let note = says.note.as_deref().or(says.document.as_deref()).unwrap_or_default();
            let (by, until) = (&says.by, says.until);
            let told = format!("{}  {by}, → {until}  {note}", standing.get(lang));
            writeln!(out, "  {sign} {} {dim}{}{off}", row.row, told.trim_end())?;
        }
        writeln!(out)
    }

    fn write(&self, out: &mut String, lang: Lang, detail: Detail, p: Paint) -> std::fmt::Result {
        let Paint { bold, dim, off, good, bad, .. } = p;
        let tone = if self.verdict.ready { good } else { bad };
        let ready = format!("{tone}{bold}{}{off}", ready_word(self.verdict.ready, lang));
        let release = self.release.as_deref().map(|id| format!(" ({id})")).unwrap_or_default();
        writeln!(out, "{bold}{}{off}{release}  {dim}{}{off}", self.target, self.at)?;
        writeln!(out)?;
        self.table(out, lang, p)?;
        writeln!(out)?;
        let permille = self.score.permille();
        writeln!(
            out,
            "{ready}  {bold}{}/80{off} ({}.{} %)  {dim}{} {}/200{off}",
            self.score.total,
            permille / 10,
            permille % 10,
            lang.pick("weighted", "vektet", "viktat"),
            self.score.weighted
        )?;
        let counts: Vec<String> = self
            .counts
            .iter()
            .rev()
            .filter(|(_, count)| *count > 0)
            .map(|(standing, count)| {
                format!("{}{} {} {count}{off}", p.of(*standing), standing.sign(), standing.title().get(lang))
            })
            .collect();
        writeln!(out, "{}", counts.join("  "))?;
        if self.erased > 0 {
            let (erased, what) = (
                self.erased,
                lang.pick(
                    "looks were erased from the ledger since",
                    "undersøkelser er slettet fra loggboken siden",
                    "undersökningar har raderats ur liggaren sedan dess",
                ),
            );
            writeln!(out, "{dim}{erased} {what}{off}")?;
        }
        writeln!(out)?;
        self.signed(out, lang, p)?;
        writeln!(
            out,
            "{bold}{}{off}",
            lang.pick("Success criteria", "Suksesskriterier", "Framgångskriterier")
        )?;
        for criterion in &self.criteria {
            let (color, sign) = if criterion.met { (good, '✓') } else { (bad, '✗') };
            writeln!(
                out,
                "  {color}{sign}{off} {} {dim}{}{off}",
                criterion.title.get(lang),
                criterion.standing.title().get(lang)
            )?;
        }
        if detail == Detail::All {
            self.all_rows(out, lang, p)?;
        }
        self.steps(out, lang, detail, p)
    }

    fn table(&self, out: &mut String, lang: Lang, p: Paint) -> std::fmt::Result {
        let head = lang.pick(
            ["Category", "Status", "Score", "Priority"],
            ["Kategori", "Status", "Poeng", "Prioritet"],
            ["Kategori", "Status", "Poäng", "Prioritet"],
        );
        let mut lines = vec![head.map(str::to_owned)];
        for line in &self.score.categories {
            lines.push([
                line.category.title().get(lang).to_owned(),
                line.status.get(lang).to_owned(),
                format!("{}/10", line.score),
                line.priority.title().get(lang).to_owned(),
            ]);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        for (place, [category, status, score, priority]) in lines.iter().enumerate() {
            let style = if place == 0 { p.dim } else { "" };
            let off = if place == 0 { p.off } else { "" };
            write!(
                out,
                "  {style}{category:0$}  {status:1$}  {score:>2$}  {priority}{off}",
                widths[0], widths[1], widths[2]
            )?;
            let capped =
                place.checked_sub(1).and_then(|place| self.score.categories.get(place)?.capped_by.as_ref());
            if let Some(row) = capped {
                write!(
                    out,
                    "  {}{} {row}{}",
                    p.dim,
                    lang.pick("held down by", "holdes nede av", "hålls nere av"),
                    p.off
                )?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn all_rows(&self, out: &mut String, lang: Lang, p: Paint) -> std::fmt::Result {
        writeln!(out)?;
        for row in &self.rows {
            let (color, sign) = (p.of(row.standing), row.standing.sign());
            writeln!(
                out,
                "{color}{sign} {}{} {}{}{}",
                row.row,
                p.off,
                p.dim,
                row.standing.title().get(lang),
                p.off
            )?;
            for part in &row.parts {
                let sign = part.saw.sign();
                writeln!(
                    out,
                    "    {sign} {} {}{}{}",
                    part.asks.get(lang),
                    p.dim,
                    part.because.get(lang),
                    p.off
                )?;
            }
            if let Some(signed) = &row.attestation {
                writeln!(out, "    {} {} {}", Standing::Attested.sign(), signed.by, signed.until)?;
            }
        }
        Ok(())
    }

    fn steps(&self, out: &mut String, lang: Lang, detail: Detail, p: Paint) -> std::fmt::Result {
        for phase in Phase::ALL {
            let steps: Vec<_> = self.roadmap.iter().filter(|step| step.phase == phase).collect();
            if steps.is_empty() || detail == Detail::Short && phase == Phase::OutOfSight {
                continue;
            }
            writeln!(out)?;
            writeln!(
                out,
                "{}{}{} {}({}){}",
                p.bold,
                phase.title().get(lang),
                p.off,
                p.dim,
                steps.len(),
                p.off
            )?;
            let most = if detail == Detail::All { steps.len() } else { FIRST };
            for step in steps.iter().take(most) {
                let (color, sign) = (p.of(step.standing), step.standing.sign());
                writeln!(
                    out,
                    "  {color}{sign}{} {} {}{} · +{} · {}{}",
                    p.off,
                    step.title.get(lang),
                    p.dim,
                    step.row,
                    hundredths(step.points),
                    step.effort,
                    p.off
                )?;
                writeln!(out, "    {}", step.problem.get(lang))?;
                if detail == Detail::All {
                    writeln!(out, "    {}{}{}", p.dim, step.risk.get(lang), p.off)?;
                    writeln!(out, "    {}{}{}", p.dim, step.impact.get(lang), p.off)?;
                }
                writeln!(out, "    → {}", step.fix.get(lang))?;
            }
            if steps.len() > most {
                let rest = steps.len() - most;
                writeln!(
                    out,
                    "  {}… {rest} {}{}",
                    p.dim,
                    lang.pick("more: klar check --all", "til: klar check --all", "till: klar check --all"),
                    p.off
                )?;
            }
        }
        Ok(())
    }
}
