//! For a pull request or a wiki.

use std::fmt::Write;

use super::{Report, ready_word};
use crate::catalogue::Catalogue;
use crate::roadmap::{Phase, hundredths};
use crate::standing::Standing;
use crate::words::Lang;

impl Report {
    /// The report as Markdown: the table, the criteria, the roadmap, every row.
    #[must_use]
    pub fn markdown(&self, catalogue: &Catalogue, lang: Lang) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_markdown(&mut out, catalogue, lang);
        out
    }

    fn write_markdown(&self, out: &mut String, catalogue: &Catalogue, lang: Lang) -> std::fmt::Result {
        let permille = self.score.permille();
        let (whole, tenth) = (permille / 10, permille % 10);
        writeln!(out, "# {}: {}", cell(&self.target), ready_word(self.verdict.ready, lang))?;
        writeln!(out)?;
        writeln!(out, "**{}/80** ({whole}.{tenth} %) · {}", self.score.total, self.at)?;
        writeln!(out)?;
        let head = lang.pick(
            "| Category | Status | Score | Priority |",
            "| Kategori | Status | Poeng | Prioritet |",
            "| Kategori | Status | Poäng | Prioritet |",
        );
        writeln!(out, "{head}\n|---|---|---|---|")?;
        for line in &self.score.categories {
            let (category, status) = (line.category.title(), line.status.get(lang));
            writeln!(
                out,
                "| {} | {status} | {}/10 | {} |",
                category.get(lang),
                line.score,
                line.priority.title().get(lang)
            )?;
        }
        writeln!(out, "\n## {}\n", lang.pick("Success criteria", "Suksesskriterier", "Framgångskriterier"))?;
        for criterion in &self.criteria {
            let mark = if criterion.met { 'x' } else { ' ' };
            writeln!(
                out,
                "- [{mark}] {} ({})",
                criterion.title.get(lang),
                criterion.standing.title().get(lang)
            )?;
        }
        for phase in Phase::ALL {
            let steps: Vec<_> = self.roadmap.iter().filter(|step| step.phase == phase).collect();
            if steps.is_empty() {
                continue;
            }
            writeln!(out, "\n## {} ({})\n", phase.title().get(lang), steps.len())?;
            let head = lang.pick(
                "| What | Problem | Risk | Impact | Fix | Effort | Points |",
                "| Hva | Problem | Risiko | Konsekvens | Løsning | Arbeid | Poeng |",
                "| Vad | Problem | Risk | Konsekvens | Lösning | Arbete | Poäng |",
            );
            writeln!(out, "{head}\n|---|---|---|---|---|---|---|")?;
            for step in steps {
                writeln!(
                    out,
                    "| {} `{}` | {} | {} | {} | {} | {} | {} |",
                    cell(step.title.get(lang)),
                    step.row,
                    cell(step.problem.get(lang)),
                    cell(step.risk.get(lang)),
                    cell(step.impact.get(lang)),
                    cell(step.fix.get(lang)),
                    step.effort,
                    hundredths(step.points)
                )?;
            }
        }
        writeln!(out, "\n## {}\n", lang.pick("Every row", "Alle rader", "Alla rader"))?;
        for row in &self.rows {
            let title = catalogue.get(&row.row).map(|row| row.title.get(lang)).unwrap_or_default();
            writeln!(
                out,
                "- {} `{}` {} — {}",
                row.standing.sign(),
                row.row,
                cell(title),
                row.standing.title().get(lang)
            )?;
            if row.standing == Standing::Unknown {
                continue;
            }
            for part in &row.parts {
                writeln!(
                    out,
                    "  - {} {} — {}",
                    part.saw.sign(),
                    cell(part.asks.get(lang)),
                    cell(part.because.get(lang))
                )?;
            }
            if let Some(signed) = &row.attestation {
                writeln!(out, "  - ✍ {} ({})", cell(&signed.by), signed.until)?;
            }
        }
        Ok(())
    }
}

/// Text that cannot break out of a cell or become markup.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '\\' | '<' | '>' | '[' | ']' | '*' | '_' => {
                out.push('\\');
                out.push(c);
            }
            '\n' | '\r' => out.push(' '),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
