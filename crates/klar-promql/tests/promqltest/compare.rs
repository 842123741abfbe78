//! Whether an answer is the one that is expected.

use std::sync::Arc;

use klar_promql::{Answered, EvalError, Mixed, Options, Series, instant_mixed, parse, range_mixed};
use regex_automata::meta::Regex;

use crate::script::{Eval, Item, Notes};
use crate::store::Store;

/// How far values may differ, as a share of both.
const TOLERANCE: f64 = 1e-6;

/// `Ok`, or why not.
pub fn judge(store: &Store, eval: &Eval) -> Result<(), String> {
    match answer(store, eval) {
        Err(_) if eval.fails => Ok(()),
        Err(why) => Err(why),
        Ok(_) if eval.fails => Err("it was to fail".into()),
        Ok(answer) => {
            compare(eval, &answer.value)?;
            let of_kind = |is_warning: bool| -> Vec<String> {
                let notes = answer.notes.iter().filter(|note| note.is_warning == is_warning);
                notes.map(|note| note.located(&eval.query)).collect()
            };
            judge_notes(&eval.warnings, &of_kind(true)).map_err(|why| format!("warnings: {why}"))?;
            judge_notes(&eval.infos, &of_kind(false)).map_err(|why| format!("infos: {why}"))?;
            again(store, eval)
        }
    }
}

fn judge_notes(expected: &Notes, found: &[String]) -> Result<(), String> {
    if expected.any && found.is_empty() {
        return Err("there are none".into());
    }
    if expected.none && !found.is_empty() {
        return Err(format!("there are some: {found:?}"));
    }
    let fits = |(text, is_expression): &(String, bool), found: &String| {
        if *is_expression { Regex::new(text).unwrap().is_match(found) } else { text == found }
    };
    let each = &expected.each;
    let is_missing = each.iter().any(|one| !found.iter().any(|found| fits(one, found)));
    let is_much = !each.is_empty() && found.iter().any(|found| !each.iter().any(|one| fits(one, found)));
    if is_missing || is_much { Err(format!("expected {each:?}, found {found:?}")) } else { Ok(()) }
}

fn answer(store: &Store, eval: &Eval) -> Result<Answered, String> {
    let expr = parse(&eval.query).map_err(|error| error.to_string())?;
    let options = Options::default();
    match eval.step_ms {
        None => instant_mixed(store, &expr, eval.from_ms, &options),
        Some(step_ms) => range_mixed(store, &expr, eval.from_ms, eval.to_ms, step_ms, &options),
    }
    .map_err(|error: EvalError| error.to_string())
}

/// The same as the middle one of three times.
fn again(store: &Store, eval: &Eval) -> Result<(), String> {
    let depends = ["start(", "end(", "step(", "range("].iter().any(|word| eval.query.contains(word));
    let is_plain = eval.text.is_none() && eval.samples.is_none();
    if eval.step_ms.is_some() || eval.is_ordered || depends || !is_plain {
        return Ok(());
    }
    let expr = parse(&eval.query).map_err(|error| error.to_string())?;
    let (from, to) = (eval.from_ms - 60_000, eval.from_ms + 60_000);
    let answer = match range_mixed(store, &expr, from, to, 60_000, &Options::default()) {
        Ok(Answered { value: Mixed::Series(series), .. }) => series,
        Ok(other) => return Err(format!("over time: {other:?}")),
        Err(error) => return Err(format!("over time: {error}")),
    };
    let middle = answer.into_iter().filter_map(|mut series| {
        series.samples.retain(|sample| sample.time_ms == eval.from_ms);
        series.natives.retain(|sample| sample.time_ms == eval.from_ms);
        (!series.samples.is_empty() || !series.natives.is_empty()).then_some(series)
    });
    let middle: Vec<Series> = middle.collect();
    let answer = match (eval.scalar, &*middle) {
        (Some(_), [one]) => Mixed::Scalar(one.samples.first().map_or(f64::NAN, |sample| sample.value)),
        _ => Mixed::Series(middle),
    };
    compare(eval, &answer).map_err(|why| format!("over time: {why}"))
}

