// The release command: brings the schema up to date, then plants the seeds once.
// Safe to run again and safe to run twice at the same time. How migrations are
// written so that the release before can go on: migrations/README.md.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { ConfigError, readConfig } from './src/config.js';
import { connectionOptions } from './src/database.js';
import { createLog, reason } from './src/log.js';
import { plantSeeds } from './src/seed.js';

const LOCK = 7_365_001; // any number, the same in every release of this shop
const LOCK_PATIENCE_MS = 300_000;
const folder = new URL('migrations/', import.meta.url);
const log = createLog();

class MigrationError extends Error {}

async function migrate(client) {
  await client.query(`
    CREATE TABLE IF NOT EXISTS schema_migrations (
      name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`);
  const { rows } = await client.query('SELECT name, checksum FROM schema_migrations');
  const applied = new Map(rows.map((row) => [row.name, row.checksum]));
  let count = 0;
  for (const name of readdirSync(folder)
    .filter((each) => each.endsWith('.sql'))
    .sort()) {
    const sql = readFileSync(new URL(name, folder), 'utf8');
    const checksum = createHash('sha256').update(sql).digest('hex');
    if (applied.get(name) === checksum) continue;
    if (applied.has(name)) throw new MigrationError(`migrations/${name} was changed after it was applied; put the change in a new file`);
    const note = () => client.query('INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)', [name, checksum]);
    if (name.endsWith('.concurrently.sql')) {
      await oneByOne(client, sql);
      await note();
    } else {
      await inTransaction(client, async () => {
        await client.query(sql);
        await note();
      });
    }
    count += 1;
  }
  return count;
}

/** Each statement by itself and outside of a transaction, as CREATE INDEX CONCURRENTLY wants it. */
async function oneByOne(client, sql) {
  // An index whose building was cut short is there, is kept up, and is used by nobody.
  const { rows } = await client.query(`
    SELECT format('DROP INDEX CONCURRENTLY %I', c.relname) AS drop FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace`);
  for (const row of rows) await client.query(row.drop);
  for (const statement of sql.replaceAll(/^--.*$/gm, '').split(/;\s*\n/)) {
    if (statement.trim() !== '') await client.query(statement);
  }
}

async function inTransaction(client, work) {
  await client.query('BEGIN');
  await client.query("SET LOCAL lock_timeout = '10s'"); // a migration that waits makes everybody behind it wait
  const result = await work();
  await client.query('COMMIT');
  return result;
}

/** Only one release at a time. It asks again and again: one that waited in the database would hold up the building of indexes. */
async function alone(client, work) {
  const until_ms = performance.now() + LOCK_PATIENCE_MS;
  for (;;) {
    const { rows } = await client.query('SELECT pg_try_advisory_lock($1) AS mine', [LOCK]);
    if (rows[0].mine) return work(); // it is given back with the connection
    if (performance.now() > until_ms) throw new MigrationError('another release is migrating; wait for it to end and try again');
    await sleep(100);
  }
}

/** Keys that nobody will send again, and sessions that have ended. */
async function tidy(client) {
  await client.query("DELETE FROM idempotency_keys WHERE created_at < now() - interval '30 days'");
  await client.query('DELETE FROM sessions WHERE expires_at < now()');
}

async function main() {
  const config = readConfig();
  const client = new pg.Client({ ...connectionOptions(config.databaseUrl), application_name: 'lisens migrate' });
  client.on('error', () => {}); // the query in flight reports it
  await client.connect();
  try {
    const started_ms = performance.now();
    const [migrations, orders] = await alone(client, async () => [
      await migrate(client),
      await inTransaction(client, () => plantSeeds(client, config)),
    ]);
    await tidy(client);
    log.info('schema is up to date', { migrations, seeded_orders: orders, duration_ms: Math.round(performance.now() - started_ms) });
  } finally {
    await client.end().catch(() => {});
  }
}

try {
  await main();
} catch (error) {
  log.error('migration failed, nothing of it was kept', { reason: reason(error) });
  const known = error instanceof ConfigError || error instanceof MigrationError;
  console.error(known ? error.message : `cannot migrate: ${reason(error).message}; check that DATABASE_URL is right and PostgreSQL is up`);
  process.exitCode = 1;
}
