import { useCallback, useState } from 'react';
import { Link } from 'wouter';
import { Badge } from '../components/Badge.jsx';
import { BulkBar } from '../components/BulkBar.jsx';
import { Filter, ListCount, ListNotices, SearchBox } from '../components/ListTools.jsx';
import { PageTitle } from '../components/PageTitle.jsx';
import { Panel } from '../components/Panel.jsx';
import { VirtualList } from '../components/VirtualList.jsx';
import { useTexts } from '../i18n/index.js';
import { useFilters } from '../lib/filters.js';
import { KIND_NAMES } from '../lib/kinds.js';
import { useList } from '../lib/list.js';
import { isOfficial } from '../lib/session.js';

const STATUSES = ['active', 'suspended'];
const NONE = new Set();

export default function Licences({ user }) {
  const { t } = useTexts();
  const official = isOfficial(user);
  return (
    <div className="page wide list-page">
      <PageTitle title={t(official ? 'licences.titleAll' : 'licences.title')} />
      <Panel name="licences" tall>
        <LicenceList official={official} />
      </Panel>
    </div>
  );
}

function LicenceList({ official }) {
  const { t, date, kindName } = useTexts();
  const [filters, setFilter] = useFilters(['q', 'kind', 'status']);
  const list = useList('/api/licences', 'licences', filters);
  const [picked, setPicked] = useState(NONE);

  const pick = useCallback(
    (id) =>
      setPicked((before) => {
        const after = new Set(before);
        if (!after.delete(id)) after.add(id);
        return after;
      }),
    [],
  );

  // What cannot be seen should not be changed along: another filter is another selection.
  const filter = (name, value) => {
    setPicked(NONE);
    setFilter(name, value);
  };

  const unpick = (ids) => setPicked((before) => new Set([...before].filter((id) => !ids.includes(id))));

  const columns = [
    {
      name: 'main',
      header: t('licences.kind'),
      cell: (licence) => <Link href={`/orders/${licence.order_id}`}>{kindName(licence.kind)}</Link>,
    },
    { name: 'sub', header: t('licences.holder'), cell: (licence) => licence.user_name },
    { name: 'extra', header: t('licences.number'), cell: (licence) => licence.id },
    {
      name: 'more',
      header: t('licences.period'),
      cell: (licence) => (
        <>
          <span className="wide-only">{date(licence.valid_from)} </span>– {date(licence.valid_until)}
        </>
      ),
    },
    { name: 'state', header: t('licences.status'), cell: (licence) => <Badge status={licence.status} /> },
  ];
  if (official) {
    columns.unshift({
      name: 'pick',
      header: <span className="visually-hidden">{t('licences.pick')}</span>,
      cell: (licence) => (
        <label>
          <input type="checkbox" checked={picked.has(licence.id)} onChange={() => pick(licence.id)} />
          <span className="visually-hidden">{t('licences.pickOne', { id: String(licence.id), name: licence.user_name })}</span>
        </label>
      ),
    });
  }

  return (
    <>
      <div className="list-tools" role="search">
        <SearchBox label={t(official ? 'licences.search' : 'licences.searchOwn')} value={filters.q} onSearch={(q) => filter('q', q)} />
        <div className="list-filters">
          <Filter
            label={t('licences.kind')}
            value={filters.kind}
            onChange={(kind) => filter('kind', kind)}
            options={[['', t('filter.all')], ...KIND_NAMES.map((kind) => [kind, kindName(kind)])]}
          />
          <Filter
            label={t('licences.status')}
            value={filters.status}
            onChange={(status) => filter('status', status)}
            options={[['', t('filter.all')], ...STATUSES.map((status) => [status, t(`state.${status}`)])]}
          />
        </div>
      </div>
      {official && <BulkBar picked={picked} onUnpick={unpick} onChanged={list.change} />}
      <ListCount list={list} />
      <VirtualList
        label={t('licences.title')}
        className={official ? 'list-licences picking' : 'list-licences'}
        columns={columns}
        list={list}
        notice={<ListNotices list={list} empty={filters.q || filters.kind || filters.status ? undefined : t('licences.none')} />}
        rowClass={(licence) => (picked.has(licence.id) ? 'chosen' : '')}
      />
    </>
  );
}
