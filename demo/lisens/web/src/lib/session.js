import useSWR, { useSWRConfig } from 'swr';
import { forgetUser } from '../offline/index.js';
import { getJson, send } from './api.js';
import { cache } from './cache.js';

const SESSION = '/api/session';

/** Who is signed in: `user` is undefined until it is known, and null for a visitor. */
export function useSession() {
  const { data, error, isLoading } = useSWR(SESSION, getJson, { dedupingInterval: 5000 });
  return { user: data ? data.user : undefined, error, isLoading };
}

export const isOfficial = (user) => user?.role === 'official' || user?.role === 'admin';

/** signIn(email, password) and signOut(), which leave nothing behind that the next person could see. */
export function useSignInAndOut() {
  const { mutate } = useSWRConfig();
  return {
    async signIn(email, password) {
      const session = await send('POST', SESSION, { email, password });
      await forgetUser(); // of whoever was here before, in this tab or another
      forgetAllButKinds();
      await mutate(SESSION, session, { revalidate: false });
      return session;
    },
    async signOut() {
      try {
        await send('DELETE', SESSION);
      } finally {
        // Whatever the server said: here nothing is left.
        await forgetUser();
        forgetAllButKinds();
        await mutate(SESSION);
      }
    },
  };
}

function forgetAllButKinds() {
  for (const key of [...cache.keys()]) if (key !== '/api/licence-kinds' && key !== SESSION) cache.delete(key);
}
