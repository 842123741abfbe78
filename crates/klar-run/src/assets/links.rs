//! What a page needs at once, as its own head says it: style sheets, scripts, and what it preloads itself.
//!
//! Only what is certain is taken: files of the same folder that are there, without conditions (`media`, `nomodule`) and
//! without a digest in `integrity`, which a preload would have to repeat. A page with a `<base>` is left alone.

use std::collections::BTreeSet;

/// So many links of a page; more would compete with each other.
const LINKS_MAX: usize = 12;
/// The longest header, in bytes.
const BYTES_MAX: usize = 2048;
/// Only so much of a page is looked at, in bytes: its head comes first.
const HEAD_MAX: usize = 128 << 10;

/// A start tag, or the text of one that has to be passed over.
#[derive(Debug, Default)]
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
}

impl Tag {
    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// The `Link` header (RFC 8288) for the page at `page`, a path as seen from the folder. `exists` tells whether there is a
/// file at a path; `base` is what leads to the folder in addresses, without a slash at its end. `None`: there is nothing
/// to say.
pub fn of_page(html: &str, page: &str, base: &str, exists: &dyn Fn(&str) -> bool) -> Option<String> {
    let mut links = Vec::new();
    let mut seen = BTreeSet::new();
    let mut length = 0;
    for tag in head_tags(html)? {
        let Some((target, kind)) = wanted(&tag) else { continue };
        let Some(path) = resolve(target, page, base) else { continue };
        if !exists(path.split('?').next().unwrap_or_default()) || !seen.insert(path.clone()) {
            continue;
        }
        let link = format!("<{base}/{path}>; {kind}");
        length += link.len() + 2;
        if links.len() == LINKS_MAX || length > BYTES_MAX {
            break;
        }
        links.push(link);
    }
    (!links.is_empty()).then(|| links.join(", "))
}

/// Every file that the head of a page names as needed, as seen from the folder.
pub fn files_of(html: &str, page: &str, base: &str) -> Vec<String> {
    let tags = head_tags(html).unwrap_or_default();
    let targets = tags.iter().filter_map(|tag| tag.get("href").or(tag.get("src")));
    let paths = targets.filter_map(|target| resolve(target, page, base));
    paths.map(|path| path.split('?').next().unwrap_or_default().to_owned()).collect()
}

/// What a tag has the browser fetch, and how the header says that.
fn wanted(tag: &Tag) -> Option<(&str, String)> {
    if tag.has("integrity") || tag.get("media").is_some_and(|media| !matches!(media.trim(), "" | "all")) {
        return None;
    }
    // The browser keeps what was fetched with other credentials apart.
    let crossorigin = match tag.get("crossorigin").map(str::trim) {
        None => "",
        Some(value) if value.eq_ignore_ascii_case("use-credentials") => "; crossorigin=use-credentials",
        Some(_) => "; crossorigin",
    };
    match tag.name.as_str() {
        "script" => {
            let source = tag.get("src")?;
            match tag.get("type").unwrap_or_default().trim().to_ascii_lowercase().as_str() {
                "module" => Some((source, format!("rel=modulepreload{crossorigin}"))),
                "" | "text/javascript" | "application/javascript" if !tag.has("nomodule") => {
                    Some((source, format!("rel=preload; as=script{crossorigin}")))
                }
                _ => None,
            }
        }
        "link" => {
            let relation = tag.get("rel").unwrap_or_default().to_ascii_lowercase();
            let relations: Vec<&str> = relation.split_ascii_whitespace().collect();
            let target = tag.get("href")?;
            if relations == ["stylesheet"] && !tag.has("disabled") {
                Some((target, format!("rel=preload; as=style{crossorigin}")))
            } else if relations == ["modulepreload"] {
                Some((target, format!("rel=modulepreload{crossorigin}")))
            } else if relations == ["preload"] && !tag.has("imagesrcset") {
                let kind = tag.get("as").unwrap_or_default().to_ascii_lowercase();
                ["script", "style", "font", "image", "fetch"]
                    .contains(&kind.as_str())
                    .then(|| (target, format!("rel=preload; as={kind}{crossorigin}")))
            } else {
                None
            }
        }
        _ => None,
    }
}

/// An address in a page as a path that is seen from the folder, with its query; `None`: it leads elsewhere, or has signs
/// in it that a header must not have.
fn resolve(target: &str, page: &str, base: &str) -> Option<String> {
    let target = target.trim().split('#').next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"' | b'\\' | b'&');
    if target.is_empty() || !target.bytes().all(plain) || target.starts_with("//") {
        return None;
    }
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    // An escape is a name that looks otherwise on disk; a colon before any slash is a scheme.
    if path.contains('%') || path.split('/').next().is_some_and(|first| first.contains(':')) {
        return None;
    }
    let mut parts: Vec<&str> = match path.strip_prefix(base).and_then(|rest| rest.strip_prefix('/')) {
        Some(absolute) => absolute.split('/').collect(),
        None if path.starts_with('/') => return None,
        None => {
            let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
            folder.split('/').filter(|part| !part.is_empty()).chain(path.split('/')).collect()
        }
    };
    let mut clean: Vec<&str> = Vec::new();
    for part in parts.drain(..) {
        match part {
            "." => {}
            ".." => drop(clean.pop()?),
            "" => return None,
            part => clean.push(part),
        }
    }
    let path = clean.join("/");
    Some(query.map_or(path.clone(), |query| format!("{path}?{query}")))
}

/// The tags of the head of a page; `None` where a `<base>` changes what addresses mean.
fn head_tags(html: &str) -> Option<Vec<Tag>> {
    let mut end = html.len().min(HEAD_MAX);
    while !html.is_char_boundary(end) {
        end -= 1;
    }
    let mut rest = &html[..end];
    let mut tags = Vec::new();
    while let Some(start) = rest.find('<') {
        rest = &rest[start..];
        if rest.starts_with("<!--") {
            rest = after(rest, "-->");
            continue;
        }
        if !rest[1..].starts_with(|first: char| first.is_ascii_alphabetic()) {
            if starts_with(rest, "</head") {
                break;
            }
            rest = &rest[1..];
            continue;
        }
        let (tag, behind) = read_tag(&rest[1..]);
        rest = behind;
        match tag.name.as_str() {
            "base" => return None,
            "body" => break,
            // What is in them is no markup.
            "script" | "style" | "noscript" | "template" | "title" => {
                rest = past_end(rest, &tag.name);
            }
            _ => {}
        }
        tags.push(tag);
    }
    Some(tags)
}

fn starts_with(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

fn after<'a>(text: &'a str, end: &str) -> &'a str {
    text.find(end).map_or("", |at| &text[at + end.len()..])
}

