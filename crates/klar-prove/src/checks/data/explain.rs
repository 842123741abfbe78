//! Statements of the app, and how PostgreSQL would run them: seen without running any.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::check::Unable;
use crate::world::database::{Database, literal};

/// A statement that the app has asked.
#[derive(Debug, Clone)]
pub struct Statement {
    /// With placeholders, as a rule.
    pub text: String,
    /// How often since its counter began; `None` where nobody counts.
    pub calls: Option<i64>,
}

/// A table that a plan reads from one end to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The table, without its schema.
    pub table: String,
    /// What is thrown away of it.
    pub filter: String,
    /// What it is sorted by afterwards, before only the first rows are kept or not.
    pub sort: Vec<String>,
}

/// Longer ones are nothing that a person wrote, and are not worth a look.
const LONGEST: usize = 8_000;

/// What `pg_stat_statements` has counted for this role in this database; `None` where it is not there.
pub async fn counted(database: &Database) -> Option<Vec<Statement>> {
    let rows = counters(database, "AND calls >= 2 ORDER BY total_exec_time DESC LIMIT 80").await?;
    Some(rows.into_iter().map(|(text, calls)| Statement { text, calls: Some(calls) }).collect())
}

/// How often each reading statement of this role has run; `None` where nobody counts.
pub async fn calls(database: &Database) -> Option<BTreeMap<String, i64>> {
    let mut all = BTreeMap::new();
    for (text, calls) in counters(database, "LIMIT 5000").await? {
        *all.entry(text).or_default() += calls;
    }
    Some(all)
}

async fn counters(database: &Database, which: &str) -> Option<Vec<(String, i64)>> {
    let schema = database
        .row(
            "SELECT quote_ident(n.nspname) AS schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
             WHERE e.extname = 'pg_stat_statements'",
        )
        .await
        .ok()?;
    let schema = schema.text("schema").to_owned();
    let sql = format!(
        "SELECT calls, query FROM {schema}.pg_stat_statements \
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND userid = (SELECT oid FROM pg_roles WHERE rolname = current_user) \
         AND query ~* '^\\s*(select|with)\\M' AND length(query) < {LONGEST} \
         AND query !~ '\\m(pg_stat_|pg_stats|pg_catalog|pg_class|pg_roles|pg_extension|pg_prepared_statements)' {which}"
    );
    // Made but not loaded, it says so instead of answering.
    let rows = database.rows(&sql).await.ok()?;
    Some(rows.iter().map(|row| (row.text("query").to_owned(), row.number("calls"))).collect())
}

/// What the app's connections ask just now, or asked last.
pub async fn current(database: &Database) -> Vec<String> {
    // The server cuts what is longer; half a statement is of no use.
    let sql = "SELECT DISTINCT query FROM pg_stat_activity WHERE usename = current_user \
        AND datname = current_database() AND pid <> pg_backend_pid() AND application_name <> 'klar check' \
        AND backend_type = 'client backend' \
        AND length(query) < pg_size_bytes(current_setting('track_activity_query_size')) - 1 LIMIT 200";
    database
        .rows(sql)
        .await
        .map(|rows| rows.iter().map(|row| row.text("query").to_owned()).collect())
        .unwrap_or_default()
}

/// Whether it only reads, by its first word.
#[must_use]
pub fn reads(text: &str) -> bool {
    let first: String = text.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    ["select", "with"].contains(&first.to_ascii_lowercase().as_str())
}

