/** `GET /api/v1/jobs/:id/logs` */
import type { Context, Hono } from "hono";
import { z } from "zod";
import type { JournalEntry } from "../../shared/log-journal.ts";
import { LogMissing } from "../logs/attempt-log.ts";
import { LOG_START, type LoggedJob, type LogPosition } from "../logs/job-logs.ts";
import { type AdminEnv, clientOf } from "./client-address.ts";
import { type FollowerLimits, Followers } from "./followers.ts";
import { noSuchJob } from "./job-routes.ts";
import {
  CONTENT_TYPES,
  eventOf,
  eventsOf,
  filtered,
  formatPosition,
  formatted,
  type LineFilter,
  LOG_FORMATS,
  lineEventsOf,
  lineFilter,
  parsePosition,
} from "./log-formats.ts";
import { type Chunks, readerOf, streamedResponse, withSilences } from "./log-stream.ts";
import { checkedQuery, documented } from "./openapi.ts";
import type { AdminParts } from "./parts.ts";
import { isUnavailable, problem } from "./problem.ts";

/** A comment, which readers of events ignore. */
const OPENED = ": following\n\n";
/** Proxies end a connection on which nothing is sent, many of them after a minute. */
const HEARTBEAT_MS = 15_000;
const READER_LIMITS = { perClient: 100, total: 500 };
const MAX_GREP_CHARS = 1000;
const MAX_TAIL_LINES = 100_000;
const MAX_ATTEMPT = 999_999_999;

const flag = (description: string) =>
  z
    .enum(["true", "false"], { error: "expected true or false" })
    .default("false")
    .transform((value) => value === "true")
    .meta({ description });

function count(description: string, maximum: number) {
  const expected = `expected a number from 1 to ${maximum}`;
  return z
    .string()
    .refine((text) => /^[0-9]{1,9}$/.test(text) && Number(text) >= 1 && Number(text) <= maximum, {
      error: expected,
    })
    .transform(Number)
    .meta({ type: "integer", minimum: 1, maximum, description })
    .optional();
}

const QUERY = z
  .strictObject({
    follow: flag("Server-sent events `line`, `state`, `step` and `end`, as they happen."),
    format: z
      .enum(LOG_FORMATS, { error: `expected ${LOG_FORMATS.join(", ")}` })
      .default("text")
      .meta({
        description: "`text`: control characters are shown as <U+…>; `raw`: as printed; `json`: the journal.",
      }),
    attempt: count("By default the attempt of the job's result, else the latest.", MAX_ATTEMPT),
    grep: z
      .string()
      .min(1, { error: `expected 1 to ${MAX_GREP_CHARS} characters` })
      .max(MAX_GREP_CHARS, { error: `expected 1 to ${MAX_GREP_CHARS} characters` })
      // biome-ignore lint/suspicious/noControlCharactersInRegex: no URL has a NUL
      .regex(/^[^\x00]*$/)
      .optional()
      .meta({ description: "Only lines that contain this text (not a pattern).", examples: ["error"] }),
    ignore_case: flag("Upper and lower case are the same for `grep`."),
    tail: count("Only this many of the last lines.", MAX_TAIL_LINES),
    source: z.enum(["log", "result"], { error: "expected log or result" }).default("log").meta({
      description:
        "`result`: the last lines in the job's result, for the log of its attempt when that cannot be read.",
    }),
  })
  .refine(({ follow, format }) => !follow || format === "text", {
    path: ["format"],
    message: "expected no format with follow=true, which sends server-sent events",
  })
  .refine(({ follow, source }) => !follow || source === "log", {
    path: ["source"],
    message: "expected no source=result with follow=true",
  });

type LogQuery = z.output<typeof QUERY>;

export function addLogs(app: Hono<AdminEnv>, parts: AdminParts): void {
  const routes = new LogRoutes(parts);
  app.get(
    "/api/v1/jobs/:id/logs",
    documented({
      id: "getJobLog",
      summary: "The log of a job",
      description:
        "The whole redacted log of an attempt; of a running one, what it has printed so far. With `follow=true`, an event's id in `Last-Event-ID` resumes after that event, at any orchestrator.",
      tag: "Logs",
      answer: {
        contentTypes: ["text/plain", "application/octet-stream", "application/x-ndjson", "text/event-stream"],
        description: "The log.",
      },
      problems: {
        404: "The job or the attempt does not exist, or its log is no longer stored; with `source=result`, the job's result is not that of the attempt.",
        503: "The log is stored where it cannot be read now; or a server that the orchestrator needs does not answer.",
      },
    }),
    checkedQuery(QUERY),
    (context) => routes.get(context.req.param("id"), context.req.valid("query"), context),
  );
}

