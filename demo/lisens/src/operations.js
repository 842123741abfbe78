// Everything that can be asked of the shop.

import { checkout } from './checkout.js';
import { reportClientError } from './client-errors.js';
import { answerLarge, answerSlowly, showVersion } from './drills.js';
import { estimateSeason } from './estimate.js';
import { showHealth, showLiveness } from './health.js';
import { changeLicences, listLicenceKinds, listLicences } from './licences.js';
import { addNote } from './notes.js';
import { listOrders, refundOrder, showOrder } from './orders.js';
import { dropReservation, reserve } from './reservations.js';
import { showSession, signIn, signOut } from './sign-in.js';
import { changeUser, listUsers, showUser } from './users.js';

/** Those of the OpenAPI document. */
export const operations = [
  showSession,
  signIn,
  signOut,
  listLicenceKinds,
  estimateSeason,
  reserve,
  dropReservation,
  checkout,
  listOrders,
  showOrder,
  refundOrder,
  addNote,
  listLicences,
  changeLicences,
  listUsers,
  showUser,
  changeUser,
  reportClientError,
  showVersion,
  answerSlowly,
  answerLarge,
  showHealth,
  showLiveness,
];
