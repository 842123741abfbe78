// What stands above a long list: search, filters, and how much of it there is.

import { useEffect, useId, useRef, useState } from 'react';
import { useTexts } from '../i18n/index.js';
import { Icon } from './Icon.jsx';
import { LoadError } from './LoadError.jsx';

const PAUSE = 250;

export function SearchBox({ label, value, onSearch }) {
  const id = useId();
  const [typed, setTyped] = useState(value);
  const sent = useRef(value);

  // The address may change under our hands: somebody goes back.
  useEffect(() => {
    if (value !== sent.current) {
      sent.current = value;
      setTyped(value);
    }
  }, [value]);

  useEffect(() => {
    if (typed.trim() === sent.current) return;
    const timer = setTimeout(() => {
      sent.current = typed.trim();
      onSearch(sent.current);
    }, PAUSE);
    return () => clearTimeout(timer);
  }, [typed, onSearch]);

  return (
    <div className="field search">
      <label htmlFor={id}>{label}</label>
      <div className="search-box">
        <Icon name="search" />
        <input
          id={id}
          type="search"
          value={typed}
          onChange={(event) => setTyped(event.target.value)}
          autoComplete="off"
          spellCheck={false}
        />
      </div>
    </div>
  );
}

/** `options` are `[value, text]`; the first stands for no filter. */
export function Filter({ label, value, options, onChange }) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <select id={id} value={value} onChange={(event) => onChange(event.target.value)}>
        {options.map(([option, text]) => (
          <option key={option} value={option}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}

/** How many are shown, aloud for those who do not see it. */
export function ListCount({ list, children }) {
  const { t, time } = useTexts();
  const { rows, total, complete, loading, cachedAt } = list;
  const known = !loading && (rows.length > 0 || !list.error);
  const all = total ?? (complete ? rows.length : undefined);
  return (
    <div className="list-count">
      <p role="status">
        {loading && t('list.loading')}
        {known &&
          (all === undefined
            ? t('list.shown', { count: rows.length })
            : t('list.shownOf', { count: rows.length, total: Math.max(all, rows.length) }))}
        {cachedAt && ` · ${t('list.asOf', { time: time(cachedAt) })}`}
      </p>
      {children}
    </div>
  );
}

export function ListNotices({ list, empty }) {
  const { t } = useTexts();
  if (list.error && list.error.code !== 'not_signed_in') return <LoadError error={list.error} retry={list.retry} />;
  if (!list.loading && list.rows.length === 0) return <p className="list-empty">{empty ?? t('list.empty')}</p>;
  return null;
}
