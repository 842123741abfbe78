// What somebody wants to buy: its shape, its price, and the places it takes of
// kinds of which there are only so many.

import { HttpError } from './errors.js';
import { kind, list, object } from './schema.js';

const MOST_ITEMS = 20;
const MOST_QUANTITY = 20;

export const items = list(object({ licence_kind: kind, quantity: { type: 'integer', minimum: 1, maximum: MOST_QUANTITY } }), {
  least: 1,
  most: MOST_ITEMS,
});

const PRICES = `
  SELECT k.kind, k.price_ore, q.kind IS NOT NULL AS limited
    FROM licence_kinds k LEFT JOIN licence_quotas q ON q.kind = k.kind
   WHERE k.kind = ANY($1::text[])`;
// All of the few rows, always in this order: two purchases cannot wait for each other.
const LOCK_QUOTAS = 'SELECT kind FROM licence_quotas ORDER BY kind FOR UPDATE';
const GIVE_BACK = `
  UPDATE licence_quotas q SET taken = q.taken - back.quantity
    FROM (SELECT line.licence_kind, sum(line.quantity)::int AS quantity
            FROM unnest($1::jsonb[]) AS lines, jsonb_to_recordset(lines) AS line (licence_kind text, quantity int, took boolean)
           WHERE line.took
           GROUP BY line.licence_kind) back
   WHERE q.kind = back.licence_kind`;
const TAKE = `
  UPDATE licence_quotas q SET taken = q.taken + want.quantity
    FROM (SELECT kind, sum(quantity)::int AS quantity FROM unnest($1::text[], $2::int[]) AS w (kind, quantity) GROUP BY kind) want
   WHERE q.kind = want.kind AND q.taken + want.quantity <= q.places
  RETURNING q.kind`;
const EXPIRED = 'DELETE FROM reservations WHERE expires_at <= now() RETURNING lines';

/** The lines of a purchase at the prices of now, and whether one of them is limited. */
export async function priced(query, wanted) {
  const kinds = wanted.map((item) => item.licence_kind);
  const found = new Map((await query(PRICES, [kinds])).map((row) => [row.kind, row]));
  const unknown = kinds.find((each) => !found.has(each));
  if (unknown) throw new HttpError(422, 'unknown_licence_kind', `There is no licence kind "${unknown}"; see /api/licence-kinds.`);
  const lines = wanted.map((item) => ({ ...item, unit_price_ore: found.get(item.licence_kind).price_ore }));
  return { lines, limited: [...found.values()].filter((row) => row.limited).map((row) => row.kind) };
}

export function totalOf(lines) {
  return lines.reduce((sum, line) => sum + line.unit_price_ore * line.quantity, 0);
}

/** Gives the places of these and of all reservations that ran out back. The quotas are locked from here on. */
export async function giveBack(query, released) {
  await query(LOCK_QUOTAS);
  const expired = await query(EXPIRED);
  const lines = [...released, ...expired.map((row) => row.lines)];
  if (lines.length > 0) await query(GIVE_BACK, [lines.map((each) => JSON.stringify(each))]);
}

/** Takes the places of limited kinds, all or none (the transaction is given up). The quotas must be locked. */
export async function takePlaces(query, lines, limited) {
  const taken = await query(TAKE, [lines.map((line) => line.licence_kind), lines.map((line) => line.quantity)]);
  if (taken.length === limited.length) return;
  const missing = limited.filter((each) => !taken.some((row) => row.kind === each));
  throw new HttpError(409, 'sold_out', `There are not enough places left of ${missing.join(', ')}.`);
}
