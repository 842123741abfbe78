// A purchase whose answer is not known yet, kept where a reload does not lose it: the page that comes after sends the
// very same request again, which is the same order.

import { enqueue } from '../offline/index.js';
import { emptyBasket } from './basket.js';

const PLACE = 'lisens.attempt';

export function rememberAttempt(write) {
  try {
    localStorage.setItem(PLACE, JSON.stringify(write));
  } catch {
    // Full or forbidden: then only a reload in this very moment could still ask twice.
  }
}

export function forgetAttempt() {
  try {
    localStorage.removeItem(PLACE);
  } catch {
    // as above
  }
}

/** Once at the start: hands what was under way to the queue. */
export async function recoverAttempt() {
  let write = null;
  try {
    write = JSON.parse(localStorage.getItem(PLACE));
  } catch {
    // not ours
  }
  if (!write) return;
  await enqueue(write);
  forgetAttempt();
  emptyBasket();
}
