// The parts that need no database.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Cache } from '../src/cache.js';
import { ConfigError, readConfig } from '../src/config.js';
import { DeadlineExceeded, withDeadline } from '../src/deadline.js';
import { reason } from '../src/log.js';
import { asPage, readId, readPage } from '../src/pagination.js';

const query = (text) => new URLSearchParams(text);

test('a page names the row after which the next one starts, to the microsecond', () => {
  const rows = [3, 2, 1].map((id) => ({ id, cursor_at: `2025-06-30T12:00:00.00000${id}Z` }));
  const { items, next } = asPage(rows, 2);
  assert.deepEqual(items, [{ id: 3 }, { id: 2 }]);
  assert.deepEqual(readPage(query(`limit=2&cursor=${next}`)), { limit: 2, after: { created_at: '2025-06-30T12:00:00.000002Z', id: 2 } });
});

test('the last page has no next, and an empty list is a page', () => {
  assert.equal(asPage([{ id: 1, cursor_at: '2025-06-30T12:00:00.000001Z' }], 1).next, null);
  assert.deepEqual(asPage([], 20), { items: [], next: null });
});

test('without a cursor the walk starts before the newest row', () => {
  assert.deepEqual(readPage(query('')), { limit: 20, after: { created_at: 'infinity', id: Number.MAX_SAFE_INTEGER } });
});

test('an id is a positive whole number that fits', () => {
  assert.deepEqual(['1', '42'].map(readId), [1, 42]);
  assert.deepEqual(['0', '-1', '1.5', '01', '', 'x', '9'.repeat(16)].map(readId), Array(7).fill(null));
});

test('configuration: defaults, and a sentence for what is wrong', () => {
  const config = readConfig({ DATABASE_URL: 'postgres://localhost/shop' });
  assert.deepEqual([config.host, config.port, config.redisUrl, config.seedOrders], ['127.0.0.1', 3000, null, 100_000]);
  for (const wrong of [{}, { DATABASE_URL: 'x', PORT: 'eighty' }, { DATABASE_URL: 'x', PORT: '70000' }, { DATABASE_URL: 'x', SEED_ORDERS: '-1' }]) {
    assert.throws(() => readConfig(wrong), (error) => error instanceof ConfigError && /; set it to /.test(error.message));
  }
});

test('a deadline ends the wait, and a result in time passes through', async () => {
  assert.equal(await withDeadline(Promise.resolve(7), 1_000, 'seven'), 7);
  await assert.rejects(withDeadline(Promise.reject(new Error('no')), 1_000, 'it'), /^Error: no$/);
  await assert.rejects(withDeadline(new Promise(() => {}), 10, 'it'), (error) => error instanceof DeadlineExceeded);
});

test('a cache without Redis is one that never holds anything', async () => {
  const cache = new Cache(null, { info() {}, warn() {} });
  await cache.put('key', 1, 60);
  assert.equal(await cache.get('key'), null);
  await assert.rejects(cache.checkHealth(), /REDIS_URL is not set/);
});

test('a reason keeps message, code and cause, and no stack', () => {
  const error = Object.assign(new Error('outer', { cause: new Error('inner') }), { code: 'E1' });
  assert.deepEqual(JSON.parse(JSON.stringify(reason(error))), { message: 'outer', code: 'E1', cause: { message: 'inner' } });
});
