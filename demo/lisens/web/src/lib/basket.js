// What somebody is about to buy: a quantity for each kind, kept between visits.

import { createStore, remembered } from './store.js';

export const MOST_OF_A_KIND = 20;
const EMPTY = Object.freeze({});
const store = createStore(EMPTY);

export function restoreBasket() {
  try {
    const kept = JSON.parse(remembered.read('lisens.basket') ?? '{}');
    const sound = Object.entries(kept).filter(([, quantity]) => Number.isInteger(quantity) && quantity > 0);
    store.set(Object.fromEntries(sound.map(([kind, quantity]) => [kind, Math.min(quantity, MOST_OF_A_KIND)])));
  } catch {
    store.set(EMPTY);
  }
}

export function setQuantity(kind, quantity) {
  const { [kind]: _, ...others } = store.get();
  keep(quantity > 0 ? { ...others, [kind]: Math.min(quantity, MOST_OF_A_KIND) } : others);
}

export const addToBasket = (kind, quantity = 1) => setQuantity(kind, (store.get()[kind] ?? 0) + quantity);

export const emptyBasket = () => keep(EMPTY);

function keep(basket) {
  store.set(basket);
  remembered.write('lisens.basket', JSON.stringify(basket));
}

/** The basket as `{ kind: quantity }`. */
export const useBasket = store.use;

export const countOf = (basket) => Object.values(basket).reduce((sum, quantity) => sum + quantity, 0);

/** The lines of a basket in the order of the shop, with names and prices; kinds no longer sold are left out. */
export function linesOf(basket, kinds) {
  return kinds
    .filter(({ kind }) => basket[kind])
    .map((kind) => ({ ...kind, quantity: basket[kind.kind], sum_ore: kind.price_ore * basket[kind.kind] }));
}

export const totalOf = (lines) => lines.reduce((sum, line) => sum + line.sum_ore, 0);
