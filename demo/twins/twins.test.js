// Every probe fails on the naive twin and passes on the careful one. A probe that passes on both proves nothing.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { probes } from './probes/index.js';
import { closeBrowser } from './support/browser.js';
import { edgeLisens, startLisens, startRaw } from './support/target.js';

const read = (path) => readFile(new URL(path, import.meta.url), 'utf8');
const LIMIT = { timeout: 180_000 };

after(closeBrowser);

describe('the table', () => {
  test('every id that an application must meet has a probe', async () => {
    const ids = JSON.parse(await read('ids.json'));
    const probed = new Set(probes.flatMap(({ breaks }) => breaks));
    assert.deepEqual(
      ids.filter((id) => !probed.has(id)),
      [],
    );
    assert.deepEqual(
      [...probed].filter((id) => !ids.includes(id)),
      [],
    );
  });

  test('FAULTS.md names every probe and every id, and no probe that is none', async () => {
    const rows = (await read('../raw/FAULTS.md')).split('\n').filter((line) => /^\| \d+ \|/.test(line));
    const cells = rows.map((row) => row.split(' | ').map((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name)));
    const broken = new Set(cells.flatMap((row) => row[3]));
    const seenBy = new Set(cells.flatMap((row) => row[4]));
    const known = probes.map(({ id }) => id);
    assert.deepEqual(
      JSON.parse(await read('ids.json')).filter((id) => !broken.has(id)),
      [],
    );
    assert.deepEqual(
      known.filter((id) => !seenBy.has(id)),
      [],
    );
    assert.deepEqual(
      [...seenBy].filter((id) => !known.includes(id)),
      [],
    );
    // What stands under "where" is really there.
    const files = ['package.json', 'server.js', 'public/index.html', 'public/app.js'];
    const source = [...files, ...(await Promise.all(files.map((path) => read(`../raw/${path}`))))].join('\n');
    assert.deepEqual(
      cells.flatMap((row) => row[2]).filter((name) => !source.includes(name)),
      [],
    );
    for (const { id, breaks } of probes) {
      for (const each of breaks)
        assert.ok(
          cells.some((row) => row[4].includes(id) && row[3].includes(each)),
          `${id} and ${each} in one row`,
        );
    }
  });
});

describe('raw', { skip: !process.env.DATABASE_URL && 'set DATABASE_URL' }, () => {
  let raw;
  before(async () => {
    raw = await startRaw();
  }, LIMIT);
  after(() => raw?.close());

  for (const { id, probe } of probes) {
    test(id, LIMIT, async (t) => {
      await raw.target.ready();
      const { passed, evidence } = await probe(raw.target);
      t.diagnostic(evidence);
      assert.equal(passed, false, `passes on raw: ${evidence}`);
    });
  }
});

const { LISENS_URL, LISENS_OWN, DATABASE_URL, REDIS_URL } = process.env;
const own = DATABASE_URL && REDIS_URL;

describe('lisens', { skip: !LISENS_URL && !LISENS_OWN && 'set LISENS_URL, or LISENS_OWN=1 for one without an edge' }, () => {
  let started;
  const edge = LISENS_URL ? edgeLisens() : null;
  before(async () => {
    if (own) started = await startLisens();
  }, LIMIT);
  after(async () => {
    await started?.close();
    await edge?.close();
  });

  /** Who can answer: a browser needs the edge, a wire needs a lisens of our own; the rest takes what there is. */
  const targetFor = (needs) => {
    if (needs === 'browser') return edge;
    if (needs === 'wire') return started?.target;
    if (needs === 'database') return edge?.databaseUrl ? edge : started?.target;
    return edge ?? started?.target;
  };

  for (const { id, needs, probe } of probes) {
    test(id, LIMIT, async (t) => {
      const target = targetFor(needs);
      if (!target) return t.skip(needs === 'browser' ? 'needs LISENS_URL' : 'needs DATABASE_URL and REDIS_URL');
      await target.ready();
      const { passed, evidence } = await probe(target);
      t.diagnostic(evidence);
      assert.equal(passed, true, evidence);
    });
  }
});
