// What happens to dist/ after Vite has written it. The order matters: the worker's version is the digest of the
// finished page, and the compressed copies come last.

import { compress } from './compress.js';
import { head } from './head.js';
import { prerender } from './prerender.js';
import { guard } from './guard.js';
import { buildWorker } from './worker.js';

export function lisens({ firstRoute, shell, worker }) {
  let config;
  let bundle;
  return {
    name: 'lisens',
    apply: 'build',
    enforce: 'post',
    configResolved: (resolved) => void (config = resolved),
    transformIndexHtml: { order: 'post', handler: (html, context) => head(html, context.bundle, firstRoute) },
    writeBundle: (_, written) => void (bundle = written),
    closeBundle: {
      sequential: true,
      order: 'post',
      async handler() {
        if (!bundle) return; // the build failed, which has been said
        const { root } = config;
        const dist = `${root}/${config.build.outDir}`;
        await prerender({ root, dist, shell });
        await guard(dist);
        await buildWorker({ root, dist, bundle, worker, firstRoute });
        await compress(dist);
      },
    },
  };
}
