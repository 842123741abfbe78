import { chunkOf, entryOf, needed } from './chunks.js';

/** Links for what the first page needs, so that the browser does not find out about it one file after the other. */
export function headLinks(html, bundle, firstRoute) {
  const entry = entryOf(bundle);
  const { scripts, styles } = needed(bundle, [entry, chunkOf(bundle, firstRoute)]);
  const missing = (file) => !html.includes(`/${file}"`);
  const link = (attrs) => ({ tag: 'link', attrs, injectTo: 'head' });
  return [
    ...(html.includes('rel="manifest"') ? [] : [link({ rel: 'manifest', href: '/manifest.webmanifest' })]),
    ...scripts
      .filter((file) => file !== entry.fileName && missing(file))
      .map((file) => link({ rel: 'modulepreload', crossorigin: true, href: `/${file}` })),
    ...styles.filter(missing).map((file) => link({ rel: 'stylesheet', crossorigin: true, href: `/${file}` })),
  ];
}
