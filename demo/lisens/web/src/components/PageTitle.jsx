import { useEffect, useRef } from 'react';
import { useTexts } from '../i18n/index.js';
import { reachedBy } from '../lib/navigation.js';

/** The page's one h1. After a navigation it takes the focus, so that screen readers start there. */
export function PageTitle({ title, documentTitle, children }) {
  const { t } = useTexts();
  const heading = useRef(null);

  useEffect(() => {
    document.title = documentTitle ?? t('app.pageTitle', { title });
  }, [documentTitle, title, t]);

  useEffect(() => {
    if (reachedBy() === 'load') return;
    if (reachedBy() === 'link') scrollTo(0, 0);
    heading.current.focus({ preventScroll: true });
  }, []);

  return (
    <h1 ref={heading} tabIndex={-1}>
      {title}
      {children}
    </h1>
  );
}
