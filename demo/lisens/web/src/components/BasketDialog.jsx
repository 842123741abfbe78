import { Link } from 'wouter';
import { useTexts } from '../i18n/index.js';
import { linesOf, totalOf, useBasket } from '../lib/basket.js';
import { useKinds } from '../lib/kinds.js';
import { BasketLines, BasketTotal } from './BasketLines.jsx';
import { Dialog } from './Dialog.jsx';
import { LoadError } from './LoadError.jsx';
import { Panel } from './Panel.jsx';

export default function BasketDialog({ onClose }) {
  const { t } = useTexts();
  return (
    <Dialog title={t('basket.title')} onClose={onClose} side>
      <Panel name="basket">
        <Content onClose={onClose} />
      </Panel>
    </Dialog>
  );
}

function Content({ onClose }) {
  const { t } = useTexts();
  const basket = useBasket();
  const { kinds, error, retry } = useKinds();
  if (!kinds) return error ? <LoadError error={error} retry={retry} /> : <p role="status">{t('list.loading')}</p>;
  const lines = linesOf(basket, kinds);
  if (lines.length === 0) return <p className="small">{t('basket.empty')}</p>;
  return (
    <>
      <BasketLines lines={lines} editable />
      <BasketTotal ore={totalOf(lines)} />
      <Link className="button primary" href="/checkout" onClick={onClose}>
        {t('basket.checkout')}
      </Link>
    </>
  );
}
