// What happens when something goes wrong. The database goes away by its wire; the server itself is left alone.

import { setTimeout as sleep } from 'node:timers/promises';
import { randomUUID } from 'node:crypto';

const JSON_TYPE = { 'content-type': 'application/json' };
const post = (path, body) => ({ path, method: 'POST', body, headers: { ...JSON_TYPE, 'idempotency-key': randomUUID() } });

// Needs the database, whoever asks. The kinds are left out: they may come from a cache.
const READS = ['/api/orders', '/api/orders/7', '/api/licences', '/api/users', '/api/users/3'];

// What a caller gets wrong. None of it is the server's fault, so none of it may be answered with 5xx, or not at all.
const wrongs = () => [
  { path: '/api/orders/abc' },
  { path: '/api/orders/99999999999999999999' },
  { path: '/api/users/%27' },
  { path: '/api/licences?kind=%27' },
  { path: '/api/orders?limit=-1' },
  post('/api/checkout', '{not json'),
  post('/api/checkout', {}),
  post('/api/checkout', { user_id: 1, items: [{ licence_kind: 'no such kind', quantity: 1 }] }),
  post('/api/licences/bulk', { items: 'all' }),
  post('/api/estimate', { discipline: 'no such sport', age: 20, races: 5, mechanics: 1 }),
  post('/api/estimate', { discipline: 'rally', age: 20, races: 0, mechanics: 1 }),
];

