// What the time of a request goes to: a span for the request and one for each
// statement, under the id that the proxy in front gave it (W3C Trace Context).
// They go in OTLP to whatever OTEL_EXPORTER_OTLP_ENDPOINT names; without it, or
// when it does not answer, the shop goes on without them. Statements carry the
// id in a comment (sqlcommenter), so that the database's own log leads back.

import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';
import { reason } from './log.js';

const TRACE_PARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;
const SERVER = 2;
const CLIENT = 3;
const ERROR = 2;
const SEND_EVERY_MS = 1_000;
const SEND_LIMIT_MS = 5_000;
// More are dropped: a shop must not run out of memory for what is only of interest.
const QUEUE_LIMIT = 5_000;

const current = new AsyncLocalStorage();

export class Spans {
  #target;
  #log;
  #queue = [];
  #timer;
  #failed = false;

  /** `target` says where to: { url, headers, service, resource }, or null. */
  constructor(target, log) {
    this.#target = target;
    this.#log = log;
    if (target) this.#timer = setInterval(() => this.send(), SEND_EVERY_MS).unref();
  }

  /** Runs `work(span)` as the span of a request; `work` may say more of it in `span.name`, `span.attributes` and `span.failed`. */
  async request(traceparent, attributes, work) {
    const [, trace, parent, flags] = TRACE_PARENT.exec(traceparent ?? '') ?? [];
    const isWanted = this.#target && (flags === undefined || (parseInt(flags, 16) & 1) === 1);
    if (!isWanted) return work({ attributes: {} });
    const zero_ms = Date.now() - performance.now();
    const span = newSpan({ trace: trace ?? randomBytes(16).toString('hex'), parent, kind: SERVER, zero_ms, attributes });
    try {
      return await current.run({ span, spans: this }, () => work(span));
    } finally {
      this.end(span);
    }
  }

  end(span) {
    span.ended_ms = performance.now();
    if (this.#queue.length < QUEUE_LIMIT) this.#queue.push(span);
  }

  /** Sends what has ended. Never rejects: whoever is asked for this has better to do than to fail. */
  async send() {
    const spans = this.#queue.splice(0);
    if (spans.length === 0 || !this.#target) return;
    const { url, headers, service, resource } = this.#target;
    const body = {
      resourceSpans: [
        {
          resource: { attributes: attributesOf({ ...resource, 'service.name': service }) },
          scopeSpans: [{ scope: { name: 'lisens' }, spans: spans.map(inOtlp) }],
        },
      ],
    };
    try {
      const answer = await fetch(url, {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json' },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(SEND_LIMIT_MS),
      });
      await answer.arrayBuffer();
      if (!answer.ok) throw new Error(`answered with ${answer.status}`);
      this.#failed = false;
    } catch (error) {
      // Once, not every second.
      if (!this.#failed) this.#log.warn('spans are not taken', { reason: reason(error) });
      this.#failed = true;
    }
  }

  async close() {
    clearInterval(this.#timer);
    await this.send();
  }
}

/** Runs `ask(text)` as the span of a statement, if there is a request that it belongs to. */
export async function statement(text, ask) {
  const within = current.getStore();
  if (!within) return ask(text);
  const { span: parent, spans } = within;
  const operation = text.trim().split(/\s/, 1)[0].toUpperCase();
  const span = newSpan({ trace: parent.trace, parent: parent.id, kind: CLIENT, zero_ms: parent.zero_ms, name: operation });
  // Values are not in it: they are sent beside the text.
  Object.assign(span.attributes, { 'db.system.name': 'postgresql', 'db.operation.name': operation, 'db.query.text': text.trim() });
  try {
    return await ask(`${text} /*traceparent='00-${span.trace}-${span.id}-01'*/`);
  } catch (error) {
    span.failed = error.message;
    throw error;
  } finally {
    spans.end(span);
  }
}

function newSpan({ trace, parent, kind, zero_ms, name = '', attributes = {} }) {
  return { trace, parent, id: randomBytes(8).toString('hex'), kind, name, attributes, zero_ms, started_ms: performance.now() };
}

function inOtlp({ trace, parent, id, kind, name, attributes, zero_ms, started_ms, ended_ms, failed }) {
  // To the microsecond; a float is no more exact at this distance from 1970.
  const nanoseconds = (ms) => `${Math.round((zero_ms + ms) * 1_000)}000`;
  return {
    traceId: trace,
    spanId: id,
    parentSpanId: parent,
    name,
    kind,
    startTimeUnixNano: nanoseconds(started_ms),
    endTimeUnixNano: nanoseconds(ended_ms),
    attributes: attributesOf(attributes),
    status: failed ? { code: ERROR, message: failed } : {},
  };
}

function attributesOf(values) {
  return Object.entries(values)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([key, value]) => ({ key, value: Number.isInteger(value) ? { intValue: String(value) } : { stringValue: String(value) } }));
}
