// Keeps the shell and the last data for the times without a network.
const SHELL = 'shell-1';
const FILES = __FILES__;
const OFFLINE = __OFFLINE__;
const DATA = __DATA__;

addEventListener('install', (event) => {
    event.waitUntil(caches.open(SHELL).then((cache) => cache.addAll(FILES)).then(() => skipWaiting()));
});
addEventListener('activate', (event) => {
    event.waitUntil(clients.claim());
});

// The network first; what it gave last when it is away; the shell for every page.
async function answer(request) {
    const cache = await caches.open(SHELL);
    try {
        const fresh = await fetch(request);
        if (fresh.ok && (DATA || !request.url.includes('/api/'))) {
            cache.put(request, fresh.clone());
        }
        return fresh;
    } catch (why) {
        const kept = await cache.match(request) || (request.mode === 'navigate' && await cache.match('/'));
        if (kept) {
            return kept;
        }
        throw why;
    }
}
addEventListener('fetch', (event) => {
    if (OFFLINE && event.request.method === 'GET') {
        event.respondWith(answer(event.request));
    }
});
