// Builds dist/, unless what lies there was built from the same sources. A release that changes only the API then
// costs no front-end build.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const home = fileURLToPath(new URL('.', import.meta.url));
const stamp = `${home}dist/.built-from`;
const SOURCES = ['index.html', 'package.json', 'package-lock.json', 'vite.config.js', 'build.js', 'build', 'src', 'public'];

function digest() {
  const hash = createHash('sha256');
  const add = (path) => {
    if (!existsSync(home + path)) return;
    hash
      .update(`${path}\0`)
      .update(readFileSync(home + path))
      .update('\0');
  };
  for (const source of SOURCES) {
    if (existsSync(home + source) && readdirSafe(source)) readdirSafe(source).forEach(add);
    else add(source);
  }
  return hash.digest('hex');
}

/** The files below a folder, sorted; null when it is none. */
function readdirSafe(folder) {
  try {
    const entries = readdirSync(home + folder, { recursive: true, withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => `${entry.parentPath ?? entry.path}/${entry.name}`.slice(home.length))
      .sort();
  } catch {
    return null;
  }
}

const wanted = digest();
const built = existsSync(stamp) ? readFileSync(stamp, 'utf8') : null;
if (built === wanted) {
  console.log('the front end is built already');
} else {
  const npm = (...args) => execFileSync('npm', args, { cwd: home, stdio: 'inherit' });
  npm('ci', '--include=dev', '--no-audit', '--no-fund'); // the tools, also where NODE_ENV says production
  npm('run', 'build');
  writeFileSync(stamp, wanted);
}
