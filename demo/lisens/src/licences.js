// Licences that were bought, and the kinds that can be bought. The kinds change
// a few times a year and are read all the time, so they live in the cache.

import { HttpError } from './errors.js';
import { asPage, readPage } from './pagination.js';

const KINDS_KEY = 'lisens:licence-kinds:1';
const KINDS_LIFETIME_S = 60;

const KINDS = 'SELECT kind, name, price_ore, valid_days FROM licence_kinds ORDER BY kind';

const LIST = `
  SELECT id, order_id, user_id, kind, valid_from, valid_until, created_at,
         to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS cursor_at
    FROM licences
   WHERE (created_at, id) < ($1::timestamptz, $2::bigint)
   ORDER BY created_at DESC, id DESC
   LIMIT $3`;

const LIST_OF_KIND = `
  SELECT id, order_id, user_id, kind, valid_from, valid_until, created_at,
         to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS cursor_at
    FROM licences
   WHERE kind = $4 AND (created_at, id) < ($1::timestamptz, $2::bigint)
   ORDER BY created_at DESC, id DESC
   LIMIT $3`;

export function listLicences({ database }) {
  return async ({ query, log }) => {
    const { limit, after } = readPage(query);
    const kind = query.get('kind');
    if (kind !== null && !/^[a-z]{1,40}$/.test(kind)) {
      throw new HttpError(400, 'invalid_kind', 'kind must be one of the kinds listed at /api/licence-kinds.');
    }
    const values = [after.created_at, after.id, limit + 1];
    const rows = kind === null ? await database.read(LIST, values, log) : await database.read(LIST_OF_KIND, [...values, kind], log);
    const { items, next } = asPage(rows, limit);
    return { body: { licences: items, next } };
  };
}

export function listLicenceKinds({ database, cache }) {
  return async ({ log }) => {
    const cached = await cache.get(KINDS_KEY);
    if (cached) return { headers: { 'x-cache': 'hit' }, body: { licence_kinds: cached } };
    const kinds = await database.read(KINDS, [], log);
    await cache.put(KINDS_KEY, kinds, KINDS_LIFETIME_S);
    return { headers: { 'x-cache': 'miss' }, body: { licence_kinds: kinds } };
  };
}
