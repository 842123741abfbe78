//! Where each value in force comes from: the file, an environment's table, or a default with its reason.

use std::collections::BTreeMap;
use std::fmt;

use klar_base::EnvName;
use serde::{Deserialize, Serialize};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Nobody set it.
    Default {
        /// Why it has this value.
        because: String,
    },
    /// A line of `klar.toml`.
    File {
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
    },
    /// A line in an `[env.NAME]` table.
    Environment {
        /// The environment.
        env: EnvName,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default { because } => write!(f, "default: {because}"),
            Self::File { line, .. } => write!(f, "line {line}"),
            Self::Environment { env, line, .. } => write!(f, "line {line}, [env.{env}]"),
        }
    }
}

/// A value in force, as TOML, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// On one line; `None` where the key has no value and klar does what [`Origin::Default`] says.
    pub value: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

/// Every setting in force by its path, for instance `services.api.health`.
///
/// Parts of a path that TOML would quote are quoted: `routes."/api/*".timeout`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Provenance(BTreeMap<String, Setting>);

impl Provenance {
    pub(crate) fn new(settings: BTreeMap<String, Setting>) -> Self {
        Self(settings)
    }

    /// The setting at exactly this path.
    pub fn get(&self, path: &str) -> Option<&Setting> {
        self.0.get(path)
    }

    /// Where the value at exactly this path comes from.
    pub fn origin(&self, path: &str) -> Option<&Origin> {
        self.get(path).map(|setting| &setting.origin)
    }

    /// All settings, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.0.iter().map(|(path, setting)| (path.as_str(), setting))
    }
}
