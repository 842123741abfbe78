import { readFile } from 'node:fs/promises';

const FORBIDDEN = [
  [/<style\b/i, 'a <style> element'],
  [/<[^>]*\sstyle\s*=/i, 'a style attribute'],
  [/<script\b(?![^>]*\bsrc=)/i, 'a script of its own'],
  [/<[^>]*\son[a-z]+\s*=/i, 'an event handler'],
  [/["'(]\s*data:/i, 'a data: address'],
];

/** The page runs under `default-src 'self'`; what that would stop is found here rather than by a visitor. */
export async function guard(dist) {
  const html = await readFile(`${dist}/index.html`, 'utf8');
  for (const [pattern, what] of FORBIDDEN) {
    if (pattern.test(html)) throw new Error(`index.html has ${what}: ${pattern.exec(html)[0].slice(0, 120)}`);
  }
}
