//! One file that a person would like to show around: no script, nothing fetched, light and dark, printable.

use std::fmt::Write;

use super::{Report, ready_word};
use crate::catalogue::{Catalogue, Category};
use crate::roadmap::{Phase, hundredths};
use crate::standing::{RowStanding, Standing};
use crate::words::Lang;

const STYLE: &str = include_str!("report.css");

impl Report {
    /// The report as a page.
    #[must_use]
    pub fn html(&self, catalogue: &Catalogue, lang: Lang) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_html(&mut out, catalogue, lang);
        out
    }

    fn write_html(&self, out: &mut String, catalogue: &Catalogue, lang: Lang) -> std::fmt::Result {
        let ready = ready_word(self.verdict.ready, lang);
        let target = escape(&self.target);
        let permille = self.score.permille();
        writeln!(out, "<!doctype html>\n<html lang=\"{lang}\">\n<head>\n<meta charset=\"utf-8\">")?;
        writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")?;
        writeln!(
            out,
            "<title>{target}: {ready} {}/80</title>\n<style>\n{STYLE}</style>\n</head>\n<body>",
            self.score.total
        )?;
        let tone = if self.verdict.ready { "good" } else { "bad" };
        writeln!(out, "<header>\n<p class=\"target\">{target}</p>")?;
        writeln!(out, "<h1 class=\"{tone}\">{ready}</h1>")?;
        writeln!(
            out,
            "<p class=\"total\"><strong>{}</strong>/80 <span>{}.{} %</span></p>",
            self.score.total,
            permille / 10,
            permille % 10
        )?;
        let release = self.release.as_deref().map(|id| format!(" · {}", escape(id))).unwrap_or_default();
        writeln!(
            out,
            "<p class=\"when\"><time datetime=\"{0}\">{0}</time>{release}</p>\n</header>\n<main>",
            self.at
        )?;
        self.html_table(out, lang)?;
        self.html_counts(out, lang)?;
        self.html_criteria(out, lang)?;
        self.html_roadmap(out, lang)?;
        self.html_rows(out, catalogue, lang)?;
        writeln!(out, "</main>\n<footer><p>klar {}</p></footer>\n</body>\n</html>", env!("CARGO_PKG_VERSION"))
    }

    fn html_table(&self, out: &mut String, lang: Lang) -> std::fmt::Result {
        let head = lang.pick(
            ["Category", "Status", "Score", "Priority"],
            ["Kategori", "Status", "Poeng", "Prioritet"],
            ["Kategori", "Status", "Poäng", "Prioritet"],
        );
        let head: String = head.iter().map(|name| format!("<th scope=\"col\">{name}</th>")).collect();
        writeln!(out, "<section>\n<table class=\"score\">\n<thead><tr>{head}</tr></thead>\n<tbody>")?;
        for line in &self.score.categories {
            writeln!(
                out,
                "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"points\"><meter min=\"0\" max=\"10\" low=\"4\" high=\"7.5\" optimum=\"10\" value=\"{2}\">{2}/10</meter> {2}/10</td><td>{3}</td></tr>",
                line.category.title().get(lang),
                line.status.get(lang),
                line.score,
                line.priority.title().get(lang)
            )?;
        }
        writeln!(out, "</tbody>\n</table>\n</section>")
    }

    fn html_counts(&self, out: &mut String, lang: Lang) -> std::fmt::Result {
        write!(out, "<ul class=\"counts\">")?;
        for (standing, count) in self.counts.iter().rev().filter(|(_, count)| *count > 0) {
            write!(
                out,
                "<li class=\"{}\"><strong>{count}</strong> {}</li>",
                class(*standing),
                standing.title().get(lang)
            )?;
        }
        writeln!(out, "</ul>")
    }

    fn html_criteria(&self, out: &mut String, lang: Lang) -> std::fmt::Result {
        writeln!(
            out,
            "<section>\n<h2>{}</h2>\n<ul class=\"criteria\">",
            lang.pick("Success criteria", "Suksesskriterier", "Framgångskriterier")
        )?;
        for criterion in &self.criteria {
            let (sign, tone) = if criterion.met { ("✓", "good") } else { ("✗", "bad") };
            writeln!(
                out,
                "<li><span class=\"sign {tone}\">{sign}</span> {} <small>{}</small></li>",
                escape(criterion.title.get(lang)),
                criterion.standing.title().get(lang)
            )?;
        }
        writeln!(out, "</ul>\n</section>")
    }

    fn html_roadmap(&self, out: &mut String, lang: Lang) -> std::fmt::Result {
        let names = lang.pick(
            ["Problem", "Risk", "Impact", "Fix", "Effort"],
            ["Problem", "Risiko", "Konsekvens", "Løsning", "Arbeid"],
            ["Problem", "Risk", "Konsekvens", "Lösning", "Arbete"],
        );
        for phase in Phase::ALL {
            let steps: Vec<_> = self.roadmap.iter().filter(|step| step.phase == phase).collect();
            if steps.is_empty() {
                continue;
            }
            let open = if phase == Phase::OutOfSight { "" } else { " open" };
            writeln!(
                out,
                "<section>\n<details{open}>\n<summary><h2>{} <small>{}</small></h2></summary>\n<ol>",
                phase.title().get(lang),
                steps.len()
            )?;
            for step in steps {
                let tone = class(step.standing);
                writeln!(
                    out,
                    "<li class=\"step\"><h3><span class=\"sign {tone}\">{}</span> {} <small>+{}</small></h3>",
                    step.standing.sign(),
                    escape(step.title.get(lang)),
                    hundredths(step.points)
                )?;
                let values =
                    [&step.problem, &step.risk, &step.impact, &step.fix].map(|words| escape(words.get(lang)));
                write!(out, "<dl>")?;
                for (name, value) in names.iter().zip(values.iter().chain([&escape(&step.effort)])) {
                    write!(out, "<dt>{name}</dt><dd>{value}</dd>")?;
                }
                writeln!(out, "</dl><p class=\"id\"><code>{}</code></p></li>", step.row)?;
            }
            writeln!(out, "</ol>\n</details>\n</section>")?;
        }
        Ok(())
    }

    fn html_rows(&self, out: &mut String, catalogue: &Catalogue, lang: Lang) -> std::fmt::Result {
        writeln!(out, "<section>\n<h2>{}</h2>", lang.pick("Evidence", "Bevis", "Bevis"))?;
        for category in Category::SCORED.into_iter().chain([Category::Gate, Category::Operations]) {
            writeln!(
                out,
                "<details>\n<summary><h3>{}</h3></summary>\n<ul class=\"rows\">",
                category.title().get(lang)
            )?;
            for row in self.of_category(catalogue, category) {
                html_row(out, catalogue, row, lang)?;
            }
            writeln!(out, "</ul>\n</details>")?;
        }
        writeln!(out, "</section>")
    }
}

