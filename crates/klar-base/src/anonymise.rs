//! What becomes of each column of a copy that people may look at: `users.email email`.

use std::fmt;
use std::str::FromStr;

/// A rule: for one column, or for all others of a table.
///
/// ```
/// use klar_base::anonymise::{Means, Rule};
///
/// let rule: Rule = "shop.users.email email".parse().unwrap();
/// assert_eq!((&*rule.schema, &*rule.table), ("shop", "users"));
/// assert_eq!((rule.column.as_deref(), rule.means), (Some("email"), Means::Email));
/// // `public` where no schema is named; `*`: every column that no other rule is about.
/// assert_eq!("sessions.* empty".parse::<Rule>().unwrap().to_string(), "public.sessions.* empty");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The column; `None`: all that no other rule is about.
    pub column: Option<String>,
    /// What becomes of it.
    pub means: Means,
}

/// What becomes of the values of a column. The same value becomes the same one everywhere in a copy, and another one in
/// the next copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// It says nothing of a person, and stays.
    Keep,
    /// Nothing.
    Null,
    /// An empty text, 0, `false`, `{}`, the first of January 2000.
    Blank,
    /// A text or UUID that means nothing.
    Hash,
    /// An address that nobody has: `0a1b2c3d4e5f@example.invalid`.
    Email,
    /// `Person 0a1b2c3d`.
    Name,
    /// A number that nobody has.
    Phone,
    /// The first of January of its year.
    Year,
    /// The table has no rows.
    Empty,
}

impl Means {
    /// All, as they are written.
    pub const ALL: [(&'static str, Means); 9] = [
        ("keep", Self::Keep),
        ("null", Self::Null),
        ("blank", Self::Blank),
        ("hash", Self::Hash),
        ("email", Self::Email),
        ("name", Self::Name),
        ("phone", Self::Phone),
        ("year", Self::Year),
        ("empty", Self::Empty),
    ];
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, means)| means == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// Not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotARule {
    /// Not two words.
    #[error("is not a column and what becomes of it")]
    Words,
    /// The first word.
    #[error("names no column: expected `TABLE.COLUMN`, `SCHEMA.TABLE.COLUMN` or `TABLE.*`")]
    Column,
    /// The second word.
    #[error(
        "does not say what becomes of it: expected one of keep, null, blank, hash, email, name, phone, year, empty"
    )]
    Means,
    /// A column cannot be without rows.
    #[error("empties one column: a table is emptied as a whole, `TABLE.* empty`")]
    Empty,
}

impl FromStr for Rule {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        let mut words = text.split_whitespace();
        let (Some(column), Some(means), None) = (words.next(), words.next(), words.next()) else {
            return Err(NotARule::Words);
        };
        let (_, means) = *Means::ALL.iter().find(|(name, _)| *name == means).ok_or(NotARule::Means)?;
        let parts: Vec<&str> = column.split('.').collect();
        let (schema, table, column) = match parts[..] {
            [table, column] => ("public", table, column),
            [schema, table, column] => (schema, table, column),
            _ => return Err(NotARule::Column),
        };
        // Longer ones PostgreSQL would cut.
        let is_name = |name: &str| {
            (1..=63).contains(&name.len()) && !name.contains(|c: char| c.is_control() || "\"'*".contains(c))
        };
        if !is_name(schema) || !is_name(table) || !(column == "*" || is_name(column)) {
            return Err(NotARule::Column);
        }
        let column = (column != "*").then(|| column.to_owned());
        if means == Means::Empty && column.is_some() {
            return Err(NotARule::Empty);
        }
        Ok(Self { schema: schema.to_owned(), table: table.to_owned(), column, means })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schema, table, column, means } = self;
        write!(f, "{schema}.{table}.{} {means}", column.as_deref().unwrap_or("*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for (text, expected) in [
            ("users.email email", Ok("public.users.email email")),
            ("  shop.users.*   keep ", Ok("shop.users.* keep")),
            ("Users.E-mail null", Ok("public.Users.E-mail null")),
            ("bestillinger.kjøper hash", Ok("public.bestillinger.kjøper hash")),
            ("users.email", Err(NotARule::Words)),
            ("users.email email now", Err(NotARule::Words)),
            ("users keep", Err(NotARule::Column)),
            ("a.b.c.d keep", Err(NotARule::Column)),
            ("users. keep", Err(NotARule::Column)),
            ("*.email keep", Err(NotARule::Column)),
            ("users.\"x\" keep", Err(NotARule::Column)),
            ("users.email fake", Err(NotARule::Means)),
            ("users.email empty", Err(NotARule::Empty)),
            ("", Err(NotARule::Words)),
        ] {
            let found: Result<Rule, NotARule> = text.parse();
            let found = found.map(|rule| rule.to_string());
            assert_eq!(found.as_deref(), expected.as_deref(), "{text}");
            if let Ok(text) = found {
                assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
            }
        }
    }
}
