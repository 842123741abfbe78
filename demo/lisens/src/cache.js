// Redis as a cache and nothing more: every failure here is a miss, and what must
// not be forgotten is in PostgreSQL as well. An answer
// that does not come in time costs one short wait; then the connection is
// renewed and Redis is left alone for a second.

import { createClient } from 'redis';
import { withDeadline } from './deadline.js';
import { reason } from './log.js';

const COMMAND_LIMIT_MS = 200;
const HEALTH_LIMIT_MS = 1_000;
const REST_MS = 1_000;
const LONGEST_BACKOFF_MS = 1_000;

export class Cache {
  #url;
  #log;
  #client = null;
  #restUntil_ms = 0;
  #reachable = true;

  constructor(redisUrl, log) {
    this.#url = redisUrl;
    this.#log = log;
    if (redisUrl) this.#connect();
  }

  /** The stored value, or null when there is none or Redis cannot say. */
  async get(key) {
    const text = await this.#attempt((client) => client.get(key));
    if (text === null) return null;
    try {
      return JSON.parse(text);
    } catch {
      return null;
    }
  }

  /** Whether everybody who asks gets this now, and not what was there before. */
  async put(key, value, lifetime_s) {
    if (!this.#url) return true;
    return (await this.#attempt((client) => client.set(key, JSON.stringify(value), expiring(lifetime_s)))) !== null;
  }

  /** Puts it there unless there is something. */
  async fill(key, value, lifetime_s) {
    await this.#attempt((client) => client.set(key, JSON.stringify(value), { ...expiring(lifetime_s), condition: 'NX' }));
  }

  /** Whether nobody holds these keys any more. */
  async drop(keys) {
    if (!this.#url || keys.length === 0) return true;
    return (await this.#attempt((client) => client.del(keys))) !== null;
  }

  /** How often `key` was counted within its lifetime, this time included; null when Redis cannot say. */
  async count(key, lifetime_s) {
    const answers = await this.#attempt((client) => client.multi().incr(key).expire(key, lifetime_s, 'NX').exec());
    return answers === null ? null : Number(answers[0]);
  }

  /** Takes one `count` back. */
  async uncount(key) {
    await this.#attempt((client) => client.decr(key));
  }

  /** Resolves when Redis answers, rejects within a second when not. */
  async checkHealth() {
    if (!this.#client) throw new Error('REDIS_URL is not set');
    if (!this.#client.isReady) throw new Error('not connected to Redis');
    await withDeadline(this.#client.ping(), HEALTH_LIMIT_MS, 'Redis');
  }

  close() {
    const client = this.#client;
    this.#client = null;
    try {
      client?.destroy();
    } catch {
      // it was not open
    }
  }

  #connect() {
    const client = createClient({
      url: this.#url,
      disableOfflineQueue: true, // a cache must not queue: fail now, ask the database
      commandsQueueMaxLength: 1_000,
      socket: {
        connectTimeout: 1_000,
        reconnectStrategy: (retries) => Math.min(50 * 2 ** Math.min(retries, 10), LONGEST_BACKOFF_MS) + Math.random() * 50,
      },
    });
    client.on('ready', () => this.#report(true));
    client.on('error', (error) => this.#report(false, error));
    client.connect().catch(() => {}); // 'error' has told it
    this.#client = client;
  }

  async #attempt(command) {
    const client = this.#client;
    if (!client?.isReady || performance.now() < this.#restUntil_ms) return null;
    try {
      return await withDeadline(command(client), COMMAND_LIMIT_MS, 'Redis');
    } catch (error) {
      this.#restUntil_ms = performance.now() + REST_MS;
      this.#report(false, error);
      if (this.#client === client) {
        this.close();
        this.#connect();
      }
      return null;
    }
  }

  #report(reachable, error) {
    if (reachable === this.#reachable) return; // once per change, not once per retry
    this.#reachable = reachable;
    if (reachable) this.#log.info('cache is back');
    else this.#log.warn('cache is away, reading from the database', { reason: reason(error) });
  }
}

const expiring = (lifetime_s) => ({ expiration: { type: 'EX', value: lifetime_s } });
