// Starts the shop, and ends it: on SIGTERM it takes no more connections, lets
// the requests in flight finish, and leaves with 0 within ten seconds.

import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Attempts } from './src/attempts.js';
import { Cache } from './src/cache.js';
import { ConfigError, readConfig } from './src/config.js';
import { Database } from './src/database.js';
import { readVersion } from './src/drills.js';
import { createHttpServer } from './src/http.js';
import { createLog, reason } from './src/log.js';
import { Metrics } from './src/metrics.js';
import { showOpenApi } from './src/openapi.js';
import { operations } from './src/operations.js';
import { Sessions } from './src/sessions.js';
import { Spans } from './src/spans.js';

// Still answering, but asking callers to leave: a request already on its way
// on a kept-alive connection is not cut off.
const LAME_DUCK_MS = 200;
const DRAIN_LIMIT_MS = 9_500;

const home = new URL('.', import.meta.url);
const log = createLog();

function start(config) {
  let draining = false;
  const isDraining = () => draining;
  const database = new Database(config.databaseUrl, log);
  const cache = new Cache(config.redisUrl, log);
  const metrics = new Metrics({ database });
  const spans = new Spans(config.spans, log);
  const sessions = new Sessions({ database, cache });
  const shop = { config, database, cache, sessions, attempts: new Attempts(cache), metrics, log, home, isDraining };

  const served = [
    ...operations.map((operation) => ({ ...operation, handle: operation.handle(shop) })),
    { method: 'GET', path: '/openapi.json', who: 'anybody', handle: showOpenApi(operations, { version: readVersion(home) }) },
    { method: 'GET', path: '/metrics', who: 'anybody', handle: metrics.show() },
  ];
  const server = createHttpServer({ operations: served, sessions, metrics, spans, log, isDraining });
  server.on('error', (error) => fail(`cannot listen on ${config.host}:${config.port}: ${error.message}`));
  server.listen(config.port, config.host, () => {
    const { address, port } = server.address();
    log.info('listening', { host: address, port, instance: config.instance, release: config.release });
  });

  async function drain(signal) {
    if (draining) return;
    draining = true;
    log.info('draining', { signal });
    const deadline = setTimeout(() => {
      log.warn('requests still in flight after the drain limit', { limit_ms: DRAIN_LIMIT_MS });
      process.exit(0);
    }, DRAIN_LIMIT_MS);
    await sleep(LAME_DUCK_MS);
    const sweep = setInterval(() => server.closeIdleConnections(), 50);
    await new Promise((resolve) => server.close(resolve));
    clearInterval(sweep);
    cache.close();
    await database.close();
    await spans.close();
    clearTimeout(deadline);
    log.info('stopped');
    process.exit(0);
  }
  process.on('SIGTERM', drain);
  process.on('SIGINT', drain);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}

// A fault we did not foresee leaves the process in an unknown state: say it, and let the supervisor start anew.
process.on('uncaughtException', (error) => {
  log.error('uncaught error', { reason: reason(error), stack: error.stack });
  process.exit(1);
});

try {
  const config = readConfig();
  if (config.crash || existsSync(new URL('CRASH', home))) fail('cannot read licence register: register.json is missing');
  start(config);
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  fail(error.message);
}
