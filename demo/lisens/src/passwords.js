// Passwords: scrypt, with the cost beside the hash so that it can be raised later.

import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { HttpError } from './errors.js';

const derive = promisify(scrypt);

// 16 MiB and about a fifth of a second: OWASP Password Storage Cheat Sheet, scrypt.
const COST = { N: 2 ** 14, r: 8, p: 5 };
const LENGTH = 32;
// More at once would only take the processor from those who are signed in.
const MOST_AT_ONCE = 2;
const MOST_WAITING = 100;

let running = 0;
const waiting = [];

async function inTurn(work) {
  if (running >= MOST_AT_ONCE) {
    if (waiting.length >= MOST_WAITING) {
      throw new HttpError(503, 'busy', 'Very many are signing in just now. Try again in a few seconds.', {
        headers: { 'retry-after': '5' },
      });
    }
    await new Promise((resolve) => waiting.push(resolve));
  }
  running += 1;
  try {
    return await work();
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

/** `scrypt$N$r$p$salt$hash`, the last two in base64url. */
export async function hashPassword(password, salt = randomBytes(16)) {
  const hash = await derive(password.normalize('NFC'), salt, LENGTH, COST);
  return `scrypt$${COST.N}$${COST.r}$${COST.p}$${salt.toString('base64url')}$${hash.toString('base64url')}`;
}

const NOBODY = await hashPassword(randomBytes(16).toString('hex'));

/** Takes as long for an account that is not there or has no password (null). */
export async function isPassword(password, stored) {
  const [, N, r, p, salt, hash] = (stored ?? NOBODY).split('$');
  const wanted = Buffer.from(hash, 'base64url');
  const cost = { N: Number(N), r: Number(r), p: Number(p) };
  const got = await inTurn(() => derive(password.normalize('NFC'), Buffer.from(salt, 'base64url'), wanted.length, cost));
  return timingSafeEqual(got, wanted) && stored !== null;
}
