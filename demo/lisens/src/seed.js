// Planting a shop that looks lived in: users, orders, lines and licences, the
// same ones every time for the same number of orders. Somebody to sign in as.

import { hashPassword } from './passwords.js';

const NAME = 'shop';
const ACCOUNTS_NAME = 'accounts';
const ORDERS_PER_ACCOUNT = 60;
const ACCOUNTS = [
  ['user@lisens.example', 'Kari Nordli', 'NMK Fjellbygda', 'user'],
  ['other@lisens.example', 'Ole Sørgård', 'KNA Mjøsbyen', 'user'],
  ['official@lisens.example', 'Ingrid Tangen', 'KNA Skjærgården', 'official'],
  ['admin@lisens.example', 'Sindre Åsheim', 'Forbundet', 'admin'],
];
const BATCH = 10_000;
const ORDERS_PER_USER = 5;
const FIRST_DAY_MS = Date.UTC(2024, 0, 2, 7);
const LAST_DAY_MS = Date.UTC(2025, 11, 19, 15);

const GIVEN_NAMES = `Anne Kari Ingrid Marit Solveig Astrid Liv Berit Randi Hilde Silje Ida Nora Emma Thea Sunniva Ragnhild
  Guro Tone Siri Ole Lars Knut Per Bjørn Kjell Arne Svein Tor Geir Øyvind Håkon Magnus Jonas Sander Eirik Sindre Åge
  Petter Stian`.split(/\s+/);
const FAMILY_NAMES = `Hansen Johansen Olsen Larsen Andersen Pedersen Nilsen Kristiansen Jensen Karlsen Berg Haugen Hagen
  Bakken Solberg Lie Moen Strand Lund Dahl Ødegård Sæther Brekke Tangen Myhre Aasen Fjeld Nygård Rønning Skogen Vik
  Kvam Løken Bråten Engen`.split(/\s+/);
const CLUBS = [
  'NMK Fjellbygda',
  'KNA Mjøsbyen',
  'NMK Nordfjorden',
  'Skogsveien Motorklubb',
  'NMK Innherredsdalen',
  'KNA Skjærgården',
  'Vidda Rallyklubb',
  'NMK Østre Elvedal',
  'Lyngheia Bilcrossklubb',
  'NMK Vestre Sundet',
  'Nordlys Motorsport',
  'KNA Åsmarka',
];
// How often each kind is bought, in percent.
const KIND_SHARES = {
  engangslisens: 30,
  helarslisens: 24,
  mekaniker: 14,
  barnelisens: 9,
  ungdomslisens: 8,
  kartleser: 6,
  funksjonaer: 4,
  ledsager: 3,
  anmelder: 2,
};

const INSERT_USERS = `
  INSERT INTO users (id, name, email, club, created_at)
  SELECT id, name, email, club, to_timestamp(ms / 1000.0)
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[]) AS row (id, name, email, club, ms)`;
const INSERT_ORDERS = `
  INSERT INTO orders (id, user_id, status, total_ore, created_at)
  SELECT id, user_id, status, total_ore, to_timestamp(ms / 1000.0)
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::int[], $5::bigint[]) AS row (id, user_id, status, total_ore, ms)`;
const INSERT_LINES = `
  INSERT INTO order_lines (order_id, line_no, licence_kind, quantity, unit_price_ore)
  SELECT order_id, line_no, kind, quantity, price_ore
    FROM unnest($1::bigint[], $2::int[], $3::text[], $4::int[], $5::int[]) AS row (order_id, line_no, kind, quantity, price_ore)`;
// Of these orders, or of all where $1 is NULL.
const INSERT_LICENCES_OF_ORDERS = `
  INSERT INTO licences (order_id, user_id, kind, valid_from, valid_until, created_at)
  SELECT o.id, o.user_id, k.kind, o.created_at::date, o.created_at::date + k.valid_days - 1, o.created_at
    FROM orders o
    JOIN order_lines l ON l.order_id = o.id
    JOIN licence_kinds k ON k.kind = l.licence_kind
   CROSS JOIN generate_series(1, l.quantity)
   WHERE $1::bigint[] IS NULL OR o.id = ANY($1::bigint[])
   ORDER BY o.id, l.line_no`;
const INSERT_ACCOUNTS = `
  INSERT INTO users (email, name, club, role, password_hash)
  SELECT email, name, club, role, $5 FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS row (email, name, club, role)`;
const INSERT_ORDERS_OF_ACCOUNTS = `
  INSERT INTO orders (user_id, status, total_ore, created_at)
  SELECT u.id, 'paid', k.price_ore, now() - make_interval(days => n * 9)
    FROM users u, licence_kinds k, generate_series(1, $1) n
   WHERE u.email LIKE '%@lisens.example' AND u.role = 'user' AND k.kind = 'helarslisens'
   ORDER BY n DESC, u.id
  RETURNING id`;
const INSERT_LINES_OF_ACCOUNTS = `
  INSERT INTO order_lines (order_id, line_no, licence_kind, quantity, unit_price_ore)
  SELECT id, 1, 'helarslisens', 1, total_ore FROM orders WHERE id = ANY($1::bigint[])`;
