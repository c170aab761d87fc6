/** A `Response` has them. */
export interface AnswerHeaders {
  get(name: string): string | null | undefined;
}

/**
 * How long a server asks to wait, in ms: the number of seconds, or the date, in Retry-After (RFC 9110, 10.2.3). A date in
 * the past means 0. Undefined without a valid one.
 */
export function retryAfter(headers: AnswerHeaders): number | undefined {
  const value = headers.get("retry-after")?.trim() ?? "";
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  // The date's format of HTTP: Date.parse accepts many others.
  if (!/^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/.test(value)) return undefined;
  // Compared with the server's clock, which may differ from that of this machine.
  const serverTimeMs = Date.parse(headers.get("date") ?? "");
  const waitMs = Date.parse(value) - (Number.isNaN(serverTimeMs) ? Date.now() : serverTimeMs);
  return Number.isNaN(waitMs) ? undefined : Math.max(0, waitMs);
}
