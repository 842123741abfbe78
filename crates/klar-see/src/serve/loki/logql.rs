//! What of LogQL is read: which lines are wanted, and counting them
//! (<https://grafana.com/docs/loki/latest/query/>).
//!
//! Everything becomes a [`Filter`] of the table of lines, so that a question costs what a search costs. What cannot be one
//! is refused, and the refusal says what can.

use klar_rows::{Filter, Op};

use super::push::Pairs;

/// What is read; said wherever something else was asked.
const READ: &str = "klar reads {label=\"value\"} with = != =~ !~, then |= != |~ !~ \"text\" and | label=\"value\", \
                    then count_over_time and rate over that, and sum, min, max, avg and count by (label) over these";
/// How long a query may be, in bytes.
const QUERY_MAX: usize = 16 << 10;

/// Labels that are columns, under the names that clients know.
pub(super) const COLUMNS: [&str; 6] = ["app", "env", "service", "instance", "stream", "level"];

/// The column behind a label, if it is one.
pub(super) fn column(label: &str) -> Option<&'static str> {
    match label {
        "service_name" => Some("service"),
        "detected_level" | "severity" => Some("level"),
        _ => COLUMNS.into_iter().find(|name| *name == label),
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Query {
    /// Lines.
    Lines(Filter),
    /// How many there are over time.
    Count(Count),
    /// A number; Grafana asks for one to see whether somebody is there.
    Number(f64),
}

/// How many lines there are in each stretch of time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Count {
    pub filter: Filter,
    pub range_us: i64,
    pub offset_us: i64,
    /// For each second.
    pub is_rate: bool,
    pub fold: Option<(Fold, Vec<&'static str>)>,
}

/// What is made of several counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    Sum,
    Min,
    Max,
    Average,
    Count,
}

/// Reads a query.
pub(super) fn read(query: &str) -> Result<Query, String> {
    if query.len() > QUERY_MAX {
        return Err(format!("a query has at most {QUERY_MAX} bytes"));
    }
    let mut cursor = Cursor { whole: query, rest: query };
    cursor.space();
    let found = if cursor.rest.starts_with('{') {
        Query::Lines(cursor.pipeline()?)
    } else if cursor.rest.starts_with("vector") {
        Query::Number(cursor.numbers()?)
    } else {
        Query::Count(cursor.folded()?)
    };
    cursor.space();
    if cursor.rest.is_empty() { Ok(found) } else { Err(cursor.unread()) }
}

/// A selector alone, as `match[]` has it.
pub(super) fn selector(text: &str) -> Result<Filter, String> {
    let mut cursor = Cursor { whole: text, rest: text };
    let found = cursor.matchers()?;
    cursor.space();
    if cursor.rest.is_empty() { Ok(Filter::All(found)) } else { Err(cursor.unread()) }
}

/// The labels of a stream, as protobuf has them: `{app="shop", job="x"}`.
pub(super) fn stream_labels(text: &str, most: usize) -> Result<Pairs<'static>, String> {
    let mut cursor = Cursor { whole: text, rest: text };
    let mut pairs = Vec::new();
    cursor.space();
    cursor.expect("{")?;
    loop {
        cursor.space();
        if cursor.eat("}") {
            return Ok(pairs);
        }
        let name = cursor.name()?.to_owned();
        cursor.expect("=")?;
        let value = cursor.string()?;
        if pairs.len() < most {
            pairs.push((name.into(), value.into()));
        }
        cursor.space();
        if !cursor.eat(",") && !cursor.rest.starts_with('}') {
            return Err(cursor.unread());
        }
    }
}