class LogRoutes {
  readonly #readers = new Followers(READER_LIMITS);

  constructor(private readonly parts: AdminParts) {}

  async get(jobId: string, query: LogQuery, context: Context<AdminEnv>): Promise<Response> {
    const job = await this.parts.logs.find(jobId);
    if (!job) return noSuchJob(jobId, context);
    const attempt = query.attempt ?? job.latestAttempt;
    if (query.attempt !== undefined && attempt > job.latestAttempt) return noSuchAttempt(job, context);
    if (query.source === "result" && job.record?.result?.attempt !== attempt) return noResult(job, context);
    const after = context.req.header("last-event-id") || undefined;
    const resumed = after === undefined ? undefined : parsePosition(after);
    if (query.follow && after !== undefined && resumed === undefined) return badPosition(after, context);
    const leave = this.#readers.enter(clientOf(context));
    if (typeof leave === "string") return tooManyReaders(leave, context);
    const reader = readerOf(context.req.raw);
    try {
      if (query.follow) return await this.#follow(job, query, resumed, reader, leave, context);
      return await this.#download(job, attempt, query, reader, leave, context);
    } catch (error) {
      leave();
      if (error instanceof LogMissing) return logMissing(error, job, attempt, context);
      throw error;
    }
  }

  async #download(
    job: LoggedJob,
    attempt: number,
    query: LogQuery,
    reader: AbortController,
    leave: () => void,
    context: Context<AdminEnv>,
  ): Promise<Response> {
    const { format } = query;
    const headers: Record<string, string> = { "content-type": CONTENT_TYPES[format] };
    if (format === "raw")
      headers["content-disposition"] = `attachment; filename="${job.jobId}.${attempt}.log"`;
    const chunks = this.#chunks(job, attempt, query, reader.signal);
    // What keeps the log from being read becomes the response's status only before its first bytes.
    const first = await chunks.next();
    if (context.req.method === "HEAD") {
      await chunks.return(undefined);
      leave();
      return context.body(null, 200, headers);
    }
    return context.body(streamedResponse(chunks, reader, leave, first), 200, headers);
  }

  async *#chunks(job: LoggedJob, attempt: number, query: LogQuery, signal: AbortSignal): Chunks {
    for await (const entries of this.#batches(job, attempt, query, signal))
      if (entries.length > 0) yield formatted(query.format, entries);
  }

  /** What `query` selects of the present log. */
  async *#batches(
    job: LoggedJob,
    attempt: number,
    { grep, ignore_case, tail, source }: LogQuery,
    signal: AbortSignal,
  ): AsyncGenerator<readonly JournalEntry[]> {
    const filter = lineFilter(grep, ignore_case);
    const all = (afterSeq: number) =>
      source === "result" ? resultEntries(job, afterSeq) : this.#present(job, attempt, afterSeq, signal);
    if (tail === undefined) {
      for await (const entries of all(0)) yield filtered(entries, filter);
      return;
    }
    const matches = filter ?? (() => true);
    const { afterSeq, lastSeq } = await tailOf(all(0), matches, tail);
    for await (const entries of all(afterSeq))
      yield filtered(entries, matches).filter(({ seq }) => seq <= lastSeq);
  }

  /** Empty for a job that no worker has begun. */
  async *#present(
    job: LoggedJob,
    attempt: number,
    afterSeq: number,
    signal: AbortSignal,
  ): AsyncGenerator<readonly JournalEntry[]> {
    if (attempt > 0) yield* this.parts.logs.read(job, attempt, { afterSeq, pastOnly: true }, signal);
  }

  async #follow(
    job: LoggedJob,
    query: LogQuery,
    resumed: LogPosition | undefined,
    reader: AbortController,
    leave: () => void,
    context: Context<AdminEnv>,
  ): Promise<Response> {
    const headers = { "content-type": "text/event-stream", "cache-control": "no-cache" };
    await this.parts.logs.checkEnd(job, reader.signal);
    // To HEAD, which has no body, the stream would never end.
    if (context.req.method === "HEAD") {
      leave();
      return context.body(null, 200, headers);
    }
    const filter = lineFilter(query.grep, query.ignore_case);
    const start = resumed ?? (await this.#followStart(job, query, filter, reader.signal));
    const tail = resumed ? undefined : query.tail;
    const events = this.#events(job.jobId, start, { filter, tail }, reader.signal);
    return context.body(streamedResponse(events, reader, leave), 200, headers);
  }

  async #followStart(
    job: LoggedJob,
    { attempt, tail }: LogQuery,
    filter: LineFilter,
    signal: AbortSignal,
  ): Promise<LogPosition> {
    const first = attempt ?? (tail === undefined ? 0 : job.latestAttempt);
    if (first === 0) return LOG_START;
    if (tail === undefined) return { attempt: first, seq: 0 };
    try {
      const { afterSeq } = await tailOf(this.#present(job, first, 0, signal), filter ?? (() => true), tail);
      return { attempt: first, seq: afterSeq };
    } catch (error) {
      if (!(error instanceof LogMissing)) throw error;
      // What follows says why it cannot be read.
      return { attempt: first, seq: 0 };
    }
  }

  async *#events(
    jobId: string,
    start: LogPosition,
    { filter, tail }: { readonly filter: LineFilter; readonly tail: number | undefined },
    signal: AbortSignal,
  ): AsyncGenerator<string> {
    // Bun sends the status with the first bytes, and a waiting job may have no event for a long time.
    yield OPENED;
    try {
      const all = this.parts.logs.follow(jobId, start, signal);
      for await (const followed of withSilences(all, this.parts.heartbeatMs ?? HEARTBEAT_MS)) {
        if (followed === undefined) {
          yield OPENED;
          continue;
        }
        const id = formatPosition(followed.position);
        if (followed.kind === "end") yield eventOf("end", followed.state, id);
        else if (followed.kind === "replacement") {
          const lines = filter ? followed.lines.filter(filter) : followed.lines;
          const isFirst = followed.position.attempt === start.attempt;
          yield lineEventsOf([followed.notice, ...(isFirst && tail ? lines.slice(-tail) : lines)], id);
        } else {
          const text = eventsOf(followed.position.attempt, followed.entries, filter);
          if (text !== "") yield text;
        }
      }
    } catch (error) {
      // Without the event `end` the reader resumes.
      if (error instanceof LogMissing) yield `: ${error.message.replaceAll("\n", " ")}\n\n`;
      else if (!isUnavailable(error))
        this.parts.logger.error({ err: error, job_id: jobId }, "admin API: following a log failed");
    }
  }
}

