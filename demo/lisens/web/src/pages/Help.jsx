import { use } from 'react';
import { PageTitle } from '../components/PageTitle.jsx';
import { useTexts } from '../i18n/index.js';
import './help.css';

const texts = { nb: () => import('../i18n/help/nb.js'), sv: () => import('../i18n/help/sv.js'), en: () => import('../i18n/help/en.js') };
const loading = {}; // use() wants the same promise each time

export default function Help() {
  const { t, language } = useTexts();
  const { default: chapters } = use((loading[language] ??= texts[language]()));
  return (
    <div className="page reading help">
      <PageTitle title={t('help.title')} />
      {chapters.map(({ title, text }) => (
        <section key={title}>
          <h2>{title}</h2>
          {text.map((paragraph) => (
            <p key={paragraph}>{paragraph}</p>
          ))}
        </section>
      ))}
    </div>
  );
}
