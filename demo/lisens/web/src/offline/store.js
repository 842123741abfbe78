// Where the queue is kept: IndexedDB, which the page and its worker share and which outlives both.

import { openDB } from 'idb';

const NAME = 'lisens-offline';
const WRITES = 'writes';

let opened;

function database() {
  opened ??= openDB(NAME, 1, {
    upgrade: (db) => void db.createObjectStore(WRITES, { keyPath: 'id', autoIncrement: true }),
    blocking: close, // a newer version of us in another tab must not wait for this one
    terminated: () => (opened = undefined),
  }).catch((error) => {
    opened = undefined;
    throw error;
  });
  return opened;
}

async function close() {
  const db = await opened;
  opened = undefined;
  db?.close();
}

export const store = {
  add: async (record) => (await database()).add(WRITES, record),
  all: async () => (await database()).getAll(WRITES),
  remove: async (id) => (await database()).delete(WRITES, id),
  async update(id, changes) {
    const transaction = (await database()).transaction(WRITES, 'readwrite');
    const record = await transaction.store.get(id);
    if (record) await transaction.store.put({ ...record, ...changes });
    await transaction.done;
  },
};
