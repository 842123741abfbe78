// Long lists: few rows in the page, all of them within reach, nothing fetched twice.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LIST, ROW, ordersLink, paths, rows } from './shop.js';
import { options, quiet, until, visiting } from './support.js';

const WANTED = 10_000;
const MOST_ROWS = 200;

test(
  '10,000 orders: few rows at a time, none missing, none twice, each page fetched once',
  { ...options, timeout: 600_000 },
  visiting({ as: 'official', serviceWorkers: 'block' }, async ({ page }) => {
    const asked = [];
    const expected = [];
    const answered = [];
    page.on('response', (response) => {
      const { pathname } = new URL(response.url());
      if (pathname !== '/api/orders' || response.request().method() !== 'GET') return;
      asked.push(response.url());
      answered.push(response.json().then(({ orders }) => expected.push(...orders.map(({ id }) => String(id)))));
    });
    await page.goto(paths.orders);
    await rows(page).first().waitFor();
    const { seen, most, twice } = await page.evaluate(scrollThrough, { wanted: WANTED, list: LIST, row: ROW });
    await Promise.all(answered);
    assert.ok(most < MOST_ROWS, `${most} rows at once`);
    assert.deepEqual(twice, [], 'ids twice at the same time');
    assert.ok(seen.length >= WANTED, `${seen.length} seen`);
    const met = new Set(seen);
    assert.deepEqual(
      expected.slice(0, WANTED).filter((id) => !met.has(id)),
      [],
      'missing',
    );
    assert.deepEqual(
      asked.filter((url, i) => asked.indexOf(url) !== i),
      [],
      'pages fetched twice',
    );
    assert.equal(new Set(expected).size, expected.length, 'no order is on two pages');
  }),
);

/** Runs in the page: down by less than a screen at a time, until so many rows have been seen. */
async function scrollThrough({ wanted, list: listSelector, row: rowSelector }) {
  const list = document.querySelector(listSelector);
  const idOf = (row) => row.dataset.id ?? row.querySelector('a[href]')?.getAttribute('href').split('/').pop() ?? row.textContent;
  const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));
  const seen = new Set();
  const twice = [];
  let most = 0;
  const look = () => {
    const shown = [...document.querySelectorAll(rowSelector)];
    const ids = shown.map(idOf);
    most = Math.max(most, shown.length);
    for (const id of ids.filter((each, i) => ids.indexOf(each) !== i)) twice.push(id);
    for (const id of ids) seen.add(id);
    const lowest = Math.max(...shown.map((row) => row.getBoundingClientRect().bottom));
    return lowest >= list.getBoundingClientRect().bottom - 2;
  };
  while (seen.size < wanted) {
    const end = Date.now() + 15_000;
    while (!look()) {
      if (Date.now() > end) return { seen: [...seen], most, twice };
      await frame();
    }
    list.scrollTop += list.clientHeight * 0.7;
    await frame();
    await frame();
  }
  return { seen: [...seen], most, twice };
}

test(
  'away and back: shown at once and asked for again; what is asked for at once is asked once',
  options,
  visiting({ as: 'official', serviceWorkers: 'block' }, async ({ page }) => {
    const asked = [];
    page.on('request', (request) => {
      if (request.method() === 'GET' && request.url().includes('/api/')) asked.push(request.url());
    });
    await page.goto(paths.orders);
    await rows(page).first().waitFor();
    await quiet(page);
    assert.deepEqual(
      asked.filter((url, i) => asked.indexOf(url) !== i),
      [],
      'asked twice',
    );
    await page.getByRole('navigation').locator(`a[href="${paths.home}"]`).first().click();
    await rows(page).first().waitFor({ state: 'detached' });
    await page.waitForTimeout(2_500); // longer than answers are taken as fresh without asking
    asked.length = 0;
    await page.route('**/api/orders*', async (route) => {
      await new Promise((resolve) => setTimeout(resolve, 2_000));
      await route.continue();
    });
    await ordersLink(page).click();
    await rows(page).first().waitFor({ timeout: 500 });
    await until(() => asked.some((url) => new URL(url).pathname === '/api/orders'), 'asked for again', 4_000);
  }),
);
