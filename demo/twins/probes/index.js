import data from './data.js';
import errors from './errors.js';
import flows from './flows.js';
import frontend from './frontend.js';
import lists from './lists.js';
import pipeline from './pipeline.js';
import security from './security.js';
import ux from './ux.js';

/** `{ id, breaks: [canonical ids], needs, probe(target) -> { passed, evidence } }` */
export const probes = [...lists, ...data, ...errors, ...security, ...pipeline, ...flows, ...frontend, ...ux];
