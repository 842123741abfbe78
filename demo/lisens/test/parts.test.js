// The parts that need no database.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { demand, ownerFilter, seesAll } from '../src/access.js';
import { Attempts, networkOf } from '../src/attempts.js';
import { totalOf } from '../src/basket.js';
import { Cache } from '../src/cache.js';
import { ConfigError, readConfig } from '../src/config.js';
import { DeadlineExceeded, withDeadline } from '../src/deadline.js';
import { HttpError } from '../src/errors.js';
import { estimate, licencesFor, readModel } from '../src/estimate.js';
import { reason } from '../src/log.js';
import { openApi } from '../src/openapi.js';
import { operations } from '../src/operations.js';
import { asPage, readPage } from '../src/pagination.js';
import { hashPassword, isPassword } from '../src/passwords.js';
import { checker, date, list, object, queryReader, text } from '../src/schema.js';
import { readSearch } from '../src/search.js';
import { cookieFor, demandSameSite } from '../src/sessions.js';
import { Spans, statement } from '../src/spans.js';

const silent = { info() {}, warn() {} };
const withStatus = (status, code) => (error) => error instanceof HttpError && error.status === status && error.code === code;

test('a page names the row after which the next one starts, to the microsecond', () => {
  const rows = [3, 2, 1].map((id) => ({ id, cursor_at: `2025-06-30T12:00:00.00000${id}Z` }));
  const { items, next } = asPage(rows, 2);
  assert.deepEqual(items, [{ id: 3 }, { id: 2 }]);
  assert.deepEqual(readPage({ limit: 2, cursor: next }), { limit: 2, after: { created_at: '2025-06-30T12:00:00.000002Z', id: 2 } });
});

test('the last page has no next, and an empty list is a page', () => {
  assert.equal(asPage([{ id: 1, cursor_at: '2025-06-30T12:00:00.000001Z' }], 1).next, null);
  assert.deepEqual(asPage([], 20), { items: [], next: null });
});

test('a page is of 20 and never of more than 100', () => {
  assert.deepEqual(readPage({}), { limit: 20, after: { created_at: 'infinity', id: Number.MAX_SAFE_INTEGER } });
  assert.equal(readPage({ limit: 100 }).limit, 100);
  assert.equal(readPage({ limit: 101 }).limit, 100);
});

test('fields leave the rest out, in the order asked', () => {
  const [item] = asPage([{ id: 1, status: 'paid', cursor_at: 'x' }], 1, ['status', 'id']).items;
  assert.deepEqual(Object.entries(item), [
    ['status', 'paid'],
    ['id', 1],
  ]);
});

test('a cursor of no list is refused', () => {
  const encoded = (plain) => Buffer.from(plain).toString('base64url');
  for (const cursor of [
    '',
    'x',
    encoded('2025-02-31T00:00:00.000000Z,1'),
    encoded('2025-02-01T00:00:00.000000Z,-1'),
    encoded('infinity,1'),
  ]) {
    assert.throws(() => readPage({ cursor }), withStatus(400, 'invalid_cursor'), cursor);
  }
});

test('query parameters become what their schema says, or are refused', () => {
  const read = queryReader({
    n: { type: 'integer', minimum: 1 },
    on: { type: 'boolean' },
    list: list({ enum: ['a', 'b'] }, { most: 2 }),
    day: date,
  });
  const of = (query) => read(new URLSearchParams(query));
  assert.deepEqual(of('n=5&on=false&list=a,b&day=2024-02-29'), { n: 5, on: false, list: ['a', 'b'], day: '2024-02-29' });
  assert.deepEqual(of(''), {});
  for (const wrong of [
    'n=0',
    'n=1e1',
    'n=+1',
    'n=1.0',
    'n=',
    'n=1&n=1',
    'on=1',
    'list=c',
    'list=',
    'day=2025-02-29',
    'day=25-1-1',
    'x=1',
    '__proto__=1',
    'constructor=1',
  ]) {
    assert.throws(() => of(wrong), withStatus(400, 'invalid_query'), wrong);
  }
});

