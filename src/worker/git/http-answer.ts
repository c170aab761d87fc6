/** The meaning of an HTTP answer for a job: of git hosts and Git LFS servers, to git's requests and the worker's own. */

import type { Throttling } from "../job/failure.ts";
import { mayPassLater } from "../job/http-status.ts";
import { type AnswerHeaders, retryAfter } from "../job/retry-after.ts";

/** A `Response` is one. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: AnswerHeaders;
}

export type AnswerKind =
  | "success"
  | "redirect"
  /** The server asks the client to wait: 429, or another refusal with Retry-After. */
  | "throttled"
  /** 401: the credentials are missing or wrong. */
  | "unauthenticated"
  /** 403 without Retry-After. */
  | "forbidden"
  /** 404, 410 and 451. */
  | "missing"
  /** The server fails now, and may work later. */
  | "unavailable"
  /** The same request will fail again. */
  | "refused";

export interface Verdict {
  readonly kind: AnswerKind;
  readonly retryable: boolean;
  /** The server asks to wait. */
  readonly throttled: Throttling | undefined;
}

const MISSING: ReadonlySet<number> = new Set([404, 410, 451]);

export function judge(answer: HttpAnswer): Verdict {
  const retryAfterMs = retryAfter(answer.headers);
  const kind = kindOf(answer.status, retryAfterMs !== undefined);
  // Without a wait, the next request is one of the tries.
  const throttled = retryAfterMs ? { retryAfterMs } : undefined;
  return { kind, retryable: kind === "throttled" || kind === "unavailable", throttled };
}

/** For messages, after the name of the server. */
export function describeAnswer(answer: HttpAnswer): string {
  const { kind, throttled } = judge(answer);
  const retryAfterMs = throttled?.retryAfterMs;
  const { status } = answer;
  if (kind !== "throttled") return `answered with HTTP ${status}`;
  const wait = retryAfterMs === undefined ? "" : ` and asks to wait ${Math.ceil(retryAfterMs / 1000)} s`;
  return `limits requests (HTTP ${status})${wait}`;
}

function kindOf(status: number, asksToWait: boolean): AnswerKind {
  if (status < 300) return "success";
  if (status < 400) return "redirect";
  if (status === 429 || (asksToWait && (status === 403 || status >= 500))) return "throttled";
  if (status === 401) return "unauthenticated";
  if (status === 403) return "forbidden";
  if (MISSING.has(status)) return "missing";
  return mayPassLater(status) ? "unavailable" : "refused";
}
