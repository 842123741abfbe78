// Notes on an order. Deliberately a plain write without an idempotency key: sent
// twice it is two notes, so nobody but the caller may decide to send it again.

import { HttpError } from './errors.js';
import { readJsonObject } from './http.js';

const MOST_CHARACTERS = 1_000;

const NEW_NOTE = `
  INSERT INTO order_notes (order_id, text)
  SELECT id, $2 FROM orders WHERE id = $1
  RETURNING id, order_id, text, created_at`;

export function addNote({ database }) {
  return async ({ request, log }) => {
    const { order_id, text } = await readJsonObject(request);
    if (!Number.isSafeInteger(order_id) || order_id < 1) {
      throw new HttpError(422, 'invalid_note', 'order_id must be a positive whole number.');
    }
    // PostgreSQL text cannot hold the null character.
    if (typeof text !== 'string' || text.trim() === '' || [...text].length > MOST_CHARACTERS || text.includes('\0')) {
      throw new HttpError(422, 'invalid_note', `text must be 1 to ${MOST_CHARACTERS} characters.`);
    }
    const [note] = await database.transaction((query) => query(NEW_NOTE, [order_id, text]), log);
    if (!note) throw new HttpError(422, 'unknown_order', `There is no order ${order_id}.`);
    return { status: 201, body: note };
  };
}
