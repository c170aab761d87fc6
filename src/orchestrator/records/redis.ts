/** Job records in Redis, shared by all orchestrators. scripts/common.lua lists the keys. */
import type { JobEvent, JobResult, KnownImage } from "../../shared/job.ts";
import { finalState } from "../../shared/job.ts";
import type { JournalStep } from "../../shared/log-journal.ts";
import {
  connectInBackground,
  createQuietRedisClient,
  isReady,
  type RedisClient,
  type RedisTimeouts,
} from "../redis/client.ts";
import { RedisScript } from "../redis/script.ts";
import { differingNames, type Fingerprints, fingerprintsOf, newSalt } from "./fingerprints.ts";
import { type ListedJob, pageOf, sizeOf } from "./job-page.ts";
import {
  type Admission,
  type AdmissionRequest,
  type Ending,
  type Finish,
  type FinishOptions,
  type JobIdentity,
  type JobListing,
  type JobPage,
  type JobRecord,
  type JobRecords,
  type JobSummary,
  PUBLISHER_TTL_MS,
  type PublicJob,
  RecordsUnavailable,
  type RetryBasis,
  type RetrySource,
  type SupersedeGroup,
  supersedeName,
  type UnnumberedEvent,
} from "./job-records.ts";
import {
  activeMemoryMs,
  IMAGE_MEMORY_MS,
  MAX_EVENTS,
  MAX_IMAGES,
  MAX_IMAGES_RETURNED,
  WAITING_MEMORY_MS,
} from "./record-limits.ts";
import admitLua from "./scripts/admit.lua" with { type: "text" };
import appendLua from "./scripts/append.lua" with { type: "text" };
import commonLua from "./scripts/common.lua" with { type: "text" };
import finishLua from "./scripts/finish.lua" with { type: "text" };
import listLua from "./scripts/list.lua" with { type: "text" };
import messageLostLua from "./scripts/message-lost.lua" with { type: "text" };
import publishedLua from "./scripts/published.lua" with { type: "text" };
import publishingLua from "./scripts/publishing.lua" with { type: "text" };
import queuedLua from "./scripts/queued.lua" with { type: "text" };
import rememberImageLua from "./scripts/remember-image.lua" with { type: "text" };
import settledLua from "./scripts/settled.lua" with { type: "text" };
import supersedeLua from "./scripts/supersede.lua" with { type: "text" };

const scripts = {
  admit: new RedisScript(commonLua, admitLua),
  queued: new RedisScript(commonLua, queuedLua),
  messageLost: new RedisScript(commonLua, messageLostLua),
  settled: new RedisScript(commonLua, settledLua),
  append: new RedisScript(commonLua, appendLua),
  finish: new RedisScript(commonLua, finishLua),
  publishing: new RedisScript(commonLua, publishingLua),
  published: new RedisScript(commonLua, publishedLua),
  supersede: new RedisScript(commonLua, supersedeLua),
  rememberImage: new RedisScript(rememberImageLua),
  list: new RedisScript(listLua),
};

export interface RedisJobRecordsOptions {
  /** See `RedisClientOptions.url`. */
  readonly url: string;
  /** How long a record is stored after its job's end. */
  readonly jobMemoryMs: number;
  /** With a hash tag. */
  readonly keyPrefix: string;
  /** See `RedisClientOptions.timeouts`. */
  readonly timeouts?: RedisTimeouts;
}

export class RedisJobRecords implements JobRecords {
  readonly #client: RedisClient;
  readonly #prefix: string;
  #closed = false;

  constructor(private readonly options: RedisJobRecordsOptions) {
    this.#prefix = options.keyPrefix;
    // The client of the leases checks the server, and logs when it is not reachable.
    this.#client = createQuietRedisClient(options);
  }

