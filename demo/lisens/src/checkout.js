// Buying licences: with a reservation, or straight away.

import { seesAll } from './access.js';
import { giveBack, items, priced, takePlaces, totalOf } from './basket.js';
import { HttpError } from './errors.js';
import { keyHeader, once } from './idempotency.js';
import { KINDS_KEY } from './licences.js';
import { licenceOfOrder } from './orders.js';
import { claimReservation, reservationId } from './reservations.js';
import { ORDER_STATUSES, id, kind, list, moment, money, object } from './schema.js';

const USER = 'SELECT id FROM users WHERE id = $1';
const NEW_ORDER = `
  INSERT INTO orders (user_id, status, total_ore) VALUES ($1, 'paid', $2)
  RETURNING id, user_id, status, total_ore, created_at`;
const NEW_LINES = `
  INSERT INTO order_lines (order_id, line_no, licence_kind, quantity, unit_price_ore)
  SELECT $1, line_no, kind, quantity, price_ore
    FROM unnest($2::text[], $3::int[], $4::int[]) WITH ORDINALITY AS line (kind, quantity, price_ore, line_no)`;
const NEW_LICENCES = `
  INSERT INTO licences (order_id, user_id, kind, valid_from, valid_until)
  SELECT o.id, o.user_id, k.kind, o.created_at::date, o.created_at::date + k.valid_days - 1
    FROM orders o
    JOIN order_lines l ON l.order_id = o.id
    JOIN licence_kinds k ON k.kind = l.licence_kind
   CROSS JOIN generate_series(1, l.quantity)
   WHERE o.id = $1
   ORDER BY l.line_no
  RETURNING id, kind, status, valid_from, valid_until`;

export const checkout = {
  id: 'checkout',
  method: 'POST',
  path: '/api/checkout',
  who: 'user',
  summary: 'Buys licences: those of a reservation, or these items',
  headers: [keyHeader],
  body: {
    ...object({ items, reservation_id: reservationId, user_id: { ...id, description: 'for another user, as an official' } }, [
      'items',
      'reservation_id',
      'user_id',
    ]),
    oneOf: [{ required: ['items'] }, { required: ['reservation_id'] }],
  },
  answers: {
    201: object({
      id,
      user_id: id,
      status: { enum: ORDER_STATUSES },
      total_ore: money,
      created_at: moment,
      items: list(object({ licence_kind: kind, quantity: { type: 'integer' }, unit_price_ore: money })),
      licences: list(licenceOfOrder),
    }),
  },
  errors: [409],
  handle:
    ({ database, cache, metrics }) =>
    async ({ request, body, user, log }) => {
      const buyer = body.user_id ?? user.id;
      if (buyer !== user.id && !seesAll(user)) throw new HttpError(403, 'forbidden', 'You can buy for yourself only.');
      let soldLimited = false;
      const answer = await once({ database, operation: 'checkout', user, request, wish: body, log }, 201, async (query) => {
        const [known] = await query(USER, [buyer]);
        if (!known) throw new HttpError(422, 'unknown_user', `There is no user ${buyer}.`);
        if (body.reservation_id) return placeOrder(query, buyer, await claimReservation(query, body.reservation_id, user.id));
        const { lines, limited } = await priced(query, body.items);
        if (limited.length > 0) {
          soldLimited = true;
          await giveBack(query, []);
          await takePlaces(query, lines, limited);
        }
        return placeOrder(query, buyer, lines);
      });
      if (!answer.replayed) metrics.orderPlaced();
      if (soldLimited) await cache.drop([KINDS_KEY]);
      return answer;
    },
};

async function placeOrder(query, buyer, lines) {
  const [order] = await query(NEW_ORDER, [buyer, totalOf(lines)]);
  const column = (name) => lines.map((line) => line[name]);
  await query(NEW_LINES, [order.id, column('licence_kind'), column('quantity'), column('unit_price_ore')]);
  const licences = await query(NEW_LICENCES, [order.id]);
  return { ...order, items: lines, licences };
}
