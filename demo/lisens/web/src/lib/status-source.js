// How the service is doing. One place to ask, so that a status page can be asked instead one day.

import { createStore } from './store.js';

const PERIOD = 30_000;
// Who is draining hands over to another instance.
const STATES = { ok: 'ok', degraded: 'degraded', draining: 'degraded' };
const store = createStore('unknown');
let timer = null;

/** 'unknown' until asked, then 'ok', 'degraded', 'unavailable' or 'offline'. */
export const useStatus = store.use;

export function watchStatus() {
  addEventListener('online', ask);
  addEventListener('offline', () => store.set('offline'));
  document.addEventListener('visibilitychange', ask);
  timer = setTimeout(ask, 1500); // the page comes first
}

async function ask() {
  clearTimeout(timer);
  timer = setTimeout(ask, PERIOD);
  if (document.visibilityState === 'hidden') return;
  if (!navigator.onLine) return store.set('offline');
  try {
    const response = await fetch('/healthz', { cache: 'no-store', signal: AbortSignal.timeout(8000) });
    const { status } = await response.json();
    store.set(STATES[status] ?? 'unavailable');
  } catch {
    store.set(navigator.onLine ? 'unavailable' : 'offline');
  }
}
