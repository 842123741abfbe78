//! Scripts, styles and pages: minified, and compressed on the way.
//!
//! Nothing is decompressed here: that what is sent compressed is what it should be shows in the browser, which could
//! not use it otherwise. Here the header and both sizes are compared, and that takes no library.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::those;
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::World;
use crate::world::http::{Answer, Ask};

/// Minified and compressed files.
pub struct Assets;

/// The files, with and without compression.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    files: Vec<File>,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    path: String,
    bytes: usize,
    /// What came to a browser that takes brotli and gzip: its encoding and its bytes.
    encoding: String,
    packed: usize,
    /// How much of a thousand bytes is comments, indentation and line ends, outside of texts.
    waste: usize,
}

const ROW: &str = "perf.asset-minification";
/// Nobody gains from compressing or shrinking less than this.
const SMALL: usize = 1024;
/// Minifiers leave licences and a few line ends; people indent: 150 to 400 of a thousand bytes.
const MOST_WASTE: usize = 100;
const MOST_FILES: usize = 60;

impl Probe for Assets {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "assets",
        version: 1,
        question: "Are scripts, styles and pages minified, and compressed on the way?",
        does: "Asks for every script, style and page with and without Accept-Encoding, compares their sizes and counts comments and indentation.",
        shows: &[(ROW, "minified"), (ROW, "compressed")],
        needs: &[Need::Site],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(30),
        faults: &[
            Fault::Foil("not-minified", (ROW, "minified")),
            Fault::Foil("not-compressed", (ROW, "compressed")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let crawl = world.crawl().await?;
        let mut files = Vec::new();
        for (path, answer) in crawl.all() {
            let Some(kind) = Kind::of(answer) else { continue };
            // The crawl asks without Accept-Encoding, so this is the file itself.
            if answer.body.len() < SMALL || answer.headers.contains_key("content-encoding") {
                continue;
            }
            let ask = Ask::get(path).with("accept", "text/html,*/*").with("accept-encoding", "gzip, br");
            let Ok(packed) = world.ask(ask).await else { continue };
            files.push(File {
                path: path.chars().take(200).collect(),
                bytes: answer.body.len(),
                encoding: packed.header("content-encoding").unwrap_or_default().chars().take(20).collect(),
                packed: packed.body.len(),
                waste: waste(&answer.text(), kind) * 1000 / answer.body.len().max(1),
            });
            tokio::task::yield_now().await;
            if files.len() >= MOST_FILES {
                break;
            }
        }
        Ok(Seen { files })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let all = seen.files.len();
        if all == 0 {
            let none = || {
                words!(
                    "no script, style or page of 1 KiB or more was found",
                    "fant ikke skript, stilark eller sider på 1 KiB eller mer",
                    "hittade inga skript, stilmallar eller sidor på 1 KiB eller mer"
                )
            };
            return vec![
                Finding::unseen((ROW, "minified"), none()),
                Finding::unseen((ROW, "compressed"), none()),
            ];
        }
        let bad = |good: &dyn Fn(&File) -> bool, told: &dyn Fn(&File) -> String| {
            seen.files.iter().filter(|file| !good(file)).map(told).collect::<Vec<_>>()
        };
        let large = bad(&|file| file.waste <= MOST_WASTE, &|file| {
            format!("{} ({} % of {} B)", file.path, file.waste / 10, file.bytes)
        });
        let loose = bad(
            &|file| ["br", "gzip", "zstd"].contains(&file.encoding.as_str()) && file.packed < file.bytes,
            &|file| format!("{} ({} B)", file.path, file.bytes),
        );
        let before: usize = seen.files.iter().map(|file| file.bytes).sum();
        let after: usize = seen.files.iter().map(|file| file.packed).sum();
        let sizes = words!(
            "; {before} B, {after} B sent",
            "; {before} B, {after} B sendt",
            "; {before} B, {after} B skickade"
        );
        vec![
            Finding::when(large.is_empty(), (ROW, "minified"), those(&large, all)),
            Finding::when(loose.is_empty(), (ROW, "compressed"), those(&loose, all).and(&sizes)),
        ]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Script,
    Style,
    Page,
}

impl Kind {
    fn of(answer: &Answer) -> Option<Self> {
        match answer.media_type().as_str() {
            "text/javascript" | "application/javascript" | "application/x-javascript" => Some(Self::Script),
            "text/css" => Some(Self::Style),
            "text/html" => Some(Self::Page),
            _ => None,
        }
    }
}

/// The bytes that a minifier would take away: comments (but not licences), indentation, and the line ends with it.
///
/// Careful rather than complete: texts in quotes and templates are left out, and what comes after a quote that does
/// not end on its line (a regular expression, an apostrophe) is counted as code again on the next line.
fn waste(text: &str, kind: Kind) -> usize {
    if kind == Kind::Page {
        return page_waste(text);
    }
    let bytes = text.as_bytes();
    let is = |at: usize, what: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(what));
    let find = |from: usize, what: &str| {
        text.as_bytes()[from..]
            .windows(what.len())
            .position(|part| part == what.as_bytes())
            .map_or(bytes.len(), |at| from + at + what.len())
    };
    let (mut at, mut waste, mut line_start) = (0, 0, true);
    while at < bytes.len() {
        match bytes[at] {
            b'/' if is(at, b"/*") => {
                let end = find(at + 2, "*/");
                let comment = &text.as_bytes()[at..end];
                let kept = is(at, b"/*!")
                    || [&b"@license"[..], b"@preserve", b"icense", b"opyright"]
                        .iter()
                        .any(|word| comment.windows(word.len()).any(|part| part == *word));
                if !kept {
                    waste += end - at;
                }
                at = end;
            }
            // Only at the beginning of a line: elsewhere it may be an address or a regular expression.
            b'/' if line_start && kind == Kind::Script && is(at, b"//") && !is(at, b"//#") => {
                let end = find(at, "\n");
                waste += end - at;
                at = end;
            }
            b'`' => {
                line_start = false;
                at = end_of_text(bytes, at, b'`', false);
            }
            quote @ (b'"' | b'\'') => {
                line_start = false;
                at = end_of_text(bytes, at, quote, true);
            }
            b'\n' => {
                line_start = true;
                waste += 1;
                at += 1;
            }
            b' ' | b'\t' | b'\r' => {
                waste += usize::from(line_start);
                at += 1;
            }
            _ => {
                line_start = false;
                at += 1;
            }
        }
    }
    waste
}

fn end_of_text(bytes: &[u8], start: usize, quote: u8, in_line: bool) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'\n' if in_line => return at,
            byte if byte == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len().min(at)
}

