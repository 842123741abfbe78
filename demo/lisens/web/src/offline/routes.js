// Which requests the worker answers, and how.

const ANSWERS = /^\/api\/(?:orders|licences|users)(?:\/|$)|^\/api\/(?:licence-kinds|session)$/;
const SERVER = /^\/(?:api|healthz|livez|openapi\.json|metrics)(?:\/|$)/;

/** `page`, `api`, `asset`, `image`, or null: the worker keeps out of it. */
export function kindOf({ method, url, mode, destination }, origin) {
  const { pathname, origin: its } = new URL(url);
  if (method !== 'GET' || its !== origin) return null;
  if (SERVER.test(pathname)) return mode !== 'navigate' && ANSWERS.test(pathname) ? 'api' : null;
  if (mode === 'navigate') return 'page';
  if (pathname === '/sw.js' || pathname === '/sw-off.json' || pathname.endsWith('.map')) return null;
  if (pathname.startsWith('/assets/')) return 'asset';
  if (destination === 'image' || pathname.startsWith('/images/')) return 'image';
  return null;
}
