//! Requests and lines of logs, each as a row, in Parquet files that any other program can read.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;

use klar_base::AppKey;
use klar_base::signal::{CacheOutcome, DecidedBy, WafVerdict};
use klar_rows::{
    BadRow, BadTable, Batch, Budget, Cell, Column, Error, Filter, Grouped, Groups, Kind, Op, Order, Select,
    Settings, Store, Table, Value,
};
use serde_json::{Map, Value as Json};

use crate::logs::Line;
use crate::record::Record;
use crate::red::Whose;

/// The table of requests.
pub const ACCESS: &str = "access";
/// The table of lines.
pub const LOG: &str = "log";
/// The table of spans.
pub const SPAN: &str = "span";
/// What rows in memory may take before no more are taken.
const MEMORY_MAX: u64 = 96 << 20;
/// What all files may take: the oldest go first.
const KEEP_BYTES: u64 = 10 << 30;
/// Threads for one question.
const THREADS: usize = 2;
/// Rows that one answer has at most.
pub const LIMIT_MAX: usize = 10_000;
/// The longest piece of a path and of a line that is kept, in bytes.
pub const TEXT_MAX: usize = 16 << 10;

fn tables() -> Result<Vec<Table>, BadTable> {
    let access = vec![
        Column::new("ts", Kind::Time),
        Column::new("app", Kind::Dict),
        Column::new("env", Kind::Dict),
        Column::new("id", Kind::Fixed16).searchable(),
        Column::new("route", Kind::Dict),
        Column::new("method", Kind::Dict),
        Column::new("path", Kind::Text).searchable(),
        Column::new("host", Kind::Dict),
        Column::new("status", Kind::U16),
        Column::new("duration_us", Kind::U64),
        Column::new("bytes_in", Kind::U64),
        Column::new("bytes_out", Kind::U64),
        Column::new("client", Kind::Fixed16).searchable(),
        Column::new("protocol", Kind::Dict),
        Column::new("service", Kind::Dict).optional(),
        Column::new("instance", Kind::Dict).optional(),
        Column::new("release", Kind::Dict).optional(),
        Column::new("decided_by", Kind::Dict),
        Column::new("cache", Kind::Dict).optional(),
        Column::new("waf", Kind::Dict).optional(),
        Column::new("attempts", Kind::U16),
        Column::new("aborted", Kind::Bool),
        Column::new("error", Kind::Text).optional(),
        Column::new("user_agent", Kind::Dict).optional(),
    ];
    let log = vec![
        Column::new("ts", Kind::Time),
        Column::new("app", Kind::Dict),
        Column::new("env", Kind::Dict),
        Column::new("service", Kind::Dict),
        Column::new("instance", Kind::Dict),
        Column::new("stream", Kind::Dict),
        Column::new("level", Kind::Dict).optional(),
        Column::new("body", Kind::Text).searchable(),
        Column::new("trace_id", Kind::Fixed16).searchable().optional(),
        Column::new("span_id", Kind::Fixed8).optional(),
        Column::new("attrs", Kind::Map).optional(),
    ];
    let span = vec![
        Column::new("ts", Kind::Time),
        Column::new("app", Kind::Dict),
        Column::new("env", Kind::Dict),
        Column::new("service", Kind::Dict),
        Column::new("instance", Kind::Dict).optional(),
        Column::new("release", Kind::Dict).optional(),
        Column::new("trace_id", Kind::Fixed16).searchable(),
        Column::new("span_id", Kind::Fixed8),
        Column::new("parent_span_id", Kind::Fixed8).optional(),
        Column::new("name", Kind::Text),
        Column::new("kind", Kind::Dict),
        Column::new("duration_us", Kind::U64),
        Column::new("status", Kind::Dict),
        Column::new("status_message", Kind::Text).optional(),
        Column::new("scope", Kind::Dict).optional(),
        Column::new("db_system", Kind::Dict).optional(),
        Column::new("statement", Kind::Text).searchable().optional(),
        Column::new("route", Kind::Dict).optional(),
        Column::new("http_status", Kind::U16).optional(),
        Column::new("attrs", Kind::Map).optional(),
        Column::new("events", Kind::Text).optional(),
        Column::new("links", Kind::Text).optional(),
    ];
    Ok(vec![Table::new(ACCESS, access)?, Table::new(LOG, log)?, Table::new(SPAN, span)?])
}

/// Why rows cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] Error),
    /// A table that cannot be.
    #[error(transparent)]
    Table(#[from] BadTable),
}

