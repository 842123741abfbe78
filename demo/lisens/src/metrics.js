// What Prometheus may ask: how many requests of which route took how long, the
// state of the pool and of the process.

import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import { HttpError } from './errors.js';

export class Metrics {
  #registry = new Registry();
  #duration;
  #orders;

  constructor({ database }) {
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    this.#duration = new Histogram({
      name: 'http_request_duration_seconds',
      help: 'Time from the request line to the end of the answer',
      labelNames: ['method', 'route', 'status'],
      buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers,
    });
    this.#orders = new Counter({ name: 'lisens_orders_total', help: 'Orders placed, replays not counted', registers });
    new Gauge({
      name: 'lisens_database_connections',
      help: 'Connections of the pool, by what they do',
      labelNames: ['state'],
      registers,
      collect() {
        for (const [state, count] of Object.entries(database.connections())) this.set({ state }, count);
      },
    });
  }

  /** `route` is the template, never the path: paths are without number. */
  request(method, route, status, duration_ms) {
    this.#duration.observe({ method: route ? method : 'other', route: route ?? 'none', status }, duration_ms / 1000);
  }

  orderPlaced() {
    this.#orders.inc();
  }

  /** For those on the machine; a proxy in front names whom it asks for, and visitors get nothing. */
  show() {
    return async ({ request }) => {
      if (request.headers['x-forwarded-for'] !== undefined) throw new HttpError(404, 'not_found', 'There is nothing at this address.');
      return { headers: { 'content-type': this.#registry.contentType }, body: await this.#registry.metrics() };
    };
  }
}
