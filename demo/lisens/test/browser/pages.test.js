// Using the pages: buying, by mouse and by keyboard; languages; a part that breaks; and whether everybody can use them.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { choose, fillSignIn, names, ordersLink, paths, payButton, routes, rows, signInButton, tabTo } from './shop.js';
import { options, quiet, orderCount, until, visiting } from './support.js';

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

for (const colorScheme of ['light', 'dark']) {
  for (const [as, list] of [
    [undefined, routes.open],
    ['official', [paths.home, ...routes.official]],
  ]) {
    test(
      `axe finds nothing: ${colorScheme}, ${as ?? 'nobody signed in'}`,
      options,
      visiting({ as, colorScheme, reducedMotion: 'reduce' }, async ({ page }) => {
        const found = [];
        const look = async (where) => {
          await quiet(page);
          await page.evaluate(axe);
          const { violations } = await page.evaluate(() => window.axe.run(document));
          for (const { id, nodes } of violations) found.push(`${where} ${id}: ${nodes.map((node) => node.target.join(' ')).join(', ')}`);
        };
        for (const route of list) {
          await page.goto(route);
          await page.getByRole('heading', { level: 1 }).first().waitFor();
          await look(route);
        }
        if (as) {
          await page.goto(paths.orders);
          await rows(page).first().getByRole('link').first().click();
          await page.waitForURL(/\/orders\/[^/]+$/);
          await look('an order');
        }
        assert.deepEqual(found, []);
      }),
    );
  }
}

test(
  'a part that throws: the rest lives, and there is a number to tell',
  options,
  visiting({ as: 'user', expected: [/./] }, async ({ page, context }) => {
    let event;
    context.on('response', async (response) => {
      if (response.url().endsWith('/api/client-errors')) event = await response.json();
    });
    await context.addInitScript(() => sessionStorage.setItem('lisens.break', 'estimate'));
    await page.goto(paths.home);
    const alert = page.getByRole('alert').first();
    await alert.waitFor();
    await until(() => event?.event_id, 'it is reported');
    await until(async () => (await alert.innerText()).includes(event.event_id), 'the number is shown');
    await ordersLink(page).click();
    await page.waitForURL(`**${paths.orders}`);
    await page.getByRole('heading', { level: 1 }).first().waitFor();
  }),
);

test(
  'with the keyboard alone: sign in, buy, see the order',
  options,
  visiting({}, async ({ page, context }) => {
    await page.goto(paths.signIn);
    await tabTo(page, page.getByLabel(names.email));
    await page.keyboard.type('user@lisens.example');
    await tabTo(page, page.getByLabel(names.password));
    await page.keyboard.type(process.env.LISENS_PASSWORD ?? 'demo-lisens-2026');
    await page.keyboard.press('Enter');
    await until(async () => (await (await context.request.get('/api/session')).json()).user, 'signed in');
    const before = await orderCount(context);
    await page.goto(paths.home);
    const press = async (what) => {
      await tabTo(page, what);
      await page.keyboard.press('Enter');
    };
    await choose(page, press);
    await press(payButton(page));
    await until(async () => (await orderCount(context)) === before + 1, 'the order is there');
    await tabTo(page, ordersLink(page));
    await page.keyboard.press('Enter');
    await rows(page).first().waitFor();
  }),
);

test(
  'sign in: what is wrong is said, and what is right lets in',
  options,
  visiting({ expected: [/401/] }, async ({ page, context }) => {
    await page.goto(paths.signIn);
    await fillSignIn(page, 'user@lisens.example', 'not this one');
    await signInButton(page).click();
    await page.getByRole('alert').first().waitFor();
    await fillSignIn(page, 'user@lisens.example', process.env.LISENS_PASSWORD ?? 'demo-lisens-2026');
    await signInButton(page).click();
    await until(async () => (await (await context.request.get('/api/session')).json()).user, 'signed in');
  }),
);

test(
  'a double click on pay is one order',
  options,
  visiting({ as: 'user' }, async ({ page, context }) => {
    await page.goto(paths.home);
    const before = await orderCount(context);
    await choose(page);
    await page.route('**/api/checkout', async (route) => {
      await new Promise((resolve) => setTimeout(resolve, 500));
      await route.continue();
    });
    await payButton(page).dblclick();
    await until(async () => (await orderCount(context)) > before, 'the order is there');
    await page.waitForTimeout(2_000);
    assert.equal(await orderCount(context), before + 1);
  }),
);

test(
  'languages: nb, sv and en change the texts and say so',
  options,
  visiting({}, async ({ page }) => {
    await page.goto(paths.home);
    const texts = new Set();
    for (const language of ['sv', 'en', 'nb']) {
      await page.locator('select:has(option[value="sv"])').first().selectOption(language); // waits for the page to be drawn
      await until(() => page.evaluate((wanted) => document.documentElement.lang === wanted, language), `lang is ${language}`);
      texts.add(await page.locator('main').innerText());
      await page.reload();
      await until(() => page.evaluate((wanted) => document.documentElement.lang === wanted, language), `${language} after a reload`);
    }
    assert.equal(texts.size, 3);
  }),
);
