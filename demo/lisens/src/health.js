// How the shop is. Without PostgreSQL it cannot serve and says so with 503;
// without Redis it is slower, not ill.

import { reason } from './log.js';

export function showHealth({ database, cache, isDraining, log }) {
  let lastStatus = 'ok';
  return async () => {
    const [postgres, redis] = await Promise.all([state(database), state(cache)]);
    const status = postgres.word !== 'ok' ? 'unavailable' : redis.word !== 'ok' ? 'degraded' : 'ok';
    if (status !== lastStatus) {
      const note = { from: lastStatus, to: status, postgres: postgres.reason, redis: redis.reason };
      status === 'ok' ? log.info('health changed', note) : log.warn('health changed', note);
      lastStatus = status;
    }
    const body = { status: isDraining() ? 'draining' : status, postgres: postgres.word, redis: redis.word };
    return { status: status === 'unavailable' || isDraining() ? 503 : 200, body };
  };
}

/** The process answers; nothing else is asked. */
export function showLiveness() {
  return async () => ({ body: { status: 'ok' } });
}

async function state(dependency) {
  try {
    await dependency.checkHealth();
    return { word: 'ok' };
  } catch (error) {
    return { word: 'unavailable', reason: reason(error) };
  }
}
