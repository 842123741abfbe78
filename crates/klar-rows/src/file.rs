//! A file of rows and its sidecar, as one.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::block::{Block, Vector};
use crate::filter::Source;
use crate::lock;
use crate::parquet::{Chunks, Directory, Fault, Pages, Writer, walk};
use crate::place::{self, Name};
use crate::sidecar::{self, Builder, Head, Tail};
use crate::sketch::Plan;
use crate::store::{Error, at};
use crate::table::{Kind, Table};
use crate::wal::{Disk, sync_folder};

/// A table, and what is derived from it.
pub struct Shape {
    pub table: Arc<Table>,
    pub plans: Vec<Plan>,
}

impl Shape {
    pub fn new(table: Table) -> Self {
        let plans = Plan::all(&table);
        Self { table: Arc::new(table), plans }
    }
}

/// Gives blocks one after the other to whoever takes them.
pub type Blocks<'a> = &'a mut dyn FnMut(Push) -> Result<(), Error>;
/// Takes a block.
pub type Push<'a> = &'a mut dyn FnMut(&Block) -> Result<(), Error>;

/// A file of rows.
pub struct RowFile {
    pub path: PathBuf,
    pub name: Name,
    pub hour: i64,
    pub rows: u64,
    /// With its sidecar.
    pub bytes: u64,
    pub from_us: i64,
    pub to_us: i64,
    /// Kept from one look to the next, until [`RowFile::rest`].
    opened: Mutex<Option<Arc<Opened>>>,
    is_doomed: AtomicBool,
}

impl Drop for RowFile {
    /// A file that others stand for leaves when nobody reads it any more. Should that fail it leaves when the store is
    /// opened again.
    fn drop(&mut self) {
        if self.is_doomed.load(Ordering::Relaxed) {
            let _ = remove(&self.path);
        }
    }
}

/// A file that is being read.
pub struct Opened {
    pub file: File,
    pub side: File,
    pub head: Head,
    /// For each column of the table its first leaf in this file, if it has it.
    pub leaves: Vec<Option<usize>>,
    /// For each column of the table where its filters are.
    pub filters: Vec<Option<usize>>,
}

/// Whatever is wrong with a file becomes an error that names it.
pub fn of(path: &Path) -> impl Fn(Fault) -> Error + '_ {
    move |fault| match fault {
        Fault::Io(source) => Error::Io { path: path.to_owned(), source },
        Fault::Damaged(what) => Error::Damaged { path: path.to_owned(), what },
    }
}

fn create(path: &Path) -> Result<File, Fault> {
    Ok(OpenOptions::new().write(true).create(true).truncate(true).open(path)?)
}

fn side_of(path: &Path) -> PathBuf {
    path.with_extension("side")
}

/// A name that is never taken for that of a file; what has one is removed when the store is opened.
fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("tmp-{name}"))
}

impl RowFile {
    /// Writes a file of the blocks that `blocks` gives, which are sorted by time. `None`: there was none.
    pub fn create(
        root: &Path,
        shape: &Shape,
        hour: i64,
        name: Name,
        disk: &dyn Disk,
        blocks: Blocks,
    ) -> Result<Option<Arc<Self>>, Error> {
        let folder = place::folder(root, &shape.table.name, hour);
        make_folder(root, &folder)?;
        let path = folder.join(name.file());
        let (rows_tmp, side_tmp) = (unfinished(&path), unfinished(&side_of(&path)));
        let write = |blocks: Blocks| -> Result<Option<Tail>, Error> {
            let (io, fault) = (at(&path), of(&path));
            let mut writer = Writer::new(create(&rows_tmp).map_err(&fault)?, &shape.table).map_err(&io)?;
            let mut builder = Builder::new(create(&side_tmp).map_err(&fault)?, &shape.table, &shape.plans);
            let mut rows = 0;
            blocks(&mut |block| {
                rows += block.rows;
                writer.push(block).map_err(&io)?;
                builder.push(block).map_err(&fault)
            })?;
            if rows == 0 {
                return Ok(None);
            }
            let directory = writer.finish().map_err(&io)?;
            let file_bytes = fs::metadata(&rows_tmp).map_err(&io)?.len();
            let (_, tail) = builder.finish(directory, file_bytes).map_err(&io)?;
            // Rows without a sidecar are a file; a sidecar without rows is nothing.
            fs::rename(&side_tmp, side_of(&path)).map_err(&io)?;
            disk.rename(&rows_tmp, &path).map_err(&io)?;
            sync_folder(&folder).map_err(&io)?;
            Ok(Some(tail))
        };
        let written = write(blocks);
        if !matches!(written, Ok(Some(_))) {
            // What is half written would take the space that is missing.
            let _ = fs::remove_file(&rows_tmp);
            let _ = fs::remove_file(&side_tmp);
        }
        Ok(written?.map(|tail| Arc::new(Self::of(path, name, hour, &tail))))
    }

