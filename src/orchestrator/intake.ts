/**
 * Intake: takes every message from `jobs.build` at once, checks it, adds its id and time of acceptance, and moves it to
 * its ready queue. The order of the steps ensures that a crash between any two loses no job: admit (record the id),
 * cancel the jobs that it supersedes, offer (confirmed by the broker), record as queued, ack. A message that is
 * redelivered before "queued" is offered again; the Dispatcher runs a job with two messages only once.
 */
import { randomUUID } from "node:crypto";
import { sleep } from "../shared/abort.ts";
import { Backoff } from "../shared/backoff.ts";
import type { Job, JobFailure, JobResult } from "../shared/job.ts";
import type { Logger } from "../shared/logging.ts";
import type { Canceller } from "./canceller.ts";
import { type DeadLetterSecrets, deadLetterOf } from "./job/dead-letter.ts";
import type { JobEvents } from "./job/events.ts";
import { describeConflict } from "./job/identity.ts";
import { type MessageRules, type ReadMessage, readableTarget, readJobMessage } from "./job/message.ts";
import { rejectedResult } from "./job/result.ts";
import type { KnownRegions } from "./known-regions.ts";
import { type Leases, LeasesUnavailable } from "./leases/leases.ts";
import { type LostMessage, LostMessages } from "./lost-messages.ts";
import type { Parking } from "./parking.ts";
import type { Delivery, JobQueue, Subscription } from "./queue/queue.ts";
import {
  type Admission,
  type AdmissionRequest,
  type JobRecords,
  RecordsUnavailable,
} from "./records/job-records.ts";
import type { ResultPublisher } from "./result-publisher.ts";
import { UnknownFields } from "./unknown-fields.ts";

export interface IntakeParts {
  readonly queue: JobQueue;
  readonly records: JobRecords;
  readonly leases: Pick<Leases, "find">;
  readonly events: JobEvents;
  readonly publisher: ResultPublisher;
  readonly canceller: Canceller;
  readonly regions: KnownRegions;
  readonly parking: Parking;
  readonly rules: MessageRules;
  readonly deadLetterSecrets: DeadLetterSecrets;
  readonly logger: Logger;
  /** The job was cancelled before its message was in its ready queue: the message has to be removed. */
  onEnded(jobId: string): void;
}

type Read<Kind extends ReadMessage["kind"]> = Extract<ReadMessage, { kind: Kind }>;
/** An accepted message, its body decoded. */
type Submitted = Pick<Delivery, "body" | "properties" | "revoked">;
type Refused = Omit<Read<"invalid">, "kind">;

export class Intake {
  readonly #unknownFields: UnknownFields;
  readonly #lostMessages: LostMessages;
  #subscription: Subscription | undefined;

  constructor(private readonly parts: IntakeParts) {
    this.#unknownFields = new UnknownFields(parts.logger);
    this.#lostMessages = new LostMessages(parts);
  }

  start(): void {
    this.#subscription = this.parts.queue.onSubmitted((delivery) => this.#receive(delivery));
  }

  async stop(): Promise<void> {
    await this.#subscription?.stop();
  }

  /** Returns the messages that are not moved yet to the job queue, and takes none until `resume`. */
  async pause(): Promise<void> {
    await this.#subscription?.pause();
  }

  resume(): void {
    this.#subscription?.resume();
  }

