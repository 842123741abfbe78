//! Disks that are full, and files that are torn, damaged or half replaced.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::Error;
use crate::wal::Disk;

fn some(from: u64, count: u64) -> Vec<Row> {
    (from..from + count).map(|number| Row::new(START + number as i64 * SECOND, number)).collect()
}

/// The only segment of a log that has records, and where each of them begins.
fn log_of(folder: &Folder) -> (PathBuf, Vec<u8>, Vec<usize>) {
    let path = fs::read_dir(&folder.0)
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
    starts.pop();
    (path, bytes, starts)
}

fn large_segments() -> Settings {
    Settings { segment_max: 1 << 20, ..settings() }
}

#[test]
fn a_log_that_is_torn_anywhere_loses_only_its_last_record() {
    let folder = Folder::new();
    let store = open_with(&folder, large_segments());
    (0..5).for_each(|batch| append(&store, &some(batch * 2, 2)));
    drop(store);
    let (path, bytes, starts) = log_of(&folder);
    let last = *starts.last().unwrap();
    for end in last..bytes.len() {
        fs::write(&path, &bytes[..end]).unwrap();
        let (store, recovered) = Store::open(&folder.0, vec![mixed()], settings()).unwrap();
        assert_eq!((recovered.rows, recovered.torn_bytes), (8, (end - last) as u64), "{end}");
        assert_eq!(all(&store), keys(&some(0, 8)));
        assert_eq!(fs::metadata(&path).unwrap().len(), end as u64, "nothing is destroyed");
    }
    for end in 0..8 {
        fs::write(&path, &bytes[..end]).unwrap();
        assert_eq!(Store::open(&folder.0, vec![mixed()], settings()).unwrap().1.rows, 0);
    }
}

#[test]
fn a_damaged_record_is_told_and_takes_no_other_one_with_it() {
    let folder = Folder::new();
    let store = open_with(&folder, large_segments());
    (0..5).for_each(|batch| append(&store, &some(batch * 2, 2)));
    drop(store);
    let (path, bytes, starts) = log_of(&folder);
    // The first record describes the table, the third one has the second batch.
    for at in (starts[2] + 4..starts[3]).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        fs::write(&path, &damaged).unwrap();
        let (store, recovered) = Store::open(&folder.0, vec![mixed()], settings()).unwrap();
        assert_eq!((recovered.rows, recovered.skipped_records, recovered.notes.len()), (8, 1, 1), "{at}");
        let wanted: Vec<Row> = some(0, 10).into_iter().filter(|row| !some(2, 2).contains(row)).collect();
        assert_eq!(all(&store), keys(&wanted));
    }
}

#[test]
fn a_damaged_file_is_told_and_never_read_wrong() {
    let folder = Folder::new();
    let store = open(&folder);
    let model = some(0, 40);
    append(&store, &model);
    store.flush_now().unwrap();
    drop(store);
    let file = files(&folder.0, ".parquet").remove(0);
    let side = files(&folder.0, ".side").remove(0);
    let (good, good_side) = (fs::read(&file).unwrap(), fs::read(&side).unwrap());
    let (mut told, mut found) = (0, 0);
    for at in (0..good.len()).step_by(3) {
        let mut damaged = good.clone();
        damaged[at] ^= 1 << (at % 8);
        for has_side in [true, false] {
            fs::write(&file, &damaged).unwrap();
            if has_side {
                fs::write(&side, &good_side).unwrap();
            } else {
                let _ = fs::remove_file(&side);
            }
            let (store, recovered) = Store::open(&folder.0, vec![mixed()], settings()).unwrap();
            let mut rows = Vec::new();
            let read =
                store.scan(&all_time(), &[], Order::Oldest, usize::MAX).unwrap().try_for_each(|some| {
                    let some = some?;
                    rows.extend((0..some.len()).map(|row| Row::read(&some, row)));
                    Ok::<_, Error>(())
                });
            match read {
                // The heads of pages are not needed as long as the sidecar is there.
                Ok(()) if recovered.notes.is_empty() => {
                    assert_eq!(keys(&rows), keys(&model), "{at} {has_side}");
                    found += 1;
                }
                Ok(()) => {
                    assert!(rows.is_empty() && !has_side, "{at}");
                    told += 1;
                }
                Err(error) => {
                    assert!(matches!(error, Error::Damaged { .. }), "{at}: {error}");
                    assert!(error.to_string().contains(".parquet"));
                    told += 1;
                }
            }
        }
    }
    assert!(told > 0 && found > 0, "{told} {found}");
}