    fn of(path: PathBuf, name: Name, hour: i64, tail: &Tail) -> Self {
        let side_bytes = fs::metadata(side_of(&path)).map_or(0, |side| side.len());
        Self {
            path,
            name,
            hour,
            rows: tail.rows,
            bytes: tail.file_bytes + side_bytes,
            from_us: tail.from_us,
            to_us: tail.to_us,
            opened: Mutex::default(),
            is_doomed: AtomicBool::new(false),
        }
    }

    /// Finds out what is in a file that is there. A sidecar that is missing or damaged is made again.
    pub fn find(path: PathBuf, name: Name, hour: i64, shape: &Shape) -> Result<Self, Error> {
        let tail = match File::open(side_of(&path))
            .map_err(Fault::from)
            .and_then(|side| sidecar::read_tail(&side))
        {
            Ok(tail) if fs::metadata(&path).is_ok_and(|file| file.len() == tail.file_bytes) => tail,
            _ => rebuild(&path, shape)?.1,
        };
        Ok(Self::of(path, name, hour, &tail))
    }

    /// The file, to be read.
    pub fn open(&self, shape: &Shape) -> Result<Arc<Opened>, Error> {
        let mut opened = lock(&self.opened);
        if let Some(opened) = &*opened {
            return Ok(opened.clone());
        }
        let read = || {
            let side = File::open(side_of(&self.path))?;
            let head = sidecar::read_head(&side, &sidecar::read_tail(&side)?)?;
            // A table that wants more than was counted gets it now.
            let searchable = shape.table.columns.iter().filter(|column| column.is_searchable);
            let has_filters =
                searchable.map(|column| &column.name).eq(head.filters.iter().map(|(name, _)| name));
            let has_sketches =
                shape.plans.iter().map(|plan| &plan.key).eq(head.sketches.iter().map(|sketch| &sketch.key));
            (has_filters && has_sketches)
                .then_some(head)
                .ok_or(Fault::Damaged("its sidecar is of another table"))
        };
        let head = match read() {
            Ok(head) => head,
            Err(_) => rebuild(&self.path, shape)?.0,
        };
        let io = at(&self.path);
        let fresh = Arc::new(Opened {
            file: File::open(&self.path).map_err(&io)?,
            side: File::open(side_of(&self.path)).map_err(&io)?,
            leaves: leaves(&head.directory, &shape.table),
            filters: shape
                .table
                .columns
                .iter()
                .map(|column| head.filters.iter().position(|(name, _)| *name == column.name))
                .collect(),
            head,
        });
        Ok(opened.insert(fresh).clone())
    }

    /// Forgets what was kept for the next look.
    pub fn rest(&self) {
        *lock(&self.opened) = None;
    }

    /// Lets it leave as soon as nobody reads it any more.
    pub fn doom(&self) {
        self.is_doomed.store(true, Ordering::Relaxed);
    }

    /// Makes the sidecar again.
    pub fn renew(&self, shape: &Shape) -> Result<(), Error> {
        self.rest();
        rebuild(&self.path, shape).map(|_| ())
    }

    /// Removes it: the rows first, since they are what counts.
    pub fn remove(&self) -> Result<(), Error> {
        remove(&self.path)
    }
}

pub fn remove(path: &Path) -> Result<(), Error> {
    let io = at(path);
    fs::remove_file(path).map_err(&io)?;
    let _ = fs::remove_file(side_of(path));
    let Some(folder) = path.parent() else { return Ok(()) };
    sync_folder(folder).map_err(&io)?;
    // Empty folders go too; those that are not stay, and say so with an error that is none.
    let _ = fs::remove_dir(folder).and_then(|()| folder.parent().map_or(Ok(()), fs::remove_dir));
    Ok(())
}

fn make_folder(root: &Path, folder: &Path) -> Result<(), Error> {
    if folder.is_dir() {
        return Ok(());
    }
    let io = at(folder);
    fs::create_dir_all(folder).map_err(&io)?;
    for above in folder.ancestors().skip(1).take_while(|above| above.starts_with(root)) {
        sync_folder(above).map_err(&io)?;
    }
    Ok(())
}

fn leaves(directory: &Directory, table: &Table) -> Vec<Option<usize>> {
    let leaf = |name: &str, kind: Kind| {
        directory.columns.iter().find(|(found, of, _)| found == name && *of == kind).map(|(.., leaf)| *leaf)
    };
    table.columns.iter().map(|column| leaf(&column.name, column.kind)).collect()
}

