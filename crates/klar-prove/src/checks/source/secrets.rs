//! Secrets in the sources: in the files as they are, and in every line that was ever committed.
//!
//! What a finding keeps is where the secret is, of what kind, its first three characters and its length: enough to
//! find it, too little to use it. A line that must look like a secret says `klar:allow-secret`, or the comment above it does; one of the history,
//! where no comment can be added any more, is named in any file of the tree: `klar:allow-secret COMMIT:PATH:LINE`.

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use super::tree::{Tree, git, git_command, is_test};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// No secrets in the tree, its history and what is said of the running app.
pub struct Secrets;

/// What was scanned, and what was found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Files of the tree that were read.
    files: usize,
    /// Whether that was all of them.
    all_files: bool,
    /// Whether it is a Git checkout.
    git: bool,
    /// Commits that were read.
    commits: usize,
    /// Whether that was the whole history; otherwise why not.
    history: Result<(), String>,
    /// What `git status` lists: at most ten, and how many there are.
    changes: Option<(Vec<String>, usize)>,
    /// Lines of the logs that were read, where klar runs the app.
    log_lines: Option<usize>,
    /// There is a Dockerfile, so there is an image that this check does not open.
    image: bool,
    /// Lines that say `klar:allow-secret`.
    allowed: usize,
    /// How many secrets there are in the tree, in the history only, and in the logs.
    found: [usize; 3],
    /// The first of them.
    hits: Vec<Hit>,
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hit {
    kind: String,
    path: String,
    line: usize,
    /// The commit that brought it, when the tree no longer has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    /// Its first three characters.
    begins: String,
    length: usize,
}

const MOST_HITS: usize = 50;
/// How long the history is read.
const HISTORY: Duration = Duration::from_secs(25);
const ALLOW: &str = "klar:allow-secret";

const LEAKS: (&str, &str) = ("sec.secrets", "leaks");
const CONTROL: (&str, &str) = ("sec.secrets", "control");
const CLEAN: (&str, &str) = ("infra.config-git", "clean");
const HISTORY_PART: (&str, &str) = ("infra.config-git", "secrets");
const STAGE: (&str, &str) = ("deploy.stage.security", "secrets");

