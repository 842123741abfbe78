// Draws the scenes in the sizes and formats that the pages use, into public/. Sharp is not one of the shop's packages,
// as this runs once in a while only. In a folder with sharp in it: NODE_PATH=<folder>/node_modules node images/render.js

import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { cards, hero, icon } from './scenes.js';

const sharp = createRequire(import.meta.url)('sharp');
const folder = fileURLToPath(new URL('../public/', import.meta.url));
mkdirSync(`${folder}images`, { recursive: true });

async function picture(svg, drawn, name, width) {
  const image = sharp(Buffer.from(svg), { density: (72 * width * 2) / drawn }).resize(width);
  await image.clone().avif({ quality: 56, effort: 9, chromaSubsampling: '4:4:4' }).toFile(`${folder}images/${name}-${width}.avif`);
  await image.clone().webp({ quality: 76, effort: 6 }).toFile(`${folder}images/${name}-${width}.webp`);
  await image.clone().jpeg({ quality: 76, mozjpeg: true }).toFile(`${folder}images/${name}-${width}.jpg`);
}

for (const width of [480, 960, 1440]) await picture(hero(), 960, 'hero', width);
for (const [kind, draw] of Object.entries(cards)) for (const width of [320, 640]) await picture(draw(), 640, `kind-${kind}`, width);

for (const [name, size, options] of [
  ['icon-192', 192],
  ['icon-512', 512],
  ['icon-maskable', 512, { rounded: false, inset: 0.2 }],
])
  await sharp(Buffer.from(icon(size, options)))
    .png({ palette: true })
    .toFile(`${folder}${name}.png`);
