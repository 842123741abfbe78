//! The store as a whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use crate::wal::Disk;
use crate::{Error, Labels, Matcher, Op, STALE, Sample, Settings, Store, Verdict};

mod crash;

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("klar-tsdb-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn settings() -> Settings {
    let seconds = |all: &[u64]| all.iter().map(|seconds| Duration::from_secs(*seconds)).collect();
    Settings {
        late: Duration::from_secs(10),
        ahead: None,
        keep_age: None,
        segment_max: 1500,
        ranges: seconds(&[60, 240, 960]),
        ..Settings::default()
    }
}

fn open(folder: &Folder) -> Store {
    Store::open(&folder.0, settings()).unwrap().0
}

fn labels(text: &str) -> Labels {
    Labels::new(text.split(',').filter_map(|pair| pair.split_once('='))).unwrap()
}

fn matcher(name: &str, op: Op, value: &str) -> Matcher {
    Matcher::new(name, op, value).unwrap()
}

fn put(store: &Store, text: &str, time_ms: i64, value: f64) -> Verdict {
    let series = store.series(&labels(text)).unwrap();
    let appended = store.append(&[(series, Sample { time_ms, value })]).unwrap();
    store.commit(appended.upto).unwrap();
    appended.verdicts[0]
}

type Model = BTreeMap<(String, i64), u64>;

/// All that is in a store; each sample is checked to be there once.
fn all(store: &Store, from_ms: i64, to_ms: i64) -> Model {
    let mut out = Model::new();
    let selection = store.select(&[], from_ms, to_ms).unwrap();
    assert!(selection.series.is_sorted_by(|first, second| first.labels < second.labels));
    for found in selection.series {
        let samples = found.samples().unwrap();
        assert!(samples.is_sorted_by(|first, second| first.time_ms < second.time_ms));
        for sample in samples {
            out.insert((found.labels.to_string(), sample.time_ms), sample.value.to_bits());
        }
    }
    out
}

#[test]
fn each_sample_gets_its_verdict() {
    let folder = Folder::new();
    let store = Store::open(&folder.0, Settings { series_max: 2, ..settings() }).unwrap().0;
    for (series, time_ms, value, verdict) in [
        ("__name__=a", 100_000, 1.0, Verdict::Accepted),
        ("__name__=a", 100_000, 1.0, Verdict::Duplicate),
        ("__name__=a", 100_000, 2.0, Verdict::Conflict),
        ("__name__=a", 101_000, STALE, Verdict::Accepted),
        ("__name__=a", 101_000, STALE, Verdict::Duplicate),
        ("__name__=a", 101_000, f64::NAN, Verdict::Conflict),
        ("__name__=a", 91_000, 1.0, Verdict::AcceptedLate),
        ("__name__=a", 91_000, 1.0, Verdict::Duplicate),
        ("__name__=a", 91_000, -0.0, Verdict::Conflict),
        ("__name__=a", 90_999, 1.0, Verdict::TooOld),
        ("__name__=b", 90_999, 1.0, Verdict::Accepted),
        ("__name__=b", i64::MAX, 1.0, Verdict::TooNew),
        ("__name__=b", i64::MIN, 1.0, Verdict::TooOld),
    ] {
        assert_eq!(put(&store, series, time_ms, value), verdict, "{series} {time_ms} {value}");
    }
    for _ in 0..3 {
        assert!(matches!(store.series(&labels("__name__=c")), Err(Error::SeriesLimit(2))));
    }
    let offenders = store.offenders(2);
    assert_eq!((&*offenders[0].metric, offenders[0].refused), ("c", 3));
    assert_eq!((&*offenders[1].metric, offenders[1].series), ("a", 1));
    let counts = store.statistics().verdicts;
    assert_eq!(counts, [3, 1, 3, 2, 1, 3, 3, 0]);
    let now = Store::open(&Folder::new().0, Settings::default()).unwrap().0;
    assert_eq!(put(&now, "a=b", 9_000_000_000_000, 1.0), Verdict::TooNew);
}

