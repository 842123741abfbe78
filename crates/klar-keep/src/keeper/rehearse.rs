//! A month in a minute: a small cluster of its own is kept for some days, points become old and go. All of it is done as with
//! the app's own, by the same code; but for the clock, and in a folder that is thrown away.
//!
//! What the keeper takes for the time is a day later each day. The server's clock is the real one, and so are the times in
//! its log: a second between two points is asked for by these.
//!
//! ```text
//! day 0            a lot is written that no other day has
//! day 0 … keep     a point each day, and nothing goes
//! … keep + 3       the points of the first three days go, and what only day 0 had is removed
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use klar_base::ServiceName;
use klar_base::keep::RehearsedDays;
use klar_repo::{CheckData, Repository};
use klar_store::KeyId;

use super::{Inner, KeepError, Settings, Wishes, size};
use crate::point::{AnyPoint, Point, PointId, Points};
use crate::restore::{self, Kept, RestoringError};
use crate::retain::{self, Retained};
use crate::scratch::{Recovery, Scratch, ScratchError, Then, Until};
use crate::server::programs::succeeded;
use crate::server::session::{PATIENCE, literal};
use crate::server::{Facts, Programs, Session, Source};
use crate::wal::batch;
use crate::wal::chain::Log;

/// Days after those that are kept: on the first one a point goes, two more later its bytes have.
const LONGER: u32 = 4;
/// For so many days is rehearsed at most.
const KEEP_MAX: u32 = 36;
/// Blocks of 1 KiB that nobody can make smaller, on the first day and on each other one.
const FIRST: u64 = 4096;
const OTHER: u64 = 128;
/// More than a rehearsal takes of a disk: 60 MB were measured for 34 days.
const SPACE: u64 = 200 << 20;
/// A server is given so long, to be made and to come up.
const UP: Duration = Duration::from_secs(120);
/// Writing the rows of a day may take so long.
const WRITING: Duration = Duration::from_secs(120);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A cluster that is kept by a clock that can be turned; dropped, it is gone.
pub struct Rehearsal {
    inner: Arc<Inner>,
    stream: Option<JoinHandle<()>>,
    server: Scratch,
    folder: PathBuf,
    days: Vec<Day>,
}

/// A day that is over.
#[derive(Debug, Clone)]
struct Day {
    point: Point,
    /// By the server's clock: after a row was written, and before another was.
    moment: Timestamp,
    /// Bytes of the repository, at its end.
    bytes: u64,
}

/// Keeps a cluster in `folder` for `wanted` days and four more, and sees what is left. `goes_on` hears which day of how
/// many begins; where it says no, all ends.
///
/// # Errors
/// A day could not be simulated. What was left and is not as it should be is no error.
pub fn rehearse(
    programs: &Programs,
    wanted: u32,
    folder: &Path,
    goes_on: &mut (dyn FnMut(u32, u32) -> bool + Send),
) -> Result<RehearsedDays, KeepError> {
    let keep = wanted.clamp(1, KEEP_MAX);
    let all = || {
        yield_to_others();
        let mut rehearsal = Rehearsal::begin(programs, keep, folder)?;
        let days = keep + LONGER;
        for day in 1..=days {
            if !goes_on(day, days) {
                return Err(lack("nobody waits for the rehearsal any more".into()));
            }
            rehearsal.day()?;
        }
        let left = rehearsal.left()?;
        Ok(RehearsedDays { wanted, ..left })
    };
    // In a thread of its own, which is nice to others, and so is what it starts.
    let rehearsed = std::thread::scope(|scope| scope.spawn(all).join());
    let rehearsed = rehearsed.unwrap_or_else(|_| Err(lack("the rehearsal panicked".into())));
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(KeepError::File { path: folder.to_owned(), source })
        }
        _ => rehearsed,
    }
}

