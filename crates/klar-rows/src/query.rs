//! What all questions have in common: of which rows, at what cost, and which granules need not be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crate::block::Block;
use crate::file::{self, Granule, Opened, RowFile, Shape};
use crate::filter::{Compiled, Filter, Known, Memory, Source};
use crate::parquet::{Chunks, Fault, Pages, encoding};
use crate::read;
use crate::sidecar;
use crate::store::{Error, Kept, Store, at};
use crate::texts::Dict;

/// What an answer may cost. What is found until then is told, and that it is not all.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Nothing more is begun after this.
    pub deadline: Option<Instant>,
    /// So many rows are looked at, and about as many again by each thread.
    pub rows_max: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { deadline: None, rows_max: u64::MAX }
    }
}

/// Which rows a question is about.
#[derive(Debug, Clone)]
pub struct Select {
    /// The table.
    pub table: String,
    /// From this time on.
    pub from_us: i64,
    /// Until this time, which is not included.
    pub to_us: i64,
    /// Which ones; all if there is none.
    pub filter: Option<Filter>,
    /// What the answer may cost.
    pub budget: Budget,
}

impl Select {
    /// All rows of a table from a time until another one, which is not included.
    pub fn new(table: &str, from_us: i64, to_us: i64) -> Self {
        Self { table: table.to_owned(), from_us, to_us, filter: None, budget: Budget::default() }
    }

    /// Only those that a filter takes.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }
}

/// What an answer did cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effort {
    /// Rows that were looked at.
    pub rows: u64,
    /// Granules of which nothing was read, because what stands beside them says that nothing is there.
    pub skipped: u64,
    /// Whether the budget ended before the rows did: then this is a part of the answer.
    pub is_partial: bool,
}

/// A question that is being answered, by several threads.
pub struct Asked<'a> {
    pub kept: &'a Kept,
    pub filter: Option<Compiled>,
    pub budget: Budget,
    pub rows: AtomicU64,
    pub skipped: AtomicU64,
    pub is_partial: AtomicBool,
}

impl<'a> Asked<'a> {
    pub fn new(store: &'a Store, select: &Select) -> Result<Self, Error> {
        let kept = store.table(&select.table)?;
        let compile = |filter: &Filter| Compiled::new(filter, &kept.shape.table);
        let filter = select.filter.as_ref().map(compile).transpose()?;
        Ok(Self {
            kept,
            filter,
            budget: select.budget,
            rows: 0.into(),
            skipped: 0.into(),
            is_partial: false.into(),
        })
    }

    pub fn effort(&self) -> Effort {
        Effort {
            rows: self.rows.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            is_partial: self.is_partial.load(Ordering::Relaxed),
        }
    }

    /// Whether more may be looked at.
    pub fn may_go_on(&self) -> bool {
        let is_over = self.budget.deadline.is_some_and(|deadline| Instant::now() >= deadline)
            || self.rows.load(Ordering::Relaxed) >= self.budget.rows_max;
        if is_over {
            self.is_partial.store(true, Ordering::Relaxed);
        }
        !is_over
    }

    /// The rows of a granule or block that are wanted, or none.
    pub fn wanted(
        &self,
        source: &mut dyn Source,
        memory: &mut Memory,
        (from_us, to_us): (i64, i64),
        is_inside: bool,
    ) -> Result<Option<Vec<bool>>, Fault> {
        let rows = source.rows();
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        let mut wanted = vec![true; rows];
        if !is_inside && let crate::block::Data::Number(times) = &source.column(0)?.data {
            for (wanted, time) in wanted.iter_mut().zip(times) {
                *wanted = from_us <= *time && *time < to_us;
            }
        }
        if let Some(filter) = &self.filter
            && wanted.contains(&true)
        {
            filter.narrow(source, memory, &mut wanted)?;
        }
        Ok(wanted.contains(&true).then_some(wanted))
    }
}

/// Where rows are, as of one moment.
pub struct Places {
    pub files: Vec<Arc<RowFile>>,
    pub blocks: Vec<Arc<Block>>,
}

impl Places {
    /// All that may have rows from a time until another one.
    pub fn find(kept: &Kept, from_us: i64, to_us: i64) -> Self {
        let hours = read(&kept.hours);
        let overlaps = |file: &&Arc<RowFile>| file.from_us < to_us && file.to_us >= from_us;
        let files = hours.files.values().flatten().filter(overlaps).cloned().collect();
        Self { files, blocks: hours.blocks() }
    }
}

