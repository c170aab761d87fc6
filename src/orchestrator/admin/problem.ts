/** Errors of the admin API: problem documents (RFC 9457). */
import type { Context } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { LeasesUnavailable } from "../leases/leases.ts";
import { RecordsUnavailable } from "../records/job-records.ts";

/** A server does not answer, which its client has logged already. */
export function isUnavailable(error: unknown): boolean {
  return error instanceof LeasesUnavailable || error instanceof RecordsUnavailable;
}

export interface Problem {
  readonly status: ContentfulStatusCode;
  readonly title: string;
  readonly detail?: string;
  /** One entry per problem. */
  readonly errors?: readonly string[];
}

/** About as long as the orchestrator takes to connect again to a server that answers again. */
const RETRY_AFTER_SECONDS = 5;

export function problem(context: Context, document: Problem): Response {
  if (document.status === 503) context.header("Retry-After", String(RETRY_AFTER_SECONDS));
  return context.body(problemText(document), document.status, { "content-type": PROBLEM_TYPE });
}

export const PROBLEM_TYPE = "application/problem+json";

export function problemText(document: Problem): string {
  return JSON.stringify({ type: "about:blank", ...document });
}

export const INTERNAL_ERROR: Problem = {
  status: 500,
  title: "Internal error",
  detail: "an error of Blacktree; the orchestrator's log has it",
};
