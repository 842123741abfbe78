// Reading orders: the list, and one order with all that belongs to it.

import { HttpError } from './errors.js';
import { asPage, readId, readIdFilter, readPage } from './pagination.js';

const LIST = `
  SELECT o.id, o.user_id, u.name AS user_name, o.status, o.total_ore, o.created_at,
         to_char(o.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS cursor_at
    FROM orders o JOIN users u ON u.id = o.user_id
   WHERE (o.created_at, o.id) < ($1::timestamptz, $2::bigint)
   ORDER BY o.created_at DESC, o.id DESC
   LIMIT $3`;

const LIST_OF_USER = `
  SELECT o.id, o.user_id, u.name AS user_name, o.status, o.total_ore, o.created_at,
         to_char(o.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS cursor_at
    FROM orders o JOIN users u ON u.id = o.user_id
   WHERE o.user_id = $4 AND (o.created_at, o.id) < ($1::timestamptz, $2::bigint)
   ORDER BY o.created_at DESC, o.id DESC
   LIMIT $3`;

const ONE = `
  SELECT o.id, o.user_id, u.name AS user_name, o.status, o.total_ore, o.created_at,
         (SELECT coalesce(json_agg(json_build_object('licence_kind', l.licence_kind, 'quantity', l.quantity,
                                                     'unit_price_ore', l.unit_price_ore) ORDER BY l.line_no), '[]')
            FROM order_lines l WHERE l.order_id = o.id) AS items,
         (SELECT coalesce(json_agg(json_build_object('id', l.id, 'kind', l.kind, 'valid_from', l.valid_from,
                                                     'valid_until', l.valid_until) ORDER BY l.id), '[]')
            FROM licences l WHERE l.order_id = o.id) AS licences,
         (SELECT coalesce(json_agg(json_build_object('id', n.id, 'text', n.text, 'created_at', n.created_at) ORDER BY n.id), '[]')
            FROM (SELECT id, text, created_at FROM order_notes WHERE order_id = o.id ORDER BY id DESC LIMIT 100) n) AS notes
    FROM orders o JOIN users u ON u.id = o.user_id
   WHERE o.id = $1`;

export function listOrders({ database }) {
  return async ({ query, log }) => {
    const { limit, after } = readPage(query);
    const userId = readIdFilter(query, 'user_id');
    const values = [after.created_at, after.id, limit + 1];
    const rows = userId === null ? await database.read(LIST, values, log) : await database.read(LIST_OF_USER, [...values, userId], log);
    const { items, next } = asPage(rows, limit);
    return { body: { orders: items, next } };
  };
}

export function showOrder({ database }) {
  return async ({ params, log }) => {
    const id = readId(params.id);
    const [order] = id === null ? [] : await database.read(ONE, [id], log);
    if (!order) throw new HttpError(404, 'order_not_found', 'There is no order with this number.');
    return { body: order };
  };
}
