// A table of any length of which only the part in view is drawn. All rows are of one height, so nothing moves when
// more arrive.

import { useEffect, useLayoutEffect, useRef } from 'react';
import { useVirtualizer } from '@tanstack/react-virtual';
import { keepOffset, keptOffset } from '../lib/navigation.js';
import { useMedia } from '../lib/use-media.js';
import { RowSkeletons } from './Skeleton.jsx';

export const WIDE = '(min-width: 56rem)';
const ROW = { wide: 3.5, narrow: 4.75 }; // rem, as in list.css
const HEAD = { wide: 2.75, narrow: 0 };
const FIRST_ROWS = 14;
const READ_AHEAD = 40; // rows
const TAIL = 3; // skeletons after the last row while there is more

/**
 * `columns` are `{ name, header, cell(row) }`; the names `main`, `sub`, `end` and `more` say where a cell stands on a
 * narrow screen. A `notice` is what there is to say about the list; it takes no room of its own. `list.address` is what the scroll offset is remembered by.
 */
export function VirtualList({ label, className, columns, list, rowClass, notice }) {
  const { rows, total, complete, loading, loadMore, address } = list;
  const scroller = useRef(null);
  const wide = useMedia(WIDE);
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const height = (wide ? ROW.wide : ROW.narrow) * rem;
  const count = rows.length + (complete || rows.length === 0 ? 0 : TAIL);

  const virtualizer = useVirtualizer({
    count,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    overscan: 10,
    scrollPaddingEnd: (wide ? HEAD.wide : HEAD.narrow) * rem, // the head takes part of the room
    initialOffset: () => keptOffset(address),
    getItemKey: (index) => rows[index]?.id ?? `tail-${index - rows.length}`,
  });
  const items = virtualizer.getVirtualItems();
  const lastShown = items.at(-1)?.index ?? 0;

  useEffect(() => virtualizer.measure(), [height, virtualizer]);

  // A new search starts at the top; a step back, where one was.
  useLayoutEffect(() => {
    const element = scroller.current;
    element.scrollTop = keptOffset(address);
    const keep = () => keepOffset(address, element.scrollTop);
    element.addEventListener('scroll', keep, { passive: true });
    return () => element.removeEventListener('scroll', keep);
  }, [address]);

  useEffect(() => {
    if (rows.length > 0 && !complete && lastShown + READ_AHEAD >= rows.length) loadMore();
  }, [lastShown, rows.length, complete, loadMore]);

  // A key that is held down is faster than rows are drawn: `aim` is where it has got to.
  const aim = useRef(null);
  const focusRow = (index, patience) => {
    if (aim.current !== index) return;
    const link = scroller.current?.querySelector(`[data-index="${index}"] a`);
    if (!link && patience > 0) {
      requestAnimationFrame(() => focusRow(index, patience - 1));
      return;
    }
    aim.current = null;
    link?.focus({ preventScroll: true });
  };

  const step = (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const row = by && event.target.closest('a') && event.target.closest('[data-index]');
    if (!row) return;
    event.preventDefault();
    const next = Math.min(Math.max((aim.current ?? Number(row.dataset.index)) + by, 0), rows.length - 1);
    aim.current = next;
    virtualizer.scrollToIndex(next);
    requestAnimationFrame(() => focusRow(next, 20));
  };

  return (
    <div className={`list-scroll ${className}`} ref={scroller} tabIndex={0} role="region" aria-label={label} onKeyDown={step}>
      {loading ? (
        <RowSkeletons count={FIRST_ROWS} />
      ) : rows.length > 0 ? (
        <div role="table" aria-label={label} aria-rowcount={total === undefined ? -1 : total + 1} aria-colcount={columns.length}>
          <div role="rowgroup" className="list-head">
            <div role="row" className="row" aria-rowindex={1}>
              {columns.map(({ name, header }) => (
                <div role="columnheader" key={name} className={`cell ${name}`}>
                  {header}
                </div>
              ))}
            </div>
          </div>
          <div role="rowgroup" className="list-body" style={{ height: virtualizer.getTotalSize() }}>
            {items.map(({ index, key, start }) => {
              const row = rows[index];
              const place = { transform: `translateY(${start}px)` };
              if (!row) return <Tail key={key} place={place} />;
              return (
                <div
                  role="row"
                  key={key}
                  className={`row ${rowClass?.(row) ?? ''}`}
                  style={place}
                  aria-rowindex={index + 2}
                  data-index={index}
                >
                  {columns.map(({ name, cell }) => (
                    <div role="cell" key={name} className={`cell ${name}`}>
                      {cell(row)}
                    </div>
                  ))}
                </div>
              );
            })}
          </div>
        </div>
      ) : null}
      {notice}
    </div>
  );
}

function Tail({ place }) {
  return (
    <div className="row row-skeleton" style={place} aria-hidden="true">
      <span className="bone w60" />
      <span className="bone w40" />
    </div>
  );
}
