//! The documents beside the code: that they are there, that their links lead somewhere, what language they are in.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tree::{Tree, is_test};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// Manual, architecture, technical documentation and procedures.
pub struct Documents;

/// What was found of each kind of document.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// `manual`, `architecture`, `technical`, `operations`.
    kinds: BTreeMap<String, Document>,
    /// How many documents there are of any kind.
    files: usize,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Document {
    /// The files that it is made of.
    files: Vec<String>,
    /// Links within the folder that were followed.
    followed: usize,
    /// Those that lead nowhere, with file and line; at most ten.
    dead: Vec<String>,
    /// Links to other sites and out of the folder: nobody asked whether they hold.
    elsewhere: usize,
    /// Files that do not say what language they are in.
    speechless: Vec<String>,
    /// Words of its headings that procedures must have.
    sections: BTreeSet<String>,
}

/// What each kind is called: in the name of its file or in its first heading.
const KINDS: [(&str, &[&str]); 4] = [
    (
        "manual",
        &[
            "manual",
            "user-guide",
            "user guide",
            "userguide",
            "handbook",
            "brukerveiledning",
            "brukerhåndbok",
            "brukarhandbok",
            "användarhandbok",
            "anvandarhandbok",
            "bruksanvisning",
            "user-manual",
        ],
    ),
    ("architecture", &["architecture", "arkitektur"]),
    ("technical", &["technical", "teknisk"]),
    (
        "operations",
        &["operations", "operating", "driftsrutine", "driftshåndbok", "driftsrutin", "drifthandbok"],
    ),
];

const SECTIONS: [(&str, &[&str]); 6] = [
    ("start", &["start"]),
    ("stop", &["stop"]),
    ("scale", &["scale", "scaling", "skaler", "skala"]),
    ("backup", &["backup", "back up", "back-up", "sikkerhetskopi", "säkerhetskopi"]),
    ("restore", &["restor", "gjenopprett", "återställ"]),
    ("rotate", &["rotat", "roter", "bytte av", "byta"]),
];

const MANUAL: [(&str, &str); 3] =
    [("docs.user-manual", "exists"), ("docs.user-manual", "links"), ("docs.user-manual", "language")];
const ARCHITECTURE: [(&str, &str); 2] = [("docs.architecture", "exists"), ("docs.architecture", "links")];
const TECHNICAL: (&str, &str) = ("docs.technical", "links");
const OPERATIONS: (&str, &str) = ("docs.operations", "sections");

