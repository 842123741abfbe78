//! Whatever is done to a store, it answers as a list of rows would.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// So many rows from a time on, in seconds; each so much later than the one before.
    Put {
        from_s: i64,
        step_ms: i64,
        count: u64,
    },
    Maintain {
        hours: i64,
    },
    Flush,
    Reopen,
    LoseSidecars,
    Delete {
        status: u16,
        from_s: i64,
        length_s: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..20_000_i64, -300..3000_i64, 1..200_u64).prop_map(|(from_s, step_ms, count)| Step::Put { from_s, step_ms, count }),
        3 => (0..30_i64).prop_map(|hours| Step::Maintain { hours }),
        2 => Just(Step::Flush),
        2 => Just(Step::Reopen),
        1 => Just(Step::LoseSidecars),
        1 => (0..3_usize, 0..20_000_i64, 0..9_000_i64).prop_map(|(status, from_s, length_s)| {
            Step::Delete { status: [200, 404, 500][status], from_s, length_s }
        }),
    ]
}

/// A filter, and what it means for a row.
type Question = (Filter, fn(&Row) -> bool);

fn questions() -> Vec<Question> {
    let all = |filters: &[Filter]| Filter::All(filters.to_vec());
    vec![
        (Filter::compare("status", Op::Ge, 500), |row| row.status >= 500),
        (Filter::compare("status", Op::Ne, 200), |row| row.status != 200),
        (Filter::compare("latency", Op::Lt, 1000), |row| row.latency.is_some_and(|latency| latency < 1000)),
        (Filter::compare("latency", Op::Ne, 5), |row| row.latency != Some(5)),
        (Filter::compare("size", Op::Gt, 1_u64 << 63), |row| row.size > 1 << 63),
        (Filter::compare("shift", Op::Le, -700), |row| row.shift.is_some_and(|shift| shift <= -700)),
        (Filter::compare("share", Op::Lt, 0.0), |row| row.share.is_some_and(|share| share < 0.0)),
        (Filter::compare("is_ok", Op::Eq, true), |row| row.is_ok == Some(true)),
        (Filter::compare("route", Op::Eq, "/thing/3"), |row| row.route.as_deref() == Some("/thing/3")),
        (Filter::compare("route", Op::Gt, "/thing/3"), |row| {
            row.route.as_deref().is_some_and(|route| route > "/thing/3")
        }),
        (Filter::In("route".into(), vec!["/thing/1".into(), "/nothing".into()]), |row| {
            row.route.as_deref() == Some("/thing/1")
        }),
        (Filter::Missing("body".into()), |row| row.body.is_none()),
        (Filter::contains("body", "00 ms"), |row| {
            row.body.as_ref().is_some_and(|body| body.contains("00 ms"))
        }),
        (Filter::contains("body", "msRequest"), |_| false),
        (
            Filter::Contains { column: "body".into(), text: "ENDED AFTER 1".into(), ignore_case: true },
            |row| row.body.as_ref().is_some_and(|body| body.contains("ended after 1")),
        ),
        (Filter::Matches("body".into(), "after [12]+ ms$".into()), |row| {
            row.body.as_ref().is_some_and(|body| {
                let digits = body.rsplit(' ').nth(1).unwrap();
                digits.chars().all(|digit| "12".contains(digit))
            })
        }),
        (Filter::Entry { column: "attrs".into(), key: "key1".into(), value: "value 2".into() }, |row| {
            row.attrs.iter().flatten().any(|(name, text)| name == "key1" && text == "value 2")
        }),
        (Filter::compare("trace", Op::Eq, Row::new(0, 17).trace), |row| row.trace == Row::new(0, 17).trace),
        (Filter::compare("span", Op::Ne, Row::new(0, 18).span.unwrap()), |row| {
            row.span != Row::new(0, 18).span
        }),
        (
            all(&[
                Filter::Not(Box::new(Filter::compare("status", Op::Eq, 200))),
                Filter::Any(vec![
                    Filter::compare("latency", Op::Gt, 500_000),
                    Filter::Missing("latency".into()),
                ]),
            ]),
            |row| row.status != 200 && row.latency.is_none_or(|latency| latency > 500_000),
        ),
        (Filter::All(vec![]), |_| true),
        (Filter::Any(vec![]), |_| false),
    ]
}

