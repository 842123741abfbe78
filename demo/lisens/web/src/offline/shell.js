// The files that make up the pages. Each version has a cache of its own; the one before stays, as a page that was
// loaded from it may still ask for its chunks.

import { SHELL_CACHE } from './names.js';
import { within } from './within.js';

const PAGE_LIMIT = 3_000;
const PAGE = '/index.html';

/** `manifest` is `{ version, entry, shell: [paths], lazy: [paths] }`, made by the build. */
export function createShell({ caches, fetch, manifest }) {
  const name = SHELL_CACHE + manifest.version;

  /** All of the shell or none of it: half a shell is worse than the one before. */
  async function install() {
    const cache = await caches.open(name);
    await Promise.all(manifest.shell.map((path) => add(cache, path)));
    await add(cache, PAGE, (html) => html.includes(manifest.entry));
  }

  async function add(cache, path, accept) {
    if (path !== PAGE && (await cache.match(path))) return;
    // The page is asked for as `/`: a server may lead `/index.html` there, and a led answer cannot answer a navigation.
    const answer = await fetch(path === PAGE ? '/' : path, path === PAGE ? { cache: 'no-cache' } : undefined);
    if (answer.status !== 200 || answer.redirected) throw new Error(`${path}: ${answer.status}`);
    // A release in between: the page would ask for files that are not in this version.
    if (accept && !accept(await answer.clone().text())) throw new Error(`${path} belongs to another version`);
    await cache.put(path, answer);
  }

  /**
   * The chunks of the other routes, one by one, in no hurry. What is missing is fetched when it is needed. The shell
   * goes first where it is gone: a worker that was brought back has thrown it away and is not installed again.
   */
  async function warm() {
    try {
      if (!(await cached(PAGE))) await install();
      const cache = await caches.open(name);
      for (const path of manifest.lazy) await add(cache, path);
    } catch {
      // The network is gone again; the next page tries the rest.
    }
  }

  /** Keeps this version and the one before. */
  async function tidy() {
    const others = (await caches.keys()).filter((key) => key.startsWith(SHELL_CACHE) && key !== name);
    await Promise.all(others.slice(0, -1).map((key) => caches.delete(key)));
  }

  async function page(request) {
    const fetched = fetch(request);
    try {
      const fresh = await within(fetched, PAGE_LIMIT);
      if (fresh && fresh.status < 500) return fresh;
    } catch (error) {
      const kept = await cached(PAGE);
      if (kept) return kept;
      throw error;
    }
    return (await cached(PAGE)) ?? fetched;
  }

  async function asset(request) {
    return (await cached(request.url)) ?? (await caches.match(request.url, { ignoreVary: true })) ?? fetch(request);
  }

  // Not by opening it, which would make an empty one.
  function cached(path) {
    return caches.match(path, { cacheName: name, ignoreVary: true });
  }

  return { install, warm, tidy, page, asset };
}
