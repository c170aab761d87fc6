/** May this run still put its tag? Asked of any orchestrator, for as long as it takes to get an answer. */
import type { RunRef } from "../../shared/job.ts";
import { callUnary } from "../../shared/rpc/call.ts";
import { LeaseLost } from "../job/cancellation.ts";
import { ORCHESTRATOR_DEADLINE_MS, type Orchestrators } from "./orchestrator-client.ts";
import type { WorkerIdentity } from "./service.ts";

/**
 * Resolves with the time the lease still holds, in ms, counted from before the question: the answer may have been
 * long under way. @throws LeaseLost when it is refused, or nobody can tell and the run is forsaken; the signal's reason.
 */
export async function confirmLease(
  orchestrators: Orchestrators,
  identity: WorkerIdentity,
  run: RunRef,
  isAbandoned: () => boolean,
  signal: AbortSignal,
): Promise<number> {
  let askedAt = Date.now();
  const noMore = () =>
    isAbandoned() ? new LeaseLost("nobody who could confirm the lease comes for the run") : undefined;
  const answer = await orchestrators.askUntilAnswered(
    (client) => {
      askedAt = Date.now();
      const request = { ...identity, run: { jobId: run.jobId, attempt: run.attempt } };
      return callUnary(client.confirmLease.bind(client), request, {
        deadlineMs: ORCHESTRATOR_DEADLINE_MS,
        signal,
      });
    },
    signal,
    noMore,
  );
  if (!answer.granted)
    throw new LeaseLost("the orchestrator refused the lease: the job is another attempt's");
  return answer.leaseRemainingMs - (Date.now() - askedAt);
}
