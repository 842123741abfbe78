//! A walk over the pages and files that the first page leads to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::World;
use super::http::{Answer, Ask};
use crate::check::Unable;
use crate::words;

const MOST_PAGES: usize = 30;
const MOST_FILES: usize = 120;

/// What the walk has found.
#[derive(Debug, Clone, Default)]
pub struct Crawl {
    /// Pages by their path, as they were answered.
    pub pages: BTreeMap<String, Answer>,
    /// Files that pages use: scripts, styles, images, fonts.
    pub files: BTreeMap<String, Answer>,
    /// Links that led nowhere: path and what was answered.
    pub broken: BTreeMap<String, String>,
    /// Forms: where they send what, and how.
    pub forms: Vec<Form>,
    /// Paths with a query that pages link to.
    pub queries: BTreeSet<String>,
}

/// A form of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Where it sends its fields.
    pub action: String,
    /// Whether it sends a POST.
    pub post: bool,
    /// The names of its fields, with what they hold.
    pub fields: Vec<(String, String)>,
}

/// A tag of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Lower case; `/form` closes one.
    pub name: String,
    /// Names in lower case.
    pub attributes: Vec<(String, String)>,
}

impl Tag {
    /// An attribute's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }
}

impl Crawl {
    /// Everything that was answered, pages first.
    pub fn all(&self) -> impl Iterator<Item = (&String, &Answer)> {
        self.pages.iter().chain(&self.files)
    }
}

/// Walks from `/`.
pub(super) async fn walk(world: &World) -> Result<Crawl, Unable> {
    let site = world.site()?;
    let mut crawl = Crawl::default();
    let mut seen = BTreeSet::from(["/".to_owned()]);
    let mut waiting = VecDeque::from(["/".to_owned()]);
    while let Some(path) = waiting.pop_front() {
        let answer = match world.ask(Ask::get(&path).with("accept", "text/html,*/*")).await {
            Ok(answer) => answer,
            Err(why) if path == "/" => {
                let why = why.to_string();
                return Err(Unable(words!(
                    "the first page does not answer: {why}",
                    "forsiden svarer ikke: {why}",
                    "startsidan svarar inte: {why}"
                )));
            }
            Err(why) => {
                crawl.broken.insert(path, why.to_string());
                continue;
            }
        };
        if answer.status.is_redirection() {
            if let Some(next) = answer.header("location").and_then(|to| site.origin().path_of(&path, to))
                && seen.insert(next.clone())
            {
                waiting.push_back(next);
            }
            continue;
        }
        if answer.status.is_client_error() || answer.status.is_server_error() {
            crawl.broken.insert(path, answer.status.to_string());
            continue;
        }
        if !answer.is_html() {
            if crawl.files.len() < MOST_FILES {
                crawl.files.insert(path, answer);
            }
            continue;
        }
        if crawl.pages.len() >= MOST_PAGES {
            continue;
        }
        let tags = tags(&answer.text());
        crawl.forms.extend(forms(&tags, &path, |base, to| site.origin().path_of(base, to)));
        for tag in &tags {
            for reference in references(tag) {
                let Some(next) = site.origin().path_of(&path, &reference) else { continue };
                if next.contains('?') && tag.name == "a" {
                    crawl.queries.insert(next.clone());
                }
                if seen.len() < MOST_PAGES + MOST_FILES && seen.insert(next.clone()) {
                    waiting.push_back(next);
                }
            }
        }
        crawl.pages.insert(path, answer);
    }
    Ok(crawl)
}

/// What a tag leads to.
#[must_use]
pub fn references(tag: &Tag) -> Vec<String> {
    let mut found = Vec::new();
    match tag.name.as_str() {
        "a" | "link" => found.extend(tag.get("href")),
        "script" | "img" | "source" | "iframe" | "video" | "audio" => found.extend(tag.get("src")),
        _ => {}
    }
    let mut found: Vec<String> = found.into_iter().map(str::to_owned).collect();
    for set in ["srcset", "imagesrcset"].into_iter().filter_map(|name| tag.get(name)) {
        found.extend(set.split(',').filter_map(|each| each.split_whitespace().next()).map(str::to_owned));
    }
    found
}

