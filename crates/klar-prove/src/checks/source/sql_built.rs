//! SQL that is put together from values: by interpolation, concatenation or formatting.
//!
//! What is put into SQL is followed inside its file. A constant, a choice among constants, placeholders (`$1`, `?`),
//! what a quoting function gave and numbers are no danger. A parameter, a field of something that came from
//! elsewhere or a value nobody checked is. What comes from another file and looks like a part of a statement cannot
//! be settled here: then the check says that it has not seen enough, unless `klar:allow-sql` stands beside it.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lex::{Language, Piece, Tok, Token, lex};
use super::tree::{Tree, is_test};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::World;

/// No SQL that is built from values.
pub struct SqlBuilt;

/// What was read, and what was found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Files that were read: JavaScript and TypeScript, Python, PHP.
    files: [usize; 3],
    /// Whether that was all of them.
    all: bool,
    /// Texts that are SQL.
    statements: usize,
    /// Statements that values are put into.
    built: usize,
    /// The first of them.
    places: Vec<Place>,
    /// Statements into which something is put that this file does not settle.
    unclear: usize,
    /// The first of them.
    unclear_places: Vec<Place>,
    /// Statements with `klar:allow-sql`.
    allowed: usize,
    /// Source files in languages that are not understood, by their ending.
    others: Vec<(String, usize)>,
}

/// A place in the sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    path: String,
    line: usize,
    /// What is put in.
    value: String,
}

const MOST_PLACES: usize = 50;
/// Longer expressions and bodies than this are not followed to their end.
const LONGEST: usize = 4000;
const MOST_VALUES: usize = 300;
const ALLOW: &str = "klar:allow-sql";
const SOURCE: (&str, &str) = ("sec.parameterized-queries", "source");
const CONTROL: (&str, &str) = ("sec.parameterized-queries", "control");
/// Languages in which SQL is built as well, and that klar does not read yet.
const UNREAD: [&str; 9] = ["rb", "java", "kt", "go", "cs", "rs", "scala", "ex", "vue"];

impl Probe for SqlBuilt {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "sql-built",
        version: 2,
        question: "Is SQL put together from values anywhere in the sources?",
        does: "Reads all JavaScript, TypeScript, Python and PHP that is not a test, finds the texts that are SQL, and follows in each file what is put into them.",
        shows: &[SOURCE, CONTROL],
        needs: &[Need::Source],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(40),
        faults: &[
            Fault::Files(
                &[(
                    "app/members.py",
                    "async def find_member(member_id: int):\n    rows = await db.query(f\"SELECT * FROM members WHERE id = {member_id}\")\n    return rows\n",
                )],
                SOURCE,
            ),
            Fault::Files(
                &[(
                    "app/members.py",
                    "def find(cur, name):\n    cur.execute(\"SELECT id FROM members WHERE name = '%s'\" % name)\n",
                )],
                SOURCE,
            ),
            Fault::Files(
                &[(
                    "src/members.js",
                    "export const find = (id) => pool.query(`SELECT id FROM members WHERE id = ${id}`);\n",
                )],
                SOURCE,
            ),
            Fault::Files(
                &[(
                    "src/members.ts",
                    "export const find = (q: Query) => pool.query('SELECT id FROM members WHERE name = \\'' + q.name + '\\'');\n",
                )],
                SOURCE,
            ),
            Fault::Files(
                &[(
                    "public/members.php",
                    "<?php $rows = $db->query(\"SELECT id FROM members WHERE id = $_GET[id]\");\n",
                )],
                SOURCE,
            ),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let tree = Tree::of(&world).await?;
        let wanted = |path: &str| language(path).is_some() && !is_test(path) && !is_bundled(path);
        let read = |seen: &mut Seen, path: &str, text: &str| {
            let Some(language) = language(path) else { return };
            seen.files[language as usize] += 1;
            let found = File::read(language, text).statements();
            seen.statements += found.statements;
            let lines: Vec<&str> = if text.contains(ALLOW) { text.lines().collect() } else { Vec::new() };
            for (line, value, safety) in found.built {
                let says = |at: usize| lines.get(at).is_some_and(|line| line.contains(ALLOW));
                let place = Place { path: path.chars().take(300).collect(), line, value };
                if says(line.saturating_sub(1)) || line > 1 && says(line - 2) {
                    seen.allowed += 1;
                } else if safety == Safety::Unsafe {
                    seen.built += 1;
                    seen.places.push(place);
                    seen.places.truncate(MOST_PLACES);
                } else {
                    seen.unclear += 1;
                    seen.unclear_places.push(place);
                    seen.unclear_places.truncate(MOST_PLACES);
                }
            }
        };
        let (mut seen, all) = tree.read(Duration::from_secs(30), wanted, read, Seen::default()).await?;
        seen.all = all;
        for end in UNREAD {
            let n = tree
                .paths
                .iter()
                .filter(|path| !is_test(path) && path.rsplit_once('.').is_some_and(|(_, each)| each == end))
                .count();
            if n > 0 {
                seen.others.push((end.to_owned(), n));
            }
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { statements, built, unclear, allowed, .. } = seen;
        let files: usize = seen.files.iter().sum();
        let shown = |places: &[Place]| {
            let shown =
                places.iter().take(3).map(|Place { path, line, value }| format!("{path}:{line} ({value})"));
            shown.collect::<Vec<_>>().join(", ")
        };
        let first = shown(&seen.places);
        let unclear_first = shown(&seen.unclear_places);
        let others: Vec<String> = seen.others.iter().map(|(end, n)| format!("{n} .{end}")).collect();
        let others = others.join(", ");
        let source = if *built > 0 {
            Finding::broken(
                SOURCE,
                words!(
                    "{built} of {statements} statements are built from values: {first}",
                    "{built} av {statements} setninger bygges av verdier: {first}",
                    "{built} av {statements} satser byggs av värden: {first}"
                ),
            )
        } else if *unclear > 0 {
            Finding::unseen(
                SOURCE,
                words!(
                    "{unclear} of {statements} statements are put together from parts whose origin the file does not tell: {unclear_first}; bind values, or write `klar:allow-sql` beside what is safe",
                    "{unclear} av {statements} setninger settes sammen av deler filen ikke viser opphavet til: {unclear_first}; bind verdier, eller skriv `klar:allow-sql` ved det som er trygt",
                    "{unclear} av {statements} satser sätts ihop av delar vars ursprung filen inte visar: {unclear_first}; bind värden, eller skriv `klar:allow-sql` vid det som är säkert"
                ),
            )
        } else if files == 0 {
            Finding::unseen(
                SOURCE,
                words!(
                    "no JavaScript, TypeScript, Python or PHP to read ({others})",
                    "ingen JavaScript, TypeScript, Python eller PHP å lese ({others})",
                    "ingen JavaScript, TypeScript, Python eller PHP att läsa ({others})"
                ),
            )
        } else if !seen.all {
            Finding::unseen(
                SOURCE,
                words!(
                    "none found in {files} files, but there are more than can be read",
                    "ingen funnet i {files} filer, men det er flere enn det som kan leses",
                    "inga funna i {files} filer, men det finns fler än vad som kan läsas"
                ),
            )
        } else if !others.is_empty() {
            Finding::unseen(
                SOURCE,
                words!(
                    "none found in {files} files, but klar does not read {others}",
                    "ingen funnet i {files} filer, men klar leser ikke {others}",
                    "inga funna i {files} filer, men klar läser inte {others}"
                ),
            )
        } else if *statements == 0 {
            Finding::inapplicable(
                SOURCE,
                words!("no SQL in {files} files", "ingen SQL i {files} filer", "ingen SQL i {files} filer"),
            )
        } else {
            Finding::held(
                SOURCE,
                words!(
                    "{statements} statements in {files} files, none built from values ({allowed} allowed by a comment)",
                    "{statements} setninger i {files} filer, ingen bygget av verdier ({allowed} tillatt med en kommentar)",
                    "{statements} satser i {files} filer, ingen byggd av värden ({allowed} tillåtna med en kommentar)"
                ),
            )
        };
        let control = Finding::held(
            CONTROL,
            words!(
                "the unsafe example is flagged, its corrected version is not",
                "det utrygge eksempelet blir funnet, den rettede versjonen ikke",
                "det osäkra exemplet hittas, den rättade versionen inte"
            ),
        );
        vec![source, control]
    }
}

fn language(path: &str) -> Option<Language> {
    match path.rsplit_once('.')?.1 {
        "js" | "mjs" | "cjs" | "jsx" | "ts" | "mts" | "cts" | "tsx" => Some(Language::Js),
        "py" => Some(Language::Python),
        "php" => Some(Language::Php),
        _ => None,
    }
}

fn is_bundled(path: &str) -> bool {
    path.ends_with(".min.js") || path.ends_with(".bundle.js") || path.ends_with(".d.ts")
}

/// How dangerous a value is in SQL, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Safety {
    /// It is a constant, a number, a placeholder or quoted.
    Safe,
    /// The file does not tell.
    Unknown,
    /// Anything could be in it.
    Unsafe,
}

/// Some tokens of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expr {
    stream: usize,
    range: Range<usize>,
}

/// What a name stands for.
#[derive(Debug, Clone)]
enum Value {
    /// This.
    Is(Expr),
    /// An element of this, or a field of it.
    Of(Expr),
    /// What a caller gives.
    Param,
    /// What another file gives.
    Import,
}

#[derive(Debug, Clone)]
struct Binding {
    scope: usize,
    /// It makes the name, and does not only change it.
    declares: bool,
    value: Value,
}

struct File {
    language: Language,
    streams: Vec<Vec<Token>>,
    /// For each bracket, where its other half is.
    pairs: Vec<Vec<usize>>,
    /// The scope of each token.
    scopes: Vec<Vec<usize>>,
    /// The scope around each scope.
    parents: Vec<usize>,
    names: HashMap<String, Vec<Binding>>,
    /// What functions of this file give back.
    returns: HashMap<String, Vec<Expr>>,
    /// How much thinking is left for this file.
    patience: Cell<u32>,
    busy: std::cell::RefCell<HashSet<String>>,
}

struct Found {
    statements: usize,
    built: Vec<(usize, String, Safety)>,
}

const NOT_OPERANDS: &[&str] = &[
    "return",
    "typeof",
    "case",
    "in",
    "of",
    "delete",
    "void",
    "throw",
    "await",
    "yield",
    "else",
    "do",
    "not",
    "and",
    "or",
    "if",
    "is",
    "echo",
    "print",
    "assert",
    "elif",
    "raise",
    "const",
    "let",
    "var",
    "new",
    "lambda",
    "instanceof",
    "as",
    "from",
    "import",
    "export",
    "default",
    "for",
    "while",
    "function",
    "fn",
    "async",
    "def",
    "class",
    "extends",
    "static",
    "public",
    "private",
    "protected",
];

