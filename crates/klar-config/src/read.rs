//! Reads one section of the table out of a parsed file: names, types, bounds, defaults, and where each came from.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use klar_base::EnvName;

use crate::fault::Fault;
use crate::provenance::{Origin, Setting};
use crate::suggest::{self, quote};
use crate::table::{Key, Kind, Preset, Section};
use crate::tree::{self, Data, Entry, Node, Table, toml_key};
use crate::values::{Role, Value};

/// What defaults may depend on: the whole file after the environment was laid over it, and the app's folder.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) root: Table,
    pub(crate) env: EnvName,
    pub(crate) sqlite: Vec<PathBuf>,
}

impl Facts {
    /// What the service called `name` does, as far as the file lets us know.
    pub(crate) fn role(&self, name: &str) -> Role {
        self.root
            .get_table("services")
            .and_then(|services| services.get_table(name))
            .map_or(Role::Web, Role::of)
    }

    /// The databases in files that the app uses, unless it declares a PostgreSQL store instead.
    pub(crate) fn sqlite_in_use(&self) -> &[PathBuf] {
        let postgres = self.root.get_table("data").is_some_and(|data| {
            data.entries
                .iter()
                .any(|store| store.node.table().is_some_and(|store| store.get("redis").is_none()))
        });
        if postgres { &[] } else { &self.sqlite }
    }
}

/// How many mistakes one reading collects.
const FAULTS_MAX: usize = 200;

/// The state of one reading: where we are, and what was found so far.
pub(crate) struct Reader<'a> {
    pub(crate) facts: &'a Facts,
    /// Whether this is an environment's table on its own: what is missing may stand in the rest of the file.
    pub(crate) partial: bool,
    pub(crate) path: Vec<String>,
    pub(crate) faults: Vec<Fault>,
    /// Values that must not be quoted.
    pub(crate) hidden: Vec<Range<usize>>,
    /// Settings by path; the origin of those from the file is the span of their key.
    pub(crate) settings: BTreeMap<String, (Option<String>, Whence)>,
    /// Whether the value being read is an item of a list.
    pub(crate) in_list: bool,
    /// Names that were not known, but whose meaning is clear: the key they stand for is not missing.
    misspelt: Vec<(Vec<String>, &'static str)>,
}

/// Where a setting comes from, before spans become lines.
#[derive(Debug, Clone)]
pub(crate) enum Whence {
    Default(String),
    File { at: usize, overridden: bool },
}

impl Whence {
    pub(crate) fn resolve(
        self,
        value: Option<String>,
        env: &EnvName,
        source: &crate::source::Source,
    ) -> Setting {
        let origin = match self {
            Self::Default(because) => Origin::Default { because },
            Self::File { at, overridden } => {
                let place = source.position(at);
                let (line, column) = (place.line, place.column);
                if overridden {
                    Origin::Environment { env: env.clone(), line, column }
                } else {
                    Origin::File { line, column }
                }
            }
        };
        Setting { value, origin }
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(facts: &'a Facts, partial: bool) -> Self {
        Self {
            facts,
            partial,
            path: Vec::new(),
            faults: Vec::new(),
            hidden: Vec::new(),
            settings: BTreeMap::new(),
            in_list: false,
            misspelt: Vec::new(),
        }
    }

    /// Reads something below `name`.
    pub(crate) fn within<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(name.to_owned());
        let result = read(self);
        self.path.pop();
        result
    }

    /// The path of `key` here, as a user would write it.
    pub(crate) fn path_of(&self, key: &str) -> String {
        join(self.path.iter().map(String::as_str).chain([key]))
    }

    /// The path of the table we are in.
    pub(crate) fn here(&self) -> String {
        join(self.path.iter().map(String::as_str))
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        if !self.is_full() {
            self.faults.push(fault);
        }
    }

    /// Whether so much is wrong that more would help nobody.
    fn is_full(&self) -> bool {
        self.faults.len() >= FAULTS_MAX
    }

    /// Never quote the value of this node.
    pub(crate) fn hide(&mut self, node: &Node) {
        self.hidden.push(node.span.clone());
    }

