import { StrictMode, startTransition } from 'react';
import { createRoot } from 'react-dom/client';
import { preload } from 'swr';
import './styles/base.css';
import './styles/list.css';
import { App } from './App.jsx';
import { startLanguage } from './i18n/index.js';
import { getJson } from './lib/api.js';
import { restoreBasket } from './lib/basket.js';
import { reportUncaughtErrors } from './lib/client-errors.js';
import { KINDS } from './lib/kinds.js';
import { watchNavigation } from './lib/navigation.js';
import { watchStatus } from './lib/status-source.js';
import { applyRememberedTheme } from './lib/theme.js';

applyRememberedTheme();
reportUncaughtErrors();
watchNavigation();
restoreBasket();

// Asked for while the rest of the page is still on its way.
preload('/api/session', getJson).catch(() => {});
if (location.pathname === '/') preload(KINDS, getJson).catch(() => {});

await startLanguage();
watchStatus();
// The shell is on the screen already: what takes its place is drawn in small steps, so that a tap is answered meanwhile.
startTransition(() =>
  createRoot(document.querySelector('#root')).render(
    <StrictMode>
      <App />
    </StrictMode>,
  ),
);