/// What is known of a row group, or of a granule of it.
pub struct Beside<'a> {
    pub opened: &'a Opened,
    pub group: usize,
    pub granule: Option<usize>,
    pub pages: &'a mut Pages,
    pub chunks: &'a mut Chunks,
}

impl Beside<'_> {
    fn chunk(&self, column: usize) -> Option<&crate::parquet::Chunk> {
        let leaf = self.opened.leaves.get(column).copied().flatten()?;
        self.opened.head.directory.groups.get(self.group)?.chunks.get(leaf)
    }

    fn pages(&self, column: usize) -> &[crate::parquet::Page] {
        let pages = self.chunk(column).map(|chunk| &chunk.pages[..]).unwrap_or_default();
        match self.granule {
            Some(granule) => pages.get(granule..granule + 1).unwrap_or_default(),
            None => pages,
        }
    }
}

impl Known for Beside<'_> {
    fn span(&self, column: usize) -> Option<(i64, i64)> {
        let pages = self.pages(column);
        Some((pages.iter().map(|page| page.least).min()?, pages.iter().map(|page| page.most).max()?))
    }

    fn is_missing(&self, column: usize) -> bool {
        self.pages(column).iter().all(|page| page.nulls == page.values)
    }

    fn dict(&mut self, column: usize) -> Result<Option<Arc<Dict>>, Fault> {
        let leaf = self.opened.leaves.get(column).copied().flatten();
        if self.granule.is_some()
            || self.pages(column).iter().any(|page| page.encoding != encoding::DICTIONARY)
        {
            return Ok(None);
        }
        let opened = self.opened;
        let chunk = leaf
            .and_then(|leaf| Some((leaf, opened.head.directory.groups.get(self.group)?.chunks.get(leaf)?)));
        chunk.map_or(Ok(None), |(leaf, chunk)| self.pages.dict(&opened.file, chunk, leaf, self.chunks))
    }

    fn may_have(&mut self, column: usize, marks: &[u64]) -> Result<bool, Fault> {
        let groups = &self.opened.head.directory.groups;
        let filters = self.opened.filters.get(column).copied().flatten();
        let (Some(granule), Some(filters)) = (self.granule, filters) else { return Ok(true) };
        let before: usize = groups.iter().take(self.group).map(|group| group.granules.len()).sum();
        let filter =
            self.opened.head.filters.get(filters).and_then(|(_, granules)| granules.get(before + granule));
        filter.map_or(Ok(true), |filter| sidecar::may_have(&self.opened.side, *filter, marks))
    }
}

/// What a thread needs, and uses again.
pub struct Hands {
    pub pages: Pages,
    pub memory: Memory,
}

/// What is done with the rows of a granule that are wanted.
pub type Each<'a, T> =
    &'a (dyn Fn(&mut T, &mut dyn Source, &[bool], &mut Memory) -> Result<(), Error> + Sync);

impl Store {
    /// Goes through all rows of some places that are wanted, with several threads, in no order.
    pub(crate) fn visit<T: Send>(
        &self,
        asked: &Asked,
        places: &Places,
        range: (i64, i64),
        begin: &(dyn Fn() -> T + Sync),
        each: Each<T>,
    ) -> Result<Vec<T>, Error> {
        let shape = &asked.kept.shape;
        let mut all: Vec<T> = (0..self.settings.threads.max(1)).map(|_| begin()).collect();
        // Some files at a time: not all of them can be open.
        let waves = places.files.chunks(64);
        let no_files: &[Arc<RowFile>] = &[];
        for (number, files) in waves.chain(places.files.is_empty().then_some(no_files)).enumerate() {
            let mut parts = Vec::new();
            for file in files {
                let opened = self.open_file(file, shape)?;
                parts.extend(
                    (0..opened.head.directory.groups.len())
                        .map(|group| Part::Group(file, opened.clone(), group)),
                );
            }
            if number == 0 {
                parts.extend(places.blocks.iter().map(Part::Block));
            }
            let next = AtomicUsize::new(0);
            let work = |state: &mut T| -> Result<(), Error> {
                let mut hands =
                    Hands { pages: Pages::new().map_err(at(&self.folder))?, memory: Memory::default() };
                while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    part.visit(asked, shape, range, &mut hands, state, each)?;
                }
                Ok(())
            };
            let failed: Vec<Error> = match &mut all[..] {
                [one] => work(one).err().into_iter().collect(),
                _ if parts.len() < 2 => all.first_mut().and_then(|one| work(one).err()).into_iter().collect(),
                many => std::thread::scope(|scope| {
                    let work = &work;
                    let threads: Vec<_> =
                        many.iter_mut().map(|one| scope.spawn(move || work(one).err())).collect();
                    threads
                        .into_iter()
                        .filter_map(|thread| {
                            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                        })
                        .collect()
                }),
            };
            if let Some(error) = failed.into_iter().next() {
                return Err(error);
            }
        }
        Ok(all)
    }

    /// Asks, and asks again where a sidecar was damaged or a file had just left.
    pub(crate) fn again<T>(&self, kept: &Kept, ask: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
        let mut tries = 0;
        loop {
            let error = match ask() {
                Err(error) if tries < 3 => error,
                answer => return answer,
            };
            tries += 1;
            match &error {
                Error::Damaged { path, .. } => {
                    let file =
                        read(&kept.hours).files.values().flatten().find(|file| file.path == *path).cloned();
                    match file {
                        // Once: when the rows themselves are damaged this says so.
                        Some(file) if tries == 1 => file.renew(&kept.shape)?,
                        _ => return Err(error),
                    }
                }
                Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {}
                _ => return Err(error),
            }
        }
    }
}

