import { useState } from 'react';
import { ErrorBoundary } from 'react-error-boundary';
import { useTexts } from '../i18n/index.js';
import { reportError } from '../lib/client-errors.js';

/** A region of the page that may fail without taking the rest along. */
export function Panel({ name, tall = false, onReset, children }) {
  const [eventId, setEventId] = useState(null);
  return (
    <ErrorBoundary
      onError={async (error) => setEventId(await reportError(error, name))}
      onReset={() => {
        setEventId(null);
        onReset?.();
      }}
      fallbackRender={({ error, resetErrorBoundary }) => (
        <BrokenPanel
          error={error}
          eventId={eventId}
          tall={tall}
          retry={isMissingChunk(error) ? () => location.reload() : resetErrorBoundary}
        />
      )}
    >
      <Breakable name={name} />
      {children}
    </ErrorBoundary>
  );
}

function BrokenPanel({ error, eventId, tall, retry }) {
  const { t } = useTexts();
  return (
    <div className={tall ? 'broken tall' : 'broken'} role="alert">
      <p className="broken-title">{t(isMissingChunk(error) ? 'panel.notLoaded' : 'panel.broken')}</p>
      <p>{t('panel.rest')}</p>
      <p className="broken-number">{eventId ? t('panel.number', { number: String(eventId) }) : ' '}</p>
      <button type="button" className="button" onClick={retry}>
        {t('action.tryAgain')}
      </button>
    </div>
  );
}

/** Part of the program itself did not arrive; React remembers that, only a new page helps. */
const isMissingChunk = (error) => /dynamically imported module|module script failed|preload CSS/i.test(error?.message ?? '');

/** For tests and demonstrations: the panel that is named in session storage falls over. */
function Breakable({ name }) {
  if (panelToBreak() === name) throw new Error(`The panel ${name} was asked to break.`);
  return null;
}

function panelToBreak() {
  try {
    return sessionStorage.getItem('lisens.break');
  } catch {
    return null;
  }
}
