import type { Hono } from "hono";
import { z } from "zod";
import { describeConflict } from "../job/identity.ts";
import type { JobRecord, JobSummary } from "../records/job-records.ts";
import { JOB, JOB_ID, JOB_PAGE, JOB_STATE, SUBMITTED_JOB } from "./answers.ts";
import type { AdminEnv } from "./client-address.ts";
import { cursorOf, JOBS_QUERY, listingOf } from "./job-list.ts";
import { shownSteps } from "./job-steps.ts";
import { checkedBody, jsonBody } from "./json-body.ts";
import { checkedQuery, documented } from "./openapi.ts";
import { reasonBody } from "./operator-order.ts";
import type { AdminParts } from "./parts.ts";
import { problem } from "./problem.ts";
import { type Acceptance, SUBMIT_TIMEOUT_MS } from "./submit-job.ts";
import { explainWaiting, WAITING } from "./waiting.ts";

const NO_SUCH_JOB = "The job does not exist, or its record has expired.";

type Conflict = Extract<Acceptance, { kind: "conflict" }>;

export function addJobs(app: Hono<AdminEnv>, parts: AdminParts): void {
  const { records } = parts;
  app.post(
    "/api/v1/jobs",
    documented({
      id: "submitJob",
      summary: "Submits a job",
      description: "In the same format as in the job queue. Answers after the queue has confirmed the job.",
      tag: "Jobs",
      status: 202,
      body: { schema: SUBMITTED_JOB },
      answer: SUBMITTED,
      answered: "The queue has confirmed the job.",
      problems: {
        400: "The job is not valid; `errors` has all errors in it.",
        409: "The id is that of another job; `detail` names the fields that differ.",
        503: "The queue did not confirm the job in time: submit it again with the `job_id` that `detail` names. Or Redis does not answer.",
      },
    }),
    jsonBody({ title: "Bad job" }),
    async (context) => {
      const body = context.req.valid("json");
      const acceptance = await parts.submit(body, AbortSignal.timeout(SUBMIT_TIMEOUT_MS));
      if (acceptance.kind === "accepted") return context.json({ job_id: acceptance.jobId }, 202);
      return notSubmitted(acceptance, context);
    },
  );

  app.get(
    "/api/v1/jobs",
    documented({
      summary: "Jobs, the latest first",
      description:
        "A list has the jobs that match all parameters. Until `next_cursor` is null there may be more jobs. An answer may have fewer items than `limit`, or none, and still a `next_cursor`, since one request reads at most 1,000 records, and about 8 MB of them.",
      tag: "Jobs",
      answer: JOB_PAGE,
    }),
    checkedQuery(JOBS_QUERY),
    async (context) => {
      const { jobs, next } = await records.list(listingOf(context.req.valid("query"), parts.git));
      return context.json({ items: jobs.map(shownSummary), next_cursor: next ? cursorOf(next) : null });
    },
  );

  app.get(
    "/api/v1/jobs/:id",
    documented({
      summary: "A job, its state, its events, its build steps and its result",
      description:
        "The record of an ended job is stored for `BLACKTREE_JOB_MEMORY` after its end. That of a job that was cancelled while it waited is stored until its message leaves its queue, for at most a year, and for `BLACKTREE_JOB_MEMORY` after that.",
      tag: "Jobs",
      answer: JOB,
      problems: { 404: NO_SUCH_JOB },
    }),
    async (context) => {
      const record = await records.find(context.req.param("id"));
      if (!record) return noSuchJob(context.req.param("id"), context);
      return context.json({ ...shownJob(record), steps: await shownSteps(parts, record) });
    },
  );

  app.get(
    "/api/v1/jobs/:id/waiting",
    documented({
      summary: "Why a job does not run yet",
      tag: "Jobs",
      answer: WAITING,
      problems: { 404: NO_SUCH_JOB },
    }),
    async (context) => {
      const record = await records.find(context.req.param("id"));
      if (!record) return noSuchJob(context.req.param("id"), context);
      return context.json(await explainWaiting(parts, record, new Date()));
    },
  );

  addCancel(app, parts);
}

const SUBMITTED = z.object({ job_id: JOB_ID }).meta({ id: "SubmittedJobId" });

const CANCELLED = z.object({ job_id: JOB_ID, state: JOB_STATE }).meta({ id: "CancelledJob" });

const CANCEL_BODY = reasonBody("For the job's log and result.", "wrong branch").meta({ id: "Cancellation" });

function addCancel(app: Hono<AdminEnv>, { cancel }: AdminParts): void {
  app.post(
    "/api/v1/jobs/:id/cancel",
    documented({
      summary: "Cancels a job",
      description: "Answers 202 also if the job is already cancelled.",
      tag: "Jobs",
      status: 202,
      body: { schema: CANCEL_BODY, isOptional: true },
      answer: CANCELLED,
      answered: "The job ends, or has ended; `state` is its current state.",
      problems: { 404: NO_SUCH_JOB, 409: "The job has ended in another state." },
    }),
    checkedBody(CANCEL_BODY),
    async (context) => {
      const jobId = context.req.param("id");
      const cancellation = await cancel(jobId, context.req.valid("json").reason);
      if (cancellation.kind === "unknown") return noSuchJob(jobId, context);
      const { kind, state } = cancellation;
      if (kind === "cancelling" || state === "CANCELLED") return context.json({ job_id: jobId, state }, 202);
      return problem(context, {
        status: 409,
        title: "Job has ended",
        detail: `job ${jobId} is ${state}: too late to cancel it`,
      });
    },
  );
}

type JobContext = Parameters<typeof problem>[0];

export function notSubmitted(
  acceptance: Exclude<Acceptance, { kind: "accepted" }>,
  context: JobContext,
): Response {
  if (acceptance.kind === "unconfirmed") {
    const { jobId } = acceptance;
    const detail = `the queue did not confirm the job in time, and may have it or not: submit it again with job_id ${jobId}, which never starts a second job`;
    return problem(context, { status: 503, title: "Not available", detail });
  }
  if (acceptance.kind === "conflict") return idInUse(acceptance, context);
  const { problems: errors } = acceptance;
  return problem(context, { status: 400, title: "Bad job", detail: errors.join("; "), errors });
}

function idInUse({ fields }: Conflict, context: JobContext): Response {
  return problem(context, {
    status: 409,
    title: "Id in use",
    detail: describeConflict(fields),
  });
}

export function noSuchJob(jobId: string, context: JobContext): Response {
  return problem(context, {
    status: 404,
    title: "No such job",
    detail: `job ${jobId} does not exist, or its record has expired`,
  });
}

function shownJob(record: JobRecord) {
  const { jobId: job_id, job, state, events, result } = record;
  return {
    ...job,
    job_id,
    state,
    accepted_at: record.acceptedAt.toISOString(),
    events,
    result: result ?? null,
  };
}

function shownSummary({ jobId: job_id, job, acceptedAt, state, result }: JobSummary) {
  return { ...job, job_id, state, accepted_at: acceptedAt.toISOString(), result: result ?? null };
}
