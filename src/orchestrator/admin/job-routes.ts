import type { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { streamSSE } from "hono/streaming";
import { z } from "zod";
import { withVisibleCharacters } from "../../shared/visible-text.ts";
import { describeConflict } from "../job/identity.ts";
import type { JobRecord, JobSummary } from "../records/job-records.ts";
import { type AdminEnv, clientOf } from "./client-address.ts";
import { type FollowerLimits, Followers } from "./followers.ts";
import { cursorOf, listingOf } from "./job-list.ts";
import { followLog } from "./job-log.ts";
import type { AdminParts } from "./parts.ts";
import { isUnavailable, problem } from "./problem.ts";
import type { Acceptance } from "./submit-job.ts";
import { explainWaiting } from "./waiting.ts";

const MAX_BODY_BYTES = 1024 * 1024;

const SUBMIT_TIMEOUT_MS = 10_000;

type Conflict = Extract<Acceptance, { kind: "conflict" }>;

/** A comment of server-sent events. */
const STREAM_START = ": following\n\n";

const FOLLOWER_LIMITS = { perClient: 100, total: 500 };

export function addJobs(app: Hono<AdminEnv>, parts: AdminParts): void {
  const { records } = parts;
  const followers = new Followers(FOLLOWER_LIMITS);
  app.post("/api/v1/jobs", limitedBody, async (context) => {
    const body = Buffer.from(await context.req.arrayBuffer());
    const acceptance = await parts.submit(body, AbortSignal.timeout(SUBMIT_TIMEOUT_MS));
    if (acceptance.kind === "unconfirmed") {
      const { jobId } = acceptance;
      const detail = `the queue did not confirm the job in time, and may have it or not: submit it again with job_id ${jobId}, which never starts a second job`;
      return problem(context, { status: 503, title: "Not available", detail });
    }
    if (acceptance.kind === "accepted") return context.json({ job_id: acceptance.jobId }, 202);
    if (acceptance.kind === "conflict") return idInUse(acceptance, context);
    const { problems: errors } = acceptance;
    return problem(context, { status: 400, title: "Bad job", detail: errors.join("; "), errors });
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
    return record ? context.json(shownJob(record)) : noSuchJob(context.req.param("id"), context);
  });

  app.get("/api/v1/jobs/:id/waiting", async (context) => {
    const record = await records.find(context.req.param("id"));
    if (!record) return noSuchJob(context.req.param("id"), context);
    return context.json(await explainWaiting(parts, record, new Date()));
  });

  addCancel(app, parts);

  app.get("/api/v1/jobs/:id/logs", async (context) => {
    const jobId = context.req.param("id");
    const record = await records.find(jobId);
    if (!record) return noSuchJob(jobId, context);
    // To HEAD, which has no body, the stream would never end.
    const isFollowed = context.req.query("follow") === "true" && context.req.method === "GET";
    if (isFollowed) return streamLog(parts, followers, jobId, context);
    // The text is for people; the job's result and the followed log have the lines as they are stored.
    if (record.result)
      return context.text(record.result.logs.map((line) => `${withVisibleCharacters(line)}\n`).join(""));
    return problem(context, {
      status: 409,
      title: "Job has not ended",
      detail: "its log can be followed with ?follow=true",
    });
  });
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

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const limitedBody = bodyLimit({
  maxSize: MAX_BODY_BYTES,
  onError: (context) =>
    problem(context, {
      status: 413,
      title: "Too large",
      detail: `expected at most ${MAX_BODY_BYTES} bytes`,
    }),
});

type JobContext = Parameters<typeof problem>[0];

function idInUse({ fields }: Conflict, context: JobContext): Response {
  return problem(context, {
    status: 409,
    title: "Id in use",
    detail: describeConflict(fields),
  });
}

function noSuchJob(jobId: string, context: JobContext): Response {
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

/** Server-sent events `line`, `state` and `end`; a disconnected reader resumes with `Last-Event-ID`. */
function streamLog(parts: AdminParts, followers: Followers, jobId: string, context: JobContext): Response {
  const after = context.req.header("last-event-id");
  const client = clientOf(context);
  const leave = followers.enter(client);
  if (typeof leave === "string") return tooManyFollowers(leave, client, context);
  return streamSSE(context, async (stream) => {
    const disconnected = new AbortController();
    stream.onAbort(() => disconnected.abort(new Error("the reader has disconnected")));
    try {
      // Bun sends the status with the first bytes, and a waiting job may have no event for a long time.
      await stream.write(STREAM_START);
      for await (const { kind, text, position } of followLog(parts, jobId, after, disconnected.signal)) {
        await stream.writeSSE({ event: kind, data: text, id: position });
      }
    } catch (error) {
      // The reader gets no `end`, and resumes. Hono would write the error to the console.
      if (!isUnavailable(error))
        parts.logger.error({ err: error, job_id: jobId }, "admin API: following a log failed");
    } finally {
      leave();
    }
  });
}

function tooManyFollowers(limit: keyof FollowerLimits, client: string, context: JobContext): Response {
  const title = "Too many followers";
  const { perClient, total } = FOLLOWER_LIMITS;
  if (limit === "perClient") {
    const detail = `${client} follows ${perClient} logs; end some of these requests first`;
    return problem(context, { status: 429, title, detail });
  }
  const detail = `${total} logs are followed through this orchestrator; use another one, or try again later`;
  return problem(context, { status: 503, title, detail });
}
