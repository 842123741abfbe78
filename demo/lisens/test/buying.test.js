// Reservations, places of which there are only so many, and changes in bulk.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { randomUUID } from 'node:crypto';
import { ACCOUNTS, PASSWORD, openSchema, openWires, run, skip, startShop } from './support.js';

describe('buying', { skip }, () => {
  let schema;
  let wires;
  let shop;
  let user;
  let other;
  let official;

  before(async () => {
    wires = await openWires();
    schema = await openSchema(wires.databaseUrl);
    const env = { DATABASE_URL: schema.url, REDIS_URL: wires.redisUrl, SEED_ORDERS: '2000', DEMO_PASSWORD: PASSWORD };
    const { code, stderr } = await run('migrate.js', env);
    assert.equal(code, 0, stderr);
    shop = await startShop(env);
    user = await shop.signIn(ACCOUNTS.user);
    other = await shop.signIn(ACCOUNTS.other);
    official = await shop.signIn(ACCOUNTS.official);
  });

  after(async () => {
    await shop?.stop();
    await schema?.close();
    await wires?.databaseWire.close();
    await wires?.redisWire.close();
  });

  const finale = (quantity) => ({ items: [{ licence_kind: 'finalelisens', quantity }] });
  const buy = (who, body, key = randomUUID()) => who.post('/api/checkout', body, { 'idempotency-key': key });
  const setPlaces = (places) => schema.query("UPDATE licence_quotas SET places = $1, taken = 0 WHERE kind = 'finalelisens'", [places]);
  const taken = async () => (await schema.query('SELECT taken FROM licence_quotas'))[0].taken;
  const clear = () => schema.query('DELETE FROM reservations');

  test('a reservation holds places and prices, and buying it uses it up', async () => {
    await setPlaces(5);
    const { status, json } = await user.post('/api/reservations', finale(3));
    assert.deepEqual([status, json.total_ore, await taken()], [201, 3 * 55_000, 3]);
    const left_s = (new Date(json.expires_at) - Date.now()) / 1000;
    assert.ok(left_s > 590 && left_s < 610);
    await schema.query("UPDATE licence_kinds SET price_ore = 60000 WHERE kind = 'finalelisens'");
    const key = randomUUID();
    const order = await buy(user, { reservation_id: json.id }, key);
    await schema.query("UPDATE licence_kinds SET price_ore = 55000 WHERE kind = 'finalelisens'");
    assert.deepEqual([order.status, order.json.total_ore, order.json.licences.length], [201, 3 * 55_000, 3]);
    assert.equal((await buy(user, { reservation_id: json.id }, key)).text, order.text);
    const again = await buy(user, { reservation_id: json.id });
    assert.deepEqual([again.status, again.json.error, await taken()], [409, 'reservation_gone', 3]);
  });

  test('a reservation is its owner’s, and the newest takes the place of the older', async () => {
    await setPlaces(5);
    const first = (await user.post('/api/reservations', finale(4))).json;
    assert.equal((await buy(other, { reservation_id: first.id })).status, 409);
    assert.equal((await other.delete(`/api/reservations/${first.id}`)).status, 404);
    const second = (await user.post('/api/reservations', finale(5))).json;
    assert.equal(await taken(), 5);
    assert.equal((await buy(user, { reservation_id: first.id })).status, 409);
    assert.equal((await user.delete(`/api/reservations/${second.id}`)).status, 204);
    assert.equal(await taken(), 0);
    // From a limited kind to one without limit and back.
    await user.post('/api/reservations', finale(2));
    await user.post('/api/reservations', { items: [{ licence_kind: 'mekaniker', quantity: 1 }] });
    assert.equal(await taken(), 0);
    await clear();
  });

  test('what is sold out says so, holds nothing, and leaves the key free', async () => {
    await setPlaces(2);
    await clear();
    const held = (await user.post('/api/reservations', finale(2))).json;
    const key = randomUUID();
    for (const answer of [await other.post('/api/reservations', finale(1)), await buy(other, finale(1), key)]) {
      assert.deepEqual([answer.status, answer.json.error], [409, 'sold_out']);
      assert.match(answer.json.message, /finalelisens/);
    }
    await user.delete(`/api/reservations/${held.id}`);
    assert.equal((await buy(other, finale(1), key)).status, 201);
    assert.equal((await buy(other, { items: [...finale(1).items, ...finale(1).items] })).status, 409);
    assert.equal(await taken(), 1);
    const { json } = await shop.get('/api/licence-kinds');
    assert.equal(json.licence_kinds.find((each) => each.kind === 'finalelisens').places_left, 1);
  });

  test('a reservation that ran out gives its places back to the next', async () => {
    await setPlaces(1);
    await clear();
    const { json } = await user.post('/api/reservations', finale(1));
    await schema.query("UPDATE reservations SET expires_at = now() - interval '1 second'");
    assert.equal((await buy(user, { reservation_id: json.id })).status, 409);
    assert.equal((await other.post('/api/reservations', finale(1))).status, 201);
    assert.equal(await taken(), 1);
  });

  test('places of a reservation that ran out are shown as free before anybody has asked for them', async () => {
    await setPlaces(1);
    await clear();
    const left = async () => {
      const [row] = (await shop.get('/api/licence-kinds')).json.licence_kinds.filter((each) => each.kind === 'finalelisens');
      return row.places_left;
    };
    await user.post('/api/reservations', finale(1));
    assert.equal(await left(), 0);
    await schema.query("UPDATE reservations SET expires_at = now() - interval '1 second'");
    await wires.redisWire.cut(); // what the cache still says is true for a minute at most
    assert.equal(await left(), 1);
    await wires.redisWire.mend();
  });

  test('what took no place gives none back when its kind becomes limited', async () => {
    await clear();
    await user.post('/api/reservations', { items: [{ licence_kind: 'anmelder', quantity: 3 }] });
    await schema.query("INSERT INTO licence_quotas (kind, places) VALUES ('anmelder', 10)");
    assert.equal((await user.post('/api/reservations', { items: [{ licence_kind: 'anmelder', quantity: 2 }] })).status, 201);
    const count = async () => (await schema.query("SELECT taken FROM licence_quotas WHERE kind = 'anmelder'"))[0].taken;
    assert.equal(await count(), 2);
    await clear();
    await schema.query("DELETE FROM licence_quotas WHERE kind = 'anmelder'");
  });

  test('however many want the last places, no more are sold than there are', async () => {
    await setPlaces(7);
    await clear();
    const answers = await Promise.all(Array.from({ length: 40 }, (_, index) => buy([user, other, official][index % 3], finale(1))));
    assert.deepEqual(
      answers
        .map(({ status }) => status)
        .sort()
        .slice(0, 7),
      Array(7).fill(201),
    );
    assert.equal(answers.filter(({ status }) => status === 409).length, 33);
    assert.equal(await taken(), 7);
    const [{ count }] = await schema.query(
      "SELECT count(*) FROM licences WHERE kind = 'finalelisens' AND created_at > now() - interval '1 minute'",
    );
    assert.ok(Number(count) >= 7);
  });

  test('reserving and letting go by many at once ends in no fault and no lost place', async () => {
    await setPlaces(50);
    await clear();
    const people = [user, other, official];
    const statuses = [];
    await Promise.all(
      Array.from({ length: 60 }, async (_, index) => {
        const who = people[index % 3];
        const body = index % 4 === 0 ? { items: [{ licence_kind: 'ledsager', quantity: 1 }] } : finale(1 + (index % 3));
        const { status, json } = await who.post('/api/reservations', body);
        statuses.push(status);
        if (status === 201 && index % 5 === 0) statuses.push((await who.delete(`/api/reservations/${json.id}`)).status);
      }),
    );
    assert.deepEqual(
      statuses.filter((status) => ![201, 204, 404].includes(status)),
      [],
    );
    for (const who of people) await who.post('/api/reservations', { items: [{ licence_kind: 'ledsager', quantity: 1 }] });
    assert.equal(await taken(), 0);
  });

  test('an Idempotency-Key is its sender’s own', async () => {
    const body = { items: [{ licence_kind: 'ledsager', quantity: 1 }] };
    const mine = await buy(user, body, 'shared');
    const theirs = await buy(other, body, 'shared');
    assert.deepEqual([mine.status, theirs.status, theirs.headers.get('idempotent-replayed')], [201, 201, null]);
    assert.deepEqual([mine.json.user_id, theirs.json.user_id], [user.user.id, other.user.id]);
  });

  test('a note with a key is added once', async () => {
    const { json } = await buy(user, { items: [{ licence_kind: 'ledsager', quantity: 1 }] });
    const note = { order_id: json.id, text: 'Hentes på banen' };
    const first = await user.post('/api/notes', note, { 'idempotency-key': 'note-1' });
    const again = await user.post('/api/notes', note, { 'idempotency-key': 'note-1' });
    assert.deepEqual([first.status, again.text], [201, first.text]);
    assert.equal((await user.get(`/api/orders/${json.id}`)).json.notes.length, 1);
  });

  test('a refund is done once, however often it is asked for', async () => {
    const { json } = await buy(user, { items: [{ licence_kind: 'ledsager', quantity: 1 }] });
    for (let time = 0; time < 2; time += 1) {
      const { status, json: refunded } = await official.post(`/api/orders/${json.id}/refund`);
      assert.deepEqual([status, refunded], [200, { id: json.id, status: 'refunded' }]);
    }
    assert.equal((await official.post('/api/orders/999999999/refund')).status, 404);
  });

  const bulk = (items, key = randomUUID()) => official.post('/api/licences/bulk', { items }, { 'idempotency-key': key });

  test('a thousand licences change in one request and a handful of statements, with a result for each', async () => {
    const before = await schema.query('SELECT id, status FROM licences ORDER BY id LIMIT 998');
    await schema.query("UPDATE licences SET status = 'suspended' WHERE id = $1", [before[0].id]);
    const items = [
      ...before.map((row) => ({ id: Number(row.id), status: 'suspended' })),
      { id: 999_999_999, status: 'active' },
      { id: Number(before[1].id), status: 'active' },
    ];
    const key = randomUUID();
    wires.databaseWire.statements = 0;
    const { status, json, text } = await bulk(items, key);
    const { statements } = wires.databaseWire;
    assert.ok(statements >= 3 && statements <= 10, `${statements} statements`);
    assert.deepEqual([status, json.updated, json.results.length], [200, 997, 1_000]);
    assert.deepEqual(
      json.results.map((result) => result.id),
      items.map((item) => item.id),
    );
    assert.deepEqual(
      [json.results[0].outcome, json.results[1].outcome, json.results[998].outcome, json.results[999].outcome],
      ['unchanged', 'updated', 'not_found', 'named_twice'],
    );
    assert.equal((await bulk(items, key)).text, text);
    const [{ count }] = await schema.query("SELECT count(*) FROM licences WHERE status = 'suspended'");
    assert.equal(Number(count), 998);
  });

  test('a bulk change is all or nothing, and says what is wrong with it', async () => {
    const [{ id }] = await schema.query("SELECT id FROM licences WHERE status = 'active' ORDER BY id DESC LIMIT 1");
    const wrong = [
      [],
      [
        { id: Number(id), status: 'suspended' },
        { id: -1, status: 'active' },
      ],
      [{ id: Number(id), status: 'gone' }],
      Array(1_001).fill({ id: Number(id), status: 'suspended' }),
    ];
    for (const items of wrong) assert.equal((await bulk(items)).status, 422);
    assert.equal((await official.post('/api/licences/bulk', { items: [{ id: Number(id), status: 'suspended' }] })).status, 400);
    assert.equal((await schema.query('SELECT status FROM licences WHERE id = $1', [id]))[0].status, 'active');
  });

  test('two bulk changes over the same licences, in opposite order, both end well', async () => {
    const ids = (await schema.query('SELECT id FROM licences ORDER BY id LIMIT 200')).map((row) => Number(row.id));
    const to = (status, list) => bulk(list.map((id) => ({ id, status })));
    const answers = await Promise.all([
      to('active', ids),
      to('suspended', ids.toReversed()),
      to('active', ids.toReversed()),
      to('suspended', ids),
    ]);
    assert.deepEqual(
      answers.map(({ status }) => status),
      Array(4).fill(200),
    );
  });
});
