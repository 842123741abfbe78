//! Values as texts: attributes, what lines say, and who sends them.

use std::fmt::Write as _;

use super::{Malformed, each};
use crate::proto::Message;
use crate::rows::cut;

/// Attributes of one thing; more are not kept.
const ATTRIBUTES_MAX: usize = 128;
/// The longest name of one, in bytes.
const NAME_MAX: usize = 256;
/// The longest text of one, in bytes.
pub const TEXT_MAX: usize = 16 << 10;
/// All texts of one thing, in bytes.
const ALL_MAX: usize = 128 << 10;
/// Lists within lists.
const DEPTH_MAX: usize = 16;

/// A text that grows to its limit and no further.
struct Short<'a> {
    text: &'a mut String,
    max: usize,
}

impl Short<'_> {
    fn push(&mut self, more: &str) {
        self.text.push_str(cut(more, self.max.saturating_sub(self.text.len())));
    }

    fn quoted(&mut self, text: &str) {
        let text = cut(text, self.max);
        // A text always is one in JSON.
        self.push(&serde_json::to_string(text).unwrap_or_default());
    }
}

/// An `AnyValue`, as a text: what is a list or a map as JSON.
pub fn text(bytes: &[u8]) -> Result<String, Malformed> {
    let mut out = String::new();
    any(bytes, &mut Short { text: &mut out, max: TEXT_MAX }, 0)?;
    Ok(out)
}

fn any(bytes: &[u8], out: &mut Short<'_>, depth: usize) -> Result<(), Malformed> {
    let mut message = Message::new(bytes);
    let is_inside = depth > 0;
    let mut is_empty = true;
    // One of them is there; should there be several, the first one counts.
    while let Some((number, field)) = message.field()? {
        if !is_empty {
            continue;
        }
        is_empty = false;
        match number {
            1 if is_inside => out.quoted(&field.text()),
            1 => out.push(&field.text()),
            2 => out.push(if field.number() == 0 { "false" } else { "true" }),
            3 => out.push(itoa::Buffer::new().format(field.signed())),
            4 => out.push(zmij::Buffer::new().format(field.double())),
            5 | 6 if depth >= DEPTH_MAX => out.push("null"),
            5 => {
                out.push("[");
                let mut comma = "";
                each(field.bytes(), 1, |value| {
                    out.push(comma);
                    comma = ",";
                    any(value, out, depth + 1)
                })?;
                out.push("]");
            }
            6 => {
                out.push("{");
                let mut comma = "";
                each(field.bytes(), 1, |pair| {
                    out.push(comma);
                    comma = ",";
                    let (name, value) = key_value(pair)?;
                    out.quoted(&name);
                    out.push(":");
                    any(value, out, depth + 1)
                })?;
                out.push("}");
            }
            7 => {
                let mut hex = String::new();
                for byte in field.bytes().iter().take(out.max / 2) {
                    // Writing to a text never fails.
                    let _ = write!(hex, "{byte:02x}");
                }
                if is_inside { out.quoted(&hex) } else { out.push(&hex) }
            }
            _ => is_empty = true,
        }
    }
    if is_empty && is_inside {
        out.push("null");
    }
    Ok(())
}

fn key_value(bytes: &[u8]) -> Result<(std::borrow::Cow<'_, str>, &[u8]), Malformed> {
    let (mut name, mut value) = (Default::default(), &[][..]);
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        match number {
            1 => name = field.text(),
            2 => value = field.bytes(),
            _ => {}
        }
    }
    Ok((name, value))
}

/// Names and values of one thing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Attributes {
    pairs: Vec<(String, String)>,
    bytes: usize,
}

impl Attributes {
    /// Adds a `KeyValue`, as long as there is room.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let (name, value) = key_value(bytes)?;
        if self.pairs.len() < ATTRIBUTES_MAX && !name.is_empty() {
            let value = text(value)?;
            self.insert(cut(&name, NAME_MAX), value);
        }
        Ok(())
    }

    /// Adds a text, as long as there is room.
    pub fn insert(&mut self, name: &str, value: String) {
        let bytes = name.len() + value.len();
        if self.pairs.len() < ATTRIBUTES_MAX && self.bytes + bytes <= ALL_MAX {
            self.bytes += bytes;
            self.pairs.push((name.to_owned(), value));
        }
    }

    /// Takes out the first one that there is of these.
    pub fn take(&mut self, names: &[&str]) -> Option<String> {
        let place = |name: &&str| self.pairs.iter().position(|(its, _)| its == name);
        let place = names.iter().find_map(place)?;
        Some(self.pairs.remove(place).1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// Who sends.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resource {
    pub app: String,
    pub env: String,
    pub service: String,
    /// What `service` belongs to, if anybody says so.
    pub namespace: String,
    pub instance: String,
    pub release: String,
    /// All else that it says of itself.
    pub rest: Attributes,
}

impl Resource {
    /// From a `Resource`. An app that shows its token is nobody else.
    pub fn read(bytes: &[u8], app: Option<&klar_base::AppKey>) -> Result<Self, Malformed> {
        let mut rest = Attributes::default();
        each(bytes, 1, |pair| rest.add(pair))?;
        let mut take = |names: &[&str]| {
            let text = rest.take(names).unwrap_or_default();
            cut(&text, NAME_MAX).to_owned()
        };
        let mut resource = Self {
            app: take(&["klar.app"]),
            env: take(&["klar.env"]),
            service: take(&["service.name"]),
            namespace: take(&["service.namespace"]),
            instance: take(&["service.instance.id"]),
            release: take(&["service.version"]),
            rest,
        };
        if let Some(key) = app {
            (resource.app, resource.env) = (key.app.to_string(), key.env.to_string());
            // It says the same once more.
            resource.rest.take(&["deployment.environment.name"]);
        }
        Ok(resource)
    }

    /// Attributes of a row, and what its sender says of itself.
    pub fn with<'a>(&'a self, of: &'a Attributes, scratch: &'a mut String) -> Vec<(&'a str, &'a str)> {
        let names: Vec<(usize, usize)> = self
            .rest
            .pairs
            .iter()
            .map(|(name, _)| {
                let from = scratch.len();
                scratch.push_str("resource.");
                scratch.push_str(name);
                (from, scratch.len())
            })
            .collect();
        let scratch: &'a String = scratch;
        let own = names.into_iter().zip(&self.rest.pairs);
        let own = own.map(|((from, to), (_, value))| (scratch.get(from..to).unwrap_or_default(), &**value));
        of.iter().chain(own).collect()
    }
}
