// Users. A list holds what the shop's own pages need; e-mail addresses are for
// the user themselves and for admins.

import { seesAll } from './access.js';
import { HttpError } from './errors.js';
import { answerPage, pageAnswer, pageParameters } from './pagination.js';
import { ROLES, id, moment, object, text } from './schema.js';
import { readSearch, searchParameter } from './search.js';

const LIST = `
  SELECT id, name, club, role, created_at,
         to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS cursor_at
    FROM users
   WHERE (created_at, id) < ($1::timestamptz, $2::bigint)
     AND ($4::text IS NULL OR role = $4)
     AND ($5::bigint IS NULL OR id = $5)
     AND ($6::text IS NULL OR to_tsvector('simple', name) @@ to_tsquery('simple', $6))
   ORDER BY created_at DESC, id DESC
   LIMIT $3`;

const TOTAL = `
  SELECT count(*) AS total
    FROM users
   WHERE ($1::text IS NULL OR role = $1)
     AND ($2::bigint IS NULL OR id = $2)
     AND ($3::text IS NULL OR to_tsvector('simple', name) @@ to_tsquery('simple', $3))`;

const ONE = 'SELECT id, name, club, role, created_at, email FROM users WHERE id = $1';
const CHANGE = `
  UPDATE users SET name = coalesce($2, name), club = coalesce($3, club), role = coalesce($4, role) WHERE id = $1
  RETURNING id, name, club, role, created_at, email`;

const columns = { id, name: { type: 'string' }, club: { type: 'string' }, role: { enum: ROLES }, created_at: moment };
const one = object({ ...columns, email: { type: 'string', description: 'for the user and for admins' } }, ['email']);

export const listUsers = {
  id: 'listUsers',
  method: 'GET',
  path: '/api/users',
  who: 'official',
  summary: 'Users, newest first',
  query: { ...pageParameters(Object.keys(columns)), q: searchParameter, role: { enum: ROLES } },
  answers: { 200: pageAnswer('users', columns) },
  handle:
    ({ database }) =>
    async ({ query, log }) => {
      const { number, words } = readSearch(query.q);
      const filters = [query.role ?? null, number, words];
      return answerPage({ database, log }, 'users', { list: LIST, total: TOTAL }, query, filters);
    },
};

export const showUser = {
  id: 'showUser',
  method: 'GET',
  path: '/api/users/{id}',
  who: 'user',
  summary: 'One user; others than officials see themselves only',
  answers: { 200: one },
  handle:
    ({ database }) =>
    async ({ params, user, log }) => {
      if (params.id !== user.id && !seesAll(user)) throw noSuchUser();
      const [found] = await database.read(ONE, [params.id], log);
      if (!found) throw noSuchUser();
      return { body: asSeenBy(user, found) };
    },
};

export const changeUser = {
  id: 'changeUser',
  method: 'PATCH',
  path: '/api/users/{id}',
  who: 'user',
  summary: 'Changes name and club, one’s own or as an admin; the role as an admin',
  body: { ...object({ name: text(120), club: text(120), role: { enum: ROLES } }, ['name', 'club', 'role']), minProperties: 1 },
  answers: { 200: one },
  handle:
    ({ database, sessions }) =>
    async ({ params, body, user, log }) => {
      const isAdmin = user.role === 'admin';
      if (params.id !== user.id && !isAdmin) {
        if (seesAll(user)) throw new HttpError(403, 'forbidden', 'Another user is changed by an admin.');
        throw noSuchUser();
      }
      if (body.role !== undefined && !isAdmin) throw new HttpError(403, 'forbidden', 'A role is changed by an admin.');
      const values = [params.id, body.name ?? null, body.club ?? null, body.role ?? null];
      const [changed] = await database.transaction((query) => query(CHANGE, values), log);
      if (!changed) throw noSuchUser();
      log.info('user changed', { user_id: changed.id, by_user_id: user.id, what: Object.keys(body) });
      // Sessions say what a user may do: with another role they begin anew. One's own stays for a new name.
      if (body.role !== undefined) await sessions.endAllOf(changed.id, log);
      return { body: asSeenBy(user, changed) };
    },
};

function asSeenBy(user, { email, ...found }) {
  return found.id === user.id || user.role === 'admin' ? { ...found, email } : found;
}

function noSuchUser() {
  return new HttpError(404, 'user_not_found', 'There is no such user, or it is not you.');
}