test('text is something other than blanks, not too much of it, and whole characters', () => {
  const check = checker(object({ text: text(5) }));
  for (const good of ['a', ' a ', 'åæø', '💚💚💚💚💚', 'a\nb']) assert.equal(check({ text: good }), undefined, good);
  for (const bad of ['', ' ', '\n', 'a\0b', 'sekser', '\ud800', 'a\udc00', 5, null])
    assert.throws(() => check({ text: bad }), withStatus(422, 'invalid'), String(bad));
});

test('what is wrong with a body is named', () => {
  const check = checker(object({ items: list(object({ quantity: { type: 'integer', maximum: 20 } }), { least: 1, most: 2 }) }));
  const problem = (value) => {
    try {
      return check(value);
    } catch (error) {
      return [error.message, error.details[0].path];
    }
  };
  assert.deepEqual(problem({ items: [{ quantity: 1 }, { quantity: 21 }] }), [
    'The body: items/1/quantity must be <= 20.',
    'items/1/quantity',
  ]);
  assert.deepEqual(problem({ items: [{ quantity: 1 }], role: 'admin' }), ['The body must not have "role".', '']);
  assert.deepEqual(problem({}), ["The body must have required property 'items'.", '']);
});

test('what is typed into a search box becomes a number or whole words, and nothing else', () => {
  assert.deepEqual(readSearch(undefined), { number: null, words: null });
  assert.deepEqual(readSearch(' #42 '), { number: 42, words: null });
  assert.deepEqual(readSearch('Kari ØDE'), { number: null, words: 'Kari:* & ØDE:*' });
  assert.deepEqual(readSearch("o'neil | !x:* & (y)"), { number: null, words: 'o:* & neil:* & x:* & y:*' });
  assert.deepEqual(readSearch('!!'), { number: null, words: '' });
  assert.deepEqual(readSearch('0'), { number: null, words: '0:*' });
});

test('roles: each may what the one below may', () => {
  const allowed = (least, role) => {
    try {
      demand(least, role && { role });
      return true;
    } catch (error) {
      return error.status;
    }
  };
  const table = ['anybody', 'user', 'official', 'admin'].map((least) =>
    [null, 'user', 'official', 'admin'].map((role) => allowed(least, role)),
  );
  assert.deepEqual(table, [
    [true, true, true, true],
    [401, true, true, true],
    [401, 403, true, true],
    [401, 403, 403, true],
  ]);
});

test('a list is of one’s own unless one sees all', () => {
  const user = { id: 7, role: 'user' };
  const official = { id: 8, role: 'official' };
  assert.deepEqual([ownerFilter(user), ownerFilter(user, 7), ownerFilter(official), ownerFilter(official, 7)], [7, 7, null, 7]);
  assert.throws(() => ownerFilter(user, 8), withStatus(403, 'forbidden'));
  assert.deepEqual([seesAll(user), seesAll(official)], [false, true]);
});

test('a password is known again, in whichever way its letters were typed, and no other is', async () => {
  const stored = await hashPassword('blå\u030a bil');
  assert.match(stored, /^scrypt\$16384\$8\$5\$[\w-]{22}\$[\w-]{43}$/);
  assert.equal(await isPassword('blå\u030a bil', stored), true);
  assert.equal(await isPassword('blå\u030a bil'.normalize('NFD'), stored), true);
  assert.equal(await isPassword('blå bil', stored), false);
  assert.notEqual(await hashPassword('blå\u030a bil'), stored); // a salt of its own
  assert.equal(await isPassword('anything', null), false);
});

test('very many at once wait for their turn, and too many are told to come back', async () => {
  const stored = await hashPassword('x');
  const results = await Promise.allSettled(Array.from({ length: 110 }, (_, index) => isPassword(index % 2 ? 'x' : 'y', stored)));
  const refused = results.filter(({ status }) => status === 'rejected');
  assert.equal(refused.length, 8); // two at work, a hundred waiting
  assert.ok(refused.every(({ reason: error }) => error.status === 503 && error.headers['retry-after'] === '5'));
  results.forEach(({ status, value }, index) => status === 'fulfilled' && assert.equal(value, index % 2 === 1));
});

