// The queue of writes that could not be made yet. Nothing here knows of browsers: the store, fetch and the lock are
// passed in, so that the page, its worker and the tests run the very same code.
//
// Exactly once: a write gets its Idempotency-Key when it is queued and keeps it. It leaves the queue only after the
// server's answer; whoever dies in between leaves it behind, and the next one sends it with the same key. The lock
// keeps tabs from doing so at once, but it is the key that makes it right.

const FIRST_DELAY = 2_000;
const LONGEST_DELAY = 5 * 60_000;
const SESSION_LIMIT = 20_000;
const SEND_LIMIT = 60_000;
const KEY_LIFETIME = 25 * 24 * 3_600_000;

/** How long to wait after so many attempts; spread, so that not everybody comes back in the same second. */
export function backoff(attempts, random = Math.random) {
  const longest = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** Math.min(attempts, 20));
  return Math.round(longest * (0.5 + random() / 2));
}

/** What a Retry-After header asks for, in milliseconds: seconds or a date. */
export function retryAfter(value, now) {
  if (!value) return 0;
  const wait = /^\d+$/.test(value.trim()) ? Number(value) * 1_000 : Date.parse(value) - now;
  return Number.isFinite(wait) ? Math.max(0, wait) : 0;
}

/** What an answer means for the write: done, signed-out, csrf, later or refused. */
export function outcome(status, code) {
  if (status >= 200 && status < 300) return 'done';
  if (status === 401) return 'signed-out';
  if (status === 403 && code === 'csrf') return 'csrf';
  if (status === 408 || status === 429 || status >= 500) return 'later';
  return 'refused';
}

/**
 * @param store keeps the records: add(record) -> id, all() in the order of their ids, update(id, changes), remove(id)
 * @param lock runs a function while nobody else runs one
 * @param changed called after each change of the queue
 * @param synced called with `{ id, path, label, userId, answer }` after a write has arrived
 */
export function createQueue({ store, fetch, lock, changed = () => {}, synced = () => {}, now = Date.now, random = Math.random }) {
  let unreachable = 0; // attempts in a row to learn who is signed in

  async function enqueue({ path, body, userId, label, idempotencyKey = crypto.randomUUID() }) {
    const record = { path, body, userId, label, idempotencyKey, createdAt: new Date(now()).toISOString() };
    const id = await store.add({ ...record, state: 'waiting', error: null, attempts: 0, notBefore: 0, heldUntil: 0 });
    changed();
    return { id, idempotencyKey };
  }

  // Under the lock: what is being sent right now is not thrown away under the sender's hands.
  function discard(id) {
    return lock(async () => {
      await store.remove(id);
      changed();
    });
  }

  /**
   * Sends what is due, in order. `force` skips the waiting that is our own choice, not what the server asked for.
   * Says how many arrived and in how many milliseconds to try again; null: not before somebody asks.
   */
  function flush({ force = false } = {}) {
    return lock(async () => {
      const result = { sent: 0, next: null };
      const open = await waiting();
      // Nobody else is sending while we hold the lock, so this one was left behind by a page that is gone.
      for (const record of open) if (record.state === 'sending') await change(record, { state: 'waiting' });
      const soonest = Math.min(...open.map((record) => due(record, force)));
      if (open.length === 0) return result;
      if (soonest > now()) return { ...result, next: soonest - now() };

      const sessions = { current: await session() };
      while (sessions.current) {
        const userId = sessions.current.user?.id;
        const record = (await waiting()).find((each) => userId !== undefined && String(each.userId) === String(userId));
        if (!record) return result;
        if (due(record, force) > now()) return { ...result, next: due(record, force) - now() };
        const went = await send(record, sessions);
        if (went === 'done') result.sent += 1;
        if (went === 'signed-out') return result;
        if (went === 'later') force = false;
      }
      return { ...result, next: backoff(unreachable, random) };
    });
  }

  async function send(record, sessions) {
    // The server forgets keys after thirty days: from then on sending again could be doing twice.
    if (now() - Date.parse(record.createdAt) > KEY_LIFETIME) {
      await change(record, { state: 'failed', error: 'too_old', message: '', requestId: null });
      return 'refused';
    }
    await change(record, { state: 'sending' });
    let answer = await post(record, sessions.current.csrf_token);
    if (answer.outcome === 'csrf') {
      // The token, or the person, has changed since.
      sessions.current = await session();
      const same = sessions.current?.user && String(sessions.current.user.id) === String(record.userId);
      if (same) answer = await post(record, sessions.current.csrf_token);
      else answer = { ...answer, outcome: 'not-now' };
    }
    const { status, error, held } = answer;
    if (answer.outcome === 'done') {
      await store.remove(record.id);
      changed();
      synced({ id: record.id, path: record.path, label: record.label, userId: record.userId, answer: answer.body });
    } else if (answer.outcome === 'refused') {
      await change(record, { state: 'failed', status, ...error });
    } else if (answer.outcome === 'signed-out' || answer.outcome === 'not-now') {
      await change(record, { state: 'waiting' });
    } else {
      const attempts = record.attempts + 1;
      const wait = { notBefore: now() + backoff(record.attempts, random), heldUntil: held ? now() + held : 0 };
      await change(record, { state: 'waiting', attempts, ...wait });
      return 'later';
    }
    return answer.outcome;
  }

  async function post(record, token) {
    try {
      const answer = await fetch(record.path, {
        method: 'POST',
        credentials: 'same-origin',
        headers: {
          'Content-Type': 'application/json',
          Accept: 'application/json',
          'Idempotency-Key': record.idempotencyKey,
          'X-CSRF-Token': token ?? '',
        },
        body: JSON.stringify(record.body),
        signal: AbortSignal.timeout(SEND_LIMIT),
      });
      const body = await answer.json().catch(() => null);
      const error = { error: body?.error ?? `http_${answer.status}`, message: body?.message ?? '', requestId: body?.request_id ?? null };
      // Done, but not to be read: the key makes asking again harmless.
      if (answer.ok && body === null) return { outcome: 'later' };
      const held = retryAfter(answer.headers.get('retry-after'), now());
      return { outcome: outcome(answer.status, body?.error), status: answer.status, body, error, held };
    } catch {
      return { outcome: 'later' };
    }
  }

  /** Who is signed in, from the server itself; null when it cannot be asked. */
  async function session() {
    try {
      const answer = await fetch('/api/session', {
        credentials: 'same-origin',
        cache: 'no-store',
        headers: { Accept: 'application/json' },
        signal: AbortSignal.timeout(SESSION_LIMIT),
      });
      // An answer from the worker's memory has no token that is worth anything.
      if (!answer.ok || answer.headers.has('x-lisens-cached-at')) throw new Error('nobody to ask');
      const said = await answer.json();
      unreachable = 0;
      return said;
    } catch {
      unreachable += 1;
      return null;
    }
  }

  async function waiting() {
    return (await store.all()).filter((record) => record.state !== 'failed');
  }

  async function change(record, changes) {
    Object.assign(record, changes);
    await store.update(record.id, changes);
    changed();
  }

  return { enqueue, discard, flush, all: () => store.all() };
}

function due(record, force) {
  return Math.max(record.heldUntil, force ? 0 : record.notBefore);
}
