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

export function problem(context: Context, document: Problem): Response {
  const body = JSON.stringify({ type: "about:blank", ...document });
  return context.body(body, document.status, { "content-type": "application/problem+json" });
}
