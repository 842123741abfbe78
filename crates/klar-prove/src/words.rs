//! What people read, in the three languages of klar's users.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A language that reports can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// Norwegian bokmål.
    Nb,
    /// Swedish.
    Sv,
}

/// The same sentence in each language.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// English.
    pub en: String,
    /// Norwegian bokmål.
    pub nb: String,
    /// Swedish.
    pub sv: String,
}

/// The same sentence in each language, with values in it: `words!("{n} of 3", "{n} av 3", "{n} av 3")`.
#[macro_export]
macro_rules! words {
    ($en:literal, $nb:literal, $sv:literal $(,)?) => {
        $crate::words::Words { en: format!($en), nb: format!($nb), sv: format!($sv) }
    };
}

impl Lang {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::En, Self::Nb, Self::Sv];

    /// Its code: `en`, `nb`, `sv`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Nb => "nb",
            Self::Sv => "sv",
        }
    }

    /// One of three texts.
    #[must_use]
    pub fn pick<T>(self, en: T, nb: T, sv: T) -> T {
        match self {
            Self::En => en,
            Self::Nb => nb,
            Self::Sv => sv,
        }
    }
}

impl Words {
    /// In this language.
    #[must_use]
    pub fn get(&self, lang: Lang) -> &str {
        lang.pick(&self.en, &self.nb, &self.sv)
    }

    /// Text that is the same everywhere: a name, a header, a line of code.
    pub fn same(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { en: text.clone(), nb: text.clone(), sv: text }
    }

    /// Appends to each.
    #[must_use]
    pub fn and(mut self, more: &Self) -> Self {
        self.en += &more.en;
        self.nb += &more.nb;
        self.sv += &more.sv;
        self
    }
}

impl fmt::Display for Lang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Lang {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|lang| lang.code() == text)
            .ok_or_else(|| format!("`{text}` is not a language klar speaks: en, nb, sv"))
    }
}
