// Who may do what: everybody against every operation, and what is not a session.

import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { operations } from '../src/operations.js';
import { ACCOUNTS, PASSWORD, openSchema, run, skip, startShop } from './support.js';

// [anonymous, the owner, another user, an official, an admin]. The rows are the owner's.
const ALL = [200, 200, 200, 200, 200];
const MATRIX = {
  showSession: ALL,
  signIn: [401, 401, 401, 401, 401], // with a wrong password
  signOut: [401, 204, 204, 204, 204],
  listLicenceKinds: ALL,
  estimateSeason: ALL,
  reserve: [401, 201, 201, 201, 201],
  dropReservation: [401, 204, 404, 404, 404],
  checkout: [401, 201, 403, 201, 201],
  listOrders: [401, 200, 403, 200, 200],
  showOrder: [401, 200, 404, 200, 200],
  refundOrder: [401, 403, 403, 200, 200],
  addNote: [401, 201, 422, 201, 201],
  listLicences: [401, 200, 403, 200, 200],
  changeLicences: [401, 403, 403, 200, 200],
  listUsers: [401, 403, 403, 200, 200],
  showUser: [401, 200, 404, 200, 200],
  changeUser: [401, 200, 404, 403, 200],
  reportClientError: [202, 202, 202, 202, 202],
  showVersion: ALL,
  answerSlowly: ALL,
  answerLarge: ALL,
  showHealth: ALL,
  showLiveness: ALL,
};
const WHO = ['anonymous', 'owner', 'other', 'official', 'admin'];

