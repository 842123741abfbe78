// Texts, numbers and dates in the reader's language.

import { createStore, remembered } from '../lib/store.js';
import nb from './nb.js';

export const LANGUAGES = { nb: 'Norsk', sv: 'Svenska', en: 'English' };
const LOCALES = { nb: 'nb-NO', sv: 'sv-SE', en: 'en-GB' };
const others = { sv: () => import('./sv.js'), en: () => import('./en.js') };
const store = createStore(texts('nb', nb));

/** Everything a component needs to speak: t, money, number, date, dateTime, time, and the language. */
export const useTexts = store.use;

/** The same, outside of components. */
export const currentTexts = store.get;

export async function startLanguage() {
  const wished = [remembered.read('lisens.language'), ...navigator.languages.map(languageOf)];
  await show(wished.find((language) => language in LANGUAGES) ?? 'nb').catch(() => {}); // then it stays Norwegian
}

export async function chooseLanguage(language) {
  await show(language);
  remembered.write('lisens.language', language);
}

async function show(language) {
  const dictionary = language === 'nb' ? nb : (await others[language]()).default;
  store.set(texts(language, dictionary));
  document.documentElement.lang = language;
}

function languageOf(tag) {
  const language = tag.slice(0, 2).toLowerCase();
  return language === 'no' || language === 'nn' ? 'nb' : language;
}

function texts(language, dictionary) {
  const locale = LOCALES[language];
  const plural = new Intl.PluralRules(locale);
  const kept = {};
  const format = (name, make) => (value) => (kept[name] ??= make()).format(value);
  const number = format('number', () => new Intl.NumberFormat(locale));
  const kroner = format(
    'money',
    () =>
      new Intl.NumberFormat(locale, {
        style: 'currency',
        currency: 'NOK',
        currencyDisplay: 'narrowSymbol',
        trailingZeroDisplay: 'stripIfInteger',
      }),
  );
  const day = format('date', () => new Intl.DateTimeFormat(locale, { dateStyle: 'medium' }));
  const moment = format('dateTime', () => new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' }));
  const clock = format('time', () => new Intl.DateTimeFormat(locale, { timeStyle: 'short' }));

  const t = (key, params = {}) => {
    const entry = dictionary[key] ?? nb[key];
    if (entry === undefined) return key;
    const text = typeof entry === 'string' ? entry : (entry[plural.select(params.count)] ?? entry.other);
    return text.replace(/\{(\w+)\}/g, (_, name) => (typeof params[name] === 'number' ? number(params[name]) : (params[name] ?? '')));
  };

  return {
    language,
    t,
    number,
    money: (ore) => kroner(ore / 100),
    date: (day_) => day(new Date(day_.length === 10 ? `${day_}T12:00:00` : day_)), // a day is the same day everywhere
    dateTime: (iso) => moment(new Date(iso)),
    time: (iso) => clock(new Date(iso)),
    kindName: (kind) => t(`kind.${kind}`),
    /** What to tell somebody about an error: by its code, else what the server said. */
    errorText: (error) => {
      const key = `error.${error?.code?.replace(/^.*_not_found$/, 'not_found')}`;
      if (dictionary[key] || nb[key]) return t(key, { seconds: error.retryAfter ?? 1 });
      return error?.name === 'ApiError' && error.message && error.message !== error.code ? error.message : t('error.unexpected');
    },
  };
}
