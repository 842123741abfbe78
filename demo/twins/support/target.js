// What a probe gets: one of the twins, running, with its folder, its database and its accounts.
//
//   url, folder, accounts        where it is and who may sign in
//   ask(path, options)           as nobody; `signIn(who)` gives the same as somebody
//   query(text, params)          its database, or null when that is not known
//   wire                         the wire to its database, or null when it was not started here
//   log()                        what it wrote so far
//   alive(), restart()           only of what was started here

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { ask } from './ask.js';
import { openWire } from './wire.js';

const folderOf = (name) => fileURLToPath(new URL(`../../${name}`, import.meta.url));

const RAW = {
  name: 'raw',
  accounts: Object.fromEntries(
    ['user', 'other', 'official', 'admin'].map((who) => [who, { email: `${who}@example.com`, password: `${who}123` }]),
  ),
  signInPath: '/api/login',
};
const password = process.env.LISENS_PASSWORD ?? 'demo-lisens-2026';
const LISENS = {
  name: 'lisens',
  accounts: Object.fromEntries(['user', 'other', 'official', 'admin'].map((who) => [who, { email: `${who}@lisens.example`, password }])),
  signInPath: '/api/session',
};

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The rows of a list, wherever the twin puts them. */
export function rowsOf(answer) {
  if (Array.isArray(answer.json)) return answer.json;
  return Object.values(answer.json ?? {}).find(Array.isArray) ?? [];
}

export class Target {
  #child = null;
  #log = [];
  #client = null;
  #sessions = new Map();
  #start = null;
  wire = null;

  constructor(twin, { url = null, databaseUrl = null, folder = folderOf(twin.name) } = {}) {
    Object.assign(this, { ...twin, url, databaseUrl, folder });
  }

  ask(path, options) {
    return ask(this.url, path, options);
  }

  /** A session of `who`, with cookie and CSRF token; asked for once and kept. */
  async signIn(who, { fresh = false } = {}) {
    if (!fresh && this.#sessions.has(who)) return this.#sessions.get(who);
    const answer = await this.ask(this.signInPath, { method: 'POST', body: this.accounts[who] });
    const cookies = answer.headers['set-cookie'] ?? [];
    const cookie = cookies.map((line) => line.split(';')[0]).join('; ');
    const csrf = answer.json?.csrf_token;
    const session = {
      answer,
      cookies,
      user: answer.json?.user ?? answer.json,
      ask: (path, options = {}) =>
        this.ask(path, { ...options, headers: { cookie, ...(csrf && { 'x-csrf-token': csrf }), ...options.headers } }),
    };
    if (!fresh) this.#sessions.set(who, session);
    return session;
  }

  get query() {
    if (!this.databaseUrl) return null;
    return async (text, params) => {
      if (!this.#client) {
        this.#client = new pg.Client({ connectionString: this.databaseUrl });
        await this.#client.connect();
      }
      return (await this.#client.query(text, params)).rows;
    };
  }

  /** How many statements `work` cost; null when no wire leads to the database. */
  async statements(work) {
    if (!this.wire) return null;
    const before = this.wire.statements;
    await work();
    return this.wire.statements - before;
  }

  log() {
    return this.#log.join('').split('\n').filter(Boolean);
  }

  get mine() {
    return this.#start !== null;
  }

  alive() {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Starts `node server.js` on a free port with its database behind a wire; kept for `restart()`. */
  async start(databaseUrl, env = {}, prepare = null) {
    const { wire, url } = await openWire(databaseUrl);
    Object.assign(this, { wire, databaseUrl });
    if (prepare) await this.#run(prepare, { ...env, DATABASE_URL: url });
    const port = await freePort();
    this.url = `http://127.0.0.1:${port}`;
    this.#start = { DATABASE_URL: url, PORT: String(port), ...env };
    await this.restart();
  }

  async restart() {
    await this.stop();
    await this.wire.mend();
    this.#sessions.clear();
    this.#child = this.#spawn('server.js', this.#start);
    for (let tries = 0; tries < 600; tries++) {
      if (!this.alive()) break;
      if ((await this.ask('/api/licence-kinds')).status === 200) return;
      await sleep(50);
    }
    throw new Error(`${this.name} does not answer: ${this.log().slice(-3).join(' | ')}`);
  }

  /** Before each probe: whatever the one before broke is up again, and answers. */
  async ready() {
    if (!this.mine) return;
    await this.wire.mend();
    for (let tries = 0; tries < 100; tries++) {
      // A process that is about to end may still take the first request.
      if (!this.alive()) return this.restart();
      const answers = await Promise.all(['/api/licence-kinds', '/healthz'].map((path) => this.ask(path, { timeout_ms: 2_000 })));
      if (answers[0].status === 200 && answers[1].status !== 503) return;
      await sleep(100);
    }
    await this.restart();
  }

  async stop() {
    if (!this.alive()) return;
    const gone = once(this.#child, 'exit');
    const hard = setTimeout(() => this.#child.kill('SIGKILL'), 12_000);
    this.#child.kill('SIGTERM');
    await gone;
    clearTimeout(hard);
  }

  async close() {
    await this.stop();
    await this.#client?.end();
    await this.wire?.cut();
  }

  #spawn(script, env) {
    const child = spawn(process.execPath, [script], {
      cwd: this.folder,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => this.#log.push(chunk.toString()));
    return child;
  }

  async #run(script, env) {
    const [code] = await once(this.#spawn(script, env), 'exit');
    if (code !== 0) throw new Error(`${script} of ${this.name} ended with ${code}: ${this.log().slice(-3).join(' | ')}`);
  }
}

/** An empty schema in DATABASE_URL, the URL that leads there, and a way to drop it. */
async function openSchema(label) {
  const name = `twins_${label}_${process.pid}_${Date.now()}`;
  const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
  await client.connect();
  await client.query(`CREATE SCHEMA ${name}`);
  const url = new URL(process.env.DATABASE_URL);
  url.searchParams.set('options', `-c search_path=${name}`);
  const drop = async () => {
    await client.query(`DROP SCHEMA ${name} CASCADE`);
    await client.end();
  };
  return { url: url.href, drop };
}

async function started(twin, env, prepare) {
  const schema = await openSchema(twin.name);
  const target = new Target(twin);
  const close = async () => {
    await target.close();
    await schema.drop();
  };
  try {
    await target.start(schema.url, env, prepare);
  } catch (error) {
    await close();
    throw error;
  }
  return { target, close };
}

export const startRaw = () => started(RAW, {});

/** A lisens of our own without an edge, for the probes that cut its database. */
export const startLisens = () => started(LISENS, { SEED_ORDERS: '20000', DEMO_PASSWORD: password, HOST: '127.0.0.1' }, 'migrate.js');

/** The lisens behind klar's edge. */
export const edgeLisens = () => new Target(LISENS, { url: process.env.LISENS_URL, databaseUrl: process.env.LISENS_DATABASE_URL ?? null });
