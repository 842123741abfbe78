//! Questions that have limits, columns that come later, clocks that step, and several threads at once.

use std::time::Instant;

use super::*;
use crate::{BadFilter, BadRow, Budget, Error, Scalar};

fn put(store: &Store, from: u64, count: u64) -> Vec<Row> {
    let rows: Vec<Row> =
        (from..from + count).map(|number| Row::new(START + number as i64 * SECOND, number)).collect();
    append(store, &rows);
    rows
}

#[test]
fn a_row_is_taken_as_a_whole_or_not_at_all() {
    let folder = Folder::new();
    let columns = vec![
        Column::new("ts", Kind::Time),
        Column::new("small", Kind::U16),
        Column::new("name", Kind::Dict).optional(),
        Column::new("id", Kind::Fixed8).optional(),
    ];
    let table = Table::new("t", columns).unwrap();
    let limits = Settings { row_bytes_max: 100, ..settings() };
    let store = Store::open(&folder.0, vec![table], limits).unwrap().0;
    let mut batch = store.batch("t").unwrap();
    let long = "x".repeat(200);
    let (time, small, null) = (Value::Signed(5), Value::Unsigned(7), Value::Null);
    for (row, is_taken) in [
        (vec![time, small, Value::Text("a"), Value::Bytes(&[0; 8])], true),
        (vec![time, small, null, null], true),
        (vec![time, null, null, null], false),
        (vec![null, small, null, null], false),
        (vec![time, Value::Unsigned(65_536), null, null], false),
        (vec![time, Value::Signed(7), null, null], false),
        (vec![time, small, null, Value::Bytes(&[0; 7])], false),
        (vec![time, small, Value::Text(&long), null], false),
        (vec![Value::Signed(-1), small, null, null], false),
        (vec![Value::Signed(i64::MAX), small, null, null], false),
        (vec![time, small, null], false),
    ] {
        let before = batch.rows();
        assert_eq!(batch.push(&row).is_ok(), is_taken, "{row:?}");
        assert_eq!(batch.rows(), before + usize::from(is_taken));
    }
    assert!(matches!(
        (0..100_000).find_map(|_| batch.push(&[time, small, null, null]).err()),
        Some(BadRow::Full)
    ));
    store.append(&batch).unwrap();
    assert_eq!(store.count(&Select::new("t", 0, 9)).unwrap().0, 65_536);
    batch.clear();
    assert_eq!(batch.rows(), 0);
}

#[test]
fn tables_and_questions_that_cannot_be_are_told() {
    let time = || Column::new("ts", Kind::Time);
    for columns in [
        vec![],
        vec![Column::new("x", Kind::U16)],
        vec![time().optional()],
        vec![time(), time()],
        vec![time(), Column::new("Hour", Kind::U16)],
        vec![time(), Column::new("hour", Kind::U16)],
        vec![time(), Column::new("x", Kind::U16).searchable()],
    ] {
        assert!(Table::new("t", columns.clone()).is_err(), "{columns:?}");
    }
    assert!(Table::new("../t", vec![time()]).is_err());
    let folder = Folder::new();
    let store = open(&folder);
    let refused = |filter: Filter| store.count(&all_time().filter(filter)).unwrap_err();
    let bad = |error: Error| matches!(error, Error::Filter(_));
    assert!(bad(refused(Filter::compare("nothing", Op::Eq, 1))));
    assert!(bad(refused(Filter::compare("status", Op::Eq, "200"))));
    assert!(bad(refused(Filter::compare("trace", Op::Lt, [0; 16]))));
    assert!(bad(refused(Filter::contains("status", "2"))));
    assert!(bad(refused(Filter::Matches("body".into(), "(".into()))));
    assert!(bad(refused(Filter::Matches("body".into(), "(a{1000}){1000}".into()))));
    assert!(bad(refused(Filter::In("status".into(), vec![Scalar::Unsigned(1); 2000]))));
    let deep = (0..100).fold(Filter::All(vec![]), |inner, _| Filter::Not(Box::new(inner)));
    assert!(matches!(refused(deep), Error::Filter(BadFilter::Long(..))));
    assert!(matches!(store.count(&Select::new("nothing", 0, 1)), Err(Error::NoTable(_))));
    assert!(matches!(store.group(&all_time(), &Grouped::by(&["attrs"])), Err(Error::NoColumn(_))));
    assert!(matches!(store.scan(&all_time(), &["nothing"], Order::Newest, 1), Err(Error::NoColumn(_))));
    assert!(matches!(Store::open(&folder.0, vec![], settings()), Err(Error::InUse(_))));
}

