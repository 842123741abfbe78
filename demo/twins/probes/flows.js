// Whole ways through the shop, step by step.

import { randomUUID } from 'node:crypto';
import { rowsOf } from '../support/target.js';

async function buyAndLeave(target) {
  const steps = [];
  const step = (name, ok, why) => steps.push(ok ? { name } : { name, why });
  const user = await target.signIn('user', { fresh: true });
  step('sign in', user.answer.status === 201 || user.answer.status === 200, user.answer.status);
  const kind = rowsOf(await user.ask('/api/licence-kinds')).find((each) => each.kind === 'engangslisens');
  step('see the kinds', kind?.price_ore > 0, 'no engangslisens');
  const bought = await user.ask('/api/checkout', {
    method: 'POST',
    headers: { 'idempotency-key': randomUUID() },
    // The careful twin knows who asks; the naive one believes what it is told.
    body: { ...(target.signInPath === '/api/login' && { user_id: user.user.id }), items: [{ licence_kind: 'engangslisens', quantity: 3 }] },
  });
  const order = bought.json;
  step('buy three', bought.status === 201 && Number.isInteger(order?.id), `${bought.status || bought.reason}, order ${order?.id}`);
  const mine = await user.ask(`/api/orders?user_id=${user.user.id}&limit=20`);
  step(
    'see it first in my orders',
    rowsOf(mine)[0]?.id === order?.id && rowsOf(mine).every((row) => row.user_id === user.user.id),
    `first is ${rowsOf(mine)[0]?.id} of ${rowsOf(mine).length}`,
  );
  const one = await user.ask(`/api/orders/${order?.id}`);
  const lines = one.json?.items ?? [];
  const total = lines.reduce((sum, line) => sum + line.unit_price_ore * line.quantity, 0);
  step(
    'its total is that of its lines, in whole øre',
    lines.length === 1 && Number.isInteger(one.json?.total_ore) && one.json.total_ore === total,
    `total ${one.json?.total_ore}, lines ${total}`,
  );
  step('it has three licences', one.json?.licences?.length === 3, `${one.json?.licences?.length}`);
  const out = await user.ask('/api/session', { method: 'DELETE' });
  step('sign out', out.status === 204, out.status);
  const after = await user.ask(`/api/orders/${order?.id}`);
  step('and it is closed', after.status === 401, after.status);
  const wrong = steps.filter(({ why }) => why !== undefined);
  return {
    passed: wrong.length === 0,
    evidence: `${steps.length - wrong.length} of ${steps.length} steps${wrong.map(({ name, why }) => `; ${name}: ${why}`).join('')}`,
  };
}

async function doubleClick(target) {
  const user = await target.signIn('user', { fresh: true });
  const naive = target.signInPath === '/api/login';
  const click = (key) =>
    user.ask('/api/checkout', {
      method: 'POST',
      headers: { 'idempotency-key': key },
      body: { ...(naive && { user_id: user.user.id }), items: [{ licence_kind: 'engangslisens', quantity: 1 }] },
    });
  const key = randomUUID();
  const answers = await Promise.all([click(key), click(key)]);
  answers.push(await click(key));
  const ids = new Set(answers.map(({ json }) => json?.id).filter(Boolean));
  const findings = [];
  if (ids.size !== 1) findings.push(`${ids.size} orders for one purchase`);
  const total = answers.at(-1).json?.total_ore;
  if (!Number.isInteger(total)) findings.push(`total is ${total} øre`);

  // Load: all of them succeed. What a step costs is told, not judged: the machine is shared with the tests.
  const times = [];
  let lost = 0;
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (let n = 0; n < 10; n++) {
        const from = performance.now();
        const { status } = await click(randomUUID());
        times.push(performance.now() - from);
        if (status !== 201 && !(naive && status === 200)) lost++;
      }
    }),
  );
  const p95 = times.sort((a, b) => a - b)[Math.floor(times.length * 0.95)];
  if (lost > 0) findings.push(`${lost} of ${times.length} checkouts failed`);
  return {
    passed: findings.length === 0,
    evidence: findings.join('; ') || `one order for three clicks; ${times.length} checkouts, p95 ${Math.round(p95)} ms`,
  };
}

export default [
  { id: 'flow-purchase', breaks: ['test.e2e'], needs: 'api', probe: buyAndLeave },
  { id: 'flow-double-click', breaks: ['ux.checkout'], needs: 'api', probe: doubleClick },
];