fn html_row(out: &mut String, catalogue: &Catalogue, row: &RowStanding, lang: Lang) -> std::fmt::Result {
    let title = catalogue.get(&row.row).map(|row| row.title.get(lang)).unwrap_or_default();
    let (tone, sign) = (class(row.standing), row.standing.sign());
    writeln!(
        out,
        "<li><span class=\"sign {tone}\">{sign}</span> {} <small>{} · <code>{}</code></small>",
        escape(title),
        row.standing.title().get(lang),
        row.row
    )?;
    write!(out, "<ul>")?;
    for part in &row.parts {
        write!(
            out,
            "<li>{} {} <small>{}",
            part.saw.sign(),
            escape(part.asks.get(lang)),
            escape(part.because.get(lang))
        )?;
        if let Some(when) = part.when {
            write!(out, " · <time datetime=\"{when}\">{}</time>", when.strftime("%Y-%m-%d %H:%M"))?;
        }
        write!(out, "</small></li>")?;
    }
    if let Some(signed) = &row.attestation {
        write!(out, "<li>✍ {} <small>{}</small></li>", escape(&signed.by), signed.until)?;
    }
    writeln!(out, "</ul></li>")
}

fn class(standing: Standing) -> &'static str {
    match standing {
        Standing::Proven | Standing::Attested => "good",
        Standing::Failing => "bad",
        Standing::Partial | Standing::Stale | Standing::Waived => "mild",
        Standing::Unknown | Standing::NotApplicable => "dim",
    }
}

pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
