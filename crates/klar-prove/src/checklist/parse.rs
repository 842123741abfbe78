//! Where the boxes are.
//!
//! Not a Markdown renderer: it knows just enough of blocks to tell an item from what looks like one (code,
//! comments), and it keeps byte positions so that all the rest of the file can stay as it is.

use std::ops::Range;

use super::{Item, Note, is_id, text};

/// One line of the file, without what ends it.
struct Line {
    number: usize,
    place: Range<usize>,
}

/// What the reader is inside of.
enum Inside {
    Text,
    /// Code between fences of this letter and at least this length, at this depth of quoting.
    Fence {
        letter: u8,
        length: usize,
        quotes: usize,
    },
    /// An HTML comment that goes on over lines, and other blocks that end with a text.
    Until(&'static str),
}

/// A list item that deeper ones are nested in.
struct Open {
    indent: usize,
    text: String,
    item: Option<usize>,
}

struct Reader<'a> {
    bytes: &'a [u8],
    inside: Inside,
    headings: Vec<(usize, String)>,
    open: Vec<Open>,
    items: Vec<Item>,
    /// The paragraph right above: the item whose text it goes on with, and its line for a heading's underline.
    paragraph: Option<(Option<usize>, String)>,
}

/// Every box.
pub(crate) fn items(bytes: &[u8]) -> Vec<Item> {
    let mut reader = Reader {
        bytes,
        inside: Inside::Text,
        headings: Vec::new(),
        open: Vec::new(),
        items: Vec::new(),
        paragraph: None,
    };
    for line in lines(bytes) {
        reader.line(&line);
    }
    reader.items
}

/// Lines end with LF, CRLF or a lone CR.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Line> {
    let mut start = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let mut number = 0;
    std::iter::from_fn(move || {
        if start >= bytes.len() {
            return None;
        }
        number += 1;
        let end =
            bytes[start..].iter().position(|b| matches!(b, b'\n' | b'\r')).map_or(bytes.len(), |n| start + n);
        let place = start..end;
        start = if bytes[end..].starts_with(b"\r\n") { end + 2 } else { end + 1 };
        Some(Line { number, place })
    })
}

impl Reader<'_> {
    fn line(&mut self, line: &Line) {
        let raw = &self.bytes[line.place.clone()];
        let (quotes, indent, at) = quoted(raw);
        let body = &raw[at..];
        match self.inside {
            Inside::Fence { letter, length, quotes: depth } if quotes >= depth => {
                if fence(body).is_some_and(|(l, n, bare)| l == letter && n >= length && bare) {
                    self.inside = Inside::Text;
                }
                return;
            }
            // The quote that the code was in has ended, and the code with it.
            Inside::Fence { .. } => self.inside = Inside::Text,
            Inside::Until(end) => {
                if find(raw, end).is_some() {
                    self.inside = Inside::Text;
                }
                return;
            }
            Inside::Text => {}
        }
        if body.iter().all(u8::is_ascii_whitespace) {
            self.paragraph = None;
            return;
        }
        let markers = list_markers(body);
        let content = &body[markers..];
        if let Some((letter, length, _)) = fence(content) {
            self.inside = Inside::Fence { letter, length, quotes };
            self.paragraph = None;
            return;
        }
        if let Some(end) = block(content) {
            self.inside = end;
            self.paragraph = None;
            return;
        }
        let parts = comments(content);
        if parts.open.is_some() {
            self.inside = Inside::Until("-->");
        }
        let shown = text::plain(&String::from_utf8_lossy(&parts.shown));
        if markers > 0 {
            self.list_item(line, at + markers, indent, &parts);
        } else if let Some(level) = heading(content) {
            self.heading(level, shown.trim_matches(['#', ' ']).to_owned());
        } else if underline(content) && matches!(self.paragraph, Some((None, _))) {
            let level = if content.first() == Some(&b'=') { 1 } else { 2 };
            if let Some((_, text)) = self.paragraph.take() {
                self.heading(level, text);
            }
        } else if let Some((Some(item), _)) = self.paragraph {
            let text = &mut self.items[item].text;
            *text = format!("{text} {shown}").trim().to_owned();
            self.items[item].ids.extend(named(&parts));
        } else {
            self.paragraph(indent, content, shown);
        }
    }

    /// Text between lists; a line in bold, or one that ends with a colon, is a heading in all but name.
    fn paragraph(&mut self, indent: usize, content: &[u8], shown: String) {
        while self.open.last().is_some_and(|open| open.indent >= indent) {
            self.open.pop();
        }
        let raw = content.trim_ascii();
        let bold = raw.starts_with(b"**") || raw.starts_with(b"__");
        if self.open.is_empty() && shown.len() < 120 && (bold || shown.ends_with(':')) {
            self.heading(7, shown.trim_end_matches(':').to_owned());
        } else {
            self.paragraph = Some((None, shown));
        }
    }

    fn heading(&mut self, level: usize, text: String) {
        self.headings.retain(|(other, _)| *other < level);
        self.headings.push((level, text));
        self.open.clear();
        self.paragraph = None;
    }

    fn list_item(&mut self, line: &Line, content_at: usize, indent: usize, parts: &Parts) {
        while self.open.last().is_some_and(|open| open.indent >= indent) {
            self.open.pop();
        }
        let start = line.place.start + content_at;
        let content = &self.bytes[start..line.place.end];
        let Some(ticked) = tick(content) else {
            let text = text::plain(&String::from_utf8_lossy(&parts.shown));
            self.open.push(Open { indent, text, item: None });
            self.paragraph = Some((None, String::new()));
            return;
        };
        let shown = String::from_utf8_lossy(parts.shown.get(3..).unwrap_or_default());
        let text = text::plain(&shown);
        let note = parts.comments.iter().rev().find_map(|place| {
            let ticked_by_klar = evidence(&content[place.clone()])?;
            Some(Note { place: start + place.start..start + place.end, ticked_by_klar })
        });
        // A comment that goes on over lines would swallow ours: it goes before that one.
        let end = content[..parts.open.unwrap_or(content.len())].trim_ascii_end().len();
        let index = self.items.len();
        self.items.push(Item {
            line: line.number,
            mark: start + 1,
            ticked,
            text: text.clone(),
            headings: self.headings.iter().map(|(_, text)| text.clone()).collect(),
            above: self.open.iter().map(|open| open.text.clone()).collect(),
            parent: self.open.iter().rev().find_map(|open| open.item),
            ids: named(parts),
            note,
            end: start + end.max(3),
        });
        self.open.push(Open { indent, text, item: Some(index) });
        self.paragraph = Some((Some(index), String::new()));
    }
}

