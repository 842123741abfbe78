// What somebody typed into a search box, as PostgreSQL understands it.

export const searchParameter = {
  type: 'string',
  minLength: 1,
  maxLength: 100,
  pattern: '^[^\\u0000]*$',
  description: 'words of the name, each of which may be cut short; or a number',
};

/**
 * `number` for text that is one, else `words` for to_tsquery: every word has to
 * be there, or one that begins with it. Nothing but letters and digits gets through.
 */
export function readSearch(q) {
  if (q === undefined) return { number: null, words: null };
  const [, digits] = /^\s*#?([1-9]\d{0,14})\s*$/.exec(q) ?? [];
  if (digits) return { number: Number(digits), words: null };
  const words = q.match(/[\p{L}\p{N}]+/gu) ?? [];
  return { number: null, words: words.map((word) => `${word}:*`).join(' & ') };
}
