import { LANGUAGES, chooseLanguage, useTexts } from '../i18n/index.js';
import { THEMES, chooseTheme, useTheme } from '../lib/theme.js';

export function Footer() {
  const { t, language } = useTexts();
  const theme = useTheme();
  return (
    <footer className="footer">
      <div className="footer-inner">
        <p>{t('app.federation')}</p>
        <div className="footer-choices">
          <label>
            {t('footer.language')}
            <select value={language} onChange={(event) => chooseLanguage(event.target.value)}>
              {Object.entries(LANGUAGES).map(([code, name]) => (
                <option key={code} value={code} lang={code}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          <label>
            {t('footer.theme')}
            <select value={theme} onChange={(event) => chooseTheme(event.target.value)}>
              {THEMES.map((name) => (
                <option key={name} value={name}>
                  {t(`theme.${name}`)}
                </option>
              ))}
            </select>
          </label>
        </div>
      </div>
    </footer>
  );
}