  start(): void {
    connectInBackground(this.#client);
  }

  get isReady(): boolean {
    return !this.#closed && isReady(this.#client);
  }

  async admit(request: AdmissionRequest): Promise<Admission> {
    const { jobId, job, identity, retryBasis, acceptedAt, replyTo, correlationId } = request;
    const args = [JSON.stringify(job), acceptedAt.getTime(), replyTo ?? "", correlationId ?? ""];
    const basis = retryBasis ? JSON.stringify(retryBasis) : "";
    let salt = newSalt();
    for (;;) {
      const own = fingerprintsOf(identity, salt);
      const reply = await this.#run(scripts.admit, jobId, [...args, salt, JSON.stringify(own), basis]);
      const [kind, detail] = reply as [Admission["kind"] | "salted", string];
      if (kind === "new") return { kind, acceptedAt: new Date(Number(detail)) };
      if (kind === "finished") return { kind, result: JSON.parse(detail) as JobResult };
      if (kind === "conflict") return { kind, fields: differingNames(readFingerprints(detail), own) };
      if (kind === "active") return { kind, unchangedForMs: Number(detail) };
      salt = detail;
    }
  }

  async differingFields(jobId: string, identity: JobIdentity): Promise<readonly string[] | undefined> {
    const key = `${this.#prefix}job:${jobId}`;
    const [seq, job, result, salt, fingerprints] = await this.#attempt(() =>
      this.#client.hmget(key, "seq", "job", "result", "salt", "fingerprints"),
    );
    if (!seq && !job && !result) return undefined;
    if (!salt || !fingerprints) return [];
    return differingNames(readFingerprints(fingerprints), fingerprintsOf(identity, salt));
  }

  async queued(jobId: string): Promise<boolean> {
    return (await this.#run(scripts.queued, jobId, [])) === 1;
  }

  async messageLost(jobId: string, unchangedForMs: number): Promise<boolean> {
    return (await this.#run(scripts.messageLost, jobId, [unchangedForMs])) === 1;
  }

  async append(event: UnnumberedEvent): Promise<JobEvent> {
    const seq = Number(await this.#run(scripts.append, event.job_id, [JSON.stringify(event), MAX_EVENTS]));
    return numbered(event, seq);
  }

  async finish(
    result: JobResult,
    publisher: string,
    { isWaiting = false, steps }: FinishOptions = {},
  ): Promise<Finish> {
    const memoryMs = isWaiting ? WAITING_MEMORY_MS : this.options.jobMemoryMs;
    const { logs: _, ...summary } = result;
    const stored = [JSON.stringify(summary), steps ? JSON.stringify(steps) : ""];
    const args = [JSON.stringify(result), publisher, PUBLISHER_TTL_MS, memoryMs, ...stored];
    const reply = await this.#run(scripts.finish, result.job_id, args);
    const [kind, kept = "", replyTo = "[]", correlationId = ""] = reply as [Finish["kind"], ...string[]];
    if (kind !== "publish") return { kind };
    return {
      kind,
      result: JSON.parse(kept) as JobResult,
      replyTo: JSON.parse(replyTo) as string[],
      correlationId: correlationId || undefined,
    };
  }

  async publishing(jobId: string, publisher: string): Promise<void> {
    await this.#run(scripts.publishing, jobId, [publisher, PUBLISHER_TTL_MS]);
  }

  async unpublished(jobId: string, publisher: string): Promise<void> {
    await this.#run(scripts.publishing, jobId, [publisher, 0]);
  }

  async settled(jobId: string): Promise<void> {
    await this.#run(scripts.settled, jobId, []);
  }

  async result(jobId: string): Promise<JobResult | undefined> {
    const text = await this.#attempt(() => this.#client.hget(`${this.#prefix}job:${jobId}`, "result"));
    return text === null ? undefined : (JSON.parse(text) as JobResult);
  }

  async ending(jobId: string): Promise<Ending> {
    const key = `${this.#prefix}job:${jobId}`;
    const [summary, seq] = await this.#attempt(() => this.#client.hmget(key, "summary", "seq"));
    if (summary) return { kind: "ended", attempt: (JSON.parse(summary) as JobResult).attempt };
    return { kind: seq ? "active" : "unknown" };
  }

  async supersede(group: SupersedeGroup, jobId: string): Promise<readonly string[]> {
    return (await this.#run(scripts.supersede, jobId, [supersedeName(group)])) as string[];
  }

  async superseded(group: SupersedeGroup, jobId: string): Promise<void> {
    const key = `${this.#prefix}supersede:${supersedeName(group)}`;
    await this.#attempt(() => this.#client.zrem(key, jobId));
  }

  async published(jobId: string): Promise<void> {
    await this.#run(scripts.published, jobId, []);
  }

  async rememberImage(repository: string, { inputs, digest }: KnownImage): Promise<void> {
    const args = [repository, `${inputs} ${digest}`, MAX_IMAGES, IMAGE_MEMORY_MS];
    await this.#attempt(() => scripts.rememberImage.run(this.#client, this.#prefix, args));
  }

  async knownImages(repository: string): Promise<readonly KnownImage[]> {
    const key = `${this.#prefix}images:${repository}`;
    const images = await this.#attempt(() => this.#client.zrevrange(key, 0, MAX_IMAGES_RETURNED - 1));
    return images.map((image) => {
      const [inputs = "", digest = ""] = image.split(" ");
      return { inputs, digest };
    });
  }

  list(listing: JobListing): Promise<JobPage> {
    return pageOf(listing, async (after, { count, bytes }) => {
      const args = [after?.acceptedAtMs ?? "+inf", after?.jobId ?? "", count, bytes];
      const reply = await this.#attempt(() => scripts.list.run(this.#client, this.#prefix, args));
      const [entries, isLast] = reply as [ListEntry[], number];
      return { jobs: entries.map(readEntry), isLast: isLast === 1 };
    });
  }

  async find(jobId: string): Promise<JobRecord | undefined> {
    const [fields, lines] = await this.#attempt(() =>
      Promise.all([
        this.#client.hmget(`${this.#prefix}job:${jobId}`, "job", "acceptedAt", "result", "steps"),
        this.#client.lrange(`${this.#prefix}events:${jobId}`, 0, -1),
      ]),
    );
    const [job, acceptedAt, resultText, steps] = fields;
    const events = lines.map(readEvent);
    const result = resultText ? (JSON.parse(resultText) as JobResult) : undefined;
    if (!job && !result && events.length === 0) return undefined;
    return {
      jobId,
      job: job ? (JSON.parse(job) as PublicJob) : {},
      acceptedAt: new Date(acceptedAt ? Number(acceptedAt) : (result?.accepted_at ?? events[0]?.at ?? 0)),
      state: result ? finalState(result) : (events.at(-1)?.state ?? "QUEUED"),
      events,
      result,
      steps: steps ? (JSON.parse(steps) as JournalStep[]) : undefined,
    };
  }

  async retrySource(jobId: string): Promise<RetrySource | undefined> {
    const [job, result, retryBasis, replyTo, correlationId] = await this.#attempt(() =>
      this.#client.hmget(
        `${this.#prefix}job:${jobId}`,
        "job",
        "result",
        "retryBasis",
        "replyTo",
        "correlationId",
      ),
    );
    if (!job && !result) return undefined;
    return {
      basis: retryBasis ? (JSON.parse(retryBasis) as RetryBasis) : undefined,
      replyTo: JSON.parse(replyTo ?? "[]") as string[],
      correlationId: correlationId || undefined,
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#client.disconnect();
  }

  #run(script: RedisScript, jobId: string, args: readonly (string | number)[]): Promise<unknown> {
    const { jobMemoryMs } = this.options;
    const all = [jobId, jobMemoryMs, activeMemoryMs(jobMemoryMs), ...args];
    return this.#attempt(() => script.run(this.#client, this.#prefix, all));
  }

  async #attempt<T>(command: () => Promise<T>): Promise<T> {
    if (!this.isReady) throw new RecordsUnavailable("Redis is not connected");
    try {
      return await command();
    } catch (cause) {
      throw new RecordsUnavailable("a Redis command failed", { cause });
    }
  }
}