test('attempts are counted by account and address, and forgiven after the right password', async () => {
  const attempts = new Attempts(new Cache(null, silent));
  for (let time = 0; time < 10; time += 1) await attempts.note('A@x.example', '192.0.2.1');
  await assert.rejects(attempts.note('a@X.example', '192.0.2.1'), withStatus(429, 'too_many_attempts'));
  const forgive = await attempts.note('a@x.example', '192.0.2.2');
  await forgive();
  for (let time = 0; time < 10; time += 1) await attempts.note('a@x.example', '192.0.2.2');
  await assert.rejects(attempts.note('a@x.example', '192.0.2.2'), withStatus(429, 'too_many_attempts'));
});

test('an address that tries many accounts is stopped too', async () => {
  const attempts = new Attempts(new Cache(null, silent));
  for (let time = 0; time < 100; time += 1) await attempts.note(`u${time}@x.example`, '192.0.2.1');
  await assert.rejects(attempts.note('another@x.example', '192.0.2.1'), withStatus(429, 'too_many_attempts'));
});

test('however many sign in rightly from one address, none is stopped', async () => {
  const attempts = new Attempts(new Cache(null, silent));
  for (let time = 0; time < 300; time += 1) {
    const forgive = await attempts.note(`u${time % 2}@x.example`, '192.0.2.1');
    await forgive();
  }
});

