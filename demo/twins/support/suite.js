// Runs a command of a twin, and its test suite once for all probes that ask about it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';

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

async function runSuite(target) {
  // A runner that finds NODE_TEST_CONTEXT believes to be a child of this one, and counts nothing.
  const env = { NODE_TEST_CONTEXT: undefined, FORCE_COLOR: '0' };
  const commits = () => target.query?.('SELECT sum(xact_commit)::int AS n FROM pg_stat_database').then(([row]) => row.n);
  const before = await commits();
  const { code, output } = await run('npm', ['test'], { cwd: target.folder, env });
  const sum = (name) => [...output.matchAll(new RegExp(`^(?:#|ℹ) ${name} (\\d+)`, 'gm'))].reduce((total, [, n]) => total + Number(n), 0);
  const contacted = before === undefined ? null : (await commits()) - before;
  return { code, output, tests: sum('tests'), failed: sum('fail'), skipped: sum('skipped'), contacted };
}
