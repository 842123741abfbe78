//! What selects series: a condition on one label.

use std::fmt;
use std::sync::Arc;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

/// The longest expression, in bytes.
const EXPRESSION_MAX: usize = 16 << 10;
/// The room that an expression may take when it is compiled, in bytes.
const COMPILED_MAX: usize = 1 << 20;

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Matches,
    /// `!~`
    NotMatches,
}

/// A condition on one label. A label that a series does not have is empty.
#[derive(Debug, Clone)]
pub struct Matcher {
    name: Arc<str>,
    op: Op,
    value: Arc<str>,
    /// For the whole value, from its beginning to its end.
    expression: Option<Regex>,
}

/// An expression that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{expression}` is no regular expression: {why}")]
pub struct BadMatcher {
    /// What was given, or its beginning.
    pub expression: String,
    /// What is wrong with it.
    pub why: String,
}

impl Matcher {
    /// `name OP "value"`.
    ///
    /// # Errors
    /// The value is to be an expression, and is none. Expressions are about bytes: `.` takes one, and classes know ASCII.
    pub fn new(name: &str, op: Op, value: &str) -> Result<Self, BadMatcher> {
        let expression = match op {
            Op::Equal | Op::NotEqual => None,
            Op::Matches | Op::NotMatches => Some(compile(value)?),
        };
        Ok(Self { name: name.into(), op, value: value.into(), expression })
    }

    /// The label.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is compared.
    #[must_use]
    pub const fn op(&self) -> Op {
        self.op
    }

    /// With what.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a series with this value of the label is taken; an empty one stands for none.
    #[must_use]
    pub fn takes(&self, value: &str) -> bool {
        let is_equal = match &self.expression {
            Some(expression) => expression.is_match(value),
            None => &*self.value == value,
        };
        is_equal == matches!(self.op, Op::Equal | Op::Matches)
    }

    /// Whether a series without the label is taken.
    #[must_use]
    pub fn takes_none(&self) -> bool {
        self.takes("")
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

fn compile(expression: &str) -> Result<Regex, BadMatcher> {
    let bad = |why: String| BadMatcher { expression: expression.chars().take(200).collect(), why };
    if expression.len() > EXPRESSION_MAX {
        return Err(bad(format!("it has {} bytes, at most {EXPRESSION_MAX} are taken", expression.len())));
    }
    let compile = |pattern: &str| {
        let built = Regex::builder()
            .syntax(syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true))
            .configure(Regex::config().nfa_size_limit(Some(COMPILED_MAX)).utf8_empty(false))
            .build(pattern);
        built.map_err(|error| {
            // The innermost cause shows the place and says what is wrong on its last line.
            let mut why = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(one) = cause {
                why = one.to_string();
                cause = one.source();
            }
            bad(why.lines().last().unwrap_or_default().trim().to_owned())
        })
    };
    // By itself first: what closes a parenthesis that it has not opened is none.
    compile(expression).and_then(|_| compile(&format!("^(?:{expression})$")))
}

impl fmt::Display for Matcher {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            Op::Equal => "=",
            Op::NotEqual => "!=",
            Op::Matches => "=~",
            Op::NotMatches => "!~",
        };
        write!(to, "{}{op}{:?}", self.name, &*self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_what() {
        for (op, value, taken, left) in [
            (Op::Equal, "a", &["a"][..], &["", "aa"][..]),
            (Op::Equal, "", &[""], &["a"]),
            (Op::NotEqual, "a", &["", "b"], &["a"]),
            (Op::Matches, "a|b", &["a", "b"], &["", "ab", "xa", "ax"]),
            (Op::Matches, "", &[""], &["a"]),
            (Op::Matches, ".*", &["", "a\nb", "ø"], &[]),
            (Op::Matches, ".+", &["a\nb", "ø"], &[""]),
            (Op::Matches, "(?i)get", &["GET", "get"], &["gett"]),
            (Op::NotMatches, "5..", &["", "404"], &["500"]),
        ] {
            let matcher = Matcher::new("l", op, value).unwrap();
            taken.iter().for_each(|value| assert!(matcher.takes(value), "{matcher} {value}"));
            left.iter().for_each(|value| assert!(!matcher.takes(value), "{matcher} {value}"));
        }
    }

    #[test]
    fn what_is_no_expression_is_said() {
        for expression in ["(", ")", "a)|(b", "[", "*", "a{99999}", &"a".repeat(EXPRESSION_MAX + 1)] {
            assert!(Matcher::new("l", Op::Matches, expression).is_err(), "{expression:.20}");
        }
        assert_eq!(Matcher::new("a", Op::NotMatches, "x\"").unwrap().to_string(), r#"a!~"x\"""#);
    }
}
