import { useTexts } from '../i18n/index.js';

/** The state of an order or a licence. */
export function Badge({ status }) {
  const { t } = useTexts();
  return (
    <span className="badge" data-status={status}>
      {t(`state.${status}`)}
    </span>
  );
}
