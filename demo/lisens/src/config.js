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
    spans: spansTarget(env),
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

/** Where spans go, as OpenTelemetry's variables say it; null when they say nothing. */
function spansTarget(env) {
  const own = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT;
  const all = env.OTEL_EXPORTER_OTLP_ENDPOINT;
  if (!own && !all) return null;
  return {
    url: own || `${all.replace(/\/$/, '')}/v1/traces`,
    headers: pairs(env.OTEL_EXPORTER_OTLP_HEADERS),
    service: env.OTEL_SERVICE_NAME || 'lisens',
    resource: pairs(env.OTEL_RESOURCE_ATTRIBUTES),
  };
}

function pairs(text = '') {
  const given = text.split(',').filter((pair) => pair.includes('='));
  return Object.fromEntries(given.map((pair) => [pair.slice(0, pair.indexOf('=')).trim(), unescaped(pair.slice(pair.indexOf('=') + 1))]));
}

function unescaped(text) {
  try {
    return decodeURIComponent(text.trim());
  } catch {
    return text.trim();
  }
}
