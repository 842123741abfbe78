import { send } from './api.js';

let reports = 0;

/** Tells the server what went wrong here. Resolves to the number of the report, or null; never throws. */
export async function reportError(error, where) {
  if (++reports > 10) return null; // a loop of errors should not become a flood
  try {
    const { event_id } = await send('POST', '/api/client-errors', {
      message: String(error?.message ?? error).slice(0, 500),
      where,
      route: location.pathname,
      stack: error?.stack?.slice(0, 4000),
    });
    return event_id;
  } catch {
    return null;
  }
}

export function reportUncaughtErrors() {
  addEventListener('error', (event) => event.error && reportError(event.error, 'window'));
  addEventListener('unhandledrejection', (event) => {
    if (event.reason?.name !== 'ApiError' && event.reason?.name !== 'AbortError') reportError(event.reason, 'promise');
  });
}