// Identity columns do not see ids that were given by hand.
const MOVE_SEQUENCES = `
  SELECT setval(pg_get_serial_sequence('users', 'id'), (SELECT coalesce(max(id), 0) FROM users) + 1, false),
         setval(pg_get_serial_sequence('orders', 'id'), (SELECT coalesce(max(id), 0) FROM orders) + 1, false)`;

/** Plants the seeds and the accounts unless they were planted before. Returns how many orders were planted now. */
export async function plantSeeds(client, { seedOrders, demoPassword }) {
  const orders = (await isPlanted(client, NAME)) ? 0 : await plantShop(client, seedOrders);
  if (demoPassword && !(await isPlanted(client, ACCOUNTS_NAME))) await plantAccounts(client, demoPassword);
  return orders;
}

async function isPlanted(client, name) {
  const { rowCount } = await client.query('SELECT 1 FROM seeds WHERE name = $1', [name]);
  return rowCount > 0;
}

/** Somebody of each role to sign in as; the two users have orders of their own. */
async function plantAccounts(client, password) {
  const column = (index) => ACCOUNTS.map((account) => account[index]);
  const hash = await hashPassword(password);
  await client.query(INSERT_ACCOUNTS, [column(0), column(1), column(2), column(3), hash]);
  const { rows: orders } = await client.query(INSERT_ORDERS_OF_ACCOUNTS, [ORDERS_PER_ACCOUNT]);
  const ids = orders.map((order) => order.id);
  await client.query(INSERT_LINES_OF_ACCOUNTS, [ids]);
  await client.query(INSERT_LICENCES_OF_ORDERS, [ids]);
  await client.query('INSERT INTO seeds (name, orders) VALUES ($1, $2)', [ACCOUNTS_NAME, ids.length]);
}

async function plantShop(client, orderCount) {
  if (orderCount === 0) return 0;

  const random = mulberry32(20_250_117);
  const userCount = Math.max(1, Math.round(orderCount / ORDERS_PER_USER));
  await inBatches(client, INSERT_USERS, users(userCount, random));

  const { rows: kinds } = await client.query('SELECT kind, price_ore FROM licence_kinds');
  const priceOf = new Map(kinds.map((row) => [row.kind, row.price_ore]));
  const lines = [];
  await inBatches(client, INSERT_ORDERS, orders(orderCount, userCount, priceOf, random, lines));
  await inBatches(client, INSERT_LINES, lines);
  await client.query(INSERT_LICENCES_OF_ORDERS, [null]);

  await client.query(MOVE_SEQUENCES);
  await client.query('INSERT INTO seeds (name, orders) VALUES ($1, $2)', [NAME, orderCount]);
  await client.query('ANALYZE users, orders, order_lines, licences, licence_kinds');
  return orderCount;
}

function* users(count, random) {
  for (let id = 1; id <= count; id += 1) {
    const given = pick(GIVEN_NAMES, random);
    const family = pick(FAMILY_NAMES, random);
    const email = `${ascii(given)}.${ascii(family)}.${id}@example.com`;
    yield [id, `${given} ${family}`, email, pick(CLUBS, random), FIRST_DAY_MS - (count - id) * 60_000];
  }
}

function* orders(count, userCount, priceOf, random, lines) {
  const step_ms = (LAST_DAY_MS - FIRST_DAY_MS) / count;
  for (let id = 1; id <= count; id += 1) {
    const lineCount = random() < 0.75 ? 1 : 2;
    let total_ore = 0;
    for (let lineNo = 1; lineNo <= lineCount; lineNo += 1) {
      const kind = pickKind(random);
      const quantity = random() < 0.9 ? 1 : 2;
      lines.push([id, lineNo, kind, quantity, priceOf.get(kind)]);
      total_ore += quantity * priceOf.get(kind);
    }
    const userId = 1 + Math.floor(random() * userCount);
    const at_ms = Math.floor(FIRST_DAY_MS + (id - random()) * step_ms);
    yield [id, userId, random() < 0.02 ? 'refunded' : 'paid', total_ore, at_ms];
  }
}

/** Sends rows as one array per column, a batch at a time. */
async function inBatches(client, sql, rows) {
  let columns = [];
  let length = 0;
  for (const row of rows) {
    row.forEach((value, index) => (columns[index] ??= []).push(value));
    length += 1;
    if (length === BATCH) {
      await client.query(sql, columns);
      columns = [];
      length = 0;
    }
  }
  if (length > 0) await client.query(sql, columns);
}

function pickKind(random) {
  let left = random() * 100;
  for (const [kind, share] of Object.entries(KIND_SHARES)) {
    left -= share;
    if (left < 0) return kind;
  }
  return 'engangslisens';
}

function pick(list, random) {
  return list[Math.floor(random() * list.length)];
}

function ascii(name) {
  return name.toLowerCase().replaceAll('æ', 'ae').replaceAll('ø', 'o').replaceAll('å', 'a');
}

/** A small random generator that gives the same numbers everywhere. */
function mulberry32(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
