//! What apps show at their `/metrics`: Prometheus' text format 0.0.4, and of OpenMetrics as much as is the same.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>. Times are left out: a sample is of when it was
//! asked for. Exemplars are passed over.

use klar_tsdb::Labels;
use klar_tsdb::labels::NAME;

/// Why a text is none: which line, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Malformed {
    line: usize,
    what: String,
}

/// Labels that a series gets, whatever it says itself.
pub type Own<'a> = [(&'a str, &'a str)];

/// Reads a text. Where a series says a label of `own` itself, that becomes `exported_` and its name, as Prometheus does it.
///
/// # Errors
/// The first line that is none; more than `most` series.
pub fn read(text: &str, own: &Own<'_>, most: usize) -> Result<Vec<(Labels, f64)>, Malformed> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |what: String| Malformed { line: number, what };
        found.push(series(line, own).map_err(at)?);
        if found.len() > most {
            return Err(at(format!("more than {most} series")));
        }
    }
    Ok(found)
}

fn series(line: &str, own: &Own<'_>) -> Result<(Labels, f64), String> {
    let end = line.find(|letter: char| letter == '{' || letter.is_ascii_whitespace());
    let (name, rest) = line.split_at(end.ok_or("a value is missing")?);
    if !is_name(name) {
        return Err(format!("`{name:.80}` is no name of a metric"));
    }
    let mut pairs: Vec<(String, String)> = vec![(NAME.to_owned(), name.to_owned())];
    let rest = match rest.trim_start().strip_prefix('{') {
        Some(rest) => labels(rest, own, &mut pairs)?,
        None => rest,
    };
    pairs.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    // What follows the value is a time, or an exemplar.
    let value = rest.split_ascii_whitespace().next().ok_or("a value is missing")?;
    let value = value.parse().map_err(|_| format!("`{value:.40}` is no number"))?;
    let pairs = pairs.iter().map(|(name, value)| (&**name, &**value));
    Ok((Labels::new(pairs).map_err(|bad| bad.to_string())?, value))
}

/// Reads labels until the closing brace; gives what is behind it.
fn labels<'a>(text: &'a str, own: &Own<'_>, pairs: &mut Vec<(String, String)>) -> Result<&'a str, String> {
    let mut rest = text.trim_start();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok(rest);
        }
        let (name, value) = rest.split_once('=').ok_or("a label has no `=`, or a brace is open")?;
        let name = name.trim();
        if !is_name(name) {
            return Err(format!("`{name:.80}` is no name of a label"));
        }
        let quoted = value.trim_start().strip_prefix('"').ok_or("the value of a label is not in quotes")?;
        let (value, behind) = unquoted(quoted)?;
        let is_own = own.iter().any(|(its, _)| *its == name);
        pairs.push((if is_own { format!("exported_{name}") } else { name.to_owned() }, value));
        rest = behind.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
}

fn unquoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, other)) => value.push(other),
                None => break,
            },
            other => value.push(other),
        }
    }
    Err("a quote is open".into())
}

fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    !text.is_empty() && !text.starts_with(|first: char| first.is_ascii_digit()) && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let found = read(text, &[("app", "shop")], 10).unwrap();
        found.iter().map(|(labels, value)| format!("{labels:?} {value}")).collect()
    }

    #[test]
    fn texts_of_prometheus_and_openmetrics() {
        let text = "# HELP a Things.\n# TYPE a counter\na_total{path=\"/a\\\"b\\\\c\\nd\",app=\"mine\"} 3 1700000000000\n\nb 2.5e3\n\
                    c{x=\"1\",} +Inf\nd { y = \"}\" } NaN\ne_bucket{le=\"0.1\"} 7 # {trace_id=\"1\"} 0.05 1.5\n# EOF\n";
        insta::assert_snapshot!(lines(text).join("\n"));
        assert!(lines("").is_empty());
    }

    #[test]
    fn what_is_none_is_named_by_its_line() {
        for (text, what) in [
            ("a", "line 1: a value is missing"),
            ("a 1\n<html>\n", "line 2: a value is missing"),
            ("<!doctype html>", "line 1: `<!doctype` is no name of a metric"),
            ("a{x=1} 1", "line 1: the value of a label is not in quotes"),
            ("a{x=\"1} 1", "line 1: a quote is open"),
            ("a{x=\"1\" 1", "line 1: a label has no `=`, or a brace is open"),
            ("a{x=\"1\",x=\"2\"} 1", "line 1: the label `x` is there twice"),
            ("a b", "line 1: `b` is no number"),
            ("1a 1", "line 1: `1a` is no name of a metric"),
        ] {
            assert_eq!(read(text, &[], 10).unwrap_err().to_string(), what, "{text}");
        }
        assert!(read(&"a 1\n".repeat(11), &[], 10).is_err());
    }
}
