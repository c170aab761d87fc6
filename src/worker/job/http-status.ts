/** Request Timeout, Too Early. */
const TEMPORARY: ReadonlySet<number> = new Set([408, 425]);
/** Not Implemented, HTTP Version Not Supported. */
const PERMANENT: ReadonlySet<number> = new Set([501, 505]);

/** The server refuses the request now, and may accept the same one later. 429 (Too Many Requests) is not one of these. */
export function mayPassLater(status: number): boolean {
  return TEMPORARY.has(status) || (status >= 500 && !PERMANENT.has(status));
}