/// Names that say: this gives a name or value that is quoted, or a placeholder.
fn is_quoting(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let web = ["html", "uri", "url", "regex", "xml", "shell", "attr", "css"];
    (name.contains("escape") || name.contains("quot")) && !web.iter().any(|word| name.contains(word))
        || name.contains("placeholder")
        || name.contains("ident")
        || ["prepare", "literal", "bindparam", "qident", "qi"].contains(&name.as_str())
}

/// Functions whose result is a number, a date or a yes.
fn is_numeric(name: &str) -> bool {
    [
        "Number",
        "parseInt",
        "parseFloat",
        "BigInt",
        "Boolean",
        "int",
        "float",
        "bool",
        "len",
        "intval",
        "floatval",
        "boolval",
        "count",
        "sizeof",
        "abs",
        "round",
        "floor",
        "ceil",
        "min",
        "max",
        "now",
        "getTime",
        "toISOString",
        "isoformat",
        "toFixed",
        "time",
        "includes",
        "has",
        "startsWith",
        "endsWith",
        "randomUUID",
        "uuid4",
        "uuidv4",
        "indexOf",
        "range",
        "sum",
        "hash",
        "strlen",
        "is_null",
        "isset",
        "empty",
        "random",
        "hrtime",
        "trunc",
        "isArray",
        "date",
        "cpus",
    ]
    .contains(&name)
}

/// Functions that change the form of what they are given and bring nothing in.
fn is_passing(name: &str) -> bool {
    [
        "join",
        "trim",
        "trimEnd",
        "trimStart",
        "filter",
        "slice",
        "sort",
        "reverse",
        "flat",
        "toUpperCase",
        "toLowerCase",
        "upper",
        "lower",
        "strip",
        "rstrip",
        "lstrip",
        "padStart",
        "padEnd",
        "toString",
        "values",
        "keys",
        "entries",
        "concat",
        "copy",
        "items",
        "repeat",
        "String",
        "str",
        "list",
        "tuple",
        "sorted",
        "set",
        "dict",
        "array_keys",
        "array_values",
        "implode",
        "strtoupper",
        "strtolower",
        "rtrim",
        "ltrim",
        "array_merge",
        "array_filter",
        "array_unique",
        "Set",
        "Map",
        "Array",
        "freeze",
        "get",
        "at",
        "pop",
        "shift",
        "sprintf",
        "format",
        "dedent",
        "text",
        "fromEntries",
        "stripIndent",
        "split",
        "indent",
        "find",
        "array_fill_keys",
        "array_flip",
        "array_slice",
        "frozenset",
        "OrderedDict",
        "sql",
        "raw",
        "replaceAll",
        "replace",
        "str_replace",
        "flatMap",
        "map",
        "array_map",
        "fill",
        "array_fill",
        "str_repeat",
        "from",
        "reduce",
        "next",
    ]
    .contains(&name)
}

/// Names that parts of statements have: what they hold was put together elsewhere.
fn is_fragment(name: &str) -> bool {
    let name = name.trim_start_matches('$').to_ascii_lowercase();
    [
        "where",
        "clause",
        "cond",
        "order",
        "sort",
        "column",
        "cols",
        "field",
        "table",
        "schema",
        "join",
        "fragment",
        "filter",
        "limit",
        "offset",
        "sql",
        "query",
        "stmt",
        "dir",
        "returning",
        "alias",
        "prefix",
        "index",
        "database",
        "constraint",
        "assignments",
        "sets",
        "selects",
        "suffix",
        "role",
        "values",
        "set_",
    ]
    .iter()
    .any(|word| name.contains(word))
}

/// Names of fields of the app itself that hold names of tables and the like.
fn is_own_name(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    ["table", "tablename", "schema", "prefix", "columns", "primarykey", "dbtable", "database", "dbname"]
        .contains(&plain.as_str())
        || plain.ends_with("table")
        || plain.ends_with("tablename")
}

