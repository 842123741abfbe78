// The pictures: a road at dusk for the front page, and one scene for each kind of licence.

import {
  car,
  chequers,
  circle,
  dice,
  dust,
  forest,
  gradient,
  group,
  helmet,
  ink,
  line,
  path,
  rect,
  ridge,
  spruce,
  wheel,
} from './parts.js';

const svg = (width, height, defs, content) =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}"><defs>${defs}</defs>${content}</svg>\n`;

export function hero() {
  const defs = [
    gradient('sky', [
      [0, '#1d4f5b'],
      [0.26, '#5b9a95'],
      [0.46, ink.dusk],
      [0.6, ink.glow],
    ]),
    gradient('water', [
      [0, ink.glow],
      [0.3, '#c9b896'],
      [1, '#3f8a88'],
    ]),
    gradient(
      'beam',
      [
        [0, '#fff1cf'],
        [1, ink.glow],
      ],
      'x1="0" y1="0" x2="1" y2="0"',
    ).replace(`stop-color="${ink.glow}"`, `stop-color="${ink.glow}" stop-opacity="0"`),
    gradient('ground', [
      [0, '#14564f'],
      [1, '#0c3339'],
    ]),
    gradient('road', [
      [0, '#c99b7c'],
      [0.4, '#6e7f7a'],
      [1, '#38565b'],
    ]),
  ].join('');
  const glitter = dice(5);
  let shine = '';
  for (let i = 0; i < 16; i += 1) {
    const y = 213 + i * 3.4;
    const width = glitter(12, 62 - i * 2);
    shine += rect(
      (430 + glitter(-26, 26) - width / 2).toFixed(1),
      y.toFixed(1),
      width.toFixed(1),
      1.5,
      ink.cream,
      `rx="0.75" opacity="${(0.75 - i * 0.035).toFixed(2)}"`,
    );
  }
  return svg(
    960,
    360,
    defs,
    [
      rect(0, 0, 960, 360, 'url(#sky)'),
      circle(430, 190, 86, ink.glow, 'opacity="0.28"'),
      circle(430, 190, 58, ink.glow, 'opacity="0.45"'),
      circle(430, 190, 34, ink.cream),
      rect(120, 62, 150, 5, ink.mist, 'rx="2.5" opacity="0.45"'),
      rect(176, 74, 210, 5, ink.mist, 'rx="2.5" opacity="0.35"'),
      rect(560, 50, 190, 5, ink.mist, 'rx="2.5" opacity="0.4"'),
      rect(520, 92, 120, 4, ink.glow, 'rx="2" opacity="0.5"'),
      ridge(960, 208, [56, 88, 62, 104, 70, 40, 18, 6, 2, 10, 34, 76, 52, 98, 132, 96, 120, 84], 216, '#8fb7a8'),
      ridge(960, 208, [92, 60, 84, 48, 30, 44, 16, 2, 0, 0, 4, 16, 52, 34, 66, 90, 58, 74], 216, '#4f938a'),
      ridge(960, 210, [40, 62, 30, 38, 18, 8, 2, 0, 0, 0, 0, 2, 10, 26, 18, 44, 60, 42], 218, '#2c6f6a'),
      rect(0, 208, 960, 90, 'url(#water)'),
      shine,
      // The near shore, the road on it and what grows there.
      path('M0 262Q120 236 240 252Q330 262 400 270Q500 262 600 244Q720 222 800 224Q890 226 960 214L960 360L0 360Z', 'url(#ground)'),
      forest(704, 960, 232, 11, 34, 66, '#13504b', -0.05),
      forest(0, 190, 262, 3, 36, 74, '#13504b', -0.06),
      path(
        'M742 228Q640 240 596 254Q560 268 640 276Q760 288 700 306Q600 330 300 326Q140 326 0 340L0 360L960 360L960 352Q800 338 806 310Q806 284 690 270Q626 262 648 252Q680 240 750 229Z',
        'url(#road)',
      ),
      line(
        'M736 231Q650 242 620 255Q590 268 664 274Q786 290 752 309Q690 336 420 338',
        ink.cream,
        2,
        'stroke-dasharray="9 11" opacity="0.55"',
      ),
      path('M0 344Q160 330 330 331Q560 334 690 312L660 326Q500 350 300 348Q140 348 0 356Z', '#2f4d52', 'opacity="0.5"'),
      path('M0 356Q150 348 300 350Q480 352 560 360L0 360Z', ink.night),
      path('M960 300Q880 306 850 330Q840 346 880 360L960 360Z', ink.night),
      spruce(872, 350, 116, ink.night),
      spruce(916, 356, 168, ink.night),
      spruce(952, 350, 132, ink.night),
      spruce(26, 352, 128, ink.night),
      spruce(66, 356, 88, ink.night),
      dust(272, 327, 0.95, ink.glow, 0.42),
      path('M449 310L640 286L640 338L449 316Z', 'url(#beam)', 'opacity="0.7"'),
      `<ellipse cx="366" cy="335" rx="96" ry="5" fill="${ink.night}" opacity="0.45"/>`,
      car(262, 258, 0.83, { turn: -1 }),
    ].join(''),
  );
}

