// Builds the service worker to /sw.js, with the list of what makes up the pages in it.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { build } from 'vite';
import { chunkOf, entryOf, needed } from './chunks.js';

const ALWAYS = ['icon.svg', 'manifest.webmanifest'];

export async function buildWorker({ root, dist, bundle, worker, firstRoute }) {
  await build({
    root,
    configFile: false,
    envDir: false,
    logLevel: 'warn',
    define: { __MANIFEST__: JSON.stringify(await manifest(dist, bundle, firstRoute)) },
    build: {
      target: 'es2022',
      outDir: dist,
      emptyOutDir: false,
      copyPublicDir: false,
      sourcemap: true,
      lib: { entry: worker, formats: ['iife'], name: 'lisens', fileName: () => 'sw.js' },
    },
  });
}

async function manifest(dist, bundle, firstRoute) {
  const entry = entryOf(bundle);
  const { scripts, styles } = needed(bundle, [entry, chunkOf(bundle, firstRoute)]);
  const first = [...styles, ...scripts, ...ALWAYS.filter((file) => existsSync(`${dist}/${file}`))];
  // Images are kept when they are seen, maps are for those who look for them.
  const rest = Object.keys(bundle).filter((file) => /\.(?:js|css|woff2)$/.test(file) && !first.includes(file));
  const hash = createHash('sha256').update([...first, ...rest].join());
  for (const file of ['index.html', ...ALWAYS.filter((each) => first.includes(each))]) hash.update(await readFile(`${dist}/${file}`));
  return {
    version: hash.digest('hex').slice(0, 16),
    entry: `/${entry.fileName}`,
    shell: first.map((file) => `/${file}`),
    lazy: rest.sort().map((file) => `/${file}`),
  };
}
