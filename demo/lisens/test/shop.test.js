// What the shop answers while everything works.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ACCOUNTS, PASSWORD, openSchema, run, skip, startShop } from './support.js';

describe('the shop', { skip }, () => {
  let schema;
  let shop;
  let official;
  let env;

  before(async () => {
    schema = await openSchema();
    env = { DATABASE_URL: schema.url, SEED_ORDERS: '500', DEMO_PASSWORD: PASSWORD, KLAR_INSTANCE: 'api-1', KLAR_RELEASE: 'r7' };
    const { code, stderr } = await run('migrate.js', env);
    assert.equal(code, 0, stderr);
    shop = await startShop(env);
    official = await shop.signIn(ACCOUNTS.official);
  });

  after(async () => {
    await shop?.stop();
    await schema?.close();
  });

  const buy = (key, body) => official.post('/api/checkout', body, key === null ? {} : { 'idempotency-key': key });
  const purchase = {
    user_id: 7,
    items: [
      { licence_kind: 'helarslisens', quantity: 1 },
      { licence_kind: 'mekaniker', quantity: 2 },
    ],
  };

  async function walk(path, list, betweenPages = async () => {}) {
    const seen = [];
    for (let cursor = null; ;) {
      const { status, json } = await official.get(`${path}${path.includes('?') ? '&' : '?'}limit=37${cursor ? `&cursor=${cursor}` : ''}`);
      assert.equal(status, 200);
      seen.push(...json[list].map((item) => item.id));
      if (json.next === null) return seen;
      cursor = json.next;
      await betweenPages();
    }
  }

  test('a second release changes nothing and plants nothing', async () => {
    const counts = () => schema.query('SELECT (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM licences) AS licences');
    const first = await counts();
    const { code, stdout } = await run('migrate.js', env);
    assert.equal(code, 0);
    const { migrations, seeded_orders } = JSON.parse(stdout);
    assert.deepEqual([migrations, seeded_orders], [0, 0]);
    assert.deepEqual(await counts(), first);
    assert.equal(first[0].orders, '620'); // 500, and 60 for each of two accounts
  });

  test('two releases at once plant the same seeds once', async () => {
    const other = await openSchema();
    const otherEnv = { DATABASE_URL: other.url, SEED_ORDERS: '200' };
    const results = await Promise.all([run('migrate.js', otherEnv), run('migrate.js', otherEnv)]);
    assert.deepEqual(
      results.map((result) => result.code),
      [0, 0],
      results.map((result) => result.stderr).join(),
    );
    assert.equal((await other.query('SELECT count(*) FROM orders'))[0].count, '200');
    await other.close();
  });

  test('totals of seeded orders equal their lines, and licences their quantities', async () => {
    const wrong = await schema.query(`
      SELECT o.id FROM orders o JOIN order_lines l ON l.order_id = o.id
       GROUP BY o.id HAVING o.total_ore <> sum(l.quantity * l.unit_price_ore)
           OR (SELECT count(*) FROM licences x WHERE x.order_id = o.id) <> sum(l.quantity)`);
    assert.deepEqual(wrong, []);
  });

  test('health, liveness and version', async () => {
    const { status, json } = await shop.get('/healthz');
    assert.deepEqual([status, json], [200, { status: 'ok', postgres: 'ok', redis: 'ok' }]);
    assert.equal((await shop.get('/livez')).status, 200);
    assert.deepEqual((await shop.get('/api/version')).json, { version: 'dev', instance: 'api-1', release: 'r7' });
  });

  for (const [path, list] of [
    ['/api/orders', 'orders'],
    ['/api/licences', 'licences'],
    ['/api/users', 'users'],
  ]) {
    test(`${path} gives 20, at most 100, and says what is wrong with a limit or cursor`, async () => {
      assert.equal((await official.get(path)).json[list].length, 20);
      assert.equal((await official.get(`${path}?limit=5`)).json[list].length, 5);
      assert.equal((await official.get(`${path}?limit=5000`)).json[list].length, 100);
      const cursors = ['', 'x', '%00', 'MjAyNS0wMi0zMVQwMDowMDowMC4wMDAwMDBaLDE', "'; DROP TABLE orders; --"]; // the fourth is 31 February
      for (const bad of [
        'limit=0',
        'limit=-1',
        'limit=ten',
        'limit=1e3',
        'limit=1&limit=2',
        'page=2',
        'fields=password_hash',
        'total=yes',
        ...cursors.map((each) => `cursor=${encodeURIComponent(each)}`),
      ]) {
        const { status, json } = await official.get(`${path}?${bad}`);
        assert.equal(status, 400, bad);
        assert.match(json.error, /^invalid_(query|cursor)$/);
      }
    });
  }

  test('a walk through the orders sees every old order once while new ones arrive', async () => {
    const before = (await schema.query('SELECT id FROM orders')).map((row) => Number(row.id));
    let sold = 0;
    const seen = await walk('/api/orders', 'orders', async () => {
      const { status } = await buy(`walk-${(sold += 1)}`, purchase);
      assert.equal(status, 201);
    });
    assert.ok(sold > 5);
    assert.equal(new Set(seen).size, seen.length);
    assert.deepEqual(
      before.filter((id) => !seen.includes(id)),
      [],
    );
  });

  test('rows created in the same microsecond are neither skipped nor repeated', async () => {
    await schema.query(
      "INSERT INTO users (name, email, club) SELECT 'Kari Nordby', 'kari.' || n || '@example.com', 'NMK Fjellbygda' FROM generate_series(1, 150) n",
    );
    const seen = await walk('/api/users', 'users');
    const [{ count }] = await schema.query('SELECT count(*) FROM users');
    assert.equal(seen.length, Number(count));
    assert.equal(new Set(seen).size, seen.length);
  });

  test('filters: licences of a kind, orders of a user', async () => {
    const [{ count }] = await schema.query("SELECT count(*) FROM licences WHERE kind = 'barnelisens'");
    assert.equal((await walk('/api/licences?kind=barnelisens', 'licences')).length, Number(count));
    assert.equal((await official.get('/api/licences?kind=%27%20OR%201=1')).status, 400);
    const { json } = await official.get('/api/orders?user_id=7');
    assert.ok(json.orders.length > 0);
    assert.ok(json.orders.every((order) => order.user_id === 7));
    assert.equal((await official.get('/api/orders?user_id=7%20OR%201=1')).status, 400);
  });

  test('the list of users holds no e-mail address', async () => {
    const { text } = await official.get('/api/users?limit=100');
    assert.doesNotMatch(text, /@|mail/);
  });

  test('licence kinds come from the cache the second time', async () => {
    await shop.get('/api/licence-kinds');
    const { headers, json } = await shop.get('/api/licence-kinds');
    assert.equal(headers.get('x-cache'), 'hit');
    assert.equal(json.licence_kinds.length, 10);
  });

  test('a purchase makes an order with its licences; the same again is a replay', async () => {
    const first = await buy('purchase-1', purchase);
    assert.equal(first.status, 201, first.text);
    assert.equal(first.json.total_ore, 145_000 + 2 * 30_000);
    assert.equal(first.json.licences.length, 3);
    assert.equal(first.headers.get('idempotent-replayed'), null);

    const again = await buy('purchase-1', purchase);
    assert.deepEqual([again.status, again.headers.get('idempotent-replayed'), again.text], [201, 'true', first.text]);

    const shown = await official.get(`/api/orders/${first.json.id}`);
    assert.deepEqual(shown.json.licences, first.json.licences);
    assert.deepEqual(shown.json.items[1], { licence_kind: 'mekaniker', quantity: 2, unit_price_ore: 30_000 });
  });

  test('a used key with another purchase is refused', async () => {
    await buy('purchase-2', purchase);
    const other = await buy('purchase-2', { ...purchase, user_id: 8 });
    assert.deepEqual([other.status, other.json.error], [422, 'idempotency_key_reused']);
  });

  test('fifty purchases at once with one key are one order', async () => {
    const [{ count: before }] = await schema.query('SELECT count(*) FROM orders');
    const answers = await Promise.all(Array.from({ length: 50 }, () => buy('at-once', purchase)));
    assert.deepEqual(
      answers.filter((each) => each.status !== 201).map((each) => each.text),
      [],
    );
    assert.equal(new Set(answers.map((each) => each.json.id)).size, 1);
    assert.equal(answers.filter((each) => each.headers.get('idempotent-replayed') !== 'true').length, 1);
    const [{ count: after }] = await schema.query('SELECT count(*) FROM orders');
    assert.equal(Number(after), Number(before) + 1);
  });

  test('a refused purchase leaves its key free', async () => {
    const refused = await buy('purchase-3', { ...purchase, user_id: 999_999 });
    assert.deepEqual([refused.status, refused.json.error], [422, 'unknown_user']);
    assert.equal((await buy('purchase-3', purchase)).status, 201);
  });

  test('what is wrong with a purchase is said', async () => {
    const item = purchase.items[0];
    const cases = [
      [null, purchase, 400, 'idempotency_key_required'],
      ['has a space', purchase, 400, 'idempotency_key_required'],
      ['k1', [], 422, 'invalid'],
      ['k2', {}, 422, 'invalid'],
      ['k3', { ...purchase, user_id: '7' }, 422, 'invalid'],
      ['k4', { ...purchase, user_id: 1.5 }, 422, 'invalid'],
      ['k5', { ...purchase, items: [] }, 422, 'invalid'],
      ['k6', { ...purchase, items: [null] }, 422, 'invalid'],
      ['k7', { ...purchase, items: [{ ...item, quantity: -1 }] }, 422, 'invalid'],
      ['k8', { ...purchase, items: [{ ...item, quantity: 21 }] }, 422, 'invalid'],
      ['k9', { ...purchase, items: [{ ...item, licence_kind: 'gratis' }] }, 422, 'unknown_licence_kind'],
      ['k10', { ...purchase, items: [{ ...item, licence_kind: 'a\0' }] }, 422, 'invalid'],
      ['k11', { ...purchase, items: Array(21).fill(item) }, 422, 'invalid'],
    ];
    for (const [key, body, status, error] of cases) {
      const answer = await buy(key, body);
      assert.deepEqual([answer.status, answer.json.error], [status, error], `${key}: ${answer.text}`);
      assert.ok(answer.json.message.length > 10);
    }
  });

  test('a note is added each time it is sent', async () => {
    for (const text of ['Ringte og avklarte startnummer', 'Ringte og avklarte startnummer']) {
      const { status, json } = await official.post('/api/notes', { order_id: 3, text });
      assert.deepEqual([status, json.order_id, json.text], [201, 3, text]);
    }
    assert.equal((await official.get('/api/orders/3')).json.notes.length, 2);
    for (const bad of [
      { order_id: 3 },
      { order_id: 3, text: ' ' },
      { order_id: 3, text: 'a\0b' },
      { order_id: 3, text: 'å'.repeat(1001) },
      { order_id: 9e15, text: 'x' },
    ]) {
      assert.equal((await official.post('/api/notes', bad)).status, 422);
    }
  });

  test('errors are JSON with the id of the request', async () => {
    const headers = { 'x-request-id': 'abc-123' };
    for (const [path, options, status] of [
      ['/nothing', {}, 404],
      ['/api/nothing', {}, 404],
      ['/api/orders/0', {}, 404],
      ['/api/orders/12345678901234567890', {}, 404],
      ['/api/orders/%27', {}, 404],
      ['/api/orders', { method: 'DELETE' }, 405],
      ['/api/orders?page=2', {}, 400],
      ['/api/notes', { method: 'POST', body: 'order_id=1' }, 415],
      ['/api/notes', { method: 'POST', body: '{"order_id":', headers: { 'content-type': 'application/json' } }, 400],
      ['/api/notes', { method: 'POST', body: `{"text":"${'x'.repeat(70_000)}"}`, headers: { 'content-type': 'application/json' } }, 413],
    ]) {
      const answer = await official.get(path, { ...options, headers: { ...options.headers, ...headers } });
      assert.equal(answer.status, status, path);
      assert.equal(answer.json.request_id, 'abc-123');
      assert.equal(answer.headers.get('x-request-id'), 'abc-123');
      assert.equal(Number(answer.headers.get('content-length')), Buffer.byteLength(answer.text));
    }
  });

  test('a fault of ours is a 500 that tells the caller nothing but its id, and the log its cause', async () => {
    await schema.query('ALTER TABLE order_notes RENAME TO order_notes_hidden');
    const { status, text, json } = await official.post('/api/notes', { order_id: 1, text: 'hei' }, { 'x-request-id': 'our-fault' });
    await schema.query('ALTER TABLE order_notes_hidden RENAME TO order_notes');
    assert.deepEqual([status, json.error], [500, 'internal']);
    assert.doesNotMatch(text, /order_notes|INSERT|node:/);
    const line = shop.log.find((each) => each.request_id === 'our-fault' && each.level === 'error');
    assert.match(line.reason.message, /order_notes/);
    assert.equal((await official.post('/api/notes', { order_id: 1, text: 'hei' })).status, 201);
  });

  test('a large body without a length is refused too', async () => {
    const parts = async function* () {
      for (let part = 0; part < 100; part += 1) yield Buffer.alloc(1024, 'x');
    };
    const answer = await official.get('/api/notes', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: parts(),
      duplex: 'half',
    });
    assert.equal(answer.status, 413);
  });

  test('slow and large answers', async () => {
    const started_ms = performance.now();
    assert.equal((await shop.get('/api/slow?ms=300')).status, 200);
    assert.ok(performance.now() - started_ms >= 295);
    const big = await shop.get('/api/big?kb=300');
    assert.deepEqual([big.text.length, big.headers.get('content-length')], [307_200, '307200']);
    assert.equal((await shop.get('/api/big?kb=99999', { method: 'HEAD' })).headers.get('content-length'), String(10_240 * 1024));
    assert.equal((await shop.get('/api/slow?ms=soon')).status, 400);
  });

  test('metrics are for the machine, not for visitors', async () => {
    await official.get('/api/orders/1');
    const { text, headers } = await shop.get('/metrics');
    assert.match(headers.get('content-type'), /^text\/plain; version=0.0.4/);
    assert.match(text, /^http_request_duration_seconds_count\{method="GET",route="\/api\/orders\/\{id\}",status="200"\} \d+$/m);
    assert.match(text, /^lisens_orders_total [1-9]\d*$/m);
    assert.match(text, /^lisens_database_connections\{state="idle"\} \d+$/m);
    assert.doesNotMatch(text, /route="\/api\/orders\/\d/);
    assert.equal((await shop.get('/metrics', { headers: { 'x-forwarded-for': '203.0.113.9' } })).status, 404);
  });

  test('the OpenAPI document is served', async () => {
    const { status, json } = await shop.get('/openapi.json');
    assert.deepEqual([status, json.openapi, json.info.title], [200, '3.1.0', 'lisens']);
  });

  test('an error in a browser gets a number and a line in the log, with what was sent kept apart', async () => {
    const { status, json } = await shop.post('/api/client-errors', {
      message: 'x is undefined',
      where: 'orders',
      route: '/orders',
      stack: 'at y',
    });
    assert.equal(status, 202);
    const line = shop.log.find((each) => each.event_id === json.event_id);
    assert.deepEqual([line.level, line.msg, line.browser.where], ['error', 'error in a browser', 'orders']);
    assert.equal((await shop.post('/api/client-errors', { message: 'x'.repeat(1_001), where: 'a', route: '/' })).status, 422);
    assert.equal((await shop.post('/api/client-errors', { message: 'x', where: 'a', route: '/', stack: 'x'.repeat(17_000) })).status, 413);
  });

  test('every log line is structured and names the request', async () => {
    await official.get('/api/users?limit=1', {
      headers: { 'x-request-id': 'seek-me', traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01` },
    });
    const find = () => shop.log.find((each) => each.request_id === 'seek-me');
    while (!find()) await sleep(5); // the line is written after the answer
    const line = find();
    assert.deepEqual([line.level, line.msg, line.status, line.path, line.trace_id], ['info', 'request', 200, '/api/users', 'a'.repeat(32)]);
    assert.ok(shop.log.every((each) => each.time && each.level && each.msg));
    assert.doesNotMatch(JSON.stringify(shop.log), /@example\.com|Kari/);
  });
});
