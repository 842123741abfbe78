const files = (kind, type) => `/images/kind-${kind}-320.${type} 320w, /images/kind-${kind}-640.${type} 640w`;
const SIZES = '(min-width: 40rem) 20rem, 8rem';

/** A picture of a licence kind. It decorates the name beside it, so it needs no text of its own. */
export function KindImage({ kind, eager = false }) {
  return (
    <picture>
      <source type="image/avif" srcSet={files(kind, 'avif')} sizes={SIZES} />
      <source type="image/webp" srcSet={files(kind, 'webp')} sizes={SIZES} />
      <img
        src={`/images/kind-${kind}-320.jpg`}
        srcSet={files(kind, 'jpg')}
        sizes={SIZES}
        width="320"
        height="200"
        alt=""
        loading={eager ? undefined : 'lazy'}
        decoding="async"
      />
    </picture>
  );
}
