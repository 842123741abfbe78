import { useTexts } from '../i18n/index.js';
import { Icon } from './Icon.jsx';

/** Says why something could not be read, and offers to try again. */
export function LoadError({ error, retry }) {
  const { t, errorText } = useTexts();
  return (
    <div className="notice bad" role="alert">
      <Icon name="warning" />
      <div>
        <p>{errorText(error)}</p>
        {error.requestId && <p className="small">{t('error.request', { id: error.requestId })}</p>}
      </div>
      {retry && (
        <button type="button" className="button" onClick={retry}>
          {t('action.tryAgain')}
        </button>
      )}
    </div>
  );
}