#[test]
fn a_damaged_file_is_left_where_it_is_until_somebody_mends_it() {
    let folder = Folder::new();
    let store = open(&folder);
    for part in 0..3 {
        append(&store, &some(part * 10, 10));
        store.flush_now().unwrap();
    }
    drop(store);
    let file = files(&folder.0, ".parquet").remove(1);
    let good = fs::read(&file).unwrap();
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    for _ in 0..2 {
        let (store, recovered) = Store::open(&folder.0, vec![mixed()], settings()).unwrap();
        assert_eq!(recovered.notes.len(), 1);
        store.maintain(START + DAY).unwrap();
        let rest: Vec<Row> = some(0, 10).into_iter().chain(some(20, 10)).collect();
        assert_eq!(all(&store), keys(&rest));
    }
    fs::write(&file, &good).unwrap();
    let store = open(&folder);
    store.maintain(START + DAY).unwrap();
    assert_eq!(all(&store), keys(&some(0, 30)));
    assert_eq!(files(&folder.0, ".parquet").len(), 1);
}

#[test]
fn a_damaged_sidecar_is_made_again() {
    let folder = Folder::new();
    let store = open(&folder);
    let model = some(0, 40);
    append(&store, &model);
    store.flush_now().unwrap();
    drop(store);
    let side = files(&folder.0, ".side").remove(0);
    let good = fs::read(&side).unwrap();
    let body = Filter::contains("body", model[21].body.as_ref().unwrap());
    let sketched = Sketched { group: "route".into(), value: "latency".into(), bucket_us: None };
    let wanted = open(&folder).sketch(&all_time(), &sketched).unwrap().groups;
    for at in (0..good.len()).step_by(5) {
        let mut damaged = good.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&side, &damaged).unwrap();
        let (store, recovered) = Store::open(&folder.0, vec![mixed()], settings()).unwrap();
        assert!(recovered.notes.is_empty());
        assert_eq!(store.count(&all_time().filter(body.clone())).unwrap().0, 1, "{at}");
        let trace = Filter::compare("trace", Op::Eq, model[9].trace);
        assert_eq!(rows_of(&store, &all_time().filter(trace), Order::Newest, 9), [model[9].clone()], "{at}");
        assert_eq!(store.sketch(&all_time(), &sketched).unwrap().groups, wanted, "{at}");
    }
    // One that is cut, or of another file.
    for end in (0..good.len()).step_by(31) {
        fs::write(&side, &good[..end]).unwrap();
        assert_eq!(open(&folder).sketch(&all_time(), &sketched).unwrap().groups, wanted, "{end}");
    }
    assert_eq!(all(&open(&folder)), keys(&model));
}

