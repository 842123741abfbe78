// How a visitor finds things on the pages: by role and accessible name, in any of the three languages. The only file
// to change when the pages are called something else.

import { address } from './support.js';

export const paths = {
  home: '/',
  orders: '/orders',
  licences: '/licences',
  users: '/users',
  help: '/help',
  signIn: '/sign-in',
  checkout: '/checkout',
};
/** The routes everybody may see, and those for officials. */
export const routes = {
  open: [paths.home, paths.help, paths.signIn],
  official: [paths.orders, paths.licences, paths.users, paths.checkout],
};

const names = {
  email: /e-?post|e-?mail/i,
  password: /passord|lösenord|password/i,
  signIn: /logg inn|logga in|sign in/i,
  choose: /kjøp|velg|legg|köp|välj|lägg|buy|choose|add/i,
  basket: /kurv|korg|basket/i,
  account: /konto|account/i,
  signOut: /logg ut|logga ut|sign out/i,
  confirm: /^(?:bekreft|bekräfta|confirm)/i,
  pay: /^(?:betal|pay)|send når|skicka när|send when/i, // without a network it is queued instead
  orders: /ordre|bestilling|order|beställning/i,
  waiting: /venter|väntar|waiting/i,
  asOf: /as of|as it was|slik det var|så som det var|som det var|sist (?:sett|hentet|oppdatert)|senast|per \d/i,
};

export const ROW = '[role=row][data-index]';
export const LIST = '[role=region]:has([role=table])';
export const rows = (page) => page.locator(ROW);
export const pendingCount = async (page) =>
  Number.parseInt(
    (await page
      .getByRole('banner')
      .getByRole('button', { name: names.waiting })
      .first()
      .textContent({ timeout: 2_000 })
      .catch(() => '0')) || '0',
    10,
  ) || 0;
export const payButton = (page) => page.locator('main').getByRole('button', { name: names.pay });
export const asOf = (page) => page.getByTestId('as-of').or(page.locator('main').getByText(names.asOf)).first();
export const ordersLink = (page) => page.getByRole('navigation').getByRole('link', { name: names.orders }).first();

const checkoutLink = (page) => page.locator(`a[href="${paths.checkout}"]`).first();
export const chooseButton = (page) => page.locator('main').getByRole('button', { name: names.choose }).first();
const basketButton = (page) => page.getByRole('banner').getByRole('button', { name: names.basket });

/** Puts a licence into the basket and stops before paying. `press` is how a visitor presses things. */
export async function choose(page, press = (what) => what.click()) {
  if (new URL(page.url(), address).pathname !== paths.home)
    await page.getByRole('navigation').locator(`a[href="${paths.home}"]`).first().click();
  await press(chooseButton(page));
  await page.waitForTimeout(300); // a dialog may open by itself
  if ((await basketButton(page).isVisible()) && !(await checkoutLink(page).isVisible()) && !(await payButton(page).isVisible()))
    await press(basketButton(page));
  await payButton(page).or(checkoutLink(page)).first().waitFor();
  if (!(await payButton(page).isVisible())) await press(checkoutLink(page));
  const confirm = page.getByRole('button', { name: names.confirm });
  await payButton(page).or(confirm).first().waitFor();
  if (!(await payButton(page).first().isVisible())) await press(confirm);
  await payButton(page).waitFor();
}

export async function signOut(page) {
  const button = page.getByRole('button', { name: names.signOut });
  const account = page.getByRole('banner').getByRole('button', { name: names.account });
  await button.or(account).first().waitFor();
  if (!(await button.isVisible())) await account.click();
  await button.click();
}

export async function fillSignIn(page, email, password) {
  await page.getByLabel(names.email).fill(email);
  await page.getByLabel(names.password).fill(password);
}
export const signInButton = (page) => page.locator('main').getByRole('button', { name: names.signIn });

/** Presses Tab until what has the focus matches; with the keyboard alone. */
export async function tabTo(page, locator, most = 120) {
  await locator.waitFor();
  const there = () => locator.evaluate((element) => element === document.activeElement);
  for (let i = 0; i < most; i += 1) {
    if (await there()) return;
    await page.keyboard.press('Tab');
  }
  throw new Error(`Tab does not lead to ${locator}`);
}

export { names };
