/**
 * Intake: takes every message from `jobs.build` at once, checks it, gives it id and time, and moves it to its ready
 * queue.
 * Order of the steps, and why a crash between any two loses nothing: admit (known by its id), cancel what it
 * supersedes, offer (confirmed by the broker), note it as queued, ack. A message that comes again before "queued" is offered again, and the Dispatcher
 * runs a job that lies in a ready queue twice only once.
 */
import { randomUUID } from "node:crypto";
import { sleep } from "../shared/abort.ts";
import { GrowingDelay } from "../shared/backoff.ts";
import type { Job, JobFailure, JobResult } from "../shared/job.ts";
import type { Logger } from "../shared/logging.ts";
import type { Canceller } from "./canceller.ts";
import type { JobEvents } from "./job/events.ts";
import { type MessageRules, type ReadMessage, readableTarget, readJobMessage } from "./job/message.ts";
import { refusal } from "./job/result.ts";
import { LeasesUnavailable } from "./leases/leases.ts";
import type { Delivery, JobQueue } from "./queue/queue.ts";
import { type AdmissionRequest, type JobRecords, RecordsUnavailable } from "./records/job-records.ts";
import type { ResultHandler } from "./result-handler.ts";

export interface IntakeParts {
  readonly queue: JobQueue;
  readonly records: JobRecords;
  readonly events: JobEvents;
  readonly results: ResultHandler;
  readonly canceller: Canceller;
  readonly rules: MessageRules;
  readonly logger: Logger;
}

type Read<Kind extends ReadMessage["kind"]> = Extract<ReadMessage, { kind: Kind }>;

export class Intake {
  readonly #namedFields = new Set<string>();
  #stop: (() => Promise<void>) | undefined;

  constructor(private readonly parts: IntakeParts) {}

  start(): void {
    this.#stop = this.parts.queue.onSubmitted((delivery) => this.#take(delivery));
  }

  async stop(): Promise<void> {
    await this.#stop?.();
  }

  async #take(delivery: Delivery): Promise<void> {
    const message = readJobMessage(delivery.body, delivery.properties, this.parts.rules);
    if (message.kind === "bad") return this.#refuse(delivery, message);
    await this.#accept(delivery, message);
    delivery.ack();
  }

  async #accept(delivery: Delivery, message: Read<"job">): Promise<void> {
    const jobId = message.explicitId ?? randomUUID();
    const { replyTo, correlationId } = delivery.properties;
    const { publicJob: job } = message;
    const request: AdmissionRequest = { jobId, job, acceptedAt: new Date(), replyTo, correlationId };
    const admission = await this.#persist(() => this.parts.records.admit(request), delivery.revoked);
    if (admission.kind === "active") {
      this.parts.logger.info({ job_id: jobId }, "message joins the job of its id");
    } else if (admission.kind === "finished") {
      await this.#answerAgain(delivery, admission.result);
    } else {
      this.#nameUnknown(message.unknownFields);
      await this.#persist(() => this.#supersede({ ...message.job, jobId }), delivery.revoked);
      await this.#queue(delivery, { ...message.job, jobId }, admission.acceptedAt);
    }
  }

  /** Before the job is queued, so that a crash in between brings its message back, and the rest is done then. */
  async #supersede({ supersede: key, jobId }: Job): Promise<void> {
    if (key === undefined) return;
    for (const earlier of await this.parts.records.supersede(key, jobId)) {
      await this.parts.canceller.cancel(earlier, `superseded by job ${jobId}`);
      await this.parts.records.superseded(key, earlier);
    }
  }

  /** QUEUED is told before the offer, so that it comes before ASSIGNED however fast a worker is found. */
  async #queue({ body, properties, revoked }: Delivery, job: Job, acceptedAt: Date): Promise<void> {
    const { queue, events, rules, logger } = this.parts;
    const { jobId, workerRegion, priority } = job;
    await events.tell({
      jobId,
      attempt: 0,
      state: "QUEUED",
      detail: { worker_region: workerRegion, priority },
    });
    const envelope = { jobId, acceptedAt, defaultRegion: rules.defaultRegion };
    await queue.offer({ region: workerRegion, priority }, { body, properties, envelope }, revoked);
    await this.#noteQueued(jobId);
    logger.info({ job_id: jobId, worker_region: workerRegion, priority }, "job queued");
  }

  /** The message is safe in its ready queue: a fault here must not bring it back, it would lie there twice. */
  async #noteQueued(jobId: string): Promise<void> {
    try {
      await this.parts.records.queued(jobId);
    } catch (error) {
      this.parts.logger.warn({ err: error, job_id: jobId }, "job is queued, but that could not be recorded");
    }
  }

  /** A job whose id has ended: its outcome goes out again, to the result queue and to whoever asks now. */
  async #answerAgain({ properties, revoked }: Delivery, result: JobResult): Promise<void> {
    const { replyTo, correlationId } = properties;
    this.parts.logger.info(
      { job_id: result.job_id },
      "message repeats a finished job; its result goes out again",
    );
    await this.parts.results.publish(result, correlationId, replyTo ? [replyTo] : [], revoked);
  }

  async #refuse(delivery: Delivery, message: Read<"bad">): Promise<void> {
    const reason = message.problems.join("; ");
    this.parts.logger.warn({ job_id: message.explicitId, reason }, "bad message goes to the dead letters");
    if (message.explicitId !== undefined)
      await this.#answerBad(delivery, message, message.explicitId, reason);
    await this.parts.queue.deadLetter(delivery, reason, delivery.revoked);
  }

  /** A job has one result: an id that waits, runs or has ended keeps its own. */
  async #answerBad(delivery: Delivery, message: Read<"bad">, jobId: string, reason: string): Promise<void> {
    if (await this.#persist(() => this.parts.records.find(jobId), delivery.revoked)) return;
    const failure: JobFailure = { code: "INVALID_JOB", step: "intake", retryable: false, message: reason };
    const result = refusal(jobId, failure, readableTarget(message.given), undefined);
    const { correlationId, replyTo } = delivery.properties;
    await this.parts.results.publish(result, correlationId, replyTo ? [replyTo] : [], delivery.revoked);
  }

  /** While the records are away nothing is accepted: the message stays the broker's, and is not hurried. */
  async #persist<Answer>(question: () => Promise<Answer>, signal: AbortSignal): Promise<Answer> {
    const delay = new GrowingDelay({ firstMs: 100, mostMs: 5000 });
    for (;;) {
      try {
        return await question();
      } catch (error) {
        if (!(error instanceof RecordsUnavailable || error instanceof LeasesUnavailable)) throw error;
        const delayMs = delay.nextMs();
        this.parts.logger.warn(
          { err: error, retry_in_ms: delayMs },
          "a message waits: what is known of jobs is out of reach",
        );
        await sleep(delayMs, signal);
      }
    }
  }

  #nameUnknown(fields: readonly string[]): void {
    const unnamed = fields.filter((field) => !this.#namedFields.has(field)).slice(0, 20);
    // A sender that invents ever new names must not fill memory.
    if (unnamed.length === 0 || this.#namedFields.size > 1000) return;
    for (const field of unnamed) this.#namedFields.add(field);
    this.parts.logger.warn(
      { fields: unnamed.map((field) => field.slice(0, 100)) },
      "unknown fields are ignored",
    );
  }
}
