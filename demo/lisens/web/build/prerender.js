// Writes the shell into the page, so that something is seen before any script has run.

import react from '@vitejs/plugin-react';
import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { createElement } from 'react';
import { build } from 'vite';
import { named } from './names.js';

const ROOT = '<div id="root"></div>';

export async function prerender({ root, dist, shell }) {
  if (!existsSync(`${root}/${shell}`)) return;
  const page = await readFile(`${dist}/index.html`, 'utf8');
  if (!page.includes(ROOT)) throw new Error(`index.html has no ${ROOT}`);
  // Below node_modules, from where React is found.
  const folder = `${root}/node_modules/.lisens`;
  try {
    await build({
      root,
      configFile: false,
      envDir: false,
      logLevel: 'warn',
      plugins: [react()],
      build: {
        ssr: shell,
        outDir: folder,
        target: 'node20',
        copyPublicDir: false,
        assetsInlineLimit: 0,
        rollupOptions: { output: { ...named, entryFileNames: 'shell.js' } },
      },
    });
    const { renderToString } = await import('react-dom/server');
    const { Shell } = await import(`${pathToFileURL(folder)}/shell.js`);
    const html = renderToString(createElement(Shell));
    await writeFile(
      `${dist}/index.html`,
      page.replace(ROOT, () => ROOT.replace('><', `>${html}<`)),
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
