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
  const isDraining = ofRegion || control.kind === "drained" || status === "DRAINING";
  const refusals = control.kind === "paused" ? [describeControl(control), refusal] : [refusal];
  return {
    status: isDraining ? "DRAINING" : "BUSY",
    refusal: refusals.filter((each) => each !== undefined).join("; ") || undefined,
    control,
  };
}
