// Counts wrong passwords, so that nobody can try many. Redis counts for all
// instances; without it each instance counts for itself.

import { HttpError } from './errors.js';

const WITHIN_S = 15 * 60;
const MOST_FOR_ACCOUNT = 10;
const MOST_FOR_ADDRESS = 100;
const MOST_REMEMBERED = 10_000;

export class Attempts {
  #cache;
  #local = new Map();

  constructor(cache) {
    this.#cache = cache;
  }

  /** Counts one attempt before it is made, and throws 429 when there were too many. */
  async note(email, address) {
    const account = await this.#count(accountKey(email, address));
    const all = await this.#count(addressKey(address));
    if (account <= MOST_FOR_ACCOUNT && all <= MOST_FOR_ADDRESS) return;
    throw new HttpError(429, 'too_many_attempts', 'Too many attempts to sign in. Try again in a quarter of an hour.', {
      headers: { 'retry-after': String(WITHIN_S) },
    });
  }

  /** The password was right: this attempt does not count, nor do the wrong ones before it for this account. */
  async forgive(email, address) {
    this.#local.delete(accountKey(email, address));
    const entry = this.#local.get(addressKey(address));
    if (entry) entry.count -= 1;
    else await this.#cache.uncount(addressKey(address));
    await this.#cache.drop([accountKey(email, address)]);
  }

  async #count(key) {
    return (await this.#cache.count(key, WITHIN_S)) ?? this.#countHere(key);
  }

  #countHere(key) {
    const now_ms = Date.now();
    const old = this.#local.get(key);
    const entry = old && old.until_ms > now_ms ? old : { count: 0, until_ms: now_ms + WITHIN_S * 1000 };
    entry.count += 1;
    this.#local.delete(key); // to the end: the first in the map is the one that was not seen for longest
    this.#local.set(key, entry);
    if (this.#local.size > MOST_REMEMBERED) this.#local.delete(this.#local.keys().next().value);
    return entry.count;
  }
}

const accountKey = (email, address) => `lisens:attempts:${address}:${email.toLowerCase()}`;
const addressKey = (address) => `lisens:attempts:${address}`;
