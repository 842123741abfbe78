// The first page before anything is known: drawn into index.html by the build, and by the client while it waits.
// Nothing in here may need a browser.

import { HeaderFrame } from './components/HeaderFrame.jsx';
import { Hero } from './components/Hero.jsx';
import { KindCardSkeleton } from './components/Skeleton.jsx';
import { useTexts } from './i18n/index.js';
import { KIND_COUNT } from './lib/kinds.js';

export function Shell() {
  const { t } = useTexts();
  return (
    <>
      <a className="skip-link" href="#main">
        {t('nav.skip')}
      </a>
      <HeaderFrame />
      <main id="main">
        <Hero />
        <KindsSkeleton />
      </main>
    </>
  );
}

export function KindsSkeleton() {
  const { t } = useTexts();
  return (
    <section className="section" aria-labelledby="kinds-heading" aria-busy="true">
      <h2 id="kinds-heading">{t('shop.kinds')}</h2>
      <KindGridSkeleton />
    </section>
  );
}

export function KindGridSkeleton() {
  return (
    <ul className="kinds" aria-hidden="true">
      {Array.from({ length: KIND_COUNT }, (_, place) => (
        <KindCardSkeleton key={place} />
      ))}
    </ul>
  );
}
