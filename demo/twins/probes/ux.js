// Long lists, slow answers, no network: what somebody in front of the screen sees of it.

import { setTimeout as sleep } from 'node:timers/promises';
import { SKELETON, apiCalls, rowCount, withPage } from '../support/browser.js';

const open = async (page, target, path) => {
  await page.goto(target.url + path, { waitUntil: 'domcontentloaded' });
};
const rowsShown = (page) =>
  page.waitForFunction(
    (selector) => document.querySelectorAll(selector).length > 3,
    'tbody tr, [role="row"], [role="listitem"], [data-index]',
    { timeout: 15_000 },
  );

/** Wheels to the end of what can be scrolled, a few times. */
async function scroll(page, times) {
  await page.mouse.move(640, 500);
  for (let n = 0; n < times; n++) {
    await page.mouse.wheel(0, 100_000);
    await sleep(400);
  }
}

async function infinite(target) {
  return withPage(target, { who: 'official' }, async ({ page, requests }) => {
    await open(page, target, '/orders');
    await rowsShown(page);
    await scroll(page, 6);
    const calls = apiCalls(requests, '/api/orders').map(({ url }) => url.searchParams.get('cursor'));
    const cursors = calls.filter(Boolean);
    const once = new Set(cursors).size === cursors.length;
    return {
      passed: cursors.length >= 3 && once,
      evidence: `${calls.length} requests, ${cursors.length} of them for next pages, ${once ? 'each once' : 'some twice'}; ${await rowCount(page)} rows in the page`,
    };
  });
}

async function virtual(target) {
  return withPage(target, { who: 'official' }, async ({ page }) => {
    const most = {};
    for (const path of ['/orders', '/licences']) {
      await open(page, target, path);
      await rowsShown(page);
      most[path] = await rowCount(page);
      for (let n = 0; n < 6; n++) {
        await scroll(page, 1);
        most[path] = Math.max(most[path], await rowCount(page));
      }
    }
    return {
      passed: Object.values(most).every((rows) => rows > 3 && rows < 200),
      evidence: `most rows in the page at once: ${JSON.stringify(most)}`,
    };
  });
}

async function skeleton(target) {
  return withPage(target, { who: 'official' }, async ({ page }) => {
    await page.route(/\/api\/(orders|licences)/, async (route) => {
      await sleep(2_000);
      await route.continue();
    });
    await open(page, target, '/orders');
    await page.waitForFunction(() => document.querySelector('#root')?.childElementCount > 0);
    await sleep(200);
    const standIns = await page.locator(SKELETON).count();
    await sleep(4_000);
    const { cls } = await page.evaluate(() => window.twins);
    return { passed: standIns > 0 && cls <= 0.1, evidence: `${standIns} stand-ins while the list loads, CLS ${cls.toFixed(3)}` };
  });
}

async function clientCache(target) {
  return withPage(target, { who: 'official' }, async ({ page, requests }) => {
    await open(page, target, '/orders');
    await rowsShown(page);
    await page.locator('a[href="/licences"]').first().click();
    await sleep(2_500); // what was asked a moment ago need not be asked again
    await rowsShown(page);
    await page.route(/\/api\/orders/, async (route) => {
      await sleep(2_000);
      await route.continue();
    });
    const before = apiCalls(requests, '/api/orders').length;
    await page.locator('a[href="/orders"]').first().click();
    await sleep(300);
    // Rows of orders carry an amount; those of licences do not.
    const text = await page.locator('body').innerText();
    const shown = /\d\s*(kr|NOK)\b|\bkr\s*\d/.test(text) ? await rowCount(page) : 0;
    await sleep(2_500);
    const calls = apiCalls(requests, '/api/orders').slice(before);
    const twice = calls.length - new Set(calls.map(({ url }) => url.href)).size;
    return {
      passed: shown > 3 && calls.length >= 1 && twice === 0,
      evidence: `back on the list: ${shown} rows after 300 ms, ${calls.length} requests behind them, ${twice} of them twice`,
    };
  });
}

async function offline(target) {
  return withPage(target, { who: 'official', worker: true }, async ({ page, context }) => {
    const findings = [];
    await open(page, target, '/orders');
    await rowsShown(page);
    const worker = await page.evaluate(() =>
      Promise.race([navigator.serviceWorker?.ready.then(() => true), new Promise((resolve) => setTimeout(resolve, 5_000, false))]),
    );
    if (!worker) findings.push('no service worker');
    else {
      await page.reload();
      await rowsShown(page);
      await sleep(1_000);
    }
    await context.setOffline(true);
    try {
      await page.goto(`${target.url}/orders`, { timeout: 5_000 });
      await rowsShown(page);
    } catch (error) {
      findings.push(`without a network: ${error.message.split('\n')[0].slice(0, 80)}`);
    }
    const queue = await page.evaluate(async () => (await indexedDB.databases()).length).catch(() => 0);
    if (queue === 0) findings.push('nowhere to keep what is written meanwhile');
    return { passed: findings.length === 0, evidence: findings.join('; ') || 'shell and last rows without a network' };
  });
}

export default [
  { id: 'ux-next-pages', breaks: ['ux.infinite-scroll'], needs: 'browser', probe: infinite },
  { id: 'ux-rows-in-page', breaks: ['ux.virtual-scroll'], needs: 'browser', probe: virtual },
  { id: 'ux-stand-ins', breaks: ['ux.skeleton'], needs: 'browser', probe: skeleton },
  { id: 'ux-back-again', breaks: ['ux.client-cache'], needs: 'browser', probe: clientCache },
  { id: 'ux-no-network', breaks: ['ux.offline'], needs: 'browser', probe: offline },
];
