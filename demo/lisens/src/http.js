// Requests in, answers out. Handlers return { status, body, headers } or throw;
// this module turns both into a complete answer, and logs one line for each.

import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import { DatabaseUnavailable, HttpError } from './errors.js';
import { reason } from './log.js';

const BODY_LIMIT_BYTES = 64 * 1024;
const SAFE_REQUEST_ID = /^[\w.:-]{1,128}$/;
const TRACE_PARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** `routes` is a list of [method, path, handler]; a path may end in `/:id`. */
export function createHttpServer({ routes, log, isDraining }) {
  const server = createServer((request, response) => {
    const started_ms = performance.now();
    const requestId = SAFE_REQUEST_ID.test(request.headers['x-request-id'] ?? '') ? request.headers['x-request-id'] : randomUUID();
    const traceId = TRACE_PARENT.exec(request.headers.traceparent ?? '')?.[1];
    const requestLog = log.with({ request_id: requestId, trace_id: traceId });
    const path = request.url.split('?', 1)[0];

    response.setHeader('x-request-id', requestId);
    response.on('close', () => {
      if (path === '/healthz' || path === '/livez') return; // asked for every second, says nothing
      requestLog.info('request', {
        method: request.method,
        path,
        status: response.statusCode,
        duration_ms: Math.round((performance.now() - started_ms) * 10) / 10,
        aborted: response.writableFinished ? undefined : true,
      });
    });

    answer({ routes, request, log: requestLog })
      .catch((error) => asAnswer(error, requestId, requestLog))
      .then((result) => send(request, response, result, isDraining()))
      .catch((error) => {
        // The caller went away, or the answer was already half sent.
        if (!response.destroyed) requestLog.warn('answer cut short', { reason: reason(error) });
        response.destroy();
      });
  });
  server.keepAliveTimeout = 65_000; // longer than a proxy in front keeps its side
  server.headersTimeout = 66_000;
  server.requestTimeout = 30_000;
  return server;
}

/** The JSON object in the body, or a 4xx that says what is wrong with it. */
export async function readJsonObject(request) {
  const [type] = (request.headers['content-type'] ?? '').split(';', 1);
  if (type.trim().toLowerCase() !== 'application/json') {
    throw new HttpError(415, 'unsupported_media_type', 'Send the body as JSON with content-type: application/json.');
  }
  const body = await readBody(request);
  let value;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw new HttpError(400, 'invalid_json', 'The body is not valid JSON.');
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new HttpError(400, 'invalid_json', 'The body must be a JSON object.');
  }
  return value;
}

function readBody(request) {
  const tooLarge = () => new HttpError(413, 'body_too_large', `The body is larger than ${BODY_LIMIT_BYTES} bytes.`);
  return new Promise((resolve, reject) => {
    const chunks = [];
    let length = 0;
    if (Number(request.headers['content-length']) > BODY_LIMIT_BYTES) reject(tooLarge());
    request.on('data', (chunk) => {
      length += chunk.length;
      if (length > BODY_LIMIT_BYTES) {
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

async function answer({ routes, request, log }) {
  const url = parseUrl(request.url);
  const method = request.method === 'HEAD' ? 'GET' : request.method;
  const allowed = [];
  for (const [routeMethod, path, handler] of routes) {
    const params = matchPath(path, url.pathname);
    if (!params) continue;
    if (routeMethod === method) return handler({ request, query: url.searchParams, params, log });
    allowed.push(routeMethod);
  }
  if (allowed.length > 0) {
    throw new HttpError(405, 'method_not_allowed', `Use ${allowed.join(' or ')} here.`, { allow: allowed.join(', ') });
  }
  throw new HttpError(404, 'not_found', 'There is nothing at this address.');
}

function parseUrl(target) {
  try {
    return new URL(`http://lisens${target.startsWith('/') ? target : `/${target}`}`);
  } catch {
    throw new HttpError(400, 'invalid_url', 'The address is not valid.');
  }
}

function matchPath(pattern, path) {
  if (!pattern.endsWith('/:id')) return pattern === path ? {} : null;
  const stem = pattern.slice(0, -':id'.length);
  const id = path.slice(stem.length);
  return path.startsWith(stem) && id !== '' && !id.includes('/') ? { id } : null;
}

function asAnswer(error, requestId, log) {
  if (error instanceof HttpError) {
    return errorAnswer(error.status, error.code, error.message, requestId, error.headers);
  }
  if (error instanceof DatabaseUnavailable) {
    log.error('database unavailable', { reason: reason(error.cause) });
    const message = 'The database is away for a moment. Nothing is confirmed; try again in a second.';
    return errorAnswer(503, 'database_unavailable', message, requestId, { 'retry-after': '1' });
  }
  log.error('unexpected error', { reason: reason(error), stack: error.stack });
  return errorAnswer(500, 'internal', 'Something went wrong on our side. Tell us the request_id if it stays so.', requestId);
}

function errorAnswer(status, code, message, requestId, headers = {}) {
  return { status, headers, body: { error: code, message, request_id: requestId } };
}

async function send(request, response, { status = 200, headers = {}, body, stream }, draining) {
  if (response.destroyed) return;
  if (draining) response.setHeader('connection', 'close');
  const payload = stream || body === undefined || typeof body === 'string' || Buffer.isBuffer(body) ? body : `${JSON.stringify(body)}\n`;
  const defaults = { 'cache-control': 'no-store' };
  if (payload !== body) defaults['content-type'] = 'application/json; charset=utf-8';
  if (payload !== undefined) defaults['content-length'] = Buffer.byteLength(payload);
  response.writeHead(status, { ...defaults, ...headers });
  if (stream && request.method !== 'HEAD') await pipeline(stream, response);
  else response.end(payload);
}
