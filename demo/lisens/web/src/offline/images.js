// Images: what is there at once, and a fresh one for the next time.

import { IMAGE_CACHE } from './names.js';

const MOST = 80;

export function createImages({ caches, fetch, most = MOST }) {
  /** The answer, and what goes on after it. */
  async function answer(request) {
    const cache = await caches.open(IMAGE_CACHE);
    const kept = await cache.match(request.url, { ignoreVary: true });
    const fetched = fetch(request);
    const stored = fetched.then((fresh) => (fresh.status === 200 ? keep(cache, request.url, fresh.clone()) : undefined)).catch(() => {}); // the answer itself tells of a failure
    return { response: kept ?? (await fetched), stored };
  }

  async function keep(cache, url, fresh) {
    await cache.put(url, fresh);
    const keys = await cache.keys();
    await Promise.all(keys.slice(0, Math.max(0, keys.length - most)).map((key) => cache.delete(key)));
  }

  return { answer };
}
