// Who may do what, and what reaches the database.

import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { sourcesOf } from '../support/sources.js';
import { rowsOf } from '../support/target.js';

// A value put into SQL: `= ${x}`, `'${x}'`, `(${x}`, or a string with SQL in it and a plus.
const BUILT = [
  /`[^`]*\b(SELECT|INSERT|UPDATE|DELETE|SET|WHERE)\b[^`]*(=|'|%|VALUES \()\s*\$\{[^`]*`/g,
  /'[^'\n]*\b(SELECT|INSERT|UPDATE|DELETE|WHERE)\b[^'\n]*'\s*\+/g,
];

async function parameterised(target) {
  const findings = [];
  for (const path of await sourcesOf(target.folder)) {
    const text = await readFile(path, 'utf8');
    const hits = BUILT.flatMap((pattern) => text.match(pattern) ?? []);
    if (hits.length > 0)
      findings.push(`${path.slice(target.folder.length + 1)}: ${hits.length} statements built from values, first ${hits[0].slice(0, 60)}`);
  }
  // What the source looks like is one thing; what is sent is another.
  const marker = 'zqmarkerqz';
  const official = await target.signIn('official');
  const before = target.wire.texts.length;
  await official.ask(`/api/orders?q=${marker}`);
  await official.ask(`/api/licences?kind=${marker}`);
  await target.ask(target.signInPath, { method: 'POST', body: { email: `${marker}@example.com`, password: marker } });
  const carried = target.wire.texts.slice(before).filter((text) => text.includes(marker));
  if (carried.length > 0) findings.push(`${carried.length} statements carry what the caller typed, first ${carried[0].slice(0, 90)}`);
  return { passed: findings.length === 0, evidence: findings.join('; ') || 'no statement carries what the caller typed' };
}

async function access(target) {
  const findings = [];
  const refused = (name, answer, statuses) => {
    if (!statuses.includes(answer.status)) findings.push(`${name}: ${answer.status || answer.reason}`);
  };
  for (const path of ['/api/orders', '/api/licences', '/api/users', '/api/orders/7', '/api/users/2'])
    refused(`anonymous reads ${path}`, await target.ask(path), [401]);
  const [user, other, admin] = await Promise.all(['user', 'other', 'admin'].map((who) => target.signIn(who)));

  // Somebody else's things.
  const theirs = rowsOf(await admin.ask(`/api/orders?user_id=${other.user.id}`)).find((row) => row.user_id === other.user.id) ?? { id: 1 };
  refused(`a user reads order ${theirs.id} of another`, await user.ask(`/api/orders/${theirs.id}`), [403, 404]);
  refused('a user reads another user', await user.ask(`/api/users/${other.user.id}`), [403, 404]);
  refused('a user lists the users', await user.ask('/api/users'), [403]);
  refused(
    'a user suspends a licence',
    await user.ask('/api/licences/bulk', {
      method: 'POST',
      body: { items: [{ id: 1, status: 'active' }] },
      headers: { 'idempotency-key': randomUUID() },
    }),
    [403],
  );

  // One's own role.
  await user.ask(`/api/users/${user.user.id}`, { method: 'PATCH', body: { role: 'admin' } });
  const now = await admin.ask(`/api/users/${user.user.id}`);
  if (now.json?.role !== 'user') findings.push(`a user made himself ${now.json?.role}`);
  await admin.ask(`/api/users/${user.user.id}`, { method: 'PATCH', body: { role: 'user' } });

  // The cookie.
  const cookie = user.cookies.find((line) => /session|lisens/.test(line)) ?? '';
  if (!/httponly/i.test(cookie)) findings.push('the session cookie is there for scripts');
  const again = await target.signIn('user', { fresh: true });
  if (again.cookies[0]?.split(';')[0] === user.cookies[0]?.split(';')[0])
    findings.push(`the same token each time: ${user.cookies[0]?.split(';')[0]}`);
  for (const forged of ['session=user-4', '__Host-lisens=admin'])
    refused(`forged ${forged}`, await target.ask('/api/users', { headers: { cookie: forged } }), [401]);
  return { passed: findings.length === 0, evidence: findings.join('; ') || 'no operation beyond what a role may do' };
}

const deep = `${'['.repeat(5000)}${']'.repeat(5000)}`;
const line = (quantity, licence_kind = 'mekaniker') => ({ items: [{ licence_kind, quantity }] });
const estimate = (more) => ({ discipline: 'rally', age: 30, races: 5, mechanics: 1, ...more });

const FUZZ = [
  ['/api/checkout', line(-5)],
  ['/api/checkout', line(0)],
  ['/api/checkout', line(1.5)],
  ['/api/checkout', line('1')],
  ['/api/checkout', line(1e9)],
  ['/api/checkout', line(1, "'; --")],
  ['/api/checkout', { items: [] }],
  ['/api/checkout', deep],
  ['/api/checkout', 'null'],
  ['/api/estimate', estimate({ races: 0 })],
  ['/api/estimate', estimate({ races: -3 })],
  ['/api/estimate', estimate({ mechanics: 'many' })],
  ['/api/estimate', estimate({ discipline: '__proto__' })],
  ['/api/estimate', { discipline: 'rally' }],
  ['/api/licences/bulk', { items: [{ id: 1, status: 'no such status' }] }],
  ['/api/licences/bulk', { items: [{ id: 'x', status: 'active' }] }],
  ['/api/licences/bulk', {}],
];

async function validation(target) {
  const findings = [];
  for (const [path, body] of FUZZ) {
    const admin = await target.signIn('admin');
    const sent = path === '/api/checkout' && body.items ? { user_id: admin.user.id, ...body } : body;
    // A quantity of a thousand million would keep the naive twin busy for hours: what matters is that it was taken.
    const timeout_ms = JSON.stringify(body).includes('1000000000') ? 1_500 : 8_000;
    const answer = await admin.ask(path, { method: 'POST', body: sent, headers: { 'idempotency-key': randomUUID() }, timeout_ms });
    await sleep(30);
    const asked = `${path} ${JSON.stringify(body).slice(0, 60)}`;
    if (target.mine && !target.alive()) findings.push(`process died: ${asked}`);
    else if (answer.status < 400 || answer.status >= 500) findings.push(`${answer.status || answer.reason}: ${asked}`);
    if (target.mine && answer.status === 0) await target.restart();
  }
  const outside = await target.ask('/..%2fserver.js');
  if (outside.text.includes('createServer')) findings.push('/..%2fserver.js is the source of the server');
  return { passed: findings.length === 0, evidence: findings.join('; ') || `${FUZZ.length} bad bodies, all refused` };
}

export default [
  { id: 'security-sql', breaks: ['sec.parameterized-queries'], needs: 'wire', probe: parameterised },
  { id: 'security-access', breaks: ['sec.access-control'], needs: 'api', probe: access },
  { id: 'security-input', breaks: ['sec.input-validation'], needs: 'wire', probe: validation },
];
