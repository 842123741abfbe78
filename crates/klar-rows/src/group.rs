//! Counting: how many rows there are of each kind, in each stretch of time, and how a number of theirs is distributed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::block::Data;
use crate::file;
use crate::filter::{Compiled, Filter, Memory, Source};
use crate::histogram::Histogram;
use crate::parquet::Fault;
use crate::query::{Asked, Effort, Places, Select};
use crate::sidecar;
use crate::sketch::{Cell, MINUTE_US, read_minutes, read_totals};
use crate::store::{Error, Store};
use crate::table::Kind;
use crate::texts::Dict;

/// By what rows are counted.
#[derive(Debug, Clone, Default)]
pub struct Grouped {
    /// The columns whose values make the groups: none, one or several, of any kind but maps and fractions.
    pub by: Vec<String>,
    /// A group is also a stretch of so many microseconds, counted from 1970.
    pub bucket_us: Option<i64>,
    /// A column of a number without a sign: its sum and how it is distributed are told.
    pub value: Option<String>,
    /// Rows that are counted apart.
    pub errors: Option<Filter>,
}

impl Grouped {
    /// By the values of some columns.
    pub fn by(columns: &[&str]) -> Self {
        Self { by: columns.iter().map(|&column| column.to_owned()).collect(), ..Self::default() }
    }

    /// And how a number is distributed.
    #[must_use]
    pub fn value(mut self, column: &str) -> Self {
        self.value = Some(column.to_owned());
        self
    }

    /// And by stretches of time.
    #[must_use]
    pub fn bucket(mut self, bucket_us: i64) -> Self {
        self.bucket_us = Some(bucket_us.max(1));
        self
    }
}

/// A value that rows have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// They have none.
    Null,
    /// A text.
    Text(String),
    /// A number; one with a sign, or a time.
    Signed(i64),
    /// A number without one.
    Unsigned(u64),
    /// Yes or no.
    Bool(bool),
    /// Fixed bytes.
    Bytes(Vec<u8>),
}

/// Rows that have something in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// Their value of each column.
    pub keys: Vec<Key>,
    /// When their stretch of time begins.
    pub bucket_us: Option<i64>,
    /// How many there are.
    pub count: u64,
    /// How many of them are errors.
    pub errors: u64,
    /// The sum of the number, where it was counted.
    pub sum: u128,
    /// How the number is distributed.
    pub histogram: Histogram,
}

/// An answer, ordered by time and then by keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    /// The groups that have a row.
    pub groups: Vec<Group>,
    /// What it did cost, and whether this is all.
    pub effort: Effort,
}

/// What [`Store::sketch`] is asked: a sketch of the table by its two columns.
#[derive(Debug, Clone)]
pub struct Sketched {
    /// Its group.
    pub group: String,
    /// Its number.
    pub value: String,
    /// Stretches of time: whole minutes.
    pub bucket_us: Option<i64>,
}

/// Bytes of all values that make groups.
const KEY_BYTES_MAX: usize = 64 << 20;
/// Pairs of codes that have a place of their own.
const PLACES_MAX: usize = 1 << 20;

/// A number for each pair of two numbers that was met.
#[derive(Default)]
struct Pairs {
    places: Vec<Vec<u32>>,
    used: usize,
    others: HashMap<(u32, u32), u32>,
    all: Vec<(u32, u32)>,
}

impl Pairs {
    fn code(&mut self, first: u32, second: u32) -> u32 {
        let (row, column) = (first as usize, second as usize);
        if let Some(code) =
            self.places.get(row).and_then(|places| places.get(column)).filter(|code| **code > 0)
        {
            return code - 1;
        }
        let here = self.places.get(row).map_or(0, Vec::len);
        if column >= here && (self.used + column + 1 - here > PLACES_MAX || row > PLACES_MAX) {
            let next = self.all.len() as u32;
            let code = *self.others.entry((first, second)).or_insert(next);
            if code == next {
                self.all.push((first, second));
            }
            return code;
        }
        // What has no place yet may have been met before there was room for one.
        let code = self.others.get(&(first, second)).copied().unwrap_or_else(|| {
            self.all.push((first, second));
            self.all.len() as u32 - 1
        });
        if row >= self.places.len() {
            self.places.resize(row + 1, Vec::new());
        }
        if let Some(places) = self.places.get_mut(row) {
            if column >= places.len() {
                self.used += column + 1 - places.len();
                places.resize(column + 1, 0);
            }
            places[column] = code + 1;
        }
        code
    }
}

