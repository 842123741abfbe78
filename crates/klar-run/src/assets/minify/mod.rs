//! Taking away what only people need: comments and indentation of style sheets, pages, drawings and JSON.
//!
//! Conservative on purpose: nothing is renamed, reordered or rewritten, so what is left means what it meant. Scripts are
//! not touched at all: that takes a parser of the whole language, which the app's bundler has. What does not parse stays
//! as it is.

mod css;
mod html;
mod json;
mod svg;

/// What there is to say of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Minified {
    /// Smaller, with the same meaning.
    Smaller(String),
    /// It stays as it is: nothing would be gained, or it is not certain that it would mean the same.
    Same,
    /// It stays as it is, and the team should know why.
    Broken(&'static str),
}

/// Larger files are left alone, in bytes: they are data.
const FILE_MAX: usize = 4 << 20;

/// Whether a file is of a kind that is minified.
pub fn knows(path: &str) -> bool {
    kind(path).is_some()
}

/// Minifies the text of the file at `path`. `keeps_spaces`: styles of the site show white space as it is written.
pub fn minify(path: &str, text: &str, keeps_spaces: bool) -> Minified {
    if text.len() > FILE_MAX || text.contains("sourceMappingURL=") {
        return Minified::Same;
    }
    let minified = match kind(path) {
        Some(Kind::Style) => css::minify(text),
        Some(Kind::Page) => html::minify(text, keeps_spaces),
        Some(Kind::Drawing) => svg::minify(text),
        Some(Kind::Json) => json::minify(text),
        None => return Minified::Same,
    };
    match minified {
        Minified::Smaller(out) if out.len() >= text.len() => Minified::Same,
        other => other,
    }
}

/// Whether a style sheet, or a page with styles in it, shows white space as it is written somewhere.
pub fn keeps_spaces(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find("white-space") {
        rest = &rest[at + "white-space".len()..];
        let value = rest.split([';', '}', '"', '\'']).next().unwrap_or_default();
        if ["pre", "break-spaces", "preserve", "var("].iter().any(|word| value.contains(word)) {
            return true;
        }
    }
    text.contains("text-wrap-mode") || text.contains("xml:space")
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Style,
    Page,
    Drawing,
    Json,
}

fn kind(path: &str) -> Option<Kind> {
    match path.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
        "css" => Some(Kind::Style),
        "html" | "htm" => Some(Kind::Page),
        "svg" => Some(Kind::Drawing),
        "json" | "webmanifest" | "geojson" => Some(Kind::Json),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
