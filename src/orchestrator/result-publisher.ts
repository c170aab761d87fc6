/**
 * Result Publisher: records the one result of a job, publishes it, and then publishes the job's final event. When
 * several orchestrators have a result for one job, the records let one of them publish; the others wait until it
 * has succeeded or failed.
 */
import { randomUUID } from "node:crypto";
import { sleep } from "../shared/abort.ts";
import { Backoff } from "../shared/backoff.ts";
import { finalState, type JobResult } from "../shared/job.ts";
import type { JournalStep } from "../shared/log-journal.ts";
import type { Logger } from "../shared/logging.ts";
import type { JobEvents } from "./job/events.ts";
import type { JobQueue, MessageProperties } from "./queue/queue.ts";
import { type Finish, type JobRecords, PUBLISHER_TTL_MS, RecordsUnavailable } from "./records/job-records.ts";

/** How long a cancel request waits for the result of a waiting job to be published. */
const WAITING_JOB_TIMEOUT_MS = 5000;
/** After this many failed attempts to record a result it is published unrecorded, and recorded later. */
const MAX_RECORD_ATTEMPTS = 5;
const RECORD_LATER_DELAY = { initialMs: 500, maxMs: 2000 };

export interface ResultPublisherParts {
  readonly queue: Pick<JobQueue, "publishResult">;
  readonly records: JobRecords;
  readonly events: JobEvents;
  readonly logger: Logger;
}

export interface EndedJob {
  readonly result: JobResult;
  /** Only recorded. */
  readonly steps?: readonly JournalStep[];
}

type PublishedFinish = Extract<Finish, { kind: "publish" }>;
/** The records did not answer. */
type Unrecorded = PublishedFinish & EndedJob & { readonly isUnrecorded: true };

export class ResultPublisher {
  readonly #stopping = new AbortController();

  constructor(private readonly parts: ResultPublisherParts) {}

  /** Results that are still unrecorded stay so. */
  stop(): void {
    this.#stopping.abort(new Error("the orchestrator stops"));
  }

  /** Publishes the result unless the job's result is out already; resolves once the broker has confirmed it. */
  async publishOnce(ended: EndedJob, properties: MessageProperties, signal: AbortSignal): Promise<void> {
    const publisherId = randomUUID();
    const finish = await this.#recordIfPossible(ended, publisherId, properties, signal);
    const checked = finish.kind === "publish" ? this.#ofRun(ended.result, finish) : finish;
    await this.#publishFinished(checked, publisherId, properties.correlationId, signal);
  }