describe('access', { skip }, () => {
  let schema;
  let shop;
  let people;
  let owned;

  before(async () => {
    schema = await openSchema();
    const env = { DATABASE_URL: schema.url, REDIS_URL: '', SEED_ORDERS: '200', DEMO_PASSWORD: PASSWORD };
    const { code, stderr } = await run('migrate.js', env);
    assert.equal(code, 0, stderr);
    shop = await startShop(env);
    people = {
      anonymous: shop,
      owner: await shop.signIn(ACCOUNTS.user),
      other: await shop.signIn(ACCOUNTS.other),
      official: await shop.signIn(ACCOUNTS.official),
      admin: await shop.signIn(ACCOUNTS.admin),
    };
    const [order] = (await people.owner.get('/api/orders?limit=1')).json.orders;
    const [licence] = (await people.owner.get('/api/licences?limit=1')).json.licences;
    owned = { userId: people.owner.user.id, orderId: order.id, licenceId: licence.id };
  });

  after(async () => {
    await shop?.stop();
    await schema?.close();
  });

  const items = [{ licence_kind: 'engangslisens', quantity: 1 }];
  const newKey = () => ({ 'idempotency-key': randomUUID() });
  /** What is sent for each operation; everything not named here is a plain GET of its path. */
  const requests = {
    signIn: (who) => who.post('/api/session', { email: 'somebody@lisens.example', password: 'guess' }),
    signOut: async (who) => {
      // From a session of its own: the others go on with theirs.
      const leaving = who.user ? await shop.signIn(Object.values(ACCOUNTS).find((email) => email.startsWith(who.name))) : who;
      return leaving.delete('/api/session');
    },
    estimateSeason: (who) => who.post('/api/estimate', { discipline: 'rally', age: 20, races: 3, mechanics: 0 }),
    reserve: (who) => who.post('/api/reservations', { items }),
    dropReservation: async (who) => {
      const { json } = await people.owner.post('/api/reservations', { items });
      return who.delete(`/api/reservations/${json.id}`);
    },
    checkout: (who) => who.post('/api/checkout', { user_id: owned.userId, items }, newKey()),
    listOrders: (who) => who.get(`/api/orders?user_id=${owned.userId}`),
    showOrder: (who) => who.get(`/api/orders/${owned.orderId}`),
    refundOrder: (who) => who.post(`/api/orders/${owned.orderId}/refund`),
    addNote: (who) => who.post('/api/notes', { order_id: owned.orderId, text: 'hei' }),
    listLicences: (who) => who.get(`/api/licences?user_id=${owned.userId}`),
    changeLicences: (who) => who.post('/api/licences/bulk', { items: [{ id: owned.licenceId, status: 'suspended' }] }, newKey()),
    showUser: (who) => who.get(`/api/users/${owned.userId}`),
    changeUser: (who) => who.patch(`/api/users/${owned.userId}`, { club: 'NMK Nordfjorden' }),
    reportClientError: (who) => who.post('/api/client-errors', { message: 'x', where: 'panel', route: '/' }),
  };

  test('everybody against every operation', async (context) => {
    assert.deepEqual(
      Object.keys(MATRIX),
      operations.map((operation) => operation.id),
    );
    people.owner.name = 'user';
    for (const name of ['other', 'official', 'admin']) people[name].name = name;
    for (const { id, path } of operations) {
      await context.test(id, async () => {
        const ask = requests[id] ?? ((who) => who.get(path));
        const statuses = [];
        for (const name of WHO) statuses.push((await ask(people[name])).status);
        assert.deepEqual(Object.fromEntries(WHO.map((name, index) => [name, statuses[index]])), asRow(MATRIX[id]));
      });
    }
  });
  const asRow = (statuses) => Object.fromEntries(WHO.map((name, index) => [name, statuses[index]]));

  test('a refused write has changed nothing', async () => {
    await people.official.post('/api/licences/bulk', { items: [{ id: owned.licenceId, status: 'active' }] }, newKey());
    const state = () =>
      schema.query(
        `SELECT (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM order_notes) AS notes,
                (SELECT status FROM licences WHERE id = $1) AS licence, (SELECT role || club FROM users WHERE id = $2) AS owner`,
        [owned.licenceId, owned.userId],
      );
    const before = await state();
    for (const id of ['checkout', 'addNote', 'changeLicences', 'changeUser']) {
      for (const name of ['anonymous', 'other']) assert.ok((await requests[id](people[name])).status >= 400);
    }
    assert.deepEqual(await state(), before);
  });

  test('a list without a filter holds one’s own only', async () => {
    for (const [path, list] of [
      ['/api/orders', 'orders'],
      ['/api/licences', 'licences'],
    ]) {
      const { json } = await people.other.get(`${path}?limit=100&total=true`);
      assert.ok(json[list].length > 10);
      assert.ok(json[list].every((each) => each.user_id === people.other.user.id));
      assert.ok(json.total < 100);
      const search = await people.other.get(`${path}?q=Kari`);
      assert.deepEqual(search.json[list], []);
    }
  });

  test('an e-mail address is for its user and for admins', async () => {
    const email = async (who) => (await who.get(`/api/users/${owned.userId}`)).json.email;
    assert.deepEqual(
      [await email(people.owner), await email(people.official), await email(people.admin)],
      [ACCOUNTS.user, undefined, ACCOUNTS.user],
    );
  });

  test('nobody gives themselves a role, not by any name', async () => {
    for (const body of [{ role: 'admin' }, { role: 'admin', name: 'Kari Nordli' }]) {
      assert.equal((await people.owner.patch(`/api/users/${owned.userId}`, body)).status, 403);
      assert.equal((await people.official.patch(`/api/users/${people.official.user.id}`, body)).status, 403);
    }
    for (const body of [{ is_admin: true }, { id: 1, name: 'X' }, { password_hash: 'x' }, {}]) {
      assert.equal((await people.owner.patch(`/api/users/${owned.userId}`, body)).status, 422);
    }
  });

  test('a new role ends the sessions that had the old one', async () => {
    const session = await shop.signIn(ACCOUNTS.other);
    const change = (role) => people.admin.patch(`/api/users/${session.user.id}`, { role });
    // Without Redis there is nowhere else that could still hold them.
    await change('official');
    assert.equal((await session.get('/api/users')).status, 401);
    const again = await shop.signIn(ACCOUNTS.other);
    assert.equal((await again.get('/api/users')).status, 200);
    await change('user');
    assert.equal((await again.get('/api/users')).status, 401);
    people.other = await shop.signIn(ACCOUNTS.other);
  });

  test('what is no session is nobody', async () => {
    const ask = (cookie) => shop.get('/api/orders', { headers: { cookie } });
    const { cookie } = people.owner;
    const [name, token] = cookie.split('=');
    const flipped = (token[0] === 'A' ? 'B' : 'A') + token.slice(1);
    for (const forged of [
      `${name}=`,
      `${name}=admin`,
      `${name}=${flipped}`,
      `${name}=${'A'.repeat(43)}`,
      `lisens=${token}`,
      `${name}=${token}x`,
    ]) {
      assert.equal((await ask(forged)).status, 401, forged);
    }
    assert.equal((await ask(`other=1; ${cookie}`)).status, 200);

    const expired = await shop.signIn(ACCOUNTS.user);
    const hash = createHash('sha256').update(expired.cookie.split('=')[1]).digest();
    await schema.query("UPDATE sessions SET expires_at = now() - interval '1 second' WHERE token_hash = $1", [hash]);
    assert.equal((await expired.get('/api/orders')).status, 401);
  });

  test('signing out ends the session, also for who has copied the cookie', async () => {
    const leaving = await shop.signIn(ACCOUNTS.user);
    const { status, headers } = await leaving.delete('/api/session');
    assert.equal(status, 204);
    assert.match(headers.get('set-cookie'), /Max-Age=0/);
    assert.equal((await leaving.get('/api/orders')).status, 401);
  });

  test('the cookie is for this host, for requests and for encrypted ones only', async () => {
    const { headers } = await shop.post('/api/session', { email: ACCOUNTS.user, password: PASSWORD });
    const parts = headers.get('set-cookie').split('; ');
    assert.match(parts[0], /^__Host-lisens=[\w-]{43}$/);
    assert.deepEqual(parts.slice(1), ['Path=/', 'Secure', 'HttpOnly', 'SameSite=Lax', 'Max-Age=43200']);
  });

  test('every write by somebody who is signed in needs the token, the right one', async () => {
    const writes = operations.filter(({ method, who }) => method !== 'GET' && who !== 'anybody');
    assert.ok(writes.length >= 7);
    for (const { method, path } of writes) {
      const target = path.replace(/\{\w+\}/, '1');
      for (const token of [undefined, '', 'x', people.other.csrf]) {
        const headers = {
          cookie: people.admin.cookie,
          'content-type': 'application/json',
          ...(token !== undefined && { 'x-csrf-token': token }),
        };
        const answer = await shop.get(target, { method, headers, ...(method !== 'DELETE' && { body: '{}' }) });
        assert.deepEqual([answer.status, answer.json.error], [403, 'csrf'], `${method} ${target}`);
      }
    }
  });

  test('another site may not write, signed in or not', async () => {
    const headers = { 'sec-fetch-site': 'cross-site' };
    assert.equal((await shop.post('/api/session', { email: ACCOUNTS.user, password: PASSWORD }, headers)).status, 403);
    assert.equal((await people.owner.post('/api/notes', { order_id: owned.orderId, text: 'hei' }, headers)).status, 403);
    assert.equal((await people.owner.get('/api/orders', { headers })).headers.get('access-control-allow-origin'), null);
  });

  test('passwords cannot be tried without end, and the right one is not told from a missing account', async () => {
    const guess = (email) => shop.post('/api/session', { email, password: 'guess' }, { 'x-forwarded-for': '203.0.113.9' });
    const first = await guess(ACCOUNTS.admin);
    const missing = await guess('nobody-here@lisens.example');
    const plain = ({ status, json: { request_id, ...rest } }) => ({ status, ...rest });
    assert.deepEqual(plain(first), plain(missing));
    const statuses = [];
    for (let attempt = 0; attempt < 10; attempt += 1) statuses.push((await guess(ACCOUNTS.admin.toUpperCase())).status);
    assert.deepEqual(statuses, [...Array(9).fill(401), 429]);
    // From where its owner sits the account is open.
    assert.equal(
      (await shop.post('/api/session', { email: ACCOUNTS.admin, password: PASSWORD }, { 'x-forwarded-for': '198.51.100.7' })).status,
      201,
    );
  });

  test('passwords and tokens are in no log line', async () => {
    const text = JSON.stringify(shop.log);
    assert.doesNotMatch(text, new RegExp(`${PASSWORD}|guess|${people.owner.cookie.split('=')[1]}|${people.owner.csrf}`));
  });
});
