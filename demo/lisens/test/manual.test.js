// The manual: the same in three languages, a section for every route, links that lead somewhere, and no label in bold
// that is not on the screen.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

const docs = new URL('../docs/', import.meta.url);
const pages = new URL('../web/src/', import.meta.url);
const LANGUAGES = ['nb', 'sv', 'en'];
const nameOf = (language) => `manual.${language}.md`;
const read = (file) => readFileSync(new URL(file, docs), 'utf8');

/** The headings in order: how deep, the anchor before the text, and the routes in code font. */
function sectionsOf(text) {
  return [...text.matchAll(/^(#{2,}) (.*)$/gm)].map(([, hashes, heading]) => ({
    depth: hashes.length,
    anchor: /^<a id="([\w-]+)"><\/a>/.exec(heading)?.[1],
    routes: [...heading.matchAll(/`(\/[^`]*)`/g)].map(([, route]) => route),
  }));
}

const anchorsOf = (text) => [...text.matchAll(/<a id="([^"]+)">/g)].map(([, anchor]) => anchor);
const linksOf = (text) => [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link);
const labelsOf = (text) => [...text.matchAll(/\*\*(.+?)\*\*/g)].map(([, label]) => label);

/** The texts of a dictionary, in all their plural forms; in the manual … stands for what varies. */
function textsOf(dictionary) {
  const forms = Object.values(dictionary).flatMap((entry) => (typeof entry === 'string' ? [entry] : Object.values(entry)));
  return new Set(forms.map((text) => text.replace(/\{\w+\}/g, '…')));
}

function routesOfApp() {
  const app = readFileSync(new URL('App.jsx', pages), 'utf8');
  return [...app.matchAll(/<Route\b[^>]*\bpath="([^"]+)"/g)].map(([, route]) => route);
}

test('the manual has the same sections in the same order in every language', () => {
  const [first, ...others] = LANGUAGES.map((language) => sectionsOf(read(nameOf(language))));
  assert.ok(first.length > 0);
  for (const other of others) assert.deepEqual(other, first);
});

test('the manual links to the same places in the same order in every language', () => {
  const [first, ...others] = LANGUAGES.map((language) => linksOf(read(nameOf(language))));
  for (const other of others) assert.deepEqual(other, first);
});

for (const language of LANGUAGES) {
  const file = nameOf(language);
  const text = read(file);

  test(`${file} has one section for every route`, () => {
    const routes = routesOfApp();
    assert.ok(routes.length > 0, 'App.jsx has routes');
    const documented = sectionsOf(text).flatMap((section) => section.routes);
    assert.deepEqual(documented.toSorted(), routes.toSorted());
  });

  test(`every section of ${file} has an anchor of its own`, () => {
    const anchors = sectionsOf(text).map(({ anchor }) => anchor);
    assert.ok(!anchors.includes(undefined), 'a heading without an anchor');
    assert.equal(new Set(anchorsOf(text)).size, anchorsOf(text).length, 'an anchor twice');
    assert.deepEqual(anchorsOf(text), anchors);
  });

  test(`every link of ${file} leads to a file and an anchor that exist`, () => {
    const links = linksOf(text).filter((link) => !/^[a-z]+:/.test(link));
    for (const other of LANGUAGES) assert.ok(links.includes(nameOf(other)), `a link to ${nameOf(other)}`);
    for (const link of links) {
      const [path, anchor] = link.split('#');
      const target = path || file;
      assert.ok(existsSync(new URL(target, docs)), link);
      if (anchor !== undefined) assert.ok(anchorsOf(read(target)).includes(anchor), link);
    }
  });

  test(`every label in ${file} is a text on the screen`, async () => {
    const { default: dictionary } = await import(new URL(`i18n/${language}.js`, pages));
    const texts = textsOf(dictionary);
    assert.equal(text.split('**').length % 2, 1, 'a ** without its partner');
    assert.ok(labelsOf(text).length > 0);
    assert.deepEqual(
      [...new Set(labelsOf(text))].filter((label) => !texts.has(label)),
      [],
    );
  });
}
