// What a season will cost. A small model (plain coefficients in a file) says
// so; where it is missing, damaged or says something impossible, a rule does.

import { readFileSync } from 'node:fs';
import { reason } from './log.js';
import { kind, list, money, object } from './schema.js';

// The rule, and the bounds of what can be believed.
const PRICE_ORE = {
  helarslisens: 145_000,
  engangslisens: 35_000,
  mekaniker: 30_000,
  barnelisens: 25_000,
  ungdomslisens: 65_000,
  kartleser: 98_000,
};
const RULE_SPREAD = 0.25;
// From here on a licence for the year is cheaper than one for each race.
const RACES_FOR_A_YEAR = 5;
const MOST_BELIEVED_FACTOR = 3;

export const estimateSeason = {
  id: 'estimateSeason',
  method: 'POST',
  path: '/api/estimate',
  who: 'anybody',
  summary: 'What a season will cost, and which licences it takes',
  body: object({
    discipline: { enum: ['rally', 'rallycross', 'bilcross', 'karting'] },
    age: { type: 'integer', minimum: 5, maximum: 99 },
    races: { type: 'integer', minimum: 1, maximum: 40 },
    mechanics: { type: 'integer', minimum: 0, maximum: 5 },
  }),
  answers: {
    200: object({
      estimate_ore: money,
      low_ore: money,
      high_ore: money,
      source: { enum: ['model', 'rule'] },
      model: { type: ['string', 'null'] },
      items: list(object({ licence_kind: kind, quantity: { type: 'integer' } })),
    }),
  },
  handle: ({ home, log }) => {
    const model = readModel(home, log);
    return async ({ body }) => ({ body: estimate(model, body) });
  },
};

/** The estimate of `model` (null for none), or of the rule. */
export function estimate(model, wish) {
  const items = licencesFor(wish);
  const byRule_ore = items.reduce((sum, item) => sum + item.quantity * PRICE_ORE[item.licence_kind], 0);
  const byModel_ore = model && predict(model, featuresOf(wish));
  // A model that is far off what the licences cost is worse than none.
  const isBelieved =
    Number.isFinite(byModel_ore) && byModel_ore > byRule_ore / MOST_BELIEVED_FACTOR && byModel_ore < byRule_ore * MOST_BELIEVED_FACTOR;
  const [estimate_ore, spread] = isBelieved ? [byModel_ore, model.spread] : [byRule_ore, RULE_SPREAD];
  const rounded = (ore) => Math.round(ore / 1_000) * 1_000;
  return {
    estimate_ore: rounded(estimate_ore),
    low_ore: rounded(estimate_ore * (1 - spread)),
    high_ore: rounded(estimate_ore * (1 + spread)),
    source: isBelieved ? 'model' : 'rule',
    model: isBelieved ? `${model.name} ${model.version}` : null,
    items,
  };
}

/** The licences that a season like this takes. */
export function licencesFor({ discipline, age, races, mechanics }) {
  const items = [];
  if (age <= 10) items.push({ licence_kind: 'barnelisens', quantity: 1 });
  else if (age <= 17) items.push({ licence_kind: 'ungdomslisens', quantity: 1 });
  else if (races < RACES_FOR_A_YEAR) items.push({ licence_kind: 'engangslisens', quantity: races });
  else items.push({ licence_kind: 'helarslisens', quantity: 1 });
  if (discipline === 'rally') items.push({ licence_kind: 'kartleser', quantity: 1 });
  if (mechanics > 0) items.push({ licence_kind: 'mekaniker', quantity: mechanics });
  return items;
}

function featuresOf({ discipline, age, races, mechanics }) {
  return {
    races,
    mechanics,
    is_child: Number(age <= 10),
    is_youth: Number(age > 10 && age <= 17),
    is_rally: Number(discipline === 'rally'),
    few_races: age > 17 ? Math.max(0, RACES_FOR_A_YEAR - races) : 0,
  };
}

function predict({ intercept, features }, values) {
  return Object.entries(features).reduce((sum, [name, { coefficient, least, most }]) => {
    return sum + coefficient * Math.min(Math.max(values[name], least), most);
  }, intercept);
}

/** The model of models/, or null and a line in the log. */
export function readModel(home, log) {
  try {
    const model = JSON.parse(readFileSync(new URL('models/season-cost.json', home), 'utf8'));
    const numbers = [
      model.intercept,
      model.spread,
      ...Object.values(model.features).flatMap((each) => [each.coefficient, each.least, each.most]),
    ];
    if (!numbers.every(Number.isFinite)) throw new Error('a number of it is missing');
    return model;
  } catch (error) {
    log.warn('no model for estimates, the rule answers', { reason: reason(error) });
    return null;
  }
}
