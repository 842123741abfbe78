//! Databases and caches that klar runs: how they do, asked of themselves every few seconds.
//!
//! The core says where each one is, and gives a user that may look at numbers and at nothing else: of PostgreSQL a member
//! of `pg_monitor`, who owns no table and may read none; of Redis one that may say `INFO`. Names are those of
//! `postgres_exporter` and `redis_exporter`, so that their dashboards and alerts fit.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use klar_base::InstanceId;
use klar_base::see::{SeenInstance, StoreDoor, World};
use klar_tsdb::labels::NAME;
use klar_tsdb::{Labels, Store};

use crate::recorder::Recorder;

/// How long a store may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much it may answer, in bytes.
const ANSWER_MAX: usize = 256 << 10;
/// Numbers that are kept of one store.
const NUMBERS_MAX: usize = 500;
/// How many are asked at once.
const AT_ONCE: usize = 4;

/// A name, a label with its value if it has one, and a number.
type Number = (String, Option<(&'static str, String)>, f64);

/// What is remembered of stores.
#[derive(Debug)]
pub struct Stores {
    recorder: Recorder,
    /// What was wrong with each one the last time.
    pub troubles: HashMap<InstanceId, String>,
}

impl Stores {
    /// Nothing is known yet.
    pub fn new(now_ms: i64) -> Self {
        Self { recorder: Recorder::new(now_ms), troubles: HashMap::new() }
    }

    /// Asks all stores, and writes down what they say as of a time.
    pub fn ask(&mut self, world: &World, store: &Store, time_ms: i64) {
        let all: Vec<(&SeenInstance, &StoreDoor)> = world
            .apps
            .iter()
            .flat_map(|app| &app.instances)
            .filter_map(|instance| Some((instance, instance.store.as_ref().filter(|_| instance.ready)?)))
            .collect();
        self.troubles.clear();
        let mut series = Vec::new();
        for some in all.chunks(AT_ONCE) {
            let found: Vec<_> = std::thread::scope(|scope| {
                let asked = some.iter().map(|(instance, door)| (*instance, *door, scope.spawn(|| ask(door))));
                // All begin before the first is waited for.
                let asked: Vec<_> = asked.collect();
                asked
                    .into_iter()
                    .map(|(instance, door, thread)| {
                        (instance, door, thread.join().unwrap_or_else(|_| Err("asking it failed".into())))
                    })
                    .collect()
            });
            for (instance, door, numbers) in found {
                let is_up = numbers.is_ok();
                let mut numbers = numbers.unwrap_or_else(|why| {
                    self.troubles.insert(instance.id.clone(), why);
                    Vec::new()
                });
                numbers.truncate(NUMBERS_MAX);
                let up = if door.engine == "redis" { "redis_up" } else { "pg_up" };
                numbers.push((up.to_owned(), None, f64::from(u8::from(is_up))));
                for (name, label, value) in numbers {
                    let id = &instance.id;
                    let mut pairs = vec![
                        (NAME, &*name),
                        ("app", id.key.app.as_str()),
                        ("env", id.key.env.as_str()),
                        ("service", id.service.as_str()),
                    ];
                    let of_database = name != "pg_up" && name.starts_with("pg_");
                    if of_database {
                        pairs.push(("datname", &door.database));
                    }
                    if let Some((label, value)) = &label {
                        pairs.push((label, value));
                    }
                    series.extend(Labels::new(pairs).ok().map(|labels| (labels, value, false)));
                }
            }
        }
        if let Err(error) = self.recorder.record(store, series.into_iter(), time_ms) {
            eprintln!("klar see: metrics of stores: {error}");
        }
    }
}

fn ask(door: &StoreDoor) -> Result<Vec<Number>, String> {
    match &*door.engine {
        "postgres" => postgres(door),
        "redis" => redis(door).map_err(|error| error.to_string()),
        other => Err(format!("nothing is known of `{other}`")),
    }
}

/// Each row is a name, the name and value of a label (or nothing), and a number.
const POSTGRES: &str = "
with here as (select * from pg_stat_database where datname = current_database()),
others as (
  select * from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
),
states as (
  select unnest(array['active', 'idle', 'idle in transaction', 'idle in transaction (aborted)',
    'fastpath function call', 'disabled']) as state
),
modes as (
  select unnest(array['accesssharelock', 'rowsharelock', 'rowexclusivelock', 'shareupdateexclusivelock', 'sharelock',
    'sharerowexclusivelock', 'exclusivelock', 'accessexclusivelock', 'sireadlock']) as mode
)
select name, '', '', value::float8 from here, lateral (values
  ('pg_stat_database_numbackends', numbackends::float8),
  ('pg_stat_database_xact_commit', xact_commit::float8),
  ('pg_stat_database_xact_rollback', xact_rollback::float8),
  -- In milliseconds, since PostgreSQL 14.
  ('pg_stat_database_active_time_seconds_total', coalesce((to_jsonb(here)->>'active_time')::float8 / 1000, 0)),
  ('pg_stat_database_blks_read', blks_read::float8),
  ('pg_stat_database_blks_hit', blks_hit::float8),
  ('pg_stat_database_tup_returned', tup_returned::float8),
  ('pg_stat_database_tup_fetched', tup_fetched::float8),
  ('pg_stat_database_tup_inserted', tup_inserted::float8),
  ('pg_stat_database_tup_updated', tup_updated::float8),
  ('pg_stat_database_tup_deleted', tup_deleted::float8),
  ('pg_stat_database_conflicts', conflicts::float8),
  ('pg_stat_database_temp_files', temp_files::float8),
  ('pg_stat_database_temp_bytes', temp_bytes::float8),
  ('pg_stat_database_deadlocks', deadlocks::float8),
  ('pg_database_size_bytes', pg_database_size(current_database())::float8),
  ('pg_settings_max_connections', current_setting('max_connections')::float8),
  ('pg_replication_is_replica', pg_is_in_recovery()::int::float8),
  ('pg_replication_lag_seconds', case when pg_is_in_recovery()
    then coalesce(extract(epoch from now() - pg_last_xact_replay_timestamp()), 0)::float8 else 0 end),
  ('pg_stat_replication_count', (select count(*) from pg_stat_replication)::float8)
) as numbers (name, value)
union all select 'pg_stat_activity_count', 'state', state, count(pid)::float8
  from states left join others using (state) group by state
union all select 'pg_stat_activity_max_tx_duration', 'state', state,
  coalesce(max(extract(epoch from now() - xact_start)), 0)::float8
  from states left join others using (state) group by state
union all select 'pg_locks_count', 'mode', modes.mode, count(locks.pid)::float8
  from modes left join (
    select lower(mode) as mode, pid from pg_locks where pid <> pg_backend_pid()
      and database = (select oid from pg_database where datname = current_database())
  ) as locks on locks.mode = modes.mode group by modes.mode
union all select 'pg_wal_segments', '', '', count(*)::float8 from pg_ls_waldir()
union all select 'pg_wal_size_bytes', '', '', coalesce(sum(size), 0)::float8 from pg_ls_waldir()";

fn postgres(door: &StoreDoor) -> Result<Vec<Number>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(door.port)
            .user(&door.user)
            .password(door.password.expose())
            .dbname(&door.database)
            .application_name("klar see")
            .options("-c statement_timeout=4s -c lock_timeout=1s")
            .connect_timeout(PATIENCE);
        let work = async {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
            let rows = async {
                let rows = client.simple_query(POSTGRES).await;
                // The connection ends with its client.
                drop(client);
                rows
            };
            let (rows, _) = tokio::join!(rows, connection);
            rows
        };
        let failed = |error: tokio_postgres::Error| match error.as_db_error() {
            Some(said) => said.message().to_owned(),
            None => error.to_string(),
        };
        let rows = tokio::time::timeout(PATIENCE, work)
            .await
            .map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
            .map_err(failed)?;
        let number = |row: &tokio_postgres::SimpleQueryMessage| {
            let tokio_postgres::SimpleQueryMessage::Row(row) = row else { return None };
            let label = match row.get(1)? {
                "state" => Some(("state", row.get(2)?.to_owned())),
                "mode" => Some(("mode", row.get(2)?.to_owned())),
                _ => None,
            };
            Some((row.get(0)?.to_owned(), label, row.get(3)?.parse().ok()?))
        };
        Ok(rows.iter().filter_map(number).collect())
    })
}