/// How deep in quotes, how far indented, and where the line's own content starts.
fn quoted(raw: &[u8]) -> (usize, usize, usize) {
    let (mut quotes, mut indent) = (0, 0);
    for (at, byte) in raw.iter().enumerate() {
        match byte {
            b' ' => indent += 1,
            b'\t' => indent += 4,
            b'>' => (quotes, indent) = (quotes + 1, 0),
            _ => return (quotes, indent, at),
        }
    }
    (quotes, indent, raw.len())
}

/// The length of `- `, `12. ` and their like, several in a row too.
fn list_markers(body: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let rest = &body[at..];
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let marker = match rest.get(digits) {
            Some(b'-' | b'*' | b'+') if digits == 0 => 1,
            Some(b'.' | b')') if (1..=9).contains(&digits) => digits + 1,
            _ => return at,
        };
        let spaces = rest[marker..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        // `- - -` is a line across the page.
        if spaces == 0 || rest[marker + spaces..].is_empty() {
            return at;
        }
        at += marker + spaces;
    }
}

/// Whether content starts with a box, and whether that is ticked.
fn tick(content: &[u8]) -> Option<bool> {
    let ticked = match content {
        [b'[', b' ' | b'\t', b']', ..] => false,
        [b'[', b'x' | b'X', b']', ..] => true,
        _ => return None,
    };
    content.get(3).is_none_or(u8::is_ascii_whitespace).then_some(ticked)
}

/// Letter and length of a fence, and whether nothing follows it.
fn fence(body: &[u8]) -> Option<(u8, usize, bool)> {
    let letter = *body.first().filter(|b| matches!(b, b'`' | b'~'))?;
    let length = body.iter().take_while(|b| **b == letter).count();
    let rest = &body[length..];
    let whole = length >= 3 && (letter == b'~' || !rest.contains(&b'`'));
    whole.then(|| (letter, length, rest.iter().all(u8::is_ascii_whitespace)))
}

/// Blocks of HTML that hold no Markdown, where they do not end on their first line.
fn block(content: &[u8]) -> Option<Inside> {
    let lower = content.to_ascii_lowercase();
    for (start, end) in
        [("<pre", "</pre>"), ("<script", "</script>"), ("<style", "</style>"), ("<textarea", "</textarea>")]
    {
        if lower.starts_with(start.as_bytes()) && find(&lower, end).is_none() {
            return Some(Inside::Until(end));
        }
    }
    None
}

