import { useTexts } from '../i18n/index.js';
import { discard, flush, useOnline, usePending } from '../offline/index.js';
import { Badge } from './Badge.jsx';
import { Dialog } from './Dialog.jsx';

export default function PendingDialog({ onClose, user }) {
  const { t, dateTime, errorText } = useTexts();
  const online = useOnline();
  const pending = usePending().filter((entry) => String(entry.userId) === String(user?.id));
  return (
    <Dialog title={t('pending.title')} onClose={onClose}>
      <p className="small">{t('pending.text')}</p>
      {pending.length === 0 && <p role="status">{t('pending.none')}</p>}
      <ul className="pending-list">
        {pending.map(({ id, label, createdAt, state, error }) => (
          <li key={id}>
            <div>
              <p>{label}</p>
              <p className="small">{dateTime(createdAt)}</p>
              {state === 'failed' && <p className="small bad-text">{errorText({ code: error })}</p>}
            </div>
            <Badge status={state} />
            {state !== 'sending' && (
              <button type="button" className="button plain" onClick={() => discard(id)}>
                {t('action.remove')}
                <span className="visually-hidden"> {label}</span>
              </button>
            )}
          </li>
        ))}
      </ul>
      {pending.some(({ state }) => state === 'waiting') && (
        <button type="button" className="button" onClick={() => flush()} disabled={!online}>
          {t('pending.sendNow')}
        </button>
      )}
    </Dialog>
  );
}
