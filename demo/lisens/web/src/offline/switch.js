/** Whether `/sw-off.json` says that there shall be no worker. Whoever cannot ask goes on as before. */
export async function isOff(fetch) {
  try {
    const answer = await fetch('/sw-off.json', { cache: 'no-store' });
    return answer.status === 200 && (await answer.json()).off === true;
  } catch {
    return false;
  }
}
