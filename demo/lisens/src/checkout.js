// Buying licences. A caller that got no answer sends the same Idempotency-Key
// again, through whatever proxy or retry; the key makes that one order.
//
// The key and the order are written in one transaction. A second request with
// the same key waits at the INSERT until the first has committed (then it reads
// the first answer) or rolled back (then it takes its place).

import { createHash } from 'node:crypto';
import { HttpError } from './errors.js';
import { readJsonObject } from './http.js';

const KEY = /^[\x21-\x7e]{1,200}$/;
const MOST_ITEMS = 20;
const MOST_QUANTITY = 20;

const CLAIM_KEY = `
  INSERT INTO idempotency_keys (key, request_hash) VALUES ($1, $2)
  ON CONFLICT (key) DO NOTHING RETURNING key`;
const FIRST_ANSWER = 'SELECT request_hash, answer FROM idempotency_keys WHERE key = $1';
const KEEP_ANSWER = 'UPDATE idempotency_keys SET order_id = $2, answer = $3 WHERE key = $1';

const USER = 'SELECT id FROM users WHERE id = $1';
const PRICES = 'SELECT kind, price_ore FROM licence_kinds WHERE kind = ANY($1::text[])';
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
  RETURNING id, kind, valid_from, valid_until`;

export function checkout({ database }) {
  return async ({ request, log }) => {
    const key = request.headers['idempotency-key'];
    if (!KEY.test(key ?? '')) {
      throw new HttpError(
        400,
        'idempotency_key_required',
        'Send a header Idempotency-Key with a new random value for each purchase, 1 to 200 characters without spaces.',
      );
    }
    const wish = readWish(await readJsonObject(request));
    const requestHash = createHash('sha256').update(JSON.stringify(wish)).digest();

    const { answer, replayed } = await database.transaction(async (query) => {
      const [claimed] = await query(CLAIM_KEY, [key, requestHash]);
      if (!claimed) return replay(query, key, requestHash);
      const order = await placeOrder(query, wish);
      const text = `${JSON.stringify(order)}\n`;
      await query(KEEP_ANSWER, [key, order.id, text]);
      return { answer: text, replayed: false };
    }, log);

    const headers = { 'content-type': 'application/json; charset=utf-8' };
    if (replayed) headers['idempotent-replayed'] = 'true';
    return { status: 201, headers, body: answer };
  };
}

async function replay(query, key, requestHash) {
  const [first] = await query(FIRST_ANSWER, [key]);
  if (!first.request_hash.equals(requestHash)) {
    throw new HttpError(422, 'idempotency_key_reused', 'This Idempotency-Key was used for another purchase. Use a new one.');
  }
  return { answer: first.answer, replayed: true };
}

async function placeOrder(query, { user_id, items }) {
  const [user] = await query(USER, [user_id]);
  if (!user) throw new HttpError(422, 'unknown_user', `There is no user ${user_id}.`);

  const kinds = items.map((item) => item.licence_kind);
  const quantities = items.map((item) => item.quantity);
  const priceOf = new Map((await query(PRICES, [kinds])).map((row) => [row.kind, row.price_ore]));
  const unknown = kinds.find((kind) => !priceOf.has(kind));
  if (unknown) throw new HttpError(422, 'unknown_licence_kind', `There is no licence kind "${unknown}"; see /api/licence-kinds.`);
  const prices = kinds.map((kind) => priceOf.get(kind));
  const total_ore = prices.reduce((sum, price_ore, index) => sum + price_ore * quantities[index], 0);

  const [order] = await query(NEW_ORDER, [user_id, total_ore]);
  await query(NEW_LINES, [order.id, kinds, quantities, prices]);
  const licences = await query(NEW_LICENCES, [order.id]);
  return { ...order, items, licences };
}

function readWish({ user_id, items }) {
  const problem = (message) => new HttpError(422, 'invalid_checkout', message);
  if (!Number.isSafeInteger(user_id) || user_id < 1) throw problem('user_id must be a positive whole number.');
  if (!Array.isArray(items) || items.length < 1 || items.length > MOST_ITEMS) {
    throw problem(`items must be a list of 1 to ${MOST_ITEMS} items.`);
  }
  return {
    user_id,
    items: items.map((item) => {
      if (typeof item?.licence_kind !== 'string' || !/^[a-z]{1,40}$/.test(item.licence_kind)) {
        throw problem('each item needs a licence_kind, such as "helarslisens".');
      }
      if (!Number.isInteger(item.quantity) || item.quantity < 1 || item.quantity > MOST_QUANTITY) {
        throw problem(`each item needs a quantity from 1 to ${MOST_QUANTITY}.`);
      }
      return { licence_kind: item.licence_kind, quantity: item.quantity };
    }),
  };
}
