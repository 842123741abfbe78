import { useTexts } from '../i18n/index.js';

export function Bone({ className = '' }) {
  return <span className={`bone ${className}`} />;
}

export function KindCardSkeleton() {
  return (
    <li className="kind">
      <div className="kind-image bone" />
      <div className="kind-body">
        <h3>
          <Bone className="w60" />
        </h3>
        <p className="kind-for">
          <Bone className="w90" />
        </p>
        <p className="kind-facts">
          <Bone className="w50" />
        </p>
        <div className="kind-buy">
          <Bone className="price-bone" />
          <Bone className="button-bone" />
        </div>
      </div>
    </li>
  );
}

export function PageSkeleton() {
  const { t } = useTexts();
  return (
    <div className="page" role="status" aria-label={t('list.loading')}>
      <div className="title-bone">
        <Bone className="w40" />
      </div>
      <div className="card skeleton-card">
        <Bone className="w60" />
        <Bone className="w90" />
        <Bone className="w50" />
      </div>
    </div>
  );
}

/** Stands where a page with a list will be, with everything in its place. */
export function ListPageSkeleton() {
  const { t } = useTexts();
  return (
    <div className="page wide" role="status" aria-label={t('list.loading')}>
      <div className="title-bone">
        <Bone className="w40" />
      </div>
      <div className="list-tools">
        <Bone className="field-bone" />
      </div>
      <p className="list-count">
        <Bone className="w40" />
      </p>
      <div className="list-scroll">
        <RowSkeletons count={14} />
      </div>
    </div>
  );
}

export function RowSkeletons({ count }) {
  return Array.from({ length: count }, (_, place) => (
    <div className="row row-skeleton" key={place} aria-hidden="true">
      <Bone className="w60" />
      <Bone className="w40" />
    </div>
  ));
}