/** The same dusk behind every card: sky, hills, ground. */
function card(
  content,
  { sky = 'calm', sun = [480, 150, 40], hills = [50, 92, 66, 110, 72, 96, 40, 74, 52], ground = 290, trees = true } = {},
) {
  const skies = {
    calm: [
      [0, ink.fjord],
      [0.55, ink.mist],
      [1, ink.glow],
    ],
    warm: [
      [0, '#5b9a95'],
      [0.5, '#e3b791'],
      [1, ink.glow],
    ],
    late: [
      [0, '#1d4f5b'],
      [0.6, '#6aa59b'],
      [1, ink.dusk],
    ],
  };
  const [x, y, r] = sun;
  return svg(
    640,
    400,
    gradient('sky', skies[sky]),
    [
      rect(0, 0, 640, 400, 'url(#sky)'),
      circle(x, y, r * 1.7, ink.cream, 'opacity="0.25"'),
      circle(x, y, r, ink.cream),
      ridge(640, ground - 16, hills, ground, '#8fbcae'),
      ridge(
        640,
        ground,
        [...hills].reverse().map((height) => height * 0.55),
        ground + 4,
        '#55998d',
      ),
      trees ? forest(-10, 660, ground + 3, 17, 22, 52, ink.moss) : '',
      rect(0, ground, 640, 400 - ground, ink.pine),
      content,
    ].join(''),
  );
}

const road = (top, height = 64) =>
  rect(0, top, 640, height, '#2f5257') +
  rect(0, top, 640, 4, ink.fjord) +
  line(`M20 ${top + height * 0.62}L640 ${top + height * 0.62}`, ink.mist, 5, 'stroke-dasharray="44 36" opacity="0.8"');

const shadow = (x, y, rx) => `<ellipse cx="${x}" cy="${y}" rx="${rx}" ry="7" fill="${ink.night}" opacity="0.5"/>`;

/** A person who helps at the track, 60 x 170, the feet at 0/0. */
function marshal(x, y, scale, arm) {
  return group(
    x,
    y,
    scale,
    [
      path('M-18 -78L-20 0L-4 0L0 -58L4 0L20 0L18 -78Z', ink.night),
      path('M-26 -128Q-24 -142 -8 -142L10 -142Q24 -142 26 -128L24 -70L-24 -70Z', ink.red),
      rect(-25, -106, 50, 9, ink.cream),
      rect(-25, -88, 50, 9, ink.cream),
      circle(1, -160, 17, '#e9b891'),
      path('M-18 -162A19 19 0 0 1 20 -162L28 -159L28 -156L-18 -156Z', ink.deep),
      line('M-22 -130L-34 -96L-26 -74', ink.rust, 12),
      arm,
    ].join(''),
  );
}

