// Runs a command of a twin; and its test suite, once for all probes that ask about it, unless it has just been run.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Runs to the end, or for `limit_ms`. */
export async function run(command, args, { cwd, env = {}, input = '', limit_ms = 170_000 } = {}) {
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.on('error', () => {}).end(input);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const timer = setTimeout(() => child.kill('SIGKILL'), limit_ms);
  const [code] = await once(child, 'close');
  clearTimeout(timer);
  return { code, output };
}

const suites = new Map();

/** `npm test` in the folder: how it ended, what the runner counted, and what the database saw of it. */
export function suiteOf(target) {
  if (!suites.has(target.folder)) suites.set(target.folder, runSuite(target));
  return suites.get(target.folder);
}

// The results of a run are of this commit when they are no older than this.
const FRESH_MS = 3_600_000;

/** What the runner wrote down as JUnit, or null when there is none or it is old. */
async function written(target) {
  const folder = join(target.folder, 'coverage');
  const files = existsSync(folder) ? readdirSync(folder).filter((name) => /^junit.*\.xml$/.test(name)) : [];
  if (files.length === 0 || files.some((name) => Date.now() - statSync(join(folder, name)).mtimeMs > FRESH_MS)) return null;
  const xml = files.map((name) => readFileSync(join(folder, name), 'utf8')).join('\n');
  const count = (pattern) => xml.match(pattern)?.length ?? 0;
  const failed = count(/<failure\b/g);
  return { code: failed === 0 ? 0 : 1, output: '', tests: count(/<testcase\b/g), failed, skipped: count(/<skipped\b/g), contacted: null };
}

async function runSuite(target) {
  const results = await written(target);
  if (results) return results;
  // A runner that finds NODE_TEST_CONTEXT believes to be a child of this one, and counts nothing.
  // Without the address: what needs a browser was run elsewhere.
  const env = { NODE_TEST_CONTEXT: undefined, FORCE_COLOR: '0', LISENS_URL: undefined };
  const commits = () => target.query?.('SELECT sum(xact_commit)::int AS n FROM pg_stat_database').then(([row]) => row.n);
  const before = await commits();
  const { code, output } = await run('npm', ['test'], { cwd: target.folder, env });
  const sum = (name) => [...output.matchAll(new RegExp(`^(?:#|ℹ) ${name} (\\d+)`, 'gm'))].reduce((total, [, n]) => total + Number(n), 0);
  const contacted = before === undefined ? null : (await commits()) - before;
  return { code, output, tests: sum('tests'), failed: sum('fail'), skipped: sum('skipped'), contacted };
}
