import { useEffect, useRef } from 'react';
import { useTexts } from '../i18n/index.js';
import { reachedBy } from '../lib/navigation.js';

/** The page's one h1. After a navigation, or where one page turned into another, it takes the focus: readers start there. */
export function PageTitle({ title, documentTitle, focus = false, children }) {
  const { t } = useTexts();
  const heading = useRef(null);

  useEffect(() => {
    document.title = documentTitle ?? t('app.pageTitle', { title });
  }, [documentTitle, title, t]);

  useEffect(() => {
    if (reachedBy() === 'load' && !focus) return;
    if (reachedBy() === 'link') scrollTo(0, 0);
    heading.current.focus({ preventScroll: true });
  }, [focus]);

  return (
    <h1 ref={heading} tabIndex={-1}>
      {title}
      {children}
    </h1>
  );
}