impl Probe for Secrets {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "secrets",
        version: 1,
        question: "Is there a secret in the sources, in their history or in the logs?",
        does: "Reads every file that Git would commit and every line that was ever committed, and looks for keys, tokens and passwords; where klar runs the app, also the last lines of its logs and its status.",
        shows: &[LEAKS, CONTROL, HISTORY_PART, CLEAN, STAGE],
        needs: &[Need::Source],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(50),
        faults: &[
            Fault::Files(
                &[(
                    "src/mail.js",
                    "export const apiKey = process.env.MAIL_KEY;\nconst PAYMENT_API_KEY = 'pk9f3Tq7vLw2Xc8Rb5Yd1Zh6';\n", // klar:allow-secret
                )],
                LEAKS,
            ),
            Fault::Files(
                &[(
                    "deploy/key.pem",
                    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFak\n-----END PRIVATE KEY-----\n", // klar:allow-secret
                )],
                STAGE,
            ),
            Fault::Files(
                &[(
                    "config/prod.yml",
                    // klar:allow-secret
                    "database:\n  url: postgres://shop:hR7-qT2xLm9@db.shop.internal:5432/shop\n",
                )],
                LEAKS,
            ),
            Fault::Files(&[("README.md", "# An app that nobody has committed\n")], CLEAN),
            Fault::Rig("a_secret_that_only_the_history_has_is_found", HISTORY_PART),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let tree = Tree::of(&world).await?;
        let started = (0, Scan::default());
        let wanted = |path: &str| !is_generated(path);
        let read = |seen: &mut (usize, Scan), path: &str, text: &str| {
            seen.0 += 1;
            seen.1.begin(path, None);
            for (number, line) in text.lines().enumerate() {
                seen.1.line(number + 1, line);
            }
            seen.1.end();
        };
        let ((files, mut scan), all_files) =
            tree.read(Duration::from_secs(10), wanted, read, started).await?;
        let in_tree = scan.hits.len();
        let (mut commits, mut history, mut changes) = (0, Err("no Git checkout".to_owned()), None);
        let image = tree.paths.iter().any(|path| {
            path.rsplit('/').next().is_some_and(|name| name == "Dockerfile" || name == "Containerfile")
        });
        if tree.git {
            (commits, history) = read_history(&tree, &mut scan).await;
            let status =
                ["status", "--porcelain", "-z", "--untracked-files=normal", "--no-renames", "--", "."];
            changes = git(&tree.root, &status, 1 << 20).await.ok().map(|said| {
                let said = String::from_utf8_lossy(&said);
                let list = said
                    .split('\0')
                    .filter(|line| !line.is_empty())
                    .map(|line| line.chars().take(200).collect());
                let list: Vec<String> = list.collect();
                (list.iter().take(10).cloned().collect(), list.len())
            });
        }
        let in_history = scan.hits.len() - in_tree;
        let log_lines = match &world.klar {
            None => None,
            Some(klar) => match (klar.logs(None, 5000).await, klar.status().await) {
                (Ok(lines), Ok(status)) => {
                    scan.begin("logs", None);
                    for (number, line) in lines.iter().enumerate() {
                        scan.line(number + 1, line);
                    }
                    scan.end();
                    scan.begin("status", None);
                    scan.line(1, &status.to_string());
                    scan.end();
                    Some(lines.len())
                }
                _ => None,
            },
        };
        let in_logs = scan.hits.len() - in_tree - in_history;
        Ok(Seen {
            files,
            all_files,
            git: tree.git,
            commits,
            history,
            changes,
            log_lines,
            image,
            allowed: scan.allowed,
            found: [in_tree, in_history, in_logs],
            hits: scan.hits.into_iter().take(MOST_HITS).collect(),
        })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let mut findings = vec![Finding::held(
            CONTROL,
            words!(
                "finds its planted key, private key and database password",
                "finner den plantede nøkkelen, private nøkkelen og databasepassordet",
                "hittar den planterade nyckeln, den privata nyckeln och databaslösenordet"
            ),
        )];
        let (files, commits, allowed) = (seen.files, seen.commits, seen.allowed);
        let scanned = words!(
            "no secret in {files} files and {commits} commits ({allowed} lines are allowed by a comment)",
            "ingen hemmelighet i {files} filer og {commits} commits ({allowed} linjer er tillatt med en kommentar)",
            "ingen hemlighet i {files} filer och {commits} commits ({allowed} rader är tillåtna med en kommentar)"
        );
        let [in_tree, in_history, in_logs] = seen.found;
        let found = in_tree + in_history;
        let not_whole = match (&seen.history, seen.all_files, files) {
            (_, _, 0) => Some(words!("no files to read", "ingen filer å lese", "inga filer att läsa")),
            (Err(why), ..) => Some(words!(
                ", but not the whole history: {why}",
                ", men ikke hele historikken: {why}",
                ", men inte hela historiken: {why}"
            )),
            (_, false, _) => {
                Some(words!(", but not all files", ", men ikke alle filene", ", men inte alla filer"))
            }
            _ => None,
        };
        let repository = |place| match (&not_whole, found) {
            (_, 1..) => Finding::broken(place, seen.places(found)),
            (Some(why), 0) => Finding::unseen(place, scanned.clone().and(why)),
            (None, 0) => Finding::held(place, scanned.clone()),
        };
        findings.push(repository(STAGE));
        findings.push(repository(HISTORY_PART));
        findings.push(match (in_logs, seen.log_lines, &not_whole, found) {
            (_, _, _, 1..) => Finding::broken(LEAKS, seen.places(found + in_logs)),
            (1.., ..) => Finding::broken(LEAKS, seen.places(in_logs)),
            (_, _, Some(why), _) => Finding::unseen(LEAKS, scanned.and(why)),
            (_, None, ..) => Finding::unseen(
                LEAKS,
                scanned.and(&words!(
                    "; logs and status not seen: the app does not run under klar",
                    "; logger og status er ikke sett: appen kjører ikke under klar",
                    "; loggar och status har inte setts: appen körs inte under klar"
                )),
            ),
            (_, Some(_), ..) if seen.image => Finding::unseen(
                LEAKS,
                scanned.and(&words!(
                    "; there is a Dockerfile, and its image was not opened",
                    "; det finnes en Dockerfile, og imaget er ikke åpnet",
                    "; det finns en Dockerfile, och avbildningen har inte öppnats"
                )),
            ),
            (_, Some(lines), ..) => Finding::held(
                LEAKS,
                scanned.and(&words!(
                    ", nor in {lines} log lines and the status",
                    ", og heller ikke i {lines} logglinjer og statusen",
                    ", och inte heller i {lines} loggrader och statusen"
                )),
            ),
        });
        findings.push(match &seen.changes {
            None if !seen.git => Finding::broken(
                CLEAN,
                words!(
                    "the folder is not under version control with Git",
                    "mappen er ikke under versjonskontroll med Git",
                    "mappen är inte under versionshantering med Git"
                ),
            ),
            None => Finding::unseen(
                CLEAN,
                words!("git status gave no answer", "git status ga ikke svar", "git status gav inget svar"),
            ),
            Some(_) if seen.commits == 0 => match &seen.history {
                Ok(()) => {
                    Finding::broken(CLEAN, words!("no commit yet", "ingen commit ennå", "ingen commit än"))
                }
                Err(why) => Finding::unseen(CLEAN, Words::same(why.clone())),
            },
            Some((_, 0)) => Finding::held(
                CLEAN,
                words!(
                    "clean, with {commits} commits",
                    "ren, med {commits} commits",
                    "ren, med {commits} commits"
                ),
            ),
            Some((list, n)) => {
                let first = list.first().map_or("", |line| line.trim());
                Finding::broken(
                    CLEAN,
                    words!(
                        "{n} changes are not committed, first: {first}",
                        "{n} endringer er ikke committet, først: {first}",
                        "{n} ändringar är inte committade, först: {first}"
                    ),
                )
            }
        });
        findings
    }
}

impl Seen {
    fn places(&self, n: usize) -> Words {
        let list: Vec<String> = self.hits.iter().take(3).map(Hit::place).collect();
        let list = list.join(", ");
        words!("{n} found: {list}", "{n} funnet: {list}", "{n} funna: {list}")
    }
}

impl Hit {
    fn place(&self) -> String {
        let Self { kind, path, line, begins, length, .. } = self;
        let commit = self.commit.as_deref().map(|commit| format!(" in {commit}")).unwrap_or_default();
        format!("{path}:{line}{commit} ({kind}, {begins}…, {length})")
    }
}

