import { lazy, Suspense, useEffect, useRef, useState } from 'react';
import { KindImage } from '../components/KindImage.jsx';
import { LoadError } from '../components/LoadError.jsx';
import { Panel } from '../components/Panel.jsx';
import { useTexts } from '../i18n/index.js';
import { MOST_OF_A_KIND, addToBasket, useBasket } from '../lib/basket.js';
import { useKinds } from '../lib/kinds.js';
import { KindGridSkeleton } from '../shell.jsx';

const Estimate = lazy(() => import('./Estimate.jsx'));
const FIRST_ROW = 4;

export default function Shop() {
  const { t } = useTexts();
  return (
    <>
      <section className="section" aria-labelledby="kinds-heading">
        <h2 id="kinds-heading">{t('shop.kinds')}</h2>
        <Panel name="kinds" tall>
          <Kinds />
        </Panel>
      </section>
      <section className="section" aria-labelledby="estimate-heading">
        <h2 id="estimate-heading">{t('estimate.title')}</h2>
        <p className="section-lead">{t('estimate.lead')}</p>
        <div className="estimate-place">
          <Panel name="estimate">
            <OnceNear>
              <Suspense fallback={null}>
                <Estimate />
              </Suspense>
            </OnceNear>
          </Panel>
        </div>
      </section>
    </>
  );
}

function Kinds() {
  const { t } = useTexts();
  const { kinds, error, retry } = useKinds();
  const [added, setAdded] = useState('');
  if (!kinds && error) return <LoadError error={error} retry={retry} />;
  if (!kinds) return <KindGridSkeleton />;
  return (
    <>
      <ul className="kinds">
        {kinds.map((kind, place) => (
          <Kind key={kind.kind} {...kind} eager={place < FIRST_ROW} onAdded={setAdded} />
        ))}
      </ul>
      <p className="visually-hidden" role="status">
        {added}
      </p>
    </>
  );
}

function Kind({ kind, price_ore: price, valid_days: days, places_left: places, eager, onAdded }) {
  const { t, money, kindName } = useTexts();
  const inBasket = useBasket()[kind] ?? 0;
  const soldOut = places === 0;
  const full = inBasket >= Math.min(MOST_OF_A_KIND, places ?? MOST_OF_A_KIND);
  const add = () => {
    addToBasket(kind);
    onAdded(t('shop.added', { name: kindName(kind), count: inBasket + 1 }));
  };
  return (
    <li className="kind">
      <div className="kind-image">
        <KindImage kind={kind} eager={eager} />
      </div>
      <div className="kind-body">
        <h3>{kindName(kind)}</h3>
        <p className="kind-for">{t(`kind.${kind}.for`)}</p>
        <p className="kind-facts">
          {t('shop.validDays', { count: days })}
          {places !== null && <strong className={soldOut ? 'bad-text' : ''}>{t('shop.placesLeft', { count: places })}</strong>}
        </p>
        <div className="kind-buy">
          <span className="price">{money(price)}</span>
          <button
            type="button"
            className="button"
            onClick={add}
            disabled={soldOut || full}
            aria-label={t('shop.addNamed', { name: kindName(kind) })}
          >
            {soldOut ? t('shop.soldOut') : inBasket > 0 ? t('shop.inBasket', { count: inBasket }) : t('shop.add')}
          </button>
        </div>
      </div>
    </li>
  );
}

/** Draws its children once they are about to come into view. */
function OnceNear({ children }) {
  const place = useRef(null);
  const [near, setNear] = useState(false);
  useEffect(() => {
    if (near) return;
    const observer = new IntersectionObserver(([entry]) => entry.isIntersecting && setNear(true), { rootMargin: '400px' });
    observer.observe(place.current);
    return () => observer.disconnect();
  }, [near]);
  return near ? children : <div ref={place} className="near" />;
}