/// Makes a sidecar from the rows alone.
fn rebuild(path: &Path, shape: &Shape) -> Result<(Head, Tail), Error> {
    let (io, fault) = (at(path), of(path));
    let file = File::open(path).map_err(&io)?;
    let mut directory = walk(&file).map_err(&fault)?;
    let side = side_of(path);
    let side_tmp = unfinished(&side);
    let mut builder = Builder::new(create(&side_tmp).map_err(&fault)?, &shape.table, &shape.plans);
    let mut pages = Pages::new().map_err(&io)?;
    let columns = directory.columns.clone();
    let leaves = leaves(&directory, &shape.table);
    for group in 0..directory.groups.len() {
        let mut chunks = Chunks::default();
        for granule in 0..directory.groups[group].granules.len() {
            let mut found: Vec<Option<Vector>> = vec![None; columns.len()];
            for (place, (_, kind, leaf)) in columns.iter().enumerate() {
                let vector = pages
                    .column(&file, &directory, (group, granule), (*kind, *leaf), &mut chunks)
                    .map_err(&fault)?;
                if let (crate::block::Data::Number(numbers), Some(chunk)) =
                    (&vector.data, directory.groups[group].chunks.get_mut(*leaf))
                {
                    let (least, most) = crate::parquet::span_of(*kind, numbers, &vector.nulls);
                    if let Some(page) = chunk.pages.get_mut(granule) {
                        (page.least, page.most) = (least, most);
                    }
                }
                found[place] = Some(vector);
            }
            let rows = directory.groups[group].granules[granule] as usize;
            let columns = shape.table.columns.iter().zip(&leaves).map(|(column, leaf)| {
                let place = leaf.and_then(|leaf| columns.iter().position(|(.., other)| *other == leaf));
                place.and_then(|place| found[place].take()).unwrap_or_else(|| Vector::null(column.kind, rows))
            });
            builder.push(&Block { rows, columns: columns.collect() }).map_err(&fault)?;
        }
    }
    let file_bytes = file.metadata().map_err(&io)?.len();
    let made = builder.finish(directory, file_bytes).map_err(&io)?;
    fs::rename(&side_tmp, &side).map_err(&io)?;
    Ok(made)
}

/// A granule of a file, of which columns are read when they are needed.
pub struct Granule<'a> {
    pub opened: &'a Opened,
    pub table: &'a Table,
    pub group: usize,
    pub granule: usize,
    pub rows: usize,
    pub pages: &'a mut Pages,
    pub chunks: &'a mut Chunks,
    pub columns: Vec<Option<Vector>>,
}

impl Source for Granule<'_> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn column(&mut self, place: usize) -> Result<&Vector, Fault> {
        let missing = Fault::Damaged("a column is missing");
        let kind = self.table.columns.get(place).map(|column| column.kind);
        let (Some(kind), Some(slot)) = (kind, self.columns.get_mut(place)) else { return Err(missing) };
        match slot {
            Some(vector) => Ok(vector),
            None => Ok(slot.insert(match self.opened.leaves.get(place).copied().flatten() {
                Some(leaf) => {
                    let (opened, at) = (self.opened, (self.group, self.granule));
                    self.pages.column(&opened.file, &opened.head.directory, at, (kind, leaf), self.chunks)?
                }
                None => Vector::null(kind, self.rows),
            })),
        }
    }
}

/// Reads whole granules one after the other.
pub struct Reader {
    path: PathBuf,
    opened: Arc<Opened>,
    table: Arc<Table>,
    pages: Pages,
    chunks: Chunks,
    group: usize,
    granule: usize,
}

impl Reader {
    pub fn new(file: &RowFile, opened: Arc<Opened>, table: Arc<Table>) -> Result<Self, Error> {
        let pages = Pages::new().map_err(at(&file.path))?;
        Ok(Self {
            path: file.path.clone(),
            opened,
            table,
            pages,
            chunks: Chunks::default(),
            group: 0,
            granule: 0,
        })
    }

    pub fn next(&mut self) -> Result<Option<Block>, Error> {
        let groups = &self.opened.head.directory.groups;
        let Some(group) = groups.get(self.group) else { return Ok(None) };
        let rows = group.granules.get(self.granule).copied().unwrap_or_default() as usize;
        let mut granule = Granule {
            opened: &self.opened,
            table: &self.table,
            group: self.group,
            granule: self.granule,
            rows,
            pages: &mut self.pages,
            chunks: &mut self.chunks,
            columns: vec![None; self.table.columns.len()],
        };
        for place in 0..self.table.columns.len() {
            granule.column(place).map_err(of(&self.path))?;
        }
        let columns = granule.columns.into_iter().flatten().collect();
        self.granule += 1;
        if self.granule >= group.granules.len() {
            (self.group, self.granule, self.chunks) = (self.group + 1, 0, Chunks::default());
        }
        Ok(Some(Block { rows, columns }))
    }
}
