// Holding a basket while its buyer pays: ten minutes at these prices, with
// these places. One a user; what runs out is given back by the next who asks.

import { giveBack, items, priced, takePlaces, totalOf } from './basket.js';
import { HttpError } from './errors.js';
import { KINDS_KEY } from './licences.js';
import { moment, money, object } from './schema.js';

const HELD_S = 600;

const DROP_OLDER = 'DELETE FROM reservations WHERE user_id = $1 RETURNING lines';
const HOLD = `
  INSERT INTO reservations (user_id, lines, expires_at) VALUES ($1, $2, now() + make_interval(secs => $3))
  ON CONFLICT (user_id) DO NOTHING
  RETURNING id, expires_at`;
// What is overwritten here came in between, by the way that takes no places.
const HOLD_INSTEAD = `
  INSERT INTO reservations (user_id, lines, expires_at) VALUES ($1, $2, now() + make_interval(secs => $3))
  ON CONFLICT (user_id) DO UPDATE SET id = gen_random_uuid(), lines = excluded.lines, expires_at = excluded.expires_at
  RETURNING id, expires_at`;
const DROP = 'DELETE FROM reservations WHERE id = $1 AND user_id = $2 RETURNING lines';
const CLAIM = 'DELETE FROM reservations WHERE id = $1 AND user_id = $2 AND expires_at > now() RETURNING lines';

export const reservationId = { type: 'string', format: 'uuid' };

export const reserve = {
  id: 'reserve',
  method: 'POST',
  path: '/api/reservations',
  who: 'user',
  summary: 'Holds places and prices for ten minutes; takes the place of one’s older reservation',
  body: object({ items }),
  answers: { 201: object({ id: reservationId, items, total_ore: money, expires_at: moment }) },
  errors: [409],
  handle:
    ({ database, cache }) =>
    async ({ body, user, log }) => {
      const { held, lines, isLimited } = await database.transaction(async (query) => {
        const { lines, limited } = await priced(query, body.items);
        // What took no place gives none back, also when its kind has become limited meanwhile.
        const kept = lines.map((line) => ({ ...line, took: limited.includes(line.licence_kind) }));
        const values = [user.id, JSON.stringify(kept), HELD_S];
        const isLimited = limited.length > 0;
        // Most baskets take no places and replace nothing: they wait for nobody.
        const [free] = isLimited ? [] : await query(HOLD, values);
        if (free) return { held: free, lines, isLimited };
        // The quotas first, then the reservations: the same order everywhere.
        await giveBack(query, []);
        const older = await query(DROP_OLDER, [user.id]);
        await giveBack(
          query,
          older.map((row) => row.lines),
        );
        if (isLimited) await takePlaces(query, lines, limited);
        const [held] = await query(HOLD_INSTEAD, values);
        return { held, lines, isLimited };
      }, log);
      if (isLimited) await cache.drop([KINDS_KEY]);
      return { status: 201, body: { id: held.id, items: body.items, total_ore: totalOf(lines), expires_at: held.expires_at } };
    },
};

export const dropReservation = {
  id: 'dropReservation',
  method: 'DELETE',
  path: '/api/reservations/{reservation_id}',
  params: { reservation_id: reservationId },
  who: 'user',
  summary: 'Lets one’s reservation go',
  answers: { 204: null },
  handle:
    ({ database, cache }) =>
    async ({ params, user, log }) => {
      await database.transaction(async (query) => {
        await giveBack(query, []);
        const dropped = await query(DROP, [params.reservation_id, user.id]);
        if (dropped.length === 0) throw new HttpError(404, 'reservation_not_found', 'There is no such reservation, or it is not yours.');
        await giveBack(
          query,
          dropped.map((row) => row.lines),
        );
      }, log);
      await cache.drop([KINDS_KEY]);
      return { status: 204 };
    },
};

/** The lines of a reservation that is now bought: its places stay taken. */
export async function claimReservation(query, wantedId, userId) {
  const [held] = await query(CLAIM, [wantedId, userId]);
  if (!held)
    throw new HttpError(409, 'reservation_gone', 'This reservation has run out or was replaced. Nothing was bought; reserve again.');
  return held.lines.map(({ took, ...line }) => line);
}
