/** The build steps of a run, as its description and its outcome have them. */
import type { BuildStepView } from "../../shared/job.ts";
import type { BuildStep } from "../buildkit/progress/progress.ts";
import { shortened } from "../pipeline/shortened.ts";

/** As proto/blacktree/v1/worker.proto states. */
const MAX_STEPS = 500;

/** All steps have to fit into one gRPC message, with the tail of the log. */
const MAX_NAME_CHARS = 400;
const MAX_ERROR_CHARS = 800;

export class BuildSteps {
  readonly #steps: BuildStepView[] = [];

  /** A step is added at its start, and replaced at its end. The numbers begin again when the build is repeated. */
  add(step: BuildStepView): void {
    if (step.ended_at === undefined) {
      if (this.#steps.length < MAX_STEPS) this.#steps.push(brief(step));
      return;
    }
    const running = ({ number, ended_at }: BuildStepView) => number === step.number && ended_at === undefined;
    const index = this.#steps.findLastIndex(running);
    if (index >= 0) this.#steps[index] = brief(step);
  }

  list(): readonly BuildStepView[] {
    return [...this.#steps];
  }
}

export function viewOf({ number, name, startedAt, end }: BuildStep): BuildStepView {
  const view = { number, name, started_at: startedAt.toISOString() };
  if (!end) return view;
  return {
    ...view,
    ended_at: end.at.toISOString(),
    duration_ms: end.durationMs,
    cached: end.isCached,
    ...(end.error === "" ? {} : { error: end.error }),
  };
}

function brief({ name, error, ...step }: BuildStepView): BuildStepView {
  return {
    ...step,
    name: shortened(name, MAX_NAME_CHARS),
    ...(error === undefined ? {} : { error: shortened(error, MAX_ERROR_CHARS) }),
  };
}