test('a customer of IPv6 is one network, however many addresses they use', async () => {
  assert.equal(networkOf('192.0.2.1'), '192.0.2.1');
  assert.equal(networkOf('::ffff:192.0.2.1'), '::ffff:192.0.2.1');
  assert.equal(networkOf('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2::/64');
  assert.equal(networkOf('2001:db8::6'), '2001:db8:0:0::/64');
  assert.equal(networkOf('::1'), '0:0:0:0::/64');
  const attempts = new Attempts(new Cache(null, silent));
  for (let time = 0; time < 10; time += 1) await attempts.note('a@x.example', `2001:db8::${time}`);
  await assert.rejects(attempts.note('a@x.example', '2001:db8::abcd'), withStatus(429, 'too_many_attempts'));
});

test('an account is guarded against guesses from everywhere', async () => {
  const attempts = new Attempts(new Cache(null, silent));
  for (let time = 0; time < 200; time += 1) await attempts.note('a@x.example', `192.0.2.${time}`);
  await assert.rejects(attempts.note('a@x.example', '198.51.100.1'), withStatus(429, 'too_many_attempts'));
});

test('a write needs the token of its session, and no other site', () => {
  const session = { csrfToken: 'abc' };
  const ask = (headers, who = session) => demandSameSite({ headers }, who);
  ask({ 'x-csrf-token': 'abc' });
  ask({ 'x-csrf-token': 'abc', 'sec-fetch-site': 'same-origin' });
  ask({}, null);
  for (const headers of [
    {},
    { 'x-csrf-token': 'abd' },
    { 'x-csrf-token': 'abcd' },
    { 'x-csrf-token': 'abc', 'sec-fetch-site': 'cross-site' },
  ]) {
    assert.throws(() => ask(headers), withStatus(403, 'csrf'));
  }
  assert.match(cookieFor({ token: 't' }), /^__Host-lisens=t; .*Secure; HttpOnly; SameSite=Lax/);
});

const season = (more) => ({ discipline: 'bilcross', age: 30, races: 10, mechanics: 0, ...more });

test('which licences a season takes', () => {
  const kinds = (more) => licencesFor(season(more)).map(({ licence_kind, quantity }) => `${quantity} ${licence_kind}`);
  assert.deepEqual(kinds({}), ['1 helarslisens']);
  assert.deepEqual(kinds({ races: 4 }), ['4 engangslisens']);
  assert.deepEqual(kinds({ races: 5 }), ['1 helarslisens']);
  assert.deepEqual(kinds({ age: 10 }), ['1 barnelisens']);
  assert.deepEqual(kinds({ age: 17, discipline: 'rally', mechanics: 2 }), ['1 ungdomslisens', '1 kartleser', '2 mekaniker']);
});

test('the model answers where it can be believed, else the rule', () => {
  const model = readModel(new URL('..', import.meta.url), silent);
  for (const discipline of ['rally', 'rallycross', 'bilcross', 'karting']) {
    for (const age of [5, 10, 11, 17, 18, 99]) {
      for (const races of [1, 4, 5, 40]) {
        const { source, estimate_ore, low_ore, high_ore, model: name } = estimate(model, season({ discipline, age, races, mechanics: 1 }));
        assert.ok(low_ore < estimate_ore && estimate_ore < high_ore && low_ore > 0);
        assert.deepEqual([source, name], ['model', 'season-cost 2026.1'], `${discipline} ${age} ${races}`);
      }
    }
  }
  const rule = estimate(null, season());
  assert.deepEqual([rule.source, rule.model, rule.estimate_ore, rule.low_ore, rule.high_ore], ['rule', null, 145_000, 109_000, 181_000]);
  for (const broken of [
    { ...model, intercept: 1e12 },
    { ...model, intercept: -1e12 },
    { ...model, intercept: NaN },
  ]) {
    assert.equal(estimate(broken, season()).source, 'rule');
  }
});

test('a model that is missing or damaged is a warning', () => {
  const warnings = [];
  assert.equal(readModel(new URL('file:///nowhere/'), { warn: (message) => warnings.push(message) }), null);
  assert.equal(warnings.length, 1);
});

test('a total is whole øre', () => {
  assert.equal(
    totalOf([
      { unit_price_ore: 34_990, quantity: 3 },
      { unit_price_ore: 1, quantity: 1 },
    ]),
    104_971,
  );
});

test('every operation is in the OpenAPI document, with the roles and errors it has', () => {
  const { paths, components } = openApi(operations, { version: '1' });
  const described = Object.values(paths).flatMap((path) => Object.values(path));
  assert.deepEqual(described.map((each) => each.operationId).sort(), operations.map((each) => each.id).sort());
  const byId = Object.fromEntries(described.map((each) => [each.operationId, each]));
  assert.deepEqual(byId.checkout.security, [{ session: [], csrf: [] }]);
  assert.deepEqual(byId.listOrders.security, [{ session: [] }]);
  assert.deepEqual(byId.estimateSeason.security, []);
  assert.deepEqual(Object.keys(byId.checkout.responses), ['201', '400', '401', '403', '409', '413', '415', '422', '503']);
  assert.deepEqual(
    byId.listOrders.parameters.map((each) => each.name),
    ['limit', 'cursor', 'fields', 'total', 'q', 'status', 'user_id', 'from', 'to'],
  );
  assert.ok(components.schemas.Error);
});

test('configuration: defaults, and a sentence for what is wrong', () => {
  const config = readConfig({ DATABASE_URL: 'postgres://localhost/shop' });
  assert.deepEqual([config.host, config.port, config.redisUrl, config.seedOrders, config.demoPassword], ['127.0.0.1', 3000, null, 0, null]);
  for (const wrong of [
    {},
    { DATABASE_URL: 'x', PORT: 'eighty' },
    { DATABASE_URL: 'x', PORT: '70000' },
    { DATABASE_URL: 'x', SEED_ORDERS: '-1' },
  ]) {
    assert.throws(
      () => readConfig(wrong),
      (error) => error instanceof ConfigError && /; set it to /.test(error.message),
    );
  }
});

test('a deadline ends the wait, and a result in time passes through', async () => {
  assert.equal(await withDeadline(Promise.resolve(7), 1_000, 'seven'), 7);
  await assert.rejects(withDeadline(Promise.reject(new Error('no')), 1_000, 'it'), /^Error: no$/);
  await assert.rejects(withDeadline(new Promise(() => {}), 10, 'it'), (error) => error instanceof DeadlineExceeded);
});

test('a cache without Redis is one that never holds anything', async () => {
  const cache = new Cache(null, silent);
  assert.equal(await cache.put('key', 1, 60), true);
  await cache.fill('key', 1, 60);
  await cache.uncount('key');
  assert.equal(await cache.get('key'), null);
  assert.equal(await cache.count('key', 60), null);
  assert.equal(await cache.drop(['key']), true);
  await assert.rejects(cache.checkHealth(), /REDIS_URL is not set/);
});

test('a reason keeps message, code and cause, and no stack', () => {
  const error = Object.assign(new Error('outer', { cause: new Error('inner') }), { code: 'E1' });
  assert.deepEqual(JSON.parse(JSON.stringify(reason(error))), { message: 'outer', code: 'E1', cause: { message: 'inner' } });
});

test('spans go to whom the environment names, with statements beneath their request', async () => {
  const sent = [];
  const server = createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      sent.push({ url: request.url, authorization: request.headers.authorization, body: JSON.parse(Buffer.concat(parts)) });
      response.end('{}');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { spans: target } = readConfig({
    DATABASE_URL: 'x',
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${server.address().port}/`,
    OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20abc',
    OTEL_SERVICE_NAME: 'api',
    OTEL_RESOURCE_ATTRIBUTES: 'service.version=1,broken',
  });
  const spans = new Spans(target, silent);
  const trace = '0192a3b4c5d67123456789abcdef0123';
  let asked;
  await spans.request(`00-${trace}-456789abcdef0123-01`, { 'url.path': '/a' }, async (span) => {
    span.name = 'GET /a';
    await statement(' SELECT $1', async (text) => (asked = text));
    await assert.rejects(statement('UPDATE x', () => Promise.reject(new Error('refused'))));
  });
  await spans.close();
  server.close();
  const [{ url, authorization, body }] = sent;
  assert.deepEqual([url, authorization], ['/v1/traces', 'Bearer abc']);
  const [{ resource, scopeSpans }] = body.resourceSpans;
  assert.deepEqual(Object.fromEntries(resource.attributes.map(({ key, value }) => [key, value.stringValue])), {
    'service.name': 'api',
    'service.version': '1',
  });
  const [select, update, request] = scopeSpans[0].spans;
  assert.equal(asked, ` SELECT $1 /*traceparent='00-${trace}-${select.spanId}-01'*/`);
  assert.deepEqual([request.traceId, request.parentSpanId, select.parentSpanId], [trace, '456789abcdef0123', request.spanId]);
  assert.deepEqual([update.name, update.status.message], ['UPDATE', 'refused']);
  assert.ok(BigInt(request.startTimeUnixNano) <= BigInt(select.startTimeUnixNano));
});

test('without anybody to send to there are no spans, and one who does not answer holds nothing up', async () => {
  assert.equal(readConfig({ DATABASE_URL: 'x' }).spans, null);
  const plain = await new Spans(null, silent).request(undefined, {}, () => statement('SELECT 1', async (text) => text));
  assert.equal(plain, 'SELECT 1');
  const warnings = [];
  const spans = new Spans({ url: 'http://127.0.0.1:9/', headers: {}, service: 'x', resource: {} }, { warn: (said) => warnings.push(said) });
  for (let turn = 0; turn < 2; turn += 1) {
    await spans.request(undefined, {}, async () => {});
    await spans.send();
  }
  await spans.request('00-0192a3b4c5d67123456789abcdef0123-456789abcdef0123-00', {}, () =>
    statement('SELECT 1', async (text) => assert.equal(text, 'SELECT 1')),
  );
  assert.deepEqual(warnings, ['spans are not taken']);
  await spans.close();
});
