// Chromium with a page of a twin, signed in where that is needed, and what the probes measure in it.

import { chromium } from 'playwright-core';

let browser = null;

export async function closeBrowser() {
  await browser?.close();
  browser = null;
}

/** What counts as a row of a list, and as a stand-in while one loads. */
export const ROW = 'tbody tr, [role="row"]:not(:has([role="columnheader"])), [role="listitem"], [data-index]';
export const SKELETON = '[aria-busy="true"], [class*="skeleton" i], [data-skeleton]';

// In the page, before its own scripts: shifts, the largest paint, long tasks.
function observe() {
  const seen = { cls: 0, lcp: null, tbt: 0 };
  window.twins = seen;
  const watch = (type, each) => new PerformanceObserver((list) => list.getEntries().forEach(each)).observe({ type, buffered: true });
  watch('layout-shift', (entry) => {
    if (!entry.hadRecentInput) seen.cls += entry.value;
  });
  watch('largest-contentful-paint', (entry) => {
    seen.lcp = entry.startTime;
  });
  watch('longtask', (entry) => {
    seen.tbt += Math.max(0, entry.duration - 50);
  });
}

/** Calls `work` with a fresh page; `who` is signed in before it sees anything. */
export async function withPage(target, { who = null, worker = false } = {}, work) {
  browser ??= await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-background-networking',
      '--no-first-run',
      '--disable-component-update',
      '--ignore-certificate-errors',
    ],
  });
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    viewport: { width: 1280, height: 800 },
    // Behind a service worker a probe could neither delay nor count what the page asks for.
    serviceWorkers: worker ? 'allow' : 'block',
  });
  try {
    if (who) {
      const session = await target.signIn(who, { fresh: true });
      await context.addCookies(
        session.cookies.map((line) => {
          const [name, ...value] = line.split(';')[0].split('=');
          const attributes = { httpOnly: /httponly/i.test(line), secure: /;\s*secure/i.test(line) };
          return { name, value: value.join('='), url: target.url, ...attributes };
        }),
      );
    }
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    await page.addInitScript(observe);
    const requests = [];
    page.on('request', (request) =>
      requests.push({ url: new URL(request.url()), type: request.resourceType(), method: request.method(), request }),
    );
    return await work({ page, context, requests });
  } finally {
    await context.close();
  }
}

export const rowCount = (page) => page.locator(ROW).count();

export const apiCalls = (requests, path) => requests.filter(({ url, method }) => method === 'GET' && url.pathname === path);
