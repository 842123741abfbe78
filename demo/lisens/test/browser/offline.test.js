// Without a network: the pages are there, what was seen last is there, and what is bought arrives once.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asOf, choose, paths, payButton, pendingCount, rows, signOut } from './shop.js';
import { controlled, get, options, orderCount, until, visiting } from './support.js';

// Chromium reports each request that found no network.
const expected = [/ERR_INTERNET_DISCONNECTED|ERR_FAILED|Failed to fetch|NetworkError|not everything has arrived/];

test(
  'the worker: kept answers say from when they are, the switch and writes are left alone',
  options,
  visiting({ as: 'user', expected }, async ({ page, context }) => {
    await page.goto(paths.home);
    await controlled(page);
    const read = () =>
      page.evaluate(async () => {
        const answer = await fetch('/api/licence-kinds');
        return { at: answer.headers.get('x-lisens-cached-at'), kinds: (await answer.json()).licence_kinds.length };
      });
    assert.deepEqual(await read(), { at: null, kinds: 10 });
    await until(
      () => page.evaluate(async () => Boolean(await caches.match('/api/licence-kinds', { ignoreVary: true }))),
      'the answer is kept',
    );
    await context.setOffline(true);
    const kept = await read();
    assert.equal(kept.kinds, 10);
    assert.ok(Math.abs(Date.parse(kept.at) - Date.now()) < 60_000, kept.at);
    const failed = await page.evaluate(async () => {
      const tries = [fetch('/healthz'), fetch('/api/notes', { method: 'POST' }), fetch('/api/session', { cache: 'no-store' })];
      return (await Promise.allSettled(tries)).map(({ status }) => status);
    });
    assert.deepEqual(failed, ['rejected', 'rejected', 'rejected']);
    await context.setOffline(false);
    assert.equal((await read()).at, null);
  }),
);

test(
  'the switch turns the worker off and takes what it keeps, but not what is queued',
  options,
  visiting({ as: 'user', expected }, async ({ page, context }) => {
    await page.goto(paths.home);
    await controlled(page);
    // Requests of workers are seen by the context, not by the page.
    await context.route('**/sw-off.json', (route) => route.fulfill({ json: { off: true } }));
    await page.reload();
    await until(() => page.evaluate(async () => (await navigator.serviceWorker.getRegistrations()).length === 0), 'no worker any more');
    await context.unroute('**/sw-off.json');
    // Whether the browser has cleared the old worker away by now or brings it back, it serves again, also offline.
    await page.goto(paths.home);
    await controlled(page);
    await until(() => page.evaluate(async () => Boolean(await caches.match('/index.html', { ignoreVary: true }))), 'the shell is kept');
    await context.setOffline(true);
    await page.reload();
    await page.getByRole('heading', { level: 1 }).first().waitFor();
    await context.setOffline(false);
  }),
);

test(
  'offline: the pages and the last orders, with the time',
  options,
  visiting({ as: 'official', expected }, async ({ page, context }) => {
    await page.goto(paths.orders);
    await controlled(page);
    await page.reload();
    const first = await rows(page).first().textContent();
    await context.setOffline(true);
    await page.reload();
    await rows(page).first().waitFor();
    assert.equal(await rows(page).first().textContent(), first);
    await asOf(page).waitFor();
    await page.goto(paths.home);
    await page.getByRole('heading', { level: 1 }).first().waitFor();
    await context.setOffline(false);
  }),
);

async function buyOffline(page, context) {
  await page.goto(paths.home);
  await controlled(page);
  // A second visit, now through the worker, so that it knows what the pages ask for.
  await page.reload();
  for (const path of ['/api/session', '/api/licence-kinds'])
    await until(() => page.evaluate(async (wanted) => Boolean(await caches.match(wanted, { ignoreVary: true })), path), `${path} is kept`);
  await choose(page);
  await context.setOffline(true);
  await payButton(page).click();
  await until(async () => (await pendingCount(page)) === 1, 'one is waiting');
}

test(
  'bought offline: waits, survives a reload, arrives once',
  options,
  visiting({ as: 'user', expected }, async ({ page, context }) => {
    const before = await orderCount(context);
    await buyOffline(page, context);
    await page.reload();
    await until(async () => (await pendingCount(page)) === 1, 'still waiting after the reload');
    await context.setOffline(false);
    await until(async () => (await pendingCount(page)) === 0, 'nothing waits any more', 30_000);
    assert.equal(await orderCount(context), before + 1);
    await page.reload();
    await page.waitForTimeout(1_000);
    assert.equal(await orderCount(context), before + 1);
  }),
);

test(
  'bought offline with two tabs open: arrives once',
  options,
  visiting({ as: 'user', expected }, async ({ page, context, newPage }) => {
    const before = await orderCount(context);
    const keys = [];
    context.on('request', (request) => {
      if (request.url().endsWith('/api/checkout')) keys.push(request.headers()['idempotency-key']);
    });
    const second = await newPage();
    await second.goto(paths.home);
    await buyOffline(page, context);
    await until(async () => (await pendingCount(second)) === 1, 'the other tab knows');
    await context.setOffline(false);
    for (const tab of [page, second]) await until(async () => (await pendingCount(tab)) === 0, 'nothing waits any more', 30_000);
    assert.equal(await orderCount(context), before + 1);
    assert.equal(new Set(keys).size, 1, 'one key for all attempts');
  }),
);

test(
  'after signing out nothing of the API is kept',
  options,
  visiting({ as: 'official', expected }, async ({ page, context }) => {
    await page.goto(paths.orders);
    await controlled(page);
    await page.reload();
    await rows(page).first().waitFor();
    const kept = () => page.evaluate(async () => (await (await caches.open('lisens-api')).keys()).map(({ url }) => new URL(url).pathname));
    await until(async () => (await kept()).includes('/api/orders'), 'the orders are kept');
    await signOut(page);
    await until(async () => !(await kept()).includes('/api/orders'), 'the orders are gone');
    assert.equal((await get(context, '/api/session')).user, null);
  }),
);

test(
  'a pay that is answered with 503 after all was done, and a reload in the middle of one: one order each',
  options,
  visiting({ as: 'user', expected: [/503/, /ERR_/], serviceWorkers: 'block' }, async ({ page, context }) => {
    for (const cut of ['answered with 503', 'reloaded']) {
      const before = await orderCount(context);
      await page.goto(paths.home);
      await choose(page);
      let times = 0;
      await page.route('**/api/checkout', async (route) => {
        times += 1;
        if (times > 1) return route.continue();
        await route.fetch(); // the server has it
        if (cut === 'reloaded') return page.reload();
        return route.fulfill({ status: 503, json: { error: 'database_unavailable', message: '', request_id: 'x' } });
      });
      await payButton(page).click();
      await until(() => times > 1, `${cut}: sent again`, 40_000);
      await until(async () => (await pendingCount(page)) === 0, `${cut}: nothing waits any more`, 30_000);
      assert.equal(await orderCount(context), before + 1, cut);
      await page.unroute('**/api/checkout');
    }
  }),
);