#[test]
fn a_crash_between_a_file_and_the_log_has_nothing_twice() {
    let folder = Folder::new();
    let store = open(&folder);
    append(&store, &some(0, 10));
    let logs: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains("wal-"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let back = || logs.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    store.flush_now().unwrap();
    drop(store);
    // As if the log had not been cut any more.
    back();
    let (store, recovered) = Store::open(&folder.0, vec![mixed()], settings()).unwrap();
    assert_eq!(recovered.rows, 0);
    assert_eq!(all(&store), keys(&some(0, 10)));
    append(&store, &some(10, 10));
    store.flush_now().unwrap();
    // As if files had not been removed any more that were merged, or of which rows were deleted.
    let before: Vec<(PathBuf, Vec<u8>)> = files(&folder.0, ".parquet")
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    assert_eq!(before.len(), 2);
    store.maintain(START + DAY).unwrap();
    assert_eq!(files(&folder.0, ".parquet").len(), 1);
    let filter = Filter::compare("status", Op::Eq, 200);
    let rest: Vec<Row> = some(0, 20).into_iter().filter(|row| row.status != 200).collect();
    assert_eq!(store.delete("mixed", &filter, 0, i64::MAX).unwrap(), 20 - rest.len() as u64);
    drop(store);
    before.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    let store = open(&folder);
    assert_eq!(all(&store), keys(&rest));
    assert_eq!(files(&folder.0, ".parquet").len(), 1);
    // A log from before, of rows that left because of their age, does not bring them back.
    drop(store);
    back();
    let keep = Settings { keep_age: Some(Duration::from_secs(3600)), ..settings() };
    let store = open_with(&folder, keep);
    store.maintain(START + 3 * DAY).unwrap();
    drop(store);
    assert!(all(&open(&folder)).is_empty());
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

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            fs::rename(from, to)
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged_and_takes_more_when_there_is_room() {
    let folder = Folder::new();
    let disk = Arc::new(Full::default());
    let store = Store::open_on(&folder.0, vec![mixed()], settings(), disk.clone()).unwrap().0;
    append(&store, &some(0, 10));
    let mut count = 10;
    for fault in [&disk.is_full, &disk.is_deaf, &disk.is_full] {
        fault.store(true, Ordering::Relaxed);
        let mut batch = store.batch("mixed").unwrap();
        some(count, 10).iter().for_each(|row| row.push(&mut batch).unwrap());
        let upto = store.append(&batch).unwrap();
        count += 10;
        assert!(matches!(store.commit(upto), Err(Error::Io { .. })));
        assert!(store.maintain(START).is_err());
        assert_eq!(all(&store), keys(&some(0, count)), "they can be read");
        fault.store(false, Ordering::Relaxed);
        store.commit(upto).unwrap();
    }
    // So much waits for the disk, and no more.
    disk.is_full.store(true, Ordering::Relaxed);
    let batch = |from: u64| {
        let mut batch = store.batch("mixed").unwrap();
        some(from, 1000).iter().for_each(|row| row.push(&mut batch).unwrap());
        batch
    };
    let refused = (0..100).find(|round| store.append(&batch(count + round * 1000)).is_err()).unwrap();
    assert!(refused > 3);
    assert_eq!(store.statistics().refused_rows, 1000);
    disk.is_full.store(false, Ordering::Relaxed);
    let upto = store.append(&batch(count + refused * 1000)).unwrap();
    store.commit(upto).unwrap();
    count += (refused + 1) * 1000;
    assert_eq!(all(&store), keys(&some(0, count)));
    drop(store);
    let store = open(&folder);
    assert_eq!(all(&store), keys(&some(0, count)));
    store.maintain(START + DAY).unwrap();
    assert_eq!(all(&store), keys(&some(0, count)));
    assert!(
        fs::read_dir(&folder.0).unwrap().all(|entry| !entry
            .unwrap()
            .path()
            .to_str()
            .unwrap()
            .contains("wal-"))
    );
}

#[test]
fn a_file_system_that_is_really_full_is_survived() {
    use nix::mount::{MsFlags, mount, umount};
    let folder = Folder::new();
    if mount(Some("tmpfs"), &folder.0, Some("tmpfs"), MsFlags::empty(), Some("size=2m")).is_err() {
        println!("skipped: only root may mount a small file system");
        return;
    }
    let filler = folder.0.join("filler");
    fs::write(&filler, vec![1; 1 << 20]).unwrap();
    let store = open(&folder);
    let (mut count, mut acknowledged, mut failed) = (0, 0, 0);
    while failed < 20 {
        let mut batch = store.batch("mixed").unwrap();
        some(count, 100).iter().for_each(|row| row.push(&mut batch).unwrap());
        let Ok(upto) = store.append(&batch) else { break };
        count += 100;
        match store.commit(upto) {
            Ok(()) => acknowledged = count,
            Err(error) => {
                assert!(error.to_string().contains(folder.0.to_str().unwrap()), "{error}");
                failed += 1;
            }
        }
        failed += u64::from(store.maintain(START).is_err());
    }
    assert!(failed > 0 && acknowledged > 0, "{failed} {acknowledged}");
    assert_eq!(all(&store), keys(&some(0, count)));
    drop(store);
    // What was acknowledged is there after a restart on the full disk, and what was not may be.
    let store = open(&folder);
    let found = all(&store).len() as u64;
    assert!((acknowledged..=count).contains(&found), "{acknowledged} {found} {count}");
    assert_eq!(all(&store), keys(&some(0, found)));
    fs::remove_file(&filler).unwrap();
    append(&store, &some(found, 100));
    store.maintain(START).unwrap();
    drop(store);
    let store = open(&folder);
    assert_eq!(all(&store), keys(&some(0, found + 100)));
    drop(store);
    umount(&folder.0).unwrap();
}

#[test]
fn memory_takes_so_much_and_no_more() {
    let folder = Folder::new();
    let store = open_with(&folder, Settings { memory_max: 10_000, ..settings() });
    let mut batch = store.batch("mixed").unwrap();
    some(0, 50).iter().for_each(|row| row.push(&mut batch).unwrap());
    let taken = (0..100).find(|_| store.append(&batch).is_err()).unwrap();
    assert!((1..10).contains(&taken));
    store.maintain(START).unwrap();
    assert_eq!(store.statistics().memory_bytes, 0);
    store.append(&batch).unwrap();
    assert_eq!(all(&store).len() as u64, (taken + 1) * 50);
}
