import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

// A long hexadecimal hash in each name: klar and browsers may then keep the file for a year.
const named = 'assets/[name]-[hash:16]';

export default defineConfig({
  plugins: [react()],
  build: {
    target: 'es2022',
    sourcemap: true,
    modulePreload: { polyfill: false }, // it would need an inline script
    assetsInlineLimit: 0, // data: addresses would need a wider Content-Security-Policy
    rollupOptions: {
      output: {
        hashCharacters: 'hex',
        entryFileNames: `${named}.js`,
        chunkFileNames: `${named}.js`,
        assetFileNames: `${named}[extname]`,
      },
    },
  },
});
