// What the scenes are put together from. Coordinates are whole or halved pixels of a 640x400 card.

export const ink = {
  night: '#0c2a31',
  deep: '#103d44',
  pine: '#0b5c4a',
  moss: '#2b7f68',
  teal: '#3f9088',
  fjord: '#79b5aa',
  mist: '#b5d6cb',
  dusk: '#f0b184',
  glow: '#ffd8a3',
  cream: '#fbf1df',
  red: '#d9502c',
  rust: '#a53a22',
};

/** Numbers that look thrown but are the same each time. */
export function dice(seed) {
  let state = seed;
  return (low, high) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return low + (state / 2 ** 32) * (high - low);
  };
}

const at = (x, y, scale, content, turn = 0) => `<g transform="translate(${x} ${y}) rotate(${turn}) scale(${scale})">${content}</g>`;
export const path = (d, fill, more = '') => `<path d="${d}" fill="${fill}" ${more}/>`;
export const circle = (x, y, r, fill, more = '') => `<circle cx="${x}" cy="${y}" r="${r}" fill="${fill}" ${more}/>`;
export const rect = (x, y, w, h, fill, more = '') => `<rect x="${x}" y="${y}" width="${w}" height="${h}" fill="${fill}" ${more}/>`;
export const line = (d, stroke, width, more = '') =>
  `<path d="${d}" fill="none" stroke="${stroke}" stroke-width="${width}" stroke-linecap="round" stroke-linejoin="round" ${more}/>`;
export const group = at;

export function gradient(id, stops, more = 'x1="0" y1="0" x2="0" y2="1"') {
  return `<linearGradient id="${id}" ${more}>${stops.map(([offset, colour]) => `<stop offset="${offset}" stop-color="${colour}"/>`).join('')}</linearGradient>`;
}

/** A line of mountains from edge to edge, closed at the bottom. */
export function ridge(width, base, heights, bottom, fill) {
  const step = width / (heights.length - 1);
  const points = heights.map((height, i) => `${(i * step).toFixed(1)} ${(base - height).toFixed(1)}`);
  return path(`M0 ${bottom}L${points.join('L')}L${width} ${bottom}Z`, fill);
}

export function spruce(x, y, height, fill = ink.deep) {
  const tier = (top, bottom, half) =>
    `M0 ${-top * height}L${half * height} ${-bottom * height}Q0 ${-(bottom - 0.03) * height} ${-half * height} ${-bottom * height}Z`;
  const tiers = tier(1, 0.64, 0.13) + tier(0.8, 0.36, 0.19) + tier(0.56, 0.07, 0.25);
  return at(x, y, 1, path(tiers, fill) + rect(-0.025 * height, -0.09 * height, 0.05 * height, 0.1 * height, fill));
}

export function forest(from, to, y, seed, low, high, fill, slope = 0) {
  const throwIt = dice(seed);
  let trees = '';
  for (let x = from; x < to; x += throwIt(0.2, 0.42) * high) trees += spruce(x, y + slope * (x - from), throwIt(low, high), fill);
  return trees;
}

export function wheel(x, y, r, turn = 0) {
  const spokes = [0, 72, 144, 216, 288].map(
    (angle) => `<path d="M-2.6 0L-1.6 -13L1.6 -13L2.6 0Z" transform="rotate(${angle + turn})" fill="${ink.mist}"/>`,
  );
  return at(x, y, r / 20, circle(0, 0, 20, ink.night) + circle(0, 0, 13.5, ink.deep) + spokes.join('') + circle(0, 0, 4, ink.cream));
}

