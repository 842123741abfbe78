//! What a thread keeps for its expressions, and of values that it has seen before.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use super::verdicts::Verdicts;
use crate::operator::Expression;
use crate::program::Program;

/// What one thread has learnt: automata grow while they are used, and threads that share one wait for each other.
///
/// Holds some 680 KB of values that came more than once, with the rules that each may concern.
#[derive(Debug)]
pub struct Caches {
    expressions: Vec<Expression>,
    /// Who finds it taken does without.
    verdicts: Mutex<Verdicts>,
    /// What each rule costs, where somebody wants to know.
    profile: Option<Mutex<Vec<Cost>>>,
}

/// What a rule has cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// The rule.
    pub rule: u32,
    /// How often a value was asked what its first link asks.
    pub asked: u64,
    /// How long that took, in nanoseconds. What several rules ask alike is shared among them.
    pub asked_ns: u64,
    /// How often it was run: a value had woken it, or it never sleeps.
    pub run: u64,
    /// How long that took, in nanoseconds.
    pub run_ns: u64,
}

impl Clone for Caches {
    fn clone(&self) -> Self {
        Self { expressions: self.expressions.clone(), verdicts: Mutex::default(), profile: None }
    }
}

impl Caches {
    pub(crate) fn new(program: &Program) -> Self {
        // A clone shares the automaton and has a memory of its own.
        Self { expressions: program.expressions.clone(), verdicts: Mutex::default(), profile: None }
    }

    /// Measures what each rule costs from now on, which takes some 50 ns for each question and each rule that is run.
    pub fn profile(&mut self) {
        self.profile = Some(Mutex::default());
    }

    /// What each rule has cost, the most expensive first; empty unless [`profile`](Self::profile) was called before.
    #[must_use]
    pub fn costs(&self) -> Vec<Cost> {
        let costs = self.profile.as_ref().and_then(|costs| costs.lock().ok());
        let mut costs = costs.map(|costs| costs.clone()).unwrap_or_default();
        costs.retain(|cost| cost.asked + cost.run > 0);
        costs.sort_by_key(|cost| std::cmp::Reverse(cost.asked_ns + cost.run_ns));
        costs
    }

    /// When something begins that costs; `None` where nobody wants to know.
    pub(crate) fn clock(&self) -> Option<Instant> {
        self.profile.as_ref().map(|_| Instant::now())
    }

    /// Adds to what rules have cost: from `begun` on, for each of them.
    pub(crate) fn spent(
        &self,
        begun: Option<Instant>,
        rules: impl ExactSizeIterator<Item = u32>,
        is_run: bool,
    ) {
        let (Some(begun), Some(costs)) = (begun, &self.profile) else { return };
        let Ok(mut costs) = costs.lock() else { return };
        let ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX) / (rules.len() as u64).max(1);
        for rule in rules {
            let at = costs.binary_search_by_key(&rule, |cost| cost.rule).unwrap_or_else(|at| {
                costs.insert(at, Cost { rule, ..Cost::default() });
                at
            });
            let Some(cost) = costs.get_mut(at) else { continue };
            let (count, sum) = if is_run {
                (&mut cost.run, &mut cost.run_ns)
            } else {
                (&mut cost.asked, &mut cost.asked_ns)
            };
            *count += 1;
            *sum += ns;
        }
    }

    pub(crate) fn of<'a>(&'a self, at: u32, shared: &'a Expression) -> &'a Expression {
        self.expressions.get(at as usize).unwrap_or(shared)
    }

    /// What is known of values, for the rules of this program.
    pub(crate) fn verdicts(&self, program: u64) -> Option<MutexGuard<'_, Verdicts>> {
        let mut verdicts = self.verdicts.try_lock().ok()?;
        verdicts.are_of(program);
        Some(verdicts)
    }
}