fn redis(door: &StoreDoor) -> io::Result<Vec<Number>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, door.port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut said = |words: &[&str]| -> io::Result<String> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(command.as_bytes())?;
        answer(&mut stream)
    };
    said(&["AUTH", &door.user, door.password.expose()])?;
    let text = said(&["INFO", "all"])?;
    Ok(info(&text))
}

/// A line, or a text that says how long it is.
fn answer(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
        if head.len() > 1024 {
            return Err(io::Error::other("the answer is no Redis'"));
        }
    }
    let head = String::from_utf8_lossy(&head).trim_end().to_owned();
    if let Some(why) = head.strip_prefix('-') {
        return Err(io::Error::other(why.to_owned()));
    }
    let Some(length) = head.strip_prefix('$') else { return Ok(head) };
    let length = length.parse().ok().filter(|length| *length <= ANSWER_MAX);
    let length = length.ok_or_else(|| io::Error::other("the answer is too long"))?;
    let mut text = vec![0; length + 2];
    stream.read_exact(&mut text)?;
    text.truncate(length);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What `INFO` calls it, and what `redis_exporter` does.
const REDIS: [(&str, &str); 29] = [
    ("uptime_in_seconds", "redis_uptime_in_seconds"),
    ("connected_clients", "redis_connected_clients"),
    ("blocked_clients", "redis_blocked_clients"),
    ("maxclients", "redis_config_maxclients"),
    ("used_memory", "redis_memory_used_bytes"),
    ("used_memory_rss", "redis_memory_used_rss_bytes"),
    ("used_memory_peak", "redis_memory_used_peak_bytes"),
    ("used_memory_dataset", "redis_memory_used_dataset_bytes"),
    ("maxmemory", "redis_memory_max_bytes"),
    ("mem_fragmentation_ratio", "redis_mem_fragmentation_ratio"),
    ("total_connections_received", "redis_connections_received_total"),
    ("rejected_connections", "redis_rejected_connections_total"),
    ("total_commands_processed", "redis_commands_processed_total"),
    ("instantaneous_ops_per_sec", "redis_instantaneous_ops_per_sec"),
    ("total_net_input_bytes", "redis_net_input_bytes_total"),
    ("total_net_output_bytes", "redis_net_output_bytes_total"),
    ("keyspace_hits", "redis_keyspace_hits_total"),
    ("keyspace_misses", "redis_keyspace_misses_total"),
    ("expired_keys", "redis_expired_keys_total"),
    ("evicted_keys", "redis_evicted_keys_total"),
    ("rdb_changes_since_last_save", "redis_rdb_changes_since_last_save"),
    ("rdb_last_save_time", "redis_rdb_last_save_timestamp_seconds"),
    ("aof_enabled", "redis_aof_enabled"),
    ("aof_current_size", "redis_aof_current_size_bytes"),
    ("connected_slaves", "redis_connected_slaves"),
    ("master_repl_offset", "redis_master_repl_offset"),
    ("latest_fork_usec", "redis_latest_fork_usec"),
    ("used_cpu_sys", "redis_cpu_sys_seconds_total"),
    ("used_cpu_user", "redis_cpu_user_seconds_total"),
];

