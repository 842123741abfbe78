//! The table of keys: what a key, a kind and a section are, and the macro that declares them.
//!
//! A section is declared once, with `section!`, as a struct whose fields carry their type, default, bounds,
//! example and doc. From that one declaration come the typed struct, the validator with spans, the defaults,
//! `klar explain`, the JSON schema and the reference. To add a key, add a field in `keys.rs`; if its type is new,
//! say in `values.rs` how the type is read. Nothing else has to change.

use crate::values::Role;

/// What kind of value a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Text of a certain form: what it is in words, and a regular expression for editors.
    Text {
        /// As in "must be …".
        what: &'static str,
        /// What editors check; klar itself may check more.
        pattern: Option<&'static str>,
    },
    /// One of a few words.
    Choice(&'static [Choice]),
    /// A whole number.
    Integer,
    /// A number that may have decimals.
    Number,
    /// `true` or `false`.
    Bool,
    /// A length of time, as in `"30s"`.
    Period,
    /// A number of bytes, as in `"10MiB"`.
    Size,
    /// Any number of values of one kind.
    List(&'static Kind),
    /// A table whose keys the user names.
    Map {
        /// What a name may look like, in words.
        names: &'static str,
        /// The same for editors.
        pattern: &'static str,
        /// What each name leads to.
        values: &'static Kind,
    },
    /// A table with keys of its own.
    Table(&'static Section),
    /// Any of several kinds.
    Either(&'static [Kind]),
}

/// One of the words that a key takes, and what it does.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// As written in the file.
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// What holds when a key is left out.
#[derive(Debug, Clone, Copy)]
pub enum Preset {
    /// Nothing: the key must be there, for this reason.
    Required(&'static str),
    /// This value, as TOML.
    Fixed(&'static str),
    /// A value that follows from the rest of the file or from the app, by this rule.
    Computed(&'static str),
    /// No value; this is what klar does then.
    Absent(&'static str),
}

/// One key of `klar.toml`.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name within its section.
    pub name: &'static str,
    /// The path of its section, with `*` for names that the user chooses: `services.*`.
    pub section: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds when it is left out.
    pub preset: Preset,
    /// One paragraph for people.
    pub doc: &'static str,
    /// How it looks in a file.
    pub example: &'static str,
    /// The smallest value, as written in the file.
    pub min: Option<&'static str>,
    /// The largest value, as written in the file.
    pub max: Option<&'static str>,
    /// The services it means something for; empty for all.
    pub only: &'static [Role],
    /// What people call it who come from other tools.
    pub aliases: &'static [&'static str],
}

impl Key {
    #[doc(hidden)]
    pub const BLANK: Self = Self {
        name: "",
        section: "",
        kind: Kind::Bool,
        preset: Preset::Fixed("false"),
        doc: "",
        example: "",
        min: None,
        max: None,
        only: &[],
        aliases: &[],
    };

    /// The whole path, as in `services.*.health`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The doc as one paragraph without the line breaks of the source.
    pub fn summary(&self) -> String {
        paragraphs(self.doc)
    }

    /// What the value must be, in words that follow "must be".
    pub fn expected(&self) -> String {
        let range = match (self.min, self.max) {
            (Some(min), Some(max)) => format!(" from {min} to {max}"),
            (Some(min), None) => format!(" of {min} or more"),
            (None, Some(max)) => format!(" of at most {max}"),
            (None, None) => String::new(),
        };
        match self.kind {
            Kind::Either([first, others @ ..]) => {
                let others = others.iter().map(|kind| format!(", or {}", kind.words())).collect::<String>();
                format!("{}{range}{others}", first.words())
            }
            kind => format!("{}{range}", kind.words()),
        }
    }
}

impl Kind {
    /// The kind in words that follow "must be".
    pub fn words(&self) -> String {
        match self {
            Self::Text { what, .. } => (*what).into(),
            Self::Choice(choices) => {
                let names: Vec<String> =
                    choices.iter().map(|choice| format!("`\"{}\"`", choice.name)).collect();
                match &names[..] {
                    [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
                    _ => names.concat(),
                }
            }
            Self::Integer => "a whole number".into(),
            Self::Number => "a number".into(),
            Self::Bool => "`true` or `false`".into(),
            Self::Period => "a time".into(),
            Self::Size => "a size".into(),
            Self::List(item) => format!("a list, each item {}", item.words()),
            Self::Map { names, values, .. } => format!("a table from {names} to {}", values.words()),
            Self::Table(section) => {
                let keys: Vec<String> = section.keys.iter().map(|key| format!("`{}`", key.name)).collect();
                format!("a table with {}", keys.join(" and "))
            }
            Self::Either(kinds) => kinds.iter().map(Self::words).collect::<Vec<_>>().join(", or "),
        }
    }

    /// Whether a number alone is a value of this kind.
    pub(crate) fn is_number(&self) -> bool {
        match self {
            Self::Integer | Self::Number => true,
            Self::Either(kinds) => kinds.iter().any(Self::is_number),
            _ => false,
        }
    }

    /// Whether a value of this kind is written in quotes.
    pub(crate) fn is_text(&self) -> bool {
        match self {
            Self::Text { .. } | Self::Choice(_) | Self::Period | Self::Size => true,
            Self::Either(kinds) => kinds.iter().any(Self::is_text),
            _ => false,
        }
    }
}

/// A table of `klar.toml` and its keys.
#[derive(Debug)]
pub struct Section {
    /// Where it stands, with `*` for names that the user chooses: `services.*`.
    pub path: &'static str,
    /// As in "not a key of …".
    pub noun: &'static str,
    /// What the table describes.
    pub doc: &'static str,
    /// Keys of which at most one may be set; an environment that sets one removes the others.
    pub alternatives: &'static [&'static str],
    /// Its keys, in the order in which they are best read.
    pub keys: &'static [Key],
}

impl Section {
    /// The key called `name`.
    pub fn key(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The doc as paragraphs without the line breaks of the source.
    pub fn summary(&self) -> String {
        paragraphs(self.doc)
    }

    /// The header as people write it: `[services.NAME]`.
    pub fn header(&self) -> String {
        format!("[{}]", self.path.replace('*', "NAME"))
    }
}

/// Joins the lines of a doc comment into paragraphs.
fn paragraphs(doc: &str) -> String {
    let mut out = String::new();
    for line in doc.lines().map(str::trim) {
        if line.is_empty() {
            if !out.is_empty() && !out.ends_with('\n') {
                out.push_str("\n\n");
            }
        } else {
            if !out.is_empty() && !out.ends_with('\n') {
                out.push(' ');
            }
            out.push_str(line);
        }
    }
    out.trim_end().into()
}

/// The words that stand for a [`Preset`] in a declaration.
pub(crate) mod preset {
    use super::Preset;

    pub(crate) const fn required(why: &'static str) -> Preset {
        Preset::Required(why)
    }
    pub(crate) const fn fixed(toml: &'static str) -> Preset {
        Preset::Fixed(toml)
    }
    pub(crate) const fn computed(rule: &'static str) -> Preset {
        Preset::Computed(rule)
    }
    pub(crate) const fn absent(meaning: &'static str) -> Preset {
        Preset::Absent(meaning)
    }
}

/// Declares a section: struct, keys and reader from one list of fields.
///
/// A field is `name as "key": Type = preset("...") { example: "...", min: Some("1"), ... };` where the preset is
/// `required(why)`, `fixed(toml)`, `computed(rule, function)` or `absent(what klar does)`; the last one needs an
/// `Option`. A section that needs nothing from the user may carry `#[serde(default)]`: it then gets a `Default`,
/// and configurations stored by an older klar are still read after a key is added.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        $(#[serde($serde:ident)])?
        $vis:vis struct $Section:ident in $path:literal, $noun:literal $(, alternatives $alternatives:expr)? ;
        $(
            $(#[doc = $doc:literal])*
            $field:ident as $name:literal : $type:ty = $preset:ident ( $text:expr $(, $by:expr)? )
                { $($attribute:ident : $value:expr),* $(,)? };
        )*
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        $(#[serde($serde)])?
        $vis struct $Section {
            $( $(#[doc = $doc])* pub $field: $type, )*
        }

        impl $Section {
            /// The keys of this table.
            #[allow(clippy::needless_update, reason = "a field may name every attribute of its key")]
            pub const SECTION: &'static $crate::table::Section = &$crate::table::Section {
                path: $path,
                noun: $noun,
                doc: concat!($($section_doc, "\n"),*),
                alternatives: $crate::table::section!(@or_none $($alternatives)?),
                keys: &[ $( $crate::table::Key {
                    name: $name,
                    section: $path,
                    kind: <$type as $crate::values::Value>::KIND,
                    preset: $crate::table::preset::$preset($text),
                    doc: concat!($($doc, "\n"),*),
                    $($attribute: $value,)*
                    ..$crate::table::Key::BLANK
                } ),* ],
            };

            pub(crate) fn read(
                table: &$crate::tree::Table,
                cx: &mut $crate::read::Reader<'_>,
            ) -> Option<Self> {
                cx.check_names(table, Self::SECTION);
                let mut keys = Self::SECTION.keys.iter();
                $( let $field: Option<$type> = $crate::read::$preset(keys.next()?, table, cx $(, $by)?); )*
                Some(Self { $( $field: $field? ),* })
            }
        }

        $crate::table::section!(@default $Section $($serde)?);
    };
    (@or_none) => { &[] };
    (@or_none $alternatives:expr) => { $alternatives };
    (@default $Section:ident) => {};
    (@default $Section:ident default) => {
        impl Default for $Section {
            /// What holds when the file says nothing.
            fn default() -> Self {
                $crate::read::blank(|cx| Self::read(&$crate::tree::Table::default(), cx))
            }
        }
    };
}
pub(crate) use section;