/// Values of a column as codes: 0 is none.
#[derive(Default)]
struct Values {
    dict: Dict,
    known: HashMap<usize, (Arc<Dict>, Vec<u32>)>,
}

impl Values {
    /// The codes of some rows.
    fn codes(&mut self, data: &Data, nulls: &[bool], picked: &[u32], out: &mut Vec<u32>) {
        out.clear();
        if let Data::Dict(codes, dict) = data {
            if self.known.len() > 64 {
                self.known.clear();
            }
            let fresh = || (dict.clone(), vec![0; dict.texts.len()]);
            let known = &mut self.known.entry(Arc::as_ptr(dict).addr()).or_insert_with(fresh).1;
            let mut code_of = |code: u32| {
                let known = &mut known[code as usize];
                if *known == 0 {
                    *known = self.dict.code(dict.texts.get(code as usize)) + 1;
                }
                *known
            };
            if picked.len() == codes.len() {
                out.extend(codes.iter().map(|code| code_of(*code)));
            } else {
                out.extend(picked.iter().map(|row| code_of(codes[*row as usize])));
            }
        } else {
            let rows = picked.iter().map(|row| *row as usize);
            match data {
                Data::Number(numbers) => {
                    out.extend(rows.map(|row| self.dict.code(&numbers[row].to_le_bytes()) + 1))
                }
                Data::Text(texts) => out.extend(rows.map(|row| self.dict.code(texts.get(row)) + 1)),
                Data::Fixed(width, bytes) => {
                    out.extend(rows.map(|row| self.dict.code(&bytes[row * width..(row + 1) * width]) + 1));
                }
                _ => out.resize(picked.len(), 0),
            }
        }
        if !nulls.is_empty() {
            for (out, _) in out.iter_mut().zip(picked).filter(|(_, row)| nulls[**row as usize]) {
                *out = 0;
            }
        }
    }

    fn key(&self, kind: Kind, code: u32) -> Key {
        let Some(code) = code.checked_sub(1) else { return Key::Null };
        let value = self.dict.texts.get(code as usize);
        let number = value.try_into().map_or(0, i64::from_le_bytes);
        match kind {
            Kind::Text | Kind::Dict => Key::Text(String::from_utf8_lossy(value).into_owned()),
            Kind::Fixed8 | Kind::Fixed16 => Key::Bytes(value.to_vec()),
            Kind::Bool => Key::Bool(number != 0),
            Kind::U16 | Kind::U32 | Kind::U64 => Key::Unsigned(number as u64),
            _ => Key::Signed(number),
        }
    }
}

/// What is asked, in places of columns.
struct Wanted {
    by: Vec<(usize, Kind)>,
    bucket_us: Option<i64>,
    value: Option<usize>,
    errors: Option<Compiled>,
    groups_max: usize,
}

/// What one thread has counted.
#[derive(Default)]
struct Counted {
    /// Starts of stretches, then values.
    buckets: HashMap<i64, u32>,
    starts: Vec<i64>,
    values: Vec<Values>,
    pairs: Vec<Pairs>,
    groups: Vec<Group>,
    /// Of the granule that is being counted: rows, their codes, their groups.
    picked: Vec<u32>,
    codes: Vec<u32>,
    group_of: Vec<u32>,
}

impl Counted {
    fn new(wanted: &Wanted) -> Self {
        let values = wanted.by.iter().map(|_| Values::default()).collect();
        let pairs = wanted.by.iter().map(|_| Pairs::default()).collect();
        Self { values, pairs, ..Self::default() }
    }

