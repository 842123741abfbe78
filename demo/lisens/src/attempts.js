// Counts wrong passwords, so that nobody can try many. Redis counts for all
// instances; without it each instance counts for itself.

import { HttpError } from './errors.js';

const WITHIN_S = 15 * 60;
const MOST_FOR_ACCOUNT_HERE = 10;
const MOST_FOR_NETWORK = 100;
// From everywhere together: rather a wait for its owner than a password found.
const MOST_FOR_ACCOUNT = 200;
const MOST_REMEMBERED = 10_000;

export class Attempts {
  #cache;
  #local = new Map();

  constructor(cache) {
    this.#cache = cache;
  }

  /**
   * Counts one attempt before it is made, and throws 429 when there were too many. The result is to be called when the
   * password was right: then this attempt does not count, nor do the wrong ones before it for this account from here.
   */
  async note(email, address) {
    const network = networkOf(address);
    const account = `lisens:attempts:account:${email.toLowerCase()}`;
    const here = `${account}:${network}`;
    const all = `lisens:attempts:${network}`;
    const counts = [await this.#count(here), await this.#count(all), await this.#count(account)];
    if (counts[0].count > MOST_FOR_ACCOUNT_HERE || counts[1].count > MOST_FOR_NETWORK || counts[2].count > MOST_FOR_ACCOUNT) {
      throw new HttpError(429, 'too_many_attempts', 'Too many attempts to sign in. Try again in a quarter of an hour.', {
        headers: { 'retry-after': String(WITHIN_S) },
      });
    }
    return async () => {
      this.#local.delete(here);
      await this.#cache.drop([here]);
      await counts[1].undo();
      await counts[2].undo();
    };
  }

  /** Counts in Redis, or here; undone where it was counted. */
  async #count(key) {
    const count = await this.#cache.count(key, WITHIN_S);
    if (count !== null) return { count, undo: () => this.#cache.uncount(key) };
    const entry = this.#countHere(key);
    return { count: entry.count, undo: () => void (entry.count -= 1) };
  }

  #countHere(key) {
    const now_ms = Date.now();
    const old = this.#local.get(key);
    const entry = old && old.until_ms > now_ms ? old : { count: 0, until_ms: now_ms + WITHIN_S * 1000 };
    entry.count += 1;
    this.#local.delete(key); // to the end: the first in the map is the one that was not seen for longest
    this.#local.set(key, entry);
    if (this.#local.size > MOST_REMEMBERED) this.#local.delete(this.#local.keys().next().value);
    return entry;
  }
}

/** An IPv6 customer has 2^64 addresses: the first half of them says who it is (RFC 6177). */
export function networkOf(address) {
  if (!address.includes(':') || address.includes('.')) return address;
  const [head, tail] = address.split('::').map((part) => part.split(':').filter(Boolean));
  const groups = tail ? [...head, ...Array(8 - head.length - tail.length).fill('0'), ...tail] : head;
  return `${groups.slice(0, 4).join(':')}::/64`;
}
