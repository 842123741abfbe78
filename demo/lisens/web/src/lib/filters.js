import { useCallback } from 'react';
import { useSearchParams } from 'wouter';

/** The filters of a list, kept in the address so that it can be shared and gone back to. */
export function useFilters(names) {
  const [params, setParams] = useSearchParams();
  const filters = Object.fromEntries(names.map((name) => [name, params.get(name) ?? '']));
  const setFilter = useCallback(
    (name, value) =>
      setParams(
        (before) => {
          const next = new URLSearchParams(before);
          if (value) next.set(name, value);
          else next.delete(name);
          return next;
        },
        { replace: true },
      ),
    [setParams],
  );
  return [filters, setFilter];
}