    fn add(
        &mut self,
        wanted: &Wanted,
        source: &mut dyn Source,
        rows: &[bool],
        memory: &mut Memory,
    ) -> Result<(), Error> {
        let fault = file::of(Path::new("rows"));
        let too_many = || Error::TooManyGroups(wanted.groups_max);
        let mut picked = std::mem::take(&mut self.picked);
        picked.clear();
        picked.extend((0..rows.len() as u32).filter(|row| rows[*row as usize]));
        let mut group_of = std::mem::take(&mut self.group_of);
        group_of.clear();
        group_of.resize(picked.len(), 0);
        // One more than the largest code.
        let mut groups = 1;
        if let Some(bucket_us) = wanted.bucket_us
            && let Data::Number(times) = &source.column(0).map_err(&fault)?.data
        {
            let (mut last, mut code) = (None, 0);
            for (group, row) in group_of.iter_mut().zip(&picked) {
                let start = times[*row as usize].div_euclid(bucket_us) * bucket_us;
                if last != Some(start) {
                    code = *self.buckets.entry(start).or_insert_with(|| {
                        self.starts.push(start);
                        self.starts.len() as u32 - 1
                    });
                    last = Some(start);
                }
                *group = code;
            }
            groups = self.starts.len();
        }
        for (level, (place, _)) in wanted.by.iter().enumerate() {
            let vector = source.column(*place).map_err(&fault)?;
            self.values[level].codes(&vector.data, &vector.nulls, &picked, &mut self.codes);
            let dict = &self.values[level].dict.texts;
            if dict.bytes.len() > KEY_BYTES_MAX || dict.len() > wanted.groups_max {
                return Err(too_many());
            }
            if level == 0 && wanted.bucket_us.is_none() {
                std::mem::swap(&mut group_of, &mut self.codes);
                groups = dict.len() + 1;
                continue;
            }
            let pairs = &mut self.pairs[level];
            for (group, code) in group_of.iter_mut().zip(&self.codes) {
                *group = pairs.code(*group, *code);
            }
            groups = pairs.all.len();
        }
        if groups > wanted.groups_max + 1 {
            return Err(too_many());
        }
        if groups > self.groups.len() {
            self.groups.resize(groups, Group::default());
        }
        if let Some(errors) = &wanted.errors {
            let mut wrong = rows.to_vec();
            errors.narrow(source, memory, &mut wrong).map_err(&fault)?;
            for (group, row) in group_of.iter().zip(&picked) {
                self.groups[*group as usize].errors += u64::from(wrong[*row as usize]);
            }
        }
        for group in &group_of {
            self.groups[*group as usize].count += 1;
        }
        if let Some(value) = wanted.value {
            let vector = source.column(value).map_err(&fault)?;
            if let Data::Number(numbers) = &vector.data {
                let groups = &mut self.groups[..];
                let mut add = |group: u32, number: i64| {
                    let group = &mut groups[group as usize];
                    group.sum += u128::from(number as u64);
                    group.histogram.add(number as u64);
                };
                if vector.nulls.is_empty() && picked.len() == rows.len() {
                    group_of.iter().zip(numbers).for_each(|(group, number)| add(*group, *number));
                } else {
                    for (group, row) in
                        group_of.iter().zip(&picked).filter(|(_, row)| !vector.is_null(**row as usize))
                    {
                        add(*group, numbers[*row as usize]);
                    }
                }
            }
        }
        (self.picked, self.group_of) = (picked, group_of);
        Ok(())
    }

    /// The groups with their keys.
    fn finish(mut self, wanted: &Wanted) -> Vec<Group> {
        let groups = std::mem::take(&mut self.groups);
        let mut out = Vec::new();
        for (code, mut group) in groups.into_iter().enumerate().filter(|(_, group)| group.count > 0) {
            let mut code = code as u32;
            for (level, (_, kind)) in wanted.by.iter().enumerate().rev() {
                let own = if level == 0 && wanted.bucket_us.is_none() {
                    code
                } else {
                    let (before, own) = self.pairs[level].all.get(code as usize).copied().unwrap_or_default();
                    code = before;
                    own
                };
                group.keys.push(self.values[level].key(*kind, own));
            }
            group.keys.reverse();
            group.bucket_us = wanted.bucket_us.and_then(|_| self.starts.get(code as usize).copied());
            out.push(group);
        }
        out
    }
}

type ByKey = HashMap<(Option<i64>, Vec<Key>), Group>;

fn add_group(all: &mut ByKey, group: Group) {
    let there = all.entry((group.bucket_us, group.keys.clone())).or_insert_with(|| Group {
        keys: group.keys.clone(),
        bucket_us: group.bucket_us,
        ..Group::default()
    });
    there.count += group.count;
    there.errors += group.errors;
    there.sum += group.sum;
    there.histogram.merge(&group.histogram);
}

