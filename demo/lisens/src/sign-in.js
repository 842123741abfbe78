// Signing in and out, and who one is.

import { HttpError } from './errors.js';
import { isPassword } from './passwords.js';
import { ROLES, id, moment, object } from './schema.js';
import { NO_COOKIE, cookieFor } from './sessions.js';

const ACCOUNT = 'SELECT id, name, club, role, password_hash FROM users WHERE lower(email) = lower($1)';

const who = object({ id, name: { type: 'string' }, club: { type: 'string' }, role: { enum: ROLES } });
const signedIn = object({ user: who, csrf_token: { type: 'string' }, expires_at: moment });

export const showSession = {
  id: 'showSession',
  method: 'GET',
  path: '/api/session',
  who: 'anybody',
  readsSession: true,
  summary: 'Who one is, and the token that writes must carry; user is null for who is not signed in',
  answers: { 200: { anyOf: [signedIn, object({ user: { type: 'null' } })] } },
  errors: [503],
  handle:
    () =>
    async ({ session }) => ({ body: session ? asAnswer(session) : { user: null } }),
};

export const signIn = {
  id: 'signIn',
  method: 'POST',
  path: '/api/session',
  who: 'anybody',
  summary: 'Signs in: sets the session cookie',
  body: object({
    email: { type: 'string', format: 'email', maxLength: 254 },
    password: { type: 'string', format: 'password', minLength: 1, maxLength: 200 },
  }),
  answers: { 201: signedIn },
  errors: [401, 429, 503],
  handle:
    ({ database, sessions, attempts }) =>
    async ({ request, body: { email, password }, log }) => {
      const address = addressOf(request);
      const forgive = await attempts.note(email, address);
      const [account] = await database.read(ACCOUNT, [email], log);
      const { password_hash, ...user } = account ?? { password_hash: null };
      if (!(await isPassword(password, password_hash))) {
        log.warn('sign-in refused', { user_id: user.id });
        throw new HttpError(401, 'wrong_credentials', 'The e-mail address or the password is wrong.');
      }
      await forgive();
      const session = await sessions.begin(user, log);
      log.info('signed in', { user_id: user.id });
      return { status: 201, headers: { 'set-cookie': cookieFor(session) }, body: asAnswer(session) };
    },
};

export const signOut = {
  id: 'signOut',
  method: 'DELETE',
  path: '/api/session',
  who: 'user',
  summary: 'Signs out',
  answers: { 204: null },
  handle:
    ({ sessions }) =>
    async ({ session, log }) => {
      await sessions.end(session, log);
      log.info('signed out', { user_id: session.user.id });
      return { status: 204, headers: { 'set-cookie': NO_COOKIE } };
    },
};

function asAnswer({ user, csrfToken, expiresAt }) {
  return { user, csrf_token: csrfToken, expires_at: expiresAt };
}

/** The visitor's address: the last one the proxy in front has added, since what comes before it anybody can write. */
function addressOf(request) {
  return request.headers['x-forwarded-for']?.split(',').at(-1).trim() || request.socket.remoteAddress;
}
