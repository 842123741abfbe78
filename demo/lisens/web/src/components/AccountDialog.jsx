import { useState } from 'react';
import { useLocation } from 'wouter';
import { useTexts } from '../i18n/index.js';
import { emptyBasket } from '../lib/basket.js';
import { useSignInAndOut } from '../lib/session.js';
import { Dialog } from './Dialog.jsx';
import { LoadError } from './LoadError.jsx';
import '../styles/lines.css';

export default function AccountDialog({ onClose, user }) {
  const { t } = useTexts();
  const { signOut } = useSignInAndOut();
  const [, navigate] = useLocation();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  if (!user) return null;

  const leave = async () => {
    setBusy(true);
    setError(null);
    try {
      await signOut();
      emptyBasket();
      onClose();
      navigate('/');
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };

  return (
    <Dialog title={user.name} onClose={onClose}>
      <dl className="facts">
        <div>
          <dt>{t('account.club')}</dt>
          <dd>{user.club || '–'}</dd>
        </div>
        <div>
          <dt>{t('account.role')}</dt>
          <dd>{t(`role.${user.role}`)}</dd>
        </div>
      </dl>
      {error && <LoadError error={error} />}
      <button type="button" className="button" onClick={leave} disabled={busy}>
        {t(busy ? 'account.signingOut' : 'account.signOut')}
      </button>
    </Dialog>
  );
}