/// See the [module](self).
pub struct Rows {
    store: Store,
    access: Mutex<Batch>,
    log: Mutex<Batch>,
    /// Rows that were not taken.
    pub lost: std::sync::atomic::AtomicU64,
}

impl Rows {
    /// In a folder, which is made if it is missing. Also gives what was wrong in it.
    ///
    /// # Errors
    /// The disk, or somebody else who has it open.
    pub fn open(folder: &Path) -> Result<(Self, Vec<String>), OpenError> {
        let settings = Settings {
            memory_max: MEMORY_MAX,
            keep_bytes: Some(KEEP_BYTES),
            threads: THREADS,
            ..Settings::default()
        };
        let (store, recovered) = Store::open(folder, tables()?, settings)?;
        let (access, log) = (Mutex::new(store.batch(ACCESS)?), Mutex::new(store.batch(LOG)?));
        Ok((Self { store, access, log, lost: 0.into() }, recovered.notes))
    }

    /// Adds a request. It can be found once [`Rows::hand_in`] was called.
    pub fn request(&self, record: &Record<'_>, whose: Whose<'_>, route: &str) {
        let (mut id, mut client) = ([0; 16], [0; 16]);
        if !from_hex(&record.request_id, &mut id) {
            id = [0; 16];
        }
        if let Ok(address) = record.client.parse::<IpAddr>() {
            client = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
        }
        let instance = record.upstream.as_deref().unwrap_or_default();
        // `shop.prod.api.7` is `api.7` here.
        let instance = instance.splitn(3, '.').nth(2).unwrap_or_default();
        let optional = |text| if str::is_empty(text) { Value::Null } else { Value::Text(text) };
        let row = [
            time(record.time_unix_ms),
            Value::Text(whose.app),
            Value::Text(whose.env),
            Value::Bytes(&id),
            Value::Text(route),
            Value::Text(cut(&record.method, 32)),
            Value::Text(cut(&record.path, TEXT_MAX)),
            Value::Text(cut(&record.host, 255)),
            Value::Unsigned(record.status.into()),
            Value::Unsigned(record.duration_us),
            Value::Unsigned(record.bytes_in),
            Value::Unsigned(record.bytes_out),
            Value::Bytes(&client),
            Value::Text(cut(&record.protocol, 16)),
            optional(whose.service),
            optional(instance),
            optional(whose.release),
            Value::Text(match record.decided_by {
                DecidedBy::App => "app",
                DecidedBy::Edge => "edge",
                DecidedBy::Refused => "refused",
                DecidedBy::Failed => "failed",
            }),
            record.cache.map_or(Value::Null, |outcome| Value::Text(cache_name(outcome))),
            record.waf.as_ref().map_or(Value::Null, |finding| Value::Text(verdict_name(finding.verdict))),
            Value::Unsigned(record.attempts.min(u32::from(u16::MAX)).into()),
            Value::Bool(record.aborted),
            optional(cut(record.error.as_deref().unwrap_or_default(), 1024)),
            optional(cut(record.user_agent.as_deref().unwrap_or_default(), 256)),
        ];
        self.push(&self.access, &row);
    }

    /// Adds a line. It can be found once [`Rows::hand_in`] was called.
    pub fn line(&self, line: &Line<'_>) {
        self.push(&self.log, &line_row(line));
    }

