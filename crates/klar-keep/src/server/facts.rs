//! What a server is, and what it lacks to be kept.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Session, SessionError};
use crate::lsn::{SegmentSize, Timeline};

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// What tells the cluster from all others.
    pub system: u64,
    /// As a number: 150018 for 15.18.
    pub version: u32,
    /// The timeline it writes to.
    pub timeline: Timeline,
    /// How long its segments are.
    pub segment_size: SegmentSize,
    /// Whether it can be streamed: `replica` or `logical`.
    pub wal_level: String,
    /// Whether a page that is torn while it is read can be mended.
    pub full_page_writes: bool,
    /// Whether a page that rots is noticed.
    pub checksums: bool,
    /// Whether what it acknowledges is on disk.
    pub fsync: bool,
    /// What a slot may hold back at most, in MiB; -1: without end.
    pub max_slot_wal_keep_size_mb: i64,
    /// Connections that may stream.
    pub max_wal_senders: u32,
    /// Slots that may be.
    pub max_replication_slots: u32,
    /// Names of tablespaces outside of the data folder.
    pub tablespaces: Vec<String>,
    /// Whether it replays the log of another server.
    pub is_standby: bool,
    /// What a standby needs as much of as the server had, to answer while it replays: names and numbers.
    pub standby_needs: Vec<(String, String)>,
    /// Its clock.
    pub time: Timestamp,
}

/// Something that a server lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What is wrong, and what follows from it.
    pub what: String,
    /// What to do about it.
    pub hint: String,
    /// Whether nothing can be kept before it is mended.
    pub is_fatal: bool,
}

const FACTS: &str = "
select (select system_identifier from pg_control_system()),
  current_setting('server_version_num'),
  (select timeline_id from pg_control_checkpoint()),
  (select bytes_per_wal_segment from pg_control_init()),
  current_setting('wal_level'), current_setting('full_page_writes'), current_setting('data_checksums'),
  current_setting('fsync'),
  (select setting from pg_settings where name = 'max_slot_wal_keep_size'),
  current_setting('max_wal_senders'), current_setting('max_replication_slots'),
  (select coalesce(string_agg(spcname, ',' order by spcname), '') from pg_tablespace
    where spcname not in ('pg_default', 'pg_global')),
  pg_is_in_recovery(),
  (extract(epoch from clock_timestamp()) * 1000000)::bigint,
  case when pg_is_in_recovery() then '' else pg_walfile_name(pg_current_wal_insert_lsn()) end,
  (select string_agg(name || '=' || setting, ',') from pg_settings where name in
    ('max_connections', 'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions',
     'max_locks_per_transaction'))";

