// What the database has to do for an answer.

import { readFile } from 'node:fs/promises';
import { sourcesOf } from '../support/sources.js';
import { rowsOf } from '../support/target.js';

// The questions that both twins ask all day, on tables that both have.
const HOT = [
  'SELECT id FROM orders ORDER BY created_at DESC, id DESC LIMIT 20',
  'SELECT id FROM orders WHERE user_id = 77 ORDER BY created_at DESC, id DESC LIMIT 20',
  'SELECT id FROM licences WHERE user_id = 77',
  'SELECT id FROM licences WHERE order_id = 77',
  'SELECT licence_kind FROM order_lines WHERE order_id = 77',
];

async function indexes(target) {
  const scanned = [];
  for (const statement of HOT) {
    const plan = await target.query(`EXPLAIN ${statement}`);
    const lines = plan.map((row) => row['QUERY PLAN']);
    if (lines.some((line) => line.includes('Seq Scan'))) scanned.push(statement);
  }
  return {
    passed: scanned.length === 0,
    evidence: scanned.length ? `read from end to end: ${scanned.join('; ')}` : `${HOT.length} plans use an index`,
  };
}

async function statementsPerRequest(target) {
  const official = await target.signIn('official');
  const counts = {};
  for (const path of ['/print', '/api/orders', '/api/licences', '/api/users', '/api/orders/7']) {
    counts[path] = await target.statements(() => official.ask(path, { timeout_ms: 30_000 }));
  }
  const worst = Math.max(...Object.values(counts));
  return { passed: worst <= 8, evidence: `statements per request: ${JSON.stringify(counts)}` };
}

async function selective(target) {
  const findings = [];
  for (const path of await sourcesOf(target.folder)) {
    const text = await readFile(path, 'utf8');
    const stars = text.match(/\bSELECT\s+(\w+\.)?\*\s*(,|\s+FROM|\$\{)/gi) ?? [];
    if (stars.length > 0) findings.push(`${path.slice(target.folder.length + 1)}: ${stars.length} × SELECT *`);
  }
  const official = await target.signIn('official');
  for (const path of ['/api/orders', '/api/licences', '/api/users']) {
    const row = rowsOf(await official.ask(`${path}?limit=5&fields=id`))[0] ?? {};
    const more = Object.keys(row).filter((name) => name !== 'id');
    if (more.length > 0 || !('id' in row)) findings.push(`${path}?fields=id answers ${Object.keys(row).join(', ') || 'nothing'}`);
  }
  return { passed: findings.length === 0, evidence: findings.join('; ') || 'no SELECT *, and fields= is honoured' };
}

export default [
  { id: 'data-plans', breaks: ['data.index'], needs: 'database', probe: indexes },
  { id: 'data-statements', breaks: ['data.query-optimization'], needs: 'wire', probe: statementsPerRequest },
  { id: 'data-columns', breaks: ['data.selective-fetch'], needs: 'api', probe: selective },
];
