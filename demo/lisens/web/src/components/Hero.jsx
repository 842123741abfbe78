import { useTexts } from '../i18n/index.js';
import { PageTitle } from './PageTitle.jsx';

const WIDTHS = [480, 960, 1440];
const files = (type) => WIDTHS.map((width) => `/images/hero-${width}.${type} ${width}w`).join(', ');
const SIZES = '(min-width: 76rem) 72rem, 100vw';

export function Hero() {
  const { t } = useTexts();
  return (
    <div className="hero">
      <picture>
        <source type="image/avif" srcSet={files('avif')} sizes={SIZES} />
        <source type="image/webp" srcSet={files('webp')} sizes={SIZES} />
        <img
          src="/images/hero-960.jpg"
          srcSet={files('jpg')}
          sizes={SIZES}
          width="960"
          height="360"
          alt={t('shop.heroAlt')}
          fetchPriority="high"
        />
      </picture>
      <div className="hero-text">
        <PageTitle title={t('shop.title')} documentTitle={t('app.name')} />
        <p>{t('shop.lead')}</p>
      </div>
    </div>
  );
}
