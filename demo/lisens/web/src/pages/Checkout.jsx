import { useEffect, useRef, useState } from 'react';
import { useSWRConfig } from 'swr';
import { Link } from 'wouter';
import { BasketLines, BasketTotal } from '../components/BasketLines.jsx';
import { LoadError } from '../components/LoadError.jsx';
import { PageTitle } from '../components/PageTitle.jsx';
import { Panel } from '../components/Panel.jsx';
import { Bone } from '../components/Skeleton.jsx';
import { useTexts } from '../i18n/index.js';
import { isNetworkFailure, isUncertain, send, serverNow } from '../lib/api.js';
import { emptyBasket, linesOf, totalOf, useBasket } from '../lib/basket.js';
import { KINDS, useKinds } from '../lib/kinds.js';
import { enqueue, useOnline } from '../offline/index.js';
import { forgetAttempt, rememberAttempt } from '../lib/attempt.js';
import './checkout.css';

export default function Checkout({ user }) {
  const [outcome, setOutcome] = useState(null);
  if (outcome) return <Outcome outcome={outcome} />;
  return <Purchase user={user} onOutcome={setOutcome} />;
}

/**
 * A purchase: the basket is confirmed, which makes its Idempotency-Key and holds places and prices; then it is paid.
 * Whatever is sent again after that, by a second click or a new attempt, carries the same key and buys once.
 */
function Purchase({ user, onOutcome }) {
  const { t, money, kindName } = useTexts();
  const basket = useBasket();
  const online = useOnline();
  const { mutate } = useSWRConfig();
  const { kinds, error: kindsError, retry } = useKinds();
  const [reservation, setReservation] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const key = useRef(null);
  const tried = useRef(false); // with this key: from then on only the very same request may follow
  const sending = useRef(false); // two clicks may come before the first is drawn

  const lines = kinds ? linesOf(basket, kinds) : [];
  const items = lines.map(({ kind, quantity }) => ({ licence_kind: kind, quantity }));
  const label = t('checkout.label', { items: lines.map(({ kind, quantity }) => `${quantity} × ${kindName(kind)}`).join(', ') });

  const queue = async (body) => {
    await enqueue({ path: '/api/checkout', body, userId: user.id, label, idempotencyKey: key.current });
    emptyBasket();
    onOutcome({ queued: true });
  };

  const once = async (work) => {
    if (sending.current) return;
    sending.current = true;
    setBusy(true);
    setError(null);
    try {
      await work();
    } catch (failure) {
      if (failure.code === 'reservation_gone' || failure.code === 'sold_out') {
        setReservation(null);
        mutate(KINDS);
      }
      setError(failure);
    } finally {
      sending.current = false;
      setBusy(false);
    }
  };

  const confirm = () =>
    once(async () => {
      key.current = crypto.randomUUID();
      tried.current = false;
      if (!online) return queue({ items });
      try {
        setReservation(await send('POST', '/api/reservations', { items }));
      } catch (failure) {
        if (!isNetworkFailure(failure)) throw failure;
        await queue({ items });
      }
    });

  const pay = () =>
    once(async () => {
      const body = { reservation_id: reservation.id };
      // The network may stay away for longer than the reservation holds: what was never sent can ask for the items.
      if (!online) return queue(tried.current ? body : { items });
      try {
        tried.current = true;
        rememberAttempt({ path: '/api/checkout', body, userId: user.id, label, idempotencyKey: key.current });
        const order = await send('POST', '/api/checkout', body, { idempotencyKey: key.current });
        forgetAttempt();
        mutate(KINDS);
        mutate(`/api/orders/${order.id}`, order, { revalidate: false });
        emptyBasket();
        onOutcome({ order });
      } catch (failure) {
        // It may have arrived, though no answer did: the very same request has to follow it.
        if (isUncertain(failure)) await queue(body);
        forgetAttempt();
        if (!isUncertain(failure)) throw failure;
      }
    });

  const change = () => {
    send('DELETE', `/api/reservations/${reservation.id}`).catch(() => {}); // it ends by itself, too
    setReservation(null);
  };

  const expire = () => {
    setReservation(null);
    setError({ code: 'reservation_gone' });
  };

  return (
    <div className="page narrow">
      <PageTitle title={t('checkout.title')} />
      <Panel name="checkout" tall>
        {!kinds && kindsError && <LoadError error={kindsError} retry={retry} />}
        {!kinds && !kindsError && (
          <div className="card skeleton-card">
            <Bone className="w60" />
            <Bone className="w90" />
          </div>
        )}
        {kinds && lines.length === 0 && (
          <>
            <p className="lead">{t('basket.empty')}</p>
            <Link className="button" href="/">
              {t('basket.toShop')}
            </Link>
          </>
        )}
        {lines.length > 0 && (
          <div className="card form">
            {reservation ? (
              <Countdown until={reservation.expires_at} onEnd={expire} />
            ) : (
              <p>{t(online ? 'checkout.review' : 'checkout.offline')}</p>
            )}
            <BasketLines lines={lines} editable={!reservation} disabled={busy} />
            <BasketTotal ore={reservation?.total_ore ?? totalOf(lines)} />
            {error && <LoadError error={error} />}
            <div className="actions">
              {reservation ? (
                <>
                  <button type="button" className="button primary" onClick={pay} aria-disabled={busy}>
                    {busy ? t('checkout.paying') : t('checkout.pay', { amount: money(reservation.total_ore) })}
                  </button>
                  <button type="button" className="button plain" onClick={change} disabled={busy}>
                    {t('checkout.change')}
                  </button>
                </>
              ) : (
                <button type="button" className="button primary" onClick={confirm} aria-disabled={busy}>
                  {t(busy ? 'checkout.confirming' : online ? 'checkout.confirm' : 'checkout.queue')}
                </button>
              )}
            </div>
          </div>
        )}
      </Panel>
    </div>
  );
}

/** The minutes and seconds that are left. Heard once a minute only. */
function Countdown({ until, onEnd }) {
  const { t } = useTexts();
  const end = Date.parse(until);
  const [now, setNow] = useState(serverNow);
  const left = Math.max(0, Math.floor((end - now) / 1000));
  const ended = left === 0;
  const finish = useRef(onEnd);
  finish.current = onEnd;

  useEffect(() => {
    const timer = setInterval(() => setNow(serverNow()), 1000);
    return () => clearInterval(timer);
  }, []);

  useEffect(() => {
    if (ended) finish.current();
  }, [ended]);

  const time = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}`;
  return (
    <div className="countdown" data-short={left < 60}>
      <span>{t('checkout.reserved')}</span>
      <span className="countdown-time" role="timer">
        {time}
      </span>
      <span className="visually-hidden" role="status">
        {t('checkout.minutesLeft', { count: Math.ceil(left / 60) })}
      </span>
    </div>
  );
}

function Outcome({ outcome }) {
  const { t } = useTexts();
  const { order } = outcome;
  return (
    <div className="page narrow">
      <PageTitle key="outcome" focus title={t(order ? 'checkout.doneTitle' : 'checkout.queuedTitle')} />
      <p className={order ? 'notice good' : 'notice warn'} role="status">
        {order ? t('checkout.done', { id: String(order.id) }) : t('checkout.queued')}
      </p>
      <Link className="button primary" href={order ? `/orders/${order.id}` : '/orders'}>
        {t(order ? 'checkout.seeOrder' : 'checkout.toOrders')}
      </Link>
    </div>
  );
}
