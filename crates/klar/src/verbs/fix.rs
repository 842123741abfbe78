//! `klar fix`: where klar itself is the answer to a row, the change of `klar.toml` or of the database, shown or made.

use std::fmt::Write;
use std::rc::Rc;
use std::time::Instant;

use klar_prove::catalogue::Catalogue;
use klar_prove::check::Check;
use klar_prove::checks::data::indexes::{self, Indexes};
use klar_run::report::Failure;
use tokio::task::LocalSet;
use toml_edit::{DocumentMut, InlineTable, Item, Table, value};

use super::{check, target};
use crate::cli;
use crate::context::{Context, Trouble};
use crate::out::{BAD, GOOD, QUIET, paint};

/// What settles a row: a change of the settings, and what it costs to make it.
struct Fix {
    rows: &'static [&'static str],
    /// What to know before.
    note: &'static str,
    change: fn(&mut DocumentMut) -> Result<(), &'static str>,
}

const FIXES: &[Fix] = &[
    Fix {
        rows: &["sec.headers", "sec.headers.csp"],
        note: "pages with inline scripts, or scripts of other hosts, stop working: look at the reports first",
        change: |file| {
            set(file, "edge", "csp", value("enforce"));
            Ok(())
        },
    },
    Fix {
        rows: &["scale.autoscale.min2-max10", "edge.load-balancer", "test.failover", "runtime.supervisor"],
        note: "the app has to work as several processes: sessions and files in a store, not in memory",
        change: |file| {
            each_service(file, |service| {
                let mut bounds = InlineTable::new();
                bounds.insert("min", 2.into());
                bounds.insert("max", 10.into());
                service.insert("instances", value(bounds));
            })
        },
    },
    Fix {
        rows: &["mon.health-checks"],
        note: "the path has to answer 503 while the app cannot work; klar sends nobody there meanwhile",
        change: |file| {
            each_service(file, |service| {
                if service.get("health").is_none() {
                    service.insert("health", value("/healthz"));
                }
            })
        },
    },
];

/// `klar fix`.
pub fn fix(context: &Context, wanted: &cli::Fix) -> Result<(), Trouble> {
    let row = Catalogue::built_in().get(&wanted.row).ok_or_else(|| {
        if let Some(name) = wanted.row.strip_prefix("own.") {
            let failure =
                Failure::new(format!("klar.toml asks `{}` itself: klar has no fix for it", wanted.row));
            return Trouble::from(failure.hint(format!("see `fix` of `[checks.{name}]` there")));
        }
        let failure = Failure::new(format!("there is no row `{}`", wanted.row));
        Trouble::usage(failure.hint("`klar check` names what fails"))
    })?;
    if wanted.row == "data.index" {
        return fix_indexes(context, wanted);
    }
    let fix = FIXES.iter().find(|fix| fix.rows.contains(&wanted.row.as_str())).ok_or_else(|| {
        let failure = Failure::new(format!("klar.toml cannot mend {}", wanted.row));
        Trouble::from(failure.hint(row.fix.en.clone()))
    })?;
    // What is wrong with the file already is said first.
    context.load()?;
    let path = context.folder().join(klar_config::FILE_NAME);
    let before = std::fs::read_to_string(&path).map_err(Trouble::system(path.display()))?;
    let mut file: DocumentMut =
        before.parse().map_err(|why: toml_edit::TomlError| Trouble::from(Failure::new(why.to_string())))?;
    (fix.change)(&mut file).map_err(|why| Trouble::from(Failure::new(why)))?;
    let after = file.to_string();
    if after == before {
        context.printer.data(format!(
            "{} klar.toml says so already; if the row still fails, the app is the place",
            paint(GOOD, "✓")
        ));
        return Ok(());
    }
    klar_config::Config::parse(&after, klar_config::FILE_NAME, &context.global.env)?;
    context.printer.data(diff(&before, &after).trim_end());
    context.printer.story(format!("{} {}", paint(QUIET, "note:"), fix.note));
    if wanted.dry_run {
        return Ok(());
    }
    klar_run::durable::replace(&path, after.as_bytes()).map_err(Trouble::system(path.display()))?;
    context.printer.story(format!(
        "{} klar.toml is changed; `klar deploy`, then `klar check --only {}`",
        paint(GOOD, "✓"),
        wanted.row
    ));
    Ok(())
}

