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

/// The same statement without what somebody typed: for evidence, which keeps no secrets.
#[must_use]
pub fn without_values(text: &str) -> String {
    let mut kept = String::new();
    let mut quoted = false;
    for c in text.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        if c == '\'' {
            quoted = !quoted;
            kept.push('\'');
        } else if !quoted {
            kept.push(c);
        }
    }
    if kept.chars().count() > 160 { kept.chars().take(159).chain(['…']).collect() } else { kept }
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
        assert_eq!(
            without_values("SELECT *  FROM u\n WHERE e = 'a''b' AND n=1"),
            "SELECT * FROM u WHERE e = '''' AND n=1"
        );
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
