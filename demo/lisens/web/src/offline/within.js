/** What is promised, or nothing once the time is up. */
export async function within(promise, limit) {
  let timer;
  try {
    return await Promise.race([promise, new Promise((resolve) => (timer = setTimeout(resolve, limit)))]);
  } finally {
    clearTimeout(timer);
  }
}