    /// Rows of a table that are sent at once.
    ///
    /// # Errors
    /// There is no such table.
    pub fn own(&self, table: &str) -> Result<Own<'_>, Error> {
        Ok(Own { store: &self.store, batch: self.store.batch(table)?, upto: None })
    }

    /// Begins to take lines in for somebody who waits until they are kept.
    ///
    /// # Errors
    /// None but that there is no such table, which cannot be.
    pub fn delivery(&self) -> Result<Delivery<'_>, Error> {
        Ok(Delivery { rows: self, own: self.own(LOG)? })
    }

    /// Shows rows in their order until there are no more, or `each` says `false`; whether it was stopped by the clock.
    ///
    /// # Errors
    /// A filter that cannot be, a file that cannot be read.
    pub fn scan(
        &self,
        select: &Select,
        columns: &[&str],
        order: Order,
        limit: usize,
        mut each: impl FnMut(&klar_rows::Rows, usize) -> bool,
    ) -> Result<bool, Error> {
        let mut scan = self.store.scan(select, columns, order, limit)?;
        for rows in &mut scan {
            let rows = rows?;
            if !(0..rows.len()).all(|row| each(&rows, row)) {
                return Ok(false);
            }
        }
        Ok(scan.effort().is_partial)
    }

    /// Counts rows by what they have in common.
    ///
    /// # Errors
    /// A filter that cannot be, too many groups, a file that cannot be read.
    pub fn group(&self, select: &Select, grouped: &Grouped) -> Result<Groups, Error> {
        self.store.group(select, grouped)
    }

    fn push(&self, batch: &Mutex<Batch>, row: &[Value<'_>]) {
        let mut batch = crate::lock(batch);
        let mut pushed = batch.push(row);
        if pushed == Err(BadRow::Full) {
            self.append(&mut batch);
            pushed = batch.push(row);
        }
        if pushed.is_err() {
            self.lost.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn append(&self, batch: &mut Batch) -> Option<u64> {
        if batch.rows() == 0 {
            return None;
        }
        let appended = self.store.append(batch);
        if appended.is_err() {
            // A disk that takes nothing for long: better to lose these than to hold up what comes.
            self.lost.fetch_add(batch.rows() as u64, std::sync::atomic::Ordering::Relaxed);
        }
        batch.clear();
        appended.ok()
    }

    /// Makes what was added findable.
    pub fn hand_in(&self) -> Option<u64> {
        let access = self.append(&mut crate::lock(&self.access));
        access.max(self.append(&mut crate::lock(&self.log)))
    }

    /// What was handed in until then is on disk.
    ///
    /// # Errors
    /// The disk.
    pub fn commit(&self, upto: u64) -> Result<(), Error> {
        self.store.commit(upto)
    }

    /// Deletes all rows of an app.
    ///
    /// # Errors
    /// The disk; then some are there still.
    pub fn delete(&self, key: &AppKey) -> Result<(), Error> {
        self.hand_in();
        let filter = Filter::All(vec![is("app", key.app.as_str()), is("env", key.env.as_str())]);
        for table in [ACCESS, LOG, SPAN] {
            self.store.delete(table, &filter, 0, i64::MAX)?;
        }
        Ok(())
    }

    /// Writes files, merges them, removes old ones. To be called about once a second.
    ///
    /// # Errors
    /// The disk; what was not done is done the next time.
    pub fn maintain(&self, now_ms: i64) -> Result<(), Error> {
        self.store.maintain(now_ms.saturating_mul(1000)).map(drop)
    }

    /// How many rows there are, and how many bytes they take.
    pub fn size(&self) -> Vec<(String, u64, u64)> {
        let found = self.store.statistics();
        found.tables.into_iter().map(|table| (table.table, table.rows, table.file_bytes)).collect()
    }

    /// Rows as JSON objects, and whether that is all.
    ///
    /// # Errors
    /// A filter that cannot be, a file that cannot be read.
    pub fn find(&self, wanted: &Wanted) -> Result<(Vec<Json>, bool), Error> {
        let mut select = Select::new(wanted.table, wanted.from_us, wanted.to_us);
        select.budget = Budget { deadline: Some(wanted.deadline), ..Budget::default() };
        if !wanted.filters.is_empty() {
            select.filter = Some(Filter::All(wanted.filters.clone()));
        }
        let mut scan = self.store.scan(&select, &[], wanted.order, wanted.limit.min(LIMIT_MAX))?;
        let mut found = Vec::new();
        for rows in &mut scan {
            let rows = rows?;
            for row in 0..rows.len() {
                let cells = rows.columns().iter().enumerate();
                let object: Map<String, Json> = cells
                    .filter_map(|(place, column)| {
                        let value = json(&column.name, rows.cell(row, place))?;
                        Some((column.name.clone(), value))
                    })
                    .collect();
                found.push(Json::Object(object));
            }
        }
        Ok((found, scan.effort().is_partial))
    }
}

/// Lines on their way in, in a batch of their own: whoever sends them learns of it when there is no room.
pub struct Delivery<'a> {
    rows: &'a Rows,
    own: Own<'a>,
}

impl Delivery<'_> {
    /// Adds a line. One that can never be kept is counted in [`Rows::lost`].
    ///
    /// # Errors
    /// The store takes nothing more for now, or the disk; then some lines may be there.
    pub fn line(&mut self, line: &Line<'_>) -> Result<(), Error> {
        if self.own.push(&line_row(line))?.is_err() {
            self.rows.lost.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }

    /// When this returns, all of it can be found and is on disk.
    ///
    /// # Errors
    /// As [`Delivery::line`].
    pub fn keep(self) -> Result<(), Error> {
        self.own.finish()
    }
}

/// What is looked for.
#[derive(Debug)]
pub struct Wanted {
    pub table: &'static str,
    pub from_us: i64,
    pub to_us: i64,
    pub filters: Vec<Filter>,
    pub order: Order,
    pub limit: usize,
    pub deadline: std::time::Instant,
}

/// A line as the table has it.
pub fn line_row<'a>(line: &'a Line<'a>) -> [Value<'a>; 11] {
    [
        Value::Signed(line.time_us),
        Value::Text(line.app),
        Value::Text(line.env),
        Value::Text(line.service),
        Value::Text(line.instance),
        Value::Text(line.stream),
        line.level.map_or(Value::Null, Value::Text),
        Value::Text(cut(line.body, TEXT_MAX)),
        line.trace_id.as_ref().map_or(Value::Null, |id| Value::Bytes(id)),
        line.span_id.as_ref().map_or(Value::Null, |id| Value::Bytes(id)),
        if line.attrs.is_empty() { Value::Null } else { Value::Map(line.attrs) },
    ]
}