/// The plan for a statement, whatever its parameters are.
///
/// # Errors
/// When the server cannot plan it: pieces are missing, or the types of its parameters cannot be told.
pub async fn plan(database: &Database, statement: &str) -> Result<Value, Unable> {
    // Prepared in the protocol first, which takes one statement only: a text with two would run the second.
    let parameters = database.parameters(statement).await?;
    database.run("SET plan_cache_mode = force_generic_plan; DEALLOCATE ALL").await?;
    database.run(&format!("PREPARE klar_check AS {statement}")).await?;
    let values = vec!["NULL"; parameters].join(", ");
    let values = if parameters == 0 { String::new() } else { format!("({values})") };
    let rows = database.rows(&format!("EXPLAIN (FORMAT JSON) EXECUTE klar_check{values}")).await?;
    let text: String = rows.iter().map(|row| row.text("QUERY PLAN")).collect();
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

/// The tables that a plan reads from one end to the other.
#[must_use]
pub fn scans(plan: &Value) -> Vec<Scan> {
    let mut found = Vec::new();
    if let Some(root) = plan.pointer("/0/Plan") {
        walk(root, &[], false, 0, &mut found);
    }
    found
}

fn walk(node: &Value, sort: &[String], limited: bool, depth: usize, found: &mut Vec<Scan>) {
    if depth > 60 {
        return;
    }
    let text = |key: &str| node.get(key).and_then(Value::as_str).unwrap_or_default();
    let own: Vec<String> = node
        .get("Sort Key")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let sort = if own.is_empty() { sort } else { &own };
    // The first rows of a table, whichever they are, are found at once.
    let limited = text("Node Type") == "Limit" || limited && own.is_empty();
    if text("Node Type") == "Seq Scan" && !(limited && text("Filter").is_empty()) {
        found.push(Scan {
            table: text("Relation Name").to_owned(),
            filter: text("Filter").to_owned(),
            sort: sort.to_vec(),
        });
    }
    for child in node.get("Plans").and_then(Value::as_array).into_iter().flatten() {
        walk(child, sort, limited, depth + 1, found);
    }
}

/// The columns of an index that would answer a scan; empty when that cannot be told from its text.
#[must_use]
pub fn index_for(scan: &Scan, columns: &[String]) -> Vec<String> {
    let mut equal = Vec::new();
    let mut ranges = Vec::new();
    // What is asked for in one way or another is found by no single index; in order it may still be found.
    let is_plain = !scan.filter.contains(" OR ");
    for clause in scan.filter.split(" AND ").filter(|_| is_plain) {
        let Some((left, operator)) = left_side(clause) else { continue };
        if let Some(column) = columns.iter().find(|column| **column == left) {
            let list = if operator == "=" { &mut equal } else { &mut ranges };
            if !list.contains(column) {
                list.push(column.clone());
            }
        }
    }
    for key in &scan.sort {
        let name = key.split_whitespace().next().unwrap_or_default();
        let name = name.rsplit('.').next().unwrap_or_default();
        if !columns.iter().any(|column| column == name) {
            break;
        }
        if !equal.iter().chain(&ranges).any(|known| known == name) {
            ranges.push(name.to_owned());
        }
    }
    // One that is asked for by more than a few columns is not an index but a second table.
    equal.into_iter().chain(ranges).take(4).collect()
}

/// `((o.club_id)::bigint = $1)` is about `club_id`, by `=`.
fn left_side(clause: &str) -> Option<(&str, &str)> {
    let operators = [" = ", " >= ", " <= ", " > ", " < "];
    let (at, operator) =
        operators.into_iter().filter_map(|each| Some((clause.find(each)?, each.trim()))).min()?;
    let left = clause.get(..at)?.trim_matches(['(', ')', ' ']);
    let left = left.split("::").next().unwrap_or_default().trim_matches(['(', ')', ' ']);
    Some((left.rsplit('.').next().unwrap_or_default(), operator))
}

/// The same statement without what somebody typed: for evidence, which keeps no secrets and nobody's data.
///
/// Texts in every form that PostgreSQL has (`'…'`, `E'…'`, `U&'…'`, `B'…'`, `X'…'`, `$tag$…$tag$`) are emptied, comments
/// left out, and numbers longer than two digits become `?`. What is not closed ends there.
#[must_use]
pub fn without_values(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word = kept.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$');
        let after = match c {
            '\'' => {
                // `E'it\'s'`: only there a backslash keeps the quote from ending it.
                let escapes = {
                    let mut before = kept.chars().rev();
                    matches!(before.next(), Some('e' | 'E'))
                        && !before.next().is_some_and(|c| c.is_alphanumeric() || c == '_')
                };
                kept.push_str("''");
                behind_quoted(rest, '\'', escapes)
            }
            '"' => {
                let after = behind_quoted(rest, '"', false);
                kept.push_str(rest.strip_suffix(after).unwrap_or(rest));
                after
            }
            '$' if !word => match dollar_tag(rest) {
                Some(tag) => {
                    kept.push_str("$$");
                    rest[tag.len()..].split_once(tag).map_or("", |(_, after)| after)
                }
                None => {
                    // A parameter: its number is none of anybody's.
                    let end = rest[1..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |at| at + 1);
                    kept.push_str(&rest[..end]);
                    &rest[end..]
                }
            },
            '-' if rest.starts_with("--") => {
                kept.push(' ');
                rest.split_once('\n').map_or("", |(_, after)| after)
            }
            '/' if rest.starts_with("/*") => {
                kept.push(' ');
                behind_comment(rest)
            }
            c if c.is_ascii_digit() && !word => {
                let end = end_of_number(rest);
                kept.push_str(if end > 2 { "?" } else { &rest[..end] });
                &rest[end..]
            }
            c => {
                kept.push(c);
                &rest[c.len_utf8()..]
            }
        };
        rest = after;
    }
    let kept = kept.split_whitespace().collect::<Vec<_>>().join(" ");
    if kept.chars().count() > 160 { kept.chars().take(159).chain(['…']).collect() } else { kept }
}

