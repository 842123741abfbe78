//! Labels: what tells series apart.

use std::fmt;
use std::sync::Arc;

/// The name of the label that holds the name of the metric.
pub const NAME: &str = "__name__";
/// A series has at most so many labels.
pub const LABELS_MAX: usize = 64;
/// Names are at most this long, in bytes.
pub const NAME_MAX: usize = 512;
/// Values are at most this long, in bytes.
pub const VALUE_MAX: usize = 4096;

/// Labels of a series, sorted by their names, each name once, no value empty: a label without a value is none.
///
/// A copy costs nothing. Labels are compared byte by byte, as Prometheus sorts them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[u8]>);

/// Why labels are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLabels {
    /// A name is there twice.
    #[error("the label `{0}` is there twice")]
    Twice(String),
    /// A name is empty.
    #[error("a label has no name")]
    NoName,
    /// There are too many.
    #[error("{0} labels; at most {LABELS_MAX} are taken")]
    TooMany(usize),
    /// A name or a value is too long.
    #[error("the label `{name}` is too long: {length} bytes")]
    TooLong {
        /// Its name, or the beginning of it.
        name: String,
        /// How long the name or the value is, in bytes.
        length: usize,
    },
}

impl Labels {
    /// No labels.
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::new([]))
    }

    /// From names and values in any order.
    ///
    /// # Errors
    /// See [`BadLabels`].
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, BadLabels> {
        let mut pairs: Vec<(&str, &str)> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        pairs.sort_unstable();
        if pairs.len() > LABELS_MAX {
            return Err(BadLabels::TooMany(pairs.len()));
        }
        for pair in pairs.windows(2) {
            if let [(first, _), (second, _)] = pair
                && first == second
            {
                return Err(BadLabels::Twice((*first).to_owned()));
            }
        }
        for (name, value) in &pairs {
            if name.is_empty() {
                return Err(BadLabels::NoName);
            }
            let length = if name.len() > NAME_MAX { name.len() } else { value.len() };
            if name.len() > NAME_MAX || value.len() > VALUE_MAX {
                return Err(BadLabels::TooLong { name: name.chars().take(80).collect(), length });
            }
        }
        Ok(Self::packed(&pairs))
    }

    /// As they lie in memory: for each label the lengths of name and value (two bytes each, little end first), and both.
    fn packed(pairs: &[(&str, &str)]) -> Self {
        let mut bytes =
            Vec::with_capacity(pairs.iter().map(|(name, value)| 4 + name.len() + value.len()).sum());
        for (name, value) in pairs {
            for text in [name, value] {
                // Checked against the limits above, or taken from labels that were.
                let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
                bytes.extend_from_slice(&length.to_le_bytes());
            }
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(value.as_bytes());
        }
        Self(bytes.into())
    }

    /// As they lie in memory.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// From how they lie in memory. `None`: that is none, or not as it would be written.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let read = Self(bytes.into());
        let whole: usize = read.iter().map(|(name, value)| 4 + name.len() + value.len()).sum();
        let sorted = read.iter().zip(read.iter().skip(1)).all(|((first, _), (second, _))| first < second);
        let there = read.iter().all(|(name, value)| !name.is_empty() && !value.is_empty());
        (whole == bytes.len() && sorted && there).then_some(read)
    }

    /// Names and values, sorted by the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (lengths, more) = rest.split_first_chunk::<4>()?;
            let [a, b, c, d] = *lengths;
            let (name, more) = more.split_at_checked(usize::from(u16::from_le_bytes([a, b])))?;
            let (value, more) = more.split_at_checked(usize::from(u16::from_le_bytes([c, d])))?;
            rest = more;
            Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
        })
    }

    /// The value of a label; `None`: there is no such label.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(its, _)| *its == name).map(|(_, value)| value)
    }

    /// The name of the metric.
    #[must_use]
    pub fn metric(&self) -> Option<&str> {
        self.get(NAME)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of which `keep` says so.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        let pairs: Vec<(&str, &str)> = self.iter().filter(|(name, _)| keep(name)).collect();
        Self::packed(&pairs)
    }

    /// The same with another value for a name; without it, if the value is empty.
    ///
    /// # Errors
    /// See [`BadLabels`].
    pub fn with(&self, name: &str, value: &str) -> Result<Self, BadLabels> {
        let others = self.iter().filter(|(its, _)| *its != name);
        Self::new(others.chain([(name, value)]))
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.iter().cmp(other.iter())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

/// As Prometheus writes a series: `up{job="api"}`.
impl fmt::Display for Labels {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metric = self.metric();
        to.write_str(metric.unwrap_or_default())?;
        let mut others = self.iter().filter(|(name, _)| *name != NAME).peekable();
        if others.peek().is_none() && metric.is_some() {
            return Ok(());
        }
        to.write_str("{")?;
        for (place, (name, value)) in others.enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(to, "{comma}{name}={value:?}")?;
        }
        to.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn they_are_sorted_and_written_as_prometheus_writes_them() {
        for (pairs, text) in [
            (&[("job", "api"), (NAME, "up")][..], r#"up{job="api"}"#),
            (&[("b", "2"), ("a", "x\"y\n")], r#"{a="x\"y\n", b="2"}"#),
            (&[(NAME, "up"), ("empty", "")], "up"),
            (&[], "{}"),
        ] {
            let labels = Labels::new(pairs.iter().copied()).unwrap();
            assert_eq!(labels.to_string(), text);
        }
    }

    #[test]
    fn what_is_none_is_said() {
        let long = "x".repeat(VALUE_MAX + 1);
        let many: Vec<String> = (0..=LABELS_MAX).map(|number| format!("l{number}")).collect();
        assert_eq!(Labels::new([("a", "1"), ("a", "2")]), Err(BadLabels::Twice("a".into())));
        assert_eq!(Labels::new([("", "1")]), Err(BadLabels::NoName));
        assert_eq!(Labels::new(many.iter().map(|name| (&**name, "1"))), Err(BadLabels::TooMany(65)));
        let length = long.len();
        assert_eq!(Labels::new([("a", &*long)]), Err(BadLabels::TooLong { name: "a".into(), length }));
        assert!(Labels::new([(&*long, "1")]).is_err());
    }

    proptest! {
        #[test]
        fn nothing_is_lost(pairs in proptest::collection::btree_map("[a-zæ_]{1,6}", ".{1,8}", 0..9)) {
            let given = pairs.iter().map(|(name, value)| (&**name, &**value));
            let labels = Labels::new(given.clone().collect::<Vec<_>>().into_iter().rev()).unwrap();
            prop_assert_eq!(labels.iter().collect::<Vec<_>>(), given.collect::<Vec<_>>());
            for (name, value) in &pairs {
                prop_assert_eq!(labels.get(name), Some(&**value));
                prop_assert_eq!(labels.with(name, "").unwrap().with(name, value).unwrap(), labels.clone());
                let without = labels.filtered(|its| its != name);
                prop_assert_eq!(without.iter().count(), pairs.len() - 1);
            }
        }
    }
}
