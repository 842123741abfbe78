// Talking to the API. Everything that goes wrong becomes an ApiError with a code that the dictionaries know.

const TIME_LIMIT = 10_000;

export class ApiError extends Error {
  constructor({ status = 0, code, message, requestId = null, details = [], retryAfter = null }) {
    super(message || code);
    this.name = 'ApiError';
    Object.assign(this, { status, code, requestId, details, retryAfter });
  }
}

/** True when it is not known whether the server got the request: it may be sent again with the same key. */
export const isNetworkFailure = (error) => error?.code === 'offline' || error?.code === 'timeout';

/** True when the write may have been done all the same: only the very same request, with its key, may follow. */
export const isUncertain = (error) => isNetworkFailure(error) || error?.status === 408 || error?.status >= 500;

let csrfToken = null;
let userId = null;
let clockDifference = 0;
const signedOutListeners = new Set();

/** Calls the listener when the server no longer knows who we are. */
export function onSignedOut(listener) {
  signedOutListeners.add(listener);
  return () => signedOutListeners.delete(listener);
}

/** Reads JSON. An answer that came out of the service worker's cache carries `cachedAt`. */
export async function getJson(path) {
  const response = await request('GET', path);
  const body = await response.json();
  if (path === '/api/session') remember(body);
  const cachedAt = response.headers.get('x-lisens-cached-at');
  return cachedAt ? { ...body, cachedAt } : body;
}

/** Sends a write. Returns the answer's JSON, or null where there is none. */
export async function send(method, path, body, { idempotencyKey } = {}) {
  const attempt = () => request(method, path, { body, idempotencyKey, csrfToken });
  let response;
  try {
    response = await attempt();
  } catch (error) {
    if (error.code !== 'csrf') throw error;
    // The token belongs to the session, and that may be a new one; of somebody else, even, in another tab.
    const before = userId;
    await getJson('/api/session');
    if (userId !== before) {
      signedOutListeners.forEach((listener) => listener());
      throw new ApiError({ status: 403, code: 'csrf' });
    }
    response = await attempt();
  }
  if (path === '/api/session') {
    const session = method === 'DELETE' ? null : await response.json();
    remember(session);
    return session;
  }
  return response.status === 204 ? null : response.json();
}

function remember(session) {
  csrfToken = session?.csrf_token ?? null;
  userId = session?.user?.id ?? null;
}

async function request(method, path, { body, idempotencyKey, csrfToken: token } = {}) {
  const headers = { accept: 'application/json' };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (idempotencyKey) headers['idempotency-key'] = idempotencyKey;
  if (token) headers['x-csrf-token'] = token;
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(TIME_LIMIT),
    });
  } catch (error) {
    throw new ApiError({ code: error.name === 'TimeoutError' ? 'timeout' : 'offline', message: error.message });
  }
  noteClock(response);
  if (response.ok) return response;
  const error = await errorOf(response);
  if (error.code === 'not_signed_in') signedOutListeners.forEach((listener) => listener());
  throw error;
}

/** The time by the server's clock, for what ends at a time that the server named. */
export const serverNow = () => Date.now() + clockDifference;

function noteClock(response) {
  const theirs = Date.parse(response.headers.get('date') ?? '');
  if (Number.isNaN(theirs) || response.headers.has('x-lisens-cached-at')) return;
  const difference = theirs - Date.now();
  clockDifference = Math.abs(difference) > 5000 ? difference : 0; // less than that is the way here
}

async function errorOf(response) {
  let answer = {};
  try {
    answer = await response.json();
  } catch {
    // a proxy's own error page: the status has to be enough
  }
  const retryAfter = Number(response.headers.get('retry-after'));
  return new ApiError({
    status: response.status,
    code: answer.error ?? CODES[response.status] ?? (response.status >= 500 ? 'server' : 'unexpected'),
    message: answer.message ?? '',
    requestId: answer.request_id ?? response.headers.get('x-request-id'),
    details: answer.details ?? [],
    retryAfter: Number.isFinite(retryAfter) && retryAfter > 0 ? retryAfter : null,
  });
}

const CODES = { 401: 'not_signed_in', 403: 'forbidden', 404: 'not_found', 429: 'too_many_requests', 503: 'unavailable' };
