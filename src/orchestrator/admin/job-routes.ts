import type { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { z } from "zod";
import { describeConflict } from "../job/identity.ts";
import type { JobRecord, JobSummary } from "../records/job-records.ts";
import type { AdminEnv } from "./client-address.ts";
import { cursorOf, listingOf } from "./job-list.ts";
import { shownSteps } from "./job-steps.ts";
import type { AdminParts } from "./parts.ts";
import { problem } from "./problem.ts";
import type { Acceptance } from "./submit-job.ts";
import { explainWaiting } from "./waiting.ts";

const MAX_BODY_BYTES = 1024 * 1024;

const SUBMIT_TIMEOUT_MS = 10_000;

type Conflict = Extract<Acceptance, { kind: "conflict" }>;

export function addJobs(app: Hono<AdminEnv>, parts: AdminParts): void {
  const { records } = parts;
  app.post("/api/v1/jobs", limitedBody, async (context) => {
    const body = Buffer.from(await context.req.arrayBuffer());
    const acceptance = await parts.submit(body, AbortSignal.timeout(SUBMIT_TIMEOUT_MS));
    if (acceptance.kind === "accepted") return context.json({ job_id: acceptance.jobId }, 202);
    return notSubmitted(acceptance, context);
  });

  app.get("/api/v1/jobs", async (context) => {
    const listing = listingOf(context.req.query());
    if (!("matches" in listing)) {
      const title = "Bad request";
      return problem(context, { status: 400, title, detail: listing.join("; "), errors: listing });
    }
    const { jobs, next } = await records.list(listing);
    return context.json({ items: jobs.map(shownSummary), next_cursor: next ? cursorOf(next) : null });
  });

  app.get("/api/v1/jobs/:id", async (context) => {
    const record = await records.find(context.req.param("id"));
    if (!record) return noSuchJob(context.req.param("id"), context);
    return context.json({ ...shownJob(record), steps: await shownSteps(parts, record) });
  });

  app.get("/api/v1/jobs/:id/waiting", async (context) => {
    const record = await records.find(context.req.param("id"));
    if (!record) return noSuchJob(context.req.param("id"), context);
    return context.json(await explainWaiting(parts, record, new Date()));
  });

  addCancel(app, parts);
}

const CANCEL_BODY = z.object({
  reason: z
    .string()
    .max(200)
    .regex(/^[^\p{Cc}]*$/u)
    .default(""),
});

/** The body may be empty, or contain the reason. */
function addCancel(app: Hono<AdminEnv>, { cancel }: AdminParts): void {
  app.post("/api/v1/jobs/:id/cancel", limitedBody, async (context) => {
    const body = CANCEL_BODY.safeParse(parseJson((await context.req.text()) || "{}"));
    if (!body.success) {
      const detail =
        'expected no body, or {"reason": "…"} with at most 200 characters without control characters';
      return problem(context, { status: 400, title: "Bad request", detail });
    }
    const jobId = context.req.param("id");
    const cancellation = await cancel(jobId, body.data.reason);
    if (cancellation.kind === "unknown") return noSuchJob(jobId, context);
    const { kind, state } = cancellation;
    if (kind === "cancelling" || state === "CANCELLED") return context.json({ job_id: jobId, state }, 202);
    return problem(context, {
      status: 409,
      title: "Job has ended",
      detail: `job ${jobId} is ${state}: too late to cancel it`,
    });
  });
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export const limitedBody = bodyLimit({
  maxSize: MAX_BODY_BYTES,
  onError: (context) =>
    problem(context, {
      status: 413,
      title: "Too large",
      detail: `expected at most ${MAX_BODY_BYTES} bytes`,
    }),
});

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
