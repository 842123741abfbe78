// What the shop does when PostgreSQL or Redis is away, and when it is told to stop.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ACCOUNTS, PASSWORD, openSchema, openWires, run, skip, startShop, until } from './support.js';

describe('the shop under faults', { skip }, () => {
  let wires;
  let schema;
  let shop;
  let env;
  let official;
  let keys = 0;

  before(async () => {
    wires = await openWires();
    schema = await openSchema(wires.databaseUrl);
    env = { DATABASE_URL: schema.url, REDIS_URL: wires.redisUrl, SEED_ORDERS: '300', DEMO_PASSWORD: PASSWORD };
    const { code, stderr } = await run('migrate.js', env);
    assert.equal(code, 0, stderr);
    shop = await startShop(env);
    official = await shop.signIn(ACCOUNTS.official);
  });

  afterEach(async () => {
    await wires.databaseWire.mend();
    await wires.redisWire.mend();
    await until(
      () => shop.get('/healthz'),
      ({ json }) => json.status === 'ok',
    );
  });

  after(async () => {
    await shop?.stop();
    await schema?.close();
    await wires?.databaseWire.close();
    await wires?.redisWire.close();
  });

  const purchase = { user_id: 5, items: [{ licence_kind: 'engangslisens', quantity: 1 }] };
  const buy = (key) => official.post('/api/checkout', purchase, { 'idempotency-key': key });
  const newKey = () => `fault-${(keys += 1)}`;
  const countOrders = async () => Number((await schema.query('SELECT count(*) FROM orders'))[0].count);

  test('without PostgreSQL every database answer is a 503, and it is back within a second', async () => {
    await Promise.all(Array.from({ length: 20 }, () => official.get('/api/orders'))); // fills the pool
    await wires.databaseWire.cut();
    const asks = [
      () => official.get('/api/orders'),
      () => official.get('/api/orders/1'),
      () => official.get('/api/licences'),
      () => official.get('/api/users'),
      () => buy(newKey()),
      () => official.post('/api/notes', { order_id: 1, text: 'hei' }),
    ];
    for (const ask of asks) {
      const { status, json, headers, text } = await ask();
      assert.deepEqual([status, json.error, headers.get('retry-after')], [503, 'database_unavailable', '1']);
      assert.doesNotMatch(text, /ECONN|node:|SELECT/);
    }
    const health = await shop.get('/healthz');
    assert.deepEqual([health.status, health.json], [503, { status: 'unavailable', postgres: 'unavailable', redis: 'ok' }]);
    assert.equal((await shop.get('/livez')).status, 200);
    assert.equal((await shop.post('/api/estimate', { discipline: 'karting', age: 12, races: 4, mechanics: 0 })).status, 200);

    await wires.databaseWire.mend();
    const back_ms = await until(
      () => official.get('/api/orders'),
      ({ status }) => status === 200,
    );
    assert.ok(back_ms < 1_000, `${back_ms} ms`);
    assert.equal((await buy(newKey())).status, 201);
  });

  test('a read or a new purchase on dead pooled connections is not noticed', async () => {
    for (let round = 0; round < 3; round += 1) {
      await Promise.all(Array.from({ length: 20 }, () => official.get('/api/orders')));
      wires.databaseWire.thaw(); // drops every connection
      const answers = await Promise.all([
        ...Array.from({ length: 30 }, () => official.get('/api/orders')),
        ...Array.from({ length: 5 }, () => buy(newKey())),
      ]);
      assert.deepEqual(
        answers.filter(({ status }) => status >= 500).map(({ text }) => text),
        [],
      );
    }
  });

  test('connections ended by the server are replaced', async () => {
    await Promise.all(Array.from({ length: 20 }, () => official.get('/api/orders')));
    await schema.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1', [schema.name]);
    const answers = await Promise.all(Array.from({ length: 30 }, () => official.get('/api/orders')));
    assert.deepEqual(
      answers.filter(({ status }) => status !== 200),
      [],
    );
  });

  for (const delivered of [true, false]) {
    test(`a COMMIT whose answer is lost (${delivered ? 'done' : 'not done'}) is a 503, and the same key again gives one order`, async () => {
      const before = await countOrders();
      const key = newKey();
      wires.databaseWire.cutOn('COMMIT', { delivered });
      const lost = await buy(key);
      assert.deepEqual([lost.status, lost.json.error], [503, 'database_unavailable']);
      const again = await buy(key);
      assert.deepEqual([again.status, again.headers.get('idempotent-replayed')], [201, delivered ? 'true' : null]);
      assert.equal(await countOrders(), before + 1);
    });
  }

  test('a PostgreSQL that says nothing costs a bounded wait, and health says so within two seconds', async () => {
    await official.get('/api/orders');
    wires.databaseWire.freeze();
    const started_ms = performance.now();
    const order = official.get('/api/orders');
    const health = await shop.get('/healthz');
    assert.deepEqual([health.status, health.json.postgres], [503, 'unavailable']);
    assert.ok(performance.now() - started_ms < 1_500);
    assert.equal((await order).status, 503);
    assert.ok(performance.now() - started_ms < 7_000);
    wires.databaseWire.thaw();
  });

  test('without Redis the shop is degraded and answers from the database', async () => {
    await wires.redisWire.cut();
    await until(
      () => shop.get('/healthz'),
      ({ json }) => json.status === 'degraded',
    );
    const health = await shop.get('/healthz');
    assert.deepEqual([health.status, health.json], [200, { status: 'degraded', postgres: 'ok', redis: 'unavailable' }]);
    const { status, headers } = await shop.get('/api/licence-kinds');
    assert.deepEqual([status, headers.get('x-cache')], [200, 'miss']);
    await wires.redisWire.mend();
    await until(
      () => shop.get('/api/licence-kinds'),
      (answer) => answer.headers.get('x-cache') === 'hit',
    );
  });

  test('without Redis those who are signed in stay so, one can sign in, and wrong passwords are counted', async () => {
    await wires.redisWire.cut();
    assert.equal((await official.get('/api/orders?limit=1')).status, 200);
    assert.equal((await (await shop.signIn(ACCOUNTS.admin)).get('/api/users?limit=1')).status, 200);
    const wrong = () => shop.post('/api/session', { email: 'nobody@lisens.example', password: 'guess' });
    const statuses = [];
    for (let attempt = 0; attempt < 12; attempt += 1) statuses.push((await wrong()).status);
    assert.deepEqual(statuses, [...Array(10).fill(401), 429, 429]);
  });

  test('signing out while Redis is away says that it may not be known everywhere', async () => {
    const leaving = await shop.signIn(ACCOUNTS.user);
    await leaving.get('/api/orders?limit=1');
    await wires.redisWire.cut();
    const { status, json, headers } = await leaving.delete('/api/session');
    assert.deepEqual([status, json.error, headers.get('retry-after')], [503, 'not_everywhere_yet', '1']);
    assert.equal((await leaving.get('/api/orders?limit=1')).status, 401);
  });

  test('a Redis that says nothing costs one short wait', async () => {
    await shop.get('/api/licence-kinds');
    wires.redisWire.freeze();
    const started_ms = performance.now();
    for (let ask = 0; ask < 10; ask += 1) assert.equal((await shop.get('/api/licence-kinds')).status, 200);
    const took_ms = performance.now() - started_ms;
    assert.ok(took_ms < 800, `${took_ms} ms`);
    wires.redisWire.thaw();
  });

  test('on SIGTERM the requests in flight finish, kept connections are told to close, and the shop leaves with 0', async () => {
    const leaving = await startShop(env);
    const agent = new http.Agent({ keepAlive: true });
    const { cookie } = await leaving.signIn(ACCOUNTS.official);
    const ask = async (path) => {
      const [response] = await once(http.get({ port: leaving.port, path, agent, headers: { cookie } }), 'response');
      response.resume();
      await once(response, 'end');
      return response;
    };
    assert.equal((await ask('/livez')).headers.connection, 'keep-alive');
    const slow = ask('/api/slow?ms=1500');
    const big = ask('/api/big?kb=10240');
    await sleep(100);
    const started_ms = performance.now();
    leaving.child.kill('SIGTERM');
    await sleep(50);
    assert.equal((await ask('/api/orders?limit=1')).headers.connection, 'close');
    assert.deepEqual([(await slow).statusCode, (await slow).headers.connection], [200, 'close']);
    assert.equal((await big).statusCode, 200);
    assert.equal(await leaving.exited, 0);
    assert.ok(performance.now() - started_ms < 3_000);
    agent.destroy();
  });

  test('with a missing register the shop ends at once and says why', async () => {
    const { code, stderr } = await run('server.js', { ...env, PORT: '0', LISENS_CRASH: '1' });
    assert.deepEqual([code, stderr], [1, 'cannot read licence register: register.json is missing\n']);
  });
});

test('without DATABASE_URL the start says what to set', async () => {
  const { code, stderr } = await run('server.js', { DATABASE_URL: '' });
  assert.equal(code, 1);
  assert.match(stderr, /^DATABASE_URL is not set; set it to/);
});
