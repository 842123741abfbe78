// Takes klar's service worker out of the browser: it is switched off.
(async () => {
  'use strict';
  if (!('serviceWorker' in navigator)) return;
  const url = new URL('klar-worker.js', document.currentScript.src);
  for (const registration of await navigator.serviceWorker.getRegistrations()) {
    const worker = registration.active || registration.waiting || registration.installing;
    if (worker && worker.scriptURL === url.href) await registration.update().catch(() => {});
  }
})();
