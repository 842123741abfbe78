// How the present page was reached. Going back keeps scroll positions; a link starts at the top.

let way = 'load';

export function watchNavigation() {
  addEventListener('popstate', () => (way = 'back'));
  addEventListener('pushState', () => (way = 'link')); // wouter tells of these two
  addEventListener('replaceState', () => (way = 'link'));
}

export const reachedBy = () => way;

const offsets = new Map();

/** Keeps the scroll offset of a list under its address. */
export const keepOffset = (address, offset) => offsets.set(address, offset);
export const keptOffset = (address) => (way === 'back' ? (offsets.get(address) ?? 0) : 0);