/// What comes behind a quoted text that begins here; a doubled quote is one within it.
fn behind_quoted(text: &str, quote: char, escapes: bool) -> &str {
    let mut inside = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = inside.next() {
        if escapes && c == '\\' {
            inside.next();
        } else if c == quote && inside.next_if(|(_, next)| *next == quote).is_none() {
            return &text[at + quote.len_utf8()..];
        }
    }
    ""
}

/// `$$` or `$tag$`, where a text begins with one.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 1;
    let tag = &text[1..end];
    let good = tag.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !tag.starts_with(|c: char| c.is_ascii_digit());
    good.then(|| &text[..=end])
}

/// What comes behind a comment that begins here; PostgreSQL lets them stand in one another.
fn behind_comment(text: &str) -> &str {
    let mut rest = text;
    let mut depth = 0_usize;
    loop {
        let next = [rest.find("/*"), rest.find("*/")];
        match next {
            [Some(open), close] if close.is_none_or(|close| open < close) => {
                depth += 1;
                rest = &rest[open + 2..];
            }
            [_, Some(close)] => {
                depth = depth.saturating_sub(1);
                rest = &rest[close + 2..];
                if depth == 0 {
                    return rest;
                }
            }
            _ => return "",
        }
    }
}

/// How long the number is that begins here: `12`, `1_000`, `1.5e-3`, `0x1F`.
fn end_of_number(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut end = 0;
    while let Some(byte) = bytes.get(end) {
        let exponent = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b'e' | b'E'));
        let signed = matches!(byte, b'+' | b'-') && end > 0 && exponent(bytes.get(end - 1));
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || signed {
            end += 1;
        } else {
            break;
        }
    }
    end
}

