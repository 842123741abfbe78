//! The store as a whole, against rows in a plain list.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{
    Cell, Column, Filter, Grouped, Key, Kind, Op, Order, Scalar, Select, Settings, Sketch, Sketched, Store,
    Table, Value,
};

mod crash;
mod disk;
mod model;
mod others;
mod questions;

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("klar-rows-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A day, in microseconds.
const DAY: i64 = 86_400_000_000;
const HOUR: i64 = DAY / 24;
const SECOND: i64 = 1_000_000;
/// When rows of tests begin.
const START: i64 = 20_000 * DAY;

fn settings() -> Settings {
    Settings {
        flush_bytes: 0,
        flush_after: Duration::ZERO,
        segment_max: 1500,
        keep_age: None,
        threads: 2,
        ..Settings::default()
    }
}

/// A table with each kind of column.
fn mixed() -> Table {
    let columns = vec![
        Column::new("ts", Kind::Time),
        Column::new("route", Kind::Dict).optional(),
        Column::new("body", Kind::Text).optional().searchable(),
        Column::new("status", Kind::U16),
        Column::new("latency", Kind::U32).optional(),
        Column::new("size", Kind::U64),
        Column::new("shift", Kind::I64).optional(),
        Column::new("share", Kind::F64).optional(),
        Column::new("is_ok", Kind::Bool).optional(),
        Column::new("span", Kind::Fixed8).optional(),
        Column::new("trace", Kind::Fixed16).searchable(),
        Column::new("attrs", Kind::Map).optional(),
    ];
    let errors = Filter::compare("status", Op::Ge, 500);
    Table::new("mixed", columns)
        .unwrap()
        .sketch(Sketch { group: "route".into(), value: "latency".into(), errors: Some(errors) })
        .unwrap()
}

fn open_with(folder: &Folder, settings: Settings) -> Store {
    Store::open(&folder.0, vec![mixed()], settings).unwrap().0
}

fn open(folder: &Folder) -> Store {
    open_with(folder, settings())
}

/// A row of [`mixed`].
#[derive(Debug, Clone, PartialEq)]
struct Row {
    ts: i64,
    route: Option<String>,
    body: Option<String>,
    status: u16,
    latency: Option<u32>,
    size: u64,
    shift: Option<i64>,
    share: Option<f64>,
    is_ok: Option<bool>,
    span: Option<[u8; 8]>,
    trace: [u8; 16],
    attrs: Option<Vec<(String, String)>>,
}

impl Row {
    /// A row like any other, which is different for each number.
    fn new(ts: i64, number: u64) -> Self {
        let pick = |of: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40 & (of - 1);
        let some = |salt: u64| !(number + salt).is_multiple_of(3);
        Self {
            ts,
            route: some(0).then(|| format!("/thing/{}", pick(8))),
            body: some(1).then(|| {
                format!(
                    "Request {:016x} ended after {} ms",
                    number.wrapping_mul(0x1234_5678_9abc_def1),
                    pick(512)
                )
            }),
            status: [200, 200, 200, 404, 500, 503, 201, 302][pick(8) as usize],
            latency: some(2).then(|| (pick(1 << 20)) as u32),
            size: number << 50 | number,
            shift: some(4).then(|| -(number as i64) * 77),
            share: some(5).then_some(number as f64 / 7.0 - 3.0),
            is_ok: some(6).then_some(number.is_multiple_of(2)),
            span: some(7).then(|| (number * 31).to_be_bytes()),
            trace: (u128::from(number) << 64 | u128::from(number.wrapping_mul(99))).to_le_bytes(),
            attrs: some(8).then(|| {
                (0..number % 4)
                    .map(|at| (format!("key{at}"), format!("value {}", number % (at + 2))))
                    .collect()
            }),
        }
    }

    fn push(&self, batch: &mut crate::Batch) -> Result<(), crate::BadRow> {
        let attrs: Vec<(&str, &str)> =
            self.attrs.iter().flatten().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
        let (route, body) = (text(&self.route), text(&self.body));
        batch.push(&[
            Value::Signed(self.ts),
            self.route.as_ref().map_or(Value::Null, |_| Value::Text(&route)),
            self.body.as_ref().map_or(Value::Null, |_| Value::Text(&body)),
            Value::Unsigned(self.status.into()),
            self.latency.map_or(Value::Null, |latency| Value::Unsigned(latency.into())),
            Value::Unsigned(self.size),
            self.shift.map_or(Value::Null, Value::Signed),
            self.share.map_or(Value::Null, Value::Float),
            self.is_ok.map_or(Value::Null, Value::Bool),
            self.span.as_ref().map_or(Value::Null, |span| Value::Bytes(span)),
            Value::Bytes(&self.trace),
            self.attrs.as_ref().map_or(Value::Null, |_| Value::Map(&attrs)),
        ])
    }

    fn read(rows: &crate::Rows, row: usize) -> Self {
        let cell = |column| rows.cell(row, column);
        let text = |column| match cell(column) {
            Cell::Text(text) => Some(text.to_owned()),
            other => none(other),
        };
        let number = |column| match cell(column) {
            Cell::Unsigned(number) => Some(number),
            other => none(other),
        };
        Self {
            ts: match cell(0) {
                Cell::Signed(ts) => ts,
                other => panic!("{other:?}"),
            },
            route: text(1),
            body: text(2),
            status: number(3).unwrap() as u16,
            latency: number(4).map(|number| number as u32),
            size: number(5).unwrap(),
            shift: match cell(6) {
                Cell::Signed(shift) => Some(shift),
                other => none(other),
            },
            share: match cell(7) {
                Cell::Float(share) => Some(share),
                other => none(other),
            },
            is_ok: match cell(8) {
                Cell::Bool(is_ok) => Some(is_ok),
                other => none(other),
            },
            span: match cell(9) {
                Cell::Bytes(span) => Some(span.try_into().unwrap()),
                other => none(other),
            },
            trace: match cell(10) {
                Cell::Bytes(trace) => trace.try_into().unwrap(),
                other => panic!("{other:?}"),
            },
            attrs: match cell(11) {
                Cell::Map(entries) => {
                    Some(entries.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect())
                }
                other => none(other),
            },
        }
    }

    /// Something to sort rows by that are the same but for their order.
    fn key(&self) -> String {
        format!("{self:?}")
    }
}

fn none<T>(cell: Cell) -> Option<T> {
    assert_eq!(cell, Cell::Null);
    None
}

fn append(store: &Store, rows: &[Row]) {
    let mut batch = store.batch("mixed").unwrap();
    rows.iter().for_each(|row| row.push(&mut batch).unwrap());
    let upto = store.append(&batch).unwrap();
    store.commit(upto).unwrap();
}

fn all_time() -> Select {
    Select::new("mixed", 0, i64::MAX)
}

fn rows_of(store: &Store, select: &Select, order: Order, limit: usize) -> Vec<Row> {
    let mut found = Vec::new();
    for rows in store.scan(select, &[], order, limit).unwrap() {
        let rows = rows.unwrap();
        found.extend((0..rows.len()).map(|row| Row::read(&rows, row)));
    }
    found
}

/// All rows, in an order that does not depend on how they are kept; each is checked to come in the order of time.
fn all(store: &Store) -> Vec<String> {
    let rows = rows_of(store, &all_time(), Order::Oldest, usize::MAX);
    assert!(rows.is_sorted_by_key(|row| row.ts));
    keys(&rows)
}

fn keys(rows: &[Row]) -> Vec<String> {
    let mut keys: Vec<String> = rows.iter().map(Row::key).collect();
    keys.sort_unstable();
    keys
}

fn counts(store: &Store, select: &Select, column: &str) -> BTreeMap<Key, u64> {
    let found = store.group(select, &Grouped::by(&[column])).unwrap();
    found.groups.into_iter().map(|group| (group.keys[0].clone(), group.count)).collect()
}

/// All files below a folder whose names end so.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_str().unwrap().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}
