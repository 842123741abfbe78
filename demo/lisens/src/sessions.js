// Who is signed in. The browser holds a random token in a cookie that scripts
// cannot read; we hold its hash. Sessions are read from Redis and kept in
// PostgreSQL, so a Redis that is away or empty signs nobody out.

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { HttpError } from './errors.js';

// The prefix makes browsers insist on Secure, the whole host and Path=/ (RFC 6265bis, 4.1.3.2).
const COOKIE = '__Host-lisens';
const TOKEN = /^[\w-]{43}$/;
const LIFETIME_S = 12 * 3600;
// How long a role that was changed while Redis could not be told may linger.
const CACHED_S = 60;
const ENDED = 'ended';
const MOST_A_USER = 20;

const FIND = `
  SELECT u.id, u.name, u.club, u.role, s.expires_at
    FROM sessions s JOIN users u ON u.id = s.user_id
   WHERE s.token_hash = $1 AND s.expires_at > now()`;
const KEEP = `
  INSERT INTO sessions (token_hash, user_id, expires_at) VALUES ($1, $2, now() + make_interval(secs => $3))
  RETURNING expires_at`;
const THROW_AWAY = `
  DELETE FROM sessions WHERE token_hash IN (
    SELECT token_hash FROM sessions WHERE expires_at <= now()
    UNION ALL
    (SELECT token_hash FROM sessions WHERE user_id = $1 ORDER BY created_at DESC OFFSET $2))`;
const END = 'DELETE FROM sessions WHERE token_hash = $1';
const END_ALL = 'DELETE FROM sessions WHERE user_id = $1 RETURNING token_hash';

const hashOf = (token) => createHash('sha256').update(token).digest();
const keyOf = (hash) => `lisens:session:${hash.toString('hex')}`;
// Known to whoever may read our answers, which another site may not.
const csrfOf = (token) => createHash('sha256').update(`csrf:${token}`).digest('base64url');

export class Sessions {
  #database;
  #cache;

  constructor({ database, cache }) {
    this.#database = database;
    this.#cache = cache;
  }

  /** { token, user, csrfToken, expiresAt } of the one who asks, or null. */
  async of(request, log) {
    const token = readCookie(request.headers.cookie);
    if (token === null) return null;
    const hash = hashOf(token);
    let found = await this.#cache.get(keyOf(hash));
    if (found === ENDED) return null;
    if (!found) {
      [found] = await this.#database.read(FIND, [hash], log);
      if (!found) return null;
      await this.#cache.fill(keyOf(hash), found, CACHED_S);
    }
    const { expires_at, ...user } = found;
    if (new Date(expires_at) <= new Date()) return null;
    return { token, user, csrfToken: csrfOf(token), expiresAt: expires_at };
  }

  /** Begins one; the oldest of a user who has very many end. */
  async begin(user, log) {
    const token = randomBytes(32).toString('base64url');
    const expiresAt = await this.#database.transaction(async (query) => {
      const [{ expires_at }] = await query(KEEP, [hashOf(token), user.id, LIFETIME_S]);
      await query(THROW_AWAY, [user.id, MOST_A_USER]);
      return expires_at;
    }, log);
    return { token, user, csrfToken: csrfOf(token), expiresAt };
  }

  async end({ token }, log) {
    const hash = hashOf(token);
    await this.#database.transaction((query) => query(END, [hash]), log);
    if (!(await this.#tellEnded([hash]))) throw notEverywhereYet({ 'set-cookie': NO_COOKIE });
  }

  /** For when what a user may do has changed. */
  async endAllOf(userId, log) {
    await this.#database.transaction(async (query) => {
      const rows = await query(END_ALL, [userId]);
      // Before the COMMIT: who is told that it failed asks again, and then they have to be found again.
      if (!(await this.#tellEnded(rows.map((row) => row.token_hash)))) throw notEverywhereYet();
    }, log);
  }

  /** A mark, not a gap: a request that has just read the session would fill a gap with what it has read. */
  async #tellEnded(hashes) {
    const told = await Promise.all(hashes.map((hash) => this.#cache.put(keyOf(hash), ENDED, CACHED_S)));
    return told.every(Boolean);
  }
}

function notEverywhereYet(headers = {}) {
  const message = `It is done, but may take ${CACHED_S} seconds to be known everywhere. Ask again to be sure.`;
  return new HttpError(503, 'not_everywhere_yet', message, { headers: { 'retry-after': '1', ...headers } });
}

/** Throws unless the one who sent this write could read our answers: another site cannot. */
export function demandSameSite(request, session) {
  const problem = (message) => new HttpError(403, 'csrf', message);
  // Browsers say where a request comes from; programs say nothing.
  if ((request.headers['sec-fetch-site'] ?? 'same-origin') === 'cross-site') throw problem('Another site may not write here.');
  if (!session) return;
  const sent = Buffer.from(String(request.headers['x-csrf-token'] ?? ''));
  const wanted = Buffer.from(session.csrfToken);
  if (sent.length !== wanted.length || !timingSafeEqual(sent, wanted)) {
    throw problem('Send the csrf_token of GET /api/session in the header X-CSRF-Token.');
  }
}

export function cookieFor({ token }) {
  return `${COOKIE}=${token}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=${LIFETIME_S}`;
}

export const NO_COOKIE = `${COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0`;

function readCookie(header = '') {
  for (const part of header.split(';')) {
    const [name, value] = part.trim().split('=', 2);
    if (name === COOKIE && TOKEN.test(value ?? '')) return value;
  }
  return null;
}
