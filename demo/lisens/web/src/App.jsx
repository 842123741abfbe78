import { lazy, Suspense, useEffect } from 'react';
import { SWRConfig, useSWRConfig } from 'swr';
import { Route, Switch, useLocation } from 'wouter';
import { Footer } from './components/Footer.jsx';
import { Header } from './components/Header.jsx';
import { Hero } from './components/Hero.jsx';
import { Panel } from './components/Panel.jsx';
import { RequireUser } from './components/RequireUser.jsx';
import { ListPageSkeleton, PageSkeleton } from './components/Skeleton.jsx';
import { useTexts } from './i18n/index.js';
import { onSignedOut } from './lib/api.js';
import { swrConfig } from './lib/cache.js';
import { recoverAttempt } from './lib/attempt.js';
import { start } from './offline/index.js';
import { KindsSkeleton } from './shell.jsx';

const page = (load) => lazy(() => load().catch(() => load())); // a chunk gets a second chance

const Shop = page(() => import('./pages/Shop.jsx'));
const Checkout = page(() => import('./pages/Checkout.jsx'));
const Orders = page(() => import('./pages/Orders.jsx'));
const Order = page(() => import('./pages/Order.jsx'));
const Licences = page(() => import('./pages/Licences.jsx'));
const Users = page(() => import('./pages/Users.jsx'));
const SignIn = page(() => import('./pages/SignIn.jsx'));
const Help = page(() => import('./pages/Help.jsx'));
const NotFound = page(() => import('./pages/NotFound.jsx'));

export function App() {
  return (
    <SWRConfig value={swrConfig}>
      <Background />
      <SkipLink />
      <Panel name="header">
        <Header />
      </Panel>
      <main id="main">
        <Pages />
      </main>
      <Panel name="footer">
        <Footer />
      </Panel>
    </SWRConfig>
  );
}

function Pages() {
  const [path] = useLocation();
  return (
    <Panel name="page" key={path} tall>
      <Switch>
        <Route path="/">
          <Hero />
          <Suspense fallback={<KindsSkeleton />}>
            <Shop />
          </Suspense>
        </Route>
        <Route path="/checkout">
          <Suspense fallback={<PageSkeleton />}>
            <RequireUser fallback={<PageSkeleton />}>{(user) => <Checkout user={user} />}</RequireUser>
          </Suspense>
        </Route>
        <Route path="/orders">
          <Suspense fallback={<ListPageSkeleton />}>
            <RequireUser fallback={<ListPageSkeleton />}>{(user) => <Orders user={user} />}</RequireUser>
          </Suspense>
        </Route>
        <Route path="/orders/:id">
          {({ id }) => (
            <Suspense fallback={<PageSkeleton />}>
              <RequireUser fallback={<PageSkeleton />}>{(user) => <Order id={id} user={user} />}</RequireUser>
            </Suspense>
          )}
        </Route>
        <Route path="/licences">
          <Suspense fallback={<ListPageSkeleton />}>
            <RequireUser fallback={<ListPageSkeleton />}>{(user) => <Licences user={user} />}</RequireUser>
          </Suspense>
        </Route>
        <Route path="/users">
          <Suspense fallback={<ListPageSkeleton />}>
            <RequireUser official fallback={<ListPageSkeleton />}>
              {(user) => <Users user={user} />}
            </RequireUser>
          </Suspense>
        </Route>
        <Route path="/sign-in">
          <Suspense fallback={<PageSkeleton />}>
            <SignIn />
          </Suspense>
        </Route>
        <Route path="/help">
          <Suspense fallback={<PageSkeleton />}>
            <Help />
          </Suspense>
        </Route>
        <Route>
          <Suspense fallback={<PageSkeleton />}>
            <NotFound />
          </Suspense>
        </Route>
      </Switch>
    </Panel>
  );
}

function SkipLink() {
  const { t } = useTexts();
  return (
    <a className="skip-link" href="#main">
      {t('nav.skip')}
    </a>
  );
}

/** What runs as long as the page does: sending what was queued, and noticing that the session is over. */
function Background() {
  const { mutate } = useSWRConfig();
  useEffect(() => {
    start({
      onSynced(write) {
        if (write?.path === '/api/checkout') mutate('/api/licence-kinds');
        mutate((key) => typeof key === 'string' && key.startsWith('/api/orders/'));
        // A list that is on the screen asks again now; the others when they are next looked at.
        dispatchEvent(new CustomEvent('lisens:synced', { detail: write }));
      },
    });
    recoverAttempt().catch(() => {}); // it is still there the next time
    return onSignedOut(() => mutate('/api/session'));
  }, [mutate]);
  return null;
}