/// Every line that any commit added, oldest knowledge last: what the tree has too is not told again.
async fn read_history(tree: &Tree, scan: &mut Scan) -> (usize, Result<(), String>) {
    if git(&tree.root, &["rev-parse", "--verify", "-q", "HEAD"], 1000).await.is_err() {
        return (0, Ok(()));
    }
    let shallow = git(&tree.root, &["rev-parse", "--is-shallow-repository"], 100).await;
    let shallow = shallow.is_ok_and(|said| said.starts_with(b"true"));
    let arguments = [
        "log",
        "--all",
        "--cc",
        "-U0",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--no-renames",
        "--relative",
        "--src-prefix=a/",
        "--dst-prefix=b/",
        "--format=%x00%H",
        "--",
        ".",
    ];
    let mut child = match git_command(&tree.root, &arguments).spawn() {
        Ok(child) => child,
        Err(why) => return (0, Err(why.to_string())),
    };
    let Some(mut out) = child.stdout.take() else { return (0, Err("git says nothing".to_owned())) };
    let end = Instant::now() + HISTORY;
    let mut reader = History::default();
    let mut chunk = vec![0; 64 * 1024];
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let read = match tokio::time::timeout(left, out.read(&mut chunk)).await {
            Err(_) => return (reader.commits, Err(format!("not done in {} s", HISTORY.as_secs()))),
            Ok(Err(why)) => return (reader.commits, Err(why.to_string())),
            Ok(Ok(read)) => read,
        };
        if read == 0 {
            break;
        }
        rest.extend_from_slice(&chunk[..read]);
        let mut from = 0;
        while let Some(length) = rest[from..].iter().position(|byte| *byte == b'\n') {
            reader.line(&String::from_utf8_lossy(&rest[from..from + length]), scan);
            from += length + 1;
        }
        rest.drain(..from);
        if rest.len() > 1024 * 1024 {
            rest.clear(); // a line that nobody wrote
        }
        tokio::task::yield_now().await;
    }
    scan.end();
    match child.wait().await {
        Ok(status) if !status.success() => (reader.commits, Err(format!("git log: {status}"))),
        Err(why) => (reader.commits, Err(why.to_string())),
        Ok(_) if shallow => (reader.commits, Err("a shallow clone".to_owned())),
        Ok(_) => (reader.commits, Ok(())),
    }
}

/// Reads what `git log --cc -U0` says, line by line.
#[derive(Default)]
struct History {
    commits: usize,
    commit: String,
    /// Whether the lines are those of a hunk; before the first one of a file they are about the file.
    hunk: bool,
    wanted: bool,
    /// How many columns of `+`, `-` and space a line begins with: one for each parent.
    columns: usize,
    number: usize,
}

impl History {
    fn line(&mut self, line: &str, scan: &mut Scan) {
        if let Some(commit) = line.strip_prefix('\0') {
            scan.end();
            self.commits += 1;
            self.commit = commit.chars().take(10).collect();
            (self.hunk, self.wanted) = (false, false);
        } else if line.starts_with("diff ") {
            scan.end();
            (self.hunk, self.wanted) = (false, false);
        } else if line.starts_with("@@") {
            self.hunk = true;
            self.columns = line.bytes().take_while(|byte| *byte == b'@').count().saturating_sub(1).max(1);
            let new = line.split(' ').find_map(|range| range.strip_prefix('+'));
            let first = new.and_then(|range| range.split(',').next()).and_then(|first| first.parse().ok());
            self.number = first.unwrap_or(0);
        } else if self.hunk {
            let Some((columns, text)) = line.split_at_checked(self.columns) else { return };
            if columns.contains('-') || columns.starts_with('\\') {
                return;
            }
            if self.wanted && columns.contains('+') {
                scan.line(self.number, text);
            }
            self.number += 1;
        } else if let Some(path) = line.strip_prefix("+++ b/") {
            let path = path.trim_end_matches('\t');
            self.wanted = !is_generated(path);
            if self.wanted {
                scan.begin(path, Some(&self.commit));
            }
        }
    }
}

/// Files that hold no words of people: lock files, maps, minified scripts, pictures.
fn is_generated(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ends = [
        ".lock",
        "-lock.json",
        "-lock.yaml",
        ".min.js",
        ".min.css",
        ".map",
        ".svg",
        ".csv",
        ".tsv",
        ".snap",
        ".sum",
        ".png",
        ".jpg",
        ".pdf",
        ".ipynb",
        ".po",
        ".pot",
    ];
    ends.iter().any(|end| name.ends_with(end)) || path.split('/').any(|part| part == "node_modules")
}

/// What is looked for where.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Everything.
    Code,
    /// Everything, and `NAME=value` without quotes is an assignment too.
    Settings,
    /// Documents show how assignments look, and tests make up passwords: only what a provider has issued counts.
    Issued,
}

/// A scan of many files, line by line. It keeps hashes of what it found, for the time it runs, and never the secrets.
#[derive(Default)]
struct Scan {
    hits: Vec<Hit>,
    allowed: usize,
    known: HashSet<u64>,
    /// What tests and documents of the tree make up: the history may have it too.
    made_up: HashSet<u64>,
    /// The line before was a comment that allows this one.
    allow_next: bool,
    /// Places of the history that a comment allows.
    places: BTreeSet<(String, String)>,
    path: String,
    commit: Option<String>,
    kind: Option<Where>,
    /// The last line was the head of a private key.
    head: Option<usize>,
    /// Keys for browsers, which are public in an app of Firebase: told at the end of the file, if it is none.
    google: Vec<(Hit, u64)>,
    firebase: bool,
}

