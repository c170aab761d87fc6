/** What the admin API answers about jobs, as it is described in the OpenAPI document. */
import { z } from "zod";
import { ERROR_CODES, JOB_STATES, STEPS } from "../../shared/job.ts";
import { FIELD_DEFAULTS, JOB_FIELDS, JOB_ID_PATTERN, SECRET_FIELDS } from "../job/fields.ts";
import { STEPS as BUILD_STEPS } from "./job-steps.ts";

const TIME = z.iso.datetime();
const DURATION_MS = z.int().min(0);
const HEX_SHA256 = /^[0-9a-f]{64}$/;

export const JOB_ID = z.string().regex(JOB_ID_PATTERN);
export const JOB_STATE = z.enum(JOB_STATES).meta({ id: "JobState" });

const REPO_URL = z
  .string()
  .min(1)
  .max(2000)
  .regex(
    /^(?!(?:[\s\S]*\/)?\.{1,2}(?:\/|$))(?:https:\/\/[A-Za-z0-9.:-]+(?:\/[A-Za-z0-9_.][A-Za-z0-9._~-]*)+\/?|[A-Za-z0-9_.][A-Za-z0-9_.-]*(?:\/[A-Za-z0-9_.][A-Za-z0-9_.-]*)+)$/,
  )
  .meta({
    description:
      "`owner/name`, which is appended to `BLACKTREE_GIT_BASE_URL`, or an `https://` URL whose host is allowed (`BLACKTREE_GIT_ALLOWED_HOSTS`).",
    examples: ["username/reponame"],
  });

const DEFAULTS: Readonly<Record<string, unknown>> = FIELD_DEFAULTS;

const FIELDS = Object.entries(JOB_FIELDS.shape).map(([name, field]): [string, z.ZodType] => [
  name,
  name in DEFAULTS ? field.meta({ ...field.meta(), default: DEFAULTS[name] }) : field,
]);

export const SUBMITTED_JOB = z.object({ repo_url: REPO_URL, ...Object.fromEntries(FIELDS) }).meta({
  id: "SubmittedJob",
  description: "A job message, as in the queue. Unknown fields are ignored.",
});

const JOB_ERROR = z
  .object({
    code: z.enum(ERROR_CODES),
    message: z.string(),
    step: z.enum(STEPS).meta({ description: "The step that failed." }),
    retryable: z.boolean().meta({ description: "The same job may succeed on another worker or later." }),
  })
  .meta({ id: "JobError", description: "Why a job, or an attempt, did not succeed." });

const JOB_EVENT = z
  .looseObject({
    job_id: JOB_ID,
    tenant: z.string().nullable(),
    attempt: z.int().min(0).meta({ description: "0 before the first attempt." }),
    seq: z.int().min(0).meta({ description: "Grows by one with every event of the job." }),
    state: JOB_STATE,
    at: TIME,
  })
  .meta({
    id: "JobEvent",
    description: "A change of a job's state. Some states add fields, such as `error` and `delay_ms`.",
  });

const RESULT_SUMMARY = {
  job_id: JOB_ID,
  tenant: z.string().nullable(),
  status: z.enum(["SUCCESS", "FAILED", "CANCELLED"]),
  image_url: z.string().nullable().meta({ description: "Null unless the job has succeeded." }),
  image_digest: z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/)
    .nullable(),
  commit: z.string().nullable().meta({ description: "The commit that was built." }),
  deployment_version: z.string().nullable(),
  aws_account: z.string().nullable(),
  ecr_repo: z.string().nullable(),
  region: z.string().nullable(),
  worker_id: z.string().nullable().meta({ description: "The worker of the last attempt." }),
  attempt: z.int().min(0),
  log: z
    .object({
      bytes: z.int().min(0),
      lines: z.int().min(0),
      sha256: z.string().regex(HEX_SHA256),
      truncated: z.boolean().meta({ description: "It is not everything that the build printed." }),
    })
    .meta({ description: "Describes the whole kept log." }),
  error: JOB_ERROR.nullable(),
  timings_ms: z.object({
    queued: DURATION_MS,
    clone: DURATION_MS,
    build: DURATION_MS,
    auth: DURATION_MS,
    push: DURATION_MS,
    total: DURATION_MS,
  }),
  accepted_at: TIME.nullable(),
  started_at: TIME.nullable(),
  finished_at: TIME,
};

const JOB_RESULT = z
  .object({
    ...RESULT_SUMMARY,
    logs: z.array(z.string()).meta({ description: "The last lines of the log." }),
  })
  .meta({ id: "JobResult", description: "The job's result, as in the result queue." });

const JOB_RESULT_SUMMARY = z
  .object(RESULT_SUMMARY)
  .meta({ id: "JobResultSummary", description: "The job's result without the lines of its log." });

/** A record that began with an event, after a loss of Redis, does not have the message. */
const SHOWN_FIELDS = Object.fromEntries(
  Object.entries(JOB_FIELDS.shape)
    .filter(([name]) => !SECRET_FIELDS.has(name))
    .map(([name, field]) => [name, (field as z.ZodType).optional()]),
);

const SHOWN_JOB = {
  repo_url: z.string().optional().meta({ description: "As submitted." }),
  ...SHOWN_FIELDS,
  job_id: JOB_ID,
  state: JOB_STATE,
  accepted_at: TIME,
};

export const JOB = z
  .object({
    ...SHOWN_JOB,
    events: z.array(JOB_EVENT).meta({ description: "The last 200." }),
    steps: BUILD_STEPS,
    result: JOB_RESULT.nullable().meta({ description: "Null until the job has ended." }),
  })
  .meta({
    id: "Job",
    description:
      "The job's message without secrets and with masked values of `build_args`, its state, its events, its build steps and its result.",
  });

const JOB_SUMMARY = z
  .object({
    ...SHOWN_JOB,
    result: JOB_RESULT_SUMMARY.nullable().meta({ description: "Null until the job has ended." }),
  })
  .meta({ id: "JobSummary", description: "A job without its events and the lines of its log." });

export const JOB_PAGE = z
  .object({
    items: z.array(JOB_SUMMARY),
    next_cursor: z
      .string()
      .nullable()
      .meta({ description: "For the parameter `cursor`; null at the end of the list." }),
  })
  .meta({ id: "JobPage" });
