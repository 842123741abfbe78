import { useId, useState } from 'react';
import { LoadError } from '../components/LoadError.jsx';
import { useTexts } from '../i18n/index.js';
import { send } from '../lib/api.js';
import { addToBasket } from '../lib/basket.js';
import './estimate.css';

const DISCIPLINES = ['rally', 'rallycross', 'bilcross', 'karting'];

export default function Estimate() {
  const { t } = useTexts();
  const [estimate, setEstimate] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const discipline = useId();

  const ask = async (event) => {
    event.preventDefault();
    if (busy) return;
    const form = new FormData(event.currentTarget);
    const numbers = ['age', 'races', 'mechanics'].map((name) => [name, Number(form.get(name))]);
    setBusy(true);
    setError(null);
    try {
      setEstimate(await send('POST', '/api/estimate', { discipline: form.get('discipline'), ...Object.fromEntries(numbers) }));
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };

  return (
    <div className="card estimate">
      <form className="form" onSubmit={ask}>
        <div className="field">
          <label htmlFor={discipline}>{t('estimate.discipline')}</label>
          <select id={discipline} name="discipline">
            {DISCIPLINES.map((name) => (
              <option key={name} value={name}>
                {t(`discipline.${name}`)}
              </option>
            ))}
          </select>
        </div>
        <div className="estimate-numbers">
          <NumberField name="age" min={5} max={99} initial={30} />
          <NumberField name="races" min={1} max={40} initial={6} />
          <NumberField name="mechanics" min={0} max={5} initial={1} />
        </div>
        <button type="submit" className="button primary" aria-disabled={busy}>
          {t(busy ? 'estimate.busy' : 'estimate.submit')}
        </button>
      </form>
      <div className="estimate-result" aria-live="polite">
        {error && <LoadError error={error} />}
        {!error && !estimate && <p className="small">{t('estimate.empty')}</p>}
        {!error && estimate && <Result key={JSON.stringify(estimate)} estimate={estimate} />}
      </div>
    </div>
  );
}

function NumberField({ name, min, max, initial }) {
  const { t } = useTexts();
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{t(`estimate.${name}`)}</label>
      <input id={id} name={name} type="number" inputMode="numeric" min={min} max={max} defaultValue={initial} required />
    </div>
  );
}

function Result({ estimate }) {
  const { t, money, kindName } = useTexts();
  const [added, setAdded] = useState(false);
  const addAll = () => {
    if (added) return;
    estimate.items.forEach((item) => addToBasket(item.licence_kind, item.quantity));
    setAdded(true);
  };
  return (
    <>
      <p className="estimate-amount">{t('estimate.result', { amount: money(estimate.estimate_ore) })}</p>
      <p>{t('estimate.range', { low: money(estimate.low_ore), high: money(estimate.high_ore) })}</p>
      <p className="small">{t(estimate.source === 'model' ? 'estimate.model' : 'estimate.rule')}</p>
      <h3>{t('estimate.items')}</h3>
      <ul>
        {estimate.items.map((item) => (
          <li key={item.licence_kind}>
            {item.quantity} × {kindName(item.licence_kind)}
          </li>
        ))}
      </ul>
      <button type="button" className="button" onClick={addAll} aria-disabled={added}>
        {t(added ? 'estimate.addedAll' : 'estimate.addAll')}
      </button>
    </>
  );
}
