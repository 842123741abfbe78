// Keyset pages, newest first. A cursor is the (created_at, id) of the last row
// shown, so new rows never shift a page: a walk sees each old row exactly once.

import { HttpError } from './errors.js';
import { list, object } from './schema.js';

const DEFAULT_LIMIT = 20;
const MOST_LIMIT = 100;

// Before the newest: every row comes after this one.
const START = { created_at: 'infinity', id: Number.MAX_SAFE_INTEGER };
const CURSOR_TEXT = /^([12]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})(\d{3}Z),(\d{1,15})$/;

/** What every list takes besides its own filters; `columns` are those that `fields` may name. */
export function pageParameters(columns) {
  return {
    limit: {
      type: 'integer',
      minimum: 1,
      maximum: 1_000_000,
      default: DEFAULT_LIMIT,
      description: `more than ${MOST_LIMIT} gives ${MOST_LIMIT}`,
    },
    cursor: { type: 'string', maxLength: 100, description: '`next` of the page before' },
    fields: {
      type: 'array',
      items: { enum: columns },
      minItems: 1,
      maxItems: columns.length,
      uniqueItems: true,
      description: 'only these, separated by commas',
    },
    total: { type: 'boolean', default: false, description: 'also count all that the filters find' },
  };
}

/** What every list answers with: the rows as `name`. */
export function pageAnswer(name, columns) {
  return object({ [name]: list(object(columns, Object.keys(columns))), next: { type: ['string', 'null'] }, total: { type: 'integer' } }, [
    'total',
  ]);
}

/**
 * Reads a page for the answer `name`: `statements.list` takes the time and number to go on after, how many rows, then
 * the filters; `statements.total` takes the filters, and is asked only when the caller wants to know.
 */
export async function answerPage({ database, log }, name, statements, query, filters) {
  const { limit, after } = readPage(query);
  const [rows, [count]] = await Promise.all([
    database.read(statements.list, [after.created_at, after.id, limit + 1, ...filters], log),
    query.total ? database.read(statements.total, filters, log) : [],
  ]);
  const { items, next } = asPage(rows, limit, query.fields);
  return { body: { [name]: items, next, ...count } };
}

/** How many rows to show, and after which one. */
export function readPage({ limit = DEFAULT_LIMIT, cursor }) {
  return { limit: Math.min(limit, MOST_LIMIT), after: readCursor(cursor) };
}

/**
 * Cuts `rows` (asked for with one more than `limit`) to a page. Each row carries
 * `cursor_at`, its created_at in microseconds, which JavaScript dates cannot hold.
 */
export function asPage(rows, limit, fields) {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  const next = rows.length > limit ? Buffer.from(`${last.cursor_at},${last.id}`).toString('base64url') : null;
  return { items: shown.map((row) => asItem(row, fields)), next };
}

function asItem({ cursor_at, ...item }, fields) {
  return fields ? Object.fromEntries(fields.map((name) => [name, item[name]])) : item;
}

function readCursor(cursor) {
  if (cursor === undefined) return START;
  const plain = Buffer.from(cursor, 'base64url').toString('latin1');
  const [, upToMs, micros, id] = CURSOR_TEXT.exec(plain) ?? [];
  // The round trip refuses dates the calendar does not have.
  const date = new Date(`${upToMs}Z`);
  if (!upToMs || Number.isNaN(date.getTime()) || date.toISOString() !== `${upToMs}Z`) {
    throw new HttpError(400, 'invalid_cursor', 'cursor must be a value of `next` from this list; leave it out to start over.');
  }
  return { created_at: `${upToMs}${micros}`, id: Number(id) };
}
