// The copies that klar's edge sends instead of the files: made once, as small as they get.

import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';

const TEXT = /\.(?:html|js|css|svg|json|webmanifest|txt|xml)$/;
const SMALLEST = 1024;

export async function compress(dist) {
  for (const name of await readdir(dist, { recursive: true })) {
    const path = join(dist, name);
    if (!TEXT.test(name) || (await stat(path)).size <= SMALLEST) continue;
    const content = await readFile(path);
    const params = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY, [constants.BROTLI_PARAM_SIZE_HINT]: content.length };
    await writeFile(`${path}.br`, await promisify(brotliCompress)(content, { params }));
    await writeFile(`${path}.gz`, await promisify(gzip)(content, { level: constants.Z_BEST_COMPRESSION }));
  }
}