    pub(crate) fn record(&mut self, path: String, value: Option<String>, from: Whence) {
        if !self.partial {
            self.settings.insert(path, (value, from));
        }
    }

    /// Reports every name in `table` that is no key of `section`.
    pub(crate) fn check_names(&mut self, table: &Table, section: &'static Section) {
        for entry in table.entries.iter().filter(|entry| section.key(&entry.key).is_none()) {
            self.unknown(entry, section);
        }
    }

    fn unknown(&mut self, entry: &Entry, section: &'static Section) {
        if self.is_full() {
            return;
        }
        let meant = section
            .keys
            .iter()
            .find(|key| key.aliases.contains(&entry.key.to_ascii_lowercase().as_str()))
            .map(|key| key.name)
            .or_else(|| suggest::nearest(&entry.key, section.keys.iter().map(|key| key.name)));
        let hint = match meant {
            Some(meant) => {
                self.misspelt.push((self.path.clone(), meant));
                format!("did you mean {}?", quote(meant))
            }
            None => {
                let known: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
                format!(
                    "the keys of {} are {}",
                    section.noun,
                    suggest::one_of(known).replace(" or ", " and ")
                )
            }
        };
        let message = format!("unknown key {} in [{}]", quote(&entry.key), self.here());
        let label = format!("not a key of {}", section.noun);
        self.fault(Fault::new(message).at(entry.key_span.clone(), label).hint(hint));
    }

    /// Whether `key` was written here under a name that is close enough.
    pub(crate) fn is_misspelt(&self, key: &str) -> bool {
        self.misspelt.iter().any(|(path, meant)| *path == self.path && *meant == key)
    }

    /// `meant` was written in the table at `path`, under another name or in the wrong place.
    pub(crate) fn note_misspelt(&mut self, path: Vec<String>, meant: &'static str) {
        self.misspelt.push((path, meant));
    }

    fn expectation(&self, key: &Key) -> String {
        let path = quote(&self.path_of(key.name));
        match (self.in_list, key.kind) {
            (true, Kind::List(item)) => format!("each item of {path} must be {}", item.words()),
            _ => format!("{path} must be {}", key.expected()),
        }
    }

    /// The value is of another type than the key takes.
    pub(crate) fn wrong_type(&mut self, key: &Key, node: &Node) {
        let name = key.name;
        let text = node.to_toml();
        let short = text.len() <= 60;
        let hint = match (&key.kind, &node.data) {
            (kind, Data::Text(number)) if kind.is_number() && number.parse::<i64>().is_ok() => {
                format!("remove the quotes: `{name} = {number}`")
            }
            (Kind::Bool, Data::Text(word)) if matches!(word.as_str(), "true" | "false") => {
                format!("remove the quotes: `{name} = {word}`")
            }
            (Kind::Period, Data::Integer(number)) if *number >= 0 => {
                format!("say the unit: `{name} = \"{number}s\"`")
            }
            (Kind::Size, Data::Integer(number)) if *number >= 0 => {
                let unit = if *number < 4096 { "MiB" } else { "B" };
                format!("say the unit: `{name} = \"{number}{unit}\"`")
            }
            (Kind::List(item), Data::Text(_)) if short && item.is_text() => {
                format!("put it in brackets: `{name} = [{text}]`")
            }
            (Kind::Text { what: "a command", .. }, Data::List(words)) if short => {
                let words: Vec<&str> = words.iter().filter_map(Node::text).collect();
                format!("write it as in a terminal: `{name} = {}`", tree::toml_string(&words.join(" ")))
            }
            _ => format!("for instance `{}`", key.example),
        };
        let message = self.expectation(key);
        self.fault(
            Fault::new(message).at(node.span.clone(), format!("this is {}", node.data.noun())).hint(hint),
        );
    }

