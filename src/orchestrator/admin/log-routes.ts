/** `GET /api/v1/jobs/:id/logs` */
import type { Hono } from "hono";
import { streamSSE } from "hono/streaming";
import { z } from "zod";
import { withVisibleCharacters } from "../../shared/visible-text.ts";
import { type AdminEnv, clientOf } from "./client-address.ts";
import { type FollowerLimits, Followers } from "./followers.ts";
import { followLog } from "./job-log.ts";
import { noSuchJob } from "./job-routes.ts";
import { checkedQuery, documented } from "./openapi.ts";
import type { AdminParts } from "./parts.ts";
import { isUnavailable, problem } from "./problem.ts";

/** A comment of server-sent events. */
const STREAM_START = ": following\n\n";

const FOLLOWER_LIMITS = { perClient: 100, total: 500 };

const QUERY = z.strictObject({
  follow: z.enum(["true", "false"]).optional().meta({
    description: "With `true`: the log as server-sent events, also while the job runs.",
  }),
});

const documentedLog = documented({
  id: "getJobLog",
  summary: "The log of a job",
  description:
    "Without `follow`: the tail of the log of an ended job, as text, with invisible characters as `<U+202E>`. With it: server-sent events `line`, `state` and `end`; the header `Last-Event-ID` resumes after that event.",
  tag: "Logs",
  answer: { contentTypes: ["text/plain", "text/event-stream"], description: "The log." },
  problems: [404, 409],
});

type JobContext = Parameters<typeof problem>[0];

export function addLogs(app: Hono<AdminEnv>, parts: AdminParts): void {
  const followers = new Followers(FOLLOWER_LIMITS);
  app.get("/api/v1/jobs/:id/logs", documentedLog, checkedQuery(QUERY), async (context) => {
    const jobId = context.req.param("id");
    const record = await parts.records.find(jobId);
    if (!record) return noSuchJob(jobId, context);
    // To HEAD, which has no body, the stream would never end.
    const isFollowed = context.req.valid("query").follow === "true" && context.req.method === "GET";
    if (isFollowed) return streamLog(parts, followers, jobId, context);
    // The text is for people; the job's result and the followed log have the lines as they are stored.
    if (record.result) {
      const text = record.result.logs.map((line) => `${withVisibleCharacters(line)}\n`).join("");
      // Hono and Bun leave it out of an answer without characters.
      return context.text(text, 200, { "content-type": "text/plain; charset=UTF-8" });
    }
    return problem(context, {
      status: 409,
      title: "Job has not ended",
      detail: "its log can be followed with ?follow=true",
    });
  });
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
