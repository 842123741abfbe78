import { useState } from 'react';
import { useTexts } from '../i18n/index.js';
import { send } from '../lib/api.js';
import { patchLists } from '../lib/cache.js';
import { Dialog } from './Dialog.jsx';
import { LoadError } from './LoadError.jsx';

/** Refunds an order, after asking. */
export function RefundButton({ order, onRefunded }) {
  const { t, money } = useTexts();
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);

  const refund = async () => {
    if (busy) return;
    setBusy(true);
    setError(null);
    try {
      await send('POST', `/api/orders/${order.id}/refund`);
      patchLists('/api/orders', 'orders', (row) => (row.id === order.id ? { ...row, status: 'refunded' } : row));
      setAsking(false);
      onRefunded();
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };

  return (
    <>
      <button type="button" className="button danger" onClick={() => setAsking(true)} aria-haspopup="dialog">
        {t('order.refund')}
      </button>
      {asking && (
        <Dialog title={t('order.refundTitle', { id: String(order.id) })} onClose={() => setAsking(false)}>
          <p>{t('order.refundText', { amount: money(order.total_ore), name: order.user_name })}</p>
          {error && <LoadError error={error} />}
          <div className="actions">
            <button type="button" className="button danger" onClick={refund} aria-disabled={busy}>
              {t(busy ? 'order.refunding' : 'order.refund')}
            </button>
            <button type="button" className="button plain" onClick={() => setAsking(false)}>
              {t('action.cancel')}
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
