// The list of users. It holds what the shop's own pages need; e-mail addresses
// are not among it.

import { asPage, readPage } from './pagination.js';

const LIST = `
  SELECT id, name, club, created_at,
         to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS cursor_at
    FROM users
   WHERE (created_at, id) < ($1::timestamptz, $2::bigint)
   ORDER BY created_at DESC, id DESC
   LIMIT $3`;

export function listUsers({ database }) {
  return async ({ query, log }) => {
    const { limit, after } = readPage(query);
    const rows = await database.read(LIST, [after.created_at, after.id, limit + 1], log);
    const { items, next } = asPage(rows, limit);
    return { body: { users: items, next } };
  };
}
