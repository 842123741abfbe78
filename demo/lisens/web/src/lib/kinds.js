import useSWR from 'swr';
import { getJson } from './api.js';

export const KINDS = '/api/licence-kinds';

/** How many kinds there are: as many skeletons are drawn. */
export const KIND_COUNT = 10;

/** For filters, which should not have to wait for the price list. */
export const KIND_NAMES = [
  'helarslisens',
  'engangslisens',
  'mekaniker',
  'barnelisens',
  'ungdomslisens',
  'kartleser',
  'funksjonaer',
  'ledsager',
  'anmelder',
  'finalelisens',
];

export function useKinds() {
  const { data, error, mutate } = useSWR(KINDS, getJson);
  return { kinds: data?.licence_kinds, cachedAt: data?.cachedAt, error, retry: () => mutate() };
}