impl Probe for Documents {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "documents",
        version: 1,
        question: "Are the documents there, and do their links lead somewhere?",
        does: "Looks for the manual, the architecture, the technical documentation and the procedures by the names of files and their first headings, and follows every link to a file or heading.",
        shows: &[MANUAL[0], MANUAL[1], MANUAL[2], ARCHITECTURE[0], ARCHITECTURE[1], TECHNICAL, OPERATIONS],
        needs: &[Need::Source],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(20),
        faults: &[
            Fault::Files(&[("README.md", "# A shop\n")], MANUAL[0]),
            Fault::Files(&[("docs/manual.en.md", "# Manual\n\nSee [orders](orders.md).\n")], MANUAL[1]),
            Fault::Files(&[("docs/manual.md", "# Manual\n\n[Up](#nowhere)\n")], MANUAL[1]),
            Fault::Files(&[("docs/manual.md", "# Manual\n")], MANUAL[2]),
            Fault::Files(&[("README.md", "# A shop\n")], ARCHITECTURE[0]),
            Fault::Files(&[("ARCHITECTURE.md", "# Architecture\n\n![Map](map.svg)\n")], ARCHITECTURE[1]),
            Fault::Files(&[("docs/technical.md", "# Technical documentation\n\n[a](b.md)\n")], TECHNICAL),
            Fault::Files(
                &[(
                    "docs/operations.md",
                    "# Operations\n\n## Start\n\n## Stop\n\n## Scale\n\n## Back up\n\n## Rotate secrets\n",
                )],
                OPERATIONS,
            ),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let tree = Tree::of(&world).await?;
        let looking = tokio::task::spawn_blocking(move || {
            let mut seen = Seen::default();
            let documents = tree.paths.iter().filter(|path| is_document(path) && !is_test(path)).take(2000);
            for path in documents {
                let Some(text) = tree.text(path) else { continue };
                seen.files += 1;
                let name = path.rsplit('/').next().unwrap_or(path).to_lowercase();
                let title = lines_of(&text)
                    .map(|(_, line)| line)
                    .find_map(heading)
                    .unwrap_or_default()
                    .to_lowercase();
                for (kind, words) in KINDS {
                    // A README is about everything; its title may well have `manual` in it.
                    if words.iter().any(|word| {
                        name.contains(word) || title.contains(word) && !name.starts_with("readme")
                    }) {
                        seen.kinds.entry(kind.to_owned()).or_default().read(&tree, path, &text);
                    }
                }
            }
            seen
        });
        looking.await.map_err(|why| Unable(Words::same(why.to_string())))
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let files = seen.files;
        let missing = words!(
            "none of the {files} documents is one, by its name or first heading",
            "ingen av de {files} dokumentene er det, etter navn eller første overskrift",
            "inget av de {files} dokumenten är det, efter namn eller första rubrik"
        );
        let of = |kind: &str| seen.kinds.get(kind);
        let exists = |kind, place| match of(kind) {
            None => Finding::broken(place, missing.clone()),
            Some(document) => Finding::held(place, Words::same(document.files.join(", "))),
        };
        let mut found = vec![exists("manual", MANUAL[0]), exists("architecture", ARCHITECTURE[0])];
        for (kind, place) in
            [("manual", MANUAL[1]), ("architecture", ARCHITECTURE[1]), ("technical", TECHNICAL)]
        {
            found.push(match of(kind) {
                None => Finding::unseen(place, missing.clone()),
                Some(document) => document.links(place),
            });
        }
        found.push(match of("manual") {
            None => Finding::unseen(MANUAL[2], missing.clone()),
            Some(document) => match document.speechless.first() {
                Some(first) => Finding::broken(
                    MANUAL[2],
                    words!(
                        "{first} does not say what language it is in: name it NAME.nb.md, or begin it with `lang: nb`",
                        "{first} sier ikke hvilket språk det er på: kall det NAVN.nb.md, eller begynn det med `lang: nb`",
                        "{first} säger inte vilket språk det är på: kalla det NAMN.sv.md, eller börja det med `lang: sv`"
                    ),
                ),
                None => Finding::held(MANUAL[2], Words::same(document.files.join(", "))),
            },
        });
        found.push(match of("operations") {
            None => Finding::broken(OPERATIONS, missing),
            Some(document) => {
                let lacking: Vec<&str> = SECTIONS
                    .iter()
                    .map(|(name, _)| *name)
                    .filter(|name| !document.sections.contains(*name))
                    .collect();
                let (lacking, path) = (lacking.join(", "), document.files.join(", "));
                if lacking.is_empty() {
                    Finding::held(OPERATIONS, Words::same(path))
                } else {
                    Finding::broken(
                        OPERATIONS,
                        words!(
                            "{path} has no section for {lacking}",
                            "{path} har ikke noe avsnitt for {lacking}",
                            "{path} har inget avsnitt för {lacking}"
                        ),
                    )
                }
            }
        });
        found
    }
}

impl Document {
    fn links(&self, place: (&'static str, &'static str)) -> Finding {
        let Self { followed, dead, elsewhere, .. } = self;
        if let Some(first) = dead.first() {
            let n = dead.len();
            return Finding::broken(
                place,
                words!("{n} dead, first: {first}", "{n} døde, først: {first}", "{n} döda, först: {first}"),
            );
        }
        if *elsewhere > 0 {
            return Finding::unseen(
                place,
                words!(
                    "{followed} links within the folder hold; {elsewhere} lead out of it and were not asked",
                    "{followed} lenker innenfor mappen holder; {elsewhere} fører ut av den og er ikke spurt",
                    "{followed} länkar inom mappen håller; {elsewhere} leder ut ur den och har inte frågats"
                ),
            );
        }
        if *followed == 0 {
            return Finding::inapplicable(
                place,
                words!("it has no links", "det har ingen lenker", "det har inga länkar"),
            );
        }
        Finding::held(
            place,
            words!(
                "all {followed} links hold",
                "alle {followed} lenkene holder",
                "alla {followed} länkar håller"
            ),
        )
    }