export const cards = {
  // A year: the sun with twelve rays.
  helarslisens: () => {
    const rays = Array.from(
      { length: 12 },
      (_, i) => `<rect x="-4" y="-92" width="8" height="24" rx="4" fill="${ink.cream}" transform="rotate(${i * 30})"/>`,
    );
    return card([road(296, 76), shadow(322, 367, 166), dust(150, 356, 1.2), car(164, 224, 1.5)].join(''), {
      sky: 'warm',
      sun: [320, 128, 54],
      hills: [70, 40, 84, 56, 30, 22, 62, 98, 60],
    }).replace('</svg>', `<g transform="translate(320 128)">${rays.join('')}</g></svg>`);
  },

  // Once: through one gate.
  engangslisens: () =>
    card(
      [
        path('M250 290L390 290L640 400L0 400Z', '#2f5257'),
        line('M320 296L320 312M320 326L320 350M320 366L320 400', ink.mist, 6, 'opacity="0.8"'),
        rect(96, 96, 26, 240, ink.deep, 'rx="4"'),
        rect(518, 96, 26, 240, ink.deep, 'rx="4"'),
        rect(82, 330, 54, 16, ink.night, 'rx="4"'),
        rect(504, 330, 54, 16, ink.night, 'rx="4"'),
        rect(96, 78, 448, 64, ink.red, 'rx="6"'),
        chequers(112, 94, 8, 2, 16),
        chequers(400, 94, 8, 2, 16),
        circle(320, 110, 22, ink.cream),
        line('M314 103L321 98L321 122', ink.deep, 6),
        // The car from behind, on its way.
        shadow(320, 372, 96),
        rect(232, 330, 40, 46, ink.night, 'rx="9"'),
        rect(368, 330, 40, 46, ink.night, 'rx="9"'),
        path('M262 268Q266 246 284 244L356 244Q374 246 378 268L390 298L250 298Z', ink.rust),
        path('M276 270Q279 256 290 255L350 255Q361 256 364 270L371 292L269 292Z', ink.night),
        path('M228 320Q230 298 250 294L390 294Q410 298 412 320L410 352Q410 358 402 358L238 358Q230 358 230 352Z', ink.red),
        rect(232, 336, 176, 14, ink.rust),
        rect(238, 308, 42, 14, ink.glow, 'rx="5"'),
        rect(360, 308, 42, 14, ink.glow, 'rx="5"'),
        rect(294, 306, 52, 24, ink.cream, 'rx="3"'),
        rect(244, 232, 152, 10, ink.rust, 'rx="3"'),
        rect(262, 238, 8, 20, ink.rust),
        rect(370, 238, 8, 20, ink.rust),
      ].join(''),
      { sun: [320, 210, 34], hills: [90, 60, 104, 62, 20, 18, 66, 110, 80] },
    ),

  // A wheel off the ground, and the spanner for it.
  mekaniker: () =>
    card(
      [
        rect(0, 300, 640, 100, '#2f5257'),
        rect(0, 300, 640, 4, ink.fjord),
        path('M40 120L320 44L600 120L600 136L40 136Z', ink.red),
        path('M320 44L600 120L600 136L320 136Z', ink.rust),
        [0, 1, 2, 3, 4, 5, 6]
          .map((i) =>
            path(
              `M${40 + i * 80} 136L${120 + i * 80} 136Q${118 + i * 80} 162 ${80 + i * 80} 162Q${42 + i * 80} 162 ${40 + i * 80} 136Z`,
              i % 2 ? ink.cream : ink.red,
            ),
          )
          .join(''),
        rect(52, 150, 12, 170, ink.deep),
        rect(576, 150, 12, 170, ink.deep),
        shadow(300, 366, 210),
        car(96, 178, 1.48, { lights: false }),
        path('M292 300L336 300L352 352L276 352Z', ink.night),
        rect(262, 350, 104, 12, ink.night, 'rx="4"'),
        shadow(512, 372, 58),
        wheel(512, 324, 48, 10),
        group(
          410,
          372,
          0.5,
          path('M-84 -10L70 -10Q78 -32 104 -30L92 -10L92 10L104 30Q78 32 70 10L-84 10A22 22 0 1 1 -84 -10Z', ink.mist) +
            circle(-100, 0, 9, '#2f5257'),
          -6,
        ),
        rect(70, 338, 92, 44, ink.teal, 'rx="5"'),
        rect(70, 352, 92, 5, ink.deep),
        line('M96 338L96 326L136 326L136 338', ink.teal, 7),
      ].join(''),
      { sky: 'calm', sun: [320, 190, 30] },
    ),

  // A small kart, a big number, and bunting above it.
  barnelisens: () => {
    const colours = [ink.red, ink.cream, ink.pine, ink.glow, ink.teal];
    const flags = Array.from({ length: 13 }, (_, i) => {
      const x = 14 + i * 50;
      const y = 46 + 42 * Math.sin((x / 640) * Math.PI);
      return path(`M${x} ${y}L${x + 38} ${y}L${x + 19} ${y + 44}Z`, colours[i % 5]);
    });
    return card(
      [
        line('M0 44Q320 130 640 44', ink.deep, 4),
        flags.join(''),
        road(296, 76),
        shadow(318, 368, 170),
        dust(120, 356, 0.9),
        // The kart.
        path(
          'M160 330L214 322L226 266Q228 258 238 258L268 262L276 322L392 322Q420 288 456 296L486 330Q492 348 476 350L172 350Q156 350 160 330Z',
          ink.red,
        ),
        path('M160 336L488 336Q490 350 476 350L172 350Q158 350 160 336Z', ink.rust),
        path('M206 330L222 262L240 258L262 262L250 330Z', ink.deep),
        line('M372 316L350 282', ink.night, 7),
        line('M338 290L362 274', ink.night, 9),
        // Who drives it.
        path('M244 322Q236 258 268 246Q300 240 312 268L318 322Z', ink.teal),
        line('M286 266L316 300L348 284', ink.teal, 22),
        line('M286 266L316 300L348 284', ink.moss, 3, 'opacity="0.6"'),
        path('M290 322L330 300L390 316L388 324Z', ink.deep),
        helmet(278, 200, 1.12, { shell: ink.glow, shade: ink.dusk, band: ink.red }),
        circle(430, 318, 20, ink.cream),
        line('M425 311L431 307L431 328', ink.deep, 5),
        wheel(206, 344, 27, 20),
        wheel(440, 348, 23, 50),
      ].join(''),
      { sky: 'calm', sun: [520, 196, 30] },
    );
  },

  // Flat out through a bend, kerbs and all.
  ungdomslisens: () => {
    const kerb = Array.from({ length: 9 }, (_, i) =>
      path(`M${i * 76 - 20} 300L${i * 76 + 18} 300L${i * 76 + 6} 318L${i * 76 - 34} 318Z`, ink.red),
    );
    return card(
      [
        rect(0, 300, 640, 100, '#2f5257'),
        rect(0, 300, 640, 18, ink.cream),
        kerb.join(''),
        line('M0 386Q220 372 330 376L640 388', ink.night, 5, 'opacity="0.45"'),
        dust(170, 350, 1.35, ink.cream, 0.6),
        shadow(340, 374, 176),
        // A cross cart: tubes, a wing, long legs.
        group(
          340,
          272,
          1,
          [
            path('M-120 56L-96 8L20 0L120 24L168 44L166 62L-112 66Z', ink.pine),
            path('M-120 56L166 50L166 62L-112 66Z', ink.deep),
            path('M-92 10L-10 2L-2 40L-84 44Z', ink.cream),
            line('M-54 12L-42 22L-54 36M-36 12L-24 22L-36 36', ink.pine, 6),
            line('M-84 8L-56 -82L22 -86L84 14', ink.night, 10),
            line('M-56 -82L-20 4M22 -86L-20 4', ink.night, 6),
            path('M-102 -94L-28 -104L-26 -94L-98 -82Z', ink.red),
            line('M-120 60L-142 84M-110 30L-140 80M150 54L166 84M120 30L160 80', ink.mist, 6),
          ].join(''),
          -5,
        ),
        helmet(352, 236, 0.62, { shell: ink.red, shade: ink.rust, band: ink.cream }),
        wheel(196, 354, 42, 10),
        wheel(498, 338, 36, 30),
      ].join(''),
      { sky: 'late', sun: [130, 150, 42], hills: [40, 60, 96, 70, 118, 84, 108, 66, 40] },
    );
  },

  // The road, as the one beside the driver reads it.
  kartleser: () =>
    card(
      [
        path('M0 330Q320 270 640 330L640 400L0 400Z', ink.night),
        group(
          322,
          216,
          1,
          [
            path(
              'M-232 -132L-78 -152L78 -132L232 -152L232 124L78 146L-78 124L-232 146Z',
              ink.night,
              'opacity="0.25" transform="translate(8 12)"',
            ),
            path('M-232 -132L-78 -152L-78 124L-232 146Z', ink.cream),
            path('M-78 -152L78 -132L78 146L-78 124Z', '#efe2c8'),
            path('M78 -132L232 -152L232 124L78 146Z', ink.cream),
            path('M-232 30Q-150 -16 -78 20L-78 124L-232 146Z', ink.fjord, 'opacity="0.75"'),
            path('M-78 20Q-20 44 78 86L78 146L-78 124Z', ink.teal, 'opacity="0.6"'),
            path('M78 -132L232 -152L232 -44Q150 -32 78 -74Z', ink.mist, 'opacity="0.8"'),
            line('M-196 -70Q-150 -108 -104 -84M-206 -44Q-150 -84 -96 -58', ink.mist, 4),
            line('M110 92Q150 64 206 80M116 112Q150 90 200 100', ink.mist, 4),
            line('M-186 92C-120 92 -186 10 -112 -6S-70 -96 -6 -92S24 -4 72 -2S110 66 152 40S130 -70 188 -92', ink.cream, 20),
            line('M-186 92C-120 92 -186 10 -112 -6S-70 -96 -6 -92S24 -4 72 -2S110 66 152 40S130 -70 188 -92', ink.red, 9),
            circle(-186, 92, 13, ink.deep),
            circle(-186, 92, 5, ink.cream),
            path('M188 -88C164 -116 168 -142 188 -144C208 -142 212 -116 188 -88Z', ink.deep),
            circle(188, -122, 8, ink.cream),
          ].join(''),
          -3,
        ),
        spruce(66, 356, 64, ink.moss),
        spruce(588, 352, 72, ink.moss),
        group(
          478,
          336,
          1,
          path('M-96 -8L62 -8L92 0L62 8L-96 8Z', ink.glow) +
            path('M62 -8L92 0L62 8Z', ink.cream) +
            path('M80 -3L92 0L80 3Z', ink.night) +
            rect(-108, -8, 16, 16, ink.red, 'rx="3"'),
          -164,
        ),
      ].join(''),
      { sky: 'late', sun: [560, 70, 30], trees: false },
    ),

  // Someone by the track, with the flag.
  funksjonaer: () =>
    card(
      [
        path('M0 330Q260 300 640 318L640 372Q300 352 0 392Z', '#2f5257'),
        line('M0 362Q270 328 640 345', ink.mist, 5, 'stroke-dasharray="40 32" opacity="0.8"'),
        path('M0 388Q300 350 640 372L640 400L0 400Z', ink.pine),
        [70, 130, 190]
          .map(
            (x, i) =>
              path(`M${x} ${322 - i * 4}L${x + 26} ${321 - i * 4}L${x + 17} ${286 - i * 4}L${x + 9} ${286 - i * 4}Z`, ink.red) +
              rect(x + 5, 300 - i * 4, 16, 7, ink.cream),
          )
          .join(''),
        shadow(300, 390, 60),
        marshal(300, 390, 1.5, line('M22 -130L52 -150L62 -176', ink.rust, 12)),
        line('M380 150L420 36', ink.deep, 8),
        path('M420 34Q468 8 512 34T606 30L586 126Q540 152 494 128T394 126Z', ink.glow),
        path('M512 34Q468 8 420 34L411 62Q462 38 504 62T600 58L606 30Q556 60 512 34Z', ink.cream, 'opacity="0.55"'),
        circle(393, 122, 10, '#e9b891'),
        dust(500, 334, 0.5, ink.cream, 0.6),
        car(496, 284, 0.55),
      ].join(''),
      { sky: 'calm', sun: [120, 110, 36], ground: 310 },
    ),

  // Two of them, side by side.
  ledsager: () =>
    card(
      [
        path('M0 344Q320 300 640 344L640 400L0 400Z', ink.night),
        path('M118 400Q120 336 176 312L262 300Q326 312 336 400Z', ink.teal),
        path('M196 306L214 400L250 400L246 302Z', ink.cream, 'opacity="0.85"'),
        path('M318 400Q322 324 388 302L470 304Q528 326 532 400Z', ink.red),
        path('M404 302L412 400L446 400L452 303Z', ink.cream, 'opacity="0.85"'),
        helmet(222, 218, 1.85, { shell: ink.pine, shade: ink.deep, band: ink.mist }),
        helmet(426, 204, 1.85, { shell: ink.red, shade: ink.rust, band: ink.cream }),
      ].join(''),
      { sky: 'warm', sun: [324, 120, 46], hills: [80, 110, 60, 40, 24, 44, 70, 116, 90] },
    ),

  // The team's lorry, on its way with everything.
  anmelder: () =>
    card(
      [
        road(296, 76),
        shadow(320, 364, 260),
        rect(58, 132, 372, 190, ink.pine, 'rx="8"'),
        path('M58 250L430 190L430 314Q430 322 422 322L66 322Q58 322 58 314Z', ink.cream),
        path('M58 262L430 202L430 222L58 286Z', ink.red),
        car(150, 222, 0.72, { plate: false }),
        rect(50, 318, 392, 18, ink.night, 'rx="4"'),
        path('M446 176L520 176Q538 178 546 194L572 250L584 262Q588 266 588 274L588 336L446 336Z', ink.red),
        path('M446 292L588 292L588 336L446 336Z', ink.rust),
        path('M484 194L516 194Q526 196 531 206L552 250L484 250Z', ink.night),
        path('M512 250L534 212L552 250Z', ink.teal),
        rect(458, 262, 30, 6, ink.cream, 'rx="3"'),
        rect(566, 288, 22, 16, ink.glow, 'rx="4"'),
        path('M446 150L506 164L512 176L446 176Z', ink.rust),
        wheel(112, 336, 29, 5),
        wheel(180, 336, 29, 25),
        wheel(376, 336, 29, 45),
        wheel(528, 336, 29, 15),
      ].join(''),
      { sky: 'calm', sun: [540, 96, 34] },
    ),

  // The last one of the year: a cup, and what falls from the sky.
  finalelisens: () => {
    const throwIt = dice(23);
    const colours = [ink.red, ink.cream, ink.glow, ink.mist, ink.dusk];
    const confetti = Array.from({ length: 46 }, (_, i) => {
      const [x, y, turn] = [throwIt(10, 630), throwIt(8, 250), throwIt(0, 180)].map((value) => value.toFixed(0));
      return `<rect x="-5" y="-3" width="10" height="6" rx="1.5" fill="${colours[i % 5]}" transform="translate(${x} ${y}) rotate(${turn})"/>`;
    });
    return card(
      [
        confetti.join(''),
        rect(230, 286, 180, 114, ink.cream),
        rect(230, 286, 180, 12, ink.mist),
        rect(70, 326, 160, 74, ink.mist),
        rect(70, 326, 160, 10, ink.fjord),
        rect(410, 346, 160, 54, ink.mist),
        rect(410, 346, 160, 10, ink.fjord),
        line('M308 334L322 324L322 372', ink.pine, 12),
        line('M62 330L62 96', ink.night, 7),
        chequers(66, 96, 6, 4, 20, { wave: 8 }),
        line('M578 350L578 96', ink.night, 7),
        `<g transform="translate(640 0) scale(-1 1)">${chequers(66, 96, 6, 4, 20, { wave: 8 })}</g>`,
        // The cup.
        line('M268 142Q222 138 228 176Q234 212 282 214M372 142Q418 138 412 176Q406 212 358 214', ink.dusk, 13),
        path('M260 116L380 116Q384 216 334 236L334 252L306 252L306 236Q256 216 260 116Z', ink.glow),
        path('M340 116L380 116Q384 216 334 236L326 240Q352 190 340 116Z', ink.dusk),
        path('M276 132L296 132Q296 182 308 210Q278 190 276 132Z', ink.cream, 'opacity="0.8"'),
        rect(252, 108, 136, 14, ink.dusk, 'rx="7"'),
        path('M288 252L352 252L364 272L276 272Z', ink.dusk),
        rect(266, 270, 108, 18, ink.deep, 'rx="3"'),
      ].join(''),
      { sky: 'late', sun: [320, 180, 92], hills: [50, 76, 110, 84, 60, 70, 104, 80, 44] },
    );
  },
};

/** The icon, also for the home screen; `inset` leaves room for the mask of the system. */
export function icon(size, { rounded = true, inset = 0 } = {}) {
  const content =
    rect(0, 0, 32, 32, '#0b5c4a', rounded ? 'rx="7"' : '') + group(16 * inset, 16 * inset, 1 - inset, line('M10 8v16h12', '#fff', 4));
  return svg(32, 32, '', content).replace('width="32" height="32">', `width="${size}" height="${size}">`);
}
