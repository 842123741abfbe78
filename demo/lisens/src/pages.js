// The shop's page and what it needs, read once and served from memory. The page
// names its files with their hash (?v=…): those may be kept for a year, the page
// itself is asked for again each time and mostly answered with 304.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

const FILES = [
  { path: '/app.js', file: 'app.js', type: 'text/javascript; charset=utf-8' },
  { path: '/style.css', file: 'style.css', type: 'text/css; charset=utf-8' },
  { path: '/icon.svg', file: 'icon.svg', type: 'image/svg+xml' },
];

/** Routes for everything in public/. */
export function pageRoutes(home) {
  const assets = FILES.map(({ path, file, type }) => asset(path, type, readFileSync(new URL(`public/${file}`, home))));
  let html = readFileSync(new URL('public/index.html', home), 'utf8');
  for (const { path, hash } of assets) html = html.replaceAll(`"${path}"`, `"${path}?v=${hash}"`);
  const page = asset('/', 'text/html; charset=utf-8', Buffer.from(html));
  return [page, ...assets].map((each) => ['GET', each.path, serve(each)]);
}

function asset(path, type, content) {
  const hash = createHash('sha256').update(content).digest('hex').slice(0, 16);
  return { path, type, content, hash, etag: `"${hash}"` };
}

function serve({ type, content, hash, etag }) {
  return async ({ request, query }) => {
    // During a release a new page may ask an old instance: then the hash differs.
    const lasting = query.get('v') === hash;
    const headers = { etag, 'cache-control': lasting ? 'public, max-age=31536000, immutable' : 'no-cache' };
    const known = (request.headers['if-none-match'] ?? '').split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag);
    if (known) return { status: 304, headers };
    return { headers: { ...headers, 'content-type': type }, body: content };
  };
}
