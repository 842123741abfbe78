// Names that the page and its worker agree on.

export const LOCK = 'lisens-queue';
export const CHANNEL = 'lisens-offline';
export const SYNC = 'lisens-queue';
export const CACHED_AT = 'x-lisens-cached-at';

export const SHELL_CACHE = 'lisens-shell-'; // and the version
export const API_CACHE = 'lisens-api';
export const IMAGE_CACHE = 'lisens-images';
