/** Sends the planned jobs, then their duplicates, other jobs under their ids, and requests to cancel them. */

import { setTimeout as sleep } from "node:timers/promises";
import { apiRequest } from "../../support/blacktree/admin-api.ts";
import type { OrchestratorPart } from "../site/site.ts";
import type { JobClient } from "./client.ts";
import { bodyOf, conflictingMessage, type DrillJob, type FollowUp } from "./job.ts";

/** A request to cancel a job. */
export interface Cancellation {
  readonly jobId: string;
  /** When an orchestrator has answered that it cancels the job. Without an answer, it may cancel it or not. */
  readonly acceptedAt: number | undefined;
}

const RETRY_MS = 250;
const REQUEST_TIMEOUT_MS = 3000;

export class Sender {
  readonly sent: DrillJob[] = [];
  readonly cancellations: Cancellation[] = [];
  readonly #followUps: Promise<void>[] = [];

  constructor(
    private readonly client: JobClient,
    private readonly orchestrators: readonly OrchestratorPart[],
    private readonly interrupted: AbortSignal,
  ) {}

  async send(job: DrillJob): Promise<void> {
    this.sent.push(job);
    await this.client.send(job.message.job_id, bodyOf(job));
    for (const followUp of job.followUps) this.#followUps.push(this.#follow(job, followUp));
  }

  /** Jobs that have a result to come. */
  get missing(): DrillJob[] {
    return this.sent.filter(
      ({ kind, message }) => kind !== "malformed" && !this.client.results.has(message.job_id),
    );
  }

  /** Resolves when everything that follows the jobs sent so far was sent. */
  async followedUp(): Promise<void> {
    await Promise.all(this.#followUps);
  }

  async #follow(job: DrillJob, { kind, afterMs }: FollowUp): Promise<void> {
    const { job_id } = job.message;
    await sleep(afterMs, undefined, { signal: this.interrupted }).catch(() => undefined);
    if (kind === "cancel") return this.#cancel(job_id);
    if (kind === "duplicate") return this.client.send(job_id, bodyOf(job));
    // Before the first message is accepted, that message would be the other job.
    await this.#until(async () => this.client.results.has(job_id) || (await this.#isKnown(job_id)));
    return this.client.send(job_id, JSON.stringify(conflictingMessage(job)));
  }

  /** Until an orchestrator accepts the request, or the job has ended. */
  async #cancel(jobId: string): Promise<void> {
    const cancellation: { jobId: string; acceptedAt: number | undefined } = { jobId, acceptedAt: undefined };
    this.cancellations.push(cancellation);
    await this.#until(async () => {
      if (this.client.results.has(jobId)) return true;
      const response = await this.#request(`/api/v1/jobs/${jobId}/cancel`, { method: "POST" });
      if (response?.status === 202) cancellation.acceptedAt = Date.now();
      return response?.status === 202 || response?.status === 409;
    });
  }

  async #isKnown(jobId: string): Promise<boolean> {
    return (await this.#request(`/api/v1/jobs/${jobId}`))?.ok === true;
  }

  /** Of the first orchestrator that answers. */
  async #request(path: string, init: RequestInit = {}): Promise<Response | undefined> {
    const headers = { "content-type": "application/json" };
    for (const { apiUrl } of this.orchestrators) {
      const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
      const response = await apiRequest(apiUrl, path, { ...init, headers, signal }).catch(() => undefined);
      if (response && response.status < 500) return response;
    }
    return undefined;
  }

  async #until(isDone: () => Promise<boolean>): Promise<void> {
    while (!this.interrupted.aborted && !(await isDone())) await Bun.sleep(RETRY_MS);
  }
}
