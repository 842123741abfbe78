//! Verbs that explain: what klar.toml means, how klar is used.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use clap::CommandFactory;
use klar_config::{Explanation, FILE_NAME, Loaded, Origin};
use klar_run::report::Failure;

use crate::cli::{Cli, Init};
use crate::context::{Context, Trouble, failure};
use crate::out::table::{Cell, align, cell};
use crate::out::{GOOD, PLAIN, QUIET, STRONG, paint};

/// `klar init`.
pub fn init(context: &Context, wanted: &Init) -> Result<(), Trouble> {
    let folder = context.global.app.clone().unwrap_or_else(|| ".".into());
    let file = folder.join(FILE_NAME);
    if !wanted.print && !wanted.force && file.exists() {
        let hint =
            "change it by hand, see another with `klar init --print`, or replace it with `klar init --force`";
        return Err(Failure::new(format!("{} is there already", file.display())).hint(hint).into());
    }
    let draft = klar_config::init::guess(&folder).map_err(|error| Trouble::from(failure(&error)))?;
    if context.printer.json {
        context.printer.value(&draft);
    }
    if wanted.print {
        if !context.printer.json {
            context.printer.data(draft.toml.trim_end());
        }
        return Ok(());
    }
    write(&file, &draft.toml, wanted.force)
        .map_err(Trouble::system(format!("writing {}", file.display())))?;
    context.printer.story(format!("{} {}", paint(GOOD, "wrote"), file.display()));
    let rows: Vec<Vec<Cell>> = draft
        .guesses
        .iter()
        .map(|guess| vec![cell(STRONG, &guess.what), cell(QUIET, format!("because {}", guess.because))])
        .collect();
    context.printer.story(align(&rows, &[], "  ").trim_end_matches('\n'));
    for ask in &draft.asks {
        context.printer.story(format!("  {} {ask}", paint(STRONG, "please check:")));
    }
    context.printer.story(format!("next: {}", paint(STRONG, "klar up")));
    Ok(())
}

fn write(file: &Path, text: &str, replace: bool) -> std::io::Result<()> {
    let mut file = if replace { File::create(file)? } else { File::create_new(file)? };
    file.write_all(text.as_bytes())
}

/// `klar explain`.
pub fn explain(context: &Context, key: Option<&str>) -> Result<(), Trouble> {
    let has_file = context.folder().join(FILE_NAME).is_file();
    let loaded = if has_file || key.is_none() { Some(context.load()?) } else { None };
    match (key, &loaded) {
        (None, Some(loaded)) => everything(context, loaded),
        (key, loaded) => {
            let explanation = klar_config::explain(loaded.as_ref(), key.unwrap_or_default())
                .map_err(|error| Trouble::usage(failure(&error)))?;
            if context.printer.json {
                context.printer.value(&explanation);
            } else {
                context.printer.data(one(&explanation).trim_end());
            }
        }
    }
    Ok(())
}

fn everything(context: &Context, loaded: &Loaded) {
    let all = klar_config::explain_all(loaded);
    if context.printer.json {
        context.printer.value(&all);
        return;
    }
    let rows: Vec<Vec<Cell>> = all
        .iter()
        .map(|explanation| {
            let (style, from) = match &explanation.origin {
                Some(origin @ Origin::Default { .. }) => (QUIET, origin.to_string()),
                Some(origin) => (GOOD, origin.to_string()),
                None => (QUIET, String::new()),
            };
            let value = explanation.value.as_deref().unwrap_or("-");
            vec![cell(STRONG, &explanation.key), cell(PLAIN, value), cell(style, from)]
        })
        .collect();
    context.printer.data(align(&rows, &[], "").trim_end_matches('\n'));
}

fn one(explanation: &Explanation) -> String {
    let mut text = format!("{}\n\n{}\n\n", paint(STRONG, &explanation.key), explanation.meaning.trim_end());
    let rows = [
        ("must be", Some(explanation.takes.clone())),
        ("for", Some(explanation.applies_to.clone())),
        ("default", Some(explanation.default.clone())),
        ("in force", explanation.value.clone()),
        ("because", explanation.origin.as_ref().map(ToString::to_string)),
        ("example", Some(explanation.example.clone())),
    ];
    for (word, value) in rows {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        let mut lines = value.lines();
        text.push_str(&format!(
            "  {}  {}\n",
            paint(QUIET, format_args!("{word:<8}")),
            lines.next().unwrap_or_default()
        ));
        lines.for_each(|line| text.push_str(&format!("            {line}\n")));
    }
    for each in &explanation.each {
        let value = each.value.as_deref().unwrap_or("-");
        text.push_str(&format!("  {} = {value}  {}\n", each.key, paint(QUIET, &each.origin)));
    }
    text
}

/// `klar schema`.
pub fn schema(context: &Context) -> Result<(), Trouble> {
    let schema = klar_config::json_schema();
    match serde_json::to_string_pretty(&schema) {
        Ok(text) => context.printer.data(text),
        Err(error) => return Err(Failure::new(error.to_string()).into()),
    }
    Ok(())
}

/// `klar completions`.
pub fn completions(shell: clap_complete::Shell) -> Result<(), Trouble> {
    clap_complete::generate(shell, &mut Cli::command(), "klar", &mut std::io::stdout());
    Ok(())
}

/// `klar man`.
pub fn man(folder: Option<&Path>) -> Result<(), Trouble> {
    let command = Cli::command();
    match folder {
        Some(folder) => std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(command, folder))
            .map_err(Trouble::system(format!("writing manual pages into {}", folder.display()))),
        None => clap_mangen::Man::new(command)
            .render(&mut std::io::stdout())
            .map_err(Trouble::system("writing the manual page")),
    }
}
