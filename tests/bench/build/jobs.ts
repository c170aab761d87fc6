/** Blacktree's side: from a message to `jobs.build` until its result arrives from `jobs.results`. */
import { randomUUID } from "node:crypto";
import type { JobResult } from "../../../src/shared/job.ts";
import { bodyOf, type Deployment } from "../../support/blacktree/deployment.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import type { Measurement } from "./measurement.ts";

export interface BlacktreeRun extends Measurement {
  readonly digest: string;
  readonly commit: string | null;
}

export interface Jobs {
  /** @throws Error when the job does not succeed. */
  run(message: object): Promise<BlacktreeRun>;
}

const TIMEOUT_MS = 600_000;
const POLL_INTERVAL_MS = 5;

interface Arrival {
  readonly atMs: number;
  readonly result: JobResult;
}

export async function openJobs(deployment: Deployment): Promise<Jobs> {
  const arrivals = new Map<string, Arrival>();
  await deployment.amqp.consume(
    "jobs.results",
    (message) => {
      if (!message) return;
      const result = bodyOf<JobResult>(message);
      arrivals.set(result.job_id, { atMs: performance.now(), result });
    },
    { noAck: true },
  );
  return {
    async run(message) {
      const jobId = randomUUID();
      const startMs = performance.now();
      await deployment.publish({ job_id: jobId, ...message });
      const { atMs, result } = await waitFor(() => arrivals.get(jobId), {
        timeoutMs: TIMEOUT_MS,
        intervalMs: POLL_INTERVAL_MS,
        what: `the result of ${JSON.stringify(message)}`,
      });
      if (result.status !== "SUCCESS" || result.image_digest === null) {
        const { code, message: why } = result.error ?? {};
        throw new Error(`the job ended ${result.status}: ${code}: ${why}\n${result.logs.join("\n")}`);
      }
      const totalMs = atMs - startMs;
      return {
        totalMs,
        stepsMs: stepsOf(result.timings_ms, totalMs),
        digest: result.image_digest,
        commit: result.commit,
      };
    },
  };
}

/**
 * `between` is the worker's time outside the steps, and `around` the time outside the worker: transport through
 * RabbitMQ, and the clean-up. Clone and sign-in run at the same time.
 */
export function stepsOf(timings: JobResult["timings_ms"], totalMs: number): Record<string, number> {
  const { queued, clone, auth, build, push, total } = timings;
  const between = total - queued - Math.max(clone, auth) - build - push;
  return { queued, clone, auth, build, push, between, around: totalMs - total };
}
