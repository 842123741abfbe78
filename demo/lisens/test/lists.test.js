// The lists at the size of a real shop: what is found, what it costs.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ACCOUNTS, PASSWORD, openSchema, run, skip, startShop } from './support.js';

const ORDERS = 100_000;

describe('lists at 100,000 orders', { skip }, () => {
  let schema;
  let shop;
  let official;
  let env;

  before(async () => {
    schema = await openSchema();
    env = { DATABASE_URL: schema.url, REDIS_URL: '', SEED_ORDERS: String(ORDERS), DEMO_PASSWORD: PASSWORD };
    const { code, stderr } = await run('migrate.js', env);
    assert.equal(code, 0, stderr);
    shop = await startShop(env);
    official = await shop.signIn(ACCOUNTS.official);
  });

  after(async () => {
    await shop?.stop();
    await schema?.close();
  });

  async function walk(path, list) {
    const seen = [];
    for (let cursor = null; ;) {
      const { status, json } = await official.get(`${path}&limit=100${cursor ? `&cursor=${cursor}` : ''}`);
      assert.equal(status, 200);
      seen.push(...json[list].map((item) => item.id));
      if (json.next === null) return seen;
      cursor = json.next;
    }
  }

  // What is asked, and the same in SQL by other means.
  const CASES = [
    [
      '/api/orders?q=solveig%20berg',
      'orders',
      `SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id WHERE u.name ~* '\\msolveig .*\\mberg'`,
    ],
    ['/api/orders?q=%C3%98deg', 'orders', `SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id WHERE u.name ~* '\\mødeg'`],
    ['/api/orders?q=4711', 'orders', 'SELECT 4711 AS id'],
    ['/api/orders?q=%234711', 'orders', 'SELECT 4711 AS id'],
    ['/api/orders?status=refunded', 'orders', `SELECT id FROM orders WHERE status = 'refunded'`],
    [
      '/api/orders?from=2025-06-01&to=2025-06-02',
      'orders',
      `SELECT id FROM orders WHERE (created_at AT TIME ZONE 'Europe/Oslo')::date BETWEEN '2025-06-01' AND '2025-06-02'`,
    ],
    ['/api/orders?user_id=77&status=paid', 'orders', `SELECT id FROM orders WHERE user_id = 77 AND status = 'paid'`],
    [
      '/api/licences?kind=anmelder&q=tone',
      'licences',
      `SELECT l.id FROM licences l JOIN users u ON u.id = l.user_id WHERE kind = 'anmelder' AND u.name ILIKE 'tone %'`,
    ],
    [
      '/api/licences?valid_on=2025-03-03&kind=engangslisens',
      'licences',
      `SELECT id FROM licences WHERE kind = 'engangslisens' AND valid_from = '2025-03-03'`,
    ],
    ['/api/licences?user_id=77', 'licences', 'SELECT id FROM licences WHERE user_id = 77'],
    ['/api/users?q=guro%20kv', 'users', `SELECT id FROM users WHERE name ILIKE 'guro kv%'`],
    ['/api/users?role=admin', 'users', `SELECT id FROM users WHERE role = 'admin'`],
  ];

  for (const [path, list, sql] of CASES) {
    test(`${path} finds just what is there, and counts it`, async () => {
      const wanted = (await schema.query(sql)).map((row) => Number(row.id)).sort((a, b) => a - b);
      assert.ok(wanted.length > 0, 'the case finds nothing');
      const found = await walk(path, list);
      assert.equal(new Set(found).size, found.length);
      assert.deepEqual(
        found.sort((a, b) => a - b),
        wanted,
      );
      assert.equal((await official.get(`${path}&total=true`)).json.total, wanted.length);
    });
  }

  test('what is typed is never SQL, nor a query language', async () => {
    for (const q of ["'; DROP TABLE orders; --", "' OR '1'='1", '%', '_', '!', '(', 'a & !b', 'kari | ole', ':*', "\\'", '<->', '½']) {
      for (const path of ['/api/orders', '/api/licences', '/api/users']) {
        const { status, json } = await official.get(`${path}?total=true&q=${encodeURIComponent(q)}`);
        assert.equal(status, 200, q);
        assert.ok(json.total < ORDERS / 10, `${q} found ${json.total}`);
      }
    }
  });

  test('only the fields that are asked for are sent', async () => {
    const { json } = await official.get('/api/orders?limit=2&fields=id,total_ore');
    assert.deepEqual(
      json.orders.map((order) => Object.keys(order)),
      [
        ['id', 'total_ore'],
        ['id', 'total_ore'],
      ],
    );
    assert.ok(json.next);
    const { text } = await official.get('/api/orders?limit=100');
    assert.ok(text.length / 100 < 250, `${text.length / 100} bytes for each order`);
  });

  test('no list reads a whole table', async () => {
    // Statistics are written when a connection ends: so a shop of its own for this.
    const scans = async () => {
      await schema.query('SELECT pg_stat_force_next_flush()'); // what this connection itself has done
      await schema.query('SELECT pg_stat_clear_snapshot()');
      const rows = await schema.query(
        `SELECT relname, seq_scan FROM pg_stat_user_tables WHERE schemaname = $1 AND relname IN ('orders', 'licences', 'users')`,
        [schema.name],
      );
      return Object.fromEntries(rows.map((row) => [row.relname, Number(row.seq_scan)]));
    };
    await shop.stop();
    const before = await scans();
    shop = await startShop(env);
    official = await shop.signIn(ACCOUNTS.official);
    const user = await shop.signIn(ACCOUNTS.user);
    const hot = [
      '/api/orders',
      '/api/orders?q=solveig%20berg',
      '/api/orders?status=refunded',
      '/api/orders?user_id=5',
      '/api/orders?from=2025-06-01&to=2025-06-02',
      '/api/licences',
      '/api/licences?kind=barnelisens',
      '/api/licences?status=suspended',
      '/api/licences?q=guro%20kvam',
      '/api/users',
      '/api/users?role=admin',
      '/api/users?q=guro%20kvam',
      '/api/orders/50000',
    ];
    for (const path of hot) assert.equal((await official.get(path)).status, 200, path);
    for (const path of ['/api/orders', '/api/licences', '/api/orders?total=true']) assert.equal((await user.get(path)).status, 200);
    await shop.stop();
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.deepEqual(await scans(), before);
    shop = await startShop(env);
    official = await shop.signIn(ACCOUNTS.official);
  });
});
