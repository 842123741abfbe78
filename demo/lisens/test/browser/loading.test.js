// What the first page costs, and what is seen while an answer is on its way.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { paths, rows } from './shop.js';
import { options, quiet, visiting } from './support.js';

const MOST_SCRIPT = 120 * 1024;

test(
  'the first page: no other route, at most 120 KiB of script, images below the fold wait',
  options,
  visiting({ serviceWorkers: 'block', viewport: { width: 1280, height: 720 } }, async ({ page }) => {
    const scripts = new Map();
    const bodies = [];
    page.on('response', (response) => {
      const { pathname } = new URL(response.url());
      if (!pathname.endsWith('.js')) return;
      bodies.push(response.body().then((body) => scripts.set(pathname, gzipSync(body, { level: 9 }).length)));
    });
    await page.goto(paths.home);
    await quiet(page);
    await Promise.all(bodies);
    const size = [...scripts.values()].reduce((sum, each) => sum + each, 0);
    assert.ok(size > 0 && size <= MOST_SCRIPT, `${size} bytes: ${[...scripts.keys()]}`);
    const others = [...scripts.keys()].filter((path) => /\/(?:Orders?|Licences?|Users?|Checkout|SignIn|Help|NotFound)[-.]/.test(path));
    assert.deepEqual(others, [], 'chunks of other routes');
    const eager = await page.evaluate(() =>
      [...document.images]
        .filter((image) => image.getBoundingClientRect().top > innerHeight && image.loading !== 'lazy')
        .map((image) => image.currentSrc || image.src),
    );
    assert.deepEqual(eager, []);
  }),
);

test(
  'without any script the shell is seen',
  options,
  visiting({ javaScriptEnabled: false }, async ({ page }) => {
    await page.goto(paths.home);
    assert.ok((await page.locator('#root').innerText()).trim().length > 0);
  }),
);

test(
  'a slow API: a skeleton long before the answer, and nothing jumps',
  options,
  visiting({ as: 'official', serviceWorkers: 'block' }, async ({ page }) => {
    await page.goto(paths.home);
    await quiet(page);
    await page.route('**/api/orders*', async (route) => {
      await new Promise((resolve) => setTimeout(resolve, 2_000));
      await route.continue();
    });
    // From the press to the skeleton, measured in the page.
    await page.evaluate(() => {
      addEventListener('click', () => {
        const from = performance.now();
        const look = () => {
          if (document.querySelector('main [aria-busy=true], main .row-skeleton, main [data-testid=skeleton]'))
            window.lisensMeasured.skeleton = performance.now() - from;
          else requestAnimationFrame(look);
        };
        requestAnimationFrame(look);
      });
    });
    await page.getByRole('navigation').locator(`a[href="${paths.orders}"]`).first().click();
    await rows(page).first().waitFor();
    const { skeleton, shifts } = await page.evaluate(() => window.lisensMeasured);
    assert.ok(skeleton < 1_000, `skeleton after ${skeleton} ms`); // 30 to 80 on two idle cores
    assert.ok(shifts <= 0.1, `layout shift ${shifts}`);
  }),
);

for (const route of [paths.home, paths.orders, paths.licences, paths.users]) {
  test(
    `${route}: nothing jumps while it loads`,
    options,
    visiting({ as: 'official', serviceWorkers: 'block' }, async ({ page }) => {
      await page.route('**/api/**', async (request) => {
        await new Promise((resolve) => setTimeout(resolve, 500));
        await request.continue();
      });
      await page.goto(route);
      await quiet(page);
      const { shifts } = await page.evaluate(() => window.lisensMeasured);
      assert.ok(shifts <= 0.1, `layout shift ${shifts}`);
    }),
  );
}