/// Rows of one table that somebody sends at once, and waits for until they are on disk.
pub struct Own<'a> {
    store: &'a Store,
    batch: Batch,
    upto: Option<u64>,
}

impl Own<'_> {
    /// Adds a row; the inner error says why this one is not taken.
    ///
    /// # Errors
    /// Memory is full, or the disk. What was appended until then stays.
    pub fn push(&mut self, row: &[Value<'_>]) -> Result<Result<(), BadRow>, Error> {
        let mut pushed = self.batch.push(row);
        if pushed == Err(BadRow::Full) {
            self.append()?;
            pushed = self.batch.push(row);
        }
        Ok(pushed)
    }

    fn append(&mut self) -> Result<(), Error> {
        if self.batch.rows() > 0 {
            self.upto = Some(self.store.append(&self.batch)?);
            self.batch.clear();
        }
        Ok(())
    }

    /// Waits until all are on disk.
    ///
    /// # Errors
    /// As [`Own::push`].
    pub fn finish(mut self) -> Result<(), Error> {
        self.append()?;
        self.upto.map_or(Ok(()), |upto| self.store.commit(upto))
    }
}

/// That a column says so.
pub fn is(column: &str, value: &str) -> Filter {
    Filter::compare(column, Op::Eq, value)
}

/// That a column has this id, of 32 digits.
pub fn has_id(column: &str, id: &str) -> Option<Filter> {
    let mut bytes = [0; 16];
    from_hex(id, &mut bytes).then(|| Filter::compare(column, Op::Eq, bytes))
}

fn json(column: &str, cell: Cell<'_>) -> Option<Json> {
    Some(match cell {
        Cell::Null => return None,
        Cell::Signed(time_us) if column == "ts" => {
            jiff::Timestamp::from_microsecond(time_us).ok()?.to_string().into()
        }
        Cell::Signed(number) => number.into(),
        Cell::Unsigned(number) => number.into(),
        Cell::Float(number) => number.into(),
        Cell::Bool(is) => is.into(),
        Cell::Text(text) => text.into(),
        Cell::Bytes(bytes) if column == "client" => {
            let octets: [u8; 16] = bytes.try_into().ok()?;
            std::net::Ipv6Addr::from(octets).to_canonical().to_string().into()
        }
        Cell::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        Cell::Map(pairs) => pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect::<Map<_, Json>>()
            .into(),
    })
}

fn time<'a>(unix_ms: u64) -> Value<'a> {
    Value::Signed(i64::try_from(unix_ms).unwrap_or(i64::MAX).saturating_mul(1000))
}

/// The beginning of a text, so many bytes at most.
pub fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Two digits for each byte. `false`: it is something else.
pub fn from_hex(text: &str, bytes: &mut [u8]) -> bool {
    if text.len() != 2 * bytes.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return false;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        let digits = text.get(2 * place..2 * place + 2).unwrap_or_default();
        match u8::from_str_radix(digits, 16) {
            Ok(value) => *byte = value,
            Err(_) => return false,
        }
    }
    true
}

/// As it stands in a label and in a row.
pub fn cache_name(outcome: CacheOutcome) -> &'static str {
    match outcome {
        CacheOutcome::Hit => "hit",
        CacheOutcome::Miss => "miss",
        CacheOutcome::Stale => "stale",
        CacheOutcome::Revalidated => "revalidated",
        CacheOutcome::Bypass => "bypass",
        CacheOutcome::Refresh => "refresh",
    }
}

/// As it stands in a label and in a row.
pub fn verdict_name(verdict: WafVerdict) -> &'static str {
    match verdict {
        WafVerdict::Blocked => "blocked",
        WafVerdict::Detected => "detected",
        WafVerdict::Noted => "noted",
    }
}