impl Facts {
    /// Asks the server.
    ///
    /// # Errors
    /// The server.
    pub fn ask(session: &Session) -> Result<Self, SessionError> {
        const WHAT: &str = "facts of itself";
        let row = session.row(FACTS, WHAT)?;
        let text = |at: usize| row.get(at).unwrap_or_default().to_owned();
        let segment: u64 = session.column(&row, 3, "size of a segment")?;
        let segment_size = SegmentSize::try_from(segment).map_err(|_| session.answer("size of a segment"))?;
        // What is written to now, not what the last checkpoint was on: they differ just after a promotion.
        let timeline = match u32::from_str_radix(text(14).get(..8).unwrap_or_default(), 16) {
            Ok(timeline) if timeline > 0 => timeline,
            _ => session.column(&row, 2, "timeline")?,
        };
        let list = |text: String| -> Vec<String> {
            text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let needs = list(text(15)).into_iter();
        Ok(Self {
            system: session.column(&row, 0, "system identifier")?,
            version: session.column(&row, 1, "version")?,
            timeline,
            segment_size,
            wal_level: text(4),
            full_page_writes: text(5) == "on",
            checksums: text(6) == "on",
            fsync: text(7) == "on",
            max_slot_wal_keep_size_mb: session.column(&row, 8, "max_slot_wal_keep_size")?,
            max_wal_senders: session.column(&row, 9, "max_wal_senders")?,
            max_replication_slots: session.column(&row, 10, "max_replication_slots")?,
            tablespaces: list(text(11)),
            is_standby: text(12) == "t",
            standby_needs: needs
                .filter_map(|need| {
                    need.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
                })
                .collect(),
            time: session.time(&row, 13)?,
        })
    }

    /// What is missing, the worst first.
    #[must_use]
    pub fn lacks(&self) -> Vec<Lack> {
        let mut lacks = Vec::new();
        let mut lack = |is: bool, is_fatal: bool, what: &str, hint: &str| {
            if is {
                lacks.push(Lack { what: what.to_owned(), hint: hint.to_owned(), is_fatal });
            }
        };
        lack(
            self.version / 10_000 < 15,
            true,
            &format!(
                "PostgreSQL {} is older than 15: its backups work in another way",
                self.version / 10_000
            ),
            "upgrade it; until then use `pg_dump`",
        );
        lack(
            !matches!(&*self.wal_level, "replica" | "logical"),
            true,
            &format!("`wal_level` is `{}`: the log has not enough in it to restore from", self.wal_level),
            "set `wal_level = replica` and start the server again",
        );
        lack(
            !self.full_page_writes,
            true,
            "`full_page_writes` is off: a page that is read while it is written cannot be mended",
            "set `full_page_writes = on` and reload",
        );
        lack(
            self.max_wal_senders == 0 || self.max_replication_slots == 0,
            true,
            "`max_wal_senders` or `max_replication_slots` is 0: the log cannot be streamed",
            "set both to 10 and start the server again",
        );
        lack(
            self.is_standby,
            true,
            "this server replays another one's log",
            "give klar the server that is written to",
        );
        lack(
            !self.tablespaces.is_empty(),
            true,
            &format!(
                "there are tablespaces outside of the data folder ({}): klar keeps one folder",
                self.tablespaces.join(", ")
            ),
            "move what is in them (`ALTER TABLE … SET TABLESPACE pg_default`) and drop them",
        );
        lack(
            !self.fsync,
            false,
            "`fsync` is off: what the server acknowledges can be lost with the machine",
            "set `fsync = on`",
        );
        lack(
            !self.checksums,
            false,
            "pages have no checksums: one that rots on disk goes into each backup unnoticed",
            "stop the server, run `pg_checksums --enable` on its folder, start it again",
        );
        lack(
            self.max_slot_wal_keep_size_mb < 0,
            false,
            "`max_slot_wal_keep_size` has no limit: while the log cannot be streamed it fills the database's disk",
            "set `max_slot_wal_keep_size` to a part of what is free, such as `8GB`, and reload",
        );
        lacks
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn good() -> Facts {
        Facts {
            system: 1,
            version: 150_018,
            timeline: 1,
            segment_size: SegmentSize::default(),
            wal_level: "replica".into(),
            full_page_writes: true,
            checksums: true,
            fsync: true,
            max_slot_wal_keep_size_mb: 8192,
            max_wal_senders: 10,
            max_replication_slots: 10,
            tablespaces: Vec::new(),
            is_standby: false,
            standby_needs: Vec::new(),
            time: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(good().lacks(), []);
        for (bad, word, is_fatal) in [
            (Facts { version: 140_010, ..good() }, "older than 15", true),
            (Facts { wal_level: "minimal".into(), ..good() }, "wal_level", true),
            (Facts { full_page_writes: false, ..good() }, "full_page_writes", true),
            (Facts { max_wal_senders: 0, ..good() }, "max_wal_senders", true),
            (Facts { is_standby: true, ..good() }, "replays", true),
            (Facts { tablespaces: vec!["fast".into()], ..good() }, "(fast)", true),
            (Facts { fsync: false, ..good() }, "fsync", false),
            (Facts { checksums: false, ..good() }, "checksums", false),
            (Facts { max_slot_wal_keep_size_mb: -1, ..good() }, "max_slot_wal_keep_size", false),
        ] {
            let lacks = bad.lacks();
            assert_eq!(lacks.len(), 1);
            assert!(lacks[0].what.contains(word), "{}", lacks[0].what);
            assert_eq!(lacks[0].is_fatal, is_fatal);
        }
    }
}