impl Scan {
    fn begin(&mut self, path: &str, commit: Option<&str>) {
        self.path = path.chars().take(300).collect();
        self.commit = commit.map(str::to_owned);
        self.kind = Some(kind_of(path));
        self.head = None;
        self.allow_next = false;
        self.firebase = path.ends_with("google-services.json");
    }

    fn end(&mut self) {
        for (hit, hash) in std::mem::take(&mut self.google) {
            if !self.firebase && self.known.insert(hash) {
                self.hits.push(hit);
            }
        }
        self.kind = None;
    }

    fn line(&mut self, number: usize, line: &str) {
        let Some(kind) = self.kind else { return };
        if line.len() > 256 * 1024 {
            return;
        }
        let here = line.contains(ALLOW);
        let allowed = here || self.allow_next;
        self.allow_next = here && line.trim_start().starts_with(['/', '#', '*', '<', '-', ';']);
        if here {
            self.allow(line);
        }
        // In Rust the tests of a file stand at its end.
        if line.starts_with("#[cfg(test)]") && self.path.ends_with(".rs") {
            self.kind = Some(Where::Issued);
        }
        let made_up = kind == Where::Issued;
        if line.contains("authDomain") {
            self.firebase = true;
        }
        if self.head.is_some_and(|head| head + 1 == number) && is_key_material(line) {
            self.found(number - 1, "private key", line.trim(), allowed, made_up);
        }
        self.head = None;
        if is_key_head(line) {
            let after = line.split("PRIVATE KEY-----").nth(1).unwrap_or_default();
            if is_key_material(after.trim_start_matches("\\n").trim_start_matches("\\r\\n")) {
                self.found(number, "private key", after, allowed, made_up);
            } else {
                self.head = Some(number);
            }
        }
        for issued in ISSUED {
            for value in issued.find(line) {
                self.found(number, issued.kind, value, allowed, false);
            }
        }
        for value in urls(line) {
            self.found(number, "password in an address", value, allowed, made_up);
        }
        for value in signing(line) {
            self.found(number, "signing key", value, allowed, made_up);
        }
        for (what, value) in assigned(line, kind == Where::Settings) {
            self.found(number, what, value, allowed, made_up);
        }
    }

    fn found(&mut self, line: usize, kind: &str, value: &str, allowed: bool, made_up: bool) {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        let hash = hasher.finish();
        if allowed {
            // What is allowed here is allowed where it was before the comment came, too.
            self.allowed += usize::from(self.commit.is_none());
            self.known.insert(hash);
            return;
        }
        if made_up {
            self.made_up.insert(hash);
            return;
        }
        if let Some(commit) = &self.commit {
            if self.made_up.contains(&hash) {
                return;
            }
            let place = format!("{}:{line}", self.path);
            if self.places.iter().any(|(short, at)| *at == place && commit.starts_with(short.as_str())) {
                return;
            }
        }
        let hit = Hit {
            kind: kind.to_owned(),
            path: self.path.clone(),
            line,
            commit: self.commit.clone(),
            begins: value.chars().take(3).collect(),
            length: value.chars().count(),
        };
        if kind == "Google API key" {
            self.google.push((hit, hash));
        } else if self.known.insert(hash) {
            self.hits.push(hit);
        }
    }

    /// `klar:allow-secret 1a2b3c4d:src/mail.js:12`
    fn allow(&mut self, line: &str) {
        let Some(place) = line.split(ALLOW).nth(1).and_then(|rest| rest.split_whitespace().next()) else {
            return;
        };
        if let Some((commit, path)) = place.split_once(':') {
            let hex = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            if hex && self.places.len() < 1000 {
                self.places.insert((commit.chars().take(10).collect(), path.to_owned()));
            }
        }
    }
}

fn kind_of(path: &str) -> Where {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let end = name.rsplit('.').next().unwrap_or_default();
    let example = ["example", "examples", "sample", "samples", "template", "dist", "test", "mock", "mocks"];
    if is_test(path)
        || ["md", "rst", "adoc", "txt", "html"].contains(&end)
        || name.split(['.', '-', '_']).any(|part| example.contains(&part))
        || path.split('/').any(|part| ["locales", "i18n", "lang", "translations", "examples"].contains(&part))
    {
        Where::Issued
    } else if name.starts_with(".env")
        || ["env", "yml", "yaml", "ini", "properties", "conf", "cfg", "npmrc", "pypirc"].contains(&end)
        || name == "dockerfile"
        || name == "logs"
    {
        Where::Settings
    } else {
        Where::Code
    }
}

/// A token whose form tells who issued it.
struct Issued {
    kind: &'static str,
    prefix: &'static str,
    /// How many characters come after the prefix.
    length: std::ops::RangeInclusive<usize>,
    allows: fn(u8) -> bool,
}

