/** The admin API as a value: it never listens by itself (server.ts does), so tests need no socket. */
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { streamSSE } from "hono/streaming";
import { z } from "zod";
import type { Logger } from "../../shared/logging.ts";
import type { HostPort } from "../../shared/settings/parsers.ts";
import { COMMIT, VERSION } from "../../shared/version.ts";
import type { Cancellation } from "../canceller.ts";
import { type Leases, LeasesUnavailable, type WorkerView } from "../leases/leases.ts";
import type { JobQueue } from "../queue/queue.ts";
import { type JobRecord, type JobRecords, RecordsUnavailable } from "../records/job-records.ts";
import type { WorkerClient } from "../workers/worker-client.ts";
import { bearerToken, jsonPostsOnly, ownHostOnly } from "./guard.ts";
import { followLog } from "./job-log.ts";
import { problem } from "./problem.ts";
import type { Acceptance } from "./submit-job.ts";

export interface AdminParts {
  readonly queue: Pick<JobQueue, "isReady">;
  readonly leases: Leases;
  readonly records: JobRecords;
  /** What /readyz calls the servers behind queue and leases. */
  readonly names: { readonly queue: string; readonly leases: string };
  readonly region: string;
  readonly token: string | undefined;
  readonly listen: HostPort;
  readonly logger: Logger;
  /** See LogSources. */
  connectAlone(address: string): WorkerClient;
  /** Resolves when the broker has the job; rejects with the signal's reason. */
  submit(body: Buffer, signal: AbortSignal): Promise<Acceptance>;
  cancel(jobId: string, reason: string): Promise<Cancellation>;
}

const LARGEST_BODY_BYTES = 1024 * 1024;
const SUBMIT_TIMEOUT_MS = 10_000;

export function createAdminApp(parts: AdminParts): Hono {
  const app = new Hono();
  app.use(ownHostOnly(parts.listen.host), bearerToken(parts.token), jsonPostsOnly);
  addHealth(app, parts);
  addStatus(app, parts);
  addJobs(app, parts);
  app.notFound((context) =>
    problem(context, { status: 404, title: "Not found", detail: `nothing at ${context.req.path}` }),
  );
  app.onError((error, context) => {
    if (error instanceof LeasesUnavailable || error instanceof RecordsUnavailable) {
      return problem(context, {
        status: 503,
        title: "Not available",
        detail: `${parts.names.leases} does not answer`,
      });
    }
    parts.logger.error({ err: error, path: context.req.path }, "admin API failed");
    return problem(context, { status: 500, title: "Internal error", detail: "see the orchestrator's log" });
  });
  return app;
}

function addHealth(app: Hono, { queue, leases, names }: AdminParts): void {
  app.get("/healthz", (context) => context.json({ status: "ok" }));
  app.get("/readyz", (context) => {
    const isReady = queue.isReady && leases.isReady;
    const word = (isUp: boolean) => (isUp ? "ok" : "unavailable");
    const checks = { [names.queue]: word(queue.isReady), [names.leases]: word(leases.isReady) };
    return context.json({ status: isReady ? "ready" : "not ready", checks }, isReady ? 200 : 503);
  });
}

function addStatus(app: Hono, { queue, leases, names, region }: AdminParts): void {
  const startedAt = new Date().toISOString();
  app.get("/api/v1/status", async (context) => {
    const checks = { [names.queue]: queue.isReady, [names.leases]: leases.isReady };
    const workers = leases.isReady ? countByStatus(await leases.workers()) : null;
    return context.json({
      version: VERSION,
      commit: COMMIT,
      region,
      started_at: startedAt,
      connected: checks,
      workers,
    });
  });
  app.get("/api/v1/workers", async (context) => {
    const workers = await leases.workers();
    return context.json({ items: workers.map(shownWorker), next_cursor: null });
  });
}

function countByStatus(workers: readonly WorkerView[]): Record<WorkerView["status"], number> {
  const counts = { FREE: 0, BUSY: 0, DRAINING: 0, LOST: 0 };
  for (const worker of workers) counts[worker.status] += 1;
  return counts;
}

function shownWorker(worker: WorkerView) {
  const { workerId: id, lastSeen, region, address, status, jobs, version, slots, capabilities } = worker;
  const { refusal = null } = worker;
  const last_seen = lastSeen.toISOString();
  return { id, region, address, status, refusal, jobs, version, slots, capabilities, last_seen };
}

function addJobs(app: Hono, parts: AdminParts): void {
  const { records } = parts;
  app.post("/api/v1/jobs", limitedBody, async (context) => {
    const body = Buffer.from(await context.req.arrayBuffer());
    let acceptance: Acceptance;
    try {
      acceptance = await parts.submit(body, AbortSignal.timeout(SUBMIT_TIMEOUT_MS));
    } catch (error) {
      if (!(error instanceof DOMException && error.name === "TimeoutError")) throw error;
      const detail = "the queue did not confirm the job in time; submit it again with the same job_id";
      return problem(context, { status: 503, title: "Not available", detail });
    }
    if (acceptance.kind === "accepted") return context.json({ job_id: acceptance.jobId }, 202);
    const { problems: errors } = acceptance;
    return problem(context, { status: 400, title: "Bad job", detail: errors.join("; "), errors });
  });

  app.get("/api/v1/jobs/:id", async (context) => {
    const record = await records.find(context.req.param("id"));
    return record ? context.json(shownJob(record)) : noSuchJob(context.req.param("id"), context);
  });

  addCancel(app, parts);

  app.get("/api/v1/jobs/:id/logs", async (context) => {
    const jobId = context.req.param("id");
    const record = await records.find(jobId);
    if (!record) return noSuchJob(jobId, context);
    if (context.req.query("follow") === "true") return streamLog(parts, jobId, context);
    if (record.result) return context.text(record.result.logs.map((line) => `${line}\n`).join(""));
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

/** The body may be empty, or say why. */
function addCancel(app: Hono, { cancel }: AdminParts): void {
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
  maxSize: LARGEST_BODY_BYTES,
  onError: (context) =>
    problem(context, {
      status: 413,
      title: "Too large",
      detail: `expected at most ${LARGEST_BODY_BYTES} bytes`,
    }),
});

type JobContext = Parameters<typeof problem>[0];

function noSuchJob(jobId: string, context: JobContext): Response {
  return problem(context, {
    status: 404,
    title: "No such job",
    detail: `no job ${jobId} is known, or no longer`,
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

/** Server-sent events `line`, `state` and `end`; a reader that was cut off resumes by `Last-Event-ID`. */
function streamLog(parts: AdminParts, jobId: string, context: JobContext): Response {
  const after = context.req.header("last-event-id");
  return streamSSE(context, async (stream) => {
    const gone = new AbortController();
    stream.onAbort(() => gone.abort(new Error("the reader has gone")));
    for await (const { kind, text, position } of followLog(parts, jobId, after, gone.signal)) {
      await stream.writeSSE({ event: kind, data: text, id: position });
    }
  });
}
