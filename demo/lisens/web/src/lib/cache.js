// The cache behind SWR. It is ours, so that a write can correct every list that it made untrue, pages and all.

export const cache = new Map();

/** Changes rows wherever a cached list shows them. A list that is on the screen draws itself anew through its own `change`. */
export function patchLists(path, part, changed) {
  const patched = (page) => ({ ...page, [part]: page[part].map(changed) });
  for (const [key, entry] of cache) {
    if (!entry.data) continue;
    if (key.startsWith(`${path}?`)) cache.set(key, { ...entry, data: patched(entry.data) });
    else if (key.startsWith(`$inf$${path}?`)) cache.set(key, { ...entry, data: entry.data.map(patched) });
  }
}

export const swrConfig = {
  provider: () => cache,
  dedupingInterval: 2000,
  focusThrottleInterval: 30_000,
  // What another answer would not change is not asked again; what may pass is, at the server's own pace.
  shouldRetryOnError: (error) => error.status === 0 || error.status === 429 || error.status >= 500,
  onErrorRetry(error, key, config, revalidate, { retryCount }) {
    if (retryCount > 6 || error.code === 'offline') return; // coming online revalidates anyway
    const wait = Math.max((error.retryAfter ?? 0) * 1000, Math.min(1000 * 2 ** retryCount, 30_000));
    setTimeout(() => revalidate({ retryCount }), wait);
  },
};
