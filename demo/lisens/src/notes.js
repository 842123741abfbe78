// Notes on orders. A plain write: sent twice it is two notes, unless it carries
// an Idempotency-Key.

import { seesAll } from './access.js';
import { HttpError } from './errors.js';
import { keyHeader, once } from './idempotency.js';
import { id, moment, object, text } from './schema.js';

const MOST_CHARACTERS = 1_000;

const NEW_NOTE = `
  INSERT INTO order_notes (order_id, text)
  SELECT id, $2 FROM orders WHERE id = $1 AND ($3::bigint IS NULL OR user_id = $3)
  RETURNING id, order_id, text, created_at`;

export const addNote = {
  id: 'addNote',
  method: 'POST',
  path: '/api/notes',
  who: 'user',
  summary: 'Adds a note to an order of one’s own, or as an official to any',
  headers: [{ ...keyHeader, required: false }],
  body: object({ order_id: id, text: text(MOST_CHARACTERS) }),
  answers: { 201: object({ id, order_id: id, text: { type: 'string' }, created_at: moment }) },
  handle:
    ({ database }) =>
    async ({ request, body, user, log }) => {
      const write = async (query) => {
        const [note] = await query(NEW_NOTE, [body.order_id, body.text, seesAll(user) ? null : user.id]);
        if (!note) throw new HttpError(422, 'unknown_order', `There is no order ${body.order_id}, or it is not yours.`);
        return note;
      };
      if (request.headers['idempotency-key'] !== undefined) {
        return once({ database, operation: 'note', user, request, wish: body, log }, 201, write);
      }
      return { status: 201, body: await database.transaction(write, log) };
    },
};
