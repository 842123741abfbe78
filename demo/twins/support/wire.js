// A TCP wire to PostgreSQL that can be cut, and that reads along: which statements were sent, with which text.
// The server at its far end is left alone.

import { once } from 'node:events';
import net from 'node:net';

/** Splits what a client sends into PostgreSQL messages and hands each one to `seen(type, payload)`. */
function reader(seen) {
  let pending = Buffer.alloc(0);
  let started = false;
  return (chunk) => {
    pending = Buffer.concat([pending, chunk]);
    for (;;) {
      const head = started ? 1 : 0; // the first message has no type
      if (pending.length < head + 4) return;
      const length = head + pending.readInt32BE(head);
      if (pending.length < length) return;
      if (started) seen(String.fromCharCode(pending[0]), pending.subarray(5, length));
      started = true;
      pending = pending.subarray(length);
    }
  };
}

export class Wire {
  #target;
  #server;
  #sockets = new Set();
  port = 0;
  /** Statements run so far. */
  statements = 0;
  /** The texts of those sent lately, without their parameters. */
  texts = [];

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
    if (!this.#server.listening) return;
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async mend() {
    if (!this.#server.listening) await this.open();
  }

  #join(near) {
    const far = net.connect(this.#target);
    const read = reader((type, payload) => this.#note(type, payload));
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => this.#sockets.delete(socket));
    }
    near.on('close', () => far.end());
    far.on('close', () => near.destroy());
    far.pipe(near);
    near.on('data', (chunk) => {
      read(chunk);
      far.write(chunk);
    });
  }

  #note(type, payload) {
    // Q is a whole statement; P carries the text of a prepared one and B runs it.
    if (type === 'Q' || type === 'B') this.statements++;
    if (type === 'Q' || type === 'P') this.texts.push(payload.toString());
    if (this.texts.length > 20_000) this.texts.splice(0, 10_000);
  }
}

/** A wire to the server of `databaseUrl`, and the URL that leads through it. */
export async function openWire(databaseUrl) {
  const url = new URL(databaseUrl);
  const folder = url.searchParams.get('host');
  const port = Number(url.port || 5432);
  const wire = await new Wire(folder ? { path: `${folder}/.s.PGSQL.${port}` } : { host: url.hostname, port }).open();
  url.searchParams.delete('host');
  url.host = `127.0.0.1:${wire.port}`;
  return { wire, url: url.href };
}
