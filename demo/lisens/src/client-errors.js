// What went wrong in a browser, into the same log as everything else.

import { randomUUID } from 'node:crypto';
import { object } from './schema.js';

const line = (most) => ({ type: 'string', maxLength: most });

export const reportClientError = {
  id: 'reportClientError',
  method: 'POST',
  path: '/api/client-errors',
  who: 'anybody',
  summary: 'Reports an error that a page has met',
  bodyLimit: 16 * 1024,
  body: object({ message: line(1_000), where: line(100), route: line(300), stack: line(8_000) }, ['stack']),
  answers: { 202: object({ event_id: { type: 'string', format: 'uuid' } }) },
  handle:
    () =>
    async ({ body, log }) => {
      const event_id = randomUUID();
      // Strangers can write here: what they send stays in fields of its own.
      log.error('error in a browser', { event_id, browser: body });
      return { status: 202, body: { event_id } };
    },
};
