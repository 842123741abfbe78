import { lazy, Suspense, useState } from 'react';
import { Link, useLocation, useSearch } from 'wouter';
import { useTexts } from '../i18n/index.js';
import { countOf, useBasket } from '../lib/basket.js';
import { isOfficial, useSession } from '../lib/session.js';
import { usePending } from '../offline/index.js';
import { HeaderFrame, Mark } from './HeaderFrame.jsx';
import { Icon } from './Icon.jsx';
import { Panel } from './Panel.jsx';
import { Status } from './Status.jsx';

const BasketDialog = lazy(() => import('./BasketDialog.jsx'));
const PendingDialog = lazy(() => import('./PendingDialog.jsx'));
const AccountDialog = lazy(() => import('./AccountDialog.jsx'));
const dialogs = { basket: BasketDialog, pending: PendingDialog, account: AccountDialog };

export function Header() {
  const { t } = useTexts();
  const { user } = useSession();
  const [open, setOpen] = useState(null);
  const Dialog = dialogs[open];
  return (
    <>
      <HeaderFrame
        brand={
          <Link className="brand" href="/">
            <Mark /> {t('app.name')}
          </Link>
        }
        nav={
          <nav className="nav" aria-label={t('nav.main')}>
            <NavLink href="/">{t('nav.shop')}</NavLink>
            <NavLink href="/orders">{t('nav.orders')}</NavLink>
            <NavLink href="/licences">{t('nav.licences')}</NavLink>
            <NavLink href="/help">{t('nav.help')}</NavLink>
            {isOfficial(user) && <NavLink href="/users">{t('nav.users')}</NavLink>}
          </nav>
        }
        tools={
          <>
            <Status />
            <PendingButton user={user} onOpen={() => setOpen('pending')} />
            <BasketButton onOpen={() => setOpen('basket')} />
            <Account user={user} onOpen={() => setOpen('account')} />
          </>
        }
      />
      {Dialog && (
        <Panel key={open} name={open}>
          <Suspense fallback={null}>
            <Dialog onClose={() => setOpen(null)} user={user} />
          </Suspense>
        </Panel>
      )}
    </>
  );
}

function NavLink({ href, children }) {
  const [path] = useLocation();
  const here = href === '/' ? path === '/' : path === href || path.startsWith(`${href}/`);
  return (
    <Link href={href} aria-current={here ? 'page' : undefined}>
      {children}
    </Link>
  );
}

function BasketButton({ onOpen }) {
  const { t, number } = useTexts();
  const count = countOf(useBasket());
  return (
    <button type="button" className="tool" onClick={onOpen} aria-label={t('basket.open', { count })} aria-haspopup="dialog">
      <Icon name="basket" />
      {count > 0 && (
        <span className="tool-count" aria-hidden="true">
          {number(count)}
        </span>
      )}
    </button>
  );
}

function PendingButton({ user, onOpen }) {
  const { t } = useTexts();
  // On a shared device, what others have written is theirs to see.
  const pending = usePending().filter((entry) => String(entry.userId) === String(user?.id));
  const failed = pending.some(({ state }) => state === 'failed');
  return (
    <div role="status">
      {pending.length > 0 && (
        <button type="button" className={failed ? 'tool pending failed' : 'tool pending'} onClick={onOpen} aria-haspopup="dialog">
          <Icon name="clock" />
          <span>{t('pending.waiting', { count: pending.length })}</span>
        </button>
      )}
    </div>
  );
}

function Account({ user, onOpen }) {
  const { t } = useTexts();
  const [path] = useLocation();
  const search = useSearch();
  if (user === undefined) return <span className="tool account" aria-hidden="true" />;
  if (user === null) {
    const back = path === '/' || path === '/sign-in' ? '' : `?next=${encodeURIComponent(path + (search && `?${search}`))}`;
    return (
      <Link className="tool account" href={`/sign-in${back}`}>
        <Icon name="person" />
        <span>{t('nav.signIn')}</span>
      </Link>
    );
  }
  return (
    <button type="button" className="tool account" onClick={onOpen} aria-haspopup="dialog">
      <Icon name="person" />
      <span className="account-name wide-only">{user.name}</span>
      <span className="visually-hidden">{t('nav.account')}</span>
    </button>
  );
}