fn in_order(all: ByKey, effort: Effort) -> Groups {
    let mut groups: Vec<Group> = all.into_values().collect();
    groups.sort_by(|first, second| (first.bucket_us, &first.keys).cmp(&(second.bucket_us, &second.keys)));
    Groups { groups, effort }
}

impl Store {
    /// Counts rows by what they have in common.
    ///
    /// # Errors
    /// A table, column or filter that cannot be, more groups than an answer may have, the disk, a damaged file.
    pub fn group(&self, select: &Select, grouped: &Grouped) -> Result<Groups, Error> {
        let kept = self.table(&select.table)?;
        self.again(kept, || {
            let asked = Asked::new(self, select)?;
            let wanted = self.wanted(&asked, grouped)?;
            let places = Places::find(kept, select.from_us, select.to_us);
            let mut all = ByKey::new();
            self.count_into(&mut all, &asked, &wanted, &places, (select.from_us, select.to_us))?;
            Ok(in_order(all, asked.effort()))
        })
    }

    /// How many rows there are.
    ///
    /// # Errors
    /// As [`Store::group`].
    pub fn count(&self, select: &Select) -> Result<(u64, Effort), Error> {
        let found = self.group(select, &Grouped::default())?;
        Ok((found.groups.first().map_or(0, |group| group.count), found.effort))
    }

    fn wanted(&self, asked: &Asked, grouped: &Grouped) -> Result<Wanted, Error> {
        let table = &asked.kept.shape.table;
        let column = |name: &String, fits: fn(Kind) -> bool| {
            let place = table.column(name).filter(|place| fits(table.columns[*place].kind));
            let place = place.ok_or_else(|| Error::NoColumn(name.chars().take(100).collect()))?;
            Ok::<_, Error>((place, table.columns[place].kind))
        };
        let makes_groups = |kind: Kind| !matches!(kind, Kind::Map | Kind::F64);
        Ok(Wanted {
            by: grouped.by.iter().map(|name| column(name, makes_groups)).collect::<Result<_, _>>()?,
            bucket_us: grouped.bucket_us.map(|bucket_us| bucket_us.max(1)),
            value: grouped
                .value
                .as_ref()
                .map(|name| column(name, Kind::is_count))
                .transpose()?
                .map(|(place, _)| place),
            errors: grouped.errors.as_ref().map(|errors| Compiled::new(errors, table)).transpose()?,
            groups_max: self.settings.groups_max,
        })
    }

    fn count_into(
        &self,
        all: &mut ByKey,
        asked: &Asked,
        wanted: &Wanted,
        places: &Places,
        range: (i64, i64),
    ) -> Result<(), Error> {
        let counted =
            self.visit(asked, places, range, &|| Counted::new(wanted), &|counted, source, rows, memory| {
                counted.add(wanted, source, rows, memory)
            })?;
        counted
            .into_iter()
            .flat_map(|counted| counted.finish(wanted))
            .for_each(|group| add_group(all, group));
        if all.len() > self.settings.groups_max {
            return Err(Error::TooManyGroups(self.settings.groups_max));
        }
        Ok(())
    }