/// The names of a table's columns.
pub async fn columns(database: &Database, table: i64) -> Vec<String> {
    let sql = format!(
        "SELECT attname AS name FROM pg_attribute WHERE attrelid = {}::oid AND attnum > 0 AND NOT attisdropped \
         ORDER BY attnum LIMIT 200",
        literal(&table.to_string())
    );
    database
        .rows(&sql)
        .await
        .map(|rows| rows.iter().map(|row| row.text("name").to_owned()).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scan(filter: &str, sort: &[&str]) -> Scan {
        Scan {
            table: "orders".into(),
            filter: filter.into(),
            sort: sort.iter().map(|key| (*key).to_owned()).collect(),
        }
    }

    #[test]
    fn scans_are_found_in_plans() {
        let seq =
            |filter: &str| json!({ "Node Type": "Seq Scan", "Relation Name": "orders", "Filter": filter });
        let plan = |node: Value| json!([{ "Plan": node }]);
        let limit = |child: Value| json!({ "Node Type": "Limit", "Plans": [child] });
        let sort =
            |child: Value| json!({ "Node Type": "Sort", "Sort Key": ["o.placed_at DESC"], "Plans": [child] });
        for (plan, wanted) in [
            (plan(seq("(club_id = $1)")), vec![scan("(club_id = $1)", &[])]),
            (plan(limit(sort(seq("")))), vec![scan("", &["o.placed_at DESC"])]),
            (plan(limit(seq(""))), vec![]),
            (plan(json!({ "Node Type": "Index Scan", "Relation Name": "orders" })), vec![]),
            (json!({}), vec![]),
        ] {
            assert_eq!(scans(&plan), wanted, "{plan}");
        }
    }

    #[test]
    fn indexes_are_made_up() {
        let columns = ["id", "club_id", "placed_at", "status"].map(String::from);
        for (scan, wanted) in [
            (scan("(club_id = $1)", &[]), "club_id"),
            (scan("((placed_at > $2) AND ((status)::text = $1))", &[]), "status, placed_at"),
            (scan("(club_id = $1)", &["placed_at DESC", "id DESC"]), "club_id, placed_at, id"),
            (scan("", &["o.placed_at DESC"]), "placed_at"),
            (scan("((club_id = $1) OR (id = $2))", &[]), ""),
            (scan("(lower(status) = $1)", &[]), ""),
            (scan("(($1 IS NULL) OR (id = $1))", &["o.placed_at DESC", "o.id DESC"]), "placed_at, id"),
        ] {
            assert_eq!(index_for(&scan, &columns).join(", "), wanted, "{scan:?}");
        }
    }

    #[test]
    fn evidence_keeps_no_values() {
        for (text, kept) in [
            ("SELECT *  FROM u\n WHERE e = 'a''b' AND n=1", "SELECT * FROM u WHERE e = '' AND n=1"),
            ("phone = 4712345678 AND age>42", "phone = ? AND age>42"),
            ("x IN (12.5, 1e9, 0x1F, 1_000, 7)", "x IN (?, ?, ?, ?, 7)"),
            ("b = 100-20", "b = ?-20"),
            ("n = $12 AND t2.col_345 = $1", "n = $12 AND t2.col_345 = $1"),
            ("n = $$it's Ola$$ AND m = $a$x$$y$a$ AND k=1", "n = $$ AND m = $$ AND k=1"),
            (r"n = E'it\'s Ola' AND m = e'\\' AND k = 'x'", "n = E'' AND m = e'' AND k = ''"),
            (r"n = 'a\' AND k = 'x'", "n = '' AND k = ''"),
            ("n = U&'\\00f8la' AND b = B'1010' AND x = X'1FF'", "n = U&'' AND b = B'' AND x = X''"),
            (
                "SELECT \"e\"\"1234\" -- Ola's\n, 'x' /* Kari /* and */ Ola's */ FROM t",
                "SELECT \"e\"\"1234\" , '' FROM t",
            ),
            ("n = 'never closed 123456", "n = ''"),
            ("n = $a$never closed", "n = $$"),
            ("/* never closed 'x", ""),
            ("(number)::integer = ANY ('{1,2}'::integer[])", "(number)::integer = ANY (''::integer[])"),
            ("å = 'ø' AND æ$1 = 12345", "å = '' AND æ$1 = ?"),
        ] {
            assert_eq!(without_values(text), kept, "{text}");
        }
    }

    #[test]
    fn reading_statements() {
        for (text, reads_only) in
            [("select 1", true), ("\n WITH a AS (select 1)", true), ("selection", false), ("DELETE", false)]
        {
            assert_eq!(reads(text), reads_only, "{text}");
        }
    }
}
