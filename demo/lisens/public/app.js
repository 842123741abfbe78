// Shows the latest orders, a page at a time. When the shop cannot answer, what
// is already shown stays, and the reader is told what to do.

const PAGE = 20;
const table = document.querySelector('#orders');
const body = table.tBodies[0];
const more = document.querySelector('#more');
const count = document.querySelector('#count');
const problem = document.querySelector('#problem');

const money = new Intl.NumberFormat('nb-NO', { style: 'currency', currency: 'NOK' });
const moment = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'short' });
let next = null;

async function getJson(path) {
  const response = await fetch(path, { headers: { accept: 'application/json' } });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.message ?? 'The shop did not answer as expected. Try again in a moment.');
  return answer;
}

function cell(tag, text, className) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

function orderRow(order) {
  const row = document.createElement('tr');
  const number = cell('th', `#${order.id}`);
  number.scope = 'row';
  const placed = document.createElement('td');
  const time = cell('time', moment.format(new Date(order.created_at)));
  time.dateTime = order.created_at;
  placed.append(time);
  row.append(
    number,
    cell('td', order.user_name),
    placed,
    cell('td', order.status === 'paid' ? 'Paid' : 'Refunded', order.status),
    cell('td', money.format(order.total_ore / 100), 'amount'),
  );
  return row;
}

function waitingRow() {
  const row = document.createElement('tr');
  row.className = 'waiting';
  row.setAttribute('aria-hidden', 'true');
  for (let column = 0; column < 5; column += 1) row.append(document.createElement('td'));
  return row;
}

async function showMore() {
  more.disabled = true;
  problem.hidden = true;
  table.setAttribute('aria-busy', 'true');
  const waiting = Array.from({ length: PAGE }, waitingRow);
  body.append(...waiting);
  try {
    const query = new URLSearchParams({ limit: PAGE });
    if (next) query.set('cursor', next);
    const page = await getJson(`/api/orders?${query}`);
    waiting[0].before(...page.orders.map(orderRow));
    next = page.next;
    more.hidden = next === null;
  } catch (error) {
    problem.textContent = error instanceof TypeError ? 'The shop cannot be reached. Check the network and try again.' : error.message;
    problem.hidden = false;
  } finally {
    for (const row of waiting) row.remove();
    more.disabled = false;
    more.textContent = problem.hidden ? 'Show more' : 'Try again';
    table.setAttribute('aria-busy', 'false');
    count.textContent = body.rows.length === 0 ? 'No orders yet' : `${body.rows.length} orders shown`;
  }
}

more.addEventListener('click', showMore);
showMore();
getJson('/api/version').then(
  ({ version, release }) => { document.querySelector('#version').textContent = `Version ${version}${release ? `, release ${release}` : ''}`; },
  () => {}, // the version is only a courtesy
);
