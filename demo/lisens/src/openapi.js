// The OpenAPI document, made from the operations themselves: what it says is
// what requests are held to.

import { id, object } from './schema.js';

const ERROR = {
  type: 'object',
  required: ['error', 'message', 'request_id'],
  properties: {
    error: { type: 'string', description: 'a code that does not change' },
    message: { type: 'string', description: 'what to do, for people' },
    request_id: { type: 'string' },
    details: { type: 'array', items: object({ path: { type: 'string' }, message: { type: 'string' } }) },
  },
};

const MEANING = {
  200: 'as asked',
  201: 'made',
  202: 'taken',
  204: 'done',
  400: 'the request is not as it must be',
  401: 'not signed in',
  403: 'not allowed, or without X-CSRF-Token',
  404: 'not there, or not yours',
  409: 'not any more',
  413: 'the body is too large',
  415: 'the body is not JSON',
  422: 'the body is not as it must be',
  429: 'too many attempts',
  503: 'not just now; see Retry-After',
};

export function openApi(operations, { version }) {
  const paths = {};
  for (const operation of operations) {
    (paths[operation.path] ??= {})[operation.method.toLowerCase()] = describe(operation);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'lisens',
      version,
      summary: 'Licences of a motor-sport federation: orders, licences, users, checkout',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      schemas: { Error: ERROR },
      securitySchemes: {
        session: { type: 'apiKey', in: 'cookie', name: '__Host-lisens', description: 'set by POST /api/session' },
        csrf: { type: 'apiKey', in: 'header', name: 'X-CSRF-Token', description: 'csrf_token of GET /api/session; for every write' },
      },
    },
  };
}

function describe({ id: operationId, method, path, who, summary, query = {}, params = { id }, headers = [], body, answers, errors = [] }) {
  const write = method !== 'GET';
  const described = {
    operationId,
    summary,
    'x-role': who,
    security: who === 'anybody' ? [] : [write ? { session: [], csrf: [] } : { session: [] }],
    parameters: [
      ...[...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({ name, in: 'path', required: true, schema: params[name] })),
      ...Object.entries(query).map(([name, schema]) => ({
        name,
        in: 'query',
        schema,
        ...(schema.type === 'array' && { style: 'form', explode: false }),
      })),
      ...headers.map((header) => ({ in: 'header', required: true, ...header })),
    ],
    responses: {},
  };
  if (body) described.requestBody = { required: true, content: { 'application/json': { schema: body } } };
  for (const [status, schema] of Object.entries(answers)) {
    described.responses[status] = { description: MEANING[status] };
    if (schema) described.responses[status].content = { 'application/json': { schema } };
  }
  const always = [
    400,
    ...(who === 'anybody' ? [] : [401, 503]),
    ...(who === 'anybody' && !write ? [] : [403]),
    ...(path.includes('{') ? [404] : []),
    ...(body ? [413, 415, 422] : []),
  ];
  for (const status of new Set([...always, ...errors])) {
    described.responses[status] = {
      description: MEANING[status],
      content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
    };
  }
  return described;
}

// Changes with a release only, which begins with an empty cache: whoever asks meanwhile may get the old one.
const LIFETIME = 'public, max-age=10, stale-while-revalidate=60, stale-if-error=86400';

/** GET /openapi.json. */
export function showOpenApi(operations, info) {
  const text = JSON.stringify(openApi(operations, info));
  return async () => ({ headers: { 'content-type': 'application/json; charset=utf-8', 'cache-control': LIFETIME }, body: text });
}
