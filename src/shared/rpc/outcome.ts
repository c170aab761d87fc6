/** Converts between Outcome and JobResponse: the worker encodes, the orchestrator decodes. */

import { status } from "@grpc/grpc-js";
import {
  ERROR_CODES,
  type ErrorCode,
  type JobFailure,
  type Outcome,
  type OutcomeStatus,
  STEPS,
} from "../job.ts";
import { fromWireStep, toWireStep } from "./build-step.ts";
import { type JobResponse, JobStatus } from "./generated/blacktree/v1/worker.ts";
import { RpcError } from "./status.ts";

const STATUSES = [
  ["SUCCESS", JobStatus.JOB_STATUS_SUCCESS],
  ["FAILED", JobStatus.JOB_STATUS_FAILED],
  ["CANCELLED", JobStatus.JOB_STATUS_CANCELLED],
] as const satisfies readonly (readonly [OutcomeStatus, JobStatus])[];

export function toJobResponse(outcome: Outcome): JobResponse {
  return {
    status: STATUSES.find(([name]) => name === outcome.status)?.[1] ?? JobStatus.JOB_STATUS_UNSPECIFIED,
    logs: [...outcome.logs],
    log: outcome.log,
    imageUrl: outcome.imageUrl ?? "",
    imageDigest: outcome.imageDigest ?? "",
    inputs: outcome.inputs ?? "",
    commit: outcome.commit ?? "",
    error: outcome.failure,
    notCounted: outcome.isUncounted ?? false,
    steps: outcome.steps?.map(toWireStep) ?? [],
    timingsMs: outcome.timingsMs,
    startedAt: outcome.startedAt.toISOString(),
    finishedAt: outcome.finishedAt.toISOString(),
  };
}

/** @throws RpcError INTERNAL when the worker's response is not a valid outcome. */
export function fromJobResponse(response: JobResponse): Outcome {
  const known = STATUSES.find(([, value]) => value === response.status);
  if (!known || !response.log || !response.timingsMs) {
    throw new RpcError(status.INTERNAL, "the worker's response lacks status, log or timings");
  }
  return {
    status: known[0],
    imageUrl: response.imageUrl || undefined,
    imageDigest: response.imageDigest || undefined,
    inputs: response.inputs || undefined,
    commit: response.commit || undefined,
    failure: response.error && failureOf(response.error),
    isUncounted: response.notCounted || undefined,
    logs: response.logs,
    log: response.log,
    steps: response.steps.map(fromWireStep),
    timingsMs: response.timingsMs,
    startedAt: new Date(response.startedAt),
    finishedAt: new Date(response.finishedAt),
  };
}

/** A newer worker may send codes that this orchestrator does not know. */
function failureOf(error: NonNullable<JobResponse["error"]>): JobFailure {
  const code = ERROR_CODES.find((known): known is ErrorCode => known === error.code) ?? "INTERNAL";
  const step = STEPS.find((known) => known === error.step) ?? "dispatch";
  return { code, step, message: error.message, retryable: error.retryable };
}
