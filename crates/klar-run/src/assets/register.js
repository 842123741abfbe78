// Has the browser use klar's service worker, once the page is there.
(() => {
  'use strict';
  if (!('serviceWorker' in navigator)) return;
  const url = new URL('klar-worker.js', document.currentScript.src);
  const register = () => {
    navigator.serviceWorker.register(url, { updateViaCache: 'none' }).catch((error) => {
      console.warn('this app will not open without a network:', error);
    });
  };
  if (document.readyState === 'complete') register();
  else addEventListener('load', register, { once: true });
})();
