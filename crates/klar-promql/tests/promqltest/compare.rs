//! Whether an answer is the one that is expected.

use klar_promql::{Answer, EvalError, Options, Selected, instant, parse, range};
use klar_tsdb::{Labels, Sample};

use crate::script::{Eval, Item};
use crate::store::{Native, Store};

/// How far values may differ, as a share of both.
const TOLERANCE: f64 = 1e-6;

/// `Ok`, or why not.
pub fn judge(store: &Store, eval: &Eval) -> Result<(), String> {
    if eval.series.iter().any(|(_, items)| items.contains(&Item::Native)) {
        return Err("native histograms are not supported".into());
    }
    match answer(store, eval) {
        Err(why) if why == Native.to_string() => Err(why),
        Err(_) if eval.fails => Ok(()),
        Err(why) => Err(why),
        Ok(_) if eval.fails => Err("it was to fail".into()),
        Ok(answer) => {
            compare(eval, &answer)?;
            again(store, eval)
        }
    }
}

fn said(error: EvalError) -> String {
    match error {
        EvalError::Source(source) => source.to_string(),
        other => other.to_string(),
    }
}

fn answer(store: &Store, eval: &Eval) -> Result<Answer, String> {
    let expr = parse(&eval.query).map_err(|error| error.to_string())?;
    let options = Options::default();
    match eval.step_ms {
        None => instant(store, &expr, eval.from_ms, &options),
        Some(step_ms) => range(store, &expr, eval.from_ms, eval.to_ms, step_ms, &options),
    }
    .map_err(said)
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
    let answer = match range(store, &expr, from, to, 60_000, &Options::default()) {
        Ok(Answer::Matrix(series)) => series,
        Ok(other) => return Err(format!("over time: {other:?}")),
        // There may be native histograms at the other times.
        Err(EvalError::Source(_)) => return Ok(()),
        Err(error) => return Err(format!("over time: {error}")),
    };
    let middle = answer.into_iter().filter_map(|series| {
        let sample = series.samples.iter().find(|sample| sample.time_ms == eval.from_ms)?;
        Some((series.labels, sample.value))
    });
    let middle: Vec<(Labels, f64)> = middle.collect();
    let answer = match (eval.scalar, &*middle) {
        (Some(_), [(_, value)]) => Answer::Scalar(*value),
        _ => Answer::Vector(middle),
    };
    compare(eval, &answer).map_err(|why| format!("over time: {why}"))
}

fn compare(eval: &Eval, answer: &Answer) -> Result<(), String> {
    if let Some(expected) = &eval.text {
        return match answer {
            Answer::Text(text) if text == expected => Ok(()),
            other => Err(format!("expected {expected:?}, found {other:?}")),
        };
    }
    if let Some(expected) = eval.scalar {
        return match answer {
            Answer::Scalar(value) if is_close(expected, *value) => Ok(()),
            other => Err(format!("expected {expected}, found {other:?}")),
        };
    }
    let found: Vec<Selected> = match answer {
        Answer::Vector(points) => {
            let sample = |value| Sample { time_ms: eval.from_ms, value };
            let series = |(labels, value): &(Labels, f64)| Selected {
                labels: labels.clone(),
                samples: vec![sample(*value)],
            };
            points.iter().map(series).collect()
        }
        Answer::Matrix(series) => series.clone(),
        other => return Err(format!("expected series, found {other:?}")),
    };
    let (from, step) = eval.samples.unwrap_or((eval.from_ms, eval.step_ms.unwrap_or(1)));
    for (place, (labels, items)) in eval.series.iter().enumerate() {
        let one = if eval.is_ordered {
            found.get(place).filter(|one| one.labels == *labels)
        } else {
            found.iter().find(|one| one.labels == *labels)
        };
        let one = one.ok_or_else(|| format!("{labels} is missing at {place}; found {found:?}"))?;
        let expected = items.iter().enumerate().filter_map(|(place, item)| match item {
            Item::Float(value) => Some(Sample { time_ms: from + place as i64 * step, value: *value }),
            _ => None,
        });
        let expected: Vec<Sample> = expected.collect();
        let is_same = expected.len() == one.samples.len()
            && expected.iter().zip(&one.samples).all(|(expected, found)| {
                expected.time_ms == found.time_ms && is_close(expected.value, found.value)
            });
        if !is_same {
            return Err(format!("{labels}: expected {}, found {}", shown(&expected), shown(&one.samples)));
        }
    }
    match found.iter().find(|one| !eval.series.iter().any(|(labels, _)| one.labels == *labels)) {
        Some(one) => Err(format!("{} is too much: {}", one.labels, shown(&one.samples))),
        None => Ok(()),
    }
}

fn shown(samples: &[Sample]) -> String {
    samples.iter().fold(String::new(), |text, sample| format!("{text} {}@{}", sample.value, sample.time_ms))
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