#[test]
fn matchers_find_the_same_in_memory_and_in_blocks() {
    let folder = Folder::new();
    let store = open(&folder);
    let names = [
        "__name__=up,job=api,code=200",
        "__name__=up,job=api,code=500",
        "__name__=up,job=db",
        "__name__=down",
    ];
    for round in 0..2 {
        for name in names {
            put(&store, name, 1000 + round * 600_000, 1.0);
        }
        for (matchers, found) in [
            (vec![matcher("__name__", Op::Equal, "up")], vec![0, 1, 2]),
            (vec![matcher("job", Op::Matches, "api|db")], vec![0, 1, 2]),
            (vec![matcher("job", Op::Matches, "a.*")], vec![0, 1]),
            (vec![matcher("job", Op::NotEqual, "api")], vec![2, 3]),
            (vec![matcher("code", Op::Equal, ""), matcher("__name__", Op::NotMatches, "d.*")], vec![2]),
            (vec![matcher("code", Op::NotMatches, "5..")], vec![0, 2, 3]),
            (vec![matcher("code", Op::Matches, "|200")], vec![0, 2, 3]),
            (vec![matcher("code", Op::Matches, ".+"), matcher("job", Op::Equal, "api")], vec![0, 1]),
            (vec![matcher("nothing", Op::Equal, "x")], vec![]),
            (vec![], vec![0, 1, 2, 3]),
        ] {
            let mut wanted: Vec<Labels> = found.iter().map(|place: &usize| labels(names[*place])).collect();
            wanted.sort();
            let selection = store.select(&matchers, 0, 2_000_000).unwrap();
            let got: Vec<Labels> = selection.series.iter().map(|found| found.labels.clone()).collect();
            assert_eq!(got, wanted, "{matchers:?}");
        }
        assert_eq!(store.label_names(&[], 0, 2_000_000).unwrap(), ["__name__", "code", "job"]);
        let up = [matcher("__name__", Op::Equal, "up")];
        assert_eq!(store.label_values("job", &up, 0, 2_000_000).unwrap(), ["api", "db"]);
        assert!(store.label_names(&[], 2_000, 3_000).unwrap().is_empty());
        assert_eq!(store.maintain(590_000).unwrap().cut, usize::from(round == 0));
    }
    assert_eq!(store.statistics().blocks, 1);
}

#[test]
fn a_selection_has_limits() {
    let folder = Folder::new();
    let limits = Settings { selected_series_max: 2, selected_samples_max: 2, ..settings() };
    let store = Store::open(&folder.0, limits).unwrap().0;
    for (name, time_ms) in [("a=1", 1), ("a=1", 2), ("a=2", 1)] {
        put(&store, name, time_ms, 1.0);
    }
    let selection = store.select(&[], 0, 9).unwrap();
    assert_eq!(selection.series[0].samples().unwrap().len(), 2);
    assert!(matches!(selection.series[1].samples(), Err(Error::TooManySamples(2))));
    put(&store, "a=3", 1, 1.0);
    assert!(matches!(store.select(&[], 0, 9), Err(Error::TooManySeries(2))));
}

#[test]
fn only_one_process_has_it_open() {
    let folder = Folder::new();
    let store = open(&folder);
    assert!(matches!(Store::open(&folder.0, settings()), Err(Error::InUse(_))));
    drop(store);
    open(&folder);
}

