// All tests, and how much of the code they have run. Needs DATABASE_URL and
// REDIS_URL; with LISENS_URL, where the whole shop is served, in a browser too.
//
// coverage/lcov.info is of the shop and its pages together; below LEAST_LINES
// this ends with 1. coverage/junit*.xml are the results.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CoverageReport } from 'monocart-coverage-reports';

const LEAST_LINES = 80;
const home = fileURLToPath(new URL('..', import.meta.url));
const coverage = `${home}coverage`;

rmSync(coverage, { recursive: true, force: true });
mkdirSync(`${coverage}/pages`, { recursive: true });

/** The test files of a folder, through node's own runner. */
function run(name, folder, options, env) {
  const files = readdirSync(home + folder)
    .filter((file) => file.endsWith('.test.js'))
    .map((file) => folder + file);
  const reporters = ['--test-reporter=spec', '--test-reporter-destination=stdout', '--test-reporter=junit'];
  const args = ['--test', ...options, ...reporters, `--test-reporter-destination=coverage/${name}`, ...files];
  return spawnSync(process.execPath, args, { cwd: home, stdio: 'inherit', env: { ...process.env, ...env } }).status === 0;
}

let good = run('junit.xml', 'test/', [], { NODE_V8_COVERAGE: `${coverage}/v8` });
if (process.env.LISENS_URL) {
  // One after the other: they count what the server is asked.
  good = run('junit-browser.xml', 'test/browser/', ['--test-concurrency=1'], { LISENS_COVERAGE: `${coverage}/pages` }) && good;
}

const mine = (path) => /^(server|migrate)\.js$|^src\/|^web\/src\//.test(path);
const report = new CoverageReport({
  outputDir: coverage,
  reports: [['lcovonly', { file: 'lcov.info' }], 'console-summary'],
  entryFilter: (entry) =>
    (entry.url.startsWith(`file://${home}`) && !/node_modules|\/test\//.test(entry.url)) || /\/assets\/[\w-]+\.js$/.test(entry.url),
  sourcePath: (path) =>
    path.replace(/^.*?(?=(?:web\/)?src\/)/, '').replace(/^src\/(?=.*\.jsx$|(?:components|pages|lib|i18n|offline)\/)/, 'web/src/'),
  sourceFilter: (path) => mine(path),
  cleanCache: true,
  logging: 'error',
});
if (existsSync(`${coverage}/v8`)) await report.addFromDir(`${coverage}/v8`);
for (const file of readdirSync(`${coverage}/pages`)) {
  const entries = JSON.parse(readFileSync(`${coverage}/pages/${file}`, 'utf8')).filter(({ url }) => /\/assets\/[\w-]+\.js$/.test(url));
  for (const entry of entries) {
    const map = `${home}web/dist${new URL(entry.url).pathname}.map`;
    if (existsSync(map)) entry.sourceMap = JSON.parse(readFileSync(map, 'utf8'));
  }
  if (entries.length > 0) await report.add(entries);
}
const { summary } = await report.generate();
if (summary.lines.pct < LEAST_LINES) {
  console.error(`${summary.lines.pct} % of the lines were run by the tests; at least ${LEAST_LINES} % must be`);
  good = false;
}
process.exitCode = good ? 0 : 1;
