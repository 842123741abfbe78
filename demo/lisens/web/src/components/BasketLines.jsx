import { useTexts } from '../i18n/index.js';
import '../styles/lines.css';
import { MOST_OF_A_KIND, setQuantity } from '../lib/basket.js';
import { Icon } from './Icon.jsx';

/** What is in the basket, with steppers to change it while `editable`. */
export function BasketLines({ lines, editable = false, disabled = false }) {
  const { t, money, kindName } = useTexts();
  return (
    <ul className="lines">
      {lines.map(({ kind, quantity, price_ore: price, sum_ore: sum }) => {
        const name = kindName(kind);
        return (
          <li key={kind} className="line">
            <div>
              <p>
                {!editable && `${quantity} × `}
                {name}
              </p>
              <p className="small">{t('basket.each', { price: money(price) })}</p>
            </div>
            <span className="line-sum">{money(sum)}</span>
            {editable && (
              <div className="stepper" role="group" aria-label={name}>
                <button
                  type="button"
                  className="tool"
                  onClick={() => setQuantity(kind, quantity - 1)}
                  disabled={disabled}
                  aria-label={t('basket.less', { name })}
                >
                  <Icon name="minus" />
                </button>
                <output>{quantity}</output>
                <button
                  type="button"
                  className="tool"
                  onClick={() => setQuantity(kind, quantity + 1)}
                  disabled={disabled || quantity >= MOST_OF_A_KIND}
                  aria-label={t('basket.more', { name })}
                >
                  <Icon name="plus" />
                </button>
              </div>
            )}
          </li>
        );
      })}
    </ul>
  );
}

export function BasketTotal({ ore }) {
  const { t, money } = useTexts();
  return (
    <p className="line-total">
      <span>{t('basket.total')}</span>
      <span>{money(ore)}</span>
    </p>
  );
}