#[test]
fn a_series_that_nobody_sends_any_more_leaves_memory() {
    let folder = Folder::new();
    let store = open(&folder);
    let gone = store.series(&labels("a=gone")).unwrap();
    put(&store, "a=gone", 1000, 1.0);
    for round in 1..6 {
        put(&store, "a=here", round * 60_000, 1.0);
        store.maintain(round * 60_000).unwrap();
    }
    assert_eq!(store.statistics().series, 1);
    let appended = store.append(&[(gone, Sample { time_ms: 500_000, value: 1.0 })]).unwrap();
    assert_eq!(appended.verdicts, [Verdict::Unknown]);
    assert_eq!(put(&store, "a=gone", 500_000, 1.0), Verdict::Accepted);
    assert_eq!(
        store.select(&[matcher("a", Op::Equal, "gone")], 0, 900_000).unwrap().series[0]
            .samples()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn what_is_too_old_or_too_much_leaves() {
    let folder = Folder::new();
    let keep = Settings { keep_age: Some(Duration::from_secs(300)), ..settings() };
    let store = Store::open(&folder.0, keep).unwrap().0;
    for minute in 0..20 {
        put(&store, "a=b", minute * 60_000, 1.0);
        store.maintain(minute * 60_000).unwrap();
    }
    let times: Vec<i64> = all(&store, 0, i64::MAX).into_keys().map(|(_, time)| time / 60_000).collect();
    assert_eq!(times, (13..20).collect::<Vec<_>>());
    drop(store);
    let store = Store::open(&folder.0, Settings { keep_bytes: Some(1), ..settings() }).unwrap().0;
    store.maintain(1_200_000).unwrap();
    assert_eq!(store.statistics().blocks, 1);
}

/// The one segment of a log that has records, and where its last record begins.
fn log_of(folder: &Path, last: usize) -> (PathBuf, Vec<u8>, usize) {
    let path = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_str().unwrap().contains("wal-"))
        .unwrap();
    let bytes = fs::read(&path).unwrap();
    let mut starts = vec![8];
    while *starts.last().unwrap() < bytes.len() {
        let at = *starts.last().unwrap();
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        starts.push(at + 8 + length as usize);
    }
    let at = starts[starts.len() - 1 - last];
    (path, bytes, at)
}

#[test]
fn a_log_that_is_torn_anywhere_loses_only_its_last_record() {
    let folder = Folder::new();
    let store = open(&folder);
    for time_ms in 0..5 {
        put(&store, "a=b", time_ms, 0.1 * time_ms as f64);
    }
    drop(store);
    let (path, bytes, last) = log_of(&folder.0, 1);
    for end in last..bytes.len() {
        fs::write(&path, &bytes[..end]).unwrap();
        let (store, recovered) = Store::open(&folder.0, settings()).unwrap();
        assert_eq!((recovered.samples, recovered.torn_bytes), (4, (end - last) as u64), "{end}");
        assert_eq!(all(&store, 0, 9).len(), 4);
        assert_eq!(fs::metadata(&path).unwrap().len(), end as u64, "nothing is destroyed");
    }
    for end in 0..8 {
        fs::write(&path, &bytes[..end]).unwrap();
        assert_eq!(Store::open(&folder.0, settings()).unwrap().1.samples, 0);
    }
}

#[test]
fn a_damaged_record_is_told_and_what_follows_in_its_segment_is_left_out() {
    let folder = Folder::new();
    let store = open(&folder);
    for time_ms in 0..5 {
        put(&store, "a=b", time_ms, 0.1 * time_ms as f64);
    }
    drop(store);
    let (path, bytes, third) = log_of(&folder.0, 3);
    for at in third + 4..third + 12 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        fs::write(&path, &damaged).unwrap();
        let (store, recovered) = Store::open(&folder.0, settings()).unwrap();
        assert_eq!((recovered.samples, recovered.skipped_records), (2, 3), "{at}");
        assert_eq!(recovered.skipped_bytes, (bytes.len() - third) as u64);
        assert_eq!(recovered.notes.len(), 1);
        assert_eq!(all(&store, 0, 9).len(), 2);
    }
}

#[test]
fn a_damaged_block_is_told() {
    let folder = Folder::new();
    let store = open(&folder);
    put(&store, "a=b", 1000, 1.0);
    store.maintain(600_000).unwrap();
    drop(store);
    for file in ["chunks", "index"] {
        let path = folder.0.join("block-0000000001").join(file);
        let good = fs::read(&path).unwrap();
        for at in 8..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let store = open(&folder);
            let read = store.select(&[], 0, 9999).and_then(|selection| selection.series[0].samples());
            assert!(matches!(read, Err(Error::Damaged { .. })), "{file} {at}");
        }
        fs::write(&path, &good).unwrap();
    }
    let meta = folder.0.join("block-0000000001/meta");
    fs::write(meta, "format = 1\n").unwrap();
    assert_eq!(Store::open(&folder.0, settings()).unwrap().1.notes.len(), 1);
}

/// A disk that is full now and then: what it takes of a write is its first half.
#[derive(Default)]
struct Full {
    is_full: AtomicBool,
    is_deaf: AtomicBool,
}

