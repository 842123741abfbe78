import js from '@eslint/js';
import reactHooks from 'eslint-plugin-react-hooks';
import globals from 'globals';

export default [
  { ignores: ['**/dist/', '**/node_modules/', 'coverage/'] },
  js.configs.recommended,
  {
    rules: {
      eqeqeq: 'error',
      'no-var': 'error',
      'prefer-const': 'error',
      'no-implicit-coercion': 'error',
      'no-unused-vars': ['error', { ignoreRestSiblings: true }],
    },
  },
  { files: ['**/*.js'], ignores: ['web/src/**'], languageOptions: { globals: globals.node } },
  // What runs in the page is written beside what drives it.
  { files: ['test/browser/**'], languageOptions: { globals: { ...globals.node, ...globals.browser } } },
  { files: ['web/src/offline/sw.js'], languageOptions: { globals: { __MANIFEST__: 'readonly' } } },
  {
    files: ['web/src/**'],
    plugins: { 'react-hooks': reactHooks },
    languageOptions: { globals: { ...globals.browser, ...globals.serviceworker }, parserOptions: { ecmaFeatures: { jsx: true } } },
    rules: { 'react-hooks/rules-of-hooks': 'error', 'react-hooks/exhaustive-deps': 'error' },
  },
];