enum Part<'a> {
    Group(&'a Arc<RowFile>, Arc<Opened>, usize),
    Block(&'a Arc<Block>),
}

impl Part<'_> {
    fn visit<T>(
        &self,
        asked: &Asked,
        shape: &Shape,
        range: (i64, i64),
        hands: &mut Hands,
        state: &mut T,
        each: Each<T>,
    ) -> Result<(), Error> {
        match self {
            Self::Block(block) => {
                if asked.may_go_on() {
                    let mut source: &Block = block;
                    let fault = file::of(std::path::Path::new("memory"));
                    if let Some(wanted) =
                        asked.wanted(&mut source, &mut hands.memory, range, false).map_err(fault)?
                    {
                        each(state, &mut source, &wanted, &mut hands.memory)?;
                    }
                }
                Ok(())
            }
            Self::Group(file, opened, group) => {
                let fault = file::of(&file.path);
                let mut chunks = Chunks::default();
                let granules =
                    candidates(asked, opened, *group, range, hands, &mut chunks).map_err(&fault)?;
                for (granule, rows, is_inside) in granules {
                    if !asked.may_go_on() {
                        break;
                    }
                    let mut source = Granule {
                        opened,
                        table: &shape.table,
                        group: *group,
                        granule,
                        rows,
                        pages: &mut hands.pages,
                        chunks: &mut chunks,
                        columns: vec![None; shape.table.columns.len()],
                    };
                    if let Some(wanted) =
                        asked.wanted(&mut source, &mut hands.memory, range, is_inside).map_err(&fault)?
                    {
                        each(state, &mut source, &wanted, &mut hands.memory)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The granules of a row group that may have rows that are wanted, how many rows they have, and whether all of these are
/// of the right time.
pub fn candidates(
    asked: &Asked,
    opened: &Opened,
    group: usize,
    (from_us, to_us): (i64, i64),
    hands: &mut Hands,
    chunks: &mut Chunks,
) -> Result<Vec<(usize, usize, bool)>, Fault> {
    let directory = &opened.head.directory;
    let Some(found) = directory.groups.get(group) else { return Ok(Vec::new()) };
    let times = found.chunks.first().map(|times| &times.pages[..]).unwrap_or_default();
    let in_time =
        |granule: usize| times.get(granule).is_some_and(|page| page.least < to_us && page.most >= from_us);
    let all: Vec<usize> = (0..found.granules.len()).filter(|granule| in_time(*granule)).collect();
    let mut out = Vec::new();
    let mut is_possible = !all.is_empty();
    if let (Some(filter), true) = (&asked.filter, is_possible) {
        let mut beside = Beside { opened, group, granule: None, pages: &mut hands.pages, chunks };
        is_possible = filter.may(&mut beside, &mut hands.memory)?;
    }
    if is_possible {
        for granule in &all {
            if let Some(filter) = &asked.filter {
                let mut beside =
                    Beside { opened, group, granule: Some(*granule), pages: &mut hands.pages, chunks };
                if !filter.may(&mut beside, &mut hands.memory)? {
                    continue;
                }
            }
            let is_inside =
                times.get(*granule).is_some_and(|page| from_us <= page.least && page.most < to_us);
            out.push((*granule, found.granules[*granule] as usize, is_inside));
        }
    }
    asked.skipped.fetch_add((found.granules.len() - out.len()) as u64, Ordering::Relaxed);
    Ok(out)
}
