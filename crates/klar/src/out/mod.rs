//! What people and scripts see. Data goes to stdout, the story to stderr; colour never says anything alone.

pub mod events;
pub mod explained;
pub mod receipt;
pub mod sample;
pub mod screen;
pub mod spark;
pub mod status;
pub mod table;
pub mod top;
pub mod words;

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};
use klar_run::report::{Event, Failure};
use serde::Serialize;

/// Good news.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Works, with less.
pub const FAIR: Style = AnsiColor::Yellow.on_default();
/// Needs a person.
pub const BAD: Style = AnsiColor::Red.on_default();
/// On its way.
pub const MOVING: Style = AnsiColor::Cyan.on_default();
/// What the eye may skip.
pub const QUIET: Style = Style::new().dimmed();
/// What the eye should find.
pub const STRONG: Style = Style::new().bold();
/// Plain.
pub const PLAIN: Style = Style::new();

/// `text` in a style; what writes it to the terminal takes the colour out where none is wanted.
pub fn paint(style: Style, text: impl std::fmt::Display) -> String {
    if style.is_plain() { text.to_string() } else { format!("{style}{text}{style:#}") }
}

/// Decides what is shown, and where.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    /// One JSON value on stdout instead of text.
    pub json: bool,
    /// No story.
    pub quiet: bool,
}

impl Printer {
    /// Data for people, to stdout.
    pub fn data(&self, text: impl AsRef<str>) {
        put(&mut anstream::stdout().lock(), text.as_ref());
    }

    /// Data for programs, one value on a line of its own.
    pub fn value(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => put(&mut io::stdout().lock(), &text),
            Err(error) => self.story(format!("{error}")),
        }
    }

    /// The story, to stderr.
    pub fn story(&self, text: impl AsRef<str>) {
        if !self.quiet && !self.json {
            put(&mut anstream::stderr().lock(), text.as_ref());
        }
    }

    /// What must be heard also by those who asked for quiet.
    pub fn complaint(&self, text: impl AsRef<str>) {
        put(&mut anstream::stderr().lock(), text.as_ref());
    }

    /// Whether a person watches the story go by.
    pub fn is_live(&self) -> bool {
        !self.quiet && !self.json && io::stderr().is_terminal()
    }

    /// A failure, with all that helps.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            self.value(&Event::Failed(failure.clone()));
        } else {
            self.complaint(render_failure(failure).trim_end_matches('\n'));
        }
    }
}

/// Writes a line. Nobody there to read it (`klar logs | head`) is no mistake; what is done goes on to its end, and the
/// exit status says what came of it.
fn put(stream: &mut impl Write, text: &str) {
    match writeln!(stream, "{text}") {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => GONE.store(true, Ordering::Relaxed),
        Err(error) => {
            eprintln!("klar cannot write: {error}");
            std::process::exit(3);
        }
    }
}

/// Set once nobody reads any more.
static GONE: AtomicBool = AtomicBool::new(false);

/// Whether somebody still reads what klar prints: what would go on for ever ends when nobody does.
pub fn is_read() -> bool {
    !GONE.load(Ordering::Relaxed)
}

/// How many of the app's own last lines are shown with a failure.
const OUTPUT_LINES: usize = 20;

/// What happened, what the app said, what is true now, what to try.
pub fn render_failure(failure: &Failure) -> String {
    let (first, rest) = failure.what.split_once('\n').unwrap_or((&failure.what, ""));
    let mut text = format!("{} {}\n", paint(BAD.bold(), "✗"), paint(STRONG, first));
    rest.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    text.push_str(&render_output(&failure.output, "  "));
    if let Some(now) = &failure.now {
        text.push_str(&format!("  {} {now}\n", paint(STRONG, "now:")));
    }
    if let Some(hint) = &failure.hint {
        text.push_str(&render_hint(hint, "  "));
    }
    text
}

/// The app's own last lines, set apart from klar's.
pub fn render_output(lines: &[String], indent: &str) -> String {
    let skip = lines.len().saturating_sub(OUTPUT_LINES);
    let bar = paint(QUIET, "│");
    lines.iter().skip(skip).map(|line| format!("{indent}{bar} {}\n", words::tame(line))).collect()
}

/// What to try.
pub fn render_hint(hint: &str, indent: &str) -> String {
    let mut lines = hint.lines();
    let mut text = format!("{indent}{} {}\n", paint(MOVING, "hint:"), lines.next().unwrap_or_default());
    lines.for_each(|line| text.push_str(&format!("{indent}      {line}\n")));
    text
}