/// Asks a store everything that is asked here, and the list the same.
pub fn agrees(store: &Store, model: &[Row]) {
    assert_eq!(all(store), keys(model));
    let (from_us, to_us) = (START + 3_000 * SECOND + 1, START + 12_345 * SECOND);
    for (filter, takes) in questions() {
        for select in [all_time(), Select::new("mixed", from_us, to_us)] {
            let select = select.filter(filter.clone());
            let wanted: Vec<Row> = model
                .iter()
                .filter(|row| takes(row) && (select.from_us..select.to_us).contains(&row.ts))
                .cloned()
                .collect();
            assert_eq!(store.count(&select).unwrap().0, wanted.len() as u64, "{select:?}");
            let found = rows_of(store, &select, Order::Newest, 50);
            assert!(found.is_sorted_by_key(|row| -row.ts));
            let mut times: Vec<i64> = wanted.iter().map(|row| -row.ts).collect();
            times.sort_unstable();
            times.truncate(50);
            assert_eq!(found.iter().map(|row| -row.ts).collect::<Vec<_>>(), times, "{select:?}");
            let wanted = keys(&wanted);
            assert!(found.iter().all(|row| wanted.binary_search(&row.key()).is_ok()), "{select:?}");
        }
    }
    for (from_us, to_us) in [(0, i64::MAX), (from_us, to_us)] {
        for bucket_us in [None, Some(600 * SECOND)] {
            type Counted = BTreeMap<(Option<i64>, Key), (u64, u64, Vec<u64>)>;
            let mut wanted = Counted::new();
            for row in model.iter().filter(|row| (from_us..to_us).contains(&row.ts)) {
                let bucket = bucket_us.map(|bucket_us| row.ts.div_euclid(bucket_us) * bucket_us);
                let key = row.route.clone().map_or(Key::Null, Key::Text);
                let group = wanted.entry((bucket, key)).or_default();
                group.0 += 1;
                group.1 += u64::from(row.status >= 500);
                group.2.extend(row.latency.map(u64::from));
            }
            let select = Select::new("mixed", from_us, to_us);
            let grouped = Grouped {
                by: vec!["route".into()],
                bucket_us,
                value: Some("latency".into()),
                errors: Some(Filter::compare("status", Op::Ge, 500)),
            };
            let sketched = Sketched { group: "route".into(), value: "latency".into(), bucket_us };
            for found in [store.group(&select, &grouped).unwrap(), store.sketch(&select, &sketched).unwrap()]
            {
                assert_eq!(found.groups.len(), wanted.len());
                for group in found.groups {
                    let (count, errors, latencies) =
                        wanted.get_mut(&(group.bucket_us, group.keys[0].clone())).unwrap();
                    assert_eq!((group.count, group.errors), (*count, *errors));
                    assert_eq!(group.histogram.count(), latencies.len() as u64);
                    latencies.sort_unstable();
                    for share in [0.0, 0.5, 0.95, 1.0] {
                        let place = (share * latencies.len() as f64).ceil() as usize;
                        let exact = latencies.get(place.saturating_sub(1)).map(|exact| *exact as f64);
                        let is_near = match (group.histogram.quantile(share), exact) {
                            (Some(found), Some(exact)) => (found - exact).abs() <= exact / 32.0,
                            (found, exact) => found.is_none() && exact.is_none(),
                        };
                        assert!(is_near, "{share}: {:?}, not {exact:?}", group.histogram.quantile(share));
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_store_is_a_list(steps in proptest::collection::vec(step(), 1..30)) {
        let folder = Folder::new();
        let mut store = open(&folder);
        let mut model: Vec<Row> = Vec::new();
        let mut number = 0;
        for step in steps {
            match step {
                Step::Put { from_s, step_ms, count } => {
                    let row = |place: u64| Row::new(START + from_s * SECOND + step_ms * 1000 * place as i64, number + place);
                    let rows: Vec<Row> = (0..count).map(row).collect();
                    number += count;
                    append(&store, &rows);
                    model.extend(rows);
                }
                Step::Maintain { hours } => {
                    let done = store.maintain(START + hours * HOUR).unwrap();
                    prop_assert!(done.notes.is_empty());
                }
                Step::Flush => { store.flush_now().unwrap(); }
                Step::Reopen => {
                    drop(store);
                    let (again, recovered) = Store::open(&folder.0, vec![mixed()], settings()).unwrap();
                    prop_assert!(recovered.notes.is_empty(), "{:?}", recovered.notes);
                    store = again;
                }
                Step::LoseSidecars => {
                    drop(store);
                    files(&folder.0, ".side").iter().for_each(|side| fs::remove_file(side).unwrap());
                    store = open(&folder);
                }
                Step::Delete { status, from_s, length_s } => {
                    let (from_us, to_us) = (START + from_s * SECOND, START + (from_s + length_s) * SECOND);
                    let filter = Filter::compare("status", Op::Eq, Scalar::from(status));
                    let deleted = store.delete("mixed", &filter, from_us, to_us).unwrap();
                    let before = model.len();
                    model.retain(|row| row.status != status || !(from_us..to_us).contains(&row.ts));
                    prop_assert_eq!(deleted, (before - model.len()) as u64);
                }
            }
        }
        agrees(&store, &model);
        let statistics = &store.statistics().tables[0];
        prop_assert_eq!(statistics.rows, model.len() as u64);
        let span = model.iter().map(|row| row.ts).min().zip(model.iter().map(|row| row.ts).max());
        prop_assert_eq!(statistics.span_us, span);
    }
}

#[test]
fn rows_of_many_granules_and_groups_come_back() {
    let folder = Folder::new();
    let store = open(&folder);
    let mut model = Vec::new();
    for batch in 0..4_u64 {
        let time = |place: u64| START + (batch * 40_000 + place * 7 % 40_000) as i64 * 20_000;
        let rows: Vec<Row> = (0..40_000).map(|place| Row::new(time(place), batch * 40_000 + place)).collect();
        append(&store, &rows);
        store.flush_now().unwrap();
        model.extend(rows);
    }
    assert_eq!(all(&store), keys(&model));
    store.maintain(START + 3 * DAY).unwrap();
    assert_eq!(files(&folder.0, ".parquet").len(), 1);
    assert_eq!(files(&folder.0, ".side").len(), 1);
    agrees(&store, &model);
}
