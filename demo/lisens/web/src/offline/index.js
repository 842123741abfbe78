// What the pages use of all this: queue a write, see what is waiting, throw one away.

import { useSyncExternalStore } from 'react';
import { lock } from './lock.js';
import { API_CACHE, CHANNEL, SYNC } from './names.js';
import { createQueue } from './queue.js';
import { store } from './store.js';
import { isOff } from './switch.js';

const NOTHING = [];
const LOOK_AGAIN = 30_000; // whether the one who queued something has signed in meanwhile
const listeners = new Set();
const channel = globalThis.BroadcastChannel && new BroadcastChannel(CHANNEL);
let pending = NOTHING;
let onSynced = () => {};
let timer;
let running;
let again = false;
let started = false;

const queue = createQueue({
  store,
  lock,
  fetch: (...args) => fetch(...args),
  changed() {
    channel?.postMessage({ type: 'changed' });
    refresh();
  },
  synced(write) {
    channel?.postMessage({ type: 'synced', write });
    onSynced(write);
  },
});

channel?.addEventListener('message', ({ data }) => {
  refresh();
  if (data.type === 'synced') onSynced(data.write);
});

let reading;
let stale = false;

/** What the pages see of a record. `error` is the server's code; its own words and the number of the request are beside it. */
function shown({ id, path, label, userId, createdAt, state, error, message = '', requestId = null }) {
  return { id, path, label, userId, createdAt, state, error, message, requestId };
}

/** Reads the queue anew; any number of requests while it is being read make one more reading. */
function refresh() {
  stale = true;
  reading ??= (async () => {
    while (stale) {
      stale = false;
      const records = await store.all().catch(() => NOTHING);
      pending = records.map(shown);
    }
    reading = undefined;
    for (const listener of listeners) listener();
  })();
}

/**
 * Keeps a write until it has arrived. A caller that has already tried to send it passes the Idempotency-Key it used,
 * for that attempt may have reached the server after all.
 */
export async function enqueue({ path, body, userId, label, idempotencyKey }) {
  void navigator.storage?.persist?.().catch(() => {}); // a promise to the user is not to be tidied away
  const made = await queue.enqueue({ path, body, userId, label, idempotencyKey });
  wakeWorker();
  void flush();
  return made;
}

export async function discard(id) {
  await queue.discard(id);
}

/** Sends what is waiting, now. One at a time: who asks meanwhile gets the same, and one more look afterwards. */
export function flush() {
  return attempt({ force: true });
}

function attempt(options) {
  if (running) {
    again = true;
    return running;
  }
  clearTimeout(timer);
  running = queue
    .flush(options)
    .catch(() => ({ sent: 0, next: null })) // no IndexedDB: nothing was queued either
    .then(async (result) => {
      const left = result.next === null && (await queue.all().catch(() => NOTHING)).some(({ state }) => state !== 'failed');
      const next = left ? LOOK_AGAIN : result.next;
      running = undefined;
      if (again) {
        again = false;
        return attempt({ force: false });
      }
      if (next !== null) timer = setTimeout(() => attempt({ force: false }), next);
      return result;
    });
  return running;
}

/** Starts sending and keeping. `onSynced` is called with `{ id, path, label, userId, answer }` for each write that arrived. */
export function start({ onSynced: callback } = {}) {
  if (callback) onSynced = callback;
  if (started) return;
  started = true;
  refresh();
  void flush();
  addEventListener('online', () => void flush());
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') void attempt({ force: false });
  });
  // The worker is not worth making the first page wait.
  if (document.readyState === 'complete') void register();
  else addEventListener('load', () => void register(), { once: true });
}

async function register() {
  if (!navigator.serviceWorker || import.meta.env.DEV) return;
  try {
    if (await isOff((...args) => fetch(...args))) {
      for (const registration of await navigator.serviceWorker.getRegistrations()) await registration.unregister();
      return;
    }
    await navigator.serviceWorker.register('/sw.js', { updateViaCache: 'none' });
    const { active } = await navigator.serviceWorker.ready;
    active.postMessage({ type: 'warm' });
  } catch (error) {
    console.warn('the pages will not work offline:', error);
  }
}

/** Lets the browser wake the worker when the network is back, even with no page open. */
async function wakeWorker() {
  try {
    const registration = await navigator.serviceWorker?.getRegistration();
    await registration?.sync?.register(SYNC);
  } catch {
    // Not allowed or not known here; the page sends by itself.
  }
}

/** At sign-out: nothing that the API said stays here. What others have queued stays, and waits for them. */
export async function forgetUser() {
  const worker = globalThis.navigator?.serviceWorker?.controller;
  if (worker) {
    // The worker does it itself, as an answer may be on its way into the cache.
    const { port1, port2 } = new MessageChannel();
    const done = new Promise((resolve) => {
      port1.onmessage = resolve;
      setTimeout(resolve, 2_000);
    });
    worker.postMessage({ type: 'forget' }, [port2]);
    await done;
    port1.close();
  }
  await globalThis.caches?.delete(API_CACHE);
}

function subscribe(listener) {
  if (listeners.size === 0) refresh();
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The writes that have not arrived yet, of everybody who uses this browser, the oldest first. */
export function usePending() {
  return useSyncExternalStore(
    subscribe,
    () => pending,
    () => NOTHING,
  );
}

function subscribeOnline(listener) {
  addEventListener('online', listener);
  addEventListener('offline', listener);
  return () => {
    removeEventListener('online', listener);
    removeEventListener('offline', listener);
  };
}

export function useOnline() {
  return useSyncExternalStore(
    subscribeOnline,
    () => navigator.onLine,
    () => true,
  );
}