#[test]
fn an_answer_has_limits() {
    let folder = Folder::new();
    let store = open_with(&folder, Settings { groups_max: 5, threads: 1, ..settings() });
    for part in 0..10 {
        put(&store, part * 1000, 1000);
        store.flush_now().unwrap();
    }
    assert!(matches!(store.group(&all_time(), &Grouped::by(&["size"])), Err(Error::TooManyGroups(5))));
    assert!(matches!(
        store.group(&all_time(), &Grouped::by(&[]).bucket(SECOND)),
        Err(Error::TooManyGroups(5))
    ));
    let with = |budget| Select { budget, ..all_time() };
    let (count, effort) = store.count(&with(Budget { rows_max: 3000, deadline: None })).unwrap();
    assert!(effort.is_partial && (3000..5000).contains(&count), "{count}");
    let over = Budget { deadline: Some(Instant::now()), ..Budget::default() };
    let (count, effort) = store.count(&with(over)).unwrap();
    assert!(effort.is_partial && count == 0);
    let mut scan = store.scan(&with(over), &[], Order::Newest, 10).unwrap();
    assert!(scan.next().is_none() && scan.effort().is_partial);
    let (count, effort) = store.count(&all_time()).unwrap();
    assert_eq!((count, effort.rows, effort.is_partial), (10_000, 10_000, false));
}

#[test]
fn what_cannot_be_there_is_not_read() {
    let folder = Folder::new();
    let store = open(&folder);
    let rows = put(&store, 0, 3000);
    store.flush_now().unwrap();
    for filter in [
        Filter::compare("route", Op::Eq, "/nothing"),
        Filter::compare("latency", Op::Gt, 1 << 20),
        Filter::compare("size", Op::Gt, u64::MAX - 1),
        Filter::contains("body", "something that nobody said"),
    ] {
        assert_eq!(store.count(&all_time().filter(filter.clone())).unwrap().1.rows, 0, "{filter:?}");
    }
    let one = Select::new("mixed", rows[5].ts, rows[5].ts + 1);
    assert_eq!(rows_of(&store, &one, Order::Newest, 9), [rows[5].clone()]);
    assert_eq!(counts(&store, &one, "status").len(), 1);
    // Columns are given as they are asked for; the newest row comes first.
    let rows_given =
        store.scan(&all_time(), &["status", "ts"], Order::Newest, 1).unwrap().next().unwrap().unwrap();
    assert_eq!(rows_given.columns().iter().map(|column| &*column.name).collect::<Vec<_>>(), ["status", "ts"]);
    assert_eq!(rows_given.cell(0, 1), Cell::Signed(rows[2999].ts));
}

