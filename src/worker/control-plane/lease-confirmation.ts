/** Asks any orchestrator whether a run may still put its tag, until one answers. */
import type { RunRef } from "../../shared/job.ts";
import { callUnary } from "../../shared/rpc/call.ts";
import { LeaseLost } from "../job/cancellation.ts";
import { ORCHESTRATOR_DEADLINE_MS, type Orchestrators } from "./orchestrator-client.ts";
import type { WorkerIdentity } from "./service.ts";

/**
 * Resolves with the remaining time of the lease, in ms. The time since the request was sent is subtracted, since the
 * response may have been delayed.
 * @throws LeaseLost when it is refused, or when no orchestrator can answer and the run is abandoned; the signal's reason
 */
export async function confirmLease(
  orchestrators: Orchestrators,
  identity: WorkerIdentity,
  run: RunRef,
  isAbandoned: () => boolean,
  signal: AbortSignal,
): Promise<number> {
  let elapsed = stopwatch();
  const giveUp = () =>
    isAbandoned()
      ? new LeaseLost("no orchestrator that could confirm the lease has called for the run")
      : undefined;
  const answer = await orchestrators.askUntilAnswered(
    (client) => {
      elapsed = stopwatch();
      const request = { ...identity, run: { jobId: run.jobId, attempt: run.attempt } };
      return callUnary(client.confirmLease.bind(client), request, {
        deadlineMs: ORCHESTRATOR_DEADLINE_MS,
        signal,
      });
    },
    signal,
    giveUp,
  );
  if (!answer.granted) throw new LeaseLost("the orchestrator refused the lease: another attempt has the job");
  return answer.leaseRemainingMs - elapsed();
}

/** The wall clock may be set back, and the monotonic clock stops while a machine is suspended: the longer time counts. */
function stopwatch(): () => number {
  const [wallMs, monotonicMs] = [Date.now(), performance.now()];
  return () => Math.max(Date.now() - wallMs, performance.now() - monotonicMs);
}
