// One JSON line per event on stdout. Nothing personal goes in: ids and counts,
// never names, e-mail addresses, bodies or connection strings.

// The reader of our log may go away; that must not end the shop.
process.stdout.on('error', () => {});

export function createLog(fields = { service: 'lisens' }) {
  const write = (level) => (msg, more) => {
    process.stdout.write(`${JSON.stringify({ time: new Date().toISOString(), level, msg, ...fields, ...more })}\n`);
  };
  return {
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    with: (more) => createLog({ ...fields, ...more }),
  };
}

/** The parts of an error that explain it: its message, code and cause, no stack. */
export function reason(error) {
  if (!error) return undefined;
  // A refused connection to a name with several addresses has an empty message.
  const message = error.message || error.errors?.map((each) => each.message).join('; ') || String(error);
  return { message, code: error.code, cause: reason(error.cause) };
}
