// A long hexadecimal hash in each name: klar and browsers may then keep the file for a year.
const name = 'assets/[name]-[hash:16]';

export const named = {
  hashCharacters: 'hex',
  entryFileNames: `${name}.js`,
  chunkFileNames: `${name}.js`,
  assetFileNames: `${name}[extname]`,
};