fn forms(tags: &[Tag], page: &str, path_of: impl Fn(&str, &str) -> Option<String>) -> Vec<Form> {
    let mut forms = Vec::new();
    let mut open: Option<Form> = None;
    let (mut choosing, mut chosen) = (false, false);
    for tag in tags {
        match (tag.name.as_str(), &mut open) {
            ("form", _) => {
                let action = tag.get("action").filter(|action| !action.is_empty()).unwrap_or(page);
                open = path_of(page, action).map(|action| Form {
                    action,
                    post: tag.get("method").is_some_and(|method| method.eq_ignore_ascii_case("post")),
                    fields: Vec::new(),
                });
            }
            ("/form", _) => forms.extend(open.take()),
            ("input" | "textarea" | "select", Some(form)) => {
                choosing = tag.name == "select" && tag.get("name").is_some();
                chosen = false;
                if let Some(name) = tag.get("name") {
                    form.fields.push((name.to_owned(), tag.get("value").unwrap_or_default().to_owned()));
                }
            }
            // A browser sends the option that is selected, else the first; what is none of them is often refused.
            ("option", Some(form)) if choosing => {
                let selected = tag.get("selected").is_some();
                let wanted = selected || !chosen;
                if let (true, Some(value), Some(field)) = (wanted, tag.get("value"), form.fields.last_mut()) {
                    value.clone_into(&mut field.1);
                }
                chosen = true;
            }
            ("/select", _) => choosing = false,
            _ => {}
        }
    }
    forms.extend(open);
    forms
}

/// The tags of a page, in order. Comments and the insides of scripts and styles are left out.
#[must_use]
pub fn tags(html: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') {
            continue;
        }
        let (tag, after) = tag(rest);
        rest = after;
        if tag.name == "script" || tag.name == "style" {
            let end = format!("</{}", tag.name);
            rest = rest.to_ascii_lowercase().find(&end).map_or("", |at| &rest[at..]);
        }
        tags.push(tag);
    }
    tags
}

fn tag(text: &str) -> (Tag, &str) {
    let end = text.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(text.len());
    let name = text[..end].trim_end_matches('/').to_ascii_lowercase();
    let mut rest = &text[end..];
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if rest.is_empty() {
            return (Tag { name, attributes }, rest);
        }
        if let Some(after) = rest.strip_prefix('>') {
            return (Tag { name, attributes }, after);
        }
        let end = rest.find(|c: char| c.is_whitespace() || "=>/".contains(c)).unwrap_or(rest.len());
        let key = rest[..end].to_ascii_lowercase();
        rest = if end == 0 { &rest[rest.chars().next().map_or(0, char::len_utf8)..] } else { &rest[end..] };
        let mut value = "";
        if let Some(after) = rest.trim_start().strip_prefix('=') {
            let after = after.trim_start();
            (value, rest) = match after.chars().next() {
                Some(quote @ ('"' | '\'')) => {
                    let inner = &after[1..];
                    inner.find(quote).map_or((inner, ""), |end| (&inner[..end], &inner[end + 1..]))
                }
                _ => {
                    let end = after.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(after.len());
                    after.split_at(end)
                }
            };
        }
        if !key.is_empty() {
            attributes.push((key, unescape(value)));
        }
    }
}

fn unescape(text: &str) -> String {
    let pairs =
        [("&quot;", "\""), ("&#39;", "'"), ("&#x27;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    pairs.into_iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_is_taken_apart() {
        let page = r#"<!doctype html><a HREF="/a?x=1&amp;y">x</a><!-- <a href=/no> --><script src=/s.js>"<a href='/no'>"</script>
            <img srcset="/1.png 1x, /2.png 2x" src='/1.png'><form action="/send" method=post><input name=q value="1"><textarea name=t></textarea></form>"#;
        let tags = tags(page);
        let found: Vec<String> = tags.iter().flat_map(references).collect();
        assert_eq!(found, ["/a?x=1&y", "/s.js", "/1.png", "/1.png", "/2.png"]);
        let forms = forms(&tags, "/", |_, to| Some(to.to_owned()));
        let fields = vec![("q".to_owned(), "1".to_owned()), ("t".to_owned(), String::new())];
        assert_eq!(forms, [Form { action: "/send".into(), post: true, fields }]);
    }

    #[test]
    fn forms_send_what_is_selected() {
        let page = "<form><select name=a><option value=1><option value=2 selected><option value=3></select>
            <select name=b><option value=x>X</option><option value=y>Y</option></select><input name=c></form>";
        let forms = forms(&tags(page), "/", |_, to| Some(to.to_owned()));
        let sent: Vec<_> = forms[0].fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(sent, ["a=2", "b=x", "c="]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_text_is_survived(html in "[<>/!a-z=\"' -]{0,80}|\\PC{0,60}") {
            let _ = tags(&html);
        }
    }
}
