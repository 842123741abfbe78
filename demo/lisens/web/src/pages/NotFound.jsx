import { Link } from 'wouter';
import { PageTitle } from '../components/PageTitle.jsx';
import { useTexts } from '../i18n/index.js';

export default function NotFound() {
  const { t } = useTexts();
  return (
    <div className="page narrow">
      <PageTitle title={t('notFound.title')} />
      <p className="lead">{t('notFound.text')}</p>
      <Link className="button" href="/">
        {t('notFound.home')}
      </Link>
    </div>
  );
}
