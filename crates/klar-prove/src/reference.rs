//! The catalogue of checks for people: `docs/reference/checks.md`, written from the checks themselves.

use std::fmt::Write;

use crate::catalogue::{Catalogue, Category};
use crate::check::{About, Disturbs, Fault, Need};
use crate::checks;
use crate::derive;
use crate::foil::SWITCHES;

/// The reference as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out);
    out
}

fn write(out: &mut String) -> std::fmt::Result {
    let catalogue = Catalogue::built_in();
    let shown =
        |row: &str| checks::ALL.iter().any(|check| check.about.shows.iter().any(|(each, _)| *each == row));
    let rows = catalogue.rows().iter().filter(|row| shown(&row.id)).count();
    writeln!(out, "# Checks\n")?;
    writeln!(
        out,
        "Written from the checks themselves; `KLAR_BLESS=1 cargo test -p klar-prove --test reference` writes it anew.\n"
    )?;
    writeln!(
        out,
        "{} checks look at {rows} of the {} rows of the catalogue. How a score is made of them: [readiness](../guides/readiness.md).\n",
        checks::ALL.len(),
        catalogue.rows().len()
    )?;
    for check in checks::ALL {
        one(out, catalogue, &check.about)?;
    }
    writeln!(out, "## Every row\n")?;
    for category in Category::SCORED.into_iter().chain([Category::Gate, Category::Operations]) {
        writeln!(out, "### {}\n", category.title().en)?;
        writeln!(out, "| row | asks for | weight | looked at by |\n|---|---|---|---|")?;
        for row in catalogue.rows().iter().filter(|row| row.category == category) {
            let mut by: Vec<String> = checks::ALL
                .iter()
                .filter_map(|check| {
                    let parts = check.about.shows.iter().filter(|(each, _)| *each == row.id).count();
                    let all = row.proof.len();
                    (parts > 0).then(|| format!("[{0}](#{0}) {parts}/{all}", check.about.id))
                })
                .collect();
            by.extend(derive::made_of(&row.id).map(|made| format!("made of {}", made.en)));
            if row.sign.is_some() {
                by.push("a signature".to_owned());
            }
            let weight = if row.is_scored() { row.weight().to_string() } else { "-".to_owned() };
            writeln!(out, "| `{}` | {} | {weight} | {} |", row.id, row.title.en, by.join(", "))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn one(out: &mut String, catalogue: &Catalogue, about: &About) -> std::fmt::Result {
    writeln!(out, "## {}\n\n{}\n", about.id, about.question)?;
    writeln!(out, "- **Does:** {}", about.does)?;
    writeln!(out, "- **Disturbs:** {}", disturbs(about.disturbs))?;
    let needs: Vec<&str> = about.needs.iter().map(|need| need_of(*need)).collect();
    writeln!(out, "- **Needs:** {}", if needs.is_empty() { "nothing".to_owned() } else { needs.join(", ") })?;
    writeln!(
        out,
        "- **Good for:** {}; given up after {} s",
        days(about.good_for.as_secs()),
        about.limit.as_secs()
    )?;
    let faults: Vec<String> = about.faults.iter().map(|fault| fault_of(*fault)).collect();
    writeln!(out, "- **Planted faults it must find:** {}", faults.join("; "))?;
    writeln!(out, "- **Shows:**")?;
    let mut fixed: Vec<&str> = Vec::new();
    for (row, part) in about.shows {
        let Some(found) = catalogue.get(row) else { continue };
        let text = found.proof.iter().find(|each| each.id == *part).map_or("", |each| &each.text.en);
        writeln!(out, "  - `{row}`: {text}")?;
        if !fixed.contains(row) {
            fixed.push(row);
        }
    }
    writeln!(out, "- **Fix:**")?;
    for row in fixed {
        writeln!(out, "  - `{row}`: {}", catalogue.get(row).map_or("", |row| &row.fix.en))?;
    }
    writeln!(out)
}

fn disturbs(disturbs: Disturbs) -> &'static str {
    match disturbs {
        Disturbs::Nothing => "nobody: a few requests, as any visitor makes them",
        Disturbs::Load => "hardly: many requests, or strange ones, that change nothing",
        Disturbs::Attacks => "it attacks and writes: in a rig (`--full`), or with `--disruptive`",
        Disturbs::Stops => "it stops or kills parts of the app: in a rig (`--full`), or with `--disruptive`",
    }
}

fn need_of(need: Need) -> &'static str {
    match need {
        Need::Site => "an address",
        Need::Api => "an OpenAPI document",
        Need::Accounts => "accounts (`[check]` and `[accounts]` in klar.toml)",
        Need::Source => "the sources",
        Need::Database => "the database",
        Need::Browser => "Chromium",
        Need::Klar | Need::Keeper => "klar running the app",
        Need::Kept => "a PostgreSQL that klar runs",
    }
}

fn fault_of(fault: Fault) -> String {
    match fault {
        Fault::Foil(switch, _) => {
            let what = SWITCHES.iter().find(|(name, _)| *name == switch).map_or("", |(_, what)| what);
            format!("`{switch}` ({what})")
        }
        Fault::Files(files, (row, part)) => {
            let names: Vec<String> = files.iter().map(|(path, _)| format!("`{path}`")).collect();
            format!("{} that break `{row}` ({part})", names.join(", "))
        }
        Fault::Database(statements, _) => {
            let list: Vec<String> = statements.iter().map(|sql| format!("`{}`", shortened(sql))).collect();
            format!("in a scratch PostgreSQL: {}", list.join(", "))
        }
        Fault::Rig(name, _) => format!("`{name}`"),
        Fault::Own(_) => "what `klar.toml` plants".to_owned(),
    }
}

fn shortened(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 100 { line } else { line.chars().take(99).chain(['…']).collect() }
}

fn days(seconds: u64) -> String {
    match seconds / 86_400 {
        0 => format!("{} h", seconds / 3600),
        1 => "a day".to_owned(),
        days => format!("{days} days"),
    }
}
