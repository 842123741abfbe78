// The errors that have a meaning for the caller. Everything else is a fault of
// ours and is answered as one, without its details.

/** An answer that is not a success: status, a stable code, and a sentence saying what to do. */
export class HttpError extends Error {
  constructor(status, code, message, { headers = {}, details } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
    /** What is wrong with which part of the request. */
    this.details = details;
  }
}

/** PostgreSQL could not be asked, or its answer was lost. */
export class DatabaseUnavailable extends Error {
  constructor(cause, { deadConnection = false } = {}) {
    super('the database is unavailable', { cause });
    /** The connection existed and broke: a fresh one may work. */
    this.deadConnection = deadConnection;
  }
}