/// Of a page: comments, and the indentation of its lines. What is inside of `pre` and `textarea` counts for nothing.
fn page_waste(text: &str) -> usize {
    let mut waste = 0;
    let mut rest = text;
    let mut outside = String::new();
    while let Some(start) = rest.find("<!--") {
        outside.push_str(&rest[..start]);
        let end = rest[start..].find("-->").map_or(rest.len(), |end| start + end + 3);
        // Short ones are marks that frameworks put between texts.
        waste += if end - start > 16 { end - start } else { 0 };
        rest = &rest[end..];
    }
    outside.push_str(rest);
    for name in ["pre", "textarea"] {
        while let Some(start) = outside.find(&format!("<{name}")) {
            let end = outside[start..].find(&format!("</{name}")).map_or(outside.len(), |end| start + end);
            outside.replace_range(start..end, "");
            outside = outside.replacen(&format!("</{name}"), "", 1);
        }
    }
    waste + outside.lines().map(|line| line.len() - line.trim_start().len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_minifier_takes_away_is_counted() {
        let script = |text| waste(text, Kind::Script);
        assert_eq!(script("let a=\"//no  /* no */\";let b=`\n    text\n`;"), 0);
        assert_eq!(script("a();\n    b();\n"), 6);
        assert_eq!(script("// yes\na(1);/* yes */"), 16);
        assert_eq!(script("/*! licence */a=/x'/;b=\"http://x\""), 0);
        assert_eq!(script("\"never ended"), 0);
        assert_eq!(script("a=\"\\"), 0);
        assert_eq!(waste("a{b:c}\n  d{}", Kind::Style), 3);
        assert_eq!(waste("<p>\n  <b></b><!-- --><pre>\n      x</pre>", Kind::Page), 2);
        assert_eq!(waste("<!-- what is said here --><pre>", Kind::Page), 26);
    }
}