#[test]
fn a_column_that_comes_later_reads_as_nothing_before() {
    let folder = Folder::new();
    let before =
        || Table::new("t", vec![Column::new("ts", Kind::Time), Column::new("a", Kind::U16)]).unwrap();
    // Also one for which files have filters: those from before have none, and get them.
    let columns = vec![
        Column::new("ts", Kind::Time),
        Column::new("b", Kind::Dict),
        Column::new("a", Kind::U16),
        Column::new("id", Kind::Fixed16).searchable().optional(),
    ];
    let after = || Table::new("t", columns.clone()).unwrap();
    let put = |store: &Store, row: &[Value]| {
        let mut batch = store.batch("t").unwrap();
        batch.push(row).unwrap();
        store.commit(store.append(&batch).unwrap()).unwrap();
    };
    let store = Store::open(&folder.0, vec![before()], settings()).unwrap().0;
    put(&store, &[Value::Signed(1), Value::Unsigned(10)]);
    store.flush_now().unwrap();
    put(&store, &[Value::Signed(2), Value::Unsigned(20)]);
    drop(store);
    let store = Store::open(&folder.0, vec![after()], settings()).unwrap().0;
    put(&store, &[Value::Signed(3), Value::Text("new"), Value::Unsigned(30), Value::Bytes(&[7; 16])]);
    let check = |store: &Store| {
        let rows =
            store.scan(&Select::new("t", 0, 9), &[], Order::Oldest, 9).unwrap().next().unwrap().unwrap();
        let cells: Vec<_> = (0..rows.len()).map(|row| (rows.cell(row, 1), rows.cell(row, 2))).collect();
        let number = Cell::Unsigned;
        let wanted = [(Cell::Null, number(10)), (Cell::Null, number(20)), (Cell::Text("new"), number(30))];
        assert_eq!(cells, wanted);
        let without = Select::new("t", 0, 9).filter(Filter::Missing("b".into()));
        assert_eq!(store.count(&without).unwrap().0, 2);
        let by_id = |id: u8| Select::new("t", 0, 9).filter(Filter::compare("id", crate::Op::Eq, [id; 16]));
        assert_eq!([7, 8].map(|id| store.count(&by_id(id)).unwrap().0), [1, 0]);
    };
    check(&store);
    store.maintain(5 * HOUR).unwrap();
    check(&store);
    drop(store);
    // Rows in the log of a table that is not declared are kept.
    let store = Store::open(&folder.0, vec![after()], settings()).unwrap().0;
    put(&store, &[Value::Signed(4), Value::Text("late"), Value::Unsigned(40), Value::Null]);
    drop(store);
    let (store, recovered) = Store::open(&folder.0, vec![mixed()], settings()).unwrap();
    assert_eq!((recovered.rows, recovered.notes.len()), (1, 1));
    store.maintain(5 * HOUR).unwrap();
    drop(store);
    let store = Store::open(&folder.0, vec![after()], settings()).unwrap().0;
    assert_eq!(store.count(&Select::new("t", 0, 9)).unwrap().0, 4);
}

#[test]
fn what_is_too_old_or_too_much_leaves_whatever_the_clock_does() {
    let folder = Folder::new();
    let keep = Settings { keep_age: Some(Duration::from_secs(2 * 3600)), ..settings() };
    let store = open_with(&folder, keep);
    for hour in 0..6 {
        append(&store, &[Row::new(START + hour * HOUR, hour as u64)]);
    }
    store.maintain(START + 5 * HOUR).unwrap();
    let hours = |store: &Store| -> Vec<i64> {
        rows_of(store, &all_time(), Order::Oldest, 99).iter().map(|row| (row.ts - START) / HOUR).collect()
    };
    assert_eq!(hours(&store), [2, 3, 4, 5]);
    assert_eq!(store.statistics().tables[0].retired_rows, 2);
    // A clock that is set back keeps all, and rows of the future are taken.
    append(&store, &[Row::new(START + 1000 * HOUR, 9)]);
    store.maintain(START - 5 * HOUR).unwrap();
    store.maintain(START + 5 * HOUR).unwrap();
    assert_eq!(hours(&store), [2, 3, 4, 5, 1000]);
    drop(store);
    let store = open_with(&folder, Settings { keep_bytes: Some(1), ..settings() });
    store.maintain(START + 5 * HOUR).unwrap();
    assert!(hours(&store).is_empty());
    assert!(files(&folder.0, ".parquet").is_empty() && files(&folder.0, ".side").is_empty());
}

#[test]
fn several_threads_append_maintain_and_ask_at_once() {
    const THREADS: u64 = 4;
    const BATCHES: u64 = 60;
    let folder = Folder::new();
    let store = open(&folder);
    std::thread::scope(|scope| {
        let store = &store;
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    for batch in 0..BATCHES {
                        put(store, (thread * BATCHES + batch) * 10, 10);
                    }
                })
            })
            .collect();
        let upkeep = scope.spawn(move || {
            for round in 0..60 {
                store.maintain(START + round % 4 * DAY).unwrap();
            }
        });
        let mut last = 0;
        while writers.iter().any(|writer| !writer.is_finished()) {
            let count = store.count(&all_time()).unwrap().0;
            // Batches are there as a whole, and none leaves.
            assert!(count >= last && count.is_multiple_of(10), "{last} {count}");
            last = count;
        }
        upkeep.join().unwrap();
    });
    let wanted: Vec<Row> =
        (0..THREADS * BATCHES * 10).map(|number| Row::new(START + number as i64 * SECOND, number)).collect();
    assert_eq!(all(&store), keys(&wanted));
    drop(store);
    assert_eq!(all(&open(&folder)), keys(&wanted));
}
