//! Why a query is none, or has no answer.

/// A query that is none: where, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {what}")]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// The character of the line, counted from 1.
    pub column: usize,
    /// Where it begins, in bytes of the query.
    pub from: usize,
    /// Where it ends, in bytes of the query.
    pub to: usize,
    /// What is wrong, what was expected, and what to do.
    pub what: String,
}

/// A query without an answer.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The source has none.
    #[error("the series cannot be read")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It would take too much memory.
    #[error(
        "the query needs more than {max} samples in memory; ask for fewer series, a shorter range or a longer step"
    )]
    TooManySamples {
        /// How many are allowed.
        max: usize,
    },
    /// It has too many steps.
    #[error("the query has {points} points a series, at most {max} are answered; ask for a longer step")]
    TooManyPoints {
        /// How many were asked for.
        points: u64,
        /// How many are allowed.
        max: usize,
    },
    /// Whoever asked does not wait any longer.
    #[error("the query was stopped before it had an answer; ask for fewer series or a shorter range")]
    Stopped,
    /// The query makes no sense for these series or at these times.
    #[error("{0}")]
    Meaningless(String),
}

impl EvalError {
    /// Shorthand for [`EvalError::Meaningless`].
    pub(crate) fn meaningless(what: impl Into<String>) -> Self {
        Self::Meaningless(what.into())
    }
}