fn is_constant(name: &str) -> bool {
    let name = name.trim_start_matches(['_', '$']);
    name.len() > 1
        && name.bytes().any(|byte| byte.is_ascii_uppercase())
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Where strangers' words come in.
fn is_request(name: &str) -> bool {
    ["$_GET", "$_POST", "$_REQUEST", "$_COOKIE", "$_SERVER", "$_FILES"].contains(&name)
        || [
            "req",
            "request",
            "body",
            "params",
            "query",
            "ctx",
            "input",
            "args",
            "payload",
            "searchParams",
            "$request",
            "form",
        ]
        .contains(&name)
}

impl File {
    fn read(language: Language, text: &str) -> Self {
        let streams = lex(language, text);
        let pairs = streams.iter().map(|tokens| pairs(tokens)).collect();
        let mut file = Self {
            language,
            scopes: streams.iter().map(|tokens| vec![0; tokens.len()]).collect(),
            streams,
            pairs,
            parents: vec![0],
            names: HashMap::new(),
            returns: HashMap::new(),
            patience: Cell::new(300_000),
            busy: std::cell::RefCell::default(),
        };
        file.set_scopes(0, 0);
        // Scopes of holes are known now: each is set while the text around it is walked.
        for stream in 0..file.streams.len() {
            file.bind(stream);
        }
        file
    }

    fn token(&self, stream: usize, at: usize) -> Option<&Token> {
        self.streams.get(stream)?.get(at)
    }

    fn is(&self, stream: usize, at: usize, punct: &str) -> bool {
        self.token(stream, at).is_some_and(|token| token.is(punct))
    }

    fn word(&self, stream: usize, at: usize) -> Option<&str> {
        self.token(stream, at)?.word()
    }

    fn pair(&self, stream: usize, at: usize) -> usize {
        self.pairs.get(stream).and_then(|pairs| pairs.get(at)).copied().unwrap_or(at)
    }

    /// Gives every token its scope: blocks in JavaScript, functions elsewhere.
    fn set_scopes(&mut self, stream: usize, scope: usize) {
        let mut bodies = HashSet::new();
        let mut stack: Vec<(Option<usize>, usize)> = vec![(None, scope)];
        for at in 0..self.streams[stream].len() {
            if self.language == Language::Php && matches!(self.word(stream, at), Some("function")) {
                let open = (at..at + 4).find(|at| self.is(stream, *at, "("));
                let body = open.and_then(|open| {
                    let end = self.pair(stream, open);
                    (end..end + 40)
                        .take_while(|at| !self.is(stream, *at, ";"))
                        .find(|at| self.is(stream, *at, "{"))
                });
                bodies.extend(body);
            }
            if self.language == Language::Python && stream == 0 {
                let indent = self.streams[stream][at].indent;
                if let Some(indent) = indent {
                    while stack.len() > 1
                        && stack.last().is_some_and(|(of, _)| of.is_some_and(|of| of >= indent))
                    {
                        stack.pop();
                    }
                    let def = self.word(stream, at) == Some("def")
                        || self.word(stream, at) == Some("async") && self.word(stream, at + 1) == Some("def");
                    if def {
                        let new = self.new_scope(stack.last().map_or(0, |(_, scope)| *scope));
                        stack.push((Some(indent), new));
                    }
                }
            }
            let open = match self.language {
                Language::Js => ["{", "(", "["].iter().any(|open| self.is(stream, at, open)),
                Language::Php => bodies.contains(&at),
                Language::Python => false,
            };
            if open {
                let new = self.new_scope(stack.last().map_or(0, |(_, scope)| *scope));
                stack.push((Some(self.pair(stream, at)), new));
            }
            let scope = stack.last().map_or(0, |(_, scope)| *scope);
            self.scopes[stream][at] = scope;
            if self.language != Language::Python
                && stack.len() > 1
                && stack.last().is_some_and(|(end, _)| *end == Some(at))
            {
                stack.pop();
            }
            let holes = match &self.streams[stream][at].tok {
                Tok::Str { pieces, .. } => pieces
                    .iter()
                    .filter_map(|piece| if let Piece::Hole(hole) = piece { Some(*hole) } else { None })
                    .collect(),
                _ => Vec::new(),
            };
            for hole in holes {
                self.set_scopes(hole, scope); // as deep as the lexer goes, and no deeper
            }
        }
    }

    fn new_scope(&mut self, parent: usize) -> usize {
        self.parents.push(parent);
        self.parents.len() - 1
    }

    fn declare(&mut self, name: &str, scope: usize, value: Value) {
        self.note(name, Binding { scope, declares: true, value });
    }

    /// Keeps what a name stands for. Of a name with more values than anybody writes nothing is believed.
    fn note(&mut self, name: &str, mut binding: Binding) {
        let all = self.names.entry(name.to_owned()).or_default();
        if all.len() >= MOST_VALUES {
            binding = Binding { scope: 0, declares: true, value: Value::Param };
        }
        if all.len() <= MOST_VALUES {
            all.push(binding);
        }
    }

    /// Finds what names stand for.
    fn bind(&mut self, stream: usize) {
        let length = self.streams[stream].len();
        let mut at = 0;
        while at < length {
            let scope = self.scopes[stream][at];
            let Some(word) = self.word(stream, at).map(str::to_owned) else {
                if self.language == Language::Js && self.is(stream, at, "(") {
                    self.bind_params_of_js(stream, at);
                }
                at += 1;
                continue;
            };
            let after_dot = at > 0 && [".", "?.", "->", "::"].iter().any(|dot| self.is(stream, at - 1, dot));
            match (self.language, word.as_str()) {
                (Language::Js, "const" | "let" | "var") if !after_dot => self.bind_declaration(stream, at),
                (Language::Js, "import") | (Language::Python, "import") if !after_dot => {
                    let mut next = at + 1;
                    while let Some(token) = self.token(stream, next) {
                        let ends = match self.language {
                            Language::Js => {
                                token.word() == Some("from")
                                    || matches!(token.tok, Tok::Str { .. })
                                    || token.is("(")
                            }
                            _ => token.indent.is_some(),
                        };
                        if ends || next > at + 300 {
                            break;
                        }
                        if let Some(name) = token.word().map(str::to_owned) {
                            self.declare(&name, scope, Value::Import);
                        }
                        next += 1;
                    }
                }
                (Language::Js, "function") => {
                    if let (Some(name), true) =
                        (self.word(stream, at + 1).map(str::to_owned), self.is(stream, at + 2, "("))
                    {
                        let close = self.pair(stream, at + 2);
                        if let Some(open) = (close..close + 40).find(|at| self.is(stream, *at, "{")) {
                            self.note_returns(&name, stream, open..self.pair(stream, open));
                        }
                    }
                }
                (Language::Python, "def") | (Language::Php, "function" | "fn") => {
                    let open = (at + 1..at + 4).find(|at| self.is(stream, *at, "("));
                    if let Some(open) = open {
                        let close = self.pair(stream, open);
                        // The scope of the body; of PHP's arrow functions the one they stand in.
                        let body = match self.language {
                            Language::Python => scope,
                            _ => (close..close + 40)
                                .take_while(|at| !self.is(stream, *at, ";") && !self.is(stream, *at, "=>"))
                                .find(|at| self.is(stream, *at, "{"))
                                .map_or(scope, |open| self.scopes[stream][open]),
                        };
                        self.bind_params(stream, open + 1..close, body);
                        let name = self.word(stream, at + 1).map(str::to_owned);
                        if let Some(name) = name {
                            let end = (close + 1..length).find(|next| match self.language {
                                Language::Python => {
                                    let indent = self.streams[stream][*next].indent;
                                    let own = self.streams[stream][at].indent.unwrap_or(0);
                                    indent.is_some_and(|indent| indent <= own)
                                }
                                _ => self.is(stream, *next, "{"),
                            });
                            let range = match (self.language, end) {
                                (Language::Python, end) => close + 1..end.unwrap_or(length),
                                (_, Some(open)) => open..self.pair(stream, open),
                                (_, None) => close..close,
                            };
                            self.note_returns(&name, stream, range);
                        }
                    }
                }
                (Language::Python, "for") | (Language::Php, "foreach") => self.bind_loop(stream, at),
                (Language::Python, "lambda") => {
                    let mut next = at + 1;
                    while next < length && next < at + 60 && !self.is(stream, next, ":") {
                        if let Some(name) = self.word(stream, next).map(str::to_owned) {
                            self.declare(&name, scope, Value::Param);
                        }
                        next += 1;
                    }
                }
                (Language::Js, _) if self.is(stream, at + 1, "=>") => {
                    let body = if self.is(stream, at + 2, "{") { self.scopes[stream][at + 2] } else { scope };
                    self.declare(&word, body, Value::Param);
                }
                _ if !after_dot => self.bind_assignment(stream, at, &word, scope),
                _ => {}
            }
            at += 1;
        }
    }

    fn note_returns(&mut self, name: &str, stream: usize, body: Range<usize>) {
        let mut found = Vec::new();
        for at in body.take(LONGEST) {
            if self.word(stream, at) == Some("return") && found.len() < 20 {
                found.push(Expr { stream, range: at + 1..self.end_of(stream, at + 1) });
            }
        }
        self.returns.entry(name.to_owned()).or_default().extend(found);
    }

    fn bind_params(&mut self, stream: usize, range: Range<usize>, scope: usize) {
        let mut depth = 0_i32;
        for at in range.take(500) {
            let Some(token) = self.token(stream, at) else { break };
            if ["(", "["].iter().any(|open| token.is(open)) {
                depth += 1;
            } else if [")", "]"].iter().any(|close| token.is(close)) {
                depth -= 1;
            }
            let first = at == 0
                || ["(", ",", "{", "...", "[", "*", "**", "&", ":"]
                    .iter()
                    .any(|before| self.is(stream, at - 1, before));
            let typed =
                self.language == Language::Php && token.word().is_some_and(|word| word.starts_with('$'));
            // `a: b` names a type in a list of parameters, and a new name in a pattern; taking both does no harm.
            if (first || typed)
                && depth <= 1
                && let Some(name) = self.word(stream, at).map(str::to_owned)
            {
                self.declare(&name, scope, Value::Param);
            }
        }
    }

    /// `(a, b) => …`, `function (a, b) {…}`, `name(a, b) {…}`, `catch (e) {…}`.
    fn bind_params_of_js(&mut self, stream: usize, open: usize) {
        let close = self.pair(stream, open);
        if close <= open {
            return;
        }
        let before = open.checked_sub(1).and_then(|at| self.word(stream, at));
        let keyword = before
            .is_some_and(|word| ["if", "for", "while", "switch", "with", "return", "await"].contains(&word));
        let named = before == Some("function")
            || open.checked_sub(2).and_then(|at| self.word(stream, at)) == Some("function");
        let mut next = close + 1;
        // A type of what is given back.
        if self.is(stream, next, ":") {
            let end = next + 40;
            while next < end
                && !self.is(stream, next, "=>")
                && !self.is(stream, next, "{")
                && !self.is(stream, next, ";")
            {
                next += 1;
            }
            if !self.is(stream, next, "=>") && !named && before.is_none() {
                return;
            }
        }
        let arrow = self.is(stream, next, "=>");
        let block = self.is(stream, next, "{");
        if !(arrow || block && !keyword && before.is_some()) {
            return;
        }
        let body = if arrow { next + 1 } else { next };
        let scope = if self.is(stream, body, "{") {
            self.scopes[stream][body]
        } else {
            let around = self.scopes[stream][open];
            self.parents.get(around).copied().unwrap_or(0)
        };
        self.bind_params(stream, open + 1..close, scope);
        // `const name = (…) => …`
        let mut name = open.wrapping_sub(1);
        if self.word(stream, name) == Some("async") {
            name = name.wrapping_sub(1);
        }
        if arrow
            && self.is(stream, name, "=")
            && let Some(name) = self.word(stream, name.wrapping_sub(1)).map(str::to_owned)
        {
            if self.is(stream, body, "{") {
                self.note_returns(&name, stream, body..self.pair(stream, body));
            } else {
                let expr = Expr { stream, range: body..self.end_of(stream, body) };
                self.returns.entry(name).or_default().push(expr);
            }
        }
    }

    /// `const a = …, { b, c: d } = …`, `for (const x of …) {`.
    fn bind_declaration(&mut self, stream: usize, keyword: usize) {
        let in_for = keyword > 0
            && self.is(stream, keyword - 1, "(")
            && (keyword
                .checked_sub(2)
                .and_then(|at| self.word(stream, at))
                .is_some_and(|word| word == "for" || word == "await"));
        let mut scope = self.scopes[stream][keyword];
        if in_for {
            let body = self.pair(stream, keyword - 1) + 1;
            scope = if self.is(stream, body, "{") {
                self.scopes[stream][body]
            } else {
                self.parents.get(scope).copied().unwrap_or(0)
            };
        }
        let mut at = keyword + 1;
        for _ in 0..50 {
            let (names, mut next) = match self.token(stream, at).map(|token| &token.tok) {
                Some(Tok::Word(name)) => (vec![name.clone()], at + 1),
                Some(Tok::Punct("{" | "[")) => {
                    let close = self.pair(stream, at);
                    let names = (at + 1..close).filter_map(|at| {
                        let ends = [",", "}", "]", "="].iter().any(|end| self.is(stream, at + 1, end));
                        let value = at > 0 && self.is(stream, at - 1, "=");
                        self.word(stream, at).filter(|_| ends && !value).map(str::to_owned)
                    });
                    (names.collect(), close + 1)
                }
                _ => return,
            };
            let pattern = !matches!(self.token(stream, at).map(|token| &token.tok), Some(Tok::Word(_)));
            // A type.
            if self.is(stream, next, ":") {
                let end = next + 40;
                while next < end && !self.is(stream, next, "=") && !self.is(stream, next, ";") {
                    next = if ["(", "[", "{"].iter().any(|open| self.is(stream, next, open)) {
                        self.pair(stream, next) + 1
                    } else {
                        next + 1
                    };
                }
            }
            let element = matches!(self.word(stream, next), Some("of" | "in"));
            if !element && !self.is(stream, next, "=") {
                for name in names {
                    // `let where;` gets its value later.
                    self.declare(&name, scope, Value::Is(Expr { stream, range: 0..0 }));
                }
                return;
            }
            let end = if element {
                self.pair(stream, keyword - usize::from(in_for))
            } else {
                self.end_of(stream, next + 1)
            };
            let expr = Expr { stream, range: next + 1..end.max(next + 1) };
            for name in names {
                let value =
                    if pattern || element { Value::Of(expr.clone()) } else { Value::Is(expr.clone()) };
                self.declare(&name, scope, value);
            }
            if !self.is(stream, end, ",") || element {
                return;
            }
            at = end + 1;
        }
    }

    /// `for a, b in …` and `foreach ($list as $key => $value)`.
    fn bind_loop(&mut self, stream: usize, keyword: usize) {
        let scope = self.scopes[stream][keyword];
        if self.language == Language::Php {
            let open = keyword + 1;
            let close = self.pair(stream, open);
            let Some(of) = (open..close).find(|at| self.word(stream, *at) == Some("as")) else { return };
            let expr = Expr { stream, range: open + 1..of };
            for at in of + 1..close {
                if let Some(name) = self.word(stream, at).map(str::to_owned) {
                    self.declare(&name, scope, Value::Of(expr.clone()));
                }
            }
            return;
        }
        let Some(of) = (keyword + 1..keyword + 30).find(|at| self.word(stream, *at) == Some("in")) else {
            return;
        };
        let mut end = of + 1;
        while let Some(token) = self.token(stream, end) {
            if [")", "]", "}", ":"].iter().any(|close| token.is(close))
                || matches!(token.word(), Some("if" | "for" | "else"))
            {
                break;
            }
            end = if ["(", "[", "{"].iter().any(|open| token.is(open)) {
                self.pair(stream, end).max(end) + 1
            } else {
                end + 1
            };
        }
        let expr = Expr { stream, range: of + 1..end };
        for at in keyword + 1..of {
            if let Some(name) = self.word(stream, at).map(str::to_owned) {
                self.declare(&name, scope, Value::Of(expr.clone()));
            }
        }
    }

    /// `a = …`, `a += …`, `a.push(…)`, `$a[] = …`, `a: str = …`.
    fn bind_assignment(&mut self, stream: usize, at: usize, name: &str, scope: usize) {
        let mut next = at + 1;
        if self.language == Language::Python
            && self.is(stream, next, ":")
            && self.streams[stream][at].indent.is_some()
        {
            let end = next + 20;
            while next < end
                && !self.is(stream, next, "=")
                && self.token(stream, next).is_some_and(|token| token.indent.is_none())
            {
                next += 1;
            }
        }
        if self.language == Language::Php && self.is(stream, next, "[") {
            next = self.pair(stream, next) + 1;
        }
        let ops = ["=", "+=", ".=", "??=", "||=", "&&=", ":="];
        if ops.iter().any(|op| self.is(stream, next, op)) {
            // `f(name=value)` is no assignment.
            let argument = self.language == Language::Python
                && self.streams[stream][at].indent.is_none()
                && self.is(stream, next, "=");
            if argument {
                return;
            }
            let value = Value::Is(Expr { stream, range: next + 1..self.end_of(stream, next + 1) });
            let declares = self.language != Language::Js;
            self.note(name, Binding { scope, declares, value });
        } else if (self.is(stream, next, ".") || self.is(stream, next, "?."))
            && self
                .word(stream, next + 1)
                .is_some_and(|word| ["push", "unshift", "append", "extend", "add", "insert"].contains(&word))
            && self.is(stream, next + 2, "(")
        {
            let value = Value::Is(Expr { stream, range: next + 3..self.pair(stream, next + 2) });
            self.note(name, Binding { scope, declares: false, value });
        }
    }

    /// Where an expression that begins here ends.
    fn end_of(&self, stream: usize, start: usize) -> usize {
        let tokens = &self.streams[stream];
        let mut at = start;
        let mut steps = 0;
        while let Some(token) = tokens.get(at).filter(|_| steps < LONGEST) {
            steps += 1;
            if let Tok::Punct(punct) = token.tok {
                match punct {
                    ";" | "," | ")" | "]" | "}" => return at,
                    "(" | "[" | "{" => {
                        let close = self.pair(stream, at);
                        if close <= at {
                            return at;
                        }
                        at = close + 1;
                        continue;
                    }
                    _ => {}
                }
            }
            if at > start {
                if token.indent.is_some() {
                    return at;
                }
                // A line of JavaScript that could not go on ends the expression.
                let before = &tokens[at - 1];
                if self.language == Language::Js
                    && token.line > before.line
                    && ends_operand(before)
                    && matches!(token.tok, Tok::Word(_) | Tok::Number | Tok::Str { template: false, .. })
                    && !matches!(token.word(), Some("in" | "of" | "instanceof" | "as" | "satisfies"))
                {
                    return at;
                }
            }
            at += 1;
        }
        at.min(tokens.len())
    }

    /// What a name stands for where it is used: all that it may hold, or nothing is known of it.
    fn lookup(&self, name: &str, scope: usize) -> Vec<&Binding> {
        let Some(all) = self.names.get(name) else { return Vec::new() };
        let mut here = scope;
        loop {
            if all.iter().any(|each| each.declares && each.scope == here) || here == 0 {
                break;
            }
            here = self.parents.get(here).copied().unwrap_or(0);
        }
        all.iter()
            .filter(|each| if each.declares { each.scope == here } else { self.is_within(each.scope, here) })
            .collect()
    }

    fn is_within(&self, mut scope: usize, outer: usize) -> bool {
        while scope != outer {
            if scope == 0 {
                return false;
            }
            scope = self.parents.get(scope).copied().unwrap_or(0);
        }
        true
    }

    /// The text a name stands for, if it stands for text.
    fn text_of(&self, name: &str, scope: usize) -> Option<String> {
        let bindings = self.lookup(name, scope);
        bindings.iter().find_map(|binding| {
            let Value::Is(expr) = &binding.value else { return None };
            let token = self.token(expr.stream, expr.range.start)?;
            match &token.tok {
                Tok::Str { pieces, .. } if !expr.range.is_empty() => Some(flat(pieces)),
                _ => None,
            }
        })
    }

    /// All statements of the file, and what is put into them.
    fn statements(&self) -> Found {
        let mut found = Found { statements: 0, built: Vec::new() };
        for stream in 0..self.streams.len() {
            let mut at = 0;
            while at < self.streams[stream].len() {
                let end = self.chain(stream, at, &mut found);
                at = end.max(at + 1);
            }
        }
        found.built.sort();
        found.built.dedup();
        found
    }

    /// Looks at the operands that begin here and are put together; where to go on.
    fn chain(&self, stream: usize, start: usize, found: &mut Found) -> usize {
        let tokens = &self.streams[stream];
        let plus = if self.language == Language::Php { "." } else { "+" };
        let begins = start == 0
            || !ends_operand(&tokens[start - 1])
                && ![".", "?.", "->", "::"]
                    .iter()
                    .any(|dot| tokens[start - 1].is(dot) && !(self.language == Language::Php && *dot == "."));
        let is_text = matches!(tokens[start].tok, Tok::Str { .. });
        // What goes on is looked at where it begins.
        let before = |back: usize| start.checked_sub(back).and_then(|at| tokens.get(at));
        let goes_on = before(1).is_some_and(|token| token.is(plus)) && before(2).is_none_or(ends_operand);
        let beside = self.language == Language::Python
            && is_text
            && tokens[start].indent.is_none()
            && before(1).is_some_and(|token| matches!(token.tok, Tok::Str { .. }));
        if goes_on || beside {
            return start + 1;
        }
        if !is_text && (!begins || tokens[start].word().is_none_or(|word| NOT_OPERANDS.contains(&word))) {
            return start + 1;
        }
        if is_text && self.is_tagged(stream, start) {
            self.tagged(stream, start, found);
            return start + 1;
        }
        let mut operands = Vec::new();
        let mut at = start;
        loop {
            let end = self.operand(stream, at);
            if end <= at {
                break;
            }
            operands.push(at..end);
            at = end;
            if !self.is(stream, at, plus) {
                break;
            }
            at += 1;
        }
        let any_text = operands.iter().any(|range| matches!(tokens[range.start].tok, Tok::Str { .. }));
        if !any_text {
            return start + 1; // what is in its brackets is looked at by itself
        }
        let mut parts: Vec<(String, Option<Expr>)> = Vec::new();
        let scope = self.scopes[stream][start];
        let mut known = true;
        // `sql += …` goes on with what there was.
        if start > 1
            && ["+=", ".="].iter().any(|op| tokens[start - 1].is(op))
            && let Some(name) = tokens[start - 2].word()
        {
            parts.push((self.text_of(name, scope).unwrap_or_default() + " ", None));
        }
        for range in &operands {
            let expr = Expr { stream, range: range.clone() };
            if !self.push_text(&expr, &mut parts) {
                let single = (range.len() == 1).then(|| self.word(stream, range.start)).flatten();
                match single.and_then(|name| self.text_of(name, scope)) {
                    Some(text) => parts.push((text, Some(expr))),
                    None => parts.push(("\0".to_owned(), Some(expr))),
                }
            }
            known &= range.end > range.start;
        }
        let text: String = parts.iter().map(|(text, _)| text.as_str()).collect();
        let line = tokens[start].line;
        if known && is_sql(&text) {
            found.statements += 1;
            let mut worst: Option<(String, Safety)> = None;
            let mut before = String::new();
            for (text, expr) in &parts {
                if let Some(expr) = expr {
                    self.weigh(expr, &before, &mut worst);
                }
                // Only the end of it matters.
                before.push_str(text.get(text.len().saturating_sub(100)..).unwrap_or(text));
                if before.len() > 1000 {
                    before = before.chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
                }
            }
            // `"…" % values`, `.format(values)`, `.concat(values)`, `.replace(":id", value)`
            self.formatted(stream, &operands, &text, &mut worst);
            // `["… = ", value, "…"].join("")`
            if start > 0 && self.is(stream, start - 1, "[") {
                let close = self.pair(stream, start - 1);
                if self.is(stream, close + 1, ".") && self.word(stream, close + 2) == Some("join") {
                    let all = Expr { stream, range: start..close };
                    for part in self.split(&all, &[","]).iter().skip(1) {
                        self.weigh(part, &text, &mut worst);
                    }
                }
            }
            if let Some((value, safety)) = worst {
                found.built.push((line, value, safety));
            }
        }
        at.max(start + 1).min(operands.first().map_or(start + 1, |_| {
            // Calls among the operands have arguments of their own: go on inside them.
            operands.iter().find(|range| range.len() > 1).map_or(at, |range| range.start + 1).max(start + 1)
        }))
    }

    /// A template whose tag gets the values apart: only what is put in as it is, on purpose, is part of the text.
    fn tagged(&self, stream: usize, at: usize, found: &mut Found) {
        let Some(Token { tok: Tok::Str { pieces, .. }, line, .. }) = self.token(stream, at) else { return };
        if !is_sql(&flat(pieces)) {
            return;
        }
        found.statements += 1;
        for piece in pieces {
            let Piece::Hole(hole) = piece else { continue };
            let all = self.streams.get(*hole).map_or(0, Vec::len);
            let raw = (0..all).find(|at| {
                matches!(self.word(*hole, *at), Some("raw" | "unsafe")) && self.is(*hole, at + 1, "(")
            });
            if let Some(raw) = raw {
                let mut worst = None;
                let given = raw + 2..self.pair(*hole, raw + 1).max(raw + 2);
                self.weigh(&Expr { stream: *hole, range: given }, "", &mut worst);
                found.built.extend(worst.map(|(value, safety)| (*line, value, safety)));
            }
        }
    }

    /// The pieces of an operand that is a text; whether it is one.
    fn push_text(&self, expr: &Expr, parts: &mut Vec<(String, Option<Expr>)>) -> bool {
        let Some(token) = self.token(expr.stream, expr.range.start) else { return false };
        if !matches!(token.tok, Tok::Str { .. }) || self.is_tagged(expr.stream, expr.range.start) {
            return false;
        }
        for at in expr.range.clone() {
            let Some(Token { tok: Tok::Str { pieces, .. }, .. }) = self.token(expr.stream, at) else { break };
            for piece in pieces {
                match piece {
                    Piece::Text(text) => parts.push((text.clone(), None)),
                    Piece::Hole(hole) => {
                        let range = 0..self.streams.get(*hole).map_or(0, Vec::len);
                        let inner = Expr { stream: *hole, range: range.clone() };
                        let name = (range.len() == 1).then(|| self.word(*hole, 0)).flatten();
                        let scope =
                            self.scopes.get(*hole).and_then(|scopes| scopes.first()).copied().unwrap_or(0);
                        let text = name
                            .and_then(|name| self.text_of(name, scope))
                            .unwrap_or_else(|| "\0".to_owned());
                        parts.push((text, Some(inner)));
                    }
                }
            }
        }
        true
    }

    /// What is given to the text by `%` and by methods.
    fn formatted(
        &self,
        stream: usize,
        operands: &[Range<usize>],
        text: &str,
        worst: &mut Option<(String, Safety)>,
    ) {
        let before = text.split(['%', '{']).next().unwrap_or_default();
        let before = before.get(before.len().saturating_sub(200)..).unwrap_or("= ");
        for (index, range) in operands.iter().enumerate() {
            if !matches!(self.token(stream, range.start).map(|token| &token.tok), Some(Tok::Str { .. })) {
                continue;
            }
            let mut at = range.start;
            while matches!(self.token(stream, at).map(|token| &token.tok), Some(Tok::Str { .. })) {
                at += 1;
            }
            while self.is(stream, at, ".") && self.is(stream, at + 2, "(") && at < range.end {
                let close = self.pair(stream, at + 2);
                let arguments = Expr { stream, range: at + 3..close };
                match self.word(stream, at + 1) {
                    Some("format" | "concat" | "format_map") => self.weigh_all(&arguments, before, worst),
                    Some("replace" | "replaceAll") => {
                        if let Some(second) = self.split(&arguments, &[","]).get(1) {
                            self.weigh(second, "= ", worst);
                        }
                    }
                    _ => {}
                }
                at = close + 1;
            }
            if index + 1 == operands.len()
                && self.language == Language::Python
                && self.is(stream, range.end, "%")
            {
                let start = range.end + 1;
                let values = Expr { stream, range: start..self.operand(stream, start) };
                let tuple = self.is(stream, start, "(") && self.pair(stream, start) + 1 == values.range.end;
                if tuple {
                    self.weigh_all(&Expr { stream, range: start + 1..values.range.end - 1 }, before, worst);
                } else {
                    self.weigh(&values, before, worst);
                }
            }
            // `sprintf("…", values)`, `util.format("…", values)`
            let call = range.start.checked_sub(2).and_then(|at| self.word(stream, at)).unwrap_or_default();
            let opens = range.start > 0 && self.is(stream, range.start - 1, "(");
            let formats = match self.language {
                Language::Php => ["sprintf", "vsprintf"].contains(&call),
                Language::Js => call == "format",
                Language::Python => false,
            };
            if index == 0 && formats && opens && text.contains("%s") {
                let close = self.pair(stream, range.start - 1);
                let all = self.split(&Expr { stream, range: range.start..close }, &[","]);
                // `%I`, `%L` and `%d` are quoted, or numbers.
                let marks: Vec<&str> = text
                    .match_indices('%')
                    .map(|(at, _)| text.get(at..at + 2).unwrap_or("%"))
                    .filter(|mark| *mark != "%%")
                    .collect();
                for (number, value) in all.iter().skip(1).enumerate() {
                    if marks.get(number).is_none_or(|mark| !["%I", "%L", "%d", "%u"].contains(mark)) {
                        self.weigh(value, before, worst);
                    }
                }
            }
        }
    }

    fn weigh_all(&self, expr: &Expr, before: &str, worst: &mut Option<(String, Safety)>) {
        for mut each in self.split(expr, &[","]) {
            // `name=value`
            if self.language == Language::Python && self.is(each.stream, each.range.start + 1, "=") {
                each.range.start += 2;
            }
            self.weigh(&each, before, worst);
        }
    }

    /// How dangerous what is put in after this text is.
    fn weigh(&self, expr: &Expr, before: &str, worst: &mut Option<(String, Safety)>) {
        if expr.range.is_empty() {
            return;
        }
        let left = before.trim_end_matches([' ', '\n', '\t']);
        let mark = left.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
        // `$${n}`, `:id${n}`, `@p${n}`: the number of a placeholder.
        if before.ends_with('$')
            || (mark.len() < before.len()
                && before == left
                && mark.ends_with([':', '@', '$'])
                && !mark.ends_with("::"))
        {
            return;
        }
        let mut safety = self.value(expr, 0);
        if safety == Safety::Unsafe
            && expr.range.len() == 1
            && let Some(name) = self.word(expr.stream, expr.range.start)
        {
            let scope = self.scopes[expr.stream][expr.range.start];
            let bindings = self.lookup(name, scope);
            let given =
                !bindings.is_empty() && bindings.iter().all(|each| matches!(each.value, Value::Param));
            let value = left.ends_with(['=', '<', '>', '\'', '"', '%', ',', '+', '-', '*', '|', '('])
                || ["LIKE", "LIMIT", "OFFSET", "IN", "VALUES", "BETWEEN", "WHEN", "THEN", "ELSE"]
                    .iter()
                    .any(|word| left.to_ascii_uppercase().ends_with(word));
            // A function that is given the name of a table, or a condition: who gives it is not seen here.
            let quoted = left.ends_with(['=', '\'', '<', '>', '%']);
            if given && !is_request(name) && (!value || is_fragment(name) && !quoted) {
                safety = Safety::Unknown;
            }
        }
        if safety > Safety::Safe && worst.as_ref().is_none_or(|(_, than)| safety > *than) {
            *worst = Some((self.shown(expr), safety));
        }
    }

    /// An expression as people know it, shortened; texts in it are left out.
    fn shown(&self, expr: &Expr) -> String {
        let mut shown = String::new();
        for at in expr.range.clone().take(12) {
            match self.token(expr.stream, at).map(|token| &token.tok) {
                Some(Tok::Word(word)) => {
                    if shown.ends_with(|c: char| c.is_alphanumeric()) {
                        shown.push(' ');
                    }
                    shown.push_str(word);
                }
                Some(Tok::Punct(punct)) => shown.push_str(punct),
                Some(Tok::Number) => shown.push('0'),
                Some(_) => shown.push('…'),
                None => {}
            }
        }
        if shown.chars().count() > 40 {
            shown = shown.chars().take(39).collect::<String>() + "…";
        }
        shown
    }

    /// Where the operand that begins here ends; the same place if none does.
    fn operand(&self, stream: usize, start: usize) -> usize {
        let tokens = &self.streams[stream];
        let mut at = start;
        while tokens.get(at).is_some_and(|token| {
            ["!", "-", "+", "...", "~", "&", "@"].iter().any(|unary| token.is(unary))
                || matches!(token.word(), Some("await" | "new" | "not" | "typeof"))
        }) {
            at += 1;
        }
        let Some(first) = tokens.get(at) else { return start };
        match &first.tok {
            Tok::Punct("(" | "[" | "{") => at = self.pair(stream, at).max(at) + 1,
            Tok::Punct(_) => return start,
            Tok::Word(word) if NOT_OPERANDS.contains(&word.as_str()) => return start,
            Tok::Str { .. } => {
                at += 1;
                // Texts that stand beside each other are one in Python.
                while self.language == Language::Python
                    && matches!(tokens.get(at), Some(Token { tok: Tok::Str { .. }, indent: None, .. }))
                {
                    at += 1;
                }
            }
            _ => at += 1,
        }
        loop {
            let Some(token) = tokens.get(at) else { return at };
            match &token.tok {
                Tok::Punct(".") if self.language != Language::Php && self.word(stream, at + 1).is_some() => {
                    at += 2
                }
                Tok::Punct("?.") => at += if self.word(stream, at + 1).is_some() { 2 } else { 1 },
                Tok::Punct("->" | "::" | "?->") if self.language == Language::Php => at += 2,
                Tok::Punct("(" | "[")
                    if token.indent.is_none()
                        && !(self.language == Language::Js
                            && token.is("[")
                            && token.line > tokens[at - 1].line) =>
                {
                    at = self.pair(stream, at).max(at) + 1;
                }
                Tok::Punct("!") if self.language == Language::Js && self.is(stream, at + 1, ".") => at += 1,
                Tok::Str { template: true, .. } if self.is_tagged(stream, at) => at += 1,
                _ => return at,
            }
        }
    }

    /// Whether a template has a tag, which gets its values apart from its text.
    fn is_tagged(&self, stream: usize, at: usize) -> bool {
        let Some(Token { tok: Tok::Str { template: true, .. }, line, .. }) = self.token(stream, at) else {
            return false;
        };
        let Some(before) = at.checked_sub(1).and_then(|at| self.token(stream, at)) else { return false };
        match &before.tok {
            Tok::Word(word) if NOT_OPERANDS.contains(&word.as_str()) => false,
            Tok::Word(word) => {
                let object = at.checked_sub(3).and_then(|at| self.word(stream, at));
                !(word == "raw" && object == Some("String")) && before.line == *line
            }
            Tok::Punct(")" | "]") => before.line == *line,
            // sql<Row[]>`…`
            Tok::Punct(">") => {
                (at.saturating_sub(20)..at).rev().find(|at| self.is(stream, *at, "<")).is_some_and(|open| {
                    self.word(stream, open.wrapping_sub(1)).is_some() && before.line == *line
                })
            }
            _ => false,
        }
    }

    /// The parts of an expression between such punctuation.
    fn split(&self, expr: &Expr, by: &[&str]) -> Vec<Expr> {
        let mut parts = Vec::new();
        let mut start = expr.range.start;
        let mut at = start;
        while at < expr.range.end {
            let Some(token) = self.token(expr.stream, at) else { break };
            if ["(", "[", "{"].iter().any(|open| token.is(open)) {
                at = self.pair(expr.stream, at).max(at) + 1;
                continue;
            }
            let matches = by.iter().any(|by| token.is(by) || token.word() == Some(by));
            let unary =
                matches && (at == start || !ends_operand(&self.streams[expr.stream][at - 1])) && by != [","];
            if matches && !unary {
                parts.push(Expr { stream: expr.stream, range: start..at });
                start = at + 1;
            }
            at += 1;
        }
        if start < expr.range.end {
            parts.push(Expr { stream: expr.stream, range: start..expr.range.end });
        }
        parts
    }

    fn worst(&self, parts: &[Expr], depth: usize) -> Safety {
        parts.iter().map(|part| self.value(part, depth + 1)).max().unwrap_or(Safety::Safe)
    }

    /// How dangerous a value is.
    fn value(&self, expr: &Expr, depth: usize) -> Safety {
        let left = self.patience.get();
        if left == 0 || depth > 40 {
            return Safety::Unknown;
        }
        self.patience.set(left - 1);
        let Expr { stream, range } = expr;
        let (stream, mut start, end) = (*stream, range.start, range.end);
        while self.token(stream, start).is_some_and(|token| {
            ["...", "*", "**", "&", "@"].iter().any(|mark| token.is(mark))
                || matches!(token.word(), Some("await" | "yield" | "new"))
        }) && start < end
        {
            start += 1;
        }
        if start >= end {
            return Safety::Safe;
        }
        let expr = &Expr { stream, range: start..end };
        let parts = self.split(expr, &[","]);
        if parts.len() > 1 {
            return self.worst(&parts, depth);
        }
        let only = |parts: Vec<Expr>, which: &[usize]| {
            which
                .iter()
                .filter_map(|at| parts.get(*at))
                .map(|part| self.value(part, depth + 1))
                .max()
                .unwrap_or(Safety::Safe)
        };
        // A function is no value of SQL.
        if self.split(expr, &["=>"]).len() > 1 {
            return Safety::Unknown;
        }
        if self.language == Language::Python {
            let parts = self.split(expr, &["for"]);
            if parts.len() > 1 {
                return only(parts, &[0]);
            }
            let parts = self.split(expr, &["if", "else"]);
            if parts.len() == 3 {
                return only(parts, &[0, 2]);
            }
            let parts = self.split(expr, &["or", "and"]);
            if parts.len() > 1 {
                return self.worst(&parts, depth);
            }
        } else {
            let parts = self.split(expr, &["?"]);
            if parts.len() > 1 {
                let rest = Expr { stream, range: parts[1].range.start..end };
                return self.worst(&self.split(&rest, &[":"]), depth);
            }
            let parts = self.split(expr, &["as", "satisfies"]);
            if parts.len() > 1 && self.language == Language::Js {
                return only(parts, &[0]);
            }
        }
        let parts = self.split(expr, &["??", "||"]);
        if parts.len() > 1 {
            return self.worst(&parts, depth);
        }
        let parts = self.split(expr, &["&&"]);
        if parts.len() > 1 {
            return only(parts, &[1, 2, 3]);
        }
        if self.split(expr, &["===", "!==", "==", "!=", "<=", ">=", "in", "instanceof", "not", "is"]).len()
            > 1
        {
            return Safety::Safe;
        }
        let plus: &[&str] = if self.language == Language::Php { &["."] } else { &["+"] };
        let parts = self.split(expr, plus);
        if parts.len() > 1 {
            // What the reader of placeholders knows: `'$' + n`.
            let dollar = |part: &Expr| {
                part.range.len() == 1 && self.flat_text(part).is_some_and(|text| text.ends_with('$'))
            };
            let mut worst = Safety::Safe;
            for (number, part) in parts.iter().enumerate() {
                if number == 0 || !dollar(&parts[number - 1]) {
                    worst = worst.max(self.value(part, depth + 1));
                }
            }
            return worst;
        }
        match self.language {
            Language::Python => {
                let parts = self.split(expr, &["*", "%"]);
                if parts.len() > 1 {
                    return self.worst(&parts, depth);
                }
                if self.split(expr, &["-", "/", "//", "**"]).len() > 1 {
                    return Safety::Safe;
                }
            }
            _ => {
                if self.split(expr, &["-", "*", "/", "%", "**"]).len() > 1 {
                    return Safety::Safe; // arithmetic gives numbers
                }
            }
        }
        self.postfix(expr, depth)
    }

    fn flat_text(&self, expr: &Expr) -> Option<String> {
        match &self.token(expr.stream, expr.range.start)?.tok {
            Tok::Str { pieces, .. } => Some(flat(pieces)),
            _ => None,
        }
    }

    /// A value with fields, calls and indexes behind it.
    fn postfix(&self, expr: &Expr, depth: usize) -> Safety {
        let stream = expr.stream;
        let (mut start, end) = (expr.range.start, expr.range.end);
        while ["!", "-", "+", "~"].iter().any(|unary| self.is(stream, start, unary)) && start < end {
            start += 1;
        }
        if start > expr.range.start {
            return Safety::Safe; // a number or a yes
        }
        // `(int) $id`
        if self.language == Language::Php
            && self.is(stream, start, "(")
            && self.is(stream, start + 2, ")")
            && start + 3 < end
        {
            match self.word(stream, start + 1) {
                Some("int" | "integer" | "float" | "bool") => return Safety::Safe,
                Some("string" | "array") => {
                    return self.value(&Expr { stream, range: start + 3..end }, depth + 1);
                }
                _ => {}
            }
        }
        // The segments, from the back.
        let mut first = start + 1;
        let opening =
            self.token(stream, start).is_some_and(|token| ["(", "[", "{"].iter().any(|open| token.is(open)));
        if opening {
            first = self.pair(stream, start).max(start) + 1;
        }
        while self.language == Language::Python
            && matches!(self.token(stream, first).map(|token| &token.tok), Some(Tok::Str { .. }))
            && first < end
        {
            first += 1;
        }
        let mut segments: Vec<Range<usize>> = Vec::new();
        let mut at = first;
        while at < end {
            let token_end = match self.token(stream, at).map(|token| &token.tok) {
                Some(Tok::Punct("." | "?." | "->" | "::" | "?->")) if self.word(stream, at + 1).is_some() => {
                    at + 2
                }
                Some(Tok::Punct("(" | "[")) => self.pair(stream, at).max(at) + 1,
                Some(Tok::Punct("!" | "?.")) => {
                    at += 1;
                    continue;
                }
                Some(Tok::Str { template: true, .. }) => at + 1,
                _ => return Safety::Unknown,
            };
            segments.push(at..token_end);
            at = token_end;
        }
        self.segments(stream, start..first, &segments, depth)
    }

    fn segments(&self, stream: usize, base: Range<usize>, segments: &[Range<usize>], depth: usize) -> Safety {
        let Some((last, rest)) = segments.split_last() else { return self.primary(stream, base, depth) };
        if depth > 40 {
            return Safety::Unknown;
        }
        let receiver = |rest: &[Range<usize>]| self.segments(stream, base.clone(), rest, depth + 1);
        let name = self.word(stream, base.start).unwrap_or_default();
        if matches!(self.token(stream, last.start).map(|token| &token.tok), Some(Tok::Str { .. })) {
            return Safety::Safe; // a tagged template is a statement of its own
        }
        if self.is(stream, last.start, "[") {
            return match receiver(rest) {
                Safety::Unsafe => Safety::Unsafe,
                other => other,
            };
        }
        if !self.is(stream, last.start, "(") {
            let field = self.word(stream, last.start + 1).unwrap_or_default();
            if ["length", "size", "pid", "rowCount", "__name__", "__tablename__", "_meta", "db_table"]
                .contains(&field)
                || is_constant(field)
                || is_own_name(field)
                || self.language == Language::Php
                    && self.is(stream, last.start, "::")
                    && !field.starts_with('$')
            {
                return Safety::Safe;
            }
            let own = rest.is_empty() && ["this", "self", "cls", "$this", "static"].contains(&name);
            if own {
                return if is_fragment(field) { Safety::Unknown } else { Safety::Unsafe };
            }
            let safety = receiver(rest);
            return if safety == Safety::Unsafe
                && is_fragment(field)
                && !is_request(name)
                && !self.is_given(stream, base.start)
            {
                Safety::Unknown
            } else {
                safety
            };
        }
        // A call.
        let arguments =
            Expr { stream, range: last.start + 1..last.end.saturating_sub(1).max(last.start + 1) };
        let (callee, object) = match rest.split_last() {
            Some((field, object))
                if !self.is(stream, field.start, "(") && !self.is(stream, field.start, "[") =>
            {
                (self.word(stream, field.start + 1).unwrap_or_default(), Some(object))
            }
            Some(_) => ("", None),
            None => (name, None),
        };
        if is_quoting(callee) || is_numeric(callee) || name == "Math" || name == "os" && callee != "getenv" {
            return Safety::Safe;
        }
        let split = self.split(&arguments, &[","]);
        let callback =
            |at: usize| split.get(at).map_or(Safety::Unknown, |expr| self.callback(expr, depth + 1));
        match callee {
            "map" | "flatMap" if object.is_some() => return callback(0),
            "map" | "array_map" => return callback(0),
            "from" if name == "Array" && split.len() > 1 => return callback(1),
            "fill" => return self.worst(&split, depth),
            "array_fill" => return split.get(2).map_or(Safety::Safe, |value| self.value(value, depth + 1)),
            "str_repeat" | "repeat" if object.is_none() => {
                return split.first().map_or(Safety::Safe, |value| self.value(value, depth + 1));
            }
            "repeat" | "filter" | "find" | "sort" | "slice" | "get" | "at" | "split" => {
                if let Some(object) = object {
                    let fallback = if callee == "get" && split.len() > 1 {
                        self.value(&split[1], depth + 1)
                    } else {
                        Safety::Safe
                    };
                    return receiver(object).max(fallback);
                }
            }
            "reduce" => return Safety::Unknown,
            "replace" | "replaceAll" | "str_replace" | "preg_replace" => {
                // It may well clean: that is not seen here.
                let parts = object.map_or_else(
                    || self.worst(&split, depth),
                    |object| receiver(object).max(self.worst(&split, depth)),
                );
                return parts.min(Safety::Unknown);
            }
            _ => {}
        }
        if is_passing(callee) {
            let given = self.worst(&split, depth);
            // `Object.keys(x)` and `String(x)` are what they are given.
            let plain = ["Object", "String", "Array", "JSON"].contains(&name);
            return object.filter(|_| !plain).map_or(given, |object| receiver(object).max(given));
        }
        if (object.is_none() || ["this", "self", "$this", "cls"].contains(&name))
            && let Some(returns) = self.returns.get(callee)
        {
            // What it gives is looked at with any arguments: where it builds SQL itself, that is told there.
            if returns.is_empty() || !self.busy.borrow_mut().insert(format!("{callee}()")) {
                return Safety::Unknown;
            }
            let safety = self.worst(returns, depth).min(Safety::Unknown);
            self.busy.borrow_mut().remove(&format!("{callee}()"));
            return safety;
        }
        let scope = self.scopes[stream].get(base.start).copied().unwrap_or(0);
        let imported = self.lookup(name, scope).iter().any(|each| matches!(each.value, Value::Import));
        if imported && !is_request(name) || is_fragment(callee) { Safety::Unknown } else { Safety::Unsafe }
    }

    /// Whether a name is what a caller gives.
    fn is_given(&self, stream: usize, at: usize) -> bool {
        let scope = self.scopes[stream].get(at).copied().unwrap_or(0);
        self.word(stream, at).is_some_and(|name| {
            self.lookup(name, scope).iter().any(|each| matches!(each.value, Value::Param))
        })
    }

    /// What a function that is given to `map` gives back.
    fn callback(&self, expr: &Expr, depth: usize) -> Safety {
        let parts = self.split(expr, &["=>"]);
        if parts.len() > 1 {
            let body = Expr { stream: expr.stream, range: parts[1].range.start..expr.range.end };
            if self.is(body.stream, body.range.start, "{") {
                let returns = (body.range.clone())
                    .filter(|at| self.word(body.stream, *at) == Some("return"))
                    .map(|at| Expr { stream: body.stream, range: at + 1..self.end_of(body.stream, at + 1) });
                return self.worst(&returns.collect::<Vec<_>>(), depth);
            }
            return self.value(&body, depth);
        }
        if self.word(expr.stream, expr.range.start) == Some("lambda") {
            let parts = self.split(expr, &[":"]);
            return parts.get(1).map_or(Safety::Unknown, |body| self.value(body, depth));
        }
        let name = self.word(expr.stream, expr.range.end.saturating_sub(1)).unwrap_or_default();
        if is_quoting(name) || is_numeric(name) { Safety::Safe } else { Safety::Unknown }
    }

    fn primary(&self, stream: usize, range: Range<usize>, depth: usize) -> Safety {
        let Some(token) = self.token(stream, range.start) else { return Safety::Unknown };
        match &token.tok {
            Tok::Number | Tok::Regex => Safety::Safe,
            Tok::Punct("(" | "[" | "{") => {
                let inner =
                    Expr { stream, range: range.start + 1..range.end.saturating_sub(1).max(range.start + 1) };
                let pairs = self.split(&inner, &[","]);
                // Of `key: value` and `key => value` it is the value; a key is a name somebody wrote.
                let values: Vec<Expr> = pairs
                    .iter()
                    .map(|pair| {
                        let parts =
                            self.split(pair, if self.language == Language::Php { &["=>"] } else { &[":"] });
                        match (token.is("(") || parts.len() < 2, parts.get(1)) {
                            (false, Some(value)) => Expr { stream, range: value.range.start..pair.range.end },
                            _ => pair.clone(),
                        }
                    })
                    .collect();
                self.worst(&values, depth)
            }
            Tok::Punct(_) => Safety::Unknown,
            Tok::Str { .. } => {
                if self.is_tagged(stream, range.start) {
                    return Safety::Safe;
                }
                let mut worst = Safety::Safe;
                for at in range {
                    let Some(Token { tok: Tok::Str { pieces, .. }, .. }) = self.token(stream, at) else {
                        break;
                    };
                    let mut before = String::new();
                    for piece in pieces {
                        match piece {
                            Piece::Text(text) => before = text.clone(),
                            Piece::Hole(_) if before.ends_with('$') => {}
                            Piece::Hole(hole) => {
                                let all = 0..self.streams.get(*hole).map_or(0, Vec::len);
                                worst = worst.max(self.value(&Expr { stream: *hole, range: all }, depth + 1));
                            }
                        }
                    }
                }
                worst
            }
            Tok::Word(name) => self.name(name, stream, range.start, depth),
        }
    }

    fn name(&self, name: &str, stream: usize, at: usize, depth: usize) -> Safety {
        if ["true", "false", "null", "None", "undefined", "True", "False", "NULL", "TRUE", "FALSE"]
            .contains(&name)
        {
            return Safety::Safe;
        }
        let scope = self.scopes[stream].get(at).copied().unwrap_or(0);
        let bindings = self.lookup(name, scope);
        if bindings.is_empty() {
            let constant = is_constant(name) || self.language == Language::Php && !name.starts_with('$');
            return if constant && !is_request(name) { Safety::Safe } else { Safety::Unsafe };
        }
        let key = format!("{name}@{scope}");
        if !self.busy.borrow_mut().insert(key.clone()) {
            return Safety::Safe; // it is made of itself and of what else it is made of
        }
        let safety = bindings
            .iter()
            .map(|binding| match &binding.value {
                Value::Param => Safety::Unsafe,
                // A constant of another file: whoever wrote it, wrote it there.
                // Flask and Bottle give what a stranger sent under a name that is imported.
                Value::Import if self.language == Language::Python && name == "request" => Safety::Unsafe,
                Value::Import => Safety::Safe,
                Value::Is(expr) if expr.range.is_empty() => Safety::Safe,
                Value::Is(expr) => self.value(expr, depth + 1),
                Value::Of(expr) => {
                    let safety = self.value(expr, depth + 1);
                    // `const { where, values } = conditions(filter)`
                    let built = is_fragment(name)
                        && self.streams[expr.stream]
                            .get(expr.range.end.wrapping_sub(1))
                            .is_some_and(|token| token.is(")"));
                    if built { safety.min(Safety::Unknown) } else { safety }
                }
            })
            .max()
            .unwrap_or(Safety::Unknown);
        self.busy.borrow_mut().remove(&key);
        safety
    }
}

fn ends_operand(token: &Token) -> bool {
    match &token.tok {
        Tok::Punct(punct) => matches!(*punct, ")" | "]" | "}"),
        Tok::Word(word) => !NOT_OPERANDS.contains(&word.as_str()),
        _ => true,
    }
}

fn pairs(tokens: &[Token]) -> Vec<usize> {
    let mut pairs: Vec<usize> = (0..tokens.len()).collect();
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.tok {
            Tok::Punct("(" | "[" | "{") => open.push(at),
            Tok::Punct(")" | "]" | "}") => {
                if let Some(start) = open.pop() {
                    pairs[start] = at;
                    pairs[at] = start;
                }
            }
            _ => {}
        }
    }
    pairs
}

