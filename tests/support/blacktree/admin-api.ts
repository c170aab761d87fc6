/** The admin API of an orchestrator that a test or a tool has started. */

/** Of every orchestrator that tests start with settings from `ADMIN_ENV`. */
export const ADMIN_TOKEN = "token-of-all-tests";

export const ADMIN_ENV = { BLACKTREE_ADMIN_TOKEN: ADMIN_TOKEN };

/** Sends a request with the token. */
export function apiRequest(
  apiUrl: string,
  path: string,
  init: RequestInit = {},
  token = ADMIN_TOKEN,
): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set("authorization", `Bearer ${token}`);
  return fetch(`${apiUrl}${path}`, { ...init, headers });
}
