// The release command: brings the schema up to date, then plants the seeds once.
// Safe to run again and safe to run twice at the same time.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import pg from 'pg';
import { ConfigError, readConfig } from './src/config.js';
import { connectionOptions } from './src/database.js';
import { createLog, reason } from './src/log.js';
import { plantSeeds } from './src/seed.js';

const LOCK = 7_365_001; // any number, the same in every release of this shop
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
  for (const name of readdirSync(folder).filter((each) => each.endsWith('.sql')).sort()) {
    const sql = readFileSync(new URL(name, folder), 'utf8');
    const checksum = createHash('sha256').update(sql).digest('hex');
    if (applied.get(name) === checksum) continue;
    if (applied.has(name)) throw new MigrationError(`migrations/${name} was changed after it was applied; put the change in a new file`);
    await client.query(sql);
    await client.query('INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)', [name, checksum]);
    count += 1;
  }
  return count;
}

/** One transaction, alone in the database: a second release waits here. */
async function alone(client, work) {
  await client.query('BEGIN');
  await client.query("SET LOCAL lock_timeout = '60s'");
  await client.query('SELECT pg_advisory_xact_lock($1)', [LOCK]);
  const result = await work(client);
  await client.query('COMMIT');
  return result;
}

async function main() {
  const config = readConfig();
  const client = new pg.Client({ ...connectionOptions(config.databaseUrl), application_name: 'lisens migrate' });
  client.on('error', () => {}); // the query in flight reports it
  await client.connect();
  try {
    const started_ms = performance.now();
    const migrations = await alone(client, migrate);
    const orders = await alone(client, () => plantSeeds(client, config.seedOrders));
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
