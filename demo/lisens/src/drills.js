// Answers for whoever tests what is in front of the shop: which version and
// instance answered, an answer that takes its time, an answer that is large.

import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { HttpError } from './errors.js';

const MOST_MS = 10_000;
const MOST_KB = 10_240;
const ONE_KB = Buffer.from('lisens: 1024 bytes of the same line, again and again and again.\n'.repeat(16));

export function showVersion({ config, home }) {
  const version = readVersion(home);
  return async () => ({ body: { version, instance: config.instance, release: config.release } });
}

export function answerSlowly() {
  return async ({ query }) => {
    const ms = readAmount(query, 'ms', MOST_MS);
    await sleep(ms);
    return { body: { waited_ms: ms } };
  };
}

export function answerLarge() {
  return async ({ query }) => {
    const kb = readAmount(query, 'kb', MOST_KB);
    const headers = { 'content-type': 'text/plain; charset=utf-8', 'content-length': kb * ONE_KB.length };
    return { headers, stream: Readable.from(repeat(ONE_KB, kb)) };
  };
}

function* repeat(chunk, times) {
  for (let count = 0; count < times; count += 1) yield chunk;
}

/** Asked for above the cap is the cap. */
function readAmount(query, name, most) {
  const text = query.get(name) ?? '0';
  if (!/^\d{1,9}$/.test(text)) throw new HttpError(400, `invalid_${name}`, `${name} must be a whole number from 0 to ${most}.`);
  return Math.min(Number(text), most);
}

function readVersion(home) {
  try {
    return readFileSync(new URL('VERSION', home), 'utf8').trim();
  } catch (error) {
    if (error.code === 'ENOENT') return 'dev';
    throw error;
  }
}
