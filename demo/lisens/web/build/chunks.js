// Questions about what Vite has bundled.

/** The chunk made of a source file, by the end of its path. */
export function chunkOf(bundle, source) {
  return chunks(bundle).find((chunk) => chunk.facadeModuleId?.replaceAll('\\', '/').endsWith(`/${source}`));
}

export function entryOf(bundle) {
  return chunks(bundle).find((chunk) => chunk.isEntry);
}

/** The files needed to run these chunks: themselves, what they import statically, and their styles. */
export function needed(bundle, roots) {
  const scripts = new Set();
  const styles = new Set();
  const add = (chunk) => {
    if (!chunk || chunk.type !== 'chunk' || scripts.has(chunk.fileName)) return;
    for (const file of chunk.imports) add(bundle[file]);
    scripts.add(chunk.fileName);
    for (const file of chunk.viteMetadata?.importedCss ?? []) styles.add(file);
  };
  roots.forEach(add);
  return { scripts: [...scripts], styles: [...styles] };
}

function chunks(bundle) {
  return Object.values(bundle).filter((file) => file.type === 'chunk');
}