/** A rally car from its side, 240 x 96, its wheels on y = 93. */
export function car(x, y, scale, { body = ink.red, shade = ink.rust, plate = true, turn = 0, lights = true } = {}) {
  const hull =
    'M7 66L9 45Q10 36 22 34L38 31L60 13Q66 9 76 9L124 9Q136 9 145 16L172 36L212 42Q230 45 233 58L234 70Q234 76 227 76L14 76Q7 76 7 66Z';
  return at(
    x,
    y,
    scale,
    [
      path('M16 7L60 2L61 8L22 15Z', shade),
      path('M36 11L44 10L50 26L40 31Z', shade),
      path(hull, body),
      path('M7 60L234 60L234 70Q234 76 227 76L14 76Q7 76 7 66Z', shade),
      path('M9 46L176 37L212 42L222 45L9 55Z', ink.cream),
      path('M55 32L70 17Q73 14 78 14L98 14L98 33Z', ink.night),
      path('M104 33L104 14L123 14Q132 14 139 20L158 35Z', ink.night),
      path('M118 33L130 15Q135 16 139 20L142 22L133 34Z', ink.teal),
      path('M92 9L98 3L114 3L118 9Z', shade),
      plate ? rect(106, 42, 34, 25, ink.cream, 'rx="2"') + line('M116 48L126 48L119 61', ink.deep, 4) : '',
      path('M206 44L224 47Q229 49 230 54L211 51Z', lights ? ink.glow : ink.mist),
      path('M8 45L20 44L20 52L8 53Z', ink.dusk),
      path('M28 76A25 25 0 0 1 78 76Z', ink.night),
      path('M164 76A25 25 0 0 1 214 76Z', ink.night),
      rect(24, 74, 4, 15, ink.night),
      rect(160, 74, 4, 15, ink.night),
      wheel(53, 73, 20, 12),
      wheel(189, 73, 20, 40),
    ].join(''),
    turn,
  );
}

export function dust(x, y, scale, fill = ink.cream, opacity = 0.55) {
  const puffs = [
    [0, 0, 15],
    [-24, -6, 19],
    [-52, -3, 15],
    [-78, -10, 12],
    [-102, -4, 8],
    [-124, -9, 5],
  ];
  return at(x, y, scale, `<g opacity="${opacity}">${puffs.map(([px, py, r]) => circle(px, py, r, fill)).join('')}</g>`);
}

/** A helmet from its side, looking right; about 100 x 100 around its middle. */
export function helmet(x, y, scale, { shell = ink.red, shade = ink.rust, band = ink.cream, flip = false } = {}) {
  const content = [
    path('M-46 8C-50 -34 -20 -54 8 -50C34 -46 48 -24 48 -2L46 26Q44 40 28 42L-22 44Q-40 44 -46 8Z', shell),
    path('M-46 8Q-42 42 -22 44L28 42Q44 40 46 26L46 20Q10 32 -46 14Z', shade),
    path('M-40 -24Q-24 -48 2 -50L12 -50Q-16 -44 -30 -14Z', band),
    path('M2 -20Q30 -26 46 -14L48 6Q26 14 4 8Q-6 -4 2 -20Z', ink.night),
    path('M8 -16Q26 -20 40 -13L41 -7Q24 -12 7 -8Z', ink.fjord),
    circle(-8, 6, 5, ink.cream),
  ].join('');
  return `<g transform="translate(${x} ${y}) scale(${flip ? -scale : scale} ${scale})">${content}</g>`;
}

/** Squares in two colours, sheared like cloth in the wind. */
export function chequers(x, y, columns, rows, size, { light = ink.cream, dark = ink.night, wave = 0 } = {}) {
  let squares = '';
  for (let column = 0; column < columns; column += 1) {
    const lift = (c) => Math.sin((c / columns) * Math.PI * 2) * wave;
    for (let row = 0; row < rows; row += 1) {
      const [left, right, top] = [column * size, (column + 1) * size, row * size];
      const d = `M${left} ${top + lift(column)}L${right} ${top + lift(column + 1)}L${right} ${top + size + lift(column + 1)}L${left} ${top + size + lift(column)}Z`;
      squares += path(d, (row + column) % 2 ? dark : light);
    }
  }
  return at(x, y, 1, squares);
}
