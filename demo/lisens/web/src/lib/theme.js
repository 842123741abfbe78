import { createStore, remembered } from './store.js';

export const THEMES = ['system', 'light', 'dark'];
const store = createStore('system');

export function applyRememberedTheme() {
  const theme = remembered.read('lisens.theme');
  if (THEMES.includes(theme)) show(theme);
}

export function chooseTheme(theme) {
  remembered.write('lisens.theme', theme === 'system' ? null : theme);
  show(theme);
}

function show(theme) {
  store.set(theme);
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export const useTheme = store.use;
