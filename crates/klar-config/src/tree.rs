//! A parsed `klar.toml`: values that know where they stand, in the order in which they were written.
//!
//! The parser recovers, so one reading reports every mistake of syntax. Environments are laid over the rest here
//! ([`Table::overlay`]), before anything is typed: what is checked is what will run.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// One value.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) data: Data,
    pub(crate) span: Range<usize>,
    /// Whether an `[env.NAME]` table says so, and not the rest of the file.
    pub(crate) overridden: bool,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// A date, or a number too large to be one: as written, klar has no key that takes it.
    Other(&'static str),
    List(Vec<Node>),
    Table(Table),
}

impl Data {
    /// What to call it in a sentence.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with decimals",
            Self::Bool(_) => "true or false",
            Self::Other(noun) => noun,
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Keys with their values, in the order of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
    /// Where its header stands; empty for the file itself.
    pub(crate) span: Range<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Range<usize>,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn table(&self) -> Option<&Table> {
        match &self.data {
            Data::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn made(data: Data) -> Self {
        Self { data, span: 0..0, overridden: false }
    }

    fn override_all(&mut self) {
        self.overridden = true;
        match &mut self.data {
            Data::List(items) => items.iter_mut().for_each(Self::override_all),
            Data::Table(table) => table.entries.iter_mut().for_each(|entry| entry.node.override_all()),
            _ => {}
        }
    }

    /// The value on one line of TOML.
    pub(crate) fn to_toml(&self) -> String {
        match &self.data {
            Data::Text(text) => toml_string(text),
            Data::Integer(number) => number.to_string(),
            Data::Float(number) => number.to_string(),
            Data::Bool(value) => value.to_string(),
            Data::Other(noun) => (*noun).into(),
            Data::List(items) => {
                format!("[{}]", items.iter().map(Self::to_toml).collect::<Vec<_>>().join(", "))
            }
            Data::Table(table) if table.entries.is_empty() => "{}".into(),
            Data::Table(table) => {
                let entries = table.entries.iter();
                let entries =
                    entries.map(|entry| format!("{} = {}", toml_key(&entry.key), entry.node.to_toml()));
                format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl Table {
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    pub(crate) fn get_table(&self, key: &str) -> Option<&Table> {
        self.get(key).and_then(Node::table)
    }

    /// Lays `over` over this table: tables merge key by key, everything else is replaced.
    ///
    /// `alternatives` says which keys of the table at a path exclude each other; setting one removes the others,
    /// so that an environment may use `url` where the file says `postgres = "managed"`.
    pub(crate) fn overlay(&mut self, over: &Table, path: &mut Vec<String>, alternatives: &Alternatives<'_>) {
        let exclusive = alternatives(path);
        if let Some(chosen) = over.entries.iter().find(|entry| exclusive.contains(&&*entry.key)) {
            self.entries.retain(|entry| entry.key == chosen.key || !exclusive.contains(&&*entry.key));
        }
        for entry in &over.entries {
            path.push(entry.key.clone());
            let mine = self.entries.iter_mut().find(|mine| mine.key == entry.key);
            match (mine, &entry.node.data) {
                (Some(Entry { node: Node { data: Data::Table(mine), .. }, .. }), Data::Table(over)) => {
                    mine.overlay(over, path, alternatives);
                }
                (Some(mine), _) => {
                    *mine = entry.clone();
                    mine.node.override_all();
                }
                (None, _) => {
                    self.entries.push(entry.clone());
                    if let Some(last) = self.entries.last_mut() {
                        last.node.override_all();
                    }
                }
            }
            path.pop();
        }
    }
}

/// Which keys of the table at a path exclude each other.
pub(crate) type Alternatives<'a> = dyn Fn(&[String]) -> &'static [&'static str] + 'a;

/// A mistake of syntax, in the parser's words.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) message: String,
    pub(crate) span: Range<usize>,
}

/// Reads TOML. The table holds whatever could be understood, even when there are errors.
pub(crate) fn parse(text: &str) -> (Table, Vec<SyntaxError>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let errors = errors.iter().map(|error| SyntaxError {
        message: error.message().to_owned(),
        span: error.span().unwrap_or(text.len()..text.len()),
    });
    (from_table(table.get_ref(), 0..0), errors.collect())
}

fn from_table(table: &DeTable<'_>, span: Range<usize>) -> Table {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_span: key.span(),
            node: from_value(value.get_ref(), value.span()),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_span.start);
    Table { entries, span }
}

fn from_value(value: &DeValue<'_>, span: Range<usize>) -> Node {
    let data = match value {
        DeValue::String(text) => Data::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Data::Integer(number),
            Err(_) => Data::Other("a number beyond all bounds"),
        },
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Data::Float(number),
            _ => Data::Other("a number beyond all bounds"),
        },
        DeValue::Boolean(value) => Data::Bool(*value),
        DeValue::Datetime(_) => Data::Other("a date"),
        DeValue::Array(items) => {
            Data::List(items.iter().map(|item| from_value(item.get_ref(), item.span())).collect())
        }
        DeValue::Table(table) => Data::Table(from_table(table, span.clone())),
    };
    Node { data, span, overridden: false }
}

/// A key as TOML writes it: bare where it can be.
pub(crate) fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { key.into() } else { toml_string(key) }
}

/// A basic TOML string, quotes included.
pub(crate) fn toml_string(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