/// Looks which indexes are missing, shows the SQL, makes them beside those who read and write, and looks again.
fn fix_indexes(context: &Context, wanted: &cli::Fix) -> Result<(), Trouble> {
    let looked = cli::Check {
        only: vec!["data.index".to_owned()],
        database: wanted.database.clone(),
        ..cli::Check::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Trouble::system("starting"))?;
    let made = LocalSet::new().block_on(&runtime, async {
        let world = Rc::new(target::world(context, &looked).await?);
        context.printer.story(format!("{} asks the app, and PostgreSQL for its plans", paint(QUIET, "→")));
        let indexes = Check::of::<Indexes>();
        let seen = tokio::time::timeout(indexes.about.limit, indexes.look(Rc::clone(&world)));
        let seen =
            seen.await.map_err(|_| Trouble::from(Failure::new("the database was not done in time")))?;
        let seen = seen.map_err(|why| Trouble::from(Failure::new(why.0.en)))?;
        let missing = indexes::missing(&seen).map_err(|why| Trouble::from(Failure::new(why)))?;
        for (sql, why) in &missing {
            context.printer.data(format!(
                "{}  {}",
                paint(GOOD, format!("{sql};")),
                paint(QUIET, why.en.trim())
            ));
        }
        if missing.is_empty() {
            context.printer.data(format!("{} no index is missing that klar can see", paint(GOOD, "✓")));
            return Ok(0);
        }
        if wanted.dry_run {
            return Ok(0);
        }
        let database = world.database().await.map_err(|why| Trouble::from(Failure::new(why.0.en)))?;
        for (sql, _) in &missing {
            let began = Instant::now();
            database.make_index(sql).await.map_err(|why| {
                let failure = Failure::new(format!("{sql}: {}", why.0.en));
                Trouble::from(failure.hint("nothing half-made is left; the role must own the table"))
            })?;
            let took = paint(QUIET, format!("{:.1} s", began.elapsed().as_secs_f64()));
            context.printer.story(format!("{} {sql}  {took}", paint(GOOD, "✓")));
        }
        context.printer.story(format!(
            "{} put them into a migration too, or the next database lacks them",
            paint(QUIET, "note:")
        ));
        Ok::<_, Trouble>(missing.len())
    })?;
    drop(runtime);
    match made {
        0 => Ok(()),
        // How the rest of the score stands is not what was asked.
        _ => match check::check(context, &looked) {
            Err(Trouble::Verdict(_)) | Ok(()) => Ok(()),
            Err(trouble) => Err(trouble),
        },
    }
}

fn set(file: &mut DocumentMut, table: &str, key: &str, item: Item) {
    let root = file.as_table_mut();
    let place = root.entry(table).or_insert_with(|| Item::Table(Table::new()));
    if let Some(place) = place.as_table_like_mut() {
        place.insert(key, item);
    }
}

/// Changes each service that runs a command and listens.
fn each_service(
    file: &mut DocumentMut,
    change: impl Fn(&mut dyn toml_edit::TableLike),
) -> Result<(), &'static str> {
    let services =
        file.get_mut("services").and_then(Item::as_table_like_mut).ok_or("there are no [services]")?;
    for (_, service) in services.iter_mut() {
        let Some(service) = service.as_table_like_mut() else { continue };
        let kind = service.get("kind").and_then(Item::as_str).unwrap_or("web");
        if kind == "web" && service.get("run").is_some() {
            change(service);
        }
    }
    Ok(())
}

/// The lines that differ, with those around the first of them left out: a `klar.toml` is short.
pub(super) fn diff(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same_head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - same_head;
    let same_tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let mut text = format!("klar.toml, line {}\n", same_head + 1);
    // Writing to a String cannot fail.
    for line in &old[same_head..old.len() - same_tail] {
        let _ = writeln!(text, "{}", paint(BAD, format!("- {line}")));
    }
    for line in &new[same_head..new.len() - same_tail] {
        let _ = writeln!(text, "{}", paint(GOOD, format!("+ {line}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fix_changes_what_it_names_and_leaves_the_rest() {
        let text = "# ours\napp.name = \"shop\"\n\n[services.web]\nrun = \"node x\" # why\n\n[services.pages]\nstatic = \"z\"\n";
        for (fix, has) in FIXES.iter().zip([
            "csp = \"enforce\"",
            "instances = { min = 2, max = 10 }",
            "health = \"/healthz\"",
        ]) {
            let mut file: DocumentMut = text.parse().unwrap();
            (fix.change)(&mut file).unwrap();
            let after = file.to_string();
            assert!(after.contains(has) && after.matches(has).count() == 1, "{after}");
            assert!(text.lines().all(|line| after.contains(line)), "{after}");
            klar_config::Config::parse(&after, "klar.toml", &Default::default()).unwrap();
            assert!(diff(text, &after).lines().count() <= 4, "{}", diff(text, &after));
            for row in fix.rows {
                assert!(Catalogue::built_in().get(row).is_some(), "{row}");
            }
        }
    }
}
