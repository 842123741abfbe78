// Long lists, read page by page with cursors.

import { useCallback, useEffect, useMemo, useRef } from 'react';
import useSWRInfinite from 'swr/infinite';
import { getJson } from './api.js';
import { cache, patchLists, swrConfig } from './cache.js';

export const PAGE_SIZE = 100;

const reading = new Map();
const readAt_ms = new Map();

/** Whether a page was read so recently that asking again would tell nothing. */
function isFresh(key) {
  return performance.now() - (readAt_ms.get(key) ?? -Infinity) < swrConfig.dedupingInterval;
}

/** Two growths close to each other may want the same page: one request for both. */
function readOnce(key) {
  if (!reading.has(key)) {
    const answer = getJson(key).finally(() => reading.delete(key));
    answer.then(
      () => readAt_ms.set(key, performance.now()),
      () => {},
    );
    reading.set(key, answer);
  }
  return reading.get(key);
}

/**
 * The rows of a list that have been read so far, with what it takes to read on. `part` is the name of the rows in the
 * answer, `query` the filters; empty ones are left out.
 */
export function useList(path, part, query, { enabled = true } = {}) {
  const filters = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  const growing = useRef(false);
  const changed = useRef(false); // we know of a change: what was read a moment ago is old

  const keyOf = (index, previous) => {
    if (!enabled || (index > 0 && !previous?.next)) return null;
    const page = new URLSearchParams(filters);
    page.set('limit', PAGE_SIZE);
    if (index === 0) page.set('total', 'true');
    else page.set('cursor', previous.next);
    return `${path}?${page}`;
  };

  const read = async (key) => {
    const known = cache.get(key)?.data;
    // SWR asks for pages that we have at every growth, too. Those will do then.
    if (known && !changed.current && (growing.current || isFresh(key))) return known;
    const fresh = await (changed.current ? getJson(key) : readOnce(key));
    return known && !key.includes('cursor=') ? joined(fresh, known, part) : fresh;
  };

  const { data, error, size, setSize, isValidating, mutate } = useSWRInfinite(keyOf, read, {
    revalidateFirstPage: true,
    revalidateAll: false,
    persistSize: false,
    parallel: false,
  });

  const rows = useMemo(() => data?.flatMap((page) => page[part]) ?? [], [data, part]);
  const last = data?.at(-1);
  const complete = Boolean(last && !last.next);
  const loadingMore = Boolean(data && size > data.length && isValidating);

  const loadMore = useCallback(async () => {
    if (growing.current || complete || !data) return;
    growing.current = true;
    try {
      await setSize(data.length + 1);
    } finally {
      growing.current = false;
    }
  }, [complete, data, setSize]);

  /** Shows changed rows at once, without asking again. */
  const change = useCallback(
    (patch) => {
      patchLists(path, part, patch);
      mutate((pages) => pages?.map((page) => ({ ...page, [part]: page[part].map(patch) })), { revalidate: false });
    },
    [mutate, path, part],
  );

  // With pages given, SWR asks for the first one and those that are missing, not for all.
  const refresh = useCallback(async () => {
    changed.current = true;
    try {
      await mutate((pages) => pages, { revalidate: true });
    } finally {
      changed.current = false;
    }
  }, [mutate]);

  // Something that had been waiting has arrived: look again.
  useEffect(() => {
    addEventListener('lisens:synced', refresh);
    return () => removeEventListener('lisens:synced', refresh);
  }, [refresh]);

  return {
    address: `${path}?${filters}`,
    rows,
    total: data?.[0]?.total,
    complete,
    loading: !data && !error && enabled,
    loadingMore,
    error,
    cachedAt: data?.find((page) => page.cachedAt)?.cachedAt,
    loadMore,
    change,
    retry: refresh,
  };
}

/**
 * A fresh first page, grown by the rows of the one we had that new rows have pushed off its end. Its cursor stays the
 * old one, so the pages after it stay true and need not be read again.
 */
function joined(fresh, known, part) {
  const before = known[part];
  if (!fresh.next || before.length === 0) return fresh;
  const places = new Map(before.map((row, place) => [row.id, place]));
  const meeting = fresh[part].findLast((row) => places.has(row.id));
  if (!meeting) return fresh; // too much has happened: start over
  // Rows that have gone make the fresh page reach into the next one: then that has to be read anew, too.
  if (meeting !== fresh[part].at(-1)) return fresh;
  const seen = new Set(fresh[part].map((row) => row.id));
  const rest = before.slice(places.get(meeting.id) + 1).filter((row) => !seen.has(row.id));
  return { ...fresh, [part]: [...fresh[part], ...rest], next: known.next };
}
