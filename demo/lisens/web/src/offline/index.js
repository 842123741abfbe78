// A stand-in that keeps pending writes in memory; the real module takes its place.
import { useSyncExternalStore } from 'react';
import { send } from '../lib/api.js';

let pending = [];
let synced = () => {};
const listeners = new Set();
const change = (next) => {
  pending = next;
  listeners.forEach((listener) => listener());
};
const subscribe = (listener) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

export async function enqueue({ path, body, userId, label, idempotencyKey = crypto.randomUUID() }) {
  const entry = { id: crypto.randomUUID(), idempotencyKey, path, body, userId, label, createdAt: new Date().toISOString(), state: 'waiting', error: null };
  change([...pending, entry]);
  return { id: entry.id, idempotencyKey };
}

export const usePending = () => useSyncExternalStore(subscribe, () => pending, () => pending);

export const discard = async (id) => change(pending.filter((entry) => entry.id !== id));

export async function flush() {
  for (const entry of pending) {
    try {
      await send('POST', entry.path, entry.body, { idempotencyKey: entry.idempotencyKey });
      await discard(entry.id);
      synced(entry);
    } catch (error) {
      if (error.status) change(pending.map((other) => (other.id === entry.id ? { ...other, state: 'failed', error: error.code } : other)));
    }
  }
}

export function start({ onSynced }) {
  synced = onSynced;
  addEventListener('online', flush);
}

export const stop = () => removeEventListener('online', flush);

export const forgetUser = async () => change([]);

const subscribeOnline = (listener) => {
  addEventListener('online', listener);
  addEventListener('offline', listener);
  return () => {
    removeEventListener('online', listener);
    removeEventListener('offline', listener);
  };
};
export const useOnline = () => useSyncExternalStore(subscribeOnline, () => navigator.onLine, () => true);
