import { chunkOf, entryOf, needed } from './chunks.js';

/**
 * Links for what the first page needs, so that the browser does not find out about it one file after the other. The
 * page can be seen before any script has run: styles and pictures come first, so scripts say that they can wait.
 */
export function head(html, bundle, firstRoute) {
  const entry = entryOf(bundle);
  const { scripts, styles } = needed(bundle, [entry, chunkOf(bundle, firstRoute)]);
  const missing = (file) => !html.includes(`/${file}"`);
  const link = (attrs) => ({ tag: 'link', attrs, injectTo: 'head' });
  const tags = [
    ...(html.includes('rel="manifest"') ? [] : [link({ rel: 'manifest', href: '/manifest.webmanifest' })]),
    ...scripts
      .filter((file) => file !== entry.fileName && missing(file))
      .map((file) => link({ rel: 'modulepreload', crossorigin: true, href: `/${file}` })),
    ...styles.filter(missing).map((file) => link({ rel: 'stylesheet', crossorigin: true, href: `/${file}` })),
  ];
  for (const { attrs } of tags) if (attrs.rel === 'modulepreload') attrs.fetchpriority = 'low';
  return { html: html.replaceAll(/<(script type="module"|link rel="modulepreload")/g, '<$1 fetchpriority="low"'), tags };
}
