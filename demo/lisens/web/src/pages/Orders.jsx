import { useEffect, useState } from 'react';
import { Link } from 'wouter';
import { Badge } from '../components/Badge.jsx';
import { Icon } from '../components/Icon.jsx';
import { Filter, ListCount, ListNotices, SearchBox } from '../components/ListTools.jsx';
import { PageTitle } from '../components/PageTitle.jsx';
import { Panel } from '../components/Panel.jsx';
import { VirtualList } from '../components/VirtualList.jsx';
import { useTexts } from '../i18n/index.js';
import { useFilters } from '../lib/filters.js';
import { useList } from '../lib/list.js';
import { isOfficial } from '../lib/session.js';
import { usePending } from '../offline/index.js';

const STATUSES = ['paid', 'refunded'];

export default function Orders({ user }) {
  const { t } = useTexts();
  const official = isOfficial(user);
  return (
    <div className="page wide list-page">
      <PageTitle title={t(official ? 'orders.titleAll' : 'orders.title')} />
      <WaitingPurchases user={user} />
      <Panel name="orders" tall>
        <OrderList official={official} />
      </Panel>
    </div>
  );
}

function OrderList({ official }) {
  const { t, money } = useTexts();
  const [filters, setFilter] = useFilters(['q', 'status', 'user_id']);
  const list = useList('/api/orders', 'orders', filters);
  const columns = [
    {
      name: 'main',
      header: t('orders.number'),
      cell: (order) => (
        <Link href={`/orders/${order.id}`} state={{ fromList: true }}>
          {t('orders.one', { id: String(order.id) })}
        </Link>
      ),
    },
    { name: 'sub', header: t('orders.buyer'), cell: (order) => order.user_name },
    { name: 'more', header: t('orders.when'), cell: (order) => <Moment iso={order.created_at} /> },
    { name: 'state', header: t('orders.status'), cell: (order) => <Badge status={order.status} /> },
    { name: 'end', header: t('orders.total'), cell: (order) => money(order.total_ore) },
  ];
  return (
    <>
      <div className="list-tools" role="search">
        <SearchBox label={t(official ? 'orders.search' : 'orders.searchOwn')} value={filters.q} onSearch={(q) => setFilter('q', q)} />
        <Filter
          label={t('orders.status')}
          value={filters.status}
          onChange={(status) => setFilter('status', status)}
          options={[['', t('filter.all')], ...STATUSES.map((status) => [status, t(`state.${status}`)])]}
        />
      </div>
      <ListCount list={list}>
        {filters.user_id && (
          <button type="button" className="button plain" onClick={() => setFilter('user_id', '')}>
            <Icon name="close" />
            {list.rows.length > 0 ? t('users.orders', { name: list.rows[0].user_name }) : t('orders.everybody')}
            <span className="visually-hidden"> – {t('orders.everybody')}</span>
          </button>
        )}
      </ListCount>
      <VirtualList
        label={t('orders.title')}
        className="list-orders"
        columns={columns}
        list={list}
        notice={<ListNotices list={list} empty={filters.q || filters.status ? undefined : t('orders.none')} />}
      />
    </>
  );
}

function Moment({ iso }) {
  const { date, time } = useTexts();
  return (
    <time dateTime={iso}>
      {date(iso)}
      <span className="wide-only"> {time(iso)}</span>
    </time>
  );
}

/** Purchases that have not reached the server yet, and, so that nothing jumps, those that just did. */
function WaitingPurchases({ user }) {
  const { t, time } = useTexts();
  const [arrived, setArrived] = useState([]);
  const ours = (entry) => entry.path === '/api/checkout' && String(entry.userId) === String(user.id);
  const waiting = usePending().filter(ours);

  useEffect(() => {
    const note = ({ detail }) => setArrived((before) => [...before.filter(({ id }) => id !== detail.id), detail]);
    addEventListener('lisens:synced', note);
    return () => removeEventListener('lisens:synced', note);
  }, []);

  const sent = arrived.filter((entry) => ours(entry) && entry.answer?.id && !waiting.some(({ id }) => id === entry.id));
  if (waiting.length + sent.length === 0) return null;
  return (
    <section className={waiting.length > 0 ? 'waiting' : 'waiting sent'} aria-labelledby="waiting-heading">
      <h2 id="waiting-heading">{t(waiting.length > 0 ? 'orders.waiting' : 'orders.sent')}</h2>
      <div role="status">
        <ul>
          {waiting.map((entry) => (
            <li key={entry.id}>
              <Icon name="clock" />
              <span>{entry.label}</span>
              <span className="small">{time(entry.createdAt)}</span>
              <Badge status={entry.state} />
            </li>
          ))}
          {sent.map((entry) => (
            <li key={entry.id}>
              <Icon name="check" />
              <span>{entry.label}</span>
              <Link href={`/orders/${entry.answer.id}`}>{t('orders.one', { id: String(entry.answer.id) })}</Link>
              <Badge status={entry.answer.status} />
            </li>
          ))}
        </ul>
      </div>
    </section>
  );
}