    fn read(&mut self, tree: &Tree, path: &str, text: &str) {
        if self.files.len() < 20 {
            self.files.push(path.to_owned());
        }
        if language(path, text).is_none() && self.speechless.len() < 10 {
            self.speechless.push(path.to_owned());
        }
        for title in lines_of(text).filter_map(|(_, line)| heading(line)) {
            let title = title.to_lowercase();
            let named = SECTIONS.iter().filter(|(_, words)| words.iter().any(|word| title.contains(word)));
            self.sections.extend(named.map(|(name, _)| (*name).to_owned()));
        }
        for (line, target) in links(text) {
            let outside = target.contains("://")
                || target.starts_with("//")
                || target.starts_with("mailto:")
                || target.starts_with("tel:");
            if outside || target.starts_with('/') {
                self.elsewhere += 1;
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target.as_str(), ""));
            let file = file.split('?').next().unwrap_or_default().replace("%20", " ");
            let there = if file.is_empty() { Some(path.to_owned()) } else { join(path, &file) };
            let Some(there) = there else {
                self.elsewhere += 1;
                continue;
            };
            self.followed += 1;
            let at = tree.root.join(&there);
            let good = match (anchor.is_empty() || !is_document(&there), at.is_file()) {
                (true, is_file) => is_file || at.is_dir(),
                (false, true) => super::tree::text_of(&at)
                    .is_none_or(|text| anchors(&text).contains(&anchor.to_lowercase())),
                (false, false) => false,
            };
            if !good && self.dead.len() < 10 {
                let shown: String = target.chars().take(100).collect();
                self.dead.push(format!("{path}:{line} → {shown}"));
            }
        }
    }
}

fn is_document(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, end)| ["md", "markdown", "rst", "adoc"].contains(&end))
}

/// The lines that are not in a block of code, with their numbers.
fn lines_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let trimmed = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => {
                fence = Some(mark);
                None
            }
            (Some(open), Some(mark)) if open == mark => {
                fence = None;
                None
            }
            (Some(_), _) => None,
            (None, None) => Some((number + 1, line)),
        }
    })
}

fn heading(line: &str) -> Option<&str> {
    let title = line.trim_start_matches(['#', '=']);
    (title.len() < line.len() && title.starts_with(' ')).then(|| title.trim())
}

/// The targets of links and pictures.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in lines_of(text) {
        // What is between backticks is code.
        let plain: String =
            line.split('`').enumerate().map(|(at, part)| if at % 2 == 0 { part } else { "" }).collect();
        let mut push = |target: &str| {
            let target = target.trim().trim_matches(['<', '>']);
            if !target.is_empty() && found.len() < 5000 {
                found.push((number, target.to_owned()));
            }
        };
        for (at, _) in plain.match_indices("](") {
            let rest = &plain[at + 2..];
            // A target may have brackets in it, and a title behind it.
            let mut depth = 0_i32;
            let end = rest.char_indices().find(|(_, c)| {
                depth += match c {
                    '(' => 1,
                    ')' => -1,
                    _ => 0,
                };
                depth < 0
            });
            if let Some((end, _)) = end {
                push(rest[..end].split(" \"").next().unwrap_or_default());
            }
        }
        for name in ["href=\"", "src=\""] {
            for (at, _) in plain.match_indices(name) {
                push(plain[at + name.len()..].split('"').next().unwrap_or_default());
            }
        }
        if let Some((name, target)) = plain.split_once("]: ")
            && name.starts_with('[')
            && !name.starts_with("[^")
        {
            push(target.split(" \"").next().unwrap_or_default());
        }
    }
    found
}

