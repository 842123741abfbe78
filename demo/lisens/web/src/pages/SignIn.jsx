import { useId, useState } from 'react';
import { Redirect, useLocation, useSearchParams } from 'wouter';
import { LoadError } from '../components/LoadError.jsx';
import { PageTitle } from '../components/PageTitle.jsx';
import { useTexts } from '../i18n/index.js';
import { useSession, useSignInAndOut } from '../lib/session.js';

export default function SignIn() {
  const { t } = useTexts();
  const { user } = useSession();
  const { signIn } = useSignInAndOut();
  const [params] = useSearchParams();
  const [, navigate] = useLocation();
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const emailId = useId();
  const passwordId = useId();
  const next = ownAddress(params.get('next'));

  if (user && !busy) return <Redirect replace to={next} />;

  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setBusy(true);
    setError(null);
    try {
      await signIn(form.get('email').trim(), form.get('password'));
      navigate(next, { replace: true });
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };

  return (
    <div className="page narrow">
      <PageTitle title={t('signIn.title')} />
      <p className="lead">{t('signIn.lead')}</p>
      <form className="card form" onSubmit={submit}>
        <div className="field">
          <label htmlFor={emailId}>{t('signIn.email')}</label>
          <input id={emailId} name="email" type="email" autoComplete="username" required />
        </div>
        <div className="field">
          <label htmlFor={passwordId}>{t('signIn.password')}</label>
          <input id={passwordId} name="password" type="password" autoComplete="current-password" required />
        </div>
        {error && <LoadError error={error} />}
        <button type="submit" className="button primary" disabled={busy}>
          {t(busy ? 'signIn.busy' : 'signIn.submit')}
        </button>
      </form>
    </div>
  );
}

/** Where to go afterwards: an address of ours, never somebody else's. */
function ownAddress(next) {
  return next?.startsWith('/') && !next.startsWith('//') && !next.includes('\\') ? next : '/';
}
