// The queue of writes and the worker's parts, in node: a real server answers, only what node has not got (IndexedDB,
// the Cache API, the Web Locks API) is a small stand-in.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, beforeEach, describe, test } from 'node:test';
import { createAnswers } from '../web/src/offline/answers.js';
import { createImages } from '../web/src/offline/images.js';
import { createQueue, backoff, outcome, retryAfter } from '../web/src/offline/queue.js';
import { kindOf } from '../web/src/offline/routes.js';
import { createShell } from '../web/src/offline/shell.js';
import { isOff } from '../web/src/offline/switch.js';

let server;
let base;
let answers; // (request, body) -> { status, headers, body } or 'hang up'
const seen = [];

before(async () => {
  server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const call = { method: request.method, path: request.url, headers: request.headers, body: text ? JSON.parse(text) : null };
    seen.push(call);
    const { status = 200, headers = {}, body = '', cut } = (await answers(call)) ?? {};
    if (cut) return void request.socket.destroy();
    response.writeHead(status, { 'content-type': typeof body === 'string' ? 'text/html' : 'application/json', ...headers });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${server.address().port}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => void (seen.length = 0));

const ask = (target, options) => fetch(typeof target === 'string' ? new URL(target, base) : target, options);

function memory() {
  const records = new Map();
  let last = 0;
  return {
    add: async (record) => (records.set(++last, { ...record, id: last }), last),
    all: async () => [...records.values()].map((record) => structuredClone(record)),
    remove: async (id) => void records.delete(id),
    update: async (id, changes) => void (records.has(id) && records.set(id, { ...records.get(id), ...changes })),
  };
}

function locks() {
  let last = Promise.resolve();
  return (work) => {
    const mine = last.then(work);
    last = mine.catch(() => {});
    return mine;
  };
}

/** A shop that keeps one order per key, as the real one does. */
function shop({ user = { id: 7 } } = {}) {
  const orders = new Map();
  const state = { user, token: 'token', orders, troubles: [] };
  answers = (call) => {
    if (call.path === '/api/session') return { body: state.user ? { user: state.user, csrf_token: state.token } : { user: null } };
    const trouble = state.troubles.shift();
    if (trouble && !trouble.after) return trouble;
    if (call.headers['x-csrf-token'] !== state.token) return { status: 403, body: { error: 'csrf', message: 'no' } };
    const key = call.headers['idempotency-key'];
    if (!orders.has(key)) orders.set(key, { id: orders.size + 1, ...call.body });
    return trouble ?? { status: 201, body: orders.get(key) };
  };
  return state;
}

function clock() {
  let time = Date.parse('2026-06-01T12:00:00Z');
  return { now: () => time, pass: (ms) => (time += ms) };
}

const purchase = { path: '/api/checkout', body: { items: [] }, userId: 7, label: 'one' };

function queueWith(options = {}) {
  const synced = [];
  const time = clock();
  const store = options.store ?? memory();
  const queue = createQueue({
    store,
    fetch: ask,
    lock: locks(),
    now: time.now,
    random: () => 1,
    synced: (write) => synced.push(write),
    ...options,
  });
  return { queue, store, synced, time };
}

const posts = () => seen.filter((call) => call.method === 'POST');

describe('queue', () => {
  test('sends in order, with key and token, and tells of each', async () => {
    const state = shop();
    const { queue, synced } = queueWith();
    const keys = [];
    for (const label of ['one', 'two', 'three']) keys.push((await queue.enqueue({ ...purchase, label, body: { label } })).idempotencyKey);
    assert.equal(new Set(keys).size, 3);
    assert.deepEqual(await queue.flush(), { sent: 3, next: null });
    assert.deepEqual(
      [...state.orders.values()].map((order) => order.label),
      ['one', 'two', 'three'],
    );
    assert.deepEqual([...state.orders.keys()], keys);
    assert.deepEqual(
      synced.map((write) => [write.label, write.answer.id]),
      [
        ['one', 1],
        ['two', 2],
        ['three', 3],
      ],
    );
    assert.deepEqual(await queue.all(), []);
  });

  test('what arrived without an answer is sent again with the same key, and is one order', async () => {
    const state = shop();
    state.troubles.push({ after: true, cut: true });
    const { queue, time } = queueWith();
    await queue.enqueue(purchase);
    const { sent, next } = await queue.flush();
    assert.equal(sent, 0);
    assert.equal((await queue.all())[0].state, 'waiting');
    time.pass(next);
    assert.equal((await queue.flush()).sent, 1);
    assert.equal(posts().length, 2);
    assert.equal(state.orders.size, 1);
  });

  test('a page that dies between the answer and the deletion: the next one sends it again, one order', async () => {
    const state = shop();
    const kept = memory();
    const dying = { ...kept, remove: () => Promise.reject(new Error('gone')) };
    const first = queueWith({ store: dying });
    await first.queue.enqueue(purchase);
    await assert.rejects(first.queue.flush());
    assert.equal((await kept.all())[0].state, 'sending');
    assert.equal((await queueWith({ store: kept }).queue.flush()).sent, 1);
    assert.equal(state.orders.size, 1);
    assert.deepEqual(await kept.all(), []);
  });

  test('two tabs at once: each write is sent once; without a lock it is still one order each', async () => {
    const state = shop();
    const lock = locks();
    const store = memory();
    const tabs = [queueWith({ store, lock }), queueWith({ store, lock })];
    for (let i = 0; i < 5; i += 1) await tabs[i % 2].queue.enqueue(purchase);
    await Promise.all(tabs.map(({ queue }) => queue.flush()));
    assert.equal(posts().length, 5);
    assert.equal(state.orders.size, 5);

    for (let i = 0; i < 5; i += 1) await tabs[0].queue.enqueue(purchase);
    await Promise.all(
      [queueWith({ store, lock: (work) => work() }), queueWith({ store, lock: (work) => work() })].map(({ queue }) => queue.flush()),
    );
    assert.equal(state.orders.size, 10);
    assert.deepEqual(await store.all(), []);
  });

  test('only for whoever queued it; others wait, and stop nobody', async () => {
    const state = shop();
    const { queue } = queueWith();
    await queue.enqueue({ ...purchase, userId: 8, label: 'theirs' });
    await queue.enqueue(purchase);
    assert.equal((await queue.flush()).sent, 1);
    assert.deepEqual(
      (await queue.all()).map((record) => [record.label, record.state]),
      [['theirs', 'waiting']],
    );
    state.user = null;
    assert.deepEqual(await queue.flush(), { sent: 0, next: null });
    state.user = { id: 8 };
    assert.equal((await queue.flush()).sent, 1);
  });

  test('a token that has changed is fetched again; a person who has changed stops it', async () => {
    const state = shop();
    const { queue } = queueWith();
    await queue.enqueue(purchase);
    state.troubles.push({ status: 403, body: { error: 'csrf' } });
    assert.equal((await queue.flush()).sent, 1);

    await queue.enqueue(purchase);
    const before = answers;
    answers = (call) => {
      const answer = before(call);
      if (call.path === '/api/session') Object.assign(state, { user: { id: 8 }, token: 'of another' });
      return answer;
    };
    assert.equal((await queue.flush()).sent, 0);
    assert.equal((await queue.all())[0].state, 'waiting');
    assert.equal(state.orders.size, 1);
  });

  test('a refusal stays to be seen, and does not hold up the rest', async () => {
    const state = shop();
    state.troubles.push({ status: 409, body: { error: 'sold_out', message: 'no places', request_id: 'r1' } });
    const { queue } = queueWith();
    const { id } = await queue.enqueue(purchase);
    await queue.enqueue({ ...purchase, label: 'two' });
    assert.deepEqual(await queue.flush(), { sent: 1, next: null });
    const [failed] = await queue.all();
    assert.equal(failed.state, 'failed');
    assert.deepEqual([failed.status, failed.error, failed.message, failed.requestId], [409, 'sold_out', 'no places', 'r1']);
    await queue.discard(id);
    assert.deepEqual(await queue.all(), []);
  });

  test('trouble at the server: waits longer each time, as long as it asks for, and the order stays', async () => {
    const state = shop();
    const { queue, time } = queueWith();
    await queue.enqueue(purchase);
    await queue.enqueue({ ...purchase, label: 'two' });
    state.troubles.push({ status: 503 }, { status: 503 }, { status: 429, headers: { 'retry-after': '30' } });
    assert.deepEqual(await queue.flush(), { sent: 0, next: 2_000 });
    assert.deepEqual(await queue.flush(), { sent: 0, next: 2_000 });
    assert.equal(posts().length, 1, 'not before its time');
    assert.deepEqual(await queue.flush({ force: true }), { sent: 0, next: 4_000 }, 'unless somebody asks');
    time.pass(4_000);
    assert.deepEqual(await queue.flush(), { sent: 0, next: 30_000 });
    assert.deepEqual(await queue.flush({ force: true }), { sent: 0, next: 30_000 }, 'what the server asked for is kept');
    assert.equal(posts().length, 3);
    time.pass(30_000);
    assert.equal((await queue.flush()).sent, 2);
    assert.deepEqual(
      posts()
        .slice(-2)
        .map((call) => call.headers['idempotency-key']).length,
      2,
    );
  });

  test('nobody to ask, or only the memory of the worker: nothing is sent, and it comes back', async () => {
    shop();
    const { queue } = queueWith();
    await queue.enqueue(purchase);
    answers = () => ({ cut: true });
    const first = await queue.flush();
    assert.equal(first.sent, 0);
    assert.ok(first.next > 0);
    answers = () => ({ headers: { 'x-lisens-cached-at': '2026-01-01T00:00:00Z' }, body: { user: { id: 7 }, csrf_token: 'old' } });
    assert.ok((await queue.flush()).next > first.next);
    assert.equal(posts().length, 0);
  });

  test('signed out in between: it waits for the person', async () => {
    const state = shop();
    state.troubles.push({ status: 401, body: { error: 'not_signed_in' } });
    const { queue } = queueWith();
    await queue.enqueue(purchase);
    assert.deepEqual(await queue.flush(), { sent: 0, next: null });
    assert.equal((await queue.all())[0].state, 'waiting');
  });

  test('what it makes of answers', () => {
    const of = (statuses, code) => statuses.map((status) => outcome(status, code));
    assert.deepEqual(of([200, 201, 204]), ['done', 'done', 'done']);
    assert.deepEqual(of([400, 404, 409, 413, 415, 422]), Array(6).fill('refused'));
    assert.deepEqual(of([408, 429, 500, 502, 503, 504]), Array(6).fill('later'));
    assert.deepEqual([outcome(401), outcome(403, 'csrf'), outcome(403, 'forbidden')], ['signed-out', 'csrf', 'refused']);
    assert.deepEqual(
      [0, 1, 2, 3].map((n) => backoff(n, () => 1)),
      [2_000, 4_000, 8_000, 16_000],
    );
    assert.equal(
      backoff(99, () => 1),
      300_000,
    );
    assert.equal(
      backoff(0, () => 0),
      1_000,
    );
    const now = Date.parse('2026-06-01T12:00:00Z');
    assert.deepEqual(
      ['3', 'Mon, 01 Jun 2026 12:00:09 GMT', 'soon', null, '-5'].map((value) => retryAfter(value, now)),
      [3_000, 9_000, 0, 0, 0],
    );
  });
});

/** The Cache API, as far as it is used here: the order is that of writing. */
function cacheStorage() {
  const all = new Map();
  const address = (target) => new URL(typeof target === 'string' ? target : target.url, base).href;
  const cacheOf = () => {
    const entries = new Map();
    return {
      match: async (target) => entries.get(address(target))?.clone(),
      put: async (target, answer) => (entries.delete(address(target)), void entries.set(address(target), answer)),
      delete: async (target) => entries.delete(address(target)),
      keys: async () => [...entries.keys()].map((url) => new Request(url)),
    };
  };
  return {
    open: async (name) => all.get(name) ?? (all.set(name, cacheOf()), all.get(name)),
    delete: async (name) => all.delete(name),
    keys: async () => [...all.keys()],
    async match(target, { cacheName } = {}) {
      for (const [name, cache] of all) {
        const found = (!cacheName || cacheName === name) && (await cache.match(target));
        if (found) return found;
      }
    },
  };
}

const offline = () => Promise.reject(new TypeError('no network'));

describe('worker', () => {
  test('what it touches', () => {
    const of = (url, more) =>
      kindOf({ method: 'GET', mode: 'cors', destination: '', url: `https://shop.example${url}`, ...more }, 'https://shop.example');
    for (const url of [
      '/api/orders',
      '/api/orders?limit=20',
      '/api/orders/42',
      '/api/licences?q=a',
      '/api/users/3',
      '/api/licence-kinds',
      '/api/session',
    ])
      assert.equal(of(url), 'api', url);
    for (const url of [
      '/healthz',
      '/livez',
      '/openapi.json',
      '/api/version',
      '/api/ordersX',
      '/api/estimate',
      '/sw.js',
      '/sw-off.json',
      '/assets/a-1.js.map',
    ])
      assert.equal(of(url), null, url);
    assert.equal(of('/api/orders', { method: 'POST' }), null);
    assert.equal(of('/', { method: 'POST', mode: 'navigate' }), null);
    assert.equal(of('/orders/42', { mode: 'navigate' }), 'page');
    assert.equal(of('/api/orders', { mode: 'navigate' }), null);
    assert.equal(of('/assets/index-12.js'), 'asset');
    assert.equal(of('/images/hero-960.avif', { destination: 'image' }), 'image');
    assert.equal(kindOf({ method: 'GET', mode: 'cors', url: 'https://elsewhere.example/api/orders' }, 'https://shop.example'), null);
  });

  const get = (path, options) => new Request(new URL(path, base), options);

  test('answers: the network first, then the last one with its time; nothing but 200 is kept', async () => {
    const caches = cacheStorage();
    let through = ask;
    const worker = createAnswers({ caches, fetch: (...args) => through(...args), now: () => Date.parse('2026-06-01T12:00:00Z') });
    answers = () => ({ body: { orders: [1] } });
    const fresh = await worker.answer(get('/api/orders'));
    assert.equal(fresh.headers.get('x-lisens-cached-at'), null);
    await worker.settled();
    answers = () => ({ status: 503, body: { error: 'database_unavailable' } });
    const unavailable = await worker.answer(get('/api/orders'));
    assert.equal(unavailable.headers.get('x-lisens-cached-at'), '2026-06-01T12:00:00.000Z');
    assert.equal((await worker.answer(get('/api/licences'))).status, 503);
    answers = () => ({ status: 404, body: { error: 'not_found' } });
    assert.equal((await worker.answer(get('/api/orders'))).status, 404);
    await worker.settled();
    through = offline;
    const kept = await worker.answer(get('/api/orders'));
    assert.deepEqual(await kept.json(), { orders: [1] });
    await assert.rejects(worker.answer(get('/api/licences')));
    await assert.rejects(worker.answer(get('/api/orders', { cache: 'no-store' })));
  });

  test('answers: a server that says nothing is not waited for', async () => {
    const caches = cacheStorage();
    const worker = createAnswers({ caches, fetch: ask, limit: 30 });
    answers = () => ({ body: { orders: [1] } });
    await worker.answer(get('/api/orders'));
    await worker.settled();
    let release;
    answers = () => new Promise((resolve) => (release = () => resolve({ body: { orders: [2] } })));
    assert.deepEqual(await (await worker.answer(get('/api/orders'))).json(), { orders: [1] });
    release();
  });

  test('answers: bounded, the first pages and the session stay longest', async () => {
    const caches = cacheStorage();
    const worker = createAnswers({ caches, fetch: ask, most: 6 });
    answers = ({ path }) => ({ body: path === '/api/session' ? { user: { id: 7 } } : {} });
    for (const path of ['/api/session', '/api/licence-kinds', '/api/orders']) await worker.answer(get(path));
    for (let i = 0; i < 20; i += 1) await worker.answer(get(`/api/orders?cursor=${i}`));
    for (let i = 0; i < 3; i += 1) await worker.answer(get(`/api/orders/${i}`));
    await worker.settled();
    const keys = await (await caches.open('lisens-api')).keys();
    const paths = keys.map(({ url }) => url.slice(base.length));
    assert.deepEqual(paths, ['/api/session', '/api/licence-kinds', '/api/orders', '/api/orders/0', '/api/orders/1', '/api/orders/2']);
  });

  test('answers: another user, or none, does not see them; what was on its way is not kept either', async () => {
    const caches = cacheStorage();
    const worker = createAnswers({ caches, fetch: ask });
    let user = { id: 7 };
    let hold; // eslint-disable-line prefer-const -- the answers above look at it before it is made
    answers = ({ path }) => (path === '/api/session' ? { body: { user } } : (hold?.promise ?? { body: { orders: [] } }));
    const urls = async () => (await (await caches.open('lisens-api')).keys()).map(({ url }) => url.slice(base.length));
    await worker.answer(get('/api/orders'));
    await worker.settled();
    assert.deepEqual(await urls(), ['/api/session', '/api/orders'], 'the session is asked for when it is not known');
    user = null;
    await worker.answer(get('/api/session'));
    await worker.settled();
    assert.deepEqual(await urls(), ['/api/session']);

    hold = {};
    hold.promise = new Promise((resolve) => (hold.go = () => resolve({ body: { orders: [1] } })));
    const slow = worker.answer(get('/api/orders'));
    await worker.forget();
    hold.go();
    await slow;
    await worker.settled();
    assert.deepEqual(await urls(), []);
  });

  test('shell: all or nothing, offline from the cache, the version before is kept', async () => {
    const caches = cacheStorage();
    const page = { old: '<script src="/assets/index-1.js">', new: '<script src="/assets/index-2.js">' };
    let served = page.old;
    answers = ({ path }) => (path === '/assets/gone.js' ? { status: 404 } : { body: path === '/' ? served : `of ${path}` });
    const manifest = (version, n) => ({
      version,
      entry: `/assets/index-${n}.js`,
      shell: [`/assets/index-${n}.js`],
      lazy: [`/assets/lazy-${n}.js`],
    });
    let through = ask;
    const shellOf = (of) => createShell({ caches, fetch: (...args) => through(...args), manifest: of });
    const first = shellOf(manifest('a', 1));
    await first.install();
    await first.warm();
    await assert.rejects(shellOf({ ...manifest('x', 1), shell: ['/assets/gone.js'] }).install());
    await caches.delete('lisens-shell-x');
    await assert.rejects(shellOf(manifest('b', 2)).install(), /another version/);
    served = page.new;
    const second = shellOf(manifest('b', 2));
    await second.install();
    await second.tidy();
    assert.equal(await (await second.page(get('/'))).text(), page.new);
    through = offline;
    assert.equal(await (await second.page(get('/orders/42'))).text(), page.new);
    assert.equal(await (await second.asset(get('/assets/index-2.js'))).text(), 'of /assets/index-2.js');
    assert.equal(await (await second.asset(get('/assets/lazy-1.js'))).text(), 'of /assets/lazy-1.js', 'an old page finds its chunks');
    await assert.rejects(second.asset(get('/assets/lazy-2.js')));

    through = ask;
    answers = () => ({ status: 502, body: 'bad gateway' });
    assert.equal(await (await second.page(get('/'))).text(), page.new);

    served = '<script src="/assets/index-3.js">';
    answers = ({ path }) => ({ body: path === '/' ? served : `of ${path}` });
    const third = shellOf(manifest('c', 3));
    await third.install();
    await third.tidy();
    assert.deepEqual(await caches.keys(), ['lisens-shell-b', 'lisens-shell-c']);

    // The switch has taken everything, and the browser has brought the worker back.
    await caches.delete('lisens-shell-c');
    through = offline;
    await third.warm();
    await assert.rejects(third.page(get('/')), 'the network is gone, and nothing is kept');
    through = ask;
    await third.warm();
    through = offline;
    assert.equal(await (await third.page(get('/'))).text(), served);
  });

  test('images: what is there at once, fresh for the next time, bounded', async () => {
    const caches = cacheStorage();
    const worker = createImages({ caches, fetch: ask, most: 3 });
    let round = 1;
    answers = ({ path }) => ({ body: `${path} ${round}` });
    const text = async (path) => {
      const { response, stored } = await worker.answer(get(path));
      await stored;
      return response.text();
    };
    assert.equal(await text('/images/a'), '/images/a 1');
    round = 2;
    assert.equal(await text('/images/a'), '/images/a 1');
    assert.equal(await text('/images/a'), '/images/a 2');
    for (const name of ['b', 'c', 'd']) await text(`/images/${name}`);
    assert.equal((await (await caches.open('lisens-images')).keys()).length, 3);
  });

  test('the switch: only 200 and off turns it off', async () => {
    answers = () => ({ body: { off: true } });
    assert.equal(await isOff(ask), true);
    for (const answer of [{ body: { off: false } }, { status: 404, body: { off: true } }, { body: '<!doctype html>' }]) {
      answers = () => answer;
      assert.equal(await isOff(ask), false);
    }
    assert.equal(await isOff(offline), false);
  });
});
