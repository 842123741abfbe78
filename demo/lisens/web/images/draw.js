// Writes the scenes as SVG files into a folder, to be looked at: node images/draw.js [folder]

import { mkdirSync, writeFileSync } from 'node:fs';
import { cards, hero } from './scenes.js';

const folder = process.argv[2] ?? 'images/svg';
mkdirSync(folder, { recursive: true });
writeFileSync(`${folder}/hero.svg`, hero());
for (const [kind, draw] of Object.entries(cards)) writeFileSync(`${folder}/kind-${kind}.svg`, draw());
