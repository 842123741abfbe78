// What a release has to get past: linters, tests, coverage, a manual.

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { filesOf } from '../support/sources.js';
import { run, suiteOf } from '../support/suite.js';

const home = fileURLToPath(new URL('..', import.meta.url));
const tool = (name) => join(home, 'node_modules/.bin', name);

const scriptsOf = async (folder) => JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')).scripts ?? {};

/** The linters by the twin's own settings, or by ours where it has none. */
async function lint(target) {
  const own = ['eslint.config.js', 'eslint.config.mjs'].some((name) => existsSync(join(target.folder, name)));
  const config = own ? [] : ['--no-config-lookup', '--config', join(home, 'eslint.config.js')];
  const eslint = await run(tool('eslint'), [...config, '.'], { cwd: target.folder });
  const files = await filesOf(target.folder, /\.(js|jsx)$/, new Set(['node_modules', 'dist', 'coverage', 'photos']));
  const prettier = await run(tool('prettier'), ['--check', ...files], { cwd: target.folder });
  const errors = /\((\d+) errors?/.exec(eslint.output)?.[1] ?? (eslint.code === 0 ? 0 : 'unknown');
  const unformatted = prettier.output.split('\n').filter((line) => line.startsWith('[warn]') && /\.jsx?$/.test(line)).length;
  // Settings that let everything pass would be no linters.
  const planted = await run(tool('eslint'), [...config, '--stdin', '--stdin-filename', 'server.js'], {
    cwd: target.folder,
    input: 'if (nobodyKnowsThis) { const left = 1; }\n',
  });
  const { lint: script } = await scriptsOf(target.folder);
  const findings = [];
  if (eslint.code !== 0) findings.push(`eslint: ${errors} errors`);
  if (prettier.code !== 0) findings.push(`prettier: ${unformatted} of ${files.length} files not formatted`);
  if (planted.code === 0) findings.push('a planted error is not seen');
  if (!script) findings.push('no lint script');
  return { passed: findings.length === 0, evidence: findings.join('; ') || `${files.length} files clean` };
}

async function stage(target) {
  const { code, tests, failed, skipped, output } = await suiteOf(target);
  const passed = code === 0 && tests > 0 && failed === 0 && skipped === 0;
  return {
    passed,
    evidence: `npm test ended with ${code}: ${tests} tests, ${failed} failed, ${skipped} skipped${tests ? '' : ` (${output.trim().split('\n').at(-1)})`}`,
  };
}

const lcovPaths = ['coverage/lcov.info', 'lcov.info', 'coverage/report/lcov.info'];

/** The coverage file of the folder, made by its `coverage` script when there is one; null without. */
async function lcovOf(target) {
  const find = () => lcovPaths.map((path) => join(target.folder, path)).find(existsSync);
  if (!find() && (await scriptsOf(target.folder)).coverage)
    await run('npm', ['run', 'coverage'], { cwd: target.folder, env: { NODE_TEST_CONTEXT: undefined } });
  const path = find();
  if (!path) return null;
  const text = await readFile(path, 'utf8');
  const sum = (name) => [...text.matchAll(new RegExp(`^${name}:(\\d+)`, 'gm'))].reduce((total, [, n]) => total + Number(n), 0);
  return { lines: [sum('LH'), sum('LF')], functions: [sum('FNH'), sum('FNF')] };
}

const enough = ([hit, found]) => found > 0 && hit / found >= 0.8;

async function coverage(target) {
  const lcov = await lcovOf(target);
  if (!lcov) return { passed: false, evidence: 'no lcov file, and no script that writes one' };
  return { passed: enough(lcov.lines), evidence: `${lcov.lines.join(' of ')} lines covered` };
}

async function unit(target) {
  const { tests, failed } = await suiteOf(target);
  const lcov = await lcovOf(target);
  const passed = tests > 0 && failed === 0 && lcov !== null && enough(lcov.functions);
  return {
    passed,
    evidence: `${tests} tests, ${failed} failed, ${lcov ? `${lcov.functions.join(' of ')} functions covered` : 'no coverage file'}`,
  };
}

async function integration(target) {
  const { tests, failed, contacted } = await suiteOf(target);
  const passed = tests > 0 && failed === 0 && (contacted === null || contacted > 10);
  return { passed, evidence: `${tests} tests, ${failed} failed, ${contacted ?? 'unknown'} transactions in the database meanwhile` };
}

/** The flows that a user has, by the words that a manual needs for each, in English or Norwegian. */
const FLOWS = {
  'sign in': /sign in|log(ge)? inn?\b/i,
  orders: /orders?\b|ordre|bestilling/i,
  licences: /licences?\b|lisens/i,
  'buy a licence': /buy|checkout|kjøp/i,
  'estimate a season': /estimat|season|sesong/i,
  refund: /refund|refunder/i,
};

async function manual(target) {
  const found = (await filesOf(target.folder, /\.(md|html)$/i, new Set(['node_modules', 'dist', 'coverage']))).filter((path) =>
    /manual|user-guide|brukerveiledning|brukerhåndbok/i.test(path),
  );
  if (found.length === 0) return { passed: false, evidence: 'no user manual' };
  const text = (await Promise.all(found.map((path) => readFile(path, 'utf8')))).join('\n');
  const missing = Object.keys(FLOWS).filter((flow) => !FLOWS[flow].test(text));
  return {
    passed: missing.length === 0,
    evidence: missing.length ? `the manual leaves out: ${missing.join(', ')}` : `${Object.keys(FLOWS).length} flows in the manual`,
  };
}

export default [
  { id: 'pipeline-lint', breaks: ['deploy.stage.lint'], needs: 'folder', probe: lint },
  { id: 'pipeline-test', breaks: ['deploy.stage.test'], needs: 'folder', probe: stage },
  { id: 'pipeline-unit', breaks: ['test.unit'], needs: 'folder', probe: unit },
  { id: 'pipeline-integration', breaks: ['test.integration'], needs: 'folder', probe: integration },
  { id: 'pipeline-coverage', breaks: ['ready.success.coverage80'], needs: 'folder', probe: coverage },
  { id: 'pipeline-manual', breaks: ['docs.user-manual'], needs: 'folder', probe: manual },
];
