// klar's service worker: the shell of the app without a network. Made when the app was released; a new release makes
// another one, which takes over at once. What it keeps is named by content, so that no release gets another's files.
'use strict';
const BASE = new URL('./', self.location).pathname;
const PREFIX = 'klar-shell ' + BASE + ' ';
const RELEASE = __RELEASE__;
const CACHE = PREFIX + RELEASE;
// Path below BASE, the start of the SHA-256 of its content, and whether the content can never change.
const FILES = __FILES__;
// Routes that lead elsewhere: an API, another service. They are none of this worker's business.
const ELSEWHERE = __ELSEWHERE__;
// Every page of the app is its index.
const SPA = __SPA__;
const KNOWN = new Map(FILES.map(([path, digest, lasting]) => [BASE + path, { digest, lasting }]));
const SHELL = BASE + 'index.html';
// Where a worker notes which caches are older than its own: it deletes no others, so never those of its successor.
const OLDER = BASE + 'klar-worker.js?older';

addEventListener('install', (event) => {
  event.waitUntil(fill().then(() => skipWaiting()));
});

addEventListener('activate', (event) => {
  event.waitUntil(clients.claim().then(() => tidy(new Set())));
});

addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || request.headers.has('range')) return;
  const url = new URL(request.url);
  if (url.origin !== self.location.origin || !url.pathname.startsWith(BASE) || isElsewhere(url.pathname)) return;
  if (request.mode === 'navigate') {
    event.respondWith(page(request, url.pathname));
    event.waitUntil(pause(3000).then(() => tidy(new Set([event.resultingClientId]))));
    return;
  }
  // With a query it may be something else.
  const file = url.search === '' && KNOWN.get(url.pathname);
  if (file) event.respondWith(file.lasting ? lasting(request) : changing(request, url.pathname));
  else if (isHashed(url.pathname)) event.respondWith(lasting(request));
});

// All files, or none: a release that changes meanwhile fails this, and the browser tries again.
async function fill() {
  const before = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  const cache = await caches.open(CACHE);
  await cache.put(OLDER, new Response(JSON.stringify(before)));
  const rest = FILES.slice();
  const one = async () => {
    for (let file = rest.pop(); file; file = rest.pop()) {
      const [path, digest, lasts] = file;
      const url = BASE + path;
      if (await cache.match(url, { ignoreVary: true })) continue;
      const kept = lasts && (await caches.match(url, { ignoreVary: true }));
      const answer = kept || (await fetch(url, { cache: lasts ? 'default' : 'no-cache', credentials: 'same-origin' }));
      if (!answer.ok || answer.redirected) throw new Error(url + ': ' + answer.status);
      const found = await digestOf(await answer.clone().arrayBuffer());
      if (found !== digest) throw new Error(url + ': of another release');
      await cache.put(url, answer);
    }
  };
  try {
    await Promise.all([one(), one(), one(), one()]);
  } catch (error) {
    await caches.delete(CACHE);
    throw error;
  }
}

// So long the page that is left is still there.
function pause(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}

async function digestOf(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest.slice(0, 12), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

// The network says what a page is. Without one it is what this worker keeps.
async function page(request, path) {
  try {
    return await fetch(request);
  } catch (error) {
    const cache = await caches.open(CACHE);
    const own = path.endsWith('/') ? path + 'index.html' : path;
    const kept = (await cache.match(own, { ignoreVary: true })) || (SPA && (await cache.match(SHELL, { ignoreVary: true })));
    if (!kept) throw error;
    return kept;
  }
}

// Named by its content, so it is the same whoever has it: also for pages of the release before that are still open.
async function lasting(request) {
  return (await caches.match(request.url, { ignoreVary: true })) || fetch(request);
}

// Its name says nothing of its content: what the network has goes with the page that the network gave.
async function changing(request, path) {
  try {
    return await fetch(request);
  } catch (error) {
    const kept = await (await caches.open(CACHE)).match(path, { ignoreVary: true });
    if (!kept) throw error;
    return kept;
  }
}

// What earlier releases kept goes when no page is open that may be of one of them.
async function tidy(fresh) {
  const pages = await clients.matchAll({ type: 'window', includeUncontrolled: true });
  if (pages.some((each) => !fresh.has(each.id))) return;
  // One whose time is over has nothing to tidy; not every browser says so.
  if (self.serviceWorker && !['activating', 'activated'].includes(self.serviceWorker.state)) return;
  const cache = await caches.open(CACHE);
  const noted = await cache.match(OLDER);
  if (!noted) return;
  const older = await noted.json();
  if (older.length === 0) return;
  for (const name of older) await caches.delete(name);
  await cache.put(OLDER, new Response('[]'));
}

function isElsewhere(path) {
  return ELSEWHERE.some((route) =>
    route.endsWith('/*') ? path === route.slice(0, -2) || path.startsWith(route.slice(0, -1)) : path === route,
  );
}

// As the edge decides it: the last part of the name is a digest, with letters and digits.
function isHashed(path) {
  const name = path.slice(path.lastIndexOf('/') + 1);
  const found = /[-.]([A-Za-z0-9_]{8,})\.[^.]+$/.exec(name);
  return found !== null && /[0-9]/.test(found[1]) && /[A-Za-z]/.test(found[1]);
}