fn heading(content: &[u8]) -> Option<usize> {
    let level = content.iter().take_while(|b| **b == b'#').count();
    ((1..=6).contains(&level) && content.get(level).is_none_or(u8::is_ascii_whitespace)).then_some(level)
}

fn underline(content: &[u8]) -> bool {
    let line = content.trim_ascii_end();
    line.iter().all(|b| *b == b'=') || line.iter().all(|b| *b == b'-')
}

fn find(bytes: &[u8], what: &str) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window.eq_ignore_ascii_case(what.as_bytes()))
}

/// A line's content, taken apart.
#[derive(Default)]
struct Parts {
    /// Without comments.
    shown: Vec<u8>,
    /// Where comments are.
    comments: Vec<Range<usize>>,
    /// What they say.
    said: Vec<String>,
    /// Where one starts that does not end on this line.
    open: Option<usize>,
}

/// Finds comments; what stands in a span of code is none.
fn comments(content: &[u8]) -> Parts {
    let mut parts = Parts::default();
    let mut at = 0;
    while at < content.len() {
        let rest = &content[at..];
        let step = if rest[0] == b'\\' {
            2.min(rest.len())
        } else if rest[0] == b'`' {
            code(rest)
        } else if rest.starts_with(b"<!--") {
            let Some(length) = comment(rest) else {
                parts.open = Some(at);
                return parts;
            };
            parts.comments.push(at..at + length);
            parts.said.push(String::from_utf8_lossy(&rest[..length]).into_owned());
            parts.shown.push(b' ');
            at += length;
            continue;
        } else {
            1
        };
        parts.shown.extend_from_slice(&rest[..step]);
        at += step;
    }
    parts
}

/// The length of a span of code, or of its backticks where they do not close.
fn code(rest: &[u8]) -> usize {
    let length = rest.iter().take_while(|b| **b == b'`').count();
    let mut at = length;
    while at < rest.len() {
        let run = rest[at..].iter().take_while(|b| **b == b'`').count();
        if run == length {
            return at + run;
        }
        at += run.max(1);
    }
    length
}

/// The length of a comment, where it ends on this line. `<!-->` is a whole one.
fn comment(rest: &[u8]) -> Option<usize> {
    for short in ["<!-->", "<!--->"] {
        if rest.starts_with(short.as_bytes()) {
            return Some(short.len());
        }
    }
    find(&rest[4..], "-->").map(|end| 4 + end + 3)
}

/// What follows `klar:` in a comment.
fn said(comment: &str) -> Option<&str> {
    Some(comment.strip_prefix("<!--")?.strip_suffix("-->")?.trim().strip_prefix("klar:")?.trim())
}

/// Rows named by a person: a comment with ids and nothing else, or ids in braces.
fn named(parts: &Parts) -> Vec<String> {
    let split = |ids: &str| -> Vec<String> {
        ids.split([',', ' ']).map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect()
    };
    let mut ids: Vec<String> = parts
        .said
        .iter()
        .filter_map(|comment| said(comment))
        .map(split)
        .filter(|ids| ids.iter().all(|id| is_id(id)))
        .flatten()
        .collect();
    let shown = String::from_utf8_lossy(&parts.shown);
    for (at, _) in shown.match_indices('{') {
        if let Some(end) = text::braces(&shown[at..]) {
            ids.extend(split(&shown[at + 1..at + end - 1]));
        }
    }
    ids
}

