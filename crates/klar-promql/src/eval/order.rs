//! In which order series stand.

use std::cmp::Ordering;

use klar_tsdb::Labels;

use super::kahan::ascending;
use super::rows::Row;

/// By value; what is no number comes last.
pub(super) fn by_value(rows: &mut [Row], is_descending: bool) {
    rows.sort_by(|left, right| {
        let (left, right) = (left.at(0).unwrap_or(f64::NAN), right.at(0).unwrap_or(f64::NAN));
        let by_value = if is_descending { ascending(&right, &left) } else { ascending(&left, &right) };
        left.is_nan().cmp(&right.is_nan()).then(by_value)
    });
}

/// By labels, the first one first, with the numbers in their values as numbers.
pub(super) fn by_labels(rows: &mut [Row], labels: &[&str], is_descending: bool) {
    let compare = |left: &Labels, right: &Labels| {
        let value = |of: &Labels, label: &str| of.get(label).unwrap_or_default().to_owned();
        let by = labels.iter().map(|label| natural(&value(left, label), &value(right, label)));
        by.fold(Ordering::Equal, Ordering::then).then_with(|| left.cmp(right))
    };
    rows.sort_by(|left, right| {
        let order = compare(&left.labels, &right.labels);
        if is_descending { order.reverse() } else { order }
    });
}

/// `a9` before `a10`.
fn natural(left: &str, right: &str) -> Ordering {
    let (mut left_rest, mut right_rest) = (left, right);
    loop {
        let (one, other) = (chunk(&mut left_rest), chunk(&mut right_rest));
        if one.is_empty() || other.is_empty() {
            return one.len().cmp(&other.len()).then_with(|| left.cmp(right));
        }
        let order = match (one.parse::<u64>(), other.parse::<u64>()) {
            (Ok(one), Ok(other)) => one.cmp(&other),
            _ => one.cmp(other),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// The digits, or all but digits, that come next.
fn chunk<'a>(rest: &mut &'a str) -> &'a str {
    let is_digit = rest.starts_with(|one: char| one.is_ascii_digit());
    let end = rest.find(|one: char| one.is_ascii_digit() != is_digit).unwrap_or(rest.len());
    let (chunk, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
    *rest = behind;
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_numbers() {
        for (first, second) in [("a9", "a10"), ("a", "a1"), ("1.9", "1.10"), ("", "a"), ("a1", "b0")] {
            assert_eq!(natural(first, second), Ordering::Less, "{first} {second}");
            assert_eq!(natural(second, first), Ordering::Greater, "{first} {second}");
        }
    }
}