/// What comes after the end tag of an element.
fn past_end<'a>(text: &'a str, name: &str) -> &'a str {
    let wanted = format!("</{name}");
    let found = text.char_indices().find(|(at, _)| starts_with(&text[*at..], &wanted));
    found.map_or("", |(at, _)| &text[at..])
}

/// Reads a tag whose `<` has been read, and gives what comes after it (HTML, section 13.2.5).
fn read_tag(text: &str) -> (Tag, &str) {
    let name_end = text.find(|char: char| char.is_ascii_whitespace() || char == '/' || char == '>');
    let (name, mut rest) = text.split_at(name_end.unwrap_or(text.len()));
    let mut tag = Tag { name: name.to_ascii_lowercase(), attributes: Vec::new() };
    loop {
        rest = rest.trim_start_matches(|char: char| char.is_ascii_whitespace() || char == '/');
        if let Some(behind) = rest.strip_prefix('>') {
            return (tag, behind);
        }
        if rest.is_empty() {
            return (tag, rest);
        }
        let ends = |char: char| char.is_ascii_whitespace() || matches!(char, '=' | '>' | '/');
        // A sign that cannot begin a name belongs to one all the same.
        let first = rest.chars().next().map_or(1, char::len_utf8);
        let end = rest[first..].find(ends).map_or(rest.len(), |at| at + first);
        let name = rest[..end].to_ascii_lowercase();
        rest = rest[end..].trim_start();
        let mut value = "";
        if let Some(behind) = rest.strip_prefix('=') {
            let behind = behind.trim_start();
            let quote = behind.chars().next().filter(|first| matches!(first, '"' | '\''));
            (value, rest) = match quote {
                Some(quote) => behind[1..].split_once(quote).unwrap_or((&behind[1..], "")),
                None => {
                    let end = behind.find(|char: char| char.is_ascii_whitespace() || char == '>');
                    behind.split_at(end.unwrap_or(behind.len()))
                }
            };
        }
        if !tag.has(&name) {
            tag.attributes.push((name, value.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: [&str; 6] = [
        "assets/app-1.js",
        "assets/app-1.css",
        "assets/font.woff2",
        "shop/local.css",
        "vendor.js",
        "hero.avif",
    ];

    fn links(head: &str) -> Option<String> {
        let html = format!("<!doctype html><html><head>{head}</head><body><script src=/vendor.js></script>");
        of_page(&html, "shop/index.html", "", &|path| THERE.contains(&path))
    }

    #[test]
    fn what_the_head_needs_is_learned() {
        for (head, wanted) in [
            (
                r#"<script type="module" crossorigin src="/assets/app-1.js"></script>"#,
                Some("</assets/app-1.js>; rel=modulepreload; crossorigin"),
            ),
            (r#"<SCRIPT SRC='/vendor.js' defer></SCRIPT>"#, Some("</vendor.js>; rel=preload; as=script")),
            (
                r#"<link rel="stylesheet" href="/assets/app-1.css">"#,
                Some("</assets/app-1.css>; rel=preload; as=style"),
            ),
            ("<link rel=stylesheet href=local.css>", Some("</shop/local.css>; rel=preload; as=style")),
            (
                "<link rel=stylesheet href=../assets/app-1.css?v=2>",
                Some("</assets/app-1.css?v=2>; rel=preload; as=style"),
            ),
            (
                r#"<link rel="preload" as="font" href="/assets/font.woff2" crossorigin="anonymous">"#,
                Some("</assets/font.woff2>; rel=preload; as=font; crossorigin"),
            ),
            (
                "<link rel=stylesheet href=/assets/app-1.css><link rel=stylesheet href=/assets/app-1.css>\
                 <script src=/vendor.js></script>",
                Some("</assets/app-1.css>; rel=preload; as=style, </vendor.js>; rel=preload; as=script"),
            ),
        ] {
            assert_eq!(links(head).as_deref(), wanted, "{head}");
        }
    }

    #[test]
    fn what_is_not_certain_is_left_out() {
        for head in [
            "",
            "<script src=/missing.js></script>",
            "<script src=https://cdn.example/vendor.js></script>",
            "<script src=//cdn.example/vendor.js></script>",
            "<script src=/vendor.js nomodule></script>",
            "<script src=/vendor.js type=text/template></script>",
            "<script src=/vendor.js integrity=sha384-abc></script>",
            "<link rel=stylesheet href=/assets/app-1.css media=print>",
            "<link rel='alternate stylesheet' href=/assets/app-1.css>",
            "<link rel=preload as=image href=/hero.avif imagesrcset='/hero.avif 1x'>",
            "<link rel=prefetch href=/vendor.js>",
            "<link rel=stylesheet href='/assets/app-1.css\"><x'>",
            "<link rel=stylesheet href=/../assets/app-1.css>",
            "<!-- <script src=/vendor.js></script> -->",
            "<noscript><link rel=stylesheet href=/assets/app-1.css></noscript>",
            "<script>let a = '<script src=/vendor.js>'</script>",
            "<base href=/other/><script src=/vendor.js></script>",
        ] {
            assert_eq!(links(head), None, "{head}");
        }
    }

    #[test]
    fn there_is_an_end_to_it() {
        let head: String = (0..50).map(|at| format!("<script src=/{at}.js></script>")).collect();
        let header = of_page(&head, "index.html", "", &|_| true).unwrap();
        assert_eq!(header.matches("rel=").count(), LINKS_MAX);
        let long = "x".repeat(BYTES_MAX);
        assert_eq!(of_page(&format!("<script src=/{long}.js>"), "index.html", "", &|_| true), None);
    }

    #[test]
    fn below_a_prefix_addresses_keep_it() {
        let html = "<script src=/docs/a.js></script><script src=/a.js></script><script src=a.js></script>";
        let header = of_page(html, "index.html", "/docs", &|path| path == "a.js").unwrap();
        assert_eq!(header, "</docs/a.js>; rel=preload; as=script");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_in_a_page_the_header_can_be_sent(html in "[<>a-z=\"' /\\-!\\n\u{e5}srcliknhefj.]{0,300}") {
            if let Some(header) = of_page(&html, "index.html", "", &|_| true) {
                proptest::prop_assert!(header.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{header}");
            }
            let _ = files_of(&html, "a/b.html", "/x");
        }
    }
}
