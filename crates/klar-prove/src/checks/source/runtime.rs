//! Which version of its language the app asks for, and how long that one is looked after.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tree::{Tree, is_test};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// A version that is written down and still gets repairs.
pub struct Runtime;

/// What the files of the folder ask for.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The day on which it was looked.
    today: String,
    /// The languages that have a manifest here, and which one.
    languages: BTreeMap<String, String>,
    /// What asks for a version: language, file, what it says.
    asks: Vec<(String, String, String)>,
    /// Manifests of languages of which nobody here knows how long a version is looked after.
    others: Vec<String>,
    /// Whether more files ask for versions than are looked at, or not all files were looked through.
    cut: bool,
}

/// Files that ask for a version beyond these say nothing new.
const MOST_ASKS: usize = 200;
const VERSION: (&str, &str) = ("runtime.environment", "version");
/// The last day of security repairs, as the projects have announced it: nodejs/Release, PEPs 596 to 745, php.net.
const ENDS: [(&str, &str, &str); 19] = [
    ("Node.js", "16", "2023-09-11"),
    ("Node.js", "18", "2025-04-30"),
    ("Node.js", "20", "2026-04-30"),
    ("Node.js", "22", "2027-04-30"),
    ("Node.js", "24", "2028-04-30"),
    ("Python", "3.7", "2023-06-27"),
    ("Python", "3.8", "2024-10-07"),
    ("Python", "3.9", "2025-10-31"),
    ("Python", "3.10", "2026-10-31"),
    ("Python", "3.11", "2027-10-31"),
    ("Python", "3.12", "2028-10-31"),
    ("Python", "3.13", "2029-10-31"),
    ("Python", "3.14", "2030-10-31"),
    ("PHP", "8.0", "2023-11-26"),
    ("PHP", "8.1", "2025-12-31"),
    ("PHP", "8.2", "2026-12-31"),
    ("PHP", "8.3", "2027-12-31"),
    ("PHP", "8.4", "2028-12-31"),
    ("PHP", "8.5", "2029-12-31"),
];

