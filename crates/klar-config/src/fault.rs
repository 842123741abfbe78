//! What is wrong with a file: every mistake at once, each with its place and a way out.
//!
//! A [`ConfigError`] is data first (`--json`), text second ([`ConfigErrors::render`]). The text quotes the file in
//! the manner of rustc, without the values that look like credentials.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::{Serialize, Serializer};

use crate::source::Source;

/// How many mistakes are kept; a file with more is not helped by a longer list.
const KEPT_MAX: usize = 64;

/// A mistake found while reading, before it is tied to a text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fault {
    pub(crate) span: Option<Range<usize>>,
    pub(crate) message: String,
    pub(crate) label: String,
    pub(crate) also: Vec<(Range<usize>, String)>,
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    pub(crate) fn at(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.span = Some(span);
        self.label = label.into();
        self
    }

    pub(crate) fn and(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.also.push((span, label.into()));
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into().trim_end().to_owned());
        self
    }
}

/// One mistake in a `klar.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigError {
    /// The file, as it was named by the caller.
    pub file: String,
    /// The line, counted from 1; absent when the mistake is about the file as a whole.
    pub line: Option<usize>,
    /// The column in characters, counted from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What stands at that place; may be empty.
    pub label: String,
    /// What to do about it.
    pub hint: Option<String>,
    #[serde(skip)]
    spans: Vec<(Range<usize>, String)>,
}

impl klar_base::Hint for ConfigError {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl fmt::Display for ConfigError {
    /// One line, as compilers print it for machines: `klar.toml:6:1: unknown key ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
            _ => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Everything that is wrong with a `klar.toml`, in the order of the file.
///
/// `Display` is [`render`](Self::render) without colour. Serialises as the list of its [`ConfigError`]s.
#[derive(Debug, Clone)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    dropped: usize,
    source: Box<Source>,
}

impl ConfigErrors {
    pub(crate) fn new(source: Source, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.span.as_ref().map_or((0, 0), |span| (span.start, span.end)));
        // What an environment's table says is read twice: alone, and laid over the rest. The first one counts.
        let mut seen = std::collections::HashSet::new();
        faults.retain(|fault| fault.span.as_ref().is_none_or(|span| seen.insert((span.start, span.end))));
        let dropped = faults.len().saturating_sub(KEPT_MAX);
        faults.truncate(KEPT_MAX);
        let errors = faults.into_iter().map(|fault| ConfigError::new(&source, fault)).collect();
        Self { errors, dropped, source: Box::new(source) }
    }

    /// A mistake about the file as a whole.
    pub(crate) fn about_file(name: impl Into<String>, fault: Fault) -> Self {
        Self::new(Source::new(name, ""), vec![fault])
    }

    /// The mistakes, at least one.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// The text for people, several lines for each mistake, without a line break at the end.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut parts: Vec<String> =
            self.errors.iter().map(|error| error.render(&self.source, &renderer)).collect();
        if self.dropped > 0 {
            parts.push(format!("... and {} more", self.dropped));
        }
        parts.join("\n\n")
    }
}

impl ConfigError {
    fn new(source: &Source, fault: Fault) -> Self {
        let position = fault.span.as_ref().map(|span| source.position(span.start));
        let mut spans: Vec<(Range<usize>, String)> = Vec::new();
        spans.extend(fault.span.map(|span| (span, fault.label.clone())));
        spans.extend(fault.also);
        Self {
            file: source.name.clone(),
            line: position.map(|position| position.line),
            column: position.map(|position| position.column),
            message: fault.message,
            label: fault.label,
            hint: fault.hint,
            spans,
        }
    }

    fn render(&self, source: &Source, renderer: &Renderer) -> String {
        let spans: Vec<Range<usize>> = self.spans.iter().map(|(span, _)| span.clone()).collect();
        let (text, spans) = source.shown(&spans);
        let title = Level::ERROR.primary_title(&self.message);
        let group = if spans.is_empty() {
            title.element(Origin::path(&self.file))
        } else {
            let kinds =
                std::iter::once(AnnotationKind::Primary).chain(std::iter::repeat(AnnotationKind::Context));
            let annotations = kinds
                .zip(spans)
                .zip(&self.spans)
                .map(|((kind, span), (_, label))| kind.span(first_line(&text, span)).label(label.as_str()));
            title.element(Snippet::source(text.as_str()).path(&self.file).fold(true).annotations(annotations))
        };
        let mut report = vec![group];
        if let Some(hint) = &self.hint {
            report.push(Group::with_title(Level::HELP.secondary_title(hint)));
        }
        renderer.render(&report)
    }
}

/// A span never covers more than the line it starts on: what is quoted stays short.
fn first_line(text: &str, span: Range<usize>) -> Range<usize> {
    let end = text[span.clone()].find(['\n', '\r']).map_or(span.end, |at| span.start + at);
    span.start..end
}

impl klar_base::Hint for ConfigErrors {
    fn hint(&self) -> Option<String> {
        self.errors.first().and_then(|error| error.hint.clone())
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigErrors {}

impl Serialize for ConfigErrors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.errors.serialize(serializer)
    }
}
