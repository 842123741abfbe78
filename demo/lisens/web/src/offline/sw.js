// The service worker: only the wiring. What it does is in the modules beside it.

import { createAnswers } from './answers.js';
import { createImages } from './images.js';
import { lock } from './lock.js';
import { CHANNEL, SYNC } from './names.js';
import { createQueue } from './queue.js';
import { kindOf } from './routes.js';
import { createShell } from './shell.js';
import { store } from './store.js';
import { isOff } from './switch.js';

const OURS = 'lisens-';
const CHECK_EVERY = 60_000;

const fetch = (...args) => self.fetch(...args);
const channel = new BroadcastChannel(CHANNEL);
const shell = createShell({ caches, fetch, manifest: __MANIFEST__ });
const answers = createAnswers({ caches, fetch });
const images = createImages({ caches, fetch });
const queue = createQueue({
  store,
  lock,
  fetch,
  changed: () => channel.postMessage({ type: 'changed' }),
  synced: (write) => channel.postMessage({ type: 'synced', write }),
});

self.addEventListener('install', (event) => {
  event.waitUntil(shell.install().then(() => self.skipWaiting()));
});

self.addEventListener('activate', (event) => {
  event.waitUntil(shell.tidy().then(() => self.clients.claim()));
});

self.addEventListener('message', (event) => {
  const { type } = event.data ?? {};
  if (type === 'warm') event.waitUntil(serveAgain().then(() => shell.warm()));
  if (type === 'forget') event.waitUntil(answers.forget().then(() => event.ports[0]?.postMessage('done')));
});

self.addEventListener('sync', (event) => {
  if (event.tag === SYNC) event.waitUntil(synchronise());
});

async function synchronise() {
  const { next } = await queue.flush({ force: true });
  // The browser tries again later when this fails.
  if (next !== null) throw new Error('not everything has arrived');
}

self.addEventListener('fetch', (event) => {
  if (off) return;
  const { request } = event;
  const kind = kindOf(request, self.location.origin);
  if (kind === 'page') {
    event.respondWith(shell.page(request));
    obeying = obeySwitch();
    event.waitUntil(obeying);
  } else if (kind === 'asset') {
    event.respondWith(shell.asset(request));
  } else if (kind === 'api') {
    const answered = answers.answer(request);
    event.respondWith(answered);
    event.waitUntil(answered.catch(() => {}).then(() => answers.settled()));
  } else if (kind === 'image') {
    const both = images.answer(request);
    event.respondWith(both.then(({ response }) => response));
    event.waitUntil(both.then(({ stored }) => stored).catch(() => {}));
  }
});

let checked = 0;
let off = false;
let obeying = Promise.resolve();

/** The way out, should a worker ever go wrong: it removes itself and what it keeps. The queue of writes stays. */
async function obeySwitch() {
  if (Date.now() - checked < CHECK_EVERY) return;
  checked = Date.now();
  off = await isOff(fetch);
  if (!off) return;
  await self.registration.unregister();
  for (const key of await caches.keys()) if (key.startsWith(OURS)) await caches.delete(key);
}

/**
 * A page has found the switch on. Had this worker removed itself, and the browser not yet cleared it away, then the
 * page's registration has brought it back as it was: neither installed nor activated anew, and in charge of no page.
 */
async function serveAgain() {
  await obeying.catch(() => {});
  off = false;
  await self.clients.claim();
}
