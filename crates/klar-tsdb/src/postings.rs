//! Which series have which labels, and which ones matchers take.

use crate::matcher::{Matcher, Op};

/// Lists of series by label, each list sorted.
pub trait Postings {
    /// All series.
    fn all(&self) -> Vec<u32>;
    /// Those with a value of a label.
    fn with(&self, name: &str, value: &str) -> Vec<u32>;
    /// Puts those with a value that is taken behind what `out` holds.
    fn where_value(&self, name: &str, takes: &mut dyn FnMut(&str) -> bool, out: &mut Vec<u32>);
}

/// The series that all matchers take.
pub fn matching(postings: &impl Postings, matchers: &[Matcher]) -> Vec<u32> {
    let mut taken: Option<Vec<u32>> = None;
    let mut left: Vec<u32> = Vec::new();
    for matcher in matchers {
        let mut list = Vec::new();
        if matcher.takes_none() {
            postings.where_value(matcher.name(), &mut |value| !matcher.takes(value), &mut left);
            continue;
        }
        match (matcher.op(), literals(matcher)) {
            (Op::Equal, _) => list = postings.with(matcher.name(), matcher.value()),
            (_, Some(values)) => {
                values.for_each(|value| list.append(&mut postings.with(matcher.name(), value)));
                sort(&mut list);
            }
            _ => {
                postings.where_value(matcher.name(), &mut |value| matcher.takes(value), &mut list);
                sort(&mut list);
            }
        }
        taken = Some(match taken {
            None => list,
            Some(mut taken) => {
                taken.retain(|series| list.binary_search(series).is_ok());
                taken
            }
        });
    }
    let mut taken = taken.unwrap_or_else(|| postings.all());
    sort(&mut left);
    taken.retain(|series| left.binary_search(series).is_err());
    taken
}

fn sort(list: &mut Vec<u32>) {
    list.sort_unstable();
    list.dedup();
}

/// The values of an expression that is nothing but a choice of them.
fn literals(matcher: &Matcher) -> Option<impl Iterator<Item = &str>> {
    let is_plain =
        !matcher.value().contains(['.', '+', '*', '?', '(', ')', '[', ']', '{', '}', '^', '$', '\\']);
    (matcher.op() == Op::Matches && is_plain).then(|| matcher.value().split('|'))
}
