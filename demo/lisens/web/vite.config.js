import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';
import { named } from './build/names.js';
import { lisens } from './build/plugins.js';

export default defineConfig({
  envDir: false, // what is built depends on the files here alone
  plugins: [react(), lisens({ firstRoute: 'src/pages/Shop.jsx', shell: 'src/shell.jsx', worker: 'src/offline/sw.js' })],
  // For work on the pages: `npm run dev`, with the API on its usual port.
  server: { proxy: { '/api': 'http://127.0.0.1:3000', '/healthz': 'http://127.0.0.1:3000' } },
  build: {
    target: 'es2022',
    sourcemap: true,
    modulePreload: { polyfill: false }, // it would need an inline script
    assetsInlineLimit: 0, // data: addresses would need a wider Content-Security-Policy
    rollupOptions: { output: named },
  },
});
