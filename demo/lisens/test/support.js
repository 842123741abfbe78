// A shop of its own for each test file: its own schema in DATABASE_URL, its own
// process, and wires to PostgreSQL and Redis that a test can cut.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import assert from 'node:assert/strict';
import pg from 'pg';
import { openApi } from '../src/openapi.js';
import { operations } from '../src/operations.js';
import { problemsOf } from '../src/schema.js';

const home = new URL('..', import.meta.url);
const missing = ['DATABASE_URL', 'REDIS_URL'].filter((name) => !process.env[name]);

/** Why the integration tests cannot run here, or false. */
export const skip = missing.length > 0 && `set ${missing.join(' and ')} to run the tests that need PostgreSQL and Redis`;

/** A TCP wire to `target` that can be cut, frozen, or cut right after a query was sent. */
export class Wire {
  #target;
  #server;
  #pairs = new Set();
  #frozen = false;
  #cutOn = null;
  port = 0;
  /** Statements that went through, for a wire to PostgreSQL. */
  statements = 0;

  constructor(target) {
    this.#target = target;
  }

  async open() {
    this.#server = net.createServer((near) => this.#join(near));
    this.#server.listen(this.port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.port = this.#server.address().port;
    return this;
  }

  /** Drops every connection and takes no new ones. */
  async cut() {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#dropAll();
    await closed;
  }

