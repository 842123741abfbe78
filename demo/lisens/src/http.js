// Requests in, answers out. Each operation says who may use it and what it
// takes; here it is held to that before its handler runs. Handlers return
// { status, body, headers } or throw; both become a complete answer, a line in
// the log and a measurement.

import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import { demand } from './access.js';
import { DatabaseUnavailable, HttpError } from './errors.js';
import { reason } from './log.js';
import { checker, id, object, queryReader } from './schema.js';
import { demandSameSite } from './sessions.js';

const BODY_LIMIT_BYTES = 64 * 1024;
const SAFE_REQUEST_ID = /^[\w.:-]{1,128}$/;
const TRACE_PARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/;
// Asked for every few seconds, says nothing.
const NOT_LOGGED = ['/healthz', '/livez', '/metrics'];

export function createHttpServer({ operations, sessions, metrics, spans, log, isDraining }) {
  const routes = operations.map(asRoute);
  const server = createServer((request, response) => {
    const started_ms = performance.now();
    const requestId = SAFE_REQUEST_ID.test(request.headers['x-request-id'] ?? '') ? request.headers['x-request-id'] : randomUUID();
    const traceId = TRACE_PARENT.exec(request.headers.traceparent ?? '')?.[1];
    const requestLog = log.with({ request_id: requestId, trace_id: traceId });
    const path = request.url.split('?', 1)[0];
    const seen = { route: null };

    response.setHeader('x-request-id', requestId);
    response.on('close', () => {
      const duration_ms = performance.now() - started_ms;
      metrics.request(request.method, seen.route, response.statusCode, duration_ms);
      if (NOT_LOGGED.includes(path)) return;
      requestLog.info('request', {
        method: request.method,
        path,
        status: response.statusCode,
        duration_ms: Math.round(duration_ms * 10) / 10,
        aborted: response.writableFinished ? undefined : true,
      });
    });

    const work = () =>
      answer({ routes, sessions, request, log: requestLog, seen })
        .catch((error) => asAnswer(error, requestId, requestLog))
        .then((result) => send(request, response, result, isDraining()))
        .catch((error) => {
          // The caller went away, or the answer was already half sent.
          if (!response.destroyed) requestLog.warn('answer cut short', { reason: reason(error) });
          response.destroy();
        });
    if (NOT_LOGGED.includes(path)) return void work();
    spans.request(request.headers.traceparent, { 'http.request.method': request.method, 'url.path': path }, async (span) => {
      await work();
      span.name = `${request.method} ${seen.route ?? ''}`.trim();
      Object.assign(span.attributes, { 'http.route': seen.route, 'http.response.status_code': response.statusCode });
      if (response.statusCode >= 500) span.failed = `answered with ${response.statusCode}`;
    });
  });
  server.keepAliveTimeout = 65_000; // longer than a proxy in front keeps its side
  server.headersTimeout = 66_000;
  server.requestTimeout = 30_000;
  return server;
}

function asRoute({ method, path, who, query = {}, params = { id }, body, bodyLimit = BODY_LIMIT_BYTES, readsSession, handle }) {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
  const isParams = checker(object(Object.fromEntries(names.map((name) => [name, params[name]]))));
  return {
    method,
    path,
    who,
    handle,
    readsSession: readsSession || who !== 'anybody',
    pattern: new RegExp(`^${path.replaceAll('.', '\\.').replace(/\{(\w+)\}/g, '(?<$1>[^/]+)')}$`),
    readParams: (groups) => {
      const values = {};
      for (const name of names)
        values[name] = params[name].type === 'integer' && /^[1-9]\d{0,14}$/.test(groups[name]) ? Number(groups[name]) : groups[name];
      isParams(values);
      return values;
    },
    readQuery: queryReader(query),
    bodyLimit,
    checkBody: body && checker(body),
  };
}

