// One HTTP exchange. It never throws: no answer (refused, cut, too late) is status 0 with the reason, because that
// is what several probes look for.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';

const ca = process.env.LISENS_CA ? readFileSync(process.env.LISENS_CA) : undefined;

/** *.localhost is this machine, whatever the resolver says. */
function lookup(hostname, options, done) {
  const found = { address: '127.0.0.1', family: 4 };
  return options.all ? done(null, [found]) : done(null, found.address, found.family);
}

function once(base, path, { method = 'GET', headers = {}, body, timeout_ms = 10_000 } = {}) {
  const url = new URL(base);
  const local = /(^|\.)localhost$/.test(url.hostname);
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
  const options = {
    method,
    path, // as it is: some probes send what URL would tidy up
    headers: { ...(text !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }), ...headers },
    agent: false,
    ca,
    rejectUnauthorized: Boolean(ca) || !(local || url.hostname === '127.0.0.1'),
    ...(local && { lookup }),
  };
  return new Promise((resolve) => {
    const lost = (reason) => resolve({ status: 0, headers: {}, text: '', json: undefined, reason });
    const request = (url.protocol === 'https:' ? https : http).request(url, options, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', (error) => lost(error.message));
      response.on('end', () => {
        const answer = Buffer.concat(chunks).toString();
        let json;
        try {
          json = JSON.parse(answer);
        } catch {
          json = undefined;
        }
        resolve({ status: response.statusCode, headers: response.headers, text: answer, json });
      });
    });
    const timer = setTimeout(() => request.destroy(new Error(`no answer within ${timeout_ms} ms`)), timeout_ms);
    request.on('error', (error) => lost(error.message));
    request.on('close', () => clearTimeout(timer));
    request.end(text);
  });
}

/** Asks, and waits politely when an edge says 429. */
export async function ask(base, path, options) {
  for (let attempt = 1; ; attempt++) {
    const answer = await once(base, path, options);
    if (answer.status !== 429 || attempt === 4) return answer;
    await sleep(Math.min(Number(answer.headers['retry-after']) || 1, 10) * 1000);
  }
}
