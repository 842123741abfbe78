// The files of a twin that its authors wrote.

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

const NOT_OURS = new Set(['node_modules', 'dist', 'coverage', 'test', 'tests', 'photos', '.git']);

/** Every file under `folder` whose name matches, tests and built files left out. */
export async function filesOf(folder, matches, left = NOT_OURS) {
  const found = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && !left.has(entry.name)) found.push(...(await filesOf(path, matches, left)));
    if (entry.isFile() && matches.test(entry.name)) found.push(path);
  }
  return found;
}

export const sourcesOf = (folder) => filesOf(folder, /\.(js|jsx|mjs)$/);
