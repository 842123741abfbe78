import { Redirect, useLocation, useSearch } from 'wouter';
import { useTexts } from '../i18n/index.js';
import { isOfficial, useSession } from '../lib/session.js';
import { LoadError } from './LoadError.jsx';
import { PageTitle } from './PageTitle.jsx';

/** Draws its children with the user, or leads to the sign-in and back. */
export function RequireUser({ official = false, fallback, children }) {
  const { t } = useTexts();
  const { user, error } = useSession();
  const [path] = useLocation();
  const search = useSearch();
  if (user === undefined && error) {
    return (
      <div className="page">
        <PageTitle title={t('error.title')} />
        <LoadError error={error} retry={() => location.reload()} />
      </div>
    );
  }
  if (user === undefined) return fallback;
  if (user === null) return <Redirect replace to={`/sign-in?next=${encodeURIComponent(path + (search && `?${search}`))}`} />;
  if (official && !isOfficial(user)) {
    return (
      <div className="page">
        <PageTitle title={t('error.forbiddenTitle')} />
        <p>{t('error.forbidden')}</p>
      </div>
    );
  }
  return children(user);
}
