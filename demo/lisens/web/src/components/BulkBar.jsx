import { useRef, useState } from 'react';
import { useTexts } from '../i18n/index.js';
import { send } from '../lib/api.js';
import { LoadError } from './LoadError.jsx';

const MOST = 1000; // at once, says the API

/** Changes the state of all licences that are picked. It has its place always, so that nothing moves. */
export function BulkBar({ picked, onUnpick, onChanged }) {
  const { t } = useTexts();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const [changed, setChanged] = useState(null);
  const attempt = useRef({}); // a second attempt at the same change has the same key

  const change = async (status) => {
    if (busy) return;
    const items = [...picked].slice(0, MOST).map((id) => ({ id, status }));
    const wish = JSON.stringify(items);
    if (attempt.current.wish !== wish) attempt.current = { wish, idempotencyKey: crypto.randomUUID() };
    setBusy(true);
    setError(null);
    setChanged(null);
    try {
      const { updated, results } = await send('POST', '/api/licences/bulk', { items }, attempt.current);
      const done = new Set(results.filter(({ outcome }) => outcome !== 'not_found').map(({ id }) => id));
      attempt.current = {};
      onChanged((licence) => (done.has(licence.id) ? { ...licence, status } : licence));
      setChanged(updated);
      onUnpick(items.map(({ id }) => id)); // of very many, the rest stay picked for the next time
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };

  const count = picked.size;
  return (
    <>
      <div className="bulk">
        <p role="status">
          {busy && t('licences.changing')}
          {!busy && count > 0 && t('licences.picked', { count })}
          {!busy && count === 0 && (changed === null ? t('licences.pickNone') : t('licences.changed', { count: changed }))}
        </p>
        <div className="actions">
          <button type="button" className="button danger" onClick={() => change('suspended')} disabled={count === 0 || busy}>
            {t('licences.suspend')}
          </button>
          <button type="button" className="button" onClick={() => change('active')} disabled={count === 0 || busy}>
            {t('licences.reactivate')}
          </button>
          <button type="button" className="button plain" onClick={() => onUnpick([...picked])} disabled={count === 0 || busy}>
            {t('licences.unpick')}
          </button>
        </div>
      </div>
      {error && <LoadError error={error} />}
    </>
  );
}
