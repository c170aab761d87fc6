/** `GET /api/v1/jobs`: the query's filters and cursor. */
import { z } from "zod";
import { JOB_STATES } from "../../shared/job.ts";
import { duration } from "../../shared/settings/parsers.ts";
import { BadValue } from "../../shared/settings/settings.ts";
import type { JobListing, JobPlace, JobSummary } from "../records/job-records.ts";

const MAX_LIMIT = 500;
const DEFAULT_LIMIT = 50;
const MAX_AGE_MS = 10 * 365 * 86_400_000;

const STATES = new Set<string>(JOB_STATES);

const stateList = z
  .string()
  .transform((text) => text.toUpperCase().split(","))
  .refine((states) => states.every((state) => STATES.has(state)), {
    error: `expected one or more of ${JOB_STATES.join(", ")}, comma separated`,
  });

const parseAge = duration(0, MAX_AGE_MS);

/** A time, or how long ago. */
const time = z.string().transform((text, context) => {
  const isTime = /^\d{4}-\d{2}-\d{2}T[\d:.]+(Z|[+-]\d{2}:\d{2})$/.test(text);
  const timeMs = isTime ? Date.parse(text) : ageAgoMs(text);
  if (Number.isFinite(timeMs)) return timeMs;
  context.addIssue({
    code: "custom",
    message: "expected a time such as 2026-01-31T12:00:00Z, or an age such as 90m or 7d",
  });
  return z.NEVER;
});

function ageAgoMs(text: string): number {
  try {
    return Date.now() - parseAge(text);
  } catch (error) {
    if (error instanceof BadValue) return Number.NaN;
    throw error;
  }
}

const cursor = z.string().transform((text, context): JobPlace => {
  const [, acceptedAtMs, jobId = ""] =
    /^(\d{1,15}):(.+)$/.exec(Buffer.from(text, "base64url").toString()) ?? [];
  if (acceptedAtMs !== undefined) return { acceptedAtMs: Number(acceptedAtMs), jobId };
  context.addIssue({ code: "custom", message: "expected the next_cursor of an earlier answer" });
  return z.NEVER;
});

const QUERY = z.strictObject(
  {
    state: stateList.optional(),
    tenant: z.string().optional(),
    region: z.string().optional(),
    repo: z.string().optional(),
    branch: z.string().optional(),
    commit: z
      .string()
      .regex(/^[0-9a-f]{4,64}$/, { error: "expected 4 to 64 hex digits, in lower case" })
      .optional(),
    since: time.optional(),
    until: time.optional(),
    limit: z
      .string()
      .regex(/^\d{1,3}$/, { error: `expected a number from 1 to ${MAX_LIMIT}` })
      .transform(Number)
      .refine((limit) => limit >= 1 && limit <= MAX_LIMIT, {
        error: `expected a number from 1 to ${MAX_LIMIT}`,
      })
      .optional(),
    cursor: cursor.optional(),
  },
  {
    error: ({ code, keys }) =>
      code === "unrecognized_keys"
        ? `${keys?.join(", ")}: unknown; expected state, tenant, region, repo, branch, commit, since, until, limit or cursor`
        : undefined,
  },
);

type Query = z.infer<typeof QUERY>;

/** The listing that a query asks for, or its problems. */
export function listingOf(query: Readonly<Record<string, string>>): JobListing | readonly string[] {
  const { success, data, error } = QUERY.safeParse(query);
  if (!success) return error.issues.map(({ path, message }) => [...path, message].join(": "));
  const { limit = DEFAULT_LIMIT, since: sinceMs, until } = data;
  const after = data.cursor ?? (until === undefined ? undefined : { acceptedAtMs: until + 1, jobId: "" });
  return { matches: (job) => isWanted(job, data), limit, after, sinceMs };
}

export function cursorOf({ acceptedAtMs, jobId }: JobPlace): string {
  return Buffer.from(`${acceptedAtMs}:${jobId}`).toString("base64url");
}

function isWanted({ job, state, result }: JobSummary, wanted: Query): boolean {
  const commit = result?.commit ?? job.commit;
  return (
    (wanted.state?.includes(state) ?? true) &&
    (wanted.tenant === undefined || wanted.tenant === job.tenant) &&
    (wanted.region === undefined || wanted.region === (job.worker_region ?? job.region)) &&
    (wanted.branch === undefined || wanted.branch === job.branch) &&
    (wanted.commit === undefined || (typeof commit === "string" && commit.startsWith(wanted.commit))) &&
    (wanted.repo === undefined || isRepository(job.repo_url, wanted.repo))
  );
}

/** `owner/name` also names the repository of a job with its whole URL. */
function isRepository(repoUrl: unknown, wanted: string): boolean {
  if (typeof repoUrl !== "string") return false;
  const [given, other] = [repoUrl, wanted].map((url) => url.replace(/^https:\/\//, "").replace(/\.git$/, ""));
  return given === other || `${given}`.endsWith(`/${other}`);
}