const fn issued(
    kind: &'static str,
    prefix: &'static str,
    length: std::ops::RangeInclusive<usize>,
    allows: fn(u8) -> bool,
) -> Issued {
    Issued { kind, prefix, length, allows }
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn web(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn web_and_dots(byte: u8) -> bool {
    web(byte) || byte == b'.'
}

fn upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

fn path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'/'
}

const ISSUED: &[Issued] = &[
    issued("AWS access key", "AKIA", 16..=16, upper),
    issued("AWS access key", "ASIA", 16..=16, upper),
    issued("GitHub token", "ghp_", 36..=255, alphanumeric),
    issued("GitHub token", "gho_", 36..=255, alphanumeric),
    issued("GitHub token", "ghu_", 36..=255, alphanumeric),
    issued("GitHub token", "ghs_", 36..=255, alphanumeric),
    issued("GitHub token", "ghr_", 36..=255, alphanumeric),
    issued("GitHub token", "github_pat_", 60..=255, word),
    issued("GitLab token", "glpat-", 20..=64, web),
    issued("Slack token", "xoxb-", 20..=255, web),
    issued("Slack token", "xoxp-", 20..=255, web),
    issued("Slack token", "xoxa-", 20..=255, web),
    issued("Slack token", "xoxr-", 20..=255, web),
    issued("Slack token", "xoxs-", 20..=255, web),
    issued("Slack webhook", "hooks.slack.com/services/", 35..=100, path),
    issued("Stripe key", "sk_live_", 16..=255, alphanumeric),
    issued("Stripe key", "rk_live_", 16..=255, alphanumeric),
    issued("Stripe webhook secret", "whsec_", 32..=64, base64),
    issued("Google API key", "AIza", 35..=35, web),
    issued("Google client secret", "GOCSPX-", 28..=28, web),
    issued("SendGrid key", "SG.", 60..=80, web_and_dots),
    issued("npm token", "npm_", 36..=36, alphanumeric),
    issued("PyPI token", "pypi-AgEIcHlwaS5vcmc", 50..=255, web),
    issued("OpenAI key", "sk-proj-", 40..=255, web),
    issued("Anthropic key", "sk-ant-", 40..=255, web),
    issued("DigitalOcean token", "dop_v1_", 64..=64, alphanumeric),
    issued("Azure storage key", "AccountKey=", 86..=90, base64),
];

impl Issued {
    fn find<'l>(&self, line: &'l str) -> Vec<&'l str> {
        let mut found = Vec::new();
        for (at, _) in line.match_indices(self.prefix) {
            let bytes = line.as_bytes();
            if at > 0 && web(bytes[at - 1]) {
                continue;
            }
            let body =
                bytes[at + self.prefix.len()..].iter().take_while(|byte| (self.allows)(**byte)).count();
            let token = &line[at..at + self.prefix.len() + body];
            let varied = token[self.prefix.len()..].bytes().collect::<BTreeSet<_>>().len() >= 8;
            let lower = token.to_ascii_lowercase();
            let made_up =
                ["example", "xxxx", "your", "0000000", "abcdef"].iter().any(|word| lower.contains(word));
            if self.length.contains(&body) && varied && !made_up {
                found.push(token);
            }
        }
        found
    }
}

fn is_key_head(line: &str) -> bool {
    let Some((before, _)) = line.split_once("PRIVATE KEY-----") else { return false };
    let Some((_, kind)) = before.rsplit_once("-----BEGIN ") else { return false };
    !kind.contains("ENCRYPTED") && kind.len() < 12
}

fn is_key_material(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t', '"', '\'', '+', '`', '#', '*']);
    let material = line.bytes().take_while(|byte| base64(*byte)).count();
    let varied = line.bytes().take(material).collect::<BTreeSet<_>>().len() >= 10;
    (material >= 32 && varied) || line.starts_with("Proc-Type:")
}

/// Passwords in addresses of databases and brokers that are not on this machine and not made up.
fn urls(line: &str) -> Vec<&str> {
    const SCHEMES: [&str; 16] = [
        "postgres",
        "postgresql",
        "mysql",
        "mariadb",
        "mongodb",
        "mongodb+srv",
        "redis",
        "rediss",
        "amqp",
        "amqps",
        "mssql",
        "sqlserver",
        "smtp",
        "smtps",
        "ftp",
        "https",
    ];
    let mut found = Vec::new();
    for (at, _) in line.match_indices("://") {
        let scheme = line[..at]
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '+'))
            .map_or(&line[..at], |before| {
                line[before..at].trim_start_matches(|c: char| !c.is_ascii_alphanumeric())
            });
        // `postgresql+asyncpg` is PostgreSQL with a driver named.
        if !SCHEMES.contains(&scheme) && !SCHEMES.contains(&scheme.split('+').next().unwrap_or_default()) {
            continue;
        }
        let rest = &line[at + 3..];
        let end = rest.find(|c: char| c.is_whitespace() || "\"'`/?#<>,;)".contains(c)).unwrap_or(rest.len());
        let Some((login, host)) = rest[..end].rsplit_once('@') else { continue };
        let Some((user, password)) = login.split_once(':') else { continue };
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host).to_ascii_lowercase();
        let near = host.is_empty()
            || host.starts_with("127.")
            || host.ends_with("localhost")
            || host.starts_with('[');
        let made_up = host.contains("example") || host.ends_with(".test") || host.ends_with(".invalid");
        // A name without a dot is a neighbour in a compose file: there a weak password is usual and only local.
        let neighbour = !host.contains('.') && classes(password) < 3;
        // Nobody makes up a password like that for a manual.
        let made_up = made_up && !(password.len() >= 14 && classes(password) >= 3 && bits(password) >= 3.6);
        if near || made_up || neighbour || password.len() < 6 || password == user || host.starts_with('$') {
            continue;
        }
        if !is_placeholder(password) && !is_everybodys(password) {
            found.push(password);
        }
    }
    found
}

