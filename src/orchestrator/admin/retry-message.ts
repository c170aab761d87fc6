/** The message of a retry: that of an ended job again, under a new id and with the secrets of the request. */
import { z } from "zod";
import { JOB_FIELDS } from "../job/fields.ts";
import type { JobRecord, RetryBasis, RetrySource } from "../records/job-records.ts";
import type { Problem } from "./problem.ts";

const { git_token, secrets, registry_auths, job_id } = JOB_FIELDS.shape;

/** No record contains a secret, so the request supplies those that the job had. */
export const RETRY_BODY = z
  .strictObject(
    { git_token, secrets, registry_auths, job_id },
    {
      error: ({ code, keys }) =>
        code === "unrecognized_keys"
          ? `${keys?.join(", ")}: unknown; expected git_token, secrets, registry_auths or job_id`
          : "expected a JSON object, or no body",
    },
  )
  .meta({ id: "Retry" });

export interface RetryRequest {
  /** As sent: a job message has the same fields. */
  readonly given: Readonly<Record<string, unknown>>;
  readonly checked: z.output<typeof RETRY_BODY>;
}

type Message = Readonly<Record<string, unknown>>;

/** The message, or why the job cannot be retried so. */
export function retryMessage(
  record: JobRecord,
  { basis }: RetrySource,
  { given, checked }: RetryRequest,
  newId: string,
): { readonly message: Message } | { readonly problem: Problem } {
  const { jobId, job, state } = record;
  if (!record.result) return { problem: notEnded(jobId, state) };
  if (!basis) return { problem: notStored(record) };
  const { withheldBuildArgs } = basis;
  if (withheldBuildArgs.length > 0) return { problem: withheld(jobId, withheldBuildArgs) };
  const errors = missingSecrets(basis, checked);
  if (checked.job_id === jobId) errors.push("job_id: expected another id than that of the retried job");
  if (errors.length > 0)
    return { problem: { status: 409, title: "Job cannot be retried so", detail: errors.join("; "), errors } };
  return { message: { ...job, build_args: basis.buildArgs, ...given, job_id: newId, retry_of: jobId } };
}

function notEnded(jobId: string, state: string): Problem {
  const detail = `job ${jobId} is ${state}: only an ended job can be retried; wait for its end, or cancel it first`;
  return { status: 409, title: "Job has not ended", detail };
}

function notStored({ jobId, job }: JobRecord): Problem {
  const why =
    Object.keys(job).length === 0
      ? "its record was lost with the data of Redis, and began again without the job's message"
      : "its record was made by an earlier version of Blacktree, without its build_args and the names of its secrets";
  return {
    status: 409,
    title: "Job cannot be retried",
    detail: `job ${jobId} cannot be retried: ${why}; submit the job again`,
  };
}

function withheld(jobId: string, names: readonly string[]): Problem {
  const detail = `job ${jobId} cannot be retried: a secret of the job was part of its build_args ${names.join(", ")}, which were therefore not stored; submit the job again`;
  return { status: 409, title: "Job cannot be retried", detail };
}

function missingSecrets(
  { hadGitToken, secretNames, registryHosts }: RetryBasis,
  { git_token, secrets, registry_auths }: RetryRequest["checked"],
): string[] {
  const missingOf = (had: readonly string[], given: object = {}) =>
    had.filter((name) => !Object.hasOwn(given, name)).join(", ");
  const missing = {
    git_token: hadGitToken && git_token === undefined ? "one" : "",
    secrets: missingOf(secretNames, secrets),
    registry_auths: missingOf(registryHosts, registry_auths),
  };
  return Object.entries(missing)
    .filter(([, names]) => names !== "")
    .map(
      ([field, names]) => `${field}: missing; the job had ${names}, and no secret is stored: send it again`,
    );
}
