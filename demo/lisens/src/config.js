// The one place that reads the environment. A missing or wrong variable stops
// the start with a sentence that says what to set.

export class ConfigError extends Error {}

export function readConfig(env = process.env) {
  return {
    host: env.HOST || '127.0.0.1',
    port: wholeNumber(env, 'PORT', 3000, 0, 65_535),
    databaseUrl: required(env, 'DATABASE_URL', 'postgres://user@127.0.0.1/lisens'),
    redisUrl: env.REDIS_URL || null, // only a cache: the shop works without it
    seedOrders: wholeNumber(env, 'SEED_ORDERS', 0, 0, 10_000_000),
    demoPassword: env.DEMO_PASSWORD || null, // for the accounts that go with the seeds
    instance: env.KLAR_INSTANCE || String(process.pid),
    release: env.KLAR_RELEASE || null,
    crash: env.LISENS_CRASH === '1',
  };
}

function required(env, name, example) {
  if (!env[name]) throw new ConfigError(`${name} is not set; set it to something like ${example}`);
  return env[name];
}

function wholeNumber(env, name, fallback, least, most) {
  if (!env[name]) return fallback;
  const value = Number(env[name]);
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new ConfigError(`${name} is ${JSON.stringify(env[name])}; set it to a whole number from ${least} to ${most}`);
  }
  return value;
}
