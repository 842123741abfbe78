// klar's service worker, switched off: it takes itself and what it kept out of the browser, and answers nothing.
'use strict';
const PREFIX = 'klar-shell ' + new URL('./', self.location).pathname + ' ';

addEventListener('install', (event) => {
  event.waitUntil(skipWaiting());
});

addEventListener('activate', (event) => {
  event.waitUntil(leave());
});

async function leave() {
  for (const name of await caches.keys()) {
    if (name.startsWith(PREFIX)) await caches.delete(name);
  }
  await registration.unregister();
}
