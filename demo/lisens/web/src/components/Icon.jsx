// Small pictures that stand beside a text, drawn with lines.

const PATHS = {
  basket: 'M4 9h16l-1.6 10.2a1 1 0 0 1-1 .8H6.6a1 1 0 0 1-1-.8zM8.5 9l2-5M15.5 9l-2-5',
  clock: 'M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16zM12 8v4.5l3 2',
  person: 'M12 5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7zM5 20c.6-3.4 3.4-5.2 7-5.2s6.4 1.8 7 5.2',
  close: 'M6 6l12 12M18 6L6 18',
  plus: 'M12 5v14M5 12h14',
  minus: 'M5 12h14',
  search: 'M10.5 5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11zM15 15l5 5',
  back: 'M11 6l-6 6 6 6M5 12h14',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  refresh: 'M19 12a7 7 0 1 1-2-4.9M19 4v4h-4',
  warning: 'M12 4.5l8.5 15h-17zM12 10.5v4M12 16.8v.4',
};

export function Icon({ name }) {
  return (
    <svg className="icon" viewBox="0 0 24 24" width="20" height="20" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
