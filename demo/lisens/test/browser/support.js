// A real browser in front of a running shop. LISENS_URL says where it is, klar's edge for example; its certificate may
// be of an authority that nobody knows.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { after } from 'node:test';
import { chromium } from 'playwright-core';

export const address = process.env.LISENS_URL?.replace(/\/$/, '');
export const skip = address ? false : 'set LISENS_URL to the address of a running shop, https://localhost:8443 for example';
export const options = { skip, timeout: 120_000 };

const PASSWORD = process.env.LISENS_PASSWORD ?? 'demo-lisens-2026';
const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--no-first-run',
  '--disable-component-update',
  '--disable-sync',
  '--ignore-certificate-errors', // on the command line, as only this counts for service workers too
];

let browser;

async function launched() {
  browser ??= chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGS });
  return browser;
}
after(async () => {
  await (await browser)?.close();
});

/**
 * A context of its own for a test, closed at its end. The test fails on any error in a console, any exception and any
 * violation of the page's security policy, unless `expected` (a list of patterns) knows it.
 */
export async function visit(t, { as, expected = [], ...settings } = {}) {
  const context = await (await launched()).newContext({ baseURL: address, ignoreHTTPSErrors: true, locale: 'nb-NO', ...settings });
  context.setDefaultTimeout(15_000);
  const errors = [];
  await context.addInitScript(() => {
    window.lisensMeasured = { shifts: 0 };
    addEventListener('securitypolicyviolation', (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.lisensMeasured.shifts += entry.value;
    }).observe({ type: 'layout-shift', buffered: true });
  });
  context.on('console', (message) => {
    if (message.type() === 'error') errors.push(`${message.text()} (${message.location().url})`);
  });
  context.on('weberror', (error) => errors.push(String(error.error()?.stack ?? error.error())));
  const pages = [];
  const measured = process.env.LISENS_COVERAGE && settings.javaScriptEnabled !== false;
  const newPage = async () => {
    const page = await context.newPage();
    if (measured) await page.coverage.startJSCoverage({ resetOnNavigation: false });
    pages.push(page);
    watch(page);
    return page;
  };
  t.after(async () => {
    if (measured) await Promise.all(pages.map(keepCoverage));
    await context.close();
  });
  if (as) await signIn(context, as);
  const page = await newPage();
  const check = () =>
    assert.deepEqual(
      errors.filter((error) => !expected.some((pattern) => pattern.test(error))),
      [],
      'the console is clean',
    );
  return { context, page, newPage, check, errors };
}

const traffic = new WeakMap();

function watch(page) {
  const seen = { last: Date.now(), open: new Set() };
  traffic.set(page, seen);
  page.on('request', (request) => {
    seen.last = Date.now();
    if (request.url().includes('/api/')) seen.open.add(request);
  });
  page.on('response', (response) => seen.open.delete(response.request()));
  for (const event of ['requestfinished', 'requestfailed'])
    page.on(event, (request) => {
      seen.last = Date.now();
      seen.open.delete(request);
    });
}

/** Waits until every question to the API has its answer and nothing has been asked for in half a second. */
export async function quiet(page) {
  await page.waitForLoadState('load');
  const { open } = traffic.get(page);
  await until(() => open.size === 0 && Date.now() - traffic.get(page).last > 500, 'the network is quiet');
}

async function keepCoverage(page) {
  const folder = process.env.LISENS_COVERAGE;
  if (page.isClosed()) return;
  const entries = await page.coverage.stopJSCoverage();
  await mkdir(folder, { recursive: true });
  const ours = entries.filter((entry) => entry.url.startsWith(address));
  await writeFile(`${folder}/${randomUUID()}.json`, JSON.stringify(ours));
}

/** A test of one visit: `(visit, t)`; the console has to be clean at its end. */
export function visiting(settings, body) {
  return async (t) => {
    const visitor = await visit(t, settings);
    await body(visitor, t);
    visitor.check();
  };
}

/** Signs in by the API: user, other, official or admin. Attempts are limited, so it waits when it is told to. */
export async function signIn(context, who) {
  for (;;) {
    const answer = await context.request.post('/api/session', { data: { email: `${who}@lisens.example`, password: PASSWORD } });
    if (answer.status() === 201) return answer.json();
    assert.equal(answer.status(), 429, `sign in as ${who}: ${answer.status()} ${await answer.text()}`);
    await new Promise((resolve) => setTimeout(resolve, Number(answer.headers()['retry-after'] ?? 1) * 1_000));
  }
}

export async function get(context, path) {
  const answer = await context.request.get(path);
  assert.equal(answer.status(), 200, `${path}: ${answer.status()}`);
  return answer.json();
}

/** How many orders the one who is signed in has. */
export async function orderCount(context) {
  const { user } = await get(context, '/api/session');
  return (await get(context, `/api/orders?limit=1&total=true&user_id=${user.id}`)).total;
}

/** Waits until `question` says yes. */
export async function until(question, what, limit = 15_000) {
  const end = Date.now() + limit;
  for (;;) {
    const said = await question();
    if (said) return said;
    assert.ok(Date.now() < end, `not within ${limit} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Waits until a worker answers for this page. */
export async function controlled(page) {
  await until(
    () =>
      page.evaluate(async () => {
        await Promise.race([navigator.serviceWorker.ready, new Promise((resolve) => setTimeout(resolve, 1_000))]);
        return Boolean(navigator.serviceWorker.controller);
      }),
    'a worker is in charge of the page',
  );
}