async function answer({ routes, sessions, request, log, seen }) {
  const url = parseUrl(request.url);
  const { route, groups } = findRoute(routes, request.method === 'HEAD' ? 'GET' : request.method, url.pathname);
  seen.route = route.path;
  const session = route.readsSession ? await sessions.of(request, log) : null;
  demand(route.who, session?.user ?? null);
  if (route.method !== 'GET') demandSameSite(request, session);
  let params;
  try {
    params = route.readParams(groups);
  } catch {
    throw nothingHere();
  }
  const query = route.readQuery(url.searchParams);
  const body = route.checkBody ? await readJson(request, route.bodyLimit) : undefined;
  route.checkBody?.(body);
  return route.handle({ request, query, params, body, session, user: session?.user ?? null, log });
}

function findRoute(routes, method, path) {
  const allowed = [];
  for (const route of routes) {
    const match = route.pattern.exec(path);
    if (!match) continue;
    if (route.method === method) return { route, groups: match.groups ?? {} };
    allowed.push(route.method);
  }
  if (allowed.length === 0) throw nothingHere();
  throw new HttpError(405, 'method_not_allowed', `Use ${allowed.join(' or ')} here.`, { headers: { allow: allowed.join(', ') } });
}

function nothingHere() {
  return new HttpError(404, 'not_found', 'There is nothing at this address.');
}

function parseUrl(target) {
  try {
    return new URL(`http://lisens${target.startsWith('/') ? target : `/${target}`}`);
  } catch {
    throw new HttpError(400, 'invalid_url', 'The address is not valid.');
  }
}

async function readJson(request, limit_bytes) {
  const [type] = (request.headers['content-type'] ?? '').split(';', 1);
  if (type.trim().toLowerCase() !== 'application/json') {
    throw new HttpError(415, 'unsupported_media_type', 'Send the body as JSON with content-type: application/json.');
  }
  const body = await readBody(request, limit_bytes);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw new HttpError(400, 'invalid_json', 'The body is not valid JSON.');
  }
}

function readBody(request, limit_bytes) {
  const tooLarge = () => new HttpError(413, 'body_too_large', `The body is larger than ${limit_bytes} bytes.`);
  return new Promise((resolve, reject) => {
    const chunks = [];
    let length = 0;
    if (Number(request.headers['content-length']) > limit_bytes) reject(tooLarge());
    request.on('data', (chunk) => {
      length += chunk.length;
      if (length > limit_bytes) {
        chunks.length = 0; // the rest is read and dropped, so that the answer gets through
        reject(tooLarge());
      } else {
        chunks.push(chunk);
      }
    });
    request.on('end', () => resolve(Buffer.concat(chunks)));
    request.on('error', () => reject(new HttpError(400, 'body_cut_short', 'The body ended too early.')));
  });
}

function asAnswer(error, requestId, log) {
  if (error instanceof HttpError) {
    const { status, code, message, headers, details } = error;
    return { status, headers, body: { error: code, message, request_id: requestId, details } };
  }
  if (error instanceof DatabaseUnavailable) {
    log.error('database unavailable', { reason: reason(error.cause) });
    const message = 'The database is away for a moment. Nothing is confirmed; try again in a second.';
    return { status: 503, headers: { 'retry-after': '1' }, body: { error: 'database_unavailable', message, request_id: requestId } };
  }
  log.error('unexpected error', { reason: reason(error), stack: error.stack });
  const message = 'Something went wrong on our side. Tell us the request_id if it stays so.';
  return { status: 500, body: { error: 'internal', message, request_id: requestId } };
}

async function send(request, response, { status = 200, headers = {}, body, stream }, draining) {
  if (response.destroyed) return;
  if (draining) response.setHeader('connection', 'close');
  const payload = stream || body === undefined || typeof body === 'string' ? body : `${JSON.stringify(body)}\n`;
  const defaults = { 'cache-control': 'no-store' };
  if (payload !== body) defaults['content-type'] = 'application/json; charset=utf-8';
  if (payload !== undefined) defaults['content-length'] = Buffer.byteLength(payload);
  response.writeHead(status, { ...defaults, ...headers });
  if (stream && request.method !== 'HEAD') await pipeline(stream, response);
  else response.end(payload);
}
