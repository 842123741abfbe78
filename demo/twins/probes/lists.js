// Lists: pages, search, many changes in one request.

import { randomUUID } from 'node:crypto';
import { rowsOf } from '../support/target.js';

const LISTS = ['/api/orders', '/api/licences', '/api/users'];
const MOST = 100;

/** Follows `next` for at most `pages` pages; the ids in the order seen. */
async function walk(session, path, pages) {
  const ids = [];
  let cursor = null;
  for (let page = 0; page < pages; page++) {
    const url = `${path}${path.includes('?') ? '&' : '?'}limit=${MOST}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`;
    const answer = await session.ask(url);
    const rows = rowsOf(answer);
    ids.push(...rows.map((row) => row.id));
    cursor = answer.json?.next;
    if (answer.status !== 200 || !cursor) break;
  }
  return ids;
}

async function pagination(target) {
  const official = await target.signIn('official');
  const findings = [];
  for (const path of LISTS) {
    const bare = rowsOf(await official.ask(path)).length;
    const seven = rowsOf(await official.ask(`${path}?limit=7`)).length;
    const huge = await official.ask(`${path}?limit=100000`);
    if (bare > MOST) findings.push(`${path} answers ${bare} rows unasked`);
    if (seven !== 7) findings.push(`${path}?limit=7 answers ${seven} rows`);
    if (huge.status === 200 && rowsOf(huge).length > MOST) findings.push(`${path} has no cap: ${rowsOf(huge).length} rows`);
    const ids = await walk(official, path, 12);
    const twice = ids.length - new Set(ids).size;
    if (twice > 0) findings.push(`${path}: ${twice} rows seen twice`);
    if (bare <= MOST && ids.length <= MOST) findings.push(`${path}: no second page`);
  }
  return {
    passed: findings.length === 0,
    evidence: findings.join('; ') || `${LISTS.length} lists: bounded, capped, walked without a row twice`,
  };
}

async function search(target) {
  const official = await target.signIn('official');
  const findings = [];
  const some = rowsOf(await official.ask('/api/users?limit=50'))[30];
  const word = some?.name?.split(' ')[0] ?? 'Kari';
  const first = await official.ask(`/api/orders?limit=50&total=true&q=${encodeURIComponent(word)}`);
  const rows = rowsOf(first);
  const strangers = rows.filter((row) => !String(row.user_name).toLowerCase().includes(word.toLowerCase()));
  if (rows.length === 0) findings.push(`nothing found for "${word}", a name in the data`);
  if (strangers.length > 0) findings.push(`${strangers.length} rows without "${word}"`);
  if (rows.length > 50) findings.push(`${rows.length} rows where 50 were asked for`);
  if (!Number.isInteger(first.json?.total)) findings.push('no total');
  const injection = "zzqq%' OR orders.id = users.id AND orders.id < 9 AND '' LIKE '";
  const injected = await official.ask(`/api/orders?limit=50&q=${encodeURIComponent(injection)}`);
  if (rowsOf(injected).length > 0) findings.push(`SQL in the search answers ${rowsOf(injected).length} rows`);
  const quote = await official.ask(`/api/orders?q=${encodeURIComponent("O'Brien")}`);
  if (quote.status !== 200) findings.push(`a quote in the search: ${quote.status || quote.reason}`);
  return { passed: findings.length === 0, evidence: findings.join('; ') || `"${word}": ${first.json.total} orders, all of them theirs` };
}

async function bulk(target) {
  const official = await target.signIn('official');
  const all = await official.ask('/api/licences');
  let ids = rowsOf(all).map((row) => row.id);
  if (ids.length < 999) ids = await walk(official, '/api/licences', 10);
  ids = ids.slice(0, 999);
  if (ids.length < 999) throw new Error(`only ${ids.length} licences to change`);
  const stranger = 999_999_999;
  const items = ids.toSpliced(500, 0, stranger).map((id) => ({ id, status: 'suspended' }));
  const findings = [];

  const change = (list, key) =>
    official.ask('/api/licences/bulk', { method: 'POST', body: { items: list }, headers: { 'idempotency-key': key }, timeout_ms: 30_000 });
  const key = randomUUID();
  let answer;
  const statements = await target.statements(async () => {
    answer = await change(items, key);
  });
  if (statements > 50) findings.push(`${statements} statements for ${items.length} items`);
  const results = answer.json?.results ?? [];
  if (answer.status !== 200) findings.push(`status ${answer.status || answer.reason}`);
  if (results.length !== items.length) findings.push(`${results.length} results for ${items.length} items: ${answer.text.slice(0, 80)}`);
  else if (results[500].outcome !== 'not_found' || results.at(-1).outcome === 'not_found') findings.push('outcomes do not match the items');

  // Somebody puts one back; the first request, sent again, must not undo that.
  const one = ids.slice(0, 1);
  await change(
    one.map((id) => ({ id, status: 'active' })),
    randomUUID(),
  );
  await change(items, key);
  const states = new Map();
  for (const status of ['suspended', 'active']) {
    const page = await official.ask(`/api/licences?status=${status}&limit=100`);
    for (const row of rowsOf(page)) states.set(row.id, row.status);
  }
  if (states.get(one[0]) === 'suspended') findings.push(`the same key again ran again: licence ${one[0]} is suspended once more`);
  await change(
    ids.map((id) => ({ id, status: 'active' })),
    randomUUID(),
  );
  return {
    passed: findings.length === 0,
    evidence: findings.join('; ') || `${items.length} items, ${statements ?? 'unknown'} statements, one outcome each`,
  };
}

export default [
  { id: 'lists-pages', breaks: ['api.pagination'], needs: 'api', probe: pagination },
  { id: 'lists-search', breaks: ['api.server-side-search'], needs: 'api', probe: search },
  { id: 'bulk-licences', breaks: ['api.batch-ops'], needs: 'wire', probe: bulk },
];