    /// The value has the right type, but cannot be used.
    pub(crate) fn bad_value(
        &mut self,
        key: &Key,
        node: &Node,
        label: impl Into<String>,
        hint: Option<String>,
    ) {
        let message = self.expectation(key);
        let hint = hint.unwrap_or_else(|| format!("for instance `{}`", key.example));
        self.fault(Fault::new(message).at(node.span.clone(), label).hint(hint));
    }
}

/// Joins the parts of a path, quoting those that TOML would quote.
pub fn join<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    parts.into_iter().map(toml_key).collect::<Vec<_>>().join(".")
}

/// The value of a key that is there; `Err` when it is not.
fn present<T: Value>(key: &'static Key, table: &Table, cx: &mut Reader<'_>) -> Result<Option<T>, ()> {
    let Some(entry) = table.entry(key.name) else { return Err(()) };
    let path = cx.path_of(key.name);
    let from = Whence::File { at: entry.key_span.start, overridden: entry.node.overridden };
    cx.record(path, Some(entry.node.to_toml()), from);
    Ok(T::read(&entry.node, key, cx))
}

/// A key that must be there.
pub(crate) fn required<T: Value>(key: &'static Key, table: &Table, cx: &mut Reader<'_>) -> Option<T> {
    if let Ok(value) = present(key, table, cx) {
        return value;
    }
    if !cx.partial && !cx.is_misspelt(key.name) {
        let fault = Fault::new(format!("{} is missing", quote(&cx.path_of(key.name))));
        let why = match key.preset {
            Preset::Required(why) => why,
            _ => "it is needed",
        };
        let fault = if table.span.is_empty() {
            fault.hint(format!("add `{}` under `[{}]`: {why}", key.example, cx.here()))
        } else {
            fault.at(table.span.clone(), why).hint(format!("add `{}`", key.example))
        };
        cx.fault(fault);
    }
    None
}

/// A key with a default that is always the same.
pub(crate) fn fixed<T: Value>(key: &'static Key, table: &Table, cx: &mut Reader<'_>) -> Option<T> {
    if let Ok(value) = present(key, table, cx) {
        return value;
    }
    let Preset::Fixed(toml) = key.preset else { return None };
    let path = cx.path_of(key.name);
    cx.record(path, Some(toml.into()), Whence::Default("built in".into()));
    T::read(&default_node(toml)?, key, cx)
}

/// A default that follows from something: the value, how it is written, and why.
pub(crate) struct Computed<T> {
    pub(crate) value: T,
    pub(crate) toml: String,
    pub(crate) because: String,
}

/// A key with a default that depends on the rest of the file or on the app.
pub(crate) fn computed<T: Value>(
    key: &'static Key,
    table: &Table,
    cx: &mut Reader<'_>,
    by: fn(&Table, &Reader<'_>) -> Computed<T>,
) -> Option<T> {
    if let Ok(value) = present(key, table, cx) {
        return value;
    }
    let Computed { value, toml, because } = by(table, cx);
    let path = cx.path_of(key.name);
    cx.record(path, Some(toml), Whence::Default(because));
    Some(value)
}

/// A key that may be left out.
pub(crate) fn absent<T: Value>(key: &'static Key, table: &Table, cx: &mut Reader<'_>) -> Option<Option<T>> {
    if let Ok(value) = present(key, table, cx) {
        return value.map(Some);
    }
    let Preset::Absent(meaning) = key.preset else { return None };
    let path = cx.path_of(key.name);
    cx.record(path, None, Whence::Default(meaning.into()));
    Some(None)
}

/// The TOML of a default as a node.
pub(crate) fn default_node(toml: &str) -> Option<Node> {
    let (mut table, errors) = tree::parse(&format!("x = {toml}"));
    if errors.is_empty() { table.entries.pop().map(|entry| entry.node) } else { None }
}

/// Reads a section from nothing at all.
///
/// # Panics
/// When a section without required keys cannot be built from its own defaults; a test reads each of them.
pub(crate) fn blank<T>(read: impl FnOnce(&mut Reader<'_>) -> Option<T>) -> T {
    let facts = Facts::default();
    read(&mut Reader::new(&facts, false)).expect("a section's defaults fit its own keys")
}