const LEAK =
  /\bat \S+ \(|node:internal|node_modules|\bSELECT\b|\bsyntax error\b|invalid input syntax|"?(stack|routine|severity)"?:|postgres:\/\//;

const named = ({ method = 'GET', path }) => `${method} ${path}`;

/** Asks everything of `requests`; what ended the process is started again. */
async function askAll(target, requests) {
  const seen = [];
  await target.ready();
  for (const request of requests) {
    const official = await target.signIn('official');
    const answer = await official.ask(request.path, { ...request, timeout_ms: 8_000 });
    await sleep(30); // a process that dies of it needs a moment
    const died = !target.alive();
    seen.push({ request, answer, died });
    await target.ready();
  }
  return seen;
}

async function survives(target) {
  const seen = await askAll(target, wrongs());
  const died = seen.filter(({ died: dead }) => dead);
  const bad = seen.filter(({ answer, died: dead }) => !dead && (answer.status === 0 || answer.status >= 500));
  const findings = [
    ...died.map(({ request }) => `process died: ${named(request)}`),
    ...bad.map(({ request, answer }) => `${answer.status || answer.reason}: ${named(request)}`),
  ];
  return { passed: findings.length === 0, evidence: findings.join('; ') || `${seen.length} wrong requests, all answered with 4xx` };
}

async function unavailable(target) {
  const official = await target.signIn('official');
  await official.ask('/api/orders'); // a warm pool: idle connections are cut too
  await target.wire.cut();
  const findings = [];
  for (const path of READS) {
    const answer = await official.ask(path, { timeout_ms: 6_000 });
    if (answer.status !== 503) findings.push(`${path}: ${answer.status || answer.reason}`);
    else if (!answer.headers['retry-after']) findings.push(`${path}: 503 without Retry-After`);
  }
  await sleep(200); // its end is noticed a little later
  if (!target.alive()) findings.unshift('process died');
  await target.wire.mend();
  let back = 0;
  for (let tries = 0; tries < 50 && back !== 200; tries++) {
    back = (await official.ask('/api/orders', { timeout_ms: 2_000 })).status;
    if (back !== 200) await sleep(100);
  }
  if (back !== 200) findings.push('does not come back with its database');
  return { passed: findings.length === 0, evidence: findings.join('; ') || `${READS.length} × 503 with Retry-After, then 200` };
}

async function safe(target) {
  const seen = await askAll(target, wrongs());
  const leaks = seen.filter(({ answer }) => answer.status >= 400 && LEAK.test(answer.text));
  const anonymous = seen.filter(({ answer }) => answer.status >= 400 && !answer.json?.request_id && !answer.headers['x-request-id']);
  const silent = seen.filter(({ answer }) => answer.status === 0);
  const findings = [
    ...leaks.map(({ request, answer }) => `${named(request)} tells ${LEAK.exec(answer.text)[0]}`),
    ...anonymous.map(({ request, answer }) => `${named(request)}: ${answer.status} without a request id`),
    ...silent.map(({ request }) => `${named(request)}: no answer at all`),
  ];
  return { passed: findings.length === 0, evidence: findings.join('; ') || `${seen.length} wrong requests, nothing told` };
}

/** The lines of `lines` that a machine can read and that name an error. */
function errorLines(lines) {
  return lines
    .map((line) => {
      try {
        return JSON.parse(line);
      } catch {
        return {};
      }
    })
    .filter((line) => /^(warn|error|fatal)$/.test(line.level));
}

async function logged(target) {
  const official = await target.signIn('official');
  const faults = [];
  // 4xx is the caller's fault. An error that was swallowed is answered like a success: nobody will ever read of it.
  const fault = async (name, work, swallowed = []) => {
    const before = target.log().length;
    const answer = await work();
    await sleep(100);
    if (answer.status !== 0 && answer.status < 500 && !swallowed.includes(answer.status)) return;
    const lines = errorLines(target.log().slice(before));
    const ids = lines.filter((line) => line.request_id ?? line.trace_id);
    faults.push({ name, ok: ids.length > 0, status: answer.status });
  };
  await fault('a query that fails', () => official.ask('/api/orders/abc'));
  await fault('a refund that cannot be', () => official.ask('/api/orders/99999999999999999999/refund', { method: 'POST' }), [200]);
  await target.wire.cut();
  await fault('no database', () => official.ask('/api/orders', { timeout_ms: 6_000 }));
  const missed = faults.filter(({ ok }) => !ok);
  return {
    passed: missed.length === 0,
    evidence: missed.length
      ? `no structured line for ${missed.map(({ name, status }) => `${name} (${status || 'no answer'})`).join(', ')}`
      : `${faults.length} faults, each with a line`,
  };
}

async function critical(target) {
  const endpoints = [
    { name: 'sign in', bad: post(target.signInPath, '{'), good: post(target.signInPath, target.accounts.user) },
    {
      name: 'checkout',
      bad: post('/api/checkout', { items: [{}] }),
      good: post('/api/checkout', { items: [{ licence_kind: 'mekaniker', quantity: 1 }] }),
    },
    { name: 'one order', bad: { path: '/api/orders/x' }, good: { path: '/api/orders/7' } },
    { name: 'refund', bad: post('/api/orders/x/refund'), good: post('/api/orders/7/refund') },
  ];
  const findings = [];
  for (const { name, bad, good } of endpoints) {
    const [{ answer, died }] = await askAll(target, [bad]);
    if (died) findings.push(`${name}: bad input ends the process`);
    else if (answer.status < 400 || answer.status >= 500) findings.push(`${name}: bad input answered with ${answer.status}`);
    const official = await target.signIn('official');
    await target.wire.cut();
    const away = await official.ask(good.path, { ...good, timeout_ms: 6_000 });
    if (away.status !== 503) findings.push(`${name}: ${away.status || 'no answer'} without a database`);
    await target.ready();
  }
  return {
    passed: findings.length === 0,
    evidence: findings.join('; ') || `${endpoints.length} of ${endpoints.length} critical endpoints`,
  };
}

export default [
  { id: 'errors-survives', breaks: ['err.exception-handling'], needs: 'wire', probe: survives },
  { id: 'errors-database-away', breaks: ['err.db-unavailable-503'], needs: 'wire', probe: unavailable },
  { id: 'errors-tell-nothing', breaks: ['err.safe-500'], needs: 'wire', probe: safe },
  { id: 'errors-logged', breaks: ['err.logged'], needs: 'wire', probe: logged },
  { id: 'errors-critical', breaks: ['ready.success.error-handling'], needs: 'wire', probe: critical },
];
