//! A long operation as it goes by: one line for each step with its time, live on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use klar_run::report::Event;

use super::{BAD, GOOD, Printer, QUIET, paint, words};

/// The step that is going on.
#[derive(Debug)]
struct Open {
    step: String,
    detail: String,
    bar: Option<ProgressBar>,
}

/// Shows events as they happen.
#[derive(Debug)]
pub struct Steps {
    printer: Printer,
    open: Option<Open>,
}

impl Steps {
    /// Nothing has happened yet.
    pub fn new(printer: Printer) -> Self {
        Self { printer, open: None }
    }

    /// A step of the command line's own.
    pub fn begin(&mut self, step: &str, detail: impl Into<String>) {
        self.hear(&Event::Begin { step: step.into(), detail: detail.into() });
    }

    /// The end of it.
    pub fn end(&mut self, step: &str, detail: impl Into<String>, took: Duration) {
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.hear(&Event::End { step: step.into(), detail: detail.into(), duration_ms });
    }

    /// Shows one event. A failure is not shown here but where the operation ends, with all that helps.
    pub fn hear(&mut self, event: &Event) {
        if self.printer.json {
            if !matches!(event, Event::Failed(_)) {
                self.printer.value(event);
            }
            return;
        }
        match event {
            Event::Begin { step, detail } => {
                self.close();
                let bar = self.printer.is_live().then(|| spinner(doing(step, detail)));
                self.open = Some(Open { step: step.clone(), detail: detail.clone(), bar });
            }
            Event::End { step, detail, duration_ms } => {
                self.close();
                self.printer.story(line(past(step), detail, Some(*duration_ms), ""));
            }
            Event::Output { line } => {
                if let Some(Open { bar: Some(bar), step, detail }) = &self.open {
                    bar.set_message(format!(
                        "{}  {}",
                        doing(step, detail),
                        paint(QUIET, cut(&words::tame(line)))
                    ));
                }
            }
            Event::Note { text } => self.aside(text),
            Event::Failed(_) => self.break_off(),
            Event::Done(_) => self.close(),
        }
    }

    /// What klar decided or noticed.
    pub fn aside(&self, text: &str) {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let mut shown = format!("  {}      {first}", paint(QUIET, "note"));
        lines.for_each(|line| shown.push_str(&format!("\n            {line}")));
        match &self.open {
            // Printed above the spinner instead of through it.
            Some(Open { bar: Some(bar), .. }) => bar.suspend(|| self.printer.story(shown)),
            _ => self.printer.story(shown),
        }
    }

    /// Marks the step that was going on as the one that did not work.
    pub fn break_off(&mut self) {
        if let Some(Open { step, detail, bar }) = self.open.take() {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
            self.printer.story(format!("{} {:<9} {detail}", paint(BAD, "✗"), step));
        }
    }

    fn close(&mut self) {
        if let Some(Open { bar: Some(bar), .. }) = self.open.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.close();
    }
}

/// `  built     shop 4f1c9a2                    12.4s   errors 0.0%`
pub fn line(word: &str, detail: &str, duration_ms: Option<u64>, behind: &str) -> String {
    let took = duration_ms.map(words::took).unwrap_or_default();
    let line = format!("  {} {detail:<44} {took:>7}   {behind}", paint(GOOD, format_args!("{word:<9}")));
    line.trim_end().into()
}

fn doing(step: &str, detail: &str) -> String {
    format!("{step:<9} {}", cut(detail))
}

fn spinner(message: String) -> ProgressBar {
    const TICK: Duration = Duration::from_millis(100);
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed:>5} ") {
        bar.set_style(style);
    }
    bar.set_message(message);
    bar.enable_steady_tick(TICK);
    bar
}

/// One line of a spinner is one line of the terminal.
fn cut(text: &str) -> String {
    const LETTERS: usize = 160;
    text.lines().next().unwrap_or_default().chars().take(LETTERS).collect()
}

/// What a finished step is called.
fn past(step: &str) -> &str {
    match step {
        "build" => "built",
        "check" => "checked",
        "drain" => "drained",
        "install" => "installed",
        "migrate" => "migrated",
        "pack" => "packed",
        "purge" => "purged",
        "renew" => "renewed",
        "restart" => "restarted",
        "scale" => "scaled",
        "start" => "started",
        "stop" => "stopped",
        "switch" => "switched",
        "unpack" => "unpacked",
        "upload" => "uploaded",
        "wait" => "waited",
        other => other,
    }
}
