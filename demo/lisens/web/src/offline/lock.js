import { LOCK } from './names.js';

let last = Promise.resolve();

/** Runs `work` while no other tab and no worker of this origin runs any under the same name. */
export function lock(work) {
  if (globalThis.navigator?.locks) return navigator.locks.request(LOCK, work);
  // Without the Web Locks API: one after the other in this tab; between tabs the Idempotency-Key does it alone.
  const mine = last.then(work);
  last = mine.catch(() => {});
  return mine;
}
