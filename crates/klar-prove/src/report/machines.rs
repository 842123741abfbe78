//! For other programs: SARIF 2.1.0 for code scanning, JUnit XML for pipelines, an SVG badge for a README.

use serde_json::{Value, json};

use super::Report;
use super::html::escape;
use crate::catalogue::{Catalogue, Row};
use crate::roadmap::hundredths;
use crate::standing::{PartSaw, RowStanding, Standing};
use crate::words::Lang;

impl Report {
    /// The rows that fail as results of SARIF 2.1.0 (OASIS), each with its fix; what is only unknown is no result.
    #[must_use]
    pub fn sarif(&self, catalogue: &Catalogue, lang: Lang) -> Value {
        let found: Vec<(&Row, &RowStanding)> = self
            .rows
            .iter()
            .filter(|row| row.standing == Standing::Failing)
            .filter_map(|standing| Some((catalogue.get(&standing.row)?, standing)))
            .collect();
        let rules: Vec<Value> = found
            .iter()
            .map(|(row, _)| {
                json!({
                    "id": row.id,
                    "shortDescription": { "text": row.title.get(lang) },
                    "fullDescription": { "text": row.risk.get(lang) },
                    "help": { "text": row.fix.get(lang) },
                })
            })
            .collect();
        let results: Vec<Value> = found.iter().map(|(row, standing)| result(row, standing, lang)).collect();
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": {
                    "name": "klar",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": rules,
                } },
                "results": results,
            }],
        })
    }

    /// Every row as a test case: failing ones failed, proven ones passed, all others skipped with the reason.
    #[must_use]
    pub fn junit(&self, catalogue: &Catalogue, lang: Lang) -> String {
        let count = |standing| self.rows.iter().filter(|row| row.standing == standing).count();
        let passed = count(Standing::Proven) + count(Standing::Attested);
        let failed = count(Standing::Failing);
        let all = self.rows.len();
        let mut out = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"klar check {}\" tests=\"{all}\" failures=\"{failed}\" skipped=\"{}\" timestamp=\"{}\">\n",
            escape(&self.target),
            all - passed - failed,
            self.at
        );
        for row in &self.rows {
            let category = catalogue
                .get(&row.row)
                .map(|row| row.category.title().get(lang).to_owned())
                .unwrap_or_default();
            out += &format!("<testcase classname=\"{}\" name=\"{}\"", escape(&category), escape(&row.row));
            let reason = escape(&reason(row, lang));
            match row.standing {
                Standing::Proven | Standing::Attested => out += "/>\n",
                Standing::Failing => out += &format!("><failure message=\"{reason}\"/></testcase>\n"),
                standing => {
                    let title = standing.title();
                    out += &format!("><skipped message=\"{}: {reason}\"/></testcase>\n", title.get(lang));
                }
            }
        }
        out + "</testsuite>\n</testsuites>\n"
    }

    /// A badge: the word and the points.
    #[must_use]
    pub fn badge(&self, lang: Lang) -> String {
        let (word, colour) = if self.verdict.ready {
            (lang.pick("ready", "klar", "klar"), "#1c7a43")
        } else {
            (lang.pick("not ready", "ikke klar", "inte klar"), "#8a5a00")
        };
        let right = format!("{word} {}/80", self.score.total);
        // Verdana at 11 px: 7 px a character is near enough for both halves.
        let (left_width, right_width) = (38, 14 + 7 * right.chars().count());
        let (width, middle) = (left_width + right_width, left_width + right_width / 2);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"20\" role=\"img\" aria-label=\"klar: {right}\">\n<title>klar: {right}</title>\n<rect width=\"{width}\" height=\"20\" rx=\"3\" fill=\"#2b3138\"/>\n<path d=\"M{left_width} 0h{corner}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{corner}z\" fill=\"{colour}\"/>\n<g fill=\"#fff\" text-anchor=\"middle\" font-family=\"Verdana,DejaVu Sans,sans-serif\" font-size=\"11\">\n<text x=\"{}\" y=\"14\">klar</text>\n<text x=\"{middle}\" y=\"14\">{right}</text>\n</g>\n</svg>\n",
            left_width / 2,
            corner = right_width - 3
        )
    }
}

fn result(row: &Row, standing: &RowStanding, lang: Lang) -> Value {
    let level = if row.weight() >= 3 { "error" } else { "warning" };
    json!({
        "ruleId": row.id,
        "level": level,
        "message": { "text": reason(standing, lang) },
        "locations": [{ "logicalLocations": [{ "fullyQualifiedName": row.id, "kind": "resource" }] }],
        "properties": { "points": hundredths(row.weight() * 100) },
    })
}

/// The first thing that keeps a row from being proven.
fn reason(row: &RowStanding, lang: Lang) -> String {
    let wrong = row.parts.iter().filter(|part| part.saw != PartSaw::Held).min_by_key(|part| part.saw);
    wrong.map_or_else(|| row.standing.title().get(lang).to_owned(), |part| part.because.get(lang).to_owned())
}