/// `jwt.sign(claims, 'what it is signed with')`
fn signing(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for call in ["jwt.sign(", "jwt.verify(", "jwt.encode(", "jwt.decode(", "JWT::encode(", "JWT::decode("] {
        for (at, _) in line.match_indices(call) {
            let rest = &line[at + call.len()..];
            let Some(comma) = top_level_comma(rest) else { continue };
            let argument = rest[comma + 1..].trim_start();
            let Some(quote) = argument.chars().next().filter(|c| "\"'`".contains(*c)) else { continue };
            let Some(length) = argument[1..].find(quote) else { continue };
            let value = &argument[1..1 + length];
            if value.len() >= 6 && !is_placeholder(value) && !value.contains([' ', '(', ')', '\'', '"']) {
                found.push(value);
            }
        }
    }
    found
}

fn top_level_comma(text: &str) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth == 0 => return None,
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// Passwords and keys that are assigned to a name that says so.
fn assigned(line: &str, bare: bool) -> Vec<(&'static str, &str)> {
    let mut found = Vec::new();
    let bytes = line.as_bytes();
    let defines = line.find("define(");
    for (at, byte) in line.bytes().enumerate() {
        let define = byte == b',' && defines.is_some_and(|start| start < at);
        if !(matches!(byte, b'=' | b':') || define) {
            continue;
        }
        let next = bytes.get(at + 1).copied().unwrap_or(b' ');
        let before = at.checked_sub(1).and_then(|at| bytes.get(at)).copied().unwrap_or(b' ');
        // Comparisons, and `::`; `:=`, `=>` and `?=` are assignments.
        if next == b'=' && byte == b'='
            || matches!(before, b'=' | b'!' | b'<' | b'>')
            || next == b':'
            || before == b':' && byte == b':'
        {
            continue;
        }
        let Some(what) = name_before(&line[..at]).and_then(secret_name) else { continue };
        let mut right = line[at + 1..].trim_start_matches(['=', '>']).trim_start();
        right = right.strip_prefix(['b', 'r']).filter(|rest| rest.starts_with(['"', '\''])).unwrap_or(right);
        let value = match right.chars().next() {
            Some(quote @ ('"' | '\'' | '`')) => {
                let Some(length) = right[1..].find(quote) else { continue };
                &right[1..1 + length]
            }
            Some(_) if bare => {
                right.split_whitespace().next().unwrap_or_default().trim_end_matches([',', ';'])
            }
            _ => continue,
        };
        if is_secret(what, value) {
            found.push((what, value));
        }
    }
    found
}

fn name_before(text: &str) -> Option<&str> {
    let last = |text: &str| -> Option<(usize, usize)> {
        let end = text.trim_end_matches([' ', '\t', '"', '\'', '`', ']', ')', '?', ':']).len();
        let start = text[..end]
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
            .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
        (start < end).then_some((start, end))
    };
    let (start, end) = last(text)?;
    // `password: str = "..."`
    if ["str", "string", "String"].contains(&&text[start..end]) && text[..start].trim_end().ends_with(':') {
        let (start, end) = last(&text[..start])?;
        return Some(&text[start..end]);
    }
    Some(&text[start..end])
}

fn secret_name(name: &str) -> Option<&'static str> {
    let plain: String =
        name.chars().filter(|c| c.is_ascii_alphabetic()).collect::<String>().to_ascii_lowercase();
    let told =
        ["demo", "example", "dummy", "fake", "sample", "mock", "placeholder", "test", "public", "csrf"];
    if told.iter().any(|word| plain.contains(word)) {
        return None;
    }
    let ends = |list: &[&str]| list.iter().any(|end| plain.ends_with(end));
    if ends(&["password", "passwd", "passphrase", "passord", "losenord"])
        || plain == "pwd"
        || ends(&["dbpwd"])
    {
        Some("password")
    } else if ends(&[
        "secret",
        "apikey",
        "secretkey",
        "accesskey",
        "privatekey",
        "signingkey",
        "encryptionkey",
        "masterkey",
    ]) {
        Some("key")
    } else if ends(&["token"]) {
        Some("token")
    } else {
        None
    }
}

fn is_secret(what: &str, value: &str) -> bool {
    let length = value.len();
    if !(8..=500).contains(&length)
        || !value.is_ascii()
        || value.contains(|c: char| c.is_whitespace() || "<>{}()[]|".contains(c))
        || is_placeholder(value)
    {
        return false;
    }
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let letters = value.bytes().filter(u8::is_ascii_alphabetic).count();
    match what {
        "password" => {
            let told = ["demo", "test", "passw", "passord", "secret", "user", "admin"];
            let lower = value.to_ascii_lowercase();
            letters > 0 && digits > 0 && bits(value) >= 2.5 && !told.iter().any(|word| lower.contains(word))
        }
        "key" => {
            digits > 0
                && letters > 0
                && length >= 16
                && bits(value) >= 3.0
                && !is_path(value)
                && !is_slug(value)
        }
        _ => {
            digits > 1
                && letters > 1
                && length >= 20
                && bits(value) >= 3.5
                && !is_uuid(value)
                && !is_path(value)
                && !is_slug(value)
                && !value.contains('.')
        }
    }
}

/// Names of things of which there are many are UUIDs more often than tokens are.
fn is_uuid(value: &str) -> bool {
    value.len() == 36 && value.split('-').map(str::len).eq([8, 4, 4, 4, 12])
}