/// What links may name within a document: headings as GitHub names them, and what has an id.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, line) in lines_of(text) {
        for mark in ["id=\"", "name=\"", "id='", "{#"] {
            for (at, _) in line.match_indices(mark) {
                found.extend(line[at + mark.len()..].split(['"', '\'', '}']).next().map(str::to_lowercase));
            }
        }
        let Some(title) = heading(line) else { continue };
        // Of links in a heading only their words count, and of tags nothing.
        let (mut slug, mut tag, mut target) = (String::new(), false, false);
        for c in title.to_lowercase().chars() {
            match c {
                '<' => tag = true,
                '>' => tag = false,
                '(' if slug.ends_with(']') => target = true,
                ')' if target => target = false,
                _ if tag || target => {}
                ' ' => slug.push('-'),
                '[' => {}
                ']' => slug.push(']'),
                c if c.is_alphanumeric() || c == '-' || c == '_' => slug.push(c),
                _ => {}
            }
        }
        let slug = slug.replace(']', "");
        let twice = (1..100).map(|n| format!("{slug}-{n}")).find(|slug| !found.contains(slug));
        match (found.contains(&slug), twice) {
            (true, Some(next)) => found.insert(next),
            _ => found.insert(slug),
        };
    }
    found
}

/// A path beside another; `None` when it leaves the folder.
fn join(path: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// What language a document says that it is in: in its name, its folder or its head.
fn language(path: &str, text: &str) -> Option<String> {
    const CODES: [&str; 16] =
        ["en", "nb", "nn", "no", "sv", "da", "fi", "de", "fr", "es", "it", "nl", "pl", "pt", "is", "uk"];
    let known = |code: &str| {
        let code = code.to_lowercase();
        CODES.contains(&code.split(['-', '_']).next().unwrap_or_default()).then_some(code)
    };
    let mut parts: Vec<&str> = path.split('/').collect();
    let name = parts.pop()?;
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let last = stem.rsplit(['.', '_', '-']).next().filter(|last| last.len() < stem.len());
    let head = text.lines().take(20).find_map(|line| {
        let line = line.trim();
        let said = line
            .strip_prefix("lang:")
            .or_else(|| line.strip_prefix("language:"))
            .or_else(|| line.strip_prefix(":lang:"));
        let html = line.split("lang=\"").nth(1).and_then(|rest| rest.split('"').next());
        said.or(html).map(|code| code.trim().trim_matches(['"', '\'']))
    });
    last.and_then(known).or_else(|| parts.into_iter().find_map(known)).or_else(|| head.and_then(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found() {
        let text = "[a](b.md) `[no](no.md)` ![p](c(1).png \"t\")\n```\n[no](no.md)\n```\n<a href=\"d.md\">\n[r]: e.md\n[^f]: no\n";
        let found: Vec<String> =
            links(text).into_iter().map(|(line, target)| format!("{line}:{target}")).collect();
        assert_eq!(found, ["1:b.md", "1:c(1).png", "5:d.md", "6:e.md"]);
    }

    #[test]
    fn anchors_are_those_of_github() {
        let found =
            anchors("# A `b` c!\n## A b c\n### [Link](x.md) og å\n## <a id=\"shop\"></a>The shop: `/`\n");
        for anchor in ["a-b-c", "a-b-c-1", "link-og-å", "shop", "the-shop-"] {
            assert!(found.contains(anchor), "{anchor}: {found:?}");
        }
    }

    #[test]
    fn languages() {
        for (path, text, code) in [
            ("docs/manual.nb.md", "", Some("nb")),
            ("docs/sv/manual.md", "", Some("sv")),
            ("manual.md", "---\nlang: en-GB\n---\n", Some("en-gb")),
            ("manual.md", "# Manual\n", None),
            ("user-manual.md", "", None),
        ] {
            assert_eq!(language(path, text).as_deref(), code, "{path}");
        }
    }
}
