// Answers for whoever tests what is in front of the shop: which version and
// instance answered, an answer that takes its time, an answer that is large.

import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { object } from './schema.js';

const MOST_MS = 10_000;
const MOST_KB = 10_240;
const MOST_ASKED = 999_999_999;
const ONE_KB = Buffer.from('lisens: 1024 bytes of the same line, again and again and again.\n'.repeat(16));

const amount = (most) => ({ type: 'integer', minimum: 0, maximum: MOST_ASKED, default: 0, description: `more than ${most} gives ${most}` });

export const showVersion = {
  id: 'showVersion',
  method: 'GET',
  path: '/api/version',
  who: 'anybody',
  summary: 'Which version, instance and release answers',
  answers: { 200: object({ version: { type: 'string' }, instance: { type: 'string' }, release: { type: ['string', 'null'] } }) },
  handle: ({ config, home }) => {
    const version = readVersion(home);
    return async () => ({ body: { version, instance: config.instance, release: config.release } });
  },
};

export const answerSlowly = {
  id: 'answerSlowly',
  method: 'GET',
  path: '/api/slow',
  who: 'anybody',
  summary: 'Waits so many milliseconds',
  query: { ms: amount(MOST_MS) },
  answers: { 200: object({ waited_ms: { type: 'integer' } }) },
  handle:
    () =>
    async ({ query }) => {
      const ms = Math.min(query.ms ?? 0, MOST_MS);
      await sleep(ms);
      return { body: { waited_ms: ms } };
    },
};

export const answerLarge = {
  id: 'answerLarge',
  method: 'GET',
  path: '/api/big',
  who: 'anybody',
  summary: 'So many KiB of text',
  query: { kb: amount(MOST_KB) },
  answers: { 200: null },
  handle:
    () =>
    async ({ query }) => {
      const kb = Math.min(query.kb ?? 0, MOST_KB);
      const headers = { 'content-type': 'text/plain; charset=utf-8', 'content-length': kb * ONE_KB.length };
      return { headers, stream: Readable.from(repeat(ONE_KB, kb)) };
    },
};

function* repeat(chunk, times) {
  for (let count = 0; count < times; count += 1) yield chunk;
}

export function readVersion(home) {
  try {
    return readFileSync(new URL('VERSION', home), 'utf8').trim();
  } catch (error) {
    if (error.code === 'ENOENT') return 'dev';
    throw error;
  }
}