impl Rehearsal {
    /// Makes a cluster in `folder`, which is emptied, and begins to keep it: `keep` days stay.
    ///
    /// # Errors
    /// The server or the repository cannot be made.
    pub fn begin(programs: &Programs, keep: u32, folder: &Path) -> Result<Self, KeepError> {
        let failed = |source| KeepError::File { path: folder.to_owned(), source };
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder.join("data")).map_err(failed)?;
        programs.give(&folder.join("data")).map_err(failed)?;
        restore::enough_space(folder, SPACE)?;
        let server = server(programs, folder)?;
        let settings = Settings {
            name: ServiceName::new("rehearsal").map_err(|error| lack(error.to_string()))?,
            source: Source {
                door: server.door().clone(),
                data: Some(folder.join("data")),
                programs: programs.clone(),
            },
            database: "postgres".into(),
            home: folder.join("keep"),
            host: "rehearsal".into(),
            second_name: "rehearsal".into(),
            wishes: Wishes {
                at: (2, 0),
                days: keep,
                assertions: Vec::new(),
                anonymise: Vec::new(),
                second: None,
                synchronous: false,
            },
        };
        let inner = Arc::new(Inner::open(settings, Box::new(|_| {}))?);
        let streams = inner.clone();
        let stream = std::thread::Builder::new().name("rehearsal".into()).spawn(move || streams.stream());
        let stream = Some(stream.map_err(failed)?);
        let rehearsal = Self { inner, stream, server, folder: folder.to_owned(), days: Vec::new() };
        let begun = Instant::now();
        while rehearsal.inner.shared().streaming.is_none() {
            if begun.elapsed() >= UP {
                let shared = rehearsal.inner.shared();
                let why = shared.troubles.get("stream").map(|trouble| trouble.what.clone());
                return Err(KeepError::NotStreaming(why));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(rehearsal)
    }

    /// One more day: rows are written, a point is taken and proven, what is too old goes, more rows are written.
    ///
    /// # Errors
    /// As `Keeper::now`.
    pub fn day(&mut self) -> Result<(), KeepError> {
        let number = self.days.len();
        self.inner.shift.store(days(number).as_secs(), Ordering::Release);
        let session = Session::open(self.server.door())?;
        let blocks = if number == 0 { FIRST } else { OTHER };
        let fill = format!(
            "truncate public.filler; insert into public.filler select {number},
               (select string_agg(decode(md5(random()::text), 'hex'), '') from generate_series(1, 64) where n > 0)
               from generate_series(1, {blocks}) n"
        );
        session.rows(&fill, WRITING)?;
        let write = |what: &str| {
            session.run(&format!("insert into public.diary values ({number}, {})", literal(what)))
        };
        write("base")?;
        let proof = self.inner.point(&mut |_, _, _| {})?;
        self.batched()?;
        write("before")?;
        let sql = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
        let moment = session.time(&session.row(sql, "time")?, 0)?;
        write("then")?;
        let point = Point::read(&self.inner.repository, &proof.point, &self.inner.trusted)?;
        let bytes = size(&self.inner.settings.home.join("repository"));
        self.days.push(Day { point, moment, bytes });
        Ok(())
    }

    /// Waits until all whole segments are in batches. In a day of a second a prune may be in the way.
    fn batched(&self) -> Result<(), KeepError> {
        let begun = Instant::now();
        loop {
            let size = Facts::ask(&Session::open(self.server.door())?)?.segment_size;
            if batch::due(&Log::read(&self.inner.repository, size)?).is_empty() {
                return Ok(());
            }
            if begun.elapsed() >= UP {
                let trouble = self.inner.shared().troubles.get("batch").map(|trouble| trouble.what.clone());
                return Err(lack(format!("the log became no batch: {}", trouble.unwrap_or_default())));
            }
            self.inner.shared().batch_now = true;
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The points of all days so far, also of those that went.
    #[must_use]
    pub fn taken(&self) -> Vec<PointId> {
        self.days.iter().map(|day| day.point.id.clone()).collect()
    }

    /// Bytes of the repository at the end of each day.
    #[must_use]
    pub fn sizes(&self) -> Vec<u64> {
        self.days.iter().map(|day| day.bytes).collect()
    }

    /// Its repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.inner.repository
    }

    /// Whose signatures count there.
    #[must_use]
    pub fn trusted(&self) -> &[KeyId] {
        &self.inner.trusted
    }

    /// What would go if the clock jumped ahead; it goes.
    ///
    /// # Errors
    /// As [`retain::retain`].
    pub fn jump(&self, by: SignedDuration) -> Result<Retained, KeepError> {
        let (days, now) = (self.inner.wishes().days, self.inner.now() + by);
        Ok(retain::retain(&self.inner.repository, &self.inner.trusted, days, now)?)
    }

    /// What is left, and whether it comes back.
    ///
    /// # Errors
    /// The repository cannot be read at all.
    pub fn left(&self) -> Result<RehearsedDays, KeepError> {
        let (inner, keep) = (&self.inner, self.inner.wishes().days);
        // Whatever was in the way on the last day: it is done, or fails, before anything is looked at.
        inner.retained()?;
        let points = Points::<Point>::read(&inner.repository, &inner.trusted)?;
        let is_left = |day: &&Day| points.points.contains_key(&day.point.id);
        let oldest = self.days.iter().position(|day| is_left(&day));
        let oldest = oldest.ok_or(KeepError::Restoring(RestoringError::Nothing))?;
        let gone: Vec<&Day> = self.days.iter().filter(|day| !is_left(day)).collect();
        let point = &self.days[oldest].point;
        let before = gone.first().and_then(|_| self.days.get(keep as usize));
        let report = inner.repository.check(CheckData::All, &mut |_| {});
        let kept = self.kept()?;
        let mut problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        problems.extend(points.refused.iter().map(ToString::to_string));
        problems.extend(kept.gaps().iter().map(ToString::to_string));
        let age = inner.now().duration_since(point.stopped).as_hours();
        let bytes_before = before.map_or(0, |day| day.bytes);
        let bytes_after = size(&inner.settings.home.join("repository"));
        Ok(RehearsedDays {
            wanted: keep,
            keep,
            days: count(self.days.len()),
            points: count(points.points.len()),
            oldest: point.id.to_string(),
            newest: self.days.last().map(|day| day.point.id.to_string()).unwrap_or_default(),
            oldest_hours: u64::try_from(age).unwrap_or_default(),
            pruned: gone.iter().map(|day| day.point.id.to_string()).collect(),
            bytes_before,
            bytes_after,
            oldest_lost: self.oldest_lost(&kept, oldest).err(),
            between_lost: self.between_lost(&kept, oldest).err(),
            left_over: self.left_over(&kept, &gone, bytes_before, bytes_after)?,
            problems,
        })
    }

    /// What there is to restore from, with the points at the times of the server's clock, as the log has them.
    fn kept(&self) -> Result<Kept<'_>, KeepError> {
        let mut kept = self.inner.kept(&self.inner.repository)?;
        for (number, day) in self.days.iter().enumerate() {
            if let Some(point) = kept.points.points.get_mut(&day.point.id) {
                point.stopped -= days(number);
            }
        }
        Ok(kept)
    }

    fn oldest_lost(&self, kept: &Kept<'_>, oldest: usize) -> Result<(), String> {
        let point = &self.days[oldest].point;
        let plan = kept.plan(Until::Lsn(point.stop), Some(&point.id)).map_err(|error| error.to_string())?;
        self.came_back(kept, &plan, oldest, &["base"])
    }

    fn between_lost(&self, kept: &Kept<'_>, oldest: usize) -> Result<(), String> {
        let Day { point, moment, .. } = &self.days[oldest];
        let plan = kept.plan(Until::Time(*moment), None).map_err(|error| error.to_string())?;
        if plan.point.id != point.id {
            return Err(format!("it would be restored from {}, and not from {}", plan.point.id, point.id));
        }
        self.came_back(kept, &plan, oldest, &["base", "before"])
    }

    /// Restores, and compares: the rows of all days before, these of that day, and none later.
    fn came_back(
        &self,
        kept: &Kept<'_>,
        plan: &restore::Plan,
        day: usize,
        words: &[&str],
    ) -> Result<(), String> {
        let folder = self.folder.join("back");
        let _ = fs::remove_dir_all(&folder);
        let (data, log, home) = (folder.join("data"), folder.join("log"), folder.join("home"));
        let programs = &self.inner.settings.source.programs;
        let found = (|| {
            kept.bring_back(plan, programs, &data, &log)?;
            let server = restore::start(plan, programs, &data, &log, &home, Then::Promote, false)?;
            let session = Session::open(server.door())?;
            let diary = "select coalesce(string_agg(day || ' ' || what, ', ' order by day, what), '') from public.diary";
            let filler = "select coalesce(string_agg(distinct day || '', ', '), '') from public.filler";
            let one = |sql: &str| -> Result<String, KeepError> {
                let rows = session.rows(sql, PATIENCE)?;
                Ok(rows.first().and_then(|row| row.get(0)).unwrap_or_default().to_owned())
            };
            Ok::<_, KeepError>((one(diary)?, one(filler)?))
        })();
        let _ = fs::remove_dir_all(&folder);
        let (diary, filler) = found.map_err(|error| error.to_string())?;
        let before = (0..day).flat_map(|day| ["base", "before", "then"].map(|what| (day, what)));
        let expected: Vec<String> = before
            .chain(words.iter().map(|what| (day, *what)))
            .map(|(day, what)| format!("{day} {what}"))
            .collect();
        let expected = (expected.join(", "), day.to_string());
        match (diary, filler) == expected {
            true => Ok(()),
            false => Err(format!("day {day} came back with other rows than it had")),
        }
    }

    /// What is still there of points that went: snapshots, log, or bytes that only the first of them had.
    fn left_over(
        &self,
        kept: &Kept<'_>,
        gone: &[&Day],
        before: u64,
        after: u64,
    ) -> Result<Option<String>, KeepError> {
        let snapshots = kept.repository.snapshots().map_err(RestoringError::from)?;
        if let Some(day) =
            gone.iter().find(|day| snapshots.iter().any(|snapshot| snapshot.id == day.point.snapshot))
        {
            return Ok(Some(format!("the snapshot of {}", day.point.id)));
        }
        let size = kept.log.size;
        let starts = kept.points.points.values().map(|point| point.start.segment(point.timeline, size));
        let needed = starts.min().map(|segment| segment.start(size)).unwrap_or_default();
        for there in kept.log.timelines.values() {
            let pieces = there.pieces.iter().map(|piece| piece.end(size));
            let batches = there.batches.iter().map(|name| batch::bounds(name, size).1);
            if let Some(end) = pieces.chain(batches).find(|end| *end <= needed) {
                return Ok(Some(format!("log up to {end}, before {needed}")));
            }
        }
        // Once in the files of the first point, once in its log; what came meanwhile is less than one of both.
        let is_smaller = after + FIRST * 1024 <= before;
        Ok(match gone.is_empty() || is_smaller {
            true => gone.is_empty().then(|| "all: no point went".to_owned()),
            false => Some(format!("bytes: {before} before, {after} after")),
        })
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        self.inner.is_over.store(true, Ordering::Release);
        self.inner.changed.notify_all();
        if let Some(stream) = self.stream.take() {
            let _ = stream.join();
        }
    }
}

/// A cluster without the databases that nobody needs, which would be most of each base.
fn server(programs: &Programs, folder: &Path) -> Result<Scratch, KeepError> {
    let scratch = |error: ScratchError| KeepError::from(RestoringError::from(error));
    let mut initdb = programs.server("initdb", "KILL");
    initdb.arg("-D").arg(folder.join("data"));
    initdb.args(["-U", "klar", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--wal-segsize=1"]);
    initdb.args(["--data-checksums", "--no-sync", "--no-instructions"]);
    succeeded(&mut initdb, UP).map_err(|error| scratch(error.into()))?;
    let hba = folder.join("hba.conf");
    let written = fs::write(&hba, "local all all trust\nlocal replication all trust\n");
    written
        .and_then(|()| programs.give(&hba))
        .map_err(|source| KeepError::File { path: hba.clone(), source })?;
    let settings = [
        ("hba_file", hba.to_string_lossy().as_ref()),
        ("shared_buffers", "16MB"),
        ("max_connections", "20"),
        ("min_wal_size", "2MB"),
        ("max_wal_size", "16MB"),
        ("max_slot_wal_keep_size", "64MB"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let recovery = Recovery {
        log: folder,
        until: Until::End,
        then: Then::Promote,
        timeline: 1,
        needs: &settings,
        durable: false,
        patience: UP,
    };
    let server = Scratch::start(programs, &folder.join("data"), &folder.join("server"), &recovery);
    let server = server.map_err(scratch)?;
    let session = Session::open(server.door())?;
    session.run("update pg_database set datistemplate = false")?;
    for sql in [
        "drop database template0",
        "drop database template1",
        "create table public.diary (day int, what text)",
        "create table public.filler (day int, block bytea)",
    ] {
        session.rows(sql, WRITING)?;
    }
    Ok(server)
}

fn days(number: usize) -> SignedDuration {
    DAY.saturating_mul(i32::try_from(number).unwrap_or(i32::MAX))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn lack(what: String) -> KeepError {
    KeepError::Lack { what, hint: "ask for it again".into() }
}

/// Visitors come first, and the app's own backups.
fn yield_to_others() {
    const NICER: i32 = 10;
    // SAFETY: a plain system call about this thread, and what it starts; a kernel that refuses leaves things as they are.
    #[allow(unsafe_code)]
    unsafe {
        nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, NICER);
    }
}
