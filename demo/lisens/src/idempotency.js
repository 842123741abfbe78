// One key, one effect. A caller that got no answer sends the same request with
// the same Idempotency-Key again, through whatever proxy or retry.
//
// The key and what it did are written in one transaction. A second request with
// the same key waits at the INSERT until the first has committed (then it gets
// the first answer, byte for byte) or rolled back (then it takes its place).

import { createHash } from 'node:crypto';
import { HttpError } from './errors.js';

const KEY = /^[\x21-\x7e]{1,200}$/;

const CLAIM = `
  INSERT INTO idempotency_keys (key, request_hash) VALUES ($1, $2)
  ON CONFLICT (key) DO NOTHING RETURNING key`;
const FIRST_ANSWER = 'SELECT request_hash, answer FROM idempotency_keys WHERE key = $1';
const KEEP_ANSWER = 'UPDATE idempotency_keys SET answer = $2 WHERE key = $1';

export const keyHeader = {
  name: 'Idempotency-Key',
  description: 'A new random value for each thing wanted; the same value again gives the first answer and does nothing twice.',
  schema: { type: 'string', pattern: '^[!-~]{1,200}$' },
};

/** Runs `work(query)` once for this user, operation and key; its result is the body of the answer. */
export async function once({ database, operation, user, request, wish, log }, status, work) {
  const key = request.headers['idempotency-key'];
  if (!KEY.test(key ?? '')) {
    throw new HttpError(
      400,
      'idempotency_key_required',
      'Send a header Idempotency-Key with a new random value for each thing wanted, 1 to 200 characters without spaces.',
    );
  }
  // A key is its sender's own: nobody gets at another's answer by guessing it.
  const scoped = `${operation}:${user.id}:${key}`;
  const requestHash = createHash('sha256').update(JSON.stringify(wish)).digest();
  const { answer, replayed } = await database.transaction(async (query) => {
    const [claimed] = await query(CLAIM, [scoped, requestHash]);
    if (!claimed) return replay(query, scoped, requestHash);
    const text = `${JSON.stringify(await work(query))}\n`;
    await query(KEEP_ANSWER, [scoped, text]);
    return { answer: text, replayed: false };
  }, log);
  const headers = { 'content-type': 'application/json; charset=utf-8' };
  if (replayed) headers['idempotent-replayed'] = 'true';
  return { status, headers, body: answer, replayed };
}

async function replay(query, key, requestHash) {
  const [first] = await query(FIRST_ANSWER, [key]);
  if (!first.request_hash.equals(requestHash)) {
    throw new HttpError(422, 'idempotency_key_reused', 'This Idempotency-Key was used for another request. Use a new one.');
  }
  return { answer: first.answer, replayed: true };
}
