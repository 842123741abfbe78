// PostgreSQL behind one promise: a query succeeds, fails for a reason of its
// own, or fails as DatabaseUnavailable. After a database restart the pool holds
// connections that are dead and do not know it. The first failure closes their
// generation: none of that generation is handed out again.

import pg from 'pg';
import { DatabaseUnavailable } from './errors.js';
import { withDeadline } from './deadline.js';
import { reason } from './log.js';
import { statement } from './spans.js';

const HEALTH_LIMIT_MS = 1_000;

// Ids are bigint in the database and stay far below 2^53.
const INT8_OID = 20;
const DATE_OID = 1082;
const types = {
  getTypeParser(oid, format) {
    if (oid === INT8_OID) return Number;
    if (oid === DATE_OID) return String; // a day, not a moment in some time zone
    return pg.types.getTypeParser(oid, format);
  },
};

// The server is closing, starting, full, or read-only after a failover: all pass by themselves.
const PASSING_STATES = /^(08...|53...|57P0.|57014|25006|40001|40P01|55P03|28...|3D000)$/;
// The connection that told us this is of no more use.
const CLOSING_STATES = /^(08...|57P01|57P02|57P05)$/;

function asDatabaseError(error) {
  if (error instanceof pg.DatabaseError) {
    if (!PASSING_STATES.test(error.code)) return error;
    return new DatabaseUnavailable(error, { deadConnection: CLOSING_STATES.test(error.code) });
  }
  if (error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError) return error;
  // What is left comes from the socket or from a client-side timeout.
  return new DatabaseUnavailable(error, { deadConnection: error.message !== 'Query read timeout' });
}

export function connectionOptions(databaseUrl) {
  return {
    connectionString: databaseUrl,
    application_name: 'lisens',
    connectionTimeoutMillis: 5_000, // also how long a request waits for its turn in the pool
    keepAlive: true,
    types,
  };
}

export class Database {
  #pool;
  #healthPool;
  #log;
  #generation = 0;
  #generationOf = new WeakMap();
  #healthCheck = null;

  constructor(databaseUrl, log) {
    this.#log = log;
    this.#pool = this.#openPool({
      ...connectionOptions(databaseUrl),
      max: 10,
      statement_timeout: 5_000,
      query_timeout: 6_000, // for a server that no longer answers at all
      idle_in_transaction_session_timeout: 10_000,
    });
    // Health has its own connection: a busy shop is not an ill one.
    this.#healthPool = this.#openPool({
      ...connectionOptions(databaseUrl),
      application_name: 'lisens health',
      connectionTimeoutMillis: HEALTH_LIMIT_MS,
      max: 1,
      query_timeout: HEALTH_LIMIT_MS,
    });
  }

  /** Runs one statement that only reads. On a dead pooled connection it is asked once more on a fresh one. */
  async read(text, values, log = this.#log) {
    return this.#onceMoreIfDead(log, async (client) => {
      const { rows } = await this.#run(client, text, values);
      client.release();
      return rows;
    });
  }

  /**
   * Runs `work(query)` in one transaction and returns its result only when the
   * server has confirmed the COMMIT. When that confirmation is lost the outcome
   * is unknown, and the caller gets DatabaseUnavailable.
   */
  async transaction(work, log = this.#log) {
    // Nothing is written before BEGIN is answered, so BEGIN may be repeated.
    const client = await this.#onceMoreIfDead(log, async (candidate) => {
      await this.#run(candidate, 'BEGIN');
      return candidate;
    });
    const query = async (text, values) => (await this.#run(client, text, values)).rows;
    try {
      const result = await work(query);
      const { command } = await this.#run(client, 'COMMIT');
      if (command !== 'COMMIT') throw new Error(`COMMIT was answered with ${command}`);
      client.release();
      return result;
    } catch (error) {
      await this.#abandon(client, error);
      throw error;
    }
  }

  /** Resolves when PostgreSQL answers, rejects within a second when not. Callers share one check. */
  checkHealth() {
    this.#healthCheck ??= withDeadline(this.#healthPool.query('SELECT 1'), HEALTH_LIMIT_MS, 'PostgreSQL').finally(() => {
      this.#healthCheck = null;
    });
    return this.#healthCheck;
  }

  /** How many connections there are, by what they do, and how many requests wait for one. */
  connections() {
    const { totalCount, idleCount, waitingCount } = this.#pool;
    return { busy: totalCount - idleCount, idle: idleCount, awaited: waitingCount };
  }

  async close() {
    await Promise.allSettled([this.#pool.end(), this.#healthPool.end()]);
  }

  #openPool(options) {
    const pool = new pg.Pool(options);
    // Without these two listeners a lost connection would end the process.
    pool.on('error', (error) => this.#log.warn('idle database connection lost', { reason: reason(error) }));
    pool.on('connect', (client) => {
      this.#generationOf.set(client, this.#generation);
      client.on('error', () => {}); // the query in flight reports it
    });
    return pool;
  }

  async #acquire() {
    for (;;) {
      let client;
      try {
        client = await this.#pool.connect();
      } catch (error) {
        throw new DatabaseUnavailable(error);
      }
      if (this.#generationOf.get(client) === this.#generation) return client;
      client.release(true); // stale: makes room for a fresh one
    }
  }

  async #onceMoreIfDead(log, work) {
    for (let attempt = 1; ; attempt += 1) {
      const client = await this.#acquire();
      try {
        return await work(client);
      } catch (error) {
        client.release(true);
        if (!error.deadConnection || attempt === 2) throw error;
        log.warn('dead database connection, trying a fresh one', { attempt, reason: reason(error.cause) });
      }
    }
  }

  async #run(client, text, values) {
    try {
      return await statement(text, (commented) => client.query(commented, values));
    } catch (error) {
      const known = asDatabaseError(error);
      if (known.deadConnection && this.#generationOf.get(client) === this.#generation) this.#generation += 1;
      throw known;
    }
  }

  async #abandon(client, error) {
    if (error instanceof DatabaseUnavailable) return client.release(true);
    try {
      await this.#run(client, 'ROLLBACK');
      client.release();
    } catch {
      client.release(true);
    }
  }
}
