// What may come in, in JSON Schema: the same words check requests and make the
// OpenAPI document.

import Ajv from 'ajv/dist/2020.js';
import { HttpError } from './errors.js';

const ajv = new Ajv({ allErrors: false, strict: true, strictTypes: false, strictRequired: false });

// The calendar decides, not only the pattern: there is no 31 February.
ajv.addFormat('date', (text) => {
  if (!/^[12]\d{3}-\d\d-\d\d$/.test(text)) return false;
  const date = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text);
});
ajv.addFormat('date-time', true); // only in what we send
ajv.addFormat('email', /^[^\s@\0]{1,64}@[^\s@\0]{1,253}$/);
ajv.addFormat('password', true);
ajv.addFormat('uuid', /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/);
// A surrogate without its partner is no character, and the database could not give it back.
ajv.addFormat('well-formed', (text) => text.isWellFormed());

export const MOST_ID = 999_999_999_999_999;
export const ROLES = ['user', 'official', 'admin'];
export const ORDER_STATUSES = ['paid', 'refunded'];
export const LICENCE_STATUSES = ['active', 'suspended'];

export const id = { type: 'integer', minimum: 1, maximum: MOST_ID };
export const date = { type: 'string', format: 'date' };
export const moment = { type: 'string', format: 'date-time' };
export const money = { type: 'integer', minimum: 0, description: 'øre' };
export const kind = {
  type: 'string',
  pattern: '^[a-z]{1,40}$',
  examples: ['helarslisens', 'mekaniker'],
  description: 'one of /api/licence-kinds',
};

/** Text that PostgreSQL can hold, with something other than blanks in it. */
export function text(most) {
  return { type: 'string', minLength: 1, maxLength: most, pattern: '^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$', format: 'well-formed' };
}

/** An object of exactly these properties, all of them there unless named as optional. */
export function object(properties, optional = []) {
  const required = Object.keys(properties).filter((name) => !optional.includes(name));
  return { type: 'object', properties, required, additionalProperties: false };
}

export function list(items, { least = 0, most } = {}) {
  return { type: 'array', items, minItems: least, maxItems: most };
}

/** A function that gives nothing, or throws an HttpError that names what is wrong with the value. */
export function checker(schema, { status = 422, code = 'invalid', what = 'The body' } = {}) {
  const isValid = ajv.compile(schema);
  return (value) => {
    if (isValid(value)) return;
    const details = isValid.errors.map((error) => ({ path: error.instancePath.slice(1), message: problem(error) }));
    const where = details[0].path === '' ? what : `${what}: ${details[0].path}`;
    throw new HttpError(status, code, `${where} ${details[0].message}.`, { details });
  };
}

/** Whether a value fits, for tests of what we send. */
export function problemsOf(schema, value) {
  const isValid = ajv.compile(schema);
  return isValid(value) ? [] : isValid.errors.map((error) => `${error.instancePath} ${problem(error)}`);
}

function problem({ keyword, params, message }) {
  if (keyword === 'additionalProperties') return `must not have ${JSON.stringify(params.additionalProperty)}`;
  if (keyword === 'enum') return `must be one of ${params.allowedValues.join(', ')}`;
  return message;
}

/**
 * Reads query parameters by the schemas of each: text becomes a number, a truth
 * value or a list where the schema says so, and is checked. What is not known
 * and what is there twice is refused, since it would be ignored otherwise.
 */
export function queryReader(properties) {
  const check = checker(object(properties, Object.keys(properties)), { status: 400, code: 'invalid_query', what: 'The query' });
  return (searchParams) => {
    const values = Object.create(null); // so that __proto__ is a name like any other
    for (const [name, value] of searchParams) {
      if (Object.hasOwn(values, name))
        throw new HttpError(400, 'invalid_query', `The query has ${JSON.stringify(name.slice(0, 40))} twice.`);
      values[name] = fromText(value, Object.hasOwn(properties, name) ? properties[name].type : 'string');
    }
    check(values);
    return { ...values };
  };
}

function fromText(value, type) {
  if (type === 'integer') return /^-?\d{1,15}$/.test(value) ? Number(value) : value;
  if (type === 'boolean') return value === 'true' ? true : value === 'false' ? false : value;
  if (type === 'array') return value.split(',');
  return value;
}
