// The last answers of the API, for when it cannot be asked: from the network if at all possible, otherwise what it
// said last, with the time in a header so that the page can say "as of".

import { API_CACHE, CACHED_AT } from './names.js';
import { within } from './within.js';

const MOST = 60;
const LIMIT = 8_000; // less than the pages wait
const SESSION = '/api/session';
const OPEN = new Set([SESSION, '/api/licence-kinds']); // say nothing of who asks

export function createAnswers({ caches, fetch, now = Date.now, most = MOST, limit = LIMIT }) {
  let generation = 0; // what was asked for before forgetting is not kept after it
  let writing = Promise.resolve();

  async function answer(request) {
    const asked = generation;
    const fetched = fetch(request).then((fresh) => {
      if (fresh.status === 200) keep(request.url, fresh.clone(), asked);
      return fresh;
    });
    try {
      const fresh = await within(fetched, limit);
      if (fresh && !UNAVAILABLE.has(fresh.status)) return fresh;
    } catch (error) {
      const kept = await last(request);
      if (kept) return kept;
      throw error;
    }
    return (await last(request)) ?? fetched;
  }

  /** One at a time, as who is signed in decides what of the rest may stay. */
  function keep(url, fresh, asked) {
    // A cache that cannot be written, on a full disk say, is no reason to fail.
    writing = writing.then(() => write(url, fresh, asked)).catch(() => {});
  }

  async function write(url, fresh, asked) {
    const text = await fresh.text();
    if (asked !== generation) return;
    const path = new URL(url).pathname;
    const known = await lastSession();
    if (path === SESSION) {
      if (known?.user && known.user.id !== JSON.parse(text).user?.id) await caches.delete(API_CACHE);
    } else if (!OPEN.has(path) && !known?.user) {
      // Somebody has signed in since: without a session the pages would not show this answer when it is needed.
      const session = await fetch(new URL(SESSION, url).href, { credentials: 'same-origin' });
      if (session.status === 200) await put(new URL(SESSION, url).href, session, await session.text());
    }
    await put(url, fresh, text);
    if (asked !== generation) await caches.delete(API_CACHE);
  }

  async function put(url, { headers: sent }, text) {
    const headers = new Headers(sent);
    for (const name of ['content-encoding', 'content-length']) headers.delete(name); // of the body as it travelled
    headers.set(CACHED_AT, new Date(now()).toISOString());
    const cache = await caches.open(API_CACHE);
    await cache.put(url, new Response(text, { headers }));
    await trim(cache);
  }

  async function lastSession() {
    const cache = await caches.open(API_CACHE);
    const key = (await cache.keys()).find((request) => new URL(request.url).pathname === SESSION);
    return key ? (await cache.match(key.url, { ignoreVary: true })).json() : null;
  }

  /** The first pages are what people come back to; what lies further down goes first. */
  async function trim(cache) {
    const keys = await cache.keys();
    let tooMany = keys.length - most;
    const deep = (request) => new URL(request.url).searchParams.has('cursor');
    const fixed = (request) => OPEN.has(new URL(request.url).pathname);
    for (const request of [...keys.filter(deep), ...keys.filter((each) => !deep(each) && !fixed(each))]) {
      if (tooMany-- <= 0) return;
      await cache.delete(request);
    }
  }

  async function last(request) {
    // Who wants it fresh or not at all says so; the queue does before it sends.
    if (request.cache === 'no-store') return undefined;
    const cache = await caches.open(API_CACHE);
    return cache.match(request.url, { ignoreVary: true });
  }

  async function forget() {
    generation += 1;
    await caches.delete(API_CACHE);
  }

  return { answer, forget, settled: () => writing };
}

const UNAVAILABLE = new Set([502, 503, 504]);