fn info(text: &str) -> Vec<Number> {
    let mut found = Vec::new();
    let mut busy_us: Option<f64> = None;
    for (key, value) in text.lines().filter_map(|line| line.trim_end().split_once(':')) {
        if let Some((_, name)) = REDIS.iter().find(|(its, _)| *its == key) {
            found.extend(value.parse().ok().map(|number| ((*name).to_owned(), None, number)));
        } else if key.starts_with("cmdstat_") {
            // `cmdstat_get:calls=21,usec=175,usec_per_call=8.33`
            let spent = value.split(',').find_map(|pair| pair.strip_prefix("usec=")?.parse::<f64>().ok());
            busy_us = Some(busy_us.unwrap_or_default() + spent.unwrap_or_default());
        } else if key.strip_prefix("db").is_some_and(|number| number.parse::<u16>().is_ok()) {
            // `db0:keys=1,expires=0,avg_ttl=0`
            for (what, number) in value.split(',').filter_map(|pair| pair.split_once('=')) {
                let name = match what {
                    "keys" => "redis_db_keys",
                    "expires" => "redis_db_keys_expiring",
                    _ => continue,
                };
                let label = Some(("db", key.to_owned()));
                found.extend(number.parse().ok().map(|number| (name.to_owned(), label, number)));
            }
        }
    }
    found
        .extend(busy_us.map(|spent| ("redis_commands_duration_seconds_total".to_owned(), None, spent / 1e6)));
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn info_has_numbers() {
        let text = "# Memory\r\nused_memory:1024\r\nused_memory_human:1.00K\r\nmem_fragmentation_ratio:1.5\r\n\
                    db0:keys=3,expires=1,avg_ttl=0\r\ndbx:keys=1\r\nkeyspace_hits:x\r\n\
                    cmdstat_get:calls=2,usec=1500000,usec_per_call=1\r\ncmdstat_set:calls=1,usec=500000\r\n";
        let db = || Some(("db", "db0".to_owned()));
        assert_eq!(
            info(text),
            [
                ("redis_memory_used_bytes".into(), None, 1024.0),
                ("redis_mem_fragmentation_ratio".into(), None, 1.5),
                ("redis_db_keys".into(), db(), 3.0),
                ("redis_db_keys_expiring".into(), db(), 1.0),
                ("redis_commands_duration_seconds_total".into(), None, 2.0),
            ]
        );
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in ".{0,12}") {
            let _ = answer(&mut &bytes[..]);
            let _ = answer(&mut format!("${length}\r\nabc\r\n").as_bytes());
            info(&String::from_utf8_lossy(&bytes));
        }
    }
}