/// Whether a comment is klar's, and whether it says that klar ticked the box.
fn evidence(comment: &[u8]) -> Option<bool> {
    let comment = String::from_utf8_lossy(comment);
    let said = said(&comment)?;
    let state = super::write::state(said)?;
    Some(state.0 == super::State::Proven && !state.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Vec<(usize, bool, String)> {
        items(text.as_bytes()).into_iter().map(|item| (item.line, item.ticked, item.text)).collect()
    }

    fn texts(text: &str) -> Vec<String> {
        items(text.as_bytes()).into_iter().map(|item| item.text).collect()
    }

    #[test]
    fn every_kind_of_box_is_found() {
        for line in [
            "- [ ] a",
            "* [ ] a",
            "+ [ ] a",
            "1. [ ] a",
            "12) [ ] a",
            "    - [ ] a",
            "\t- [ ] a",
            "> - [ ] a",
            "> > 1) [ ] a",
            ">- [ ] a",
            "- - [ ] a",
            "-   [ ]   a",
            "- [ ] **a**",
            "- [ ] `a`",
            "- [\t] a",
            "- [ ] a  \r",
            "- [ ] a <!-- note -->",
            "- [ ] a <!-- klar: edge.tls -->",
            "\u{feff}- [ ] a",
        ] {
            assert_eq!(seen(line), [(1, false, "a".to_owned())], "{line:?}");
        }
        assert_eq!(seen("- [x] a\n- [X] b"), [(1, true, "a".to_owned()), (2, true, "b".to_owned())]);
    }

    #[test]
    fn what_looks_like_a_box_is_none() {
        for text in [
            "-[ ] a",
            "- [] a",
            "- [ ](link)",
            "- [y] a",
            "[ ] a",
            "| - [ ] a |",
            "text - [ ] a",
            "- [ ]a",
            "```\n- [ ] a\n```",
            "~~~ md\n- [ ] a\n~~~",
            "````\n```\n- [ ] a\n```\n- [ ] b\n````",
            "```\n- [ ] a",
            "~~~\n```\n- [ ] a\n~~~",
            "- ```\n  - [ ] a\n  ```",
            "> ```\n> - [ ] a\n> ```",
            "<!--\n- [ ] a\n-->",
            "text <!-- x\n- [ ] a --> - [ ] b",
            "<pre>\n- [ ] a\n</pre>",
            "``` \n``` x\n- [ ] a",
        ] {
            assert_eq!(seen(text), [], "{text:?}");
        }
    }

    #[test]
    fn after_code_and_comments_boxes_are_found_again() {
        for text in [
            "```\n- [ ] x\n```\n- [ ] a",
            "> ```\n> x\n- [ ] a",
            "<!-- x -->\n- [ ] a",
            "<!-- - [ ] x\n-->\n- [ ] a",
            "`<!--` is how\n- [ ] a",
            "\\<!-- is how\n- [ ] a",
            "``` `x` ```\n- [ ] a",
            "<pre>x</pre>\n- [ ] a",
        ] {
            assert_eq!(texts(text), ["a"], "{text:?}");
        }
    }

    #[test]
    fn what_stands_around_it_is_known() {
        let text = "# One\n## Two\n**Three:**\n- plain\n  - [ ] a\n    more of a\n    - [ ] b\n- [ ] c\n# Four\nx\n- [ ] d\n\nFive\n---\n1. [ ] e\n";
        let items = items(text.as_bytes());
        let around: Vec<_> = items
            .iter()
            .map(|item| (item.text.as_str(), item.headings.join("/"), item.above.join("/"), item.parent))
            .collect();
        assert_eq!(
            around,
            [
                ("a more of a", "One/Two/Three".into(), "plain".into(), None),
                ("b", "One/Two/Three".into(), "plain/a".into(), Some(0)),
                ("c", "One/Two/Three".into(), String::new(), None),
                ("d", "Four".into(), String::new(), None),
                ("e", "Four/Five".into(), String::new(), None),
            ]
        );
    }

    #[test]
    fn rows_can_be_named() {
        let ids = |text: &str| items(text.as_bytes()).remove(0).ids;
        assert_eq!(ids("- [ ] a <!-- klar: edge.tls -->"), ["edge.tls"]);
        assert_eq!(ids("- [ ] a {edge.tls, mon.slo.p95}"), ["edge.tls", "mon.slo.p95"]);
        assert_eq!(ids("- [ ] a {} { x } {edge} `<!-- klar: edge.tls -->`"), [""; 0]);
        assert_eq!(ids("- [x] a <!-- klar: edge.tls proven 2026-11-21, evidence 1234abcd -->"), [""; 0]);
    }

    #[test]
    fn positions_are_those_of_the_bytes() {
        for text in ["- [ ] å\r\n> * [x] b  \r\n\r\n1. [ ] c", "- [ ] a\r- [x] b", "\u{feff}- [ ] a\n"] {
            for item in items(text.as_bytes()) {
                assert_eq!(&text[item.mark..=item.mark], if item.ticked { "x" } else { " " });
                assert_eq!(&text[item.mark - 1..item.mark], "[");
                assert!(!text[..item.end].ends_with([' ', '\r', '\n']) && item.end > item.mark);
            }
        }
        let broken = b"\xff\xfe\n- [ ] \xc3\x28 a\n";
        assert_eq!(items(broken).len(), 1);
    }
}
