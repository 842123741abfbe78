// Licences that were bought, many of them changed at once, and the kinds that
// can be bought. The kinds change a few times a year and are read all the time,
// so they live in the cache.

import { ownerFilter } from './access.js';
import { keyHeader, once } from './idempotency.js';
import { answerPage, pageAnswer, pageParameters } from './pagination.js';
import { LICENCE_STATUSES, date, id, kind, list, moment, money, object } from './schema.js';
import { readSearch, searchParameter } from './search.js';

export const KINDS_KEY = 'lisens:licence-kinds:2';
const KINDS_LIFETIME_S = 60;
const MOST_AT_ONCE = 1_000;
const BULK_LIMIT_BYTES = 256 * 1024;

const KINDS = `
  SELECT k.kind, k.name, k.price_ore, k.valid_days, q.places - q.taken + coalesce(expired.places, 0) AS places_left
    FROM licence_kinds k
    LEFT JOIN licence_quotas q ON q.kind = k.kind
    -- Places of reservations that ran out are free, though nobody has given them back yet.
    LEFT JOIN (SELECT line.licence_kind AS kind, sum(line.quantity)::int AS places
                 FROM reservations r, jsonb_to_recordset(r.lines) AS line (licence_kind text, quantity int, took boolean)
                WHERE r.expires_at <= now() AND line.took
                GROUP BY line.licence_kind) expired ON expired.kind = k.kind
   ORDER BY k.kind`;

const LIST = `
  SELECT l.id, l.order_id, l.user_id, u.name AS user_name, l.kind, l.status, l.valid_from, l.valid_until, l.created_at,
         to_char(l.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS cursor_at
    FROM licences l LEFT JOIN users u ON u.id = l.user_id
   WHERE (l.created_at, l.id) < ($1::timestamptz, $2::bigint)
     AND ($4::bigint IS NULL OR l.user_id = $4)
     AND ($5::text IS NULL OR l.kind = $5)
     AND ($6::text IS NULL OR l.status = $6)
     AND ($7::date IS NULL OR $7 BETWEEN l.valid_from AND l.valid_until)
     AND ($8::bigint IS NULL OR l.id = $8)
     AND ($9::text IS NULL OR to_tsvector('simple', u.name) @@ to_tsquery('simple', $9))
   ORDER BY l.created_at DESC, l.id DESC
   LIMIT $3`;

const TOTAL = `
  SELECT count(*) AS total
    FROM licences l LEFT JOIN users u ON u.id = l.user_id
   WHERE ($1::bigint IS NULL OR l.user_id = $1)
     AND ($2::text IS NULL OR l.kind = $2)
     AND ($3::text IS NULL OR l.status = $3)
     AND ($4::date IS NULL OR $4 BETWEEN l.valid_from AND l.valid_until)
     AND ($5::bigint IS NULL OR l.id = $5)
     AND ($6::text IS NULL OR to_tsvector('simple', u.name) @@ to_tsquery('simple', $6))`;

// Rows are locked in the order of their numbers, so that two of these cannot wait for each other.
const LOCK = 'SELECT id, status FROM licences WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE';
const CHANGE = `
  UPDATE licences l SET status = w.status
    FROM unnest($1::bigint[], $2::text[]) AS w (id, status)
   WHERE l.id = w.id AND l.status <> w.status
  RETURNING l.id`;

const columns = {
  id,
  order_id: id,
  user_id: id,
  user_name: { type: 'string' },
  kind,
  status: { enum: LICENCE_STATUSES },
  valid_from: date,
  valid_until: date,
  created_at: moment,
};

export const listLicences = {
  id: 'listLicences',
  method: 'GET',
  path: '/api/licences',
  who: 'user',
  summary: 'Licences, newest first; a user sees their own',
  query: {
    ...pageParameters(Object.keys(columns)),
    q: searchParameter,
    kind,
    status: { enum: LICENCE_STATUSES },
    user_id: id,
    valid_on: date,
  },
  answers: { 200: pageAnswer('licences', columns) },
  handle:
    ({ database }) =>
    async ({ query, user, log }) => {
      const { number, words } = readSearch(query.q);
      const filters = [ownerFilter(user, query.user_id), query.kind ?? null, query.status ?? null, query.valid_on ?? null, number, words];
      return answerPage({ database, log }, 'licences', { list: LIST, total: TOTAL }, query, filters);
    },
};

export const changeLicences = {
  id: 'changeLicences',
  method: 'POST',
  path: '/api/licences/bulk',
  who: 'official',
  summary: 'Suspends licences or makes them active again, up to 1,000 at once: all in one transaction, a result for each',
  headers: [keyHeader],
  bodyLimit: BULK_LIMIT_BYTES,
  body: object({ items: list(object({ id, status: { enum: LICENCE_STATUSES } }), { least: 1, most: MOST_AT_ONCE }) }),
  answers: {
    200: object({
      updated: { type: 'integer' },
      results: list(object({ id, outcome: { enum: ['updated', 'unchanged', 'not_found', 'named_twice'] } })),
    }),
  },
  handle:
    ({ database }) =>
    async ({ request, body, user, log }) => {
      const answer = await once({ database, operation: 'bulk', user, request, wish: body, log }, 200, (query) => change(query, body.items));
      if (!answer.replayed) log.info('licences changed', { count: body.items.length, by_user_id: user.id });
      return answer;
    },
};

async function change(query, items) {
  // What is named twice counts once, the first time: otherwise chance would decide.
  const wanted = new Map();
  for (const { id: licenceId, status } of items) if (!wanted.has(licenceId)) wanted.set(licenceId, status);
  const known = new Set((await query(LOCK, [[...wanted.keys()]])).map((row) => row.id));
  const changed = new Set((await query(CHANGE, [[...wanted.keys()], [...wanted.values()]])).map((row) => row.id));
  const told = new Set();
  const results = items.map(({ id: licenceId }) => {
    if (told.has(licenceId)) return { id: licenceId, outcome: 'named_twice' };
    told.add(licenceId);
    return { id: licenceId, outcome: changed.has(licenceId) ? 'updated' : known.has(licenceId) ? 'unchanged' : 'not_found' };
  });
  return { updated: changed.size, results };
}

export const listLicenceKinds = {
  id: 'listLicenceKinds',
  method: 'GET',
  path: '/api/licence-kinds',
  who: 'anybody',
  summary: 'What can be bought',
  answers: {
    200: object({
      licence_kinds: list(
        object({
          kind,
          name: { type: 'string' },
          price_ore: money,
          valid_days: { type: 'integer' },
          places_left: { type: ['integer', 'null'], description: 'null: no limit' },
        }),
      ),
    }),
  },
  errors: [503],
  handle:
    ({ database, cache }) =>
    async ({ log }) => {
      const cached = await cache.get(KINDS_KEY);
      if (cached) return { headers: { 'x-cache': 'hit' }, body: { licence_kinds: cached } };
      const kinds = await database.read(KINDS, [], log);
      await cache.put(KINDS_KEY, kinds, KINDS_LIFETIME_S);
      return { headers: { 'x-cache': 'miss' }, body: { licence_kinds: kinds } };
    },
};