impl Disk for Full {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            file.write_all_at(&bytes[..bytes.len() / 2], at)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.is_deaf.load(Ordering::Relaxed) {
            Err(io::Error::other("the disk is gone"))
        } else {
            file.sync_data()
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged_and_takes_more_when_there_is_room() {
    let folder = Folder::new();
    let disk = Arc::new(Full::default());
    let store = Store::open_on(&folder.0, settings(), disk.clone()).unwrap().0;
    put(&store, "a=b", 1, 1.0);
    for (time_ms, fault) in [(2, &disk.is_full), (3, &disk.is_deaf), (4, &disk.is_full)] {
        fault.store(true, Ordering::Relaxed);
        let series = store.series(&labels(&format!("a=b{time_ms}"))).unwrap();
        let sample = [(series, Sample { time_ms, value: 1.0 })];
        let first = store.append(&sample).unwrap();
        assert!(matches!(store.commit(first.upto), Err(Error::Io { .. })));
        // Sent again: it is known, but still not on disk.
        let again = store.append(&sample).unwrap();
        assert_eq!(again.verdicts, [Verdict::Duplicate]);
        assert!(store.commit(again.upto).is_err());
        assert_eq!(all(&store, 0, 9).len(), time_ms as usize);
        fault.store(false, Ordering::Relaxed);
        store.commit(again.upto).unwrap();
    }
    // So much waits for the disk, and no more.
    disk.is_full.store(true, Ordering::Relaxed);
    let series = store.series(&labels("a=b")).unwrap();
    let batch = |from: i64| -> Vec<_> {
        (from..from + 5_000)
            .map(|time_ms| (series, Sample { time_ms, value: time_ms as f64 / 7.0 }))
            .collect()
    };
    let refused = (0..100).find(|round| store.append(&batch(10 + round * 5_000)).is_err()).unwrap();
    assert!(refused > 10);
    let held = all(&store, 0, i64::MAX);
    disk.is_full.store(false, Ordering::Relaxed);
    let appended = store.append(&batch(10 + refused * 5_000)).unwrap();
    store.commit(appended.upto).unwrap();
    assert_eq!(held.len() + 5_000, all(&store, 0, i64::MAX).len());
    let before = all(&store, 0, i64::MAX);
    drop(store);
    assert_eq!(all(&open(&folder), 0, i64::MAX), before);
}

/// Values are written as how far they are from the last one of their segment, and a deletion in a new segment has none.
#[test]
fn what_comes_after_a_deletion_is_read_as_it_was_written() {
    let folder = Folder::new();
    let store = open(&folder);
    put(&store, "s=0", 1_000_000, STALE);
    put(&store, "s=2", 1_050_000, 1.0);
    store.maintain(1_050_000).unwrap();
    store.delete(&[], 1_050_000, 1_050_000).unwrap();
    put(&store, "s=2", 1_050_000, 5.0);
    drop(store);
    assert_eq!(
        all(&open(&folder), 1_050_000, 1_050_000).into_values().collect::<Vec<_>>(),
        [5.0_f64.to_bits()]
    );
}

#[derive(Debug, Clone)]
enum Step {
    Put { series: u8, time_s: i64, value: f64 },
    Later { seconds: i64 },
    Maintain,
    Reopen,
    Delete { series: Option<u8>, from_s: i64, length_s: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![Just(STALE), any::<f64>(), (0..9_u8).prop_map(f64::from)];
    prop_oneof![
        30 => (0..4_u8, -15..15_i64, value).prop_map(|(series, time_s, value)| Step::Put { series, time_s, value }),
        10 => (1..50_i64).prop_map(|seconds| Step::Later { seconds }),
        3 => Just(Step::Maintain),
        2 => Just(Step::Reopen),
        1 => (proptest::option::of(0..4_u8), -300..10_i64, 0..200_i64)
            .prop_map(|(series, from_s, length_s)| Step::Delete { series, from_s, length_s }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_store_is_a_map(steps in proptest::collection::vec(step(), 1..250)) {
        let folder = Folder::new();
        let mut store = open(&folder);
        let mut model = Model::new();
        let mut now_s = 1000;
        for step in steps {
            match step {
                Step::Put { series, time_s, value } => {
                    let (labels, time_ms) = (labels(&format!("s={series}")), (now_s + time_s) * 1000);
                    let key = (labels.to_string(), time_ms);
                    let there = model.get(&key).copied();
                    match put(&store, &format!("s={series}"), time_ms, value) {
                        Verdict::Accepted | Verdict::AcceptedLate => prop_assert_eq!(model.insert(key, value.to_bits()), None),
                        Verdict::Duplicate => prop_assert_eq!(there, Some(value.to_bits())),
                        Verdict::Conflict => prop_assert!(there.is_some_and(|bits| bits != value.to_bits())),
                        Verdict::TooOld => prop_assert!(time_s < 10),
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                Step::Later { seconds } => now_s += seconds,
                Step::Maintain => { store.maintain(now_s * 1000).unwrap(); }
                Step::Reopen => {
                    drop(store);
                    let (again, recovered) = Store::open(&folder.0, settings()).unwrap();
                    prop_assert!(recovered.notes.is_empty());
                    store = again;
                }
                Step::Delete { series, from_s, length_s } => {
                    let (from_ms, to_ms) = ((now_s + from_s) * 1000, (now_s + from_s + length_s) * 1000);
                    let matchers: Vec<Matcher> =
                        series.map(|series| matcher("s", Op::Equal, &series.to_string())).into_iter().collect();
                    store.delete(&matchers, from_ms, to_ms).unwrap();
                    let text = series.map(|series| labels(&format!("s={series}")).to_string());
                    model.retain(|(name, time), _| {
                        text.as_ref().is_some_and(|text| text != name) || !(from_ms..=to_ms).contains(time)
                    });
                }
            }
        }
        prop_assert_eq!(all(&store, i64::MIN, i64::MAX), model.clone());
        let part: Model = model.into_iter().filter(|((_, time), _)| (1_030_000..=1_100_000).contains(time)).collect();
        prop_assert_eq!(all(&store, 1_030_000, 1_100_000), part);
    }
}
