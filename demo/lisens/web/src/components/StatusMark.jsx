import { useTexts } from '../i18n/index.js';

// A shape for each, as not everybody sees the colours.
const SHAPES = {
  unknown: <circle cx="6" cy="6" r="4" />,
  ok: <circle cx="6" cy="6" r="5" />,
  degraded: <path d="M6 .8l5.2 9.7H.8z" />,
  unavailable: <path d="M1 1h10v10H1z" />,
  offline: <path d="M6 .5L11.5 6 6 11.5.5 6z" />,
};

export function StatusMark({ status }) {
  const { t } = useTexts();
  return (
    <p className="status" role="status" data-status={status}>
      <svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">
        {SHAPES[status]}
      </svg>
      <span>{t(`status.${status}`)}</span>
    </p>
  );
}