  /**
   * The result of the first publisher counts. But an attempt succeeds with one image only, so a recorded success with
   * another image than its run's was written by somebody who has access to Redis.
   */
  #ofRun(ofRun: JobResult, finish: PublishedFinish | Unrecorded): PublishedFinish | Unrecorded {
    const { result: recorded } = finish;
    const isSameSuccess = [ofRun, recorded].every(({ status }) => status === "SUCCESS");
    const isSameAttempt = recorded.attempt === ofRun.attempt && recorded.job_id === ofRun.job_id;
    if (!isSameSuccess || !isSameAttempt || recorded.image_digest === ofRun.image_digest) return finish;
    const { job_id, image_digest } = ofRun;
    this.parts.logger.error(
      { job_id, image_digest, recorded_digest: recorded.image_digest },
      "the recorded result names another image than the job's run; publishing the run's",
    );
    return { ...finish, result: ofRun };
  }

  /**
   * For a job whose message waits in a ready queue. If publishing fails here, the orchestrator that later takes the
   * message finds the recorded result and publishes it. @throws RecordsUnavailable
   */
  async publishForWaitingJob(result: JobResult): Promise<void> {
    const publisherId = randomUUID();
    const finish = await this.parts.records.finish(result, publisherId, { isWaiting: true });
    const timeout = AbortSignal.timeout(WAITING_JOB_TIMEOUT_MS);
    try {
      await this.#publishFinished(finish, publisherId, undefined, timeout);
    } catch (error) {
      if (!timeout.aborted) throw error;
      this.parts.logger.warn(
        { err: error, job_id: result.job_id },
        "result not published in time; it is published once the job's message is taken from its queue",
      );
    }
  }

  /** Publishes without checking the records: for a repeated id, or a message that never became a job. */
  async publish(
    result: JobResult,
    correlationId: string | undefined,
    replyTo: readonly string[],
    signal: AbortSignal,
  ): Promise<void> {
    await this.parts.queue.publishResult(result, correlationId, replyTo, signal);
    const { job_id, status, attempt, image_digest, error } = result;
    this.parts.logger.info({ job_id, status, attempt, image_digest, error }, "result published");
  }

  /** If the records stay unavailable, the result is published unrecorded: a job's end does not wait for them. */
  async #recordIfPossible(
    ended: EndedJob,
    publisherId: string,
    { replyTo, correlationId }: MessageProperties,
    signal: AbortSignal,
  ): Promise<Finish | Unrecorded> {
    const delay = new Backoff({ initialMs: 100, maxMs: 1000 });
    for (let attempts = 1; ; attempts += 1) {
      try {
        return await this.#record(ended, publisherId, signal);
      } catch (error) {
        if (!(error instanceof RecordsUnavailable)) throw error;
        if (attempts === MAX_RECORD_ATTEMPTS) {
          this.parts.logger.warn(
            { err: error, job_id: ended.result.job_id },
            "failed to record the result; publishing it unrecorded",
          );
          const queues = replyTo ? [replyTo] : [];
          return { ...ended, kind: "publish", replyTo: queues, correlationId, isUnrecorded: true };
        }
        await sleep(delay.nextMs(), signal);
      }
    }
  }

  /** While another orchestrator publishes the job's result, waits until that has succeeded or failed. */
  async #record({ result, steps }: EndedJob, publisherId: string, signal: AbortSignal): Promise<Finish> {
    const delay = new Backoff({ initialMs: 50, maxMs: 1000 });
    for (;;) {
      const finish = await this.parts.records.finish(result, publisherId, { steps });
      if (finish.kind !== "publishing") return finish;
      await sleep(delay.nextMs(), signal);
    }
  }

  async #publishFinished(
    finish: Finish | Unrecorded,
    publisherId: string,
    correlationId: string | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    if (finish.kind !== "publish") return;
    const { result, replyTo } = finish;
    const { job_id: jobId, tenant, attempt } = result;
    await this.#asPublisher(jobId, publisherId, () =>
      this.publish(result, correlationId ?? finish.correlationId, replyTo, signal),
    );
    await this.parts.events.publish({
      jobId,
      tenant,
      attempt,
      state: finalState(result),
      detail: finalDetail(result),
    });
    if ("isUnrecorded" in finish) void this.#recordLater(finish, publisherId);
    else await this.#recordPublished(jobId);
  }

  /**
   * Without it the job would count as unended: a later message with its id would run it again, and a cancellation
   * would publish a second result.
   */
  async #recordLater(ended: EndedJob, publisherId: string): Promise<void> {
    const { records, logger } = this.parts;
    const { signal } = this.#stopping;
    const { job_id } = ended.result;
    const delay = new Backoff(RECORD_LATER_DELAY);
    while (!signal.aborted) {
      try {
        await sleep(delay.nextMs(), signal);
        const finish = await this.#record(ended, publisherId, signal);
        if (finish.kind === "publish") await records.published(job_id);
        logger.info({ job_id }, "result recorded after its publication");
        return;
      } catch (error) {
        if (signal.aborted || error instanceof RecordsUnavailable) continue;
        logger.error({ err: error, job_id }, "failed to record a published result");
        return;
      }
    }
  }

  /** Renews the right to publish until `publish` ends, and returns the right when `publish` fails. */
  async #asPublisher(jobId: string, publisherId: string, publish: () => Promise<void>): Promise<void> {
    const { records, logger } = this.parts;
    const logFailure = (err: unknown) =>
      logger.debug({ err, job_id: jobId }, "failed to record the publisher");
    const renewal = setInterval(() => {
      records.publishing(jobId, publisherId).catch(logFailure);
    }, PUBLISHER_TTL_MS / 3);
    try {
      await publish();
    } catch (error) {
      await records.unpublished(jobId, publisherId).catch(logFailure);
      throw error;
    } finally {
      clearInterval(renewal);
    }
  }

  async #recordPublished(jobId: string): Promise<void> {
    try {
      await this.parts.records.published(jobId);
    } catch (error) {
      this.parts.logger.warn(
        { err: error, job_id: jobId },
        "result published, but failed to record that it was",
      );
    }
  }
}

function finalDetail(result: JobResult): Readonly<Record<string, unknown>> {
  if (result.status !== "SUCCESS") return { error: result.error };
  return { image_url: result.image_url, image_digest: result.image_digest, commit: result.commit };
}
