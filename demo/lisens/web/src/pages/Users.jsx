import { Link } from 'wouter';
import { Filter, ListCount, ListNotices, SearchBox } from '../components/ListTools.jsx';
import { PageTitle } from '../components/PageTitle.jsx';
import { Panel } from '../components/Panel.jsx';
import { VirtualList } from '../components/VirtualList.jsx';
import { useTexts } from '../i18n/index.js';
import { useFilters } from '../lib/filters.js';
import { useList } from '../lib/list.js';

const ROLES = ['user', 'official', 'admin'];

export default function Users() {
  const { t } = useTexts();
  return (
    <div className="page wide list-page">
      <PageTitle title={t('users.title')} />
      <Panel name="users" tall>
        <UserList />
      </Panel>
    </div>
  );
}

function UserList() {
  const { t, date } = useTexts();
  const [filters, setFilter] = useFilters(['q', 'role']);
  const list = useList('/api/users', 'users', filters);
  const columns = [
    {
      name: 'main',
      header: t('users.name'),
      cell: (user) => (
        <Link href={`/orders?user_id=${user.id}`} aria-label={t('users.orders', { name: user.name })}>
          {user.name}
        </Link>
      ),
    },
    { name: 'sub', header: t('users.club'), cell: (user) => user.club },
    { name: 'state', header: t('users.role'), cell: (user) => t(`role.${user.role}`) },
    { name: 'more', header: t('users.since'), cell: (user) => <time dateTime={user.created_at}>{date(user.created_at)}</time> },
  ];
  return (
    <>
      <div className="list-tools" role="search">
        <SearchBox label={t('users.search')} value={filters.q} onSearch={(q) => setFilter('q', q)} />
        <Filter
          label={t('users.role')}
          value={filters.role}
          onChange={(role) => setFilter('role', role)}
          options={[['', t('filter.all')], ...ROLES.map((role) => [role, t(`role.${role}`)])]}
        />
      </div>
      <ListCount list={list} />
      <VirtualList label={t('users.title')} className="list-users" columns={columns} list={list} notice={<ListNotices list={list} />} />
    </>
  );
}