/** The entry before the last `count` matching lines, and the last present entry. */
async function tailOf(
  batches: AsyncIterable<readonly JournalEntry[]>,
  matches: (line: string) => boolean,
  count: number,
): Promise<{ readonly afterSeq: number; readonly lastSeq: number }> {
  const last: number[] = [];
  let [found, lastSeq] = [0, 0];
  for await (const entries of batches) {
    for (const entry of entries) {
      lastSeq = entry.seq;
      if (!("line" in entry && matches(entry.line))) continue;
      last[found % count] = entry.seq;
      found += 1;
    }
  }
  const first = found === 0 ? lastSeq + 1 : (last[found < count ? 0 : found % count] ?? 0);
  return { afterSeq: first - 1, lastSeq };
}

async function* resultEntries(
  { record }: LoggedJob,
  afterSeq: number,
): AsyncGenerator<readonly JournalEntry[]> {
  const { logs = [], finished_at: at = "" } = record?.result ?? {};
  yield logs.map((line, index) => ({ seq: index + 1, at, line })).slice(afterSeq);
}

function noSuchAttempt({ latestAttempt }: LoggedJob, context: Context): Response {
  const detail = latestAttempt === 0 ? "no attempt has begun" : `expected 1 to ${latestAttempt}`;
  return problem(context, { status: 404, title: "No such attempt", detail });
}

function noResult({ record }: LoggedJob, context: Context): Response {
  const { result } = record ?? {};
  let detail = "the job has no result yet";
  if (!record) detail = "the job's record has expired, and its result with it";
  else if (result) detail = `the job's result has only lines of attempt ${result.attempt}`;
  return problem(context, { status: 404, title: "No such lines", detail });
}

function badPosition(after: string, context: Context): Response {
  const detail = `Last-Event-ID ${JSON.stringify(after)} is not valid; expected <attempt>.<seq>, the id of an event of this log`;
  return problem(context, { status: 400, title: "Bad request", detail });
}

function logMissing(error: LogMissing, { record }: LoggedJob, attempt: number, context: Context): Response {
  const { result } = record ?? {};
  const offer =
    result?.attempt === attempt ? "; ?source=result answers with the last lines from the job's result" : "";
  const detail = `${error.message}${offer}`;
  if (error.isTemporary) return problem(context, { status: 503, title: "Log not available now", detail });
  return problem(context, { status: 404, title: "Log not available", detail });
}

function tooManyReaders(limit: keyof FollowerLimits, context: Context<AdminEnv>): Response {
  const title = "Too many readers";
  const { perClient, total } = READER_LIMITS;
  if (limit === "perClient") {
    const detail = `${clientOf(context)} reads ${perClient} logs; end some of these requests first`;
    return problem(context, { status: 429, title, detail });
  }
  const detail = `${total} logs are read through this orchestrator; use another one, or try again later`;
  return problem(context, { status: 503, title, detail });
}