/// `color-primary-500`: words and numbers, not both in one.
fn is_slug(value: &str) -> bool {
    value.split(['-', '_', '.']).all(|part| {
        part.bytes().all(|byte| byte.is_ascii_alphabetic()) || part.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Names of things look a little like keys: `projects/shop/secrets/db-2`, `com.shop.key.v1`, `arn:aws:...`.
fn is_path(value: &str) -> bool {
    let words = value.split(['/', '.', ':']).filter(|part| !part.is_empty()).collect::<Vec<_>>();
    words.len() > 2 && words.iter().all(|word| word.len() < 16)
        || value.starts_with("http")
        || value.starts_with('/')
}

/// Stands where a secret will be, or is an example that everybody knows, or is a hash.
fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let says = [
        "example",
        "changeme",
        "change-me",
        "change_me",
        "placeholder",
        "your",
        "xxxx",
        "dummy",
        "redacted",
        "insert",
        "replace",
        "todo",
        "foobar",
        "process.env",
        "secrets.",
        "env:",
        "file:",
        "vault:",
        "****",
        "....",
        "00000000",
        "12345678",
        "abcdef",
        "enc[",
        "fake",
        "sample",
        "hunter2",
        "not-set",
        "unset",
        "optional",
        "required",
    ];
    says.iter().any(|word| lower.contains(word))
        || value.contains(['$', '<', '{', '…', '%'])
        || value.starts_with("sha256-")
        || value.starts_with("sha512-")
}

fn is_everybodys(password: &str) -> bool {
    let lower = password.to_ascii_lowercase();
    [
        "password", "passord", "passwd", "postgres", "secret", "hemmelig", "hemlig", "admin", "root",
        "guest", "test", "demo",
    ]
    .iter()
    .any(|word| lower.contains(word))
}

fn classes(value: &str) -> usize {
    let has = |is: fn(&u8) -> bool| usize::from(value.bytes().any(|byte| is(&byte)));
    has(u8::is_ascii_lowercase)
        + has(u8::is_ascii_uppercase)
        + has(u8::is_ascii_digit)
        + has(u8::is_ascii_punctuation)
}

/// Shannon's entropy, in bits a character.
fn bits(value: &str) -> f64 {
    let mut counts = [0_u32; 256];
    value.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let all = value.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / all)
        .map(|p| -p * p.log2())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Check, Saw};
    use std::path::Path;
    use std::process::Command;

    fn scanned(path: &str, text: &str) -> Vec<String> {
        let mut scan = Scan::default();
        scan.begin(path, None);
        for (number, line) in text.lines().enumerate() {
            scan.line(number + 1, line);
        }
        scan.end();
        scan.hits.into_iter().map(|hit| hit.kind).collect()
    }

    // The lines are put together here, so that this file can be scanned like any other.
    #[test]
    fn what_is_a_secret() {
        let noise = "q7Zp3LmX9vTb2RkW5sYh8NcD4gJf6AeU1oKi";
        for (path, line, kind) in [
            ("a.js", format!("const t = 'gh{}_{noise}'", "p"), "GitHub token"),
            ("README.md", format!("export T=gh{}_{noise}", "p"), "GitHub token"),
            ("a.py", format!("KEY = \"AKI{}QWERTYUIOPLKJ7Z2\"", "A"), "AWS access key"),
            ("a.js", format!("stripe('sk_liv{}_{}')", "e", &noise[..24]), "Stripe key"),
            ("a.js", format!("slack('xox{}-1234567890-{}')", "b", &noise[..24]), "Slack token"),
            ("a.js", format!("const k = 'AIz{}{}'", "a", &noise[..35]), "Google API key"),
            ("a.js", format!("const apiKey = '{}'", &noise[..24]), "key"),
            ("a.php", format!("define('DB_PASSWORD', '{}');", &noise[..10]), "password"),
            ("a.php", format!("$config['db_password'] = '{}';", &noise[..10]), "password"),
            ("a.py", format!("password: str = '{}'", &noise[..10]), "password"),
            ("a.py", format!("jwt.encode(claims, '{}', algorithm='HS256')", &noise[..12]), "signing key"),
            (".env", format!("DB_PASSWORD={}", &noise[..12]), "password"),
            (
                "a.js",
                format!("connect('mysql://shop:{}@db.shop.no/shop')", &noise[..10]),
                "password in an address",
            ),
        ] {
            assert_eq!(scanned(path, &line), [kind], "{path}: {line}");
        }
    }

    #[test]
    fn what_is_none() {
        for (path, line) in [
            ("a.js", "const password = process.env.DB_PASSWORD"),
            ("a.js", "const password = body.password"),
            ("a.js", "if (password === 'q7Zp3LmX9v') {}"),
            ("a.js", "label: 'Password must be 8 characters'"),
            ("a.js", "const PASSWORD_FIELD = 'user_password_2'"),
            ("a.js", "export const PASSWORD = 'a password for tests'"),
            ("a.js", "const apiKey = 'your-api-key-goes-here-123'"),
            ("a.js", "const token = 'color-primary-500-background-1'"),
            ("a.js", "const url = 'postgres://lisens:Sommer2024@localhost:5432/lisens'"),
            ("a.js", "const url = `postgres://${user}:${password}@${host}/db`"),
            ("a.js", "const url = 'postgres://user:Str0ng-Password@db.example.com/shop'"),
            ("compose.yml", "  DATABASE_URL: postgres://app:app@db:5432/app"),
            ("compose.yml", "  POSTGRES_PASSWORD: postgres"),
            ("compose.yml", "  DB_PASSWORD: ${DB_PASSWORD}"),
            ("klar.toml", "env = { DEMO_PASSWORD = { plain = \"demo-shop-2026\" } }"),
            (".env.example", "DB_PASSWORD=q7Zp3LmX9vTb"),
            ("README.md", "    export DB_PASSWORD=q7Zp3LmX9vTb"),
            ("test/a.js", "const password = 'q7Zp3LmX9vTb'"),
            ("a.js", "const header = '-----BEGIN PRIVATE KEY-----'"),
            ("a.js", "integrity: 'sha512-q7Zp3LmX9vTb2RkW5sYh8NcD4gJf6AeU1oKi'"),
            ("a.js", "const password = 'q7Zp3LmX9v' // klar:allow-secret"),
            ("a.js", "secretName: 'projects/shop/secrets/db-2/versions/1'"),
        ] {
            assert_eq!(scanned(path, line), Vec::<String>::new(), "{path}: {line}");
        }
    }

    #[test]
    fn a_browsers_key_is_public_in_an_app_of_firebase() {
        let key = format!("apiKey: 'AIz{}q7Zp3LmX9vTb2RkW5sYh8NcD4gJf6AeU1oK',\nauthDomain: 'x'", "a");
        // As a Google key it is dropped; the name `apiKey` alone would still say it.
        assert_eq!(scanned("a.js", &key.replace("apiKey", "k")), Vec::<String>::new());
    }

    #[test]
    fn a_merge_and_a_removed_line_are_read_right() {
        let said = "\0abcdefabcdef\ndiff --git a/x.js b/x.js\n--- a/x.js\n+++ b/x.js\n@@ -3,2 +7,2 @@ f\n-const dbPassword = 'old7Zp3LmX'\n--- a/gone\n+++ b/password = 'q7Zp3LmX9v'\n+const dbPassword = 'k7Zp3LmX9v'\n\0bbbbbbbbbbbb\ndiff --cc x.js\n--- a/x.js\n+++ b/x.js\n@@@ -1,1 -1,1 +9,2 @@@\n  same\n++const dbPassword = 'z7Zp3LmX9v'\n";
        let (mut history, mut scan) = (History::default(), Scan::default());
        said.lines().for_each(|line| history.line(line, &mut scan));
        scan.end();
        let places: Vec<String> = scan.hits.iter().map(Hit::place).collect();
        assert_eq!(
            places,
            [
                "x.js:7 in abcdefabcd (password, q7Z…, 10)",
                "x.js:8 in abcdefabcd (password, k7Z…, 10)",
                "x.js:10 in bbbbbbbbbb (password, z7Z…, 10)"
            ]
        );
        assert_eq!(history.commits, 2);
    }

    fn commit(folder: &Path, message: &str) {
        for arguments in [&["add", "-A"][..], &["commit", "-q", "-m", message]] {
            let done = Command::new("git")
                .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"])
                .args(arguments)
                .current_dir(folder)
                .status()
                .unwrap();
            assert!(done.success());
        }
    }

    #[test]
    fn a_secret_that_only_the_history_has_is_found() {
        let folder =
            std::env::temp_dir().join(format!("klar-secrets-{}-{:x}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir_all(&folder).unwrap();
        assert!(Command::new("git").args(["init", "-q"]).current_dir(&folder).status().unwrap().success());
        let secret = "q7Zp3LmX9vTb2RkW";
        std::fs::write(folder.join("mail.js"), "export const a = 1\n").unwrap();
        commit(&folder, "one");
        let look = || {
            let mut world = World::new("t");
            world.source = Some(folder.clone());
            let check = Check::of::<Secrets>();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let seen = runtime.block_on(check.look(Rc::new(world))).map_err(|why| why.0.en).unwrap();
            assert!(!seen.to_string().contains(secret), "evidence has the secret");
            let of = |found: &[Finding], place: (&str, &str)| {
                let found = found.iter().find(|found| (found.row, found.part) == place).unwrap();
                (found.saw, found.because.en.clone())
            };
            let found = check.judge(&seen).unwrap();
            (of(&found, HISTORY_PART), of(&found, CLEAN), of(&found, LEAKS))
        };
        let (history, clean, leaks) = look();
        assert_eq!((history.0, clean.0, leaks.0), (Saw::Held, Saw::Held, Saw::Unseen));
        std::fs::write(folder.join("mail.js"), format!("export const a = 1\nconst apiKey = '{secret}'\n"))
            .unwrap();
        assert_eq!(look().1.0, Saw::Broken, "there is a change");
        commit(&folder, "two");
        std::fs::write(folder.join("mail.js"), "export const a = 1\n").unwrap();
        commit(&folder, "three");
        let (history, clean, leaks) = look();
        assert_eq!((history.0, clean.0, leaks.0), (Saw::Broken, Saw::Held, Saw::Broken));
        assert!(history.1.contains("mail.js:2 in "), "{}", history.1);
        // Named in the tree, it is known to be of no use any more.
        let at = history.1.split(" in ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        std::fs::write(folder.join("allowed.md"), format!("klar:allow-secret {at}:mail.js:2\n")).unwrap();
        commit(&folder, "four");
        assert_eq!(look().0.0, Saw::Held);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
