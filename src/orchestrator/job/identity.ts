/** Which fields make two messages with one id the same job (docs/messages.md, "Identity"). */
import { posix } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { canonicalPlatforms } from "../../shared/platforms.ts";
import type { JobIdentity } from "../records/job-records.ts";
import { FIELD_DEFAULTS, type JobFields, SECRET_FIELDS, tenantOf } from "./fields.ts";

/**
 * Every field of the message counts, except `job_id`, which may be a property of the message, and secrets, which rotate:
 * of `secrets` only the names. Only hashes of an identity are stored.
 */
export function identityOf(repoUrl: string, fields: JobFields): JobIdentity {
  const { job_id: _, ...submitted } = fields;
  const compared = {
    ...Object.fromEntries(Object.entries(submitted).filter(([name]) => !SECRET_FIELDS.has(name))),
    repo_url: repoUrl,
    tenant: tenantOf(fields),
    platforms: canonicalPlatforms(fields.platforms ?? []),
    secrets: Object.keys(fields.secrets ?? {}).toSorted(),
  };
  const defaults: Readonly<Record<string, unknown>> = { ...FIELD_DEFAULTS, ...dependentDefaults(fields) };
  return Object.fromEntries(
    Object.entries(compared).filter(
      ([name, value]) => value !== undefined && !isDeepStrictEqual(value, defaults[name]),
    ),
  );
}

/**
 * `region` has no default here, and `worker_region` only that of a message with `region`: the default is a setting, and
 * the same message may be delivered to another orchestrator, with another one.
 */
function dependentDefaults({ region, context = "." }: JobFields) {
  return {
    worker_region: region,
    context: ".",
    dockerfile: posix.join(context, "Dockerfile"),
    secrets: [],
  };
}

/** For the sender. Contains no value. */
export function describeConflict(fields: readonly string[]): string {
  return `the id is that of another job, which differs in: ${fields.join(", ")}`;
}
