import { type Control, describeControl } from "./control.ts";
import type { WorkerStatus, WorkerView } from "./leases.ts";

/** A worker as it reports itself, and the controls that apply to it. */
interface ControlledWorker {
  readonly status: WorkerStatus;
  readonly refusal: string | undefined;
  readonly ofWorker: Control | undefined;
  readonly ofRegion: Control | undefined;
}

/** As operators see it. */
export function withControls({
  status,
  refusal,
  ofWorker,
  ofRegion,
}: ControlledWorker): Pick<WorkerView, "status" | "refusal" | "control"> {
  const control = ofWorker
    ? { ...ofWorker, scope: "worker" as const }
    : ofRegion && { ...ofRegion, scope: "region" as const };
  if (!control || status === "LOST") return { status, refusal, control };
  if (ofRegion || control.kind === "drained" || status === "DRAINING")
    return { status: "DRAINING", refusal, control };
  const refusals = [describeControl(control), ...(refusal === undefined ? [] : [refusal])];
  return { status: "BUSY", refusal: refusals.join("; "), control };
}