  async #receive(delivery: Delivery): Promise<void> {
    const message = readJobMessage(delivery.body, delivery.properties, this.parts.rules);
    if (message.kind === "invalid") return this.#refuse(delivery, message);
    const problem = await this.#whenAvailable(() => this.parts.regions.problemOf(message), delivery.revoked);
    if (problem !== undefined)
      return this.#refuse(delivery, { ...message, problems: [problem], given: message.publicJob });
    const jobId = message.explicitId ?? randomUUID();
    const admission = await this.#admit(delivery, message, jobId);
    if (admission.kind === "conflict") return this.#refuseConflict(delivery, jobId, admission.fields);
    await this.#accept(delivery, message, jobId, admission);
    delivery.ack();
  }

  async #admit(delivery: Delivery, message: Read<"job">, jobId: string): Promise<Admission> {
    const { replyTo, correlationId } = delivery.properties;
    const { publicJob: job, identity, retryBasis } = message;
    const acceptedAt = new Date();
    const request: AdmissionRequest = {
      jobId,
      job,
      identity,
      retryBasis,
      acceptedAt,
      replyTo,
      correlationId,
    };
    return this.#whenAvailable(() => this.parts.records.admit(request), delivery.revoked);
  }

  async #accept(
    delivery: Delivery,
    message: Read<"job">,
    jobId: string,
    admission: Exclude<Admission, { kind: "conflict" }>,
  ): Promise<void> {
    const { properties, revoked } = delivery;
    const submitted = {
      body: message.body,
      properties: { ...properties, contentEncoding: undefined },
      revoked,
    };
    if (admission.kind === "active") {
      await this.#join(submitted, { ...message.job, jobId }, admission.unchangedForMs);
    } else if (admission.kind === "finished") {
      await this.#republish(delivery, admission.result);
    } else {
      this.#unknownFields.log(message.unknownFields);
      await this.#whenAvailable(() => this.#supersede({ ...message.job, jobId }), delivery.revoked);
      await this.#queue(submitted, { ...message.job, jobId }, admission.acceptedAt);
    }
  }

  async #join(submitted: Submitted, job: Job, unchangedForMs: number): Promise<void> {
    const replace = () => this.#lostMessages.replace(job, unchangedForMs);
    const lost = await this.#whenAvailable(replace, submitted.revoked);
    const fields = { job_id: job.jobId };
    if (!lost) {
      this.parts.logger.info(fields, "duplicate message: a job with its id is waiting or running");
      return;
    }
    this.parts.logger.warn(
      { ...fields, unchanged_for_ms: unchangedForMs },
      "the job's message is gone from the queues, replacing it with this duplicate",
    );
    await this.#queue(submitted, job, lost.acceptedAt, lost);
  }

  /** Before the job is queued: after a crash in between, the redelivered message repeats this step. */
  async #supersede({ supersede: key, tenant, jobId }: Job): Promise<void> {
    if (key === undefined) return;
    const group = { tenant, key };
    for (const earlier of await this.parts.records.supersede(group, jobId)) {
      await this.parts.canceller.cancel(earlier, `superseded by job ${jobId}`);
      await this.parts.records.superseded(group, earlier);
    }
  }

  /** QUEUED is published before the offer, so that it precedes ASSIGNED however fast a worker is found. */
  async #queue(
    { body, properties, revoked }: Submitted,
    job: Job,
    acceptedAt: Date,
    lost?: LostMessage,
  ): Promise<void> {
    const { parking, events, rules, logger } = this.parts;
    const { jobId, tenant, workerRegion, priority, retryOf } = job;
    await events.publish({
      jobId,
      tenant,
      attempt: lost?.retry?.attempts ?? 0,
      state: "QUEUED",
      detail: {
        worker_region: workerRegion,
        priority,
        ...(retryOf !== undefined && { retry_of: retryOf }),
        ...(lost && { requeued: true }),
      },
    });
    const envelope = { jobId, acceptedAt, defaultRegion: rules.defaultRegion, retry: lost?.retry };
    await this.#whenAvailable(() => parking.offer(job, { body, properties, envelope }, revoked), revoked);
    await this.#recordQueued(jobId);
    const fields = { job_id: jobId, tenant, worker_region: workerRegion, priority, retry_of: retryOf };
    logger.info(fields, "job queued");
  }

  /** The message is in its ready queue: a failure here must not requeue it, or the queue would contain it twice. */
  async #recordQueued(jobId: string): Promise<void> {
    try {
      if (await this.parts.records.queued(jobId)) this.parts.onEnded(jobId);
    } catch (error) {
      this.parts.logger.warn({ err: error, job_id: jobId }, "job queued, but failed to record that it was");
    }
  }

  /** The job with this id has ended: its result is published again, to the result queue and the new `reply_to`. */
  async #republish({ properties, revoked }: Delivery, result: JobResult): Promise<void> {
    const { replyTo, correlationId } = properties;
    this.parts.logger.info(
      { job_id: result.job_id },
      "duplicate message: the job has ended, publishing its result again",
    );
    await this.parts.publisher.publish(result, correlationId, replyTo ? [replyTo] : [], revoked);
  }

  /** The message has no result: one with its id would be taken for that of the other job. */
  async #refuseConflict(delivery: Delivery, jobId: string, fields: readonly string[]): Promise<void> {
    this.parts.logger.warn(
      { job_id: jobId, fields },
      "message with the id of another job moved to the dead-letter queue",
    );
    await this.#deadLetter(delivery, describeConflict(fields));
    delivery.ack();
  }

  async #refuse(delivery: Delivery, message: Refused): Promise<void> {
    const reason = message.problems.join("; ");
    this.parts.logger.warn(
      { job_id: message.explicitId, reason },
      "invalid message moved to the dead-letter queue",
    );
    // First, since a result of a message that then cannot be moved would go out again with each of its deliveries.
    await this.#deadLetter(delivery, reason);
    if (message.explicitId !== undefined)
      await this.#publishInvalid(delivery, message, message.explicitId, reason);
    delivery.ack();
  }

  async #deadLetter(delivery: Delivery, reason: string): Promise<void> {
    const letter = await deadLetterOf(delivery, reason, this.parts.deadLetterSecrets);
    await this.parts.queue.deadLetter(delivery, letter, delivery.revoked);
  }

  /** A job has one result: no second one is published for the id of a waiting, running or ended job. */
  async #publishInvalid(delivery: Delivery, message: Refused, jobId: string, reason: string): Promise<void> {
    if (await this.#whenAvailable(() => this.parts.records.find(jobId), delivery.revoked)) return;
    const failure: JobFailure = { code: "INVALID_JOB", step: "intake", retryable: false, message: reason };
    const result = rejectedResult(jobId, failure, readableTarget(message.given), undefined);
    const { correlationId, replyTo } = delivery.properties;
    await this.parts.publisher.publish(result, correlationId, replyTo ? [replyTo] : [], delivery.revoked);
  }

  /**
   * While records or leases are unavailable no job is accepted: the message stays unacked, and the call is retried until
   * availability.ts returns the message.
   */
  async #whenAvailable<Answer>(call: () => Promise<Answer>, signal: AbortSignal): Promise<Answer> {
    const delay = new Backoff({ initialMs: 100, maxMs: 5000 });
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if (!(error instanceof RecordsUnavailable || error instanceof LeasesUnavailable)) throw error;
        const delayMs = delay.nextMs();
        this.parts.logger.warn({ err: error, retry_in_ms: delayMs }, "job records unavailable, retrying");
        await sleep(delayMs, signal);
      }
    }
  }
}