fn flat(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| if let Piece::Text(text) = piece { text.as_str() } else { "\0" }).collect()
}

/// Whether a text, with NUL where values are put in, is SQL or the end of some.
fn is_sql(text: &str) -> bool {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(' || c == ';');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, rest)| rest);
        } else {
            break;
        }
    }
    let rest: String = rest.chars().take(4000).collect();
    let words: Vec<&str> = rest
        .split(|c: char| c.is_whitespace() || "(),;".contains(c))
        .filter(|word| !word.is_empty())
        .take(400)
        .collect();
    let Some(first) = words.first() else { return false };
    // Keywords are written all large or all small; `Select a file from the list` is for people.
    let upper = first.bytes().all(|byte| byte.is_ascii_uppercase());
    if !upper && !first.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return false;
    }
    let key = |at: usize, list: &[&str]| {
        words.get(at).is_some_and(|word| {
            list.iter().any(|each| {
                if upper { word.eq_ignore_ascii_case(each) } else { *word == each.to_ascii_lowercase() }
            })
        })
    };
    let has = |from: usize, list: &[&str]| (from..words.len()).find(|at| key(*at, list));
    let name = |at: usize| {
        words
            .get(at)
            .is_some_and(|word| word.chars().all(|c| c.is_alphanumeric() || "_.\"`[]\0:$%{}?".contains(c)))
    };
    match first.to_ascii_uppercase().as_str() {
        "SELECT" => match has(1, &["FROM"]) {
            // In small letters: `select id from users` and then the end, or what may come after a table.
            Some(from) if !upper => {
                words.len() > from + 1
                    && (words.len() == from + 2
                        || key(
                            from + 2,
                            &[
                                "WHERE", "ORDER", "JOIN", "LEFT", "INNER", "LIMIT", "GROUP", "AS", "USING",
                                "CROSS",
                            ],
                        )
                        || key(
                            from + 3,
                            &["WHERE", "ORDER", "JOIN", "LEFT", "INNER", "LIMIT", "GROUP", "ON"],
                        ))
            }
            Some(_) => true,
            None => upper && (words.len() < 4 || rest.contains(['\0', '(', '*'])),
        },
        "INSERT" => key(1, &["INTO", "IGNORE", "OR"]) && (upper || has(2, &["VALUES", "SELECT"]).is_some()),
        "REPLACE" | "MERGE" => upper && key(1, &["INTO"]),
        "UPDATE" => has(1, &["SET"]).is_some_and(|set| set > 1 && set < 6 && name(1)),
        "DELETE" => key(1, &["FROM"]) && (upper || words.len() == 3 || key(3, &["WHERE"])),
        "WITH" => {
            upper
                && has(1, &["AS"]).is_some()
                && has(1, &["SELECT", "INSERT", "UPDATE", "DELETE", "\0"]).is_some()
        }
        "CREATE" | "ALTER" | "DROP" | "TRUNCATE" => {
            upper
                && has(
                    1,
                    &[
                        "TABLE",
                        "INDEX",
                        "VIEW",
                        "SCHEMA",
                        "DATABASE",
                        "ROLE",
                        "USER",
                        "TRIGGER",
                        "FUNCTION",
                        "SEQUENCE",
                        "EXTENSION",
                    ],
                )
                .is_some_and(|at| at < 4)
                && words.len() < 400
        }
        "EXPLAIN" => upper && has(1, &["SELECT", "UPDATE", "DELETE", "INSERT"]).is_some(),
        "SET" => {
            upper && key(1, &["LOCAL", "SESSION", "search_path", "ROLE", "statement_timeout", "lock_timeout"])
        }
        "CALL" | "EXEC" | "EXECUTE" => upper && rest.contains('\0') && rest.contains('('),
        // The end of a statement whose beginning stands elsewhere.
        "WHERE" | "AND" | "OR" | "HAVING" => {
            upper
                && rest.contains('\0')
                && rest.split('\0').next().is_some_and(|before| {
                    let before = before.trim_end_matches(['\'', '"', '%', '(', ' ']).to_ascii_uppercase();
                    before.ends_with(['=', '<', '>'])
                        || ["LIKE", " IN", "BETWEEN"].iter().any(|end| before.ends_with(end))
                })
        }
        "ORDER" | "GROUP" => upper && key(1, &["BY"]) && rest.contains('\0'),
        "LIMIT" | "OFFSET" => {
            upper
                && rest.contains('\0')
                && words.len() <= 4
                && words.iter().all(|word| word.contains('\0') || *word == "LIMIT" || *word == "OFFSET")
        }
        "VALUES" => upper && rest.contains('\0') && text.contains('('),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(language: Language, code: &str) -> Option<Safety> {
        let found = File::read(language, code).statements();
        if found.statements == 0 && found.built.is_empty() {
            return None;
        }
        Some(found.built.iter().map(|(_, _, safety)| *safety).max().unwrap_or(Safety::Safe))
    }

    #[test]
    fn javascript() {
        for (code, safety) in [
            ("const f = (id) => db.query(`SELECT a FROM t WHERE id = ${id}`)", Safety::Unsafe),
            ("function f(req) { db.query('SELECT a FROM t WHERE id = ' + req.params.id) }", Safety::Unsafe),
            ("function f(b) { return 'DELETE FROM t WHERE n = \\'' + b.n + '\\'' }", Safety::Unsafe),
            (
                "function f(q) { const w = q ? `WHERE n = '${q}'` : ''; db.query(`SELECT a FROM t ${w}`) }",
                Safety::Unsafe,
            ),
            (
                "function f(b) { const s = []; for (const k of Object.keys(b)) s.push(k + \" = '\" + b[k] + \"'\"); db.query('UPDATE t SET ' + s.join(', ')) }",
                Safety::Unsafe,
            ),
            ("let sql = 'SELECT a FROM t'; function f(x) { sql += ' WHERE b = ' + x }", Safety::Unsafe),
            ("const f = (x) => 'SELECT a FROM t WHERE b = '.concat(x)", Safety::Unsafe),
            (
                "const f = (x) => db.query(['SELECT a FROM t WHERE b = ', x, ' LIMIT 5'].join(''))",
                Safety::Unsafe,
            ),
            ("const f = (x) => util.format('SELECT a FROM t WHERE b = %s', x)", Safety::Unsafe),
            ("const f = (x) => prisma.$queryRawUnsafe(`SELECT a FROM t WHERE b = ${x}`)", Safety::Unsafe),
            (
                "const f = async (o) => { const r = await load(o); db.query(`UPDATE t SET a = '${r.a}' WHERE id = 1`) }",
                Safety::Unsafe,
            ),
            (
                "const f = (req) => { const sort = req.query.sort; db.query(`SELECT a FROM t ORDER BY ${sort}`) }",
                Safety::Unsafe,
            ),
            ("const f = (id) => db.query('SELECT a FROM t WHERE id = $1', [id])", Safety::Safe),
            ("const f = (id) => db.query('SELECT a ' + 'FROM t ' +\n 'WHERE id = ?', [id])", Safety::Safe),
            (
                "const C = 'a, b'; const f = (id) => db.query(`SELECT ${C} FROM t WHERE id = $1`, [id])",
                Safety::Safe,
            ),
            (
                "import { COLUMNS, table } from './t.js'; const q = `SELECT ${COLUMNS} FROM ${table}`",
                Safety::Safe,
            ),
            ("const f = () => db.query(['SELECT a FROM t', 'WHERE b = $1'].join(' '), [1])", Safety::Safe),
            (
                "const f = (ids) => db.query(`SELECT a FROM t WHERE id IN (${ids.map((_, i) => `$${i + 1}`).join(', ')})`, ids)",
                Safety::Safe,
            ),
            (
                "const f = (ids) => { const marks = ids.map(() => '?').join(','); db.query(`SELECT a FROM t WHERE id IN (${marks})`, ids) }",
                Safety::Safe,
            ),
            (
                "const f = (d) => { const dir = d === 'asc' ? 'ASC' : 'DESC'; db.query(`SELECT a FROM t ORDER BY a ${dir}`) }",
                Safety::Safe,
            ),
            (
                "const BY = { name: 'n', date: 'd' }; const f = (s) => db.query(`SELECT a FROM t ORDER BY ${BY[s] ?? 'd'}`)",
                Safety::Safe,
            ),
            ("const f = (t) => db.query(`SELECT a FROM ${pg.escapeIdentifier(t)}`)", Safety::Safe),
            ("const f = (x) => sql`SELECT a FROM t WHERE id = ${x}`", Safety::Safe),
            ("const f = (req) => sql`SELECT a FROM t ORDER BY ${sql.raw(req.query.s)}`", Safety::Unsafe),
            ("const f = (x) => prisma.$queryRaw<Row[]>`SELECT a FROM t WHERE id = ${x}`", Safety::Safe),
            ("const f = (x) => prisma.$queryRaw(Prisma.sql`SELECT a FROM t WHERE id = ${x}`)", Safety::Safe),
            (
                "const f = (p) => { const w = []; const v = []; if (p.a) { v.push(p.a); w.push(`a = $${v.length}`) } return db.query(`SELECT a FROM t WHERE ${w.join(' AND ')}`, v) }",
                Safety::Safe,
            ),
            (
                "const f = (p) => { let sql = 'SELECT a FROM t'; if (p) { sql += ' WHERE a = $1' } return db.query(sql, [p]) }",
                Safety::Safe,
            ),
            ("const f = (n) => db.query(`SELECT a FROM t LIMIT ${Number(n)}`)", Safety::Safe),
            ("const f = (n) => db.query(format('SELECT a FROM %I WHERE b = %L', n, n))", Safety::Safe),
            ("for (const t of ['a', 'b']) { db.query(`TRUNCATE TABLE ${t}`) }", Safety::Safe),
            (
                "const f = (filter) => { const { where, values } = conditions(filter); db.query(`SELECT a FROM t ${where}`, values) }",
                Safety::Unknown,
            ),
            ("const f = (table) => db.query(`SELECT count(*) FROM ${table}`)", Safety::Unknown),
            ("const name = `x_${process.pid}`; db.query(`CREATE SCHEMA ${name}`)", Safety::Safe),
            (
                "class A { f() { return this.db.query(`SELECT a FROM ${this.tableName} WHERE id = ?`) } }",
                Safety::Safe,
            ),
        ] {
            assert_eq!(worst(Language::Js, code), Some(safety), "{code}");
        }
        for code in [
            "log(`Select ${n} files from the list`)",
            "throw new Error(`UPDATE failed for ${id}`)",
            "fetch(`/api/orders/${id}?select=a`, { method: 'DELETE' })",
            "const html = `<select name=${n}><option>from ${x}</option></select>`",
            "const r = /`SELECT a FROM ${/.test(x)",
            "// db.query(`SELECT a FROM t WHERE id = ${id}`)",
            "const p = <p>Don't select {x} from `here`</p>",
        ] {
            assert_eq!(worst(Language::Js, code), None, "{code}");
        }
    }

    #[test]
    fn python() {
        for (code, safety) in [
            (
                "async def f(member: int):\n    return await db.query(f\"SELECT * FROM members WHERE id = {member}\")\n",
                Safety::Unsafe,
            ),
            ("def f(c, n):\n    c.execute(\"SELECT a FROM t WHERE n = '%s'\" % n)\n", Safety::Unsafe),
            (
                "def f(c, n):\n    c.execute(\"SELECT a FROM t WHERE n = '%s' AND b = %s\" % (n, 1))\n",
                Safety::Unsafe,
            ),
            ("def f(c, n):\n    c.execute('SELECT a FROM t WHERE n = {}'.format(n))\n", Safety::Unsafe),
            ("def f(c, n):\n    c.execute('SELECT a FROM t WHERE n = {n}'.format(n=n))\n", Safety::Unsafe),
            ("def f(c, n):\n    q = 'SELECT a FROM t WHERE n = ' + n\n    c.execute(q)\n", Safety::Unsafe),
            (
                "def f(c, n):\n    c.execute(text('SELECT a '\n        f'FROM t WHERE n = {n}'))\n",
                Safety::Unsafe,
            ),
            ("def f(c, n):\n    q = 'SELECT a FROM t'\n    q += f' WHERE a = {n}'\n", Safety::Unsafe),
            (
                "def f(n):\n    return (\n        \"SELECT a FROM t\"\n        \" WHERE n = \" + str(n))\n",
                Safety::Unsafe,
            ),
            (
                "async def f(member: int):\n    row = await db.execute(\n        \"SELECT * FROM members WHERE id = :id\",\n        {\"id\": member}\n    )\n    return row\n",
                Safety::Safe,
            ),
            (
                "from flask import request\ndef f(c):\n    word = request.args.get('q', '')\n    c.execute(f\"SELECT a FROM t WHERE n LIKE '%{word}%'\")\n",
                Safety::Unsafe,
            ),
            (
                "from bottle import request\ndef f(c):\n    c.execute('SELECT a FROM t WHERE n = ' + request.query['n'])\n",
                Safety::Unsafe,
            ),
            (
                "from flask import request\ndef f(c):\n    c.execute('SELECT a FROM t WHERE n = ?', [request.args['n']])\n",
                Safety::Safe,
            ),
            ("def f(c, n):\n    c.execute('SELECT a FROM t WHERE n = %s', (n,))\n", Safety::Safe),
            ("def f(c, n):\n    c.execute('SELECT a FROM t WHERE n = ?', [n])\n", Safety::Safe),
            (
                "def f(c, ids):\n    marks = ', '.join(['%s'] * len(ids))\n    c.execute(f'SELECT a FROM t WHERE id IN ({marks})', ids)\n",
                Safety::Safe,
            ),
            (
                "def f(c, ids):\n    c.execute('SELECT a FROM t WHERE id IN (%s)' % ','.join('?' for _ in ids), ids)\n",
                Safety::Safe,
            ),
            ("TABLE = 't'\ndef f(c):\n    c.execute(f'SELECT a FROM {TABLE}')\n", Safety::Safe),
            (
                "BY = {'n': 'name'}\ndef f(c, s):\n    order = BY.get(s, 'id')\n    c.execute(f'SELECT a FROM t ORDER BY {order}')\n",
                Safety::Safe,
            ),
            (
                "def f(c, up):\n    way = 'ASC' if up else 'DESC'\n    c.execute(f'SELECT a FROM t ORDER BY a {way}')\n",
                Safety::Safe,
            ),
            (
                "def f(c, t):\n    c.execute(sql.SQL('SELECT a FROM {}').format(sql.Identifier(t)))\n",
                Safety::Safe,
            ),
            ("def f(c, n):\n    c.execute(f'SELECT a FROM t LIMIT {int(n)}')\n", Safety::Safe),
            ("for t in ('a', 'b'):\n    c.execute(f'DROP TABLE {t}')\n", Safety::Safe),
            ("def f(c, table):\n    c.execute(f'SELECT a FROM {table}')\n", Safety::Unknown),
        ] {
            assert_eq!(worst(Language::Python, code), Some(safety), "{code}");
        }
        for code in [
            "'''SELECT a FROM t WHERE x'''[0]\n",
            "print(f'Select {n} from {m}')\n",
            "# f'SELECT a FROM t WHERE id = {id}'\n",
        ] {
            assert!(worst(Language::Python, code).is_none_or(|safety| safety == Safety::Safe), "{code}");
        }
    }

    #[test]
    fn php() {
        for (code, safety) in [
            ("$db->query(\"SELECT a FROM t WHERE id = $id\");", Safety::Unsafe),
            ("$db->query(\"SELECT a FROM t WHERE id = {$_GET['id']}\");", Safety::Unsafe),
            ("$db->query('SELECT a FROM t WHERE id = ' . $_POST['id']);", Safety::Unsafe),
            ("$q = sprintf(\"SELECT a FROM t WHERE n = '%s'\", $n);", Safety::Unsafe),
            ("$q = 'SELECT a FROM t'; $q .= ' WHERE n = ' . $n;", Safety::Unsafe),
            ("$q = <<<SQL\nSELECT a FROM t WHERE n = '$n'\nSQL;\n", Safety::Unsafe),
            ("function f($o) { return \"UPDATE t SET a = '{$o->a}' WHERE id = 1\"; }", Safety::Unsafe),
            ("$s = $db->prepare('SELECT a FROM t WHERE id = ?'); $s->execute([$id]);", Safety::Safe),
            ("$s = $db->prepare('SELECT a FROM t WHERE id = :id');", Safety::Safe),
            (
                "$m = implode(',', array_fill(0, count($ids), '?')); $db->prepare(\"SELECT a FROM t WHERE id IN ($m)\");",
                Safety::Safe,
            ),
            (
                "$m = str_repeat('?,', count($ids) - 1) . '?'; $db->prepare(\"SELECT a FROM t WHERE id IN ($m)\");",
                Safety::Safe,
            ),
            ("$db->query('SELECT a FROM t WHERE id = ' . (int) $id);", Safety::Safe),
            ("$db->query('SELECT a FROM t WHERE n = ' . $db->quote($n));", Safety::Safe),
            ("$db->query(sprintf('SELECT a FROM t WHERE id = %d', $id));", Safety::Safe),
            (
                "class A { function f() { return \"SELECT a FROM {$this->table} WHERE id = ?\" . self::MORE; } }",
                Safety::Safe,
            ),
            (
                "$by = in_array($s, ['a', 'b'], true) ? 'a' : 'b'; $db->query(\"SELECT a FROM t ORDER BY $by\");",
                Safety::Safe,
            ),
        ] {
            assert_eq!(worst(Language::Php, &format!("<?php {code}")), Some(safety), "{code}");
        }
    }

    #[test]
    fn rubbish_ends() {
        for code in [
            "SELECT `${",
            "const a = b; const b = a; x(`SELECT ${a} FROM t`)",
            "((((`",
            "f(`SELECT ${a",
            "'SELECT a FROM t' +",
        ] {
            for language in [Language::Js, Language::Python, Language::Php] {
                let _ = worst(language, code);
            }
        }
        for many in [
            "a + ",
            "'a' + ",
            "a = ",
            "((a) => ",
            "a.b",
            "[",
            "f(a, ",
            "'SELECT a FROM t WHERE b = ' + c + ",
            "const a = a; ",
            "`${a}` + ",
            "f'{a}' ",
        ] {
            for language in [Language::Js, Language::Python, Language::Php] {
                let _ = worst(language, &format!("<?php {}", many.repeat(3_000)));
            }
        }
        let deep =
            format!("q(`SELECT a FROM t WHERE b = ${{{}x{}}}`)", "(".repeat(20_000), ")".repeat(20_000));
        assert_eq!(worst(Language::Js, &deep), Some(Safety::Unknown));
    }
}
