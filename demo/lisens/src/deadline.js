// Waiting, but not longer than agreed.

export class DeadlineExceeded extends Error {}

/** Settles as `promise` does, or rejects after `limit_ms`. The work itself goes on. */
export function withDeadline(promise, limit_ms, what) {
  let timer;
  const expiry = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new DeadlineExceeded(`${what} took longer than ${limit_ms} ms`)), limit_ms);
  });
  promise.catch(() => {}); // a late failure has nobody left to tell
  return Promise.race([promise, expiry]).finally(() => clearTimeout(timer));
}
