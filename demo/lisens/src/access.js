// Who may do what. Each operation names the least role that it needs; what a
// role may see beyond its own things is asked here.

import { HttpError } from './errors.js';

const RANK = { anybody: 0, user: 1, official: 2, admin: 3 };

/** Throws unless `user` (null for nobody) is at least `least`. */
export function demand(least, user) {
  if (RANK[least] === 0) return;
  if (!user) throw new HttpError(401, 'not_signed_in', 'Sign in first: POST /api/session.');
  if (RANK[user.role] < RANK[least]) throw new HttpError(403, 'forbidden', `This needs the role ${least}.`);
}

/** Officials and admins see what belongs to others. */
export function seesAll(user) {
  return RANK[user.role] >= RANK.official;
}

/**
 * Whose things a list may show: a user's own, whatever is asked for; everybody's
 * for an official, or those of one user.
 */
export function ownerFilter(user, wanted) {
  if (seesAll(user)) return wanted ?? null;
  if (wanted !== undefined && wanted !== user.id) throw new HttpError(403, 'forbidden', 'You can ask for your own only.');
  return user.id;
}
