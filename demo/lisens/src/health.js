// How the shop is. Without PostgreSQL it cannot serve and says so with 503;
// without Redis it is slower, not ill.

import { reason } from './log.js';
import { object } from './schema.js';

const word = { enum: ['ok', 'unavailable'] };
const health = object({ status: { enum: ['ok', 'degraded', 'unavailable', 'draining'] }, postgres: word, redis: word });

export const showHealth = {
  id: 'showHealth',
  method: 'GET',
  path: '/healthz',
  who: 'anybody',
  summary: 'Whether the shop can serve, and what of it is away',
  answers: { 200: health, 503: health },
  handle: ({ database, cache, isDraining, log }) => {
    let lastStatus = 'ok';
    return async () => {
      const [postgres, redis] = await Promise.all([state(database), state(cache)]);
      const status = postgres.word !== 'ok' ? 'unavailable' : redis.word !== 'ok' ? 'degraded' : 'ok';
      if (status !== lastStatus) {
        const note = { from: lastStatus, to: status, postgres: postgres.reason, redis: redis.reason };
        log[status === 'ok' ? 'info' : 'warn']('health changed', note);
        lastStatus = status;
      }
      const body = { status: isDraining() ? 'draining' : status, postgres: postgres.word, redis: redis.word };
      return { status: status === 'unavailable' || isDraining() ? 503 : 200, body };
    };
  },
};

export const showLiveness = {
  id: 'showLiveness',
  method: 'GET',
  path: '/livez',
  who: 'anybody',
  summary: 'The process answers; nothing else is asked',
  answers: { 200: object({ status: { const: 'ok' } }) },
  handle: () => async () => ({ body: { status: 'ok' } }),
};

async function state(dependency) {
  try {
    await dependency.checkHealth();
    return { word: 'ok' };
  } catch (error) {
    return { word: 'unavailable', reason: reason(error) };
  }
}