struct Cursor<'a> {
    whole: &'a str,
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn at(&self) -> usize {
        self.whole.len() - self.rest.len() + 1
    }

    fn unread(&self) -> String {
        let what: String = self.rest.chars().take(40).collect();
        let what = if what.is_empty() { "its end".to_owned() } else { format!("`{what}`") };
        format!("the query cannot be read at {what} (byte {}): {READ}", self.at())
    }

    fn space(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            // A comment goes to the end of its line.
            match self.rest.strip_prefix('#') {
                Some(comment) => self.rest = comment.find('\n').map_or("", |end| &comment[end..]),
                None => return,
            }
        }
    }

    fn eat(&mut self, text: &str) -> bool {
        self.space();
        let behind = self.rest.strip_prefix(text);
        self.rest = behind.unwrap_or(self.rest);
        behind.is_some()
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        if self.eat(text) { Ok(()) } else { Err(self.unread()) }
    }

    fn name(&mut self) -> Result<&'a str, String> {
        self.space();
        let is_part = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '.' | ':' | '-');
        let end = self.rest.find(|letter| !is_part(letter)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() {
            return Err(self.unread());
        }
        self.rest = rest;
        Ok(name)
    }

    /// A word, if that is what comes next.
    fn word(&mut self, word: &str) -> bool {
        self.space();
        let behind = self.rest.strip_prefix(word);
        let is_whole =
            |rest: &&str| !rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        match behind.filter(is_whole) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// In quotes as Go has them: backticks for what stands as it is.
    fn string(&mut self) -> Result<String, String> {
        self.space();
        if let Some(rest) = self.rest.strip_prefix('`') {
            let (text, rest) = rest.split_once('`').ok_or_else(|| self.unread())?;
            self.rest = rest;
            return Ok(text.to_owned());
        }
        let Some(mut rest) = self.rest.strip_prefix('"') else { return Err(self.unread()) };
        let mut bytes = Vec::new();
        loop {
            let mut letters = rest.chars();
            let letter = letters.next().ok_or_else(|| self.unread())?;
            rest = letters.as_str();
            if letter == '"' {
                break;
            }
            if letter != '\\' {
                bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            let escaped = rest.chars().next().ok_or_else(|| self.unread())?;
            rest = rest.get(escaped.len_utf8()..).unwrap_or_default();
            let digits = match escaped {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => 0,
            };
            if digits > 0 {
                let text = rest.get(..digits).ok_or_else(|| self.unread())?;
                let code = u32::from_str_radix(text, 16).map_err(|_| self.unread())?;
                rest = rest.get(digits..).unwrap_or_default();
                if escaped == 'x' {
                    bytes.push(code as u8);
                } else {
                    let letter = char::from_u32(code).ok_or_else(|| self.unread())?;
                    bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                }
                continue;
            }
            bytes.push(match escaped {
                'n' => b'\n',
                't' => b'\t',
                'r' => b'\r',
                'a' => 7,
                'b' => 8,
                'f' => 12,
                'v' => 11,
                '\\' | '"' | '\'' => escaped as u8,
                _ => return Err(self.unread()),
            });
        }
        self.rest = rest;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn matchers(&mut self) -> Result<Vec<Filter>, String> {
        self.expect("{")?;
        let mut found = Vec::new();
        loop {
            if self.eat("}") {
                return Ok(found);
            }
            found.extend(self.matcher()?);
            if !self.eat(",") {
                self.expect("}")?;
                return Ok(found);
            }
        }
    }

    /// `label="value"`; nothing if that is true of all lines.
    fn matcher(&mut self) -> Result<Option<Filter>, String> {
        let label = self.name()?;
        self.space();
        // What begins alike comes last.
        let operators = [
            ("=~", true, true),
            ("!~", false, true),
            ("!=", false, false),
            ("==", true, false),
            ("=", true, false),
        ];
        let found = operators.iter().find(|(operator, ..)| self.rest.starts_with(operator));
        let Some((operator, is_so, is_expression)) = found else { return Err(self.unread()) };
        self.expect(operator)?;
        let value = self.string()?;
        let filter = match (column(label), is_expression) {
            (Some("level"), false) if value.is_empty() => Some(Filter::Missing("level".into())),
            (Some(column), false) => Some(Filter::compare(column, Op::Eq, value)),
            (Some(column), true) => matches(column, &value)?,
            (None, false) => Some(entry(label, value)?),
            (None, true) => one_of_entries(label, &value)?,
        };
        Ok(match filter {
            Some(filter) if *is_so => Some(filter),
            Some(filter) => Some(Filter::Not(Box::new(filter))),
            None if *is_so => None,
            // All have it, and those are not wanted.
            None => Some(Filter::Any(Vec::new())),
        })
    }

    fn pipeline(&mut self) -> Result<Filter, String> {
        let mut all = self.matchers()?;
        loop {
            self.space();
            let found = [("|=", true, false), ("|~", true, true), ("!=", false, false), ("!~", false, true)]
                .into_iter()
                .find(|(operator, ..)| self.rest.starts_with(operator));
            if let Some((operator, is_so, is_expression)) = found {
                self.expect(operator)?;
                let mut any = Vec::new();
                loop {
                    let text = self.string()?;
                    let filter = if is_expression {
                        Filter::Matches("body".into(), text)
                    } else {
                        Filter::contains("body", &text)
                    };
                    any.push(filter);
                    if !self.word("or") {
                        break;
                    }
                }
                // Where one of them is empty, all lines have it.
                let all_have =
                    |filter: &Filter| matches!(filter, Filter::Contains { text, .. } if text.is_empty());
                if any.iter().any(all_have) {
                    if !is_so {
                        all.push(Filter::Any(Vec::new()));
                    }
                    continue;
                }
                let filter = Filter::Any(any);
                all.push(if is_so { filter } else { Filter::Not(Box::new(filter)) });
            } else if self.rest.starts_with('|') && !self.rest.starts_with("|>") {
                self.expect("|")?;
                let before = self.rest;
                let name = self.name()?;
                self.space();
                if name == "drop" {
                    // Grafana takes away the marks of lines that could not be parsed; there are none here.
                    loop {
                        if !self.name()?.starts_with("__") {
                            return Err(format!("`| drop` of labels is not supported: {READ}"));
                        }
                        if !self.eat(",") {
                            break;
                        }
                    }
                } else if self.rest.starts_with(['=', '!']) {
                    self.rest = before;
                    all.extend(self.matcher()?);
                } else {
                    return Err(format!("`| {name}` is not supported: {READ}"));
                }
            } else {
                return Ok(Filter::All(all));
            }
        }
    }

    fn duration(&mut self) -> Result<i64, String> {
        self.space();
        let end = self.rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.');
        let (text, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let seconds = klar_promql::duration(text).filter(|seconds| (0.001..=1e9).contains(seconds));
        let seconds = seconds.ok_or_else(|| self.unread())?;
        self.rest = rest;
        Ok((seconds * 1e6).round() as i64)
    }

    fn grouping(&mut self) -> Result<Option<Vec<&'static str>>, String> {
        let is_by = self.word("by");
        if !is_by && !self.word("without") {
            return Ok(None);
        }
        self.expect("(")?;
        let mut named = Vec::new();
        while !self.eat(")") {
            let label = self.name()?;
            match column(label) {
                Some(column) if !named.contains(&column) => named.push(column),
                Some(_) => {}
                None if is_by => {
                    let columns = COLUMNS.join(", ");
                    return Err(format!("lines can be counted by {columns}, not by `{label}`"));
                }
                None => {}
            }
            if !self.eat(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(Some(if is_by {
            named
        } else {
            COLUMNS.into_iter().filter(|column| !named.contains(column)).collect()
        }))
    }

    fn folded(&mut self) -> Result<Count, String> {
        let folds = [
            ("sum", Fold::Sum),
            ("min", Fold::Min),
            ("max", Fold::Max),
            ("avg", Fold::Average),
            ("count", Fold::Count),
        ];
        let Some((_, fold)) = folds.into_iter().find(|(name, _)| self.word(name)) else {
            return self.counted();
        };
        let before = self.grouping()?;
        self.expect("(")?;
        let mut count = self.counted()?;
        self.expect(")")?;
        let columns = before.or(self.grouping()?).unwrap_or_default();
        count.fold = Some((fold, columns));
        Ok(count)
    }

    fn counted(&mut self) -> Result<Count, String> {
        let is_rate = self.word("rate");
        if !is_rate && !self.word("count_over_time") {
            return Err(self.unread());
        }
        self.expect("(")?;
        let filter = self.pipeline()?;
        self.expect("[")?;
        let range_us = self.duration()?;
        self.expect("]")?;
        let offset_us = if self.word("offset") { self.duration()? } else { 0 };
        self.expect(")")?;
        Ok(Count { filter, range_us, offset_us, is_rate, fold: None })
    }

    /// `vector(1)+vector(1)`.
    fn numbers(&mut self) -> Result<f64, String> {
        let mut sum = 0.0;
        loop {
            self.expect("vector")?;
            self.expect("(")?;
            self.space();
            let end = self.rest.find(')').ok_or_else(|| self.unread())?;
            let (number, rest) = self.rest.split_at(end);
            sum += number.trim().parse::<f64>().map_err(|_| self.unread())?;
            self.rest = rest;
            self.expect(")")?;
            if !self.eat("+") {
                return Ok(sum);
            }
        }
    }
}

fn entry(label: &str, value: String) -> Result<Filter, String> {
    if value.is_empty() {
        let columns = COLUMNS.join(", ");
        return Err(format!("`{label}` cannot be compared with nothing; that can be asked of {columns}"));
    }
    Ok(Filter::Entry { column: "attrs".into(), key: label.to_owned(), value })
}

/// A whole value, as Prometheus matches it. Nothing if all values match.
fn matches(column: &str, expression: &str) -> Result<Option<Filter>, String> {
    let matcher = klar_tsdb::Matcher::new(column, klar_tsdb::Op::Matches, expression);
    let matcher = matcher.map_err(|bad| bad.to_string())?;
    if expression == ".*" {
        return Ok(None);
    }
    let filter = Filter::Matches(column.to_owned(), format!("^(?:{expression})$"));
    let may_be_missing = column == "level" && matcher.takes_none();
    Ok(Some(if may_be_missing {
        Filter::Any(vec![filter, Filter::Missing(column.to_owned())])
    } else {
        filter
    }))
}

/// `a|b|c`, which is what Grafana makes of a choice of several. What else an expression can say is not looked for in what
/// is no column.
fn one_of_entries(label: &str, expression: &str) -> Result<Option<Filter>, String> {
    if expression == ".*" {
        return Ok(None);
    }
    let inner = expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(expression);
    let mut any = Vec::new();
    for value in inner.split('|') {
        let mut plain = String::with_capacity(value.len());
        let mut letters = value.chars();
        while let Some(letter) = letters.next() {
            let letter = match letter {
                '\\' => letters.next().filter(|letter| letter.is_ascii_punctuation()),
                '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' => None,
                other => Some(other),
            };
            let Some(letter) = letter else {
                let columns = COLUMNS.join(", ");
                return Err(format!(
                    "`{label}` is matched with whole values only (`a|b`), not with an expression; that can be asked of \
                     {columns}"
                ));
            };
            plain.push(letter);
        }
        any.push(entry(label, plain)?);
    }
    Ok(Some(Filter::Any(any)))
}

/// Texts that a filter compares a column with for equality, for tests.
#[cfg(test)]
pub(super) fn is(column: &str, value: &str) -> Filter {
    Filter::compare(column, Op::Eq, value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn has(text: &str) -> Filter {
        Filter::Any(vec![Filter::contains("body", text)])
    }

    #[test]
    fn lines_are_selected() {
        let not = |filter| Filter::Not(Box::new(filter));
        let job =
            |value: &str| Filter::Entry { column: "attrs".into(), key: "job".into(), value: value.into() };
        for (query, expected) in [
            (r#"{app="shop"}"#, vec![is("app", "shop")]),
            (r#" { app = "shop", service_name!="a" } "#, vec![is("app", "shop"), not(is("service", "a"))]),
            (r#"{job="x"} |= "a" != "b""#, vec![job("x"), has("a"), not(has("b"))]),
            (
                r#"{job=~"x|y\\.z"} |~ `a+` !~ "b""#,
                vec![
                    Filter::Any(vec![job("x"), job("y.z")]),
                    Filter::Any(vec![Filter::Matches("body".into(), "a+".into())]),
                    not(Filter::Any(vec![Filter::Matches("body".into(), "b".into())])),
                ],
            ),
            (r#"{app=~".*"} |= "" | drop __error__, __error_details__"#, vec![]),
            (r#"{} | detected_level="error" |= "\"x\"""#, vec![is("level", "error"), has("\"x\"")]),
            (
                r#"{} |= "a" or "b""#,
                vec![Filter::Any(vec![Filter::contains("body", "a"), Filter::contains("body", "b")])],
            ),
        ] {
            assert_eq!(read(query), Ok(Query::Lines(Filter::All(expected))), "{query}");
        }
    }

    #[test]
    fn lines_are_counted() {
        let of = |query: &str| match read(query) {
            Ok(Query::Count(count)) => (count.range_us, count.offset_us, count.is_rate, count.fold),
            other => panic!("{query}: {other:?}"),
        };
        assert_eq!(of(r#"rate({app="x"}[5m])"#), (300_000_000, 0, true, None));
        assert_eq!(
            of(r#"count_over_time({app="x"} |= "a" [1h30m] offset 1m)"#),
            (5_400_000_000, 60_000_000, false, None)
        );
        let by = Some((Fold::Sum, vec!["level"]));
        assert_eq!(
            of(r#"sum by (level, detected_level) (count_over_time({app="x"} | drop __error__[5s]))"#),
            (5_000_000, 0, false, by.clone())
        );
        assert_eq!(of(r#"sum(rate({app="x"}[5s])) by (level)"#), (5_000_000, 0, true, by));
        assert_eq!(
            of(r#"max without (level, job) (rate({app="x"}[5s]))"#).3,
            Some((Fold::Max, vec!["app", "env", "service", "instance", "stream"]))
        );
        assert_eq!(read("vector(1)+vector(1)"), Ok(Query::Number(2.0)));
    }

    #[test]
    fn what_is_not_supported_is_said() {
        for (query, word) in [
            (r#"{app="x"} | json"#, "`| json` is not supported: klar reads"),
            (r#"{app="x"} | logfmt | a > 5"#, "`| logfmt`"),
            (r#"topk(5, rate({app="x"}[5m]))"#, "`topk(5"),
            (r#"sum by (job) (rate({app="x"}[5m]))"#, "not by `job`"),
            (r#"{job=~"x.+"}"#, "whole values"),
            (r#"{job!=""}"#, "cannot be compared with nothing"),
            (r#"{app=~"("}"#, "("),
            (r#"{app="x""#, "its end"),
            (r#"{app="x} "#, "byte 6"),
            ("", "klar reads"),
        ] {
            let error = read(query).unwrap_err();
            assert!(error.contains(word), "{query}: {error}");
        }
    }

    #[test]
    fn labels_of_streams() {
        let read = |text| stream_labels(text, 2);
        assert_eq!(read("{}").unwrap(), []);
        let found = read(r#"{a="1", b="\"\u00e6\x41", c="left out"}"#).unwrap();
        assert_eq!(found, [("a".into(), "1".into()), ("b".into(), "\"æA".into())]);
        for bad in ["", "{", r#"{a="1""#, r#"{a="1" b="2"}"#, "{a=1}", r#"{="1"}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r#"(\{|\}|[a-z"`\\=~!|,()\[\] #0-9æ]|rate|by|drop|vector){0,40}"#) {
            let _ = (read(&text), selector(&text), stream_labels(&text, 3));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = String::from_utf8_lossy(&bytes);
            let _ = (read(&text), selector(&text), stream_labels(&text, 3));
        }
    }
}
