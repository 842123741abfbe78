import { useTexts } from '../i18n/index.js';
import { Icon } from './Icon.jsx';
import { StatusMark } from './StatusMark.jsx';

/** The header's shape. Until there is more to say it holds the places of what will come. */
export function HeaderFrame({ brand, nav, tools }) {
  const { t } = useTexts();
  return (
    <header className="header">
      <div className="header-inner">
        {brand ?? (
          <a className="brand" href="/">
            <Mark /> {t('app.name')}
          </a>
        )}
        {nav ?? (
          <nav className="nav" aria-label={t('nav.main')}>
            <a href="/" aria-current="page">
              {t('nav.shop')}
            </a>
            <a href="/orders">{t('nav.orders')}</a>
            <a href="/licences">{t('nav.licences')}</a>
            <a href="/help">{t('nav.help')}</a>
          </nav>
        )}
        <div className="header-tools">{tools ?? <ToolsToCome />}</div>
      </div>
    </header>
  );
}

function ToolsToCome() {
  return (
    <>
      <StatusMark status="unknown" />
      <span className="tool" aria-hidden="true">
        <Icon name="basket" />
      </span>
      <span className="tool account" aria-hidden="true" />
    </>
  );
}

export function Mark() {
  return (
    <svg className="mark" viewBox="0 0 32 32" width="28" height="28" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <path d="M10 8v16h12" />
    </svg>
  );
}