  async mend() {
    this.#frozen = false;
    if (!this.#server.listening) await this.open();
  }

  /** Connections stay open and say nothing. */
  freeze() {
    this.#frozen = true;
  }

  thaw() {
    this.#frozen = false;
    this.#dropAll();
  }

  /** Cuts the next connection that sends `text`: with `delivered` the server still gets it. */
  cutOn(text, { delivered }) {
    this.#cutOn = { text, delivered };
  }

  async close() {
    this.#dropAll();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }

  #dropAll() {
    for (const socket of this.#pairs) socket.destroy();
  }

  #join(near) {
    const far = net.connect(this.#target);
    for (const socket of [near, far]) {
      this.#pairs.add(socket);
      socket.on('error', () => {});
    }
    near.on('close', () => {
      this.#pairs.delete(near);
      far.end();
    });
    far.on('close', () => {
      this.#pairs.delete(far);
      near.destroy();
    });
    far.on('data', (chunk) => {
      if (!this.#frozen && !near.destroyed) near.write(chunk);
    });
    near.on('data', (chunk) => {
      if (this.#frozen) return;
      this.statements += countParse(chunk);
      if (this.#cutOn && chunk.includes(this.#cutOn.text)) {
        const { delivered } = this.#cutOn;
        this.#cutOn = null;
        if (delivered) far.end(chunk);
        near.destroy();
        return;
      }
      far.write(chunk);
    });
  }
}

/** Parse messages of PostgreSQL's protocol that begin a chunk or follow one another in it. */
function countParse(chunk) {
  let count = 0;
  for (let at = 0; at + 5 <= chunk.length; at += 1 + chunk.readUInt32BE(at + 1)) {
    if (chunk[at] === 0x50) count += 1;
    else if (!/[A-Za-z]/.test(String.fromCharCode(chunk[at]))) break;
  }
  return count;
}

/** Wires between a shop and its services, and the URLs that lead through them. */
export async function openWires() {
  const database = new URL(process.env.DATABASE_URL);
  const redis = new URL(process.env.REDIS_URL);
  const socketFolder = database.searchParams.get('host');
  const databasePort = database.port || 5432;
  const databaseWire = await new Wire(
    socketFolder ? { path: `${socketFolder}/.s.PGSQL.${databasePort}` } : { host: database.hostname, port: Number(databasePort) },
  ).open();
  const redisWire = await new Wire({ host: redis.hostname, port: Number(redis.port || 6379) }).open();
  database.searchParams.delete('host');
  database.host = `127.0.0.1:${databaseWire.port}`;
  redis.host = `127.0.0.1:${redisWire.port}`;
  return { databaseWire, redisWire, databaseUrl: database.href, redisUrl: redis.href };
}

/** What the accounts of the seeds are given in tests. */
export const PASSWORD = 'a password for tests';
export const ACCOUNTS = {
  user: 'user@lisens.example',
  other: 'other@lisens.example',
  official: 'official@lisens.example',
  admin: 'admin@lisens.example',
};

/** An empty schema, a client in it, and the URL that leads a shop there. */
export async function openSchema(databaseUrl = process.env.DATABASE_URL) {
  const name = `lisens_test_${process.pid}_${Date.now()}`;
  const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
  await client.connect();
  await client.query(`CREATE SCHEMA ${name}`);
  await client.query(`SET search_path = ${name}`);
  const url = new URL(databaseUrl);
  url.searchParams.set('options', `-c search_path=${name}`);
  url.searchParams.set('application_name', name);
  const close = async () => {
    await client.query(`DROP SCHEMA ${name} CASCADE`);
    await client.end();
  };
  return { name, url: url.href, query: async (...args) => (await client.query(...args)).rows, close };
}

/** Runs `node <script>` to its end. */
export async function run(script, env) {
  const child = spawn(process.execPath, [script], { cwd: home, env: { ...process.env, ...env } });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const [code] = await once(child, 'close');
  return { code, stdout, stderr };
}

/** A running shop, with its log as it grows. */
export async function startShop(env) {
  const child = spawn(process.execPath, ['server.js'], {
    cwd: home,
    env: { ...process.env, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const log = [];
  const exited = once(child, 'exit').then(([code]) => code);
  const port = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      log.push(JSON.parse(line));
      if (log.at(-1).msg === 'listening') resolve(log.at(-1).port);
    });
    exited.then((code) => reject(new Error(`the shop ended with ${code} before it listened`)));
  });
  const base = `http://127.0.0.1:${port}`;

  const ask = async (path, options) => {
    const response = await fetch(base + path, options);
    const text = await response.text();
    const json = response.headers.get('content-type')?.startsWith('application/json') ? JSON.parse(text) : undefined;
    holdsToItsWord(options?.method ?? 'GET', path, response.status, json);
    return { status: response.status, headers: response.headers, text, json };
  };
  const shop = { port, log, child, exited, ...client(ask) };

  /** Somebody signed in, who sends what a browser would. */
  shop.signIn = async (email) => {
    const { status, json, headers, text } = await shop.post('/api/session', { email, password: PASSWORD });
    assert.equal(status, 201, text);
    const cookie = headers.get('set-cookie').split(';', 1)[0];
    const asSomebody = (path, options = {}) =>
      ask(path, { ...options, headers: { cookie, 'x-csrf-token': json.csrf_token, ...options.headers } });
    return { user: json.user, cookie, csrf: json.csrf_token, ...client(asSomebody) };
  };
  shop.stop = async () => {
    child.kill('SIGTERM');
    return exited;
  };
  return shop;
}

function client(ask) {
  const write =
    (method) =>
    (path, body, headers = {}) =>
      ask(path, { method, headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
  return { get: ask, post: write('POST'), patch: write('PATCH'), delete: (path, headers) => ask(path, { method: 'DELETE', headers }) };
}

const described = openApi(operations, { version: 'test' }).paths;
const templates = operations.map(({ method, path, answers }) => ({
  method,
  answers,
  responses: described[path][method.toLowerCase()].responses,
  pattern: new RegExp(`^${path.replace(/\{\w+\}/g, '[^/]+')}$`),
}));

/** Every answer that a test gets is one that the OpenAPI document has promised. */
function holdsToItsWord(method, target, status, json) {
  const path = target.split('?', 1)[0];
  const operation = templates.find((each) => each.method === method && each.pattern.test(path));
  if (!operation || status === 500) return; // 500 is nobody's promise
  assert.ok(operation.responses[status], `${method} ${path} answered ${status}, which it does not promise`);
  const schema = operation.answers[status];
  if (schema && json !== undefined) assert.deepEqual(problemsOf(schema, json), [], `${method} ${path} ${status}`);
}

/** Asks until `done(answer)`; returns how long it took. */
export async function until(ask, done, limit_ms = 5_000) {
  const started_ms = performance.now();
  for (;;) {
    const answer = await ask();
    const waited_ms = performance.now() - started_ms;
    if (done(answer)) return waited_ms;
    if (waited_ms > limit_ms) throw new Error(`not within ${limit_ms} ms; last answer ${answer.status}: ${answer.text}`);
    await sleep(20);
  }
}
