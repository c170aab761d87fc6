/** Converts between the build steps of an outcome and those of the wire format. */
import type { BuildStepView } from "../job.ts";
import type { BuildStep } from "./generated/blacktree/v1/worker.ts";

export function toWireStep(step: BuildStepView): BuildStep {
  return {
    number: step.number,
    name: step.name,
    startedAt: step.started_at,
    endedAt: step.ended_at ?? "",
    durationMs: step.duration_ms ?? 0,
    cached: step.cached ?? false,
    error: step.error ?? "",
  };
}

export function fromWireStep({ number, name, startedAt, error, ...end }: BuildStep): BuildStepView {
  const step = { number, name, started_at: startedAt };
  if (end.endedAt === "") return step;
  return {
    ...step,
    ended_at: end.endedAt,
    duration_ms: end.durationMs,
    cached: end.cached,
    ...(error === "" ? {} : { error }),
  };
}