type ListEntry = readonly [id: string, place: string, ...fields: (string | null)[]];

function readEntry([jobId, place, job, acceptedAt, summary, lastEvent]: ListEntry): ListedJob {
  const acceptedAtMs = Number(place);
  const result = summary ? (JSON.parse(summary) as JobSummary["result"]) : undefined;
  const event = lastEvent ? readEvent(lastEvent) : undefined;
  if (!job && !result && !event) return { place: { acceptedAtMs, jobId }, summary: undefined, bytes: 0 };
  return {
    place: { acceptedAtMs, jobId },
    bytes: sizeOf(job, summary, lastEvent),
    summary: {
      jobId,
      job: job ? (JSON.parse(job) as PublicJob) : {},
      acceptedAt: new Date(Number(acceptedAt ?? place)),
      state: result ? finalState(result) : (event?.state ?? "QUEUED"),
      result,
    },
  };
}

function readFingerprints(text: string): Fingerprints {
  return JSON.parse(text) as Fingerprints;
}

/** The number precedes the event, because only the script knows it. */
function readEvent(line: string): JobEvent {
  const space = line.indexOf(" ");
  return numbered(JSON.parse(line.slice(space + 1)), Number(line.slice(0, space)));
}

function numbered(event: UnnumberedEvent, seq: number): JobEvent {
  const { job_id, tenant, attempt, state, at, ...details } = event;
  return { job_id, tenant, attempt, seq, state, at, ...details };
}
