//! What a thread keeps for its expressions.

use crate::operator::Expression;
use crate::program::Program;

/// Expressions of one thread: automata grow while they are used, and threads that share one wait for each other.
#[derive(Debug, Clone)]
pub struct Caches(Vec<Expression>);

impl Caches {
    pub(crate) fn new(program: &Program) -> Self {
        // A clone shares the automaton and has a memory of its own.
        Self(program.expressions.clone())
    }

    pub(crate) fn of<'a>(&'a self, at: u32, shared: &'a Expression) -> &'a Expression {
        self.0.get(at as usize).unwrap_or(shared)
    }
}