fn compare(eval: &Eval, answer: &Mixed) -> Result<(), String> {
    if let Some(expected) = &eval.text {
        return match answer {
            Mixed::Text(text) if text == expected => Ok(()),
            other => Err(format!("expected {expected:?}, found {other:?}")),
        };
    }
    if let Some(expected) = eval.scalar {
        return match answer {
            Mixed::Scalar(value) if is_close(expected, *value) => Ok(()),
            other => Err(format!("expected {expected}, found {other:?}")),
        };
    }
    let Mixed::Series(found) = answer else { return Err(format!("expected series, found {answer:?}")) };
    let (from, step) = eval.samples.unwrap_or((eval.from_ms, eval.step_ms.unwrap_or(1)));
    for (place, (labels, items)) in eval.series.iter().enumerate() {
        let one = if eval.is_ordered {
            found.get(place).filter(|one| one.labels == *labels)
        } else {
            found.iter().find(|one| one.labels == *labels)
        };
        let Some(one) = one else {
            let found: Vec<String> =
                found.iter().map(|one| format!("{}{}", one.labels, shown(&all_of(one)))).collect();
            return Err(format!("{labels} is missing at {place}; found {found:?}"));
        };
        let expected =
            items.iter().enumerate().map(|(place, item)| (from + place as i64 * step, item.clone()));
        let expected: Vec<(i64, Item)> = expected.filter(|(_, item)| *item != Item::None).collect();
        let found = all_of(one);
        let is_same = expected.len() == found.len()
            && expected
                .iter()
                .zip(&found)
                .all(|(expected, found)| expected.0 == found.0 && is_same(&expected.1, &found.1));
        if !is_same {
            return Err(format!("{labels}: expected{}, found{}", shown(&expected), shown(&found)));
        }
    }
    match found.iter().find(|one| !eval.series.iter().any(|(labels, _)| one.labels == *labels)) {
        Some(one) => Err(format!("{} is too much:{}", one.labels, shown(&all_of(one)))),
        None => Ok(()),
    }
}

/// Floats and native histograms in the order of their times.
fn all_of(series: &Series) -> Vec<(i64, Item)> {
    let natives = series.natives.iter();
    let natives = natives.map(|one| (one.time_ms, Item::Native(Arc::clone(&one.histogram), false)));
    let floats = series.samples.iter().map(|one| (one.time_ms, Item::Float(one.value)));
    let mut all: Vec<(i64, Item)> = floats.chain(natives).collect();
    all.sort_by_key(|one| one.0);
    all
}

fn shown(items: &[(i64, Item)]) -> String {
    items.iter().fold(String::new(), |text, (at, item)| match item {
        Item::Float(value) => format!("{text} {value}@{at}"),
        Item::Native(one, _) => {
            let parts = one.parts();
            format!("{text} {one}/{:?}/{}/{}@{at}", parts.hint, parts.schema, parts.zero_threshold)
        }
        Item::None => text,
    })
}

fn is_same(expected: &Item, found: &Item) -> bool {
    match (expected, found) {
        (Item::Float(expected), Item::Float(found)) => is_close(*expected, *found),
        (Item::Native(expected, is_hinted), Item::Native(found, _)) => {
            let (expected, found) = (expected.parts(), found.parts());
            let is_side = |left: &[(i32, f64)], right: &[(i32, f64)]| {
                left.len() == right.len()
                    && left
                        .iter()
                        .zip(right)
                        .all(|(left, right)| left.0 == right.0 && is_close(left.1, right.1))
            };
            expected.schema == found.schema
                && expected.bounds == found.bounds
                && expected.zero_threshold == found.zero_threshold
                && is_close(expected.zero_count, found.zero_count)
                && is_close(expected.count, found.count)
                && is_close(expected.sum, found.sum)
                && is_side(&expected.positive, &found.positive)
                && is_side(&expected.negative, &found.negative)
                && (!is_hinted || expected.hint == found.hint)
        }
        _ => false,
    }
}

fn is_close(left: f64, right: f64) -> bool {
    if left == right || (left.is_nan() && right.is_nan()) {
        return true;
    }
    let (difference, sum) = ((left - right).abs(), left.abs() + right.abs());
    if left == 0.0 || right == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}
