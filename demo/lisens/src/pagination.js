// Keyset pages, newest first. A cursor is the (created_at, id) of the last row
// shown, so new rows never shift a page: a walk sees each old row exactly once.

import { HttpError } from './errors.js';

const DEFAULT_LIMIT = 20;
const MOST_LIMIT = 100;

// Before the newest: every row comes after this one.
const START = { created_at: 'infinity', id: Number.MAX_SAFE_INTEGER };
const CURSOR_TEXT = /^([12]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})(\d{3}Z),(\d{1,15})$/;

/** Reads `limit` and `cursor`; a limit above the cap is the cap. */
export function readPage(query) {
  return { limit: readLimit(query.get('limit')), after: readCursor(query.get('cursor')) };
}

/**
 * Cuts `rows` (asked for with one more than `limit`) to a page. Each row carries
 * `cursor_at`, its created_at in microseconds, which JavaScript dates cannot hold.
 */
export function asPage(rows, limit) {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  const next = rows.length > limit ? Buffer.from(`${last.cursor_at},${last.id}`).toString('base64url') : null;
  return { items: shown.map(({ cursor_at, ...item }) => item), next };
}

/** A positive whole number given as text, or null. */
export function readId(text) {
  return /^[1-9]\d{0,14}$/.test(text) ? Number(text) : null;
}

/** A filter such as ?user_id=, or null when it is not asked for. */
export function readIdFilter(query, name) {
  const text = query.get(name);
  if (text === null) return null;
  const id = readId(text);
  if (id === null) throw new HttpError(400, `invalid_${name}`, `${name} must be a positive whole number.`);
  return id;
}

function readLimit(text) {
  if (text === null) return DEFAULT_LIMIT;
  if (!/^[1-9]\d{0,8}$/.test(text)) {
    throw new HttpError(400, 'invalid_limit', `limit must be a whole number from 1 to ${MOST_LIMIT}.`);
  }
  return Math.min(Number(text), MOST_LIMIT);
}

function readCursor(text) {
  if (text === null) return START;
  const plain = Buffer.from(text, 'base64url').toString('latin1');
  const [, upToMs, micros, id] = CURSOR_TEXT.exec(plain) ?? [];
  // The round trip refuses dates the calendar does not have.
  const date = new Date(`${upToMs}Z`);
  if (!upToMs || Number.isNaN(date.getTime()) || date.toISOString() !== `${upToMs}Z`) {
    throw new HttpError(400, 'invalid_cursor', 'cursor must be a value of `next` from this list; leave it out to start over.');
  }
  return { created_at: `${upToMs}${micros}`, id: Number(id) };
}