impl Probe for Runtime {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "runtime-version",
        version: 2,
        question: "Is the version of the runtime written down, and does it still get repairs?",
        does: "Reads .nvmrc, .node-version, .python-version, .php-version, .tool-versions, runtime.txt, the manifests (package.json, pyproject.toml, Pipfile, setup.py, composer.json) and Dockerfiles, and compares the version with the announced end of its repairs.",
        shows: &[VERSION],
        needs: &[Need::Source],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(15),
        faults: &[
            Fault::Files(&[("package.json", r#"{"name":"shop","dependencies":{"pg":"8.0.0"}}"#)], VERSION),
            Fault::Files(&[("package.json", r#"{"name":"shop","engines":{"node":"18.20.1"}}"#)], VERSION),
            Fault::Files(&[("requirements.txt", "flask==3.0.0\n"), (".python-version", "3.8.10\n")], VERSION),
            Fault::Files(
                &[("pyproject.toml", "[project]\nname = \"shop\"\nrequires-python = \"==3.8.*\"\n")],
                VERSION,
            ),
            Fault::Files(
                &[("pyproject.toml", "[tool.poetry.dependencies]\npython = \"3.8.10\"\nflask = \"^3\"\n")],
                VERSION,
            ),
            Fault::Files(&[("composer.json", r#"{"require":{"php":"8.0.*","slim/slim":"^4"}}"#)], VERSION),
            Fault::Files(&[("composer.json", r#"{"require":{"slim/slim":"^4"}}"#)], VERSION),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let tree = Tree::of(&world).await?;
        let looking = tokio::task::spawn_blocking(move || {
            let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().to_string();
            let mut seen = Seen { today, ..Seen::default() };
            for path in tree.paths.iter().filter(|path| !is_test(path)) {
                if seen.asks.len() > MOST_ASKS {
                    seen.cut = true;
                    break;
                }
                seen.read(&tree, path);
            }
            seen.cut |= tree.cut;
            seen.others.truncate(20);
            seen
        });
        looking.await.map_err(|why| Unable(Words::same(why.to_string())))
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let other = seen.others.first().map(|manifest| {
            words!(
                "{manifest}: klar does not know how long versions of its language get repairs",
                "{manifest}: klar vet ikke hvor lenge versjoner av språket får rettelser",
                "{manifest}: klar vet inte hur länge versioner av språket får rättningar"
            )
        });
        if seen.languages.is_empty() {
            if let Some(why) = other {
                return vec![Finding::unseen(VERSION, why)];
            }
            let none = words!(
                "no package.json, requirements, pyproject.toml or composer.json",
                "ingen package.json, requirements, pyproject.toml eller composer.json",
                "ingen package.json, requirements, pyproject.toml eller composer.json"
            );
            return vec![Finding::unseen(VERSION, none)];
        }
        // What is broken in one language is told even where another is not clear.
        let mut open: Option<Words> = other;
        let mut told = Vec::new();
        for (language, manifest) in &seen.languages {
            let mut asks = seen.asks.iter().filter(|(of, ..)| of == language).peekable();
            if asks.peek().is_none() {
                return vec![Finding::broken(
                    VERSION,
                    words!(
                        "nothing says which version of {language} {manifest} wants",
                        "ingenting sier hvilken versjon av {language} {manifest} vil ha",
                        "inget säger vilken version av {language} {manifest} vill ha"
                    ),
                )];
            }
            let mut unclear = None;
            let mut pinned = false;
            for (_, file, says) in asks {
                let Some(line) = line_of(language, says) else {
                    unclear.get_or_insert_with(|| {
                        words!(
                            "{file} asks for {language} {says}, which is not one version",
                            "{file} ber om {language} {says}, som ikke er én versjon",
                            "{file} ber om {language} {says}, som inte är en version"
                        )
                    });
                    continue;
                };
                let end = ENDS
                    .iter()
                    .find(|(of, version, _)| of == language && *version == line)
                    .map(|(.., end)| *end);
                match end {
                    Some(end) if end < seen.today.as_str() => {
                        return vec![Finding::broken(
                            VERSION,
                            words!(
                                "{file}: {language} {says} gets no repairs since {end}",
                                "{file}: {language} {says} får ingen rettelser siden {end}",
                                "{file}: {language} {says} får inga rättningar sedan {end}"
                            ),
                        )];
                    }
                    Some(end) => {
                        pinned = true;
                        told.push(format!("{file}: {language} {says} (→ {end})"));
                    }
                    None => {
                        unclear.get_or_insert_with(|| {
                            words!(
                                "{file}: klar does not know how long {language} {says} gets repairs",
                                "{file}: klar vet ikke hvor lenge {language} {says} får rettelser",
                                "{file}: klar vet inte hur länge {language} {says} får rättningar"
                            )
                        });
                    }
                }
            }
            // One file that is exact is enough beside one that names a range.
            if !pinned {
                open = open.or(unclear);
            }
        }
        if seen.cut {
            let n = seen.asks.len();
            open = open.or_else(|| {
                Some(words!(
                    "{n} files ask for versions, and there are more than are looked at",
                    "{n} filer ber om versjoner, og det er flere enn det blir sett på",
                    "{n} filer ber om versioner, och det finns fler än vad som undersöks"
                ))
            });
        }
        vec![match open {
            Some(why) => Finding::unseen(VERSION, why),
            None => Finding::held(VERSION, Words::same(told.join(", "))),
        }]
    }
}

impl Seen {
    fn read(&mut self, tree: &Tree, path: &str) {
        let name = path.rsplit('/').next().unwrap_or(path);
        let mut asks = |language: &str, says: &str| {
            let says: String = says.trim().trim_start_matches('v').chars().take(40).collect();
            if !says.is_empty() {
                self.asks.push((language.to_owned(), path.to_owned(), says));
            }
        };
        let text = || tree.text(path).unwrap_or_default();
        let first = |text: &str| {
            text.lines()
                .map(str::trim)
                .find(|line| !line.is_empty() && !line.starts_with('#'))
                .unwrap_or_default()
                .to_owned()
        };
        match name {
            ".nvmrc" | ".node-version" => asks("Node.js", &first(&text())),
            ".python-version" => asks("Python", &first(&text())),
            ".php-version" => asks("PHP", &first(&text())),
            "runtime.txt" => asks("Python", first(&text()).trim_start_matches("python-")),
            ".tool-versions" => {
                for line in text().lines() {
                    match line.split_once(' ') {
                        Some(("nodejs", version)) => asks("Node.js", version),
                        Some(("python", version)) => asks("Python", version),
                        Some(("php", version)) => asks("PHP", version),
                        _ => {}
                    }
                }
            }
            "package.json" => {
                let json: Value = serde_json::from_str(&text()).unwrap_or_default();
                for place in ["/volta/node", "/engines/node"] {
                    asks("Node.js", json.pointer(place).and_then(Value::as_str).unwrap_or_default());
                }
                self.languages.entry("Node.js".to_owned()).or_insert_with(|| path.to_owned());
            }
            "composer.json" => {
                let json: Value = serde_json::from_str(&text()).unwrap_or_default();
                for place in ["/config/platform/php", "/require/php"] {
                    asks("PHP", json.pointer(place).and_then(Value::as_str).unwrap_or_default());
                }
                self.languages.entry("PHP".to_owned()).or_insert_with(|| path.to_owned());
            }
            "pyproject.toml" => {
                let toml: toml::Table = text().parse().unwrap_or_default();
                let says = toml
                    .get("project")
                    .and_then(|project| project.get("requires-python"))
                    .and_then(|says| says.as_str());
                asks("Python", says.unwrap_or_default());
                let poetry = toml.get("tool").and_then(|tool| tool.get("poetry"));
                let says = poetry
                    .and_then(|poetry| poetry.get("dependencies")?.get("python"))
                    .and_then(|says| says.as_str());
                asks("Python", says.unwrap_or_default());
                // A file of settings for tools alone is no app.
                if toml.contains_key("project") || poetry.is_some() {
                    self.languages.entry("Python".to_owned()).or_insert_with(|| path.to_owned());
                }
            }
            "Pipfile" => {
                let toml: toml::Table = text().parse().unwrap_or_default();
                for key in ["python_full_version", "python_version"] {
                    let says = toml.get("requires").and_then(|wants| wants.get(key)?.as_str());
                    asks("Python", says.unwrap_or_default());
                }
                self.languages.entry("Python".to_owned()).or_insert_with(|| path.to_owned());
            }
            "go.mod" | "Gemfile" | "pom.xml" | "build.gradle" | "build.gradle.kts" | "mix.exs" => {
                self.others.push(path.to_owned());
            }
            _ if name.ends_with(".csproj") => self.others.push(path.to_owned()),
            "setup.py" | "setup.cfg" => {
                let text = text();
                let says = text.split_once("python_requires").map_or("", |(_, rest)| rest);
                let says = says.trim_start().trim_start_matches('=').trim_start();
                let says = match says.chars().next() {
                    Some(quote @ ('"' | '\'')) => says.split(quote).nth(1),
                    // In a .cfg it stands by itself; in a script it is computed, and nobody runs that here.
                    _ if name == "setup.cfg" => says.lines().next(),
                    _ => None,
                };
                asks("Python", says.unwrap_or_default());
            }
            "requirements.txt" => {
                self.languages.entry("Python".to_owned()).or_insert_with(|| path.to_owned());
            }
            "Dockerfile" | "Containerfile" => {
                for line in text().lines() {
                    let mut words = line.split_whitespace().filter(|word| !word.starts_with("--"));
                    if !words.next().is_some_and(|word| word.eq_ignore_ascii_case("from")) {
                        continue;
                    }
                    let Some((image, tag)) = words.next().and_then(|image| image.rsplit_once(':')) else {
                        continue;
                    };
                    let version: String =
                        tag.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
                    match image.rsplit('/').next().unwrap_or(image) {
                        "node" => asks("Node.js", &version),
                        "python" => asks("Python", &version),
                        "php" => asks("PHP", &version),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

/// The line of versions that gets repairs together: `22` of Node.js, `3.12` of Python; none when it may be several.
fn line_of(language: &str, says: &str) -> Option<String> {
    let says = says.trim();
    let width = if language == "Node.js" { 1 } else { 2 };
    let exact = says.trim_start_matches(['=', 'v', ' ']);
    // `^22.1` and `~22.1` stay within 22; of the others only `~8.3.0` and `==3.12.*` stay within a line.
    let body = match exact.strip_prefix(['^', '~']) {
        Some(rest) if width == 1 => rest,
        Some(rest) if exact.starts_with('~') && rest.split('.').count() == 3 => rest,
        Some(_) => return None,
        None => exact,
    };
    // `>=3.12,<3.13`
    if let Some((low, high)) = body.strip_prefix(">=").and_then(|rest| rest.split_once([',', ' '])) {
        let high = high.trim().strip_prefix('<').filter(|high| !high.starts_with('='))?;
        let numbers = |text: &str| -> Vec<u32> {
            text.trim().split('.').filter_map(|number| number.parse().ok()).collect()
        };
        let (low, high) = (numbers(low), numbers(high));
        let mut next = low.get(..width)?.to_vec();
        *next.last_mut()? += 1;
        let within = high.get(..width)? == next && high.iter().skip(width).all(|number| *number == 0);
        return within.then(|| low[..width].iter().map(u32::to_string).collect::<Vec<_>>().join("."));
    }
    let parts: Vec<&str> = body.split('.').collect();
    let numbers = parts.get(..width)?;
    let rest = parts[width..]
        .iter()
        .all(|part| part.bytes().all(|byte| byte.is_ascii_digit()) || ["x", "X", "*"].contains(part));
    let good =
        rest && numbers.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    good.then(|| numbers.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn every_language_of_the_folder_counts() {
        use Saw::{Broken, Held, Unseen};
        let saw = |languages: &[&str], asks: &[(&str, &str)], others: &[&str], cut: bool| {
            let seen = Seen {
                today: "2026-06-01".into(),
                languages: languages.iter().map(|name| ((*name).into(), "manifest".into())).collect(),
                asks: asks.iter().map(|(of, says)| ((*of).into(), "file".into(), (*says).into())).collect(),
                others: others.iter().map(|each| (*each).to_owned()).collect(),
                cut,
            };
            Runtime::judge(&seen)[0].saw
        };
        assert_eq!(saw(&["Python"], &[("Python", "3.12.4")], &[], false), Held);
        assert_eq!(saw(&["Python"], &[("Python", ">=3.12")], &[], false), Unseen);
        assert_eq!(saw(&["PHP"], &[("PHP", "8.3.6")], &[], false), Held);
        assert_eq!(saw(&["PHP"], &[("PHP", "^8.3")], &[], false), Unseen);
        assert_eq!(saw(&["PHP"], &[("PHP", "8.1.2")], &[], false), Broken);
        // One that is clear does not cover another that is not, and what is wrong is told beside it.
        let two = ["Node.js", "Python"];
        assert_eq!(saw(&two, &[("Node.js", "22"), ("Python", "3.12")], &[], false), Held);
        assert_eq!(saw(&two, &[("Node.js", "22"), ("Python", ">=3")], &[], false), Unseen);
        assert_eq!(saw(&two, &[("Node.js", ">=20"), ("Python", "3.8")], &[], false), Broken);
        assert_eq!(saw(&two, &[("Node.js", "22")], &[], false), Broken);
        assert_eq!(saw(&["Node.js"], &[("Node.js", "22")], &["go.mod"], false), Unseen);
        assert_eq!(saw(&["Node.js"], &[("Node.js", "18")], &["go.mod"], true), Broken);
        assert_eq!(saw(&["Node.js"], &[("Node.js", "22")], &[], true), Unseen);
        assert_eq!(saw(&[], &[], &["go.mod"], false), Unseen);
    }

    #[test]
    fn manifests_ask_in_many_places() {
        let asks = |path: &str, text: &str| {
            let root =
                std::env::temp_dir().join(format!("klar-rt-{}-{:x}", std::process::id(), fastrand::u64(..)));
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(root.join(path), text).unwrap();
            let tree = Tree { root: root.clone(), paths: vec![path.to_owned()], git: false, cut: false };
            let mut seen = Seen::default();
            seen.read(&tree, path);
            std::fs::remove_dir_all(root).unwrap();
            seen.asks.into_iter().map(|(of, _, says)| format!("{of} {says}")).collect::<Vec<_>>().join(", ")
        };
        for (path, text, wanted) in [
            ("setup.py", "setup(name='x', python_requires='>=3.9', y='z')", "Python >=3.9"),
            ("setup.py", "setup(python_requires=WANTED)", ""),
            ("setup.cfg", "[options]\npython_requires = >=3.9\nx = 1\n", "Python >=3.9"),
            ("Pipfile", "[requires]\npython_version = \"3.12\"\n", "Python 3.12"),
            ("pyproject.toml", "[tool.poetry.dependencies]\npython = \"^3.11\"\n", "Python ^3.11"),
            ("pyproject.toml", "[project]\nrequires-python = \">=3.11\"\n", "Python >=3.11"),
            (
                "composer.json",
                r#"{"require":{"php":"^8.2"},"config":{"platform":{"php":"8.2.7"}}}"#,
                "PHP 8.2.7, PHP ^8.2",
            ),
            ("Dockerfile", "FROM --platform=x docker.io/library/php:8.3-fpm\n", "PHP 8.3"),
        ] {
            assert_eq!(asks(path, text), wanted, "{path} {text}");
        }
    }

    #[test]
    fn lines_of_versions() {
        for (language, says, line) in [
            ("Node.js", "22", Some("22")),
            ("Node.js", "22.x", Some("22")),
            ("Node.js", "^22.1.0", Some("22")),
            ("Node.js", ">=22 <23", Some("22")),
            ("Node.js", ">=20", None),
            ("Node.js", "lts/*", None),
            ("Node.js", "20 || 22", None),
            ("Python", "3.12.1", Some("3.12")),
            ("Python", "==3.12.*", Some("3.12")),
            ("Python", ">=3.12,<3.13", Some("3.12")),
            ("Python", ">=3.12,<4", None),
            ("Python", "3", None),
            ("PHP", "~8.3.0", Some("8.3")),
            ("PHP", "^8.3", None),
        ] {
            assert_eq!(line_of(language, says).as_deref(), line, "{language} {says}");
        }
    }

    #[test]
    fn a_range_is_told_and_an_exact_file_beside_it_settles_it() {
        let ask = |file: &str, says: &str| ("Node.js".to_owned(), file.to_owned(), says.to_owned());
        let mut seen = Seen {
            today: "2026-06-01".into(),
            languages: BTreeMap::from([("Node.js".into(), "package.json".into())]),
            asks: vec![ask("package.json", ">=20")],
            others: Vec::new(),
            cut: false,
        };
        assert_eq!(Runtime::judge(&seen)[0].saw, Saw::Unseen);
        seen.asks.push(ask(".nvmrc", "22.11.0"));
        assert_eq!(Runtime::judge(&seen)[0].saw, Saw::Held);
        seen.today = "2027-06-01".into();
        assert_eq!(Runtime::judge(&seen)[0].saw, Saw::Broken);
    }
}
