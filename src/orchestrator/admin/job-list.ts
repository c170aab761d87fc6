/** `GET /api/v1/jobs`: the query's filters and cursor. */
import { z } from "zod";
import { JOB_STATES } from "../../shared/job.ts";
import { type GitSettings, InvalidRepositoryUrl, resolveRepositoryUrl } from "../../shared/repository-url.ts";
import { duration } from "../../shared/settings/parsers.ts";
import { JOB_ID_PATTERN } from "../job/fields.ts";
import type { JobListing, JobPlace } from "../records/job-records.ts";

const MAX_LIMIT = 500;
const DEFAULT_LIMIT = 50;

const STATES = new Set<string>(JOB_STATES);
const STATE_PATTERN = `(?:${JOB_STATES.join("|")})`;

const stateList = z
  .string()
  .transform((text) => text.toUpperCase().split(","))
  .refine((states) => states.every((state) => STATES.has(state)), {
    error: `expected one or more of ${JOB_STATES.join(", ")}, comma separated`,
  })
  .meta({
    type: "string",
    pattern: `^${STATE_PATTERN}(?:,${STATE_PATTERN})*$`,
    description: "Jobs in one of these states, comma separated.",
    examples: ["QUEUED,BUILDING"],
  });

const AGE = /^\d{1,9}(?:\.\d{1,9})?(?:ms|s|m|h|d)$/;
/** Date would read a day that does not exist as one of the next month. */
const DAY = z.regexes.date.source.slice(1, -1);
const TIME_OF_DAY = String.raw`(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)`;

const parseAge = duration(0, Number.MAX_SAFE_INTEGER * 1000);

/** A time, or how long ago. */
const time = z
  .string()
  .regex(new RegExp(`${AGE.source}|^${DAY}T${TIME_OF_DAY}$`), {
    error: "expected a time such as 2026-01-31T12:00:00Z, of a day that exists, or an age such as 90m or 7d",
  })
  .transform((text) => (AGE.test(text) ? Date.now() - parseAge(text) : Date.parse(text)));

const cursor = z
  .string()
  .regex(/^[A-Za-z0-9_-]{1,300}$/, { error: "expected the next_cursor of an earlier answer" })
  .transform((text, context): JobPlace => {
    const [, acceptedAtMs, jobId = ""] = PLACE.exec(Buffer.from(text, "base64url").toString()) ?? [];
    const place = { acceptedAtMs: Number(acceptedAtMs), jobId };
    // Many texts decode to the same place; only one is the cursor.
    if (acceptedAtMs !== undefined && cursorOf(place) === text) return place;
    context.addIssue({ code: "custom", message: "expected the next_cursor of an earlier answer" });
    return z.NEVER;
  })
  .meta({ description: "The `next_cursor` of an earlier answer: the jobs after those." });

/** The time is not one that Date cannot show. */
const PLACE = new RegExp(`^(\\d{1,15}):(${JOB_ID_PATTERN.source.slice(1, -1)})$`);

const described = (description: string, example: string, schema = z.string().min(1, "expected a value")) =>
  schema.meta({ description, examples: [example] });

export const JOBS_QUERY = z.strictObject({
  state: stateList.optional(),
  tenant: described("Jobs of this tenant.", "team-a").optional(),
  region: described(
    "Jobs for workers of this region: their `worker_region`, or else their `region`.",
    "us-east-1",
  ).optional(),
  repo: described(
    "Jobs of this repository: its URL, or the end of it, such as `owner/name`.",
    "owner/name",
  ).optional(),
  branch: described("Jobs with this `branch`.", "main").optional(),
  commit: z
    .string()
    .regex(/^[0-9a-fA-F]{4,64}$/, { error: "expected 4 to 64 hex digits" })
    .transform((digits) => digits.toLowerCase())
    .meta({ description: "Jobs of a commit that begins with these hex digits.", examples: ["8c1f0f6"] })
    .optional(),
  since: time
    .meta({ description: "Jobs accepted from this time on, in RFC 3339, or an age.", examples: ["7d"] })
    .optional(),
  until: time
    .meta({
      description: "Jobs accepted up to and including this time, in RFC 3339, or an age.",
      examples: ["2026-01-31T12:00:00Z"],
    })
    .optional(),
  limit: z
    .string()
    .refine((text) => /^\d{1,3}$/.test(text) && Number(text) >= 1 && Number(text) <= MAX_LIMIT, {
      error: `expected a number from 1 to ${MAX_LIMIT}`,
    })
    .transform(Number)
    .meta({
      type: "integer",
      minimum: 1,
      maximum: MAX_LIMIT,
      default: DEFAULT_LIMIT,
      description: "How many jobs at most.",
    })
    .optional(),
  cursor: cursor.optional(),
});

type Query = z.infer<typeof JOBS_QUERY>;

export function listingOf(query: Query, git: GitSettings): JobListing {
  const { limit = DEFAULT_LIMIT, since: sinceMs, until } = query;
  const after = query.cursor ?? (until === undefined ? undefined : { acceptedAtMs: until + 1, jobId: "" });
  return { matches: matcherOf(query, git), limit, after, sinceMs };
}

export function cursorOf({ acceptedAtMs, jobId }: JobPlace): string {
  return Buffer.from(`${acceptedAtMs}:${jobId}`).toString("base64url");
}

function matcherOf(wanted: Query, git: GitSettings): JobListing["matches"] {
  const isRepository = wanted.repo === undefined ? undefined : repositoryMatcher(wanted.repo, git);
  return ({ job, state, result }) => {
    const commit = result?.commit ?? job.commit;
    return (
      (wanted.state?.includes(state) ?? true) &&
      (wanted.tenant === undefined || wanted.tenant === job.tenant) &&
      (wanted.region === undefined || wanted.region === (job.worker_region ?? job.region)) &&
      (wanted.branch === undefined || wanted.branch === job.branch) &&
      (wanted.commit === undefined ||
        (typeof commit === "string" && commit.toLowerCase().startsWith(wanted.commit))) &&
      (isRepository?.(job.repo_url) ?? true)
    );
  };
}

/** A URL names one repository; any other text also those whose URL ends with it. */
function repositoryMatcher(wanted: string, git: GitSettings): (repoUrl: unknown) => boolean {
  const isUrl = wanted.includes("://");
  const name = nameOf(isUrl ? resolved(wanted, git) : wanted);
  return (repoUrl) => {
    if (typeof repoUrl !== "string") return false;
    const own = nameOf(resolved(repoUrl, git));
    return own === name || (!isUrl && own.endsWith(`/${name}`));
  };
}

/** As it is, if the settings do not allow it: they may have changed since the job was accepted. */
function resolved(repoUrl: string, git: GitSettings): string {
  try {
    return resolveRepositoryUrl(repoUrl, git);
  } catch (error) {
    if (error instanceof InvalidRepositoryUrl) return repoUrl;
    throw error;
  }
}

/** Servers of git serve a repository with and without these. */
function nameOf(url: string): string {
  return url
    .replace(/^https?:\/\//, "")
    .replace(/\/+$/, "")
    .replace(/\.git$/, "");
}
