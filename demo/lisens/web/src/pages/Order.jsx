import { useId, useRef, useState } from 'react';
import useSWR from 'swr';
import { Link } from 'wouter';
import { Badge } from '../components/Badge.jsx';
import { Icon } from '../components/Icon.jsx';
import { LoadError } from '../components/LoadError.jsx';
import { PageTitle } from '../components/PageTitle.jsx';
import { Panel } from '../components/Panel.jsx';
import { RefundButton } from '../components/RefundButton.jsx';
import { Bone } from '../components/Skeleton.jsx';
import { useTexts } from '../i18n/index.js';
import { getJson, isUncertain, send } from '../lib/api.js';
import { isOfficial } from '../lib/session.js';
import { enqueue, useOnline, usePending } from '../offline/index.js';
import '../styles/lines.css';
import './order.css';

export default function Order({ id, user }) {
  const { t, time } = useTexts();
  const path = `/api/orders/${id}`;
  const { data: order, error, mutate } = useSWR(/^\d+$/.test(id) ? path : null, getJson);
  const missing = !/^\d+$/.test(id) || error?.code === 'not_found';
  return (
    <div className="page reading">
      <Link className="back" href="/orders" onClick={goBack}>
        <Icon name="back" /> {t('order.back')}
      </Link>
      <PageTitle title={t('orders.one', { id })} />
      {missing && <p className="lead">{t('error.not_found')}</p>}
      {!missing && error && !order && <LoadError error={error} retry={() => mutate()} />}
      {!missing && !error && !order && <OrderSkeleton />}
      {order && (
        <>
          {order.cachedAt && <p className="small">{t('list.asOf', { time: time(order.cachedAt) })}</p>}
          <Panel name="order">
            <Summary order={order} official={isOfficial(user)} onRefunded={() => mutate((before) => ({ ...before, status: 'refunded' }))} />
          </Panel>
          <Panel name="notes">
            <Notes
              order={order}
              user={user}
              onAdded={(note) => mutate((before) => ({ ...before, notes: [...before.notes, note] }), false)}
            />
          </Panel>
        </>
      )}
    </div>
  );
}

/** Back to the list as it was left, if that is where one came from. */
function goBack(event) {
  if (!history.state?.fromList || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  history.back();
}

function Summary({ order, official, onRefunded }) {
  const { t, money, date, dateTime, kindName } = useTexts();
  return (
    <>
      <section className="card order-card">
        <dl className="facts">
          <div>
            <dt>{t('orders.buyer')}</dt>
            <dd>{order.user_name}</dd>
          </div>
          <div>
            <dt>{t('orders.when')}</dt>
            <dd>{dateTime(order.created_at)}</dd>
          </div>
          <div>
            <dt>{t('orders.status')}</dt>
            <dd>
              <Badge status={order.status} />
            </dd>
          </div>
        </dl>
        <h2>{t('order.items')}</h2>
        <ul className="lines">
          {order.items.map((item) => (
            <li className="line" key={item.licence_kind}>
              <div>
                <p>{kindName(item.licence_kind)}</p>
                <p className="small">{t('order.quantity', { count: item.quantity, price: money(item.unit_price_ore) })}</p>
              </div>
              <span className="line-sum">{money(item.quantity * item.unit_price_ore)}</span>
            </li>
          ))}
        </ul>
        <p className="line-total">
          <span>{t('orders.total')}</span>
          <span>{money(order.total_ore)}</span>
        </p>
        {official && order.status === 'paid' && <RefundButton order={order} onRefunded={onRefunded} />}
      </section>
      <section className="card order-card">
        <h2>{t('order.licences')}</h2>
        <ul className="lines">
          {order.licences.map((licence) => (
            <li className="line" key={licence.id}>
              <div>
                <p>
                  {kindName(licence.kind)} <span className="small">{licence.id}</span>
                </p>
                <p className="small">{t('order.period', { from: date(licence.valid_from), until: date(licence.valid_until) })}</p>
              </div>
              <Badge status={licence.status} />
            </li>
          ))}
        </ul>
      </section>
    </>
  );
}

function Notes({ order, user, onAdded }) {
  const { t, dateTime } = useTexts();
  const online = useOnline();
  const id = useId();
  const form = useRef(null);
  const key = useRef(null);
  const [busy, setBusy] = useState(false);
  const [said, setSaid] = useState(null);
  const [error, setError] = useState(null);
  const label = t('order.noteLabel', { id: String(order.id) });
  const waiting = usePending().filter(
    (entry) => entry.path === '/api/notes' && entry.label === label && String(entry.userId) === String(user.id),
  );

  const queue = async (body) => {
    await enqueue({ path: '/api/notes', body, userId: user.id, label, idempotencyKey: key.current });
    return 'order.noteQueued';
  };

  const save = async (event) => {
    event.preventDefault();
    if (busy) return;
    const text = new FormData(form.current).get('text').trim();
    if (!text) return;
    const body = { order_id: order.id, text };
    key.current ??= crypto.randomUUID();
    setBusy(true);
    setError(null);
    setSaid(null);
    try {
      let outcome = 'order.noteSaved';
      try {
        if (online) onAdded(await send('POST', '/api/notes', body, { idempotencyKey: key.current }));
        else outcome = await queue(body);
      } catch (failure) {
        if (!isUncertain(failure)) throw failure;
        outcome = await queue(body);
      }
      key.current = null;
      form.current.reset();
      setSaid(outcome);
    } catch (failure) {
      key.current = null; // a refused note may be written differently
      setError(failure);
    } finally {
      setBusy(false);
    }
  };

  return (
    <section className="card order-card">
      <h2>{t('order.notes')}</h2>
      {order.notes.length === 0 && waiting.length === 0 && <p className="small">{t('order.noNotes')}</p>}
      <ul className="lines">
        {order.notes.map((note) => (
          <li className="line note" key={note.id}>
            <p>{note.text}</p>
            <p className="small">{dateTime(note.created_at)}</p>
          </li>
        ))}
        {waiting.map((entry) => (
          <li className="line" key={entry.id}>
            <p className="small">{entry.label}</p>
            <Badge status={entry.state} />
          </li>
        ))}
      </ul>
      <form className="form" ref={form} onSubmit={save}>
        <div className="field">
          <label htmlFor={id}>{t('order.addNote')}</label>
          <textarea id={id} name="text" rows={3} maxLength={1000} required />
        </div>
        {error && <LoadError error={error} />}
        <div className="actions">
          <button type="submit" className="button" aria-disabled={busy}>
            {t(busy ? 'order.savingNote' : 'order.saveNote')}
          </button>
          <p role="status" className="small">
            {said && t(said)}
          </p>
        </div>
      </form>
    </section>
  );
}

function OrderSkeleton() {
  return (
    <div className="card order-card order-skeleton" aria-hidden="true">
      <Bone className="w60" />
      <Bone className="w90" />
      <Bone className="w90" />
      <Bone className="w50" />
    </div>
  );
}
