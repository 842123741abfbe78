// Migrations: each can be told to expand or to contract, a broken index is made
// anew, and the release before goes on working.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { ACCOUNTS, PASSWORD, openSchema, run, skip, startShop } from './support.js';

const folder = new URL('../migrations/', import.meta.url);
const files = readdirSync(folder).filter((name) => name.endsWith('.sql'));

test('each migration says what it does to the release before, and one that expands takes nothing away', () => {
  // The first three made the shop: there was no release before.
  for (const name of files.filter((each) => each >= '004')) {
    const sql = readFileSync(new URL(name, folder), 'utf8');
    assert.match(sql, /^-- (expand: |contract after r\d+: )/, name);
    if (sql.startsWith('-- expand')) assert.doesNotMatch(sql, /\b(DROP|RENAME|SET NOT NULL|ALTER COLUMN .* TYPE)\b/, name);
    if (!name.endsWith('.concurrently.sql')) continue;
    for (const statement of sql.match(/^CREATE .*$/gm)) assert.match(statement, /^CREATE INDEX CONCURRENTLY IF NOT EXISTS/, name);
  }
});

test('what the release before writes is still accepted', { skip }, async (context) => {
  const schema = await openSchema();
  context.after(() => schema.close());
  const { code, stderr } = await run('migrate.js', { DATABASE_URL: schema.url, SEED_ORDERS: '10' });
  assert.equal(code, 0, stderr);
  // The statements of 1.0.0, which knew neither roles nor suspended licences.
  const [{ id }] = await schema.query("INSERT INTO orders (user_id, status, total_ore) VALUES (1, 'paid', 30000) RETURNING id");
  await schema.query(
    "INSERT INTO licences (order_id, user_id, kind, valid_from, valid_until) VALUES ($1, 1, 'mekaniker', '2026-01-01', '2026-12-31')",
    [id],
  );
  await schema.query("INSERT INTO users (name, email, club) VALUES ('Ny', 'ny@example.com', 'NMK')");
  const [licence] = await schema.query('SELECT status FROM licences WHERE order_id = $1', [id]);
  assert.equal(licence.status, 'active');
});

test('an index whose building was cut short is made anew', { skip }, async (context) => {
  const schema = await openSchema();
  context.after(() => schema.close());
  const env = { DATABASE_URL: schema.url, SEED_ORDERS: '10' };
  await run('migrate.js', env);
  // As PostgreSQL leaves it behind when the building fails half-way.
  await schema.query('DROP INDEX orders_of_status');
  await assert.rejects(
    schema.query('CREATE UNIQUE INDEX CONCURRENTLY orders_of_status ON orders (status)'),
    /could not create unique index/,
  );
  await schema.query("DELETE FROM schema_migrations WHERE name LIKE '007%'");
  const { code, stderr } = await run('migrate.js', env);
  assert.equal(code, 0, stderr);
  const [{ indisvalid }] = await schema.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'orders_of_status'::regclass");
  assert.equal(indisvalid, true);
});

test('a migration that was changed after it was applied is refused, in words', { skip }, async (context) => {
  const schema = await openSchema();
  context.after(() => schema.close());
  const env = { DATABASE_URL: schema.url };
  await run('migrate.js', env);
  await schema.query("UPDATE schema_migrations SET checksum = 'x' WHERE name = '001_shop.sql'");
  const { code, stderr } = await run('migrate.js', env);
  assert.deepEqual([code, stderr], [1, 'migrations/001_shop.sql was changed after it was applied; put the change in a new file\n']);
});

test('without seeds there are no orders and nobody to sign in as', { skip }, async (context) => {
  const schema = await openSchema();
  const env = { DATABASE_URL: schema.url, REDIS_URL: '' };
  await run('migrate.js', env);
  const shop = await startShop(env);
  context.after(async () => {
    await shop.stop();
    await schema.close();
  });
  assert.equal((await schema.query('SELECT count(*) FROM users'))[0].count, '0');
  assert.equal((await shop.post('/api/session', { email: ACCOUNTS.admin, password: PASSWORD })).status, 401);
});