    /// The same of what was counted beside the rows: without reading these, but for those in memory, those of minutes that
    /// are not whole, and files with too many groups. The filter of `select` has no say; sums are not told.
    ///
    /// # Errors
    /// As [`Store::group`]; [`Error::NoColumn`] where the table has no such sketch.
    pub fn sketch(&self, select: &Select, sketched: &Sketched) -> Result<Groups, Error> {
        let kept = self.table(&select.table)?;
        let table = &kept.shape.table;
        let is_asked =
            |sketch: &&crate::Sketch| sketch.group == sketched.group && sketch.value == sketched.value;
        let found =
            table.sketches.iter().find(is_asked).ok_or_else(|| Error::NoColumn(sketched.group.clone()))?;
        let grouped = Grouped {
            by: vec![sketched.group.clone()],
            bucket_us: sketched.bucket_us,
            value: Some(sketched.value.clone()),
            errors: found.errors.clone(),
        };
        let select = Select { filter: None, ..select.clone() };
        if sketched.bucket_us.is_some_and(|bucket_us| bucket_us <= 0 || bucket_us % MINUTE_US != 0) {
            return self.group(&select, &grouped);
        }
        let key = format!("{found:?}");
        self.again(kept, || {
            let asked = Asked::new(self, &select)?;
            let wanted = self.wanted(&asked, &grouped)?;
            let mut places = Places::find(kept, select.from_us, select.to_us);
            let mut all = ByKey::new();
            let range = (select.from_us, select.to_us);
            let files = std::mem::take(&mut places.files);
            self.count_into(&mut all, &asked, &wanted, &places, range)?;
            for file in files {
                let opened = self.open_file(&file, &kept.shape)?;
                let parts = opened
                    .head
                    .sketches
                    .iter()
                    .find(|sketch| sketch.key == key)
                    .and_then(|sketch| sketch.parts);
                let alone = Places { files: vec![file.clone()], blocks: Vec::new() };
                let Some((totals, minutes)) = parts else {
                    self.count_into(&mut all, &asked, &wanted, &alone, range)?;
                    continue;
                };
                let is_inside = range.0 <= file.from_us && file.to_us < range.1;
                let whole = (
                    range.0.div_euclid(MINUTE_US) + i64::from(range.0.rem_euclid(MINUTE_US) != 0),
                    range.1.div_euclid(MINUTE_US),
                );
                let whole = if is_inside { (i64::MIN, i64::MAX) } else { whole };
                let read = || -> Result<Vec<(Option<i64>, Key, Cell)>, Fault> {
                    let totals = sidecar::read_span(&opened.side, totals)?;
                    if is_inside && sketched.bucket_us.is_none() {
                        return of_totals(&totals);
                    }
                    let minutes = sidecar::read_span(&opened.side, minutes)?;
                    of_minutes(&totals, &minutes, whole, sketched.bucket_us)
                };
                for (bucket_us, key, cell) in read().map_err(file::of(&file.path))? {
                    let Cell { count, errors, histogram } = cell;
                    add_group(
                        &mut all,
                        Group { keys: vec![key], bucket_us, count, errors, sum: 0, histogram },
                    );
                }
                if all.len() > self.settings.groups_max {
                    return Err(Error::TooManyGroups(self.settings.groups_max));
                }
                if !is_inside {
                    let (start, end) = (whole.0.saturating_mul(MINUTE_US), whole.1.saturating_mul(MINUTE_US));
                    let edges =
                        if start >= end { vec![range] } else { vec![(range.0, start), (end, range.1)] };
                    for edge in edges.into_iter().filter(|edge| edge.0 < edge.1) {
                        self.count_into(&mut all, &asked, &wanted, &alone, edge)?;
                    }
                }
            }
            all.values_mut().for_each(|group| group.sum = 0);
            Ok(in_order(all, asked.effort()))
        })
    }
}

const DAMAGED: Fault = Fault::Damaged("its sidecar is damaged");

fn name_of(names: &crate::texts::Texts, place: usize) -> Key {
    place
        .checked_sub(1)
        .map_or(Key::Null, |place| Key::Text(String::from_utf8_lossy(names.get(place)).into_owned()))
}

fn of_totals(totals: &[u8]) -> Result<Vec<(Option<i64>, Key, Cell)>, Fault> {
    let (names, cells) = read_totals(totals).ok_or(DAMAGED)?;
    let used = cells.into_iter().enumerate().filter(|(_, cell)| cell.count > 0);
    Ok(used.map(|(place, cell)| (None, name_of(&names, place), cell)).collect())
}

fn of_minutes(
    totals: &[u8],
    minutes: &[u8],
    whole: (i64, i64),
    bucket_us: Option<i64>,
) -> Result<Vec<(Option<i64>, Key, Cell)>, Fault> {
    let (names, _) = read_totals(totals).ok_or(DAMAGED)?;
    let mut cells: HashMap<(Option<i64>, usize), Cell> = HashMap::new();
    let read = read_minutes(minutes, |minute, place, from| {
        if !(whole.0..whole.1).contains(&minute) {
            return Cell::default().read_into(from);
        }
        let bucket = bucket_us.map(|bucket_us| (minute * MINUTE_US).div_euclid(bucket_us) * bucket_us);
        cells.entry((bucket, place)).or_default().read_into(from)
    });
    read.ok_or(DAMAGED)?;
    Ok(cells.into_iter().map(|((bucket, place), cell)| (bucket, name_of(&names, place), cell)).collect())
}
