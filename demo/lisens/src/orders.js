// Reading orders: the list, and one order with all that belongs to it. Giving
// the money back.

import { ownerFilter, seesAll } from './access.js';
import { HttpError } from './errors.js';
import { answerPage, pageAnswer, pageParameters } from './pagination.js';
import { LICENCE_STATUSES, ORDER_STATUSES, date, id, kind, list, moment, money, object } from './schema.js';
import { readSearch, searchParameter } from './search.js';

// A filter that is not asked for is NULL. Each statement is planned with its
// values, so what is NULL costs nothing and the rest can use its index.
const LIST = `
  SELECT o.id, o.user_id, u.name AS user_name, o.status, o.total_ore, o.created_at,
         to_char(o.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS cursor_at
    FROM orders o LEFT JOIN users u ON u.id = o.user_id
   WHERE (o.created_at, o.id) < ($1::timestamptz, $2::bigint)
     AND ($4::bigint IS NULL OR o.user_id = $4)
     AND ($5::text IS NULL OR o.status = $5)
     AND ($6::date IS NULL OR o.created_at >= $6::date::timestamp AT TIME ZONE 'Europe/Oslo')
     AND ($7::date IS NULL OR o.created_at < ($7::date + 1)::timestamp AT TIME ZONE 'Europe/Oslo')
     AND ($8::bigint IS NULL OR o.id = $8)
     AND ($9::text IS NULL OR to_tsvector('simple', u.name) @@ to_tsquery('simple', $9))
   ORDER BY o.created_at DESC, o.id DESC
   LIMIT $3`;

const TOTAL = `
  SELECT count(*) AS total
    FROM orders o LEFT JOIN users u ON u.id = o.user_id
   WHERE ($1::bigint IS NULL OR o.user_id = $1)
     AND ($2::text IS NULL OR o.status = $2)
     AND ($3::date IS NULL OR o.created_at >= $3::date::timestamp AT TIME ZONE 'Europe/Oslo')
     AND ($4::date IS NULL OR o.created_at < ($4::date + 1)::timestamp AT TIME ZONE 'Europe/Oslo')
     AND ($5::bigint IS NULL OR o.id = $5)
     AND ($6::text IS NULL OR to_tsvector('simple', u.name) @@ to_tsquery('simple', $6))`;

const ONE = `
  SELECT o.id, o.user_id, u.name AS user_name, o.status, o.total_ore, o.created_at,
         (SELECT coalesce(json_agg(json_build_object('licence_kind', l.licence_kind, 'quantity', l.quantity,
                                                     'unit_price_ore', l.unit_price_ore) ORDER BY l.line_no), '[]')
            FROM order_lines l WHERE l.order_id = o.id) AS items,
         (SELECT coalesce(json_agg(json_build_object('id', l.id, 'kind', l.kind, 'status', l.status, 'valid_from', l.valid_from,
                                                     'valid_until', l.valid_until) ORDER BY l.id), '[]')
            FROM licences l WHERE l.order_id = o.id) AS licences,
         (SELECT coalesce(json_agg(json_build_object('id', n.id, 'text', n.text, 'created_at', n.created_at) ORDER BY n.id), '[]')
            FROM (SELECT id, text, created_at FROM order_notes WHERE order_id = o.id ORDER BY id DESC LIMIT 100) n) AS notes
    FROM orders o JOIN users u ON u.id = o.user_id
   WHERE o.id = $1 AND ($2::bigint IS NULL OR o.user_id = $2)`;

const REFUND = `UPDATE orders SET status = 'refunded' WHERE id = $1 RETURNING id, status`;

const summary = {
  id,
  user_id: id,
  user_name: { type: 'string' },
  status: { enum: ORDER_STATUSES },
  total_ore: money,
  created_at: moment,
};

export const licenceOfOrder = object({ id, kind, status: { enum: LICENCE_STATUSES }, valid_from: date, valid_until: date });

export const listOrders = {
  id: 'listOrders',
  method: 'GET',
  path: '/api/orders',
  who: 'user',
  summary: 'Orders, newest first; a user sees their own',
  query: {
    ...pageParameters(Object.keys(summary)),
    q: searchParameter,
    status: { enum: ORDER_STATUSES },
    user_id: id,
    from: { ...date, description: 'placed on this day or later' },
    to: { ...date, description: 'placed on this day or earlier' },
  },
  answers: { 200: pageAnswer('orders', summary) },
  handle:
    ({ database }) =>
    async ({ query, user, log }) => {
      const { number, words } = readSearch(query.q);
      const filters = [ownerFilter(user, query.user_id), query.status ?? null, query.from ?? null, query.to ?? null, number, words];
      return answerPage({ database, log }, 'orders', { list: LIST, total: TOTAL }, query, filters);
    },
};

export const showOrder = {
  id: 'showOrder',
  method: 'GET',
  path: '/api/orders/{id}',
  who: 'user',
  summary: 'One order with its items, licences and latest notes',
  answers: {
    200: object({
      ...summary,
      items: list(object({ licence_kind: kind, quantity: { type: 'integer' }, unit_price_ore: money })),
      licences: list(licenceOfOrder),
      notes: list(object({ id, text: { type: 'string' }, created_at: moment })),
    }),
  },
  handle:
    ({ database }) =>
    async ({ params, user, log }) => {
      const [order] = await database.read(ONE, [params.id, seesAll(user) ? null : user.id], log);
      if (!order) throw noSuchOrder();
      return { body: order };
    },
};

export const refundOrder = {
  id: 'refundOrder',
  method: 'POST',
  path: '/api/orders/{id}/refund',
  who: 'official',
  summary: 'Gives the money back; again changes nothing',
  answers: { 200: object({ id, status: { enum: ORDER_STATUSES } }) },
  handle:
    ({ database }) =>
    async ({ params, user, log }) => {
      const [order] = await database.transaction((query) => query(REFUND, [params.id]), log);
      if (!order) throw noSuchOrder();
      log.info('order refunded', { order_id: order.id, by_user_id: user.id });
      return { body: order };
    },
};

function noSuchOrder() {
  return new HttpError(404, 'order_not_found', 'There is no order with this number, or it is not yours.');
}
